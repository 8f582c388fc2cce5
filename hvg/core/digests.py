"""Short names for settings and weights: equal ones have equal digests, on any machine."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def settings_digest(settings: Any, size: int = 8) -> str:
    """Hexadecimal digest of ``size`` bytes of plain values (what JSON holds)."""
    return hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=size).hexdigest()


def file_digest(path: Path) -> str:
    """Hexadecimal digest of what a file holds; "" where there is no such file."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()


def components_digest(components: Mapping[str, Any]) -> str:
    """Digest of published models by name (``Part.frozen``): every tensor by its name, and their settings.

    The same whatever files the weights came from, and where those lie. "" where there are none.
    """
    if not components:
        return ""
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted(components):
        component = components[name]
        digest.update(f"{name} {settings_digest(_settings(component))}".encode())
        _take(digest, component.state_dict() if isinstance(component, nn.Module) else {})
    return digest.hexdigest()


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """Digest of tensors by name, wherever they came from and lie."""
    digest = hashlib.blake2b(digest_size=32)
    _take(digest, weights)
    return digest.hexdigest()


def _take(digest: Any, weights: Mapping[str, Tensor]) -> None:
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)


def _settings(component: Any) -> Any:
    """Settings of a library's model or processor, without where they were loaded from and by which version."""
    if hasattr(component, "backend_tokenizer"):
        # All that a tokenizer is, but for what it was last asked to do.
        plain = json.loads(component.backend_tokenizer.to_str())
        return {key: value for key, value in plain.items() if key not in ("truncation", "padding")}
    settings = getattr(component, "config", component)
    plain = settings.to_dict() if hasattr(settings, "to_dict") else dict(settings)
    plain = {key: value for key, value in plain.items() if key[0] != "_" and key != "transformers_version"}
    return json.loads(json.dumps(plain, default=str))
