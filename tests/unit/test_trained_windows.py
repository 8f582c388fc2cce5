"""What is said where sampling asks of a network what no training step showed it, and which places frames are told."""

from dataclasses import replace

import pytest
import torch

from hvg.commands import check
from hvg.config.build import build_part
from hvg.config.composition import compose, recompose
from hvg.core.random_keys import generator
from hvg.model.load import build_system
from hvg.model.trained_windows import WindowShape, clip_grids, sampling_notes, untrained_shapes, window_shapes
from hvg.parts import registry
from hvg.testing import tiny_batch


@pytest.fixture(scope="module")
def config(tiny):
    """Steps of 2 views x 2 frames of clips of 2 x 2."""
    return compose(tiny)


@pytest.fixture(scope="module")
def system(tiny):
    """A small one that says something, whose windows have two frames."""
    built = build_system(compose([*tiny, "data.frame_index=window"]))
    with torch.no_grad():
        for number, weight in enumerate(built.parameters()):
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator("weights", number)))
    built.sampler = plan("partition", views=2, frames=2)
    assert built.frame_index == "window"
    return built


def with_data(config, **settings):
    """The configuration with other settings of what a step sees."""
    return config.model_copy(update={"data": config.data.model_copy(update=settings)})


def plan(name, **settings):
    cls = registry.load("sampler", name)
    return cls(cls.Config(**settings))


# --- windows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "shapes"),
    [
        ("single", {}, {(8, 12)}),
        ("partition", {"views": 3, "frames": 5}, {(3, 5), (3, 2), (2, 5), (2, 2)}),
        # What only some steps do counts: groups move on, pictures grow.
        ("shifting", {"views": 3, "frames": 4}, {(3, 4), (2, 4)}),
        ("alternating", {"frames": 6, "temporal_views": 2, "views": 6, "view_frames": 2}, {(2, 6), (6, 2)}),
        ("coarse_to_fine", {"frames": 4}, {(8, 4, 2), (8, 4)}),
        ("view", {"views": 6, "frames": 1}, {(6, 1)}),
        ("view", {"views": 6}, {(6, 12)}),
        ("view", {"views": 6, "frames": 5}, {(6, 5)}),
        ("sliding", {"views": 3, "frames": 4}, {(3, 1), (1, 4)}),
        ("carry_over", {"frames": 5}, {(8, 5)}),
    ],
)
def test_the_shapes_of_a_plan_are_those_of_all_its_steps(name, settings, shapes):
    assert window_shapes(plan(name, **settings), 5, (8, 12)) == {WindowShape(*shape) for shape in shapes}


@pytest.mark.parametrize(
    ("name", "settings", "shapes"),
    [
        ("single", {}, {(8, 12)}),
        ("view", {"views": 3, "frames": 1}, {(5, 1)}),
        # All of them around views, the nearest along time.
        ("sliding", {"views": 3, "frames": 4}, {(5, 1), (2, 4)}),
        ("sliding", {"views": 3, "frames": 4, "known": 0}, {(5, 1), (1, 4)}),
    ],
)
def test_known_views_join_the_windows(name, settings, shapes):
    found = window_shapes(plan(name, **settings), 5, (8, 12), known=[0, 3])
    assert found == {WindowShape(*shape) for shape in shapes}


def test_windows_that_training_had_need_no_word(config):
    assert sampling_notes(config, build_part(config.sampler), 2, {(2, 2)}) == []
    assert sampling_notes(config, plan("partition", views=2, frames=2), 2, {(8, 2)}) == []


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ((2, 1), "windows of 2 x 1 (views x frames), and no training step has that: they have 2 x 2. data.buckets"),
        ((3, 2), "they have 2 x 2, fewer views. data.buckets"),
        ((4, 8), "windows of 4 x 8 (views x frames), and no training step has that: they have 2 x 2, fewer views and "),
    ],
)
def test_windows_that_no_step_had_are_told_with_what_is_more_than_any_had(config, grid, said):
    notes = sampling_notes(config, build_part(config.sampler), 2, {grid})
    assert notes[0].startswith("sampler=single denoises") and said in notes[0] and len(notes) == (grid[1] > 2) + 1


