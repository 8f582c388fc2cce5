"""A person's motion as body-model-free values: rotations by SMPL-X joint name, or joint positions; and its file reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Motion:
    """T frames of motion; exactly one of ``rotations`` and ``joints`` is given.

    rotations: SMPL-X joint name (``pelvis``, ``left_hip``, ...) -> (T, 3) axis-angle radians relative to the parent, in the
    SMPL-X rest pose (T-pose, y up, facing +z). A joint that is missing stays at rest.
    joints: (T, J, 3) positions in world metres with ``joint_names``.
    translation: (T, 3) metres, pelvis offset in the world. frames_per_second: rate of the file, for resampling.
    """

    rotations: Mapping[str, Tensor] = field(default_factory=dict)
    joints: Tensor | None = None
    joint_names: tuple[str, ...] = ()
    translation: Tensor | None = None
    frames_per_second: float = 30.0

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.joints) if self.joints is not None else len(next(iter(self.rotations.values())))
