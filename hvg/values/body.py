"""A person's motion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from hvg.core.errors import HvgError
from hvg.values.tensors import SHARED, change, combine

# Names of ClipBatch fields that belong to the mesh of ``ClipBatch.body``.
MESH_FIELDS = frozenset({"body.vertices", "body.skinning"})


@dataclass(frozen=True, kw_only=True)
class Skinning:
    """How the bones of a body carry its mesh: linear blend skinning.

    A vertex is at sum_k w_k M_k (x + c), where x is its place at rest, w_k and M_k are weight and transform of the bones that
    it follows, and c is what the model adds before it is skinned: correctives of the pose, the face's expression.

    bones: name of the joint at which each of the N bones starts; two may start at one.
    vertex_bones: (P, K) int16, the bones of every vertex, and vertex_weights: (P, K), which sum to 1 and are 0 where it follows
    fewer; shared by all clips. K is the most that a vertex of the model follows.
    rest: (B, P, 3) metres, the person as the model skins them: SMPL's T-pose, Anny's A-pose; their shape is in it, c is not.
    transforms: (B, T, N, 4, 4), from there to the world; a scaled body's scale.
    """

    bones: tuple[str, ...]
    vertex_bones: Tensor
    vertex_weights: Tensor
    rest: Tensor
    transforms: Tensor

    @staticmethod
    def sparse(weights: Tensor) -> tuple[Tensor, Tensor]:
        """``vertex_bones`` and ``vertex_weights`` of a weight (P, N) for every vertex and bone."""
        most = int((weights != 0).sum(1).max())
        found = weights.topk(most, dim=1)
        return found.indices.to(torch.int16), found.values

    def posed(self, points: Tensor | None = None) -> Tensor:
        """Where points (B, T, P, 3) that ride on the vertices at rest are in the world; those of ``rest`` without any."""
        blended = self._blended()
        points = self.rest[:, None] if points is None else points
        return (blended[..., :3] @ points[..., None])[..., 0] + blended[..., 3]

    def at_rest(self, points: Tensor) -> Tensor:
        """Where points (B, T, P, 3) of the world, each riding on its vertex, are at rest: of the vertices x + c."""
        blended = self._blended()
        return torch.linalg.solve(blended[..., :3], points - blended[..., 3])

    def of_points(self, frames: Tensor, vertices: Tensor) -> Tensor:
        """(M, 3, 4): the own transforms of vertices (M), each in one of the B T frames (M), counted through both axes."""
        moves = self.transforms[..., :3, :].flatten(-2)
        bones = self.vertex_bones[vertices].long() + moves.shape[2] * frames[:, None]
        weights = self.vertex_weights[vertices].to(moves)
        return embedding_bag(bones, moves.flatten(0, 2), per_sample_weights=weights, mode="sum").unflatten(1, (3, 4))

    def _blended(self) -> Tensor:
        """(B, T, P, 3, 4), every vertex' own transform."""
        pairs = zip(self.vertex_bones.long().unbind(1), self.vertex_weights.unbind(1), strict=True)
        moves = self.transforms[..., :3, :]
        first, *others = (weight[:, None, None] * moves[:, :, bone] for bone, weight in pairs)
        return sum(others, first)


@dataclass(frozen=True, kw_only=True)
class BodyMotion:
    """The motion of one person per clip; it does not depend on the view.

    joints: (B, T, J, 3), world, metres, in the order of ``joint_names`` (SMPL-X names).
    bone_radii: (B, N) metres, radius of every bone of ``hvg.geometry.skeleton.BONES`` across its axis, or None.
    vertices: (B, T, P, 3), world, metres: the bare body's mesh, or None. faces: (F, 3) int64, shared by all clips.
    skinning: how its bones carry the mesh; where there is none it is None, as for meshes that were stored without.
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
    skinning: Skinning | None = None
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    constants: Mapping[str, Tensor] = field(default_factory=dict)
    confidence: Tensor | None = None

    def place(self, joint: str) -> Tensor:
        """(B, T, 3) of a joint by its name. Raises: HvgError that names it, and those there are, where the body lacks it."""
        if joint not in self.joint_names:
            # The nearest by its letters is no help here: of left_hand it is left_ankle.
            raise HvgError(f"the body has no joint '{joint}'; its joints are {', '.join(self.joint_names)}")
        return self.joints[:, :, self.joint_names.index(joint)]

    def select(self, frames: slice | Tensor) -> "BodyMotion":
        """The motion in some frames, in the order given."""
        part = change(self, ("joints", "vertices", "parameters", "confidence"), lambda x: x[:, frames])
        skinning = self.skinning and change(self.skinning, ("transforms",), lambda x: x[:, frames])
        return replace(part, skinning=skinning)

    @staticmethod
    def in_turn(parts: "Sequence[BodyMotion]") -> "BodyMotion":
        """One motion of the same person's parts, one after the other."""
        still = (*SHARED, "bone_radii", "constants", "rest")
        return combine(parts, lambda found: torch.cat(found, dim=1), leave=still)

    def shifted(self, shift: Tensor, scale: float = 1.0) -> "BodyMotion":
        """The motion with every point x of a frame at ``scale`` x + ``shift`` (B, T, 3)."""
        part = change(self, ("joints", "vertices"), lambda x: scale * x + shift[:, :, None])
        part = change(part, ("bone_radii",), lambda x: scale * x)
        if self.skinning is None:
            return part
        transforms = self.skinning.transforms.clone()
        transforms[..., :3, :] *= scale
        transforms[..., :3, 3] += shift[:, :, None]
        return replace(part, skinning=replace(self.skinning, transforms=transforms))

    def without_mesh(self) -> "BodyMotion":
        """The motion without what belongs to the mesh."""
        return replace(self, vertices=None, faces=None, skinning=None)
