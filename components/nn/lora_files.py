"""LoRA files, as diffusers, peft and others write them: two matrices for each layer that they are added to."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from hvg.core.errors import HvgError
from hvg.parts.backbone import Backbone
from hvg.parts.pretrained import first_line

# How names of layers begin in files: of peft's own, of diffusers' networks, of ComfyUI's; or with none of these.
PREFIXES = ("base_model.model.", "model.diffusion_model.", "diffusion_model.", "transformer.", "unet.")
# What a folder's file is called, by diffusers and by peft.
FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
# Where diffusers keeps peft's settings, among a file's words; and the file beside it in which peft does.
WORDS, BESIDE = "lora_adapter_metadata", "adapter_config.json"
# A layer's matrix, with the name of an adapter where peft has saved one; and the number by which its scale is told.
MATRIX = re.compile(r"(.+?)\.(lora_A|lora_B|lora_down|lora_up|lora\.down|lora\.up)(?:\.[^.]+)?\.weight")
ALPHA = re.compile(r"(.+)\.alpha")
UP = ("lora_B", "lora_up", "lora.up")


@dataclass(frozen=True)
class Pair:
    """What is added to a layer of weights (out, in, ...): alpha / rank times up (out, rank, ...) after down (rank, in, ...)."""

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        return len(self.down)


def read_lora(setting: str, place: str, layers: Mapping[str, nn.Module], backbone: Backbone) -> dict[str, Pair]:
    """Layer of the backbone -> what a file adds to it. layers: by name, all that can be added to.

    Every key has to belong to one. Raises: HvgError in one line, naming the setting and the file.
    """
    path = _file(setting, Path(place))
    tensors, words = _read(setting, path)
    parts: dict[str, dict[str, Tensor]] = {}
    lost: list[str] = []
    for key, tensor in tensors.items():
        found = MATRIX.fullmatch(key) or ALPHA.fullmatch(key)
        layer = _layer(found[1], layers, backbone) if found else None
        if found is None or layer is None:
            lost.append(key)
        else:
            kind = "alpha" if found.re is ALPHA else "up" if found[2] in UP else "down"
            parts.setdefault(layer, {})[kind] = tensor.float()
    if lost:
        few = "none of its keys belongs" if not parts else f"{len(lost)} of its {len(tensors)} keys do not belong"
        raise HvgError(
            f"{setting}: {path}: is for another network: {few} to a layer of {type(backbone).__name__} that can be added to: "
            f"{', '.join(lost[:3])}{', ...' if len(lost) > 3 else ''}"
        )
    pairs: dict[str, Pair] = {}
    for layer, found in parts.items():
        where, alpha = f"{setting}: {path}: {layer}", _alpha(layer, found.get("alpha"), words)
        pairs[layer] = _pair(where, found, tuple(layers[layer].get_parameter("weight").shape), alpha)
    return pairs


def _layer(name: str, layers: Mapping[str, nn.Module], backbone: Backbone) -> str | None:
    """The backbone's name of a layer of a file; None where it has no such layer."""
    for prefix in PREFIXES:
        name = name if name in layers else name.removeprefix(prefix)
    return next((own for own in (name, backbone.layer_named(name)) if own in layers), None)


def _pair(where: str, found: Mapping[str, Tensor], weight: tuple[int, ...], alpha: Callable[[int], float]) -> Pair:
    """A layer's matrices. weight: shape of its own. Raises: HvgError where one is missing, or they do not fit the layer."""
    missing = [kind for kind in ("down", "up") if kind not in found]
    if missing:
        raise HvgError(f"{where}: has no {missing[0]} matrix")
    down, up = found["down"], found["up"]
    rank = len(down) if down.ndim else 0
    expected = (rank, *weight[1:]), (weight[0], rank, *(1 for _ in weight[2:]))
    if not rank or (tuple(down.shape), tuple(up.shape)) != expected:
        raise HvgError(
            f"{where}: is for a network of another size: its matrices are {tuple(down.shape)} and {tuple(up.shape)}, here the "
            f"layer is {weight}"
        )
    return Pair(down, up, alpha(rank))


def _alpha(layer: str, alpha: Tensor | None, words: Mapping[str, Any]) -> Callable[[int], float]:
    """Rank -> alpha, as the file says of a layer; the rank, a scale of 1, where it says nothing."""
    patterns = words.get("alpha_pattern") or {}
    of_layer = (x for key, x in patterns.items() if re.match(rf"(.*\.)?({key})$", layer))
    told = next(of_layer, words.get("lora_alpha")) if alpha is None else float(alpha)
    if told is None:
        return float
    # alpha / sqrt(rank), where peft's settings say so.
    by_root = alpha is None and bool(words.get("use_rslora"))
    return lambda rank: float(told) * (rank**0.5 if by_root else 1)


def _file(setting: str, place: Path) -> Path:
    if place.is_file() and place.suffix == ".safetensors":
        return place
    found = next((place / name for name in FILES if (place / name).is_file()), None)
    if found is None:
        raise HvgError(
            f"{setting}: no LoRA file at '{place}'; expected a .safetensors, or a folder with {' or '.join(FILES)}"
        )
    return found


def _read(setting: str, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors, and peft's settings where they were kept. Raises: HvgError for a file that cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (safe_open is no mapping)
            text = (file.metadata() or {}).get(WORDS)
        beside = path.with_name(BESIDE)
        if text is None and beside.is_file():
            text = beside.read_text(encoding="utf-8")
        # In a pipeline's file they begin as the layers do.
        words = {key.rpartition(".")[2]: value for key, value in dict(json.loads(text) if text else {}).items()}
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise HvgError(f"{setting}: {path}: cannot be read: {first_line(error)}") from error
    if not tensors:
        raise HvgError(f"{setting}: {path}: holds nothing")
    return tensors, words
