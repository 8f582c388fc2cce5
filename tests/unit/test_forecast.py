"""What a training step will cost: against formulas, against a real step, and without allocating anything."""

import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal

import pytest
import torch
from pydantic import Field
from torch import nn

from hvg import cli
from hvg.commands.check import check_command
from hvg.config import build, checks
from hvg.config.command_options import CheckOptions
from hvg.config.composition import compose, parse_resolved
from hvg.config.settings import PartChoice
from hvg.config.strategy_section import StrategyConfig
from hvg.core.errors import HvgError
from hvg.cost.forecast import Forecast, alternatives, forecast, rank_count
from hvg.cost.table import advice, fits, flops, gigabytes, memory_table, parts_table, traffic_line, verdict
from hvg.model.counted_step import Flops, count_step, model_flops
from hvg.model.fake_step import fake_networks, fake_request
from hvg.model.load import make_optimizer
from hvg.parts import registry
from hvg.parts.context import Context
from hvg.parts.model import Conditioner, ConditionerConfig
from hvg.parts.part import PartConfig
from hvg.parts.scene import Dataset
from hvg.train.shares import WeightSizes, share, traffic
from hvg.values.conditioning import Conditioning, ConditioningSpec

ROOT = Path(__file__).resolve().parents[2]
TWO_LEVELS = ("scale=cpu", "dataset.image_size=32", "data.batch_size=1", "data.frames=2", "training.precision='32'")
# What is counted takes as long as there are layers, whatever their size.
TINY = (*TWO_LEVELS, "backbone.widths=[64]", "backbone.heads=[2]", "backbone.attention=[true]")
# One transformer down, one in the middle, two up, at 32 pixels / 4.
SITES, CELLS, WIDTH = 4, 8 * 8, 64


def tiny(*overrides: str) -> Forecast:
    return forecast_of(compose([*TINY, *overrides]).to_yaml())


@cache
def forecast_of(config: str) -> Forecast:
    return forecast(parse_resolved(config, ""))


def real(config):
    """The networks with weights, and what they are called with."""
    shape = (config.data.batch_size, config.data.views, config.data.frames, *2 * (config.dataset.config.image_size,))
    codec = config.codec.cls(config.codec.config)
    return *build.build_networks(config, codec), fake_request(config, shape)


@pytest.fixture(scope="module")
def default():
    return compose(TINY)


@pytest.fixture(scope="module")
def predicted():
    return tiny()


@pytest.fixture(scope="module")
def with_a_convolution(default):
    pose = PartChoice("conditioner", "one_convolution", OneConvolution, ConditionerConfig())
    return forecast(default.model_copy(update={"pose": pose})).counts.parts["pose"]


# --- arithmetic ---


@pytest.mark.parametrize(
    ("override", "group"),
    [
        ("view_attention.group=pixel", lambda views: views),
        ("view_attention.group=row", lambda views: 8 * views),
        ("view_attention=full_3d", lambda views: CELLS * views),
    ],
)
@pytest.mark.parametrize("views", [2, 4])
def test_view_attention_is_counted_by_formula(override, group, views):
    """Per token four W x W projections, and two products over its group of g; 2 per multiply-add, three passes."""
    part = tiny(override, f"data.views={views}").counts.parts["view_attention"]
    tokens, frames = views * CELLS, 2
    forward = 2 * tokens * 4 * WIDTH**2 + 2 * tokens * 2 * group(views) * WIDTH
    assert part.flops == Flops(3 * SITES * frames * forward, 0)


def test_parts_that_look_at_the_grid_are_counted_by_formula():
    """On fake tensors too: ``neighbours`` over its own view and two more, ``epipolar`` over all, and its mask."""
    projections, views = 2 * 4 * CELLS * 4 * WIDTH**2, 4
    counts = {
        "neighbours": projections + 2 * views * CELLS * 2 * (3 * CELLS) * WIDTH,
        "epipolar": projections
        + 2 * views * CELLS * 2 * (views * CELLS) * WIDTH
        + 2 * (3 * (views * CELLS) ** 2 + 9 * views * CELLS * views + 90 * views**2),
    }
    for name, forward in counts.items():
        part = tiny(f"view_attention={name}", "data.views=4").counts.parts["view_attention"]
        assert part.flops == Flops(3 * SITES * 2 * forward, 0)


