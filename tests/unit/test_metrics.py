"""Metrics of single pictures against their formulas, and what has to hold for all of them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import conv2d

from hvg.parts import registry
from hvg.parts.as_seen import as_seen
from hvg.parts.metric import Score
from hvg.parts.scene import Alignment
from hvg.score.baselines import MeanImage, copy_reference, in_place
from hvg.values.cameras import Cameras
from hvg.values.clip import ClipBatch, Reference
from hvg.values.scored_clip import NotAvailable, ScoredClip

METRICS = ["psnr", "psnr_foreground", "ssim", "l1", "mask_iou"]
CHANGES = {"dtssd": 1, "dvssd": 0}
IDEAL = {"psnr": 100.0, "psnr_foreground": 100.0, "ssim": 1.0, "l1": 0.0, "mask_iou": 1.0}
# Every setting of a metric besides ``average``, which all have.
VARIANTS = {
    "psnr": [{}, {"arithmetic": "uint8_wraparound"}],
    "ssim": [{}, {"window": "uniform_7"}, {"colour": "grey"}, {"window": "uniform_7", "colour": "grey"}],
    "l1": [{}, {"scale": "disco"}],
    "psnr_foreground": [{}],
    "mask_iou": [{}, {"threshold": 0.5}],
    "dtssd": [{}],
    "dvssd": [{}],
    "dtssd_disco": [{}],
}


def make(name: str, **settings):
    part = registry.load("metric", name)
    return part(part.Config(**settings), None)


def clips(count: int = 3, views: int = 2, frames: int = 3, size: int = 16) -> list[ScoredClip]:
    """Noisy pictures of dark people of random colours, 8 by 8 pixels, on white."""
    random = torch.Generator().manual_seed(0)
    truth = torch.full((count, views, frames, 3, size, size), 255, dtype=torch.uint8)
    colours = torch.randint(0, 115, (count, views, frames, 3, 8, 8), generator=random, dtype=torch.uint8)
    truth[..., 4:12, 4:12] = colours
    alpha = torch.zeros(count, views, frames, size, size)
    alpha[..., 4:12, 4:12] = 1
    return [
        ScoredClip(
            clip_id=f"clip{i}",
            subject=f"clip{i}",
            prediction=noisy(truth[i], seed=i),
            truth=truth[i],
            valid=torch.ones(views, frames, dtype=torch.bool),
            alpha=alpha[i],
        )
        for i in range(count)
    ]


def noisy(frames: Tensor, strength: float = 25.0, seed: int = 0) -> Tensor:
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(seed))
    return rounded(frames + strength * noise)


def rounded(frames: Tensor) -> Tensor:
    return frames.round().clamp(0, 255).to(torch.uint8)


def predicting(prediction, some: list[ScoredClip]) -> list[ScoredClip]:
    """The same clips with other predictions: a function of the clip."""
    return [replace(clip, prediction=prediction(clip)) for clip in some]


def result(name: str, some: list[ScoredClip], **settings) -> Score:
    metric = make(name, **settings)
    kept = {clip.clip_id: metric.measure(clip) for clip in some}
    return metric.reduce({clip_id: arrays for clip_id, arrays in kept.items() if arrays})


def part_of(clip: ScoredClip, views=slice(None), frames=slice(None)) -> ScoredClip:
    changed = {name: getattr(clip, name)[views][:, frames] for name in ("prediction", "truth", "valid", "alpha")}
    return replace(clip, **changed)


def per_frame(clip: ScoredClip):
    """The clip's (prediction, truth, foreground) frames in [0, 1], float64."""
    images = (frames.flatten(0, 1).double() / 255 for frames in (clip.prediction, clip.truth))
    return zip(*images, clip.alpha.flatten(0, 1)[:, None] > 0.5, strict=True)


def mean_over_clips(some: list[ScoredClip], frame_value) -> float:
    return float(np.mean([np.mean([frame_value(*frame) for frame in per_frame(clip)]) for clip in some]))


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
    some = clips()
    assert result(name, some).value == pytest.approx(mean_over_clips(some, FORMULAS[name]), rel=1e-9)


def test_a_known_error_has_a_known_psnr():
    some = predicting(lambda clip: clip.truth - 51 * (clip.truth > 200).to(torch.uint8), clips())
    share = float(np.mean([10 * math.log10((clip.truth > 200).double().mean()) for clip in some]))
    assert result("psnr", some).value == pytest.approx(-10 * math.log10(0.04) - share, rel=1e-9)
    assert result("psnr_foreground", some).value == pytest.approx(100.0)


