"""Somebody else's motion files: read, brought into one convention and posed, joints are where the package smplx has them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from body_models import by_the_package, given_parameters, write_body_model

from components.bodies.anny import Anny
from components.bodies.smpl import Smpl
from components.bodies.smplh import SmplH
from components.bodies.smplx import SmplX
from hvg.core.errors import DataError
from hvg.geometry.given_motion import SMPLX_REST
from hvg.geometry.motion import BODY_JOINTS, TO_Y_UP, resample
from hvg.geometry.motion_files import files_of, load_motion
from hvg.geometry.rotations import rotation_matrix

BODIES = {"smpl": (Smpl, 10), "smplh": (SmplH, 16), "smplx": (SmplX, 20)}
FRAMES = 3
WHOLE_HANDS = {"use_pca": False, "flat_hand_mean": True}
Z_UP = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Body models whose hands are of six components, so that every convention can express the same ones."""
    folder = tmp_path_factory.mktemp("bodies")
    for family, (_, directions) in BODIES.items():
        write_body_model(folder / f"{family.upper()}_NEUTRAL.npz", family, directions, mean_within=6)
    return folder


@pytest.fixture(scope="module")
def truths(folder):
    """Family -> the body, parameters in words of smplx with flat hands of 45 numbers, and the package's joints (T, J, 3)."""
    made = {}
    for family, (cls, _) in BODIES.items():
        body, rng = cls(cls.Config(path=folder)), np.random.default_rng(7)
        given = {word: x.float() for word, x in given_parameters(family, rng).items()}
        # One person, as files have them.
        given["betas"] = given["betas"][:1]
        for side in ("left", "right") if family != "smpl" else ():
            components = torch.from_numpy(body.file.arrays[f"hands_components{side[0]}"][:6])
            given[f"{side}_hand_pose"] = (
                0.3 * torch.randn(FRAMES, 6, generator=torch.Generator().manual_seed(1)) @ components
            )
        options = WHOLE_HANDS if family != "smpl" else {}
        each = {**given, "betas": given["betas"].expand(FRAMES, -1)}
        made[family] = (body, given, by_the_package(folder, family, each, **options)[1])
    return made


def pelvis_at_rest(body, given):
    """(T, 3) of the person at rest, whose face moves it a little, by the regressor alone."""
    arrays = {
        name: torch.from_numpy(body.file.arrays[name]).double() for name in ("v_template", "shapedirs", "J_regressor")
    }
    expression = given.get("expression", torch.zeros(FRAMES, 0))
    coefficients = torch.cat([given["betas"].expand(FRAMES, -1), expression], dim=1).double()
    rest = arrays["v_template"] + torch.einsum(
        "pcs,ts->tpc", arrays["shapedirs"][:, :, : coefficients.shape[1]], coefficients
    )
    return torch.einsum("p,tpc->tc", arrays["J_regressor"][0], rest).float()


def components(body, given, count, mean):
    """Hands as the first components, of what is added to the mean hand or to the flat one."""
    hands = {}
    for side in ("left", "right"):
        pose = given[f"{side}_hand_pose"] - (torch.from_numpy(body.file.arrays[f"hands_mean{side[0]}"]) if mean else 0)
        basis = torch.from_numpy(body.file.arrays[f"hands_components{side[0]}"][:count])
        hands[f"{side}_hand_pose"] = torch.linalg.lstsq(basis.mT, pose.mT).solution.mT
    return hands


def turned(given, body, matrix):
    """First rotation and translation of the same person in a world that is turned by ``matrix``."""
    pelvis = pelvis_at_rest(body, given)
    first = torch.from_numpy(np.stack([_log(matrix @ rotation_matrix(x)) for x in given["global_orient"]]))
    return first, (pelvis + given["transl"]) @ matrix.mT - pelvis


def _log(matrix):
    import roma

    return roma.rotmat_to_rotvec(matrix).numpy()


