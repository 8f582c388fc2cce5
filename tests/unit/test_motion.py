"""Motion values, their file reader, and the Anny body that they drive."""

import math

import numpy as np
import pytest
import smplx
import torch
from motion_files import save_motion

from components.bodies.anny import Anny
from hvg.core.errors import DataError, HvgError
from hvg.geometry.motion import BODY_JOINTS, SMPLX_JOINTS, Motion, resample
from hvg.geometry.motion_files import load_motion
from hvg.geometry.retargeting import NEEDED
from hvg.geometry.rotations import axis_angle, rotation_matrix
from hvg.geometry.skeleton import JOINTS

QUARTER = math.pi / 2


def _posed(**rotations: tuple[float, float, float]) -> dict[str, torch.Tensor]:
    """Joint name -> (3,) of the neutral Anny in one frame."""
    values = {"pelvis": torch.zeros(1, 3)} | {k: torch.tensor([v], dtype=torch.float32) for k, v in rotations.items()}
    body = Anny().animate(Motion(rotations=values), mesh=False)
    return dict(zip(body.joint_names, body.joints[0, 0], strict=True))


def _direction(joints: dict[str, torch.Tensor], start: str, end: str) -> torch.Tensor:
    return torch.nn.functional.normalize(joints[end] - joints[start], dim=0)


def _is_along(vector: torch.Tensor, expected: tuple[float, float, float], tolerance: float = 0.02) -> None:
    torch.testing.assert_close(vector, torch.tensor(expected), atol=tolerance, rtol=0)


