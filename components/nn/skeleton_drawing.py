"""Draws the coloured 2D skeleton."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from hvg.core.required import required
from hvg.geometry.skeleton import (
    FACE_POINTS,
    HAND_COLORS,
    HAND_LIMBS,
    JOINTS,
    OPENPOSE_COLORS,
    OPENPOSE_JOINTS,
    OPENPOSE_LIMBS,
    complete_joints,
    joint_index,
)
from hvg.values.body import BodyMotion
from hvg.values.cameras import Cameras, project
from hvg.values.clip import ClipBatch
from hvg.values.layout import fold_frames, unfold_frames
from hvg.values.tensors import map_tensors

from .surface_maps import unique_maps

# ControlNet's annotator darkens limbs, so that joints stand out.
LIMB_BRIGHTNESS = 0.6
# Nearer than this, metres, a joint has no sensible pixel.
NEAR = 0.01
# Most pixels that are drawn at once: a stroke's intermediate values then fit into the cache.
PIXELS_AT_ONCE = 1 << 18

# A gamma below 1 for pictures: at 64 pixels a limb is a pixel wide, and its edges would be lost in the dark.
IMAGE_GAMMA = 0.6

# Settings of the drawing, for the Configs of the parts that use it.
LineWidth = Annotated[
    float, Field(gt=0, le=1, description="Width of limbs as a fraction of the image height, at least one pixel.")
]
JointSize = Annotated[float, Field(ge=1, le=100, description="Diameter of joints as a multiple of the width of limbs.")]
Also = Annotated[
    tuple[Literal["hands", "face"], ...],
    Field(
        max_length=2,
        description="What is drawn besides, half as thick, of what a body has: hands, the limbs of fingers; face, its points in "
        "white. Of a body that has neither fingers nor a face nothing is added.",
    ),
    AfterValidator(unique_maps),
]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What is drawn of a body, S strokes, those of joints with both ends at one place.

    names: of all the joints that it takes. ends: the two of every stroke. color: (S, 3), sRGB in [0, 1]. half_width: pixels.
    """

    names: tuple[str, ...]
    ends: list[tuple[str, str]]
    color: Tensor
    half_width: list[float]


@dataclass(frozen=True, kw_only=True)
class Strokes:
    """Lines with round ends, S to an image: what is drawn, far to near.

    start, end: (N, S, 2), pixels. color: (N, S, 3), sRGB in [0, 1]. half_width: (N, S), pixels, negative for none.
    """

    start: Tensor
    end: Tensor
    color: Tensor
    half_width: Tensor


