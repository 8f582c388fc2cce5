"""Steps have shapes of views, frames, height and width: which clips go to which, how often, and what becomes of pictures."""

from collections import Counter
from dataclasses import replace
from functools import partial
from queue import SimpleQueue

import pytest
import torch

from hvg.config.buckets import bucket_notes
from hvg.config.changes import changes, earlier_config
from hvg.config.composition import compose, parse_resolved
from hvg.core.checkpoint import Checkpoint, checkpoint_path, remove_checkpoint
from hvg.core.eight_bit import frames_from_uint8
from hvg.core.errors import ConfigError, DataError
from hvg.core.random_keys import generator
from hvg.data import prepare, prepare_latents, training_data
from hvg.data.cache import cache_folder, open_clips, open_training_clips
from hvg.data.shard_writing import write_shard
from hvg.data.signals import NO_SIGNALS
from hvg.data.step_order import clip_position, group_of_step, place_at, training_groups
from hvg.data.training_data import ClipDataModule, StepPositions, TrainingOrder, together
from hvg.model.fake_step import step_shape
from hvg.model.load import build_system, load_system_weights
from hvg.parts.scene import Dataset
from hvg.score.measured_clips import batches
from hvg.testing import tiny_batch
from hvg.train.run import train
from hvg.values.buckets import Bucket, Group, evaluated_size, groups, places, unfit
from hvg.values.cameras import project
from hvg.values.clip import CLOSE_UPS, ClipBatch
from hvg.values.packed import unpacked
from hvg.values.resized import resize_clip

PORTRAIT, LANDSCAPE = Bucket(1, 2, (64, 48)), Bucket(1, 4, (48, 64))
# (V, T, H, W) of seven clips: four stand, two lie, and one square.
SIZES = [(1, 4, 128, 96)] * 4 + [(1, 4, 96, 128)] * 2 + [(2, 2, 64, 64)]


def noise_clip(name: str, views: int, frames: int, height: int, width: int) -> ClipBatch:
    """A clip of noise of any size, its photo too; close-ups have one size in all clips."""
    clip = tiny_batch(1, views, frames, size=max(height, width))
    clip = resize_clip(replace(clip, clip_id=(name,), subject=(name,)), (height, width))
    levels = torch.randint(256, (1, views, frames, 3, height, width), generator=generator("noise", name))
    pictures = frames_from_uint8(levels)
    alpha = torch.ones(1, views, frames, 1, height, width)
    photo = replace(clip.reference, frames=pictures[:, 0, :1])
    near = {name: getattr(clip, name)[..., :16, :16] for name in CLOSE_UPS}
    return replace(clip, frames=pictures, alpha=alpha, reference=photo, **near)


# --- the settings ---


def test_shapes_are_read_and_judged():
    config = compose(["data.buckets=[[2,1],[1,2,32,32]]", "dataset.image_size=64"])
    assert config.data.trained_buckets == (Bucket(2, 1), Bucket(1, 2, (32, 32)))
    assert step_shape(config)[1:] == (2, 1, 64, 64)
    assert parse_resolved(config.to_yaml(), "config.yaml") == config
    for value, message in {
        "[[2,1,3]]": "expected [views, frames] or [views, frames, height, width]",
        "[[2,1,3,4,5]]": "expected [views, frames] or [views, frames, height, width]",
        "[[0,1]]": "expected greater than or equal to 1",
        "[[1,1,9000,64]]": "sides of 8192 pixels",
        "[[1,1,20,32]]": "20x32 is not divisible by 8",
        "[[1,1,128,128]]": "would be enlarged from 64 x 64",
        "[[1,1,64,24]]": "62% of a picture of 64 x 64 would be cut away",
    }.items():
        with pytest.raises(ConfigError) as error:
            compose([f"data.buckets={value}"])
        assert message in str(error.value), value


