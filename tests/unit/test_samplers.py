"""Sampling plans: what ours have in common, and what each one says of itself. tests/contracts has what every plan promises."""

from collections import Counter
from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import interpolate

from components.guidance.constant import ConstantConfig, ConstantGuidance
from components.nn.windows import blocks, segment_weights, segments, weighted, whole_blocks
from components.samplers.single import SingleWindow
from components.solvers.euler import EulerSolver
from hvg.model.sampling import denoise_windows, sample
from hvg.parts import registry
from hvg.parts.noise_levels import karras_sigmas
from hvg.parts.part import PartConfig
from hvg.parts.plan import Sampler, Stage
from hvg.values.grid import Window
from hvg.values.known import Known

NAMES = registry.names("sampler")
GRIDS = [(1, 1), (1, 30), (2, 2), (6, 24), (7, 5), (8, 100), (13, 1), (5, 49)]
# Small windows, so that small grids need several of them.
SMALL: dict[str, dict] = {
    "temporal": {"frames": 5, "overlap": 2},
    "view": {"views": 3, "overlap": 1},
    "progressive": {
        "frames": 6,
        "frame_overlap": 2,
        "temporal_views": 2,
        "views": 4,
        "view_overlap": 2,
        "view_frames": 3,
    },
    "alternating": {
        "frames": 6,
        "frame_overlap": 2,
        "temporal_views": 2,
        "views": 4,
        "view_overlap": 2,
        "view_frames": 3,
    },
    "partition": {"views": 3, "frames": 4},
    "anchored": {"frames": 5, "overlap": 2},
    "shifting": {"views": 3, "frames": 4},
    "coarse_to_fine": {"frames": 4, "overlap": 1, "levels": 2},
    "sliding": {"views": 3, "frames": 4},
    "carry_over": {"frames": 5, "carried": 2},
}
# One window is just enough for a grid of 4 views and 6 frames.
JUST_ENOUGH: dict[str, dict] = {
    "temporal": {"frames": 6, "overlap": 2},
    "view": {"views": 4, "overlap": 1},
    "progressive": {"frames": 6, "frame_overlap": 2, "temporal_views": 4, "views": 4, "view_frames": 6, "mix": 0.3},
    "alternating": {"frames": 6, "frame_overlap": 2, "temporal_views": 4, "views": 4, "view_frames": 6},
    "partition": {"views": 4, "frames": 6},
    "anchored": {"frames": 6, "overlap": 2},
    "shifting": {"views": 4, "frames": 6},
    "coarse_to_fine": {"coarse_fraction": 0.0, "frames": 6, "overlap": 2},
    "sliding": {"views": 4, "view_frames": 6, "frames": 6, "temporal_views": 4},
    "carry_over": {"frames": 6},
}
SIGMAS = karras_sigmas(6, 20.0, 0.03, 7.0)
EULER, SINGLE, UNGUIDED = EulerSolver(PartConfig()), SingleWindow(PartConfig()), ConstantGuidance(ConstantConfig())


def build(name: str, **settings) -> Sampler:
    cls = registry.load("sampler", name)
    return cls(cls.Config(**settings))


def plan(sampler: Sampler, num_steps: int, views: int, frames: int) -> list[tuple[Stage, list[Window]]]:
    stages = [sampler.stage(step, num_steps, frames) for step in range(sampler.passes(num_steps, views, frames))]
    return [(s, sampler.windows(i, num_steps, views, len(s.frames))) for i, s in enumerate(stages)]


