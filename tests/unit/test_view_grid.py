"""Where views stand: what view attention is told in training, in windows and at every size; parts that need to know."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from components.samplers.single import SingleWindow
from hvg.config.composition import compose
from hvg.core.errors import HvgError
from hvg.core.random_keys import generator
from hvg.data.signals import NO_SIGNALS
from hvg.data.training_data import TrainingOrder
from hvg.model.counted_step import counted_flops
from hvg.model.load import build_system
from hvg.parts import registry
from hvg.parts.part import PartConfig
from hvg.parts.plan import Sampler
from hvg.parts.scene import Dataset
from hvg.parts.view_attention import ViewAttention
from hvg.testing import tiny_batch
from hvg.values.buckets import Bucket, alike
from hvg.values.cameras import Cameras, close_a_circle, orbit, project
from hvg.values.clip import ClipBatch
from hvg.values.grid import ViewGrid, Window
from hvg.values.moved import move_cameras

WIDTH = 8


def around(*azimuths: float, size: tuple[int, int] = (32, 32), distance: float = 3.0) -> Cameras:
    """Cameras (1, V, 1) that look at the origin."""
    cameras = orbit(
        torch.tensor(azimuths),
        elevation_degrees=0.0,
        distance=distance,
        target=torch.zeros(3),
        fov_degrees=40.0,
        image_size=size,
    )
    return cameras[None, :, None]


def on_a_line(*places: float, size: tuple[int, int] = (6, 8)) -> Cameras:
    """Cameras (1, V, 1) side by side along x, all facing +z."""
    poses = torch.eye(4).repeat(1, len(places), 1, 1, 1)
    poses[0, :, 0, 0, 3] = -torch.tensor(places)
    intrinsics = torch.tensor([[8.0, 0.0, size[1] / 2], [0.0, 8.0, size[0] / 2], [0.0, 0.0, 1.0]])
    return Cameras(world_to_camera=poses, intrinsics=intrinsics.expand(1, len(places), 1, 3, 3), image_size=size)


def part(name: str, **settings) -> ViewAttention:
    """With large weights, so that whatever is seen shows."""
    cls = registry.load("view_attention", name)
    module, random = cls(cls.Config(**settings), WIDTH, 2), generator("weights")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=random))
    return module


def features(grid: ViewGrid) -> Tensor:
    return torch.randn(*grid.cameras.shape, *grid.cameras.image_size, WIDTH, generator=generator("features"))


# --- a circle or a line ---


@pytest.mark.parametrize(
    ("azimuths", "closes"),
    [
        ((0, 90, 180, 270), True),
        ((200, 110, 20, 290), True),
        ((0, 120, 240), True),
        (tuple(range(0, 360, 10)), True),
        ((0, 80, 200, 260), True),  # around unevenly
        ((0, 0, 120, 120, 240, 240), True),  # two above each other
        ((0, 144, 288, 72, 216), False),  # twice around
        ((0, 30, 60, 90), False),
        (tuple(range(0, 280, 30)), False),  # three quarters of a circle in narrow steps
        ((-40, 0, 40), False),
        ((0, 180, 90, 270), False),  # all around, but not in their order
        ((0, 180), False),  # two views are next to each other either way
        ((0,), False),
    ],
)
def test_a_circle_is_known_by_its_cameras(azimuths, closes):
    assert close_a_circle(around(*map(float, azimuths))).tolist() == [closes]


def test_neighbours_are_counted_around_the_circle_or_along_the_line():
    circle = ViewGrid.whole(around(0, 60, 120, 180, 240, 300)).select([5, 0, 3], [0])
    assert circle.steps().tolist() == [[[0, 1, 2], [1, 0, 3], [2, 3, 0]]]
    line = ViewGrid.whole(around(0, 20, 40, 60, 80, 100)).select([5, 0, 3], [0])
    assert line.steps().tolist() == [[[0, 5, 2], [5, 0, 3], [2, 3, 0]]]


# --- what is left of a grid still knows it ---


def test_a_part_of_a_batch_knows_the_whole():
    batch = tiny_batch(2, 4, 3)
    assert batch.view_grid().view_index.tolist() == [[0, 1, 2, 3]] * 2
    window = batch.select([3, 1], [2]).view_grid()
    assert window.view_index.tolist() == [[3, 1]] * 2
    assert window.num_views.tolist() == [4, 4] and window.circle.tolist() == [True, True]
    assert torch.equal(window.cameras.world_to_camera, batch.cameras.world_to_camera[:, [3, 1]][:, :, [2]])
    smaller = batch.select([3, 1], [2]).select([1]).clips(slice(1, 2)).shrunk(2).view_grid()
    assert (
        smaller.view_index.tolist() == [[1]] and smaller.num_views.tolist() == [4] and smaller.circle.tolist() == [True]
    )
    assert smaller.cameras.image_size == (16, 16)
    # Clips of other rigs may share a batch.
    three = tiny_batch(1, 3, 3).select([0, 2], [0])
    both = ClipBatch.stack([three, tiny_batch(1, 4, 3).select([0, 2], [0])]).view_grid()
    assert both.num_views.tolist() == [3, 4] and both.steps()[:, 0, 1].tolist() == [1, 2]


class Clips(Dataset):
    """One clip of four views."""

    Config = PartConfig

    def __len__(self) -> int:
        return 1

    def load(self, index: int) -> ClipBatch:
        return tiny_batch(clips=1, views=4, frames=3)


def test_a_training_step_that_draws_two_of_four_views_knows_which():
    order = TrainingOrder(Clips(), NO_SIGNALS, seed=0, groups=alike(len(Clips()), Bucket(2, 1)), clips_per_step=1)
    cameras, drawn = Clips().load(0).cameras.world_to_camera, set()
    for position in range(12):
        grid = order[position].view_grid()
        index = grid.view_index[0]
        drawn.add(tuple(index.tolist()))
        assert grid.num_views.tolist() == [4] and grid.circle.tolist() == [True]
        assert torch.equal(grid.cameras.world_to_camera[0, :, 0], cameras[0, index, 0])
    assert len(drawn) > 3


# --- the system tells the backbone ---


class Pairs(Sampler):
    """Windows of two views of four and one frame."""

    def windows(self, step: int, num_steps: int, views: int, frames: int) -> list[Window]:
        return [Window(pair, (t,), torch.ones(2, 1)) for pair in ((0, 3), (2, 1)) for t in range(frames)]


@pytest.fixture(scope="module")
def system(tiny):
    """Moves people, and works in windows."""
    built = build_system(compose([*tiny, "alignment=pelvis", "view_attention=neighbours", "guidance.value=1"]))
    built.sampler = Pairs()
    return built


def grids_seen(system, run) -> list[ViewGrid]:
    seen = []
    hook = system.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[4]))
    run()
    hook.remove()
    return seen


def test_windows_know_their_views_and_the_moved_cameras(system):
    near = tiny_batch(1, 4, 2)
    batch = replace(near, cameras=move_cameras(near.cameras, torch.tensor([5, -3]).expand(1, 4, 2, 2)))
    (grid,) = grids_seen(system, lambda: system.generate(replace(batch, frames=None, alpha=None), num_steps=1))
    assert grid.view_index.tolist() == [[0, 3], [0, 3], [2, 1], [2, 1]]
    assert grid.num_views.tolist() == [4] * 4 and grid.circle.all()
    moved = system.aligned(batch)[0].cameras
    assert not torch.equal(moved.intrinsics, batch.cameras.intrinsics)
    for row, (views, frame) in enumerate((([0, 3], 0), ([0, 3], 1), ([2, 1], 0), ([2, 1], 1))):
        assert torch.equal(grid.cameras.intrinsics[row], moved.intrinsics[0, views][:, [frame]])
        assert torch.equal(grid.cameras.world_to_camera[row], moved.world_to_camera[0, views][:, [frame]])


def test_training_tells_the_moved_cameras(system):
    batch = replace(tiny_batch(1, 4, 2).select([3, 1]), sample_index=torch.tensor([0]))
    (grid,) = grids_seen(system, lambda: system.training_step(batch, 0))
    assert grid.view_index.tolist() == [[3, 1]] and grid.num_views.tolist() == [4]
    assert torch.equal(grid.cameras.intrinsics, system.aligned(batch)[0].cameras.intrinsics)


def test_what_is_generated_in_windows_depends_on_where_the_views_stand(system):
    """Of two requests that differ in nothing but their views' places on the circle, other views are neighbours."""
    random = generator("system")
    with torch.no_grad():
        for weight in system.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=random))
    system.sampler = SingleWindow(PartConfig())
    batch = replace(tiny_batch(1, 4, 1), frames=None, alpha=None)
    index = torch.arange(4)[None]
    known = replace(batch, num_views=torch.tensor([12]), circle=torch.tensor([True]))
    near, far = (system.generate(replace(known, view_index=x), num_steps=1) for x in (index, 3 * index))
    assert not torch.equal(near, far)