def test_the_name_of_earlier_versions_is_read():
    words = ["data.grids=[[2,1],[1,2]]"]
    new = compose(["data.buckets=[[2,1],[1,2]]"])
    assert compose(words) == compose(["++data.grids=[[2,1],[1,2]]"]) == new
    old = new.to_yaml().replace("buckets:", "grids:").replace("  max_crop: 0.3\n", "").replace("  unfit: refuse\n", "")
    assert "grids:" in old and "max_crop" not in old
    assert changes(earlier_config(old, "step-1"), new) == []
    assert parse_resolved(compose([]).to_yaml().replace("buckets:", "grids:"), "config.yaml") == compose([])
    with pytest.raises(ConfigError, match=r"is another name of data\.buckets"):
        parse_resolved(old.replace("data:\n", "data:\n  buckets: [[1, 1]]\n"), "config.yaml")


# --- which clips go where ---


def test_clips_go_to_the_nearest_aspect_that_they_fit():
    assert places([PORTRAIT, LANDSCAPE], (1, 4, 128, 96), 0.3) == (PORTRAIT,)
    assert places([PORTRAIT, LANDSCAPE], (1, 4, 96, 128), 0.3) == (LANDSCAPE,)
    # A square is as near to one as to the other; but it has no four frames.
    assert places([PORTRAIT, LANDSCAPE], (1, 4, 64, 64), 0.3) == (PORTRAIT, LANDSCAPE)
    assert places([PORTRAIT, LANDSCAPE], (1, 2, 64, 64), 0.3) == (PORTRAIT,)
    # Of one aspect all sizes that enlarge nothing; without a size, the clip's own.
    large = Bucket(1, 1, (128, 96))
    assert places([PORTRAIT, large], (1, 4, 128, 96), 0.3) == (PORTRAIT, large)
    assert places([PORTRAIT, large], (1, 4, 127, 96), 0.3) == (PORTRAIT,)
    assert places([Bucket(1, 2)], (1, 4, 127, 96), 0.0) == (Bucket(1, 2, (127, 96)),)
    found = groups([PORTRAIT, LANDSCAPE], SIZES, 0.3)
    assert found == [Group([0, 1, 2, 3, 6], (PORTRAIT,)), Group([4, 5], (LANDSCAPE,))]


def test_a_clip_that_fits_no_bucket_is_named_with_the_reasons():
    sizes = {"short": (1, 1, 128, 96), "small": (1, 4, 60, 60), "wide": (1, 4, 96, 400), "good": (1, 4, 128, 96)}
    found = unfit([PORTRAIT, LANDSCAPE], sizes, 0.3)
    assert found == {
        "short": "1 x 2 x 64 x 48: more frames than its 1, 1 x 4 x 48 x 64: more frames than its 1",
        "small": "1 x 2 x 64 x 48: pictures would be enlarged from 60 x 60, "
        "1 x 4 x 48 x 64: pictures would be enlarged from 60 x 60",
        "wide": "1 x 2 x 64 x 48: 82% of a picture of 96 x 400 would be cut away, "
        "1 x 4 x 48 x 64: 68% of a picture of 96 x 400 would be cut away",
    }


