"""What ``hvg sample`` keeps beside its videos while those are written, so that writing can be repeated."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from hvg.core.files import whole_file
from hvg.sample.videos import Made

FILE = "latents.safetensors"


def keep_latents(folder: Path, request: str, made: Made) -> None:
    """Writes what was made, unless nothing was. request: digest of what it was asked for."""
    if made.latents is None:
        return
    latents, offsets = made.latents
    tensors = {"latents": latents, "offsets": offsets, "frames": made.frames}
    held = {name: x.cpu().contiguous() for name, x in tensors.items() if x is not None}
    with whole_file(folder / FILE) as partial:
        save_file(held, partial, metadata={"request": request})


def kept_latents(folder: Path, request: str, device: torch.device) -> Made | None:
    """What was kept of the same request; None where there is nothing, or it is damaged."""
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
    return Made(latents=(tensors["latents"], tensors.get("offsets")), frames=tensors.get("frames"))


def remove_latents(folder: Path) -> None:
    """Removes what ``keep_latents`` wrote, when nothing needs it any more."""
    (folder / FILE).unlink(missing_ok=True)