# --- neighbours ---


def seen_by(name: str, grid: ViewGrid, token: int, **settings) -> Tensor:
    """Tokens (V, h, w) bool whose change moves ``token`` of the first clip and frame."""
    module, x = part(name, **settings), features(grid).requires_grad_()
    flat = module(x, grid)[0, :, 0].flatten(0, 2)
    (gradient,) = torch.autograd.grad(flat[token].square().sum(), x)
    return gradient[0, :, 0].abs().amax(-1) > 0


def views_seen(grid: ViewGrid, view: int, **settings) -> list[int]:
    cells = grid.cameras.image_size[0] * grid.cameras.image_size[1]
    seen = seen_by("neighbours", grid, view * cells, **settings).flatten(1)
    assert (seen.all(1) == seen.any(1)).all()
    return grid.view_index[0, seen.any(1)].tolist()


def test_a_view_sees_its_neighbours_wherever_they_are_in_the_window():
    circle = ViewGrid.whole(around(0, 60, 120, 180, 240, 300, size=(2, 3)))
    assert views_seen(circle, 0) == [0, 1, 5]
    assert views_seen(circle, 4, reach=2) == [0, 2, 3, 4, 5]
    window = circle.select([5, 2, 0, 3], [0])
    assert [views_seen(window, v) for v in range(4)] == [[5, 0], [2, 3], [5, 0], [2, 3]]
    # Nobody nearby: a view sees itself.
    assert [views_seen(circle.select([0, 2, 4], [0]), v) for v in range(3)] == [[0], [2], [4]]
    assert views_seen(circle.select([3], [0]), 0) == [3]
    line = ViewGrid.whole(on_a_line(0, 1, 2, 3, size=(2, 3)))
    assert [views_seen(line, v) for v in range(4)] == [[0, 1], [0, 1, 2], [1, 2, 3], [2, 3]]


