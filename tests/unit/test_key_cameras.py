"""Cameras that are edited by hand: keys, what is between them, and the file that is saved."""

from dataclasses import replace

import pytest
import torch

from hvg.config.command_options import SampleOptions
from hvg.config.view_options import ViewOptions
from hvg.core.errors import HvgError
from hvg.geometry.camera_moves import arced, common_point, dollied, over_time, shaken, through_keys
from hvg.geometry.rotations import rotation_matrix
from hvg.sample.asked_path import camera_file
from hvg.sample.camera_paths import read_cameras
from hvg.values.cameras import look_at, orbit
from hvg.view.key_cameras import MOST_KEYS, EditedPath

TARGET, FRAMES = torch.tensor([0.2, 1.0, -0.3]), 13


def still(count=2):
    optics = {"elevation_degrees": 12.0, "distance": 3.0, "target": TARGET, "fov_degrees": 36.0, "image_size": (48, 64)}
    return over_time(orbit(torch.arange(count) * 90.0, **optics), FRAMES)


def moving():
    """One that goes around by 100 degrees and towards the person, and one that goes away."""
    cameras = dollied(still(), torch.tensor([1.0, -0.5]))
    return arced(cameras, TARGET, torch.tensor([100.0, 0.0]))


def path(cameras):
    return EditedPath(given=cameras, target=TARGET)


@pytest.mark.parametrize("places", [[0, 12], [0, 5, 12], [0, 1, 2, 12]])
def test_between_keys_of_an_arc_and_a_dolly_cameras_are_on_them(places):
    cameras = moving()
    for track in (cameras[0], cameras[1]):
        found = through_keys(track[places], torch.tensor(places), FRAMES, TARGET)
        assert torch.allclose(found, track.world_to_camera, atol=2e-6)
        assert torch.equal(found[places], track.world_to_camera[places])


def test_a_camera_stands_before_its_first_key_and_after_its_last():
    track = moving()[0]
    found = through_keys(track[[3, 8]], torch.tensor([3, 8]), FRAMES, TARGET)
    assert torch.equal(found[:3], track.world_to_camera[3].expand(3, 4, 4))
    assert torch.equal(found[9:], track.world_to_camera[8].expand(4, 4, 4))
    assert torch.equal(through_keys(track[[4]], torch.tensor([4]), 2, TARGET), track.world_to_camera[4].expand(2, 4, 4))


def test_a_camera_that_looks_past_the_target_or_away_from_it_still_is_where_its_keys_are():
    away = look_at(torch.tensor([[0.0, 1.0, 3.0], [2.0, 1.5, 3.0]]), torch.tensor([[0.0, 1.0, 9.0], [-4.0, 1.0, 2.0]]))
    keys = replace(still(1)[0, :2], world_to_camera=away)
    found = through_keys(keys, torch.tensor([0, 4]), 5, TARGET)
    assert torch.equal(found[[0, 4]], away) and bool(found.isfinite().all())
    rotation = found[:, :3, :3]
    assert torch.allclose(rotation @ rotation.mT, torch.eye(3).expand(5, 3, 3), atol=1e-5)


def test_the_point_that_cameras_look_at_is_found_and_else_taken_from_elsewhere():
    assert torch.allclose(common_point(still(), torch.zeros(3)), TARGET, atol=2e-3)
    alone = still(1)
    forward, center = alone.world_to_camera[0, 0, 2, :3], alone.centers[0, 0]
    found = common_point(alone, center + 5 * forward)
    assert torch.allclose(found, center + 5 * forward, atol=1e-2)


def test_what_nobody_edits_stays_to_the_bit_whatever_it_does():
    held = shaken(moving(), 2.0, torch.randn(2, FRAMES, 6, generator=torch.Generator().manual_seed(0)))
    edited = path(held).put(0, 4, held.world_to_camera[0, 0])
    now = edited.cameras()
    assert torch.equal(now.world_to_camera[1], held.world_to_camera[1])
    assert torch.equal(now.world_to_camera[0, 4], held.world_to_camera[0, 0])
    assert torch.equal(now.intrinsics, held.intrinsics)
    assert torch.equal(edited.reset(0).cameras().world_to_camera, held.world_to_camera)


