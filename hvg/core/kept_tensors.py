"""Tensors that take long to make, kept on the disk for the processes that start later."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hvg import __version__
from hvg.core.digests import settings_digest
from hvg.core.errors import HvgError
from hvg.core.files import whole_file
from hvg.core.sources import source_digest


def kept_folder(variable: str, usual: str) -> Path | None:
    """The folder that an environment variable names, or the usual one; None where that is empty."""
    named = os.environ.get(variable, usual)
    return Path(named).expanduser() if named else None


class KeptTensors:
    """Makes tensors by name, but for those that an earlier process has made with the same code on a processor of the same kind.

    Where the folder holds ``most`` files nothing is added. A file that cannot be read is made anew; one that cannot be written is
    not missed.
    """

    def __init__(self, folder: Path | None, module: str, *more: str, most: int) -> None:
        """folder: None keeps nothing. module: whose code makes them. more: what else they depend on, as versions."""
        self._folder, self._most = folder, most
        self._about = [
            source_digest(module),
            __version__,
            torch.__version__,
            torch.backends.cpu.get_cpu_capability(),
            *more,
        ]

    def get(self, name: Any, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """What ``make`` gives, by name. name: anything that JSON can say, which stands for it."""
        if self._folder is None:
            return dict(make())
        path = self._folder / f"{settings_digest([name, *self._about])}.safetensors"
        with suppress(OSError, SafetensorError):
            return load_file(path)
        made = {key: x.contiguous() for key, x in make().items()}
        with suppress(OSError, HvgError):
            self._folder.mkdir(parents=True, exist_ok=True)
            if sum(1 for _ in self._folder.iterdir()) < self._most:
                with whole_file(path) as partial:
                    save_file(made, partial)
        return made
