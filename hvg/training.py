"""Runs: from a configuration to a trained system in a run folder, with Lightning's Trainer."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.plugins.io import CheckpointIO
from torch import nn

from hvg import provenance
from hvg.build import build_parts
from hvg.checkpoint import (
    MovingAverage,
    checkpoint_path,
    find_checkpoint,
    is_exported,
    latest_checkpoint,
    load_shared_weights,
    load_weights,
    read_checkpoint,
    write_checkpoint,
)
from hvg.config import RunConfig, parse_resolved
from hvg.data import ClipDataModule, with_signals
from hvg.errors import CheckpointError
from hvg.files import write_text
from hvg.prepare import open_clips
from hvg.protocols import Backbone, Dataset
from hvg.required import required
from hvg.system import HumanVideoSystem
from hvg.video import tile_columns, write_video


def run_folder(config: RunConfig) -> Path:
    """``<output>/<name>``."""
    return Path(config.output) / config.name


def build_system(config: RunConfig, start: Callable[[Backbone], None] | None = None) -> HumanVideoSystem:
    """The system with seeded initial weights; ``start`` as in ``hvg.build.build_parts``."""
    parts = build_parts(config, start)
    return HumanVideoSystem(
        alignment=parts.alignment,
        backbone=parts.backbone,
        conditioners=parts.conditioners,
        codec=parts.codec,
        prediction=parts.prediction,
        sampler=parts.sampler,
        solver=parts.solver,
        guidance=parts.guidance,
        names={slot: choice.name for slot, choice in config.conditioners.items()},
        seed=config.seed,
        foreground_weight=config.training.foreground_weight,
        background=config.data.background,
        kept_conditioning=config.evaluation.kept_conditioning,
        optimizer=lambda parameters: make_optimizer(parameters, config),
    )


def start_system(config: RunConfig, log: Callable[[str], None]) -> HumanVideoSystem:
    """The system of a new run: from ``checkpoint``, every weight that both have; else with the backbone's published ones.

    The backbone gets its weights before conditioners are built, so that a ReferenceNet copies those. log: takes a line
    about each file. Raises: CheckpointError, HvgError for weights that do not fit.
    """
    if config.checkpoint is None:

        def published(backbone: Backbone) -> None:
            for line in backbone.load_pretrained():
                log(line)

        return build_system(config, published)
    path = find_checkpoint(Path(config.checkpoint))
    weights, prefix = checkpoint_weights(path, config.evaluation.weights), "backbone."
    own = {name.removeprefix(prefix): x for name, x in weights.items() if name.startswith(prefix)}

    def shared(backbone: Backbone) -> None:
        load_shared_weights(backbone, own, str(path))

    system = build_system(config, shared)
    for line in load_shared_weights(system, weights, str(path)):
        log(line)
    return system


def make_optimizer(
    parameters: list[nn.Parameter], config: RunConfig
) -> tuple[torch.optim.Optimizer, Callable[[int], float]]:
    """AdamW and its schedule: linear warm-up, then cosine decay to a fraction of the peak."""
    training = config.training
    optimizer = torch.optim.AdamW(
        parameters, lr=training.learning_rate, betas=training.betas, weight_decay=training.weight_decay, fused=True
    )

    def schedule(step: int) -> float:
        warm = min(1.0, (step + 1) / max(1, training.warmup_steps))
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / training.steps)))
        return warm * (training.final_learning_rate + (1 - training.final_learning_rate) * cosine)

    return optimizer, schedule


def choose_device(device: str) -> torch.device:
    """``auto`` takes a GPU where there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def choose_precision(precision: str, device: torch.device) -> Literal["32-true", "bf16-mixed"]:
    """Lightning's name. ``auto`` takes bf16 autocast where the hardware multiplies bf16, else float32."""
    if precision == "auto":
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported()
        else:
            capability = torch.backends.cpu.get_cpu_capability()
            # Without AVX512-BF16 or AMX, bf16 on a CPU is emulated: measured 10 to 100 times slower than float32.
            fast = capability.startswith("AVX512") and "avx512_bf16" in _cpu_flags()
        precision = "bf16" if fast else "32"
    names: dict[str, Literal["32-true", "bf16-mixed"]] = {"32": "32-true", "bf16": "bf16-mixed"}
    return names[precision]


