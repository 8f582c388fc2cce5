"""Runs over damaged data: what cannot be read or used is listed, left out by all processes together, and limited.

The clips of the three people are seen in the order 2, 0, 1, 1, 2, 0 (one a step in one process, two a step in two).
"""

import io
import json
import shutil
import zlib
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch
from train_runs import train_together

from hvg.config.composition import compose
from hvg.core.checkpoint import Checkpoint, checkpoint_path, latest_checkpoint
from hvg.core.errors import HvgError
from hvg.data.cache import cache_folder
from hvg.data.prepare import prepare
from hvg.data.shard_writing import write_index
from hvg.data.shards import index_path
from hvg.data.step_order import clip_position
from hvg.train.run import train
from hvg.train.run_notes import read_failure

SECTIONS = ("weights", "exp_avg", "exp_avg_sq", "average")
STEPS = 6
PEOPLE = 3


@pytest.fixture(scope="module")
def words(tiny, cache, tmp_path_factory):
    """Overrides of a run of single clips that saves every step; without a cache."""
    own = ("pose=skeleton", "device=cpu", "data.batch_size=1", f"training.steps={STEPS}", "training.keep_last=9")
    output = f"output={tmp_path_factory.mktemp('faults')}"
    prepare([compose([*tiny, *own, cache])], ("train", "val"), jobs=1)
    return [*tiny, *own, output]


@pytest.fixture(scope="module")
def damaged(words, cache, tmp_path_factory):
    """``damaged(...)``: the cache where one clip's text is overwritten (unreadable), and one's cameras are NaN (unusable)."""

    def make(*more: str, unreadable: int | None = None, unusable: int | None = None) -> str:
        config = compose([*words, *more, cache])
        prepare([config], ("train", "val"), jobs=1)
        source = cache_folder(config)
        folder = tmp_path_factory.mktemp("damaged")
        shutil.copytree(source, folder / source.name)
        (shard,) = (folder / source.name).glob("train-*.tar")
        if unreadable is not None:
            change(shard, f"train-{unreadable:04d}-0.meta.json", lambda data: bytes(len(data)))
        if unusable is not None:
            change(shard, f"train-{unusable:04d}-0.world_to_camera.npy", without_numbers)
        return f"data.cache={folder}"

    return make


def change(shard: Path, member: str, new) -> None:
    """Replaces the bytes of a file in a shard, as if they had been written so."""
    index = json.loads(index_path(shard).read_text())
    offset, size = index["members"][member]
    with shard.open("r+b") as stream:
        stream.seek(offset)
        data = new(stream.read(size))
        assert len(data) == size
        stream.seek(offset)
        stream.write(data)
    index["crc32"][member] = zlib.crc32(data)
    write_index(shard, index)


def without_numbers(data: bytes) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.full_like(np.load(io.BytesIO(data)), np.nan))
    return stream.getvalue()


def run_folder(words, name) -> Path:
    return Path(next(word for word in words if word.startswith("output=")).removeprefix("output=")) / name


def saved(words, name, step=STEPS) -> Path:
    return checkpoint_path(run_folder(words, name) / "checkpoints", step)


def listed(words, name, file) -> list[dict]:
    path = run_folder(words, name) / file
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def same_bits(a: Path, b: Path) -> bool:
    first, second = Checkpoint(a), Checkpoint(b)
    if first.state["optimizer"]["step"] != second.state["optimizer"]["step"]:
        return False
    sections = [(first.section(section), second.section(section)) for section in SECTIONS]
    assert all(x.keys() == y.keys() for x, y in sections)
    return all(torch.equal(x[name], y[name]) for x, y in sections for name in x)


def steps_that_changed_nothing(words, name, steps=STEPS) -> list[int]:
    """Steps before and after which the state is the same, counted from 0; the first cannot be seen."""
    return [step for step in range(1, steps) if same_bits(saved(words, name, step), saved(words, name, step + 1))]


