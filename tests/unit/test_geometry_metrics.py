"""Metrics on known geometry: the truth is ideal, and each planted fault moves its own metric and not the others."""

import math
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from planted_faults import SuitClips, darker, dilated, recoloured, shift, shifted

from components.bodies.anny import Anny
from components.datasets.synthetic import Synthetic
from components.keypoints.suit import SuitKeypoints
from components.metrics.cross_view import moved, nearest_moves
from components.people.suit import PARTS
from components.renderers.warp import Warp
from hvg.core.errors import HvgError
from hvg.data.cache import RenderedClips
from hvg.geometry.correspondence import correspondences, sample_pixels, unproject
from hvg.geometry.triangulation import triangulate
from hvg.parts import registry
from hvg.parts.context import Context
from hvg.parts.keypoint_metric import distances, mean_cost
from hvg.values.cameras import Cameras, orbit, pixel_rays, project
from hvg.values.scored_clip import NotAvailable, ScoredClip, Surface, true_clip

CONTEXT = Context(body=Anny(), renderer=Warp())
SIZE, VIEWS, FRAMES = 64, 4, 4
FAR = 1000.0
GEOMETRY = ("cross_view", "temporal_warp", "joint_error", "mpjpe")


def make(name: str, **settings):
    part = registry.load("metric", name)
    return part(part.Config(**settings), CONTEXT)


def score(name: str, clip: ScoredClip, **settings) -> float:
    metric = make(name, **settings)
    return metric.reduce({clip.clip_id: metric.measure(clip)}).value


@cache
def suits(size: int = SIZE) -> SuitClips:
    return SuitClips(CONTEXT, image_size=size, views=VIEWS, frames=FRAMES)


@cache
def truth(index: int = 0, size: int = SIZE) -> ScoredClip:
    return suits(size).clip(index)


@cache
def parts(index: int = 0, size: int = SIZE) -> torch.Tensor:
    return suits(size).parts(index)


def dressed(frames: torch.Tensor, like: ScoredClip) -> ScoredClip:
    return replace(like, prediction=frames)


# ---- the true surface ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clothes", ["sampled", "suit"])
def test_the_surface_is_what_the_pictures_show(clothes):
    dataset = Synthetic(Synthetic.Config(clothes=clothes, views=2, frames=3, image_size=48), CONTEXT)
    for index in (0, 2):
        surface, clip = dataset.surface(index), dataset.load(index)
        alpha, shown = clip.alpha[0, :, :, 0], surface.depth > 0
        assert surface.depth.shape == surface.face.shape == (2, 3, 48, 48)
        assert surface.vertices.shape[0] == 3 and surface.faces.max() < surface.vertices.shape[1]
        assert torch.equal(shown, surface.face >= 0)
        # Four rays make alpha; the centre between them may hit what is thinner than a pixel, and miss a gap as thin.
        assert (alpha[shown] > 0).float().mean() > 0.997 and shown[alpha == 1].float().mean() > 0.995
        # Depth and mesh say the same of where the points are.
        for view in range(2):
            points = unproject(surface.depth[view], clip.cameras[0, view])
            corners = surface.vertices[
                torch.arange(3)[:, None, None, None], surface.faces[surface.face[view].clamp_min(0)]
            ]
            on_mesh = (corners * surface.barycentric[view][..., None]).sum(dim=-2)
            assert (points - on_mesh).norm(dim=-1)[shown[view]].max() < 1e-3


def test_rendered_clips_pass_the_surface_on():
    source = suits().dataset
    assert torch.equal(RenderedClips([], source, frozenset()).surface(1).depth, source.surface(1).depth)


def test_the_suit_leaves_people_and_cameras_as_they_are():
    plain = Synthetic(Synthetic.Config(image_size=SIZE, views=VIEWS, frames=FRAMES), CONTEXT).load(3)
    suit = suits().dataset.load(3)
    assert torch.equal(plain.body.vertices, suit.body.vertices)
    assert torch.equal(plain.cameras.world_to_camera, suit.cameras.world_to_camera)
    assert not torch.equal(plain.frames, suit.frames)


