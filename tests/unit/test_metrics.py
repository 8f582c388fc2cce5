"""Metrics against their formulas, and what has to hold for all of them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import conv2d

from hvg import registry
from hvg.baselines import MeanImage, copy_reference
from hvg.cameras import Cameras
from hvg.errors import DataError
from hvg.types import ClipBatch, Reference

METRICS = ["psnr", "psnr_foreground", "ssim", "l1", "mask_iou"]
CHANGES = {"dtssd": 2, "dvssd": 1}
IDEAL = {"psnr": 100.0, "psnr_foreground": 100.0, "ssim": 1.0, "l1": 0.0, "mask_iou": 1.0}


def make(name: str, **settings):
    part = registry.load("metric", name)
    return part(part.Config(**settings), None)


def clips(count: int = 3, views: int = 2, frames: int = 3, size: int = 16) -> ClipBatch:
    """Dark people of random colours, 8 by 8 pixels, on white."""
    random = torch.Generator().manual_seed(0)
    images = torch.ones(count, views, frames, 3, size, size)
    images[..., 4:12, 4:12] = torch.rand(count, views, frames, 3, 8, 8, generator=random) * 0.9 - 1
    alpha = torch.zeros(count, views, frames, 1, size, size)
    alpha[..., 4:12, 4:12] = 1
    cameras = Cameras(
        world_to_camera=torch.eye(4).expand(count, views, frames, 4, 4),
        intrinsics=torch.eye(3).expand(count, views, frames, 3, 3),
        image_size=(size, size),
    )
    names = tuple(f"clip{i}" for i in range(count))
    reference = Reference(frames=images[:, 0, :1])
    return ClipBatch(cameras=cameras, clip_id=names, subject=names, frames=images, alpha=alpha, reference=reference)


def noisy(frames: torch.Tensor) -> torch.Tensor:
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(1))
    return (frames + 0.2 * noise).clamp(-1, 1)


def result(name: str, prediction: torch.Tensor, batch: ClipBatch, **settings):
    metric = make(name, **settings)
    metric.update(prediction, batch)
    return metric.compute()


def per_frame(batch: ClipBatch, prediction: torch.Tensor):
    """Every clip's (prediction, truth, foreground) frames in [0, 1], float64."""
    for clip in range(len(batch.clip_id)):
        images = ((x[clip].flatten(0, 1).double() + 1) / 2 for x in (prediction, batch.frames))
        yield list(zip(*images, batch.alpha[clip].flatten(0, 1) > 0.5, strict=True))


def mean_over_clips(batch, prediction, frame_value) -> float:
    clips_of_frames = per_frame(batch, prediction)
    values = [[frame_value(*frame) for frame in frames] for frames in clips_of_frames]
    return sum(sum(v) / len(v) for v in values) / len(values)


def psnr_formula(prediction, truth, foreground) -> float:
    return float(10 * torch.log10(1 / (prediction - truth).square().mean()))


def foreground_formula(prediction, truth, foreground) -> float:
    inside = foreground.expand_as(truth)
    return float(10 * torch.log10(1 / (prediction[inside] - truth[inside]).square().mean()))


def l1_formula(prediction, truth, foreground) -> float:
    return float((prediction - truth).abs().mean())


def iou_formula(prediction, truth, foreground) -> float:
    generated = (prediction < 0.75).any(dim=0, keepdim=True)
    return float((generated & foreground).sum() / (generated | foreground).sum())


def ssim_formula(prediction, truth, foreground) -> float:
    """Wang et al. 2004, equation 13, with a window of 11 pixels on edge-reflected images."""
    offset = torch.arange(-5, 6, dtype=torch.float64)
    window = torch.exp(-offset.square() / (2 * 1.5**2))
    window = (window / window.sum())[:, None] * (window / window.sum())

    def blur(x):
        padded = torch.nn.functional.pad(x[:, None], (5, 5, 5, 5), mode="reflect")
        return conv2d(padded, window[None, None])[:, 0]

    mean_x, mean_y = blur(prediction), blur(truth)
    variance_x, variance_y = blur(prediction**2) - mean_x**2, blur(truth**2) - mean_y**2
    covariance = blur(prediction * truth) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float((top / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))).mean())


