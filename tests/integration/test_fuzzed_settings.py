"""Configurations drawn from the schema: the judge says no, or they train and are evaluated. Never a traceback, never a hang.

``make test-fuzz`` judges 2,000 and runs 40 of those that are accepted; among the long tests there are fewer.
"""

import contextlib
import io
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from conftest import TINY
from forks import Started
from hypothesis import HealthCheck, Phase, given, seed, settings
from setting_words import configurations

from hvg import cli
from hvg.config.composition import compose
from hvg.config.settings import RunConfig
from hvg.cost.forecast import forecast

SEED = int(os.environ.get("HVG_TEST_SEED", "0"))
# Seconds after which a command is taken to hang, on a machine that does something else as well.
JUDGED_WITHIN, RUN_WITHIN = 120, 900
# What is run here: on any machine, in a minute. What is accepted and larger is only larger.
MOST_STEPS, MOST_BYTES, MOST_FLOPS, MOST_RAYS = 4, 10**9, 10**11, 2**19
# Why a run may end by itself: no judge can know that a learning rate is too high.
ITS_OWN_END = ("training has diverged", "more than training.max_skipped", "not finite", "no such file", "No such file")


@pytest.mark.long
def test_a_hundred_configurations_are_refused_or_run(tmp_path):
    refused_or_run(100, 4, tmp_path)


@pytest.mark.fuzz
def test_two_thousand_configurations_are_refused_or_run(tmp_path):
    refused_or_run(2000, 40, tmp_path)


def refused_or_run(judged: int, run: int, folder) -> None:
    """Judges as many configurations; those that are accepted are also costed, and ``run`` of them run."""
    answers, accepted = Counter(), []

    @seed(SEED)
    @settings(
        max_examples=judged,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(configurations())
    def judge(words):
        code, printed = checked(words)
        answers[code] += 1
        assert code in (0, 1), (words, printed)
        if code == 0:
            accepted.append(words)

    judge()
    print(f"seed {SEED}: {answers.total()} judged, {answers[0]} accepted")
    assert answers.total() >= 0.9 * judged and answers[0] > judged / 5 and answers[1] > judged / 5
    ends = Counter()
    for number, (words, config) in enumerate(small(accepted, run)):
        ends[trained_and_evaluated(words, config, folder / str(number))] += 1
    print(f"{ends.total()} of them run: {dict(ends)}")
    assert ends.total() == run and ends["worked"] > run / 2


def checked(words: list[str]) -> tuple[int, str]:
    """Exit code of ``hvg check`` and what it printed. Raises: what it raises, and TimeoutError where it hangs."""

    def hangs(*_) -> None:
        raise TimeoutError(f"hvg check {' '.join(words)}: no answer in {JUDGED_WITHIN} s")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(JUDGED_WITHIN)
    try:
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(printed):
            return cli.run(["check", *TINY, *words]), printed.getvalue()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def small(accepted: list[list[str]], most: int) -> Iterator[tuple[list[str], RunConfig]]:
    """Those that run here in a minute, those that change most first."""
    found = 0
    for words in sorted(accepted, key=len, reverse=True):
        config = compose([*TINY, *words])
        if found < most and _is_small(config):
            found += 1
            yield words, config


def _is_small(config: RunConfig) -> bool:
    data, training, evaluation = config.data, config.training, config.evaluation
    dataset = config.dataset.config
    size = dataset.image_size if isinstance(dataset.image_size, tuple) else (dataset.image_size, dataset.image_size)
    rays = dataset.views * dataset.frames * size[0] * size[1] * dataset.supersampling**2
    clips = dataset.num_held_out_subjects * dataset.clips_per_held_out_subject
    drawn = config.pose is None or getattr(config.pose.config, "supersampling", 1) <= 4
    processes = (
        data.workers,
        config.strategy.devices if config.strategy.name != "single" else 1,
        config.strategy.nodes,
    )
    if max(training.steps, training.accumulate, evaluation.steps, *processes[:1]) > MOST_STEPS or not drawn:
        return False
    if processes[1:] != (1, 1) or rays > MOST_RAYS or min(clips, evaluation.clips or clips) > MOST_STEPS:
        return False
    if max(training.threads or 1, data.batch_size, data.eval_batch_size) > 16 or training.validation_clips > 16:
        return False
    cost = forecast(config)
    return (cost.total or 0) < MOST_BYTES and (cost.counts.flops is None or cost.counts.flops.model < MOST_FLOPS)


def trained_and_evaluated(words: list[str], config: RunConfig, folder) -> str:
    """How it went. A command that hangs, prints a traceback or more than a line of failure fails the test."""
    folder.mkdir()
    for command in (["train", *TINY, *words], ["evaluate", f"checkpoint={config.output}/{config.name}"]):
        began, started = time.monotonic(), Started("hvg.cli", *command, cwd=folder)
        started.process.join(RUN_WITHIN)
        hung = started.process.is_alive()
        if hung:
            started.process.kill()
        done = started.finish()
        told = f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        assert not hung, f"no end after {time.monotonic() - began:.0f} s: {told}"
        assert "Traceback" not in done.stderr, told
        if done.returncode:
            last = done.stderr.splitlines()[-1]
            assert done.returncode == 1 and last.startswith(f"hvg {command[0]}: "), told
            assert any(reason in last for reason in ITS_OWN_END), told
            return next(reason for reason in ITS_OWN_END if reason in last)
    return "worked"
