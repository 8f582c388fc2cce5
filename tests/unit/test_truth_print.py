"""True frames are known again in a record: by every bit, and where a program rounded otherwise."""

from dataclasses import replace

import pytest
import torch

from hvg.testing.scene import tiny_scored_clips
from hvg.values.scored_clip import ScoredClip
from hvg.values.truth_print import SKETCH, is_same_truth, print_of

FRAMES = torch.randint(256, (2, 3, 3, 32, 32), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
VALID = torch.ones(2, 3, dtype=torch.bool)


def record(frames: torch.Tensor, valid: torch.Tensor = VALID) -> dict:
    return print_of(frames.shape, valid, [frames]).record()


def brighter(levels: int, count: int) -> torch.Tensor:
    """The frames with ``count`` values, spread over all of them, some levels away."""
    changed = FRAMES.flatten().clone()
    some = torch.linspace(0, changed.numel() - 1, count).long()
    changed[some] = torch.where(changed[some] > 127, changed[some] - levels, changed[some] + levels)
    return changed.view_as(FRAMES)


def test_predictions_have_no_part_in_it_and_size_values_and_valid_frames_have():
    clip = ScoredClip(clip_id="clip", subject="clip", prediction=FRAMES, truth=FRAMES, valid=VALID)
    assert clip.truth_print == replace(clip, prediction=255 - FRAMES).truth_print
    fewer = replace(clip, truth=FRAMES[:, :1], prediction=FRAMES[:, :1], valid=VALID[:, :1])
    padded = replace(clip, valid=torch.tensor([[True, True, False]] * 2))
    others = [x.truth_print.digest for x in (replace(clip, truth=brighter(1, 1)), fewer, padded)]
    assert len({clip.truth_print.digest, *others}) == 4


def test_digest_and_sketch_are_those_of_earlier_versions_and_other_machines():
    """The digest to the last bit; of the sketch a sum, which machines round in their own ways."""
    assert record(FRAMES)["truth"] == "91af30625989d9e8"
    known = [23.2535, 32.5932, -52.2449, -15.8289, 42.8021, -99.1054, -60.8333, 35.893]
    assert record(FRAMES)["truth_sketch"] == pytest.approx(known, abs=1e-3)


def test_frames_that_come_some_at_a_time_have_the_same_print():
    flat = FRAMES.flatten(0, 1)
    assert print_of(FRAMES.shape, VALID, [flat[:4], flat[4:]]) == print_of(FRAMES.shape, VALID, [FRAMES])


@pytest.mark.parametrize(
    ("frames", "same"),
    [
        (brighter(1, 3), True),
        # One of four rays of a pixel on the other side of a black edge on white, in one frame of six.
        (brighter(31, 1), True),
        # Half of the values a level away, as compression leaves them; and one of another colour in every frame.
        (brighter(1, FRAMES.numel() // 2), False),
        (brighter(100, 6), False),
        (FRAMES.flip(0), False),
        (FRAMES.flip(1), False),
        (255 - FRAMES, False),
    ],
)
def test_frames_are_the_same_but_for_rounding(frames, same):
    ours, theirs = record(FRAMES), record(frames)
    assert ours["truth"] != theirs["truth"]
    assert is_same_truth(ours, theirs) is is_same_truth(theirs, ours) is same


def test_frames_of_which_others_are_valid_are_not_the_same():
    padded = torch.tensor([[True, True, True], [True, True, False]])
    assert not is_same_truth(record(FRAMES), record(FRAMES, padded))


def test_the_sketch_tells_how_far_frames_are_apart():
    """Averaged over clips, for one estimate is right but for a half."""
    ratios = []
    for seed in range(40):
        random = torch.Generator().manual_seed(seed)
        a, b = (torch.randint(256, (1, 2, 3, 8, 8), generator=random, dtype=torch.uint8) for _ in range(2))
        sketches = [torch.tensor(print_of(x.shape, torch.ones(1, 2, dtype=torch.bool), [x]).sketch) for x in (a, b)]
        true = (a.float() - b.float()).square().mean()
        ratios.append(float((sketches[0] - sketches[1]).square().mean() / true))
    assert len(sketches[0]) == SKETCH and abs(sum(ratios) / len(ratios) - 1) < 0.2


def test_records_that_do_not_say_all_are_compared_by_what_they_say():
    ours, theirs = record(FRAMES), record(brighter(1, 3))
    bare = {"truth": theirs["truth"]}
    assert is_same_truth(ours, {}) and is_same_truth({}, {}) and is_same_truth(bare, theirs)
    assert not is_same_truth(ours, bare) and not is_same_truth(bare, ours)


def test_clips_of_other_people_have_other_prints():
    prints = [clip.truth_print for clip in tiny_scored_clips()]
    assert len({x.digest for x in prints}) == len(prints)
