"""Preparing clips in this process: one of its own imports libraries for longer than a tiny data set takes."""

import queue
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from hvg.data import prepare, prepare_latents


@contextmanager
def in_this_process() -> Iterator[None]:
    """What ``hvg.data.prepare`` would start processes for runs here; what those would have kept is not kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "_in_processes", _here)
        yield
    for kept in (prepare._drawing, prepare._clips, prepare_latents._encoders):
        kept.cache_clear()


def _here(jobs: int, function: Callable[..., None], tasks: Sequence[tuple], on_clip: Callable[[], None]) -> None:
    ticks = queue.SimpleQueue()
    for task in tasks:
        function(*task, ticks)
    while not ticks.empty():
        ticks.get()
        on_clip()
