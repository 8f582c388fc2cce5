"""A person's motion."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class BodyMotion:
    """The motion of one person per clip; it does not depend on the view.

    joints: (B, T, J, 3), world, metres, in the order of ``joint_names`` (SMPL-X names).
    bone_radii: (B, N) metres, radius of every bone of ``hvg.geometry.skeleton.BONES`` across its axis, or None.
    vertices: (B, T, P, 3), world, metres: the bare body's mesh, or None. faces: (F, 3) int64, shared by all clips.
    parameters: the body model's own parameters of every frame by name, each (B, T, ...); ``rotations`` (B, T, 22, 3, 3),
    where there are any, turn the SMPL-X body joints from the T-pose to the pose, in world axes.
    constants: the body model's own parameters that hold for the whole clip, such as the person's build, each (B, ...).
    confidence: (B, T, J) in [0, 1], what an estimator says of each joint, or None where nothing was estimated.
    """

    joints: Tensor
    joint_names: tuple[str, ...]
    bone_radii: Tensor | None = None
    vertices: Tensor | None = None
    faces: Tensor | None = None
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    constants: Mapping[str, Tensor] = field(default_factory=dict)
    confidence: Tensor | None = None
