"""What estimators write is converted without running it, and moves a body as it says."""

import collections
import io
import json
import os
import pickle
import re
import sys
import types
import zlib
from unittest.mock import patch
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from body_models import parent_of

from hvg.cli import run
from hvg.core.errors import DataError
from hvg.geometry import pickled_files
from hvg.geometry.keypoint_sets import BODY25, COCO
from hvg.geometry.motion import BODY_JOINTS
from hvg.geometry.motion_files import load_motion
from hvg.geometry.pickled_files import read_pickled
from hvg.geometry.rotations import rotation_matrix
from hvg.geometry.skeleton import JOINTS
from hvg.testing.scene import standing_joints

FRAMES = 4


def random(*shape, seed=0):
    return 0.4 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class NumpyArrayWrapper:
    """Stands for joblib.numpy_pickle.NumpyArrayWrapper."""

    def __init__(self, array):
        order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
        self.subclass, self.shape, self.order, self.dtype = type(array), array.shape, order, array.dtype
        self.allow_mmap, self.numpy_array_alignment_bytes = True, 16


NumpyArrayWrapper.__module__ = "joblib.numpy_pickle"


class JoblibPickler(pickle._Pickler):
    """Writes the bytes of arrays into the midst of the pickle, as joblib does: after one that says how many to skip."""

    def __init__(self, stream):
        super().__init__(stream, 4)
        self.stream = stream

    def save(self, obj, save_persistent_id=True):
        if type(obj) is not np.ndarray:
            return super().save(obj, save_persistent_id)
        super().save(NumpyArrayWrapper(obj))
        self.framer.commit_frame(force=True)
        skipped = 16 - (self.stream.tell() + 1) % 16
        self.stream.write(bytes([skipped]) + b"\xff" * skipped + obj.tobytes("A"))


def by_joblib(value):
    module = types.ModuleType("joblib.numpy_pickle")
    module.NumpyArrayWrapper = NumpyArrayWrapper
    stream = io.BytesIO()
    with patch.dict(sys.modules, {"joblib": types.ModuleType("joblib"), "joblib.numpy_pickle": module}):
        JoblibPickler(stream).dump(value)
    return stream.getvalue()


def convert(tmp_path, *words):
    """The motion that ``hvg convert`` makes of in.*; fails where it does."""
    source = next(tmp_path.glob("in.*"))
    (tmp_path / "out.npz").unlink(missing_ok=True)
    assert run(["convert", f"motion={source}", f"out={tmp_path}/out.npz", *words]) == 0
    return load_motion(tmp_path / "out.npz")


def gvhmr():
    """hmr4d_results.pt."""
    body = {"body_pose": random(FRAMES, 63), "betas": random(FRAMES, 10)}
    world = {**body, "global_orient": random(FRAMES, 3, seed=1), "transl": random(FRAMES, 3, seed=2)}
    camera = {**body, "global_orient": random(FRAMES, 3, seed=3), "transl": random(FRAMES, 3, seed=4)}
    return {
        "smpl_params_global": world,
        "smpl_params_incam": camera,
        "K_fullimg": torch.eye(3).expand(FRAMES, 3, 3),
        "net_outputs": {"pred_x": random(1, FRAMES, 151), "static_conf_logits": random(FRAMES, 6).half()},
    }


def test_a_result_of_gvhmr_is_in_its_world_or_in_the_cameras_axes(tmp_path, capsys):
    torch.save(given := gvhmr(), tmp_path / "in.pt")
    motion = convert(tmp_path)
    assert "betas, body_pose, global_orient, transl, up" in capsys.readouterr().out
    world, camera = given["smpl_params_global"], given["smpl_params_incam"]
    assert motion.body.family == "smplx" and motion.body.convention.up == "y"
    for word, values in world.items():
        assert torch.equal(motion.body.values[word], values)
    seen = convert(tmp_path, "axes=camera")
    assert seen.body.convention.up == "-y"
    turn = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    assert torch.equal(seen.body.values["transl"], camera["transl"])
    expected = turn @ rotation_matrix(camera["global_orient"])
    assert torch.allclose(rotation_matrix(seen.rotations["pelvis"]), expected, atol=1e-5)


