"""A column of a study's own: how near the frames of its arms are to those of one arm, such as the same model's in many steps."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from hvg.config.sections import ProtocolConfig
from hvg.config.settings import PartChoice
from hvg.core.eight_bit import frames_to_uint8
from hvg.parts import registry
from hvg.parts.context import Context
from hvg.report.results import MetricInfo, metric_info
from hvg.score.evaluation_record import EvaluationRecord, ScoreRecord
from hvg.score.measured_clips import load_prediction
from hvg.score.protocol import Protocol
from hvg.study.plan import ArmRun
from hvg.values.scored_clip import ScoredClip


class NearTo:
    """PSNR of the frames that arms made to those of one arm at the same seed, as a metric beside the protocol's."""

    def __init__(self, arm: str, finished: Sequence[tuple[ArmRun, EvaluationRecord]]) -> None:
        """finished: runs of all arms, with what was scored of them."""
        cls = registry.load("metric", "psnr")
        choice = PartChoice("metric", "psnr", cls, cls.Config())
        self.arm, self.label = arm, f"psnr_to_{arm}"
        self._protocol = Protocol(
            ProtocolConfig(name=self.label, metrics={self.label: choice}),
            {self.label: cls(choice.config, Context())},
            {},
        )
        self._folders = {run.seed: run.folder for run, _ in finished if run.arm == arm}

    @property
    def metric(self) -> MetricInfo:
        """Its column."""
        return metric_info(self.label, self._protocol.described(self.label))

    def score(self, run: ArmRun, record: EvaluationRecord) -> ScoreRecord:
        """Of the clips that were scored of a run; without a value of the arm itself, and before that one is finished.

        Raises: DataError naming a file of frames that is missing or damaged.
        """
        other = self._folders.get(run.seed)
        if other is None or run.arm == self.arm:
            why = "these are its own frames" if run.arm == self.arm else f"arm {self.arm} is not finished"
            return cast(ScoreRecord, self._protocol.described(self.label) | {"unavailable": why})
        clips = record["clips"]
        pairs = [
            _pair(run.folder / "predictions", other / "predictions", clip["clip_id"], clip["subject"]) for clip in clips
        ]
        return self._protocol.reduce({clip.clip_id: self._protocol.measure(clip) for clip in pairs}, clips)[self.label]


def _pair(folder: Path, other: Path, clip_id: str, subject: str) -> ScoredClip:
    made, truth = _frames(folder, clip_id), _frames(other, clip_id)
    return ScoredClip(
        clip_id=clip_id,
        subject=subject,
        prediction=made,
        truth=truth,
        valid=torch.ones(made.shape[:2], dtype=torch.bool),
    )


def _frames(folder: Path, clip_id: str) -> Tensor:
    """(V, T, 3, H, W) uint8."""
    return frames_to_uint8(load_prediction(folder, clip_id))
