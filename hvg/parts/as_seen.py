"""Clips and photos where the network sees them, as the alignment of a run says."""

from collections.abc import Sequence

from torch import Tensor

from hvg.core.required import required
from hvg.parts.scene import Alignment
from hvg.values.clip import ClipBatch
from hvg.values.moved import align


def as_seen(batch: ClipBatch, alignment: Alignment, background: Sequence[float]) -> ClipBatch:
    """The batch with every picture where the network sees it. background: sRGB in [0, 1]."""
    behind = batch.cameras.intrinsics.new_tensor(background) * 2 - 1
    return align(batch, alignment.offsets(batch), alignment.reference_offsets(batch), behind)


def photos_as_seen(batch: ClipBatch, alignment: Alignment, background: Sequence[float]) -> Tensor:
    """The photos of the first clip as the network sees them, (R, 3, H, W) in [-1, 1]; as ``as_seen``."""
    return required(as_seen(batch, alignment, background).reference, "ClipBatch.reference").frames[0]
