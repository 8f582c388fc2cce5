"""Bodies of the SMPL family, which the package ``smplx`` runs on the user's own model files.

World: y up, metres; at rest a person stands in the T-pose facing +z, soles on the floor y = 0, pelvis above the origin;
``Motion.translation`` moves that, as it does every body. The package's licence (Max-Planck-Gesellschaft) allows
non-commercial research only; it is imported when such a body is chosen, and by nothing else.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from hvg.core.errors import HvgError
from hvg.geometry.body_conventions import Family, Gender, GivenBody
from hvg.geometry.body_files import BodyFile, find_body_file, read_body_file
from hvg.geometry.body_parameters import POSES, BodyParameters, body_parameters, notes_on_counts
from hvg.geometry.motion import BODY_JOINTS, Motion
from hvg.geometry.retargeting import follow_joints, relative
from hvg.geometry.skeleton import bone_radii
from hvg.parts.context import Context
from hvg.parts.part import PartConfig
from hvg.parts.scene import BodyModel
from hvg.values.body import BodyMotion, Skinning

from .family_skeleton import FamilySkeleton
from .smplx_network import smplx_network

# Frames that are skinned at once: of SMPL-X's mesh they take 0.3 GB on the way.
_AT_ONCE = 64
_HANDS, _KNUCKLES = ("left_hand", "right_hand"), ("left_middle1", "right_middle1")
# The one name of a shape that is no beta.
SCALE = "scale"
_BETA = re.compile(r"beta_(\d+)")


class FamilyConfig(PartConfig):
    """Settings of the body."""

    path: Path = Field(
        description="The model's .npz, or a folder with files named as the package smplx has them (SMPLX_NEUTRAL.npz)."
    )
    gender: Gender = Field(default="neutral", description="Which of a folder's files.")


class FamilyBody(BodyModel[FamilyConfig]):
    """A body of the family, from the user's model file.

    ``shape`` holds betas by number, ``beta_0`` to ``beta_299``: deviations from the mean person in units of one standard
    deviation, 0 where not given; and ``scale``, a factor on all lengths.
    """

    family: ClassVar[Family]

    def __init__(self, config: FamilyConfig, context: Context | None = None) -> None:
        """Raises: DataError where there is no such file; it is read at first use."""
        self.config = config
        self._path = find_body_file(config.path, self.family, config.gender)

    @classmethod
    def content(cls, config: FamilyConfig) -> str:
        """Digest of the model's file. Raises: DataError for one that is not there."""
        with find_body_file(config.path, cls.family, config.gender).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @cached_property
    def file(self) -> BodyFile:
        """The model. Raises: DataError for a file that is damaged or another's."""
        return read_body_file(self._path, self.family)

    @cached_property
    def _skeleton(self) -> FamilySkeleton:
        return FamilySkeleton(self.file)

    @cached_property
    def _network(self) -> Any:
        return smplx_network(self.file)

    def animate(self, motion: Motion, shape: Mapping[str, float] | None = None, *, mesh: bool = True) -> BodyMotion:
        """The person in every frame: as ``pose``, in its T-pose where the motion turns no joint.

        With ``motion.body`` as ``given`` has it, in the shape that ``shape`` says.
        With ``motion.joints`` the pelvis is put where the given pelvis is, and bones point the way the given ones do.

        Raises: HvgError for a beta or a joint that the model does not have, DataError for its file.
        """
        betas = self._betas(shape or {})
        unknown = sorted(set(motion.rotations) - set(self.file.joints))
        if unknown:
            raise HvgError(
                f"the {self.family} body has no joint '{unknown[0]}' to turn; it has {', '.join(self.file.joints)}"
            )
        scale = torch.tensor([(shape or {}).get(SCALE, 1.0)])
        taken = self._followed if motion.body is None else self.given
        return self.pose(taken(motion, betas, scale), mesh=mesh)

    def given(self, motion: Motion, betas: Tensor | None = None, size: Tensor | None = None) -> BodyParameters:
        """Parameters of a motion that has a ``body``: its hands and face; rotations of joints that both families have.

        betas: (1, S) of the person, and size: (1,), their scale; None: of the file's own, who is posed as the file has them. The
        pelvis of any other is as far from where it is when they stand on the floor as the file's is from where it is when its own
        person does.

        Raises: DataError for values that do not fit the model.
        """
        assert motion.body is not None
        values, frames = self._understood(motion.body), motion.num_frames
        body = body_parameters(values, motion.body.convention, self.file)
        scale = body.scale[:, None]
        person = body.betas if betas is None else betas
        if motion.translation is None:
            moved = torch.zeros(frames, 3)
        elif motion.body.family == self.family:
            pelvis = self.file.rest_joints(body.betas, body.expression)[:, 0]
            moved = scale * (pelvis - self._stands(body.betas)) + body.translation
        else:
            moved = motion.translation.float()
        rest = self.file.rest_joints(person, body.expression)[:, 0]
        size = body.scale if size is None else size
        shift = moved + size[:, None] * (self._stands(person) - rest)
        return replace(body, betas=person, scale=size, translation=shift.expand(frames, 3))

    def told_shape(self, motion: Motion) -> dict[str, float] | None:
        """Betas, and a scale, of the motion's person; where they change with the frames, their mean."""
        given = motion.body
        if given is None or given.family != self.family:
            return None
        shape: dict[str, float] = {}
        if "betas" in given.values:
            betas = given.values["betas"].float().mean(dim=0)[: self.file.num_betas]
            shape = {f"beta_{k}": value for k, value in enumerate(betas.tolist())}
        return shape | ({SCALE: float(given.values["scale"].float().mean())} if "scale" in given.values else {})

    def of_stature(self, shape: Mapping[str, float], stature: float) -> dict[str, float]:
        """The same betas, all lengths by one factor."""
        person = self._skeleton.rest(self._betas(shape))
        return {**shape, SCALE: stature / float(person.tops[0] - person.soles[0])}

    def notes(self, motion: Motion) -> list[str]:
        """What is said of the file's body that is not this one's."""
        given = motion.body
        if given is None:
            return []
        if given.family != self.family:
            return [
                f"the motion is {given.family}'s: body={self.family} takes the rotations of joints that both have, and no betas"
            ]
        notes = notes_on_counts(given.values, self.file)
        if given.gender not in (None, self.config.gender):
            notes.append(
                f"the motion's person is {given.gender}; give body.gender={given.gender} and such a model for their betas"
            )
        return notes

    def _understood(self, given: GivenBody) -> dict[str, Tensor]:
        """The values that this family has; betas and expressions of another say nothing here."""
        values = dict(given.values)
        if given.family == self.family:
            return values
        words = {word for word, joints in POSES.items() if joints[0] in self.file.joints} | {"transl", "scale"}
        values = {word: x for word, x in values.items() if word in words}
        return values | {"body_pose": values["body_pose"][:, : 3 * len(BODY_JOINTS[1:])]}

    def _stands(self, betas: Tensor) -> Tensor:
        """Pelvis (3,), above the origin, of the (mean) person when they stand on the floor."""
        pelvis, floor = self._standing(betas.mean(dim=0, keepdim=True))
        return torch.stack([torch.zeros(()), pelvis[1] - floor, torch.zeros(())])

    def _followed(self, motion: Motion, betas: Tensor, scale: Tensor) -> BodyParameters:
        """Parameters of a motion of any body."""
        given, rotations, place = motion.places(), motion.rotations, scale * self._stands(betas)
        if given:
            rotations, place = relative(follow_joints(self._stance(betas), given)), given["pelvis"]
        if motion.translation is not None:
            place = place + motion.translation.float()
        return BodyParameters(
            family=self.family,
            rotations={joint: x.float() for joint, x in rotations.items()},
            betas=betas,
            expression=torch.zeros(1, 0),
            translation=(place - scale * self._standing(betas)[0]).expand(motion.num_frames, 3),
            scale=scale,
        )

    def shape_of(self, body: BodyMotion) -> dict[str, float]:
        """The betas, and the scale, of a body that it animated."""
        shape = {f"beta_{k}": value for k, value in enumerate(body.constants["betas"][0].tolist())}
        return shape | {SCALE: float(body.constants.get(SCALE, torch.ones(1)))}

    def random_shape(self, generator: np.random.Generator) -> dict[str, float]:
        """The first ten betas, normal as in the people that the model was fitted to, at most two deviations from the mean."""
        drawn = generator.normal(size=min(10, self.file.num_betas)).clip(-2, 2)
        return {f"beta_{k}": float(value) for k, value in enumerate(drawn)}

    def pose(self, parameters: BodyParameters, *, mesh: bool = True) -> BodyMotion:
        """The person with these parameters: joints (1, T, N, 3), those of the family, then what else ``JOINTS`` has.

        radii: (1, 24). vertices: (1, T, P, 3) if ``mesh``. parameters: ``rotations`` (1, T, 22, 3, 3), global, relative to
        the T-pose. constants: ``betas`` (1, S) and ``scale`` (1,) where one frame's are all frames'.

        Raises: HvgError for another family's.
        """
        if parameters.family != self.family:
            raise HvgError(f"body={self.family} was given parameters of {parameters.family}")
        frames = parameters.num_frames
        betas = _padded(parameters.betas, self.file.num_betas)
        expression = _padded(parameters.expression, self.file.num_expressions)
        scale, shift = parameters.scale[:, None, None], parameters.translation[:, None]
        rest = self.file.rest_joints(betas, expression)
        turned, joints = self._skeleton.turned(parameters, rest)
        carried = joints - (turned @ rest[..., None])[..., 0]
        top = self._skull_top(betas, joints, turned)
        # SMPL's hand joints lie where the others have the first knuckles.
        hands = [self.file.joints.index(joint) for joint in _HANDS] if self.family == "smpl" else []
        points = self._skeleton.on_mesh(betas, expression, turned, carried)
        joints = scale * torch.cat([joints, points, joints[:, hands], top[:, None]], dim=1) + shift
        person = self._skeleton.rest(betas)
        stature = (person.tops - person.soles)[:1] * parameters.scale[:1]
        body = BodyMotion(
            joints=joints[None],
            joint_names=(*self.file.joints, *self._skeleton.points, *(_KNUCKLES if hands else ()), "head_top"),
            bone_radii=bone_radii(stature),
            parameters={"rotations": turned[None, :, : len(BODY_JOINTS)]},
            constants={"betas": betas, SCALE: parameters.scale} if len(betas) == len(parameters.scale) == 1 else {},
        )
        if not mesh:
            return body
        pieces = [
            self._skinned(parameters, betas, expression, range(frames)[i : i + _AT_ONCE])
            for i in range(0, frames, _AT_ONCE)
        ]
        bones, weights = self._skeleton.weights
        transforms = torch.eye(4).repeat(*turned.shape[:2], 1, 1)
        transforms[..., :3, :3], transforms[..., :3, 3] = scale[..., None] * turned, scale * carried + shift
        return replace(
            body,
            vertices=(scale * torch.cat(pieces) + shift)[None],
            faces=torch.from_numpy(self.file.arrays["f"].astype(np.int64)),
            skinning=Skinning(
                bones=self.file.joints,
                vertex_bones=bones,
                vertex_weights=weights,
                # Where betas change with the frames, those of the others are what is added before skinning.
                rest=person.vertices[None],
                transforms=transforms[None],
            ),
        )

    def _skinned(self, body: BodyParameters, betas: Tensor, expression: Tensor, frames: range) -> Tensor:
        """Vertices (T, P, 3) of some frames, without scale and translation."""
        chosen = slice(frames.start, frames.stop)
        count = len(frames)

        def of(joints: tuple[str, ...]) -> Tensor:
            still = torch.zeros(count, 3)
            given = [
                body.rotations[j].expand(body.num_frames, 3)[chosen] if j in body.rotations else still for j in joints
            ]
            return torch.cat(given, dim=1)

        words = {word: of(joints) for word, joints in POSES.items() if joints[0] in self.file.joints}
        if self.family == "smpl":
            words["body_pose"] = of(self.file.joints[1:])
        if self.family == "smplx":
            words["expression"] = expression.expand(body.num_frames, -1)[chosen]
        with torch.no_grad():
            made = self._network(betas=betas.expand(body.num_frames, -1)[chosen], transl=torch.zeros(count, 3), **words)
        return made.vertices

    def _standing(self, betas: Tensor) -> tuple[Tensor, float]:
        """Pelvis (3,) at rest and height of the soles there, in the model's own axes."""
        rest = self._skeleton.rest(betas)
        return rest.joints[0, 0], float(rest.soles[0])

    def _stance(self, betas: Tensor) -> dict[str, Tensor]:
        """Joint name -> (3,) of the T-pose, for the joints of ``JOINTS``."""
        joints = self._skeleton.rest(betas).joints
        top = self._skull_top(betas, joints, torch.eye(3).expand(1, joints.shape[1], 3, 3))
        places = dict(zip(self.file.joints, joints[0], strict=True)) | {"head_top": top[0]}
        return places | {b: places[a] for a, b in zip(_HANDS, _KNUCKLES, strict=True) if a in places}

    def _skull_top(self, betas: Tensor, joints: Tensor, turned: Tensor) -> Tensor:
        """(T, 3): the point above the head's joint at rest that is as high as the mesh; it rides on the head."""
        head = self.file.joints.index("head")
        rest = self._skeleton.rest(betas)
        up = torch.zeros(len(betas), 3)
        up[:, 1] = rest.tops - rest.joints[:, head, 1]
        return joints[:, head] + (turned[:, head] @ up[..., None])[..., 0]

    def _betas(self, shape: Mapping[str, float]) -> Tensor:
        """(1, S)."""
        betas = torch.zeros(1, self.file.num_betas)
        for name, value in shape.items():
            known = _BETA.fullmatch(name)
            if name == SCALE and 0 < value < math.inf:
                continue
            if known is None or int(known[1]) >= self.file.num_betas:
                last = self.file.num_betas - 1
                raise HvgError(
                    f"{self.family} has no '{name}'; its shape is beta_0 to beta_{last}, and a {SCALE} above 0"
                )
            betas[0, int(known[1])] = value
        return betas


def _padded(values: Tensor, count: int) -> Tensor:
    """(T, count): cut, or filled up with zeros."""
    return torch.nn.functional.pad(values[:, :count].float(), (0, max(0, count - values.shape[1])))
