"""Real DeepSpeed in two processes on the CPU, and DDP, compute what one process computes; each continues the other's runs."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from forks import Started
from torch import nn
from train_runs import train_together

from hvg.config.composition import compose
from hvg.core.checkpoint import Checkpoint, checkpoint_path
from hvg.data.prepare import prepare
from hvg.parts import registry
from hvg.train.zero import hide_frozen

STEPS = 4
TWO = ("strategy.devices=2", "data.batch_size=1")
ONE = ("strategy=single", "data.batch_size=2")
SECTIONS = ("weights", "exp_avg", "exp_avg_sq", "average")


@pytest.fixture(scope="module")
def overrides(tiny, cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("strategies")
    every = (
        f"training.steps={STEPS}",
        "training.checkpoint_every=2",
        "training.warmup_steps=2",
        "training.keep_last=9",
        # Strategies add up gradients in other orders; in bf16 their numbers differ by more than what is asked here.
        "training.precision=32",
    )
    words = (*tiny, cache, *every, "pose=skeleton", "device=cpu", f"output={folder}")
    prepare([compose(words)], ("train", "val"), jobs=1)
    return words


def output(overrides) -> Path:
    return Path(overrides[-1].removeprefix("output="))


def losses(overrides, name):
    rows = (output(overrides) / name / "metrics.jsonl").read_text().splitlines()
    return [row["loss"] for row in map(json.loads, rows)]


def saved(overrides, name, step=STEPS) -> Path:
    return checkpoint_path(output(overrides) / name / "checkpoints", step)


def same_bits(a: Path, b: Path) -> bool:
    first, second = Checkpoint(a), Checkpoint(b)
    assert first.state["optimizer"] == second.state["optimizer"]
    pairs = [(first.section(section), second.section(section)) for section in SECTIONS]
    assert all(mine.keys() == theirs.keys() for mine, theirs in pairs)
    return all(torch.equal(mine[name], x) for mine, theirs in pairs for name, x in theirs.items())


def resumed(overrides, name, *more) -> list[str]:
    """A run of another name that continues a run's checkpoint of the middle."""
    return [*overrides, f"resume={saved(overrides, name, STEPS // 2)}", *more]


def assert_close(overrides, name, other):
    mine, theirs = losses(overrides, name), losses(overrides, other)
    assert len(theirs) == STEPS
    assert mine == pytest.approx(theirs[-len(mine) :], abs=1e-6)


@pytest.mark.long
def test_zero2_in_two_processes_does_what_one_process_does(hvg, overrides):
    """One command starts both. One process continues what two began, and gets the same averages.

    Nothing of DeepSpeed's stays in a process when a run of it has ended: what follows has the same bits.
    """
    between = [*overrides, "data.batch_size=2", "strategy=zero3", "training.steps=1", "name=between"]
    train_together(1, [[*overrides, *ONE, "name=one"], between, [*resumed(overrides, "one", *ONE), "name=one_again"]])
    assert same_bits(saved(overrides, "one"), saved(overrides, "one_again"))

    words = [*overrides, *TWO, "strategy=zero2"]
    done = hvg("train", *words, "name=two")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == [
        "trains in float32 (training.precision=32)",
        f"trained 4 steps; the run is in {output(overrides) / 'two'}",
    ]
    assert all(line.startswith("two: train") for line in done.stderr.splitlines())
    assert_close(overrides, "two", "one")
    checkpoint = Checkpoint(saved(overrides, "two"))
    assert checkpoint.world_size == 2 and len(list(checkpoint.path.glob("*.safetensors"))) == 2

    refused = hvg("train", *resumed(overrides, "two", *ONE), "name=refused")
    assert refused.returncode == 1
    assert "written by 2 process(es), this run has 1" in refused.stderr and "resume_world=any" in refused.stderr
    assert "Traceback" not in refused.stderr
    train_together(1, [[*resumed(overrides, "two", *ONE), "resume_world=any", "name=two_then_one"]])
    assert_close(overrides, "two_then_one", "one")


