"""What frozen networks made ahead is read back bit by bit, in part, and never for anything else."""

import re
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from hvg.config.build import build_dataset
from hvg.config.composition import compose
from hvg.core.digests import components_digest
from hvg.core.errors import ConfigError, DataError
from hvg.data import training_data
from hvg.data.cache import RenderedClips, cache_folder
from hvg.data.features import encodings
from hvg.data.latents import (
    EncodedClips,
    EncodedFile,
    StoredClips,
    encoded_path,
    latent_coverage,
    wanted_images,
    write_encoded,
)
from hvg.data.shard_writing import write_shard
from hvg.data.shards import ShardReader
from hvg.data.training_data import TrainingOrder, together
from hvg.model.load import build_system
from hvg.parts import registry
from hvg.testing import build, tiny_batch, tiny_context
from hvg.values.buckets import Bucket, alike
from hvg.values.packed import unpacked

VIEWS, FRAMES = 3, 4


def cells(views, frames):
    """Some of a clip's views, in an order of their own, and some of its frames."""
    return [2, 0], range(1, 3)


@pytest.fixture(scope="module")
def config(tiny):
    words = ["dataset.views=3", "dataset.frames=4", "data.recolour=0", "data.cache=unused", "data.latents=cached"]
    return compose([*tiny, *words, "alignment=pelvis", "image_embedding=none"])


@pytest.fixture(scope="module")
def system(config):
    return build_system(config)


@pytest.fixture
def rendered(config, system, tmp_path):
    """Three clips in a shard, and what the parts of the configuration made of them."""
    path, drawn = tmp_path / "train-00000-of-00001.tar", []
    for seed in range(3):
        clip = tiny_batch(1, VIEWS, FRAMES, seed=seed)
        drawn.append(system.signals.draw(replace(clip, clip_id=(f"person/{seed}",))))
    write_shard(path, drawn)
    found, shard = encodings(config, system.codec, system.conditioners.values()), ShardReader(path)
    for encoding in found:
        made = {key: encoding.encode(system.aligned(shard.load(i))[0]) for i, key in enumerate(shard.keys)}
        write_encoded(encoded_path(path, encoding.name), made)
    return path, found


def encoded_clips(config, system, rendered):
    path, found = rendered
    shard = ShardReader(path)
    files = [EncodedFile(encoded_path(path, encoding.name), shard.keys) for encoding in found]
    places = {(key, size[2:]): files for key, size in zip(shard.keys, map(tuple, shard.sizes), strict=True)}
    return EncodedClips(StoredClips([shard], wanted_images(config), frozenset(system.signals)), found, places)


