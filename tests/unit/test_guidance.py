"""Guidance schedules, and the systems they come from."""

import pytest
import torch

from hvg.parts import registry
from hvg.parts.plan import Guidance


def build(name: str, **settings) -> Guidance:
    cls = registry.load("guidance", name)
    return cls(cls.Config(**settings))


@pytest.mark.parametrize("frames", [1, 2, 14, 25])
def test_linear_is_the_ramp_of_svd(frames):
    expected = torch.linspace(1.0, 3.0, frames).expand(3, frames)
    assert torch.equal(build("linear").scale(3, frames, 1.0), expected)


def test_linear_along_views():
    scale = build("linear", minimum=2, maximum=1, axis="views").scale(3, 2, 1.0)
    assert scale.tolist() == [[2, 2], [1.5, 1.5], [1, 1]]


def test_triangular_is_what_gas_hard_codes_for_20_views():
    """Eleven values up from 1 to 2, then nine down, without the end of the circle, which is its beginning."""
    rising, falling = torch.linspace(1, 2, 11), torch.linspace(2, 1, 11)[1:10]
    scale = build("triangular").scale(20, 1, 1.0)
    torch.testing.assert_close(scale[:, 0], torch.cat([rising, falling]))


@pytest.mark.parametrize("views", [1, 2, 3, 4, 7, 12])
def test_triangular_is_the_same_on_both_sides_of_the_circle(views):
    scale = build("triangular", minimum=1.5, maximum=4).scale(views, 2, 1.0)[:, 0]
    assert scale[0] == 1.5
    for view in range(1, views):
        torch.testing.assert_close(scale[view], scale[views - view])
    assert scale.argmax() == views // 2
    if views % 2 == 0:
        assert scale[views // 2] == 4
    assert (scale[: views // 2 + 1].diff() > 0).all()


def test_triangular_along_frames():
    scale = build("triangular", axis="frames").scale(2, 4, 1.0)
    assert scale.tolist() == [[1, 1.5, 2, 1.5]] * 2
