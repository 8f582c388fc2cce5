"""Where a point of the skin is on its part of the body: how far along it, and which way around."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hvg.core.required import required
from hvg.geometry.body_parts import joint_codes, next_joint
from hvg.geometry.skeleton import joint_index
from hvg.values.body import BodyMotion, Skinning

# Shortest bone whose direction means something, metres.
LEAST_LENGTH = 1e-3
# Up to this share of a bone's direction along the body's front, the front says where the angle is 0; else up does.
_ALONG_THE_FRONT = 0.8


@dataclass(frozen=True, kw_only=True)
class PartFrames:
    """The N parts of a body's skin at rest, one for each joint at which bones start, in every frame.

    part: (P,) int64, of every vertex: that of the bone that it follows most. start: (B, T, N, 3), metres, where the bone starts.
    axes: (B, T, N, 3, 3), rows: along the bone, to where its angle is 0, and a quarter turn from there, outwards on a limb.
    reach: (B, T, N, 2), metres along the bone between which the part's vertices lie.

    A bone goes on to the next joint of its chain; a last one, to the middle of its part. Its angle is 0 where the body's front
    lies, on feet where up lies, so that a left and a right limb have the same numbers at mirrored points.
    """

    part: Tensor
    start: Tensor
    axes: Tensor
    reach: Tensor

    def places(self, clips: Tensor, frames: Tensor, vertices: Tensor, points: Tensor) -> Tensor:
        """(M, 3) of points (M, 3) at rest, in clips (M) and frames (M), each on the part of a vertex (M): place along the part in
        [0, 1], sine and cosine of the angle around its bone."""
        where = clips, frames, self.part[vertices]
        along, front, aside = (self.axes[where] @ (points - self.start[where])[..., None])[..., 0].unbind(-1)
        low, high = self.reach[where].unbind(-1)
        place = ((along - low) / (high - low).clamp_min(LEAST_LENGTH)).clamp(0, 1)
        return torch.cat([place[:, None], normalize(torch.stack([aside, front], dim=-1), dim=-1)], dim=-1)


def part_frames(body: BodyMotion) -> PartFrames:
    """The parts of a body's mesh. Raises: HvgError for one without skinning, DataError for a bone whose joint it lacks."""
    skinning = required(body.skinning, "ClipBatch.body.skinning")
    names = list(dict.fromkeys(skinning.bones))
    part = _parts(skinning, names)
    start, end = _ends(body, skinning, names, part)
    length = (end - start).norm(dim=-1, keepdim=True)
    up = start.new_tensor([0.0, 1.0, 0.0])
    along = torch.where(length > LEAST_LENGTH, (end - start) / length.clamp_min(LEAST_LENGTH), up)
    facing = torch.where(along[..., 2:].abs() > _ALONG_THE_FRONT, up, start.new_tensor([0.0, 0.0, 1.0]))
    front = normalize(facing - (facing * along).sum(-1, keepdim=True) * along, dim=-1)
    outwards = torch.where(joint_codes(names)[:, :1].to(start) < 0, -1.0, 1.0)
    axes = torch.stack([along, front, outwards * torch.linalg.cross(along, front)], dim=-2)
    height = ((skinning.rest[:, None] - start[:, :, part]) * along[:, :, part]).sum(-1)
    reach = [_extreme(height, part, len(names), which) for which in ("amin", "amax")]
    return PartFrames(part=part, start=start, axes=axes, reach=torch.stack(reach, dim=-1))


def _parts(skinning: Skinning, names: list[str]) -> Tensor:
    """(P,) int64: number in ``names`` of the joint at which the bone starts that a vertex follows most."""
    most = skinning.vertex_weights.argmax(dim=1, keepdim=True)
    bone = skinning.vertex_bones.long().gather(1, most)[:, 0]
    return torch.tensor([names.index(name) for name in skinning.bones], device=bone.device)[bone]


def _ends(body: BodyMotion, skinning: Skinning, names: list[str], part: Tensor) -> tuple[Tensor, Tensor]:
    """Both ends of every part's bone at rest, (B, T, N, 3)."""
    moves = skinning.transforms[:, :, [skinning.bones.index(name) for name in names]]
    following = [next_joint(name, body.joint_names) for name in names]

    def at_rest(joints: list[str]) -> Tensor:
        points = body.joints[:, :, joint_index(body.joint_names, joints, body.joints.device)]
        return torch.linalg.solve(moves[..., :3, :3], (points - moves[..., :3, 3])[..., None])[..., 0]

    start = at_rest(names)
    end = at_rest([after or name for after, name in zip(following, names, strict=True)])
    total = start.new_zeros(len(start), len(names), 3).index_add_(1, part, skinning.rest.to(start))
    middle = total / torch.bincount(part, minlength=len(names)).clamp_min(1)[:, None]
    last = torch.tensor([after is None for after in following], device=start.device)
    return start, torch.where(last[:, None], middle[:, None], end)


def _extreme(height: Tensor, part: Tensor, count: int, which: str) -> Tensor:
    """(B, T, count): the least or largest of heights (B, T, P) in every part (P,); 0 of a part without vertices."""
    found = height.new_zeros(*height.shape[:2], count)
    return found.scatter_reduce(2, part.expand_as(height), height, which, include_self=False)
