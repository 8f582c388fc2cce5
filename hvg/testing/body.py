"""Checks of what every body model promises."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from hvg.geometry.body_parts import joint_codes
from hvg.geometry.motion import BODY_JOINTS, Motion
from hvg.geometry.rotations import rotation_matrix
from hvg.geometry.skeleton import BONES, JOINTS
from hvg.parts.scene import BodyModel
from hvg.testing.building import make, require
from hvg.values.body import BodyMotion, Skinning

# Metres by which a joint may be elsewhere: bodies are computed in float32.
_NEAR = 1e-4
# Metres that a model may add to a vertex at rest, for its pose; an elbow whose bone is wrong moves a wrist by more.
_ADDED = 0.1
_FRAMES = 3
_LIMBS = tuple(f"{side}_{joint}" for side in ("left", "right") for joint in ("knee", "ankle", "elbow", "wrist"))
_ONE_DEGREE = 0.9998


def check_body(cls: type[BodyModel], config: Any) -> None:
    """Runs every check below. Raises: AssertionError that says which promise is broken."""
    body = make(cls, config)
    shape = body.random_shape(np.random.default_rng(0))
    for person in ({}, shape):
        check_shapes(body, person)
        check_standing(body, person)
        check_movement(body, person)
        check_following(body, person)
        check_skinning(body, person)
    check_repeats(body, shape)


def check_shapes(body: BodyModel, shape: dict[str, float]) -> None:
    """One clip of all frames, the joints of ``JOINTS`` among those by name, a radius for every bone, one mesh."""
    moved = body.animate(_walk(), shape)
    joints, names = moved.joints, moved.joint_names
    expected = (1, _FRAMES, len(names), 3)
    require(tuple(joints.shape) == expected, f"joints are {tuple(joints.shape)}, not {expected}")
    missing = [name for name in JOINTS if name not in names]
    require(not missing, f"joint_names lack {', '.join(missing)}")
    radii = moved.bone_radii
    fits = radii is not None and tuple(radii.shape) == (1, len(BONES)) and bool((radii > 0).all())
    require(fits, f"bone_radii have to be (1, {len(BONES)}) metres above 0, they are {radii}")
    vertices, faces = _mesh(moved)
    require(
        tuple(vertices.shape[:2]) == (1, _FRAMES), f"vertices are {tuple(vertices.shape)}, not (1, {_FRAMES}, P, 3)"
    )
    require(faces.dtype == torch.int64, f"faces are {faces.dtype}, not int64")
    require(int(faces.min()) >= 0 and int(faces.max()) < vertices.shape[2], "faces name vertices that are not there")
    bare = body.animate(_walk(), shape, mesh=False)
    require(bare.vertices is None and bare.skinning is None, "with mesh=False there is a mesh")
    require(torch.equal(bare.joints, joints), "joints differ with mesh=False")


def check_standing(body: BodyModel, shape: dict[str, float]) -> None:
    """At rest a T-pose that faces +z: soles on the floor y = 0, the pelvis above the origin, the left hand at +x."""
    stand = body.animate(_still(), shape)
    floor = float(_mesh(stand)[0][..., 1].min())
    require(abs(floor) < _NEAR, f"at rest the lowest vertex is at y = {floor:.4f}, not on the floor")
    at = dict(zip(stand.joint_names, stand.joints[0, 0], strict=True))
    aside = float(at["pelvis"][[0, 2]].abs().max())
    require(aside < _NEAR, f"at rest the pelvis is {aside:.4f} m beside the origin")
    require(
        bool(at["left_wrist"][0] > 0.2) and bool(at["right_wrist"][0] < -0.2),
        "at rest the arms do not point to the sides",
    )
    require(bool(at["left_foot"][2] > at["left_ankle"][2]), "at rest the feet do not point to +z")
    require(bool(at["head_top"][1] > at["pelvis"][1] > at["left_ankle"][1]), "at rest the person is not upright")


def check_movement(body: BodyModel, shape: dict[str, float]) -> None:
    """A translation moves everything; the pelvis' rotation turns everything about the pelvis; an elbow bends its arm alone."""
    stand, motion = body.animate(_still(), shape), _walk()
    shift = torch.tensor([[0.3, -0.2, 1.5]])
    moved = body.animate(Motion(rotations=_still().rotations, translation=shift), shape)
    for name, before, after in (("joints", stand.joints, moved.joints), ("vertices", _mesh(stand)[0], _mesh(moved)[0])):
        require(_far(after, before + shift) < _NEAR, f"a translation does not move the {name} by it")
    turn = torch.tensor([[0.2, 1.1, -0.3]])
    turned = body.animate(Motion(rotations={"pelvis": turn}), shape)
    pelvis = stand.joints[:, :, stand.joint_names.index("pelvis"), None]
    expected = (stand.joints - pelvis) @ rotation_matrix(turn).mT + pelvis
    require(_far(turned.joints, expected) < _NEAR, "the pelvis' rotation does not turn the joints about the pelvis")
    bent = body.animate(Motion(rotations={**_still().rotations, "left_elbow": torch.tensor([[0.0, -1.0, 0.0]])}), shape)
    apart = (bent.joints - stand.joints).norm(dim=-1)[0, 0]
    below = {name for name, far in zip(stand.joint_names, apart, strict=True) if far > _NEAR}
    require("left_wrist" in below, "a turned elbow leaves the wrist where it was")
    others = sorted(below & {*JOINTS} - {"left_wrist", "left_middle1"})
    require(not others, f"a turned left elbow moves {', '.join(others)}")
    alone = body.animate(Motion(rotations={name: x[1:2] for name, x in motion.rotations.items()}), shape, mesh=False)
    together = body.animate(motion, shape, mesh=False)
    require(_far(alone.joints, together.joints[:, 1:2]) < _NEAR, "a frame changes with the frames beside it")