FORMULAS = {
    "psnr": psnr_formula,
    "psnr_foreground": foreground_formula,
    "ssim": ssim_formula,
    "l1": l1_formula,
    "mask_iou": iou_formula,
}


@pytest.mark.parametrize("name", METRICS)
def test_agrees_with_its_formula(name):
    batch = clips()
    prediction = noisy(batch.frames)
    expected = mean_over_clips(batch, prediction, FORMULAS[name])
    assert result(name, prediction, batch).value == pytest.approx(expected, rel=1e-5)


def test_a_known_error_has_a_known_psnr():
    batch = clips()
    prediction = batch.frames - torch.where(batch.frames > 0.5, 0.2, 0.0)
    share = float((batch.frames > 0.5).double().mean())
    assert result("psnr", prediction, batch).value == pytest.approx(-10 * math.log10(0.01 * share), rel=1e-5)
    assert result("psnr_foreground", prediction, batch).value == 100.0


@pytest.mark.parametrize("name", METRICS)
def test_a_perfect_prediction_is_ideal(name):
    batch = clips()
    found = result(name, batch.frames, batch)
    assert found.value == pytest.approx(IDEAL[name], abs=1e-6)
    assert found.count == 3 * 2 * 3
    assert sorted(found.per_clip) == ["clip0", "clip1", "clip2"]
    assert found.protocol.startswith(f"{name}/") and found.protocol.endswith("/v1")


@pytest.mark.parametrize("name", METRICS)
def test_more_noise_is_worse(name):
    batch = clips()
    little, much = (result(name, (0.8 - s) * noisy(batch.frames) + 0.2, batch) for s in (0.0, 0.5))
    assert (little.value > much.value) == little.higher_is_better


