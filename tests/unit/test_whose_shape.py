"""Whose build the person of ``hvg sample`` has, and that feet neither slide nor float on anybody's legs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import retargeting_error
import torch
from body_models import person_model
from motion_files import save_motion
from PIL import Image
from walking import RATE, feet_of, longest_slide, planted_walk

from components.bodies.anny import Anny
from components.bodies.smplx import SmplX
from components.people.motions import MOTIONS
from hvg.config.command_options import SampleOptions
from hvg.config.composition import compose
from hvg.core.errors import DataError, HvgError
from hvg.geometry.body_conventions import CONVENTIONS, GivenBody
from hvg.geometry.foot_contact import foot_sliding, standing_feet
from hvg.geometry.motion import Motion
from hvg.geometry.motion_files import load_motion
from hvg.geometry.skeleton import JOINTS
from hvg.model.load import build_system
from hvg.parts.following import STILL, follow
from hvg.sample.request import make_clip
from hvg.sample.whose_shape import asked_person, choose_shape, read_person


def options(**given):
    return SampleOptions(**{"checkpoint": "a.ckpt", "reference": "a.png", "motion": "a.npz", **given})


def stature(body, shape):
    stand = body.animate(STILL, shape)
    return float(stand.vertices[..., 1].max() - stand.vertices[..., 1].min())


def every(motion):
    return torch.arange(motion.num_frames)


@pytest.fixture(scope="module")
def smplx(tmp_path_factory):
    path = tmp_path_factory.mktemp("body") / "SMPLX_NEUTRAL.npz"
    np.savez(path, allow_pickle=True, **person_model("smplx"))
    return SmplX(SmplX.Config(path=path))


# --- feet -------------------------------------------------------------------------------------------------------------


def walker(scale):
    """An Anny whose pelvis is as high as that of SMPL-X's mean person, for whom a file of that model says nothing else."""
    return Anny(Anny.Config(scale=scale / float(Anny().animate(STILL, {}, mesh=False).joints[0, 0, 0, 1])))


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """A file of a walk with planted feet, its feet (T, 2, 3), and when they stand."""
    path, body = tmp_path_factory.mktemp("walk") / "walk.npz", walker(0.95)
    motion = planted_walk(body)
    save_motion(path, motion)
    feet = feet_of(body.animate(motion, {}, mesh=False))
    standing = standing_feet(feet, RATE)
    assert longest_slide(feet, standing) < 1e-5 and 0.3 < standing.float().mean() < 0.7
    return path, feet, standing


@pytest.mark.parametrize("height", [1.5, 2.0])
def test_feet_of_short_and_tall_people_do_not_slide_in_the_same_walk(tiny, walked, height):
    """Less than a centimetre in a step, where they would slide by decimetres; the lower foot is on the floor."""
    config, (path, there, standing) = compose(tiny), walked
    motion = load_motion(path)
    asked = options(motion=path, reference_height=height, frames=motion.num_frames, views=1)
    batch, _, notes = make_clip(build_system(config), config, asked, motion, None, Image.new("RGBA", (32, 32), "red"))
    assert any(f"as the photo's is said to be, {height:.2f} m tall" in note for note in notes)
    feet = feet_of(batch.body)
    assert longest_slide(feet, standing) < 0.01
    body = Anny()
    shape = body.of_stature({}, height)
    plain = feet_of(body.animate(motion, shape, mesh=False))
    assert longest_slide(plain, standing) > 0.02
    lower, stands = feet[..., 1].amin(dim=1), feet_of(body.animate(STILL, shape, mesh=False))[0, :, 1].mean()
    assert (lower - stands).abs().max() < 0.015
    # Longer legs go farther.
    mine, theirs = (x[-1].mean(dim=0) - x[0].mean(dim=0) for x in (feet, there))
    assert (float(mine[[0, 2]].norm() / theirs[[0, 2]].norm()) > 1) == (height > 1.78)


def test_feet_do_not_slide_on_bodies_of_the_family_that_follow_joints(smplx):
    """Positions of another skeleton, and a person scaled to 1.5 m."""
    source = Anny().animate(planted_walk(Anny()), {}, mesh=False)
    standing = standing_feet(feet_of(source), RATE)
    motion = Motion(joints=source.joints[0], joint_names=source.joint_names, frames_per_second=RATE)
    for height in (1.5, 2.0):
        shape = smplx.of_stature({"beta_1": 1.0}, height)
        assert stature(smplx, shape) == pytest.approx(height, abs=1e-4)
        moved = follow(smplx, motion, every(motion), shape, mesh=False)
        assert longest_slide(feet_of(moved), standing) < 0.01
        stands = feet_of(smplx.animate(STILL, shape, mesh=False))[0, :, 1].mean()
        assert (feet_of(moved)[..., 1].amin(dim=1) - stands).abs().max() < 0.02


