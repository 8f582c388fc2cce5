"""Where points near a moving person are at rest and in the photo, and which skin is nearest."""

import pytest
import torch
import trimesh

from components.nn.content_cache import ContentCache
from components.nn.photo_features import Picture
from components.nn.skinned_points import inverse, moved_by, one_after_another
from components.people.nearest_surface import nearest_on_mesh
from components.people.photo_body import body_in_photo, rest_shape
from components.people.point_search import distances_to_segments
from components.people.posed_people import Rays, posed_people
from components.people.surface_grid import SurfaceGrid, frame_grid, signed_distance, vertex_rings
from components.renderers.warp import Warp
from hvg.core.errors import DataError
from hvg.geometry.correspondence import sample_pixels
from hvg.parts import registry
from hvg.parts.part import PartConfig
from hvg.testing import posed_batch, tiny_batch
from hvg.testing.reconstructor import photographed
from hvg.values.cameras import pixel_rays, project

SHELL, CELL = 0.2, 0.05


@pytest.fixture(scope="module")
def batch():
    part = registry.load("body", "anny")
    return photographed(posed_batch(part(part.Config()), clips=2, views=2, frames=2, size=64))


@pytest.fixture(scope="module")
def people(batch):
    return posed_people(batch, torch.tensor([1, 2]), SHELL, CELL, Warp(PartConfig()), ContentCache(2**24))


