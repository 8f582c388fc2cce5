"""Validation while training: a few clips, generated with the averaged weights, as videos beside the truth, and their error."""

import math
from pathlib import Path

from hvg.config.settings import RunConfig
from hvg.core.required import required
from hvg.media.tiles import tile_columns
from hvg.media.video import write_video
from hvg.model.trained_system import TrainedSystem
from hvg.parts.scene import Dataset
from hvg.train.callbacks import AfterStep, finish_work
from hvg.train.loggers import Sample, show
from hvg.train.logical_checkpoints import LogicalCheckpoints
from hvg.train.sample_files import sample_path
from hvg.train.throughput import Meter
from hvg.values.known import with_known_views

FRAMES_PER_SECOND = 4


class ValidationSamples(AfterStep):
    """Generates a few validation clips with the averaged weights, writes them as videos and shows them to the loggers."""

    def __init__(self, folder: Path, clips: Dataset, config: RunConfig, meter: Meter) -> None:
        """folder: of the run."""
        self._folder, self._clips, self._config, self._meter = folder, clips, config, meter

    def after_step(self, trainer, system: TrainedSystem) -> None:
        step, strategy = self.run_step(trainer), trainer.strategy
        if step % self._config.training.validate_every and trainer.global_step != trainer.max_steps:
            return
        assert isinstance(strategy, LogicalCheckpoints)
        finish_work(system.device)
        with self._meter.during("validate"), strategy.averaged_weights():
            if trainer.is_global_zero:
                self.sample(trainer, system, step)

    def sample(self, trainer, system: TrainedSystem, step: int) -> None:
        """Loggers get it under the number of the step's loss, so that a run which continues from its checkpoint keeps it."""
        errors = []
        system.eval()
        try:
            for index in range(min(self._config.training.validation_clips, len(self._clips))):
                clip = system.signals.load(self._clips, index).to(system.device)
                clip = with_known_views(clip, self._config.evaluation.known_views)
                frames = system.generate(
                    clip, num_steps=self._config.evaluation.steps, seed=self._config.evaluation.seed
                )
                truth = required(clip.frames, "ClipBatch.frames")
                errors.append(float(((frames - truth) / 2).square().mean()))
                tiled = tile_columns({"truth": truth[0], "generated": frames[0]})
                path = sample_path(self._folder, step, clip.clip_id[0])
                write_video(path, tiled, fps=FRAMES_PER_SECOND)
                show(trainer.loggers, Sample(clip.clip_id[0], tiled, FRAMES_PER_SECOND, path), step - 1)
        finally:
            system.train()
        if errors:
            psnr = -10 * math.log10(max(1e-10, sum(errors) / len(errors)))
            for logger in trainer.loggers:
                logger.log_metrics({"validation_psnr": psnr}, step - 1)
