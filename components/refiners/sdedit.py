"""Frames with noise on them, denoised by a video model. Source: SDEdit (arXiv 2108.01073), on videos as in ReImagine (arXiv
2604.19720), whose strength .7, 20 steps and first frame as an anchor are second-hand."""

from hvg.parts.refiner import Refiner, RefinerConfig


class SDEdit(Refiner[RefinerConfig]):
    """Nothing but the noise, and the anchor."""
