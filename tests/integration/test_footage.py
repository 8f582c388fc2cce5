"""From a folder of footage to a scored run: every command of the page on data, on rendered people."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from data_set_files import write_models, write_mvhumannet
from PIL import Image
from recordings import write_monocular, write_multiview

from hvg.cli import run
from hvg.config.composition import compose
from hvg.core.errors import ConfigError
from hvg.data.cache import open_clips, shard_paths
from hvg.data.shards import ShardReader

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"
# What makes the page's commands small.
SMALL = {
    "check": ["debug=tiny"],
    "prepare": ["debug=tiny", "jobs=1"],
    "prepare check": ["clips=1"],
    "train": ["debug=tiny", "backbone.widths=[32,32]", "backbone.heads=[1,1]"],
    "evaluate": [],
    "convert": [],
}


def commands():
    """The words of every command of the page, in its order; a line that ends with a backslash goes on."""
    blocks = re.findall(r"^```\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("hvg ")]


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


def write_result(path):
    """What GVHMR writes of a video of two frames."""
    body = {"global_orient": 3, "body_pose": 63, "betas": 10, "transl": 3}
    seen = {word: torch.zeros(2, count) for word, count in body.items()}
    torch.save({"smpl_params_global": seen, "smpl_params_incam": seen}, path)


@pytest.mark.long
def test_every_command_of_the_page_runs(footage, capsys):
    write_mvhumannet(footage / "data", write_models(footage / "models"), views=2)
    write_result(footage / "hmr4d_results.pt")
    found = commands()
    assert {words[0] for words in found} == set(SMALL) - {"prepare check"} and len(found) == 12
    for words in found:
        folder = next(footage.glob("cache/multiview-*"), footage)
        given = [word.replace("FOLDER", str(folder)) for word in words]
        assert run(small(given)) == 0, (words, capsys.readouterr())
    written = {path.name for path in footage.iterdir()}
    assert {"looked_at", "looked_at_videos", "cache", "runs", "motion.npz"} <= written
    assert all(list((footage / "runs" / name).rglob("results.json")) for name in ("mine", "videos"))
    assert all(list((footage / "runs" / name / "checkpoints").iterdir()) for name in ("shards", "together"))


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
        said, told = capsys.readouterr()
        assert "clips, and in brackets their pictures: train 2 (24), val 1 (12), test 1 (12)" in said
        assert "cannot be used: person3: has no body" in told
        assert "000002.png: not an image that can be read" in told
        assert len([line for line in told.splitlines() if "cannot be used" in line]) == 2
    more = ["backbone.widths=[32,32]", "backbone.heads=[1,1]", "pose=skeleton", "data.cache=cache", "name=mine"]
    assert run(["train", f"dataset={words[0]}", *words[1:], *more]) == 0


@pytest.mark.long
def test_portraits_and_landscapes_of_several_lengths_train_together_in_their_own_shapes(tmp_path):
    filmed = tmp_path / "filmed"
    filmed.mkdir()
    for number, (size, frames) in enumerate([((96, 54), 4), ((54, 96), 3), ((96, 54), 5), ((54, 96), 4)]):
        write_monocular(tmp_path / f"{number}", recordings=1, size=size, frames=frames, video=True)
        (tmp_path / f"{number}" / "person0").rename(filmed / f"person{number}")
    (tmp_path / "splits.txt").write_text("person0 train\nperson1 train\nperson2 val\nperson3 test\n")
    words = ["dataset=monocular", f"dataset.root={filmed}", f"dataset.splits={tmp_path / 'splits.txt'}"]
    words += ["dataset.image_size=null", "dataset.shorter_side=48", "data.buckets=[[1,3,80,48],[1,3,48,80]]"]
    words += ["pose=skeleton", f"data.cache={tmp_path / 'cache'}", f"output={tmp_path}", "name=both", *SMALL["train"]]
    assert run(["prepare", *words, "jobs=1"]) == 0
    config = compose(words)
    (shard,) = map(ShardReader, shard_paths(config, "train"))
    assert [*zip(shard.keys, map(tuple, shard.sizes), strict=True)] == [
        ("person0", (1, 4, 88, 48)),
        ("person1", (1, 3, 48, 88)),
    ]
    clips = open_clips(config, "train")
    for clip in map(clips.load, range(2)):
        # As many pixels to a metre across as upwards.
        assert torch.allclose(clip.cameras.intrinsics[..., 0, 0], clip.cameras.intrinsics[..., 1, 1], rtol=1e-5)
    assert run(["train", *words, "training.steps=4"]) == 0
    with pytest.raises(ConfigError, match=r"'person1' \(1 x 4 x 80 x 48: more frames than its 3"):
        compose([*words, "data.buckets=[[1,4,80,48]]"])


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
