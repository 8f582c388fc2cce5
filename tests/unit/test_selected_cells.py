"""What picks places from an axis, and parts of a clip."""

from dataclasses import replace

import pytest
import torch

from hvg.testing import tiny_batch
from hvg.values.grid import as_slice
from hvg.values.tensors import tensors_of


@pytest.mark.parametrize("places", [[0], [3], [0, 1, 2, 3], [1, 2], [2, 1], [0, 2], [1, 1], [3, 0], [], [-2, -1]])
def test_places_are_the_same_as_a_slice(places):
    axis = torch.arange(4)
    assert torch.equal(axis[as_slice(places)], axis[torch.tensor(places, dtype=torch.int64)])


def test_places_that_follow_each_other_are_not_copied():
    axis = torch.arange(4)
    assert axis[as_slice([1, 2])].data_ptr() == axis[1:].data_ptr()
    assert axis[as_slice([1, 3])].untyped_storage().data_ptr() != axis.untyped_storage().data_ptr()


def test_a_clip_of_places_and_of_slices_is_the_same():
    batch = tiny_batch()
    views, frames = batch.grid[1:]
    assert views > 1 and frames > 1
    by_places = tensors_of(batch.select([*range(1, views)], [*range(frames - 1)]))
    by_slices = tensors_of(batch.select(slice(1, views), slice(frames - 1)))
    assert len(by_places) == len(by_slices)
    assert all(torch.equal(a, b) for a, b in zip(by_places, by_slices, strict=True))


@pytest.mark.parametrize("some", [slice(1), [0]])
def test_latents_that_join_frames_are_of_all_of_them(some):
    batch = tiny_batch()
    frames = batch.grid[2]
    joined = replace(batch, latents=torch.zeros(*batch.grid[:2], frames - 1, 4, 2, 2))
    assert joined.select(frames=slice(frames)).latents is not None
    assert joined.select(frames=[*range(frames)]).latents is not None
    with pytest.raises(ValueError, match=f"of all {frames} frames of a clip, not of some"):
        joined.select(frames=some)
