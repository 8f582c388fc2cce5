"""Pictures travel in 8 bits from files to where they are used, and become the very floats that files stand for."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from hvg.core.eight_bit import alpha_from_uint8, frames_from_uint8, same_bits, signal_from_uint8
from hvg.data import training_data
from hvg.data.cache import RenderedClips
from hvg.data.picture_files import PictureFormat
from hvg.data.shard_writing import write_shard
from hvg.data.shards import ShardReader
from hvg.data.signals import NO_SIGNALS, Signals
from hvg.data.training_data import ClipDataModule, TrainingOrder, together
from hvg.parts.observed import ObservedClips
from hvg.parts.scene import Fit
from hvg.testing import tiny_batch
from hvg.values.buckets import Bucket, alike
from hvg.values.clip import DRIVING_FIELDS, ClipBatch
from hvg.values.packed import unpacked
from hvg.values.tensors import tensors_of

LEVELS = torch.arange(256, dtype=torch.uint8)
COUNT, VIEWS, FRAMES = 3, 3, 4
# A map of pictures, and one of more channels than pictures have.
MAPS = {"lines": 3, "parts": 6}


def some(views, frames):
    """Two of a clip's views, turned round, and two of its frames."""
    return [2, 0], range(1, 3)


def clip(index: int, size: int = 32) -> ClipBatch:
    """A clip of noise on the 8-bit grid, with a driving video and maps."""
    batch, noise = tiny_batch(1, VIEWS, FRAMES, size=size, seed=index), torch.Generator().manual_seed(index)

    def levels(*shape):
        return torch.randint(256, shape, dtype=torch.uint8, generator=noise)

    photo = replace(
        batch.reference,
        frames=frames_from_uint8(levels(1, 1, 3, size, size)),
        alpha=alpha_from_uint8(levels(1, 1, 1, size, size)),
    )
    maps = {key: levels(1, VIEWS, FRAMES, channels, size, size).clamp_min(1) for key, channels in MAPS.items()}
    return replace(
        batch,
        clip_id=(f"clip-{index}",),
        frames=frames_from_uint8(levels(1, VIEWS, FRAMES, 3, size, size)),
        alpha=alpha_from_uint8(levels(1, VIEWS, FRAMES, 1, size, size)),
        driving=frames_from_uint8(levels(1, FRAMES, 3, size, size)),
        driving_hands=frames_from_uint8(levels(1, FRAMES, 2, 3, 16, 16)),
        driving_face=frames_from_uint8(levels(1, FRAMES, 1, 3, 24, 24)),
        reference=photo,
        signals={key: signal_from_uint8(x) for key, x in maps.items()},
    )


@pytest.fixture(params=["png", "webp"])
def clips(request, tmp_path):
    """Clips in a shard."""
    write_shard(tmp_path / "a.tar", map(clip, range(COUNT)), pictures=PictureFormat(request.param))
    return RenderedClips([tmp_path / "a.tar"], tiny_batch, frozenset(MAPS), mesh=True)


def assert_same_bits(a: ClipBatch, b: ClipBatch) -> None:
    assert a.present() == b.present()
    assert all(same_bits(x, y) for x, y in zip(tensors_of(a), tensors_of(b), strict=True))


def pictures_of(batch: ClipBatch) -> list[torch.Tensor]:
    photo = batch.reference
    driving = [getattr(batch, name) for name in DRIVING_FIELDS]
    return [batch.frames, batch.alpha, *driving, photo.frames, photo.alpha, *batch.signals.values()]


def test_every_level_becomes_the_number_that_it_stands_for():
    exact = LEVELS.double()
    assert same_bits(frames_from_uint8(LEVELS), (exact / 127.5).float() - 1)
    assert same_bits(alpha_from_uint8(LEVELS), (exact / 255).float())
    assert same_bits(signal_from_uint8(LEVELS), ((exact - 128) / 127).float())


def test_parts_of_clips_are_read_in_8_bits_and_unpacked_to_the_bits_of_the_whole(clips):
    for index in range(COUNT):
        part, whole = clips.load_part(index, some, frozenset(MAPS)), clips.load(index)
        assert all(x.dtype == torch.uint8 for x in pictures_of(part))
        assert all(x.dtype == torch.float32 for x in pictures_of(whole))
        assert_same_bits(unpacked(part), whole.select(*some(VIEWS, FRAMES)))
        assert_same_bits(whole, replace(clip(index), sample_index=None))
        assert unpacked(whole).frames is whole.frames


