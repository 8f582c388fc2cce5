"""On a real Slurm: whatever interrupts a run, it is requeued and ends in the same bits; what fails is not requeued."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hvg.core.checkpoint import Checkpoint, checkpoint_path, latest_checkpoint

pytestmark = pytest.mark.slurm

CLUSTER = Path(__file__).parent / "start_cluster.sh"
# Far more than a step or a start takes on a busy machine.
PATIENCE = 240.0
# So many that a run is still going when its signal comes.
STEPS = 100
TWO = ("strategy=ddp", "devices=2", "data.batch_size=1")
SECTIONS = ("weights", "exp_avg", "exp_avg_sq", "average")


def command(*words: str) -> str:
    """What a command of Slurm printed."""
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def wait_until(happened: Callable[[], object], why: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, f"waited in vain\n{why()}"
        time.sleep(0.05)


class Job:
    """A run that was submitted, as a job or as an element of an array."""

    def __init__(self, job: str, folder: Path, log: Path) -> None:
        self.id, self.folder, self.log = job, folder, log

    def facts(self) -> dict[str, str]:
        """What Slurm says: JobState, ExitCode, Restarts, ..."""
        return dict(re.findall(r"(\w+)=(\S*)", command("scontrol", "show", "job", self.id, "--oneliner")))

    def told(self) -> str:
        log = self.log.read_text() if self.log.exists() else "no log"
        return f"{self.facts()}\n{log}"

    def logged_steps(self) -> list[int]:
        rows = self.folder / "metrics.jsonl"
        return [json.loads(row)["step"] for row in rows.read_text().splitlines()] if rows.exists() else []

    def advance(self, steps: int = 5) -> None:
        """Waits until some more steps are done."""
        goal = len(self.logged_steps()) + steps
        wait_until(lambda: len(self.logged_steps()) >= goal, self.told)

    def processes(self) -> list[int]:
        """The training's, not those of Slurm around them."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_text().split("\0")
            except OSError:
                continue
            ours = any(word.startswith("name=") and Path(word[5:]).name == self.folder.name for word in words)
            if words[0] == sys.executable and ours:
                found.append(int(path.parent.name))
        return found

    def signal(self, number: int) -> None:
        """To its training, which is one process."""
        (process,) = self.processes()
        os.kill(process, number)

    def restarted(self, times: int) -> None:
        wait_until(lambda: self.facts()["Restarts"] == str(times), self.told)

    def ended(self) -> dict[str, str]:
        """Its facts when it has ended and no other start is due."""
        final = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}
        wait_until(lambda: self.facts()["JobState"] in final, self.told)
        return self.facts()


@pytest.fixture(scope="module", autouse=True)
def slurm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([CLUSTER, "start", folder], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        yield
    subprocess.run([CLUSTER, "stop", folder], check=True)


@pytest.fixture(scope="module")
def overrides(tiny, cache, tmp_path_factory):
    steps = (f"training.steps={STEPS}", "training.log_every=1", "training.checkpoint_every=50", "training.threads=1")
    return (*tiny, cache, *steps, "device=cpu", f"output={tmp_path_factory.mktemp('runs')}")


@pytest.fixture(scope="module")
def submit(hvg, overrides):
    def submitted(name: str, *words: str) -> Job:
        done = hvg("launch", "train", *overrides, f"name={name}", "launcher=slurm", *words)
        assert done.returncode == 0, done.stderr
        found = re.search(r"submitted job (\d+), 1 run", done.stdout)
        assert found, done.stdout
        folder = Path(overrides[-1].partition("=")[2]) / name
        return Job(found[1], folder, folder / "slurm" / f"{found[1]}.log")

    return submitted


def assert_same_bits(job: Job, other: Path) -> None:
    first, second = (Checkpoint(checkpoint_path(f / "checkpoints", STEPS)) for f in (job.folder, other))
    assert first.state["optimizer"] == second.state["optimizer"]
    for section in SECTIONS:
        mine, theirs = first.section(section), second.section(section)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], x) for key, x in theirs.items())


