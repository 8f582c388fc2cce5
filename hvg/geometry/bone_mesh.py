"""A mesh for bodies that have joints alone: an ellipsoid around every bone."""

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hvg.geometry.body_ellipsoids import body_ellipsoids
from hvg.values.body import BodyMotion

# Circles around an ellipsoid, and points on each.
_CIRCLES, _POINTS = 7, 8
# How much longer and thicker than HVG's these are, so that neighbours meet.
_FULLER = 1.2


def bone_mesh(body: BodyMotion) -> BodyMotion:
    """The body with the ellipsoids of its bones for a mesh, in place of what it has.

    Raises: DataError naming the joints that the body lacks.
    """
    bones = body_ellipsoids(body)
    # Two directions across every bone, at right angles: of all those any will do.
    upright = bones.axis[..., 1:2].abs() > 0.9
    aside = torch.where(upright, bones.axis.new_tensor([1.0, 0.0, 0.0]), bones.axis.new_tensor([0.0, 1.0, 0.0]))
    across = normalize(torch.linalg.cross(bones.axis, aside), dim=-1)
    third = torch.linalg.cross(bones.axis, across)
    thick, long = bones.radius[..., None], bones.half_length[..., None]
    axes = torch.stack([thick * across, thick * third, long * bones.axis], dim=-2)
    ball, faces = (x.to(bones.axis.device) for x in _ball())
    vertices = bones.center[..., None, :] + _FULLER * ball.to(bones.axis) @ axes
    starts = len(ball) * torch.arange(bones.radius.shape[-1], device=faces.device)
    return replace(
        body,
        vertices=vertices.flatten(2, 3),
        faces=(faces + starts[:, None, None]).flatten(0, 1),
        skinning=None,
    )


def _ball() -> tuple[Tensor, Tensor]:
    """Points (P, 3) of a unit sphere around the z axis, open at its ends, and triangles (F, 3) between them."""
    down = math.pi * (torch.arange(_CIRCLES) + 0.5)[:, None] / _CIRCLES
    around = 2 * math.pi * torch.arange(_POINTS)[None] / _POINTS
    points = torch.stack(torch.broadcast_tensors(down.sin() * around.cos(), down.sin() * around.sin(), down.cos()), -1)
    number = torch.arange(_CIRCLES * _POINTS).view(_CIRCLES, _POINTS)
    beside = number.roll(-1, 1)
    a, b, c, d = number[:-1], beside[:-1], number[1:], beside[1:]
    faces = torch.cat([torch.stack([a, b, c], -1), torch.stack([b, d, c], -1)]).view(-1, 3)
    return points.view(-1, 3), faces
