"""Wan's VAEs of the true class, small and with random weights, in a folder as their publisher lays them out."""

from pathlib import Path

import torch

# Published settings but for the widths.
SIZES = {"base_dim": 4, "z_dim": 4, "num_res_blocks": 1, "dim_mult": [1, 2, 4, 4]}
VERSIONS = {
    "2.1": {},
    "2.2": {
        "decoder_base_dim": 8,
        "is_residual": True,
        "in_channels": 12,
        "out_channels": 12,
        "patch_size": 2,
        "scale_factor_spatial": 16,
    },
}


def small_vae(version: str = "2.1", **settings):
    """The network; ``settings`` in place of its own."""
    from diffusers import AutoencoderKLWan

    statistics = {"latents_mean": [0.1, -0.2, 0.3, 0.0], "latents_std": [0.5, 1.0, 2.0, 1.5]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoencoderKLWan(**{**SIZES, **statistics, **VERSIONS[version], **settings}).eval()


def write_vae(folder: Path, version: str = "2.1", **settings) -> Path:
    """Writes the VAE into ``vae/`` of a pipeline's folder; returns that of the pipeline."""
    small_vae(version, **settings).save_pretrained(folder / "vae")
    return folder
