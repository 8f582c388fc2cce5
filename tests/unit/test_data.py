"""The training order is a function of (seed, position) alone."""

from dataclasses import replace
from functools import partial

import torch

from hvg.data.cache import RenderedClips
from hvg.data.shard_writing import write_shard
from hvg.data.signals import NO_SIGNALS
from hvg.data.step_order import clip_position
from hvg.data.training_data import ClipDataModule, StepPositions, TrainingOrder, recolour
from hvg.parts.scene import Dataset
from hvg.testing import tiny_batch
from hvg.values.buckets import Bucket, alike


class Clips(Dataset):
    """Four clips."""

    def __len__(self):
        return 4

    def load(self, index):
        return tiny_batch(seed=index).clips(slice(0, 1))


def test_every_epoch_is_another_permutation():
    epochs = [[clip_position(3, epoch * 20 + i, 20) for i in range(20)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert epochs[0] != [clip_position(4, i, 20) for i in range(20)]


def test_a_position_gives_the_same_views_whatever_was_read_before():
    _, views, frames = Clips().load(0).grid
    one, two = (
        TrainingOrder(Clips(), NO_SIGNALS, seed=0, groups=alike(4, Bucket(views - 1, frames)), clips_per_step=1)
        for _ in range(2)
    )
    forwards = [one[i] for i in range(6)]
    backwards = [two[i] for i in reversed(range(6))][::-1]
    for a, b in zip(forwards, backwards, strict=True):
        assert a.clip_id == b.clip_id
        assert torch.equal(a.frames, b.frames)
        assert torch.equal(a.cameras.world_to_camera, b.cameras.world_to_camera)
        assert a.sample_index.item() == b.sample_index.item()
    drawn = {tuple(clip.cameras.world_to_camera[0, :, 0].flatten().tolist()) for clip in (one[i] for i in range(16))}
    assert len(drawn) > 1


def test_workers_do_not_change_the_batches(tmp_path):
    write_shard(tmp_path / "a.tar", [tiny_batch(seed=i).clips(slice(0, 1)) for i in range(3)])

    def batches(workers):
        clips = RenderedClips([tmp_path / "a.tar"], Clips(), frozenset())
        order = partial(TrainingOrder, clips, NO_SIGNALS, seed=1, groups=alike(len(clips), Bucket(1, 1)))
        data = ClipDataModule(order, batch_size=2, num_steps=4, workers=workers)
        return [(batch.clip_id, batch.sample_index.tolist(), batch.frames) for batch in data.train_dataloader()]

    for (names, index, frames), (names2, index2, frames2) in zip(batches(0), batches(2), strict=True):
        assert (names, index) == (names2, index2)
        assert torch.equal(frames, frames2)


def test_every_step_draws_one_grid_for_all_its_clips_and_ranks():
    grids = [(2, 1), (1, 2)]
    groups = alike(4, *(Bucket(*grid) for grid in grids))
    order = TrainingOrder(Clips(), NO_SIGNALS, seed=0, groups=groups, clips_per_step=4)
    drawn = [order[position].grid[1:] for position in range(4 * 16)]
    steps = [set(drawn[4 * step : 4 * step + 4]) for step in range(16)]
    assert all(len(step) == 1 for step in steps)
    assert set(drawn) == set(grids)
    # Two ranks of two clips share the four positions of a step.
    for step in range(16):
        positions = [p for rank in range(2) for p in next(iter(StepPositions(step, step + 1, 2, rank, 2)))]
        assert sorted(positions) == list(range(4 * step, 4 * step + 4))


def test_ranks_share_the_order_and_a_resumed_run_continues_it():
    alone = list(StepPositions(0, 4, 4, 0, 1))
    shared = [StepPositions(0, 4, 2, rank, 2) for rank in range(2)]
    assert [sorted(a + b) for a, b in zip(*shared, strict=True)] == alone
    assert list(StepPositions(2, 4, 4, 0, 1)) == alone[2:]


def test_recolouring_changes_photo_and_frames_alike_and_keeps_white_and_black():
    clip = Clips().load(0)
    row = torch.linspace(-1, 1, clip.frames.shape[-1])
    clip = replace(clip, frames=row.expand_as(clip.frames).clone())
    photo = replace(clip.reference, frames=clip.frames[:, 0, :1])
    changed = recolour(replace(clip, reference=photo), torch.Generator().manual_seed(3))
    assert torch.equal(changed.frames[:, 0, :1], changed.reference.frames)
    assert not torch.allclose(changed.frames, clip.frames)
    assert torch.allclose(changed.frames[..., 0], clip.frames[..., 0]) and torch.allclose(
        changed.frames[..., -1], clip.frames[..., -1]
    )
    never = TrainingOrder(Clips(), NO_SIGNALS, seed=0, groups=alike(4, Bucket(1, 1)), clips_per_step=1)
    always = TrainingOrder(Clips(), NO_SIGNALS, seed=0, groups=alike(4, Bucket(1, 1)), clips_per_step=1, recolour=1.0)
    assert torch.equal(always[5].cameras.world_to_camera, never[5].cameras.world_to_camera)
    assert torch.equal(always[5].frames, always[5].frames)
    assert not torch.equal(always[5].frames, never[5].frames)
