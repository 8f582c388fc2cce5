"""hvg bench scale: times from stated speeds, where strategies stop and why, and the page."""

import json
import math
from dataclasses import replace

import pytest

from hvg import cli
from hvg.bench.scale import growth, measured, run
from hvg.bench.scale.links import Machine, StepTime, collectives, step_time
from hvg.bench.scale.ranks import RANKS, limit, memory_stops, over_ranks, strategies
from hvg.config.composition import compose
from hvg.core.errors import HvgError
from hvg.cost.forecast import count, divide
from hvg.train.shares import BUCKET, Rows, WeightSizes

# Slow GPUs, for a small network.
MACHINE = Machine(tflops=0.1, utilisation=0.5, memory=80.0, per_node=8, inside=400.0, between=50.0, latency=10.0)
SMALL = ["scale=cpu", "debug=tiny", "dataset.image_size=32", "backbone.widths=[32]", "backbone.heads=[1]"]
SMALL += ["backbone.attention=[true]", "reference_keys=none", "camera=none", "training.precision='32'"]


@pytest.fixture(scope="module")
def config():
    return compose(SMALL)


@pytest.fixture(scope="module")
def counts(config):
    return count(config)


def times(counts, config, strategy, machine=MACHINE, clips=64):
    return {x.ranks: x for x in over_ranks(counts, config, strategy, machine, clips)}


def test_a_step_takes_its_flops_at_the_stated_speed_and_its_bytes_at_the_slowest_link(counts, config):
    found = times(counts, config, "ddp")
    flops = counts.flops.total
    assert (
        found[1].growing.compute == pytest.approx(flops / (0.5 * 1e12 * MACHINE.tflops))
        and found[1].growing.communication == 0
    )
    for ranks, link in ((8, 400e9), (64, 50e9)):
        at = found[ranks]
        hops = 2 * math.log2(ranks) * 10e-6
        buckets = math.ceil(4 * counts.sizes.elements / (25 * 2**20))
        assert at.growing.communication == pytest.approx(at.forecast.traffic.bytes / link + buckets * hops)
        assert at.growing.compute == found[1].growing.compute
    assert found[64].fixed.compute == pytest.approx(found[1].growing.compute / config.data.batch_size)
    assert found[128].fixed is None


def test_what_the_backward_pass_hides_is_not_in_the_shortest_step():
    step = StepTime(compute=3.0, communication=1.5, backward=2.0)
    assert (step.exposed, step.least, step.most, step.efficiency) == (0.0, 3.0, 4.5, 1.0)
    late = StepTime(compute=3.0, communication=3.0, backward=2.0)
    assert (late.least, late.most, late.efficiency) == (4.0, 6.0, 0.75)


def test_strategies_that_divide_the_weights_send_more_often():
    rows = tuple(Rows(10, 10, True, block) for block in (0, 0, 1, None))
    sizes = WeightSizes(trained=(200_000,) * 10 + (100,) * 5, half=(False,) * 15, frozen=0, rows=rows)
    strategy = compose(SMALL).strategy

    def often(name: str, accumulate: int = 1, repeats: bool = False) -> int:
        return collectives(strategy.model_copy(update={"name": name}), sizes, accumulate, repeats)

    assert sizes.elements < BUCKET
    assert [often(name) for name in ("single", "ddp", "zero1", "zero2", "zero3")] == [0, 1, 2, 2, 21]
    # Two blocks, and what lies in none: gathered twice, reduced once.
    assert often("fsdp") == 9
    assert often("zero2", 3) == 4 and often("zero3", 1, repeats=True) == 31


def test_where_a_strategy_stops_is_where_communication_shows_and_the_reason_has_its_numbers(counts, config):
    slow = Machine(**{**vars(MACHINE), "between": 1e-3})
    found = over_ranks(counts, config, "ddp", slow, 64)
    told = limit("ddp", found, slow, 64)
    assert told.growing[0] == 8 and "on 16 GPUs communication takes" in told.growing[1]
    assert "0.001 GB/s between machines" in told.growing[1]
    fast = Machine(**{**vars(MACHINE), "tflops": 1e-3})
    free = limit("ddp", over_ranks(counts, config, "ddp", fast, 64), fast, 64)
    assert free.growing[0] == RANKS[-1] and free.growing[1].startswith("nothing up to there")
    assert free.fixed[0] == 64 and "64 clips feeds no more" in free.fixed[1]