@pytest.mark.parametrize("seed", [0, 5])
def test_every_clip_is_seen_equally_often_and_a_step_has_one_shape(seed):
    found, clips_per_step = groups([PORTRAIT, LANDSCAPE], SIZES, 0.3), 4
    # Steps until the shares and the orders of all groups have come round: 7, 5 and 2 clips.
    steps = 7 * 5 * 2
    drawn = [place_at(seed, found, position, clips_per_step) for position in range(steps * clips_per_step)]
    assert Counter(place.clip for place in drawn) == dict.fromkeys(range(7), steps * clips_per_step // 7)
    for step in range(steps):
        of_step = drawn[step * clips_per_step : (step + 1) * clips_per_step]
        assert len({place.bucket for place in of_step}) == 1
        assert all(place.clip in ([4, 5] if place.bucket == LANDSCAPE else [0, 1, 2, 3, 6]) for place in of_step)
    order = [place.bucket for place in drawn[::clips_per_step]]
    assert order[:7] != order[7:14] or order[7:14] != order[14:21], "every cycle has an order of its own"
    # A position does not depend on which were asked before.
    assert place_at(seed, found, 101, clips_per_step) == drawn[101]


def test_the_steps_before_are_counted_right():
    counts = (5, 2, 3)
    told = [group_of_step(1, step, counts) for step in range(40)]
    seen = Counter()
    for group, earlier in told:
        assert earlier == seen[group]
        seen[group] += 1
    assert seen == {0: 20, 1: 8, 2: 12}


def test_where_all_clips_are_alike_the_order_is_that_of_earlier_versions():
    buckets = [Bucket(2, 1), Bucket(1, 2)]
    config = compose(["data.grids=[[2,1],[1,2]]", "dataset.num_subjects=5", "dataset.clips_per_subject=1"])
    found = training_groups(config, 5)
    assert [list(group.clips) for group in found] == [[0, 1, 2, 3, 4]]
    for position in range(60):
        place = place_at(3, found, position, 4)
        assert place.clip == clip_position(3, position, 5)
        epoch_order = torch.randperm(5, generator=generator(3, "order", position // 5))
        assert place.clip == int(epoch_order[position % 5])
        drawn = int(torch.randint(2, (1,), generator=generator(3, "grids", position // 4)))
        assert (place.bucket.views, place.bucket.frames) == (buckets[drawn].views, buckets[drawn].frames)


# --- what becomes of pictures ---


def test_cameras_go_with_pictures_that_are_cut_and_made_smaller():
    clip = tiny_batch(1, 2, 2, size=96)
    y, x = torch.meshgrid(torch.arange(96) + 0.5, torch.arange(96) + 0.5, indexing="ij")
    ramp = torch.stack([x, y, x]).expand(1, 2, 2, 3, 96, 96)
    photo = replace(clip.reference, frames=ramp[:, 0, :1], cameras=clip.cameras[:, 0, :1])
    small = resize_clip(replace(clip, frames=ramp, reference=photo), (48, 36))
    assert small.frames.shape == (1, 2, 2, 3, 48, 36) and small.alpha.shape == (1, 2, 2, 1, 48, 36)
    assert small.driving.shape == (1, 2, 3, 48, 36) and small.cameras.image_size == (48, 36)
    # A joint lies at the same colour, which says where it lay before.
    joints = clip.body.joints[:, None]
    before, after = (project(joints, cameras)[0] for cameras in (clip.cameras, small.cameras))
    columns, rows = (torch.arange(n) + 0.5 for n in (36, 48))
    for axis, (places_, image) in enumerate(
        ((columns, small.frames[0, 0, 0, 0, 24]), (rows, small.frames[0, 0, 0, 1, :, 18]))
    ):
        inside = slice(2, -2)
        slope = (image[inside][-1] - image[inside][0]) / (places_[inside][-1] - places_[inside][0])
        expected = image[inside][0] + (after[..., axis] - places_[inside][0]) * slope
        assert torch.allclose(expected, before[..., axis], atol=1e-3)
    assert torch.equal(small.reference.cameras.intrinsics, small.cameras.intrinsics[:, 0, :1])


def test_pictures_that_have_the_size_stay_bit_by_bit():
    clip = tiny_batch(1, 2, 2, size=32)
    same = resize_clip(clip, (32, 32))
    assert same.frames is clip.frames and same.reference.frames is clip.reference.frames
    assert same.cameras is clip.cameras


def test_a_clip_to_evaluate_has_a_size_that_training_has():
    buckets = [PORTRAIT, LANDSCAPE, Bucket(1, 1, (96, 128))]
    assert evaluated_size(buckets, (480, 640)) == (96, 128)
    assert evaluated_size(buckets, (50, 70)) == (48, 64)
    assert evaluated_size(buckets, (30, 40)) == (48, 64)
    assert evaluated_size(buckets, (1920, 1080)) == (64, 48)
    assert evaluated_size([Bucket(1, 1)], (30, 40)) == (30, 40)


# --- shards of clips of several sizes ---


@pytest.fixture(scope="module")
def ragged(tmp_path_factory):
    """Words for a folder of shards with clips that stand and clips that lie, of several lengths."""
    folder = tmp_path_factory.mktemp("ragged")
    sizes = [(1, 4, 64, 48), (1, 3, 64, 48), (2, 2, 64, 48), (1, 4, 48, 64), (1, 6, 72, 96)]
    for split in ("train", "val", "test"):
        clips = [noise_clip(f"{split}-{i}", *size) for i, size in enumerate(sizes)]
        write_shard(folder / f"{split}-00000-of-00001.tar", clips)
    return ["dataset=shards", f"dataset.path={folder}", "data.buckets=[[1,2,32,24],[1,4,24,32]]"]


def test_ragged_shards_give_every_step_one_shape_on_all_ranks(ragged):
    config = compose(ragged)
    clips = open_clips(config, "train")
    assert {clip.cameras.image_size for clip in map(clips.load, range(5))} == {(32, 24), (24, 32)}
    found = training_groups(config, 5)
    assert [list(group.clips) for group in found] == [[0, 1, 2], [3, 4]]
    order = partial(TrainingOrder, clips, NO_SIGNALS, seed=0, groups=found)
    whole = list(ClipDataModule(order, batch_size=2, num_steps=10, workers=0).train_dataloader())
    shapes = {tuple(batch.frames.shape[1:]) for batch in whole}
    assert shapes == {(1, 2, 3, 32, 24), (1, 4, 3, 24, 32)}
    # Two ranks of one clip each have the shapes, and the clips, that one of two has.
    two = order(clips_per_step=2)
    for step, batch in enumerate(whole):
        ranks = [two[next(iter(StepPositions(step, step + 1, 1, rank, 2)))[0]] for rank in range(2)]
        assert tuple(name for clip in ranks for name in clip.clip_id) == batch.clip_id
        assert torch.equal(torch.cat([clip.frames for clip in ranks]), batch.frames)
    # A run that stopped before any step goes on in the same batches, with loader processes too.
    late = ClipDataModule(order, batch_size=2, num_steps=10, workers=2, first_step=7).train_dataloader()
    for batch, other in zip(whole[7:], late, strict=True):
        assert batch.clip_id == other.clip_id and torch.equal(batch.frames, other.frames)
        assert torch.equal(batch.cameras.intrinsics, other.cameras.intrinsics)


def test_clips_without_sizes_in_the_buckets_are_drawn_with_those_of_their_own_size(ragged):
    config = compose([*ragged, "data.buckets=null", "data.views=1", "data.frames=2"])
    assert {group.buckets[0].size: len(group.clips) for group in training_groups(config, 5)} == {
        (64, 48): 3,
        (48, 64): 1,
        (72, 96): 1,
    }


def test_what_buckets_leave_out_is_said(ragged):
    words = [*ragged, "data.buckets=[[2,2,32,24],[1,4,24,32],[1,16,24,32]]"]
    with pytest.raises(ConfigError, match="2 of 5 clips of the dataset 'shards' fit none: 'train-0'"):
        compose(words)
    left_out = compose([*words, "data.unfit=leave_out"])
    empty, left = bucket_notes(left_out)
    assert empty == "no clip is drawn for the bucket 1 x 16 x 24 x 32"
    assert left.startswith(
        "2 of 5 training clips fit no bucket and are left out: 'train-0' (2 x 2 x 32 x 24: more views"
    )
    assert sorted(i for group in training_groups(left_out, 5) for i in group.clips) == [2, 3, 4]


@pytest.fixture
def prepared(ragged, tiny, tmp_path):
    """Words of a run on clips of several sizes that were rendered; its latents are not made."""
    own = [word for word in tiny if not word.startswith(("dataset.", "data."))]
    words = [
        *own,
        *ragged,
        f"data.cache={tmp_path}",
        "data.recolour=0",
        "alignment=pelvis",
        "pose=skeleton",
        "device=cpu",
    ]
    config = compose(words)
    prepare._render((config.to_yaml(),), cache_folder(config), "train", (0, 1), SimpleQueue())
    yield words
    for kept in (prepare._drawing, prepare._clips, prepare_latents._encoders):
        kept.cache_clear()


def make_latents(config) -> list[prepare_latents.ToEncode]:
    """Makes those that a run lacks; what was made."""
    ((_, names),) = prepare_latents.owned_encodings([config])
    missing = [task for task in prepare_latents.to_encode(config, names) if task.names]
    for task in missing:
        prepare_latents.encode(task, SimpleQueue())
    return missing


@pytest.mark.parametrize("room", [0, training_data.KEPT_BYTES])
def test_latents_made_ahead_follow_the_sizes_of_buckets(prepared, monkeypatch, room):
    """A step that reads them is bit by bit the step that makes them of pictures that were cut and made smaller."""
    monkeypatch.setattr(training_data, "KEPT_BYTES", room)
    config = compose([*prepared, "data.latents=cached"])
    made = make_latents(config)
    assert {task.size: len(task.clips) for task in made} == {(32, 24): 3, (24, 32): 2} and make_latents(config) == []
    system, batches = build_system(config), []
    for each in (compose(prepared), config):
        clips = open_training_clips(each, system.codec, system.conditioners)
        order = TrainingOrder(clips, system.signals, seed=0, groups=training_groups(each, 5), clips_per_step=2)
        batches.append([unpacked(together([order[i], order[i + 1]])) for i in range(0, 16, 2)])
    for encoded, cached in zip(*batches, strict=True):
        assert encoded.clip_id == cached.clip_id and cached.frames is None and encoded.latents is None
        moved, _ = system.aligned(encoded)
        assert torch.equal(cached.latents, system.codec.encode(moved.frames))
        losses = [system.training_step(batch, 0)["loss"] for batch in (encoded, cached)]
        assert torch.equal(*losses)
    assert {batch.cameras.image_size for batch in batches[1]} == {(32, 24), (24, 32)}


def test_latents_of_one_size_are_kept_where_another_run_needs_other_clips(prepared):
    alone = ["data.latents=cached", "data.unfit=leave_out"]
    long, wide = (compose([*prepared, *alone, f"data.buckets=[[{grid},32,24]]"]) for grid in ("1,4", "2,2"))
    assert [list(task.clips) for task in make_latents(long)] == [["train-0"]]
    assert [list(task.clips) for task in make_latents(wide)] == [["train-0", "train-2"]]
    assert make_latents(long) == make_latents(wide) == []
    system = build_system(long)
    with pytest.raises(DataError, match=r"-32x24/train-00000-of-00001.safetensors: holds nothing of clip 'train-1'"):
        open_training_clips(compose([*prepared, "data.latents=cached"]), system.codec, system.conditioners)


class Pair(Dataset):
    """Two clips of one size and one of another."""

    def __len__(self) -> int:
        return 3

    def load(self, index: int) -> ClipBatch:
        return tiny_batch(1, 1, 1, size=(16, 16, 32)[index], seed=index)


def test_an_evaluated_batch_has_clips_of_one_size():
    clips = Pair()
    found = list(batches(clips, 3, 4, clips.load))
    assert [(tuple(indices), batch.cameras.image_size) for indices, batch in found] == [
        ((0, 1), (16, 16)),
        ((2,), (32, 32)),
    ]


@pytest.mark.long
def test_a_run_on_ragged_shards_resumes_to_the_same_bits(ragged, tiny, tmp_path):
    own = [word for word in tiny if not word.startswith(("dataset.", "data."))]
    words = [*own, *ragged, f"output={tmp_path}", "training.validate_every=0", "data.batch_size=2", "device=cpu"]

    def trained(*more: str) -> dict[str, torch.Tensor]:
        config = compose([*words, "training.steps=6", "training.checkpoint_every=3", *more])
        train(config)
        system = build_system(config)
        path = checkpoint_path(tmp_path / config.name / "checkpoints", 6)
        load_system_weights(system, Checkpoint(path), "raw")
        return system.state_dict()

    whole = trained("name=whole")
    trained("name=parts")
    remove_checkpoint(checkpoint_path(tmp_path / "parts" / "checkpoints", 6))
    resumed = trained("name=parts", "resume=auto")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