def amass(body, given, family):
    """All rotations in one array, z up."""
    first, shift = turned(given, body, Z_UP.mT)
    words = {
        "smpl": ("body_pose",),
        "smplh": ("body_pose", "left_hand_pose", "right_hand_pose"),
        "smplx": ("body_pose", "jaw_pose", "leye_pose", "reye_pose", "left_hand_pose", "right_hand_pose"),
    }[family]
    poses = torch.cat([first, *(given[word] for word in words)], dim=1)
    kept = {"betas": given["betas"][0]} | ({"expression": given["expression"]} if family == "smplx" else {})
    return {"poses": poses, "trans": shift, "gender": "neutral", "mocap_framerate": 60.0, **kept}


def easymocap(body, given, family, hands=6):
    """R X + Th, of a body that is turned about its origin."""
    pelvis, turn = pelvis_at_rest(body, given), rotation_matrix(given["global_orient"])
    place = given["transl"] + pelvis - (turn @ pelvis[..., None])[..., 0]
    rest = [torch.zeros(FRAMES, 3), given["body_pose"]]
    if family != "smpl":
        rest += list(components(body, given, hands, mean=True).values())
    if family == "smplx":
        rest += [given[word] for word in ("jaw_pose", "leye_pose", "reye_pose")]
    kept = {"expression": given["expression"]} if family == "smplx" else {}
    return {
        "Rh": given["global_orient"],
        "Th": place,
        "poses": torch.cat(rest, dim=1),
        "shapes": given["betas"],
        **kept,
    }


def parts(body, given):
    """AMASS's words for SMPL-X, beside each other."""
    first, shift = turned(given, body, Z_UP.mT)
    return {
        "root_orient": first,
        "pose_body": given["body_pose"],
        "pose_jaw": given["jaw_pose"],
        "pose_eye": torch.cat([given["leye_pose"], given["reye_pose"]], dim=1),
        "pose_hand": torch.cat([given["left_hand_pose"], given["right_hand_pose"]], dim=1),
        "trans": shift,
        "betas": given["betas"],
        "expression": given["expression"],
    }


def matrices(given):
    names = [word for word in given if word.endswith("_pose") or word == "global_orient"]
    return {**given, **{word: rotation_matrix(given[word].unflatten(1, (-1, 3))) for word in names}}


def down(body, given):
    """A world with y down."""
    first, shift = turned(given, body, torch.diag(torch.tensor([1.0, -1.0, -1.0])))
    return {**given, "global_orient": first, "transl": shift, "up": "-y"}


def z_down(body, given):
    """The world of MVHumanNet's studios."""
    first, shift = turned(given, body, TO_Y_UP["-z"].mT)
    return {**given, "global_orient": first, "transl": shift}


def from_mean(body, given):
    """Hands of 45 numbers, 0 for the mean one."""
    means = {
        f"{side}_hand_pose": torch.from_numpy(body.file.arrays[f"hands_mean{side[0]}"]) for side in ("left", "right")
    }
    return {**given, **{word: given[word] - mean for word, mean in means.items()}}


# Name -> family, what the file holds, and what a user says of it.
FILES = {
    "AMASS, SMPL": ("smpl", lambda b, g: amass(b, g, "smpl"), {}),
    "AMASS, SMPL-H": ("smplh", lambda b, g: amass(b, g, "smplh"), {}),
    "AMASS, SMPL-X": ("smplx", lambda b, g: amass(b, g, "smplx"), {}),
    "AMASS, in parts": ("smplx", parts, {}),
    "smplx, SMPL": ("smpl", lambda b, g: g, {}),
    "smplx, flat hands": ("smplx", lambda b, g: g, {}),
    "smplx, matrices": ("smplx", lambda b, g: matrices(g), {}),
    "smplx, y down": ("smplx", down, {}),
    "smplx, mean hands": ("smplx", lambda b, g: from_mean(b, g), {"convention": "smplx"}),
    "smplx, 6 components": ("smplx", lambda b, g: g | components(b, g, 6, mean=True), {}),
    "THuman, 12 components": (
        "smplx",
        lambda b, g: g | components(b, g, 12, mean=True) | {"scale": 1.0},
        {"convention": "thuman"},
    ),
    "CustomHumans, 12 components": (
        "smplx",
        lambda b, g: g | components(b, g, 12, mean=False),
        {"convention": "custom_humans"},
    ),
    "MVHumanNet++, by a key": (
        "smplx",
        lambda b, g: z_down(b, g) | components(b, g, 6, mean=False) | {"convention": "mvhumannet_plusplus"},
        {},
    ),
    "EasyMocap, SMPL": ("smpl", lambda b, g: easymocap(b, g, "smpl"), {}),
    "EasyMocap, SMPL-H": ("smplh", lambda b, g: easymocap(b, g, "smplh"), {}),
    "EasyMocap, SMPL-X": ("smplx", lambda b, g: easymocap(b, g, "smplx"), {}),
}


