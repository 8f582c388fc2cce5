"""Costs that experiments/methods names are those of its arms, within 10 %."""

from functools import cache

import pytest

from hvg.config.composition import compose
from hvg.config.settings import RunConfig
from hvg.config.stages import stages_of
from hvg.core.required import required
from hvg.core.shipped import studies
from hvg.cost.forecast import count
from hvg.cost.passes import sampling_passes
from hvg.study.study_file import load_study

STUDY = load_study(studies()["methods"])
TRAINING, SAMPLING = (
    {arm: x for line in curves.lines.values() for x, arm in line.items()} for curves in STUDY.curves or ()
)


@cache
def config(words: tuple[str, ...]) -> RunConfig:
    """An arm's, or a need's, without the checkpoints of what it waits for."""
    own = [word for word in words if not word.startswith("checkpoint=")]
    return compose([*STUDY.base, *(word.replace("${needs.nerf}", "given") for word in own)])


@cache
def training(words: tuple[str, ...]) -> float:
    """TFLOP of the training of these words, all stages, and of what it waits for."""
    stages = [stage.config for stage in stages_of(config(words))]
    here = sum(required(count(own).flops, "the count of a step").model * own.training.steps / 1e12 for own in stages)
    return here + sum(
        training(need) for name, need in STUDY.needs.items() if any(f"needs.{name}}}" in w for w in words)
    )


@pytest.mark.long
@pytest.mark.parametrize("arm", sorted(TRAINING))
def test_training_takes_what_the_study_says(arm):
    assert training(STUDY.arms[arm]) == pytest.approx(TRAINING[arm], rel=0.1)


@pytest.mark.long
@pytest.mark.parametrize("arm", sorted(SAMPLING))
def test_a_sample_takes_what_the_study_says(arm):
    assert sampling_passes(config(STUDY.arms[arm]), 4, 4).all == pytest.approx(SAMPLING[arm], rel=0.01)


def test_every_arm_has_its_costs():
    assert {*SAMPLING} == {*STUDY.arms}
    assert {*TRAINING} == {arm for arm in STUDY.arms if not arm.endswith("_unguided")}


def test_all_are_scored_on_the_same_views():
    """Of those who are given some, none that is scored; and those who are given none make the others' all the same."""
    arms = {arm: config(words) for arm, words in STUDY.arms.items()}
    given = {arm: own.evaluation.known_views for arm, own in arms.items() if own.evaluation.known_views}
    assert given == {
        **dict.fromkeys(("diffuman4d", "diffuman4d_unguided"), (0, 2)),
        **dict.fromkeys(("sv4d", "sv4d_unguided"), (0,)),
    }
    assert {own.evaluation.unscored_views for own in arms.values()} == {(0, 2)}


def test_all_train_on_the_same_people_before_the_same_cameras():
    """But for who drives them, a second photo, and the first stages of 3DiMo."""
    apart = {"split", "driving", "hand_size", "face_size", "photos"}
    found = [
        {k: v for k, v in config(words).dataset.resolved().items() if k not in apart} for words in STUDY.arms.values()
    ]
    assert all(own == found[0] for own in found)
    assert (found[0]["views"], found[0]["frames"]) == (4, 4)
