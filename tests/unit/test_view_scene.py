"""What `hvg view` shows at a time, without a browser: people, cameras and pictures of clips and of requests."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from motion_files import save_motion
from PIL import Image

from hvg import cli
from hvg.config.build import load_clip
from hvg.config.command_options import SampleOptions
from hvg.config.composition import compose
from hvg.config.view_options import ViewOptions
from hvg.core.eight_bit import frames_from_uint8, frames_to_uint8
from hvg.geometry.motion import Motion
from hvg.geometry.motion_files import load_motion
from hvg.geometry.skeleton import BONES, JOINTS
from hvg.media.images import write_png
from hvg.model.load import build_system
from hvg.sample.camera_paths import around, write_cameras
from hvg.sample.request import make_clip
from hvg.testing import tiny_batch
from hvg.values.cameras import Cameras, project
from hvg.view.clips import clip_scene
from hvg.view.drawing import unit_ball
from hvg.view.pictures import PICTURE_SIDE, small_pictures
from hvg.view.requests import request_scene
from hvg.view.scene import FITTED, PLAIN, TRUE, fitting_distance, moment, picture_corners, rotation_of


@pytest.fixture(scope="module")
def clip():
    return tiny_batch(1, views=3, frames=4)


@pytest.fixture
def motion(tmp_path):
    """A file of eight frames, in which somebody walks a metre."""
    angles = torch.linspace(0, 1, 8)[:, None] * torch.tensor([1.0, 0.0, 0.0])
    way = torch.linspace(0, 1, 8)[:, None] * torch.tensor([0.0, 0.0, 1.0])
    rotations = {"left_shoulder": angles, "pelvis": 0 * angles}
    save_motion(tmp_path / "walk.npz", Motion(rotations=rotations, translation=way, frames_per_second=30.0))
    return tmp_path / "walk.npz"


# --- people -------------------------------------------------------------------------------------------------------------


def test_a_moment_of_a_clip_is_its_body_in_that_frame(clip):
    scene = clip_scene(clip, "a clip", 8.0)
    assert scene.num_frames == 4 and scene.names == ("view 0", "view 1", "view 2") and scene.rate == 8.0
    for frame in (0, 3):
        (person,) = moment(scene, frame, 0.3).figures
        joints = clip.body.joints[0, frame]
        assert np.array_equal(person.mesh, clip.body.vertices[0, frame].numpy())
        assert np.array_equal(person.joints, joints.numpy())
        ends = [[joints[JOINTS.index(joint)].tolist() for joint in bone] for bone in BONES]
        assert np.allclose(person.bones, ends)


def test_ellipsoids_reach_from_joint_to_joint_and_are_as_thick_as_the_bones(clip):
    (person,) = moment(clip_scene(clip, "a clip", 8.0), 2, 0.3).figures
    balls = person.ellipsoids
    turn = torch.stack([rotation_of(x) for x in balls.rotation]).float().numpy()
    assert np.allclose(np.linalg.det(turn), 1, atol=1e-5)
    tips = balls.center + balls.half_axes[:, 2:] * turn[:, :, 2]
    assert np.allclose(tips, person.bones[:, 1], atol=1e-5)
    assert np.allclose(2 * balls.center - tips, person.bones[:, 0], atol=1e-5)
    assert np.allclose(balls.half_axes[:, :2], clip.body.bone_radii[0].numpy()[:, None])
    left, right = (BONES.index((f"{side}_shoulder", f"{side}_elbow")) for side in ("left", "right"))
    assert balls.colour[left, 0] > balls.colour[left, 2] and balls.colour[right, 2] > balls.colour[right, 0]


def test_a_true_and_a_fitted_body_are_two_people_in_two_colours(tiny):
    clip = load_clip(compose([*tiny, "fit=severe"]), "test", 1)
    scene = clip_scene(clip, "a clip", 8.0)
    assert [(person.name, person.colour) for person in scene.figures] == [("true", TRUE), ("fitted", FITTED)]
    true, fitted = moment(scene, 1, 0.3).figures
    assert np.array_equal(true.mesh, clip.true_body.vertices[0, 1].numpy())
    assert np.array_equal(fitted.mesh, clip.body.vertices[0, 1].numpy())
    assert np.abs(true.joints - fitted.joints).max() > 0.01
    assert (true.ellipsoids.colour == TRUE).all() and (fitted.ellipsoids.colour == FITTED).all()
    (alone,) = clip_scene(replace(clip, true_body=None), "a clip", 8.0).figures
    assert alone.colour == PLAIN and len(np.unique(alone.bone_colours(), axis=0)) > 4


def test_a_body_without_some_joints_or_a_mesh_is_shown_as_far_as_it_goes(clip):
    few = replace(clip.body.without_mesh(), joints=clip.body.joints[:, :, :5], joint_names=JOINTS[:5])
    scene = clip_scene(replace(clip, body=few), "a clip", 8.0)
    (person,) = moment(scene, 0, 0.3).figures
    assert person.mesh is None and person.ellipsoids is None and person.bones is None
    assert person.joints.shape == (5, 3)
    assert moment(clip_scene(replace(clip, body=None), "a clip", 8.0), 0, 0.3).figures == ()


def test_the_floor_is_where_people_stand(clip):
    body = clip.body.without_mesh()
    lowest = float(body.joints[..., 1].min())
    near = body.shifted(torch.tensor([0.0, 0.05 - lowest, 0.0]).expand(1, 4, 3))
    high = body.shifted(torch.tensor([0.0, 3.0 - lowest, 0.0]).expand(1, 4, 3))
    floors = [clip_scene(replace(clip, body=x), "a clip", 8.0).floor for x in (near, high)]
    assert floors == pytest.approx([0.0, 3.0], abs=1e-5)


# --- cameras ------------------------------------------------------------------------------------------------------------


def off_centre() -> Cameras:
    """Three cameras whose lenses are no two alike, none in the middle of its picture."""
    cameras = tiny_batch(1, views=3, frames=1).cameras[0, :, 0]
    lenses = torch.tensor([[[50.0, 0, 10], [0, 60, 20], [0, 0, 1]], [[70.0, 2, 40], [0, 70, 5], [0, 0, 1]]])
    return replace(cameras, intrinsics=torch.cat([cameras.intrinsics[:1], lenses]), image_size=(24, 48))


def test_corners_of_pictures_are_where_the_cameras_see_the_corners_of_their_pixels():
    cameras = off_centre()
    pixels, depth = project(picture_corners(cameras, 0.4), cameras)
    corners = torch.tensor([[0.0, 0.0], [48.0, 0.0], [48.0, 24.0], [0.0, 24.0]])
    assert torch.allclose(pixels, corners.expand(3, 4, 2), atol=1e-3) and torch.allclose(depth, torch.tensor(0.4))


def test_a_shown_camera_is_the_camera(clip):
    scene = clip_scene(clip, "a clip", 8.0)
    for v, shown in enumerate(moment(scene, 1, 0.4).cameras):
        camera = clip.cameras[0, v, 1]
        assert np.allclose(shown.center, camera.centers.numpy())
        assert torch.allclose(rotation_of(shown.rotation).float(), camera.world_to_camera[:3, :3].mT, atol=1e-5)
        # A pyramid of 40 degrees.
        assert shown.picture_size == pytest.approx([2 * 0.4 * np.tan(np.radians(20))] * 2, rel=1e-4)


def test_pictures_are_those_that_the_cameras_saw_in_that_frame(clip):
    shown = moment(clip_scene(clip, "a clip", 8.0), 2, 0.3).cameras
    for v, camera in enumerate(shown):
        assert np.array_equal(camera.picture, frames_to_uint8(clip.frames[0, v, 2]).movedim(0, -1).numpy())
    blind = moment(clip_scene(replace(clip, frames=None), "a clip", 8.0), 2, 0.3).cameras
    assert [camera.picture for camera in blind] == [None] * 3


def test_a_camera_that_was_moved_shows_no_picture(clip):
    scene = clip_scene(clip, "a clip", 8.0)
    poses = scene.cameras.world_to_camera.clone()
    poses[1, 2:, 0, 3] += 0.1
    moved = replace(scene, cameras=replace(scene.cameras, world_to_camera=poses))
    seen = [[camera.picture is not None for camera in moment(moved, frame, 0.3).cameras] for frame in (1, 2)]
    assert seen == [[True, True, True], [True, False, True]]
    assert not np.allclose(moment(moved, 2, 0.3).cameras[1].corners, moment(scene, 2, 0.3).cameras[1].corners)


@pytest.mark.parametrize("size", [(40, 30), (600, 300), (3 * PICTURE_SIDE, 2)])
def test_pictures_keep_their_shape_and_colours_and_become_no_larger_than_they_are_shown(size):
    frames = torch.full((2, 3, *size), 7, dtype=torch.uint8)
    frames[:, 0] = 200
    found = small_pictures(frames)
    height, width = found.shape[1:3]
    assert found.shape[0] == 2 and found.dtype == np.uint8 and max(height, width) == min(max(size), PICTURE_SIDE)
    assert height / width == pytest.approx(size[0] / size[1], rel=0.02) or min(height, width) == 1
    assert (found[..., 0] == 200).all() and (found[..., 1:] == 7).all()


def test_pictures_stand_neither_in_the_way_nor_out_of_sight(clip):
    far = clip.cameras.world_to_camera.clone()
    far[..., :3, 3] *= 100
    both = (clip.cameras, replace(clip.cameras, world_to_camera=far))
    distances = [fitting_distance(clip_scene(replace(clip, cameras=x), "a clip", 8.0)) for x in both]
    assert distances[0] == pytest.approx(0.13 * 3.0, rel=0.05) and distances[1] == 1.0


# --- what a sample would be asked ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [{"camera": "orbit", "views": 3}, {"camera": "static", "arc_degrees": 40.0, "shake_degrees": 0.5}]
)
def test_a_request_is_shown_as_a_sample_would_be_made_of_it(tiny, motion, words):
    config = compose(tiny)
    asked = {"motion": motion, "frames": 5, "start": 1, "reference_height": 1.6, "seed": 4, **words}
    scene = request_scene(ViewOptions(**asked), tiny)
    options = SampleOptions(checkpoint="a.ckpt", reference="a.png", **asked)
    batch, names, said = make_clip(
        build_system(config), config, options, load_motion(motion), None, Image.new("RGBA", (32, 32), "red")
    )
    assert torch.equal(scene.cameras.world_to_camera, batch.cameras.world_to_camera[0]) and scene.names == names
    assert torch.equal(scene.cameras.intrinsics, batch.cameras.intrinsics[0])
    for frame in range(5):
        (person,) = moment(scene, frame, 0.3).figures
        assert np.allclose(person.joints, batch.body.joints[0, frame, : len(JOINTS)].numpy(), atol=1e-6)
    assert person.mesh is not None and moment(scene, 0, 0.3).cameras[0].picture is None
    about_motion = [note for note in scene.notes if "of the motion's" in note or "m tall" in note]
    assert len(about_motion) == 2 and set(about_motion) <= set(said)


def test_captured_cameras_of_a_request_stand_there_with_their_pictures(tiny, motion, tmp_path):
    optics = {"elevation_degrees": 5.0, "distance": 3.2, "fov_degrees": 36.0, "image_size": (32, 32)}
    captured = around(torch.tensor([0.0, 0.9, 0.5]), 3, **optics)
    write_cameras(tmp_path / "known" / "cameras.json", captured.cameras[1:2], ["side"])
    write_png(
        tmp_path / "known" / "images" / "side.png", frames_from_uint8(torch.full((3, 32, 32), 90, dtype=torch.uint8))
    )
    asked = ViewOptions(motion=motion, camera="static", frames=1, known=tmp_path / "known")
    scene = request_scene(asked, tiny)
    made, given = moment(scene, 0, 0.3).cameras
    assert (made.picture, given.name) == (None, "side") and np.allclose(given.picture, 90, atol=1)
    assert np.allclose(given.center, captured.cameras[1, 0].centers.numpy(), atol=1e-5)


def test_without_a_motion_somebody_stands_before_the_cameras(tiny, tmp_path):
    path = around(
        torch.tensor([0.0, 0.9, 0.0]), 2, elevation_degrees=0.0, distance=2.5, fov_degrees=40.0, image_size=(32, 48)
    )
    write_cameras(tmp_path / "two.json", path.cameras, ["a", "b"])
    scene = request_scene(ViewOptions(camera=str(tmp_path / "two.json"), frames=3), tiny)
    assert scene.names == ("a", "b") and torch.equal(
        scene.cameras[:, 2].world_to_camera, path.cameras[:, 0].world_to_camera
    )
    first, last = (moment(scene, frame, 0.3).figures[0].joints for frame in (0, 2))
    assert np.array_equal(first, last) and "stands" in scene.title
    assert torch.allclose(scene.target, torch.tensor([0.0, 0.9, 0.0]), atol=0.05)


# --- words --------------------------------------------------------------------------------------------------------------


def test_a_word_tells_what_is_shown():
    assert not ViewOptions(index=3, frame=1).is_request and not ViewOptions(frames_per_second=4).is_request
    assert ViewOptions(motion="a.npz").is_request and ViewOptions(checkpoint="run").is_request
    assert not ViewOptions(sample="folder", motion="a.npz").is_request
    assert ViewOptions(seed=3).overrides == ["seed=3"]


WRONG = {
    "a clip and a request": (["index=1", "motion=walk.npz"], "index= is of a clip, and other words are of a sample"),
    "a clip and a sample": (["split=val", "sample=here"], "split= is of a clip"),
    "cameras of a sample": (["sample=here", "camera=orbit", "views=3"], "camera= views= is of a request"),
    "a misspelt word": (["moton=walk.npz"], "moton: unknown key or option. Did you mean 'motion'?"),
    "a port": (["port=70000"], "port: "),
    "no such clip": (["index=9"], "index=9: the test split has 2 clips"),
    "no such frame": (["frame=2"], "frame=2: there are 2 frames, counted from 0"),
    "no such motion": (["motion=walk.npz"], "walk.npz: there is no such file"),
    "no such cameras": (["camera=orbitt"], "Did you mean 'orbit'?"),
    "no such checkpoint": (["checkpoint=none.ckpt", "camera=orbit"], "none.ckpt: no such checkpoint"),
    "no such sample": (["sample=none"], "none/sample.json: there is no such file; expected a folder that `hvg sample`"),
    "too long": (["frames=3000", "camera=orbit"], "3000 frames would be shown, of at most 2000"),
    "a file that is there": (["out=there.json"], "out: there.json exists already"),
    "a folder that cannot be": (["out=there.json/cameras.json"], "there.json is a file, where a folder belongs"),
    "an override of a sample": (["sample=here", "pose=skeleton"], "pose=skeleton: a sample is shown as it was made"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_word_is_a_line(tiny, tmp_path, monkeypatch, capsys, wrong):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.json").touch()
    words, told = WRONG[wrong]
    assert cli.run(["view", *([] if "sample" in words[0] or "sample" in words[-1] else tiny), *words]) == 1
    said = capsys.readouterr()
    assert told in said.err
    # The page listens before what it shows is read.
    assert said.out == "" or (said.out.startswith("the page opens at http://") and said.out.count("\n") == 1)
    assert said.err.count("\n") == 1 + ("1 problem in the configuration" in said.err) + ("\nnext: " in said.err)
    assert {path.name for path in tmp_path.iterdir()} == {"there.json"}


def test_without_the_library_of_the_page_a_line_says_what_to_install(monkeypatch, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "viser", None)
    assert cli.run(["view"]) == 1
    assert capsys.readouterr().err == (
        "hvg view: the page is made of viser, which is not installed; next: `pip install 'hvg[view]'`\n"
    )


def test_a_ball_is_closed_and_looks_outwards():
    vertices, faces = unit_ball(16)
    corners = vertices[faces.astype(int)].astype(float)
    volumes = np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    assert volumes.min() > 0 and volumes.sum() == pytest.approx(4 / 3 * np.pi, rel=0.02)
    edges = {(a, b) for face in faces.tolist() for a, b in zip(face, face[1:] + face[:1], strict=True)}
    place = {index: tuple(np.round(vertex, 5) + 0.0) for index, vertex in enumerate(vertices)}
    assert all((place[b], place[a]) in {(place[c], place[d]) for c, d in edges} for a, b in list(edges)[::97])
