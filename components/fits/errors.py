"""Bodies with the errors that estimators make, each of a stated size."""

import math
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from hvg.core.bounds import FrameCount, Seed
from hvg.core.errors import DataError
from hvg.core.required import required
from hvg.geometry.motion import BODY_JOINTS
from hvg.geometry.retargeting import PARENT
from hvg.geometry.rotations import axis_angle, rotation_matrix
from hvg.geometry.skeleton import joint_index
from hvg.parts.context import Context
from hvg.parts.part import PartConfig
from hvg.parts.scene import Fit
from hvg.values.body import BodyMotion
from hvg.values.clip import ClipBatch, Reference
from hvg.values.tensors import SHARED, concatenate, map_tensors

from ..people.body_pose import BodyPose, carrier, is_beyond, places
from ..people.error_draws import ErrorDraws

Share = Annotated[float, Field(ge=0, le=1)]
Degrees = Annotated[float, Field(ge=0, le=45)]
Millimetres = Annotated[float, Field(ge=0, le=2000)]

# The joints that are turned when a limb is dropped.
_LIMBS = {f"{side}_arm": tuple(f"{side}_{j}" for j in ("shoulder", "elbow", "wrist")) for side in ("left", "right")}
_LIMBS |= {f"{side}_leg": tuple(f"{side}_{j}" for j in ("hip", "knee", "ankle")) for side in ("left", "right")}
# Estimators fall back to hanging arms, not to the T-pose: radians by which the left shoulder turns from that about z.
_HANGING = -math.radians(65)