@pytest.mark.long
def test_twice_the_views_are_twice_the_projections_and_four_times_the_products():
    projections = 3 * SITES * 2 * 2 * CELLS * 4 * WIDTH**2  # of one view
    for override in ("view_attention=aligned_2d", "view_attention=full_3d"):
        two, four = (
            tiny(override, f"data.views={views}").counts.parts["view_attention"].flops.model for views in (2, 4)
        )
        assert four - 4 * projections == 4 * (two - 2 * projections)


def test_repeating_the_forward_pass_costs_another_one(predicted):
    repeated = tiny("backbone.checkpointing=blocks")
    before, after = (x.counts.parts["view_attention"].flops for x in (predicted, repeated))
    assert 3 * after.total == 4 * before.total
    before, after = (x.counts.parts["backbone"].flops for x in (predicted, repeated))
    assert 1.2 < after.total / before.total < 4 / 3
    assert repeated.counts.step.saved < predicted.counts.step.saved / 2


def test_model_flops_leave_out_what_is_repeated(default, predicted):
    repeated = compose([*TINY, "backbone.checkpointing=blocks"])
    assert tiny("backbone.checkpointing=blocks").counts.flops.repeated > 0 == predicted.counts.flops.repeated
    once = model_flops(default, (default.data.views, default.data.frames))
    assert once == predicted.counts.flops.model == model_flops(repeated, (default.data.views, default.data.frames))
    # Everything but cross-view attention grows with the number of frames.
    assert model_flops(default, (default.data.views, 2 * default.data.frames)) == pytest.approx(2 * once, rel=0.01)


PROVIDED = (
    *("frames", "alpha", "cameras", "body", "body.vertices", "reference", "task", "valid", "frame_index"),
    *("clip_id", "subject", "caption", "driving"),
)


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


class HasALoss(OneConvolution):
    """The linear layer is trained by a loss of the part's own, too."""

    def forward(self, signal, batch):
        filled = super().forward(signal, batch)
        return replace(filled, losses={"own": self.linear(torch.ones(len(signal), 7)).mean(dim=1)})


class ReadsEverything(OneConvolution):
    """Its forward pass reads every field that a dataset may provide, the mesh too."""

    requires = frozenset(PROVIDED)

    @classmethod
    def has_signal(cls):
        return False

    def forward(self, signal, batch):
        assert not set(PROVIDED) - batch.present()
        told = torch.tensor([float(len(text)) for text in batch.caption])
        values = [batch.body.vertices, batch.body.joints, batch.body.parameters["rotations"], batch.driving]
        values += [batch.reference.body.joints, batch.reference.alpha, batch.valid, batch.task, batch.frame_index]
        told = told + sum(x.float().reshape(len(x), -1).mean(1) for x in values)
        cells = self.linear(told[:, None].expand(-1, 7))[:, None, None, :, None, None]
        return Conditioning(residuals={"stem": cells.expand(*batch.grid, 64, 8, 8)})


class ProvidesEverything(Dataset):
    """Clips with captions and a driving video."""

    class Config(PartConfig):
        split: Literal["train", "val", "test"] = Field("train", description="Which clips.")
        image_size: int = Field(32, description="Side of the pictures.")

    @classmethod
    def provides(cls, config):
        return frozenset(PROVIDED)


def test_what_a_dataset_provides_is_there_for_the_parts_that_read_it(default):
    """Captions, bodies with their mesh, driving videos; and nothing that the dataset lacks."""
    choices = {
        "dataset": PartChoice("dataset", "everything", ProvidesEverything, ProvidesEverything.Config()),
        "pose": PartChoice("conditioner", "reads", ReadsEverything, ConditionerConfig()),
    }
    config = default.model_copy(update=choices)
    assert not checks.check(config)
    with fake_networks(config) as networks:
        batch = fake_request(config, (1, 2, 2, 32, 32)).batch
        assert networks.conditioners["pose"](None, batch).residuals["stem"].shape == (1, 2, 2, 64, 8, 8)
    lean = fake_request(default, (1, 2, 2, 32, 32)).batch
    assert lean.caption == ("a person",) and lean.driving is None
    # A map that is drawn ahead has left the mesh behind, as it does in training.
    assert lean.body is not None and lean.body.vertices is None


