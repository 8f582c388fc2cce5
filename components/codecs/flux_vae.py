"""The VAE of FLUX, of single pictures, with sixteen channels (arXiv 2506.15742)."""

from pydantic import Field
from torch import Tensor

from ..nn.picture_vae import PictureVae, PictureVaeConfig

# Settings from the published VAE's config.json.
FLUX_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 16,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}


class FluxVaeConfig(PictureVaeConfig):
    """Settings: place of the weights, and number of pictures that fit in memory."""

    path: str = Field(
        "black-forest-labs/FLUX.1-Kontext-dev",
        description="Folder of the VAE (or of a pipeline, with the VAE in vae/), or a hub id of a pipeline.",
    )


class FluxVaeCodec(PictureVae[FluxVaeConfig]):
    """Frozen. Cells of 8 x 8 pixels, each picture by itself; the backbone packs 2 x 2 of them into a token (``patch``)."""

    library = "AutoencoderKL"
    published = FLUX_VAE

    def decoded(self, latents: Tensor) -> Tensor:
        return self._vae.decode(latents).sample