def test_neighbours_are_averaged_with_the_softmax_of_their_own_tokens_alone():
    """A window of views that are all neighbours is ``full_3d``; one of strangers is every view by itself."""
    grid = ViewGrid.whole(around(0, 120, 240, size=(2, 3)))
    near, full = part("neighbours"), part("full_3d")
    full.load_state_dict(near.state_dict())
    x = features(grid)
    torch.testing.assert_close(near(x, grid), full(x, grid), rtol=1e-5, atol=1e-5)
    strangers = replace(grid, view_index=torch.tensor([[0, 5, 9]]), num_views=torch.tensor([14]))
    for view in range(3):
        alone = full(x[:, view : view + 1], strangers.select([view], [0]))
        torch.testing.assert_close(near(x, strangers)[:, view : view + 1], alone, rtol=1e-5, atol=1e-5)


# --- epipolar lines ---


def test_of_cameras_side_by_side_epipolar_lines_are_rows():
    grid = ViewGrid.whole(on_a_line(0.0, 0.4, -1.0))
    height, width = grid.cameras.image_size
    for row, column in ((0, 0), (2, 5), (5, 7)):
        token = row * width + column
        for band, rows in ((0.3, [row]), (1.2, [r for r in range(height) if abs(r - row) <= 1])):
            expected = torch.zeros(3, height, width, dtype=torch.bool)
            expected[1:, rows] = True
            expected[0, row, column] = True
            assert torch.equal(seen_by("epipolar", grid, token, band=band), expected)


def test_of_a_camera_that_moved_forward_lines_go_through_the_middle():
    """The epipole is where the other camera is seen: here the principal point, (4, 3) of 6 x 8 cells."""
    cameras = on_a_line(0.0, 0.0)
    poses = cameras.world_to_camera.clone()
    poses[:, 1, :, 2, 3] = -1.0
    grid = ViewGrid.whole(replace(cameras, world_to_camera=poses))
    seen = registry.load("view_attention", "epipolar")
    mask = seen.sees(seen.Config(band=0.5), grid)[0, 0].view(2, 6, 8, 2, 6, 8)
    y, x = torch.meshgrid(torch.arange(6) + 0.5 - 3, torch.arange(8) + 0.5 - 4, indexing="ij")
    for row in range(6):
        for column in range(8):
            p = torch.stack([x[row, column], y[row, column]])
            distance = (p[0] * y - p[1] * x).abs() / p.norm()
            assert torch.equal(mask[0, row, column, 1], distance <= 0.5)


def test_a_point_of_the_scene_is_seen_by_its_own_pixels():
    """Wherever in depth: what one view shows in a cell lies near the line of that cell in every other view, aligned or not."""
    batch = tiny_batch(1, 4, 1, size=64)
    offsets = torch.randint(-9, 9, (1, 4, 1, 2), generator=generator("offsets"))
    for cameras in (batch.cameras, move_cameras(batch.cameras, offsets)):
        grid = ViewGrid.whole(cameras).resized((16, 16))
        pixels, depth = project(batch.body.joints[:, None], grid.cameras)
        assert (depth > 0).all()
        cells = pixels[0, :, 0].floor().long()
        inside = ((cells >= 0) & (cells < 16)).all(-1)
        cls = registry.load("view_attention", "epipolar")
        # The joint is up to 0.71 cells from the centre of its cell in either view.
        mask = cls.sees(cls.Config(band=1.5), grid)[0, 0].view(4, 16, 16, 4, 16, 16)
        compared = 0
        for joint in range(cells.shape[1]):
            for a in range(4):
                for b in range(4):
                    if a != b and inside[a, joint] and inside[b, joint]:
                        (xa, ya), (xb, yb) = cells[a, joint].tolist(), cells[b, joint].tolist()
                        assert mask[a, ya, xa, b, yb, xb]
                        compared += 1
        assert compared > 100
        assert mask[0, :, :, 1].float().mean() < 0.3


