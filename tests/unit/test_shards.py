"""Clips survive the disk, and damaged files are refused by name."""

import json
import re
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import webdataset

from components.bodies.anny import Anny
from components.datasets.shards import Shards
from hvg.commands import check
from hvg.config.build import build_dataset
from hvg.config.composition import compose, parse_resolved
from hvg.core.eight_bit import frames_from_uint8, frames_to_uint8, signal_from_uint8, signal_to_uint8
from hvg.core.errors import ConfigError, DataError, HvgError
from hvg.data.clip_files import decode_clip, encode_clip
from hvg.data.prepare import render_shard
from hvg.data.shard_writing import write_index, write_shard
from hvg.data.shards import ShardReader, index_path
from hvg.data.signals import NO_SIGNALS, Signals, without_mesh
from hvg.data.training_data import DrawnCells
from hvg.geometry.motion import Motion
from hvg.testing import tiny_batch
from hvg.values.buckets import Bucket
from hvg.values.clip import ClipBatch


def clip(seed: int = 0) -> ClipBatch:
    """One clip whose images are what 8 bits hold."""
    batch = tiny_batch(seed=seed).clips(slice(0, 1))
    assert batch.reference is not None
    reference = replace(
        batch.reference,
        frames=frames_from_uint8(frames_to_uint8(batch.reference.frames)),
        alpha=None if batch.reference.alpha is None else (batch.reference.alpha * 255).round() / 255,
    )
    return replace(
        batch,
        clip_id=(f"clip-{seed}",),
        frames=frames_from_uint8(frames_to_uint8(batch.frames)),
        alpha=(batch.alpha * 255).round() / 255,
        reference=reference,
        driving=None if batch.driving is None else frames_from_uint8(frames_to_uint8(batch.driving)),
        driving_hands=frames_from_uint8(frames_to_uint8(batch.driving_hands)),
        driving_face=frames_from_uint8(frames_to_uint8(batch.driving_face)),
        signals={"map": signal_from_uint8(signal_to_uint8(torch.rand(*batch.grid, 4, 16, 16) * 2 - 1))},
    )


