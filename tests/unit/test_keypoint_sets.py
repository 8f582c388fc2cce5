"""Joints of detectors drive a body as SMPL-X's do: its limbs point where theirs point."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from components.bodies.anny import Anny
from hvg.core.errors import DataError
from hvg.geometry.keypoint_sets import COCO, HUMAN36M, MEDIAPIPE
from hvg.geometry.motion import BODY_JOINTS, Motion
from hvg.geometry.motion_files import load_motion
from hvg.geometry.skeleton import BONES

LIMBS = [(a, b) for a, b in BONES if b.endswith(("knee", "ankle", "elbow", "wrist"))]
MEDIAPIPE_AXES = torch.tensor([1.0, -1.0, -1.0])


@pytest.fixture(scope="module")
def walker():
    """Places (4, 3) of a person's joints by name, who moves arms and legs, 2 m beside the origin."""
    random = torch.Generator().manual_seed(1)
    moved = [name for name in BODY_JOINTS if name.endswith(("hip", "knee", "shoulder", "elbow"))]
    turns = {name: 0.4 * torch.randn(4, 3, generator=random) for name in moved}
    body = Anny().animate(Motion(rotations=turns, translation=torch.tensor([[2.0, 0, 0]]).expand(4, 3)), mesh=False)
    return dict(zip(body.joint_names, body.joints[0].unbind(1), strict=True))


def detected(walker, names):
    """(4, J, 3): what a detector of these joints sees of the person; a face, hands and feet near theirs."""
    near = {
        **dict.fromkeys((n for n in names if n.startswith(("nose", "mouth")) or "eye" in n or "ear" in n), "head"),
        **{f"{side}_{x}": f"{side}_middle1" for side in ("left", "right") for x in ("index", "pinky", "thumb")},
        **{
            f"{side}_{x}": f"{side}_{y}"
            for side in ("left", "right")
            for x, y in (("heel", "ankle"), ("foot_index", "foot"))
        },
    }
    middle = {"pelvis": ("left_hip", "right_hip"), "neck": ("left_shoulder", "right_shoulder")}
    places = []
    for name in names:
        if name in middle:
            a, b = middle[name]
            places.append((walker[a] + walker[b]) / 2)
        else:
            aside = 0.05 * (("left" in name) - ("right" in name)) if near.get(name) == "head" else 0.0
            places.append(walker[near.get(name, name)] + torch.tensor([aside, 0.0, 0.0]))
    return torch.stack(places, dim=1)


def in_mediapipes_world(joints):
    """y down, the middle of the hips at the origin."""
    hips = joints[:, [MEDIAPIPE.index("left_hip"), MEDIAPIPE.index("right_hip")]].mean(dim=1, keepdim=True)
    return (joints - hips) * MEDIAPIPE_AXES


SETS = {"COCO": (COCO, 17), "MediaPipe": (MEDIAPIPE, 33), "Human3.6M": (HUMAN36M, 17)}


@pytest.mark.parametrize("named", [False, True], ids=["without names", "with names"])
@pytest.mark.parametrize("kind", SETS)
def test_a_body_stands_as_the_detected_person_does(walker, tmp_path, kind, named):
    names, count = SETS[kind]
    joints = detected(walker, names)
    assert len(names) == len(set(names)) == count
    if kind == "MediaPipe":
        joints = in_mediapipes_world(joints)
    words = {"joint_names": np.array(names), "up": "-y" if kind == "MediaPipe" else "y"} if named else {}
    np.savez(tmp_path / "m.npz", joints=joints.numpy(), **words)
    motion = load_motion(tmp_path / "m.npz")
    places = motion.places()
    middle = (places["left_hip"] + places["right_hip"]) / 2
    assert (places["pelvis"] - middle).abs().max() < 1e-6
    assert (places["neck"] - (places["left_shoulder"] + places["right_shoulder"]) / 2).abs().max() < 1e-6
    moved = Anny().animate(motion, mesh=False)
    at = dict(zip(moved.joint_names, moved.joints[0].unbind(1), strict=True))
    assert (at["pelvis"] - middle).abs().max() < 1e-5
    for a, b in LIMBS:
        assert cosine_similarity(at[b] - at[a], walker[b] - walker[a], dim=-1).min() > 0.9998, (a, b)
    # Upright, in whatever world the set has, and where the person was, if that says where.
    assert ((at["neck"] - at["pelvis"])[:, 1] > 0.3).all()
    assert torch.allclose(at["pelvis"][:, 0].mean(), torch.tensor(0.0 if kind == "MediaPipe" else 2.0), atol=0.2)


def test_parts_that_a_set_has_are_not_made(walker, tmp_path):
    joints = detected(walker, COCO)
    pelvis = walker["pelvis"] + 0.03
    np.savez(
        tmp_path / "m.npz", joints=torch.cat([joints, pelvis[:, None]], dim=1).numpy(), joint_names=[*COCO, "pelvis"]
    )
    assert torch.allclose(load_motion(tmp_path / "m.npz").places()["pelvis"], pelvis)


def test_seventeen_joints_of_nobody_knows_whom_are_refused(tmp_path):
    np.savez(tmp_path / "m.npz", joints=np.random.default_rng(0).normal(size=(5, 17, 3)))
    with pytest.raises(DataError, match=r"17 joints without 'joint_names'; expected names, or 17 \(COCO, Human3.6M\)"):
        load_motion(tmp_path / "m.npz")
