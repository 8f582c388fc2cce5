"""Bodies of the SMPL family: equal to smplx.create on the very file, and to a skinning written from the papers, for every option
of the convention layer; and what the package does with a file that hvg takes care of.

The files are of the true format and size, and hold a body of our own.
"""

import re

import numpy as np
import pytest
import torch
from body_models import (
    DIRECTIONS,
    body_model,
    by_the_package,
    given_parameters,
    skinned,
    turn_of,
    write_body_model,
    write_family,
)

from components.bodies.smpl import Smpl
from components.bodies.smplh import SmplH
from components.bodies.smplx import SmplX
from hvg import cli
from hvg.geometry.body_conventions import CONVENTIONS, BodyConvention
from hvg.geometry.body_files import FAMILY_JOINTS
from hvg.geometry.body_parameters import POSES, body_parameters
from hvg.geometry.motion import Motion

BODIES = {"smpl": Smpl, "smplh": SmplH, "smplx": SmplX}
FRAMES, SHAPES = 3, 300
NEAR = 1e-6
# A point of a world with y up -> the same in one with another axis up.
WORLDS = {
    "y": np.eye(3),
    "-y": np.diag([1.0, -1.0, -1.0]),
    "z": np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]]),
    "-z": np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]]),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bodies")
    write_family(folder)
    return folder


@pytest.fixture(scope="module")
def bodies(files):
    return {family: body(body.Config(path=files)) for family, body in BODIES.items()}


@pytest.fixture(scope="module")
def arrays(bodies):
    """Family -> the file's arrays in float64."""
    return {family: {k: x.astype(np.float64) for k, x in body.file.arrays.items()} for family, body in bodies.items()}


# --- who is right ---


def by_skinning(arrays, family, convention, given):
    """Vertices and joints (T, ..., 3), float64, by the formulas of the papers alone."""
    vectors = {}
    for word, joints in POSES.items():
        if joints[0] not in FAMILY_JOINTS[family]:
            continue
        pose = given[word].numpy()
        if word.endswith("hand_pose"):
            side = word[0]
            pose = pose if convention.components is None else pose @ arrays[f"hands_components{side}"][: pose.shape[1]]
            pose = pose + arrays[f"hands_mean{side}"] if convention.hands == "mean" else pose
        names = (*joints, "left_hand", "right_hand") if family == "smpl" and word == "body_pose" else joints
        vectors |= dict(zip(names, pose.reshape(len(pose), -1, 3).swapaxes(0, 1), strict=True))
    betas, posed = given["betas"].numpy(), []
    for frame in range(FRAMES):
        coefficients = np.zeros(DIRECTIONS[family])
        told = betas[frame % len(betas)]
        coefficients[: len(told)] = told
        if family == "smplx":
            coefficients[SHAPES : SHAPES + 10] = given["expression"][frame]
        turns = np.stack([vectors[joint][frame] for joint in FAMILY_JOINTS[family]])
        posed.append(skinned(arrays, coefficients, turns, given["transl"][frame].numpy()))
    vertices, joints = zip(*posed, strict=True)
    return np.stack(vertices), np.stack(joints)


def by_create(files, family, convention, given):
    """The same by the package."""
    options = {}
    if family != "smpl":
        components = convention.components
        options = {"use_pca": components is not None, "flat_hand_mean": convention.hands == "flat"}
        options |= {} if components is None else {"num_pca_comps": components}
    told = given["betas"].shape[1]
    made = by_the_package(files, family, given, **options, **({} if told == 10 else {"num_betas": told}))
    return tuple(x.double().numpy() for x in made)


def as_its_system_does(convention, given, pose):
    """Where a convention's own system has points that ``pose`` gives for words of the package, by its repository's formulas."""
    about_origin, still = convention.about == "origin", torch.zeros(FRAMES, 3, dtype=torch.float64)
    posed = pose({**given, "transl": still, **({"global_orient": still} if about_origin else {})})
    turns = np.stack([turn_of(v) for v in given["global_orient"].numpy()])
    shift = given["transl"].numpy()[:, None] / convention.per_metre
    scale = float(given.get("scale", torch.ones(1)))
    placed = []
    for points in posed:
        points = points @ turns.swapaxes(1, 2) if about_origin else points
        points = scale * (points + shift) if convention.scaled == "all" else scale * points + shift
        placed.append(points @ np.linalg.inv(WORLDS[convention.up]).T)
    return placed


