"""HVG's temporal alignment on its own: the photo's person stands where the video begins."""

from typing import ClassVar

from torch import Tensor

from hvg.core.on_device import constants
from hvg.core.required import required
from hvg.parts.part import PartConfig
from hvg.parts.scene import Alignment
from hvg.values.clip import ClipBatch

from ..nn.pelvis_in_picture import pelvis_in_photo, projected_pelvis, whole_pixels


class FirstFrameAlignment(Alignment[PartConfig]):
    """Moves only the photo: its pelvis goes, by whole pixels, to where the pelvis is in the first view's first frame.

    The photo's pelvis is found as ``pelvis`` finds it, and a photo in which nobody is seen stays. In training the first
    frame is the first one that the step sees. Where photo and frames differ in size, the place is the same fraction of both.

    Source: HVG (arXiv 2602.21188), section 3.3, Temporal Alignment. Scale is not changed.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"body", "cameras"})

    def offsets(self, batch: ClipBatch) -> Tensor | None:
        return None

    def reference_offsets(self, batch: ClipBatch) -> Tensor | None:
        pelvis = None if batch.reference is None else pelvis_in_photo(batch.reference)
        if batch.reference is None or pelvis is None:
            return None
        first = batch.select(views=[0], frames=[0])
        goal = projected_pelvis(required(first.body, "ClipBatch.body"), first.cameras)[:, 0]
        (height, width), photo = batch.cameras.image_size, batch.reference.frames.shape[-2:]
        return whole_pixels(pelvis, goal * constants([photo[1] / width, photo[0] / height], goal))
