"""Moves of cameras: what is made is found, in numbers and in words; what conditioners, data and samples make of them."""

from dataclasses import replace

import pytest
import torch

from components.nn.camera_words import HANDHELD, longest, said, sentence, told_cameras
from components.people.moving_cameras import MovingCamerasConfig, moving
from hvg.core.errors import HvgError
from hvg.core.on_device import values_of
from hvg.core.random_keys import generator
from hvg.geometry.camera_moves import (
    MOVES,
    arced,
    camera_moves,
    dollied,
    frame_by_frame,
    over_time,
    pairs,
    shaken,
    unrest,
)
from hvg.geometry.rotations import rotation_matrix
from hvg.parts import registry
from hvg.testing import build, nudged, tiny_batch, tiny_context
from hvg.values.cameras import Cameras, orbit
from hvg.values.clip import ClipBatch
from hvg.values.latent_clip import grouped

FRAMES, DISTANCE = 8, 3.0
TARGET = torch.tensor([0.1, 1.0, -0.2])
AZIMUTHS = torch.tensor([0.0, 45.0, 180.0, -90.0])
ONE = torch.ones(len(AZIMUTHS))


def still(elevation=10.0) -> Cameras:
    """Four cameras around a point 3.2 m away, which is not what is assumed where it does not show."""
    optics = {"distance": 3.2, "target": TARGET, "fov_degrees": 36.0, "image_size": (64, 64)}
    return over_time(orbit(AZIMUTHS, elevation_degrees=elevation, **optics), FRAMES)


def with_poses(cameras: Cameras, poses: torch.Tensor) -> Cameras:
    return replace(cameras, world_to_camera=poses)


def turned(axis: int, degrees: float) -> Cameras:
    """Cameras that turn on the spot around their own axis (right, down, forward)."""
    angle = torch.zeros(FRAMES, 3)
    angle[:, axis] = torch.deg2rad(torch.linspace(0, degrees, FRAMES))
    off = torch.eye(4).repeat(FRAMES, 1, 1)
    off[:, :3, :3] = rotation_matrix(angle)
    # Level cameras, or a turn would be a pan and a roll.
    return with_poses(still(0.0), off @ still(0.0).world_to_camera)


def shifted(axis: int, metres: float) -> Cameras:
    poses = still().world_to_camera.clone()
    poses[..., axis, 3] -= torch.linspace(0, metres, FRAMES)
    return with_poses(still(), poses)


def told(cameras: Cameras, **more) -> ClipBatch:
    return ClipBatch(cameras=cameras[None], clip_id=("a",), subject=("a",), **more)


def sentences(cameras: Cameras) -> list[str]:
    place, path, shaking = told_cameras(told(cameras), 1, DISTANCE)
    return [
        sentence(said(b)[0].tolist(), float(c[0]), said(a)[0].tolist())
        for a, b, c in zip(place.unbind(1), path.unbind(1), shaking.unbind(1), strict=True)
    ]


MADE = {
    "arc left": (arced(still(), TARGET, -45 * ONE), {"orbit": -45}),
    "arc right, more than half": (arced(still(), TARGET, 200 * ONE), {"orbit": 200}),
    "all around": (arced(still(), TARGET, 360 * ONE), {"orbit": 360}),
    "dolly in": (dollied(still(), 0.5 * ONE), {"push": 0.5}),
    "dolly out": (dollied(still(), -0.7 * ONE), {"push": -0.7}),
    "arc and dolly": (arced(dollied(still(), 0.4 * ONE), TARGET, 30 * ONE), {"orbit": 30, "push": 0.4}),
    "pan left": (turned(1, 20), {"pan": 20}),
    "tilt": (turned(0, 15), {"tilt": 15}),
    "roll": (turned(2, 10), {"roll": 10}),
    "truck": (shifted(0, 1.0), {"truck": 1.0}),
    "boom": (shifted(1, -0.5), {"boom": 0.5}),
    "nothing": (still(), {}),
}


