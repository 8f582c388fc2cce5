"""A motion file that brings its own body: what it holds, what is wrong with it, and that no body model is built then."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hvg.config.command_options import SampleOptions
from hvg.config.composition import compose
from hvg.config.settings import PartChoice
from hvg.core.arrays import member_names, read_archive
from hvg.core.errors import DataError, HvgError
from hvg.geometry.motion import BODY_JOINTS, Motion, resample
from hvg.geometry.motion_files import load_motion
from hvg.geometry.own_body import KEYS, write_own_body
from hvg.geometry.rotations import rotation_matrix
from hvg.geometry.skeleton import BONES, JOINTS
from hvg.parts import registry
from hvg.sample.shown_body import shown_body
from hvg.values.body import BodyMotion, Skinning

FRAMES, POINTS = 3, 12
OWN_BONES = ("pelvis", "left_hip", "right_hip")


def standing() -> torch.Tensor:
    """(25, 3): somebody who stands, roughly."""
    places = torch.zeros(len(JOINTS), 3)
    heights = {"hip": 0.9, "knee": 0.5, "ankle": 0.1, "foot": 0.02, "shoulder": 1.4, "elbow": 1.15, "wrist": 0.9}
    for k, joint in enumerate(JOINTS):
        side, _, name = joint.rpartition("_")
        places[k, 0] = {"left": 0.15, "right": -0.15}.get(side, 0.0)
        places[k, 1] = heights.get(name, {"middle1": 0.8, "top": 1.75}.get(name, 0.95 + 0.06 * (k % 10)))
    return places


def own_body(seed: int = 0) -> BodyMotion:
    """Somebody who moves, with a small mesh whose bones carry it."""
    draw = torch.Generator().manual_seed(seed)
    turns = rotation_matrix(0.3 * torch.randn(1, FRAMES, len(OWN_BONES), 3, generator=draw))
    transforms = torch.eye(4).repeat(1, FRAMES, len(OWN_BONES), 1, 1)
    transforms[..., :3, :3], transforms[..., :3, 3] = turns, torch.randn(1, FRAMES, 3, 3, generator=draw)
    weights = torch.rand(POINTS, 2, generator=draw) + 0.1
    skinning = Skinning(
        bones=OWN_BONES,
        vertex_bones=torch.randint(0, 3, (POINTS, 2), generator=draw).to(torch.int16),
        vertex_weights=weights / weights.sum(1, keepdim=True),
        rest=torch.randn(1, POINTS, 3, generator=draw),
        transforms=transforms,
    )
    moved = 0.05 * torch.randn(FRAMES, len(JOINTS), 3, generator=draw)
    return BodyMotion(
        joints=(standing() + moved)[None],
        joint_names=JOINTS,
        bone_radii=torch.rand(1, len(BONES), generator=draw) * 0.1 + 0.02,
        vertices=skinning.posed(),
        faces=torch.randint(0, POINTS, (7, 3), generator=draw),
        skinning=skinning,
        parameters={"rotations": rotation_matrix(torch.randn(1, FRAMES, len(BODY_JOINTS), 3, generator=draw))},
    )


def same(found: BodyMotion, body: BodyMotion) -> None:
    assert found.joint_names == body.joint_names and found.skinning is not None and body.skinning is not None
    for name in ("joints", "bone_radii", "faces"):
        assert torch.equal(getattr(found, name), getattr(body, name)), name
    for name in ("vertex_bones", "rest", "transforms"):
        assert torch.equal(getattr(found.skinning, name), getattr(body.skinning, name)), name
    assert found.skinning.bones == body.skinning.bones
    torch.testing.assert_close(found.skinning.vertex_weights, body.skinning.vertex_weights)
    torch.testing.assert_close(found.parameters["rotations"], body.parameters["rotations"])


def test_a_body_comes_back_as_it_was_written(tmp_path):
    body, path = own_body(), tmp_path / "own.npz"
    write_own_body(path, body, 12.0)
    motion = load_motion(path)
    assert motion.own_body is not None and motion.frames_per_second == 12 and motion.num_frames == FRAMES
    same(motion.own_body, body)
    # Its vertices need no space: the skinning says where they are.
    assert motion.own_body.vertices is None and "vertices.npy" not in member_names(path)
    torch.testing.assert_close(motion.own_body.skinning.posed(), body.vertices)
    # Any body model can follow its joints.
    assert torch.equal(motion.joints, body.joints[0]) and motion.joint_names == JOINTS
    first = path.read_bytes()
    write_own_body(path, body, 12.0)
    assert path.read_bytes() == first


def test_vertices_that_no_skinning_gives_are_kept(tmp_path):
    body, path = own_body(), tmp_path / "own.npz"
    corrected = replace(body, vertices=body.vertices + 0.01)
    write_own_body(path, corrected, 8.0)
    assert torch.equal(load_motion(path).own_body.vertices, corrected.vertices)
    bare = replace(body, skinning=None)
    write_own_body(path, bare, 8.0)
    found = load_motion(path).own_body
    assert torch.equal(found.vertices, bare.vertices) and found.skinning is None
    write_own_body(path, body.without_mesh(), 8.0)
    found = load_motion(path).own_body
    assert found.vertices is None and found.faces is None and torch.equal(found.bone_radii, body.bone_radii)


def test_between_two_frames_all_of_it_goes_along_a_line():
    body = own_body()
    motion = Motion(joints=body.joints[0], joint_names=JOINTS, own_body=body)
    found = resample(motion, torch.tensor([0.0, 1.5])).own_body
    for name in ("joints", "vertices"):
        value = getattr(body, name)
        expected = torch.stack([value[:, 0], 0.5 * (value[:, 1] + value[:, 2])], dim=1)
        torch.testing.assert_close(getattr(found, name), expected)
    torch.testing.assert_close(found.skinning.posed(), found.vertices)
    turned = found.parameters["rotations"]
    torch.testing.assert_close(turned @ turned.mT, torch.eye(3).expand_as(turned), atol=1e-5, rtol=0)


# What is wrong with a file's arrays -> what makes it so, and what the line has to say.
FAULTS = {
    "up": (lambda a: a.update(up=np.array("z")), "in a world whose 'z' is up; expected y"),
    "no names": (lambda a: a.pop("joint_names"), "without 'joints' and 'joint_names'"),
    "a joint less": (
        lambda a: a.update(joints=a["joints"][:, :-1], joint_names=a["joint_names"][:-1]),
        "joint_names lack head_top",
    ),
    "radii of others": (lambda a: a.update(bone_radii=a["bone_radii"][:3]), "'bone_radii' has shape (3,)"),
    "no radius": (lambda a: a["bone_radii"].fill(0), "expected metres above 0"),
    "faces alone": (lambda a: [a.pop(key) for key in ("bones", *SKIN)], "one of a mesh's faces and vertices"),
    "no faces": (lambda a: a.pop("faces"), "one of a mesh's faces and vertices"),
    "a face of nothing": (lambda a: a["faces"].__setitem__((0, 0), 200), "'faces' are from"),
    "faces of floats": (lambda a: a.update(faces=a["faces"] * 0.5), "expected whole numbers"),
    "half a skinning": (lambda a: a.pop("rest"), "its skinning lacks 'rest'"),
    "a bone of nothing": (lambda a: a.update(bones=np.array(["pelvis", "tail", "head"])), "a bone starts at 'tail'"),
    "a fourth bone": (lambda a: a["vertex_bones"].__setitem__((0, 0), 3), "'vertex_bones' are from"),
    "weights": (lambda a: a["vertex_weights"].__imul__(2), "'vertex_weights' are not weights"),
    "frames": (lambda a: a.update(transforms=a["transforms"][:2]), "'transforms' has shape (2, 3, 3, 4)"),
    "infinite": (lambda a: a["transforms"].__setitem__(0, np.inf), "'transforms' holds NaN, infinity"),
    "no rotations": (lambda a: a["rotations"].__imul__(1.5), "not all of 'rotations' are rotation matrices"),
}
SKIN = ("vertex_bones", "vertex_weights", "rest", "transforms")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_body_is_one_line_that_says_what(tmp_path, fault):
    damage, said = FAULTS[fault]
    write_own_body(tmp_path / "own.npz", own_body(), 8.0)
    arrays = read_archive(tmp_path / "own.npz", KEYS)
    damage(arrays)
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(DataError) as caught:
        load_motion(tmp_path / "own.npz")
    assert said in str(caught.value) and str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_another_motion_of_joints_brings_no_body(tmp_path):
    np.savez(tmp_path / "m.npz", joints=standing()[None].numpy(), joint_names=np.array(JOINTS), faces=np.zeros((1, 3)))
    assert load_motion(tmp_path / "m.npz").own_body is None


@pytest.fixture(scope="module")
def mesh_config():
    """A tiny run whose signal reads the mesh."""
    words = ["scale=cpu", "debug=tiny", "pose=smpl_normal", "backbone.widths=[32,32]", "backbone.heads=[1,1]"]
    return compose(words)


# Of a model that is drawn from the mesh.
READS = {"mesh": True, "poses_photo": False}


def asked(**words) -> SampleOptions:
    return SampleOptions(checkpoint="c", reference=["p.png"], motion="own.npz", **words)


def test_no_body_model_is_built_where_the_file_brings_the_body(mesh_config, tmp_path):
    """One could not be: its files are nowhere."""
    smplx = registry.load("body", "smplx")
    nowhere = PartChoice("body", "smplx", smplx, smplx.Config(path=tmp_path / "nowhere"))
    config, body = mesh_config.model_copy(update={"body": nowhere}), own_body()
    motion = Motion(joints=body.joints[0], joint_names=JOINTS, own_body=replace(body, vertices=None))
    shown = shown_body(config, asked(), motion, torch.tensor([0.0, 2.0]), **READS)
    assert shown.model is None and shown.shape is None
    torch.testing.assert_close(shown.body.vertices, body.vertices[:, [0, 2]])
    assert torch.equal(shown.body.faces, body.faces) and "no body model is built" in shown.notes[0]
    # Another build is another body.
    with pytest.raises(HvgError, match="nowhere"):
        shown_body(config, asked(shape="mean"), motion, torch.tensor([0.0]), **READS)


def test_a_body_without_what_a_model_reads_is_followed(mesh_config):
    body = own_body()
    motion = Motion(joints=body.joints[0], joint_names=JOINTS, own_body=body.without_mesh())
    shown = shown_body(mesh_config, asked(), motion, torch.tensor([0.0]), **READS)
    assert shown.body.vertices is not None and shown.body.vertices.shape[2] > POINTS and shown.model is not None
    assert shown.notes[0] == "own.npz brings a body without body.vertices, which is read of it"
    with pytest.raises(HvgError, match="does not say how its person is built"):
        shown_body(mesh_config, asked(shape="motion"), motion, torch.tensor([0.0]), **READS)
