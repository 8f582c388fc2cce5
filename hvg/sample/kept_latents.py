"""Latents that ``hvg sample`` keeps beside its videos while those are written, so that writing can be repeated."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hvg.core.files import whole_file

FILE = "latents.safetensors"


def keep_latents(folder: Path, request: str, latents: Tensor, offsets: Tensor | None) -> None:
    """Writes what ``TrainedSystem.sample_latents`` gave. request: digest of what it was asked for."""
    tensors = {"latents": latents} | ({} if offsets is None else {"offsets": offsets})
    with whole_file(folder / FILE) as partial:
        save_file({name: x.cpu().contiguous() for name, x in tensors.items()}, partial, metadata={"request": request})


def kept_latents(folder: Path, request: str, device: torch.device) -> tuple[Tensor, Tensor | None] | None:
    """The latents and offsets of the same request; None where there are none, or they are damaged."""
    if not (folder / FILE).is_file():
        return None
    try:
        with safe_open(folder / FILE, framework="pt", device=str(device)) as file:
            if (file.metadata() or {}).get("request") != request:
                return None
            names = list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
    except SafetensorError:
        # They are made anew.
        return None
    return tensors["latents"], tensors.get("offsets")


def remove_latents(folder: Path) -> None:
    """Removes what ``keep_latents`` wrote, when nothing needs it any more."""
    (folder / FILE).unlink(missing_ok=True)
