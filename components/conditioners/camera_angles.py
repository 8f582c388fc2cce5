"""How far around and how far above the first view a camera stands."""

import torch
from pydantic import Field
from torch import Tensor

from hvg.values.cameras import Cameras

from ..nn.camera_embedding import CameraEmbedding, CameraEmbeddingConfig


class CameraAnglesConfig(CameraEmbeddingConfig):
    """Settings of the camera's angles."""

    width: int = Field(
        16,
        ge=2,
        le=1024,
        multiple_of=2,
        description="Features of each angle: sines and cosines of 1, 2, ... times the angle.",
    )


class CameraAngles(CameraEmbedding[CameraAnglesConfig]):
    """Fills ``embedding``: azimuth and polar angle of the camera's direction less the first view's, sinusoidal, then a network.

    Of a camera that looks at the person this is where it stands; distance, lens, and a roll of the camera are not told.

    Source: SV4D 2.0 (arXiv 2503.16396) and its code, ``sv4d2.yaml``: polar and azimuth, relative to the input view, in sinusoids
    that are 512 wide, through an MLP beside the noise level. We differ: multiples of the angle, so that a full turn comes back to
    where it began; theirs are the periods of noise levels, of which the fastest alone does.
    """

    count = 2

    def camera_features(self, cameras: Cameras, first: Cameras) -> Tensor:
        turned = torch.stack([a - b for a, b in zip(_angles(cameras), _angles(first), strict=True)], dim=-1)
        multiples = turned[..., None] * torch.arange(1, self.config.width // 2 + 1, device=turned.device)
        return torch.cat([multiples.sin(), multiples.cos()], dim=-1)


def _angles(cameras: Cameras) -> tuple[Tensor, Tensor]:
    """Azimuth around the world's y axis and polar angle from it, (...) each, in radians, of where cameras look from."""
    x, y, z = (-cameras.world_to_camera[..., 2, :3]).float().unbind(-1)
    return torch.atan2(x, z), torch.acos(y.clamp(-1, 1))
