"""Metrics of single pictures against the scripts that published numbers come from (tests/data/metrics/README.md)."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_networks import write_network_files
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from components.nn.resizing import grey_8bit
from hvg.core.eight_bit import resize_8bit
from hvg.parts import registry
from hvg.parts.context import Context
from hvg.parts.network_files import NetworkFiles
from hvg.values.scored_clip import ScoredClip

DATA = Path(__file__).parents[1] / "data" / "metrics"
# Metric, settings, name in pixel.json, relative limit.
PIXELS = [
    ("psnr", {}, "psnr", 1e-9),
    ("psnr", {"arithmetic": "uint8_wraparound"}, "psnr_old_uint8", 1e-9),
    ("ssim", {"window": "uniform_7", "colour": "grey"}, "ssim_gray", 1e-9),
    ("ssim", {}, "torchmetrics_ssim_255", 1e-9),
    ("l1", {"scale": "disco"}, "l1_over_hw", 1e-9),
    # Computed in single precision there.
    ("psnr", {}, "torchmetrics_psnr_255", 1e-6),
]


def read(name: str):
    path = DATA / name
    return json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else dict(np.load(path))


def images(array: np.ndarray) -> Tensor:
    """(..., H, W, 3) -> (..., 3, H, W)."""
    return torch.from_numpy(array).movedim(-1, -3)


def clip(name: str, prediction: Tensor, truth: Tensor) -> ScoredClip:
    """One view of (T, 3, H, W)."""
    valid = torch.ones(1, len(truth), dtype=torch.bool)
    return ScoredClip(clip_id=name, subject=name, prediction=prediction[None], truth=truth[None], valid=valid)


@pytest.fixture(scope="module")
def pairs() -> list[ScoredClip]:
    """Every pair as a clip of one frame."""
    stored = read("inputs_pairs.npz")
    sides = zip(stored["names"], images(stored["gen"]), images(stored["gt"]), strict=True)
    return [clip(str(name), generated[None], truth[None]) for name, generated, truth in sides]


@pytest.fixture(scope="module")
def videos() -> list[ScoredClip]:
    """Every sequence of consecutive file numbers as a clip."""
    stored = read("inputs_frames.npz")
    return [clip(name, images(stored["gen"][index]), images(stored["gt"][index])) for name, index in sequences(stored)]


def sequences(stored) -> list[tuple[str, list[int]]]:
    """Name and places of every sequence of consecutive file numbers."""
    found: dict[tuple[str, int], list[int]] = {}
    for place, name in enumerate(stored["names"]):
        prefix, number = str(name).removesuffix(".png").rsplit("_", 1)
        found.setdefault((prefix, int(number) - place), []).append(place)
    return [(f"{prefix} {shift}", places) for (prefix, shift), places in found.items()]


def score(name: str, clips, context=None, **settings):
    part = registry.load("metric", name)
    metric = part(part.Config(**settings), context)
    kept = {one.clip_id: metric.measure(one) for one in clips}
    return metric.reduce({clip_id: arrays for clip_id, arrays in kept.items() if arrays})


@pytest.mark.parametrize(("name", "settings", "key", "limit"), PIXELS)
def test_every_pair(pairs, name, settings, key, limit):
    found, golden = score(name, pairs, **settings), read("pixel.json")
    for pair, expected in zip(golden["pair_names"], golden["pairs"], strict=True):
        # Not capped there.
        value = 100.0 if expected[key] == "inf" else expected[key]
        assert found.per_clip[pair] == pytest.approx(value, rel=limit), pair


@pytest.mark.parametrize(("name", "settings", "key", "limit"), PIXELS[:-1])
@pytest.mark.parametrize("folder", ["pairs", "clip_frames"])
def test_folders(pairs, videos, folder, name, settings, key, limit):
    clips = pairs if folder == "pairs" else videos
    found = score(name, clips, average="frames", **settings)
    assert found.value == pytest.approx(read("pixel.json")["folder"][folder][key], rel=limit)


def test_change_over_time(videos):
    found = score("dtssd_disco", videos, average="frames")
    assert found.value == pytest.approx(read("pixel.json")["dtssd_clip_frames"], rel=1e-6)


def test_grey_images_are_equal():
    stored, grey = read("inputs_pairs.npz"), read("pixel_gray.npz")
    for side in ("gen", "gt"):
        assert np.array_equal(grey_8bit(images(stored[side])).numpy(), grey[side])


def test_resized_images_are_equal():
    stored, golden = read("inputs_pairs.npz"), read("pixel.json")["size_mismatch"]
    truth = images(stored["mis_gt"])[None]
    resized = resize_8bit(images(stored["mis_gen"])[None], (truth.shape[-2], truth.shape[-1]))
    blue_first = np.ascontiguousarray(resized[0].movedim(0, -1).numpy()[..., ::-1])
    assert np.array_equal(blue_first, read("pixel_gray.npz")["mis_gen_resized_bgr"])
    assert zlib.crc32(blue_first.tobytes()) == golden["resized_gen_crc32"]
    for name, settings, key, limit in PIXELS[:3] + PIXELS[4:5]:
        found = score(name, [clip("resized", resized, truth)], **settings)
        assert found.value == pytest.approx(golden[key], rel=limit), key


@pytest.mark.parametrize("size", [(24, 31), (11, 7)])
def test_gaussian_similarity_is_that_of_torchmetrics(size):
    generated, truth = torch.randint(
        0, 256, (2, 3, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    expected = structural_similarity_index_measure(generated.double(), truth.double(), data_range=255.0)
    assert score("ssim", [clip("one", generated, truth)]).value == pytest.approx(float(expected), rel=1e-11)


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> Context:
    folder = write_network_files(tmp_path_factory.mktemp("networks"), ["vgg16", "alexnet", "squeezenet"])
    return Context(networks=NetworkFiles(folder, any_file=True))


LPIPS = [("vgg", "unit"), ("vgg", "symmetric"), ("alex", "symmetric"), ("squeeze", "symmetric")]


@pytest.mark.parametrize(("network", "input_range"), LPIPS)
def test_perceptual_similarity(pairs, networks, network, input_range):
    golden = read("lpips.json")
    expected = golden["disco_vgg_01"] if input_range == "unit" else golden["standard"][network]
    found = score("lpips", pairs, networks, network=network, input_range=input_range)
    for pair, value in zip(golden["pair_names"], expected["pairs"], strict=True):
        assert found.per_clip[pair] == pytest.approx(value, rel=2e-5, abs=1e-8), pair


def test_perceptual_similarity_of_a_folder(pairs, networks):
    found = score("lpips", pairs, networks, input_range="unit")
    assert found.value == pytest.approx(read("lpips.json")["disco_vgg_01"]["folder"], rel=2e-5)


def test_perceptual_similarity_says_what_it_looked_through(networks):
    part = registry.load("metric", "lpips")
    metrics = [part(part.Config(network=a, input_range=b), networks) for a, b in LPIPS]
    assert len({metric.definition for metric in metrics}) == len(LPIPS)
    assert all(value.startswith("sha256:") for metric in metrics for value in metric.networks.values())
