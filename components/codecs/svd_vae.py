"""The VAE of Stable Video Diffusion, whose decoder sees several frames at once (arXiv 2311.15127)."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from hvg.core.bounds import FrameCount
from hvg.parts.continued import Continued

from ..nn.picture_vae import PictureVae, PictureVaeConfig

# Settings from the published VAE's config.json.
SVD_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "scaling_factor": 0.18215,
}


class SvdVaeConfig(PictureVaeConfig):
    """Settings: place of the weights, and number of frames that fit in memory."""

    path: str = Field(
        "stabilityai/stable-video-diffusion-img2vid-xt",
        description="Folder of the VAE (or of a pipeline, with the VAE in vae/), or a hub id of a pipeline.",
    )
    decode_chunk: Annotated[FrameCount, Continued.FREE] = Field(
        8, description="Neighbouring frames of one view decoded at once; more flicker less."
    )


class SvdVaeCodec(PictureVae[SvdVaeConfig]):
    """Frozen. The encoder works frame by frame and returns the mode, so that encoding twice gives the same latents."""

    library = "AutoencoderKLTemporalDecoder"
    published = SVD_VAE

    def decoded(self, latents: Tensor) -> Tensor:
        return self._vae.decode(latents, num_frames=len(latents)).sample
