"""Recordings of several cameras: what a folder holds is what a clip is, and what cannot be used is said."""

import pytest
import torch
from recordings import write_multiview

from components.bodies.anny import Anny
from components.datasets.multiview import Multiview
from components.renderers.warp import Warp
from hvg.parts.context import Context
from hvg.testing import check_dataset
from hvg.values.cameras import project


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("filmed")
    return folder, write_multiview(folder)


def context():
    return Context(body=Anny(), renderer=Warp())


def opened(folder, split="train", **settings):
    return Multiview(Multiview.Config(root=str(folder), split=split, image_size=64, **settings), context())


def test_it_keeps_the_promises_of_a_dataset(root):
    check_dataset(Multiview, Multiview.Config(root=str(root[0]), image_size=48), context(), clips=2)


def test_the_body_lies_in_the_pictures(root):
    clip = opened(root[0]).load(0)
    inside = cover_at(clip, clip.body.joints[0])
    assert float((inside > 0.5).float().mean()) > 0.95


def cover_at(clip, points):
    """Alpha (V, T, J) where points (T, J, 3) are seen."""
    pixels, depth = project(points[None], clip.cameras[0])
    assert bool((depth > 0).all())
    views, frames, _ = depth.shape
    column, row = pixels.floor().long().clamp(0, clip.cameras.image_size[0] - 1).unbind(-1)
    return clip.alpha[0, :, :, 0][torch.arange(views)[:, None, None], torch.arange(frames)[None, :, None], row, column]