# ---- correspondences -------------------------------------------------------------------------------------------------


def ring(views: int, size: int = 96) -> Cameras:
    angles = torch.arange(views) * (360 / views)
    return orbit(
        angles, elevation_degrees=10.0, distance=3.0, target=torch.zeros(3), fov_degrees=36.0, image_size=(size, size)
    )


def ball_depth(cameras: Cameras, radius: float) -> torch.Tensor:
    """Depth (N, H, W) of a ball around the origin, in closed form; 0 beside it."""
    rays, middle = pixel_rays(cameras), cameras.world_to_camera[:, None, None, :3, 3]
    a, b = rays.square().sum(-1), (rays * middle).sum(-1)
    root = b.square() - a * (middle.square().sum(-1) - radius**2)
    return torch.where(root > 0, (b - root.clamp_min(0).sqrt()) / a, 0.0)


def test_points_of_a_ball_land_where_the_formula_says_and_hidden_ones_do_not():
    cameras, radius = ring(8), 0.6
    surface = Surface(depth=ball_depth(cameras, radius)[:, None])
    source, target = (torch.tensor([[v, 0] for v in views]) for views in (range(8), [*range(1, 8), 0]))
    found = correspondences(surface, cameras[:, None], source, target)
    hit = surface.depth[:, 0] > 0
    points = unproject(surface.depth[:, 0], cameras)
    assert points[hit].norm(dim=-1) == pytest.approx(radius, abs=1e-4)
    expected, _ = project(points.flatten(1, 2), cameras[target[:, 0]])
    torch.testing.assert_close(found.pixels[hit], expected.unflatten(1, (96, 96))[hit])

    def facing(centers: torch.Tensor) -> torch.Tensor:
        away = torch.nn.functional.normalize(centers[:, None, None] - points, dim=-1)
        return (points / radius * away).sum(-1)

    both = torch.minimum(facing(cameras.centers), facing(cameras.centers[target[:, 0]]))
    assert both[found.seen].min() > 0.1, "on the far side, or at a flat angle"
    assert found.seen[hit & (both > 0.5)].float().mean() > 0.99


def test_what_a_near_square_hides_is_not_seen():
    """A wall at z = 0 and before it, for the second camera alone, a small square."""
    cameras = ring(12)[torch.tensor([0, 1])][:, None]
    rays = pixel_rays(cameras[:, 0])
    rotation, centers = cameras.world_to_camera[:, 0, :3, :3], cameras[:, 0].centers
    direction = torch.einsum("vij,vhwi->vhwj", rotation, rays)

    def plane(z: float) -> tuple[torch.Tensor, torch.Tensor]:
        depth = (z - centers[:, None, None, 2]) / direction[..., 2]
        return depth, centers[:, None, None] + depth[..., None] * direction

    wall, _ = plane(0.0)
    near, where = plane(0.4)
    square = (where[..., :2].abs() < 0.2).all(dim=-1)
    depth = torch.stack([wall[0], torch.where(square[1], near[1], wall[1])])[:, None]
    found = correspondences(Surface(depth=depth), cameras, torch.tensor([[0, 0]]), torch.tensor([[1, 0]]))
    points = unproject(wall[:1], cameras[:1, 0])[0]
    pixels, _ = project(points.flatten(0, 1), cameras[1, 0])
    column, row = pixels.floor().long().clamp(0, 95).unflatten(0, (96, 96)).unbind(-1)
    hidden = square[1][row, column]
    inside = ((pixels > 2) & (pixels < 94)).all(dim=-1).unflatten(0, (96, 96))
    inside[[0, -1]] = inside[:, [0, -1]] = False
    assert hidden.sum() > 100
    assert not found.seen[0][hidden].any()
    # A plane is seen wherever nothing stands before it or within a pixel.
    edge = torch.nn.functional.max_pool2d(square[1][None].float(), 3, 1, 1)[0].bool()[row, column]
    assert found.seen[0][inside & ~edge].all()


