"""The VAEs of Wan 2.1 and 2.2, causal in time, which join four frames (arXiv 2503.20314)."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from hvg.core.bounds import FrameCount
from hvg.core.errors import HvgError
from hvg.core.on_device import constants
from hvg.parts.context import Context
from hvg.parts.continued import Continued
from hvg.parts.model import Codec
from hvg.parts.part import PartConfig
from hvg.parts.pretrained import Component
from hvg.values.conditioning import LatentShape
from hvg.values.latent_clip import joined
from hvg.values.layout import fold_views

# The only stride in time that diffusers' class has, whatever its settings say.
TEMPORAL_STRIDE = 4
# Version -> settings from the published VAE's config.json, without the statistics of its latents.
_SHARED = {"dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "temperal_downsample": [False, True, True]}
WAN_VAE: dict[str, dict[str, Any]] = {
    "2.1": {**_SHARED, "base_dim": 96, "z_dim": 16},
    "2.2": {
        **_SHARED,
        **{"base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "is_residual": True},
        **{"in_channels": 12, "out_channels": 12, "patch_size": 2, "scale_factor_spatial": 16},
    },
}


class WanVaeConfig(PartConfig):
    """Settings: place of the weights, and number of frames that fit in memory."""

    path: str = Field(
        "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        description="Folder of the VAE (or of a pipeline, with the VAE in vae/), or a hub id of a pipeline.",
    )
    version: Literal["2.1", "2.2"] = Field(
        "2.1",
        description="Which VAE a hub id is taken to hold: 2.1 has cells of 8 x 8 pixels and 16 channels, 2.2 (of the 5B model) "
        "cells of 16 x 16 and 48. A folder says itself what it holds.",
    )
    decode_chunk: Annotated[FrameCount, Continued.FREE] = Field(
        2, description="Latent frames of a piece in which videos are decoded. The pictures are the same whatever it is."
    )


class WanVaeCodec(Codec[WanVaeConfig]):
    """Frozen. Latents are the mode, each channel by its published mean and deviation: (z - mean) / std.

    One view is encoded or decoded at a time, and of it one latent frame, as diffusers' class does; what its convolutions keep of
    the frames before stays with the pieces of a video, so that they are those of the whole.
    """

    memory_settings: ClassVar[frozenset[str]] = frozenset({"decode_chunk", "version"})

    def __init__(self, config: WanVaeConfig, context: Context | None = None) -> None:
        super().__init__(config, context)
        self.channels, self.stride, self.temporal_stride = self.shape(config)
        self.decode_chunk = config.decode_chunk
        self._vae = _blank(config) if context and context.blank else _load(config)
        if (found := _shape(self._vae.config, config)) != self.shape(config):
            raise HvgError(f"codec.version={config.version}: the vae at '{config.path}' is another: {_words(found)}")

    @classmethod
    def shape(cls, config: WanVaeConfig) -> LatentShape:
        """Read from the folder's config.json; a hub id is taken to be of the setting ``version``."""
        return _shape(_component(config.path).settings_or(WAN_VAE[config.version]), config)

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        vae, before = self._vae.to(frames.device), self.temporal_stride - 1
        padded = joined(frames, self.temporal_stride).flatten(2, 3)[:, :, before:]
        videos = fold_views(padded).movedim(2, 1).to(vae.dtype)  # N 3 T H W
        latents = torch.cat([vae.encode(video[None]).latent_dist.mode() for video in videos])
        mean, deviation = self._statistics(latents)
        return ((latents - mean) / deviation).movedim(1, 2).unflatten(0, frames.shape[:2]).to(frames.dtype)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        return torch.cat(list(self.decode_pieces(latents)), dim=2)

    @torch.no_grad()
    def decode_pieces(self, latents: Tensor) -> Iterator[Tensor]:
        vae = self._vae.to(latents.device)
        mean, deviation = self._statistics(latents.to(vae.dtype))
        videos = fold_views(latents).movedim(2, 1).to(vae.dtype) * deviation + mean  # N C t h w
        kept = [_nothing_kept(vae.decoder) for _ in videos]
        for piece in videos.split(self.decode_chunk, dim=2):
            frames = [self._decoded(video, before) for video, before in zip(piece, kept, strict=True)]
            yield torch.stack(frames).movedim(1, 2).unflatten(0, latents.shape[:2]).to(latents.dtype)

    def _decoded(self, latents: Tensor, kept: list[Any]) -> Tensor:
        """Frames (3, T, H, W) of neighbouring latent frames (C, t, h, w). kept: by the decoder's layers, of those before."""
        from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

        vae, frames = self._vae, []
        for latent in vae.post_quant_conv(latents[None]).split(1, dim=2):
            first = all(layer is None for layer in kept)
            frames.append(vae.decoder(latent, feat_cache=kept, feat_idx=[0], first_chunk=first))
        return unpatchify(torch.cat(frames, dim=2), vae.config.patch_size or 1)[0]

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (C, 1, 1, 1) of the latents."""
        settings = self._vae.config
        mean, deviation = (
            constants(x, like)[:, None, None, None] for x in (settings.latents_mean, settings.latents_std)
        )
        return mean, deviation

    def frozen(self) -> Mapping[str, Any]:
        return {"vae": self._vae}

    def adopt(self, components: Mapping[str, Any]) -> None:
        self._vae = components.get("vae", self._vae)


def _component(path: str) -> Component:
    return Component(place=path, name="vae", setting="codec.path")


def _shape(settings: Mapping[str, Any], config: WanVaeConfig) -> LatentShape:
    """Shape of a VAE's latents. Raises: HvgError for one that joins another number of frames."""
    given = {**WAN_VAE["2.1"], **settings}
    joins = 2 ** sum(given["temperal_downsample"])
    if joins != TEMPORAL_STRIDE:
        raise HvgError(f"codec.path: the vae at '{config.path}' joins {joins} frames; Wan's join {TEMPORAL_STRIDE}")
    stride = 2 ** (len(given["dim_mult"]) - 1) * (given.get("patch_size") or 1)
    return LatentShape(given["z_dim"], stride, joins)


def _words(shape: LatentShape) -> str:
    return f"its latents have {shape.channels} channels and cells of {shape.stride} x {shape.stride} pixels"


def _nothing_kept(decoder: Any) -> list[Any]:
    """What a decoder's layers keep before the first latent frame, a place for each."""
    from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d

    return [None for module in decoder.modules() if isinstance(module, WanCausalConv3d)]


def _blank(config: WanVaeConfig) -> Any:
    """The same network without its weights."""
    from diffusers import AutoencoderKLWan

    settings = dict(_component(config.path).settings_or(WAN_VAE[config.version]))
    channels = _shape(settings, config).channels
    known = {"latents_mean": [0.0] * channels, "latents_std": [1.0] * channels, **settings}
    blank: Any = AutoencoderKLWan.from_config(known)
    return blank.eval().requires_grad_(False)


def _load(config: WanVaeConfig) -> Any:
    """diffusers' AutoencoderKLWan, frozen, in float32. Raises: HvgError when there is none at the ``path``."""
    from diffusers import AutoencoderKLWan

    return _component(config.path).network(AutoencoderKLWan)
