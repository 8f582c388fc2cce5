"""Moves of cameras: cameras that move made of some that stand still, and moves found in cameras, as a few numbers.

Left and right, up and down are those of whoever holds the camera; an azimuth grows to the camera's right.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from hvg.geometry.rotations import axis_angle, rotation_matrix
from hvg.values.cameras import Cameras, azimuths_degrees
from hvg.values.tensors import map_tensors

Move = Literal["static", "dolly", "arc", "shake"]
# What a move is made of, each with its sign: degrees of an orbit to the right and of one upwards, degrees by which the camera
# turns left, looks down and leans left, metres to the right, up and forward.
MOVES = ("orbit", "rise", "pan", "tilt", "roll", "truck", "boom", "push")
NUM_ANGLES = 5
# Two axes meet where they turn by more than 2.5 degrees (the square of its sine), so many metres in front of both.
LEAST_TURN, NEAREST, FARTHEST = 2e-3, 0.5, 20.0
# Metres that a hand-held camera is off its place, for each degree that it is off its direction.
METRES_A_DEGREE = 0.01
# Weight, beside that of a camera, of where a point is taken to be that cameras do not agree on.
_WEAK = 1e-4


# --- made ---------------------------------------------------------------------------------------------------------------


def over_time(cameras: Cameras, frames: int) -> Cameras:
    """Cameras (V) that stand still, in every frame: (V, T)."""
    return cameras[:, None].expand(len(cameras.world_to_camera), frames)


def dollied(cameras: Cameras, metres: Tensor) -> Cameras:
    """Cameras (V, T) that go forward, in the last frame by ``metres`` (V), in between as far as time is."""
    moved = cameras.world_to_camera.clone()
    moved[..., 2, 3] -= metres.to(moved)[:, None] * _time(cameras)
    return Cameras(world_to_camera=moved, intrinsics=cameras.intrinsics, image_size=cameras.image_size)


def arced(cameras: Cameras, target: Tensor, degrees: Tensor) -> Cameras:
    """Cameras (V, T) on an arc around the vertical through ``target`` (3), in the last frame by ``degrees`` (V) to the right."""
    angle = -torch.deg2rad(degrees.to(cameras.world_to_camera)[:, None] * _time(cameras))
    # What a camera sees that goes to its right is what it would see if the world turned the other way.
    turn = rotation_matrix(torch.stack([torch.zeros_like(angle), angle, torch.zeros_like(angle)], dim=-1))
    world = torch.eye(4).to(turn).repeat(*turn.shape[:2], 1, 1)
    world[..., :3, :3], world[..., :3, 3] = turn, target - turn @ target.to(turn)
    return _seen(cameras, cameras.world_to_camera @ world)


def shaken(cameras: Cameras, degrees: float, unrest: Tensor) -> Cameras:
    """Cameras (V, T) held by hand: off by ``degrees``, and a centimetre for each of them, times ``unrest`` (V, T, 6).

    unrest: of the axes right, down and forward, angles before places; numbers of a standard deviation of 1.
    """
    off = torch.eye(4).to(cameras.world_to_camera).repeat(*cameras.shape, 1, 1)
    off[..., :3, :3] = rotation_matrix(torch.deg2rad(degrees * unrest[..., :3])).to(off)
    off[..., :3, 3] = degrees * METRES_A_DEGREE * unrest[..., 3:].to(off)
    return _seen(cameras, off @ cameras.world_to_camera)


def through_keys(keys: Cameras, places: Tensor, frames: int, target: Tensor) -> Tensor:
    """world_to_camera (T, 4, 4) of a camera that is at ``keys`` (K) in the frames ``places`` (K), which increase, of ``frames``.

    Before the first and after the last it stands still. In between it turns by the shortest way, and of its axis the point that
    is nearest to ``target`` (3) goes along a line, while the distance to it changes evenly: what stands between two cameras of an
    arc around the target is on that arc, as of ``arced``, and what stands between two of a dolly on its way, as of ``dollied``.
    """
    poses = keys.world_to_camera.double()
    ahead, centers = poses[:, 2, :3], keys.centers.double()
    depth = (ahead * (target.to(ahead) - centers)).sum(dim=-1).clamp_min(NEAREST)
    points = centers + depth[:, None] * ahead
    time = torch.arange(frames).to(places).clamp(places[0], places[-1])
    after = torch.searchsorted(places, time, right=True).clamp_max(len(places) - 1)
    before = (after - 1).clamp_min(0)
    share = ((time - places[before]) / (places[after] - places[before]).clamp_min(1)).to(poses)[:, None]
    start, end = poses[before, :3, :3], poses[after, :3, :3]
    rotation = rotation_matrix(share * axis_angle(end @ start.mT)) @ start
    point, distance = (
        x[before] + share.view(-1, *[1] * (x.ndim - 1)) * (x[after] - x[before]) for x in (points, depth)
    )
    center = point - distance[:, None] * rotation[:, 2]
    found = torch.eye(4).to(poses).repeat(frames, 1, 1)
    found[:, :3, :3], found[:, :3, 3] = rotation, -(rotation @ center[..., None])[..., 0]
    # Where a key is, and where it stands still, it is the key to the bit.
    held, key = (time[:, None] == places).nonzero(as_tuple=True)
    found[held] = poses[key]
    return found.to(keys.world_to_camera)


def _time(cameras: Cameras) -> Tensor:
    """0 in the first frame, 1 in the last, (T)."""
    frames = cameras.shape[-1]
    return torch.arange(frames).to(cameras.world_to_camera) / max(1, frames - 1)


def _seen(cameras: Cameras, world_to_camera: Tensor) -> Cameras:
    return Cameras(world_to_camera=world_to_camera, intrinsics=cameras.intrinsics, image_size=cameras.image_size)


# --- found --------------------------------------------------------------------------------------------------------------


def camera_moves(cameras: Cameras, distance: float) -> Tensor:
    """From the first to the last of cameras (..., T): the numbers of ``MOVES``, (..., 8), degrees and metres.

    An orbit goes around the point where the first and the last look, where their axes come nearest each other; where they look
    the same way, ``distance`` metres in front of the first. What the camera turns as it goes around is orbit; what it turns
    besides is pan and tilt, and how far it is from where the orbit led is truck, boom and push. Turns are added up frame by
    frame, so that they may be more than half of one. The host reads nothing.
    """
    cameras = cameras.to(torch.float32)
    point, centers = _looked_at(cameras, distance), cameras.centers
    from_point = centers - point[..., None, :]
    radius = from_point.norm(dim=-1).clamp_min(1e-6)
    azimuth = torch.rad2deg(torch.atan2(from_point[..., 0], from_point[..., 2]))
    height = torch.rad2deg(torch.asin((from_point[..., 1] / radius).clamp(-1, 1)))
    rotation = cameras.world_to_camera[..., :3, :3]
    down = torch.rad2deg(torch.asin(-rotation[..., 2, 1].clamp(-1, 1)))
    around, turned = _turn(azimuth), _turn(azimuths_degrees(cameras))
    # From about the other side either way is as short, and both have to go the same.
    turned = torch.where(around.abs() > 90, around + _short(turned - around), turned)
    risen, lowered = height[..., -1] - height[..., 0], down[..., -1] - down[..., 0]
    orbit, rise = _shared(around, turned), _shared(risen, lowered)
    roll = _turn(torch.rad2deg(torch.atan2(rotation[..., 0, 1], -rotation[..., 1, 1])))
    # Where the last camera is without its orbit, as the first one sees it.
    back = point + radius[..., -1, None] * _direction(azimuth[..., -1] - orbit, height[..., -1] - rise)
    off = (rotation[..., 0, :, :] @ (back - centers[..., 0, :])[..., None])[..., 0]
    moves = [orbit, rise, turned - orbit, lowered - rise, roll, off[..., 0], -off[..., 1], off[..., 2]]
    return torch.stack(moves, dim=-1)


def unrest(cameras: Cameras) -> Tensor:
    """Degrees by which the directions of cameras (..., T) are off a smooth path, (...); 0 of fewer than three frames.

    The root mean square of the angles' second differences, which of independent errors is the root of 6 times theirs.
    """
    rotation = cameras.to(torch.float32).world_to_camera[..., :3, :3]
    if rotation.shape[-3] < 3:
        return rotation.new_zeros(rotation.shape[:-3])
    steps = rotation[..., 1:, :, :] @ rotation[..., :-1, :, :].mT
    # Of small rotations the angles about the three axes.
    angles = torch.stack([steps[..., 2, 1], steps[..., 0, 2], steps[..., 1, 0]], dim=-1)
    change = torch.rad2deg(angles[..., 1:, :] - angles[..., :-1, :])
    return (change.square().mean(dim=(-2, -1)) / 6).sqrt()


def common_point(cameras: Cameras, otherwise: Tensor) -> Tensor:
    """The point (3) that is nearest to the axes of all cameras (...); in directions in which all are alike, ``otherwise`` (3)."""
    ahead, centers = (x.reshape(-1, 3).double() for x in (cameras.world_to_camera[..., 2, :3], cameras.centers))
    away = torch.eye(3).to(ahead) - ahead[:, :, None] * ahead[:, None]
    weak = _WEAK * torch.eye(3).to(ahead)
    found = torch.linalg.solve(
        away.mean(dim=0) + weak, (away @ centers[..., None]).mean(0)[:, 0] + weak @ otherwise.to(ahead)
    )
    return found.to(otherwise)


def _looked_at(cameras: Cameras, distance: float) -> Tensor:
    """The point (..., 3) that the first and the last of cameras (..., T) look at, as of ``camera_moves``."""
    (start, end), (ahead, last) = (
        (x[..., 0, :], x[..., -1, :]) for x in (cameras.centers, cameras.world_to_camera[..., 2, :3])
    )
    between, along = start - end, (ahead * last).sum(dim=-1)
    by_first, by_last = (ahead * between).sum(dim=-1), (last * between).sum(dim=-1)
    turned = 1 - along.square()
    safe = turned.clamp_min(LEAST_TURN)
    first, other = (along * by_last - by_first) / safe, (by_last - along * by_first) / safe
    meet = (turned > LEAST_TURN) & (first > NEAREST) & (first < FARTHEST) & (other > NEAREST)
    # Two that face each other look at what is between them.
    face = (turned <= LEAST_TURN) & (along < 0) & (-by_first > 2 * NEAREST)
    depth = torch.where(face, -by_first / 2, torch.full_like(first, distance))
    return start + torch.where(meet, first, depth)[..., None] * ahead


def _turn(degrees: Tensor) -> Tensor:
    """By how much an angle (..., T) turns from the first to the last, added up from one to the next by the shorter way."""
    return _short(degrees[..., 1:] - degrees[..., :-1]).sum(dim=-1)


def _short(degrees: Tensor) -> Tensor:
    """The same turns in [-180, 180)."""
    return torch.remainder(degrees + 180, 360) - 180


def _shared(a: Tensor, b: Tensor) -> Tensor:
    """What two turns have in common: the smaller one where they go the same way, else nothing."""
    return torch.where(a * b > 0, torch.sign(a) * torch.minimum(a.abs(), b.abs()), torch.zeros_like(a))


def _direction(azimuth: Tensor, height: Tensor) -> Tensor:
    """Unit vectors (..., 3) of an azimuth and a height above the horizon, degrees."""
    a, h = torch.deg2rad(azimuth), torch.deg2rad(height)
    return torch.stack([a.sin() * h.cos(), h.sin(), a.cos() * h.cos()], dim=-1)


def pairs(first: Cameras, others: Cameras) -> Cameras:
    """Cameras (..., 2): the first, and each of the others (...), so that ``camera_moves`` says where these are, seen from it."""
    both: Sequence[Cameras] = (first.expand(*others.shape), others)
    stacked = (torch.stack([getattr(x, name) for x in both], dim=-3) for name in ("world_to_camera", "intrinsics"))
    poses, intrinsics = stacked
    return Cameras(world_to_camera=poses, intrinsics=intrinsics, image_size=others.image_size)


def frame_by_frame(cameras: Cameras, frames: int) -> Cameras:
    """Cameras (V) that stand still, or (V, T) -> (T * V)."""
    moving = over_time(cameras, frames) if len(cameras.shape) == 1 else cameras
    return map_tensors(moving, lambda x: x.transpose(0, 1).flatten(0, 1))