@pytest.mark.parametrize("name", METRICS)
def test_the_split_into_batches_does_not_matter(name):
    batch = clips(views=3, frames=7)  # 21 frames a clip: more than one scoring call
    prediction = noisy(batch.frames)
    whole, split = result(name, prediction, batch), make(name)
    for clip in range(3):
        for frames in ([0, 1, 2], [3, 4, 5, 6]):
            part = batch.clips(slice(clip, clip + 1)).select(frames=frames)
            split.update(prediction[clip : clip + 1][:, :, frames], part)
    assert split.compute().value == pytest.approx(whole.value, rel=1e-6)
    assert split.compute().per_clip == pytest.approx(dict(whole.per_clip), rel=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_padded_frames_do_not_count(name):
    batch = clips()
    valid = torch.ones(batch.grid, dtype=torch.bool)
    valid[:, :, 2] = False
    prediction = noisy(batch.frames)
    prediction[:, :, 2] = -1
    found = result(name, prediction, replace(batch, valid=valid))
    expected = result(name, prediction[:, :, :2], batch.select(frames=[0, 1]))
    assert found.value == pytest.approx(expected.value, rel=1e-6)
    assert found.count == 12


def test_frames_without_a_person_have_no_foreground_score():
    batch = clips()
    batch.alpha[:, 1] = 0
    found = result("psnr_foreground", noisy(batch.frames), batch)
    assert found.count == 9
    assert found.notes == {"left_out": "9 frames without a score"}
    assert math.isfinite(found.value)


def test_the_silhouette_threshold_is_part_of_the_protocol():
    batch = clips()
    assert "0.75" in result("mask_iou", batch.frames, batch).protocol
    grey = torch.full_like(batch.frames, 0.6)  # 0.8 in [0, 1]
    assert result("mask_iou", grey, batch).value == 0.0
    assert result("mask_iou", grey, batch, threshold=0.9).value == pytest.approx(0.25)


@pytest.mark.parametrize("name", METRICS)
def test_what_cannot_be_scored_is_refused(name):
    batch = clips()
    with pytest.raises(ValueError, match="no frame"):
        make(name).compute()
    with pytest.raises(DataError, match="clip0"):
        make(name).update(batch.frames, replace(batch, frames=None))
    with pytest.raises(ValueError, match="truth is"):
        make(name).update(batch.frames[:, :1], batch)


@pytest.mark.parametrize("name", METRICS)
def test_alpha_is_asked_for_only_where_it_is_read(name):
    batch = replace(clips(), alpha=None)
    if name in ("psnr_foreground", "mask_iou"):
        with pytest.raises(DataError, match="needs alpha"):
            make(name).update(batch.frames, batch)
    else:
        assert result(name, batch.frames, batch).count == 18


@pytest.mark.parametrize("name", CHANGES)
def test_changes_agree_with_their_formula(name):
    batch = clips(views=4)
    prediction, axis = noisy(batch.frames), CHANGES[name]
    pairs = [(i, (i + 1) % batch.frames.shape[axis]) for i in range(batch.frames.shape[axis] - (axis == 2))]
    errors = (prediction - batch.frames).double() / 2
    jumps = [errors.select(axis, b) - errors.select(axis, a) for a, b in pairs]
    expected = torch.stack([jump.square().mean(dim=(-3, -2, -1)).sqrt().mean() for jump in jumps]).mean()
    found = result(name, prediction, batch)
    assert found.value == pytest.approx(float(expected), rel=1e-5)
    assert found.count == 3 * len(pairs) * (3 if axis == 1 else 4)


@pytest.mark.parametrize("name", CHANGES)
def test_changes_see_jumps_along_their_own_axis_alone(name):
    batch, axis = clips(views=3), CHANGES[name]
    still = torch.linspace(-0.3, 0.3, 16) * torch.ones_like(batch.frames)
    assert result(name, batch.frames + still, batch).value == pytest.approx(0.0, abs=1e-6)
    along, across = torch.zeros_like(batch.frames), torch.zeros_like(batch.frames)
    along.select(axis, 1)[:] = 0.5
    across.select(3 - axis, 1)[:] = 0.5
    assert result(name, batch.frames + along, batch).value > 0.1
    assert result(name, batch.frames + across, batch).value == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", CHANGES)
def test_changes_need_two_frames_and_skip_padding(name):
    single = clips(views=1, frames=1)
    with pytest.raises(ValueError, match="no frame"):
        result(name, single.frames, single)
    batch = clips(views=3)
    valid = torch.ones(batch.grid, dtype=torch.bool)
    valid[:, 0, 0] = False
    prediction = noisy(batch.frames)
    prediction[:, 0, 0] = -1
    found = result(name, prediction, replace(batch, valid=valid))
    assert found.value < 1.2 * result(name, noisy(batch.frames), batch).value


def test_memory_does_not_grow_with_frames():
    metric, batch = make("l1"), clips()
    for _ in range(3):
        metric.update(noisy(batch.frames), batch)
    assert not [value for value in vars(metric).values() if isinstance(value, torch.Tensor)]
    assert len(metric._sums) == 3


def test_copy_reference_repeats_the_photo():
    batch = clips()
    frames = copy_reference(batch)
    assert frames.shape == batch.frames.shape
    assert torch.equal(frames[1, 1, 2], batch.reference.frames[1, 0])


def test_mean_images_are_means_and_skip_padding():
    batch = clips()
    valid = torch.ones(batch.grid, dtype=torch.bool)
    valid[0, 0, 0] = False
    mean = MeanImage()
    for clip in range(3):
        mean.add(replace(batch, valid=valid).clips(slice(clip, clip + 1)))
    torch.testing.assert_close(mean.mean(), batch.frames[valid].mean(dim=0))
    torch.testing.assert_close(mean.mean_per_view()[0], batch.frames[:, 0][valid[:, 0]].mean(dim=0))
    for per_view in (False, True):
        assert mean.predict(batch, per_view=per_view).shape == batch.frames.shape
    torch.testing.assert_close(mean.predict(batch, per_view=True)[2, 1, 1], mean.mean_per_view()[1])
    with pytest.raises(ValueError, match="no training frame"):
        MeanImage().mean()