@pytest.mark.parametrize("across", ["views", "frames"])
def test_corresponding_pixels_show_the_same_place_of_the_body(across):
    """Surface points are painted with their T-pose coordinates, which both pictures must then show."""
    wrong, count = 0, 0
    for index in (0, 5):
        clip, rest = truth(index, 96), suits(96).rest(index).nan_to_num(FAR)
        pairs = [((v, t), ((v + 1) % VIEWS, t)) for v in range(VIEWS) for t in range(FRAMES)]
        if across == "frames":
            pairs = [((v, t), (v, t + 1)) for v in range(VIEWS) for t in range(FRAMES - 1)]
        source, target = (torch.tensor(side) for side in zip(*pairs, strict=True))
        found = correspondences(clip.surface(), clip.cameras, source, target)
        assert (found.seen.sum(dim=(1, 2)) > 40).all()
        there = sample_pixels(rest[tuple(target.T)], found.pixels)
        distance = (there - rest[tuple(source.T)]).norm(dim=1)[found.seen]
        assert distance.max() < 1, "landed beside the person"
        assert distance.median() < 0.004
        # A pixel is 22 mm wide. Where an arm lies against the trunk, depth alone cannot tell them apart.
        wrong, count = wrong + int((distance > 0.03).sum()), count + len(distance)
    assert wrong / count < 0.02


def test_depth_alone_serves_views_but_not_time():
    clip = truth()
    full = clip.surface()
    flat = clip.with_surface(lambda: Surface(depth=full.depth))
    faulty = recoloured(flat, parts(), 1, "pale")
    assert score("cross_view", faulty) == score("cross_view", replace(faulty, surface=clip.surface))
    with pytest.raises(NotAvailable, match="only its depth"):
        make("temporal_warp").measure(faulty)


# ---- registration ----------------------------------------------------------------------------------------------------


def test_the_nearest_move_is_that_of_trying_all():
    random = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, 5, 3, 12, 10, generator=random, dtype=torch.float64)
    reach, expected = 3, []
    for one, other in zip(first, second, strict=True):
        errors = {}
        for y in range(-reach, reach + 1):
            for x in range(-reach, reach + 1):
                a = one[:, max(y, 0) : 12 + min(y, 0), max(x, 0) : 10 + min(x, 0)]
                b = other[:, max(-y, 0) : 12 - max(y, 0), max(-x, 0) : 10 - max(x, 0)]
                errors[x, y] = float((a - b).square().mean())
        expected.append(min(errors, key=errors.__getitem__))
    assert nearest_moves(first, second, reach).tolist() == [list(move) for move in expected]
    flat = torch.ones(1, 3, 12, 10)
    assert nearest_moves(flat, 0.5 * flat, reach).tolist() == [[0, 0]], "of equals the smallest"


@pytest.mark.parametrize(("right", "down"), [(3, 0), (-2, 2), (1, -3)])
def test_a_moved_picture_is_moved_back(right, down):
    picture = truth().truth[0]
    back = moved(shift(picture, right, down).float(), nearest_moves(shift(picture, right, down), picture, 4))
    assert torch.equal(back, picture.float())


# ---- the suit's key points, and triangulation ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [64, 96])
def test_the_suit_tells_where_limbs_are_and_which(size):
    """Middles of what is visible lie near the middles of bones: within two pixels at 64, on the average."""
    regressor = SuitKeypoints()
    for index in (0, 5):
        batch, clip = suits(size).dataset.load(index), truth(index, size)
        pixels, confidence = regressor.locate(clip.truth.flatten(0, 1))
        body = batch.body
        joints = torch.stack(
            [body.joints[0, :, [body.joint_names.index(j) for j in marks]].mean(dim=1) for marks in PARTS.values()],
            dim=1,
        )
        true = project(joints[None], clip.cameras)[0].flatten(0, 1)
        seen = confidence > 0.3
        error = (pixels - true).norm(dim=-1) / size
        assert seen.float().mean() > 0.8
        assert error[seen].mean() < 0.022 and error[seen].quantile(0.95) < 0.07