def save(path, arrays):
    np.savez(path, **{key: x.numpy() if isinstance(x, torch.Tensor) else x for key, x in arrays.items()})


def save_frames(folder, arrays, others=()):
    """As EasyMocap writes them: a file for each frame, with an axis of length 1 before every array."""
    folder.mkdir()
    for k in range(FRAMES):
        me = {"id": 4, **{key: np.asarray(x[k if len(x) > 1 else 0])[None].tolist() for key, x in arrays.items()}}
        (folder / f"{k:06d}.json").write_text(json.dumps([*others, me]))


def far(body, parameters, joints):
    made = body.pose(parameters, mesh=False).joints[0, :, : joints.shape[1]]
    return float((made - joints).abs().max())


@pytest.mark.parametrize("name", FILES)
def test_joints_of_a_file_are_where_the_package_has_them(tmp_path, truths, name):
    """Of the file's own person; and of one whose shape was given as theirs."""
    family, write, said = FILES[name]
    body, given, joints = truths[family]
    save(tmp_path / "m.npz", write(body, given))
    motion = load_motion(tmp_path / "m.npz", **said)
    assert motion.body.family == family
    assert far(body, body.given(motion), joints) < 1e-5
    shape = {f"beta_{k}": float(x) for k, x in enumerate(given["betas"][0])}
    animated = body.animate(motion, shape, mesh=False).joints[0, :, : joints.shape[1]]
    assert (animated - joints).abs().max() < 1e-5


@pytest.mark.parametrize("family", BODIES)
def test_a_folder_of_frames_is_read_as_one_file(tmp_path, truths, family):
    body, given, joints = truths[family]
    other = {"id": 0, "poses": [[0.0] * 72], "Rh": [[0, 0, 0]], "Th": [[0, 0, 0]]}
    save_frames(tmp_path / "smpl", easymocap(body, given, family), others=[other])
    with pytest.raises(DataError, match=r"holds the persons 0, 4, several; say which with person="):
        load_motion(tmp_path / "smpl")
    with pytest.raises(DataError, match=r"persons 0, 4, person=2 is not there"):
        load_motion(tmp_path / "smpl", person=2)
    motion = load_motion(tmp_path / "smpl", person=4)
    assert far(body, body.given(motion), joints) < 1e-5
    assert [path.name for path in files_of(tmp_path / "smpl")] == ["000000.json", "000001.json", "000002.json"]
    (tmp_path / "smpl" / "000003.json").write_text(json.dumps([other]))
    gone = load_motion(tmp_path / "smpl", person=4)
    assert gone.num_frames == FRAMES and "person 4 is in 3 of the 4 frames" in gone.notes[0]


def test_what_a_file_does_not_say_is_said_to_the_user(tmp_path, truths):
    body, given, _ = truths["smplx"]
    save(tmp_path / "m.npz", given)
    assert "45 numbers of a hand" in load_motion(tmp_path / "m.npz").notes[0]
    assert not load_motion(tmp_path / "m.npz", convention="smplx_flat").notes
    save(tmp_path / "m.npz", given | components(body, given, 12, mean=True))
    assert "say convention=custom_humans, if 0 is the flat hand" in load_motion(tmp_path / "m.npz").notes[0]
    save(tmp_path / "m.npz", amass(body, given, "smplx"))
    assert not load_motion(tmp_path / "m.npz").notes


