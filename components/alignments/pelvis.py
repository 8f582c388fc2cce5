"""HVG's human-centric centring: the pelvis of every view at one place of the picture."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from hvg.cameras import project
from hvg.protocols import Alignment, PartConfig
from hvg.required import required
from hvg.types import BodyMotion, ClipBatch

# Where the pelvis of a standing person is between the top of the head (0) and the soles (1).
PELVIS_FROM_TOP = 0.47


class PelvisConfig(PartConfig):
    """Which pictures move, and to where."""

    anchor: tuple[float, float] = Field(
        (0.5, 0.5), description="Where the pelvis goes: fractions of the picture's width and height."
    )
    frames: Literal["every", "first"] = Field(
        "every",
        description="every: the pelvis is centred in every frame. first: all frames of a view move as its first one does, so "
        "that the person still walks through the picture.",
    )
    reference: bool = Field(
        True, description="Whether the photo moves, too, so that its person meets the first frame's."
    )


class PelvisAlignment(Alignment):
    """Moves the projected pelvis to ``anchor``, rounded to whole pixels, in every view and in the photo.

    A photo without body or camera is moved by its alpha: the pelvis of a standing person is taken to be at 47 % of its
    height from the top. Without alpha it stays.

    Source: HVG (arXiv 2602.21188), section 3.2 (views) and 3.3 (photo and first frame). The paper leaves open whether the
    picture or the latents are moved: the picture here. Scale is not changed.
    """

    Config = PelvisConfig
    requires: ClassVar[frozenset[str]] = frozenset({"body", "cameras"})

    def __init__(self, config: PelvisConfig, context: object = None) -> None:
        self.config = config

    def offsets(self, batch: ClipBatch) -> Tensor | None:
        body = required(batch.body, "ClipBatch.body")
        pixels, _ = project(_pelvis(body)[:, None, :, None], batch.cameras)
        offsets = self._to_anchor(pixels[..., 0, :], batch.cameras.image_size)
        return offsets if self.config.frames == "every" else offsets[:, :, :1].expand_as(offsets)

    def reference_offsets(self, batch: ClipBatch) -> Tensor | None:
        reference = required(batch.reference, "ClipBatch.reference") if self.config.reference else None
        if reference is None:
            return None
        size = (reference.frames.shape[-2], reference.frames.shape[-1])
        if reference.body is not None and reference.cameras is not None:
            pixels, _ = project(_pelvis(reference.body)[..., None, :], reference.cameras)
            return self._to_anchor(pixels[..., 0, :], size)
        return None if reference.alpha is None else self._to_anchor(_pelvis_in_outline(reference.alpha), size)

    def _to_anchor(self, pixels: Tensor, size: tuple[int, int]) -> Tensor:
        anchor = pixels.new_tensor([self.config.anchor[0] * size[1], self.config.anchor[1] * size[0]])
        return (anchor - pixels).round().long()


def _pelvis(body: BodyMotion) -> Tensor:
    """(B, T, 3), world, metres."""
    return body.joints[:, :, body.joint_names.index("pelvis")]


def _pelvis_in_outline(alpha: Tensor) -> Tensor:
    """Pixels (B, R, 2) of the pelvis of a standing person with this alpha (B, R, 1, H, W); the centre where there is none."""
    covered = alpha[:, :, 0] > 0.5
    height, width = covered.shape[-2:]
    top_bottom = _extent(covered.any(dim=-1))
    left_right = _extent(covered.any(dim=-2))
    x = left_right.mean(dim=-1)
    y = top_bottom[..., 0] + PELVIS_FROM_TOP * (top_bottom[..., 1] - top_bottom[..., 0])
    pixels = torch.stack([x, y], dim=-1)
    middle = pixels.new_tensor([width / 2, height / 2])
    return torch.where(covered.any(dim=(-2, -1))[..., None], pixels, middle)


def _extent(covered: Tensor) -> Tensor:
    """First and last covered place, as edges, (B, R, 2), of (B, R, N) bool."""
    places = torch.arange(covered.shape[-1], device=covered.device, dtype=torch.float32).expand(covered.shape)
    last = places.where(covered, -1).amax(dim=-1) + 1
    return torch.stack([places.where(covered, covered.shape[-1]).amin(dim=-1), last], dim=-1)
