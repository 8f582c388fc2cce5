"""What a training step will cost: against formulas, against a real step, and without allocating anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from hvg import build, registry
from hvg.config import compose
from hvg.forecast import Forecast, count_flops, count_memory, fake_request, forecast
from hvg.listing import cost, flops, gibibytes
from hvg.protocols import Conditioner, ConditionerConfig, Context
from hvg.training import make_optimizer
from hvg.types import Conditioning, ConditioningSpec

ROOT = Path(__file__).resolve().parents[2]
TINY = ("scale=cpu", "dataset.image_size=32", "data.batch_size=1", "data.frames=2", "training.precision='32'")
# Level 1 of the tiny network: one transformer down, one in the middle, two up, at a quarter of 32 pixels / 4.
SITES, CELLS, WIDTH = 4, 4 * 4, 64


def tiny(*overrides: str) -> Forecast:
    return forecast(compose([*TINY, *overrides]))


def real(config):
    """The networks with weights, and what they are called with."""
    shape = (config.data.batch_size, config.data.views, config.data.frames, *2 * (config.dataset.config.image_size,))
    codec = config.codec.cls(config.codec.config)
    return *build.build_networks(config, codec), fake_request(config, shape)


@pytest.fixture(scope="module")
def default():
    return compose(TINY)


@pytest.fixture(scope="module")
def predicted(default):
    return forecast(default)


# --- arithmetic ---


@pytest.mark.parametrize(
    ("override", "group"),
    [
        ("view_attention.group=pixel", lambda views: views),
        ("view_attention.group=row", lambda views: 4 * views),
        ("view_attention=full_3d", lambda views: CELLS * views),
    ],
)
@pytest.mark.parametrize("views", [2, 4])
def test_view_attention_is_counted_by_formula(override, group, views):
    """Per token four W x W projections, and two products over its group of g; 2 per multiply-add, three passes."""
    part = tiny(override, f"data.views={views}").parts["view_attention"]
    tokens, frames = views * CELLS, 2
    forward = 2 * tokens * 4 * WIDTH**2 + 2 * tokens * 2 * group(views) * WIDTH
    assert part.flops == 3 * SITES * frames * forward


def test_twice_the_views_are_twice_the_projections_and_four_times_the_products():
    projections = 3 * SITES * 2 * 2 * CELLS * 4 * WIDTH**2  # of one view
    for override in ("view_attention=aligned_2d", "view_attention=full_3d"):
        two, four = (tiny(override, f"data.views={views}").parts["view_attention"].flops for views in (2, 4))
        assert four - 4 * projections == 4 * (two - 2 * projections)


def test_repeating_the_forward_pass_costs_another_one(predicted):
    repeated = tiny("backbone.checkpointing=blocks")
    assert 3 * repeated.parts["view_attention"].flops == 4 * predicted.parts["view_attention"].flops
    assert 1.2 < repeated.parts["backbone"].flops / predicted.parts["backbone"].flops < 4 / 3
    assert repeated.memory.saved < predicted.memory.saved / 2


class OneConvolution(Conditioner):
    """A 3x3 convolution of a map of 5 channels, then a linear layer over all cells."""

    Config = ConditionerConfig

    def __init__(self, config, context: Context) -> None:
        super().__init__(config, context)
        self.convolution, self.linear = nn.Conv2d(5, 7, 3, padding=1, stride=4), nn.Linear(7, 64)

    @classmethod
    def spec(cls, config, ports):
        return ConditioningSpec(residuals={"stem": 64})

    @classmethod
    def signal_channels(cls, config):
        return 5

    def signal(self, batch):
        raise AssertionError("a forecast draws nothing")

    def forward(self, signal, batch):
        cells = self.linear(self.convolution(signal.flatten(0, 2)).movedim(1, -1)).movedim(-1, 1)
        return Conditioning(residuals={"stem": cells.unflatten(0, signal.shape[:3])})


def test_a_convolution_and_a_linear_layer_are_counted_by_formula(default):
    pose = default.pose.__class__("conditioner", "one_convolution", OneConvolution, ConditionerConfig())
    part = forecast(default.model_copy(update={"pose": pose})).parts["pose"]
    cells = 2 * 2 * 8 * 8  # views, frames, cells
    convolution, linear = 2 * cells * 9 * 5 * 7, 2 * cells * 7 * 64
    # The map needs no gradient: for the convolution the backward pass is that of the weights alone.
    assert part.flops == 2 * convolution + 3 * linear
    assert (part.trainable, part.frozen) == (5 * 7 * 9 + 7 + 7 * 64 + 64, 0)


def test_a_real_step_costs_what_was_forecast(default, predicted):
    backbone, conditioners, request = real(default)
    counted = count_flops(backbone, conditioners, request)
    assert counted == {name: part.flops for name, part in predicted.parts.items()}
    assert predicted.flops == sum(counted.values())


def test_a_reference_net_is_counted_and_lengthens_the_keys(predicted):
    with_net = tiny("reference_keys=reference_net")
    without = tiny("reference_keys=none")
    assert with_net.parts["reference_keys"].flops > 0.03 * predicted.parts["backbone"].flops
    assert with_net.parts["backbone"].flops > without.parts["backbone"].flops
    frozen = tiny("reference_keys=reference_net", "reference_keys.trainable=false").parts["reference_keys"]
    assert (frozen.trainable, frozen.frozen) == (0, with_net.parts["reference_keys"].trainable)
    assert frozen.flops < with_net.parts["reference_keys"].flops / 2


# --- memory ---


@pytest.mark.parametrize("override", ["backbone.checkpointing=none", "backbone.checkpointing=blocks"])
def test_a_real_step_saves_what_was_forecast(override):
    config = compose([*TINY, override])
    memory = forecast(config).memory
    saved, peak = count_memory(*real(config))
    assert saved == memory.saved
    assert peak == pytest.approx(memory.peak, rel=0.02)
    assert saved < peak


def test_weights_gradients_and_averages_take_what_was_forecast(default, predicted):
    def size(tensors) -> int:
        return sum(x.untyped_storage().nbytes() for x in tensors)

    backbone, conditioners, _ = real(default)
    networks = nn.ModuleList([backbone, *conditioners.values()])
    parameters, memory = list(networks.parameters()), predicted.memory
    assert size([*parameters, *networks.buffers()]) == memory.weights
    optimizer, _ = make_optimizer(parameters, default)
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert size(p.grad for p in parameters) == memory.gradients
    assert size(x for state in optimizer.state.values() for x in state.values()) == memory.optimizer + memory.average
    assert sum(part.trainable for part in predicted.parts.values()) == sum(p.numel() for p in parameters)


def test_ddp_keeps_the_gradients_twice(predicted):
    assert predicted.memory.buckets == 0
    assert tiny("strategy=ddp").memory.buckets == predicted.memory.gradients


def test_half_precision_saves_less():
    half, whole = (tiny("data.batch_size=16", f"training.precision='{name}'").memory.saved for name in ("bf16", "32"))
    assert half < 0.7 * whole


# --- what is shown ---


def test_the_paper_s_scale_is_forecast_without_allocating_it():
    code = (
        "import resource; from hvg.config import compose; from hvg.forecast import forecast\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "cost = forecast(compose(['scale=paper', 'data.views=4']))\n"
        "print(cost.memory.total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    total, peak_kibibytes = map(int, result.stdout.split())
    assert total > 20 * 2**30 and peak_kibibytes < 2 * 2**20


def test_every_conditioner_that_draws_a_map_says_how_many_channels_it_has():
    for name in registry.names("conditioner"):
        part = registry.load("conditioner", name)
        assert bool(part.signal_channels(part.Config())) == part.has_signal(), name


def test_numbers_are_shown_in_units(predicted):
    assert [flops(x) for x in (None, 15 * 10**5, 25 * 10**8, 12 * 10**12, 75 * 10**16)] == [
        "unknown",
        "0.0015 GFLOP",
        "2.5 GFLOP",
        "12 TFLOP",
        "750,000 TFLOP",
    ]
    assert gibibytes(3 * 2**29) == "1.5 GiB"
    assert any(line.startswith("view_attention") for line in cost(predicted))
