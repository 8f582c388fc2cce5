"""Checkpoints that are written beside training: a copy, one at a time, whole or absent, and errors that are raised."""

import errno
import os
import threading
import time

import pytest
import torch

from hvg.config.composition import compose
from hvg.core.checkpoint import Checkpoint, checkpoint_path, checkpoints, latest_checkpoint
from hvg.core.errors import CheckpointError
from hvg.model import checkpoint_writing, writing_beside
from hvg.model.checkpoint_writing import Entry, write_checkpoint
from hvg.model.writing_beside import WritingBeside
from hvg.train.run import train


def state(step: int) -> dict:
    return {"global_step": step, "counts": torch.arange(5), "config": "a: 1"}


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_is_written_is_what_was_there_when_it_began(tmp_path):
    """The weights move on while they are written; the files are those of a checkpoint that was waited for."""
    weight, beside, done = torch.ones(3, 2), WritingBeside(), []
    beside.then = lambda: done.append(latest_checkpoint(tmp_path))
    write_checkpoint(checkpoint_path(tmp_path / "waited", 1), state(1), [Entry.of("weights/a", weight)])
    beside.begin(checkpoint_path(tmp_path, 1), state(1), [Entry.of("weights/a", weight)])
    weight.zero_()
    beside.join()
    found, waited = Checkpoint(checkpoint_path(tmp_path, 1)), Checkpoint(checkpoint_path(tmp_path / "waited", 1))
    assert torch.equal(found.tensor("weights/a"), torch.ones(3, 2)) and done == [found.path]
    assert sorted(path.name for path in found.path.iterdir()) == sorted(path.name for path in waited.path.iterdir())
    for path in found.path.iterdir():
        assert path.read_bytes() == (waited.path / path.name).read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name != "waited"] == [found.path.name]


def test_one_is_written_at_a_time_and_nobody_waits_for_it(tmp_path, monkeypatch):
    go_on, beside = threading.Event(), WritingBeside()
    monkeypatch.setattr(writing_beside, "finish", lambda *given: go_on.wait(60) and checkpoint_writing.finish(*given))
    beside.begin(checkpoint_path(tmp_path, 1), state(1))
    assert latest_checkpoint(tmp_path) is None and not beside.failed
    second = threading.Thread(target=beside.begin, args=(checkpoint_path(tmp_path, 2), state(2)))
    second.start()
    time.sleep(0.1)
    assert second.is_alive() and not list(tmp_path.glob(".step-0000002*"))
    go_on.set()
    second.join()
    beside.join()
    assert list(checkpoints(tmp_path)) == [1, 2]
    beside.join()


def test_an_error_is_known_and_raised_once_and_nothing_is_left_of_it(tmp_path, monkeypatch):
    beside = WritingBeside()
    beside.begin(checkpoint_path(tmp_path, 1), state(1))
    beside.join()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_writing, "flush_to_disk", full)
        beside.begin(checkpoint_path(tmp_path, 2), state(2))
        beside._thread.join()
    assert beside.failed
    with pytest.raises(
        CheckpointError, match=r"step-0000002.ckpt.*No space left on device; .*step-0000001.ckpt is as it"
    ):
        beside.begin(checkpoint_path(tmp_path, 3), state(3))
    assert not beside.failed and [path.name for path in tmp_path.iterdir()] == ["step-0000001.ckpt"]
    diverged = Entry("weights/a", torch.float32, (2,), lambda: torch.tensor([1.0, torch.inf]), learned=True)
    beside.begin(checkpoint_path(tmp_path, 4), state(4), [diverged])
    with pytest.raises(CheckpointError, match="training has diverged, weights/a holds inf"):
        beside.join()


def test_what_is_left_at_once_is_no_checkpoint_and_what_is_waited_for_is_one(tmp_path):
    begun, go_on, beside = threading.Event(), threading.Event(), WritingBeside()

    class Slow(torch.Tensor):
        """Takes its time to become bytes."""

        def contiguous(self):
            begun.set()
            go_on.wait(60)
            return self.as_subclass(torch.Tensor)

    def write(step: int) -> None:
        entries = [Entry.of(f"weights/{name}", torch.ones(2)) for name in "abc"]
        beside.begin(checkpoint_path(tmp_path, step), state(step), entries)

    write(1)
    beside.leave()
    assert list(checkpoints(tmp_path)) == [1]
    beside.join()
    original = writing_beside._copied
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            writing_beside,
            "_copied",
            lambda entry, x: original(entry, x) if entry.name[-1] != "a" else Entry.of(entry.name, x.as_subclass(Slow)),
        )
        write(2)
    begun.wait(60)
    threading.Timer(0.1, go_on.set).start()
    beside.leave(at_once=True)
    assert list(checkpoints(tmp_path)) == [1] and not list(tmp_path.glob(".step-*"))


def test_a_run_that_saves_beside_ends_when_all_is_written(tiny, cache, tmp_path):
    words = [*tiny, cache, "device=cpu", f"output={tmp_path}", "training.steps=3", "training.checkpoint_every=1"]
    for saving in ("wait", "beside"):
        train(compose([*words, f"name={saving}", f"training.saving={saving}"]), log=lambda line: None)
        assert [*checkpoints(tmp_path / saving / "checkpoints")] == [2, 3], "the newest two are kept"
    waited, beside = (Checkpoint(checkpoint_path(tmp_path / name / "checkpoints", 3)) for name in ("wait", "beside"))
    for section, names in waited.sections().items():
        assert all(torch.equal(waited.tensor(f"{section}/{x}"), beside.tensor(f"{section}/{x}")) for x in names), (
            section
        )


def test_an_error_of_the_writer_ends_the_run_at_the_next_step(tiny, cache, tmp_path, monkeypatch):
    words = [*tiny, cache, "device=cpu", f"output={tmp_path}", "training.steps=9", "training.checkpoint_every=2"]
    written, original = [], writing_beside.finish

    def once(begun, files):
        written.append(begun.path)
        if len(written) > 1:
            full()
        original(begun, files)

    monkeypatch.setattr(writing_beside, "finish", once)
    reached = []
    config = compose([*words, "name=run", "training.saving=beside", "training.log_every=1"])

    def report(done):
        reached.append(done.step)
        # So that the writer is through with what the step before has begun.
        time.sleep(0.2)

    with pytest.raises(CheckpointError, match=r"step-0000004.ckpt: the checkpoint cannot be written: No space left"):
        train(config, report, log=lambda line: None)
    assert reached[-1] in (5, 6)
    assert [*checkpoints(tmp_path / "run" / "checkpoints")] == [2]
    assert not list((tmp_path / "run" / "checkpoints").glob(".step-*"))