def test_a_better_frame_never_has_a_lower_ratio():
    """One channel of one pixel off by one has 107 dB at 512 pixels; a frame without any error counts no less."""
    truth = torch.full((1, 1, 3, 512, 512), 100, dtype=torch.uint8)
    nearly, valid = truth.clone(), torch.ones(1, 1, dtype=torch.bool)
    nearly[0, 0, 0, 0, 0] += 1
    of = {
        bound: [
            result(
                "psnr",
                [ScoredClip(clip_id="clip", subject="clip", prediction=frames, truth=truth, valid=valid)],
                bound=bound,
            ).value
            for frames in (truth, nearly)
        ]
        for bound in ("every", "identical")
    }
    assert of["every"] == [100, 100]
    # The DisCo script's own.
    assert of["identical"][0] == 100 and of["identical"][1] == pytest.approx(107.1, abs=0.1)


def test_the_ratio_of_bytes_that_wrap_around():
    one = torch.full((1, 1, 3, 8, 8), 20, dtype=torch.uint8)
    clip = ScoredClip(
        clip_id="one", subject="one", prediction=one, truth=one + 20, valid=torch.ones(1, 1, dtype=torch.bool)
    )
    assert result("psnr", [clip]).value == pytest.approx(20 * math.log10(255 / 20), rel=1e-12)
    # 20 - 40 is 236, and 236^2 is 144 modulo 256.
    assert result("psnr", [clip], arithmetic="uint8_wraparound").value == pytest.approx(
        10 * math.log10(255**2 / 144), rel=1e-12
    )


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.floats(1, 120))
def test_bytes_that_wrap_around_are_never_below_24_decibels(seed, strength):
    some = predicting(lambda clip: noisy(clip.truth, strength, seed), clips(count=1))
    assert result("psnr", some, arithmetic="uint8_wraparound").value > 24.06


def test_the_error_of_disco_depends_on_the_resolution():
    for size in (16, 32):
        some = clips(size=size)
        expected = 255 * result("l1", some).value / size**2
        assert result("l1", some, scale="disco").value == pytest.approx(expected, rel=1e-12)