@pytest.mark.parametrize("packed", [False, True])
def test_a_result_of_wham_holds_persons(tmp_path, capsys, packed):
    """Under NumPy's numbers, in a dictionary that makes its own entries."""
    results = collections.defaultdict(dict)
    for person in (0, 2):
        results[np.int64(person)] |= {
            "pose_world": random(FRAMES, 72, seed=person).numpy(),
            "pose": random(FRAMES, 72, seed=5).numpy(),
            "trans_world": np.asfortranarray(random(FRAMES, 3, seed=6).numpy()),
            "trans": random(FRAMES, 3, seed=7).numpy(),
            "betas": random(FRAMES, 10).numpy(),
            "verts": np.zeros((FRAMES, 10, 3), np.float32),
            "frame_ids": np.array([0, 1, 5, 6]),
        }
    data = by_joblib(results)
    (tmp_path / "in.pkl").write_bytes(zlib.compress(data) if packed else data)
    assert run(["convert", f"motion={tmp_path}/in.pkl", f"out={tmp_path}/out.npz"]) == 1
    assert "holds the persons 0, 2, several; say which with person=" in capsys.readouterr().err
    motion = convert(tmp_path, "person=2")
    assert "frames are missing between those" in capsys.readouterr().out
    assert motion.body.family == "smpl" and motion.body.convention.up == "y"
    poses = torch.from_numpy(results[2]["pose_world"])
    assert torch.equal(motion.rotations["left_wrist"], poses[:, 60:63])
    assert torch.equal(motion.body.values["transl"], torch.from_numpy(results[2]["trans_world"]))
    assert torch.equal(
        convert(tmp_path, "person=2", "axes=camera").body.values["global_orient"], random(FRAMES, 72, seed=5)[:, :3]
    )


def test_a_result_of_4d_humans_holds_frames(tmp_path, capsys):
    def body(k):
        turns = rotation_matrix(random(24, 3, seed=k)).numpy()
        return {"global_orient": turns[:1], "body_pose": turns[1:], "betas": np.full(10, k, np.float32)}

    frames = {
        f"frame{k}.jpg": {
            "time": k,
            "tid": [1, 7][: 2 if k else 1],
            "smpl": [body(k), body(k + 10)][: 2 if k else 1],
            "mask": [],
        }
        for k in (2, 0, 1)
    }
    (tmp_path / "in.pkl").write_bytes(by_joblib(frames))
    motion = convert(tmp_path, "person=7")
    told = capsys.readouterr().out
    assert "the person stays where they are" in told and "person 7 is in 2 of 3 frames" in told
    assert motion.num_frames == 2 and motion.translation is None and motion.body.family == "smpl"
    assert motion.body.values["betas"][:, 0].tolist() == [11, 12]
    assert torch.allclose(motion.rotations["left_knee"][0], random(24, 3, seed=11)[4], atol=1e-5)


def test_arrays_under_their_own_names_are_taken_as_they_are(tmp_path):
    given = {
        "poses": random(FRAMES, 156).numpy(),
        "trans": random(FRAMES, 3).numpy(),
        "gender": "female",
        "other": object,
    }
    (tmp_path / "in.pkl").write_bytes(pickle.dumps(given))
    motion = convert(tmp_path)
    assert motion.body.family == "smplh" and motion.body.gender == "female"
    assert torch.equal(motion.body.values["transl"], random(FRAMES, 3))


