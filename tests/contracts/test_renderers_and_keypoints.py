"""Every registered renderer and every regressor of key points keeps the promises of hvg.testing."""

import importlib.util

import pytest
import torch
from planted_faults import SuitClips
from torch import Tensor

from hvg.parts import registry
from hvg.testing import check_keypoints, check_renderer, scene_context

# Registered, but only there for those who built it.
OPTIONAL = {"pytorch3d"}
HERE = [name for name in registry.names("renderer") if name not in OPTIONAL or importlib.util.find_spec(name)]


class Darkest(torch.nn.Module):
    """The middle of what is dark, as a user's network would find it."""

    def forward(self, pictures: Tensor) -> Tensor:
        dark = (pictures.mean(dim=1) < 0.5).float() + 1e-6
        y = torch.arange(dark.shape[1]) + 0.5
        x = torch.arange(dark.shape[2]) + 0.5
        total = dark.sum(dim=[1, 2])
        places = [(dark.sum(dim=1) * x).sum(dim=1) / total, (dark.sum(dim=2) * y).sum(dim=1) / total]
        return torch.stack([places[0], places[1], torch.ones_like(total)], dim=-1)[:, None]


@pytest.mark.parametrize("name", HERE)
def test_renderer(name):
    part = registry.load("renderer", name)
    check_renderer(part, part.Config())


def test_suit():
    part = registry.load("keypoints", "suit")
    suits = SuitClips(scene_context(), image_size=48, views=2, frames=2)
    check_keypoints(part, part.Config(), frames=torch.cat([suits.clip(i).truth.flatten(0, 1) for i in range(2)]))


def test_torchscript(tmp_path):
    torch.jit.script(Darkest()).save(tmp_path / "darkest.pt")
    part = registry.load("keypoints", "torchscript")
    check_keypoints(part, part.Config(path=tmp_path / "darkest.pt", names=("middle",), root=("middle",)))


def test_no_regressor_is_left_out():
    assert registry.names("keypoints") == ["suit", "torchscript"]