def test_who_moves_as_themselves_is_where_they_were(smplx):
    """To a hundredth of a millimetre, in rotations and as a file has its own body; to half of one, in joints."""
    shape = {"height": 0.7, "weight": 0.8}
    walk = planted_walk(Anny(), frames=20)
    own = Anny().animate(walk, {}, mesh=False)
    joints = Motion(joints=own.joints[0], joint_names=own.joint_names)
    assert (follow(Anny(), walk, every(walk), {}, mesh=False).joints - own.joints).abs().max() < 1e-5
    assert (
        follow(Anny(), joints, every(walk), {}, mesh=False).place("pelvis") - own.place("pelvis")
    ).abs().max() < 5e-4
    other = follow(Anny(), joints, every(walk), shape, mesh=False)
    assert (other.place("left_hip") - own.place("left_hip")).abs().max() > 0.01
    values = {"betas": torch.tensor([[1.5, -1.0]]), "scale": torch.tensor([[1.1]]), "transl": torch.rand(20, 3)}
    values |= {"global_orient": torch.rand(20, 3), "body_pose": torch.rand(20, 63) / 3}
    body = GivenBody(family="smplx", convention=CONVENTIONS["smplx_flat"], values=values)
    motion = replace(walk, body=body, translation=torch.zeros(20, 3))
    told = smplx.told_shape(motion)
    assert told["scale"] == pytest.approx(1.1) and told["beta_0"] == 1.5
    exact = smplx.pose(smplx.given(motion), mesh=False).joints
    assert (follow(smplx, motion, every(walk), told, mesh=False).joints - exact).abs().max() < 1e-5


def test_steps_are_those_of_the_whole_motion_where_few_frames_are_shown():
    """A foot that steps between two frames has not slid, and every frame is where it is among all of them."""
    walk, shape = planted_walk(Anny()), {"height": 0.8}
    whole = follow(Anny(), walk, every(walk), shape, mesh=False)
    places = torch.tensor([0.0, 30.5, 89.0])
    few = follow(Anny(), walk, places, shape, mesh=True)
    assert (few.joints[0, [0, 2]] - whole.joints[0, [0, 89]]).abs().max() < 1e-5
    between = 0.5 * (whole.place("pelvis")[0, 30] + whole.place("pelvis")[0, 31])
    assert (few.place("pelvis")[0, 1] - between).abs().max() < 1e-4
    assert (few.skinning.posed() - few.vertices).abs().max() < 1e-5


def test_sliding_is_what_a_standing_foot_moves_along_the_floor():
    feet = torch.zeros(6, 2, 3)
    feet[:, 0, 1] = torch.tensor([0.0, 0.0, 0.0, 0.2, 0.0, 0.0])
    feet[:, 0, 0] = torch.tensor([0.0, 0.001, 0.002, 0.5, 1.0, 1.0])
    standing = standing_feet(feet, 30.0)
    assert standing[:, 0].tolist() == [True, True, False, False, True] and standing[:, 1].all()
    assert torch.allclose(foot_sliding(feet, standing)[:, 0], torch.tensor([0.001, 0.001, 0.0, 0.0, 0.0]), atol=1e-6)
    assert longest_slide(feet, standing) == pytest.approx(0.002, abs=1e-6)


# --- shapes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("height", [1.2, 1.5, 1.83, 2.05])
def test_a_given_height_is_reached(height):
    shape = Anny().of_stature({"weight": 0.7}, height)
    assert shape["weight"] == 0.7 and stature(Anny(), shape) == pytest.approx(height, abs=2e-3)


def test_somebody_whom_a_model_does_not_have_is_refused():
    with pytest.raises(HvgError, match=r"are 1\.\d\d to 2\.\d\d m tall; nobody is 2.9 m"):
        Anny().of_stature({}, 2.9)


def test_files_of_people(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"betas": [1, -0.5], "gender": "female", "height": 1.6}))
    (tmp_path / "a.yaml").write_text("shape:\n  weight: 0.7\nheight: 1.8\n")
    np.savez(tmp_path / "a.npz", betas=np.tile([1.0, 2.0], (4, 1)), gender=np.array(b"male"), poses=np.zeros((4, 66)))
    found = read_person(tmp_path / "a.json")
    assert (found.betas, found.gender, found.height) == ((1.0, -0.5), "female", 1.6)
    assert read_person(tmp_path / "a.yaml").shape == {"weight": 0.7}
    found = read_person(tmp_path / "a.npz")
    assert (found.betas, found.gender, found.height) == ((1.0, 2.0), "male", None)


