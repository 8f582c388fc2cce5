"""Bodies of the SMPL family, which the package ``smplx`` runs on the user's own model files.

World: y up, metres; at rest a person stands in the T-pose facing +z, soles on the floor y = 0, pelvis above the origin;
``Motion.translation`` moves that, as it does every body. The package's licence (Max-Planck-Gesellschaft) allows
non-commercial research only; it is imported when such a body is chosen, and by nothing else.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from hvg.core.errors import HvgError
from hvg.geometry.body_conventions import Family, Gender
from hvg.geometry.body_files import EXPRESSIONS, SHAPES, BodyFile, find_body_file, read_body_file
from hvg.geometry.body_parameters import POSES, BodyParameters
from hvg.geometry.motion import BODY_JOINTS, Motion, rotation_matrix
from hvg.geometry.retargeting import follow_joints, relative
from hvg.geometry.skeleton import bone_radii
from hvg.parts.context import Context
from hvg.parts.part import PartConfig
from hvg.parts.scene import BodyModel
from hvg.values.body import BodyMotion, Skinning

# Frames that are skinned at once: of SMPL-X's mesh they take 0.3 GB on the way.
_AT_ONCE = 64
_HANDS, _KNUCKLES = ("left_hand", "right_hand"), ("left_middle1", "right_middle1")
_BETA = re.compile(r"beta_(\d+)")


class FamilyConfig(PartConfig):
    """Settings of the body."""

    path: Path = Field(
        description="The model's .npz, or a folder with files named as the package smplx has them (SMPLX_NEUTRAL.npz)."
    )
    gender: Gender = Field(default="neutral", description="Which of a folder's files.")


@dataclass(frozen=True)
class _Rest:
    """T people at rest in the model's own axes: vertices (T, P, 3) and joints (T, J, 3), metres."""

    vertices: Tensor
    joints: Tensor

    @cached_property
    def soles(self) -> Tensor:
        """(T,), their height."""
        return self.vertices[..., 1].amin(-1)

    @cached_property
    def stature(self) -> Tensor:
        """(T,)."""
        return self.vertices[..., 1].amax(-1) - self.soles