@pytest.mark.long
def test_a_run_over_damaged_clips_lists_them_and_repeats_to_the_same_bits(words, damaged):
    """From the middle, and with loading processes: the lists and the last bits are those of the run that went through."""
    assert [clip_position(0, position, PEOPLE) for position in range(STEPS)] == [2, 0, 1, 2, 1, 0]
    every = [*words, damaged(unreadable=2, unusable=1), "data.max_bad=1", "training.max_skipped=2"]
    once = [*every, "name=once"]
    again = [*every, "name=again", f"resume={saved(words, 'once', 3)}"]
    workers = [*every, "name=workers", "data.workers=2"]
    (printed,) = train_together(1, [once, again, workers])

    assert "warning: clip 2 is left out: " in printed and "clip 'train-0002-0' cannot be decoded" in printed
    assert "warning: step 4 is left out: the loss is not finite for train-0001-0" in printed
    assert "unreadable clips: 1, listed in " in printed and "skipped steps: 2, listed in " in printed
    (bad,) = listed(words, "once", "quarantine.jsonl")
    assert {key: bad[key] for key in ("step", "position", "clip", "rank")} == dict(step=0, position=0, clip=2, rank=0)
    skipped = listed(words, "once", "skipped.jsonl")
    seen = [{"losses": ["nan"], "positions": [[position]], "clips": [["train-0001-0"]]} for position in (2, 4)]
    assert skipped == [
        {"step": step, "reason": "loss", "gradient_norm": "nan", "ranks": [rank]}
        for step, rank in zip((2, 4), seen, strict=True)
    ]
    assert steps_that_changed_nothing(words, "once") == [2, 4]
    rows = listed(words, "once", "metrics.jsonl")
    assert [row["skipped_steps"] for row in rows if "skipped_steps" in row] == [1, 2]
    assert [row["loss"] for row in rows if "loss" in row][3] == 0, "nothing of the batch can be read"

    for name in ("again", "workers"):
        assert same_bits(saved(words, "once"), saved(words, name)), name
        for file in ("quarantine.jsonl", "skipped.jsonl"):
            assert listed(words, name, file) == listed(words, "once", file)


@pytest.mark.long
def test_one_unreadable_clip_too_many_ends_the_run_and_it_can_be_continued(hvg, words, damaged):
    every = [*words, damaged(unreadable=1), "name=one_too_many"]
    ended = hvg("train", *every)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("hvg train: ")]
    file = run_folder(words, "one_too_many") / "quarantine.jsonl"
    assert "clip 'train-0001-0' cannot be decoded" in line
    assert "unreadable training clips: 1, more than data.max_bad=0 allows" in line and str(file) in line
    assert [row["clip"] for row in listed(words, "one_too_many", file.name)] == [1]
    # The step that needed the clip was not saved: with the clip mended, or allowed to be missing, it is done anew.
    assert latest_checkpoint(run_folder(words, "one_too_many") / "checkpoints") == saved(words, "one_too_many", 2)
    assert read_failure(file.parent) == line.replace("hvg train", "DataError")
    more = hvg("train", *every, "resume=auto", "data.max_bad=1")
    assert more.returncode == 0, more.stderr
    assert read_failure(file.parent) is None
    assert [(row["clip"], row["step"]) for row in listed(words, "one_too_many", file.name)] == [(1, 2)]


def test_steps_whose_gradient_is_not_finite_end_the_run_with_its_state_saved(words, cache):
    """The losses are numbers; squared, their gradients are none."""
    config = compose([*words, cache, "training.max_skipped=2", "name=large"])
    # No setting is as large: the judge refuses it.
    beyond = config.training.model_copy(update={"foreground_weight": 1e30})
    with pytest.raises(HvgError, match=r"skipped\.jsonl: steps left out: 3, more than training\.max_skipped=2 allows"):
        train(config.model_copy(update={"training": beyond}))
    assert "steps left out: 3, more than" in str(read_failure(run_folder(words, "large")))
    # A norm that is not finite is left out of what is drawn.
    assert not [row for row in listed(words, "large", "metrics.jsonl") if "optimizer/gradient_norm" in row]
    records = listed(words, "large", "skipped.jsonl")
    assert [(record["step"], record["reason"], record["gradient_norm"]) for record in records] == [
        (step, "gradient", "inf") for step in range(3)
    ]
    assert all(isinstance(record["ranks"][0]["losses"][0], float) for record in records)
    assert latest_checkpoint(run_folder(words, "large") / "checkpoints") == saved(words, "large", 3)
    state = Checkpoint(saved(words, "large", 3))
    assert state.state["optimizer"]["step"] == 0 and not any(bool(x.any()) for x in state.section("exp_avg").values())
    assert steps_that_changed_nothing(words, "large", 3) == [1, 2]


def spikes(losses: list[float], ratio: float, window: int) -> list[int]:
    """Steps whose loss is over ``ratio`` times the median of the last ``window`` that are none."""
    taken, found = [], []
    for step, loss in enumerate(losses):
        if len(taken) >= window and loss > ratio * median(taken[-window:]):
            found.append(step)
        else:
            taken.append(loss)
    return found


def losses(words, name) -> list[float]:
    return [row["loss"] for row in listed(words, name, "metrics.jsonl") if "loss" in row]


# A model that hardly learns: losses go up and down with the noise.
RESTLESS = ("training.learning_rate=1e-5", "training.max_loss_ratio=1.03", "training.loss_window=3")


@pytest.mark.long
def test_a_step_whose_loss_is_a_spike_is_left_out(words, cache):
    every = [*words, cache, *RESTLESS, "training.steps=12"]
    again = [*every, "name=spikes_again", f"resume={saved(words, 'spikes', 6)}"]
    (printed,) = train_together(1, [[*every, "training.keep_last=99", "name=spikes"], again])
    expected = spikes(losses(words, "spikes"), 1.03, 3)
    assert expected and min(expected) <= 6 < max(expected)
    records = listed(words, "spikes", "skipped.jsonl")
    assert [record["step"] for record in records] == expected == steps_that_changed_nothing(words, "spikes", 12)
    assert {record["reason"] for record in records} == {"spike"}
    assert f"warning: step {expected[0]} is left out: the loss " in printed
    assert same_bits(saved(words, "spikes", 12), saved(words, "spikes_again", 12))
    assert listed(words, "spikes_again", "skipped.jsonl") == records