def check_following(body: BodyModel, shape: dict[str, float]) -> None:
    """Given its own joints instead of rotations, the body comes to stand in them, limbs within a degree."""
    walked = body.animate(_walk(BODY_JOINTS[:1] + _LIMBS), shape, mesh=False)
    follows = body.animate(Motion(joints=walked.joints[0], joint_names=walked.joint_names), shape, mesh=False)
    at, there = (dict(zip(x.joint_names, x.joints[0].unbind(1), strict=True)) for x in (walked, follows))
    require(_far(at["pelvis"], there["pelvis"]) < _NEAR, "a given pelvis is not where the body's pelvis comes to be")
    for end in _LIMBS:
        start = next(a for a, b in BONES if b == end)
        cosine = cosine_similarity(at[end] - at[start], there[end] - there[start], dim=-1).min()
        require(float(cosine) > _ONE_DEGREE, f"the bone to {end} does not point the way that given joints have it")


def check_skinning(body: BodyModel, shape: dict[str, float]) -> None:
    """Bones carry the mesh: as it is, where only the whole is turned; with what the model adds at rest, where joints bend."""
    turn = Motion(rotations={"pelvis": torch.tensor([[0.2, 1.1, -0.3]])}, translation=torch.tensor([[0.3, -0.2, 1.5]]))
    turned, skinning = _skinned(body.animate(turn, shape))
    weights = skinning.vertex_weights
    joint_codes(skinning.bones)
    require(bool((weights >= 0).all()), "skinning weights are below 0")
    require(float((weights.sum(1) - 1).abs().max()) < _NEAR, "skinning weights of a vertex do not sum to 1")
    require(
        _far(skinning.posed(), turned) < _NEAR, "skinning the vertices at rest does not give those of a turned person"
    )
    bends = {"left_elbow": torch.tensor([[0.0, -1.0, 0.0]]), "right_knee": torch.tensor([[1.0, 0.0, 0.0]])}
    bent, skinning = _skinned(body.animate(Motion(rotations={**_still().rotations, **bends}), shape))
    added = _far(skinning.at_rest(bent), skinning.rest[:, None])
    require(added < _ADDED, f"undoing the bones leaves vertices {added:.2f} m from where they are at rest")
    back = skinning.posed(skinning.at_rest(bent))
    require(_far(back, bent) < _NEAR, "skinning what lies at rest does not give the vertices")


def check_repeats(body: BodyModel, shape: dict[str, float]) -> None:
    """The same motion and shape give the same body; the generator alone says which shape is drawn."""
    first, second = (body.animate(_walk(), shape) for _ in range(2))
    require(torch.equal(_mesh(first)[0], _mesh(second)[0]), "the same motion gives another mesh the second time")
    drawn = [body.random_shape(np.random.default_rng(seed)) for seed in (5, 5)]
    require(drawn[0] == drawn[1], "random_shape differs for the same generator")


def _still() -> Motion:
    return Motion(rotations={"pelvis": torch.zeros(1, 3)})


def _walk(joints: tuple[str, ...] = BODY_JOINTS) -> Motion:
    """Joints turn a little, differently in every frame."""
    random = torch.Generator().manual_seed(0)
    return Motion(rotations={name: 0.3 * torch.randn(_FRAMES, 3, generator=random) for name in joints})


def _mesh(body: BodyMotion) -> tuple[Tensor, Tensor]:
    if body.vertices is None or body.faces is None:
        raise AssertionError("with mesh=True there are no vertices and faces")
    return body.vertices, body.faces


def _skinned(body: BodyMotion) -> tuple[Tensor, Skinning]:
    if body.skinning is None:
        raise AssertionError("with mesh=True there is no skinning")
    return _mesh(body)[0], body.skinning


def _far(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm(dim=-1).max())
