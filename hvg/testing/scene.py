"""Small clips and small parts that checks run on; no data and no body model needed."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hvg.core.random_keys import generator
from hvg.core.required import required
from hvg.geometry.motion import BODY_JOINTS, Motion
from hvg.geometry.skeleton import JOINTS, REFERENCE_STATURE, bone_radii
from hvg.parts import registry
from hvg.parts.context import BackboneContext, ConditionerContext, Context, SceneContext
from hvg.parts.scene import BodyModel
from hvg.testing.building import build
from hvg.values.body import BodyMotion, Skinning
from hvg.values.cameras import orbit
from hvg.values.clip import ClipBatch, Reference
from hvg.values.scored_clip import ScoredClip, scored_clips
from hvg.values.tensors import concatenate

# A person of REFERENCE_STATURE who stands and faces +z, arms a little away from the body; metres, y up, left is +x.
_STANDING_MIDDLE = {
    "pelvis": (0.0, 0.93, 0.0),
    "spine1": (0.0, 1.03, 0.0),
    "spine2": (0.0, 1.15, 0.0),
    "spine3": (0.0, 1.22, 0.01),
    "neck": (0.0, 1.42, -0.01),
    "head": (0.0, 1.51, 0.02),
    "head_top": (0.0, 1.70, 0.0),
}
_STANDING_LEFT = {
    "hip": (0.09, 0.89, 0.0),
    "knee": (0.11, 0.48, 0.01),
    "ankle": (0.12, 0.08, -0.02),
    "foot": (0.14, 0.02, 0.11),
    "collar": (0.07, 1.36, 0.0),
    "shoulder": (0.17, 1.39, -0.01),
    "elbow": (0.33, 1.19, -0.01),
    "wrist": (0.47, 0.99, 0.04),
    "middle1": (0.52, 0.91, 0.06),
}
# Of a box whose corner number is 4 x + 2 y + z; counter-clockwise seen from outside.
BOX_FACES = (
    *((0, 1, 3), (0, 3, 2), (4, 6, 7), (4, 7, 5), (0, 4, 5), (0, 5, 1)),
    *((2, 3, 7), (2, 7, 6), (0, 2, 6), (0, 6, 4), (1, 5, 7), (1, 7, 3)),
)


def standing_joints() -> Tensor:
    """Joints (25, 3) of a standing person in the order of ``JOINTS``; world, metres, facing +z."""
    left = {f"left_{name}": point for name, point in _STANDING_LEFT.items()}
    right = {f"right_{name}": (-x, y, z) for name, (x, y, z) in _STANDING_LEFT.items()}
    points = {**_STANDING_MIDDLE, **left, **right}
    return torch.tensor([points[name] for name in JOINTS])


def tiny_batch(
    clips: int = 2, views: int = 2, frames: int = 2, size: int = 32, seed: int = 0, photos: int = 1
) -> ClipBatch:
    """Clips of a standing person who sways and turns, seen by an orbit of cameras; frames and photos are noise.

    The mesh is one box per clip and frame around the trunk. All fields that a conditioner may ask for are there; the tasks
    take turns, whatever a clip shows, so that what reads them meets both.
    """
    random = generator("tiny_batch", seed)
    turn = torch.rand(clips, frames, 1, generator=random) * 0.5
    sway = 0.02 * torch.randn(clips, frames, len(JOINTS), 3, generator=random)
    joints = _turned(standing_joints() + sway, turn)
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3) * torch.tensor([0.2, 0.3, 0.1])
    trunk = joints[:, :, JOINTS.index("spine1"), None]
    cameras = orbit(
        torch.arange(views) * 360.0 / views,
        elevation_degrees=5.0,
        distance=3.0,
        target=torch.tensor([0.0, 0.9, 0.0]),
        fov_degrees=40.0,
        image_size=(size, size),
    )
    names = tuple(f"clip{i}" for i in range(clips))
    return ClipBatch(
        cameras=cameras[None, :, None].expand(clips, views, frames),
        clip_id=names,
        subject=names,
        frames=torch.rand(clips, views, frames, 3, size, size, generator=random) * 2 - 1,
        alpha=torch.rand(clips, views, frames, 1, size, size, generator=random),
        body=BodyMotion(
            joints=joints,
            joint_names=JOINTS,
            bone_radii=bone_radii(torch.full((clips,), REFERENCE_STATURE)),
            vertices=trunk + _turned(corners.expand(clips, frames, 8, 3), turn),
            faces=torch.tensor(BOX_FACES),
            skinning=_skinning(corners, trunk, turn),
            parameters={"rotations": _rotations(turn)},
        ),
        reference=Reference(frames=torch.rand(clips, photos, 3, size, size, generator=random) * 2 - 1),
        task=torch.arange(clips) % 2,
        frame_index=torch.arange(frames).expand(clips, frames),
        driving=torch.rand(clips, frames, 3, size, size, generator=random) * 2 - 1,
        driving_hands=torch.rand(clips, frames, 2, 3, size // 2, size // 2, generator=random) * 2 - 1,
        driving_face=torch.rand(clips, frames, 1, 3, size // 2, size // 2, generator=random) * 2 - 1,
        caption=tuple(" ".join(["a person", *["who turns"] * i]) for i in range(clips)),
    )


def posed_batch(body: BodyModel, clips: int = 2, views: int = 2, frames: int = 2, size: int = 32) -> ClipBatch:
    """Clips as of ``tiny_batch`` of people of a body model, with its mesh, who move a little; their photos have bodies, too."""
    batch, random = tiny_batch(clips, views, frames, size), generator("posed_batch")

    def moving(frames: int) -> BodyMotion:
        turns = {name: 0.2 * torch.randn(frames, 3, generator=random) for name in BODY_JOINTS}
        return body.animate(Motion(rotations=turns), {}, mesh=True)

    photo = required(batch.reference, "ClipBatch.reference")
    photo = replace(photo, body=concatenate([moving(1) for _ in range(clips)]))
    return replace(batch, body=concatenate([moving(frames) for _ in range(clips)]), reference=photo)


def tiny_scored_clips(clips: int = 3, views: int = 2, frames: int = 4, size: int = 16) -> list[ScoredClip]:
    """Clips for metrics to score: dark people of random colours, half as high and wide as a picture, on white.

    Predictions are noisy, and noisier with time."""
    random = generator("tiny_scored_clips")
    inside = (..., slice(size // 4, size - size // 4), slice(size // 4, size - size // 4))
    truth = torch.full((clips, views, frames, 3, size, size), 255, dtype=torch.uint8)
    truth[inside] = torch.randint(0, 115, truth[inside].shape, generator=random, dtype=torch.uint8)
    alpha = torch.zeros(clips, views, frames, size, size)
    alpha[inside] = 1
    strength = torch.linspace(15, 35, frames)[:, None, None, None]
    noise = strength * torch.randn(truth.shape, generator=random)
    prediction = (truth + noise).round().clamp(0, 255).to(torch.uint8)
    batch = tiny_batch(clips, views, frames, size)
    seen = replace(batch, frames=truth / 127.5 - 1, alpha=alpha[:, :, :, None])
    return scored_clips(seen, prediction)


def _skinning(corners: Tensor, middle: Tensor, angle: Tensor) -> Skinning:
    """Of a box (8, 3): its lower half follows the thighs, its upper half the chest, and all of them move as one.

    middle: (B, T, 1, 3). angle: (B, T, 1).
    """
    clips, frames, _ = angle.shape
    transforms = torch.eye(4).repeat(clips, frames, 3, 1, 1)
    # A turn's columns are the turned axes.
    transforms[..., :3, :3] = _turned(torch.eye(3).expand(clips, frames, 3, 3), angle)[:, :, None].mT
    transforms[..., :3, 3] = middle
    x, y, _ = corners.unbind(1)
    return Skinning(
        bones=("left_hip", "right_hip", "spine3"),
        vertex_bones=torch.where(y > 0, 2, torch.where(x > 0, 0, 1))[:, None].to(torch.int16),
        vertex_weights=torch.ones(len(corners), 1),
        rest=corners.expand(clips, -1, -1),
        transforms=transforms,
    )


def _rotations(angle: Tensor) -> Tensor:
    """(B, T, 22, 3, 3) of somebody who turns as a whole by ``angle`` (B, T, 1)."""
    turned = _turned(torch.eye(3).expand(*angle.shape[:2], 3, 3), angle).mT
    return turned[:, :, None].repeat(1, 1, len(BODY_JOINTS), 1, 1)


def _turned(points: Tensor, angle: Tensor) -> Tensor:
    """Points (..., N, 3) turned by ``angle`` (..., 1) radians around the y axis."""
    x, y, z = points.unbind(-1)
    return torch.stack([x * angle.cos() + z * angle.sin(), y, z * angle.cos() - x * angle.sin()], dim=-1)


# The smallest settings of a ``svd_unet`` that has all ports, of two levels.
SMALL_UNET = {
    "widths": (32, 64),
    "attention": (True, True),
    "heads": (2, 2),
    "layers_per_block": 1,
    "cross_attention_width": 24,
    "addition_time_embed_dim": 8,
}


def tiny_context(
    backbone: str = "svd_unet", settings: Mapping[str, Any] = SMALL_UNET, *, temporal_stride: int = 1
) -> ConditionerContext:
    """Context for conditioners: a small network, the ``pixel`` codec, the ``warp`` renderer.

    backbone: its registered name. settings: of it. temporal_stride: of the codec, ``pixel_time`` where it is not 1.
    """
    joins = {} if temporal_stride == 1 else {"frames": temporal_stride}
    codec = _part("codec", "pixel_time" if joins else "pixel", joins)
    renderer = _part("renderer", "warp", {})
    part = registry.load("backbone", backbone)
    config = part.Config(**settings)
    ports = part.ports(config, type(codec).shape(codec.config))
    network = build(part, config, BackboneContext(ports=ports))
    return ConditionerContext(ports=ports, codec=codec, renderer=renderer, backbone=network)


def scene_context(body: str = "anny") -> SceneContext:
    """Context for datasets and reconstructors: the ``warp`` renderer, and the body model of that name in its default settings."""
    return SceneContext(renderer=_part("renderer", "warp", {}), body=_part("body", body, {}))


def _part(kind: str, name: str, settings: Mapping[str, int]) -> Any:
    """A registered part in its default settings but for these."""
    part = registry.load(kind, name)
    return part(part.Config(**settings), Context())
