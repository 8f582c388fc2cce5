"""Tensors that take long to make, kept on the disk for the processes that start later."""

import os
import re
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

# Names of files that are kept: of what made them, and of what they hold; once of both in one.
_OWN = re.compile(r"[0-9a-f]{16}(-[0-9a-f]{16})?\.safetensors")


def kept_folder(variable: str, usual: str) -> Path | None:
    """The folder that an environment variable names, or the usual one; None where that is empty."""
    named = os.environ.get(variable, usual)
    return Path(named).expanduser() if named else None


class KeptTensors:
    """Makes tensors by name, but for those that an earlier process has made with the same code on a processor of the same kind.

    The folder holds ``most`` files: the first that the present code has made, which displace those of other code, the oldest
    first. A file that cannot be read is made anew; one that cannot be written is not missed.
    """

    def __init__(self, folder: Path | None, module: str, *more: str, most: int) -> None:
        """folder: None keeps nothing. module: whose code makes them. more: what else they depend on, as versions."""
        self._folder, self._most = folder, most
        kind = torch.backends.cpu.get_cpu_capability()
        self._maker = settings_digest([source_digest(module), __version__, torch.__version__, kind, *more])

    def get(self, name: Any, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """What ``make`` gives, by name. name: anything that JSON can say, which stands for it."""
        if self._folder is None:
            return dict(make())
        path = self._folder / f"{self._maker}-{settings_digest(name)}.safetensors"
        with suppress(OSError, SafetensorError):
            return load_file(path)
        made = {key: x.contiguous() for key, x in make().items()}
        with suppress(OSError, HvgError):
            self._folder.mkdir(parents=True, exist_ok=True)
            if self._has_room(self._folder):
                with whole_file(path) as partial:
                    save_file(made, partial)
        return made

    def _has_room(self, folder: Path) -> bool:
        """Whether a file may be added; the oldest of other code's goes for it where that is needed."""
        files = [path for path in folder.iterdir() if _OWN.fullmatch(path.name)]
        if len(files) < self._most:
            return True
        others = [path for path in files if not path.name.startswith(f"{self._maker}-")]
        if not others:
            return False
        min(others, key=lambda path: path.stat().st_mtime_ns).unlink(missing_ok=True)
        return True