# --- every option ---

HANDS = {
    f"{components or 'no'} components, {hands}": BodyConvention(hands=hands, components=components)
    for components in (None, 6, 12, 45)
    for hands in ("flat", "mean")
}
PLACES = {
    "about the origin": BodyConvention(about="origin"),
    "all scaled": BodyConvention(scaled="all"),
    "millimetres": BodyConvention(per_metre=1000),
    **{f"{up} up": BodyConvention(up=up) for up in ("-y", "z", "-z")},
}
EVERYTHING = BodyConvention(hands="mean", components=12, about="origin", scaled="all", up="z", per_metre=1000)
OPTIONS = {**CONVENTIONS, **HANDS, **PLACES, "all at once": EVERYTHING}
# A network of the true size takes seconds; those that most files are written with are always tried.
QUICK = ("smplx", "easymocap", "thuman", "all at once")


def case(family, name):
    return pytest.param(family, name, marks=() if name in QUICK else pytest.mark.long)


CASES = [
    *(case("smplx", name) for name in OPTIONS),
    *(case("smplh", name) for name in OPTIONS if name not in PLACES),
    # It has no hands to tell how.
    *(case("smpl", name) for name in (*PLACES, "all at once")),
]


@pytest.mark.parametrize(("family", "name"), CASES)
def test_a_body_is_where_its_system_has_it(files, bodies, arrays, family, name):
    """Vertices and joints, by the package and by the papers, to a micrometre."""
    convention, body = OPTIONS[name], bodies[family]
    given = given_parameters(family, np.random.default_rng(1), convention.components or 45)
    given["transl"] = given["transl"] * convention.per_metre
    # The package knows of no scale: it is that of the scans.
    given |= {} if name in HANDS else {"scale": torch.tensor([0.8])}
    made = body.pose(body_parameters(given, convention, body.file))
    words = {word: x for word, x in given.items() if word != "scale"}
    for who in (
        lambda asked: by_create(files, family, convention, {k: asked[k] for k in words}),
        lambda asked: by_skinning(arrays[family], family, convention, asked),
    ):
        vertices, joints = who(given) if name in HANDS else as_its_system_does(convention, given, who)
        assert np.abs(made.vertices[0].double().numpy() - vertices).max() < NEAR
        assert np.abs(made.joints[0, :, : joints.shape[1]].double().numpy() - joints).max() < NEAR


COUNTS = [("smpl", 10), ("smplh", 10), ("smplh", 16), *(("smplx", count) for count in (10, 16, 20, 300))]


@pytest.mark.parametrize(("family", "count"), COUNTS)
def test_all_betas_count(files, bodies, arrays, family, count):
    """Of files with less than 300 directions the package by itself takes ten; of others as many as it is asked for."""
    body, rng = bodies[family], np.random.default_rng(2)
    given = given_parameters(family, rng) | {"betas": torch.tensor(rng.normal(0, 1, (1, count)))}
    made = body.pose(body_parameters(given, BodyConvention(), body.file))
    everyone = {**given, "betas": given["betas"].expand(FRAMES, -1)}
    known = [by_skinning(arrays[family], family, BodyConvention(), given)]
    if count == 10 or family == "smplx":
        known.append(by_create(files, family, BodyConvention(), everyone))
    for vertices, joints in known:
        assert np.abs(made.vertices[0].double().numpy() - vertices).max() < NEAR
        assert np.abs(made.joints[0, :, : joints.shape[1]].double().numpy() - joints).max() < NEAR


def test_points_of_the_face_have_the_packages_names_and_places(files, bodies):
    """72 beside the joints: vertices of face, feet and fingertips, then 51 landmarks of the face, where the file has them."""
    from smplx.joint_names import JOINT_NAMES

    given = given_parameters("smplx", np.random.default_rng(4))
    _, points = by_the_package(files, "smplx", given, 72, use_pca=False, flat_hand_mean=True)
    body = bodies["smplx"]
    made = body.pose(body_parameters(given, BodyConvention(), body.file), mesh=False)
    assert made.joint_names[:127] == tuple(JOINT_NAMES[:127]) and points.shape[1] == 127
    assert (made.joints[0, :, :127] - points).abs().max() < NEAR
    assert {"nose", "left_mouth_1", "right_eye_brow3", "lip_top"} <= set(made.joint_names)