def added(windows: list[Window], views: int, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of the weights as the sampler gives them, and number of windows, in every cell (V, t)."""
    total, count = torch.zeros(views, frames), torch.zeros(views, frames)
    for window in windows:
        cells = torch.tensor(window.views)[:, None], torch.tensor(window.frames)
        total[cells] += window.weights
        count[cells] += 1
    return total, count


def noise(views: int, frames: int) -> torch.Tensor:
    return torch.randn(2, views, frames, 2, 4, 4, generator=torch.Generator().manual_seed(0))


def windowed(x, sigma, windows, scales):
    """An estimate that differs from window to window and depends on all of the window."""
    clips = len(x) // len(windows)
    number = torch.tensor([sum(w.views) + 0.1 * sum(w.frames) for w in windows]).repeat_interleave(clips)
    mixed = x.mean(dim=(1, 2), keepdim=True) + 0.1 * x
    return torch.sin(mixed + number.view(-1, 1, 1, 1, 1, 1)) * scales[0, ..., None, None, None] / (1 + sigma)


def resize(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return interpolate(x.flatten(0, 2), size=size, mode="nearest").unflatten(0, x.shape[:3])


def run(sampler: Sampler, start: torch.Tensor, **settings) -> torch.Tensor:
    return sample(windowed, start, SIGMAS, sampler, EULER, UNGUIDED, resize=resize, **settings)


# What our plans have in common


@pytest.mark.parametrize("settings", ["default", "small"])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_windows_weigh_the_same_in_every_cell(name, grid, settings):
    """Our own do before the engine normalises them."""
    sampler = build(name, **(SMALL.get(name, {}) if settings == "small" else {}))
    for stage, windows in plan(sampler, 7, *grid):
        views, frames = grid[0], len(stage.frames)
        total, count = added(windows, views, frames)
        # Cells that rest need be in no window.
        torch.testing.assert_close(total, (count > 0).float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_one_window_that_covers_everything_equals_single(name):
    sampler = build(name, **JUST_ENOUGH.get(name, {}))
    for stage, windows in plan(sampler, 6, 4, 6):
        assert stage == Stage(tuple(range(6)))
        assert [(w.views, w.frames) for w in windows] == [((0, 1, 2, 3), (0, 1, 2, 3, 4, 5))]
    assert sampler.cost(6, 4, 6) == 6
    assert torch.equal(run(sampler, noise(4, 6)), run(SINGLE, noise(4, 6)))


@pytest.mark.parametrize("name", sorted(SMALL))
def test_small_windows_make_another_video_than_one_window(name):
    start = noise(7, 11)
    assert (run(build(name, **SMALL[name]), start) - run(SINGLE, start)).abs().max() > 1e-3


# Segments of an axis


@pytest.mark.parametrize("circular", [False, True])
@pytest.mark.parametrize("length", range(1, 26))
def test_segments_cover_an_axis_evenly(length, circular):
    for size, overlap in [(s, o) for s in range(1, 12) for o in range(s)]:
        parts = segments(length, size, overlap, circular)
        count = Counter(i for part in parts for i in part)
        assert sorted(count) == list(range(length))
        if size >= length:
            assert parts == [tuple(range(length))]
            continue
        assert all(len(part) == size for part in parts)
        assert all(b == (a + 1) % length for part in parts for a, b in pairwise(part))
        following = zip(parts, [*parts[1:], parts[0]], strict=True) if circular else pairwise(parts)
        assert all(len({*a} & {*b}) >= overlap for a, b in following)
        if circular:
            assert max(count.values()) - min(count.values()) == (len(parts) * size % length > 0)
            assert (len(parts) - 1) * (size - overlap) < length
        else:
            assert parts[0][0] == 0
            assert parts[-1][-1] == length - 1
            assert (len(parts) - 1) * (size - overlap) < length - overlap


@pytest.mark.parametrize("length", range(1, 20))
def test_blocks_hold_every_index_once_in_order(length):
    for size, shift in [(s, shift) for s in range(1, 10) for shift in range(12)]:
        parts = blocks(length, size, shift)
        assert [i for part in parts for i in part] == list(range(length))
        assert all(len(part) == size for part in parts[1:-1])
        assert max(len(part) for part in parts) <= size
        assert all((part[0] - shift) % size == 0 for part in parts[1:])


@pytest.mark.parametrize("length", range(1, 20))
def test_whole_blocks_are_blocks_filled_up_at_the_ends(length):
    for size, shift in [(s, shift) for s in range(1, 10) for shift in range(12)]:
        parts = whole_blocks(length, size, shift)
        assert {len(part) for part in parts} == {min(size, length)}
        if size < length:
            assert all({*short} <= {*part} for short, part in zip(blocks(length, size, shift), parts, strict=True))
        assert len(set(parts)) == len(parts)


def test_weights_are_those_of_the_systems_they_come_from():
    torch.testing.assert_close(segment_weights("tent", 4), torch.tensor([0.25, 0.75, 0.75, 0.25]))
    torch.testing.assert_close(segment_weights("tent", 3), torch.tensor([1 / 3, 1.0, 1 / 3]))
    torch.testing.assert_close(segment_weights("edge_distance", 5), torch.tensor([0.2, 0.4, 0.6, 0.4, 0.2]))
    assert segment_weights("uniform", 3).tolist() == [1, 1, 1]


@pytest.mark.parametrize("kind", ["tent", "edge_distance"])
@pytest.mark.parametrize(
    ("length", "size", "overlap", "circular"), [(30, 12, 6, False), (40, 9, 7, False), (12, 6, 3, True)]
)
def test_the_segment_whose_middle_is_nearer_weighs_more(kind, length, size, overlap, circular):
    parts = weighted(segments(length, size, overlap, circular), length, kind)
    compared = 0
    for index in range(length):
        here = [
            (abs(p.indices.index(index) - (size - 1) / 2), p.weights[p.indices.index(index)].item())
            for p in parts
            if index in p.indices
        ]
        for near, far in pairwise(sorted(here)):
            if near[0] < far[0]:
                assert near[1] > far[1]
                compared += 1
            else:
                assert near[1] == pytest.approx(far[1])
    assert compared > 5


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("temporal", {"frames": 4, "overlap": 4}, "overlap=4 has to be smaller than frames=4"),
        ("view", {"views": 2, "overlap": 3}, "overlap=3 has to be smaller than views=2"),
        ("progressive", {"frames": 6, "frame_overlap": 6}, "frame_overlap=6 has to be smaller than frames=6"),
        ("alternating", {"views": 2, "view_overlap": 2}, "view_overlap=2 has to be smaller than views=2"),
        ("anchored", {"frames": 7, "overlap": 6}, "overlap=6 has to be smaller than frames - 1=6"),
        ("coarse_to_fine", {"frames": 3, "overlap": 3}, "overlap=3 has to be smaller than frames=3"),
        ("carry_over", {"frames": 4, "carried": 4}, "carried=4 has to be smaller than frames=4"),
    ],
)
def test_windows_that_do_not_move_on_are_refused(name, settings, message):
    with pytest.raises(ValidationError, match=message):
        build(name, **settings)


@pytest.mark.parametrize(("name", "size"), [("temporal", "frames"), ("view", "views"), ("progressive", "views")])
def test_small_windows_need_no_other_words(name, size):
    """Overlaps follow the windows' size unless they are given."""
    for count in (1, 2, 3, 5):
        assert build(name, **{size: count}).windows(0, 2, 8, 40)


# Each plan


def test_temporal_windows_hold_all_views_and_the_last_is_shifted_back():
    windows = build("temporal", frames=4, overlap=1, weights="uniform").windows(0, 1, 2, 8)
    assert [w.frames for w in windows] == [(0, 1, 2, 3), (3, 4, 5, 6), (4, 5, 6, 7)]
    assert all(w.views == (0, 1) for w in windows)
    assert windows[1].weights[0].tolist() == [0.5, 0.5, 0.5, 0.5]


def test_view_windows_go_around_the_circle():
    windows = build("view", views=4, overlap=1).windows(0, 1, 6, 2)
    assert [w.views for w in windows] == [(0, 1, 2, 3), (3, 4, 5, 0)]
    on_a_line = build("view", views=4, overlap=1, circular=False).windows(0, 1, 6, 2)
    assert [w.views for w in on_a_line] == [(0, 1, 2, 3), (2, 3, 4, 5)]


def test_evenly_dividing_view_windows_update_every_view_equally_often():
    _, count = added(build("view", views=4, overlap=2).windows(0, 1, 12, 1), 12, 1)
    assert (count == 2).all()


@pytest.mark.parametrize("mix", [0.5, 0.2])
@pytest.mark.parametrize("grid", [(6, 24), (7, 11), (5, 49)], ids=str)
def test_progressive_mixes_the_blend_of_each_kind(mix, grid):
    sampler = build("progressive", **SMALL["progressive"], mix=mix)
    x, scales = noise(*grid), torch.ones(1, 2, *grid)
    temporal, view = (denoise_windows(windowed, x, 2.0, family, scales) for family in sampler.config.families(*grid))
    assert (temporal - view).abs().max() > 1e-2
    mixed = denoise_windows(windowed, x, 2.0, sampler.windows(0, 1, *grid), scales)
    torch.testing.assert_close(mixed, mix * temporal + (1 - mix) * view, rtol=0, atol=1e-6)


def test_progressive_windows_are_long_in_time_or_wide_in_views():
    windows = build("progressive").windows(0, 1, 6, 36)
    shapes = Counter((len(w.views), len(w.frames)) for w in windows)
    assert shapes == {(3, 24): 2 * 2, (6, 12): 3}
    assert build("progressive").cost(25, 6, 24) == 2 * 25


@pytest.mark.parametrize(("mix", "shape"), [(1.0, (2, 6)), (0.0, (4, 3))])
def test_progressive_pays_for_one_kind_at_either_end(mix, shape):
    windows = build("progressive", **SMALL["progressive"], mix=mix).windows(0, 1, 6, 24)
    assert {(len(w.views), len(w.frames)) for w in windows} == {shape}


def test_progressive_denoises_a_window_of_both_kinds_once():
    sampler = build("progressive", frames=4, frame_overlap=0, temporal_views=3, views=3, view_overlap=0, view_frames=4)
    assert sampler.cost(1, 6, 8) == 1


@pytest.mark.parametrize("grid", [(3, 20), (6, 12), (2, 24)], ids=str)
@pytest.mark.parametrize("name", ["progressive", "alternating"])
def test_a_grid_that_one_window_of_either_kind_holds_is_not_cut(name, grid):
    """By default 3 x 24 and 6 x 12: only one of the kinds holds each of these."""
    for _, windows in plan(build(name), 2, *grid):
        assert [tuple(w.weights.shape) for w in windows] == [grid]


@pytest.mark.parametrize("name", ["progressive", "alternating", "partition"])
@pytest.mark.parametrize("grid", [(6, 24), (8, 100), (48, 30)], ids=str)
def test_default_windows_hold_as_many_images_as_the_model_was_trained_on(name, grid):
    for _, windows in plan(build(name), 2, *grid):
        assert max(w.weights.numel() for w in windows) == 72


@pytest.mark.parametrize("grid", [(6, 24), (8, 100), (7, 11), (1, 30)], ids=str)
def test_alternating_costs_half_of_progressive(grid):
    alternating, progressive = (build(name, **SMALL[name]) for name in ("alternating", "progressive"))
    assert alternating.cost(8, *grid) == pytest.approx(progressive.cost(8, *grid) / 2)
    shapes = [{(len(w.views), len(w.frames)) for w in windows} for _, windows in plan(alternating, 4, 6, 24)]
    assert shapes == [{(2, 6)}, {(4, 3)}] * 2


@pytest.mark.parametrize(("name", "settings"), [("partition", {"views": 3, "frames": 4}), ("shifting", {"views": 3})])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_every_cell_is_in_exactly_one_window_a_step(name, settings, grid):
    sampler = build(name, **settings)
    for _, windows in plan(sampler, 9, *grid):
        assert (added(windows, *grid)[1] == 1).all()
    assert sampler.cost(9, *grid) == pytest.approx(9)


def test_partition_leaves_the_rest_to_smaller_blocks():
    windows = build("partition", views=2, frames=3).windows(0, 1, 3, 4)
    assert [(w.views, w.frames) for w in windows] == [
        ((0, 1), (0, 1, 2)),
        ((0, 1), (3,)),
        ((2,), (0, 1, 2)),
        ((2,), (3,)),
    ]


@pytest.mark.parametrize("views", [3, 4, 6, 7, 12])
@pytest.mark.parametrize("size", [2, 3, 5])
def test_shifting_groups_join_every_pair_of_neighbours(views, size):
    sampler = build("shifting", views=size)
    met = {
        frozenset(pair)
        for _, windows in plan(sampler, views, views, 4)
        for window in windows
        for pair in ((a, b) for a in window.views for b in window.views if (b - a) % views == 1)
    }
    assert met == {frozenset((v, (v + 1) % views)) for v in range(views)}


def test_shifting_moves_by_one_a_step_in_views_and_in_time():
    sampler = build("shifting", views=3, frames=4)
    assert [{w.views for w in sampler.windows(step, 9, 6, 4)} for step in (0, 1, 3)] == [
        {(0, 1, 2), (3, 4, 5)},
        {(1, 2, 3), (4, 5, 0)},
        {(3, 4, 5), (0, 1, 2)},
    ]
    starts = [[w.frames[0] for w in sampler.windows(step, 9, 1, 10)] for step in range(5)]
    assert starts == [[0, 4, 6], [0, 1, 5, 6], [0, 2, 6], [0, 3, 6], [0, 4, 6]]


@pytest.mark.parametrize("frames", [5, 9, 10, 23])
def test_shifting_blocks_of_time_are_never_shorter_than_asked_for(frames):
    for _, windows in plan(build("shifting", views=3, frames=4), 9, 6, frames):
        assert {(len(w.views), len(w.frames)) for w in windows} == {(3, 4)}


@pytest.mark.parametrize("frames", [2, 5, 6, 23, 60])
def test_the_first_frame_is_in_every_anchored_window(frames):
    windows = build("anchored", frames=5, overlap=2, weights="uniform").windows(0, 1, 2, frames)
    assert all(w.frames[0] == 0 and len(w.frames) == min(5, frames) for w in windows)
    assert all(torch.allclose(w.weights[:, 0], torch.tensor(1 / len(windows))) for w in windows)
    assert all(len({*a.frames} & {*b.frames}) >= 1 + 2 for a, b in pairwise(windows))


def test_coarse_to_fine_starts_with_few_small_frames():
    sampler = build("coarse_to_fine")
    stages = [stage for stage, _ in plan(sampler, 10, 2, 10)]
    assert stages == [Stage((0, 2, 4, 6, 8, 9), 2)] * 4 + [Stage(tuple(range(10)))] * 6
    assert sampler.cost(10, 2, 10) == pytest.approx(4 * 0.6 / 4 + 6)
    assert sampler.cost(10, 2, 10) < SINGLE.cost(10, 2, 10)


def test_coarse_to_fine_climbs_level_by_level():
    stages = [stage for stage, _ in plan(build("coarse_to_fine", levels=2, coarse_fraction=0.6), 10, 1, 9)]
    assert [stage.shrink for stage in stages] == [4, 4, 4, 2, 2, 2, 1, 1, 1, 1]
    assert [len(stage.frames) for stage in stages] == [3, 3, 3, 5, 5, 5, 9, 9, 9, 9]


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("num_steps", [1, 2, 5, 25])
@pytest.mark.parametrize("frames", [1, 2, 24])
def test_coarse_to_fine_ends_on_the_whole_video(fraction, num_steps, frames):
    stages = [stage for stage, _ in plan(build("coarse_to_fine", coarse_fraction=fraction), num_steps, 2, frames)]
    assert stages[-1] == Stage(tuple(range(frames)))
    assert all(stage.frames[0] == 0 and stage.frames[-1] == frames - 1 for stage in stages)


def test_coarse_to_fine_shows_the_denoiser_small_pictures_first():
    seen = []

    def denoise(x, sigma, windows, scales):
        seen.append((tuple(x.shape[2:3] + x.shape[-2:]), windows[0].frames))
        return x

    sampler = build("coarse_to_fine", coarse_fraction=0.5, frame_stride=3)
    sample(denoise, noise(2, 8), SIGMAS, sampler, EULER, UNGUIDED, resize=resize)
    assert seen == [((4, 2, 2), (0, 3, 6, 7))] * 3 + [((8, 4, 4), tuple(range(8)))] * 3


# Cells that take turns


@pytest.mark.parametrize(("views", "frames"), [(12, 3), (24, 30), (13, 1), (5, 7)])
def test_a_cell_of_a_sliding_window_has_as_many_steps_as_there_are_levels(views, frames):
    """36 steps are Diffuman4D's: 12 a round, with a window of 12 that moves on by one."""
    sampler = build("sliding")
    levels = sampler.levels(36, views, frames).expand(-1, views, frames)
    assert (levels.diff(dim=0) <= 1).all()
    seen = torch.zeros(views, frames)
    for step, (_, windows) in enumerate(plan(sampler, 36, views, frames)):
        moved = (levels[step + 1] > levels[step]).float()
        seen += moved * added(windows, views, frames)[1]
    assert (seen == 36).all()


def test_windows_slide_around_views_then_along_time_then_around_views():
    sampler = build("sliding", views=4, frames=3)
    plans = plan(sampler, 9, 6, 5)
    axes = [("views" if len(windows[0].frames) == 1 else "frames") for _, windows in plans]
    assert axes == sorted(axes[: axes.index("frames")]) + ["frames"] * axes.count("frames") + ["views"] * (
        len(axes) - axes.index("frames") - axes.count("frames")
    )
    assert [w.views for _, windows in plans[:3] for w in windows[:1]] == [(0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5)]
    assert plans[0][1][0].frames == (0,) and len(plans[0][1]) == 5
    first = axes.index("frames")
    assert [w.views for w in plans[first][1]] == [(v,) for v in range(6)]
    assert sampler.known(0, 9, 6, 5) is None and sampler.known(first, 9, 6, 5) == 1


def test_half_the_steps_slide_twice_as_far():
    """18 steps with a stride of 2, Diffuman4D's fast setting."""
    windows = [w[0].views for _, w in plan(build("sliding"), 18, 24, 1)]
    assert windows[:3] == [tuple(range(12)), tuple(range(2, 14)), tuple(range(4, 16))]
    assert len([w for w in windows if len(w) == 12]) == 2 * 12


def test_carried_frames_are_finished_before_the_next_window_begins():
    sampler = build("carry_over", frames=4, carried=1)
    levels = sampler.levels(3, 2, 8)[:, 0]
    assert [w[0].frames for _, w in plan(sampler, 3, 2, 8)] == [(0, 1, 2, 3)] * 3 + [(3, 4, 5, 6)] * 3 + [
        (4, 5, 6, 7)
    ] * 3
    assert levels[3].tolist() == [3, 3, 3, 3, 0, 0, 0, 0]
    assert levels[4].tolist() == [3, 3, 3, 3, 1, 1, 1, 0]
    assert levels[-1].tolist() == [3] * 8
    assert sampler.cost(3, 2, 8) == 3 * 12 / 8


def test_a_carried_window_is_what_the_window_alone_makes_from_its_known_frames():
    start, sampler = noise(2, 7), build("carry_over", frames=4, carried=1)
    made = run(sampler, start)
    cells = torch.tensor([[True, False, False, False]] * 2)
    alone = sample(
        lambda x, sigma, windows, scales: windowed(
            x, sigma, [Window((0, 1), (3, 4, 5, 6), w.weights) for w in windows], scales
        ),
        start[:, :, 3:],
        SIGMAS,
        SINGLE,
        EULER,
        UNGUIDED,
        known=Known(latents=made[:, :, 3:], cells=cells),
    )
    torch.testing.assert_close(alone, made[:, :, 3:], rtol=1e-5, atol=1e-5)