def test_on_fake_tensors_nothing_is_compiled(default):
    """What was compiled there served training, too: steps after the count had other bits than those of a resumed run."""

    def refuse(*_):
        raise NotImplementedError("no compiler")

    compiled = torch.compile(lambda x: x + 1, backend=refuse)
    with fake_networks(default):
        assert compiled(torch.ones(2)).shape == (2,)
    with pytest.raises(Exception, match="no compiler"):
        compiled(torch.ones(2))


def test_a_convolution_and_a_linear_layer_are_counted_by_formula(with_a_convolution):
    part = with_a_convolution
    cells = 2 * 2 * 8 * 8  # views, frames, cells
    convolution, linear = 2 * cells * 9 * 5 * 7, 2 * cells * 7 * 64
    # The map needs no gradient: for the convolution the backward pass is that of the weights alone.
    assert part.flops == Flops(2 * convolution + 3 * linear, 0)
    assert (part.trainable, part.frozen) == (5 * 7 * 9 + 7 + 7 * 64 + 64, 0)


def test_the_loss_of_a_part_is_counted(default, with_a_convolution):
    pose = PartChoice("conditioner", "has_a_loss", HasALoss, ConditionerConfig())
    own = forecast(default.model_copy(update={"pose": pose})).counts.parts["pose"].flops
    # Of one row of ones, which need no gradient: forward pass, and the weights' part of the backward pass.
    assert own.model - with_a_convolution.flops.model == 2 * (2 * 7 * 64)


def test_a_real_step_costs_what_was_forecast(default, predicted):
    counted, _ = count_step(*real(default))
    assert counted == {name: part.flops for name, part in predicted.counts.parts.items()}
    assert predicted.counts.flops.total == sum(flops.total for flops in counted.values())


@pytest.mark.long
def test_a_reference_net_is_counted_and_lengthens_the_keys(predicted):
    with_net = tiny("reference_keys=reference_net")
    without = tiny("reference_keys=none")
    assert with_net.counts.parts["reference_keys"].flops.total > 0.03 * predicted.counts.parts["backbone"].flops.total
    assert with_net.counts.parts["backbone"].flops.total > without.counts.parts["backbone"].flops.total
    frozen = tiny("reference_keys=reference_net", "reference_keys.trainable=false").counts.parts["reference_keys"]
    assert (frozen.trainable, frozen.frozen) == (0, with_net.counts.parts["reference_keys"].trainable)
    assert frozen.flops.total < with_net.counts.parts["reference_keys"].flops.total / 2


@pytest.mark.long
def test_a_reference_net_that_is_computed_again_saves_less():
    kept, repeated = (
        tiny("reference_keys=reference_net", f"reference_keys.checkpointing={choice}") for choice in ("none", "blocks")
    )
    without = tiny("reference_keys=none")
    assert without.counts.step.saved < repeated.counts.step.saved < kept.counts.step.saved


# --- memory ---


@pytest.mark.parametrize("override", ["backbone.checkpointing=none", "backbone.checkpointing=blocks"])
def test_a_real_step_saves_what_was_forecast(override):
    config = compose([*TWO_LEVELS, override])
    expected, (_, real_step) = forecast(config).counts.step, count_step(*real(config))
    assert real_step.saved == expected.saved
    assert real_step.peak == pytest.approx(expected.peak, rel=0.02)
    assert real_step.saved < real_step.activations <= real_step.peak


def test_weights_gradients_and_averages_take_what_was_forecast(default, predicted):
    def size(tensors) -> int:
        return sum(x.untyped_storage().nbytes() for x in tensors)

    backbone, conditioners, _ = real(default)
    networks = nn.ModuleList([backbone, *conditioners.values()])
    parameters, held = list(networks.parameters()), predicted.share
    assert size([*parameters, *networks.buffers()]) == held.weights
    optimizer, _ = make_optimizer(parameters, default)
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert size(p.grad for p in parameters) == held.gradients
    assert size(x for state in optimizer.state.values() for x in state.values()) == held.optimizer + held.average
    assert sum(part.trainable for part in predicted.counts.parts.values()) == sum(p.numel() for p in parameters)


@pytest.mark.long
def test_half_precision_saves_less():
    half, whole = (
        tiny("data.batch_size=16", f"training.precision='{name}'").counts.step.saved for name in ("bf16", "32")
    )
    assert half < 0.7 * whole