@pytest.mark.long
def test_every_strategy_agrees_and_resumes_to_the_same_bits_at_every_world_size(overrides):
    names = ("ddp", "zero1", "zero2", "zero3", "fsdp")
    train_together(
        1, [[*overrides, *ONE, "name=alone"], [*overrides, "data.batch_size=1", "training.accumulate=2", "name=a"]]
    )
    assert_close(overrides, "a", "alone")

    whole = [[*overrides, *TWO, f"strategy={name}", f"name={name}"] for name in names]
    # Those that go on save beside training.
    again = [
        [*resumed(overrides, name, *TWO), f"strategy={name}", "training.saving=beside", f"name={name}_again"]
        for name in names
    ]
    # From one process to two, and from one strategy to another.
    crossed = [
        [*resumed(overrides, "alone", *TWO), "resume_world=any", "strategy=zero3", "name=one_then_zero3"],
        [*resumed(overrides, "alone", *TWO), "resume_world=any", "strategy=fsdp", "name=one_then_fsdp"],
        [*resumed(overrides, "zero3", *TWO), "strategy=zero1", "name=zero3_then_zero1"],
        [*resumed(overrides, "fsdp", *TWO), "strategy=zero2", "name=fsdp_then_zero2"],
        [*resumed(overrides, "zero3", *TWO), "strategy=fsdp", "name=zero3_then_fsdp"],
    ]
    train_together(2, [*whole, *again, *crossed])
    for name in names:
        assert_close(overrides, name, "alone")
        assert same_bits(saved(overrides, name), saved(overrides, f"{name}_again")), name
    assert losses(overrides, "zero1") == losses(overrides, "zero2")
    assert same_bits(saved(overrides, "zero1"), saved(overrides, "zero2"))
    for words in crossed:
        assert_close(overrides, words[-1].removeprefix("name="), "alone")

    train_together(
        1,
        [[*resumed(overrides, name, *ONE), "resume_world=any", f"name={name}_then_one"] for name in ("zero3", "fsdp")],
    )
    for name in ("zero3", "fsdp"):
        assert_close(overrides, f"{name}_then_one", "alone")
    expected = Checkpoint(saved(overrides, "ddp")).section("average")
    for name in names[1:]:
        average = Checkpoint(saved(overrides, name)).section("average")
        assert average.keys() == expected.keys()
        assert max(float((average[key] - x).abs().max()) for key, x in expected.items()) < 1e-3


@pytest.mark.long
def test_three_processes_resume_to_the_same_bits(overrides):
    """Of three numbers the order in which they are summed shows. Not zero3: three processes of it take 13 GB."""
    three, names = ("strategy.devices=3", "data.batch_size=1"), ("ddp", "zero1", "zero2", "fsdp")
    whole = [[*overrides, *three, f"strategy={name}", f"name={name}_of_3"] for name in names]
    again = [
        [*resumed(overrides, f"{name}_of_3", *three), f"strategy={name}", f"name={name}_of_3_again"] for name in names
    ]
    train_together(3, [*whole, *again])
    for name in names:
        assert same_bits(saved(overrides, f"{name}_of_3"), saved(overrides, f"{name}_of_3_again")), name
        assert_close(overrides, f"{name}_of_3", "ddp_of_3")


@pytest.mark.long
def test_a_frozen_reference_net_stays_whole_and_divided_runs_can_be_exported(hvg, overrides):
    """Also bf16, accumulation, blocks that are computed again, and samples while training where weights are not partitioned."""
    frozen = ["reference_keys=reference_net", "reference_keys.trainable=false", "training.accumulate=2"]
    again = ["backbone.checkpointing=blocks", "reference_keys.checkpointing=blocks"]
    runs = [
        [*overrides, *TWO, *frozen, "strategy=zero3", "name=frozen"],
        [*overrides, *TWO, *frozen, *again, "strategy=fsdp", "name=frozen_fsdp"],
        [*overrides, *TWO, "strategy=fsdp", "training.precision=bf16", "name=bf16_fsdp"],
        [*overrides, *TWO, "strategy=zero2", "training.precision=bf16", "training.validate_every=2", "name=bf16"],
    ]
    train_together(2, runs)
    for run in ("frozen", "frozen_fsdp"):
        weights = [Checkpoint(saved(overrides, run, step)) for step in (2, 4)]
        before, after = (checkpoint.section("weights") for checkpoint in weights)
        names = [name for name in before if name.startswith("conditioners.reference_keys.encoder")]
        assert names and all(torch.equal(before[name], after[name]) for name in names)
        assert not any(name in weights[0].section("average") for name in names)
        out = output(overrides) / f"exported_{run}"
        done = hvg("export", f"checkpoint={output(overrides) / run}", f"out={out}")
        assert done.returncode == 0, done.stderr
        shown = hvg("evaluate", f"checkpoint={out}")
        assert shown.returncode == 0, shown.stderr
    assert_close(overrides, "frozen_fsdp", "frozen")
    assert losses(overrides, "bf16_fsdp") == pytest.approx(losses(overrides, "bf16"), abs=1e-2)
    assert list((output(overrides) / "bf16" / "samples").glob("*.mp4"))
    refused = hvg("train", *overrides, "strategy=zero3", "training.validate_every=2", "name=refused")
    assert refused.returncode == 1 and "training.validate_every=0" in refused.stderr