def _cpu_flags() -> str:
    info = Path("/proc/cpuinfo")
    return info.read_text() if info.exists() else ""


class SafetensorsIO(CheckpointIO):
    """Lightning's checkpoints in the format of ``hvg.checkpoint``."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path, storage_options: Any = None) -> None:
        write_checkpoint(Path(path), checkpoint)

    def load_checkpoint(self, path, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path) -> None:
        Path(path).unlink(missing_ok=True)


class AverageWeights(Callback):
    """Keeps the moving average, saves and resumes it."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.average: MovingAverage | None = None
        self._resumed: dict[str, Any] | None = None

    def on_fit_start(self, trainer, pl_module) -> None:
        self.average = MovingAverage(pl_module, self.decay)
        if self._resumed is not None:
            self.average.load_state_dict(self._resumed)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        assert self.average is not None
        self.average.update()

    def state_dict(self) -> dict[str, Any]:
        return {} if self.average is None else self.average.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resumed = state_dict
        if self.average is not None:
            self.average.load_state_dict(state_dict)


class Checkpoints(Callback):
    """Saves every ``every`` steps and at the end; keeps the newest ``keep``. Runs after all other callbacks."""

    def __init__(self, folder: Path, every: int, config: RunConfig, keep: int = 2) -> None:
        self.folder, self.every, self.keep, self.config = folder, every, keep, config

    def on_save_checkpoint(self, trainer, pl_module, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"] = self.config.to_yaml()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        step = trainer.global_step
        if step == trainer.max_steps or (self.every and step % self.every == 0):
            trainer.save_checkpoint(checkpoint_path(self.folder, step))
            for old in sorted(self.folder.glob("step-*.ckpt"))[: -self.keep]:
                old.unlink()


class MetricsFile(Logger):
    """Appends one JSON line a logged step to ``metrics.jsonl``; a resumed run first drops the lines it will redo."""

    def __init__(self, path: Path, first_step: int) -> None:
        super().__init__()
        self._path = path
        # A killed run may have left half a line at the end: only what a newline closes was written.
        lines = path.read_text().split("\n")[:-1] if path.exists() and first_step else []
        write_text(path, "".join(f"{line}\n" for line in lines if json.loads(line)["step"] < first_step))

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> int:
        return 0

    def log_hyperparams(self, params, *args, **kwargs) -> None:
        """The configuration is in config.yaml."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        with self._path.open("a") as stream:
            stream.write(json.dumps({"step": step, **metrics}) + "\n")


class Progress(Callback):
    """Reports (step, steps, steps per second, loss) after each step, and logs what the step returned.

    Lightning logs after its callbacks. A run killed between the two would have a checkpoint of a step that no log knows,
    so this one logs itself and stands before ``Checkpoints``.
    """

    def __init__(self, report: Callable[[int, int, float, float], None], log_every: int) -> None:
        self._report, self._log_every, self._last, self._speed = report, log_every, 0.0, 0.0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self._last = self._last or time.perf_counter()

    def on_train_batch_end(self, trainer, pl_module, outputs: Mapping[str, Any], batch, batch_idx) -> None:
        now = time.perf_counter()
        speed, self._last = 1 / max(1e-9, now - self._last), now
        self._speed = speed if not self._speed else 0.9 * self._speed + 0.1 * speed
        step = trainer.global_step - 1
        if trainer.is_global_zero and trainer.global_step % self._log_every == 0:
            for logger in trainer.loggers:
                logger.log_metrics({name: float(value) for name, value in outputs.items()}, step)
        self._report(trainer.global_step, trainer.max_steps, self._speed, float(outputs["loss"]))


class ValidationSamples(Callback):
    """Generates a few validation clips with the averaged weights, writes them as videos and shows them to the logger."""

    def __init__(self, folder: Path, clips: Dataset, config: RunConfig, average: AverageWeights) -> None:
        self._folder, self._clips, self._config, self._average = folder, clips, config, average

    def on_train_batch_end(self, trainer, pl_module: HumanVideoSystem, outputs, batch, batch_idx) -> None:
        step = trainer.global_step
        if step % self._config.training.validate_every and step != trainer.max_steps:
            return
        if trainer.is_global_zero:
            self.sample(trainer, pl_module, step)

    def sample(self, trainer, system: HumanVideoSystem, step: int) -> None:
        assert self._average.average is not None
        errors = []
        self._average.average.swap()
        system.eval()
        try:
            for index in range(min(self._config.training.validation_clips, len(self._clips))):
                clip = with_signals(self._clips.load(index), system.signals).to(system.device)
                frames = system.generate(
                    clip, num_steps=self._config.evaluation.steps, seed=self._config.evaluation.seed
                )
                truth = required(clip.frames, "ClipBatch.frames")
                errors.append(float(((frames - truth) / 2).square().mean()))
                path = self._folder / f"step-{step:07d}-{clip.clip_id[0]}.mp4"
                write_video(path, tile_columns({"truth": truth[0], "generated": frames[0]}), fps=4)
                _show(trainer.loggers, path, step)
        finally:
            system.train()
            self._average.average.swap()
        if errors:
            psnr = -10 * math.log10(max(1e-10, sum(errors) / len(errors)))
            for logger in trainer.loggers:
                logger.log_metrics({"validation_psnr": psnr}, step)


def _show(loggers: list[Logger], path: Path, step: int) -> None:
    """Hands a video to the loggers that can show one."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            logger.experiment.log({"samples": wandb.Video(str(path), format="mp4")}, step=step)


def make_loggers(config: RunConfig, folder: Path, first_step: int) -> list[Logger]:
    """metrics.jsonl always; and the chosen one. Lightning's CSV starts anew, so every start of a run has its own."""
    loggers: list[Logger] = [MetricsFile(folder / "metrics.jsonl", first_step)]
    if config.logger.name == "csv":
        loggers.append(CSVLogger(folder, name="csv", version=f"from-step-{first_step}"))
    if config.logger.name == "tensorboard":
        loggers.append(TensorBoardLogger(folder, name="tensorboard", version=""))
    if config.logger.name == "wandb":
        loggers.append(
            WandbLogger(project=config.logger.project, name=config.name, save_dir=folder, offline=config.logger.offline)
        )
    return loggers


def resume_from(config: RunConfig) -> Path | None:
    """The checkpoint to continue from; None to start anew.

    Raises: CheckpointError when a named one is missing.
    """
    if config.resume is None:
        return None
    if config.resume == "auto":
        return latest_checkpoint(run_folder(config) / "checkpoints")
    path = Path(config.resume)
    if not path.is_file():
        read_checkpoint(path)
    return path


def train(
    config: RunConfig,
    report: Callable[[int, int, float, float], None] = lambda *_: None,
    log: Callable[[str], None] = print,
) -> HumanVideoSystem:
    """Trains to the configured step and returns the system with the weights to evaluate (averaged or raw).

    Writes config.yaml, run.json, metrics.jsonl, samples/ and checkpoints/ into the run folder.
    """
    folder = run_folder(config)
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    start = resume_from(config)
    if start is None and latest_checkpoint(folder / "checkpoints") and config.resume is None:
        raise CheckpointError(
            f"{folder}: holds checkpoints of an earlier run; continue it with resume=auto, or choose another name=..., "
            "or delete it"
        )
    first_step = int(read_checkpoint(start)["global_step"]) if start else 0
    write_text(folder / "config.yaml", config.to_yaml())
    write_text(folder / "run.json", json.dumps(provenance.collect(config.seed), indent=2))
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)

    system = build_system(config) if start is not None else start_system(config, log)
    train_clips, validation_clips = (open_clips(config, split, system.signals) for split in ("train", "val"))
    data = ClipDataModule(
        train_clips,
        system.signals,
        seed=config.seed,
        grids=config.data.grids or [(config.data.views, config.data.frames)],
        batch_size=config.data.batch_size,
        num_steps=config.training.steps,
        workers=config.data.workers,
        first_step=first_step,
        recolour=config.data.recolour,
    )
    average = AverageWeights(config.training.ema_decay)
    all_callbacks: list[Callback] = [average, Progress(report, config.training.log_every)]
    if config.training.validate_every:
        all_callbacks.append(ValidationSamples(folder / "samples", validation_clips, config, average))
    all_callbacks.append(Checkpoints(folder / "checkpoints", config.training.checkpoint_every, config))
    trainer = lightning.Trainer(
        accelerator={"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[config.device],
        devices=1 if config.strategy.name == "single" else config.strategy.devices,
        num_nodes=config.strategy.nodes,
        strategy={"single": "auto", "ddp": "ddp"}[config.strategy.name],
        precision=choose_precision(config.training.precision, choose_device(config.device)),
        max_steps=config.training.steps,
        gradient_clip_val=config.training.gradient_clip,
        # Ours is in Progress; this only keeps Lightning from advising on its own.
        log_every_n_steps=1,
        logger=make_loggers(config, folder, first_step),
        callbacks=all_callbacks,
        plugins=[SafetensorsIO()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    if first_step < config.training.steps:
        trainer.fit(system, datamodule=data, ckpt_path=start)
        if trainer.global_step < config.training.steps:
            raise KeyboardInterrupt
        if config.evaluation.weights == "ema":
            assert average.average is not None
            average.average.swap()
    elif start is not None:
        load_system_weights(system, start, config.evaluation.weights)
    return system.to(choose_device(config.device)).eval()


def checkpoint_weights(path: Path, weights: str) -> dict[str, Any]:
    """Parameter name -> ``ema`` or ``raw`` weights of a checkpoint; an export holds one of them."""
    if is_exported(path):
        from hvg.export import exported_weights

        return exported_weights(path)
    state = read_checkpoint(path)
    loaded = dict(state["state_dict"])
    if weights == "ema":
        averages = [s["average"] for s in state["callbacks"].values() if isinstance(s, dict) and "average" in s]
        if not averages:
            raise CheckpointError(f"{path}: holds no averaged weights; use evaluation.weights=raw")
        loaded.update(averages[0])
    return loaded


def load_system_weights(system: HumanVideoSystem, path: Path, weights: str) -> None:
    """Loads ``ema`` or ``raw`` weights of a checkpoint, strictly."""
    load_weights(system, checkpoint_weights(path, weights), str(path))


def load_system(
    path: Path, weights: str | None = None, change: Callable[[RunConfig], RunConfig] = lambda config: config
) -> tuple[HumanVideoSystem, RunConfig]:
    """The system that a checkpoint (or a run folder, or an export) holds, ready to generate, and its configuration.

    weights: ``ema`` or ``raw``; None as the configuration says; an export holds one of them. change: applied to the
    configuration before anything is built of it; it must not change a weight (see ``hvg.config.recompose``).
    """
    if is_exported(path):
        # Imported here because that module builds on this one.
        from hvg.export import load_exported

        return load_exported(path, change)
    path = find_checkpoint(path)
    config = change(parse_resolved(read_checkpoint(path)["config"], str(path)))
    system = build_system(config)
    load_system_weights(system, path, weights or config.evaluation.weights)
    return system.to(choose_device(config.device)).eval(), config
