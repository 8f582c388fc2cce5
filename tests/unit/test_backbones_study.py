"""Arms of experiments/backbones are as equal as they say: weights, and arithmetic of a training step, within 10 %."""

from functools import cache

import pytest

from hvg.config.composition import compose
from hvg.core.required import required
from hvg.core.shipped import studies
from hvg.cost.forecast import Counts, count
from hvg.study.study_file import load_study

STUDY = load_study(studies()["backbones"])


@cache
def counts(arm: str) -> Counts:
    return count(compose([*STUDY.base, *STUDY.arms[arm]]))


def weights(arm: str) -> int:
    return sum(part.trainable for part in counts(arm).parts.values())


def flops(arm: str) -> int:
    return required(counts(arm).flops, "the count of a step").model


@pytest.mark.long
@pytest.mark.parametrize("pose", ["", "_none"])
def test_arms_have_as_many_weights_or_as_much_arithmetic_as_the_unet(pose):
    assert weights(f"dit_weights{pose}") == pytest.approx(weights(f"unet{pose}"), rel=0.1)
    assert flops(f"dit_flops{pose}") == pytest.approx(flops(f"unet{pose}"), rel=0.1)


@pytest.mark.long
def test_arms_of_a_backbone_differ_by_the_pose_alone():
    for arm in ("unet", "dit_weights", "dit_flops"):
        told, alone = (dict(counts(name).parts) for name in (arm, f"{arm}_none"))
        assert told.pop("pose").trainable > alone.pop("pose").trainable == 0
        assert told == alone