@pytest.mark.parametrize("case", MADE)
def test_what_is_made_is_found(case):
    cameras, expected = MADE[case]
    found = camera_moves(cameras, DISTANCE)
    wanted = torch.tensor([float(expected.get(move, 0.0)) for move in MOVES])
    assert found.shape == (4, 8)
    torch.testing.assert_close(found, wanted.expand(4, 8), atol=0.02, rtol=1e-3)
    assert float(unrest(cameras).max()) < 0.05


def test_an_orbit_upwards_is_one():
    places = [
        orbit(
            AZIMUTHS,
            elevation_degrees=height,
            distance=3.2,
            target=TARGET,
            fov_degrees=36.0,
            image_size=(64, 64),
        )
        for height in (0.0, 15.0, 30.0)
    ]
    poses = torch.stack([x.world_to_camera for x in places], dim=1)
    cameras = replace(places[0][:, None].expand(4, 3), world_to_camera=poses)
    found = camera_moves(cameras, DISTANCE)
    assert torch.allclose(found[:, 1], torch.full((4,), 30.0), atol=0.02)
    assert float(found.abs().sum(dim=-1).max()) < 30.1


def test_places_are_told_from_the_first_view():
    found = camera_moves(pairs(still()[:1, 0], still()[:, 0]), DISTANCE)
    assert torch.allclose(found[[0, 1, 3], 0], torch.tensor([0.0, 45.0, -90.0]), atol=0.02)
    assert abs(float(found[2, 0])) == pytest.approx(180, abs=0.02)
    assert float(found[:, 1:].abs().max()) < 0.02


def test_unrest_is_what_was_shaken_and_no_move_is():
    off = torch.randn(4, 400, 6, generator=generator("unrest"))
    cameras = still()[:, :1].expand(4, 400)
    assert torch.allclose(unrest(shaken(cameras, 0.8, off)), torch.full((4,), 0.8), atol=0.06)
    assert not unrest(cameras[:, :2]).any()


def test_words_say_what_moves():
    assert sentences(still()) == [
        "first view: static",
        "45 degrees to the right: static",
        "180 degrees to the right: static",
        "90 degrees to the left: static",
    ]
    assert sentences(MADE["arc left"][0])[0] == "first view: orbit left by 45 degrees"
    assert sentences(MADE["dolly out"][0])[1] == "45 degrees to the right: pull back by 0.7 metres"
    assert sentences(MADE["arc and dolly"][0])[0] == "first view: orbit right by 30 degrees, push in by 0.4 metres"
    off = torch.randn(4, FRAMES, 6, generator=generator("hand"))
    assert sentences(shaken(still(), 0.6, off))[0] == "first view: handheld"


def test_only_the_largest_moves_are_said_and_rounded():
    moves = torch.tensor([44.0, 12.0, 0.0, 6.0, 0.0, 0.26, 0.0, -2.04])
    assert said(moves).tolist() == pytest.approx([45.0, 0.0, 0.0, 0.0, 0.0, 0.3, 0.0, -2.0])
    assert sentence([0.0] * 8, HANDHELD / 2) == "static"
    assert sentence([0.0] * 8, HANDHELD) == "handheld"
    everything = sentence([100.0] * 3 + [0.0] * 5, 1.0, [100.0] * 3 + [0.0] * 5)
    assert len(everything) <= len(longest()) < 192


def test_the_sentence_is_of_the_frames_that_are_seen_together():
    part = conditioner("camera_prompt")
    half = part.sentences(told(arced(still(), TARGET, -70 * ONE)[:, :4]))
    assert half[0] == "first view: orbit left by 30 degrees"
    # A window of other views tells the same of each, for it knows the first one.
    batch = told(still())
    assert part.sentences(batch.select([1, 3], range(FRAMES))) == [part.sentences(batch)[view] for view in (1, 3)]


def test_frames_that_stand_for_one_latent_frame_are_no_pause():
    part = conditioner("camera_prompt", tiny_context(temporal_stride=2))
    moved = told(arced(still()[:, :5], TARGET, 40 * ONE))
    assert part.sentences(grouped(moved, 2)) == conditioner("camera_prompt").sentences(moved)


