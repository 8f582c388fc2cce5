"""Frames and photos in shards as PNG, WebP or JPEG: what is exact stays exact, and what is not is said."""

import json
import re
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from components.datasets.shards import Shards
from hvg.bench.peers.row import How
from hvg.bench.peers.shards import of_shard, plain
from hvg.bench.reading import _costs, first_clips, read, written
from hvg.config.buckets import scored_size_notes
from hvg.config.composition import compose
from hvg.config.overlap import overlap
from hvg.core.eight_bit import frames_from_uint8, frames_to_uint8
from hvg.core.errors import ConfigError, DataError
from hvg.data.cache import cache_folder, open_clips, picture_format
from hvg.data.picture_files import PictureFormat, decode_picture, encode_picture
from hvg.data.prepare import prepare
from hvg.data.shard_writing import write_shard, write_shards
from hvg.data.shards import ShardReader, index_path
from hvg.testing import check_dataset, tiny_batch, tiny_context
from hvg.train.run import train
from hvg.values.clip import ClipBatch

PAGE = Path(__file__).resolve().parents[2] / "docs" / "shards.md"
FORMS = [PictureFormat(), PictureFormat("webp"), PictureFormat("webp", 90), PictureFormat("jpeg", 95)]


def smooth_clip(index: int = 0, opaque: bool = False) -> ClipBatch:
    """A clip of ramps, in 8 bits, with a map and a driving video."""
    clip = tiny_batch(1, 2, 3, size=32, seed=index)
    ramp = frames_from_uint8((torch.linspace(0, 200, 32)[:, None] + torch.arange(32) + index).round().byte())
    frames = ramp.expand_as(clip.frames).clone()
    alpha = torch.ones_like(clip.alpha) if opaque else (clip.alpha * 255).round() / 255
    photo = replace(clip.reference, frames=frames[:, 0, :1], alpha=alpha[:, 0, :1])
    maps = {"map-0": torch.rand(1, 2, 3, 3, 32, 32)}
    named = {"clip_id": (f"clip{index}",), "subject": (f"person{index}",)}
    hands = frames.transpose(1, 2)
    driving = {"driving": frames[:, 0], "driving_hands": hands, "driving_face": hands[:, :, :1]}
    return replace(clip, frames=frames, alpha=alpha, reference=photo, signals=maps, **driving, **named)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("opaque", [False, True])
def test_alpha_maps_and_what_is_meant_to_be_exact_come_back_bit_by_bit(tmp_path, form, opaque):
    clip = smooth_clip(opaque=opaque)
    write_shard(tmp_path / "a.tar", [clip], pictures=form)
    reader = ShardReader(tmp_path / "a.tar")
    found = reader.load(0)
    assert torch.equal(found.alpha, clip.alpha) and torch.equal(found.reference.alpha, clip.reference.alpha)
    assert torch.equal(found.signals["map-0"], clip.signals["map-0"])
    assert torch.equal(found.body.joints, clip.body.joints)
    for kept, given in (
        (found.frames, clip.frames),
        (found.reference.frames, clip.reference.frames),
        (found.driving, clip.driving),
    ):
        assert kept.shape == given.shape
        assert torch.equal(kept, given) is not form.is_lossy
        assert (kept - given).abs().mean() < 0.02
    assert reader.eight_bit and reader.lossy == (str(form) if form.is_lossy else None)
    part = reader.load(0, lambda views, frames: ([1], range(1, 3)), signals=())
    expected = found.select([1], range(1, 3))
    assert torch.equal(part.frames, expected.frames) and torch.equal(part.alpha, expected.alpha)
    assert torch.equal(part.driving, expected.driving) and torch.equal(part.reference.frames, found.reference.frames)
    assert reader.load(0, images=("reference",)).alpha is None


def test_every_file_has_a_checksum_and_digests_do_not_depend_on_the_format(tmp_path):
    digests = set()
    for number, form in enumerate(FORMS):
        path = tmp_path / f"{number}.tar"
        write_shard(path, [smooth_clip()], pictures=form)
        index = json.loads(index_path(path).read_text())
        with tarfile.open(path) as tar:
            names = set(tar.getnames())
        assert names == index["members"].keys() == index["crc32"].keys()
        ending = {"png": ".png", "webp": ".webp", "jpeg": ".jpg"}[form.kind]
        assert f"clip0.frames.000.000{ending}" in names
        digests.update(index["digests"])
        with path.open("r+b") as stream:
            stream.seek(index["members"][f"clip0.frames.001.002{ending}"][0] + 40)
            byte = stream.read(1)
            stream.seek(-1, 1)
            stream.write(bytes([byte[0] ^ 1]))
        with pytest.raises(DataError, match=r"clip 'clip0' cannot be decoded: .*CRC-32 differs"):
            ShardReader(path).load(0)
    assert len(digests) == 1


def test_frames_that_no_8_bits_hold_stay_floats_unless_a_loss_is_asked_for(tmp_path):
    clip = tiny_batch(1, 1, 1, size=16)
    for form in FORMS:
        write_shard(tmp_path / "a.tar", [clip], pictures=form)
        reader = ShardReader(tmp_path / "a.tar")
        found = reader.load(0)
        assert torch.equal(found.alpha, clip.alpha)
        if form.is_lossy:
            assert torch.equal(frames_from_uint8(frames_to_uint8(found.frames)), found.frames)
        else:
            assert torch.equal(found.frames, clip.frames) and not reader.eight_bit


