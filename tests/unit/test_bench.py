"""Benchmarks: both sides of a ratio compute alike, in turns; rows beside what others take, and those that cannot be measured."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from hvg import cli
from hvg.bench import timing
from hvg.bench.drawing import bones_and_camera
from hvg.bench.peers import maps, metrics, training, unet
from hvg.bench.peers import run as peers
from hvg.bench.peers.row import How, Row, require_equal
from hvg.bench.sampling import a_test_clip, sampled
from hvg.bench.steps import WARM, steps_in_turns
from hvg.bench.timing import Ratio, Setting, Side, compare, one_setting, setting_now, watched
from hvg.commands.bench import BENCHMARKS, REPORTS
from hvg.config.composition import compose
from hvg.core.errors import HvgError
from hvg.geometry.ellipsoids import render
from hvg.parts import registry

ROOT = Path(__file__).resolve().parents[2]
QUICK = How(pairs=5, seconds=0)
SETTING = Setting(precision="float32", threads=1, device="cpu", deterministic=False, gradients=False)


# --- one setting ---


class Network(nn.Linear):
    """Something to watch."""


def sides(first=None, second=None):
    """Two sides on networks of one size, each within a context of its own where one is given."""

    def side(network, context):
        def run():
            with context() if context else torch.enable_grad():
                network(torch.ones(2, 4))

        return Side(run, Network)

    return side(Network(4, 4), first), side(Network(4, 4), second)


def test_sides_take_turns_and_the_setting_is_that_of_their_networks(monkeypatch):
    order: list[str] = []
    ticks = iter(range(1000))
    monkeypatch.setattr(timing, "clock_for", lambda setting: ("ticks", lambda: float(next(ticks))))
    network = Network(4, 4)

    def run(name: str) -> None:
        order.append(name)
        network(torch.ones(2, 4))

    found = compare("x", Side(lambda: run("a"), Network), Side(lambda: run("b"), Network), pairs=6, seconds=60)
    assert "".join(order) == "ab" + "abba" * 3
    assert (found.pairs, found.ratio, found.ours, found.clock) == (6, 1.0, 1.0, "ticks")
    assert found.setting == Setting(
        precision="float32", threads=1, device="cpu", deterministic=False, gradients=True, weights=20
    )


@pytest.mark.parametrize(
    ("context", "told"),
    [
        (lambda: torch.autocast("cpu", torch.bfloat16), "precision float32 and bf16 autocast"),
        (torch.no_grad, "gradients True and False"),
        (lambda: timing.threads(2), "threads 1 and 2"),
    ],
)
def test_sides_that_do_not_compute_alike_have_no_ratio(context, told):
    with pytest.raises(HvgError, match=f"^planted: the two sides do not have one setting: {told}$"):
        compare("planted", *sides(None, context), pairs=5, seconds=0)


def test_a_network_of_another_size_or_one_that_does_not_run_is_told():
    small, large = Network(4, 4), Network(4, 8)
    with pytest.raises(HvgError, match="weights 20 and 40"):
        compare(
            "x",
            Side(lambda: small(torch.ones(4)), Network),
            Side(lambda: large(torch.ones(4)), Network),
            pairs=5,
            seconds=0,
        )
    with pytest.raises(HvgError, match="ours was seen under 0 settings"):
        compare("x", Side(lambda: None, Network), Side(lambda: large(torch.ones(4)), Network), pairs=5, seconds=0)


def test_a_side_that_changes_its_arithmetic_is_told():
    network = Network(4, 4)
    with watched(Network) as found:
        network(torch.ones(4))
        with torch.autocast("cpu", torch.bfloat16):
            network(torch.ones(4))
    assert [x.precision for x in found] == ["float32", "bf16 autocast"]
    with pytest.raises(HvgError, match="2 settings"):
        one_setting("x", found, found[:1])
    assert one_setting("x", found[:1], found[:1]) == setting_now(network)


def test_a_ratio_is_of_pairs():
    found = Ratio.of([2.0, 4.0, 9.0], [1.0, 2.0, 3.0], "seconds", SETTING)
    assert (found.ours, found.theirs, found.ratio, found.low, found.high) == (4.0, 2.0, 2.0, 2.0, 3.0)


def test_results_that_differ_are_no_comparison():
    require_equal("x", torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.001]), 1e-3)
    for other in (torch.tensor([1.0, 2.1]), torch.tensor([1.0, float("nan")]), torch.ones(3)):
        with pytest.raises(HvgError, match="the two sides"):
            require_equal("x", torch.tensor([1.0, 2.0]), other, 1e-3)


# --- rows ---


@pytest.mark.parametrize("how", [QUICK, How(precision="bf16", pairs=5, seconds=0)], ids=["float32", "bf16"])
@pytest.mark.parametrize("backward", [False, True])
def test_our_unet_and_the_library_s_compute_alike(how, backward, monkeypatch):
    for name, value in {"WIDTHS": (32, 64), "HEADS": (1, 2), "TOKEN_WIDTH": 16, "ID_WIDTH": 16}.items():
        monkeypatch.setattr(unet, name, value)
    settings = {"attention": (True, False), "layers_per_block": 1}
    monkeypatch.setattr(unet, "ours", lambda make=unet.ours: make(**settings))
    with how.arithmetic():
        found = unet.measure(how, frames=2, side=4, backward=backward)
    assert found.pairs == 5 and 0 < found.low <= found.ratio <= found.high
    assert found.setting.precision == ("float32" if how.precision == "32" else "bf16 autocast")
    assert found.setting.gradients is backward and found.setting.weights > 100_000


def test_metrics_and_the_distance_of_sets_are_those_of_torchmetrics(monkeypatch):
    for name, value in {"FRAMES": 1, "SIDE": 32, "VECTORS": 64, "NUMBERS": 8}.items():
        monkeypatch.setattr(metrics, name, value)
    monkeypatch.setattr(metrics._AsTheyAre, "num_features", 8)
    for measure in (metrics.ssim, metrics.fvd_distance):
        found = measure(QUICK)
        assert found.pairs == 5 and found.setting.threads == 1


def test_bones_as_meshes_are_the_bones(monkeypatch):
    """What PyTorch3D is given, drawn by the renderer that is there."""
    ellipsoids, camera = bones_and_camera(96)
    cls = registry.load("renderer", "warp")
    drawn, exact = maps.as_meshes(cls(cls.Config()), ellipsoids, camera[None]), render(ellipsoids, camera)
    mask = drawn.face[0] >= 0
    assert (mask & exact.mask).sum() > 0.97 * (mask | exact.mask).sum()
    both = mask & exact.mask
    assert (drawn.depth[0][both] - exact.z[both]).abs().median() < 1e-3
    assert (drawn.normal[0][both] * exact.normal[both]).sum(-1).median() > 0.999


@pytest.mark.long
@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_a_training_step_is_compared_with_a_bare_one_of_its_precision(precision, tiny):
    found = training.measure(
        How(pairs=5, seconds=0, precision=precision), (*tiny[2:], "debug=tiny", "training.steps=20")
    )
    assert found.pairs == 20 - WARM - 1 and 0.5 < found.ratio < 3
    assert found.setting.precision == ("float32" if precision == "32" else "bf16 autocast")
    assert found.setting.threads == 1 and found.setting.gradients and found.setting.deterministic


@pytest.mark.long
def test_a_run_in_another_precision_than_its_bare_loop_is_told(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("hvg.bench.steps.precision_here", lambda config: "bf16")
    config = compose([*tiny, f"data.cache={tmp_path}", f"output={tmp_path}", "training.precision='32'"])
    with pytest.raises(HvgError, match="training: the two sides do not have one setting: precision float32 and bf16"):
        steps_in_turns(config, lambda line: None)


def test_sampling_tells_the_loop_from_the_networks(tiny):
    system, clip = a_test_clip(compose(tiny))
    found = sampled(system, clip, 2)
    assert 0 < found.denoiser < found.denoiser + found.conditioners < found.whole
    assert 1 < found.over_networks < found.over_denoiser
    assert found.setting.threads == 1 and not found.setting.gradients


# --- what is written ---


def test_every_row_is_asked_for_by_its_group_and_says_what_it_needs():
    rows = peers.rows()
    assert len({row.name for row in rows}) == len(rows) > 12
    told = cli.resolve_name("hvg.config.bench_options:PeersOptions").model_fields["rows"].description
    assert {row.group for row in rows} == set(re.findall(r"\b[a-z]+\b", told.split(":")[1].split(";")[0]))
    for row in rows:
        assert bool(row.needs) == bool(row.install) and row.goal >= 1
    page = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    assert all(f"| `{row.group}` |" in page for row in rows)


def planted(name: str, ratio: float = 1.0, needs: tuple[str, ...] = ()) -> Row:
    found = Ratio.of([ratio] * 5, [1.0] * 5, "processor time", SETTING)
    return Row(
        name=name,
        ours="ours",
        theirs="theirs",
        what="a | b",
        measure=lambda how: found,
        needs=needs,
        install="pip install it" if needs else "",
    )


def test_rows_are_written_one_by_one_and_those_without_their_package_say_what_would_measure_them(tmp_path):
    rows = [planted("quick one"), planted("slow one", 1.2), planted("absent one", needs=("no_such_package",))]
    lines = [line for _, line in peers.compare_with_peers(rows, QUICK, tmp_path, {})]
    assert lines[0].split()[2:4] == ["1.00", "(1.00"] and "over 1.03" in lines[1] and "over" not in lines[0]
    command = "pip install it && hvg bench peers rows=absent"
    assert f"unmeasured: no_such_package is not installed; {command}" in lines[2]
    record = json.loads((tmp_path / peers.JSON).read_text())
    assert [row["state"] for row in record["rows"]] == ["measured", "measured", "unmeasured"]
    assert record["rows"][0]["setting"] == vars(SETTING) and record["commit"] and record["hardware"]
    table = (tmp_path / peers.TABLE).read_text()
    assert f"unmeasured: `{command}`" in table and "float32, processor time" in table
    assert len([line for line in table.splitlines() if line.startswith("| ")]) == 4

    elsewhere = planted("absent one", 0.9)
    done = peers.compare_with_peers([elsewhere], QUICK, tmp_path / "there", {})
    assert len(list(done)) == 1
    others = peers.recorded_rows(tmp_path / "there" / peers.JSON)
    *_, (_, line) = peers.compare_with_peers(rows, QUICK, tmp_path, others)
    assert "0.90" in line and f"recorded on {record['hardware']}" in line


@pytest.mark.parametrize("text", ["", "[]", '{"rows": []}', '{"rows": 3, "hardware": "x", "commit": "y"}'])
def test_a_file_that_is_no_record_is_refused(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(HvgError, match=r"recorded=.*x\.json: not a peers\.json"):
        peers.recorded_rows(tmp_path / "x.json")


def test_words_that_are_wrong_are_one_line(capsys, tmp_path):
    for words, told in {
        ("bench", "peer"): "no benchmark is named 'peer'. Did you mean 'peers'?",
        ("bench", "peers", "rows=unets"): "rows=unets: no rows are called so. Did you mean 'unet'?",
        ("bench", "gpu", "minutes=0"): "minutes",
        ("bench", "scale", "gpus=0"): "gpus",
    }.items():
        assert cli.run([*words]) == 1
        assert told in capsys.readouterr().err
    (tmp_path / "kept.txt").write_text("mine")
    assert cli.run(["bench", "peers", "rows=ssim", f"out={tmp_path}"]) == 1
    assert "overwrite=true" in capsys.readouterr().err


def test_benchmarks_are_where_the_table_says_and_in_the_readme():
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    (row,) = [line for line in text.splitlines() if line.startswith("| `hvg bench [NAME ...]`")]
    assert all(f"`{name}`" in row for name in BENCHMARKS) and all(name in row for name in REPORTS)
    assert all(callable(cli.resolve_name(place)) for place in BENCHMARKS.values())