class FamilyBody(BodyModel[FamilyConfig]):
    """A body of the family, from the user's model file.

    ``shape`` holds betas by number, ``beta_0`` to ``beta_299``: deviations from the mean person in units of one standard
    deviation, 0 where not given.
    """

    family: ClassVar[Family]

    def __init__(self, config: FamilyConfig, context: Context | None = None) -> None:
        """Raises: DataError where there is no such file; it is read at first use."""
        self.config = config
        self._known: tuple[Tensor, _Rest] | None = None
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
    def _network(self) -> Any:
        return _smplx_network(self.file)

    def animate(self, motion: Motion, shape: Mapping[str, float] | None = None, *, mesh: bool = True) -> BodyMotion:
        """The person in every frame: as ``pose``, in its T-pose where the motion turns no joint.

        With ``motion.joints`` the pelvis is put where the given pelvis is, and bones point the way the given ones do.

        Raises: HvgError for a beta or a joint that the model does not have, DataError for its file.
        """
        betas = self._betas(shape or {})
        unknown = sorted(set(motion.rotations) - set(self.file.joints))
        if unknown:
            raise HvgError(
                f"the {self.family} body has no joint '{unknown[0]}' to turn; it has {', '.join(self.file.joints)}"
            )
        pelvis, floor = self._standing(betas)
        given, rotations = motion.places(), motion.rotations
        if given:
            rotations = relative(follow_joints(self._stance(betas), given))
            place = given["pelvis"]
        else:
            place = torch.stack([torch.zeros(()), pelvis[1] - floor, torch.zeros(())])
        if motion.translation is not None:
            place = place + motion.translation.float()
        parameters = BodyParameters(
            family=self.family,
            rotations={joint: x.float() for joint, x in rotations.items()},
            betas=betas,
            expression=torch.zeros(1, 0),
            translation=(place - pelvis).expand(motion.num_frames, 3),
            scale=torch.ones(1),
        )
        return self.pose(parameters, mesh=mesh)

    def shape_of(self, body: BodyMotion) -> dict[str, float]:
        """The betas of a body that it animated."""
        return {f"beta_{k}": value for k, value in enumerate(body.constants["betas"][0].tolist())}

    def random_shape(self, generator: np.random.Generator) -> dict[str, float]:
        """The first ten betas, normal as in the people that the model was fitted to, at most two deviations from the mean."""
        drawn = generator.normal(size=min(10, self.file.num_betas)).clip(-2, 2)
        return {f"beta_{k}": float(value) for k, value in enumerate(drawn)}

    def pose(self, parameters: BodyParameters, *, mesh: bool = True) -> BodyMotion:
        """The person with these parameters: joints (1, T, N, 3), those of the family, then what else ``JOINTS`` has.

        radii: (1, 24). vertices: (1, T, P, 3) if ``mesh``. parameters: ``rotations`` (1, T, 22, 3, 3), global, relative to
        the T-pose. constants: ``betas`` (1, S) where one frame's are all frames'. Raises: HvgError for another family's.
        """
        if parameters.family != self.family:
            raise HvgError(f"body={self.family} was given parameters of {parameters.family}")
        frames = parameters.num_frames
        betas = _padded(parameters.betas, self.file.num_betas)
        expression = _padded(parameters.expression, self.file.num_expressions)
        scale, shift = parameters.scale[:, None, None], parameters.translation[:, None]
        rest = self.file.rest_joints(betas, expression)
        turned, joints = self._turned(parameters, rest)
        transforms = torch.eye(4).repeat(*turned.shape[:2], 1, 1)
        transforms[..., :3, :3] = scale[..., None] * turned
        transforms[..., :3, 3] = scale * (joints - (turned @ rest[..., None])[..., 0]) + shift
        top = self._skull_top(betas, joints, turned)
        # SMPL's hand joints lie where the others have the first knuckles.
        hands = [self.file.joints.index(joint) for joint in _HANDS] if self.family == "smpl" else []
        joints = scale * torch.cat([joints, joints[:, hands], top[:, None]], dim=1) + shift
        stature = self._rest(betas[:1]).stature * parameters.scale[:1]
        body = BodyMotion(
            joints=joints[None],
            joint_names=(*self.file.joints, *(_KNUCKLES if hands else ()), "head_top"),
            bone_radii=bone_radii(stature),
            parameters={"rotations": turned[None, :, : len(BODY_JOINTS)]},
            constants={"betas": betas} if len(betas) == 1 else {},
        )
        if not mesh:
            return body
        pieces = [
            self._skinned(parameters, betas, expression, range(frames)[i : i + _AT_ONCE])
            for i in range(0, frames, _AT_ONCE)
        ]
        bones, weights = self._weights
        return replace(
            body,
            vertices=(scale * torch.cat(pieces) + shift)[None],
            faces=torch.from_numpy(self.file.arrays["f"].astype(np.int64)),
            skinning=Skinning(
                bones=self.file.joints,
                vertex_bones=bones,
                vertex_weights=weights,
                # Where betas change with the frames, those of the others are what is added before skinning.
                rest=self._rest(betas).vertices[:1],
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

    def _turned(self, body: BodyParameters, rest: Tensor) -> tuple[Tensor, Tensor]:
        """Global rotations (T, J, 3, 3) and joints (T, J, 3), without scale and translation. rest: (T or 1, J, 3)."""
        still, parents = torch.zeros(1, 3), self.file.arrays["kintree_table"][0].astype(np.int64)
        local = [rotation_matrix(body.rotations.get(joint, still)) for joint in self.file.joints]
        turned = [local[0].expand(body.num_frames, 3, 3)]
        places = [rest[:, 0].expand(body.num_frames, 3)]
        for joint in range(1, len(local)):
            parent = int(parents[joint])
            bone = rest[:, joint] - rest[:, parent]
            places.append(places[parent] + (turned[parent] @ bone[..., None])[..., 0])
            turned.append(turned[parent] @ local[joint])
        return torch.stack(turned, dim=1), torch.stack(places, dim=1)

    @cached_property
    def _weights(self) -> tuple[Tensor, Tensor]:
        """As of ``Skinning.sparse``."""
        return Skinning.sparse(torch.from_numpy(self.file.arrays["weights"]).float())

    @cached_property
    def _directions(self) -> Tensor:
        """(P, 3, S)."""
        return torch.from_numpy(self.file.arrays["shapedirs"][:, :, : self.file.num_betas]).float()

    def _rest(self, betas: Tensor) -> _Rest:
        """People with betas (T, S) at rest; those asked for last are kept, since a body asks several times for one."""
        if self._known is None or not torch.equal(self._known[0], betas):
            mean = torch.from_numpy(self.file.arrays["v_template"]).float()
            vertices = mean + torch.einsum("pcs,ts->tpc", self._directions, betas)
            self._known = betas.clone(), _Rest(vertices, self.file.rest_joints(betas))
        return self._known[1]

    def _standing(self, betas: Tensor) -> tuple[Tensor, float]:
        """Pelvis (3,) at rest and height of the soles there, in the model's own axes."""
        rest = self._rest(betas)
        return rest.joints[0, 0], float(rest.soles[0])

    def _stance(self, betas: Tensor) -> dict[str, Tensor]:
        """Joint name -> (3,) of the T-pose, for the joints of ``JOINTS``."""
        joints = self._rest(betas).joints
        top = self._skull_top(betas, joints, torch.eye(3).expand(1, joints.shape[1], 3, 3))
        places = dict(zip(self.file.joints, joints[0], strict=True)) | {"head_top": top[0]}
        return places | {b: places[a] for a, b in zip(_HANDS, _KNUCKLES, strict=True) if a in places}

    def _skull_top(self, betas: Tensor, joints: Tensor, turned: Tensor) -> Tensor:
        """(T, 3): the point above the head's joint at rest that is as high as the mesh; it rides on the head."""
        head = self.file.joints.index("head")
        rest = self._rest(betas)
        up = torch.zeros(len(betas), 3)
        up[:, 1] = rest.soles + rest.stature - rest.joints[:, head, 1]
        return joints[:, head] + (turned[:, head] @ up[..., None])[..., 0]

    def _betas(self, shape: Mapping[str, float]) -> Tensor:
        """(1, S)."""
        betas = torch.zeros(1, self.file.num_betas)
        for name, value in shape.items():
            known = _BETA.fullmatch(name)
            if known is None or int(known[1]) >= self.file.num_betas:
                raise HvgError(f"{self.family} has no '{name}'; its shape is beta_0 to beta_{self.file.num_betas - 1}")
            betas[0, int(known[1])] = value
        return betas


def _padded(values: Tensor, count: int) -> Tensor:
    """(T, count): cut, or filled up with zeros."""
    return torch.nn.functional.pad(values[:, :count].float(), (0, max(0, count - values.shape[1])))


def _smplx_network(file: BodyFile) -> Any:
    """The package's network for a model; hands are rotations, 0 the flat hand."""
    # Late: whoever has chosen no such body need not have agreed to the package's licence.
    import smplx
    from smplx.utils import Struct

    hands: dict[str, Any] = {"use_pca": False, "flat_hand_mean": True}
    arrays: dict[str, Any] = {**file.arrays, "shapedirs": _all_directions(file)}
    with TemporaryDirectory() as folder:
        if file.family == "smpl":
            return smplx.SMPL(model_path="", data_struct=Struct(**arrays), num_betas=file.num_betas)
        if file.family == "smplh":
            return smplx.SMPLH(model_path="", data_struct=Struct(**arrays), num_betas=file.num_betas, **hands)
        # This one reads its file itself, unpickling what it finds; what was checked has nothing to unpickle.
        clean = Path(folder) / "SMPLX_NEUTRAL.npz"
        np.savez(clean, allow_pickle=False, **arrays)
        return smplx.SMPLX(
            model_path=str(clean),
            num_betas=file.num_betas,
            num_expression_coeffs=file.num_expressions,
            **hands,
        )


def _all_directions(file: BodyFile) -> np.ndarray:
    """(P, 3, 300 or 400): the package uses ten of shape where a file has fewer than it might have; the others are 0 here."""
    given, shapes = file.arrays["shapedirs"], file.num_betas
    everything = np.zeros((*given.shape[:2], SHAPES + (EXPRESSIONS if file.num_expressions else 0)), given.dtype)
    everything[:, :, :shapes] = given[:, :, :shapes]
    everything[:, :, SHAPES : SHAPES + file.num_expressions] = given[:, :, shapes : shapes + file.num_expressions]
    return everything
