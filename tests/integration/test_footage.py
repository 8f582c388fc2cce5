"""From a folder of footage to a scored run: every command of the page on data, on rendered people."""

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image
from recordings import write_monocular, write_multiview

from hvg.cli import run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"
# What makes the page's commands small.
SMALL = {
    "check": ["debug=tiny"],
    "prepare": ["debug=tiny", "jobs=1"],
    "prepare check": ["clips=1"],
    "train": ["debug=tiny", "backbone.widths=[32,32]", "backbone.heads=[1,1]"],
    "evaluate": [],
}


def commands():
    """The words of every command of the page, in its order."""
    blocks = re.findall(r"^```\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line.split()[1:] for block in blocks for line in block.splitlines() if line.startswith("hvg ")]


def small(words):
    kind = "prepare check" if words[:2] == ["prepare", "check"] else words[0]
    more = [word for word in SMALL[kind] if word.split("=")[0] not in {given.split("=")[0] for given in words}]
    return [word if not word.startswith("jobs=") else "jobs=1" for word in words] + more


@pytest.fixture
def footage(tmp_path, monkeypatch):
    """A folder in which the page's ``footage`` and ``videos`` lie."""
    write_multiview(tmp_path / "footage", frames=4, size=(64, 48))
    write_monocular(tmp_path / "videos", frames=4, size=(64, 48), video=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.long
def test_every_command_of_the_page_runs(footage, capsys):
    found = commands()
    assert {words[0] for words in found} == {"check", "prepare", "train", "evaluate"} and len(found) == 10
    for words in found:
        assert run(small(words)) == 0, (words, capsys.readouterr())
    written = {path.name for path in footage.iterdir()}
    assert {"looked_at", "looked_at_videos", "cache", "runs"} <= written
    assert all(list((footage / "runs" / name).rglob("results.json")) for name in ("mine", "videos"))


@pytest.mark.long
def test_a_damaged_clip_is_listed_and_the_others_are_prepared_and_trained_on(footage, capsys):
    """A recording without a body, and one with a picture that is none; a second call says the same and renders nothing."""
    for number in (3, 4, 5):
        shutil.copytree(footage / "footage" / "person0", footage / "footage" / f"person{number}")
    (footage / "footage" / "person3" / "motion.npz").unlink()
    train = ["person0", "person1", "person4"]
    lines = [f"{name} train" for name in train] + ["person2 val", "person5 test", "person3 train"]
    (footage / "splits.txt").write_text("\n".join(lines))
    (footage / "footage" / "person4" / "images" / "01" / "000002.png").write_bytes(b"no picture")
    words = ["multiview", "dataset.root=footage", "dataset.image_size=32", "dataset.splits=splits.txt", "debug=tiny"]
    for _ in range(2):
        assert run(["prepare", *words, "pose=skeleton", "jobs=1"]) == 1
        told = capsys.readouterr().err
        assert "cannot be used: person3: has no body" in told
        assert "000002.png: not an image that can be read" in told
        assert len([line for line in told.splitlines() if "cannot be used" in line]) == 2
    more = ["backbone.widths=[32,32]", "backbone.heads=[1,1]", "pose=skeleton", "data.cache=cache", "name=mine"]
    assert run(["train", f"dataset={words[0]}", *words[1:], *more]) == 0


@pytest.mark.long
def test_a_planted_trap_in_files_is_called_and_the_exit_code_says_so(footage, capsys):
    for lens in footage.glob("videos/*/intrinsics.json"):
        text = lens.read_text()
        halved = re.sub(r'("(?:fx|fy|cx|cy)": )([\d.]+)', lambda m: f"{m[1]}{float(m[2]) / 2}", text)
        lens.write_text(halved)
    words = ["prepare", "check", "monocular", "dataset.root=videos", "clips=1", "out=looked_at"]
    assert run(words) == 1
    assert "half-size intrinsics" in capsys.readouterr().out
    with Image.open(next((footage / "looked_at").glob("*.png"))) as drawn:
        assert min(drawn.size) > 200
