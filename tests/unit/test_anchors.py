"""What simple pictures score: they are what they say, cost no network a second look, and stand beside no arm."""

from dataclasses import replace

import pytest
import torch
from test_set_statistics import ColourDistance

from hvg.config.composition import compose
from hvg.config.sections import ProtocolConfig
from hvg.config.settings import PartChoice
from hvg.core.eight_bit import frames_to_uint8
from hvg.parts import registry
from hvg.parts.context import Context
from hvg.parts.network_files import NetworkFiles
from hvg.score.anchors import ANCHORS, anchor_values, blurred, chosen, measure_anchors
from hvg.score.baselines import copy_reference
from hvg.score.evaluation import make_record, table_lines
from hvg.score.evaluation_record import ClipRecord
from hvg.score.measured_clips import finished, measure_clip
from hvg.score.protocol import Protocol, build_protocol
from hvg.testing import tiny_batch, tiny_scored_clips
from hvg.values.scored_clip import ScoredClip

CONFIG = compose(["protocol=basic"])


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    return build_protocol(CONFIG, torch.device("cpu"))


def described(clip: ScoredClip) -> ClipRecord:
    return ClipRecord(clip_id=clip.clip_id, subject=clip.subject, azimuths=None)


def test_every_anchor_is_what_it_says():
    clip = tiny_scored_clips()[0]
    made = {name: anchor.make(clip) for name, anchor in ANCHORS.items()}
    assert all(frames.shape == clip.truth.shape and frames.dtype == torch.uint8 for frames in made.values())
    assert made["truth"] is clip.truth
    assert bool((made["blank"] == 255).all()), "people stand on white"
    # Grey means are kept, and what differs from a pixel to the next is not.
    assert made["blurred_truth"].float().mean() == pytest.approx(clip.truth.float().mean(), abs=2)
    steps = [frames.float().diff(dim=-1).abs().mean() for frames in (made["blurred_truth"], clip.truth)]
    assert steps[0] < 0.8 * steps[1]


def test_the_photo_is_copied_as_the_baseline_copies_it():
    batch = tiny_batch(1, 2, 3, 16)
    clip = replace(tiny_scored_clips(1, 2, 3, 16)[0], reference=batch.reference)
    assert torch.equal(ANCHORS["photo"].make(clip), frames_to_uint8(copy_reference(batch))[0])


def test_a_blank_video_has_the_colour_of_what_is_valid():
    clip = tiny_scored_clips()[0]
    valid = torch.zeros_like(clip.valid)
    valid[:, 1] = True
    truth = clip.truth.clone()
    truth[:, 1] = torch.tensor([10, 20, 30], dtype=torch.uint8)[:, None, None]
    blank = ANCHORS["blank"].make(replace(clip, truth=truth, valid=valid))
    assert blank[0, 0, :, 0, 0].tolist() == [10, 20, 30]
    nothing = ANCHORS["blank"].make(replace(clip, valid=torch.zeros_like(valid)))
    assert bool((nothing == 255).all())


def test_a_blur_is_a_gaussian():
    """Of a point: variances add, and no light is lost."""
    frames = torch.zeros(1, 1, 3, 65, 65, dtype=torch.uint8)
    frames[..., 27:38, 27:38] = 255
    profile = blurred(frames, 4.0)[0, 0, 0].double().sum(dim=0)
    place = torch.arange(65) - 32
    variance = (profile * place**2).sum() / profile.sum()
    assert variance == pytest.approx((11**2 - 1) / 12 + 4.0**2, rel=0.02)
    assert profile.sum() == pytest.approx(255 * 121, rel=0.01)


def test_the_truths_own_score_stands_beside_the_result(protocol):
    clips = tiny_scored_clips()
    found = finished(
        protocol, {i: measure_clip(protocol, clip, described(clip), chosen("all")) for i, clip in enumerate(clips)}
    )
    assert list(found.anchors) == list(ANCHORS)
    truth, blank = found.anchors["truth"], found.anchors["blank"]
    assert list(truth) == list(found.values)
    assert (truth["psnr"], truth["ssim"], truth["mask_iou"]) == pytest.approx((100, 1, 1))
    assert blank["mask_iou"] == 0 and blank["psnr"] < found.values["psnr"]["value"]
    record = make_record(found, CONFIG.protocol, "mine", None, None)
    assert record["anchors"] == found.anchors
    line = next(line for line in table_lines(record) if line.startswith("mask_iou"))
    assert "the truth itself 1" in line and "a blank video 0" in line
    plain = finished(protocol, {0: measure_clip(protocol, clips[0], described(clips[0]), chosen("none"))})
    assert "anchors" not in make_record(plain, CONFIG.protocol, "mine", None, None)


def test_what_a_clip_does_not_allow_is_left_out(protocol):
    clips = [replace(clip, reference=None) for clip in tiny_scored_clips(2)]
    kept = {clip.clip_id: measure_anchors(protocol, clip, chosen("all")) for clip in clips}
    assert list(anchor_values(protocol, kept)) == ["truth", "blurred_truth", "blank"]
    assert anchor_values(protocol, {}) == {}


@pytest.mark.parametrize("mask", ["none", "truth"])
def test_a_network_looks_once_at_a_truth_that_is_its_own_prediction(tmp_path, mask):
    choice = PartChoice("metric", "colour", ColourDistance, ColourDistance.Config())
    metric, looks = ColourDistance(choice.config, Context(networks=NetworkFiles(tmp_path))), []
    features = metric.features
    metric.features = lambda frames: looks.append(len(frames)) or features(frames)
    protocol = Protocol(ProtocolConfig(name="mine", mask=mask, metrics={"colour": choice}), {"colour": metric}, {})
    clip = tiny_scored_clips(1)[0]
    kept = measure_anchors(protocol, clip, ["truth"])
    assert sum(looks) == clip.truth[:, :, 0, 0, 0].numel()
    assert anchor_values(protocol, {clip.clip_id: kept})["truth"]["colour"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", ["identity_colour", "identity_clip"])
def test_what_a_copy_of_the_photo_wins_carries_no_verdict(name):
    part = registry.load("metric", name)
    assert part.judges(part.Config(against="truth"))
    assert not part.judges(part.Config(against="reference"))
    settings = ProtocolConfig(
        name="mine", metrics={"same": PartChoice("metric", name, part, part.Config(against="reference"))}
    )
    values = Protocol(settings, {}, {"same": "not here"}).reduce({"clip": {}})
    assert values["same"]["verdict"] is False