def test_rotations_survive_the_way_to_matrices_and_back():
    vectors = torch.randn(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    vectors = vectors * (3.1 / vectors.norm(dim=1, keepdim=True).clamp_min(3.1))
    vectors = torch.cat([vectors, torch.zeros(1, 3, dtype=torch.float64), 1e-9 * vectors[:1]])
    torch.testing.assert_close(axis_angle(rotation_matrix(vectors)), vectors, atol=1e-8, rtol=0)
    single = vectors.float()
    torch.testing.assert_close(axis_angle(rotation_matrix(single)), single, atol=2e-6, rtol=0)
    half_turn = rotation_matrix(torch.tensor([[0.0, math.pi, 0.0]]))
    torch.testing.assert_close(half_turn, torch.diag(torch.tensor([-1.0, 1.0, -1.0]))[None], atol=1e-6, rtol=0)


def test_rest_is_a_t_pose_on_the_floor_facing_forward():
    body = Anny().animate(Motion(rotations={"pelvis": torch.zeros(2, 3)}))
    joints = dict(zip(body.joint_names, body.joints[0, 0], strict=True))
    assert body.joint_names == JOINTS
    assert body.joints.shape == (1, 2, len(JOINTS), 3)
    assert body.bone_radii.shape == (1, 24) and (body.bone_radii > 0).all()
    assert body.vertices.shape[:2] == (1, 2) and int(body.faces.max()) == body.vertices.shape[2] - 1
    for side, sign in (("left", 1.0), ("right", -1.0)):
        for start, end in (("shoulder", "elbow"), ("elbow", "wrist"), ("wrist", "middle1")):
            _is_along(_direction(joints, f"{side}_{start}", f"{side}_{end}"), (sign, 0.0, 0.0), 1e-5)
        assert (joints[f"{side}_foot"] - joints[f"{side}_ankle"])[2] > 0.08
    assert body.vertices[..., 1].min().abs() < 1e-5
    assert joints["pelvis"][[0, 2]].abs().max() < 1e-6
    assert abs(float(joints["head_top"][1] - body.vertices[..., 1].max())) < 1e-5


def test_arms_come_down_with_the_signs_of_smplx():
    joints = _posed(left_shoulder=(0, 0, -QUARTER), right_shoulder=(0, 0, QUARTER))
    for side in ("left", "right"):
        _is_along(_direction(joints, f"{side}_shoulder", f"{side}_wrist"), (0.0, -1.0, 0.0))


def test_elbows_and_knees_bend_the_way_people_do():
    joints = _posed(left_elbow=(0, -QUARTER, 0), right_elbow=(0, QUARTER, 0), left_knee=(QUARTER, 0, 0))
    _is_along(_direction(joints, "left_elbow", "left_wrist"), (0.0, 0.0, 1.0))
    _is_along(_direction(joints, "right_elbow", "right_wrist"), (0.0, 0.0, 1.0))
    assert _direction(joints, "left_knee", "left_ankle")[2] < -0.95
    assert _direction(joints, "right_knee", "right_ankle")[1] < -0.95


def test_turning_the_pelvis_turns_everyone_to_their_left():
    joints = _posed(pelvis=(0, QUARTER, 0))
    _is_along(_direction(joints, "right_hip", "left_hip"), (0.0, 0.0, -1.0))
    assert (joints["left_foot"] - joints["left_ankle"])[0] > 0.08


def test_translation_moves_everything_and_shape_changes_stature():
    motion = Motion(rotations={"pelvis": torch.zeros(1, 3)}, translation=torch.tensor([[0.3, 0.2, -0.1]]))
    still, moved = (Anny().animate(m).vertices for m in (Motion(rotations=motion.rotations), motion))
    torch.testing.assert_close(moved, still + torch.tensor([0.3, 0.2, -0.1]))
    short, tall = (Anny().animate(motion, {"height": h}).vertices[..., 1].max() for h in (0.2, 0.8))
    assert tall > short + 0.1


def test_unknown_names_are_answered_with_the_nearest():
    still = Motion(rotations={"pelvis": torch.zeros(1, 3)})
    with pytest.raises(HvgError, match="Did you mean 'weight'"):
        Anny().animate(still, {"wieght": 0.3})
    with pytest.raises(HvgError, match="Did you mean 'left_knee'"):
        Anny().animate(Motion(rotations={"left_kne": torch.zeros(1, 3)}))


def _random_motion(frames: int = 5) -> Motion:
    generator = torch.Generator().manual_seed(1)
    rotations = {name: 0.35 * torch.randn(frames, 3, generator=generator) for name in BODY_JOINTS}
    return Motion(rotations=rotations, translation=torch.randn(frames, 3, generator=generator), frames_per_second=24.0)


def test_a_body_driven_by_joints_points_its_bones_like_them():
    source = Anny().animate(_random_motion(), {"height": 0.7, "weight": 0.8}, mesh=False)
    copy = Anny().animate(Motion(joints=source.joints[0], joint_names=JOINTS), {"height": 0.4}, mesh=False)
    given = dict(zip(JOINTS, source.joints[0].unbind(1), strict=True))
    driven = dict(zip(JOINTS, copy.joints[0].unbind(1), strict=True))
    torch.testing.assert_close(driven["pelvis"], given["pelvis"])
    for side in ("left", "right"):
        for start, end in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle")):
            a, b = (j[f"{side}_{end}"] - j[f"{side}_{start}"] for j in (given, driven))
            assert torch.cosine_similarity(a, b).min() > 0.9999
    trunk = [j["neck"] - j["pelvis"] for j in (given, driven)]
    assert torch.cosine_similarity(*trunk).min() > math.cos(math.radians(15))


def test_joints_without_an_orientation_are_refused():
    with pytest.raises(HvgError, match="right_shoulder"):
        Anny().animate(Motion(joints=torch.zeros(1, 2, 3), joint_names=("pelvis", "neck")))


@pytest.mark.parametrize("kind", ["rotations", "joints"])
def test_a_saved_motion_is_read_back(tmp_path, kind):
    motion = _random_motion()
    if kind == "joints":
        motion = Motion(joints=torch.randn(4, 6, 3), joint_names=NEEDED, frames_per_second=24.0)
    save_motion(tmp_path / "m.npz", motion)
    again = load_motion(tmp_path / "m.npz")
    assert again.frames_per_second == 24.0 and again.num_frames == motion.num_frames
    assert again.joint_names == motion.joint_names
    if kind == "joints":
        assert torch.equal(again.joints, motion.joints)
        return
    torch.testing.assert_close(again.translation, motion.translation, atol=1e-6, rtol=0)
    for name in BODY_JOINTS:
        assert torch.equal(again.rotations[name], motion.rotations[name])


# J_regressor @ v_template of the neutral files, and where the soles of v_template are.
SMPLX_PELVIS, SMPLX_SOLES = (0.003123, -0.351407, 0.012037), -1.3014
SMPL_PELVIS, SMPL_SOLES = (-0.001795, -0.223333, 0.028219), -1.1433


def _smpl(pelvis: tuple[float, float, float], soles: float) -> smplx.SMPL:
    """The body model of the smplx package for a person whose rest pelvis is vertex 0, and whose soles are vertex 1."""
    vertices, joints = 6890, 24
    template, regressor = np.zeros((vertices, 3)), np.zeros((joints, vertices))
    template[:] = pelvis
    template[1] = 0, soles, 0
    regressor[:, 0] = 1
    weights = np.zeros((vertices, joints))
    weights[:, 0] = 1
    person = smplx.utils.Struct(
        v_template=template,
        shapedirs=np.zeros((vertices, 3, 10)),
        posedirs=np.zeros((vertices, 3, 207)),
        J_regressor=regressor,
        weights=weights,
        kintree_table=np.array([[0, *range(joints - 1)], range(joints)]),
        f=np.zeros((1, 3), dtype=np.int64),
    )
    return smplx.SMPL("", data_struct=person, batch_size=4)


FILES = {
    "smplx": (SMPLX_PELVIS, SMPLX_SOLES, lambda r, b: {"global_orient": r, "body_pose": b[:, :63]}, "transl", "y"),
    "smpl": (SMPL_PELVIS, SMPL_SOLES, lambda r, b: {"global_orient": r, "body_pose": b[:, :69]}, "transl", "y"),
    "amass smplx": (SMPLX_PELVIS, SMPLX_SOLES, lambda r, b: {"poses": np.hstack([r, b[:, :162]])}, "trans", "z"),
    "amass smplh": (SMPL_PELVIS, SMPL_SOLES, lambda r, b: {"poses": np.hstack([r, b[:, :153]])}, "trans", "z"),
    "amass parts": (SMPLX_PELVIS, SMPLX_SOLES, lambda r, b: {"root_orient": r, "pose_body": b[:, :63]}, "trans", "z"),
}


@pytest.mark.parametrize("name", FILES)
def test_the_pelvis_is_where_the_body_model_of_the_file_has_it(tmp_path, name):
    pelvis, soles, poses, key, up = FILES[name]
    random = np.random.default_rng(5)
    orient, place = (random.normal(size=(4, 3)).astype(np.float32) for _ in range(2))
    # The first frame stands at the origin: upright, with its soles on the floor.
    upright, height = {"y": ((0, 0, 0), 1), "z": ((QUARTER, 0, 0), 2)}[up]
    orient[0], place[0] = upright, -np.array(pelvis)
    place[0, height] += pelvis[1] - soles
    np.savez(tmp_path / "m.npz", **poses(orient, np.zeros((4, 162))), **{key: place})
    motion = load_motion(tmp_path / "m.npz")
    body = _smpl(pelvis, soles)(global_orient=torch.from_numpy(orient), transl=torch.from_numpy(place))
    to_y_up = torch.eye(3) if up == "y" else torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
    expected, lowest = body.joints[:, 0] @ to_y_up.mT, body.vertices[:, 1] @ to_y_up.mT
    assert float(lowest[0, 1].detach().abs()) < 1e-4
    standing = torch.tensor([0.0, pelvis[1] - soles, 0.0])
    torch.testing.assert_close(motion.translation + standing, expected.detach(), atol=1e-4, rtol=0)
    # A body of its own proportions stands where the file's does.
    anny = Anny().animate(motion)
    assert anny.vertices[0, 0, :, 1].min().abs() < 1e-3
    torch.testing.assert_close(anny.joints[0, :, 0, [0, 2]], expected[:, [0, 2]].detach(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("width", [66, 156, 165])
def test_amass_is_turned_from_z_up_to_y_up(tmp_path, width):
    poses = np.zeros((3, width))
    poses[:, 0] = QUARTER  # AMASS stands a y-up body up in its z-up world by a quarter turn about x.
    trans = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 0.5]])
    np.savez(tmp_path / "a.npz", poses=poses, trans=trans, mocap_framerate=120.0, gender="neutral")
    motion = load_motion(tmp_path / "a.npz")
    assert motion.frames_per_second == 120.0
    assert set(motion.rotations) == set(BODY_JOINTS)
    assert motion.rotations["pelvis"].abs().max() < 1e-6
    moved = motion.translation - motion.translation[0]
    torch.testing.assert_close(moved, torch.tensor([[0.0, 0, 0], [1, 0, -2], [0, 0.5, 0]]), atol=1e-6, rtol=0)


