"""`hvg prepare` that is killed at any moment leaves nothing half-written, and continues to the bytes of one that was not."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from recordings import write_multiview

from hvg.data.shards import index_path

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
SOME_TIME = 300.0
# Three recordings of so many frames, cut into clips of one: three shards of training clips, and one of each other split.
FRAMES = 26


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A reader's data set, prepared with two kinds of maps and latents."""
    root = tmp_path_factory.mktemp("footage")
    write_multiview(root, frames=FRAMES, views=2, size=(64, 48))
    words = ["multiview", f"dataset.root={root}", "dataset.frames=1", "dataset.split_by=clip", "dataset.image_size=32"]
    words += ["evaluation.overlap=allow", "data.views=1", "data.frames=1", "pose=skeleton,bone_map", "data.recolour=0"]
    return [
        *words,
        "scale=cpu",
        "debug=tiny",
        "backbone.widths=[32,32]",
        "backbone.heads=[1,1]",
        "device=cpu",
        "latents",
    ]


class Preparing:
    """The command in a process group of its own, as a terminal makes one."""

    def __init__(self, words, cache: Path) -> None:
        self.cache = cache
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hvg.cli", "prepare", *words, f"data.cache={cache}", "jobs=2"],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def found(self, pattern: str) -> list[Path]:
        # Folders come and go meanwhile.
        with suppress(FileNotFoundError):
            return sorted(self.cache.rglob(pattern))
        return []

    def wait_for(self, what) -> None:
        until = time.monotonic() + SOME_TIME
        while not what(self):
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < until
            time.sleep(0.001)

    def kill(self) -> None:
        """The process that was started, alone; those that it has started end with it."""
        self.process.kill()
        self.process.communicate()
        until = time.monotonic() + 20
        while processes_of(self.process.pid):
            assert time.monotonic() < until, "some outlive it"
            time.sleep(0.05)


def processes_of(group: int) -> list[int]:
    """Processes of a group that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# What is waited for before it is killed, each later than the one before.
MOMENTS = {
    "before anything": lambda p: p.found(".lock"),
    "in a shard": lambda p: any(
        path.stat().st_size > 50_000 for path in p.found(".train-*.partial.tar") if path.exists()
    ),
    "after a shard": lambda p: p.found("train-*.tar.index.json") and p.found(".*.partial.tar"),
    "after some": lambda p: len(p.found("*.tar.index.json")) >= 3,
    "in latents": lambda p: p.found("*.safetensors"),
}


def test_killed_at_any_time_it_continues_to_the_same_bytes(words, tmp_path):
    whole = Preparing(words, tmp_path / "whole")
    assert whole.process.wait(SOME_TIME) == 0, whole.process.communicate()[0]
    expected = files_in(tmp_path / "whole")
    names = {path.name for path in whole.found("*.tar")}
    assert len([name for name in names if name.startswith("train")]) == 3 and len(whole.found("*.safetensors")) >= 3
    cache, left = tmp_path / "killed", 0
    for what, moment in MOMENTS.items():
        preparing = Preparing(words, cache)
        preparing.wait_for(moment)
        preparing.kill()
        left += len(preparing.found("*.partial*"))
        # What has its name is whole, and what is left half-written has none.
        for path in [*preparing.found("*.tar"), *preparing.found("*.safetensors")]:
            if not path.name.startswith("."):
                assert path.read_bytes() == expected[str(path.relative_to(cache))], what
    assert left > 0, "nothing was killed while it wrote"
    last = Preparing(words, cache)
    assert last.process.wait(SOME_TIME) == 0, last.process.communicate()[0]
    found = files_in(cache)
    assert found.keys() == expected.keys()
    assert all(found[name] == expected[name] for name in expected)
    assert all(index_path(path).exists() for path in last.found("*.tar"))
