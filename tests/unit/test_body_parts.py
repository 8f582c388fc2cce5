"""Codes of body parts, and the maps that show them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from body_models import person_model

from components.bodies.anny import Anny
from components.conditioners.bone_map import BoneMap
from components.conditioners.part_map import PartMap
from components.conditioners.semantic_map import SemanticMap
from components.conditioners.skeleton import Skeleton
from components.conditioners.smpl_depth import SmplDepth
from components.conditioners.smpl_normal import SmplNormal
from components.nn.surface_maps import SurfaceImage, map_picture, surface_maps
from hvg.config.build import build_conditioners, build_dataset
from hvg.config.composition import compose
from hvg.core.eight_bit import signal_as_stored
from hvg.core.errors import DataError
from hvg.data.clip_files import decode_clip, encode_clip
from hvg.data.signals import Signals, signals_of
from hvg.geometry.body_files import FAMILY_JOINTS
from hvg.geometry.body_parts import bone_codes, joint_codes, vertex_codes
from hvg.geometry.motion import Motion
from hvg.geometry.skeleton import BONES, JOINTS
from hvg.testing import build, tiny_batch, tiny_context
from hvg.values.packed import unpacked
from hvg.values.resized import resize_clip
from hvg.values.scored_clip import REGIONS

MIRROR = [JOINTS.index(name.replace("left", "x").replace("right", "left").replace("x", "right")) for name in JOINTS]
# Side changes its sign in the mirror; limb and place do not.
SIGNS = torch.tensor([-1.0, 1.0, 1.0])


def draw(part, batch, **settings):
    return build(part, part.Config(**settings), tiny_context()).signal(batch)


def codes_in(signal):
    """Different codes of a map (B, V, T, 3, H, W)."""
    return {tuple(code) for code in signal.movedim(3, -1).reshape(-1, 3).tolist()}


def front(size=64, **body):
    """One picture, from the front, of a person who stands in the middle."""
    batch = tiny_batch(clips=1, views=1, frames=1, size=size)
    return replace(batch, body=replace(batch.body, **body))


def test_left_and_right_are_one_code_but_for_the_sign_of_the_side():
    code = dict(zip((end for _, end in BONES), bone_codes(), strict=True))
    for end in (name for name in code if name.startswith("left_")):
        assert torch.equal(code[end] * SIGNS, code[end.replace("left", "right")])
    assert len({tuple(x) for x in bone_codes().tolist()}) == len(BONES), "no two bones have one code"
    middle = [x for name, x in code.items() if "_" not in name or name == "head_top"]
    assert all(x[0] == 0 and x[1] == 0 for x in middle)
    assert bone_codes()[:, 2].gt(0).all() and bone_codes()[:, 2].max() == 1
    assert [float(code[f"left_{j}"][1]) for j in ("wrist", "ankle")] == [1, -1]


def test_places_grow_along_every_chain_of_every_model():
    chains = [["pelvis", "spine1", "spine2", "spine3", "neck", "head"]]
    for side in ("left", "right"):
        chains.append([f"{side}_{joint}" for joint in ("hip", "knee", "ankle")])
        arm = [f"{side}_{joint}" for joint in ("collar", "shoulder", "elbow", "wrist")]
        chains += [[*arm, *(f"{side}_{finger}{k}" for k in (1, 2, 3))] for finger in ("thumb", "index", "pinky")]
    for chain in chains:
        assert joint_codes(chain)[:, 2].diff().gt(0).all(), chain
        assert joint_codes(chain)[-1, 2] == 1
        assert joint_codes(chain)[:, :2].unique(dim=0).shape[0] == 1, "one limb of one side"
    for joints in FAMILY_JOINTS.values():
        assert joint_codes(joints).shape == (len(joints), 3)
    face = joint_codes(["head", "jaw", "left_eye_smplhf", "right_eye_smplhf"])
    assert torch.equal(face, face[:1].expand(4, 3)), "jaw and eyes are of the head"


def test_what_rides_on_a_joint_is_the_bone_that_starts_there():
    starts = {
        start: code for (start, end), code in zip(BONES, bone_codes(), strict=True) if start not in ("pelvis", "spine3")
    }
    for joint, code in starts.items():
        assert torch.equal(joint_codes([joint])[0], code)


def test_a_joint_of_no_chain_is_one_line():
    with pytest.raises(DataError, match="the skin follows the joint 'tail'") as error:
        joint_codes(["pelvis", "tail"])
    assert "\n" not in str(error.value)


def test_eight_bits_keep_codes_exactly():
    assert torch.equal(signal_as_stored(bone_codes(), "uint8"), bone_codes())
    assert torch.equal(
        signal_as_stored(joint_codes(FAMILY_JOINTS["smplx"]), "uint8"), joint_codes(FAMILY_JOINTS["smplx"])
    )
    for part in (PartMap, SemanticMap):
        drawn = draw(part, tiny_batch(), maps=("part",), supersampling=2)
        assert torch.equal(signal_as_stored(drawn, part.signal_storage(part.Config())), drawn)


@pytest.mark.parametrize("supersampling", [1, 3])
@pytest.mark.parametrize("depth", ["pelvis", "metric", "frame"])
def test_a_part_map_of_normal_and_depth_is_the_bone_map(depth, supersampling):
    batch, same = tiny_batch(size=48), {"depth": depth, "supersampling": supersampling, "radii_scale": 1.1}
    assert torch.equal(draw(PartMap, batch, maps=("normal", "depth"), **same), draw(BoneMap, batch, **same))
    whole = draw(PartMap, batch, maps=("part", "normal", "mask", "depth"), **same)
    assert torch.equal(whole[:, :, :, [3, 4, 5, 7]], draw(BoneMap, batch, **same))


@pytest.mark.parametrize("supersampling", [1, 2])
def test_a_semantic_map_of_one_map_is_that_of_its_name(supersampling):
    batch = tiny_batch(size=48)
    maps = draw(SemanticMap, batch, maps=("normal", "mask", "depth", "part"), supersampling=supersampling)
    assert torch.equal(maps[:, :, :, :4], draw(SmplNormal, batch, supersampling=supersampling))
    assert torch.equal(maps[:, :, :, 4:5], draw(SmplDepth, batch, supersampling=supersampling))


def test_a_code_is_somebodys_under_supersampling():
    known = {tuple(code) for code in [*bone_codes().tolist(), [0.0, 0.0, 0.0]]}
    batch = tiny_batch(size=48)
    drawn = draw(PartMap, batch, maps=("part", "mask"), supersampling=4)
    assert codes_in(drawn[:, :, :, :3]) <= known and len(codes_in(drawn[:, :, :, :3])) > 15
    outline = (drawn[:, :, :, 3] > 0) & (drawn[:, :, :, 3] < 1)
    assert outline.any(), "the mask is a mean"
    assert torch.equal(drawn[:, :, :, 3] > 0, drawn[:, :, :, 2] > 0), "who covers some of a pixel is told"


def test_codes_of_smaller_pictures_are_somebodys_and_the_other_maps_are_means():
    known = {tuple(code) for code in [*bone_codes().tolist(), [0.0, 0.0, 0.0]]}
    part = build(PartMap, PartMap.Config(maps=("normal", "part")), tiny_context())
    signals = Signals({"map": part})
    batch = signals.draw(tiny_batch(size=48))
    for small, means in (
        (signals.shrunk(batch, 2), batch.shrunk(2)),
        (resize_clip(batch, (24, 24), signals.codes), resize_clip(batch, (24, 24))),
    ):
        found = small.signals["map"]
        assert codes_in(found[:, :, :, 3:]) <= known and len(codes_in(found[:, :, :, 3:])) > 10
        assert torch.equal(found[:, :, :, :3], means.signals["map"][:, :, :, :3])
        assert small.cameras.image_size == (24, 24)
    wide = resize_clip(batch, (16, 24), signals.codes).signals["map"]
    assert wide.shape[-2:] == (16, 24) and codes_in(wide[:, :, :, 3:]) <= known
    assert torch.equal(wide[:, :, :, 3:], batch.signals["map"][:, :, :, 3:, 9:41:2, 1::2])


def test_of_the_rays_of_a_pixel_the_nearest_tells_the_part():
    distance = torch.tensor([[3.0, 2.0], [0.0, 4.0]])[None]
    code = torch.tensor([[[1.0, 1, 1], [-1.0, 1, 0.5]], [[0.0, 0, 0], [0.0, 0, 1]]])[None]
    image = SurfaceImage(distance=distance, normal=torch.zeros(1, 2, 2, 3), code=code, mask=distance > 0)
    settings = PartMap.Config(supersampling=2)
    assert surface_maps(image, ["part"], torch.tensor([3.0]), settings).flatten().tolist() == [-1.0, 1.0, 0.5]
    empty = replace(image, code=torch.zeros_like(code), mask=distance > 9)
    assert not surface_maps(empty, ["part", "mask", "depth"], torch.tensor([3.0]), settings).any()


def test_the_map_of_a_mirrored_person_is_mirrored_but_for_the_side():
    person = front()
    joints = person.body.joints - person.body.joints[:, :, :1] + torch.tensor([0.0, 0.93, 0.0])
    mirrored = joints[:, :, MIRROR] * torch.tensor([-1.0, 1.0, 1.0])
    drawn, other = (draw(PartMap, front(joints=x), maps=("part", "mask")) for x in (joints, mirrored))
    expected = torch.cat([drawn[:, :, :, :3] * SIGNS[:, None, None], drawn[:, :, :, 3:]], dim=3).flip(-1)
    assert (other != expected).any(3).float().mean() < 2e-3, "rounding on outlines alone"
    assert {code[0] for code in codes_in(drawn[:, :, :, :3])} == {-1.0, 0.0, 1.0}


@pytest.fixture(scope="module")
def standing():
    body = Anny().animate(Motion(rotations={"pelvis": torch.zeros(1, 3)}))
    return replace(tiny_batch(clips=1, views=1, frames=1, size=96), body=body)


def test_skin_is_coded_by_the_bone_that_it_follows(standing):
    body = standing.body
    code, points = vertex_codes(body.skinning), body.vertices[0, 0]
    place = dict(zip(body.joint_names, body.joints[0, 0], strict=True))
    hands = points[:, 0] > place["left_wrist"][0] + 0.05
    assert torch.equal(code[hands].unique(dim=0), joint_codes(["left_wrist"]))
    assert code[points[:, 0] < place["right_elbow"][0] - 0.05][:, :2].unique(dim=0).tolist() == [[-1.0, 1.0]]
    below = points[:, 1] < place["left_knee"][1] - 0.05
    assert set(map(tuple, code[below][:, :2].tolist())) == {(1.0, -1.0), (-1.0, -1.0)}
    assert code[points[:, 1] > place["head"][1] + 0.1].unique(dim=0).tolist() == [[0.0, 0.0, 1.0]]


def test_the_mesh_of_a_mirrored_person_is_coded_alike_but_for_the_side(standing):
    drawn = draw(SemanticMap, standing, maps=("part",))
    mirrored = (drawn * SIGNS[:, None, None]).flip(-1)
    shown = drawn.any(3).float().mean()
    assert (drawn != mirrored).any(3).float().mean() < 0.05 * shown, "a person in the T-pose is nearly a mirror image"
    assert {code[0] for code in codes_in(drawn)} == {-1.0, 0.0, 1.0}


def test_ellipsoids_and_mesh_tell_one_story(standing):
    ellipsoids, mesh = (draw(part, standing, maps=("part",))[0, 0, 0] for part in (PartMap, SemanticMap))
    both = ellipsoids.any(0) & mesh.any(0)
    same_limb = (ellipsoids[:2] == mesh[:2]).all(0)
    assert same_limb[both].float().mean() > 0.85


@pytest.mark.parametrize("part", [BoneMap, PartMap, Skeleton])
def test_joints_are_chosen_by_their_names_wherever_they_stand_in_a_body(part):
    """Bodies with fingers and points of the face beside the 25 joints, in any order, are drawn to the same bits."""
    batch, random = tiny_batch(size=48), torch.Generator().manual_seed(0)
    others = [name for name in (*FAMILY_JOINTS["smplx"], *(f"point_{k}" for k in range(72))) if name not in JOINTS]
    places = torch.rand(*batch.body.joints.shape[:2], len(others), 3, generator=random)
    order, names = torch.randperm(len(JOINTS) + len(others), generator=random), [*JOINTS, *others]
    joints = torch.cat([batch.body.joints, places], dim=2)[:, :, order]
    body = replace(batch.body, joints=joints, joint_names=tuple(names[k] for k in order.tolist()))
    assert len(body.joint_names) > 127 and body.joint_names[:22] != JOINTS[:22]
    assert torch.equal(draw(part, replace(batch, body=body)), draw(part, batch))


def test_a_body_that_lacks_joints_is_one_line():
    batch = tiny_batch()
    kept = [k for k, name in enumerate(JOINTS) if name not in ("left_elbow", "head_top")]
    short = replace(batch.body, joints=batch.body.joints[:, :, kept], joint_names=tuple(JOINTS[k] for k in kept))
    with pytest.raises(DataError, match="lacks the joints left_elbow") as error:
        draw(PartMap, replace(batch, body=short))
    assert "\n" not in str(error.value)
    skinning = replace(batch.body.skinning, bones=("left_hip", "right_hip", "wing"))
    with pytest.raises(DataError, match="the skin follows the joint 'wing'"):
        draw(SemanticMap, replace(batch, body=replace(batch.body, skinning=skinning)))


def test_what_a_semantic_map_needs_depends_on_its_maps():
    assert "body.skinning" in SemanticMap.needs(SemanticMap.Config())
    assert "body.skinning" not in SemanticMap.needs(SemanticMap.Config(maps=("normal", "depth")))
    assert "body.vertices" in SmplDepth.needs(SmplDepth.Config())


@pytest.mark.parametrize("part", [PartMap, SemanticMap])
def test_a_map_is_there_once(part):
    with pytest.raises(ValueError, match="the map mask is there twice"):
        part.Config(maps=("mask", "part", "mask"))


def test_pictures_of_parts_are_black_outside_and_tell_sides_and_limbs_apart():
    signal = bone_codes().T[:, :, None]
    colours = map_picture("part", signal)
    assert len({tuple(x) for x in colours[..., 0].T.tolist()}) == len(BONES)
    assert torch.equal(map_picture("part", torch.zeros(2, 3, 4, 4)), torch.full((2, 3, 4, 4), -1.0))
    assert colours.abs().max() <= 1


def test_a_skeleton_is_as_bright_as_its_joints_are_sure():
    batch = tiny_batch(size=64)
    sure = torch.ones(batch.body.joints.shape[:3])
    usual = draw(Skeleton, batch)
    assert torch.equal(draw(Skeleton, replace(batch, body=replace(batch.body, confidence=sure))), usual)
    half = draw(Skeleton, replace(batch, body=replace(batch.body, confidence=sure / 2)))
    assert torch.equal(half[:, :, :, 3], usual[:, :, :, 3]), "coverage says where, not how sure"
    assert torch.allclose(half[:, :, :, :3], usual[:, :, :, :3] / 2)
    lost = sure.clone()
    lost[:, 0, JOINTS.index("left_wrist")] = 0
    dark = draw(Skeleton, replace(batch, body=replace(batch.body, confidence=lost)))
    assert torch.equal(dark[:, :, 1], usual[:, :, 1]) and not torch.equal(dark[:, :, 0], usual[:, :, 0])
    assert (dark <= usual + 1e-6).all()


def test_a_skull_that_is_put_is_as_sure_as_the_head():
    batch = tiny_batch(size=64)
    kept = [k for k, name in enumerate(JOINTS) if name != "head_top"]
    sure = torch.ones(batch.body.joints.shape[:3])[..., kept]
    sure[..., JOINTS.index("head")] = 0.25
    body = replace(batch.body, joints=batch.body.joints[:, :, kept], joint_names=JOINTS[:-1], confidence=sure)
    known = torch.cat([sure, sure[..., JOINTS.index("head"), None]], dim=-1)
    whole = replace(batch.body, confidence=known)
    short, full = draw(Skeleton, replace(batch, body=body)), draw(Skeleton, replace(batch, body=whole))
    assert short[..., :3, :, :].amax() <= 1
    # The skull's top is put elsewhere than it was; what it is drawn with is the same.
    assert torch.allclose(short[:, :, :, :3, 40:], full[:, :, :, :3, 40:], atol=1e-5)


@pytest.fixture(scope="module")
def on_smplx(tmp_path_factory):
    """A clip of a dressed person on SMPL-X with their surface, and the configuration."""
    folder = tmp_path_factory.mktemp("smplx")
    np.savez(folder / "SMPLX_NEUTRAL.npz", allow_pickle=True, **person_model("smplx"))
    words = [
        "dataset.image_size=96",
        "dataset.views=2",
        "dataset.frames=2",
        "pose=semantic_map",
        "pose.supersampling=2",
    ]
    config = compose([*words, "body=smplx", f"body.path={folder}"])
    clips = build_dataset(config, "train")
    return config, clips.load(0), clips.surface(0)


def test_people_on_the_smpl_family_have_parts(on_smplx):
    config, clip, surface = on_smplx
    signals = signals_of(config, build_conditioners(config)[1])
    (key,) = (key for key in signals if key.startswith("semantic_map"))
    part = signals.draw(clip).signals[key][:, :, :, 4:]
    seen = codes_in(part)
    known = {tuple(code) for code in joint_codes(clip.body.skinning.bones).tolist()}
    assert seen <= known | {(0.0, 0.0, 0.0)}
    hands = {tuple(code) for code in joint_codes(["left_wrist", "right_wrist"]).tolist()}
    assert hands <= seen, seen
    shown = {REGIONS[int(region)] for region in surface.regions[surface.face[surface.face >= 0]].unique()}
    assert {"head", "hands", "feet", "limbs"} <= shown


def test_a_kept_map_is_the_drawn_one(on_smplx):
    config, clip, _ = on_smplx
    drawn = signals_of(config, build_conditioners(config)[1]).ahead.draw(clip)
    kept = unpacked(decode_clip(encode_clip(drawn)))
    assert drawn.signals and kept.signals.keys() == drawn.signals.keys()
    assert all(torch.equal(kept.signals[key], drawn.signals[key]) for key in drawn.signals)
    bones, again = clip.body.skinning, kept.body.skinning
    assert again.bones == bones.bones and torch.equal(vertex_codes(again), vertex_codes(bones))
