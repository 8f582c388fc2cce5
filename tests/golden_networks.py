"""Feature networks filled by a formula, as the goldens of metrics were; see tests/data/metrics/README.md."""

import json
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

DATA = Path(__file__).parent / "data" / "metrics"
SEED = 20260101
KEYS = json.loads((DATA / "state_dict_keys.json").read_text(encoding="utf-8"))
# Name in hvg's catalogue -> entry of state_dict_keys.json, name of the file.
FILES = {
    "i3d": ("i3d_pretrained_400", "i3d_pretrained_400.pt"),
    "resnet3d50": ("resnet3d50_kinetics", "resnet-50-kinetics.pth"),
    "inception": ("pt_inception-2015-12-05", "pt_inception-2015-12-05-6726825d.pth"),
    "vgg16": ("vgg16.features", "vgg16-397923af.pth"),
    "alexnet": ("alexnet.features", "alexnet-owt-7be5be79.pth"),
    "squeezenet": ("squeezenet1_1.features", "squeezenet1_1-b8a52dc0.pth"),
}


def filled(name: str) -> dict[str, torch.Tensor]:
    """The tensors of a network of hvg's catalogue, by the keys of the public file, filled by the formula."""
    entry = KEYS[FILES[name][0]]
    return {key: fill(key, tuple(about["shape"]), about["dtype"]) for key, about in entry.items()}


def write_network_files(folder: Path, names: Iterable[str] = tuple(FILES)) -> Path:
    """Writes the files into a folder, laid out as the public ones are; returns it.

    Their hashes are others than the published ones, so they are read by ``NetworkFiles(folder, any_file=True)``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        torch.save(as_published(name), folder / FILES[name][1])
    return folder


def as_published(name: str) -> dict:
    """What the public file holds."""
    tensors = filled(name)
    if name == "resnet3d50":
        tensors = {f"module.{key}": value for key, value in tensors.items()}
        return {"epoch": 1, "arch": "resnet-50", "state_dict": tensors, "optimizer": {"state": {}, "param_groups": []}}
    if name in ("vgg16", "alexnet", "squeezenet"):
        # In place of a classifier that is larger than all else in the file.
        tensors["classifier.1.bias"] = torch.zeros(1000)
    return tensors


def crc32(tensor: torch.Tensor) -> int:
    """Of its bytes, little-endian."""
    return zlib.crc32(tensor.contiguous().numpy().tobytes())


def fill(key: str, shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    """The tensor that the formula gives for a key of a checkpoint."""
    if not dtype.startswith("float"):
        return torch.zeros(shape, dtype=getattr(torch, dtype))
    signed = 2 * _uniform(key, int(np.prod(shape))) - 1
    if len(shape) >= 2:
        values = np.sqrt(6 / np.prod(shape[1:])) * signed * (0.02 if key == "conv1.weight" else 1)
    elif key.endswith("running_mean"):
        values = 0.1 * signed
    elif key.endswith("running_var"):
        values = 1 + 0.2 * signed
    elif key.endswith("weight"):
        values = (1 + 0.2 * signed) * (0.25 if key.endswith("bn3.weight") else 1)
    else:
        values = 0.1 * signed
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def _uniform(key: str, count: int) -> np.ndarray:
    """(count,) float64 in [0, 1): splitmix64, started from the key."""
    base = np.uint64((zlib.crc32(key.encode()) << 32) + SEED)
    with np.errstate(over="ignore"):
        z = base + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)) * 2.0**-53
