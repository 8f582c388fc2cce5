"""Interfaces of what scores: metrics, and the networks that find keypoints for them."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from hvg.core.errors import HvgError
from hvg.parts.context import Context
from hvg.parts.part import ConfigT, Part
from hvg.values.long_clip import LongClip
from hvg.values.scored_clip import ScoredClip


@dataclass(frozen=True, kw_only=True)
class Score:
    """Score of a metric over all clips.

    value: the number. per_clip: clip id -> value; empty for a distance between two sets. cells: clip id -> (V, T) value of
    every picture, NaN where it has none; empty where pictures have none of their own. count: N. counted: what N counts.
    floor: value that two samples of the truth would have at this N, for distances between sets. notes: what a reader has to
    know, such as how many frames were left out.
    """

    value: float
    count: int
    counted: str = "frames"
    per_clip: Mapping[str, float] = field(default_factory=dict[str, float])
    cells: Mapping[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])
    floor: float | None = None
    notes: tuple[str, ...] = ()


class KeypointRegressor(Part):
    """Finds named points of one person in pictures, for metrics of pose: a network of the user's, or a rule.

    names: of the K points. root: the names whose mean place is the origin of a pose. joints: name -> the SMPL-X joints in
    whose middle it lies, for names that are no SMPL-X joints themselves. definition: id of exactly how points are found.
    networks: name of each pretrained network -> ``sha256:...`` of its file.

    A published estimator takes one file in a package of the user's, registered as ``keypoints.my_pose``::

        class MyPose(KeypointRegressor):
            '''The estimator of my lab.'''

            class Config(PartConfig):
                '''Where it lies.'''
                path: Path = Field(description="Its file of weights.")

            names = ("nose", "left_hip", "right_hip", ...)
            root = ("left_hip", "right_hip")
            definition = "my_pose/v1"

            def __init__(self, config, context):
                self.network = MyNetwork(config.path).to(context.device)

            def locate(self, frames):
                heatmaps = self.network(resize(frames.float() / 255, (256, 192)))
                return peaks(heatmaps) * scale_back, heatmaps.amax((-2, -1))

    ``joint_error`` and ``mpjpe`` take it as ``regressor=my_pose``. A TorchScript file needs no code at all:
    ``regressor=torchscript``.
    """

    names: tuple[str, ...]
    root: tuple[str, ...]
    definition: str
    joints: Mapping[str, tuple[str, ...]] = {}
    networks: Mapping[str, str] = {}
    measurement: str | None = None

    @classmethod
    def programs(cls, config: Any) -> tuple[Path, ...]:
        """Files that it runs as programs, rather than reads as data; each is the value of one of the settings."""
        return ()

    def check(self, clip: ScoredClip) -> None:
        """Raises: NotAvailable where it cannot find people like the true one of this clip."""
        return

    @abstractmethod
    def locate(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Places (N, K, 2) in pixels, centres at +0.5, and confidence (N, K) in [0, 1], 0 for a point that is not found.

        frames: (N, 3, H, W) uint8, each looked at by itself.
        """


# What a metric keeps of one clip: named arrays, never frames.
Measurement = Mapping[str, np.ndarray]


class Metric(Part[ConfigT]):
    """A number about clips, in two steps: what is kept of a clip, and what all that was kept comes to.

    A measurement is a function of its clip alone. So ranks may share the clips, the numbers stay the same to the last bit,
    and subjects can be drawn anew for an interval without looking at a frame again.

    A metric that cannot be computed here raises ``NotAvailable``: when it is built (a missing file of weights) or when it
    measures (a field that the clip does not hold). It is then reported as not available, with the reason. Any other error
    ends no evaluation either, but counts as a failure: its traceback goes into results.json, and the exit code is 1.

    definition: id of exactly how the number is computed; a changed computation gets a new one. It may name settings in braces, as
    ``l1/{config.scale}/v2``: numbers of other settings have other ids.
    verdict: whether a better value means a better arm. False for a number that a blank, faded or still video improves, or
    that is best at no end: it describes, and no table colours or ranks it. Where that depends on settings, ``judges`` says.
    requires: fields of ScoredClip that it needs besides prediction and truth.
    networks: name of each pretrained network that it looks through -> ``sha256:...`` of its file.
    measurement: id of what ``measure`` keeps; of metrics with the same id, one measures for all. None: it has its own.
    on_person: whether it looks at the pixels of the person alone; the first such metric of a protocol answers a study's question.
    """

    definition: str
    higher_is_better: bool = True
    verdict: ClassVar[bool] = True
    unit: str = ""
    on_person: ClassVar[bool] = False
    requires: ClassVar[frozenset[str]] = frozenset()
    networks: Mapping[str, str] = {}
    measurement: str | None = None

    def __init__(self, config: ConfigT | None = None, context: Context | None = None) -> None:
        super().__init__(config, context)
        definition = getattr(type(self), "definition", None)
        if isinstance(definition, str):
            try:
                self.definition = definition.format(config=config)
            except (AttributeError, LookupError, ValueError) as error:
                raise HvgError(
                    f"{type(self).__name__}: its definition {definition!r} names no setting of its own: {error}"
                ) from None

    @classmethod
    def judges(cls, config: Any) -> bool:
        """Whether it judges which arm is better, with these settings: ``verdict``, unless a metric knows better."""
        return cls.verdict

    @classmethod
    def programs(cls, config: Any) -> tuple[Path, ...]:
        """Files that it runs as programs, rather than reads as data; each is the value of one of the settings."""
        return ()

    @abstractmethod
    def measure(self, clip: ScoredClip) -> Measurement:
        """Measurement of a clip; empty where there is nothing in it to score (one frame has no change over time)."""

    def measure_pieces(self, clip: LongClip) -> Measurement:
        """The same of a clip of files that is too large to be held. It is held all the same, unless a metric knows better:
        one that can look at ``clip.pieces()`` should, and keep what ``measure`` keeps, to the last bit."""
        return self.measure(clip.whole())

    @abstractmethod
    def reduce(self, kept: Mapping[str, Measurement]) -> Score:
        """The score over clip id -> measurement, none of them empty. Raises: NotAvailable when they are too few."""