def test_a_run_goes_on_after_a_requeue_a_signal_and_its_time_limit(hvg, overrides, submit):
    job = submit("moved", "time=30", "stop_before=60")
    job.advance()
    command("scontrol", "requeue", job.id)
    job.restarted(1)
    job.advance()
    # To its processes alone, as before a preemption.
    command("scancel", "--signal=TERM", job.id)
    job.restarted(2)
    job.advance()
    # Slurm looks at the clock twice a minute. The run sleeps, or it could be done by then.
    job.signal(signal.SIGSTOP)
    command("scontrol", "update", f"JobId={job.id}", "TimeLimit=2")
    stopped = job.told().count("CANCELLED AT")
    wait_until(lambda: job.told().count("CANCELLED AT") > stopped, job.told)
    job.signal(signal.SIGCONT)
    job.restarted(3)
    command("scontrol", "update", f"JobId={job.id}", "TimeLimit=30")
    whole = hvg("train", *overrides, "name=whole")
    assert whole.returncode == 0, whole.stderr

    facts = job.ended()
    assert (facts["JobState"], facts["ExitCode"], facts["Restarts"]) == ("COMPLETED", "0:0", "3"), job.told()
    assert job.told().count("stopped by SIGTERM") == 3
    assert job.logged_steps() == list(range(STEPS))
    assert_same_bits(job, job.folder.parent / "whole")


