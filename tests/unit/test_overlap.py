"""People and clips that are in training and among those that are scored, found without reading a picture."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from hvg.commands import check
from hvg.config.composition import compose
from hvg.config.overlap import Overlap, overlap
from hvg.config.settings import PartChoice, RunConfig
from hvg.core.errors import ConfigError
from hvg.data.shard_writing import write_shard
from hvg.data.shards import ShardReader, index_path
from hvg.parts.part import PartConfig
from hvg.parts.scene import Dataset, Holdings
from hvg.score.evaluation import _overlap
from hvg.testing import tiny_batch

# Split -> (clip, whom it shows, seed of its pictures).
People = dict[str, list[tuple[str, str, int]]]
APART: People = {
    "train": [("t0", "ann", 0), ("t1", "ann", 1), ("t2", "bob", 2)],
    "val": [("v0", "carol", 3)],
    "test": [("e0", "dan", 4), ("e1", "eve", 5)],
}
ALLOWED = "evaluation.overlap=allow"
# What indices of shards did not have at first.
ADDED = ("subjects", "digests", "crc32", "checksum")


def written(folder: Path, people: People) -> Path:
    """The folder with a shard of each split."""
    for split, clips in people.items():
        made = [replace(tiny_batch(1, 1, 1, 16, seed), clip_id=(clip,), subject=(who,)) for clip, who, seed in clips]
        write_shard(folder / f"{split}-0.tar", made, part=(0, 1))
    return folder


def run_on(folder: Path, *words: str) -> RunConfig:
    return compose(["dataset=shards", f"dataset.path={folder}", "data.views=1", "data.frames=1", *words])


def refusal(folder: Path, *words: str) -> str:
    """The one thing that is wrong with a run on the folder."""
    with pytest.raises(ConfigError) as error:
        run_on(folder, *words)
    (problem,) = error.value.problems
    assert problem.path == "dataset" and "\n" not in problem.message
    return problem.message


def test_splits_of_different_people_go_unsaid(tmp_path):
    config = run_on(written(tmp_path, APART))
    assert overlap(config.dataset) == Overlap() and check.notes(config) == []
    assert ShardReader(tmp_path / "train-0.tar").subjects == {"t0": "ann", "t1": "ann", "t2": "bob"}


@pytest.mark.parametrize("old", [False, True])
def test_shared_people_are_refused_by_name_unless_a_word_allows_it(tmp_path, old):
    written(tmp_path, APART | {"test": [("e0", "bob", 6), ("e1", "eve", 7), ("e2", "carol", 8)]})
    if old:
        for path in map(index_path, tmp_path.glob("*.tar")):
            index = json.loads(path.read_text())
            path.write_text(json.dumps({k: v for k, v in index.items() if k not in ADDED}))
    lines = ["1 of 3 subjects of test are in train too (bob)", "1 of 3 subjects of test are in val too (carol)"]
    assert refusal(tmp_path).startswith("; ".join(lines)) and ALLOWED in refusal(tmp_path)
    config = run_on(tmp_path, ALLOWED)
    assert check.notes(config) == lines
    assert _overlap(config, config, "test") == lines and _overlap(config, config, "val") == []


def test_a_copied_clip_is_known_by_its_frames_whoever_is_said_to_be_in_it(tmp_path):
    written(tmp_path, APART | {"test": [("e0", "dan", 0), ("t2", "eve", 2), ("e2", "fay", 9)]})
    assert "2 of 3 clips of test have the frames of clips of train (e0 has those of t0, t2)" in refusal(tmp_path)


def test_of_many_the_first_are_named(tmp_path):
    names = [(f"c{i}", f"p{i}", i) for i in range(5)]
    written(tmp_path, {"train": names, "test": [(f"e{i}", f"p{i}", 10 + i) for i in range(5)]})
    assert refusal(tmp_path).startswith("5 of 5 subjects of test are in train too (p0, p1, p2, ...)")


def test_training_clips_that_are_elsewhere_are_said_to_be_unknown(tmp_path):
    written(tmp_path, APART)
    config = run_on(tmp_path)
    (tmp_path / "train-0.tar").unlink()
    (line,) = _overlap(config, config, "test")
    assert line.startswith(f"whether subjects of test are in train is not known: {tmp_path}: no shard named train*.tar")
    assert _overlap(config, config, "train") == ["the clips are those of training (split=train)"]


def test_damaged_test_shards_are_found_before_training(tmp_path):
    written(tmp_path, APART)
    (tmp_path / "test-0.tar").write_bytes(b"short")
    assert "test-0.tar: 5 bytes, its index says" in refusal(tmp_path, ALLOWED)


class Told(Dataset):
    """A dataset of somebody else that tells whom it shows."""

    class Config(PartConfig):
        """Its split."""

        split: Literal["train", "val", "test"] = Field("train", description="Which people.")

    @classmethod
    def provides(cls, config):
        return frozenset({"frames"})

    @classmethod
    def holdings(cls, config):
        return Holdings(subjects={f"{config.split}-0": "ann"} if config.split != "val" else {})

    def __len__(self):
        return 1

    def load(self, index):
        return tiny_batch(1)


class Untold(Told):
    """One that does not."""

    @classmethod
    def holdings(cls, config):
        return Holdings()


def test_any_dataset_that_tells_its_subjects_is_compared():
    choice = PartChoice("dataset", "told", Told, Told.Config())
    assert overlap(choice).shared == ("1 of 1 subjects of test are in train too (ann)",)
    untold = PartChoice("dataset", "untold", Untold, Untold.Config())
    assert overlap(untold) == Overlap()
    # Trained on one dataset, scored on another: nobody can tell who is in both.
    (line,) = overlap(untold, choice, ("test",)).unknown
    assert line.endswith("in train is not known: the dataset 'untold' does not tell its subjects")


def test_files_that_were_written_of_the_synthetic_people_are_known(tmp_path, tiny):
    trained = compose([*tiny])
    written(tmp_path, {"train": [("a", "ann", 0)], "test": [("b", "train-0001", 1), ("c", "test-0001", 2)]})
    scored = compose(["dataset=shards", f"dataset.path={tmp_path}", "data.views=1", "data.frames=1"])
    found = overlap(trained.dataset, scored.dataset, ("test",))
    assert found.shared == ("1 of 2 subjects of test are in train too (train-0001)",)
    assert overlap(trained.dataset) == Overlap()
