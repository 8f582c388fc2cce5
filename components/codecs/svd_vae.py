"""The VAE of Stable Video Diffusion, whose decoder sees several frames at once (arXiv 2311.15127)."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from hvg.core.bounds import FrameCount
from hvg.parts.context import Context
from hvg.parts.continued import Continued
from hvg.parts.model import Codec
from hvg.parts.part import PartConfig
from hvg.parts.pretrained import Component
from hvg.values.conditioning import LatentShape
from hvg.values.layout import fold_frames, fold_views, unfold_frames

# Settings from the published VAE's config.json.
SVD_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "scaling_factor": 0.18215,
}


class SvdVaeConfig(PartConfig):
    """Settings: place of the weights, and number of frames that fit in memory."""

    path: str = Field(
        "stabilityai/stable-video-diffusion-img2vid-xt",
        description="Folder of the VAE (or of a pipeline, with the VAE in vae/), or a hub id of a pipeline.",
    )
    encode_chunk: Annotated[FrameCount, Continued.FREE] = Field(8, description="Frames encoded at once.")
    decode_chunk: Annotated[FrameCount, Continued.FREE] = Field(
        8, description="Neighbouring frames of one view decoded at once; more flicker less."
    )


class SvdVaeCodec(Codec[SvdVaeConfig]):
    """Frozen. The encoder works frame by frame and returns the mode, so that encoding twice gives the same latents."""

    memory_settings: ClassVar[frozenset[str]] = frozenset({"encode_chunk", "decode_chunk"})
    temporal_stride = 1

    def __init__(self, config: SvdVaeConfig, context: Context | None = None) -> None:
        super().__init__(config, context)
        self.channels, self.stride, _ = self.shape(config)
        self.decode_chunk = config.decode_chunk
        self._vae = _blank(config.path) if context and context.blank else _load(config.path)
        self.scale = self._vae.config.scaling_factor

    @classmethod
    def shape(cls, config: SvdVaeConfig) -> LatentShape:
        """Read from the folder's config.json; a hub id is taken to be SVD's."""
        settings = _component(config.path).settings_or(SVD_VAE)
        return LatentShape(settings["latent_channels"], 2 ** (len(settings["block_out_channels"]) - 1))

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        self._vae.to(frames.device)
        chunks = fold_frames(frames).split(self.config.encode_chunk)
        latents = torch.cat([self._vae.encode(x.to(self._vae.dtype)).latent_dist.mode() for x in chunks])
        return unfold_frames(latents * self.scale, frames.shape[:3]).to(frames.dtype)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        self._vae.to(latents.device)
        clips = fold_views(latents).to(self._vae.dtype) / self.scale
        frames = [
            torch.cat([self._vae.decode(x, num_frames=len(x)).sample for x in clip.split(self.config.decode_chunk)])
            for clip in clips
        ]
        return torch.stack(frames).unflatten(0, latents.shape[:2]).to(latents.dtype)

    def frozen(self) -> Mapping[str, Any]:
        return {"vae": self._vae}

    def adopt(self, components: Mapping[str, Any]) -> None:
        self._vae = components.get("vae", self._vae)


def _component(path: str) -> Component:
    return Component(place=path, name="vae", setting="codec.path")


def _blank(path: str) -> Any:
    """The same network without its weights; a hub id is taken to be SVD's."""
    from diffusers import AutoencoderKLTemporalDecoder

    blank: Any = AutoencoderKLTemporalDecoder.from_config(dict(_component(path).settings_or(SVD_VAE)))
    return blank.eval().requires_grad_(False)


def _load(path: str) -> Any:
    """diffusers' AutoencoderKLTemporalDecoder, frozen, in float32. Raises: HvgError when there is none at ``path``."""
    from diffusers import AutoencoderKLTemporalDecoder

    return _component(path).network(AutoencoderKLTemporalDecoder)
