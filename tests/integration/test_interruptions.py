"""Runs that are interrupted again and again, at any moment and under every strategy, end in the bits of one that was not."""

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from forks import Started, start_ranks

from hvg.config.composition import compose
from hvg.core.checkpoint import checkpoints, latest_whole_checkpoint
from hvg.data.prepare import prepare

STEPS = 12
STRATEGIES = ("single", "ddp", "zero1", "zero2", "zero3", "fsdp")
SECTIONS = ("weights", "exp_avg", "exp_avg_sq", "average")
# Whatever is drawn, is drawn from it: `make test-long` and `make test-kill` print it.
SEED = int(os.environ.get("HVG_TEST_SEED", "0"))
# How many interruptions each strategy gets of the 60 that all share, and how many it gets of its own. Of those that all share
# DeepSpeed's get fewer: a start takes them ten times as long.
SHARED, OWN = Counter(random.Random(SEED).choices(STRATEGIES, weights=(4, 2, 1, 1, 1, 1), k=60)), 60
# Seconds in which the others of a run's processes have to end when one has ended by itself; and all of them, in any case.
PATIENCE, FOREVER = 30.0, 600.0


@pytest.fixture(scope="module")
def words(tiny, cache):
    every = (f"training.steps={STEPS}", "training.checkpoint_every=1", "training.keep_last=2", "training.precision=32")
    words = (*tiny, cache, *every, "pose=skeleton", "device=cpu")
    prepare([compose(words)], ("train", "val"), jobs=1)
    return words


def start(words, folder: Path, strategy: str, saving: str = "wait") -> list[Started]:
    """The processes of a run, which goes on with what the folder holds."""
    own = (f"output={folder}", "name=run", f"strategy={strategy}", f"training.saving={saving}", "resume=auto")
    words = ("train", *words, *own)
    if strategy == "single":
        return start_ranks(1, "hvg.cli", *words, "data.batch_size=2")
    return start_ranks(2, "hvg.cli", *words, "strategy.devices=2", "data.batch_size=1")


def end(started: list[Started]) -> list[subprocess.CompletedProcess]:
    """What became of them, when all have ended; as a launcher does, it kills those that wait for one that was killed."""
    processes, limit = [one.process for one in started], time.monotonic() + FOREVER
    while any(process.is_alive() for process in processes):
        codes = [process.exitcode for process in processes if process.exitcode is not None]
        if codes:
            limit = min(limit, time.monotonic() + (0 if min(codes) < 0 else PATIENCE))
        if time.monotonic() >= limit:
            assert codes, "neither ends"
            for process in processes:
                process.kill()
        time.sleep(0.01)
    return [one.finish() for one in started]


def final(folder: Path) -> list:
    """What has to be the same to the last bit: every tensor, where the optimiser and its schedule are, and every loss."""
    found, damaged = latest_whole_checkpoint(folder / "run" / "checkpoints")
    assert found is not None and not damaged and found.state["global_step"] == STEPS
    tensors = [(name, x) for section in SECTIONS for name, x in sorted(found.section(section).items())]
    return [tensors, found.state["optimizer"], found.state["lr_schedulers"], losses(folder)]


def losses(folder: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]


def reached(folder: Path) -> int:
    """The step of the newest checkpoint, which is whole, as all are."""
    found, damaged = latest_whole_checkpoint(folder / "run" / "checkpoints")
    assert not damaged
    return 0 if found is None else int(found.state["global_step"])


def strike(run: list[Started], folder: Path, before: int, draw: random.Random) -> str | None:
    """Interrupts one process of a run or all, while they start or in the steps after; the signal, None where it had ended."""
    step, delay = before + draw.randint(0, 3), draw.uniform(0, 0.5)
    number = draw.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
    struck = draw.choice((run, [draw.choice(run)]))
    while max(checkpoints(folder / "run" / "checkpoints"), default=0) < step:
        if not all(one.process.is_alive() for one in run):
            return None
        time.sleep(0.005)
    time.sleep(delay)
    struck = [one.process for one in struck if one.process.is_alive()]
    for process in struck:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
    return number.name if struck else None


def interrupt(words, folder: Path, strategy: str, count: int, draw: random.Random) -> None:
    """Interrupts runs ``count`` times, which save beside training or do not; each ends in the bits of one that went through."""
    ended = end(start(words, folder / "whole", strategy))
    assert not any(one.returncode for one in ended), ended
    whole, done, runs = final(folder / "whole"), Counter(), 0
    while done.total() < count:
        own, before, runs = folder / f"{runs}", 0, runs + 1
        while before < STEPS:
            run = start(words, own, strategy, draw.choice(("wait", "beside")))
            name = strike(run, own, before, draw) if done.total() < count else None
            ended, step = end(run), reached(own)
            assert step >= before, (strategy, before, step, ended)
            assert name or not any(one.returncode for one in ended), ended
            done.update([name] if name else [])
            before = step
        same = final(own)
        assert [name for name, _ in same[0]] == [name for name, _ in whole[0]]
        assert all(torch.equal(x, y) for (_, x), (_, y) in zip(same[0], whole[0], strict=True)), strategy
        assert same[1:] == whole[1:], strategy
    print(f"{strategy}: {done.total()} interruptions of {runs} runs, which all ended in the same bits: {dict(done)}")


@pytest.mark.long
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_sixty_interruptions_shared_by_all_strategies(words, tmp_path, strategy):
    interrupt(words, tmp_path, strategy, SHARED[strategy], random.Random(f"{SEED} {strategy}"))


@pytest.mark.kill
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_sixty_interruptions_of_every_strategy(words, tmp_path, strategy):
    interrupt(words, tmp_path, strategy, OWN, random.Random(f"{SEED} {strategy}"))
