"""Loggers, which write the curves of a run and show its validation videos."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from torch import Tensor

from hvg.config.settings import RunConfig
from hvg.core.files import disk_errors, write_text
from hvg.media.images import moving_picture
from hvg.train.metric_rows import parse_row, whole_lines


@dataclass(frozen=True)
class Sample:
    """A validation clip beside its truth: frames (T, 3, H, W) in [-1, 1], and the video of them in the run folder."""

    clip_id: str
    frames: Tensor
    frames_per_second: float
    path: Path

    @property
    def name(self) -> str:
        """What loggers call it: each clip has a name of its own, under which its steps stand one after another."""
        return f"samples/{self.clip_id}"


@runtime_checkable
class ShowsSamples(Protocol):
    """A logger that has a place for videos."""

    def show(self, sample: Sample, step: int) -> None:
        """step: under whose number its losses stand, too."""


def show(loggers: Iterable[Logger], sample: Sample, step: int) -> None:
    """Gives every logger that has a place for videos the same one."""
    for logger in loggers:
        if isinstance(logger, ShowsSamples):
            logger.show(sample, step)


class WandbRun(WandbLogger):
    """A run of W&B's that ends with the training: the next training in this process gets one of its own."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # Lightning hands it on though nobody gave it, and W&B warns of it.
        del self._wandb_init["anonymous"]

    def show(self, sample: Sample, step: int) -> None:
        self.log_video(sample.name, [str(sample.path)], step, format=["mp4"])

    def finalize(self, status: str) -> None:
        import wandb

        super().finalize(status)
        wandb.finish(exit_code=0 if status == "success" else 1)


class TensorBoardRun(TensorBoardLogger):
    """Shows videos among its pictures, as moving ones."""

    def show(self, sample: Sample, step: int) -> None:
        # Here, and not where it is not installed.
        from torch.utils.tensorboard import summary

        message: Any = vars(summary)["Summary"]

        coded, (width, height) = moving_picture(sample.frames, sample.frames_per_second)
        picture = message.Image(height=height, width=width, colorspace=3, encoded_image_string=coded)
        # Its own ``add_video`` needs a package more, and does the same.
        summary = message(value=[message.Value(tag=sample.name, image=picture)])
        self.experiment.file_writer.add_summary(summary, step)


class MetricsFile(Logger):
    """Appends one JSON line a logged step to ``metrics.jsonl``; a resumed run first drops the lines it will redo."""

    def __init__(self, path: Path, first_step: int) -> None:
        super().__init__()
        self._path = path
        lines = whole_lines(path) if first_step else []
        write_text(path, "".join(f"{line}\n" for line in lines if parse_row(line, path)["step"] < first_step))

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> int:
        return 0

    def log_hyperparams(self, params, *args, **kwargs) -> None:
        """The configuration is in config.yaml."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        with disk_errors(self._path), self._path.open("a") as stream:
            stream.write(json.dumps({"step": step, **metrics}) + "\n")


def make_loggers(config: RunConfig, folder: Path, first_step: int) -> list[Logger]:
    """metrics.jsonl always; and the chosen one. Lightning's CSV starts anew, so every start of a run has its own."""
    loggers: list[Logger] = [MetricsFile(folder / "metrics.jsonl", first_step)]
    if config.logger.name == "csv":
        loggers.append(CSVLogger(folder, name="csv", version=f"from-step-{first_step}"))
    if config.logger.name == "tensorboard":
        loggers.append(TensorBoardRun(folder, name="tensorboard", version=""))
    if config.logger.name == "wandb":
        loggers.append(
            WandbRun(project=config.logger.project, name=config.name, save_dir=folder, offline=config.logger.offline)
        )
    return loggers
