"""Bodies of the SMPL family: conventions go there and back, files are read and refused. Parity: tests/parity/test_smplx.py."""

import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from body_models import body_model, given_parameters, person_model, write_body_model, write_family
from written_bodies import in_convention

from components.bodies.anny import Anny
from components.bodies.smpl import Smpl
from components.bodies.smplh import SmplH
from components.bodies.smplx import SmplX
from components.renderers.warp import Warp
from hvg.config.build import build_dataset
from hvg.config.composition import compose
from hvg.core.errors import DataError, HvgError
from hvg.data.cache import cache_folder
from hvg.geometry.body_conventions import CONVENTIONS, BodyConvention
from hvg.geometry.body_files import read_body_file
from hvg.geometry.body_parameters import body_parameters, notes_on_counts
from hvg.geometry.motion import BODY_JOINTS, SMPLX_JOINTS, Motion
from hvg.geometry.rotations import rotation_matrix
from hvg.geometry.skeleton import JOINTS, joint_index
from hvg.parts import registry
from hvg.testing import check_body
from hvg.values.cameras import orbit, project

ROOT = Path(__file__).parents[2]
BODIES = {"smpl": Smpl, "smplh": SmplH, "smplx": SmplX}
FRAMES = 3


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bodies")
    write_family(folder)
    return folder


@pytest.fixture(scope="module")
def bodies(files):
    return {family: body(body.Config(path=files)) for family, body in BODIES.items()}


EVERY = {
    **CONVENTIONS,
    "all at once": BodyConvention(hands="mean", components=12, about="origin", scaled="all", up="z", per_metre=1000),
}


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """Bodies whose mean hand is made of six components, so that every convention can express the same hands."""
    folder = tmp_path_factory.mktemp("within")
    for family in BODIES:
        write_body_model(folder / f"{family.upper()}_NEUTRAL.npz", family, 20, mean_within=6)
    return {family: body(body.Config(path=folder)) for family, body in BODIES.items()}


@pytest.fixture(scope="module")
def within(narrow):
    return narrow["smplx"]


@pytest.mark.parametrize(("here", "there"), list(combinations(EVERY, 2)))
def test_a_joint_is_the_same_joint_in_every_pair_of_conventions(narrow, here, there):
    """Written in one, read, written in the other, read: joints, fingers and face stay where they were, to 1e-5 m."""
    for family, model in narrow.items():
        rng = np.random.default_rng(3)
        given = given_parameters(family, rng) | {"scale": torch.tensor([1.3])}
        for side in ("left", "right") if family != "smpl" else ():
            components = model.file.arrays[f"hands_components{side[0]}"][:6]
            given[f"{side}_hand_pose"] = torch.tensor(rng.normal(0, 0.3, (FRAMES, 6)) @ components)
        body = body_parameters(given, BodyConvention(), model.file)
        joints = model.pose(body, mesh=False).joints
        for convention in (EVERY[here], EVERY[there]):
            written = in_convention(body, convention, model.file)
            body = body_parameters(written, convention, model.file)
            assert (model.pose(body, mesh=False).joints - joints).abs().max() < 1e-5


def test_conventions_are_those_of_their_systems(within):
    """What each does to a body, by the formulas of its own repository and not by ours."""
    rng = np.random.default_rng(5)
    given = given_parameters("smplx", rng, hand=6)
    rest = {**given, "global_orient": torch.zeros(FRAMES, 3), "transl": torch.zeros(FRAMES, 3)}
    mean, flat = BodyConvention(hands="mean", components=6), BodyConvention(components=6)

    def joints(values, convention):
        return within.pose(body_parameters(values, convention, within.file), mesh=False).joints[0]

    turn, shift = rotation_matrix(given["global_orient"].float()), given["transl"].float()[:, None]
    # EasyMocap: R X + Th, of a body that is not turned.
    assert (joints(given, CONVENTIONS["easymocap"]) - (joints(rest, mean) @ turn.mT + shift)).abs().max() < 1e-5
    # THuman: scale X + translation, of a body that is turned by the package, which moves nothing.
    scale = torch.tensor([0.7])
    turned = {**given, "transl": torch.zeros(FRAMES, 3)}
    thuman = joints({**given, "scale": scale}, BodyConvention(hands="mean", components=6))
    assert (thuman - (0.7 * joints(turned, mean) + shift)).abs().max() < 1e-5
    # Somebody who scales the world, millimetres, z up.
    everything = joints({**given, "scale": scale}, BodyConvention(components=6, scaled="all"))
    assert (everything - 0.7 * joints(given, flat)).abs().max() < 1e-5
    millimetres = joints({**given, "transl": 1000 * given["transl"]}, BodyConvention(components=6, per_metre=1000))
    assert (millimetres - joints(given, flat)).abs().max() < 1e-5
    x, y, z = joints(given, flat).unbind(-1)
    assert (joints(given, BodyConvention(components=6, up="z")) - torch.stack([x, z, -y], -1)).abs().max() < 1e-5
    # MVHumanNet's studios: z down.
    down = joints(given, CONVENTIONS["mvhumannet_plusplus"])
    assert (down - torch.stack([x, -z, y], -1)).abs().max() < 1e-5


