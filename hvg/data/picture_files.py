"""One picture as the bytes of a file, and back: PNG, WebP or JPEG."""

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

PictureKind = Literal["png", "webp", "jpeg"]
# Kind -> how the names of its files end.
ENDINGS: dict[PictureKind, str] = {"png": "png", "webp": "webp", "jpeg": "jpg"}


@dataclass(frozen=True)
class PictureFormat:
    """How frames, photos and driving videos are kept. quality: 1 to 100, with loss; None: to the bit, as JPEG cannot."""

    kind: PictureKind = "png"
    quality: int | None = None

    def __post_init__(self) -> None:
        if self.kind == "png" and self.quality is not None:
            raise ValueError("PNG is exact; a quality is of webp or jpeg")
        if self.kind == "jpeg" and self.quality is None:
            raise ValueError("JPEG needs a quality from 1 to 100")

    def __str__(self) -> str:
        return self.kind if self.quality is None else f"{self.kind}, quality {self.quality}"

    @property
    def is_lossy(self) -> bool:
        return self.quality is not None

    @property
    def exact(self) -> "PictureFormat":
        """The same kind without loss; PNG for JPEG."""
        return PictureFormat("webp" if self.kind == "webp" else "png")


EXACT = PictureFormat()


def encode_picture(pixels: np.ndarray, form: PictureFormat = EXACT) -> bytes:
    """H W K uint8, K in 1, 3, 4 -> the bytes of a file; of WebP and JPEG K = 3: they know no grey, or drop full alpha."""
    stream, picture = io.BytesIO(), Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if form.kind == "png":
        picture.save(stream, "png", compress_level=1)
    elif form.quality is None:
        picture.save(stream, "webp", lossless=True, quality=20, method=2)
    else:
        # Colour at full resolution: a person is small, and clothes have edges. A thin limb is a pixel or two wide.
        sampling = {"subsampling": 0} if form.kind == "jpeg" else {"method": 4}
        picture.save(stream, form.kind, quality=form.quality, **sampling)
    return stream.getvalue()


def decode_picture(data: bytes) -> Tensor:
    """The bytes of a file -> K H W uint8."""
    picture = Image.open(io.BytesIO(data), formats=("PNG", "WEBP", "JPEG"))
    # Channel by channel, so that nothing has to be put into another order.
    channels = bytearray().join(picture.tobytes("raw", band) for band in picture.getbands())
    return torch.frombuffer(channels, dtype=torch.uint8).view(-1, picture.height, picture.width)
