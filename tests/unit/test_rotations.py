"""Rotations equal those of roma, also where formulas divide by nothing."""

import math

import pytest
import roma
import torch

from hvg.geometry.rotations import axis_angle, of_quaternion, quaternion, rotation_matrix

FLOAT, DOUBLE = torch.float32, torch.float64
NEAR = {FLOAT: 4e-6, DOUBLE: 1e-14}


def vectors(dtype: torch.dtype) -> torch.Tensor:
    """Axis-angle vectors: drawn ones, still ones, nearly still ones, and half turns about every axis and between two."""
    drawn = 2 * torch.randn(500, 3, dtype=dtype, generator=torch.Generator().manual_seed(0))
    axes = torch.cat([torch.eye(3), -torch.eye(3), torch.tensor([[0.6, 0.8, 0.0], [0.0, -0.6, 0.8]])]).to(dtype)
    small = torch.tensor([0.0, 1e-30, 1e-9, 3e-4, 1e-3], dtype=dtype)
    return torch.cat([drawn, (small[:, None, None] * axes).flatten(0, 1), (math.pi - 1e-3) * axes, math.pi * axes])


@pytest.mark.parametrize("dtype", [FLOAT, DOUBLE])
def test_rotations_equal_those_of_roma(dtype):
    given = vectors(dtype)
    matrix, theirs = rotation_matrix(given), roma.rotvec_to_rotmat(given)
    torch.testing.assert_close(matrix, theirs, rtol=0, atol=NEAR[dtype])
    ours, theirs = quaternion(matrix), roma.quat_xyzw_to_wxyz(roma.rotmat_to_unitquat(matrix))
    # A quaternion and its negative are one rotation.
    apart = torch.minimum((ours - theirs).abs().amax(-1), (ours + theirs).abs().amax(-1))
    assert float(apart.max()) < NEAR[dtype]
    assert bool((ours[:, 0] >= 0).all())
    torch.testing.assert_close(of_quaternion(ours), matrix, rtol=0, atol=NEAR[dtype])
    found = axis_angle(matrix)
    assert float(found.norm(dim=-1).max()) < math.pi + 1e-5
    torch.testing.assert_close(rotation_matrix(found), matrix, rtol=0, atol=NEAR[dtype])
    below = given.norm(dim=-1) < 3.1
    torch.testing.assert_close(found[below], given[below], rtol=0, atol=10 * NEAR[dtype])


@pytest.mark.parametrize("at", [0.0, 1e-9, 1e-4, 1.0, math.pi])
def test_gradients_are_finite_and_right(at):
    given = torch.tensor([at, 0.0, 0.0], dtype=DOUBLE, requires_grad=True)
    assert torch.autograd.gradcheck(rotation_matrix, given)
    through = torch.autograd.grad(axis_angle(rotation_matrix(given)).sum(), given)[0]
    assert bool(through.isfinite().all())


def test_one_rotation_and_any_number_have_the_same_result():
    given = vectors(FLOAT)[:6]
    torch.testing.assert_close(rotation_matrix(given.view(2, 3, 3)).flatten(0, 1), rotation_matrix(given))
    torch.testing.assert_close(axis_angle(rotation_matrix(given[0])), axis_angle(rotation_matrix(given))[0])
