"""The ellipsoid caster against PyTorch3D's goldens, closed forms and a brute-force caster."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hvg.core.errors import DataError
from hvg.geometry.ellipsoids import Ellipsoids, ellipsoids_from_bones, render
from hvg.geometry.skeleton import BONES, JOINTS, bone_index, bone_radii, complete_joints, estimate_stature
from hvg.testing import standing_joints
from hvg.values.cameras import Cameras, intrinsics_from_fov, look_at, orbit, pixel_rays

GOLDEN = Path(__file__).parents[1] / "data" / "pytorch3d_ellipsoids.npz"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agrees_with_pytorch3d(dtype):
    golden = {name: torch.from_numpy(value) for name, value in np.load(GOLDEN).items()}
    world_to_camera = torch.eye(4, dtype=dtype).repeat(3, 1, 1)
    world_to_camera[:, :3, :3], world_to_camera[:, :3, 3] = golden["world_to_camera_R"], golden["world_to_camera_t"]
    size = int(golden["size"])
    cameras = Cameras(
        world_to_camera=world_to_camera, intrinsics=golden["K"].to(dtype).expand(3, 3, 3), image_size=(size, size)
    )
    bones = ellipsoids_from_bones(*(golden[name].to(dtype) for name in ("joint_a", "joint_b", "radius")))
    image = render(bones, cameras)
    both, either = image.mask & golden["mask"], image.mask | golden["mask"]
    assert (both.sum((1, 2)) / either.sum((1, 2))).min() >= 0.999
    depth = golden["depth_z"][both]
    assert ((image.z[both] - depth).abs() / depth).median() <= 1e-4
    cosine = (image.normal[both].double() * golden["normal_cam"][both]).sum(-1).clamp(-1, 1)
    assert torch.rad2deg(cosine.acos()).median() <= 0.1


def test_sphere_has_its_closed_form():
    """A sphere of radius 0.3 m, 2 m ahead on the optical axis."""
    cameras = Cameras(
        world_to_camera=torch.eye(4, dtype=torch.float64),
        intrinsics=intrinsics_from_fov(40, (65, 65)).double(),
        image_size=(65, 65),
    )
    sphere = _one(center=(0.0, 0.0, 2.0), axis=(0.6, 0.0, 0.8), half_length=0.3, radius=0.3)
    image = render(sphere, cameras)
    rays = torch.nn.functional.normalize(pixel_rays(cameras), dim=-1)
    along = 2.0 * rays[..., 2]
    gap2 = 4.0 - along**2
    assert torch.equal(image.mask, gap2 <= 0.09)
    distance = along - (0.09 - gap2).clamp_min(0).sqrt()
    assert torch.allclose(image.distance[image.mask], distance[image.mask], atol=1e-12)
    normal = (distance[..., None] * rays - torch.tensor([0.0, 0.0, 2.0])) / 0.3
    assert torch.allclose(image.normal[image.mask], normal[image.mask], atol=1e-9)
    assert image.distance[32, 32] == pytest.approx(1.7)
    assert not image.z[~image.mask].any() and (image.index[~image.mask] == -1).all()


def _one(center, axis, half_length, radius, dtype=torch.float64) -> Ellipsoids:
    return Ellipsoids(
        center=torch.tensor([center], dtype=dtype),
        axis=torch.tensor([axis], dtype=dtype),
        half_length=torch.tensor([half_length], dtype=dtype),
        radius=torch.tensor([radius], dtype=dtype),
    )


def _brute_force(ellipsoids: Ellipsoids, camera: Cameras) -> tuple[torch.Tensor, torch.Tensor]:
    """z and index of one image by the textbook quadratic for every pixel and ellipsoid."""
    rotation, translation = camera.world_to_camera[:3, :3], camera.world_to_camera[:3, 3]
    center, axis = ellipsoids.center @ rotation.T + translation, ellipsoids.axis @ rotation.T
    along = axis[:, :, None] * axis[:, None]
    across = torch.eye(3, dtype=center.dtype) - along
    matrix = across / ellipsoids.radius[:, None, None] ** 2 + along / ellipsoids.half_length[:, None, None] ** 2
    rays = pixel_rays(camera)
    a = torch.einsum("hwi,nij,hwj->nhw", rays, matrix, rays)
    b = torch.einsum("hwi,nij,nj->nhw", rays, matrix, center)
    c = torch.einsum("ni,nij,nj->n", center, matrix, center)[:, None, None] - 1
    discriminant = b * b - a * c
    z = (b - discriminant.clamp_min(0).sqrt()) / a
    z = torch.where((discriminant >= 0) & (z > 0) & (c > 0), z, torch.inf)
    nearest, index = z.min(0)
    return nearest.where(nearest < torch.inf, 0.0), index.where(nearest < torch.inf, -1)


def test_brute_force_finds_the_same_around_and_inside_a_crowd():
    """Cameras among ellipsoids, which lie behind, cross the camera's plane, contain the camera or leave the image."""
    random = torch.Generator().manual_seed(0)
    a = torch.rand(40, 3, generator=random, dtype=torch.float64) * 4 - 2
    b = a + torch.randn(40, 3, generator=random, dtype=torch.float64) * 0.7
    crowd = ellipsoids_from_bones(a, b, torch.rand(40, generator=random, dtype=torch.float64) * 0.4 + 0.05)
    centers = torch.rand(6, 3, generator=random, dtype=torch.float64) * 3 - 1.5
    centers[0] = crowd.center[3]
    intrinsics = torch.tensor([[30.0, 2.0, 17.0], [0.0, 35.0, 30.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    cameras = Cameras(
        world_to_camera=look_at(centers, torch.zeros(6, 3, dtype=torch.float64)),
        intrinsics=intrinsics.expand(6, 3, 3),
        image_size=(48, 40),
    )
    image = render(crowd, cameras)
    for number in range(6):
        z, index = _brute_force(crowd, cameras[number])
        assert torch.equal(image.index[number], index)
        assert torch.allclose(image.z[number], z, rtol=1e-9)
    assert image.mask.any() and not image.mask.all()


def test_nothing_is_seen_behind_or_from_inside():
    cameras = Cameras(
        world_to_camera=torch.eye(4, dtype=torch.float64),
        intrinsics=intrinsics_from_fov(40, (16, 16)).double(),
        image_size=(16, 16),
    )
    for z in (-2.0, 0.0, 0.1):
        assert not render(_one((0.0, 0.0, z), (0.0, 1.0, 0.0), 0.5, 0.4), cameras).mask.any()


def test_gradients_of_what_is_seen():
    """Against finite differences, on pixels that are safely inside their ellipsoid's outline."""
    camera = _orbit(1, 24)[0]
    chain = torch.tensor([[0.5, 1.2, 0.0], [0.1, 0.8, 0.3], [-0.5, 0.9, -0.1]], dtype=torch.float64)
    radii = torch.tensor([0.2, 0.15], dtype=torch.float64)
    thin, base = (render(ellipsoids_from_bones(chain[:-1], chain[1:], radii * scale), camera) for scale in (0.97, 1.0))
    steady = (thin.index == base.index) & base.mask & (base.normal[..., 2] < -0.3)
    assert set(base.index[steady].tolist()) == {0, 1}

    def seen(joints):
        image = render(ellipsoids_from_bones(joints[:-1], joints[1:], radii), camera)
        return image.z[steady], image.distance[steady], image.normal[steady]

    assert torch.autograd.gradcheck(seen, chain.requires_grad_(), eps=1e-7, atol=1e-4)


def test_a_bone_without_length_gives_finite_values_and_gradients():
    joint = torch.zeros(1, 3, requires_grad=True)
    image = render(ellipsoids_from_bones(joint, joint + 0, torch.tensor([0.1])), _orbit(1, 64, torch.float32)[0])
    (image.z.sum() + image.normal.sum()).backward()
    assert image.z.isfinite().all() and joint.grad.isfinite().all()


def test_leading_axes_broadcast_and_images_do_not_depend_on_each_other():
    random = torch.Generator().manual_seed(0)
    joints = standing_joints().double() + 0.05 * torch.randn(2, 1, 3, 25, 3, generator=random, dtype=torch.float64)
    first, second = bone_index(JOINTS)
    radii = bone_radii(torch.tensor([1.6, 1.9], dtype=torch.float64))[:, None, None]
    bodies = ellipsoids_from_bones(joints[..., first, :], joints[..., second, :], radii)
    cameras = _orbit(4, 32)[None, :, None].expand(2, 4, 3)
    image = render(bodies, cameras)
    assert image.normal.shape == (2, 4, 3, 32, 32, 3) and image.z.shape == image.index.shape == (2, 4, 3, 32, 32)
    alone = render(
        ellipsoids_from_bones(joints[1, 0, 2, first], joints[1, 0, 2, second], radii[1, 0, 0]), cameras[1, 3, 2]
    )
    assert torch.equal(image.index[1, 3, 2], alone.index)
    assert torch.allclose(image.normal[1, 3, 2], alone.normal)


def _orbit(count: int, size: int, dtype=torch.float64) -> Cameras:
    return orbit(
        torch.arange(count, dtype=dtype) * 360 / count,
        elevation_degrees=5.0,
        distance=3.0,
        target=torch.tensor([0.0, 0.9, 0.0], dtype=dtype),
        fov_degrees=40.0,
        image_size=(size, size),
    )


def test_radii_are_a_body_s():
    radii = dict(zip(BONES, bone_radii(torch.tensor(1.70)).tolist(), strict=True))
    assert radii["left_wrist", "left_middle1"] == pytest.approx(0.025)  # HVG, section 3.1
    assert radii["left_hip", "left_knee"] > radii["left_knee", "left_ankle"] > radii["left_elbow", "left_wrist"]
    assert bone_radii(torch.tensor([1.5, 1.8])).shape == (2, 24)
    assert torch.allclose(bone_radii(torch.tensor(1.8)) / bone_radii(torch.tensor(1.5)), torch.tensor(1.2))


def test_joints_are_ordered_and_the_top_of_the_head_is_added():
    joints = standing_joints()
    shuffled = list(reversed(JOINTS))
    assert torch.equal(complete_joints(joints.flip(0), shuffled), joints)
    completed = complete_joints(joints[:-1], JOINTS[:-1])
    assert torch.equal(completed[:-1], joints[:-1])
    assert (completed[-1] - joints[-1]).norm() < 0.1
    assert estimate_stature(joints, JOINTS) == pytest.approx(1.7, abs=0.1)
    with pytest.raises(DataError, match="left_knee"):
        complete_joints(joints[:3], ["pelvis", "spine1", "neck"])
