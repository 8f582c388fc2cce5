"""Every registered metric keeps the promises that hvg.testing spells out."""

from dataclasses import replace

import pytest
import torch
from golden_networks import write_network_files
from planted_faults import SuitClips

from components.bodies.anny import Anny
from components.renderers.warp import Warp
from hvg.parts import registry
from hvg.parts.context import Context
from hvg.parts.network_files import NetworkFiles
from hvg.testing import check_metric, tiny_scored_clips
from hvg.values.scored_clip import Told

PLAIN = (
    "drift",
    "dtssd",
    "dtssd_disco",
    "dtssd_foreground",
    "dvssd",
    "identity_colour",
    "l1",
    "mask_iou",
    "psnr",
    "psnr_foreground",
    "ssim",
)
# These need people whose surface and limbs are known.
GEOMETRY = ("cross_view", "joint_error", "mpjpe", "pck", "temporal_warp", "within")
# These need clips whose task is known.
TASKED = ("of_task",)
# These need what a model was told.
ASKING = ("probe",)
# Settings that have no default.
SETTINGS = {"within": {"region": "torso"}}
# Network -> the metrics that look through it.
NETWORKS = {"inception": ("fid", "kid"), "resnet3d50": ("fid_vid",), "i3d": ("fvd", "kvd"), "vgg16": ("lpips",)}
# Of the user's own networks; tests/unit/test_modern_metrics.py makes small ones, and checks these metrics with them.
TRANSFORMERS = ("identity_clip", "jedi")


def test_no_metric_is_left_out():
    through_networks = [name for names in NETWORKS.values() for name in names]
    assert sorted([*PLAIN, *GEOMETRY, *TASKED, *ASKING, *through_networks, *TRANSFORMERS]) == registry.names("metric")


@pytest.mark.parametrize("name", PLAIN)
def test_metric(name):
    part = registry.load("metric", name)
    check_metric(part, part.Config())


@pytest.mark.parametrize("task", [0, 1])
@pytest.mark.parametrize("metric", ["psnr_foreground", "dvssd"])
def test_metric_of_a_task(task, metric):
    part = registry.load("metric", "of_task")
    clips = [replace(clip, task=task) for clip in tiny_scored_clips()]
    check_metric(part, part.Config(task=("view", "pose")[task], metric=metric), clips=clips)


@pytest.mark.parametrize("settings", [{}, {"axes": "camera", "unit": "share"}], ids=str)
def test_metric_of_what_a_model_is_told(settings):
    part, numbers = (
        registry.load("metric", "probe"),
        torch.randn(6, 2, 4, 5, generator=torch.Generator().manual_seed(0)),
    )
    clips = [
        replace(clip, told=lambda own=own: Told({"pose": own}, tuple(range(4))))
        for clip, own in zip(tiny_scored_clips(clips=6), numbers, strict=True)
    ]
    check_metric(part, part.Config(**settings), clips=clips)


@pytest.fixture(scope="module")
def suited():
    """Clips of people in the suit, and predictions that are noisier with time."""
    suits = SuitClips(Context(body=Anny(), renderer=Warp()), image_size=48, views=4, frames=3)
    strength, random = torch.tensor([20, 30, 40])[:, None, None, None], torch.Generator().manual_seed(0)
    clips = []
    for clip in (suits.clip(index) for index in range(3)):
        noise = strength * torch.randn(clip.truth.shape, generator=random)
        clips.append(replace(clip, prediction=(clip.truth + noise).round().clamp(0, 255).to(torch.uint8)))
    return clips


@pytest.mark.parametrize("name", GEOMETRY)
def test_metric_of_known_geometry(name, suited):
    part = registry.load("metric", name)
    check_metric(part, part.Config(**SETTINGS.get(name, {})), clips=suited)


@pytest.mark.long
@pytest.mark.parametrize("network", NETWORKS)
def test_metric_through_a_network(network, tmp_path):
    files = NetworkFiles(write_network_files(tmp_path, [network]), any_file=True)
    # Networks of video look at 16 frames.
    clips = tiny_scored_clips(clips=2, views=1, frames=16 if network in ("i3d", "resnet3d50") else 4)
    for name in NETWORKS[network]:
        part = registry.load("metric", name)
        check_metric(part, part.Config(), Context(networks=files), clips)
