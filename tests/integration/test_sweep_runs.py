"""Sweeps as a user starts them: real trainings, workers that share a sweep, are stopped and are killed."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from hvg.core.checkpoint import Checkpoint, checkpoints, latest_checkpoint
from hvg.sweep.store import stored_sweep

ROOT = Path(__file__).parents[2]
RATE = "training.learning_rate=tag(log, interval(1e-4, 1e-2))"
SEARCH = ("--multirun", "sweep=optuna", "device=cpu", "training.validate_every=1", "name=lr")


def record(folder):
    return stored_sweep(f"sqlite:///{folder / 'lr' / 'sweep.db'}", "lr")


def steps_of(folder):
    return max(checkpoints(folder / "checkpoints"), default=0)


def log_of(folder):
    return (folder / "launch.log").read_text()


def logged(folder):
    """What a run logged, but for how fast it was."""
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{name: x for name, x in row.items() if not name.startswith("throughput/")} for row in rows]


def wait_until(condition, seconds=240.0):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "what the test waits for does not happen"
        time.sleep(0.05)


@pytest.mark.long
def test_a_sweep_of_trainings_ends_in_a_report(hvg, tiny, cache, tmp_path):
    words = (*tiny, cache, f"output={tmp_path}", RATE, "pose=bone_map,skeleton", "trials=3")
    done = hvg("train", *SEARCH, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    found = record(tmp_path)
    assert [trial.state for trial in found.trials] == ["complete"] * 3
    assert all(steps_of(tmp_path / "lr" / trial.folder) == 2 for trial in found.trials)
    assert all([step for step, _ in trial.course] == [1, 2] for trial in found.trials)
    assert f"validation_psnr {found.trials[0].value:.6g}" in done.stdout
    report = (tmp_path / "lr" / "report.html").read_text()
    assert all(f'data-trial="trial {i}"' in report for i in range(3))
    with (tmp_path / "lr" / "trials.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["validation_psnr"]) for row in rows] == [trial.value for trial in found.trials]
    # The command again finds nothing to do; with other words it would be another sweep.
    assert hvg("train", *SEARCH, *words).returncode == 0
    assert record(tmp_path) == found
    other = hvg("train", *SEARCH, *words, "training.weight_decay=0.1")
    assert other.returncode == 1 and "other settings (words)" in other.stderr


@pytest.mark.long
def test_two_workers_share_six_trials(hvg, tiny, cache, tmp_path):
    words = (*tiny, cache, f"output={tmp_path}", RATE, "trials=6", "launcher=local", "jobs=2")
    done = hvg("train", *SEARCH, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [(trial.index, trial.state, trial.starts) for trial in record(tmp_path).trials] == [
        (i, "complete", 1) for i in range(6)
    ]
    logs = [(tmp_path / "lr" / "workers" / f"{number}.log").read_text() for number in range(2)]
    assert sum(log.count(": validation_psnr ") for log in logs) == 6
    assert all(log.count(": validation_psnr ") > 0 for log in logs)


@pytest.mark.long
def test_a_trial_whose_worker_is_stopped_and_killed_ends_in_the_same_bits(hvg, tiny, cache, tmp_path):
    """SIGTERM, then SIGKILL, each in the middle of the trial; what was saved is continued by the next worker."""
    words = (*tiny, cache, RATE, "training.steps=60", "trials=1", "lease=2", f"output={tmp_path}")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "hvg.cli", "train", *SEARCH, *words]
    codes, reached = [], 0
    for number in (signal.SIGTERM, signal.SIGKILL):
        with (tmp_path / "worker.log").open("a") as log:
            worker = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        wait_until(lambda: any(steps_of(run) > reached for run in tmp_path.glob("lr/0*")))  # noqa: B023
        worker.send_signal(number)
        codes.append(worker.wait())
        (run,) = tmp_path.glob("lr/0*")
        # The training that the worker had started does not live on without it.
        stopped = len(codes)
        wait_until(lambda: log_of(run).count("stopped by SIGTERM") == stopped)  # noqa: B023
        assert reached < steps_of(run) < 60
        reached = steps_of(run)
    assert codes == [128 + signal.SIGTERM, -signal.SIGKILL]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (trial,) = record(tmp_path).trials
    assert (trial.state, trial.starts) == ("complete", 3)
    assert [step for step, _ in trial.course] == list(range(1, 61))
    alone = ("training.validate_every=1", "device=cpu", *trial.words, "name=alone")
    fixed = [word for word in words if not word.startswith(("training.learning_rate", "trials", "lease"))]
    assert hvg("train", *fixed, *alone).returncode == 0
    a, b = (Checkpoint(latest_checkpoint(folder / "checkpoints")) for folder in (run, tmp_path / "alone"))
    for section in ("weights", "average", "exp_avg", "exp_avg_sq"):
        left, right = a.section(section), b.section(section)
        assert left.keys() == right.keys() and left
        assert all(torch.equal(left[name], right[name]) for name in left)
    assert logged(run) == logged(tmp_path / "alone")


@pytest.mark.long
def test_a_bad_trial_is_stopped_early_and_saved(hvg, tiny, cache, tmp_path):
    """The second rate trains nothing, so it is worse than the first at the first validation."""
    words = (*tiny, cache, f"output={tmp_path}", "training.learning_rate=0.003,1e-12", "training.steps=60")
    search = ("search=random", "search_seed=2", "trials=2", "pruner=median", "prune_startup=1")
    done = hvg("train", *SEARCH, *words, *search, "training.validate_every=10")
    assert done.returncode == 0, done.stdout + done.stderr
    good, bad = record(tmp_path).trials
    assert (good.words, bad.words) == (("training.learning_rate=0.003",), ("training.learning_rate=1e-12",))
    assert (good.state, bad.state) == ("complete", "pruned")
    assert "stopped at step 10 by pruner=median" in bad.note
    run = tmp_path / "lr" / bad.folder
    assert 10 <= steps_of(run) < 60 and "stopped by SIGTERM" in log_of(run)
    assert bad.value == bad.course[-1][1] < good.value


@pytest.mark.long
def test_failures_are_named_and_what_is_not_logged_ends_the_sweep(hvg, tiny, cache, tmp_path):
    words = (*tiny, cache, f"output={tmp_path}", "training.learning_rate=1e-3,2e-3", "trials=2", "retries=0")
    done = hvg("train", *SEARCH, *words, "metric=validation_psrn", "direction=maximize")
    assert done.returncode == 1
    assert "nothing logs 'validation_psrn'. Did you mean 'validation_psnr'?" in done.stderr
    assert [trial.state for trial in record(tmp_path).trials] == ["failed"]
    done = hvg("train", *SEARCH, *words, "name=broken", "checkpoint=/nowhere/at/all")
    assert done.returncode == 1
    failed = stored_sweep(f"sqlite:///{tmp_path / 'broken' / 'sweep.db'}", "broken").trials
    assert [trial.state for trial in failed] == ["failed", "failed"]
    assert all("/nowhere/at/all" in trial.note and trial.starts == 1 for trial in failed)
    assert "/nowhere/at/all" in (tmp_path / "broken" / "report.html").read_text()