def test_hands_that_few_components_cannot_express_are_refused(bodies):
    body = bodies["smplx"]
    start = body_parameters(given_parameters("smplx", np.random.default_rng(6)), BodyConvention(), body.file)
    with pytest.raises(DataError, match=r"6 components cannot express 'left_hand_pose': .* radians"):
        in_convention(start, CONVENTIONS["smplx"], body.file)


def test_a_mean_hand_is_one_where_no_hand_was_given(bodies):
    body = bodies["smplx"]
    nothing = body_parameters({"transl": torch.zeros(2, 3)}, CONVENTIONS["smplx"], body.file)
    mean = body.file.arrays["hands_meanl"][:3]
    assert np.allclose(nothing.rotations["left_index1"].numpy(), [mean, mean], atol=1e-7)
    assert not body_parameters({"transl": torch.zeros(2, 3)}, BodyConvention(), body.file).rotations


@pytest.mark.parametrize("count", [4, 10, 16, 20, 300])
def test_betas_of_every_number_are_cut_or_filled_up_and_that_is_said(within, count):
    """The model has ten."""
    given = {"betas": torch.ones(1, count), "transl": torch.zeros(2, 3)}
    body = body_parameters(given, BodyConvention(), within.file)
    assert body.betas.shape == (1, min(count, 10))
    told = f"the other {count - 10} were left out" if count > 10 else "the last 6 are 0, for 4 are given"
    notes = notes_on_counts(given, within.file)
    assert [f"has 10 betas; {told}" in note for note in notes] == [True] * (count != 10)
    ten = torch.cat([torch.ones(1, min(count, 10)), torch.zeros(1, max(0, 10 - count))], dim=1)
    whole = within.pose(body_parameters({**given, "betas": ten}, BodyConvention(), within.file), mesh=False)
    assert torch.equal(within.pose(body, mesh=False).joints, whole.joints)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"poses": torch.zeros(1, 165)}, "'poses' is no parameter of smplx"),
        ({"body_pose": torch.zeros(1, 69)}, "'body_pose' has 69 numbers a frame; expected 63"),
        ({"left_hand_pose": torch.zeros(1, 12)}, "'left_hand_pose' has 12 numbers a frame; expected 45"),
        ({"body_pose": torch.zeros(3, 63), "transl": torch.zeros(2, 3)}, "differ in their number of frames"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_in_one_line(within, given, reason):
    with pytest.raises(DataError, match=reason) as caught:
        body_parameters(given, BodyConvention(), within.file)
    assert "\n" not in str(caught.value)


def test_a_standing_person_stands_on_the_floor_wherever_the_model_has_its_origin(bodies):
    for body in (bodies["smpl"], bodies["smplx"]):
        for shape in ({}, {"beta_0": 2.0, "beta_3": -1.0}):
            stand = body.animate(Motion(rotations={"pelvis": torch.zeros(1, 3)}), shape)
            assert float(stand.vertices[..., 1].min()) == pytest.approx(0, abs=1e-6)
            pelvis = stand.joints[0, 0, stand.joint_names.index("pelvis")]
            assert pelvis[[0, 2]].abs().max() < 1e-6
            moved = body.animate(
                Motion(rotations={"pelvis": torch.zeros(1, 3)}, translation=torch.tensor([[1.0, 2.0, 3.0]])), shape
            )
            assert (moved.joints - stand.joints - torch.tensor([1.0, 2.0, 3.0])).abs().max() < 1e-5


def test_signals_find_their_joints(bodies):
    body = bodies["smplx"]
    still = body.animate(Motion(rotations={"pelvis": torch.zeros(2, 3)}), mesh=False)
    assert still.vertices is None and still.faces is None
    assert still.joints.shape == (1, 2, 128, 3) and len(set(still.joint_names)) == 128
    joint_index(still.joint_names, JOINTS)
    assert torch.equal(still.parameters["rotations"], torch.eye(3).expand(1, 2, 22, 3, 3))
    top, head, neck = (still.joints[0, 0, still.joint_names.index(name)] for name in ("head_top", "head", "neck"))
    assert top[1] > head[1] > neck[1]


def test_a_shape_or_a_joint_that_the_model_lacks_is_refused(within):
    still = Motion(rotations={"pelvis": torch.zeros(1, 3)})
    with pytest.raises(HvgError, match="smplx has no 'gender'; its shape is beta_0 to beta_9"):
        within.animate(still, {"gender": 1.0})
    with pytest.raises(HvgError, match="smplx has no 'beta_10'"):
        within.animate(still, {"beta_10": 1.0})
    with pytest.raises(HvgError, match="no joint 'tail' to turn"):
        within.animate(Motion(rotations={"tail": torch.zeros(1, 3)}))


@pytest.mark.parametrize("family", BODIES)
def test_bones_carry_the_mesh_with_its_correctives(bodies, family):
    """Skinning what the model has at rest, with pose and face added by the papers' formula, gives its vertices, scale and all."""
    body = bodies[family]
    given = given_parameters(family, np.random.default_rng(7)) | {"scale": torch.tensor([1.2])}
    given["betas"] = given["betas"][:1]
    made = body.pose(parameters := body_parameters(given, BodyConvention(), body.file))
    skinning, arrays = made.skinning, np.load(body.file.path)
    assert skinning.vertex_bones.shape == skinning.vertex_weights.shape == (len(arrays["v_template"]), 3)
    turns = rotation_matrix(torch.stack([parameters.rotations[joint] for joint in body.file.joints[1:]], dim=1))
    added = torch.einsum("pcr,tr->tpc", torch.tensor(arrays["posedirs"]), (turns - torch.eye(3)).flatten(1))
    if family == "smplx":
        added += torch.einsum("pce,te->tpc", torch.tensor(arrays["shapedirs"][..., 300:310]), parameters.expression)
    assert (skinning.posed(skinning.rest[:, None] + added) - made.vertices).abs().max() < 5e-6
    assert (skinning.at_rest(made.vertices) - skinning.rest[:, None] - added).abs().max() < 5e-6
    assert added.norm(dim=-1).max() > 0.01 and body.pose(parameters, mesh=False).skinning is None


@pytest.mark.parametrize("family", BODIES)
def test_joints_are_the_same_where_nobody_asks_for_the_mesh(bodies, family):
    body = bodies[family]
    parameters = body_parameters(given_parameters(family, np.random.default_rng(8)), BodyConvention(), body.file)
    assert torch.equal(body.pose(parameters).joints, body.pose(parameters, mesh=False).joints)


@pytest.mark.parametrize("name", registry.names("body"))
def test_every_body_keeps_its_promises(tmp_path, name):
    part = registry.load("body", name)
    if name not in BODIES:
        check_body(part, part.Config())
        return
    np.savez(tmp_path / "person.npz", allow_pickle=True, **person_model(name))
    check_body(part, part.Config(path=tmp_path / "person.npz"))


class Leans(Anny):
    """Follows a translation with its mesh alone."""

    def animate(self, motion, shape=None, *, mesh=True):
        moved = super().animate(motion, shape, mesh=mesh)
        still = super().animate(replace(motion, translation=None), shape, mesh=mesh)
        return replace(moved, joints=still.joints)


class OffTheFloor(Anny):
    """Pelvis at the origin, as the model has it."""

    def animate(self, motion, shape=None, *, mesh=True):
        moved = super().animate(motion, shape, mesh=mesh)
        return replace(moved, vertices=None if moved.vertices is None else moved.vertices - 0.9)


class BonesApart(Anny):
    """The forearm's bone does not turn with the elbow."""

    def animate(self, motion, shape=None, *, mesh=True):
        moved = super().animate(motion, shape, mesh=mesh)
        if moved.skinning is None:
            return moved
        transforms = moved.skinning.transforms.clone()
        transforms[:, :, (18, 20, 22)] = transforms[:, :, 16, None].clone()
        return replace(moved, skinning=replace(moved.skinning, transforms=transforms))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Leans, "a translation does not move the joints by it"),
        (OffTheFloor, "not on the floor"),
        (BonesApart, "skinning the vertices at rest does not give"),
    ],
)
def test_a_broken_promise_of_a_body_is_named(part, message):
    with pytest.raises(AssertionError, match=message):
        check_body(part, part.Config())


