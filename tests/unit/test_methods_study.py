"""Costs that experiments/methods names are those of its arms, within 10 %."""

from functools import cache

import pytest

from hvg.config.composition import compose
from hvg.config.settings import RunConfig
from hvg.core.required import required
from hvg.core.shipped import studies
from hvg.cost.forecast import count
from hvg.cost.passes import sampling_passes
from hvg.study.study_file import load_study

STUDY = load_study(studies()["methods"])
TRAINING, SAMPLING = (
    {arm: x for line in curves.lines.values() for x, arm in line.items()} for curves in STUDY.curves or ()
)


def config(words: tuple[str, ...]) -> RunConfig:
    """An arm's, or a need's, without the checkpoints of what it waits for."""
    own = [word for word in words if not word.startswith("checkpoint=")]
    return compose([*STUDY.base, *(word.replace("${needs.nerf}", "given") for word in own)])


@cache
def training(words: tuple[str, ...]) -> float:
    """TFLOP of the training of these words, and of what it waits for."""
    own = config(words)
    here = required(count(own).flops, "the count of a step").model * own.training.steps / 1e12
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
    assert sampling_passes(config(STUDY.arms[arm]), 4, 4) == pytest.approx(SAMPLING[arm], rel=0.01)


def test_every_arm_has_its_costs():
    assert {*SAMPLING} == {*STUDY.arms}
    assert {*TRAINING} == {arm for arm in STUDY.arms if not arm.endswith("_unguided")}