def some_vertices(batch, frame: int, count: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers (M) of vertices, and where they are in a frame of B T."""
    vertices = batch.body.vertices.flatten(0, 1)[frame]
    vertex = torch.randperm(len(vertices), generator=torch.Generator().manual_seed(frame))[:count]
    return vertex, vertices[vertex]


def grid_of(vertices: torch.Tensor, faces: torch.Tensor) -> SurfaceGrid:
    grid = frame_grid(vertices, faces, SHELL, CELL)
    return SurfaceGrid.of([grid], vertices[None], vertex_rings(faces, len(vertices)), CELL)


@pytest.mark.parametrize("at_rest", [True, False])
def test_skinning_and_its_inverse_are_the_identity(batch, at_rest):
    skinning = batch.body.skinning
    vertex, points = some_vertices(batch, 1)
    if at_rest:
        # One motion for all bones: the person stands as the model's mesh does.
        still = torch.eye(4).expand_as(skinning.transforms)
        skinning = type(skinning)(**{**vars(skinning), "transforms": still})
    moves = skinning.of_points(torch.ones_like(vertex), vertex)
    around = points + 0.1 * torch.randn(points.shape, generator=torch.Generator().manual_seed(3))
    back = inverse(moves)
    assert (moved_by(moves, moved_by(back, around)) - around).norm(dim=-1).max() < 1e-4
    assert (moved_by(back, moved_by(moves, around)) - around).norm(dim=-1).max() < 1e-4
    there = moved_by(back, moved_by(moves.roll(1, dims=0), around))
    assert (moved_by(one_after_another(moves.roll(1, dims=0), back), around) - there).norm(dim=-1).max() < 1e-4
    whole = skinning.posed(skinning.rest[:, None].expand(-1, batch.grid[2], -1, -1)).flatten(0, 1)[1]
    assert (moved_by(moves, skinning.rest[0, vertex]) - whole[vertex]).norm(dim=-1).max() < 1e-4


def test_a_visible_point_is_looked_up_where_the_photo_shows_it(batch, people):
    """Frame 1 is of clip 0, frame 2 of clip 1."""
    for slot, (frame, clip) in enumerate(((1, 0), (2, 1))):
        vertex, points = some_vertices(batch, frame)
        facts, places, found = people.near(points, points, torch.full_like(vertex, slot))
        true, depth = project(batch.reference.body.vertices[clip, 0, vertex], batch.reference.cameras[clip, 0])
        seen = people.shown[clip].seen[vertex]
        # Eyelids, ears and the inside of the mouth are folded more finely than the grid knows.
        assert found.all() and facts.distance[seen].abs().median() < 1e-3 and facts.distance.abs().max() < 0.05
        # In folds the nearest vertex may be one that follows other bones.
        near = (places.pixel - true).norm(dim=-1)
        assert near.median() < 1e-3 and (near < 0.05).float().mean() > 0.96 and near[seen].max() < 1
        assert (places.depth - depth).abs().median() < 1e-4
        where = places.skin.where[places.nearest]
        assert seen.float().mean() > 0.2 and (where - true)[seen].norm(dim=-1).median() < 0.1
        assert places.skin.known[places.nearest][seen].float().mean() > 0.9
        # What is seen lies where a ray through its pixel meets the body.
        hit = Warp(PartConfig()).render(
            batch.reference.body.vertices[clip], batch.body.faces, batch.reference.cameras[clip]
        )
        column, row = true[seen].floor().long().unbind(dim=-1)
        there = hit.depth[0, row, column]
        # A pixel is 3 cm wide, and its centre may miss what lies at its edge.
        assert (there > 0).float().mean() > 0.8
        assert ((there - depth[seen]).abs() < 0.05)[there > 0].float().mean() > 0.85


def test_a_photo_s_pixel_of_what_rides_on_the_pelvis_is_that_of_a_rigid_body(batch, people):
    """The pelvis itself is where the photo's pelvis is, whatever the legs do."""
    pelvis = batch.body.place("pelvis").flatten(0, 1)[[1, 2]]
    facts, places, _ = people.near(pelvis, pelvis, torch.tensor([0, 1]))
    photo = batch.reference.body
    true, _ = project(photo.place("pelvis"), batch.reference.cameras)
    assert (places.pelvis - true[:, 0]).abs().max() < 1e-2
    assert facts.pelvis.abs().max() < 1e-4


def test_rays_go_through_the_centres_of_their_pixels(batch):
    clips, views, frames = batch.grid
    height, width = batch.cameras.image_size
    pixels = torch.tensor([0, 5 * width + 7, (views * frames * height - 1) * width + 3])
    clip = torch.tensor([1, 0, 1])
    rays = Rays.through(batch.cameras, clip, pixels, torch.arange(clips * frames))
    in_camera = pixel_rays(batch.cameras).flatten(1, 4)[clip, pixels]
    view, frame = pixels // (height * width) // frames, pixels // (height * width) % frames
    cameras = batch.cameras[clip, view, frame]
    assert torch.equal(rays.slot, clip * frames + frame)
    seen, depth = project(rays.at(torch.full((3, 1), 2.5)), cameras)
    assert torch.allclose(depth, torch.tensor(2.5), atol=1e-5)
    assert torch.allclose(seen[:, 0], torch.stack([pixels % width, pixels // width % height], dim=-1) + 0.5, atol=1e-3)
    assert torch.allclose(
        (cameras.world_to_camera[:, :3, :3] @ rays.direction[..., None])[..., 0], in_camera, atol=1e-5
    )


def test_the_grid_finds_what_an_exact_search_finds(batch):
    vertices, faces = batch.body.vertices[0, 0], batch.body.faces
    grid = grid_of(vertices, faces)
    random = torch.Generator().manual_seed(0)
    picked = vertices[torch.randint(len(vertices), (3000,), generator=random)]
    points = picked + 0.06 * torch.randn(3000, 3, generator=random)
    _, exact = nearest_on_mesh(vertices, faces, points, 1.0)
    points, exact = points[exact < SHELL], exact[exact < SHELL]
    slots = torch.zeros(len(points), dtype=torch.int64)
    vertex, found = grid.nearest(points, slots)
    assert found.all()
    shape = rest_shape(vertices, faces)
    distance = signed_distance(points - vertices[vertex], shape.normals[vertex], shape.spacing.expand(len(points)))
    apart = (distance - exact).abs()
    assert apart.median() < 2e-3 and (apart < 0.01).float().mean() > 0.97


def pieces_of(grid: SurfaceGrid, points: torch.Tensor, limits: tuple[float, float], step: float = 0.01):
    """For rays (Q) whose only piece has these points in its middle, whether that is near, and ends the ray."""
    forward = torch.tensor([0.0, 0.0, 1.0]).expand_as(points)
    slots, ones = torch.zeros(len(points), dtype=torch.int64), torch.ones(len(points))
    inside, ends = grid.near_pieces((points - step / 2 * forward, forward, slots), 0 * ones, step * ones, 1, limits)
    return inside[:, 0], ends


def test_a_piece_of_a_ray_is_as_far_from_the_skin_as_the_node_in_its_middle(batch):
    vertices, faces = batch.body.vertices[0, 0], batch.body.faces
    grid = grid_of(vertices, faces)
    random = torch.Generator().manual_seed(1)
    picked = vertices[torch.randint(len(vertices), (2000,), generator=random)]
    points = picked + 0.1 * torch.randn(2000, 3, generator=random)
    _, exact = nearest_on_mesh(vertices, faces, points, 1.0)
    place = ((points - grid.origin[0]) / CELL).round().long().clamp_min(0).minimum(grid.counts[0] - 1)
    node = (place[:, 0] * grid.counts[0, 1] + place[:, 1]) * grid.counts[0, 2] + place[:, 2]
    apart = grid.distance[node]
    assert ((apart - exact).abs() < CELL)[exact < SHELL].float().mean() > 0.99
    for shell, deep in ((0.05, 0.02), (0.2, 0.0), (-0.01, 0.03)):
        inside, ends = pieces_of(grid, points, (shell, deep))
        # Half way between two nodes rounding decides.
        assert (inside == (apart <= shell)).float().mean() > 0.998
        assert (ends == (apart < -deep)).float().mean() > 0.998


def test_a_ray_ends_in_the_body_and_what_is_behind_does_not_count(batch):
    vertices, faces = batch.body.vertices[0, 0], batch.body.faces
    grid, chest = grid_of(vertices, faces), batch.body.place("spine3")[0, 0]
    origins = chest + torch.tensor([[0.0, 0.0, 2.0], [0.0, 1.5, 2.0]])
    away, slots = torch.tensor([[0.0, 0.0, -1.0]]).expand(2, -1), torch.zeros(2, dtype=torch.int64)
    inside, ends = grid.near_pieces((origins, away, slots), torch.ones(2), torch.full((2,), 0.02), 100, (SHELL, 0.035))
    assert ends.tolist() == [True, False] and not inside[1].any()
    first, last = inside[0].nonzero()[:, 0].aminmax()
    assert inside[0, first : last + 1].all() and 0.1 < 0.02 * float(last - first) < SHELL + 3 * CELL
    _, depth = nearest_on_mesh(vertices, faces, (origins[:1] + (1 + 0.02 * (last + 0.5)) * away[:1]), 1.0)
    assert -0.035 - CELL < float(depth) < 0


def test_distances_to_segments_are_those_of_the_formula():
    random = torch.Generator().manual_seed(2)
    ends, points = torch.randn(2, 4, 2, 3, generator=random), torch.randn(300, 3, generator=random)
    ends[1, 3, 1] = ends[1, 3, 0]
    frames = torch.arange(300) % 2
    start, end = ends[frames].unbind(dim=2)
    shares = torch.linspace(0, 1, 2001)[:, None, None, None]
    nearest = (points[None, :, None] - (start + shares * (end - start))).norm(dim=-1).amin(dim=0)
    found = distances_to_segments(points, frames, ends)
    assert found.shape == (300, 4) and torch.allclose(found, nearest, atol=2e-3) and (found <= nearest + 1e-6).all()


def test_a_ray_crosses_the_box_of_its_frame_where_that_begins_and_ends(batch):
    vertices, faces = batch.body.vertices[0, 0], batch.body.faces
    grid = grid_of(vertices, faces)
    middle = vertices.mean(dim=0)
    origins = middle + torch.tensor([[0.0, 0.0, 3.0], [0.0, 0.0, 3.0], [0.0, 9.0, 3.0]])
    directions = torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    near, far = grid.crossed(origins, directions, torch.zeros(3, dtype=torch.int64))
    assert torch.allclose(origins[0, 2] - near[0], grid.origin[0, 2] + CELL * (grid.counts[0, 2] - 1))
    assert torch.allclose(origins[0, 2] - far[0], grid.origin[0, 2], atol=1e-5)
    assert (far <= near)[1:].all()


def test_the_nearest_point_of_a_ball_and_its_sign():
    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.5)
    vertices, faces = torch.tensor(ball.vertices).float(), torch.tensor(ball.faces)
    directions = torch.nn.functional.normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    for radius in (0.3, 0.49, 0.51, 0.8):
        vertex, distance = nearest_on_mesh(vertices, faces, radius * directions, 1.0)
        assert (distance - (radius - 0.5)).abs().max() < 2e-3
        assert ((vertices[vertex.long()] - 0.5 * directions).norm(dim=-1) < 0.03).all()
    vertex, distance = nearest_on_mesh(vertices, faces, 3 * directions, 1.0)
    assert vertex.eq(-1).all() and distance.eq(1).all()


def test_mirror_images_are_on_the_other_side(batch):
    rest = batch.body.skinning.rest[0]
    shape = rest_shape(rest, batch.body.faces)
    there = rest[shape.mirrored] * torch.tensor([-1.0, 1.0, 1.0])
    assert ((there - rest).norm(dim=-1) < 0.01).float().mean() > 0.97
    assert (shape.normals.norm(dim=-1) - 1).abs().max() < 1e-4 and 0.003 < shape.spacing < 0.02


def test_a_back_is_not_seen_from_the_front(batch):
    body, camera = batch.reference.body, batch.reference.cameras[0, 0]
    shown = body_in_photo(body.vertices[0, 0], body.faces, camera, Warp(PartConfig()))
    normals = rest_shape(body.vertices[0, 0], body.faces).normals
    facing = ((camera.centers - body.vertices[0, 0]) * normals).sum(dim=-1) > 0
    assert 0.2 < shown.seen.float().mean() < 0.55 and not (shown.seen & ~facing).any()
    assert shown.coverage.max() == 1 and (shown.depth[shown.coverage == 1] > 2).all()


def test_a_body_in_other_units_is_named():
    vertices, faces = 1000 * tiny_batch().body.vertices[0, 0], tiny_batch().body.faces
    with pytest.raises(DataError, match="Is the body in metres"):
        frame_grid(vertices, faces, SHELL, CELL)


def test_a_body_without_a_pelvis_is_named(batch):
    box = tiny_batch(2, 2, 2)
    photo = tiny_batch(2, 2, 1).body
    boxes = type(box)(**{**vars(box), "reference": type(box.reference)(
        frames=box.reference.frames, cameras=box.cameras[:, 0, :1], body=photo
    )})  # fmt: skip
    with pytest.raises(DataError, match="starts at the pelvis; they start at left_hip"):
        posed_people(boxes, torch.tensor([0]), SHELL, CELL, Warp(PartConfig()), ContentCache(0))


def test_another_body_model_in_the_photo_is_named(batch):
    reference = type(batch.reference)(**{**vars(batch.reference), "body": tiny_batch(2, 2, 1).body})
    other = type(batch)(**{**vars(batch), "reference": reference})
    with pytest.raises(DataError, match="clip 'clip0': its body's mesh has 13718 vertices, that of the photo 8"):
        posed_people(other, torch.tensor([0]), SHELL, CELL, Warp(PartConfig()), ContentCache(0))


# --- pictures, and what is kept ---


def test_a_picture_is_looked_up_between_its_pixels_and_is_nothing_outside():
    maps = torch.randn(2, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    picture = Picture.of(maps)
    pixels = torch.tensor([[0.5, 0.5], [3.2, 4.9], [6.5, 5.5], [-3.0, 2.0], [1e9, 2.0], [float("nan"), 2.0]])
    which = torch.tensor([1, 0, 1, 0, 0, 0])
    found = picture.at(pixels, which)
    inside = torch.stack(
        [sample_pixels(maps[w : w + 1], p[None, None])[0, :, 0] for w, p in zip(which, pixels, strict=True)]
    )
    assert torch.allclose(found[:3], inside[:3], atol=1e-6)
    assert not found[3:].any()


def test_results_are_kept_by_content_within_a_limit():
    made = []

    def make(x: torch.Tensor) -> torch.Tensor:
        made.append(x)
        return x + 1

    kept, first = ContentCache(3 * 400), torch.zeros(100)
    for x in (first, first.clone(), first + 1, first + 2, first):
        assert torch.equal(kept("sum", lambda x=x: make(x), x), x + 1)
    assert len(made) == 3
    kept("sum", lambda: make(first + 3), first + 3)
    kept("sum", lambda: make(first), first)
    kept("sum", lambda: make(first + 1), first + 1)
    assert len(made) == 5, "what was not asked for the longest is made again"
    kept("other", lambda: make(first), first)
    assert len(made) == 6
    none = ContentCache(0)
    for _ in range(2):
        none("sum", lambda: make(first), first)
    assert len(made) == 8
