"""`hvg prepare` that is killed at any moment leaves nothing half-written, and continues to the bytes of one that was not."""

import os
import random
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from groups import SOME_TIME, CommandGroup
from recordings import write_multiview

from hvg.data.shard_writing import write_shards
from hvg.data.shards import index_path
from hvg.testing import tiny_batch

# Three recordings of so many frames, cut into clips of one: three shards of training clips, and one of each other split.
FRAMES = 26
# Whatever is drawn, is drawn from it: `make test-kill` prints it.
SEED = os.environ.get("HVG_TEST_SEED", "0")


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A reader's data set, prepared with two kinds of maps and latents."""
    root = tmp_path_factory.mktemp("footage")
    write_multiview(root, frames=FRAMES, views=2, size=(64, 48))
    words = ["multiview", f"dataset.root={root}", "dataset.frames=1", "dataset.split_by=clip", "dataset.image_size=32"]
    words += ["evaluation.overlap=allow", "data.views=1", "data.frames=1", "pose=skeleton,bone_map", "data.recolour=0"]
    small = ["scale=cpu", "debug=tiny", "backbone.widths=[32,32]", "backbone.heads=[1,1]", "device=cpu"]
    return [*words, *small, "latents"]


class Preparing(CommandGroup):
    """The command, with its cache."""

    def __init__(self, words, cache: Path) -> None:
        self.cache, self.since = cache, time.monotonic()
        super().__init__("prepare", *words, f"data.cache={cache}", "jobs=2")

    def found(self, pattern: str) -> list[Path]:
        # Folders come and go meanwhile.
        with suppress(FileNotFoundError):
            return sorted(self.cache.rglob(pattern))
        return []

    def kill(self) -> None:
        """The process that was started, alone; those that it has started end with it."""
        self.process.kill()
        self.ended(within=20)


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


def check_whole(preparing: Preparing, expected: dict[str, bytes]) -> None:
    """What has its name is whole, and what is left half-written has none."""
    for path in [*preparing.found("*.tar"), *preparing.found("*.safetensors")]:
        if not path.name.startswith("."):
            assert path.read_bytes() == expected[str(path.relative_to(preparing.cache))]


def check_continues(words, cache: Path, expected: dict[str, bytes]) -> None:
    with Preparing(words, cache) as last:
        assert last.process.wait(SOME_TIME) == 0, last.process.communicate()[0]
    assert files_in(cache) == expected
    assert all(index_path(path).exists() for path in last.found("*.tar"))


@pytest.fixture(scope="module")
def whole(words, tmp_path_factory):
    """The files of one that was not killed, and how many seconds it took."""
    with Preparing(words, tmp_path_factory.mktemp("whole")) as preparing:
        assert preparing.process.wait(SOME_TIME) == 0, preparing.process.communicate()[0]
        took = time.monotonic() - preparing.since
    names = {path.name for path in preparing.found("*.tar")}
    assert len([name for name in names if name.startswith("train")]) == 3 and len(preparing.found("*.safetensors")) >= 3
    return files_in(preparing.cache), took


@pytest.mark.long
def test_killed_at_a_moment_of_every_kind_it_continues_to_the_same_bytes(words, whole, tmp_path):
    left = 0
    for moment in MOMENTS.values():
        with Preparing(words, tmp_path) as preparing:
            preparing.wait_for(lambda: moment(preparing), pause=0.001)  # noqa: B023
            preparing.kill()
        left += len(preparing.found("*.partial*"))
        check_whole(preparing, whole[0])
    assert left > 0, "nothing was killed while it wrote"
    check_continues(words, tmp_path, whole[0])


@pytest.mark.kill
def test_killed_at_any_time_it_continues_to_the_same_bytes(words, whole, tmp_path):
    """A process or all of them, by a signal, at drawn moments of what is left to do."""
    draw, (expected, took) = random.Random(f"{SEED} prepare"), whole
    for number in range(20):
        with Preparing(words, tmp_path / f"{number % 4}") as preparing:
            time.sleep(draw.uniform(0, took))
            how, everybody = draw.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)), draw.random() < 0.5
            with suppress(ProcessLookupError):
                (os.killpg if everybody else os.kill)(preparing.process.pid, how)
            preparing.ended(within=20)
        check_whole(preparing, expected)
    for number in range(4):
        check_continues(words, tmp_path / f"{number}", expected)


def noise(index: int):
    return replace(tiny_batch(1, 2, 3, size=64, seed=index), clip_id=(f"clip-{index}",), subject=(f"person-{index}",))


def test_a_program_that_writes_shards_is_killed_again_and_again_and_goes_on_to_the_same_bytes(tmp_path):
    write_shards(tmp_path / "whole", "train", 6, noise, per_shard=2)
    expected, draw, kills, status = files_in(tmp_path / "whole"), random.Random(0), 0, 1
    folder = tmp_path / "killed"
    while status and kills < 300:
        if (child := os.fork()) == 0:
            try:
                write_shards(folder, "train", 6, noise, per_shard=2)
                os._exit(0)
            finally:
                os._exit(1)
        time.sleep(draw.uniform(0, 0.01 * kills))
        os.kill(child, signal.SIGKILL)
        status, kills = os.waitpid(child, 0)[1], kills + 1
        found = files_in(folder) if folder.exists() else {}
        assert all(expected[name] == data for name, data in found.items() if not Path(name).name.startswith("."))
    assert kills > 2 and files_in(folder) == expected
