"""Control maps as pictures, and a codec's latents of them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from hvg.core.errors import HvgError
from hvg.parts.map_encoder import STEM
from hvg.parts.model import Codec
from hvg.values.conditioning import Ports
from hvg.values.layout import unfold_groups

# Maps with a meaning of their own here: colours that are multiplied by the share of a pixel that is covered, and that share.
RGB, ALPHA = "rgb", "alpha"


class CodecPictures(nn.Module):
    """Control maps (N, s K, H, W) -> the codec's latents (N, channels, h, w) of the ``pictures`` that they are.

    Of s frames joined in time each latent frame is made by itself, behind a still beginning, so that windows of a video and all
    of it agree: what a codec sees of earlier frames it does not see here. Frozen: neither weights nor a gradient.
    """

    def __init__(self, maps: Mapping[str, int], codec: Codec) -> None:
        """maps: name -> channels of the maps that a control map is made of, in their order, those of s frames."""
        super().__init__()
        self.maps, self.codec = {name: count // codec.temporal_stride for name, count in maps.items()}, codec
        self.channels = num_pictures(maps) * codec.channels

    @torch.no_grad()
    def forward(self, maps: Tensor) -> Tensor:
        stride = self.codec.temporal_stride
        frames = unfold_groups(maps, stride, [*self.maps.values()])
        videos = (
            pictures(frames, self.maps).view(len(maps), stride, -1, 3, *maps.shape[2:]).transpose(1, 2)
        )  # N P s 3 H W
        if stride > 1:
            videos = torch.cat([videos[:, :, :1], videos], dim=2)
        return self.codec.encode(videos)[:, :, -1].flatten(1, 2)


def pictures(maps: Tensor, channels: Mapping[str, int]) -> Tensor:
    """Control maps (N, K, H, W) as pictures (N, P, 3, H, W), sRGB in [-1, 1]: what a codec was made for.

    channels: name -> channels of the maps, in their order. Colours (``rgb``) lie on white outside of ``alpha``, which then is no
    picture of its own. A map of three channels is a picture as it is, one of one channel in grey, 0 in black.
    """
    split: Sequence[Tensor] = torch.split(maps, list(channels.values()), dim=1)
    parts = dict(zip(channels, split, strict=True))
    cover = parts.pop(ALPHA) if {RGB, ALPHA} <= parts.keys() else None
    made = [part if part.shape[1] == 3 else (2 * part - 1).expand(-1, 3, -1, -1) for part in parts.values()]
    if cover is not None:
        place = list(parts).index(RGB)
        made[place] = made[place] + (1 - cover)
    return torch.stack(made, dim=1)


def num_pictures(channels: Mapping[str, int]) -> int:
    """P of ``pictures``."""
    return len(channels) - ({RGB, ALPHA} <= channels.keys())


def check_pictures(channels: Mapping[str, int], ports: Ports) -> None:
    """Raises: HvgError for maps that are no pictures, or a stem whose cells are not the latents'."""
    wrong = [f"{name} has {count}" for name, count in channels.items() if count not in (1, 3)]
    if wrong:
        raise HvgError(f"a codec encodes pictures, maps of 3 channels or of 1, but {', '.join(wrong)}")
    if ports.residuals[STEM].stride != 1:
        raise HvgError(
            f"a codec's latents of a map have cells of {ports.latent_stride} pixels, the backbone's stem cells of "
            f"{ports.residuals[STEM].stride * ports.latent_stride}"
        )