def test_accumulated_gradients_come_on_top_of_activations(predicted):
    accumulated = tiny("training.accumulate=2")
    step, gradients = predicted.counts.step, predicted.share.gradients
    assert accumulated.total - predicted.total == step.activations + gradients - step.peak > 0


@pytest.mark.long
def test_latents_from_the_disk_need_no_codec():
    """The VAE and CLIP of Stable Video Diffusion, 97.7 and 632 million weights, are counted without their files."""
    published = ("codec=svd_vae", "image_embedding=clip_image", "backbone.cross_attention_width=64")
    counts = tiny(*published).counts
    # CLIP's positions are a buffer of 257 whole numbers.
    assert counts.published == 4 * 97_742_847 + 4 * 632_076_800 + 8 * 257
    assert counts.encoding > 0
    cached = tiny(*published, "data.latents=cached", "data.cache=there", "data.recolour=0").counts
    assert (cached.published, cached.encoding) == (0, 0)
    assert cached.flops == counts.flops
    assert cached.step.activations < counts.step.activations


# --- several devices ---


@pytest.fixture(scope="module")
def sizes(predicted):
    return predicted.counts.sizes


@pytest.mark.parametrize(("name", "divided"), [("ddp", 1), ("zero1", 32), ("zero2", 32), ("zero3", 32)])
def test_the_optimizer_is_divided(sizes, name, divided):
    held = share(StrategyConfig(name=name), sizes, 32, 1)
    whole = 4 * sizes.elements
    assert held.average == pytest.approx(whole / divided, rel=0.02)
    assert held.optimizer == pytest.approx(2 * whole / divided, rel=0.02)
    assert held.weights == pytest.approx(whole / (32 if name == "zero3" else 1), rel=0.02)


def test_a_weight_at_the_border_of_two_parts_has_its_gradient_on_both():
    three = WeightSizes(trained=(6, 8, 2), half=(False, True, False), frozen=0)
    held = [share(StrategyConfig(name="zero2"), three, 2, 1, rank).gradients for rank in (0, 1)]
    assert held == [4 * (6 + 8), 4 * (8 + 2)]
    assert share(StrategyConfig(name="zero2"), three, 2, 1).gradients == max(held)
    assert three.exchanged() == {2: 8, 4: 8}


def test_offloading_moves_what_it_takes_off_the_gpu(sizes):
    for name in ("zero1", "zero2", "zero3"):
        here, there = (share(StrategyConfig(name=name, offload=x), sizes, 4, 1) for x in ("none", "optimizer"))
        assert (there.copies, there.optimizer, there.average) == (0, 0, 0)
        assert there.host > here.copies + here.optimizer + here.average
        assert here.host == 0


def test_what_is_sent_follows_the_ring():
    some = WeightSizes(trained=(1_000_000,), half=(True,), frozen=0)
    sent = {
        name: traffic(StrategyConfig(name=name), some, 4, 2, False).bytes for name in ("ddp", "zero1", "zero2", "zero3")
    }
    # 2 bytes of gradient and 4 of weight an element; zero3 gathers in 2. Two batches a step.
    millions = {"ddp": 2 * 4, "zero1": 2 * 2 + 4, "zero2": 2 * 2 * 2 + 4, "zero3": 2 * (2 * 2 + 2)}
    # And ddp a flag for the one weight, four bytes twice.
    assert sent == {name: 0.75 * (1e6 * count + (8 if name == "ddp" else 0)) for name, count in millions.items()}
    assert traffic(StrategyConfig(name="ddp"), some, 1, 1, False).bytes == 0


def test_ranks_are_nodes_times_devices():
    assert rank_count(StrategyConfig(name="ddp", nodes=4, devices=8)) == 32
    assert rank_count(StrategyConfig(name="ddp"), 3) == 3
    with pytest.raises(HvgError, match="strategy=single trains on one device, not on 8"):
        rank_count(StrategyConfig(name="single"), 8)


# --- what is shown ---