class Errors(Fit):
    """A body that is wrong in these ways together, in this order: shape, dropped limbs and hands at rest, rotations, joints,
    and its place along the ray on which the first camera sees the pelvis.

    Joints, mesh and bone radii are those of one body, unless the mesh alone is fitted. Each size is that of its error alone, root
    mean square over frames and joints, as ``docs/fits.md`` says and measures.
    """

    class Config(PartConfig):
        """Sizes of the errors, all 0 at first, and how they change in time."""

        seed: Seed = Field(0, description="Errors are functions of this number, the clip's id and the frame.")
        joint_noise_mm: float = Field(
            0.0, ge=0, le=200, description="Noise of the 22 body joints' places, millimetres; rotations follow it."
        )
        rotation_noise_degrees: Degrees = Field(
            0.0, description="Noise of the rotations of 21 joints relative to their parents, degrees."
        )
        root_rotation_noise_degrees: Degrees = Field(0.0, description="Noise of the pelvis' rotation, degrees.")
        correlation_frames: float = Field(
            5.0, ge=0, le=10_000, description="Frames after which noise has fallen to 1 / e; 0: new in every frame."
        )
        steady_share: Share = Field(
            0.5, description="Share of the noise's variance that stays the same for the whole clip."
        )
        shape: Literal["true", "mean", "other"] = Field(
            "true", description="Whose build: the person's own, the mean person's, or that of somebody drawn per clip."
        )
        shape_share: Share = Field(1.0, description="How far the build goes from the person's own to that one's.")
        dropped_limbs: float = Field(
            0.0, ge=0, le=0.5, description="Share of frames in which an arm or leg is at rest, each on its own."
        )
        dropped_frames: FrameCount = Field(8, description="Frames for which a limb is dropped.")
        dropped_confidence: Share = Field(0.1, description="Confidence of joints that are dropped; 1 of others.")
        confidence_mm: float = Field(
            0.0,
            ge=0,
            le=2000,
            description="Confidence also falls to 1 / e where a joint is off by so much, pelvis on pelvis; 0: noise leaves it.",
        )
        hands: Literal["true", "rest"] = Field(
            "true", description="Whether hands continue their forearms, fingers flat."
        )
        depth_mm: Millimetres = Field(
            0.0,
            description="How much nearer or farther the body is, along the first camera's ray; one of both per clip.",
        )
        depth_drift_mm: Millimetres = Field(0.0, description="Swing of that in time, root mean square, millimetres.")
        depth_drift_frames: FrameCount = Field(48, description="Frames of one such swing.")
        scale_percent: float = Field(
            0.0,
            ge=0,
            le=50,
            description="How much larger and farther the body is, or smaller and nearer; the first camera sees no difference.",
        )
        photo: Literal["fitted", "true"] = Field("fitted", description="Whether the photo's body has errors too.")
        of: Literal["all", "mesh"] = Field(
            "all",
            description="What is wrong: the whole body; or its mesh alone, around joints and bones that are true.",
        )

    def __init__(self, config: Config, context: Context | None = None) -> None:
        self.config = config
        self._model = context and context.body

    @classmethod
    def changes(cls, config: Config) -> bool:
        return bool(_of_pose(config) or config.joint_noise_mm or _of_place(config))

    @classmethod
    def needs(cls, config: Config) -> frozenset[str]:
        return frozenset({"body"} | ({"cameras"} if _of_place(config) else set()))

    def observe(self, clip: ClipBatch) -> ClipBatch:
        if not self.changes(self.config):
            return clip
        true = required(clip.target_body, "ClipBatch.body")
        frames = torch.arange(clip.grid[2]).expand(clip.grid[0], -1) if clip.frame_index is None else clip.frame_index
        valid = torch.ones_like(frames, dtype=torch.bool) if clip.valid is None else clip.valid.any(dim=1)
        origin = clip.cameras[:, :1] if clip.origin is None else clip.origin
        bodies = [
            self._fitted(_clip_of(true, i), name, self._draws(name, frames[i]), origin.centers[i, 0], valid[i])
            for i, name in enumerate(clip.clip_id)
        ]
        return replace(clip, body=concatenate(bodies), true_body=true, reference=self._photo(clip))

    def _photo(self, clip: ClipBatch) -> Reference | None:
        """The photo with its body, if it has one, as fitted, where that is asked for."""
        photo = clip.reference
        if photo is None or photo.body is None or self.config.photo == "true":
            return photo
        true = required(photo.target_body, "Reference.body")
        frames = torch.arange(true.joints.shape[1])
        bodies = [
            # Photos do not follow one another in time.
            self._fitted(
                _clip_of(true, i),
                f"{name}, photo",
                replace(self._draws(f"{name}, photo", frames), correlation=0.0, steady=0.0),
                None if photo.cameras is None else photo.cameras.centers[i],
                torch.ones_like(frames, dtype=torch.bool),
            )
            for i, name in enumerate(clip.clip_id)
        ]
        return replace(photo, body=concatenate(bodies), true_body=true)

    def _draws(self, name: str, frames: Tensor) -> ErrorDraws:
        config = self.config
        key = (config.seed, "fit", name)
        return ErrorDraws(key=key, frames=frames, correlation=config.correlation_frames, steady=config.steady_share)

    def _fitted(
        self, body: BodyMotion, name: str, draws: ErrorDraws, camera: Tensor | None, valid: Tensor
    ) -> BodyMotion:
        """The observed body (B = 1). camera: (T, 3), centre of the first one. valid: (T,) bool."""
        config, asked = self.config, _of_pose(self.config)
        if "rotations" not in body.parameters and asked:
            raise DataError(
                f"clip '{name}': its body has joints alone, and fit.{asked} needs rotations; without them there are errors "
                "of joint_noise_mm, depth_mm, depth_drift_mm and scale_percent"
            )
        seen = body
        if config.joint_noise_mm and "rotations" not in body.parameters:
            carriers = [BODY_JOINTS.index(carrier(joint)) for joint in body.joint_names]
            seen = replace(body, joints=body.joints + self._joint_noise(draws)[None, :, carriers])
        elif config.joint_noise_mm or asked:
            seen = self._reposed(BodyPose.of(required(self._model, "Context.body"), body, name, valid), body, draws)
        confidence = self._confidence(body, draws) * self._certainty(body, body if config.of == "mesh" else seen)
        seen = seen if camera is None else self._placed(seen, draws, camera)
        seen = replace(body, vertices=seen.vertices, skinning=seen.skinning) if config.of == "mesh" else seen
        return replace(seen, confidence=confidence)

    def _reposed(self, pose: BodyPose, body: BodyMotion, draws: ErrorDraws) -> BodyMotion:
        """The body whose true pose this is, posed again with its errors."""
        config = self.config
        if config.shape != "true" and pose.shape:
            drawn = pose.model.random_shape(draws.generator("shape")) if config.shape == "other" else {}
            pose = pose.reshaped(drawn, config.shape_share)
        local = pose.local.clone()
        for joints, dropped in self._dropped(draws):
            chosen = [BODY_JOINTS.index(joint) for joint in joints]
            rest = torch.stack([_at_rest(joint) for joint in joints])
            local[:, chosen] = torch.where(dropped[:, None, None], rest, local[:, chosen])
        pose = replace(pose, local=self._turned(local, draws))
        if config.joint_noise_mm:
            pose = pose.following(self._joint_noise(draws))
        made = pose.body(mesh=body.vertices is not None)
        chosen = joint_index(made.joint_names, body.joint_names)
        return replace(made, joints=made.joints[:, :, chosen], joint_names=body.joint_names)

    def _turned(self, local: Tensor, draws: ErrorDraws) -> Tensor:
        """Rotations (T, 22, 3) relative to the parents, each times a random one."""
        joints, root = self.config.rotation_noise_degrees, self.config.root_rotation_noise_degrees
        if not joints and not root:
            return local
        size = torch.deg2rad(torch.tensor([joints if joint in PARENT else root for joint in BODY_JOINTS]))
        noise = size[:, None] / math.sqrt(3) * draws.noise("rotations", len(BODY_JOINTS), 3)
        return axis_angle(rotation_matrix(local) @ rotation_matrix(noise))

    def _dropped(self, draws: ErrorDraws) -> list[tuple[tuple[str, ...], Tensor]]:
        """Joints that are at rest, and (T,) bool when."""
        share, length = self.config.dropped_limbs, self.config.dropped_frames
        found = [(joints, draws.spans(limb, share, length)) for limb, joints in _LIMBS.items() if share]
        always = torch.ones(len(draws.frames), dtype=torch.bool)
        return [*found, (("left_wrist", "right_wrist"), always)] if self.config.hands == "rest" else found

    def _confidence(self, body: BodyMotion, draws: ErrorDraws) -> Tensor:
        """(1, T, J): ``dropped_confidence`` of what lies beyond a joint at rest, else 1; times what the body has."""
        sure = torch.ones(body.joints.shape[:-1]) if body.confidence is None else body.confidence.clone()
        for joints, dropped in self._dropped(draws) if self.config.of == "all" else ():
            beyond = torch.tensor([is_beyond(name, joints) for name in body.joint_names])
            sure[0] *= torch.where(dropped[:, None] & beyond, self.config.dropped_confidence, 1.0)
        return sure

    def _certainty(self, true: BodyMotion, seen: BodyMotion) -> Tensor:
        """(1, T, J) in (0, 1]: exp(-(d / ``confidence_mm``)^2) of a joint that is d millimetres off, pelvis on pelvis."""
        if not self.config.confidence_mm:
            return torch.ones(true.joints.shape[:-1])
        off = (seen.joints - seen.place("pelvis")[:, :, None]) - (true.joints - true.place("pelvis")[:, :, None])
        return torch.exp(-(1000 * off / self.config.confidence_mm).square().sum(dim=-1))

    def _joint_noise(self, draws: ErrorDraws) -> Tensor:
        """(T, 22, 3) metres."""
        return self.config.joint_noise_mm / 1000 / math.sqrt(3) * draws.noise("joints", len(BODY_JOINTS), 3)

    def _placed(self, body: BodyMotion, draws: ErrorDraws, camera: Tensor) -> BodyMotion:
        """The body moved along rays from the camera's centre (T, 3)."""
        config = self.config
        if not _of_place(config):
            return body
        away = places(body, ["pelvis"])[:, 0] - camera
        distance, ray = away.norm(dim=-1), normalize(away, dim=-1)
        off = config.depth_mm * draws.sign("depth")
        off = off + config.depth_drift_mm * draws.swing("depth drift", config.depth_drift_frames)
        # Nobody is fitted behind the camera.
        shift = torch.maximum(off / 1000, -distance / 2)[:, None] * ray
        scale = 1 + config.scale_percent / 100 * draws.sign("scale")
        return body.shifted((shift + (1 - scale) * camera)[None], scale)


def _of_pose(config: Errors.Config) -> str | None:
    """The setting of an error that changes a pose or a shape, for which rotations are needed."""
    sizes = {name: getattr(config, name) for name in ("rotation_noise_degrees", "root_rotation_noise_degrees")}
    sizes |= {"dropped_limbs": config.dropped_limbs, "hands": config.hands == "rest"}
    sizes |= {"shape": config.shape != "true" and config.shape_share}
    return next((name for name, size in sizes.items() if size), None)


def _of_place(config: Errors.Config) -> bool:
    return bool(config.depth_mm or config.depth_drift_mm or config.scale_percent)


def _clip_of(bodies: BodyMotion, index: int) -> BodyMotion:
    """One clip's body (B = 1) of those of a batch."""
    return map_tensors(bodies, lambda x: x[index : index + 1], leave=SHARED)


def _at_rest(joint: str) -> Tensor:
    """Axis-angle (3,) of a limb's joint at rest."""
    turn = {"left_shoulder": _HANGING, "right_shoulder": -_HANGING}.get(joint, 0.0)
    return torch.tensor([0.0, 0.0, turn])
