"""Costs that experiments/few_steps names, and compares arms at, are those of its arms."""

import re

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hvg.config.composition import compose
from hvg.core.shipped import studies
from hvg.cost.passes import sampling_passes
from hvg.model.load import build_video_model
from hvg.parts.backbone import DeepFeatures
from hvg.study.study_file import load_study
from hvg.testing import tiny_batch
from hvg.values.conditioning import Conditioning

STUDY = load_study(studies()["few_steps"])
# What the outer layers' part of the network's multiply-adds is, by ``backbone.shallow``.
SHARES = {None: 0.54, 0: 0.26}


def test_names_labels_and_charts_say_the_same_costs():
    for arm in STUDY.arms:
        said = looks(arm)
        places = [x for line in STUDY.curves[0].lines.values() for x, name in line.items() if name == arm]
        assert places == ([] if arm == "reference" else [said]), arm
        named = re.search(r"_(\d+)$", arm)
        assert named is None or said == pytest.approx(float(named[1]), rel=0.1)


def looks(arm):
    return float(re.search(r"([\d.]+) looks", STUDY.labels[arm])[1])


@pytest.mark.parametrize("arm", STUDY.arms)
def test_an_arm_costs_what_is_said_of_it(arm):
    words = {key: value for key, _, value in (word.partition("=") for word in STUDY.arms[arm])}
    if words["solver"] != "heun" and "evaluation.reuse" not in words:
        # A look a step.
        assert float(words["evaluation.steps"]) == looks(arm)
        return
    config = compose([*STUDY.base[:1], *STUDY.arms[arm]])
    passes = sampling_passes(config, config.dataset.config.views, config.dataset.config.frames)
    cost = passes.all - passes.outer * (1 - SHARES[config.backbone.config.shallow])
    assert looks(arm) == pytest.approx(cost, abs=0.051)


@pytest.mark.parametrize(("shallow", "share"), SHARES.items())
def test_the_outer_layers_cost_what_the_study_says(shallow, share):
    words = [] if shallow is None else [f"backbone.shallow={shallow}"]
    system = build_video_model(compose([*STUDY.base[:1], *words])).eval()
    batch, deep, counts = tiny_batch(1, 1, 2, size=64), DeepFeatures(), []
    side = 64 // system.codec.stride
    given = (torch.randn(1, 1, 2, system.codec.channels, side, side), torch.zeros(1, 1, 2))
    channels = Conditioning(
        channels=torch.zeros(1, 1, 2, system.backbone.conv_in.in_channels - given[0].shape[3], side, side)
    )
    for _ in range(2):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            system.backbone(*given, channels, None, batch.view_grid(), deep)
        counts.append(counter.get_total_flops())
    assert counts[1] / counts[0] == pytest.approx(share, abs=0.03)