def test_memory_shrinks_as_far_as_a_strategy_divides_it(counts, config):
    ddp, zero3 = (over_ranks(counts, config, name, MACHINE, 64) for name in ("ddp", "zero3"))
    assert memory_stops(ddp) == 2 or memory_stops(ddp) == 1
    assert ddp[-1].forecast.total == ddp[1].forecast.total
    assert zero3[-1].forecast.share.weights < zero3[0].forecast.share.weights / 1000
    tight = Machine(**{**vars(MACHINE), "memory": 1e-6})
    assert limit("ddp", ddp, tight, 64).fits is None and limit("ddp", ddp, MACHINE, 64).fits == 1


def test_every_strategy_of_several_gpus_is_looked_at(config):
    assert strategies(config)[:4] == ["ddp", "zero1", "zero2", "zero3"] and "single" not in strategies(config)


def test_axes_hold_the_base_and_grow(config):
    found = list(growth.words_along(SMALL, config))
    assert {axis for axis, _ in found} == set(growth.AXES)
    for axis in growth.AXES:
        configs = [compose(words) for name, words in found if name == axis]
        assert any(each.to_yaml() == config.to_yaml() for each in configs), axis
        assert len({each.to_yaml() for each in configs}) >= 2, axis


@pytest.mark.parametrize(
    ("width", "heads", "scale", "expected"),
    [(320, 5, 0.5, (128, 2)), (320, 5, 1.5, (512, 8)), (64, 2, 0.5, (32, 1)), (1536, 12, 1.5, (2304, 18))],
)
def test_wider_networks_have_whole_heads_as_wide(width, heads, scale, expected):
    assert growth._whole_heads(width, heads, scale) == expected


def test_a_data_set_whose_files_decide_its_sizes_is_refused(tmp_path):
    words = [*SMALL, "dataset=shards", f"dataset.folder={tmp_path}"]
    with pytest.raises(HvgError):
        list(growth.words_along(words, compose(words)))


def test_what_a_machine_can_run_is_the_same_method_small():
    words = [
        "experiment=hvg",
        "scale=paper",
        "view_attention=full_3d",
        "backbone=svd_xt",
        "data.views=8",
        "strategy=zero3",
    ]
    assert run.small_words(words) == ["experiment=hvg", "view_attention=full_3d", "scale=cpu", "device=cpu"]


@pytest.mark.long
def test_steps_and_ranks_are_as_counted(config, counts):
    point = growth.Point("views", 2, config, counts)
    (step,) = measured.measured_steps([point], repeat=0.0)
    assert step.seconds == pytest.approx(step.expected) and step.memory == pytest.approx(step.forecast, rel=0.1)
    (rank,) = measured.measured_ranks(config, ["ddp"], [2])
    assert rank.sent == pytest.approx(rank.sent_forecast, rel=0.01) and rank.peak == pytest.approx(
        rank.peak_forecast, rel=0.1
    )


@pytest.mark.long
def test_the_command_writes_a_page_with_charts(capsys, tmp_path):
    assert cli.run(["bench", "scale", *SMALL, "measure=none", f"out={tmp_path / 'scale'}"]) == 0
    said = capsys.readouterr().out
    record = json.loads((tmp_path / "scale" / run.JSON).read_text())
    for name in record["limits"]:
        assert f"{name}: fits from 1 GPUs" in said
        assert [row["ranks"] for row in record["ranks"][name]] == [*RANKS]
    page = (tmp_path / "scale" / run.PAGE).read_text(encoding="utf-8")
    assert "Where each strategy stops" in page and page.count('class="chart"') == 5 + 3 * len(growth.AXES)
    places = [row["place"] for row in record["growth"]["parameters"]["ddp"]]
    assert places == sorted(places) and len(places) == 3


def test_a_step_without_flops_is_said(counts, config):
    unknown = replace(counts, parts={name: replace(part, flops=None) for name, part in counts.parts.items()})
    with pytest.raises(ValueError, match="FLOPs"):
        step_time(divide(unknown, config, 1), config.strategy, MACHINE)
