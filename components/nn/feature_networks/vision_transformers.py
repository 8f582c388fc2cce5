"""CLIP and V-JEPA 2 from the user's folders in the layout of Hugging Face. Only safetensors are read, never pickle."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from hvg.core.errors import HvgError
from hvg.parts.pretrained import first_line

from .precision import single_precision

# Steps of an image processor where its file does not say otherwise; none of these can be left out here.
STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """From pictures to a network's input, as the network's folder says.

    size: (height, width), or the length of the shorter side. crop: (height, width) of the middle that is kept.
    mean, std: of the channels, for values in [0, 1]. resample: PIL's number of the filter.
    """

    size: int | tuple[int, int]
    crop: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resample: int

    @classmethod
    def read(cls, path: Path) -> "Preprocessing":
        """Reads a (video_)preprocessor_config.json. Raises: HvgError naming the file if it asks for something else."""
        stored = json.loads(path.read_text(encoding="utf-8"))
        absent = [name for name in STEPS if not stored.get(name, True)]
        absent += [name for name in ("size", "crop_size", "image_mean", "image_std", "resample") if name not in stored]
        if absent:
            raise HvgError(
                f"{path}: pictures are resized, cropped and normalised here, but it has no {', '.join(absent)}"
            )
        size, crop = (_side(stored[name]) for name in ("size", "crop_size"))
        crop = (crop, crop) if isinstance(crop, int) else crop
        if min(crop) < 1 or max(crop) > (size if isinstance(size, int) else min(size)):
            raise HvgError(f"{path}: crop_size {crop} does not fit into pictures of size {size}")
        return cls(
            size=size,
            crop=crop,
            mean=tuple(stored["image_mean"]),
            std=tuple(stored["image_std"]),
            resample=stored["resample"],
        )

    @property
    def id(self) -> str:
        """Its sizes and filter, for the definition of a metric."""
        side = f"shorter-side-{self.size}" if isinstance(self.size, int) else f"{self.size[0]}x{self.size[1]}"
        return f"{side}-crop-{self.crop[0]}x{self.crop[1]}-{Image.Resampling(self.resample).name.lower()}"

    def __call__(self, frames: Tensor) -> Tensor:
        """Frames (N, 3, H, W) uint8 -> (N, 3, h, w) float32, on their device.

        PIL resizes, with anti-aliasing and to whole grey levels, as the processors do that the networks were published
        with. torchvision's, which newer versions of transformers prefer, differ from it by a level here and there.
        """
        pictures = frames.permute(0, 2, 3, 1).cpu().numpy()
        resized = torch.from_numpy(np.stack([self._resized(picture) for picture in pictures])).to(frames.device)
        mean, std = (torch.tensor(values, device=frames.device)[:, None, None] for values in (self.mean, self.std))
        return (resized.permute(0, 3, 1, 2) / 255 - mean) / std

    def _resized(self, picture: np.ndarray) -> np.ndarray:
        """The middle of a picture (H, W, 3) at its new size."""
        height, width = picture.shape[:2]
        if isinstance(self.size, int):
            # The longer side is rounded down.
            height, width = (self.size * side // min(height, width) for side in (height, width))
        else:
            height, width = self.size
        resized = Image.fromarray(picture).resize((width, height), Image.Resampling(self.resample))
        top, left = (height - self.crop[0]) // 2, (width - self.crop[1]) // 2
        return np.asarray(resized)[top : top + self.crop[0], left : left + self.crop[1]]


class ClipImages:
    """CLIP's image encoder with its projection, from a folder of the whole model or of the image encoder alone.

    Raises: HvgError naming the folder when something in it is missing or does not fit.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        from transformers import CLIPVisionModelWithProjection

        self.preprocessing = Preprocessing.read(_file(folder, "preprocessor_config.json"))
        self.module = _frozen(CLIPVisionModelWithProjection, folder, device)
        self.device = device

    @torch.no_grad()
    @single_precision()
    def embed(self, frames: Tensor) -> Tensor:
        """Embeddings (N, D) float32 of frames (N, 3, H, W) uint8."""
        return self.module(pixel_values=self.preprocessing(frames).to(self.device)).image_embeds


class VideoTokens:
    """V-JEPA 2's encoder.

    probe: whether the folder has an attentive pooler too (fine-tuned for classification), which then sums the tokens up;
    otherwise their mean does. Raises: as ``ClipImages``.
    """

    def __init__(self, folder: Path, device: torch.device, *, probe: bool) -> None:
        from transformers import VJEPA2ForVideoClassification, VJEPA2Model

        stored = _file(folder, "video_preprocessor_config.json", "preprocessor_config.json")
        self.preprocessing = Preprocessing.read(stored)
        module = _frozen(VJEPA2ForVideoClassification if probe else VJEPA2Model, folder, device)
        self.encoder, self.pooler = (module.vjepa2, module.pooler) if probe else (module, None)

    @torch.no_grad()
    @single_precision()
    def embed(self, videos: Tensor) -> Tensor:
        """Features (n, D) float32 of preprocessed videos (n, L, 3, h, w).

        The encoder sees frames in pairs; the last frame of an odd number is repeated.
        """
        odd = -videos.shape[1] % self.encoder.config.tubelet_size
        videos = torch.cat([videos, videos[:, -1:].expand(-1, odd, -1, -1, -1)], dim=1)
        tokens = self.encoder(pixel_values_videos=videos, skip_predictor=True).last_hidden_state
        return tokens.mean(dim=1) if self.pooler is None else self.pooler(tokens)


def _side(stored: Any) -> int | tuple[int, int]:
    """A size as image processors store it: a number, the shorter side, or both sides."""
    if isinstance(stored, int):
        return stored
    return stored["shortest_edge"] if "shortest_edge" in stored else (stored["height"], stored["width"])


def _file(folder: Path, *names: str) -> Path:
    """The first of these files that the folder holds. Raises: HvgError where there is none."""
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise HvgError(f"{folder}: holds no {names[0]}; get the folder as it is published", then="hvg weights")
    return found[0]


def _frozen(kind: Any, folder: Path, device: torch.device) -> Any:
    """A model of transformers in float32, without dropout. Raises: HvgError where weights are missing or do not fit."""
    # Without it, transformers would take its default sizes.
    _file(folder, "config.json")
    try:
        with _quietly():
            loaded: Any = kind.from_pretrained(
                str(folder),
                use_safetensors=True,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
                # So that they are reported below, by name.
                ignore_mismatched_sizes=True,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise HvgError(f"{folder}: cannot be read as a {kind.__name__} ({first_line(error)})") from error
    module, found = loaded
    # It may hold more than is looked at (CLIP's text encoder, a classifier), not less.
    wrong = [f"lacks {key}" for key in sorted(found["missing_keys"])]
    wrong += [f"{key} is {tuple(given)}, not {tuple(own)}" for key, given, own in sorted(found["mismatched_keys"])]
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise HvgError(f"{folder}: not the weights of a {kind.__name__}: {'; '.join(wrong[:3])}{more}")
    return module.to(device).eval().requires_grad_(False)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without transformers' progress bars, and its table of weights that a folder holds beyond those looked at."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
