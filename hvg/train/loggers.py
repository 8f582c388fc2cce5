"""Loggers, which write the curves of a run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from hvg.config.settings import RunConfig
from hvg.core.files import disk_errors, write_text
from hvg.train.metric_rows import parse_row, whole_lines


class WandbRun(WandbLogger):
    """A run of W&B's that ends with the training: the next training in this process gets one of its own."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # Lightning hands it on though nobody gave it, and W&B warns of it.
        del self._wandb_init["anonymous"]

    def finalize(self, status: str) -> None:
        import wandb

        super().finalize(status)
        wandb.finish(exit_code=0 if status == "success" else 1)


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
        loggers.append(TensorBoardLogger(folder, name="tensorboard", version=""))
    if config.logger.name == "wandb":
        loggers.append(
            WandbRun(project=config.logger.project, name=config.name, save_dir=folder, offline=config.logger.offline)
        )
    return loggers
