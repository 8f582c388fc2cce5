"""What a run notes in its folder for those who look on."""

import json

import pytest

from hvg.core.errors import ConfigError, DataError, Problem
from hvg.train.run_notes import (
    CONFIG,
    FAILURE,
    RunProgress,
    failure_noted,
    forget_notes,
    progress_notes,
    read_failure,
    read_progress,
)


def fail(folder, error: BaseException) -> None:
    with pytest.raises(type(error)), failure_noted(folder):
        raise error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DataError("here: no such shard"), "DataError: here: no such shard"),
        (
            ConfigError([Problem("logger", "is not there."), Problem("device", "nor is that.")]),
            "ConfigError: 2 problems in the configuration: - logger: is not there. - device: nor is that.",
        ),
        (RuntimeError("out of memory\nException raised from\nframe 1"), "RuntimeError: out of memory"),
        (ValueError(), "ValueError: "),
    ],
)
def test_a_failure_is_one_line(tmp_path, error, line):
    (tmp_path / CONFIG).touch()
    fail(tmp_path, error)
    assert (tmp_path / FAILURE).read_text() == line
    fail(tmp_path, OSError("it lost the others"))
    assert read_failure(tmp_path) == line.strip(), "the first of several processes knows why"
    forget_notes(tmp_path)
    assert read_failure(tmp_path) is None


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(143)])
def test_a_run_that_is_stopped_has_not_failed(tmp_path, stop):
    (tmp_path / CONFIG).touch()
    fail(tmp_path, stop)
    assert read_failure(tmp_path) is None


def test_a_run_that_never_began_leaves_nothing(tmp_path):
    fail(tmp_path / "run", DataError("refused"))
    assert not [*tmp_path.iterdir()]


def test_progress_is_noted_when_a_stage_begins_and_ends_and_now_and_then(tmp_path, monkeypatch):
    now = iter([0.0, 0.1, 0.6, 0.7, 0.8])
    monkeypatch.setattr("hvg.train.run_notes.time.perf_counter", lambda: next(now))
    note, seen = progress_notes(tmp_path), []
    for stage, done in (("train", 1), ("train", 2), ("train", 3), ("train", 4), ("evaluate", 1)):
        note(stage, done, 4, "fast")
        seen.append(read_progress(tmp_path))
    first, third = RunProgress(stage="train", done=1, total=4, note="fast"), 3
    assert seen[0] == seen[1] == first and [x.done for x in seen[2:]] == [third, 4, 1]
    assert seen[-1].stage == "evaluate"


def test_a_damaged_note_is_named_and_a_missing_one_is_none(tmp_path):
    assert read_progress(tmp_path) is None
    (tmp_path / "progress.json").write_text(json.dumps({"stage": "train", "done": "3"}))
    with pytest.raises(DataError, match=r"progress.json: damaged: .*; delete it"):
        read_progress(tmp_path)