@pytest.mark.long
def test_the_paper_s_scale_is_forecast_without_allocating_it():
    """Stable Video Diffusion's UNet has 1.52 billion weights, 6 GB; of AdamW's 8 bytes each, a 32nd is on one of 32 devices."""
    code = (
        "import resource; from hvg.config.composition import compose; from hvg.cost.forecast import forecast\n"
        "cost = forecast(compose(['scale=paper', 'data.views=4']), 32)\n"
        "print(cost.total, cost.counts.parts['backbone'].trainable, cost.counts.sizes.elements, cost.share.optimizer)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    total, backbone, elements, optimizer, peak_kibibytes = map(int, result.stdout.split())
    assert backbone == 1_524_623_277
    assert optimizer == pytest.approx(8 * elements / 32, rel=1e-3)
    assert total > 15 * 10**9 and peak_kibibytes < 3 * 2**20


@pytest.mark.long
def test_what_does_not_fit_is_told_what_would():
    # With one clip the weights' gradients are the peak, which checkpointing leaves as it is.
    words = [*TINY, "data.batch_size=4"]
    config, fitting = compose(words), forecast(compose([*words, "backbone.checkpointing=blocks"])).total
    predicted = forecast(config)
    options = CheckOptions(memory=(fitting + 1) / 1e9)
    assert fits(predicted, options) is False and fits(predicted, CheckOptions()) is True
    assert verdict(predicted, options).endswith("over") and "does not fit" in verdict(predicted, options)
    assert verdict(predicted, CheckOptions(memory=1)).startswith("fits 1 GB")
    found = [line.partition(":")[0].strip() for line in advice(config, predicted, options)]
    assert found == ["backbone.checkpointing=blocks"]
    (line,) = advice(config, predicted, CheckOptions(memory=1e-6))
    assert "no single change" in line


@pytest.mark.long
def test_alternatives_divide_more_or_keep_less():
    config = compose(["scale=cpu", "strategy=zero1", "dataset.image_size=32", "training.validate_every=1"])
    words = [words for words, _ in alternatives(config, forecast(config, 4))]
    assert words == [
        "strategy=zero2",
        "strategy=zero3 training.validate_every=0",
        "strategy=fsdp training.validate_every=0",
        "strategy.offload=optimizer",
        "backbone.checkpointing=blocks",
        "data.batch_size=2 training.accumulate=2",
    ]


def test_check_says_with_its_exit_code_whether_a_run_fits(capsys):
    assert check_command([*TINY, "strategy=ddp", "devices=8", "nodes=4"]) == 0
    shown = capsys.readouterr().out
    assert "each of 32 GPU(s) under ddp" in shown and "fits 80 GB" in shown and "2 (N-1)/N" in shown
    assert shown.splitlines()[-1] == "No problems."
    assert check_command([*TINY, "memory=0.001"]) == 1
    shown = capsys.readouterr().out
    assert "does not fit 0.001 GB" in shown and "No problems" not in shown


def test_check_finds_no_problems_before_it_has_counted_all(capsys, monkeypatch):
    whole = registry.load("sampler", "single")
    windows = whole.windows
    monkeypatch.setattr(
        whole, "windows", lambda *given: [replace(x, views=x.views[1:], weights=x.weights[1:]) for x in windows(*given)]
    )
    assert cli.run(["check", *TINY]) == 1
    said = capsys.readouterr()
    assert "hvg check: the sampler's windows leave out (view, frame) [(0, 0)" in said.err
    assert "No problems" not in said.out


def test_every_conditioner_that_draws_a_map_says_how_many_channels_it_has():
    for name in registry.names("conditioner"):
        part = registry.load("conditioner", name)
        assert bool(part.signal_channels(part.Config())) == part.has_signal(), name


def test_numbers_are_shown_in_units(predicted):
    assert [flops(x and Flops(x, 0)) for x in (None, 15 * 10**5, 25 * 10**8, 12 * 10**12, 75 * 10**16)] == [
        "unknown",
        "0.0015 GFLOP",
        "2.5 GFLOP",
        "12 TFLOP",
        "750,000 TFLOP",
    ]
    assert gigabytes(3 * 10**9 // 2) == "1.5 GB"
    assert any(line.startswith("view_attention") for line in parts_table(predicted.counts))
    rows = memory_table(predicted, CheckOptions(memory=1), "single")
    assert any(line.startswith("activations") for line in rows) and not any("buckets" in line for line in rows)
    assert "sent by each GPU in a step: 0 GB" in traffic_line(predicted, CheckOptions())