@pytest.mark.long
@pytest.mark.parametrize("name", registry.names("optimizer"))
def test_every_optimizer_resumes_to_the_same_bits_under_every_strategy(overrides, name):
    """With learning rates of its own for some weights, which are groups of the optimiser; in pieces and whole."""
    missing = registry.load("optimizer", name).missing()
    if missing:
        pytest.skip(missing)
    rates = "{backbone.*: null, backbone.view_attention.*: 0.001, conditioners.camera.*: 0.0005}"
    words = [*overrides, f"optimizer={name}", "adapter=patterns", f"adapter.train={rates}"]
    one, two = [*words, *ONE], [*words, *TWO]
    strategies = {"single": one, "ddp": two, "zero2": two, "zero3": two, "fsdp": two}

    def of(strategy, *more):
        own = [] if strategy == "single" else [f"strategy={strategy}"]
        return [*strategies[strategy], *own, *more]

    def middle(strategy):
        return f"resume={saved(overrides, f'{name}_{strategy}', STEPS // 2)}"

    whole = {s: of(s, f"name={name}_{s}") for s in strategies}
    again = {s: of(s, middle(s), f"name={name}_{s}_again") for s in strategies}
    train_together(1, [whole.pop("single"), again.pop("single")])
    train_together(2, [*whole.values(), *again.values(), of("zero2", middle("fsdp"), f"name={name}_crossed")])
    # In 8 bits it matters where pieces are cut; hardly, of four steps.
    near = 1e-2 if name == "adamw_8bit" else 1e-6
    for strategy in strategies:
        found = saved(overrides, f"{name}_{strategy}")
        assert same_bits(found, saved(overrides, f"{name}_{strategy}_again")), strategy
        assert len({group["initial_lr"] for group in Checkpoint(found).state["optimizer"]["groups"]}) == 3
        assert losses(overrides, f"{name}_{strategy}") == pytest.approx(losses(overrides, f"{name}_single"), abs=near)
    assert losses(overrides, f"{name}_crossed") == pytest.approx(losses(overrides, f"{name}_single")[2:], abs=near)


@pytest.mark.parametrize("when", [pytest.param("before they have joined", marks=pytest.mark.long), "while they train"])
def test_a_run_whose_second_process_dies_says_so_and_ends_with_1(overrides, when):
    name = when.split()[0]
    words = [*overrides, *TWO, "strategy=ddp", "training.steps=100000", "training.log_every=1", f"name={name}"]
    metrics = output(overrides) / name / "metrics.jsonl"
    run = Started("hvg.cli", "train", *words)
    pid = run.process.pid
    while run.process.is_alive() and not (second_processes(pid) and (name == "before" or holds_a_line(metrics))):
        time.sleep(0.02)
    for process in second_processes(pid):
        os.kill(process, signal.SIGKILL)
    done = run.finish()
    assert done.returncode == 1
    assert "process 1 of the 2 on this machine was ended by signal 9" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr


def holds_a_line(path) -> bool:
    return path.exists() and "\n" in path.read_text()


def second_processes(pid) -> list[int]:
    """What a run has started to train with it; the first process is told by its ``pid``."""
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [child for child in children if b"LOCAL_RANK=1" in environment_of(child)]


def environment_of(pid) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):  # it has ended by now
        return []


def test_offload_is_refused_on_a_cpu_and_without_zero(hvg, overrides):
    done = hvg("train", *overrides, "strategy=zero2", "strategy.offload=optimizer", "name=offload")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].endswith("on a CPU set strategy.offload=none")
    with pytest.raises(Exception, match="needs one of the ZeRO strategies"):
        compose([*overrides, "strategy=ddp", "strategy.offload=optimizer"])


def test_frozen_modules_leave_the_tree_and_run_as_before():
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.learned, self.fixed = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2))
            self.fixed.requires_grad_(False)

        def forward(self, x):
            return self.fixed(self.learned(x))

    model, x = nn.ModuleDict({"part": Part()}), torch.randn(3, 2)
    before = model["part"](x)
    hidden = hide_frozen(model)
    assert list(hidden) == ["part.fixed"]
    assert list(model.state_dict()) == ["part.learned.weight", "part.learned.bias"]
    assert torch.equal(model["part"](x), before)