def test_similarity_in_grey_is_that_of_grey_pictures():
    some = [
        replace(
            clip,
            prediction=clip.prediction[:, :, :1].expand_as(clip.truth),
            truth=clip.truth[:, :, :1].expand_as(clip.truth),
        )
        for clip in clips()
    ]
    for window in ("gaussian_11", "uniform_7"):
        grey, rgb = (result("ssim", some, window=window, colour=colour).value for colour in ("grey", "rgb"))
        assert grey == pytest.approx(rgb, rel=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_a_perfect_prediction_is_ideal(name):
    for variant in VARIANTS.get(name, [{}]):
        found = result(name, predicting(lambda clip: clip.truth, clips()), **variant)
        assert found.value == pytest.approx(IDEAL[name], abs=1e-12)
        assert found.count == 3 * 2 * 3
        assert sorted(found.per_clip) == ["clip0", "clip1", "clip2"]
        assert not found.notes


@pytest.mark.parametrize("name", [*METRICS, *CHANGES, "dtssd_disco"])
def test_more_noise_is_worse(name):
    some = clips()
    little = result(name, predicting(lambda clip: noisy(clip.truth, 15.0), some)).value
    much = result(name, predicting(lambda clip: noisy(clip.truth, 60.0), some)).value
    assert (little > much) == make(name).higher_is_better


@pytest.mark.parametrize("name", VARIANTS)
def test_settings_are_part_of_the_definition(name):
    variants = [{**variant, "average": average} for variant in VARIANTS[name] for average in ("clips", "frames")]
    ids = [make(name, **variant).definition for variant in variants]
    assert len(set(ids)) == len(ids)
    assert all(one.startswith(f"{name}/") for one in ids)


@pytest.mark.parametrize("name", [*METRICS, *CHANGES, "dtssd_disco"])
def test_a_clip_is_measured_by_itself(name):
    """So ranks may share the clips, and a clip of two views is two clips of one view."""
    some = clips(views=3, frames=7)  # 21 frames a clip: more than one scoring call
    metric = make(name)
    for clip in some:
        whole = metric.measure(clip)["cells"]
        assert np.array_equal(whole, make(name).measure(clip)["cells"], equal_nan=True)
        if name != "dvssd":
            parts = [metric.measure(part_of(clip, views=[view]))["cells"] for view in range(3)]
            assert np.array_equal(whole, np.concatenate(parts), equal_nan=True)


@pytest.mark.parametrize("name", METRICS)
def test_padded_frames_do_not_count(name):
    some = clips()
    for clip in some:
        clip.valid[:, 2] = False
        clip.prediction[:, 2] = 0
    found, expected = result(name, some), result(name, [part_of(clip, frames=[0, 1]) for clip in some])
    assert found.value == expected.value
    assert found.count == 12
    assert np.isnan(found.cells["clip0"][:, 2]).all()


@pytest.mark.parametrize("name", METRICS)
def test_the_mean_is_over_clips_or_over_frames(name):
    some = clips()
    some[0].valid[:, 1:] = False
    values = [value[np.isfinite(value)] for value in result(name, some).cells.values()]
    assert result(name, some).value == pytest.approx(np.mean([value.mean() for value in values]))
    assert result(name, some, average="frames").value == pytest.approx(np.concatenate(values).mean())


@pytest.mark.parametrize("name", [*METRICS, *CHANGES, "dtssd_disco", "identity_colour"])
def test_a_clip_without_a_valid_frame_has_no_score(name):
    clip, other = clips()[:2]
    nothing = replace(clip, valid=torch.zeros_like(clip.valid))
    with pytest.raises(NotAvailable, match=r"none of the (frames|changes) has a score"):
        result(name, [nothing])
    assert result(name, [nothing, other]).value == result(name, [other]).value
    assert make("drift").measure(nothing) == {}


def test_frames_without_a_person_have_no_foreground_score():
    some = clips()
    for clip in some:
        clip.alpha[0] = 0
    found = result("psnr_foreground", some)
    assert found.count == 9
    assert found.notes == ("9 frames have no score",)
    assert math.isfinite(found.value)


def test_the_silhouette_threshold_is_part_of_the_definition():
    assert "0.75" in make("mask_iou").definition
    grey = predicting(lambda clip: torch.full_like(clip.truth, 204), clips())  # 0.8 in [0, 1]
    assert result("mask_iou", grey).value == 0.0
    assert result("mask_iou", grey, threshold=0.9).value == pytest.approx(0.25)


@pytest.mark.parametrize("name", METRICS)
def test_what_cannot_be_scored_is_refused(name):
    with pytest.raises(NotAvailable, match="none of the"):
        make(name).reduce({})
    clip = clips()[0]
    with pytest.raises(ValueError, match=r"clip0.*8 x 8.*16 x 16"):
        make(name).measure(replace(clip, prediction=clip.prediction[..., :8, :8]))


def test_frames_smaller_than_the_window_have_no_similarity():
    clip = clips()[0]
    with pytest.raises(NotAvailable, match="6 x 16"):
        make("ssim").measure(replace(clip, prediction=clip.prediction[..., :6], truth=clip.truth[..., :6], alpha=None))


@pytest.mark.parametrize("name", METRICS)
def test_alpha_is_asked_for_only_where_it_is_read(name):
    some = [replace(clip, alpha=None) for clip in clips()]
    if name in ("psnr_foreground", "mask_iou"):
        with pytest.raises(NotAvailable, match="needs alpha"):
            result(name, some)
    else:
        assert result(name, some).count == 18


@pytest.mark.parametrize("name", CHANGES)
def test_changes_agree_with_their_formula(name):
    some, axis = clips(views=4), CHANGES[name]
    size = some[0].grid[axis]
    pairs = [(i, (i + 1) % size) for i in range(size - (axis == 1))]
    expected = []
    for clip in some:
        errors = (clip.prediction.double() - clip.truth.double()) / 255
        jumps = [errors.select(axis, b) - errors.select(axis, a) for a, b in pairs]
        expected.append(torch.stack([jump.square().mean(dim=(-3, -2, -1)).sqrt().mean() for jump in jumps]).mean())
    found = result(name, some)
    assert found.value == pytest.approx(float(np.mean(expected)), rel=1e-6)
    assert found.count == 3 * len(pairs) * (4 if axis == 1 else 3)


@pytest.mark.parametrize("name", CHANGES)
def test_changes_see_jumps_along_their_own_axis_alone(name):
    axis = CHANGES[name]
    some = [replace(clip, truth=rounded(0.5 * clip.truth)) for clip in clips(views=3)]
    still = (8 * torch.arange(16)).to(torch.uint8)
    assert result(name, predicting(lambda clip: clip.truth + still, some)).value == pytest.approx(0.0, abs=1e-6)

    def jump(clip: ScoredClip, axis: int) -> Tensor:
        moved = clip.truth.clone()
        moved.select(axis, 1).add_(60)
        return moved

    assert result(name, predicting(lambda clip: jump(clip, axis), some)).value > 0.1
    assert result(name, predicting(lambda clip: jump(clip, 1 - axis), some)).value == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", [*CHANGES, "dtssd_disco"])
def test_changes_need_two_frames_and_skip_padding(name):
    assert make(name).measure(clips(views=1, frames=1)[0]) == {}
    some, padded = clips(views=3), clips(views=3)
    for clip in padded:
        clip.valid[0, 0] = False
        clip.prediction[0, 0] = 0
    assert result(name, padded).value < 1.2 * result(name, some).value


def test_change_at_256_pixels_is_that_of_frames_of_256_pixels():
    some = clips(count=1, views=1, frames=4, size=256)
    changes = [torch.diff(frames.double(), dim=1) for frames in (some[0].prediction, some[0].truth)]
    expected = float((changes[0] - changes[1]).square().mean())
    found = result("dtssd_disco", some)
    assert found.value == pytest.approx(expected, rel=1e-12)
    assert found.count == 3


@pytest.mark.parametrize("name", [*METRICS, *CHANGES, "dtssd_disco"])
def test_little_is_kept_of_a_clip(name):
    kept = make(name).measure(clips(size=64)[0])
    assert 0 < sum(array.size for array in kept.values()) <= 6


def batch() -> ClipBatch:
    """Three clips of two views and three frames, with a photo."""
    images = torch.rand(3, 2, 3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    cameras = Cameras(
        world_to_camera=torch.eye(4).expand(3, 2, 3, 4, 4),
        intrinsics=torch.eye(3).expand(3, 2, 3, 3, 3),
        image_size=(16, 16),
    )
    names = ("clip0", "clip1", "clip2")
    return ClipBatch(
        cameras=cameras, clip_id=names, subject=names, frames=images, reference=Reference(frames=images[:, 0, :1])
    )


class Back(Alignment):
    """Moves every picture of clip i back by the i pixels by which it is moved to the right."""

    def offsets(self, batch: ClipBatch) -> Tensor:
        right = -torch.arange(len(batch.clip_id))[:, None, None].expand(batch.grid)
        return torch.stack([right, torch.zeros_like(right)], dim=-1)

    def reference_offsets(self, batch: ClipBatch) -> Tensor:
        return self.offsets(batch)[:, :1, 0]


def test_baselines_see_people_where_the_arms_see_them():
    """Pictures that are the same but for where they stand have a perfect mean, once they are moved as an arm's are."""
    same, white = batch(), (1.0, 1.0, 1.0)
    picture = torch.ones(3, 16, 16)
    picture[:, 4:12, 4:10] = same.frames[0, 0, 0, :, 4:12, 4:10]
    frames = torch.stack([picture.roll(i, dims=-1) for i in range(3)])[:, None, None].expand(-1, 2, 3, -1, -1, -1)
    clips = replace(same, frames=frames, reference=Reference(frames=frames[:, 0, :1]))
    aligned, plain = MeanImage(), MeanImage()
    aligned.add(as_seen(clips, Back(), white))
    plain.add(clips)

    def error(predict) -> float:
        return float((predict(clips) - frames).square().mean())

    for per_view in (False, True):
        moved = in_place(lambda b, v=per_view: aligned.predict(b, per_view=v), Back(), white)
        assert error(moved) < 1e-12 < error(lambda b, v=per_view: plain.predict(b, per_view=v))
    assert error(in_place(copy_reference, Back(), white)) < 1e-12


def test_copy_reference_repeats_the_photo():
    some = batch()
    frames = copy_reference(some)
    assert frames.shape == some.frames.shape
    assert torch.equal(frames[1, 1, 2], some.reference.frames[1, 0])


def test_mean_images_are_means_and_skip_padding():
    some = batch()
    valid = torch.ones(some.grid, dtype=torch.bool)
    valid[0, 0, 0] = False
    mean = MeanImage()
    for clip in range(3):
        mean.add(replace(some, valid=valid).clips(slice(clip, clip + 1)))
    torch.testing.assert_close(mean.mean(per_view=False)[0], some.frames[valid].mean(dim=0))
    torch.testing.assert_close(mean.mean(per_view=True)[0], some.frames[:, 0][valid[:, 0]].mean(dim=0))
    for per_view in (False, True):
        assert mean.predict(some, per_view=per_view).shape == some.frames.shape
    torch.testing.assert_close(mean.predict(some, per_view=True)[2, 1, 1], mean.mean(per_view=True)[1])
    with pytest.raises(ValueError, match="no training frame"):
        MeanImage().mean(per_view=False)