@pytest.mark.parametrize(("kind", "quality"), [("png", 90), ("jpeg", None)])
def test_a_format_that_is_none_is_refused(kind, quality):
    with pytest.raises(ValueError, match="quality"):
        PictureFormat(kind, quality)
    if kind == "png":
        with pytest.raises(ConfigError, match="images=png is exact"):
            compose(["data.images=png", "data.quality=90"])


def test_more_quality_is_closer():
    pixels = (torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(0)) * 255).byte().numpy()
    for kind in ("webp", "jpeg"):
        found = [encode_picture(pixels, PictureFormat(kind, quality)) for quality in (50, 95)]
        errors = [
            float((decode_picture(x).movedim(0, -1).float() - torch.from_numpy(pixels).float()).abs().mean())
            for x in found
        ]
        assert len(found[0]) < len(found[1]) and errors[0] > errors[1]


@pytest.mark.long
def test_a_run_sees_what_files_would_hold_whether_they_are_there_or_not(tiny, tmp_path):
    config = compose([*tiny, "data.images=jpeg", "data.quality=80", f"data.cache={tmp_path}"])
    exact = compose([*tiny, f"data.cache={tmp_path}"])
    assert cache_folder(config) != cache_folder(exact)
    assert picture_format(config, "train") == PictureFormat("jpeg", 80)
    assert picture_format(config, "test") == PictureFormat()
    assert picture_format(compose(["data.images=jpeg"]), "train") == PictureFormat("jpeg", 95)
    assert picture_format(compose(["data.images=webp"]), "test") == PictureFormat("webp")
    live, true = open_clips(config, "train").load(0), open_clips(exact, "train").load(0)
    assert torch.equal(open_clips(config, "test").load(0).frames, open_clips(exact, "test").load(0).frames)
    prepare([config], ("train",), jobs=1)
    stored = open_clips(config, "train").load(0)
    assert torch.equal(stored.frames, live.frames) and torch.equal(stored.reference.frames, live.reference.frames)
    assert not torch.equal(live.frames, true.frames) and torch.equal(stored.alpha, true.alpha)


def test_a_score_against_pictures_that_lost_something_says_so(tmp_path):
    for split, form in {
        "train": PictureFormat("jpeg", 90),
        "val": PictureFormat(),
        "test": PictureFormat("jpeg", 95),
    }.items():
        clip = smooth_clip(len(split) + ord(split[1]))
        write_shards(tmp_path, split, 1, lambda _: clip, pictures=form)  # noqa: B023
    config = compose(["dataset=shards", f"dataset.path={tmp_path}", "data.buckets=[[1,1,16,16]]"])
    assert overlap(config.dataset, splits=("test",)).lines == [
        "pictures of test are kept with loss (jpeg, quality 95); scores compare with those"
    ]
    (note,) = scored_size_notes(config)
    assert "16 x 16" in note


def test_reading_is_measured(tiny, tmp_path):
    images = [(torch.rand(32, 32, 3, generator=torch.Generator().manual_seed(0)) * 255).byte().numpy()]
    rows = list(_costs(images))
    assert [row[0] for row in rows] == [
        "png",
        "webp",
        "webp, quality 95",
        "webp, quality 90",
        "jpeg, quality 95",
        "jpeg, quality 90",
    ]
    assert rows[0][2] == rows[0][4] == "1.00" and float(rows[3][2]) < 1
    config = compose(tiny)
    shards = written(first_clips(config, 2), tmp_path, PictureFormat("webp"))
    assert len(shards) == 2 and read(config, shards, 0, batches=6) > 0
    found = of_shard(How(pairs=5, seconds=0), shards[0])
    assert found.pairs == 5 and found.ours > 0 and found.low <= found.ratio <= found.high
    assert torch.equal(plain(shards[0])[0], ShardReader(shards[0]).load_packed(0).frames)


def test_written_shards_go_on_where_they_stopped(tmp_path):
    asked = []

    def load(index: int) -> ClipBatch:
        asked.append(index)
        if index == 4 and asked.count(4) == 1:
            raise KeyboardInterrupt
        return smooth_clip(index)

    with pytest.raises(KeyboardInterrupt):
        write_shards(tmp_path, "train", 5, load, per_shard=2)
    done = []
    paths = write_shards(tmp_path, "train", 5, load, per_shard=2, report=lambda *told: done.append(told))
    assert asked == [0, 1, 2, 3, 4, 4] and done == [(2, 5), (4, 5), (5, 5)]
    assert [ShardReader(path).part for path in paths] == [(0, 3), (1, 3), (2, 3)]
    assert [key for path in paths for key in ShardReader(path).keys] == [f"clip{i}" for i in range(5)]


def test_the_example_of_the_page_can_be_pasted_and_trained_on(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    exec(compile(example, str(PAGE), "exec"), {"__name__": "pasted"})
    check_dataset(Shards, Shards.Config(path="my_shards"), tiny_context())
    (words,) = re.findall(r"```\nhvg train (dataset=shards dataset\.path=my_shards data\.buckets=\S+)\n", text)
    own = [word for word in tiny if not word.startswith(("dataset.", "data."))]
    config = compose([*own, *words.split(), "training.steps=2", "device=cpu"])
    train(config)
    assert (tmp_path / "runs" / "run" / "checkpoints").is_dir()
    assert overlap(config.dataset).truth == ()
