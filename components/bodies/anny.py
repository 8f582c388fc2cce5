"""The Anny body, retargeted to SMPL-X motion.

World: y up, metres; at rest a person stands in SMPL-X's T-pose facing +z, soles on the floor y = 0, pelvis above the
origin; ``Motion.translation`` moves that. Source: Anny (arXiv 2511.03589), package ``anny``; its own world is z up,
facing -y, and is turned once, in ``_rest_of``.

Retargeting: Anny's rest pose is an A-pose with bent elbows. Every limb gets a rest correction C: the rotation that
takes its rest direction (and, for arms, the elbow's hinge and the palm) to SMPL-X's T-pose. A bone driven by joint j
then turns by Q_j C_j, where Q_j is the product of SMPL-X's rotations from the root to j, so a T-pose gives a T-pose Anny.
Files count their rotations from how their model's mean person holds the arms at rest: Q_j begins with the turn to that.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from hvg.core.errors import HvgError, did_you_mean
from hvg.core.kept_tensors import KeptTensors, kept_folder
from hvg.geometry.given_motion import arms_at_rest
from hvg.geometry.motion import BODY_JOINTS as DRIVEN
from hvg.geometry.motion import Z_UP_TO_Y_UP, Motion
from hvg.geometry.retargeting import PARENT, align, follow_joints, swing
from hvg.geometry.rotations import axis_angle, rotation_matrix
from hvg.geometry.skeleton import JOINTS, bone_radii
from hvg.parts.context import Context
from hvg.parts.part import PartConfig
from hvg.parts.scene import BodyModel
from hvg.values.body import BodyMotion, Skinning

# SMPL-X joint -> the Anny bone that starts there; "{s}" stands for the side's suffix.
_CENTRAL = {
    "pelvis": "root",
    "spine1": "spine04",
    "spine2": "spine02",
    "spine3": "spine01",
    "neck": "neck01",
    "head": "head",
}
_SIDED = {
    "hip": "upperleg01",
    "knee": "lowerleg01",
    "ankle": "foot",
    "foot": "toe3-1",
    "collar": "clavicle",
    "shoulder": "upperarm01",
    "elbow": "lowerarm01",
    "wrist": "wrist",
    "middle1": "finger3-1",
}
ANNY_BONES: dict[str, str] = {
    **_CENTRAL,
    **{f"left_{joint}": f"{bone}.L" for joint, bone in _SIDED.items()},
    **{f"right_{joint}": f"{bone}.R" for joint, bone in _SIDED.items()},
}
# Left leg of SMPL's neutral rest skeleton: hip to knee and knee to ankle, metres (the right one is its mirror image).
_LEG_DIRECTIONS = {"hip": (0.034, -0.375, -0.005), "knee": (-0.014, -0.398, -0.044)}

# In the network's order.
PHENOTYPES = ("gender", "age", "muscle", "weight", "height", "proportions")
# Shapes that are kept for later processes: 165 KB each.
MOST_KEPT = 256

# Of the phenotype ``height``: a tenth of a millimetre.
_HEIGHT_STEP = 1e-4
# Ranges of the phenotypes of grown people.
_GROWN = {
    "gender": (0.0, 1.0),
    "age": (0.6, 0.85),
    "muscle": (0.25, 0.8),
    "weight": (0.25, 0.85),
    "height": (0.2, 0.42),
    "proportions": (0.3, 0.8),
}


@dataclass(frozen=True)
class _Rest:
    """One shape at rest, y up, facing +z, before the rest correction.

    vertices: (P, 3). heads: joint name -> (3,), for all of JOINTS. correction: (22, 3, 3), C of every driven joint.
    floor: y of the soles in the T-pose when the pelvis is at y = 0. stature: metres.
    """

    vertices: Tensor
    heads: Mapping[str, Tensor]
    correction: Tensor
    floor: float
    stature: float


@cache
def _model() -> Any:
    """The Anny network and template; one per process, made at first use."""
    # Late: both take a second to import, and a body model is also chosen where none is built.
    from ..people.ray_casting import start_warp

    # Importing Anny would start it otherwise, with its banner.
    start_warp()
    import anny
    from anny.paths import get_anny_cache_path

    folder = get_anny_cache_path()
    if not any(folder.glob("*/*.safetensors")):
        # Nobody would wait for minutes without a word.
        print(
            f"note: Anny's body is read for the first time, for minutes; 0.8 GB are kept in {folder}", file=sys.stderr
        )
    return anny.Anny(skinning_method="lbs").float().requires_grad_(False)


@cache
def _kept() -> KeptTensors:
    """What earlier processes made of the network, which takes four seconds to import and read: $HVG_BODIES, or
    ~/.cache/hvg/bodies; nothing if that is empty.
    """
    return KeptTensors(kept_folder("HVG_BODIES", "~/.cache/hvg/bodies"), __name__, version("anny"), most=MOST_KEPT)


@cache
def _topology() -> tuple[Tensor, Tensor]:
    """Faces (F, 3) int64 and skinning weights (P, 24): by driven joint, then for the half-twisted forearms."""
    found = _kept().get("topology", _read_topology)
    return found["faces"], found["weights"]


def _read_topology() -> dict[str, Tensor]:
    model = _model()
    labels, parents = list(model.bone_labels), list(model.bone_parents)
    column = {ANNY_BONES[joint]: k for k, joint in enumerate(DRIVEN)}
    column |= {"lowerarm02.L": len(DRIVEN), "lowerarm02.R": len(DRIVEN) + 1}

    def driver(bone: int) -> int:
        while labels[bone] not in column:
            bone = int(parents[bone])
        return column[labels[bone]]

    drivers = torch.tensor([driver(bone) for bone in range(len(labels))])
    weights = torch.zeros(len(model.vertex_bone_indices), len(DRIVEN) + 2)
    weights.scatter_add_(1, drivers[model.vertex_bone_indices.long()], model.vertex_bone_weights.float())
    return {"faces": model.faces.long(), "weights": weights}


@lru_cache(maxsize=64)
def _rest_of(shape: tuple[tuple[str, float], ...]) -> _Rest:
    def make() -> dict[str, Tensor]:
        rest = _made_rest(shape)
        heads = torch.stack([rest.heads[joint] for joint in JOINTS])
        lengths = torch.tensor([rest.floor, rest.stature], dtype=torch.float64)
        return {"vertices": rest.vertices, "heads": heads, "correction": rest.correction, "lengths": lengths}

    found = _kept().get(["rest", shape], make)
    floor, stature = found["lengths"].tolist()
    return _Rest(found["vertices"], dict(zip(JOINTS, found["heads"], strict=True)), found["correction"], floor, stature)


def _made_rest(shape: tuple[tuple[str, float], ...]) -> _Rest:
    model = _model()
    rest = model(phenotype_kwargs={name: torch.tensor([value]) for name, value in shape})
    vertices = rest["rest_vertices"][0].float() @ Z_UP_TO_Y_UP.mT
    bones = dict(zip(model.bone_labels, rest["rest_bone_heads"][0].float() @ Z_UP_TO_Y_UP.mT, strict=True))
    root = bones["root"].clone()
    vertices = vertices - root
    bones = {name: head - root for name, head in bones.items()}
    heads = {joint: bones[bone] for joint, bone in ANNY_BONES.items()}
    heads["head_top"] = vertices[vertices[:, 1].argmax()] * torch.tensor([0.0, 1.0, 1.0])
    correction = _rest_correction(bones)
    stature = float(vertices[:, 1].max() - vertices[:, 1].min())
    draft = _Rest(vertices, heads, correction, 0.0, stature)
    identity = torch.eye(3).expand(1, len(DRIVEN), 3, 3)
    rotations, positions = _forward_kinematics(draft, identity, torch.zeros(1, 3))
    floor = float(_skin(draft, _transforms(draft, rotations, positions))[..., 1].min())
    return _Rest(vertices, heads, correction, floor, stature)


def _rest_correction(bones: Mapping[str, Tensor]) -> Tensor:
    """(22, 3, 3): every driven joint's rotation from rest pose to T-pose; identity for trunk and feet."""
    correction = {joint: torch.eye(3) for joint in DRIVEN}
    for side, suffix, sign in (("left", "L", 1.0), ("right", "R", -1.0)):
        at = {joint: bones[f"{bone}.{suffix}"] for joint, bone in _SIDED.items()}
        upper, fore = at["elbow"] - at["shoulder"], at["wrist"] - at["elbow"]
        # A left elbow turns about -y to bring the hand forward; the right one about +y.
        hinge = torch.linalg.cross(upper, fore)
        index, little = bones[f"finger2-1.{suffix}"], bones[f"finger5-1.{suffix}"]
        back_of_hand = sign * torch.linalg.cross(index - at["wrist"], little - at["wrist"])
        out, up = torch.tensor([sign, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
        correction[f"{side}_shoulder"] = align(upper, hinge, out, -sign * up)
        correction[f"{side}_elbow"] = align(fore, hinge, out, -sign * up)
        correction[f"{side}_wrist"] = align(at["middle1"] - at["wrist"], back_of_hand, out, up)
        for joint, end in (("hip", "knee"), ("knee", "ankle")):
            x, y, z = _LEG_DIRECTIONS[joint]
            correction[f"{side}_{joint}"] = swing(at[end] - at[joint], torch.tensor([sign * x, y, z]))
    return torch.stack([correction[joint] for joint in DRIVEN])


def _forward_kinematics(rest: _Rest, turned: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
    """Global rotations (T, 22, 3, 3) of Anny's bones and joint positions (T, 22, 3).

    turned: (T, 22, 3, 3), Q of every joint, global. root: (T, 3), the pelvis.
    """
    rotations = turned @ rest.correction
    positions = {"pelvis": root}
    for joint in DRIVEN[1:]:
        parent = PARENT[joint]
        offset = rest.heads[joint] - rest.heads[parent]
        positions[joint] = positions[parent] + rotations[:, DRIVEN.index(parent)] @ offset
    return rotations, torch.stack([positions[joint] for joint in DRIVEN], dim=1)


def _all_joints(rest: _Rest, rotations: Tensor, positions: Tensor) -> Tensor:
    """(T, J, 3) in the order of JOINTS: the driven ones, then hands and skull top, which ride on a parent."""
    riders = []
    for joint in JOINTS[len(DRIVEN) :]:
        parent = PARENT[joint]
        k = DRIVEN.index(parent)
        riders.append(positions[:, k] + rotations[:, k] @ (rest.heads[joint] - rest.heads[parent]))
    return torch.cat([positions, torch.stack(riders, dim=1)], dim=1)


def _half_twisted_forearm(rest: _Rest, rotations: Tensor, side: str) -> Tensor:
    """(T, 3, 3): the forearm's rotation with half of the wrist's twist, so that its skin does not wring."""
    elbow, wrist = (rotations[:, DRIVEN.index(f"{side}_{joint}")] for joint in ("elbow", "wrist"))
    axis = normalize(elbow @ (rest.heads[f"{side}_wrist"] - rest.heads[f"{side}_elbow"]), dim=-1)
    turn = axis_angle(wrist @ elbow.mT)
    return rotation_matrix(0.5 * (turn * axis).sum(-1, keepdim=True) * axis) @ elbow


def _transforms(rest: _Rest, rotations: Tensor, positions: Tensor) -> Tensor:
    """(T, 24, 3, 4) of the bones by which vertices are skinned, from rest to the pose: rotation, then shift."""
    elbows = [DRIVEN.index(f"{side}_elbow") for side in ("left", "right")]
    forearms = torch.stack([_half_twisted_forearm(rest, rotations, side) for side in ("left", "right")], dim=1)
    rotations = torch.cat([rotations, forearms], dim=1)
    positions = torch.cat([positions, positions[:, elbows]], dim=1)
    heads = torch.stack([rest.heads[joint] for joint in DRIVEN])
    heads = torch.cat([heads, heads[elbows]])
    shift = positions - (rotations @ heads[:, :, None])[..., 0]
    return torch.cat([rotations, shift[..., None]], dim=-1)


def _skin(rest: _Rest, transforms: Tensor) -> Tensor:
    """Vertices (T, P, 3) by linear blend skinning."""
    # Rotations first, then shifts: with the numbers side by side in another order the sums round otherwise.
    flat = torch.cat([transforms[..., :3].flatten(2), transforms[..., 3]], dim=-1)
    blended = torch.einsum("pk,tkc->tpc", _topology()[1], flat)
    rotated = (blended[..., :9].unflatten(-1, (3, 3)) * rest.vertices[:, None, :]).sum(-1)
    return rotated + blended[..., 9:]


@cache
def _sparse_weights() -> tuple[Tensor, Tensor]:
    return Skinning.sparse(_topology()[1])


def _skinning(rest: _Rest, transforms: Tensor, scale: float) -> Skinning:
    """The same in metres of a person whose lengths are scaled."""
    bones, weights = _sparse_weights()
    last = torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(*transforms.shape[:2], 1, 4)
    moved = torch.cat([transforms[..., :3], scale * transforms[..., 3:]], dim=-1)
    return Skinning(
        bones=(*DRIVEN, "left_elbow", "right_elbow"),
        vertex_bones=bones,
        vertex_weights=weights,
        rest=scale * rest.vertices[None],
        transforms=torch.cat([moved, last], dim=2)[None],
    )


def _turned_by_rotations(motion: Motion) -> Tensor:
    """Q (T, 22, 3, 3): rotations accumulated from the root, from the T-pose on."""
    unknown = sorted(set(motion.rotations) - set(DRIVEN))
    if unknown:
        raise HvgError(f"the Anny body has no joint '{unknown[0]}' to turn. {did_you_mean(unknown[0], DRIVEN)}")
    still = torch.zeros(motion.num_frames, 3)
    given = torch.stack([motion.rotations.get(joint, still).float() for joint in DRIVEN])
    turned: dict[str, Tensor] = {}
    for joint, local in zip(DRIVEN, rotation_matrix(given), strict=True):
        turned[joint] = local if joint == "pelvis" else turned[PARENT[joint]] @ local
    counted = torch.stack([turned[joint] for joint in DRIVEN], dim=1)
    return counted if motion.body is None else counted @ arms_at_rest(motion.body.family)


def _stance(rest: _Rest) -> dict[str, Tensor]:
    """Joint name -> (3,) of the T-pose."""
    identity = torch.eye(3).expand(1, len(DRIVEN), 3, 3)
    rotations, positions = _forward_kinematics(rest, identity, torch.zeros(1, 3))
    return dict(zip(JOINTS, _all_joints(rest, rotations, positions)[0], strict=True))


class Anny(BodyModel):
    """The free Anny body with 13,718 vertices; its wheel carries its mesh, so nothing is downloaded.

    ``shape`` holds Anny's phenotypes, each in [0, 1] and 0.5 where not given: gender, age, muscle, weight, height,
    proportions.
    """

    class Config(PartConfig):
        """Settings of the body."""

        scale: float = Field(
            default=1.0, ge=0.01, le=100, description="Factor on all lengths, for people of unusual stature."
        )

    def __init__(self, config: Config | None = None, context: Context | None = None) -> None:
        self.config = config or self.Config()

    def animate(self, motion: Motion, shape: Mapping[str, float] | None = None, *, mesh: bool = True) -> BodyMotion:
        """The person in every frame: joints (1, T, 25, 3), radii (1, 24), vertices (1, T, 13718, 3) if ``mesh``.

        parameters: ``rotations`` (1, T, 22, 3, 3), global, relative to the T-pose. constants: ``shape`` (1, 6) in
        Anny's order.
        With ``motion.joints`` the pelvis is put where the given pelvis is.

        Raises: HvgError for a phenotype or a joint that Anny does not have.
        """
        phenotypes = self._phenotypes(shape or {})
        rest = _rest_of(tuple(phenotypes.items()))
        scale = self.config.scale
        if given := motion.places():
            turned = follow_joints(_stance(rest), given)
            root = given["pelvis"] / scale
        else:
            turned = _turned_by_rotations(motion)
            root = torch.tensor([0.0, -rest.floor, 0.0]).expand(motion.num_frames, 3)
        if motion.translation is not None:
            root = root + motion.translation.float() / scale
        rotations, positions = _forward_kinematics(rest, turned, root)
        body = BodyMotion(
            joints=scale * _all_joints(rest, rotations, positions)[None],
            joint_names=JOINTS,
            bone_radii=bone_radii(torch.tensor([scale * rest.stature])),
            parameters={"rotations": turned[None]},
            constants={"shape": torch.tensor([list(phenotypes.values())])},
        )
        if not mesh:
            return body
        transforms = _transforms(rest, rotations, positions)
        return replace(
            body,
            vertices=scale * _skin(rest, transforms)[None],
            faces=_topology()[0],
            skinning=_skinning(rest, transforms, scale),
        )

    def of_stature(self, shape: Mapping[str, float], stature: float) -> dict[str, float]:
        """The same, with another phenotype ``height``, found by halving; girths hardly change with it, and thighs most."""

        def tall(height: float) -> float:
            # Made, not kept: of the people on the way none is anybody's.
            rest = _made_rest(tuple(self._phenotypes({**shape, "height": height}).items()))
            return self.config.scale * (float(rest.heads["head_top"][1]) - rest.floor)

        low, high = 0.0, 1.0
        if not tall(low) <= stature <= tall(high):
            raise HvgError(
                f"Anny's people of this shape are {tall(low):.2f} to {tall(high):.2f} m tall; nobody is {stature:g} m"
            )
        while high - low > _HEIGHT_STEP:
            middle = (low + high) / 2
            low, high = (middle, high) if tall(middle) < stature else (low, middle)
        return {**shape, "height": (low + high) / 2}

    def shape_of(self, body: BodyMotion) -> dict[str, float]:
        """The phenotypes of a body that it animated."""
        return dict(zip(PHENOTYPES, body.constants["shape"][0].tolist(), strict=True))

    def random_shape(self, generator: np.random.Generator) -> dict[str, float]:
        """Phenotypes of grown people, drawn evenly."""
        return {name: float(generator.uniform(low, high)) for name, (low, high) in _GROWN.items()}

    def _phenotypes(self, shape: Mapping[str, float]) -> dict[str, float]:
        """All of them, in the network's order."""
        for name, value in shape.items():
            if name not in PHENOTYPES:
                raise HvgError(f"Anny has no phenotype '{name}'. {did_you_mean(name, PHENOTYPES)}")
            if not 0 <= value <= 1:
                raise HvgError(f"Anny's phenotype '{name}' is {value}; expected a number from 0 to 1")
        return {name: float(shape.get(name, 0.5)) for name in PHENOTYPES}
