"""What is launched, as command lines and scripts; nothing here needs a cluster."""

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hvg.cluster.launch import judged_runs, launch, training_batch
from hvg.cluster.launch_options import LaunchOptions
from hvg.cluster.slurm import sbatch_script
from hvg.commands.words import take_options
from hvg.config.composition import compose
from hvg.core.checkpoint import checkpoint_path, latest_checkpoint
from hvg.core.errors import ConfigError
from hvg.model.checkpoint_writing import write_checkpoint

ROOT = Path(__file__).parents[2]
TWO_NODES = ("strategy=zero2", "nodes=2", "devices=8")


def launched(*words: str, sweep: bool = False) -> None:
    options, overrides = take_options(words, LaunchOptions)
    launch(training_batch(judged_runs(overrides, options, sweep)), options, dry_run=True)


def script(*words: str, sweep: bool = False) -> str:
    options, overrides = take_options(("launcher=slurm", *words), LaunchOptions)
    batch = training_batch(judged_runs(overrides, options, sweep))
    return sbatch_script(batch, options, Path("/runs/slurm/job.sbatch"))


def test_torchrun_has_a_line_for_each_node(capsys):
    launched("launcher=torchrun", *TWO_NODES, "rendezvous=first:29500", "name=big")
    printed = capsys.readouterr().out.splitlines()
    assert printed[::2] == ["# big, on node 0 of 2", "# big, on node 1 of 2"]
    first, second = map(shlex.split, printed[1::2])
    assert [a for a, b in zip(first, second, strict=True) if a != b] == ["--node-rank=0"]
    assert {"--nnodes=2", "--nproc-per-node=8", "--master-addr=first", "--master-port=29500"} <= set(first)
    assert {"strategy.nodes=2", "strategy.devices=8", "resume=auto"} <= set(first)


def test_the_script_asks_for_what_was_given(tmp_path):
    text = script(
        *TWO_NODES,
        "time=1:30:00",
        "partition=gpu",
        "extra=[--constraint=h100]",
        "setup=[module load cuda]",
        "cpus_per_task=4",
    )
    asked = {line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH")}
    assert {"--nodes=2", "--ntasks-per-node=8", "--gpus-per-node=8", "--time=1:30:00", "--partition=gpu"} <= asked
    assert {"--signal=TERM@120", "--requeue", "--open-mode=append", "--constraint=h100"} <= asked
    assert "module load cuda" in text.splitlines()
    assert "srun --cpus-per-task=4 " in text
    (tmp_path / "job.sbatch").write_text(text)
    assert subprocess.run(["bash", "-n", tmp_path / "job.sbatch"]).returncode == 0
    assert "gpus" not in script("device=cpu")


def test_a_run_that_may_not_be_requeued_does_not_ask_for_it():
    text = script("requeues=0")
    assert "--no-requeue" in text and "scontrol" not in text


def test_a_sweep_is_an_array_with_a_run_for_each_combination():
    text = script("pose=none,skeleton", "seed=0,1", "name=both", "jobs=2", sweep=True)
    assert "#SBATCH --array=0-3%2" in text and "#SBATCH --job-name=hvg-both" in text
    elements = text.split("in\n0) # ")[1].split("    ;;")[:4]
    assert [element.split(") #")[0].strip() for element in elements[1:]] == ["1", "2", "3"]
    assert 'job="${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"' in text and 'job="$SLURM_JOB_ID"' in script("name=one")
    assert "train pose=skeleton seed=0 name=both/2-pose_skeleton-seed_0 resume=auto" in elements[2]
    with pytest.raises(ConfigError, match="same size"):
        script("strategy=single,ddp", "strategy.devices=2", sweep=True)


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (("launcher=slurm", "devices=2"), "strategy"),
        (("launcher=slurm", "strategy=ddp"), "strategy.devices"),
        (("launcher=local", *TWO_NODES), "launcher"),
        (("launcher=torchrun", *TWO_NODES), "rendezvous"),
        (("launcher=slurm", "resume=runs/other"), "resume"),
        (("launcher=slurm", "time=tomorrow"), "time"),
        (("launcher=slurm", "partition=a b"), "partition"),
        (("launcher=slum",), "launcher"),
        (("launcher=slurm", "training.stps=1"), "training.stps"),
        (("launcher=local", "time=1:00:00"), "time"),
        (("launcher=torchrun", "strategy=ddp", "devices=2", "partition=gpu"), "partition"),
    ],
)
def test_what_cannot_be_launched_is_refused_before_anything_starts(words, where):
    with pytest.raises(ConfigError) as refused:
        launched(*words)
    assert [problem.path for problem in refused.value.problems] == [where]


