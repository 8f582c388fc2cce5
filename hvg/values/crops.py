"""Parts of pictures that are looked at enlarged, and put back: rectangles of whole pixels, one in every view and frame."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from hvg.values.cameras import Cameras
from hvg.values.clip import ClipBatch


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A rectangle of every picture of clips (B, V, T), of one size in all frames of a view, and of the pictures' aspect up to
    rounding.

    name: of what it shows. corners: (B, V, T, 2) int64, left and top, pixels, inside the picture. sizes: (B, V, 2) int64, height
    and width. seen: (B, V, T) bool, where there is something to be seen; elsewhere nothing is put back. All are on the CPU.
    """

    name: str
    corners: Tensor
    sizes: Tensor
    seen: Tensor


@dataclass(frozen=True, kw_only=True)
class Crops:
    """Crops of clips' pictures. edge: share of a rectangle's sides, at each end, over which what is put back fades out."""

    parts: Sequence[Crop]
    edge: float

    def batch(self, batch: ClipBatch) -> ClipBatch:
        """The clips of all crops, crop by crop: K B clips, before cameras that see the rectangles at the pictures' size.

        Pictures and maps of the whole are left out; the photo and what is known of it stay.
        """
        bare = replace(batch, frames=None, alpha=None, known=None, signals={}, latents=None, coverage=None)
        return ClipBatch.stack([self._zoomed(bare, part) for part in self.parts])

    def cut(self, frames: Tensor) -> Tensor:
        """Frames (B, V, T, 3, H, W) in [-1, 1] -> those of all crops, (K B, V, T, 3, H, W)."""
        made = frames.new_empty(len(self.parts) * len(frames), *frames.shape[1:])
        for number, part in enumerate(self.parts):
            for b, v, t, place in _places(part, range(frames.shape[2])):
                small = frames[b, v, t, :, place[0], place[1]]
                made[number * len(frames) + b, v, t] = _resized(small, frames.shape[-2:])
        return made

    def paste(self, frames: Tensor, made: Tensor, start: int = 0) -> Tensor:
        """Frames (B, V, t, 3, H, W), the clips' from ``start`` on, with what was made of their crops, (K B, V, t, 3, H, W).

        Pixels outside of the rectangles stay as they are, to the bit. Of rectangles that overlap the last one counts.
        """
        whole = frames.clone()
        for number, part in enumerate(self.parts):
            for b, v, t, place in _places(part, range(start, start + frames.shape[2])):
                if bool(part.seen[b, v, t]):
                    inside = (b, v, t - start, slice(None), *place)
                    size = place[0].stop - place[0].start, place[1].stop - place[1].start
                    small = _resized(made[number * len(frames) + b, v, t - start], size)
                    whole[inside] += _fade(size, self.edge).to(whole) * (small - whole[inside])
        return whole

    def _zoomed(self, batch: ClipBatch, part: Crop) -> ClipBatch:
        names = tuple(f"{name}/{part.name}" for name in batch.clip_id)
        return replace(batch, clip_id=names, cameras=zoomed_cameras(batch.cameras, part))


def zoomed_cameras(cameras: Cameras, part: Crop) -> Cameras:
    """Cameras (B, V, T) that see a crop's rectangles at the size of the whole picture."""
    corners, sizes = (x.to(cameras.intrinsics) for x in (part.corners, part.sizes))
    moved = cameras.intrinsics.clone()
    moved[..., :2, 2] -= corners
    height, width = cameras.image_size
    factors = torch.stack([width / sizes[..., 1], height / sizes[..., 0], torch.ones_like(sizes[..., 0])], dim=-1)
    return replace(cameras, intrinsics=factors[:, :, None, :, None] * moved)


def rectangles(centres: Tensor, sides: Tensor, picture: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """``corners`` and ``sizes`` of a ``Crop`` around centres (B, V, T, 2), x and y in pixels, with shorter sides of at least
    ``sides`` (B, V); those that would leave the picture (height, width) are shifted into it, larger ones are all of it.
    """
    height, width = picture
    share = (sides.ceil() / min(picture)).clamp(1 / min(picture), 1)
    sizes = torch.stack([(share * height).round(), (share * width).round()], dim=-1).clamp_min(1)
    extent, most = sizes.flip(-1)[:, :, None], centres.new_tensor([width, height])
    corners = (centres - extent / 2).round().minimum(most - extent).clamp_min(0)
    return corners.long(), sizes.long()


def _places(part: Crop, frames: Sequence[int]) -> Iterator[tuple[int, int, int, tuple[slice, slice]]]:
    """Clip, view, frame and rectangle (rows, columns) of every picture of some frames."""
    for b, views in enumerate(part.sizes.tolist()):
        for v, (height, width) in enumerate(views):
            for t in frames:
                left, top = part.corners[b, v, t].tolist()
                yield b, v, t, (slice(top, top + height), slice(left, left + width))


def _resized(picture: Tensor, size: Sequence[int]) -> Tensor:
    """A picture (3, H, W) at another size; itself where it has that."""
    if tuple(picture.shape[-2:]) == tuple(size):
        return picture
    return interpolate(picture[None], tuple(size), mode="bicubic", antialias=True, align_corners=False)[0].clamp(-1, 1)


def _fade(size: tuple[int, int], edge: float) -> Tensor:
    """How much of what was made counts at each pixel, (H, W) in (0, 1]: 1 in the middle, less towards the rectangle's border."""

    def along(length: int) -> Tensor:
        place = torch.arange(length, dtype=torch.float32) + 0.5
        ramp = (torch.minimum(place, length - place) / max(edge * length, 0.5)).clamp(0, 1)
        return ramp * ramp * (3 - 2 * ramp)

    return along(size[0])[:, None] * along(size[1])