def tensors(value, path=""):
    """Every tensor in a nested value, by path."""
    if isinstance(value, torch.Tensor):
        yield path, value
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield from tensors(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from tensors(item, f"{path}[{key}]")


def test_what_is_written_is_read_back_identically(tmp_path):
    clips = [clip(0), clip(1)]
    write_shard(tmp_path / "test-0.tar", clips)
    reader = ShardReader(tmp_path / "test-0.tar")
    assert reader.keys == ["clip-0", "clip-1"]
    for index, original in enumerate(clips):
        found, expected = dict(tensors(reader.load(index))), dict(tensors(original))
        expected.pop(".sample_index", None)
        assert found.keys() == expected.keys()
        for path, value in expected.items():
            assert torch.equal(found[path], value), path


def six_frames() -> ClipBatch:
    """A clip whose body model has as many numbers of build as the clip has frames."""
    body = Anny().animate(Motion(rotations={"pelvis": torch.rand(6, 3)}), {"height": 0.7}, mesh=False)
    return replace(tiny_batch(clips=1, frames=6), body=body)


def test_a_stored_clip_knows_which_parameters_have_frames():
    original = six_frames()
    found = decode_clip(encode_clip(original), lambda views, frames: (range(views), range(2, 4)))
    for name in ("parameters", "constants"):
        assert getattr(found.body, name).keys() == getattr(original.body, name).keys()
    assert torch.equal(found.body.constants["shape"], original.body.constants["shape"])
    assert torch.equal(found.body.parameters["rotations"], original.body.parameters["rotations"][:, 2:4])


def moving(frames: int = 6) -> ClipBatch:
    """A clip with a mesh, whose photo shows the same person in another pose."""
    random = torch.Generator().manual_seed(2)

    def body(count: int):
        turns = {joint: torch.randn(count, 3, generator=random) / 3 for joint in ("pelvis", "left_knee")}
        return Anny().animate(Motion(rotations=turns), {"height": 0.7})

    batch = tiny_batch(clips=1, frames=frames)
    return replace(batch, body=body(frames), reference=replace(batch.reference, body=body(1)))


def test_bones_and_mesh_of_a_stored_clip_are_read_with_the_same_bits():
    original = moving()
    files = encode_clip(original)
    found = dict(tensors(decode_clip(files)))
    for path, value in tensors(original):
        if "body" in path:
            assert torch.equal(found[path], value), path
    # What the photo's body shares with the clip's is stored once, and per frame only the bones' transforms.
    shared = ("faces", "vertex_bones", "vertex_weights")
    assert all(f"body_{name}.npy" in files and f"reference_body_{name}.npy" not in files for name in shared)
    of_clip = [len(files[f"body_{name}.npy"]) for name in ("vertex_bones", "vertex_weights", "rest")]
    assert len(files["body_transforms.npy"]) - 128 == 6 * 24 * 16 * 4 and sum(of_clip) - 3 * 128 == 13718 * (
        7 * (2 + 4) + 3 * 4
    )


def test_a_clip_stored_before_bones_were_has_its_mesh_alone():
    original = moving()
    bare = replace(original.body, skinning=None)
    files = encode_clip(replace(original, body=bare, reference=None))
    meta = json.loads(files["meta.json"]) | {"version": 2}
    found = decode_clip({**files, "meta.json": json.dumps(meta).encode()})
    assert found.body.skinning is None and torch.equal(found.body.vertices, original.body.vertices)
    assert "body.skinning" not in found.present()


def test_bones_go_where_their_clip_goes():
    original = moving()
    two = ClipBatch.stack([original, replace(original, body=replace(original.body, joints=original.body.joints + 1))])
    assert torch.equal(two.body.skinning.vertex_bones, original.body.skinning.vertex_bones)
    part = two.clips(slice(1, 2)).select(frames=[4, 2])
    assert (part.body.skinning.posed() - original.body.vertices[:, [4, 2]]).abs().max() < 1e-6
    bare = without_mesh(two)
    assert bare.body.skinning is None and bare.reference.body.skinning is None and bare.body.vertices is None
    assert two.to(torch.float64).body.skinning.rest.dtype == torch.float64


def test_a_clip_stored_before_constants_were_kept_apart_is_read_with_the_same_bits():
    original = six_frames()
    files = encode_clip(original)
    meta = json.loads(files["meta.json"])
    del meta["version"]
    old = {name.replace("_constant-", "_parameter-"): data for name, data in files.items()}
    assert "body_parameter-shape.npy" in old
    found = decode_clip({**old, "meta.json": json.dumps(meta).encode()})
    assert torch.equal(found.body.constants["shape"], original.body.constants["shape"])
    assert found.body.parameters.keys() == {"rotations"}
    assert torch.equal(found.body.parameters["rotations"], original.body.parameters["rotations"])


def test_a_parameter_with_another_number_of_frames_is_refused(tmp_path):
    original = six_frames()
    body = replace(original.body, parameters={"betas": torch.zeros(1, 10)})
    write_shard(tmp_path / "a.tar", [replace(original, body=body)])
    with pytest.raises(DataError, match=r"parameter 'betas' is \(1, 10\), the joints have 6 frames"):
        ShardReader(tmp_path / "a.tar").load(0)


@pytest.mark.parametrize("stored_by", ["this version", "an older one"])
def test_captions_are_provided_where_every_clip_has_one(tmp_path, stored_by):
    def provided(clips) -> bool:
        path = tmp_path / "train-0.tar"
        write_shard(path, clips)
        if stored_by == "an older one":
            index = json.loads(index_path(path).read_text())
            del index["captions"]
            write_index(path, index)
        return "caption" in Shards.provides(Shards.Config(path=str(tmp_path)))

    assert provided([clip(0), clip(1)])
    assert not provided([clip(0), replace(clip(1), caption=None)])
    assert "caption" not in Shards.provides(Shards.Config(path=str(tmp_path / "none")))


def test_an_empty_control_map_stays_exactly_zero():
    assert torch.equal(signal_from_uint8(signal_to_uint8(torch.zeros(3))), torch.zeros(3))
    levels = torch.tensor([-1.0, 1.0])
    assert torch.equal(signal_from_uint8(signal_to_uint8(levels)), levels)
    assert torch.equal(frames_from_uint8(frames_to_uint8(levels)), levels)


def test_webdataset_reads_the_shards(tmp_path):
    write_shard(tmp_path / "test-0.tar", [clip(0), clip(1)])
    samples = list(webdataset.WebDataset(str(tmp_path / "test-0.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == ["clip-0", "clip-1"]
    assert json.loads(samples[0]["meta.json"])["clip_id"] == "clip-0"


@pytest.mark.parametrize("damage", ["missing", "no index", "truncated", "another format"])
def test_a_damaged_shard_is_refused_by_name(tmp_path, damage):
    path = tmp_path / "test-0.tar"
    if damage != "missing":
        write_shard(path, [clip()])
    if damage == "no index":
        index_path(path).unlink()
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-2000])
    if damage == "another format":
        index_path(path).write_text(json.dumps({"format": "other"}))
    with pytest.raises(DataError) as error:
        ShardReader(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_nothing_half_written_is_left(tmp_path):
    def failing():
        yield clip(0)
        raise RuntimeError("the power went out")

    with pytest.raises(RuntimeError):
        write_shard(tmp_path / "test-0.tar", failing())
    assert list(tmp_path.iterdir()) == []


def test_a_finished_shard_is_not_rendered_again(tmp_path):
    class Clips:
        loaded = 0

        def __len__(self):
            return 2

        def load(self, index):
            Clips.loaded += 1
            return clip(index)

    for _ in range(2):
        path = render_shard(tmp_path, "test", Clips(), NO_SIGNALS)
    assert Clips.loaded == 2
    with tarfile.open(path) as tar:
        assert not [name for name in tar.getnames() if "vertices" in name]


def test_rendered_signals_are_those_that_are_rendered_on_the_fly(tmp_path):
    from components.conditioners.skeleton import Skeleton
    from hvg.testing import tiny_context

    signals = Signals({"key": Skeleton(Skeleton.Config(), tiny_context())})
    batch = replace(clip(), signals={})
    write_shard(tmp_path / "a.tar", [signals.draw(batch)])
    stored = ShardReader(tmp_path / "a.tar").load(0).signals["key"]
    assert torch.equal(stored, signals.draw(batch).signals["key"])
    assert stored.abs().max() > 0


def test_a_shard_that_lacks_a_signal_is_made_again_with_the_maps_it_had(tmp_path):
    from components.conditioners.bone_map import BoneMap
    from components.conditioners.skeleton import Skeleton
    from hvg.testing import tiny_context

    class Clips:
        def __len__(self):
            return 2

        def load(self, index):
            return replace(clip(index), signals={})

    parts = {"lines": Skeleton(Skeleton.Config(), tiny_context()), "bones": BoneMap(BoneMap.Config(), tiny_context())}
    render_shard(tmp_path, "test", Clips(), Signals({"lines": parts["lines"]}))
    path = render_shard(tmp_path, "test", Clips(), Signals({"bones": parts["bones"]}))
    both = ShardReader(path)
    assert both.signals == {"lines", "bones"}
    for index in range(2):
        expected = Signals(parts).draw(Clips().load(index)).signals
        assert all(torch.equal(both.load(index).signals[key], expected[key]) for key in parts)


# --- a folder of shards, and the run that is to see it ---


def sized(name: str, views: int, frames: int, side: int = 16) -> ClipBatch:
    return replace(tiny_batch(1, views, frames, size=side), clip_id=(name,))


def refused(folder: Path, *words: str) -> dict[str, str]:
    """Path -> message of everything wrong with a run on the shards of a folder."""
    with pytest.raises(ConfigError) as error:
        compose(["dataset=shards", f"dataset.path={folder}", "data.views=1", *words])
    return {problem.path: problem.message for problem in error.value.problems}


def without_sizes(path: Path) -> None:
    """Makes the shard's index what it was before it said sizes and numbers."""
    index = json.loads(index_path(path).read_text())
    write_index(path, {k: v for k, v in index.items() if k not in ("sizes", "part")})


@pytest.mark.parametrize("old", [False, True])
def test_clips_that_are_too_small_are_named_before_training(tmp_path, old):
    write_shard(tmp_path / "train-0.tar", [sized("wide", 4, 4), sized("narrow", 2, 6)], part=(0, 1))
    if old:
        without_sizes(tmp_path / "train-0.tar")
    assert ShardReader(tmp_path / "train-0.tar").sizes == [(4, 4, 16, 16), (2, 6, 16, 16)]
    words = ("dataset=shards", f"dataset.path={tmp_path}")
    assert compose([*words, "data.views=2", "data.frames=4"]).data.views == 2
    views = "4 views are asked for; 1 of 2 clips of the dataset 'shards' hold fewer, 'narrow' 2."
    frames = "6 frames are asked for; 1 of 2 clips of the dataset 'shards' hold fewer, 'wide' 4."
    assert refused(tmp_path, "data.views=4", "data.frames=6") == {"data.views": views, "data.frames": frames}
    # What one bucket does not take another may: [1,1] takes both.
    assert compose([*words, "data.grids=[[1,1],[2,6]]"]).data.buckets == ((1, 1), (2, 6))
    left = "1 of 2 clips of the dataset 'shards' fit none: 'wide' (2 x 6: more frames than its 4)"
    assert refused(tmp_path, "data.buckets=[[2,6]]") == {
        "data.buckets": f"{left}; data.unfit=leave_out trains without them."
    }
    assert compose([*words, "data.buckets=[[2,6]]", "data.unfit=leave_out"]).data.unfit == "leave_out"
    # What is trained already is not judged by what lies on the disk now.
    config = compose(["data.views=4"]).resolved() | {"dataset": {"name": "shards", "path": str(tmp_path)}}
    assert parse_resolved(json.dumps(config), "config.yaml").data.views == 4


def test_pictures_that_no_network_takes_are_named_before_training(tmp_path):
    write_shard(tmp_path / "train-0.tar", [sized("even", 1, 1), sized("odd", 1, 1, side=20)], part=(0, 1))
    (message,) = refused(tmp_path, "data.frames=1").values()
    assert "sides that are not divisible by 8" in message and "'odd' is 20x20" in message
    found = refused(tmp_path, "data.buckets=[[1,1,16,12]]")
    assert found["data.buckets.0"].startswith("16x12 is not divisible by 8")
    words = ("dataset=shards", f"dataset.path={tmp_path}", "data.buckets=[[1,1,16,16]]")
    assert compose(words).data.trained_buckets[0].size == (16, 16)


def test_a_step_that_asks_for_more_than_a_clip_holds_says_so():
    for bucket in (Bucket(3, 1), Bucket(1, 5)):
        with pytest.raises(HvgError, match="position 7 of the training order is one of 2 x 4"):
            DrawnCells(0, 7, bucket)(2, 4)


NAMED = [f"train-{number:05d}-of-00003.tar" for number in range(3)]


@pytest.mark.parametrize("lost", [0, 1, 2])
@pytest.mark.parametrize("by", ["name", "index"])
def test_a_missing_shard_is_noticed(tmp_path, lost, by):
    names = NAMED if by == "name" else [f"train-{number}.tar" for number in range(3)]
    for number, name in enumerate(names):
        write_shard(tmp_path / name, [sized(f"clip-{number}", 1, 1)], part=None if by == "name" else (number, 3))
    config = compose(["dataset=shards", f"dataset.path={tmp_path}", "data.views=1"])
    assert len(build_dataset(config, "train")) == 3 and not Shards.holdings(config.dataset.config).notes
    (tmp_path / names[lost]).unlink()
    said = f"1 of 3 shards train*.tar are missing: number {lost} (the first is 0)"
    assert said in refused(tmp_path)["dataset"]
    with pytest.raises(DataError, match=re.escape(said)):
        build_dataset(config, "train")


def test_shards_of_two_sets_are_not_taken_for_one(tmp_path):
    for number, (name, part) in enumerate([(NAMED[0], None), ("train-00000-of-00001.tar", None)]):
        write_shard(tmp_path / name, [sized(f"clip-{number}", 1, 1)], part=part)
    assert "are not of one set" in refused(tmp_path)["dataset"]
    # Two sets with names of their own are one data set.
    (tmp_path / NAMED[0]).unlink()
    write_shard(tmp_path / "train_more-0.tar", [sized("clip-2", 1, 1)], part=(0, 1))
    assert len(build_dataset(compose(["dataset=shards", f"dataset.path={tmp_path}", "data.views=1"]), "train")) == 2


def test_older_shards_are_read_with_a_note(tmp_path):
    write_shard(tmp_path / "train-0.tar", [sized("clip-0", 1, 1)])
    without_sizes(tmp_path / "train-0.tar")
    config = compose(["dataset=shards", f"dataset.path={tmp_path}", "data.views=1"])
    assert len(build_dataset(config, "train")) == 1
    (note,) = Shards.holdings(config.dataset.config).notes
    assert "nothing says how many shards" in note and "train*.tar" in note
    assert check.notes(config) == [note]


@pytest.mark.parametrize(
    "changed",
    [
        {"sizes": [[1, 1, 16]]},
        {"sizes": []},
        {"sizes": [[1, "1", 16, 16]]},
        {"part": [0]},
        {"part": [-1, 2]},
        {"part": 3},
    ],
)
def test_a_damaged_size_or_number_is_refused(tmp_path, changed):
    write_shard(tmp_path / "train-0.tar", [sized("clip-0", 1, 1)])
    path = tmp_path / "train-0.tar"
    write_index(path, json.loads(index_path(path).read_text()) | changed)
    with pytest.raises(DataError, match=r"train-0\.tar\.index\.json: damaged"):
        ShardReader(tmp_path / "train-0.tar")


# --- silent damage ---


def flipped(data: bytes, place: int, bit: int) -> bytes:
    return data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]


def same(a: ClipBatch, b: ClipBatch) -> bool:
    found, expected = dict(tensors(a)), dict(tensors(b))
    return (
        found.keys() == expected.keys()
        and all(torch.equal(found[path], expected[path]) for path in expected)
        and (a.clip_id, a.subject, a.caption) == (b.clip_id, b.subject, b.caption)
    )


@pytest.mark.parametrize("flips", [40, pytest.param(400, marks=pytest.mark.long)])
@pytest.mark.parametrize("which", ["shard", "shard of an older index", "index"])
def test_no_flipped_bit_changes_a_clip(tmp_path, which, flips):
    path = tmp_path / "test-0.tar"
    write_shard(path, [clip()])
    if which == "shard of an older index":
        index = json.loads(index_path(path).read_text())
        del index["crc32"], index["checksum"]
        index_path(path).write_text(json.dumps(index))
    expected, file = ShardReader(path).load(0), index_path(path) if which == "index" else path
    data, generator = file.read_bytes(), torch.Generator().manual_seed(0)
    noticed = 0
    for _ in range(flips):
        place = int(torch.randint(len(data), (), generator=generator))
        file.write_bytes(flipped(data, place, int(torch.randint(8, (), generator=generator))))
        try:
            assert same(ShardReader(path).load(0), expected)
        except DataError as error:
            noticed += 1
            assert path.name in str(error) and "\n" not in str(error)
    # What is not noticed are the tar's own headers and padding, which nothing reads.
    assert noticed > flips / 4


def test_a_bit_that_flips_in_numbers_is_named(tmp_path):
    path = tmp_path / "test-0.tar"
    write_shard(path, [clip()])
    offset, size = json.loads(index_path(path).read_text())["members"]["clip-0.body_joints.npy"]
    path.write_bytes(flipped(path.read_bytes(), offset + size - 2, 3))
    with pytest.raises(DataError, match=r"clip 'clip-0' cannot be decoded: .*body_joints.npy is not what was written"):
        ShardReader(path).load(0)
