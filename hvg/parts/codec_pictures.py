"""Control maps as pictures, and a codec's latents of them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle

from hvg.core.errors import HvgError
from hvg.parts.model import Codec
from hvg.values.layout import unfold_groups

# Maps with a meaning of their own here: colours that are multiplied by the share of a pixel that is covered, and that share; and
# a skeleton, four channels in one: colours in [0, 1] on black, and how much of a pixel they cover.
RGB, ALPHA, SKELETON = "rgb", "alpha", "skeleton"


class CodecPictures(nn.Module):
    """Control maps (N, s K, H, W) -> the codec's latents (N, channels, h, w) of the ``pictures`` that they are.

    Of s frames joined in time each latent frame is made by itself, behind a still beginning, so that windows of a video and all
    of it agree: what a codec sees of earlier frames it does not see here. Where several latent cells make one of the network's,
    as a transformer's patches, they are its channels. Frozen: neither weights nor a gradient.
    """

    def __init__(self, maps: Mapping[str, int], codec: Codec, cells: int = 1) -> None:
        """maps: name -> channels of the maps that a control map is made of, in their order, those of s frames. cells: latent
        cells along each side of one of the network's, as a site's stride says.
        """
        super().__init__()
        self.maps = {name: count // codec.temporal_stride for name, count in maps.items()}
        self.codec, self.cells = codec, cells
        self.channels = num_pictures(maps) * codec.channels * cells**2

    @torch.no_grad()
    def forward(self, maps: Tensor) -> Tensor:
        stride = self.codec.temporal_stride
        frames = unfold_groups(maps, stride, [*self.maps.values()])
        videos = (
            pictures(frames, self.maps).view(len(maps), stride, -1, 3, *maps.shape[2:]).transpose(1, 2)
        )  # N P s 3 H W
        if stride > 1:
            videos = torch.cat([videos[:, :, :1], videos], dim=2)
        return pixel_unshuffle(self.codec.encode(videos)[:, :, -1].flatten(1, 2), self.cells)


def pictures(maps: Tensor, channels: Mapping[str, int]) -> Tensor:
    """Control maps (N, K, H, W) as pictures (N, P, 3, H, W), sRGB in [-1, 1]: what a codec was made for.

    channels: name -> channels of the maps, in their order. Colours (``rgb``) lie on white outside of ``alpha``, which then is no
    picture of its own; a ``skeleton`` lies on black. A map of three channels is a picture as it is, one of one channel in grey, 0
    in black.
    """
    split: Sequence[Tensor] = torch.split(maps, list(channels.values()), dim=1)
    parts = dict(zip(channels, split, strict=True))
    cover = parts.pop(ALPHA) if {RGB, ALPHA} <= parts.keys() else None
    made = [part if part.shape[1] == 3 else (2 * part[:, :3] - 1).expand(-1, 3, -1, -1) for part in parts.values()]
    if cover is not None:
        place = list(parts).index(RGB)
        made[place] = made[place] + (1 - cover)
    return torch.stack(made, dim=1)


def num_pictures(channels: Mapping[str, int]) -> int:
    """P of ``pictures``."""
    return len(channels) - ({RGB, ALPHA} <= channels.keys())


def check_pictures(channels: Mapping[str, int]) -> None:
    """Raises: HvgError for maps that are no pictures."""
    wrong = [f"{name} has {count}" for name, count in channels.items() if count not in (1, 3) and name != SKELETON]
    if wrong:
        raise HvgError(f"a codec encodes pictures, maps of 3 channels or of 1, but {', '.join(wrong)}")