class Calls:
    """Pickled as a call."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def planted(canary):
    """Files that make the canary where somebody runs them, by their names."""
    call = Calls(os.system, (f"touch {canary}",))
    torch_file = io.BytesIO()
    torch.save({"smpl_params_global": call, "x": torch.zeros(2)}, torch_file)
    return {
        "in.pkl": pickle.dumps({"poses": call}),
        "in.pt": torch_file.getvalue(),
        "in.joblib": by_joblib({"poses": np.zeros((2, 72)), "beside": call}),
        "in.pickle": zlib.compress(pickle.dumps({"poses": call})),
    }


@pytest.mark.parametrize("name", ["in.pkl", "in.pt", "in.joblib", "in.pickle"])
def test_code_in_a_motion_is_not_run(tmp_path, capsys, name):
    canary = tmp_path / "canary"
    (tmp_path / name).write_bytes(planted(canary)[name])
    assert run(["convert", f"motion={tmp_path / name}", f"out={tmp_path}/out.npz"]) == 1
    message = capsys.readouterr().err
    assert "asks for 'posix.system', which is never called" in message and name in message and message.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_planted_code_is_live(tmp_path):
    pickle.loads(planted(tmp_path / "canary")["in.pkl"])
    assert (tmp_path / "canary").exists()


def damaged():
    """What is wrong with a file, and the message."""
    torch_file = io.BytesIO()
    torch.save({"poses": torch.zeros(2, 72)}, torch_file)
    short = io.BytesIO()
    with ZipFile(torch_file) as whole, ZipFile(short, "w") as part:
        for name in whole.namelist():
            part.writestr(name, whole.read(name)[: 100 if "/data/" in name else None])
    empty = io.BytesIO()
    with ZipFile(empty, "w") as archive:
        archive.writestr("readme", "")
    good = pickle.dumps({"poses": np.zeros((2, 72))})
    old = io.BytesIO()
    torch.save({"poses": torch.zeros(2, 72)}, old, _use_new_zipfile_serialization=False)
    return {
        "cut": (good[:-20], "damaged or no pickle"),
        "old": (old.getvalue(), "in the form that torch.save wrote before version 1.6; save it anew"),
        "text": (b"hello", "damaged or no pickle"),
        "cut within": (by_joblib({"poses": np.zeros((2, 72))})[:400], "damaged or no pickle"),
        "tensor": (short.getvalue(), "damaged or no pickle"),
        "zip": (empty.getvalue(), "without data.pkl; expected a file that torch.save has written"),
        "xz": (b"\xfd7zXZ\x00", r"is compressed by xz; save it with joblib.dump\(..., compress=0\)"),
        "objects": (by_joblib({"poses": np.array([None, 1])}), "holds an array of objects"),
        "a list": (pickle.dumps([1]), "holds no entries by name; expected a motion of GVHMR"),
        "keys": (pickle.dumps({"a": 1}), "found the keys a; expected a motion of GVHMR"),
        "width": (pickle.dumps({"poses": np.zeros((2, 70))}), "'poses' has 70 numbers a frame"),
        "gvhmr": (pickle.dumps({"smpl_params_global": {}}), "is not as its program writes it .KeyError"),
        "wham": (
            pickle.dumps({0: {"pose_world": "x", "trans_world": [0]}}),
            "is not as its program writes it .TypeError",
        ),
        "loop": (b"\x80\x02]q\x00h\x00a.", "holds no entries by name|damaged"),
    }


@pytest.mark.parametrize("case", damaged())
def test_damage_is_named_in_one_line_and_nothing_is_written(tmp_path, capsys, case):
    data, message = damaged()[case]
    (tmp_path / "in.pkl").write_bytes(data)
    assert run(["convert", f"motion={tmp_path}/in.pkl", f"out={tmp_path}/out.npz"]) == 1
    told = capsys.readouterr().err
    assert re.search(message, told) and "in.pkl" in told and told.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in.pkl"]


def test_a_body_or_a_motion_is_converted(tmp_path, capsys):
    for words in ([], [f"body={tmp_path}/a.pkl", f"motion={tmp_path}/b.pkl"]):
        assert run(["convert", *words, f"out={tmp_path}/out.npz"]) == 1
        assert "give one of body=MODEL.pkl and motion=FILE" in capsys.readouterr().err


def test_a_pickle_that_is_not_followed_to_its_end_takes_no_memory(tmp_path):
    (tmp_path / "in.pkl").write_bytes(zlib.compress(b"\x80\x02" + b"(" * 10**6))
    with pytest.raises(DataError, match="damaged or no pickle"):
        read_pickled(tmp_path / "in.pkl")


def test_tensors_that_repeat_their_numbers_do_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(pickled_files, "LARGEST", 2**20)
    torch.save({f"x{k}": torch.zeros(1).expand(2**16) for k in range(8)}, tmp_path / "in.pt")
    assert (tmp_path / "in.pt").stat().st_size < 2**16
    with pytest.raises(DataError, match="its arrays take more than 1048576 bytes"):
        read_pickled(tmp_path / "in.pt")


# --- positions of joints ---


def save_points(folder, points):
    folder.mkdir()
    for k, frame in enumerate(points):
        (folder / f"{k:06d}.json").write_text(json.dumps([{"id": 0, "keypoints3d": frame.tolist()}]))


def test_keypoints_of_easymocap_get_smplx_names(tmp_path):
    """BODY_25: the foot is between the toes, the head between the ears; a joint that is not seen lies between its frames."""
    points = np.concatenate([random(3, 25, 3).double().numpy(), np.ones((3, 25, 1))], axis=2)
    place = dict(zip(BODY25, range(25), strict=True))
    points[1, place["left_knee"]] = 0
    points[:, place["nose"], 3] = 0
    # Limbs of a person's length.
    for side in ("left", "right"):
        for start, end in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist")):
            points[[0, 2], place[f"{side}_{end}"], :3] = points[[0, 2], place[f"{side}_{start}"], :3] + [0, -0.3, 0]
    save_points(tmp_path / "keypoints3d", points)
    motion = load_motion(tmp_path / "keypoints3d")
    at = motion.places()
    assert "nose" not in at and {"pelvis", "neck", "head", "left_foot"} <= set(at)
    between = (points[0, place["left_knee"], :3] + points[2, place["left_knee"], :3]) / 2
    assert at["left_knee"][1].numpy() == pytest.approx(between)
    foot = (points[:, place["left_big_toe"], :3] + points[:, place["left_small_toe"], :3]) / 2
    assert at["left_foot"].numpy() == pytest.approx(foot, abs=1e-6)
    assert at["pelvis"].numpy() == pytest.approx(points[:, 8, :3], abs=1e-6)


def test_a_joint_that_cocos_detector_never_saw_is_left_out(tmp_path):
    points = np.concatenate([random(3, 17, 3).double().numpy(), np.ones((3, 17, 1))], axis=2)
    points[:, COCO.index("left_ankle")] = 0
    for side in ("left", "right"):
        for start, end in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist")):
            if (side, end) != ("left", "ankle"):
                start, end = (COCO.index(f"{side}_{joint}") for joint in (start, end))
                points[:, end, :3] = points[:, start, :3] + [0, -0.3, 0]
    save_points(tmp_path / "keypoints3d", points)
    at = load_motion(tmp_path / "keypoints3d").places()
    assert "left_ankle" not in at and {"pelvis", "neck", "right_ankle"} <= set(at)
    points[..., 3] = 0
    save_points(tmp_path / "unseen", points)
    with pytest.raises(DataError, match="it holds no numbers"):
        load_motion(tmp_path / "unseen")


def test_poses_in_json_without_their_place_are_refused(tmp_path):
    """By themselves they would be taken for AMASS's, whose world has z up."""
    (tmp_path / "000000.json").write_text(json.dumps([{"id": 0, "poses": [[0.0] * 72]}]))
    with pytest.raises(DataError, match=r"000000\.json: has neither 'Rh' nor 'Th' beside 'poses'"):
        load_motion(tmp_path)