def test_the_checkpoints_of_other_settings_are_not_continued_silently(tmp_path):
    words = (f"output={tmp_path}", "name=old")
    saved = checkpoint_path(tmp_path / "old" / "checkpoints", 1)
    write_checkpoint(saved, {"config": compose(words).to_yaml(), "global_step": 1})
    launched("launcher=slurm", *words)
    launched("launcher=slurm", *words, "logger=none", "resume=auto")
    for asked in ([], ["resume=auto"]):
        with pytest.raises(ConfigError, match=r"seed: was 0, now 3\.\n.*resume_changes=\[seed\]"):
            launched("launcher=slurm", *words, "seed=3", *asked)
    launched("launcher=slurm", *words, "seed=3", "resume_changes=[seed]")
    # Of a damaged one the training has to find another.
    (saved / "manifest.json").write_text("{}")
    launched("launcher=slurm", *words, "seed=3")


@pytest.mark.long
def test_runs_side_by_side_and_under_torchrun_finish(hvg, tiny, cache, tmp_path):
    words = (*tiny, cache, f"output={tmp_path}", "training.steps=1", "device=cpu")
    done = hvg("train", "--multirun", *words, "pose=none,bone_map", "name=both", "launcher=local", "jobs=2")
    assert done.returncode == 0, done.stderr
    assert all(latest_checkpoint(run / "checkpoints") for run in (tmp_path / "both").iterdir())
    pair = ("strategy=ddp", "devices=2", "data.batch_size=1", "name=pair", "launcher=torchrun")
    done = hvg("launch", "train", *words, *pair)
    assert done.returncode == 0, (tmp_path / "pair" / "launch.log").read_text()
    assert latest_checkpoint(tmp_path / "pair" / "checkpoints")
    both = ("strategy=ddp", "devices=2", "data.batch_size=1", "pose=none,bone_map", "name=pairs")
    done = hvg("train", "--multirun", *words, *both)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(latest_checkpoint(run / "checkpoints") for run in (tmp_path / "pairs").iterdir())
    failed = hvg("launch", "train", *words, "name=failed", f"checkpoint={tmp_path / 'none'}", "launcher=local")
    assert failed.returncode == 1
    assert "none" in (tmp_path / "failed" / "launch.log").read_text()


@pytest.mark.long
@pytest.mark.parametrize("how", [("launcher=local",), ("launcher=torchrun", "strategy=ddp", "devices=2")])
def test_a_signal_stops_all_processes_and_they_save(tiny, cache, tmp_path, how):
    words = (
        *tiny,
        cache,
        f"output={tmp_path}",
        "name=long",
        "training.steps=9999",
        "training.log_every=1",
        "device=cpu",
    )
    command = [sys.executable, "-m", "hvg.cli", "launch", "train", *words, *how]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    started = subprocess.Popen(command, env=environment)
    rows = tmp_path / "long" / "metrics.jsonl"
    while not (rows.exists() and rows.read_text()):
        assert started.poll() is None
        time.sleep(0.1)
    started.terminate()
    assert started.wait(timeout=120) == 143
    last = json.loads(rows.read_text().splitlines()[-1])["step"]
    assert latest_checkpoint(tmp_path / "long" / "checkpoints") == checkpoint_path(
        tmp_path / "long" / "checkpoints", last + 1
    )