def test_other_spellings_of_rotations(tmp_path):
    body = np.random.default_rng(0).normal(size=(2, 63))
    np.savez(tmp_path / "amass.npz", root_orient=np.zeros((2, 3)), pose_body=body, trans=np.ones((2, 3)), up="y")
    np.savez(tmp_path / "smplx.npz", global_orient=np.zeros((2, 3)), body_pose=body, transl=np.ones((2, 3)))
    amass, other = (load_motion(tmp_path / f"{name}.npz") for name in ("amass", "smplx"))
    for motion in (amass, other):
        torch.testing.assert_close(motion.rotations["right_wrist"], torch.from_numpy(body[:, -3:]).float())
        assert torch.equal(motion.translation, other.translation) and not motion.rotations["pelvis"].any()


@pytest.mark.parametrize(("count", "names"), [(22, 22), (24, 24), (55, 55), (127, 55), (144, 55)])
def test_joints_without_names_are_known_by_their_number(tmp_path, count, names):
    # A bone is then at most nine numbers long, so half a metre.
    np.savez(tmp_path / "j.npz", joints=np.arange(count * 3.0).reshape(1, count, 3) / 32, up="z")
    motion = load_motion(tmp_path / "j.npz")
    assert len(motion.joint_names) == names and motion.joints.shape == (1, names, 3)
    assert (motion.joints[0, 1] * 32).tolist() == [3.0, 5.0, -4.0]
    if count >= 55:
        assert SMPLX_JOINTS.index("left_middle1") == 28 and SMPLX_JOINTS.index("right_middle1") == 43