def test_key_points_move_with_the_picture_and_do_not_depend_on_the_batch():
    regressor, pictures = SuitKeypoints(), truth().truth.flatten(0, 1)
    pixels, confidence = regressor.locate(pictures)
    for right, down in ((3, 0), (-2, 2)):
        there, same = regressor.locate(shift(pictures, right, down))
        expected = pixels + torch.tensor([right, down])
        torch.testing.assert_close(there[same > 0], expected[same > 0], atol=1e-4, rtol=0)
        assert torch.equal(same, confidence)
    alone, alone_confidence = regressor.locate(pictures[5:6])
    assert torch.equal(alone[0], pixels[5]) and torch.equal(alone_confidence[0], confidence[5])


def test_only_people_in_the_suit_are_measured_by_it():
    dataset = Synthetic(Synthetic.Config(image_size=SIZE, views=2, frames=2), CONTEXT)
    for index in range(4):
        batch = dataset.load(index)
        clip = true_clip(batch)
        for name in ("joint_error", "mpjpe"):
            with pytest.raises(NotAvailable, match="synthetic_suit") as caught:
                make(name).measure(clip)
            assert "\n" not in str(caught.value)


def test_triangulation_recovers_points_in_space():
    cameras = ring(5)
    points = torch.rand(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5
    pixels, _ = project(points, cameras.to(torch.float64))
    weights = torch.rand(5, 7, generator=torch.Generator().manual_seed(1)) + 0.1
    # A view without confidence may say anything.
    weights[3, 2], pixels[3, 2] = 0, torch.tensor([7.0, 90.0])
    found = triangulate(pixels, weights, cameras)
    assert (found - points).norm(dim=-1).max() < 1e-5
    one_view = torch.zeros(5, 7)
    one_view[1] = 1
    assert triangulate(pixels, one_view, cameras).isnan().all()


def test_views_from_opposite_sides_do_not_fix_a_point():
    cameras = orbit(
        torch.tensor([0.0, 180.0, 90.0]), elevation_degrees=0.0, distance=3.0, target=torch.zeros(3), fov_degrees=36.0,
        image_size=(64, 64),
    )  # fmt: skip
    point = torch.tensor([[0.01, 0.02, 0.3]])
    pixels, _ = project(point, cameras)
    weights = torch.tensor([[1.0], [1.0], [0.0]])
    assert triangulate(pixels, weights, cameras).isnan().all()
    weights[2] = 0.2
    assert (triangulate(pixels, weights, cameras) - point).abs().max() < 1e-5


def test_a_point_triangulated_far_away_costs_no_more_than_a_missing_one():
    """One foot of one moment that lies 25 m off lifted an arm's mean by 30 to 40 mm."""
    clip, metric, share = truth(), make("mpjpe"), make("pck")
    assert metric.measurement == share.measurement
    kept = dict(metric.measure(clip))
    point = int(np.nanargmax(kept["reach"][1]))
    values = {}
    for name, distance in {"found": 0.0, "missing": np.inf, "astray": 25_000.0}.items():
        changed = kept["distance"].copy()
        changed[1, point] = distance
        measured = {"clip": {**kept, "distance": changed}}
        values[name] = metric.reduce(measured).value, share.reduce(measured).value
    assert values["found"] == (0, 1)
    assert values["astray"] == values["missing"]
    points = np.isfinite(kept["reach"][1]).sum()
    assert values["astray"][0] == pytest.approx(kept["reach"][1, point] / points / FRAMES)
    assert values["astray"][1] == pytest.approx(1 - 1 / points / FRAMES)


def test_a_missing_key_point_counts_as_one_at_the_root():
    true = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 2.0], [9.0, 9.0]])
    root = torch.tensor([True, False, False, False])
    scored, found = torch.tensor([True, True, True, False]), torch.ones(4, dtype=torch.bool)

    def error(points, found=found, scored=scored):
        return float(mean_cost(*distances(points, true, scored, found, root)))

    assert error(true + 5) == 0
    assert error(true + 5, found=torch.tensor([True, False, True, True])) == pytest.approx(5 / 3)
    # Without its root the pose hangs on the points that are left.
    assert error(true + 5, found=torch.tensor([False, True, True, True])) == pytest.approx(0)
    assert error(true, found=torch.zeros(4, dtype=torch.bool)) == pytest.approx(7 / 3)
    # Found badly costs no more than not found, however badly.
    astray = true.clone()
    astray[1] = 1e5
    assert error(astray) == pytest.approx(5 / 3)
    assert math.isnan(error(true, scored=torch.zeros(4, dtype=torch.bool)))


