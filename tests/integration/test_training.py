"""A run repeats to the last bit, and one that was killed ends where it would have ended."""

import json
import os
import signal
import subprocess
import time

import pytest
import torch
from forks import Started

from hvg.config.composition import compose
from hvg.core.checkpoint import Checkpoint, find_checkpoint, latest_checkpoint
from hvg.data.prepare import prepare
from hvg.model.load import build_system, checkpoint_weights
from hvg.parts.weights import load_shared_weights

STEPS = 12


@pytest.fixture(scope="module")
def overrides(tiny, cache):
    # In bf16 on every processor: others train in float32.
    every = (f"training.steps={STEPS}", "training.checkpoint_every=1", "training.precision=bf16")
    # With a fit, whose errors have to be the same after every stop.
    words = (*tiny, cache, *every, "pose=skeleton", "fit=typical")
    prepare([compose(words)], ("train", "val"), jobs=1)
    return words


def start(overrides, folder, *more) -> Started:
    return Started("hvg.cli", "train", *overrides, f"output={folder}", "name=run", *more)


def trained(overrides, folder, *more) -> subprocess.CompletedProcess:
    """A run that has ended well."""
    done = start(overrides, folder, *more).finish()
    assert done.returncode == 0, done.stderr
    return done


def final_state(folder):
    path = latest_checkpoint(folder / "run" / "checkpoints")
    assert path is not None and path.name == f"step-{STEPS:07d}.ckpt"
    checkpoint = Checkpoint(path)
    tensors = [checkpoint.section(section) for section in ("weights", "exp_avg", "exp_avg_sq", "average")]
    return [*tensors, *(checkpoint.state[key] for key in ("optimizer", "lr_schedulers"))]


def losses(folder):
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]


def assert_equal(a, b):
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    else:
        assert a == b


def test_repeated_and_interrupted_runs_end_in_the_same_bits(overrides, tmp_path):
    """Three interruptions within one epoch: a kill, and a SIGTERM and a SIGINT that come between two checkpoints."""
    first, second, stopped = (tmp_path / name for name in ("first", "second", "stopped"))
    for folder in (first, second):
        trained(overrides, folder)
    assert losses(first) == losses(second)
    assert len(losses(first)) == STEPS
    assert_equal(final_state(first), final_state(second))

    checkpoints, reached = stopped / "run" / "checkpoints", 0
    for number, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)):
        every = 1 if number == signal.SIGKILL else 1000
        started = start(overrides, stopped, "resume=auto", f"training.checkpoint_every={every}")
        while started.process.is_alive() and not begun(stopped, checkpoints, number, reached):
            time.sleep(0.005)
        os.kill(started.process.pid, number)
        assert started.finish().returncode == code
        assert reached < newest(checkpoints) < STEPS
        reached = newest(checkpoints)
    trained(overrides, stopped, "resume=auto")
    assert losses(stopped) == losses(first)
    assert_equal(final_state(stopped), final_state(first))


def newest(checkpoints) -> int:
    path = latest_checkpoint(checkpoints)
    return 0 if path is None else int(path.stem.removeprefix("step-"))


def begun(folder, checkpoints, number, reached) -> bool:
    """Whether the run has done a step of its own: saved it, or, where it saves none before it is told to stop, logged it."""
    if number == signal.SIGKILL:
        return newest(checkpoints) > reached
    return len(losses(folder)) > reached


def test_the_newest_whole_checkpoint_is_taken_and_the_damaged_one_named(overrides, tmp_path):
    words = [*overrides, "training.steps=3"]
    trained(words, tmp_path)
    checkpoints = tmp_path / "run" / "checkpoints"
    damaged = latest_checkpoint(checkpoints)
    assert damaged is not None
    whole = Checkpoint(damaged).section("weights")
    file = next(damaged.glob("*.safetensors"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    (checkpoints / ".step-0000009.ckpt.partial").mkdir()
    done = trained(words, tmp_path, "resume=auto")
    assert f"warning: {damaged}: damaged: {file.name}" in done.stdout and "step-0000002.ckpt" in done.stdout
    # Of libraries a resumed run says nothing either.
    assert done.stdout.splitlines()[1:] == [
        "trains in bf16 autocast (training.precision=bf16)",
        f"trained 1 steps from step 2 on; the run is in {tmp_path / 'run'}",
    ]
    assert all(line.startswith("run: train") for line in done.stderr.splitlines())
    assert sorted(path.name for path in checkpoints.iterdir()) == [
        "damaged-step-0000003.ckpt",
        "step-0000002.ckpt",
        "step-0000003.ckpt",
    ]
    assert_equal(Checkpoint(damaged).section("weights"), whole)


def test_an_earlier_run_is_not_overwritten_in_silence(overrides, tmp_path):
    short = [*overrides, "training.steps=1"]
    trained(short, tmp_path)
    again = start(short, tmp_path).finish()
    assert again.returncode == 1
    assert "resume=auto" in again.stderr
    assert "Traceback" not in again.stderr


PHASE = ("reference_keys=reference_tokens", "data.batch_size=1")


@pytest.mark.long
def test_the_second_phase_keeps_every_weight_of_the_first(hvg, overrides, tmp_path):
    words = [word for word in overrides if not word.startswith(("data.frames", "data.views", "pose="))]
    both = [*words, *PHASE, "training.steps=2", f"output={tmp_path}"]
    first = [*both, "experiment=hvg_stage1", "data.views=2"]
    second = [*both, "experiment=hvg_stage2", "data.buckets=[[2,1],[1,2]]"]
    missing = hvg("train", *second)
    assert missing.returncode == 1
    assert "hvg_stage1" in missing.stderr and "Traceback" not in missing.stderr
    assert hvg("train", *first).returncode == 0
    done = hvg("train", *second)
    assert done.returncode == 0, done.stderr
    assert "weights kept" in done.stdout and "new:" not in done.stdout and "unused:" not in done.stdout

    config = compose(second)
    system = build_system(config)
    stored = checkpoint_weights(find_checkpoint(tmp_path / "hvg_stage1"), "ema")
    load_shared_weights(system, stored, "the first phase")
    assert_equal(dict(system.state_dict()), stored)
    state = final_weights(tmp_path / "hvg_stage2")
    assert state.keys() == stored.keys()
    assert not all(torch.equal(state[key], stored[key]) for key in state), "the second phase trained"


def final_weights(folder):
    return Checkpoint(find_checkpoint(folder)).section("weights")