@pytest.mark.parametrize(("count", "said"), [(10, 0), (16, 1), (300, 1)])
def test_betas_of_every_number_are_cut_or_filled_up(tmp_path, truths, count, said):
    """The model has ten; the first ones are the same."""
    body, given, joints = truths["smplx"]
    betas = torch.cat([given["betas"], torch.ones(1, 290)], dim=1)[:, :count]
    save(tmp_path / "m.npz", {**given, "betas": betas})
    motion = load_motion(tmp_path / "m.npz")
    assert far(body, body.given(motion), joints) < 1e-5
    assert len([note for note in body.notes(motion) if f"the other {count - 10} were left out" in note]) == said


def test_a_scale_is_the_bodys(tmp_path, truths):
    body, given, _ = truths["smplx"]
    save(tmp_path / "m.npz", {**given, "scale": 0.7})
    still = {**given, "transl": torch.zeros(FRAMES, 3), "betas": given["betas"].expand(FRAMES, -1)}
    _, joints = by_the_package(body.file.path.parent, "smplx", still, **WHOLE_HANDS)
    assert far(body, body.given(load_motion(tmp_path / "m.npz")), 0.7 * joints + given["transl"][:, None]) < 1e-5


def test_a_person_of_another_shape_stands_where_the_files_person_does(tmp_path, truths):
    body, given, _ = truths["smplx"]
    upright = {word: torch.zeros_like(x) for word, x in given.items()} | {"betas": given["betas"]}
    pelvis, floor = body._standing(given["betas"])
    upright["transl"] = (
        torch.tensor([[1.0, 0.0, 2.0]]).expand(FRAMES, 3) - pelvis + torch.tensor([0, pelvis[1] - floor, 0])
    )
    save(tmp_path / "m.npz", upright)
    for shape in ({}, {"beta_0": 2.0, "beta_3": -1.0}):
        stands = body.animate(load_motion(tmp_path / "m.npz"), shape)
        assert float(stands.vertices[..., 1].min()) == pytest.approx(0, abs=1e-5)
        assert stands.joints[0, 0, 0, [0, 2]].tolist() == pytest.approx([1, 2], abs=1e-5)


def test_families_take_rotations_from_each_other_by_joint(tmp_path, truths):
    for family, (_, given, _) in truths.items():
        save(tmp_path / f"{family}.npz", given)
    smplx = load_motion(tmp_path / "smplx.npz")
    for other in ("smpl", "smplh"):
        body, _, _ = truths[other]
        taken = body.given(smplx).rotations
        assert torch.equal(taken["left_elbow"], smplx.rotations["left_elbow"])
        assert ("left_index1" in taken) == (other == "smplh")
        assert not body.given(smplx).betas.any()
        assert "takes the rotations of joints that both have, and no betas" in body.notes(smplx)[0]
        # Their pelvis is where the other body has it over the floor.
        there = body.animate(smplx, mesh=False).joints[0, :, 0]
        stands = body._stands(torch.zeros(1, body.file.num_betas))
        assert (there - stands - smplx.translation).abs().max() < 1e-5
    body, _, _ = truths["smplx"]
    smpl = load_motion(tmp_path / "smpl.npz")
    assert set(body.given(smpl).rotations) == set(BODY_JOINTS)
    assert torch.equal(body.given(smpl).rotations["right_knee"], smpl.rotations["right_knee"])


def test_betas_of_another_gender_are_named(tmp_path, truths):
    body, given, _ = truths["smplx"]
    for gender in ("female", b"female"):
        save(tmp_path / "m.npz", {**given, "gender": gender})
        assert "person is female; give body.gender=female" in body.notes(load_motion(tmp_path / "m.npz"))[0]
    assert not Anny().notes(load_motion(tmp_path / "m.npz"))