@pytest.mark.parametrize("num_roots", [1, 2, 3])
def test_a_point_of_the_root_that_is_found_badly_costs_no_more_than_one_that_is_not_found(num_roots):
    """It would move all the others."""
    generator = torch.Generator().manual_seed(0)
    root = torch.arange(8) < num_roots
    scored = torch.ones(50, 8, dtype=torch.bool)
    true = torch.randn(50, 8, 3, generator=generator)
    points = true + 0.05 * torch.randn(50, 8, 3, generator=generator)
    for point in range(num_roots):
        missing = torch.arange(8).expand(50, 8) != point
        without = mean_cost(*distances(points, true, scored, missing, root))
        for distance in (0.1, 1.0, 1e5):
            astray = points.clone()
            astray[:, point] += distance * torch.randn(50, 3, generator=generator)
            assert (mean_cost(*distances(astray, true, scored, scored, root)) <= without + 1e-5).all()


# ---- what metrics promise --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GEOMETRY)
@pytest.mark.parametrize("index", [0, 3])
def test_the_truth_has_no_error_at_all(name, index):
    metric = make(name)
    kept = metric.measure(truth(index))
    assert metric.reduce({"clip": kept}).value == 0
    assert metric.definition.startswith(f"{name}/") and re.search(r"/v\d$", metric.definition)
    assert not metric.higher_is_better


def test_the_truth_covers_its_own_silhouette():
    # Less than 1 for thin limbs: coverage of one half is lighter or darker than the rule's threshold as its colour is.
    assert score("mask_iou", truth()) > 0.94


@pytest.mark.parametrize("name", GEOMETRY)
def test_a_moment_scores_the_same_alone(name):
    clip = shifted(recoloured(truth(), parts(), 1, "pale"), [2], 1, 3, 0)
    surface, frames = clip.surface(), slice(1, 3)
    fewer = replace(
        clip,
        prediction=clip.prediction[:, frames],
        truth=clip.truth[:, frames],
        valid=clip.valid[:, frames],
        alpha=clip.alpha[:, frames],
        cameras=clip.cameras[:, frames],
        surface=lambda: Surface(
            depth=surface.depth[:, frames],
            face=surface.face[:, frames],
            barycentric=surface.barycentric[:, frames],
            vertices=surface.vertices[frames],
            faces=surface.faces,
        ),
    )
    kept = "distance" if name == "mpjpe" else "cells"
    whole, part = (torch.from_numpy(make(name).measure(c)[kept]) for c in (clip, fewer))
    if name == "mpjpe":
        # Moments along the first axis; a point that is not found lies nowhere.
        whole, part = (torch.nan_to_num(x, posinf=FAR).T for x in (whole, part))
    count = 1 if name == "temporal_warp" else 2
    torch.testing.assert_close(part[:, :count], whole[:, 1 : 1 + count], rtol=1e-6, atol=1e-9)
    assert (whole > 0).any()