def test_cameras_at_one_place_see_all_of_each_other():
    grid = ViewGrid.whole(on_a_line(0.3, 0.3))
    seen = seen_by("epipolar", grid, 11)
    assert seen[1].all() and seen[0].sum() == 1


def test_epipolar_attention_is_full_attention_where_the_band_is_the_picture():
    grid = ViewGrid.whole(on_a_line(0.0, 1.0, size=(1, 1)))
    epipolar, full = part("epipolar", band=9.0), part("full_3d")
    full.load_state_dict(epipolar.state_dict())
    torch.testing.assert_close(epipolar(features(grid), grid), full(features(grid), grid), rtol=1e-5, atol=1e-5)


# --- what it costs, and what has to be said ---


# --- packed views ---


@pytest.mark.parametrize("places", ["none", "rotary"])
def test_views_that_are_all_seen_whole_are_full_3d(places):
    grid = tiny_batch(2, 4, 2).view_grid().resized((2, 4))
    x = torch.randn(2, 4, 2, 2, 4, WIDTH)
    packed, full = part("full_3d", packed=2, whole_views=4, places=places), part("full_3d", places=places)
    packed.load_state_dict(full.state_dict())
    torch.testing.assert_close(packed(x, grid), full(x, grid), rtol=1e-4, atol=1e-5)


def test_packed_views_are_seen_by_the_means_of_squares():
    """Written out for two views: own tokens, then the mean key and value of each square of the other, smaller at the border."""
    grid = tiny_batch(1, 2, 1).view_grid().resized((3, 4))
    x, module = torch.randn(1, 2, 1, 3, 4, WIDTH), part("full_3d", packed=2)
    layers = module.attention
    query, key, value = layers.split_heads(layers.query_key_value(layers.norm(x)))
    expected = []
    for view in (0, 1):
        other = [y[0, 1 - view, 0] for y in (key, value)]
        squares = [
            torch.stack([y[r : r + 2, c : c + 2].mean(dim=(0, 1)) for r in (0, 2) for c in (0, 2)]) for y in other
        ]
        keys, values = (
            torch.cat([y[0, view, 0].flatten(0, 1), means]) for y, means in zip((key, value), squares, strict=True)
        )
        asked = query[0, view, 0].flatten(0, 1)
        weights = torch.einsum("shd,khd->hsk", asked, keys).div(asked.shape[-1] ** 0.5).softmax(dim=-1)
        expected.append(torch.einsum("hsk,khd->shd", weights, values).flatten(1))
    mixed = torch.stack(expected).view(x.shape)
    torch.testing.assert_close(module(x, grid), x + layers.put_out(mixed), rtol=1e-4, atol=1e-5)


def test_packed_views_cost_less():
    cls = registry.load("view_attention", "full_3d")
    size = (8, 16, 16, 64)
    costs = [cls.flops(cls.Config(packed=side, whole_views=2), *size) for side in (1, 2, 4)]
    assert costs[0] > costs[1] > costs[2] > cls.flops(cls.Config(), 2, 16, 16, 64)


@pytest.mark.parametrize("name", ["epipolar", "neighbours"])
def test_declared_flops_are_those_that_run(name):
    """Both work in products of matrices alone, all of which torch's counter sees."""
    grid = ViewGrid.whole(around(0, 72, 144, 216, 288, size=(4, 6)))
    module = part(name)
    with torch.no_grad():
        _, counted = counted_flops(lambda: module(features(grid), grid))
    assert module.flops(module.config, 5, 4, 6, WIDTH) == counted


class Silent(ViewAttention):
    """Does not say who sees whom."""

    Config = PartConfig

    def forward(self, x: Tensor, grid: ViewGrid) -> Tensor:
        return x

    @classmethod
    def flops(cls, config, views: int, height: int, width: int, channels: int) -> int:
        return 0


def test_a_part_has_to_say_who_sees_whom():
    with pytest.raises(HvgError, match="Silent has to say who sees whom"):
        Silent.sees(PartConfig(), tiny_batch().view_grid())