STRATEGIES = ("ddp", "zero1", "zero2", "zero3", "fsdp")


@pytest.mark.long
def test_all_processes_leave_a_step_out_together(words, damaged):
    """Only the second process meets the clip that spoils the first step; the first one's is fine."""
    every = [*words, damaged(unreadable=1, unusable=0), "strategy.devices=2", "data.max_bad=1", "training.steps=4"]
    whole = [[*every, f"strategy={name}", f"name={name}"] for name in STRATEGIES]
    again = [
        [*run, f"name={name}_again", f"resume={saved(words, name, 2)}"]
        for name, run in zip(STRATEGIES, whole, strict=True)
    ]
    printed, other = train_together(2, [*whole, *again])
    assert printed.count("warning: step 0 is left out: the loss is not finite for train-0000-0") == len(STRATEGIES)
    assert "warning: step" not in other
    for name in STRATEGIES:
        records = listed(words, name, "skipped.jsonl")
        assert [record["step"] for record in records] == [0, 2, 3]
        assert [rank["losses"][0] == "nan" for rank in records[0]["ranks"]] == [False, True]
        assert [rank["clips"] for rank in records[0]["ranks"]] == [[["train-0002-0"]], [["train-0000-0"]]]
        (bad,) = listed(words, name, "quarantine.jsonl")
        assert (bad["step"], bad["clip"], bad["rank"]) == (1, 1, 0)
        assert steps_that_changed_nothing(words, name, 4) == [2, 3]
        assert Checkpoint(saved(words, name, 4)).state["optimizer"]["step"] == 1
        assert same_bits(saved(words, name, 4), saved(words, f"{name}_again", 4)), name
        for file in ("quarantine.jsonl", "skipped.jsonl"):
            assert listed(words, f"{name}_again", file) == listed(words, name, file)
    assert same_bits(saved(words, "zero1", 4), saved(words, "zero2", 4))


@pytest.mark.long
def test_accumulated_batches_and_spikes_under_every_strategy(words, cache, damaged):
    """One bad batch of several spoils a step. The gradient, unclipped, is that of one process with larger batches."""
    sound = [*words, cache, "training.gradient_clip=null", "training.accumulate=2", "training.steps=2"]
    train_together(1, [[*sound, "data.batch_size=2", "name=alone"]])
    two = ["strategy.devices=2", "training.accumulate=2"]
    # Then, four a step, the second step sees the clip and the two after it do not.
    spoilt = [*words, "dataset.num_subjects=6", damaged("dataset.num_subjects=6", unusable=2), *two, "training.steps=4"]
    judged = [*words, cache, *two, *RESTLESS, "training.steps=8"]
    runs = []
    for name in STRATEGIES:
        runs.append([*sound, "strategy.devices=2", f"strategy={name}", f"name=sound_{name}"])
        runs.append([*spoilt, f"strategy={name}", f"name=spoilt_{name}"])
        runs.append([*judged, f"strategy={name}", f"name=judged_{name}"])
    runs.append([*spoilt, "strategy=zero2", "training.precision=bf16", "name=spoilt_bf16"])
    train_together(2, runs)
    assert steps_that_changed_nothing(words, "spoilt_bf16", 4) == [1]
    expected = Checkpoint(saved(words, "alone", 1)).section("exp_avg")
    for name in STRATEGIES:
        assert losses(words, f"sound_{name}") == pytest.approx(losses(words, "alone"), abs=1e-6)
        found = Checkpoint(saved(words, f"sound_{name}", 1)).section("exp_avg")
        assert all(torch.allclose(found[key], x, rtol=1e-3, atol=1e-6) for key, x in expected.items()), name

        records = listed(words, f"spoilt_{name}", "skipped.jsonl")
        assert [record["step"] for record in records] == [1] == steps_that_changed_nothing(words, f"spoilt_{name}", 4)
        assert [rank["losses"].count("nan") for rank in records[0]["ranks"]] == [2, 0]
        assert [rank["positions"] for rank in records[0]["ranks"]] == [[[4], [6]], [[5], [7]]]
        assert losses(words, f"spoilt_{name}") == pytest.approx(losses(words, "spoilt_ddp"), abs=1e-5, nan_ok=True)

        spike = spikes(losses(words, f"judged_{name}"), 1.03, 3)
        assert spike and steps_that_changed_nothing(words, f"judged_{name}", 8) == spike
        assert [record["step"] for record in listed(words, f"judged_{name}", "skipped.jsonl")] == spike