def test_any_body_follows_the_same_22_rotations_as_before(tmp_path):
    """Those of the file, turned at the pelvis, which is where the mean person has it. Anny's arms start lower."""
    rng = np.random.default_rng(2)
    poses, trans = rng.normal(0, 0.5, (4, 156)).astype(np.float32), rng.normal(0, 1, (4, 3)).astype(np.float32)
    extra = {"betas": rng.normal(size=16), "gender": "male"}
    np.savez(tmp_path / "amass.npz", poses=poses, trans=trans, **extra)
    np.savez(tmp_path / "smplx.npz", global_orient=poses[:, :3], body_pose=poses[:, 3:66], transl=trans, **extra)
    first, shift = torch.from_numpy(poses[:, :3]), torch.from_numpy(trans)
    import roma

    expected = {
        "amass": (
            roma.rotmat_to_rotvec(Z_UP @ roma.rotvec_to_rotmat(first)),
            (torch.tensor([-0.001795, -0.223333, 0.028219]) + shift) @ Z_UP.mT - torch.tensor([0.0, 0.92, 0.0]),
        ),
        "smplx": (
            first,
            (torch.tensor([0.003123, -0.351407, 0.012037]) + shift) @ torch.eye(3).mT - torch.tensor([0.0, 0.95, 0.0]),
        ),
    }
    for name, (pelvis, translation) in expected.items():
        motion = load_motion(tmp_path / f"{name}.npz")
        torch.testing.assert_close(motion.rotations["pelvis"], pelvis, rtol=0, atol=2e-6)
        assert torch.equal(motion.translation, translation)
        for k, joint in enumerate(BODY_JOINTS[1:], start=1):
            assert torch.equal(motion.rotations[joint], torch.from_numpy(poses[:, 3 * k : 3 * k + 3]))
        here, plain = Anny().animate(motion), Anny().animate(replace(motion, body=None))
        moved = {joint for joint in here.joint_names if not torch.equal(here.place(joint), plain.place(joint))}
        # Arms alone, which the file's person does not hold as in the T-pose.
        assert moved == {f"{side}_{joint}" for side in ("left", "right") for joint in ("elbow", "wrist", "middle1")}


@pytest.mark.parametrize("scale", [None, 0.8])
def test_any_body_is_put_where_another_convention_has_the_mean_person(tmp_path, truths, scale):
    """EasyMocap's Th, a scale of the place and z up say the same place as the words of smplx do."""
    _, given, _ = truths["smplx"]
    pelvis, turn = SMPLX_REST.origin, rotation_matrix(given["global_orient"])
    size = {} if scale is None else {"scale": scale}
    words = {word: given[word] for word in ("global_orient", "body_pose", "transl")}
    save(tmp_path / "smplx.npz", {**words, **size})
    place = given["transl"] + (scale or 1) * (pelvis - turn @ pelvis)
    poses = torch.cat([torch.zeros(FRAMES, 3), given["body_pose"], torch.zeros(FRAMES, 21)], dim=1)
    save(tmp_path / "easymocap.npz", {"Rh": given["global_orient"], "Th": place, "poses": poses, **size})
    there, here = (load_motion(tmp_path / f"{name}.npz") for name in ("smplx", "easymocap"))
    assert (there.translation - here.translation).abs().max() < 1e-6
    for joint in BODY_JOINTS:
        assert torch.equal(there.rotations[joint], here.rotations[joint])


def test_resampling_goes_along_arcs_for_rotations_and_along_lines_for_components(tmp_path, truths):
    body, given, _ = truths["smplx"]
    save(
        tmp_path / "m.npz", given | components(body, given, 6, mean=True) | {"betas": given["betas"].expand(FRAMES, -1)}
    )
    motion = load_motion(tmp_path / "m.npz")
    middle = resample(motion, torch.tensor([0.0, 0.5]))
    values, fine = motion.body.values, middle.body.values
    assert torch.allclose(fine["left_hand_pose"][1], (values["left_hand_pose"][0] + values["left_hand_pose"][1]) / 2)
    start, half, end = (
        rotation_matrix(x) for x in (values["global_orient"][0], fine["global_orient"][1], values["global_orient"][1])
    )
    assert torch.allclose(start.mT @ half @ start.mT @ half, start.mT @ end, atol=1e-5)
    assert torch.allclose(fine["global_orient"][1], middle.rotations["pelvis"][1], atol=1e-6)
    assert middle.num_frames == 2 and all(len(x) in (1, 2) for x in fine.values())
    same = resample(motion, torch.arange(3.0))
    assert far(body, body.given(same), body.pose(body.given(motion), mesh=False).joints[0]) < 1e-5