def test_synthetic_people_are_drawn_on_the_family(tmp_path):
    """Photo, pictures and maps of a dressed person on SMPL-X; another body, the same clothes."""
    np.savez(tmp_path / "SMPLX_NEUTRAL.npz", allow_pickle=True, **person_model("smplx"))
    words = ["dataset.image_size=48", "dataset.views=2", "dataset.frames=2"]
    clips = []
    for body in ([], ["body=smplx", f"body.path={tmp_path}"]):
        config = compose([*words, *body])
        clips.append(build_dataset(config, "train").load(0))
    anny, family = clips
    assert family.body.joint_names[:55] == SMPLX_JOINTS
    for clip in clips:
        seen = clip.alpha.mean(dim=(-1, -2))
        assert ((seen > 0.05) & (seen < 0.5)).all()
        # The person covers every joint: its pixel, or one beside it, for ends of limbs are thinner than two.
        joints = clip.body.joints[:, None, :, [clip.body.joint_names.index(joint) for joint in BODY_JOINTS]]
        columns, rows = project(joints, clip.cameras)[0].clamp(0, 47).long().unbind(-1)
        near = torch.nn.functional.max_pool2d(clip.alpha[0, ..., 0, :, :], 3, stride=1, padding=1)[None]
        index = torch.meshgrid(*(torch.arange(n) for n in rows.shape), indexing="ij")[:3]
        assert (near[(*index, rows, columns)] > 0.9).all()
        assert (clip.alpha[..., 0, :, :][(*index, rows, columns)][..., 0] > 0.9).all()
    assert not torch.equal(anny.frames, family.frames)