def conditioner(name, context=None, **settings):
    part = registry.load("conditioner", name)
    return build(part, part.Config(**settings), context or tiny_context())


def test_words_and_numbers_tell_the_same():
    """Equal sentences are equal numbers as said, and the other way round."""
    words, numbers = conditioner("camera_prompt"), conditioner("camera_moves", values="as_said")
    off = torch.randn(4, FRAMES, 6, generator=generator("hand"))
    clips = [told(x) for x in (still(), MADE["arc left"][0], MADE["dolly in"][0], shaken(still(), 0.6, off))]
    texts = [text for clip in clips for text in words.sentences(clip)]
    rows = [tuple(row) for clip in clips for row in numbers.numbers(clip)[0].abs().tolist()]
    signed = [tuple(row) for clip in clips for row in numbers.numbers(clip)[0].tolist()]
    assert len({*texts}) == len({*rows}) == 16
    assert all(abs(value) <= 2 for row in signed for value in row)
    exact = conditioner("camera_moves").numbers(told(MADE["arc left"][0]))
    assert torch.allclose(exact[0, 0, 8], torch.tensor(-0.25), atol=1e-3)


def test_every_view_has_its_own_tokens_and_the_path_alone_may_be_told():
    part = nudged(conditioner("camera_prompt"))
    batch = told(still())
    found = part(None, batch).text
    assert found.shape[:3] == (1, 4, 1) and not torch.equal(found[0, 0], found[0, 1])
    alone = nudged(conditioner("camera_prompt", tells="path"))(None, batch).text
    assert torch.equal(alone[0, 0], alone[0, 3])


def test_an_encoder_that_takes_no_whole_sentence_is_refused():
    with pytest.raises(HvgError, match=r"camera\.encoder_settings\.max_tokens: learned gives 8, .* takes up to 48"):
        conditioner("camera_prompt", encoder_settings={"max_tokens": 8})


def test_a_step_that_is_only_counted_has_a_sentence_too():
    with torch.device("meta"):
        assert values_of(torch.zeros(3)) is None
    assert values_of(torch.ones(2)) == [1.0, 1.0]


# --- drawn clips and samples ---


def test_drawn_moves_are_as_large_as_asked_for():
    config = MovingCamerasConfig(camera_moves=("arc",), arc_degrees=40.0)
    found = camera_moves(moving(still(), TARGET, config, "test"), DISTANCE)[:, 0].abs()
    assert ((found > 9.9) & (found < 40.1)).all() and len({round(x, 2) for x in found.tolist()}) == 4
    again = moving(still(), TARGET, config, "test")
    assert torch.equal(again.world_to_camera, moving(still(), TARGET, config, "test").world_to_camera)
    fixed = moving(still(), TARGET, MovingCamerasConfig(), "test")
    assert torch.equal(fixed.world_to_camera, still().world_to_camera)
    for move, number in (("dolly", MOVES.index("push")), ("shake", None)):
        moved = moving(still(), TARGET, MovingCamerasConfig(camera_moves=(move,)), "test")
        found = unrest(moved) if number is None else camera_moves(moved, DISTANCE)[:, number].abs()
        assert (found > 0.1).all(), move


def test_cameras_go_frame_by_frame():
    moved = arced(still(), TARGET, 45 * ONE)
    flat = frame_by_frame(moved, FRAMES)
    assert torch.equal(flat.world_to_camera[5], moved.world_to_camera[1, 1])
    fixed = frame_by_frame(still()[:, 0], FRAMES)
    assert torch.equal(fixed.world_to_camera, frame_by_frame(still(), FRAMES).world_to_camera)


def test_a_batch_of_the_tests_stands_still():
    place, path, shaking = told_cameras(tiny_batch(), 1, DISTANCE)
    assert place.shape == path.shape == (*tiny_batch().grid[:2], 8) and not said(path).any() and not shaking.any()
