"""Checks of what every codec promises."""

from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from hvg.parts.model import Codec
from hvg.testing.building import make, require
from hvg.testing.outputs import alike, check_device
from hvg.testing.scene import tiny_batch
from hvg.values.latent_time import latent_frames, padded_frames

# Its sides are divisible by every stride in use.
_SIZE = 32


def check_codec(cls: type[Codec], config: Any) -> None:
    """Runs every check below. Raises: AssertionError that says which promise is broken."""
    codec = make(cls, config)
    check_shapes(codec)
    check_pieces(codec)
    check_time(codec)
    check_frozen(codec)
    check_independence(codec)
    # In a codec of its own: its networks stay where they are moved.
    check_device(partial(_there_and_back, make(cls, config)), (_video(1, 2, 2),))


def check_shapes(codec: Codec) -> None:
    """``shape`` says before it is built what it is; latents and frames have the shapes that follow, in the type given."""
    declared = type(codec).shape(getattr(codec, "config", None))
    actual = (codec.channels, codec.stride, codec.temporal_stride)
    require(tuple(declared) == actual, f"shape says {tuple(declared)}, the codec is {actual}")
    stride = codec.temporal_stride
    for views, frames in ((1, 1), (3, 2), (1, 2 * stride + 1)):
        video = _video(2, views, frames)
        latents = codec.encode(video)
        cells = _SIZE // codec.stride
        expected = (2, views, latent_frames(frames, stride), codec.channels, cells, cells)
        require(tuple(latents.shape) == expected, f"latents are {tuple(latents.shape)}, not {expected}")
        decoded, whole = codec.decode(latents), (2, views, padded_frames(frames, stride), *video.shape[3:])
        require(tuple(decoded.shape) == whole, f"frames come back as {tuple(decoded.shape)}, not {whole}")
        require(latents.dtype == decoded.dtype == video.dtype, "latents or frames are of another type than the frames")


def check_pieces(codec: Codec) -> None:
    """Pieces are together as long as the video; where frames are joined in time they are that of ``decode``."""
    latents = codec.encode(_video(1, 2, codec.temporal_stride * codec.decode_chunk + 1))
    whole, pieces = codec.decode(latents), torch.cat(list(codec.decode_pieces(latents)), dim=2)
    require(
        pieces.shape == whole.shape, f"pieces are together {tuple(pieces.shape)}, decode gives {tuple(whole.shape)}"
    )
    same = codec.temporal_stride == 1 or alike(pieces, whole)
    require(same, "a video that is decoded in pieces is another than one that is decoded at once")


def check_time(codec: Codec) -> None:
    """Latent frames that join frames know nothing of what follows; a video that does not fill the last is padded at its end."""
    stride = codec.temporal_stride
    if stride == 1:
        return
    video = _video(1, 1, 2 * stride + 1)
    latents = codec.encode(video)
    for frames in (1, stride + 1):
        known = latent_frames(frames, stride)
        require(
            alike(codec.encode(video[:, :, :frames]), latents[:, :, :known]),
            f"latents of the first {frames} frames change with those that follow",
        )
    short = video[:, :, : stride + 2]
    padded = torch.cat([short, short[:, :, -1:].expand(-1, -1, stride - 1, -1, -1, -1)], dim=2)
    require(alike(codec.encode(short), codec.encode(padded)), "a video is not padded with its last frame")


def check_frozen(codec: Codec) -> None:
    """Encoding twice gives the same latents, and no weight of its networks is trained."""
    video = _video(1, 2, 2)
    require(torch.equal(codec.encode(video), codec.encode(video)), "encoding twice gives two results")
    networks = [x for x in codec.frozen().values() if isinstance(x, torch.nn.Module)]
    trained = [name for network in networks for name, p in network.named_parameters() if p.requires_grad]
    require(not trained, f"weights are not frozen: {', '.join(trained[:3])}")
    require(not codec.encode(video).requires_grad, "latents of frames without a gradient carry one")


def check_independence(codec: Codec) -> None:
    """Clips and views are encoded and decoded each by itself."""
    video = _video(2, 2, 2)
    whole = _there_and_back(codec, video)
    for clip, view in product(range(2), range(2)):
        cell = slice(clip, clip + 1), slice(view, view + 1)
        alone = _there_and_back(codec, video[cell])
        for name, together in whole.items():
            require(alike(together[cell], alone[name]), f"{name} of a view change with the clips and views beside it")


def _there_and_back(codec: Codec, video: Tensor) -> dict[str, Tensor]:
    latents = codec.encode(video)
    return {"latents": latents, "frames": codec.decode(latents)}


def _video(clips: int, views: int, frames: int) -> Tensor:
    video = tiny_batch(clips, views, frames, size=_SIZE).frames
    assert video is not None
    return video