@pytest.mark.parametrize("family", BODIES)
def test_the_mesh_that_is_drawn_covers_the_joints(tmp_path, family):
    """All of the family's, in three poses from four sides, on the very pixel or one beside it."""
    np.savez(tmp_path / "model.npz", allow_pickle=True, **person_model(family))
    body, random = BODIES[family](BODIES[family].Config(path=tmp_path / "model.npz")), torch.Generator().manual_seed(0)
    turns = {name: 0.25 * torch.randn(FRAMES, 3, generator=random) for name in BODY_JOINTS}
    made = body.animate(Motion(rotations=turns), body.random_shape(np.random.default_rng(0)))
    cameras = orbit(
        (torch.arange(4) * 90.0 + 20).repeat(FRAMES),
        elevation_degrees=8.0,
        distance=3.4,
        target=torch.tensor([0.0, 0.9, 0.0]),
        fov_degrees=40.0,
        image_size=(128, 128),
    )
    drawn = Warp(Warp.Config()).render(made.vertices[0], made.faces, cameras).face >= 0
    assert 0.03 < float(drawn.float().mean()) < 0.4
    near = torch.nn.functional.max_pool2d(drawn.float()[:, None], 3, stride=1, padding=1)[:, 0]
    joints = made.joints[0, :, : len(body.file.joints)].repeat_interleave(4, dim=0)
    columns, rows = project(joints, cameras)[0].long().unbind(-1)
    covered = near[torch.arange(len(near))[:, None], rows, columns] > 0
    assert covered.all(), [name for name, x in zip(body.file.joints, covered.all(0), strict=True) if not x]


def test_clips_of_another_model_file_are_cached_elsewhere(tmp_path):
    """Under the same settings: what the file holds counts."""
    folders = []
    for seed in (0, 1):
        write_body_model(tmp_path / "SMPL_NEUTRAL.npz", "smpl", 10, seed=seed)
        folders.append(cache_folder(compose(["body=smpl", f"body.path={tmp_path}"])))
    assert folders[0] != folders[1]
    with pytest.raises(DataError, match="there is no such file"):
        cache_folder(compose(["body=smpl", f"body.path={tmp_path}/nowhere"]))


