"""Normals of depth: exact on planes, near on a sphere, and not led astray by edges."""

import torch

from hvg.geometry.depth_normals import normals_of_depth
from hvg.values.cameras import Cameras, intrinsics_from_fov, look_at, pixel_rays

SIDE = 64


def cameras(*lead: int) -> Cameras:
    pose = look_at(torch.tensor([0.3, 0.2, -3.0]), torch.zeros(3))
    k = intrinsics_from_fov(40.0, (SIDE, SIDE))
    k[0, 2] += 3.0
    return Cameras(world_to_camera=pose.expand(*lead, 4, 4), intrinsics=k.expand(*lead, 3, 3), image_size=(SIDE, SIDE))


def plane(normal: torch.Tensor, seen_by: Cameras, distance: float = 3.0) -> torch.Tensor:
    """Depth of the plane n . p = -distance in camera axes, n towards the camera."""
    return -distance / (pixel_rays(seen_by) @ normal)


def test_a_plane_has_its_normal_everywhere():
    seen_by = cameras(2, 1)
    normal = torch.nn.functional.normalize(torch.tensor([0.5, -0.3, -0.8]), dim=0)
    found = normals_of_depth(plane(normal, seen_by), seen_by)
    assert found.shape == (2, 1, SIDE, SIDE, 3)
    assert (found - normal).abs().max() < 2e-3


def test_a_sphere_s_normals_point_away_from_its_middle():
    seen_by = cameras(1)
    centre, radius = torch.tensor([0.1, -0.1, 3.0]), 0.8
    rays = pixel_rays(seen_by)
    a, b, c = rays.square().sum(-1), rays @ centre, centre.square().sum() - radius**2
    inside = b.square() - a * c
    depth = torch.where(inside > 0, (b - inside.clamp_min(0).sqrt()) / a, 0.0)
    found = normals_of_depth(depth, seen_by)
    true = (rays * depth[..., None] - centre) / radius
    # A pixel is 3 cm wide; away from the outline, where the surface is seen at more than 37 degrees.
    facing = (depth > 0) & (-(true * rays).sum(-1) / rays.norm(dim=-1) > 0.6)
    assert facing.sum() > 300
    degrees = torch.rad2deg(torch.acos((found * true).sum(-1)[facing].clamp(-1, 1)))
    assert degrees.mean() < 1.0 and degrees.max() < 5
    assert not found[depth == 0].any() and torch.allclose(found[depth > 0].norm(dim=-1), torch.ones(()))


def test_an_edge_in_depth_does_not_tilt_what_lies_beside_it():
    seen_by = cameras(1)
    normal = torch.nn.functional.normalize(torch.tensor([0.2, 0.1, -1.0]), dim=0)
    near, far = plane(normal, seen_by, 2.0), plane(normal, seen_by, 3.0)
    depth = near.clone()
    depth[..., : SIDE // 2] = far[..., : SIDE // 2]
    depth[:, :5] = 0
    found = normals_of_depth(depth, seen_by)
    assert (found[depth > 0] - normal).abs().max() < 5e-3


def test_what_is_one_pixel_wide_still_has_a_normal():
    seen_by = cameras(1)
    depth = torch.zeros(1, SIDE, SIDE)
    depth[0, :, 20], depth[0, 40, 50] = 3.0, 2.0
    found = normals_of_depth(depth, seen_by)
    assert torch.allclose(found[depth > 0].norm(dim=-1), torch.ones(())) and (found[depth > 0][:, 2] < 0).all()