def test_a_model_of_another_gender_is_the_one_of_its_file(tmp_path):
    """Of a folder with all; and of one with folders for each family, as the package has them."""
    (tmp_path / "smpl").mkdir()
    for seed, gender in enumerate(("NEUTRAL", "MALE", "FEMALE")):
        write_body_model(tmp_path / "smpl" / f"SMPL_{gender}.npz", "smpl", 10, seed=seed)
    given = given_parameters("smpl", np.random.default_rng(1))
    for gender in ("neutral", "male", "female"):
        body = Smpl(Smpl.Config(path=tmp_path, gender=gender))
        made = body.pose(body_parameters(given, BodyConvention(), body.file))
        arrays = np.load(tmp_path / "smpl" / f"SMPL_{gender.upper()}.npz")
        vertices, joints = by_skinning(arrays, "smpl", BodyConvention(), given)
        assert np.abs(made.vertices[0].double().numpy() - vertices).max() < NEAR
        assert np.abs(made.joints[0, :, :24].double().numpy() - joints).max() < NEAR


# --- code in a file ---


class Planted:
    """Pickled, it writes a file when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("family", BODIES)
def test_code_beside_the_arrays_is_not_run_by_us_and_is_by_the_package(tmp_path, family):
    """Published files hold arrays of objects, so such a one is no reason to refuse; its body moves without opening it."""
    path, ran = tmp_path / f"{family.upper()}_NEUTRAL.npz", tmp_path / "ran"
    planted = np.array([Planted(ran)], dtype=object)
    np.savez(path, allow_pickle=True, **body_model(family, 20), joint2num=planted)
    body = BODIES[family](BODIES[family].Config(path=path))
    still = Motion(rotations={"pelvis": torch.zeros(1, 3)})
    assert body.animate(still).vertices.isfinite().all() and not ran.exists()
    if family != "smpl":
        by_the_package_itself(path)
        assert ran.exists()


def by_the_package_itself(path):
    """As whoever gives the user's own file to the package."""
    import smplx

    return smplx.create(str(path), ext="npz")


BAD_MODELS = {
    "planted": (
        lambda arrays, ran: arrays | {"weights": np.array([Planted(ran)], dtype=object)},
        "pickled Python objects",
    ),
    "lacks": (
        lambda arrays, ran: {k: x for k, x in arrays.items() if k != "weights"},
        "lacks weights; expected an .npz",
    ),
    "other": (lambda arrays, ran: body_model("smplh", 10), "'v_template'|'weights' has shape"),
    "nan": (lambda arrays, ran: arrays | {"v_template": np.full_like(arrays["v_template"], np.nan)}, "holds NaN"),
}


@pytest.mark.parametrize("fault", BAD_MODELS)
def test_a_bad_model_ends_a_command_in_one_line(tiny, tmp_path, capsys, fault):
    """With exit code 1 and nothing written."""
    spoil, message = BAD_MODELS[fault]
    path, ran = tmp_path / "SMPL_NEUTRAL.npz", tmp_path / "ran"
    np.savez(path, allow_pickle=True, **spoil(body_model("smpl", 10), ran))
    refused(capsys, path, message, ["show", *tiny, "body=smpl", f"body.path={path}", f"out={tmp_path / 'sheet.png'}"])
    assert sorted(x.name for x in tmp_path.iterdir()) == [path.name]


def test_a_pickle_and_a_folder_without_a_model_end_a_command_in_one_line(tiny, tmp_path, capsys):
    pickled = tmp_path / "models" / "SMPL_NEUTRAL.pkl"
    pickled.parent.mkdir()
    pickled.write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    for path, message in (
        (pickled, "is a pickle, which hvg never runs; make plain arrays of it; next: `hvg convert body="),
        (pickled.parent, "holds no SMPL_NEUTRAL.npz and no smpl/SMPL_NEUTRAL.npz; next: `hvg convert body="),
        (tmp_path / "nowhere", "there is no such file"),
    ):
        words = ["show", *tiny, "body=smpl", f"body.path={path}", f"out={tmp_path / 'sheet.png'}"]
        refused(capsys, path, message, words)
    assert [x.name for x in tmp_path.iterdir()] == ["models"]


def refused(capsys, path, message, words):
    """That a command ends with exit code 1 and one line which names the file and says this."""
    capsys.readouterr()
    assert cli.run(words) == 1
    *head, line = capsys.readouterr().err.splitlines()
    assert not [x for x in head if "problem in the configuration" not in x], head
    assert str(path) in line and re.search(message, line), line