class Planted:
    """Pickled, it writes a file when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def spoiled(arrays, name):
    """What may be wrong with a file, by name of the case."""
    shapes = arrays["shapedirs"]
    return {
        "lacks": {k: x for k, x in arrays.items() if k != "weights"},
        "shape": arrays | {"v_template": arrays["v_template"][:-1]},
        "type": arrays | {"weights": arrays["weights"].astype(str)},
        "nan": arrays | {"shapedirs": np.full_like(shapes, np.nan)},
        "large": arrays | {"v_template": arrays["v_template"] * 1e7},
        "weights": arrays | {"weights": 0.5 * arrays["weights"]},
        "few": arrays | {"shapedirs": shapes[:, :, :0]},
        "face": arrays | {"f": arrays["f"] + 7000},
        "tree": arrays | {"kintree_table": arrays["kintree_table"][:, ::-1]},
    }[name]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("lacks", "lacks weights; expected an .npz of smpl"),
        ("shape", r"'v_template' has shape \(6889, 3\) .* smpl has numbers \(6890, 3\)"),
        ("type", "'weights' has shape"),
        ("nan", "'shapedirs' holds NaN or infinity"),
        ("large", "'v_template' holds numbers beyond 1,000,000; expected those of a person in metres"),
        ("weights", "'weights' of some vertices do not sum to 1"),
        ("few", "'shapedirs' has 0 directions; expected 1 or more"),
        ("face", "'f' holds numbers outside of 0 to 6889"),
        ("tree", "'kintree_table' is no tree"),
    ],
)
def test_a_file_that_is_no_body_model_is_refused_in_one_line(tmp_path, name, reason):
    path = tmp_path / "model.npz"
    np.savez(path, allow_pickle=True, **spoiled(body_model("smpl", 10), name))
    with pytest.raises(DataError, match=reason) as caught:
        read_body_file(path, "smpl")
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_code_in_a_file_is_not_run(tmp_path):
    """An array of objects that is not needed is left out, one in a needed place refuses the file."""
    planted, arrays = np.array([Planted(tmp_path / "ran")], dtype=object), body_model("smpl", 10)
    np.savez(tmp_path / "beside.npz", allow_pickle=True, **arrays, J_regressor_prior=planted)
    assert "J_regressor_prior" not in read_body_file(tmp_path / "beside.npz", "smpl").arrays
    np.savez(tmp_path / "within.npz", allow_pickle=True, **arrays | {"weights": planted})
    with pytest.raises(DataError, match="array 'weights': it holds pickled Python objects"):
        read_body_file(tmp_path / "within.npz", "smpl")
    assert not (tmp_path / "ran").exists()
    np.load(tmp_path / "within.npz", allow_pickle=True)["weights"]
    assert (tmp_path / "ran").exists()


@pytest.mark.long
def test_nothing_else_needs_the_package(tiny, tmp_path):
    """Where it cannot be imported there are clips of people, and motions of SMPL-X that they follow."""
    np.savez(tmp_path / "m.npz", poses=np.zeros((2, 165)), trans=np.zeros((2, 3)))
    code = f"""
import sys
sys.modules["smplx"] = None
from hvg.config.build import build_dataset, build_part
from hvg.config.composition import compose
from hvg.geometry.motion_files import load_motion
config = compose({[*tiny]})
build_dataset(config, "train").load(0)
build_part(config.body).animate(load_motion({str(tmp_path / "m.npz")!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_where_a_file_is_looked_for_is_said(tmp_path):
    with pytest.raises(DataError, match=r"holds no SMPLX_FEMALE.npz and no smplx/SMPLX_FEMALE.npz$"):
        read_body_file(tmp_path, "smplx", "female")
    (tmp_path / "smplx").mkdir()
    pickled = tmp_path / "smplx" / "SMPLX_FEMALE.pkl"
    pickled.write_bytes(b"")
    for path in (tmp_path, pickled):
        with pytest.raises(DataError, match=rf"hvg convert body={pickled} out=.*SMPLX_FEMALE.npz"):
            read_body_file(path, "smplx", "female")
    with pytest.raises(DataError, match="there is no such file"):
        read_body_file(tmp_path / "nowhere.npz", "smplx")
