"""Draws the coloured 2D skeleton."""

from dataclasses import dataclass
from operator import itemgetter
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from hvg.core.required import required
from hvg.geometry.skeleton import JOINTS, OPENPOSE_COLORS, OPENPOSE_JOINTS, OPENPOSE_LIMBS, complete_joints, joint_index
from hvg.values.body import BodyMotion
from hvg.values.cameras import Cameras, project
from hvg.values.clip import ClipBatch
from hvg.values.layout import fold_frames, unfold_frames
from hvg.values.tensors import map_tensors

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


@dataclass(frozen=True, kw_only=True)
class Strokes:
    """Lines with round ends, S to an image: what is drawn, far to near.

    start, end: (N, S, 2), pixels. color: (N, S, 3), sRGB in [0, 1]. half_width: (N, S), pixels, negative for none.
    """

    start: Tensor
    end: Tensor
    color: Tensor
    half_width: Tensor


def draw_skeleton(batch: ClipBatch, *, line_width: float, joint_size: float) -> Tensor:
    """(B, V, T, 4, H, W): sRGB in [0, 1] on black, then coverage in [0, 1]; anti-aliased.

    Limbs and joints of the 18-point OpenPose figure with its colours (``hvg.geometry.skeleton.OPENPOSE_LIMBS``), drawn
    far to near by their depth. Unlike a detector's drawing it also shows joints that the body hides.
    Where an estimator says how sure it is of each joint, a joint is as bright as that, and a limb as the less sure of its ends;
    coverage stays. Source: pose frames of MimicMotion (arXiv 2406.19680), section 3.3.
    """
    body = required(batch.body, "ClipBatch.body")
    joints, sure = complete_joints(body.joints, body.joint_names), _confidence(body)
    height, width = batch.cameras.image_size
    half_width = max(1.0, line_width * height) / 2
    strokes = _strokes(joints, sure, batch.cameras, half_width, half_width * joint_size)
    images = max(1, PIXELS_AT_ONCE // (height * width))
    parts = [slice(i, i + images) for i in range(0, len(strokes.start), images)]
    pieces = [_draw(map_tensors(strokes, itemgetter(part)), (height, width)) for part in parts]
    return unfold_frames(torch.cat(pieces), batch.grid)


def _confidence(body: BodyMotion) -> Tensor:
    """(B, T, 25) in the order of ``JOINTS``; 1 where nothing was estimated."""
    if body.confidence is None:
        return torch.ones_like(body.joints[..., :1, 0]).expand(-1, -1, len(JOINTS))
    # The top of the skull is put where neck and head say, where a body lacks it.
    names = ["head" if name == "head_top" and name not in body.joint_names else name for name in JOINTS]
    return body.confidence[..., joint_index(body.joint_names, names, body.joints.device)]


def _strokes(joints: Tensor, sure: Tensor, cameras: Cameras, limb: float, joint: float) -> Strokes:
    """Strokes of B V T images folded to N, for joints (B, T, 25, 3), their confidence (B, T, 25), and half widths of limbs and
    joints in pixels."""
    pixels, z = project(joints[:, None], cameras)
    pixels, z = fold_frames(pixels), fold_frames(z)
    dots = joint_index(JOINTS, OPENPOSE_JOINTS, z.device)
    first = torch.cat([joint_index(JOINTS, [a for a, _ in OPENPOSE_LIMBS], z.device), dots])
    second = torch.cat([joint_index(JOINTS, [b for _, b in OPENPOSE_LIMBS], z.device), dots])
    limbs = len(OPENPOSE_LIMBS)
    wheel = z.new_tensor(OPENPOSE_COLORS)
    color = torch.cat([LIMB_BRIGHTNESS * wheel[:limbs], wheel[: len(dots)]])
    bright = fold_frames(sure[:, None].expand(-1, cameras.shape[1], -1, -1))
    bright = torch.minimum(bright[:, first], bright[:, second])
    half_width = z.new_tensor([limb] * limbs + [joint] * len(dots))
    half_width = half_width.where((z[:, first] > NEAR) & (z[:, second] > NEAR), -1.0)
    order = (z[:, first] + z[:, second]).argsort(dim=1, descending=True)

    def far_to_near(x: Tensor) -> Tensor:
        return x.gather(1, order.reshape(*order.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:]))

    return Strokes(
        start=far_to_near(pixels[:, first]),
        end=far_to_near(pixels[:, second]),
        color=color[order] * far_to_near(bright)[..., None],
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