@pytest.mark.parametrize("name", ("cross_view", "temporal_warp", "joint_error"))
def test_padding_has_no_score(name):
    valid = torch.ones(VIEWS, FRAMES, dtype=torch.bool)
    valid[1, 2] = False
    clip = replace(truth(), prediction=shift(truth().truth, 5, 5), valid=valid)
    cells = make(name).measure(clip)["cells"]
    # The last frame has no next.
    assert cells.shape == (VIEWS, FRAMES - (name == "temporal_warp"))
    empty = {
        "cross_view": {(0, 2), (1, 2)},
        "temporal_warp": {(1, 1), (1, 2)},
        "joint_error": {(1, 2)},
    }[name]
    assert {tuple(place) for place in np.argwhere(np.isnan(cells)).tolist()} == empty


def test_padded_views_do_not_count_in_space():
    valid = torch.ones(VIEWS, FRAMES, dtype=torch.bool)
    valid[3] = False
    frames = truth().truth.clone()
    frames[3] = 0
    assert score("mpjpe", replace(truth(), prediction=frames, valid=valid)) == 0


def test_what_is_not_there_is_said():
    for name, missing in (("cross_view", "surface"), ("temporal_warp", "cameras"), ("mpjpe", "cameras")):
        with pytest.raises(NotAvailable, match=missing):
            make(name).measure(replace(truth(), **{missing: None}))
    with pytest.raises(NotAvailable, match="body"):
        make("joint_error", against="projected_joints").measure(replace(truth(), body=None))
    with pytest.raises(ValueError, match="the surface is for"):
        make("cross_view").measure(replace(truth(), surface=suits(96).clip(0).surface))
    with pytest.raises(registry.UnknownPartError, match="Did you mean 'suit'"):
        make("mpjpe", regressor="suti")


def test_one_view_or_one_frame_has_nothing_to_compare():
    dataset = SuitClips(CONTEXT, image_size=32, views=1, frames=1)
    for name in ("cross_view", "temporal_warp", "mpjpe"):
        assert make(name).measure(dataset.clip(0)) == {}


def test_against_the_bodys_own_joints_the_regressors_bias_is_seen():
    error = score("joint_error", truth(), against="projected_joints")
    assert 0.5 < error < 3
    assert score("joint_error", dressed(suits().swapped(0), truth()), against="projected_joints") > 5 * error