REFUSED = {
    "two turns": (
        lambda g: {"poses": np.ones((3, 72)), "Rh": np.ones((3, 3)), "Th": np.zeros((3, 3))},
        {},
        "in 'Rh' and in",
    ),
    "width": (
        lambda g: {"poses": np.ones((3, 90)), "Rh": np.ones((3, 3))},
        {},
        "'poses' has 90 numbers .* EasyMocap's have",
    ),
    "millimetres": (lambda g: {**g, "transl": 1000 * g["transl"] + 900}, {}, "expected metres .from millimetres"),
    "hands differ": (lambda g: {**g, "left_hand_pose": np.zeros((3, 6))}, {}, "hands differ in their numbers"),
    "hand": (lambda g: {**g, "left_hand_pose": np.zeros((3, 50))}, {}, "'left_hand_pose' has 50 numbers a frame"),
    "frames": (lambda g: {**g, "betas": np.zeros((2, 10))}, {}, "'betas' has 2 frames; expected 3, or 1 for all"),
    "scale": (lambda g: {**g, "scale": 0.0}, {}, "'scale' is 0; expected numbers from 0.01 to 100"),
    "convention": (
        lambda g: g,
        {"convention": "smpl_flat"},
        "no convention is named 'smpl_flat'. Did you mean 'smplx_flat'",
    ),
    "convention of the file": (lambda g: {**g, "convention": "mine"}, {}, "no convention is named 'mine'"),
    "person": (lambda g: g, {"person": 1}, "person=1 is for folders of several persons"),
    "objects": (lambda g: {**g, "betas": np.array([None, 1], dtype=object)}, {}, "pickled Python objects"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_named_in_one_line(tmp_path, truths, case):
    make, said, message = REFUSED[case]
    save(tmp_path / "m.npz", make(truths["smplx"][1]))
    with pytest.raises(DataError, match=message) as caught:
        load_motion(tmp_path / "m.npz", **said)
    assert "m.npz" in str(caught.value) and "\n" not in str(caught.value)


FRAMES_REFUSED = {
    "none": ([], "holds no frames"),
    "damaged": (["{"], "damaged or no JSON"),
    "other": (['{"frames": []}'], "holds other JSON; expected EasyMocap's"),
    "nobody": (["[]"], "nobody is in its 1 frames"),
    "twice": (
        ['[{"id": 1, "poses": [0]}, {"id": 1, "poses": [0]}]'],
        "ids of its persons are .1, 1.; expected different",
    ),
    "no id": (['[{"id": [1], "poses": [0]}]'], "ids of its persons are ..1..; expected different numbers"),
    "huge": (['[{"poses": [1' + 400 * "0" + "]}]"], "'poses' holds other than numbers"),
    "text": (['[{"id": 1, "poses": ["a"], "Rh": [0], "Th": [0]}]'], "'poses' holds other than numbers"),
    "lengths": (['[{"poses": [0, 1]}]', '[{"poses": [0]}]'], r"'poses' has shape \(1,\); in 000000.json it has \(2,\)"),
    "lacks": (['[{"poses": [0], "Th": [0]}]', '[{"poses": [0]}]'], "lacks 'Th', which other frames have"),
    "points": (['[{"keypoints3d": [[0, 0, 0]]}]'], "expected 17 .COCO. or 25 and more"),
}


@pytest.mark.parametrize("case", FRAMES_REFUSED)
def test_frames_that_do_not_fit_are_named_in_one_line(tmp_path, case):
    frames, message = FRAMES_REFUSED[case]
    for k, frame in enumerate(frames):
        (tmp_path / f"{k:06d}.json").write_text(frame)
    with pytest.raises(DataError, match=message) as caught:
        load_motion(tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
