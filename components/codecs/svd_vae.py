"""The VAE of Stable Video Diffusion, whose decoder sees several frames at once (arXiv 2311.15127)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from hvg.errors import HvgError
from hvg.layout import fold_frames, fold_views, unfold_frames
from hvg.protocols import Codec, PartConfig


class SvdVaeConfig(PartConfig):
    """Where the weights are, and how many frames fit in memory."""

    path: str = Field(
        "stabilityai/stable-video-diffusion-img2vid-xt",
        description="Folder of the VAE (or of a pipeline, with the VAE in vae/), or a hub id of a pipeline.",
    )
    encode_chunk: int = Field(8, ge=1, description="Frames encoded at once.")
    decode_chunk: int = Field(
        8, ge=1, description="Neighbouring frames of one view decoded at once; more flicker less."
    )


class SvdVaeCodec(Codec):
    """Frozen. The encoder works frame by frame and returns the mode, so that encoding twice gives the same latents."""

    Config = SvdVaeConfig
    temporal_stride = 1

    def __init__(self, config: SvdVaeConfig, context: object = None) -> None:
        self.config = config
        self.channels, self.stride, _ = self.shape(config)
        self._vae = _load(config.path)
        self._scale = self._vae.config.scaling_factor

    @classmethod
    def shape(cls, config: SvdVaeConfig) -> tuple[int, int, int]:
        """Read from the folder's config.json; a hub id is taken to be SVD's."""
        file = _vae_folder(config.path) / "config.json"
        if not file.is_file():
            return 4, 8, 1
        settings = json.loads(file.read_text())
        return settings["latent_channels"], 2 ** (len(settings["block_out_channels"]) - 1), 1

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        chunks = fold_frames(frames).split(self.config.encode_chunk)
        latents = torch.cat([self._vae.encode(x.to(self._vae.dtype)).latent_dist.mode() for x in chunks])
        return unfold_frames(latents * self._scale, frames.shape[:3]).to(frames.dtype)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        clips = fold_views(latents).to(self._vae.dtype) / self._scale
        frames = [
            torch.cat([self._vae.decode(x, num_frames=len(x)).sample for x in clip.split(self.config.decode_chunk)])
            for clip in clips
        ]
        return torch.stack(frames).unflatten(0, latents.shape[:2]).to(latents.dtype)

    def to(self, device: torch.device) -> SvdVaeCodec:
        self._vae.to(device)
        return self


def _vae_folder(path: str) -> Path:
    folder = Path(path)
    return folder / "vae" if (folder / "vae").is_dir() else folder


def _load(path: str) -> Any:
    """diffusers' AutoencoderKLTemporalDecoder, frozen, from safetensors only. Raises: HvgError when there is none at ``path``."""
    from diffusers import AutoencoderKLTemporalDecoder

    folder = _vae_folder(path)
    place = (
        {"pretrained_model_name_or_path": str(folder)}
        if folder.is_dir()
        else {
            "pretrained_model_name_or_path": path,
            "subfolder": "vae",
        }
    )
    try:
        vae = AutoencoderKLTemporalDecoder.from_pretrained(**place, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise HvgError(
            f"codec svd_vae: no VAE at '{path}'. Give codec.path a folder with config.json and "
            f"diffusion_pytorch_model.safetensors, or a hub id that can be downloaded. ({str(error).splitlines()[0]})"
        ) from error
    return vae.eval().requires_grad_(False)