class HalfSize(torch.nn.Module):
    """Finds the middle of a picture, and a corner that it is not sure of."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        height, width = pictures.shape[2], pictures.shape[3]
        points = torch.tensor([[width / 2, height / 2, 0.9], [float(width), 0.0, 0.2]])
        return points.expand(pictures.shape[0], 2, 3)


def test_a_torchscript_file_is_a_regressor(tmp_path):
    path = tmp_path / "pose.pt"
    torch.jit.script(HalfSize()).save(str(path))
    settings = {"path": path, "names": ("middle", "corner"), "root": ("middle",), "image_size": (16, 8)}
    metric = make("joint_error", regressor="torchscript", regressor_settings=settings)
    pixels, confidence = metric.regressor.locate(torch.zeros(3, 3, 64, 48, dtype=torch.uint8))
    assert pixels[2].tolist() == [[24, 32], [48, 0]] and confidence[1].tolist() == pytest.approx([0.9, 0.2])
    assert list(metric.networks) == ["pose.pt"] and metric.networks["pose.pt"].startswith("sha256:")
    assert score("joint_error", truth(), regressor="torchscript", regressor_settings=settings) == 0
    for changes, error, message in (
        ({"path": tmp_path / "none.pt"}, NotAvailable, "none.pt"),
        ({"root": ("hip",)}, ValueError, "hip is not among the key points middle, corner"),
        ({"path": __file__}, HvgError, "TorchScript"),
    ):
        with pytest.raises(error, match=message):
            make("joint_error", regressor="torchscript", regressor_settings=settings | changes)
    with pytest.raises(HvgError, match=r"expected \(N, K, 3\)"):
        wrong = settings | {"names": ("middle", "corner", "nose")}
        make("joint_error", regressor="torchscript", regressor_settings=wrong).measure(truth())


# ---- the fault matrix ------------------------------------------------------------------------------------------------

ALL = list(range(VIEWS))


def faults(index: int, size: int) -> dict[str, ScoredClip]:
    clip, where = truth(index, size), parts(index, size)
    return {
        "shirt of one view, pale": recoloured(clip, where, 1, "pale"),
        "shirt of one view, grey": recoloured(clip, where, 1, "grey"),
        "one frame of all views, 3 right": shifted(clip, ALL, 1, 3, 0),
        "one frame of all views, 2 left 2 down": shifted(clip, ALL, 1, -2, 2),
        "one frame of one view, 3 right": shifted(clip, [2], 1, 3, 0),
        "one frame of all views, darker": darker(clip, 1),
        "left and right swapped": dressed(suits(size).swapped(index), clip),
        "a pixel thicker": dilated(clip),
    }


# Which metrics a fault is for, and how many times more than any other they have to respond. A grey shirt is no shirt of
# the suit: its key point is lost in that view, and counts. A pixel more around every limb hides and moves its neighbours.
OWN = {
    "shirt of one view, pale": ({"cross_view"}, 8),
    "shirt of one view, grey": ({"cross_view"}, 2),
    "one frame of all views, 3 right": ({"temporal_warp"}, 100),
    "one frame of all views, 2 left 2 down": ({"temporal_warp"}, 100),
    "one frame of one view, 3 right": ({"temporal_warp"}, 100),
    "one frame of all views, darker": ({"temporal_warp"}, 8),
    "left and right swapped": ({"joint_error", "mpjpe"}, 10),
    "a pixel thicker": ({"mask_iou"}, 2),
}


def responses(index: int, size: int) -> dict[str, dict[str, float]]:
    """Fault -> metric -> what it says of the fault, over what it says of another person's clip; of an IoU, what it loses."""
    clip = truth(index, size)
    metrics = (*GEOMETRY, "mask_iou")
    ideal = {name: score(name, clip) for name in metrics}
    scale = {name: score(name, dressed(truth(index + 1, size).truth, clip)) for name in metrics}
    return {
        fault: {name: (score(name, faulty) - ideal[name]) / (scale[name] - ideal[name]) for name in metrics}
        for fault, faulty in faults(index, size).items()
    }


def check_responses(found: dict[str, dict[str, float]]) -> None:
    for fault, (own, times) in OWN.items():
        response = found[fault]
        # A silhouette that is moved no longer covers its own: an overlap cannot but see it. One frame of four is.
        others = {name: value for name, value in response.items() if name not in own}
        if "frame" in fault:
            assert others.pop("mask_iou") < 0.35, (fault, response)
        least = min(response[name] for name in own)
        assert least > 0.2, (fault, response)
        assert least > times * max(others.values()), (fault, response)


def test_each_fault_moves_its_own_metric_and_not_the_others():
    check_responses(responses(0, SIZE))


@pytest.mark.long
@pytest.mark.parametrize(("index", "size"), [(3, 64), (5, 64), (0, 96), (3, 96), (5, 96)])
def test_each_fault_moves_its_own_metric_for_other_people_and_sizes(index, size):
    check_responses(responses(index, size))


def test_a_shirt_is_seen_in_whichever_view_it_differs_but_not_in_all():
    clip = truth(5)
    scale = {name: score(name, dressed(truth(6).truth, clip)) for name in ("cross_view", "temporal_warp")}
    everywhere = clip
    for view in ALL:
        assert score("cross_view", recoloured(clip, parts(5), view, "pale")) > 0.3 * scale["cross_view"]
        everywhere = recoloured(everywhere, parts(5), view, "pale")
    for name, value in scale.items():
        assert score(name, everywhere) < 0.05 * value
