"""A run of several stages: interrupted anywhere it ends in the same bits, and HVG's two phases are what they are as two runs."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from train_runs import train_together

from hvg.config.composition import compose
from hvg.core.checkpoint import Checkpoint, checkpoint_path, checkpoints
from hvg.core.errors import HvgError
from hvg.model.load import load_system
from hvg.train.run import train

pytestmark = pytest.mark.long

SECTIONS = ("weights", "exp_avg", "exp_avg_sq", "average")
# Other views and no view attention; some weights alone; all again, and the optimiser goes on; a LoRA from raw weights.
STAGES = (
    "stages.one={data:{views:1},view_attention:none,training:{steps:2}}",
    "stages.two={adapter:{name:patterns,train:{temporal:null}},training:{steps:2,learning_rate:0.001}}",
    "stages.three={adapter:full,begins:continued,training:{steps:3}}",
    "stages.four={adapter:lora,begins:raw,seed:1,training:{steps:2}}",
)
LAST = 9


@pytest.fixture(scope="module")
def words(tiny, cache):
    every = ("training.checkpoint_every=1", "training.keep_last=20", "training.precision=32", "device=cpu")
    # Without what would hold in every stage: steps, and views.
    return [*(word for word in tiny if word not in ("debug=tiny", "data.views=2")), cache, *every, *SMALL, *STAGES]


SMALL = ("training.warmup_steps=0", "training.log_every=1", "evaluation.clips=1", "evaluation.steps=2")


def trained(words, folder: Path, name: str, *more: str) -> None:
    train(compose([*words, f"output={folder}", f"name={name}", *more]), log=lambda line: None)


def state(folder: Path, step: int) -> dict[str, torch.Tensor]:
    opened = Checkpoint(checkpoint_path(folder / "checkpoints", step))
    return {f"{section}/{name}": x for section in SECTIONS for name, x in opened.section(section).items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def losses(folder: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]


@pytest.fixture(scope="module")
def whole(words, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    trained(words, folder, "run")
    return folder / "run"


def test_a_run_that_is_stopped_after_every_step_ends_in_the_same_bits(words, whole, tmp_path):
    """Within each stage and at each border: SIGTERM comes when a step is done, and the run goes on from what it saved."""
    config = [*words, f"output={tmp_path}", "name=run", "resume=auto", "training.checkpoint_every=100"]
    for _ in range(LAST - 1):
        with pytest.raises(SystemExit) as stopped:
            train(compose(config), lambda done: os.kill(os.getpid(), signal.SIGTERM), log=lambda line: None)
        assert stopped.value.code == 143
    train(compose(config), log=lambda line: None)
    assert list(checkpoints(tmp_path / "run" / "checkpoints"))[-1] == LAST
    assert same(state(tmp_path / "run", LAST), state(whole, LAST))
    assert losses(tmp_path / "run") == losses(whole) and len(losses(whole)) == LAST


@pytest.mark.parametrize("step", range(1, LAST))
def test_a_run_that_is_killed_goes_on_from_any_checkpoint_to_the_same_bits(words, whole, tmp_path, step):
    shutil.copytree(whole, tmp_path / "run")
    for number, path in checkpoints(tmp_path / "run" / "checkpoints").items():
        if number > step:
            shutil.rmtree(path)
    trained(words, tmp_path, "run", "resume=auto")
    assert same(state(tmp_path / "run", LAST), state(whole, LAST))
    assert losses(tmp_path / "run") == losses(whole)


def test_what_is_written_says_the_stage(whole):
    record = json.loads((whole / "run.json").read_text())
    assert record["stages"] == {"one": [0, 2], "two": [2, 4], "three": [4, 7], "four": [7, 9]}
    assert [(start["stage"], start["step"]) for start in record["starts"]] == [
        ("one", 0),
        ("two", 2),
        ("three", 4),
        ("four", 7),
    ]
    found = {step: Checkpoint(path).state for step, path in checkpoints(whole / "checkpoints").items()}
    assert {step: saved["stage"] for step, saved in found.items()} == {
        **dict.fromkeys((1, 2), "one"),
        **dict.fromkeys((3, 4), "two"),
        **dict.fromkeys((5, 6, 7), "three"),
        **dict.fromkeys((8, 9), "four"),
    }
    assert [saved["global_step"] for saved in found.values()] == list(found)


def test_a_checkpoint_of_any_stage_is_a_model_of_that_stage(whole):
    _, first = load_system(checkpoint_path(whole / "checkpoints", 1))
    assert (first.view_attention.name, first.data.views) == ("none", 1)
    system, last = load_system(whole)
    assert (last.adapter.name, last.view_attention.name, last.seed) == ("lora", "aligned_2d", 1)
    assert all(torch.isfinite(x).all() for x in system.parameters())


def test_checkpoints_with_which_stages_end_stay(words, tmp_path):
    trained(words, tmp_path, "run", "training.keep_last=1")
    (tmp_path / "run").rename(moved := tmp_path / "moved")
    assert list(checkpoints(moved / "checkpoints")) == [2, 4, 7, 9]
    # Those that the others name for what they leave out are found where the run lies now.
    for step, adapter in ((4, "patterns"), (9, "lora")):
        system, config = load_system(checkpoint_path(moved / "checkpoints", step))
        assert config.adapter.name == adapter and system.base is not None


def test_two_stages_that_are_one_training_have_the_bits_of_one(words, tmp_path):
    """At a constant rate, the second continued: the optimiser, the average and the order of samples go on."""
    plain = [word for word in words if not word.startswith("stages.")]
    constant = [*plain, "training.final_learning_rate=1", "data.recolour=0.3"]
    trained(constant, tmp_path, "one", "training.steps=5")
    two = ("stages.a={training:{steps:2}}", "stages.b={training:{steps:3},begins:continued}")
    trained(constant, tmp_path, "two", *two)
    assert same(state(tmp_path / "one", 5), state(tmp_path / "two", 5))
    assert losses(tmp_path / "one") == losses(tmp_path / "two")
    # And without that word they are not.
    trained(constant, tmp_path, "other", two[0], "stages.b={training:{steps:3}}")
    assert not same(state(tmp_path / "one", 5), state(tmp_path / "other", 5))


def test_hvg_s_two_phases_in_one_run_have_the_bits_of_two(tiny, cache, tmp_path):
    words = [word for word in tiny if not word.startswith(("data.frames", "data.views", "pose="))]
    both = [*words, cache, "device=cpu", "reference_keys=reference_tokens", "data.batch_size=1", "training.steps=3"]
    buckets, folder = "data.buckets=[[2,1],[1,2]]", f"output={tmp_path}"
    train(compose([*both, folder, "experiment=hvg_stage1", "data.views=2"]), log=lambda line: None)
    train(compose([*both, folder, "experiment=hvg_stage2", buckets]), log=lambda line: None)
    stages = ("stages.many_views.data.views=2", f"stages.views_and_frames.{buckets}")
    train(compose([*both, folder, "experiment=hvg", *stages]), log=lambda line: None)
    assert same(state(tmp_path / "hvg", 3), state(tmp_path / "hvg_stage1", 3))
    assert same(state(tmp_path / "hvg", 6), state(tmp_path / "hvg_stage2", 3))
    second = [(step - 3, loss) for step, loss in losses(tmp_path / "hvg") if step >= 3]
    assert second == losses(tmp_path / "hvg_stage2")


@pytest.mark.parametrize("strategy", ["ddp", "zero2", "zero3", "fsdp"])
def test_strategies_train_all_stages_and_go_on_to_the_same_bits(words, tmp_path, strategy):
    several = [*words, f"output={tmp_path}", f"strategy={strategy}", "strategy.devices=2"]
    train_together(2, [[*several, "name=whole"]])
    for step in (1, 4, 5):
        shutil.copytree(tmp_path / "whole", tmp_path / f"from-{step}")
        for number, path in checkpoints(tmp_path / f"from-{step}" / "checkpoints").items():
            if number > step:
                shutil.rmtree(path)
    train_together(2, [[*several, f"name=from-{step}", "resume=auto"] for step in (1, 4, 5)])
    for step in (1, 4, 5):
        assert same(state(tmp_path / f"from-{step}", LAST), state(tmp_path / "whole", LAST)), step


def test_an_adapter_of_a_later_stage_that_fits_nothing_is_told_before_the_first(words, tmp_path):
    wrong = "stages.two.adapter.train={nothing_so_called:null}"
    with pytest.raises(HvgError, match=r"stages\.two: adapter\.train: 'nothing_so_called' matches no weight"):
        trained(words, tmp_path, "run", wrong)
    assert not list(checkpoints(tmp_path / "run" / "checkpoints"))