def draw_skeleton(batch: ClipBatch, *, line_width: float, joint_size: float, also: Sequence[str] = ()) -> Tensor:
    """(B, V, T, 4, H, W): sRGB in [0, 1] on black, then coverage in [0, 1]; anti-aliased.

    Limbs and joints of the 18-point OpenPose figure with its colours (``hvg.geometry.skeleton.OPENPOSE_LIMBS``), drawn
    far to near by their depth. Unlike a detector's drawing it also shows joints that the body hides.
    Where an estimator says how sure it is of each joint, a joint is as bright as that, and a limb as the less sure of its ends;
    coverage stays. Source: pose frames of MimicMotion (arXiv 2406.19680), section 3.3.
    also: ``hands`` and ``face``, as of ``Also``; DWPose (arXiv 2307.15880) draws them so, hands in 20 hues, a face in white.
    """
    body = required(batch.body, "ClipBatch.body")
    height, width = batch.cameras.image_size
    half_width = max(1.0, line_width * height) / 2
    figure = _figure(body, also, half_width, half_width * joint_size)
    strokes = _strokes(figure, body, batch.cameras)
    images = max(1, PIXELS_AT_ONCE // (height * width))
    parts = [slice(i, i + images) for i in range(0, len(strokes.start), images)]
    pieces = [_draw(map_tensors(strokes, itemgetter(part)), (height, width)) for part in parts]
    return unfold_frames(torch.cat(pieces), batch.grid)


def _figure(body: BodyMotion, also: Sequence[str], limb: float, joint: float) -> Figure:
    """The body, and of hands and face what it has. limb, joint: half widths in pixels."""
    limbs, dots = len(OPENPOSE_LIMBS), len(OPENPOSE_JOINTS)
    known, thin = {*body.joint_names}, max(0.5, limb / 2)
    fingers = zip(HAND_LIMBS, HAND_COLORS, strict=True) if "left_index1" in known else ()
    hands = [(ends, color) for ends, color in fingers if known.issuperset(ends)]
    face = [((name, name), (1.0, 1.0, 1.0)) for name in FACE_POINTS if name in known]
    more = [*(hands if "hands" in also else ()), *(face if "face" in also else ())]
    wheel = body.joints.new_tensor(OPENPOSE_COLORS)
    colors = [
        LIMB_BRIGHTNESS * wheel[:limbs],
        wheel[:dots],
        wheel.new_tensor([c for _, c in more]).reshape(len(more), 3),
    ]
    return Figure(
        names=tuple(dict.fromkeys([*JOINTS, *(name for ends, _ in more for name in ends)])),
        ends=[*OPENPOSE_LIMBS, *((name, name) for name in OPENPOSE_JOINTS), *(ends for ends, _ in more)],
        color=torch.cat(colors),
        half_width=[limb] * limbs + [joint] * dots + [thin] * len(more),
    )


def _joints(figure: Figure, body: BodyMotion) -> tuple[Tensor, Tensor]:
    """Places (B, T, N, 3) of the figure's joints, and how sure they are, (B, T, N); 1 where nothing was estimated."""
    joints, more = complete_joints(body.joints, body.joint_names), figure.names[len(JOINTS) :]
    if more:
        joints = torch.cat([joints, body.joints[:, :, joint_index(body.joint_names, more, joints.device)]], dim=2)
    if body.confidence is None:
        return joints, torch.ones_like(joints[..., 0])
    # The top of the skull is put where neck and head say, where a body lacks it.
    names = ["head" if name == "head_top" and name not in body.joint_names else name for name in figure.names]
    return joints, body.confidence[..., joint_index(body.joint_names, names, joints.device)]


def _strokes(figure: Figure, body: BodyMotion, cameras: Cameras) -> Strokes:
    """Strokes of B V T images folded to N."""
    joints, sure = _joints(figure, body)
    pixels, z = project(joints[:, None], cameras)
    pixels, z = fold_frames(pixels), fold_frames(z)
    first, second = (joint_index(figure.names, names, z.device) for names in zip(*figure.ends, strict=True))
    bright = fold_frames(sure[:, None].expand(-1, cameras.shape[1], -1, -1))
    bright = torch.minimum(bright[:, first], bright[:, second])
    half_width = z.new_tensor(figure.half_width).where((z[:, first] > NEAR) & (z[:, second] > NEAR), -1.0)
    order = (z[:, first] + z[:, second]).argsort(dim=1, descending=True)

    def far_to_near(x: Tensor) -> Tensor:
        return x.gather(1, order.reshape(*order.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:]))

    return Strokes(
        start=far_to_near(pixels[:, first]),
        end=far_to_near(pixels[:, second]),
        color=figure.color[order] * far_to_near(bright)[..., None],
        half_width=far_to_near(half_width),
    )


def _draw(strokes: Strokes, image_size: tuple[int, int]) -> Tensor:
    """(N, 4, H, W): sRGB and coverage on black; a pixel is covered by how far (0 to 1) its centre lies in a stroke."""
    height, width = image_size
    like = strokes.start
    y = torch.arange(height, device=like.device, dtype=like.dtype)[:, None] + 0.5
    x = torch.arange(width, device=like.device, dtype=like.dtype) + 0.5
    canvas = like.new_zeros(len(like), 4, height, width)
    ink = torch.cat([strokes.color, torch.ones_like(strokes.color[..., :1])], dim=-1)
    for s in range(strokes.start.shape[1]):
        start, end = strokes.start[:, s, :, None, None], strokes.end[:, s, :, None, None]
        (x0, y0), (dx, dy) = start.unbind(1), (end - start).unbind(1)
        squared = (dx * dx + dy * dy).clamp_min(1e-6)
        along = (((x - x0) * (dx / squared)) + ((y - y0) * (dy / squared))).clamp_(0, 1)
        distance = ((x - x0 - along * dx).square_() + (y - y0 - along * dy).square_()).sqrt_()
        coverage = (strokes.half_width[:, s, None, None] + 0.5 - distance).clamp_(0, 1)[:, None]
        canvas.lerp_(ink[:, s, :, None, None].expand_as(canvas), coverage)
    return canvas


def skeleton_image(signal: Tensor) -> Tensor:
    """A drawing (..., 4, H, W) as a picture (..., 3, H, W) in [-1, 1], for people: on black, with bright limbs."""
    return 2 * signal[..., :3, :, :].clamp(0, 1) ** IMAGE_GAMMA - 1