def test_a_part_of_a_map_of_many_channels_reads_its_own_pictures(clips):
    """The bytes of every other picture are destroyed."""
    (reader, _), whole = clips._places[1], clips.load(1)
    with reader.path.open("r+b") as stream:
        for name, (offset, size) in reader._members["clip-1"].items():
            if name.startswith("signal-parts") and name[-12:-4] not in (
                f".{v:03d}.{t:03d}" for v in (2, 0) for t in (1, 2)
            ):
                stream.seek(offset)
                stream.write(bytes(size))
    part = unpacked(clips.load_part(1, some, frozenset(MAPS)))
    assert same_bits(part.signals["parts"], whole.select(*some(VIEWS, FRAMES)).signals["parts"])


class Bright:
    """Draws how bright frames are."""

    config = None

    def per_picture(self, config):
        return True

    def signal(self, batch):
        assert batch.frames.is_floating_point()
        return batch.frames.mean(3, keepdim=True)

    def signal_channels(self, config):
        return 1

    def signal_storage(self, config):
        return "float32"

    def codes(self, config):
        return ()

    def photo_colours(self, config):
        return None


def ordered(clips, recolour=0.0, bucket=None):
    bucket = bucket or Bucket(2, 2)
    signals = Signals(dict.fromkeys(MAPS, Bright()))
    return partial(TrainingOrder, clips, signals, seed=1, groups=alike(COUNT, bucket), recolour=recolour)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("recolour", "bucket"), [(0.0, None), (0.5, None), (0.0, Bucket(2, 2, (16, 24)))])
def test_batches_are_bit_by_bit_those_of_clips_that_are_kept_as_floats(clips, monkeypatch, workers, recolour, bucket):
    order, found, kinds = ordered(clips, recolour, bucket), [], set()
    for room in (0, training_data.KEPT_BYTES):
        monkeypatch.setattr(training_data, "KEPT_BYTES", room)
        data = ClipDataModule(order, batch_size=2, num_steps=4, workers=workers)
        batches = list(data.train_dataloader())
        kinds.update((room > 0, batch.frames.dtype) for batch in batches)
        found.append([data.transfer_batch_to_device(batch, torch.device("cpu"), 0) for batch in batches])
    for packed, floats in zip(*found, strict=True):
        assert_same_bits(packed, floats)
    # Of clips that have a size already, only those in other colours make floats of a batch.
    assert ((False, torch.uint8) in kinds) == (bucket is None)
    assert (True, torch.float32) in kinds and (True, torch.uint8) not in kinds


def test_a_batch_of_packed_and_unpacked_clips_is_floats():
    packed = replace(clip(0), frames=torch.randint(256, (1, VIEWS, FRAMES, 3, 32, 32), dtype=torch.uint8))
    batch = together([packed, clip(1)])
    assert batch.frames.dtype == torch.float32
    assert torch.equal(batch.frames[:1], frames_from_uint8(packed.frames))
    with pytest.raises(ValueError, match="clips hold different fields"):
        together([packed, replace(clip(1), alpha=None)])


class Darker(Fit):
    """Looks at pictures to say how sure it is."""

    @classmethod
    def needs(cls, config):
        return frozenset({"body", "frames"})

    def observe(self, clip: ClipBatch) -> ClipBatch:
        assert clip.frames.is_floating_point()
        sure = (clip.frames.mean((1, 3, 4, 5)) + 1)[..., None].expand(clip.body.joints.shape[:-1]) / 2
        return replace(clip, body=replace(clip.body, confidence=sure), true_body=clip.body)


def test_a_fit_that_looks_at_pictures_is_shown_floats(clips):
    part = ObservedClips(clips, Darker()).load_part(0, some, frozenset())
    assert part.body.confidence.shape == (1, 2, part.body.joints.shape[2])


def test_a_map_that_is_drawn_of_pictures_is_shown_floats(clips):
    part = clips.load_part(0, some, frozenset())
    drawn = Signals({"bright": Bright()}).draw(part)
    assert part.frames.dtype == drawn.frames.dtype == torch.uint8
    assert torch.equal(drawn.signals["bright"], unpacked(part).frames.mean(3, keepdim=True))
    assert NO_SIGNALS.draw(part).frames is part.frames
    assert ShardReader(clips._places[0][0].path).load_packed(0).frames.dtype == torch.uint8