def test_of_many_untrained_windows_some_are_listed(config):
    (note,) = sampling_notes(config, build_part(config.sampler), 2, {(views, 1) for views in range(1, 11)})
    assert "1 x 1, 2 x 1, 3 x 1, 4 x 1, 5 x 1, 6 x 1 and 4 more (views x frames)" in note


def test_a_plan_that_begins_with_small_pictures_shows_what_no_step_had(config):
    coarse = recompose(config, ["sampler=coarse_to_fine", "sampler.frame_stride=1"])
    assert untrained_shapes(coarse, build_part(coarse.sampler), 2, {(2, 2)}) == {WindowShape(2, 2, shrink=2)}
    assert "2 x 2 at 1/2 size" in sampling_notes(coarse, build_part(coarse.sampler), 2, {(2, 2)})[0]


def test_a_trained_model_is_sampled_in_the_windows_of_its_steps(config):
    chosen = recompose(with_data(config, frames=1), ["sampler=view_as_trained"])
    assert window_shapes(build_part(chosen.sampler), 2, (6, 4)) == {WindowShape(2, 1)}


def test_every_grid_that_steps_draw_from_is_trained(config):
    config = with_data(config, buckets=((2, 1), (1, 2)))
    made = plan("alternating", frames=2, temporal_views=1, views=2, view_frames=1)
    assert sampling_notes(config, made, 4, {(2, 2)}) == []
    assert "steps have" in sampling_notes(config, plan("single"), 4, {(2, 2)})[0]


def test_check_compares_the_test_clips_windows_with_the_steps(config):
    assert check.notes(config) == []
    (note,) = check.notes(with_data(config, frames=1))
    assert "windows of 2 x 2 (views x frames), and no training step has that: they have 2 x 1, fewer frames" in note


def test_clips_of_files_that_are_not_here_are_not_judged(tmp_path):
    config = compose(["dataset=shards", f"dataset.path={tmp_path}", "data.views=1", "data.frames=1"])
    assert clip_grids(config, "test") == set()
    assert not [note for note in check.notes(config) if "denoises" in note]


# --- places -----------------------------------------------------------------------------------------------------------


def test_places_beyond_those_of_training_are_told(config):
    windows = plan("partition", views=2, frames=2)
    (note,) = sampling_notes(config, windows, 2, {(2, 100)})
    assert "0 to 99, and training told 0 to 1;" in note and "data.frame_index=window" in note
    assert sampling_notes(with_data(config, frame_index="window"), windows, 2, {(2, 100)}) == []


@pytest.mark.parametrize(
    ("setting", "trained", "sampled"), [("grid", [[3, 4]], [[3, 4], [5, 6]]), ("window", None, None)]
)
def test_training_and_sampling_tell_places_alike(system, setting, trained, sampled):
    """Of a clip's frames 3 and 4 in a step, and of its frames 3 to 6 in windows of two."""
    system.frame_index, told = setting, []
    hook = system.backbone.register_forward_pre_hook(lambda _, inputs: told.append(inputs[3]))
    clip = replace(tiny_batch(clips=1, views=2, frames=4), frame_index=3 + torch.arange(4)[None])
    step = replace(clip.select(frames=range(2)), sample_index=torch.zeros(1, dtype=torch.int64))
    system.training_step(step, 0)
    system.generate(clip, num_steps=1)
    hook.remove()
    assert [None if index is None else index.tolist() for index in told] == [trained, sampled]


def test_places_in_a_window_do_not_depend_on_where_in_the_video_it_is(system):
    clip = tiny_batch(clips=1, views=2, frames=2)
    early, late = (replace(clip, frame_index=first + torch.arange(2)[None]) for first in (0, 76))
    system.frame_index = "window"
    assert torch.equal(system.generate(early, num_steps=1), system.generate(late, num_steps=1))
    system.frame_index = "grid"
    assert not torch.equal(system.generate(early, num_steps=1), system.generate(late, num_steps=1))