BAD_FILES = {
    "width": ({"poses": np.zeros((4, 60))}, "'poses' has 60 numbers"),
    "rank": ({"poses": np.zeros(66)}, r"'poses' has shape \(66,\)"),
    "text": ({"poses": np.full((2, 66), "x")}, "expected numbers"),
    "complex": ({"poses": np.full((2, 66), 1j)}, "type complex128; expected numbers"),
    "beyond single precision": ({"poses": np.full((2, 66), 1e300)}, "beyond 1,000,000"),
    "nan": ({"poses": np.full((2, 66), np.nan)}, "NaN"),
    "empty": ({"poses": np.zeros((0, 66))}, "no frames"),
    "translation": ({"poses": np.zeros((4, 66)), "trans": np.zeros((3, 3))}, "'trans' has shape"),
    "keys": ({"betas": np.zeros(10)}, r"found the keys \['betas'\]"),
    "beyond people": ({"poses": np.zeros((1, 66)), "trans": np.full((1, 3), 1e7)}, "'trans' holds .* beyond 1,000,000"),
    "beyond all": ({"poses": np.full((1, 66), -(2**63))}, "'poses' holds .* beyond 1,000,000"),
    "scale": ({"poses": np.zeros((1, 66)), "scale": 1000.0}, "'scale' is 1000; expected numbers from 0.01 to 100"),
    "newline": ({"poses": np.zeros((1, 66)), "convention": "a\nb"}, r"no convention is named 'a\\nb'"),
    "hands": (
        {"global_orient": np.zeros((1, 3)), "body_pose": np.zeros((1, 63)), "left_hand_pose": np.zeros((1, 0))},
        r"'left_hand_pose' has shape \(1, 0\): it holds no numbers",
    ),
    "no joints": ({"joints": np.zeros((4, 0, 3)), "joint_names": np.array([], "U1")}, "it holds no numbers"),
    "few joints": (
        {"joints": np.zeros((4, 1, 3)), "joint_names": np.array(["neck"])},
        "its joints lack left_hip, .* without which a body has no orientation",
    ),
    "joints": ({"joints": np.zeros((4, 30, 3))}, "30 joints without"),
    "names": ({"joints": np.zeros((4, 3, 3)), "joint_names": np.array(["a", "b"])}, "expected one for each"),
    "objects": ({"poses": np.array([None, {}], dtype=object)}, "pickled Python objects"),
    "up": ({"poses": np.zeros((1, 66)), "up": "x"}, "expected one of y, -y, z"),
    "rate": ({"poses": np.zeros((1, 66)), "mocap_framerate": -1.0}, "positive"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_named_in_one_line(tmp_path, case):
    arrays, message = BAD_FILES[case]
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(DataError, match=message) as caught:
        load_motion(tmp_path / "bad.npz")
    assert "bad.npz" in str(caught.value) and "\n" not in str(caught.value)


def test_a_name_of_two_lines_is_told_in_one(tmp_path):
    with pytest.raises(DataError, match=r"a\\nb.npz: there is no such file"):
        load_motion(tmp_path / "a\nb.npz")


def test_missing_truncated_and_foreign_files(tmp_path):
    for name in ("none.npz", "none.json", "none.bvh"):
        with pytest.raises(DataError, match=f"{name}: there is no such file"):
            load_motion(tmp_path / name)
    np.savez(tmp_path / "whole.npz", poses=np.random.default_rng(0).normal(size=(50, 66)))
    data = (tmp_path / "whole.npz").read_bytes()
    for name, content in (("cut", data[: len(data) // 2]), ("empty", b""), ("text", b"hello")):
        (tmp_path / f"{name}.npz").write_bytes(content)
        with pytest.raises(DataError, match=f"{name}.npz"):
            load_motion(tmp_path / f"{name}.npz")
    middle = len(data) // 2
    (tmp_path / "flipped.npz").write_bytes(data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :])
    with pytest.raises(DataError, match="flipped"):
        load_motion(tmp_path / "flipped.npz")


def test_resampling_keeps_the_ends_and_goes_the_short_way():
    turn = torch.tensor([[0.0, 3.0, 0.0], [0.0, -3.0, 0.0]])  # The short way leads through pi.
    translation = torch.tensor([[0.0, 0, 0], [2.0, 0, 0]])
    motion = Motion(rotations={"pelvis": turn}, translation=translation, frames_per_second=30.0)
    fine = resample(motion, torch.linspace(0, 1, 5))
    assert fine.num_frames == 5 and fine.translation[:, 0].tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    torch.testing.assert_close(rotation_matrix(fine.rotations["pelvis"][[0, -1]]), rotation_matrix(turn))
    facing = rotation_matrix(fine.rotations["pelvis"])[:, 2, 2]
    assert (facing < math.cos(2.9)).all()
    assert fine.frames_per_second == pytest.approx(120.0)
    same = resample(_random_motion(), torch.arange(5.0))
    torch.testing.assert_close(same.translation, _random_motion().translation)
    assert resample(motion, torch.zeros(1)).num_frames == 1


# --- files as they are found --------------------------------------------------------------------------------------


def sways(frames: int = 3) -> np.ndarray:
    """(T, 55, 3) axis-angle vectors of SMPL-X, all different."""
    return 0.4 * np.random.default_rng(3).normal(size=(frames, 55, 3))


def matrices_of(vectors: np.ndarray) -> np.ndarray:
    return rotation_matrix(torch.from_numpy(vectors)).numpy()


# Name -> what a file holds; all of them say the same motion, without pelvis turn where y is up.
SHAPES = {
    "(T, 22, 3)": lambda v: {"poses": v[:, :22]},
    "(T, 55, 3)": lambda v: {"poses": v},
    "(T, 72)": lambda v: {"poses": v[:, :24].reshape(len(v), 72)},
    "(T, 24, 3, 3)": lambda v: {"poses": matrices_of(v[:, :24])},
    "(T, 22, 3, 3)": lambda v: {"poses": matrices_of(v[:, :22])},
    "(T, 1, 3)": lambda v: {"global_orient": v[:, :1], "body_pose": v[:, 1:22], "transl": np.zeros((len(v), 1, 3))},
    "(T, 23, 3)": lambda v: {"global_orient": v[:, 0], "body_pose": v[:, 1:24]},
    "(T, 1, 3, 3)": lambda v: {"global_orient": matrices_of(v[:, :1]), "body_pose": matrices_of(v[:, 1:24])},
    "(T, 3, 3)": lambda v: {"global_orient": matrices_of(v[:, 0]), "body_pose": matrices_of(v[:, 1:22])},
    "amass": lambda v: {"root_orient": v[:, :1], "pose_body": v[:, 1:22], "trans": np.zeros((len(v), 1, 3))},
}


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("case", SHAPES)
def test_rotations_are_read_in_every_shape_that_is_about(tmp_path, case, frames):
    vectors = sways(frames)
    np.savez(tmp_path / "m.npz", **SHAPES[case](vectors))
    motion = load_motion(tmp_path / "m.npz", up="y")
    assert motion.num_frames == frames
    for k, name in enumerate(BODY_JOINTS):
        expected = torch.from_numpy(vectors[:, k]).float()
        torch.testing.assert_close(motion.rotations[name], expected, atol=1e-5, rtol=0)
    assert motion.translation is None or motion.translation.shape == (frames, 3)


WIDTHS = {
    87: "EasyMocap",
    147: "24 rotations of 6 numbers",
    159: "SMPL-X without its eyes",
    216: "24 rotation matrices",
}


@pytest.mark.parametrize("width", [*WIDTHS, 90])
def test_poses_of_another_width_are_refused_with_whose_they_look_like(tmp_path, width):
    np.savez(tmp_path / "m.npz", poses=np.zeros((2, width)))
    with pytest.raises(DataError, match=f"'poses' has {width} numbers a frame") as caught:
        load_motion(tmp_path / "m.npz")
    assert "expected 66 or 72 or 156 or 165" in str(caught.value) and WIDTHS.get(width, "m.npz") in str(caught.value)


def test_the_orientation_that_easymocap_keeps_apart_is_not_dropped(tmp_path):
    np.savez(tmp_path / "m.npz", poses=np.zeros((2, 72)), Rh=np.full((2, 3), 0.5), Th=np.zeros((2, 3)))
    assert load_motion(tmp_path / "m.npz").rotations["pelvis"].tolist() == [[0.5] * 3] * 2
    np.savez(tmp_path / "m.npz", poses=np.ones((2, 72)), Rh=np.full((2, 3), 0.5), Th=np.zeros((2, 3)))
    with pytest.raises(DataError, match=r"turns the body in 'Rh' and in the first 3 numbers of 'poses', too"):
        load_motion(tmp_path / "m.npz")


@pytest.mark.parametrize(
    "rate", [b"120.0", np.array(b"120"), np.array(120), np.array([120.0]), "120", np.float32(120)], ids=repr
)
def test_a_rate_is_read_however_it_was_written(tmp_path, rate):
    np.savez(tmp_path / "m.npz", poses=np.zeros((2, 66)), mocap_framerate=rate)
    assert load_motion(tmp_path / "m.npz").frames_per_second == 120.0


@pytest.mark.parametrize("rate", [b"fast", np.array([30.0, 60.0]), np.nan, np.zeros(0)], ids=repr)
def test_a_rate_that_is_none_is_refused(tmp_path, rate):
    np.savez(tmp_path / "m.npz", poses=np.zeros((2, 66)), mocap_framerate=rate)
    with pytest.raises(DataError, match=r"m\.npz: 'mocap_framerate' is .*expected one positive number"):
        load_motion(tmp_path / "m.npz")


def test_an_array_of_objects_that_nobody_needs_is_not_looked_at(tmp_path):
    np.savez(tmp_path / "m.npz", poses=np.zeros((2, 66)), gender=np.array(["female", None], dtype=object))
    assert load_motion(tmp_path / "m.npz").num_frames == 2


def test_names_that_were_stored_as_bytes_are_names(tmp_path):
    np.savez(tmp_path / "m.npz", joints=np.zeros((2, 6, 3)), joint_names=np.array(NEEDED, dtype="S"), up=b"y")
    assert load_motion(tmp_path / "m.npz").joint_names == NEEDED


def test_what_is_no_rotation_is_refused(tmp_path):
    np.savez(tmp_path / "m.npz", poses=np.full((2, 24, 3, 3), 0.5))
    with pytest.raises(DataError, match="not all of it are rotation matrices"):
        load_motion(tmp_path / "m.npz")
    np.savez(tmp_path / "m.npz", global_orient=np.zeros((2, 3)), body_pose=np.zeros((3, 63)))
    with pytest.raises(DataError, match="'global_orient' has 2 frames and 'body_pose' 3"):
        load_motion(tmp_path / "m.npz")


def test_the_word_of_the_user_decides_which_axis_is_up(tmp_path):
    np.savez(tmp_path / "m.npz", poses=np.zeros((2, 72)), trans=np.full((2, 3), 0.5))
    standing, lying = load_motion(tmp_path / "m.npz", up="y"), load_motion(tmp_path / "m.npz")
    assert not standing.rotations["pelvis"].any()
    expected = torch.tensor(SMPL_PELVIS) + torch.tensor([0.5, 0.5 - 0.92, 0.5])
    torch.testing.assert_close(standing.translation, expected.expand(2, 3))
    assert lying.rotations["pelvis"][:, 0].tolist() == pytest.approx([-QUARTER] * 2)
    np.savez(tmp_path / "j.npz", joints=np.ones((2, 6, 3)), joint_names=NEEDED, up="z")
    assert load_motion(tmp_path / "j.npz", up="y").joints[0, 0].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(("factor", "unit"), [(1000, "millimetres: save joints / 1000"), (100, "centimetres")])
def test_joints_in_another_unit_are_noticed_by_their_bones(tmp_path, factor, unit):
    body = Anny().animate(_random_motion(), mesh=False)
    joints = body.joints[0].numpy()
    np.savez(tmp_path / "m.npz", joints=joints, joint_names=np.array(JOINTS))
    torch.testing.assert_close(load_motion(tmp_path / "m.npz").joints, body.joints[0])
    np.savez(tmp_path / "mm.npz", joints=joints * factor, joint_names=np.array(JOINTS))
    with pytest.raises(DataError, match=rf"mm\.npz: bones of arms and legs.*expected metres.*{unit}"):
        load_motion(tmp_path / "mm.npz")


FOREIGN = {
    "m.pkl": (b"\x80\x04\x95", "a pickle"),
    "m.jsonl": (b'{"poses": []}', "JSON"),
    "m.mp4": (b"\x00\x00\x00\x20ftyp", "a video"),
    "m.npy": (b"\x93NUMPY\x01\x00", "a single array"),
    # Under another name.
    "pickle.npz": (b"\x80\x02}q\x00", "a pickle"),
    "json.npz": (b'{"poses": []}', "JSON"),
    "bvh.npz": (b"HIERARCHY\nROOT Hips", "a BVH"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_of_another_kind_is_told_what_it_is_and_what_to_do(tmp_path, name):
    content, what = FOREIGN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: is {what}") as caught:
        load_motion(tmp_path / name)
    assert "damaged" not in str(caught.value) and "\n" not in str(caught.value) and "npz" in str(caught.value)


@pytest.mark.parametrize("name", ["m.pt", "m.npz"])
def test_a_file_of_pytorch_is_told_by_its_name_and_by_what_it_holds(tmp_path, name):
    torch.save({"body_pose": torch.zeros(2, 63)}, tmp_path / name)
    with pytest.raises(DataError, match=f"{name}: is a file of PyTorch"):
        load_motion(tmp_path / name)