def test_a_preempted_run_of_two_processes_goes_on(hvg, overrides, submit):
    job = submit("preempted", *TWO, "partition=low", "time=30")
    job.advance()
    urgent = command("sbatch", "--parsable", "--partition=high", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    job.restarted(1)
    whole = hvg("train", *overrides, "name=whole_of_two", "strategy=ddp", "strategy.devices=2", "data.batch_size=1")
    assert whole.returncode == 0, whole.stderr
    facts = job.ended()
    assert (facts["JobState"], facts["ExitCode"], facts["Restarts"]) == ("COMPLETED", "0:0", "1"), job.told()
    assert job.told().count("stopped by SIGTERM") == 1
    assert_same_bits(job, job.folder.parent / "whole_of_two")
    # It needs the whole node, so only a preemption let it run before the job ended.
    ahead = Job(urgent, job.folder, job.log).facts()
    assert ahead["JobState"] == "COMPLETED"
    assert ahead["EndTime"] < facts["EndTime"]


def test_a_run_that_fails_in_any_process_is_not_requeued(submit, tmp_path):
    facts = submit("failing", *TWO, f"checkpoint={tmp_path / 'missing'}").ended()
    assert (facts["JobState"], facts["ExitCode"], facts["Restarts"]) == ("FAILED", "1:0", "0")


def test_requeues_have_an_end_and_a_cancelled_job_has_none(submit):
    job, cancelled = submit("twice", "requeues=1"), submit("cancelled")
    cancelled.advance()
    command("scancel", cancelled.id)
    job.advance()
    command("scancel", "--signal=TERM", job.id)
    job.restarted(1)
    job.advance()
    command("scancel", "--signal=TERM", job.id)
    facts = job.ended()
    assert (facts["JobState"], facts["ExitCode"], facts["Restarts"]) == ("FAILED", "143:0", "1"), job.told()
    assert "stopped after 1 requeues" in job.told()
    facts = cancelled.ended()
    assert (facts["JobState"], facts["Restarts"]) == ("CANCELLED", "0"), cancelled.told()
    assert latest_checkpoint(cancelled.folder / "checkpoints")


def test_a_sweep_is_an_array(hvg, overrides):
    words = ("pose=none,skeleton", "name=sweep", "training.steps=2", "launcher=slurm", "jobs=2", "time=30")
    done = hvg("train", "--multirun", *overrides[:-1], *words, overrides[-1])
    assert done.returncode == 0, done.stderr
    found = re.search(r"submitted job (\d+), 2 run\(s\)", done.stdout)
    assert found, done.stdout
    folder = Path(overrides[-1].partition("=")[2]) / "sweep"
    for number, name in enumerate(("0-pose_none", "1-pose_skeleton")):
        job = Job(f"{found[1]}_{number}", folder / name, folder / "slurm" / f"{found[1]}_{number}.log")
        facts = job.ended()
        assert (facts["JobState"], facts["ExitCode"]) == ("COMPLETED", "0:0"), job.told()
        assert latest_checkpoint(job.folder / "checkpoints")


def test_each_element_of_an_array_is_requeued_by_itself(hvg, overrides):
    """Of the last one the job number is that of the whole array. It is interrupted beside the others, and alone."""
    steps = (100, 101, 250)
    words = ("training.steps=" + ",".join(map(str, steps)), "name=elements", "launcher=slurm", "time=30")
    kept = [word for word in overrides if not word.startswith("training.steps=")]
    done = hvg("train", "--multirun", *kept, *words)
    assert done.returncode == 0, done.stderr
    found = re.search(r"submitted job (\d+), 3 run\(s\)", done.stdout)
    assert found, done.stdout
    folder = Path(overrides[-1].partition("=")[2]) / "elements"
    jobs = [
        Job(f"{found[1]}_{n}", folder / f"{n}-training.steps_{count}", folder / "slurm" / f"{found[1]}_{n}.log")
        for n, count in enumerate(steps)
    ]

    def halted(job: Job) -> None:
        """Holds its training after some step, so that none has ended before its turn, however fast the machine."""
        job.advance(1)
        job.signal(signal.SIGSTOP)

    def interrupt(number: int) -> None:
        before = [int(job.facts()["Restarts"]) for job in jobs]
        command("scancel", "--signal=TERM", jobs[number].id)
        jobs[number].signal(signal.SIGCONT)
        jobs[number].restarted(before[number] + 1)
        after = [int(job.facts()["Restarts"]) for job in jobs]
        assert after == [count + (n == number) for n, count in enumerate(before)]

    for job in jobs:
        halted(job)
    interrupt(2)
    halted(jobs[2])
    interrupt(0)
    interrupt(1)
    ends = [jobs[number].ended() for number in (0, 1)]
    interrupt(2)
    for job, facts, count, restarts in zip(jobs, [*ends, jobs[2].ended()], steps, ("1", "1", "2"), strict=True):
        assert (facts["JobState"], facts["ExitCode"], facts["Restarts"]) == ("COMPLETED", "0:0", restarts), job.told()
        assert job.told().count("stopped by SIGTERM") == int(restarts)
        assert job.logged_steps() == list(range(count))


def test_a_study_of_two_processes_goes_on_after_a_requeue_and_is_collected(hvg, tiny, cache, tmp_path):
    base = (*tiny, cache, "device=cpu", f"training.steps={STEPS}", "training.log_every=1", "evaluation.clips=2")
    text = {
        "title": "On Slurm",
        "question": "Is it all there?",
        "varies": ["sampler"],
        "base": [*base, "strategy=ddp", "data.batch_size=1", f"output={tmp_path / 'out'}"],
        "arms": {"whole": [], "parts": ["sampler=temporal"]},
    }
    (tmp_path / "study.yaml").write_text(json.dumps(text))
    words = ("study", str(tmp_path), "devices=2")
    started = hvg(*words, "launcher=slurm", "time=30")
    assert started.returncode == 0, started.stderr
    found = re.search(r"submitted job (\d+), 1 run", started.stdout)
    assert found, started.stdout
    folder = tmp_path / "out" / "whole-seed0"
    job = Job(found[1], folder, folder.parent / "slurm" / f"{found[1]}.log")
    job.advance()
    # It stays in the queue until it was looked at.
    command("scontrol", "update", "PartitionName=low", "State=DOWN")
    command("scancel", "--signal=TERM", job.id)
    job.restarted(1)
    twice = hvg(*words, "launcher=slurm")
    assert twice.returncode == 1 and f"job {job.id}, which works in" in twice.stderr
    collected = hvg(*words, "collect=true")
    assert collected.returncode == os.EX_TEMPFAIL, collected.stderr
    assert f"of {STEPS}" in collected.stderr and f"job {job.id} is " in collected.stderr
    assert "parts (seed 0): not finished: not started" in collected.stderr
    command("scontrol", "update", "PartitionName=low", "State=UP")

    facts = job.ended()
    assert (facts["JobState"], facts["ExitCode"], facts["Restarts"]) == ("COMPLETED", "0:0", "1"), job.told()
    assert job.told().count("stopped by SIGTERM") == 1
    assert job.logged_steps() == list(range(STEPS))
    assert not (tmp_path / "out" / "parts-seed0" / "checkpoints").exists()
    collected = hvg(*words, "collect=true")
    assert collected.returncode == 0, collected.stderr
    arms = json.loads((tmp_path / "out" / "results.json").read_text())["arms"]
    assert [(arm["name"], arm["status"]) for arm in arms] == [("whole", "done"), ("parts", "done")]
    assert all(len(arm["seeds"][0]["values"]["psnr"]["per_clip"]) == 2 for arm in arms)