MIXAMO = {
    "pelvis": "Hips", "spine1": "Spine", "spine2": "Spine1", "spine3": "Spine2", "neck": "Neck", "head": "Head",
    **{f"{side}_{joint}": f"{side.title()}{name}" for side in ("left", "right") for joint, name in {
        "hip": "UpLeg", "knee": "Leg", "ankle": "Foot", "foot": "ToeBase", "collar": "Shoulder", "shoulder": "Arm",
        "elbow": "ForeArm", "wrist": "Hand",
    }.items()},
}  # fmt: skip
COLLARS = MIXAMO | {
    f"{side}_{joint}": f"{side.title()}{name}"
    for side in ("left", "right")
    for joint, name in {
        "hip": "Hip",
        "knee": "Knee",
        "collar": "Collar",
        "shoulder": "Shoulder",
        "elbow": "Elbow",
    }.items()
}


def write_bvh(path, names, unit, turns, place, *, prefix=""):
    """The standing person in BVH, every joint turned by (T, 3) degrees about Z, X and Y; ``unit`` of them are a metre."""
    at = dict(zip(JOINTS, standing_joints().numpy(), strict=True))
    lines: list[str] = ["HIERARCHY"]
    order = []

    def joint(name, depth):
        order.append(name)
        parent = parent_of(name)
        offset = unit * (at[name] - (at[parent] if parent else at[name]))
        channels = "3 Zrotation Xrotation Yrotation"
        if not parent:
            channels = f"6 Xposition Yposition Zposition {channels[2:]}"
        lines.extend([f"{'ROOT' if not parent else 'JOINT'} {prefix}{names[name]}", "{"])
        lines.append(f"OFFSET {' '.join(map(str, offset))}\nCHANNELS {channels}")
        below = [child for child in names if parent_of(child) == name]
        for child in below:
            joint(child, depth + 1)
        if not below:
            lines.append("End Site\n{\nOFFSET 0 0 0\n}")
        lines.append("}")

    joint("pelvis", 0)
    frames = len(turns)
    rows = [" ".join(map(str, [*(unit * place[k]), *turns[k, : len(order)].reshape(-1)])) for k in range(frames)]
    path.write_text("\n".join([*lines, "MOTION", f"Frames: {frames}", "Frame Time: 0.04", *rows]) + "\n")
    return order, at


