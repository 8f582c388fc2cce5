"""A Stable Video Diffusion pipeline of the true classes, small and with random weights, and our settings for it."""

from pathlib import Path

from hvg.bench.peers import small_svd
from hvg.bench.peers.small_svd import scheduler as svd_scheduler

__all__ = ["overrides", "save_pipeline", "svd_scheduler"]

WIDTHS, HEADS, TOKEN_WIDTH = (32, 64), (2, 4), 32


def save_pipeline(folder: Path) -> None:
    """Writes the pipeline as ``save_pretrained`` does."""
    small_svd.small_pipeline(WIDTHS, HEADS, TOKEN_WIDTH).save_pretrained(folder)


def overrides(folder: Path, **backbone) -> list[str]:
    """A run that starts from the pipeline in ``folder``, with everything that HVG adds."""
    words = small_svd.run_words(folder, WIDTHS, HEADS, TOKEN_WIDTH, **{"kernels": "library", **backbone})
    added = {"view_attention": "aligned_2d", "pose": "bone_map", "camera": "camera_rotation"}
    kept = [word for word in words if word.partition("=")[0] not in added]
    return [*kept, *(f"{slot}={name}" for slot, name in added.items())]