def assert_same(a, b, path="clip"):
    """Two values hold the same, tensor by tensor."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    elif hasattr(a, "__dataclass_fields__"):
        for name in a.__dataclass_fields__:
            assert_same(getattr(a, name), getattr(b, name), f"{path}.{name}")
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f"{path}[{key}]")
    else:
        assert a == b, path


def test_a_part_of_a_clip_is_what_all_of_it_holds_there(config, system, rendered):
    clips = RenderedClips([rendered[0]], tiny_batch, frozenset(system.signals))
    for index in range(len(clips)):
        part = unpacked(clips.load_part(index, cells, frozenset(system.signals)))
        assert part.grid == (1, 2, 2) and part.signals.keys() == system.signals.keys()
        assert_same(part, clips.load(index).select(*cells(VIEWS, FRAMES)))


def test_a_part_with_a_map_that_is_not_there_is_left_to_load(rendered):
    clips = RenderedClips([rendered[0]], tiny_batch, frozenset())
    assert clips.load_part(0, cells, frozenset({"other"})) is None


def test_what_is_not_asked_for_is_not_read(config, system, rendered):
    """The bytes of every frame but one, and of the photo, are destroyed: the rest is read as ever."""
    reader = ShardReader(rendered[0])
    clips, whole = encoded_clips(config, system, rendered), reader.load(1)
    with rendered[0].open("r+b") as stream:
        for name, (offset, size) in reader._members["person/1"].items():
            seen = name.startswith("signal-") and name.endswith((".002.001.png", ".000.002.png", ".002.002.png"))
            picture = re.search(r"\.\d+\.\d+\.(png|npy)$", name)
            if picture and not (seen or picture[0].startswith(".000.001.")):
                stream.seek(offset)
                stream.write(bytes(size))
    with pytest.raises(DataError, match="cannot be decoded"):
        reader.load(1)
    part = clips.load_part(1, cells, frozenset(system.signals))
    assert part.frames is None and part.alpha is None and part.reference is None
    assert_same(unpacked(part).signals, whole.select(*cells(VIEWS, FRAMES)).signals)


def test_the_same_encodings_are_the_same_bytes(tmp_path):
    for number in range(8):
        write_encoded(tmp_path / f"{number}.safetensors", {"a": {"x": torch.ones(2, 2, 3), "y": torch.ones(1, 1, 4)}})
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_a_step_has_the_same_loss_bit_by_bit(config, system, rendered):
    """People stand off the centre, so that the alignment moves frames, alpha and photo."""
    signals = system.signals
    live = RenderedClips([rendered[0]], tiny_batch, frozenset(signals))
    batches = []
    for clips in (live, encoded_clips(config, system, rendered)):
        order = TrainingOrder(clips, signals, seed=3, groups=alike(len(clips), Bucket(2, 3)), clips_per_step=2)
        batches.append([unpacked(together([order[i], order[i + 1]])) for i in (0, 2)])
    assert config.training.foreground_weight > 0
    for encoded, cached in zip(*batches, strict=True):
        offsets, _ = system.offsets(encoded)
        assert offsets.any() and encoded.frames is not None
        assert cached.frames is None and cached.reference is None
        moved, _ = system.aligned(encoded)
        assert torch.equal(cached.latents, system.codec.encode(moved.frames))
        assert torch.equal(cached.coverage, latent_coverage(moved, cached.latents))
        assert not torch.equal(cached.latents, system.codec.encode(encoded.frames))
        losses = [system.training_step(batch, 0)["loss"] for batch in (encoded, cached)]
        assert torch.equal(*losses)


def test_small_and_large_datasets_train_on_the_same_cells(config, system, rendered, monkeypatch):
    """What fits into memory is decoded once; of the rest, parts are read."""
    found = []
    for room in (training_data.KEPT_BYTES, 0):
        monkeypatch.setattr(training_data, "KEPT_BYTES", room)
        clips = RenderedClips([rendered[0]], tiny_batch, frozenset(system.signals))
        order = TrainingOrder(
            clips,
            system.signals,
            seed=1,
            groups=alike(len(clips), Bucket(2, 1), Bucket(1, 3)),
            clips_per_step=2,
            recolour=0.5,
        )
        found.append([unpacked(order[position]) for position in range(8)])
        assert bool(order._kept) == bool(room)
    for a, b in zip(*found, strict=True):
        assert_same(a, b)


# --- files ---


def test_files_hold_what_was_written(tmp_path):
    values = {
        "a/b": {"latents": torch.randn(3, 4, 2, 5), "coverage": torch.rand(3, 4, 1)},
        "c": {"x": torch.ones(1, 1)},
    }
    write_encoded(tmp_path / "train.safetensors", values)
    file = EncodedFile(tmp_path / "train.safetensors", ["a/b", "c"])
    assert_same(file.read("a/b"), values["a/b"])
    part = file.read("a/b", cells)
    assert torch.equal(part["latents"], values["a/b"]["latents"][[2, 0], 1:3])
    assert torch.equal(file.read("c")["x"], torch.ones(1, 1))
    (tmp_path / "other").touch()
    assert (tmp_path / "train.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "another format", "a clip is missing"])
def test_a_damaged_file_is_refused_by_name(tmp_path, damage):
    path, clips = tmp_path / "train.safetensors", ["a", "b"]
    write_encoded(path, {clip: {"x": torch.randn(2, 2, 3)} for clip in clips})
    if damage == "missing":
        path.unlink()
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-5])
    if damage == "empty":
        path.write_bytes(b"")
    if damage == "another format":
        path.write_bytes(path.read_bytes().replace(b"hvg-latents-1", b"hvg-latents-9"))
    if damage == "a clip is missing":
        clips = ["a", "c"]
    with pytest.raises(DataError) as error:
        EncodedFile(path, clips)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_bit_that_flipped_is_found_where_it_is_read(tmp_path):
    path = tmp_path / "train.safetensors"
    write_encoded(path, {"a": {"x": torch.zeros(2, 2, 3)}, "b": {"x": torch.full((2, 2, 3), 7.0)}})
    data = bytearray(path.read_bytes())
    data[data.rindex(torch.full((3,), 7.0).numpy().tobytes()) + 1] ^= 1
    path.write_bytes(data)
    file = EncodedFile(path, ["a", "b"])
    assert torch.equal(file.read("a")["x"], torch.zeros(2, 2, 3))
    assert (file.read("b", lambda views, frames: ([0], range(2)))["x"] == 7).all()
    with pytest.raises(DataError, match=r"clip 'b': .* not what was written") as error:
        file.read("b")
    assert str(path) in str(error.value)


# --- names ---


def names(*words):
    config = compose(["scale=cpu", "debug=tiny", "backbone.widths=[32,32]", "backbone.heads=[1,1]", *words])
    system = build_system(config)
    return {e.name.split("-")[0]: e.name for e in encodings(config, system.codec, system.conditioners.values())}


def test_names_change_with_what_encodings_depend_on_and_with_nothing_else():
    first = names()
    assert first.keys() == {"latents", "ReferenceLatent", "ReferenceTokens"}
    for words in (["codec.scale=0.5"], ["alignment=pelvis"], ["data.background=[0,0,0]"]):
        other = names(*words)
        assert all(other[key] != first[key] for key in first), words
    same = names(
        "reference_keys.width=32", "appearance.dropout=0.2", "seed=4", "training.learning_rate=1e-4", "pose=none"
    )
    assert same == first
    noisy = names("appearance.noise_augmentation=0.1")
    assert {key for key in first if noisy[key] != first[key]} == {"ReferenceLatent"}


def test_names_change_with_the_weights_and_not_with_where_they_lie(svd_folder, tmp_path):
    """The codec's and CLIP's, each moved or changed by one number."""

    def digests(folder):
        codec = registry.load("codec", "svd_vae")
        clip = registry.load("conditioner", "clip_image")
        built = codec(codec.Config(path=str(folder))), build(clip, clip.Config(path=str(folder)), tiny_context())
        return [components_digest(part.frozen()) for part in built]

    first = digests(svd_folder)
    shutil.copytree(svd_folder, tmp_path / "moved")
    assert digests(tmp_path / "moved") == first and all(first)
    for place, (stays, changes) in {
        "vae/diffusion_pytorch_model.safetensors": (1, 0),
        "image_encoder/model.safetensors": (0, 1),
    }.items():
        shutil.copytree(svd_folder, tmp_path / f"changed{changes}")
        path = tmp_path / f"changed{changes}" / place
        weights = load_file(path)
        name = sorted(weights)[0]
        weights[name].view(-1)[0] += 1e-3
        save_file(weights, path, metadata={"format": "pt"})
        found = digests(tmp_path / f"changed{changes}")
        assert found[stays] == first[stays] and found[changes] != first[changes]


def test_shards_of_the_user_are_known_by_what_lies_in_them(tmp_path):
    config = compose(["scale=cpu", "dataset=shards", f"dataset.path={tmp_path}"])
    folders = []
    for seed in range(2):
        write_shard(tmp_path / "train.tar", [tiny_batch(1, VIEWS, FRAMES, seed=seed)])
        folders.append(cache_folder(config))
        clips = build_dataset(config, "train")
        part = unpacked(clips.load_part(0, cells, frozenset()))
        assert_same(part, clips.load(0).select(*cells(VIEWS, FRAMES)))
    assert folders[0] != folders[1] and folders[1] == cache_folder(config)


# --- judging ---


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("data.cache=null", "data.cache=FOLDER"),
        ("data.recolour=0.3", "data.recolour=0"),
        ("alignment=first_frame", "first_frame"),
        ("alignment=pelvis alignment.frames=first", "pelvis"),
    ],
)
def test_what_cannot_be_cached_is_judged_beforehand(words, told):
    fine = ["scale=cpu", "data.recolour=0", "data.cache=somewhere", "data.latents=cached"]
    compose(fine)
    with pytest.raises(ConfigError) as error:
        compose([*fine, *words.split()])
    assert len(error.value.problems) == 1
    assert "data.latents: cached" in str(error.value) and told in str(error.value)


def test_no_flipped_bit_changes_what_was_encoded(tmp_path):
    path, clips = tmp_path / "a.safetensors", ["a", "b"]
    tensors = {
        name: torch.rand(2, 2, 3, generator=torch.Generator().manual_seed(0)) for name in ("latents", "coverage")
    }
    write_encoded(path, {clip: {name: x.clone() for name, x in tensors.items()} for clip in clips})
    data, draw, noticed = path.read_bytes(), torch.Generator().manual_seed(0), 0
    for _ in range(200):
        place, bit = int(torch.randint(len(data), (), generator=draw)), int(torch.randint(8, (), generator=draw))
        path.write_bytes(data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :])
        try:
            file = EncodedFile(path, clips)
            for clip in clips:
                found = file.read(clip)
                assert found.keys() == tensors.keys()
                assert all(torch.equal(found[name], tensors[name]) for name in tensors)
        except DataError as error:
            noticed += 1
            assert str(path) in str(error) and "\n" not in str(error)
    assert noticed > 180
