"""Which frames a latent frame stands for, and what a clip looks like to whom latent frames are told."""

from dataclasses import replace
from itertools import chain

import pytest
import torch

from hvg.data.latents import latent_coverage
from hvg.testing import tiny_batch
from hvg.values.latent_clip import grouped, joined, latent_grid, latent_index, of_last_frames
from hvg.values.latent_time import grouped_frames, latent_frames, padded_frames
from hvg.values.layout import fold_groups, unfold_groups


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_a_latent_frame_stands_for_its_own_frames(stride):
    """Taken apart, all frames are there, in their order: frame 0 in a group of its own, the last one till the end."""
    for frames in range(1, 3 * stride + 3):
        t = latent_frames(frames, stride)
        groups = [grouped_frames([k], frames, stride) for k in range(t)]
        assert groups[0] == [0] * stride
        assert [*chain(*groups)] == grouped_frames(range(t), frames, stride)
        behind = [*chain(*groups[1:])]
        assert [0, *behind][:frames] == list(range(frames))
        assert padded_frames(frames, stride) == 1 + len(behind) >= frames > padded_frames(frames, stride) - stride
        assert set(behind[frames - 1 :]) <= {frames - 1}
        assert of_last_frames(torch.arange(frames)[None, None], stride).tolist() == [[[group[-1] for group in groups]]]


def test_videos_of_wan_s_lengths_are_not_padded():
    lengths = {frames: latent_frames(frames, 4) for frames in range(1, 14)}
    assert lengths == {
        1: 1,
        **dict.fromkeys(range(2, 6), 2),
        **dict.fromkeys(range(6, 10), 3),
        **dict.fromkeys(range(10, 14), 4),
    }
    assert [frames for frames in lengths if padded_frames(frames, 4) == frames] == [1, 5, 9, 13]


def test_conditioners_see_the_frames_of_each_latent_frame():
    batch = tiny_batch(2, 3, 6)
    assert grouped(batch, 1) is batch
    seen, frames = grouped(batch, 4), [0, 0, 0, 0, 1, 2, 3, 4, 5, 5, 5, 5]
    assert seen.grid == (2, 3, 12)
    assert seen.frame_index.tolist() == [frames] * 2
    assert torch.equal(seen.body.joints, batch.body.joints[:, frames])
    assert torch.equal(seen.frames, batch.frames[:, :, frames])
    assert torch.equal(seen.driving, batch.driving[:, frames])
    with_latents = replace(batch, latents=torch.zeros(2, 3, 3, 4, 8, 8), coverage=torch.zeros(2, 3, 3, 1, 8, 8))
    assert grouped(with_latents, 4).latents is None and grouped(with_latents, 4).coverage is None


def test_a_latent_frame_has_the_camera_of_its_last_frame():
    batch = tiny_batch(1, 2, 6)
    marked = batch.cameras.intrinsics.clone()
    marked[..., 0, 2] = torch.arange(6.0)
    grid = replace(batch, cameras=replace(batch.cameras, intrinsics=marked)).view_grid()
    assert latent_grid(grid, 1) is grid
    told = latent_grid(grid, 4)
    assert told.cameras.intrinsics[0, 1, :, 0, 2].tolist() == [0, 4, 5]
    assert torch.equal(told.view_index, grid.view_index) and torch.equal(told.circle, grid.circle)


@pytest.mark.parametrize(
    ("first", "frames", "places"), [(0, 9, [0, 1, 2]), (0, 6, [0, 1, 2]), (3, 6, [0, 1, 2]), (5, 9, [1, 2, 3])]
)
def test_places_of_latent_frames_count_on_whatever_is_padded(first, frames, places):
    index = first + torch.arange(frames)[None]
    assert latent_index(index, 1) is index and latent_index(None, 4) is None
    assert latent_index(index, 4).tolist() == [places]


def test_what_pictures_cover_is_the_mean_over_a_latent_frame():
    batch = tiny_batch(1, 1, 6, size=8)
    latents, alpha = (
        torch.zeros(1, 1, 3, 4, 2, 2),
        batch.alpha.unflatten(-1, (2, 4)).unflatten(-3, (2, 4)).mean(dim=(-3, -1)),
    )
    found = latent_coverage(batch, latents, 4)
    expected = torch.stack([alpha[:, :, 0], alpha[:, :, 1:5].mean(dim=2), alpha[:, :, 5]], dim=2)
    torch.testing.assert_close(found, expected)
    whole = latent_coverage(batch, torch.zeros(1, 1, 6, 4, 2, 2))
    torch.testing.assert_close(whole, alpha)


def test_a_latent_frame_is_valid_where_its_last_frame_is():
    valid = torch.tensor([True] * 4 + [False] * 2)[None, None]
    assert of_last_frames(valid, 4).tolist() == [[[True, False, False]]]
    assert of_last_frames(valid, 1) is valid


def test_maps_of_a_latent_frame_are_channels_map_by_map():
    x = torch.arange(2 * 6 * 4.0).view(1, 2, 6, 4, 1, 1)
    told = fold_groups(x, 3, [3, 1])
    assert told.shape == (1, 2, 2, 12, 1, 1)
    first = x[0, 1, 3:6, :, 0, 0]
    assert told[0, 1, 1, :, 0, 0].tolist() == [*first[:, :3].flatten().tolist(), *first[:, 3].tolist()]
    assert torch.equal(unfold_groups(told.flatten(0, 2), 3, [3, 1]).view(x.shape), x)
    assert fold_groups(x, 1, [3, 1]) is x


def test_some_frames_of_latents_that_join_frames_are_not_there():
    batch = replace(tiny_batch(1, 3, 9), latents=torch.randn(1, 3, 3, 4, 8, 8), coverage=torch.rand(1, 3, 3, 1, 8, 8))
    part = batch.select([2, 0], range(9))
    assert torch.equal(part.latents, batch.latents[:, [2, 0]]) and torch.equal(part.coverage, batch.coverage[:, [2, 0]])
    assert torch.equal(batch.select([1]).latents, batch.latents[:, [1]])
    for frames in (range(5), range(4, 9), [8, 0]):
        with pytest.raises(ValueError, match="of all 9 frames"):
            batch.select([0], frames)


def test_joined_frames_are_those_of_the_list():
    x = torch.arange(6.0).view(1, 1, 6)
    assert joined(x, 4)[0, 0].flatten().tolist() == grouped_frames(range(3), 6, 4)