WRONG = {
    "missing.json": (None, "there is no such file"),
    "list.json": ("[1, 2]", "holds no names with values"),
    "broken.yaml": ("a: [1", "cannot be read"),
    "unknown.json": ('{"hight": 1.7}', "hight: Extra inputs are not permitted; a person has height, betas"),
    "text.json": ('{"betas": ["tall"]}', "betas.0: Input should be a valid number"),
    "nan.json": ('{"betas": [.nan]}', "betas.0"),
    "giant.json": ('{"height": 17.2}', "height: Input should be less than or equal to 3"),
    "empty.json": ("{}", "says nothing of a person"),
    "objects.npz": ({"betas": np.array([None])}, "pickled Python objects"),
    "words.npz": ({"betas": np.array(["a"])}, "'betas' has shape"),
    "nothing.npz": ({"poses": np.zeros(3)}, "says nothing of a person"),
    "sex.npz": ({"betas": np.zeros(3), "gender": np.array(3)}, "gender"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_one_line_that_names_it(tmp_path, name):
    content, message = WRONG[name]
    path = tmp_path / name
    if isinstance(content, dict):
        np.savez(path, allow_pickle=True, **content)
    elif content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=r".") as refused:
        read_person(path)
    said = str(refused.value)
    assert said.startswith(str(path)) and message in said and "\n" not in said


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"shape": "mean", "reference_height": 1.7}, "shape=mean and reference_height= both say who is shown"),
        ({"shape": "reference"}, "shape=reference: nothing says how the photo's person is built"),
        ({"shape": "motion"}, "shape=motion: a.npz does not say how its person is built in terms of body=anny"),
        ({"reference_betas": (1.0,)}, "body=anny has no betas; say the photo's person by reference_height="),
    ],
)
def test_options_that_nobody_can_follow_are_one_line(given, message):
    with pytest.raises(HvgError, match=r".") as refused:
        choose_shape(Anny(), "anny", options(**given), planted_walk(Anny(), frames=2))
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value)


def test_betas_are_said_once(tmp_path):
    (tmp_path / "a.json").write_text('{"betas": [1]}')
    with pytest.raises(HvgError, match="both say betas; give one"):
        asked_person(options(reference_body=tmp_path / "a.json", reference_betas=(1.0,)))
    assert asked_person(options(reference_body=tmp_path / "a.json", reference_height=1.7)).height == 1.7


def test_whose_shape_is_shown_is_said(smplx, tmp_path):
    values = {"betas": torch.tensor([[1.5, -1.0]])}
    given = GivenBody(family="smplx", convention=CONVENTIONS["smplx_flat"], values=values)
    motion = replace(STILL, body=given)
    for asked in ({}, {"shape": "motion"}):
        own = choose_shape(smplx, "smplx", options(**asked), motion)
        assert own.shape["beta_0"] == 1.5 and "built as the motion's" in own.note
    mean = choose_shape(smplx, "smplx", options(shape="mean"), motion)
    assert mean.shape == {} and "built as the mean one of body=smplx" in mean.note
    assert "built as the mean one of body=anny, 1.63 m tall" in choose_shape(Anny(), "anny", options(), motion).note
    (tmp_path / "b.json").write_text('{"gender": "male"}')
    (tmp_path / "a.json").write_text('{"betas": [0, 2], "gender": "female", "height": 1.6}')
    photos = choose_shape(smplx, "smplx", options(reference_body=tmp_path / "a.json"), motion)
    assert photos.shape["beta_1"] == 2 and "1.60 m tall" in photos.note
    assert "the photo's person is female, body.gender is neutral" in photos.note
    annys = choose_shape(Anny(), "anny", options(reference_body=tmp_path / "b.json"), motion)
    assert "the photo's person is male, body=anny has no models of one gender" in annys.note
    many = choose_shape(smplx, "smplx", options(reference_betas=(1.0,) * 16), motion)
    assert "the model has 10 betas; the other 6 were left out" in many.note


# --- Anny in SMPL-X's motion ------------------------------------------------------------------------------------------


def test_the_table_of_errors_in_the_docs_is_what_is_measured():
    assert retargeting_error.table() in Path("docs/bodies.md").read_text()


def test_limbs_point_where_smplx_has_them():
    found = retargeting_error.errors({})
    for joint, degrees in {"knee": 4, "ankle": 5, "wrist": 4, "elbow": 5}.items():
        assert found[joint][3] < degrees


def test_on_annys_own_skeleton_rotations_lose_nothing(smplx):
    """Her T-pose is SMPL-X's: with the same joints at rest, those of any pose are the same."""
    for make in MOTIONS.values():
        motion = make(np.random.default_rng(0), 4, RATE)
        here, there = (body.animate(motion, {}, mesh=False) for body in (Anny(), smplx))
        for joint in JOINTS[:-1]:
            assert (here.place(joint) - there.place(joint)).abs().max() < 2e-3
