"""Mesh renderers against PyTorch3D 0.7.9 (tests/data/pytorch3d_body.npz)."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from components.renderers.pytorch3d import PyTorch3D
from components.renderers.warp import Warp
from hvg.core.errors import HvgError
from hvg.values.cameras import Cameras

HAS_PYTORCH3D = importlib.util.find_spec("pytorch3d") is not None
GOLDEN = Path(__file__).parents[1] / "data" / "pytorch3d_body.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN, allow_pickle=False) as file:
        return dict(file)


def _scene(golden) -> tuple[torch.Tensor, torch.Tensor, Cameras]:
    matrix = torch.eye(4).repeat(len(golden["world_to_camera_R"]), 1, 1)
    matrix[:, :3, :3] = torch.from_numpy(golden["world_to_camera_R"])
    matrix[:, :3, 3] = torch.from_numpy(golden["world_to_camera_t"])
    intrinsics = torch.from_numpy(golden["K"]).float().expand(len(matrix), 3, 3)
    size = int(golden["size"])
    cameras = Cameras(world_to_camera=matrix, intrinsics=intrinsics, image_size=(size, size))
    vertices = torch.from_numpy(golden["vertices"]).float()[None]
    return vertices, torch.from_numpy(golden["faces"]).long(), cameras


@pytest.mark.parametrize("renderer", [Warp, *([PyTorch3D] if HAS_PYTORCH3D else [])])
def test_agrees_with_pytorch3d(golden, renderer):
    vertices, faces, cameras = _scene(golden)
    image = renderer().render(vertices, faces, cameras)
    mask, truth = (image.face >= 0).numpy(), golden["mask"].astype(bool)
    both = mask & truth
    assert both.sum() / (mask | truth).sum() >= 0.998
    depth, true_depth = image.depth.numpy()[both], golden["depth_z"][both]
    assert np.median(np.abs(depth - true_depth) / true_depth) <= 1e-4
    cosine = (image.normal.numpy()[both] * golden["normal_cam"][both]).sum(-1).clip(-1, 1)
    assert np.degrees(np.median(np.arccos(cosine))) <= 0.5


def test_barycentrics_give_back_the_depth(golden):
    vertices, faces, cameras = _scene(golden)
    image = Warp().render(vertices, faces, cameras)
    camera, row, column = (image.face >= 0).nonzero(as_tuple=True)
    corners = vertices[0][faces[image.face[camera, row, column]]]
    point = (image.barycentric[camera, row, column][..., None] * corners).sum(1)
    matrix = cameras.world_to_camera[camera]
    in_camera = (matrix[:, :3, :3] @ point[..., None])[..., 0] + matrix[:, :3, 3]
    torch.testing.assert_close(in_camera[:, 2], image.depth[camera, row, column], atol=1e-4, rtol=0)


def test_poses_are_shared_out_to_cameras_in_order(golden):
    vertices, faces, cameras = _scene(golden)
    moved = torch.cat([vertices, vertices + torch.tensor([0.1, 0.0, 0.05])])
    pairs = cameras[torch.tensor([0, 1, 0, 1])]
    together = Warp().render(moved, faces, pairs)
    second = Warp().render(moved[1:], faces, pairs[2:])
    assert torch.equal(together.face[2:] >= 0, second.face >= 0)
    torch.testing.assert_close(together.depth[2:], second.depth, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="2 poses"):
        Warp().render(moved, faces, cameras)


def test_empty_pixels_are_zero(golden):
    vertices, faces, cameras = _scene(golden)
    image = Warp().render(vertices, faces, cameras)
    empty = image.face < 0
    assert empty.any()
    for values in (image.depth, image.barycentric, image.normal):
        assert not values[empty].any()


@pytest.mark.skipif(HAS_PYTORCH3D, reason="the message is for those who lack it")
def test_missing_pytorch3d_says_what_to_do():
    with pytest.raises(HvgError, match="renderer=warp"):
        PyTorch3D()
