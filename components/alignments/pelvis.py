"""HVG's human-centric centring: the pelvis of every view at one place of the picture."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from hvg.core.on_device import constants
from hvg.core.required import required
from hvg.parts.part import PartConfig
from hvg.parts.scene import Alignment
from hvg.values.clip import ClipBatch

from ..nn.pelvis_in_picture import pelvis_in_photo, projected_pelvis, whole_pixels

Fraction = Annotated[float, Field(ge=0, le=1)]


class PelvisConfig(PartConfig):
    """Settings of the alignment: which pictures move, and to where."""

    anchor: tuple[Fraction, Fraction] = Field(
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


class PelvisAlignment(Alignment[PelvisConfig]):
    """Moves the projected pelvis to ``anchor``, rounded to whole pixels, in every view and in the photo.

    A photo without body or camera is moved by its alpha: the pelvis of a standing person is taken to be at 47 % of its
    height from the top. A picture in which nobody is seen stays: a photo with empty alpha or none, a view whose camera has
    the pelvis behind it.

    Source: HVG (arXiv 2602.21188), section 3.2 (views) and 3.3 (photo and first frame). The paper leaves open whether the
    picture or the latents are moved: the picture here. Scale is not changed.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"body", "cameras"})

    @classmethod
    def per_picture(cls, config: PelvisConfig) -> bool:
        return config.frames == "every"

    def offsets(self, batch: ClipBatch) -> Tensor | None:
        pelvis = projected_pelvis(required(batch.body, "ClipBatch.body"), batch.cameras)
        offsets = self._to_anchor(pelvis, batch.cameras.image_size)
        return offsets if self.config.frames == "every" else offsets[:, :, :1].expand_as(offsets)

    def reference_offsets(self, batch: ClipBatch) -> Tensor | None:
        if batch.reference is None or not self.config.reference:
            return None
        pelvis, (height, width) = pelvis_in_photo(batch.reference), batch.reference.frames.shape[-2:]
        return None if pelvis is None else self._to_anchor(pelvis, (height, width))

    def _to_anchor(self, pixels: Tensor, size: tuple[int, int]) -> Tensor:
        (x, y), (height, width) = self.config.anchor, size
        return whole_pixels(pixels, constants([x * width, y * height], pixels))