def expected_places(order, at, turns, place):
    """Joint -> (T, 3), metres, by turning one joint after the other."""

    def about(axis, degrees):
        vector = np.zeros(3)
        vector[axis] = np.radians(degrees)
        return rotation_matrix(torch.from_numpy(vector)).numpy()

    places = {}
    for k in range(len(turns)):
        whole, there = {}, {}
        for name, (z, x, y) in zip(order, turns[k], strict=False):
            local, parent = about(2, z) @ about(0, x) @ about(1, y), parent_of(name)
            whole[name] = local if parent is None else whole[parent] @ local
            there[name] = place[k] if parent is None else there[parent] + whole[parent] @ (at[name] - at[parent])
            places.setdefault(name, []).append(there[name])
    return {name: np.stack(each) for name, each in places.items()}


@pytest.mark.parametrize(
    ("names", "unit", "prefix", "told"),
    [
        (MIXAMO, 100.0, "mixamorig:", "centimetres"),
        (MIXAMO, 1000.0, "", "millimetres"),
        (COLLARS, 0.45 / 0.0254, "", "CMU's unit"),
        (MIXAMO, 1.0, "character:", "metres"),
    ],
)
def test_a_bvh_gives_positions_of_joints_in_metres(tmp_path, names, unit, prefix, told):
    rng = np.random.default_rng(0)
    turns, place = rng.uniform(-60, 60, (3, 22, 3)), rng.normal(size=(3, 3))
    order, at = write_bvh(tmp_path / "m.bvh", names, unit, turns, place, prefix=prefix)
    motion = load_motion(tmp_path / "m.bvh")
    assert motion.frames_per_second == pytest.approx(25) and told in motion.notes[0]
    assert set(motion.joint_names) >= set(BODY_JOINTS)
    for name, expected in expected_places(order, at, turns, place).items():
        assert motion.places()[name].numpy() == pytest.approx(expected, abs=1e-4)


BVH = """HIERARCHY
ROOT Hips
{
OFFSET 0 0 0
CHANNELS 3 Xposition Yposition Zposition
End Site
{
OFFSET 0 1 0
}
}
MOTION
Frames: 1
Frame Time: 0.1
0 0 0
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("", "", "none of its joints is the left_hip; it has Hips"),
        ("HIERARCHY", "hello", "expected HIERARCHY first"),
        ("Frames: 1", "Frames: 2", "3 numbers for 2 frames of 3 channels"),
        ("Frame Time: 0.1", "", "expected MOTION, Frames: and Frame Time:"),
        ("Frame Time: 0.1", "Frame Time: 0", "0 seconds each"),
        ("OFFSET 0 0 0", "OFFSET a b c", "could not convert string to float"),
        ("OFFSET 0 1 0\n}\n}", "OFFSET 0 1", "expected 3, got 2"),
        ("OFFSET 0 0 0", "HELLO", "'HELLO' where a joint was expected"),
        ("Zposition", "Wposition", "'Wposition' is no channel"),
        ("0 0 0\n", "0 0 nan\n", "3 numbers for 1 frames"),
    ],
)
def test_a_bvh_that_does_not_fit_is_named_in_one_line(tmp_path, old, new, message):
    head, mark, rest = BVH.partition("MOTION")
    text = BVH.replace(old, new) if "nan" not in new else head + mark + rest.replace(old, new)
    (tmp_path / "m.bvh").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        load_motion(tmp_path / "m.bvh")
    assert "m.bvh" in str(caught.value) and "\n" not in str(caught.value)
