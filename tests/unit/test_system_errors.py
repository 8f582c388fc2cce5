"""What the system refuses is told in one line with the path, whatever was writing, and leaves no half file."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from full_disk import full_disk
from safetensors.numpy import save_file

from hvg import cli
from hvg.core.files import system_reason, whole_file, whole_folder, write_text
from hvg.data.shard_writing import write_shard
from hvg.media.video import write_video
from hvg.score.measured_clips import save_predictions
from hvg.testing import tiny_batch


def with_safetensors(path: Path) -> None:
    with whole_file(path) as partial:
        save_file({"a": np.zeros(1000)}, partial)


def with_several_files(path: Path) -> None:
    with whole_folder(path) as partial:
        write_text(partial / "small", "a")
        save_file({"a": np.zeros(1000)}, partial / "large")


def predictions(path: Path) -> None:
    clip = tiny_batch(1)
    save_predictions(path, clip, torch.zeros(*clip.grid, 3, 16, 16, dtype=torch.uint8))


WRITERS = {
    "text": lambda path: write_text(path, "a" * 10_000),
    "safetensors": with_safetensors,
    "folder": with_several_files,
    "video": lambda path: write_video(path.with_suffix(".mp4"), torch.rand(4, 3, 64, 64) * 2 - 1, 4),
    "shard": lambda path: write_shard(path, [tiny_batch(1)]),
    "predictions": predictions,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_one_line_with_the_path_and_nothing_half_stays(tmp_path, writer):
    with full_disk(), pytest.raises(OSError) as error:
        WRITERS[writer](tmp_path / "out")
    reason = system_reason(error.value)
    assert reason is not None and reason.startswith(str(tmp_path / "out")) and reason.endswith(": File too large")
    assert [path for path in tmp_path.rglob("*") if path.is_file() or "partial" in path.name] == []


def test_a_mistake_of_the_program_stays_one():
    assert system_reason(OSError("a message")) is None
    assert system_reason(OSError(errno.EBADF, "Bad file descriptor")) is None
    assert system_reason(OSError(errno.ENOSPC, "No space left on device")) == "No space left on device"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/data/a"), "/data/a: Permission denied"),
        (OSError(errno.EROFS, "Read-only file system", b"/data/a"), "/data/a: Read-only file system"),
        (OSError(errno.EISDIR, "Is a directory", ".a.partial", None, "a"), "a: Is a directory"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "two\nlines"), "two lines: File name too long"),
    ],
)
def test_every_command_tells_it_in_one_line(monkeypatch, capsys, error, line):
    def refused(*_: object) -> int:
        raise error

    monkeypatch.setattr(cli, "resolve_name", lambda name: refused)
    for command in cli.COMMANDS:
        assert cli.run([command]) == 1
        assert capsys.readouterr().err == f"hvg {command}: {line}\n"

    monkeypatch.setattr(cli, "resolve_name", lambda name: lambda words, flags: os.close(12345))
    with pytest.raises(OSError):
        cli.run(["list"])


LONG = "x" * 300


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", f"checkpoint={LONG}"),
        ("evaluate", f"predictions={LONG}", "reference=there"),
        ("export", f"checkpoint={LONG}", "out=new"),
        ("export", "checkpoint=file/inside", "out=new"),
        ("sample", "checkpoint=there", f"reference={LONG}", "motion=there", "out=new"),
        ("compare", LONG, "file/inside"),
        ("convert", f"body={LONG}.pkl", "out=new.npz"),
        ("motion", f"video={LONG}.mp4", f"out={LONG}.npz"),
        ("photo", "there.png", "out=file/inside.png"),
        ("study", LONG),
        ("train", f"output={LONG}"),
        ("train", "output=/proc/none"),
        ("train", "output=file"),
        ("prepare", "data.cache=file"),
        ("show", f"out={LONG}/sheet.png"),
        ("view", f"out={LONG}/cameras.json"),
        ("view", f"sample={LONG}"),
        ("sweep", "report", LONG),
    ],
)
def test_names_that_the_system_refuses(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "there").mkdir()
    assert cli.run(words) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"hvg {words[0]}: ") and said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "there"]
