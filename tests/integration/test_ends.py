"""However a run is interrupted, all of its processes end, with the exit code of what happened and a line that says it."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
from groups import CommandGroup

from hvg.config.composition import compose
from hvg.core.errors import HvgError
from hvg.data.prepare import prepare
from hvg.train.run import train

DDP = ("strategy=ddp", "strategy.devices=2", "data.batch_size=1")


@pytest.fixture(scope="module")
def overrides(tiny, cache, tmp_path_factory):
    words = (*tiny, cache, "pose=skeleton", "device=cpu", "training.precision=32", "training.log_every=1")
    words = (*words, f"output={tmp_path_factory.mktemp('interruptions')}", "training.steps=100000")
    prepare([compose(words)], ("train", "val"), jobs=1)
    return words


class Started(CommandGroup):
    """A run."""

    def __init__(self, *words: str) -> None:
        self.folder = Path(next(w for w in words if w.startswith("output=")).removeprefix("output=")) / words[-1][5:]
        super().__init__("train", *words)

    def has_begun(self) -> bool:
        metrics = self.folder / "metrics.jsonl"
        return metrics.exists() and metrics.read_text().count("\n") > 0

    def outcome(self) -> tuple[int, list[str]]:
        """Exit code of the first process when all have ended, and what they printed but for progress."""
        since = time.monotonic()
        printed = self.ended()
        print(f"the last process ended after {time.monotonic() - since:.1f} s")
        # Until a process has imported what it runs, Python itself tells of an interrupt as of any other error.
        at_work = re.search(r'File "[^"]*/hvg/[^"]*", line \d+, in (?!<module>)', printed)
        assert "Traceback" not in printed or ("KeyboardInterrupt" in printed and not at_work), printed
        code = self.process.returncode
        # As a shell tells it of a process that had no time to catch the signal.
        return 128 - code if code < 0 else code, [line for line in printed.splitlines() if ": train " not in line]


@pytest.mark.long
@pytest.mark.parametrize("late", [0.0, 1.0, 4.0])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_all_while_they_start_ends_all(overrides, number, code, late):
    """One exited, the other waited for it where they were to meet."""
    with Started(*overrides, *DDP, f"name=start{number}-{late}") as run:
        run.wait_for(lambda: len(run.running()) > 1)
        time.sleep(late)
        os.killpg(run.process.pid, number)
        assert run.outcome()[0] == code


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_first_process_alone_while_it_waits_for_others_ends_all(overrides, number, code):
    with Started(*overrides, *DDP, f"name=first{number}") as run:
        run.wait_for(lambda: len(run.running()) > 1)
        os.kill(run.process.pid, number)
        assert run.outcome()[0] == code


@pytest.mark.long
@pytest.mark.parametrize("when", ["while they start", "while they train"])
def test_no_process_outlives_the_first(overrides, when):
    with Started(*overrides, *DDP, f"name=orphan-{when[-5:]}") as run:
        run.wait_for((lambda: len(run.running()) > 1) if when == "while they start" else run.has_begun)
        os.kill(run.process.pid, signal.SIGKILL)
        assert run.outcome()[0] == 128 + signal.SIGKILL


@pytest.mark.long
@pytest.mark.parametrize("strategy", [(), DDP], ids=["single", "ddp"])
def test_a_second_interrupt_ends_at_once_in_a_line(overrides, strategy):
    with Started(*overrides, *strategy, f"name=twice{len(strategy)}") as run:
        run.wait_for(run.has_begun)
        for _ in range(2):
            os.killpg(run.process.pid, signal.SIGINT)
            time.sleep(0.02)
        code, lines = run.outcome()
        assert code == 130
        assert lines[-1].startswith("hvg train: interrupted; resume=auto continues what it has saved")


@pytest.mark.long
def test_a_killed_loading_process_is_told_in_a_line(overrides):
    with Started(*overrides, "data.workers=1", "name=loader") as run:
        run.wait_for(run.has_begun)
        (loader,) = (process for process in run.running() if process != run.process.pid)
        os.kill(loader, signal.SIGKILL)
        code, lines = run.outcome()
        assert code == 1
        assert lines[-1].startswith("hvg train: a process that loads data was ended from outside")


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_all_leaves_those_that_load_until_the_step_is_saved(overrides, number, code):
    with Started(*overrides, "data.workers=1", f"name=loading{number}") as run:
        run.wait_for(run.has_begun)
        os.killpg(run.process.pid, number)
        assert run.outcome()[0] == code
        assert any((run.folder / "checkpoints").iterdir())


@pytest.mark.long
def test_a_second_process_in_a_run_folder_is_refused(hvg, overrides):
    with Started(*overrides, "name=shared") as run:
        run.wait_for(run.has_begun)
        for more in ((), ("resume=auto",)):
            done = hvg("train", *overrides, "name=shared", *more)
            assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
            assert f"shared is in use by process {run.process.pid} on " in done.stderr


@pytest.mark.long
def test_a_run_that_diverges_says_so_and_keeps_what_it_saved_before(overrides):
    more = ("name=diverged", "training.checkpoint_every=1", "training.steps=2", "training.warmup_steps=0")
    config, told = compose([*overrides, *more]), []
    # No setting is as large: the judge refuses it.
    beyond = config.training.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(HvgError, match=r"training has diverged, weights/.* training\.learning_rate"):
        train(config.model_copy(update={"training": beyond}), log=told.append)
    assert not any("trained 2 steps" in line for line in told)