def test_a_camera_that_stands_has_one_key_and_moves_whole_with_it():
    edited = path(still())
    assert [*edited.keys(0)] == [0]
    pose = still().world_to_camera[1, 0]
    assert torch.equal(edited.put(0, 0, pose).cameras().world_to_camera[0], pose.expand(FRAMES, 4, 4))
    two = edited.put(0, 12, pose)
    assert [*two.keys(0)] == [0, 12]
    middle = two.cameras()[0, 6]
    # Half way round the person, as far from them.
    assert float((middle.centers - TARGET).norm()) == pytest.approx(3.0, abs=1e-4)


def test_a_moving_camera_has_as_few_keys_as_give_its_path_again():
    assert [*path(moving()).keys(0)] == [0, 12] == [*path(moving()).keys(1)]
    # By half a turn and more the shortest way between two keys is the other one.
    round_about = arced(still(1), TARGET, torch.tensor([300.0]))
    assert [*path(round_about).keys(0)] == [0, 6, 12]
    held = shaken(still(1), 3.0, torch.randn(1, FRAMES, 6, generator=torch.Generator().manual_seed(1)))
    assert len(path(held).keys(0)) == MOST_KEYS


def test_keys_are_added_where_the_camera_is_and_removed_but_for_the_last():
    edited = path(moving()).put(0, 5)
    assert [*edited.keys(0)] == [0, 5, 12]
    assert torch.allclose(edited.cameras().world_to_camera, moving().world_to_camera, atol=2e-6)
    assert [*edited.without(0, 0).without(0, 12).keys(0)] == [5]
    with pytest.raises(HvgError, match="the last key of a camera stays"):
        edited.without(0, 0).without(0, 12).without(0, 5)
    with pytest.raises(HvgError, match="no key in frame 3; there are some in 0, 5, 12"):
        edited.without(0, 3)


def test_a_path_that_was_edited_is_saved_as_a_sample_takes_it(tmp_path, monkeypatch):
    pytest.importorskip("viser")
    from hvg.view.server import Saver

    monkeypatch.chdir(tmp_path)
    options = ViewOptions()
    turn = torch.eye(4, dtype=torch.float64)
    turn[:3, :3] = rotation_matrix(torch.tensor([[0.0, 0.2, 0.1]], dtype=torch.float64))[0]
    edited = path(moving()).put(0, 7, turn @ moving().world_to_camera[0, 7].double())
    save = Saver(options, ("front", "left"))
    assert save(edited) == "cameras.json: 2 camera(s), 13 frame(s); hvg sample camera=cameras.json takes them"
    found = camera_file(SampleOptions(checkpoint="a", reference="b.png", motion="c.npz", camera="cameras.json"))
    assert found is not None and found.names == ("front", "left") and found.num_frames == FRAMES
    assert torch.equal(found.cameras.world_to_camera, edited.cameras().world_to_camera)
    assert torch.equal(found.cameras.intrinsics, edited.cameras().intrinsics)
    assert found.cameras.image_size == (48, 64)
    # Again into its own file; into somebody's only when it is said.
    save(edited.reset(0))
    assert torch.equal(read_cameras(options.out).cameras.world_to_camera, moving().world_to_camera)
    with pytest.raises(HvgError, match=r"cameras\.json exists already"):
        Saver(options, ("front", "left"))(edited)
    Saver(ViewOptions(overwrite=True), ("front", "left"))(edited)
    assert torch.equal(read_cameras(options.out).cameras.world_to_camera, edited.cameras().world_to_camera)


def test_a_port_that_is_taken_is_left_and_a_host_that_is_not_there_is_told():
    pytest.importorskip("viser")
    import socket

    from hvg.view.listening import free_port

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port < free_port("127.0.0.1", port) < port + 100
    assert free_port("127.0.0.1", 0) == 0
    with pytest.raises(
        HvgError, match=r"host=203.0.113.7 port=8080: nothing can listen there: .*; give host=127.0.0.1"
    ):
        free_port("203.0.113.7", 8080)
