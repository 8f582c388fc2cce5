"""Arms of a study as jobs: what is collected of a part of them, how they stop and go on, and several processes each."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hvg.cli import run
from hvg.config.composition import compose
from hvg.core.checkpoint import checkpoint_path, latest_checkpoint
from hvg.score import evaluation_record
from hvg.study.arm import run_arm
from hvg.study.plan import ArmRun, plan
from hvg.study.study_file import load_study
from hvg.train.run import train

ROOT = Path(__file__).parents[2]


def write_study(folder: Path, **changes) -> Path:
    text = {
        "title": "Parts",
        "question": "What is there?",
        "varies": ["pose", "sampler"],
        "arms": {"none": ["pose=none"], "bone_map": ["pose=bone_map"], "temporal": ["pose=none", "sampler=temporal"]},
        "baselines": ["copy_reference"],
    }
    folder.mkdir()
    (folder / "study.yaml").write_text(json.dumps(text | changes))
    return folder


def make_ready(arm: ArmRun) -> None:
    arm.folder.mkdir(parents=True, exist_ok=True)
    (arm.folder / "config.yaml").write_text(arm.config.to_yaml())


def wait_until(happened: Callable[[], object], process: subprocess.Popen) -> None:
    while not happened():
        assert process.poll() is None, "ended before"
        time.sleep(0.05)


def start_arm(arm: ArmRun) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-m", "hvg.study.arm", str(arm.folder)], env=environment)


@pytest.mark.long
def test_what_is_finished_is_reported_and_the_rest_is_named(tiny, cache, tmp_path, capsys, monkeypatch):
    base = [*tiny, cache, "device=cpu", "evaluation.clips=2", "evaluation.steps=1", f"output={tmp_path / 'out'}"]
    study = write_study(tmp_path / "small", base=base, seeds=[0, 1], near_to="bone_map")
    arms = {(arm.arm, arm.seed): arm for arm in plan(load_study(study), "small", [])}
    for key in [("none", 0), ("none", 1), ("bone_map", 1)]:
        make_ready(arms[key])
        run_arm(arms[key].folder, None)
    failing = arms["temporal", 0]
    make_ready(failing)
    (failing.folder / "error.txt").write_text("DataError: no such shard")

    assert run(["study", str(study), "collect=true"]) == 1
    printed = capsys.readouterr()
    assert "temporal (seed 0): DataError: no such shard" in printed.err
    assert "bone_map (seed 0): not finished: not started" in printed.err
    assert "without collect=true continue what is not finished" in printed.err
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    found = {arm["name"]: (arm["status"], len(arm["seeds"]), arm.get("num_seeds")) for arm in results["arms"]}
    assert found == {
        "none": ("done", 2, 2),
        "bone_map": ("done", 1, 2),
        "temporal": ("failed", 0, 2),
        "copy_reference": ("done", 1, None),
    }
    # A copy of the photo stands among the baselines.
    assert list(results["anchors"]) == ["truth", "blurred_truth", "blank"]
    assert results["anchors"]["truth"]["psnr"] == pytest.approx(100) and 0 < results["anchors"]["truth"]["mask_iou"] < 1
    own = json.loads((arms["none", 0].folder / "results.json").read_text())
    assert "anchors" not in own, "they depend on no arm"
    assert [clip["truth"] for clip in results["clips"]] == [clip["truth"] for clip in own["clips"]]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "bone map (1 of 2 seeds)" in page and "seed 0: not finished: not started" in page
    assert "none (" not in page and "failed: seed 0: DataError: no such shard" in page
    # At the seed at which that arm is finished the other's frames are held beside its.
    assert results["metrics"][-1]["label"] == "PSNR to bone map"
    near = {arm["name"]: [seed["values"].get("psnr_to_bone_map") for seed in arm["seeds"]] for arm in results["arms"]}
    assert [score["value"] is None for score in near["none"]] == [True, False]
    assert near["bone_map"][0]["unavailable"] == "these are its own frames" and near["copy_reference"] == [None]
    # The difference is over the seed that both have.
    rows = [line.split(",") for line in (tmp_path / "out" / "results.csv").read_text().splitlines()]
    seeds = {row[0]: row[rows[0].index("seeds")] for row in rows[1:] if row[3] == "psnr"}
    assert seeds["bone_map"] == "1"

    (failing.folder / "error.txt").unlink()
    read, reads = evaluation_record.read_record, []
    with monkeypatch.context() as patched:
        patched.setattr(evaluation_record, "read_record", lambda path: reads.append(path) or read(path))
        assert run(["study", str(study), "collect=true"]) == os.EX_TEMPFAIL
    assert len(reads) == len({*reads}) == 3, "what a finished arm left is read and judged once"
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [arm["status"] for arm in results["arms"]] == ["done", "done", "unfinished", "done"]
    # What was trained for it is taken, and what is finished is left alone.
    sampled = arms["temporal", 1]
    make_ready(sampled)
    run_arm(sampled.folder, arms["none", 1].folder)
    assert not (sampled.folder / "checkpoints").exists()
    before = (sampled.folder / "results.json").stat().st_mtime_ns
    run_arm(sampled.folder, arms["none", 1].folder)
    assert (sampled.folder / "results.json").stat().st_mtime_ns == before

    # A metric whose code failed leaves the arm's other numbers, is named, and is tried again.
    record = json.loads((sampled.folder / "results.json").read_text())
    record["values"]["l1"] |= {"value": None, "unavailable": "failed with KeyError: 'x'", "traceback": ["..."]}
    (sampled.folder / "results.json").write_text(json.dumps(record))
    capsys.readouterr()
    assert run(["study", str(study), "collect=true"]) == 1
    printed = capsys.readouterr()
    assert "temporal (seed 1): metric l1: failed with KeyError: 'x'" in printed.err
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {arm["name"]: arm["status"] for arm in results["arms"]}["temporal"] == "done"
    run_arm(sampled.folder, arms["none", 1].folder)
    assert "traceback" not in json.loads((sampled.folder / "results.json").read_text())["values"]["l1"]


def test_nothing_finished_is_reported_too(tiny, cache, tmp_path, capsys):
    base = [*tiny, cache, "device=cpu", "evaluation.clips=1", f"output={tmp_path / 'out'}"]
    study = write_study(tmp_path / "empty", base=base, baselines=[])
    assert run(["study", str(study), "collect=true"]) == os.EX_TEMPFAIL
    assert "No arm finished" in capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('<td class="unfinished"') == page.count("seed 0: not finished: not started") == 3
    assert not (tmp_path / "out" / "none-seed0").exists()


def test_a_signal_in_the_last_step_reaches_what_follows_training(tiny, cache, tmp_path):
    config = compose([*tiny, cache, "device=cpu", "training.steps=2", f"output={tmp_path}", "name=last"])
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        train(config, lambda done: signal.raise_signal(signal.SIGTERM) if done.step == 2 else None)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]
    assert latest_checkpoint(tmp_path / "last" / "checkpoints") == checkpoint_path(tmp_path / "last" / "checkpoints", 2)


@pytest.mark.long
def test_an_arm_that_is_stopped_says_so_and_goes_on(tiny, cache, tmp_path):
    base = [*tiny, cache, "device=cpu", "training.steps=60", "training.log_every=1", f"output={tmp_path / 'out'}"]
    study = write_study(tmp_path / "stopped", base=[*base, "evaluation.steps=40", "evaluation.clips=2"])
    arm = plan(load_study(study), "stopped", [])[0]
    make_ready(arm)
    rows = arm.folder / "metrics.jsonl"

    process = start_arm(arm)
    wait_until(lambda: rows.exists() and rows.read_text(), process)
    process.terminate()
    assert process.wait(timeout=300) == 143
    assert latest_checkpoint(arm.folder / "checkpoints") and not arm.is_trained()
    assert arm.state().status == "unfinished" and " of 60" in arm.state().text

    process = start_arm(arm)
    wait_until(lambda: arm.state().text.startswith("not finished: scored"), process)
    process.terminate()
    assert process.wait(timeout=300) == -signal.SIGTERM
    assert arm.is_trained() and arm.state().status == "unfinished"

    process = start_arm(arm)
    assert process.wait(timeout=600) == 0
    assert arm.state().status == "done"
    assert [json.loads(row)["step"] for row in rows.read_text().splitlines() if '"loss"' in row] == list(range(60))


@pytest.mark.long
def test_several_processes_share_each_arm(hvg, tiny, cache, tmp_path):
    two = ["strategy=ddp", "strategy.devices=2", "data.batch_size=1"]
    base = [*tiny, cache, "device=cpu", *two, "evaluation.clips=2", f"output={tmp_path / 'out'}"]
    arms = {"none": ["pose=none"], "temporal": ["pose=none", "sampler=temporal"]}
    study = write_study(tmp_path / "pairs", base=base, arms=arms)
    done = hvg("study", str(study))
    log = tmp_path / "out" / "none-seed0" / "log.txt"
    assert done.returncode == 0, done.stderr + log.read_text()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [arm["status"] for arm in results["arms"]] == ["done"] * 3
    assert all(len(arm["seeds"][0]["values"]["psnr"]["per_clip"]) == 2 for arm in results["arms"])

    failing = hvg("study", str(study), "fresh=true", f"checkpoint={tmp_path / 'missing'}")
    assert failing.returncode == 1
    assert "none (seed 0): CheckpointError" in failing.stderr
    assert "temporal (seed 0): arm none, which trains for it, failed" in failing.stderr


@pytest.mark.long
def test_a_stopped_study_passes_the_signal_on(tiny, cache, tmp_path):
    base = [*tiny, cache, "device=cpu", "training.steps=9999", "training.log_every=1", f"output={tmp_path / 'out'}"]
    study = write_study(tmp_path / "stopped", base=base, arms={"none": ["pose=none"], "bone_map": ["pose=bone_map"]})
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "hvg.cli", "study", str(study), "jobs=2"], env=environment)
    rows = [tmp_path / "out" / f"{name}-seed0" / "metrics.jsonl" for name in ("none", "bone_map")]
    wait_until(lambda: all(path.exists() and path.read_text() for path in rows), process)
    process.terminate()
    assert process.wait(timeout=300) == 143
    assert all(latest_checkpoint(path.parent / "checkpoints") for path in rows)
    assert not (tmp_path / "out" / "report.html").exists()
