"""Provenance of a result: versions, commit, hardware, command."""

import hashlib
import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

from hvg import __version__
from hvg.core.shipped import COMPONENTS, CONF, FOLDERS, HVG

PACKAGES = ("torch", "lightning", "diffusers", "hydra-core", "torchmetrics", "anny", "warp-lang", "numpy")
ROOT = HVG.parent
# Folders of the source tree that are the program, and where they lie.
PROGRAM = {"hvg": HVG, "components": COMPONENTS, "conf": CONF}
READ_WHOLE = 2**20


def collect(seed: int | None = None) -> dict[str, Any]:
    """A JSON-ready record of what produces a run: of the program and of all that was added to it, as it lies on the disk."""
    return {
        # Its own word, not that of what was installed, which an edited tree no longer is.
        "hvg": __version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": git_commit(),
        "changes": tree_changes(),
        "source": source_digest(),
        "plugins": plugins(),
        "command": command(),
        "hardware": hardware(),
        "seed": seed,
    }


def command() -> str:
    """The command line, as a user would type it."""
    return " ".join(["hvg", *sys.argv[1:]])


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def git_commit() -> str:
    """The commit of the source tree, with ``+changes`` where something in it differs from that; "unknown" outside git."""
    commit = _commit()
    return commit + ("+changes" if _changed_files() else "") if commit else "unknown"


def tree_changes() -> dict[str, Any] | None:
    """Files of the source tree that differ from its commit: names, and a digest of those files; None for none."""
    names = _changed_files()
    return {"files": names, "digest": files_digest({name: ROOT / name for name in names})} if names else None


def _commit() -> str:
    """Commit of the source tree; "" for none, also where hvg is installed inside somebody else's repository."""
    folder, _, commit = _git("rev-parse", "--show-toplevel", "HEAD").strip().partition("\n")
    return commit if Path(folder).resolve() == ROOT else ""


def _changed_files() -> list[str]:
    """Changed files of the commit, and new ones among the program's."""
    if not _commit():
        return []
    changed = _git("diff", "--name-only", "--no-ext-diff", "-z", "HEAD")
    new = _git("ls-files", "--others", "--exclude-standard", "-z", "--", *PROGRAM)
    return sorted(filter(None, {*changed.split("\0"), *new.split("\0")}))


def _git(*arguments: str) -> str:
    """Output of a git command in the source tree; "" where git is not installed or fails."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def source_digest() -> str:
    """Digest of the program's own files: the same for the same program, wherever it is installed."""
    files = {f"{room}/{name}": path for room, folder in PROGRAM.items() for name, path in _files_below(folder).items()}
    # An installed hvg holds the other folders.
    twice = tuple(f"hvg/{name}/" for name in FOLDERS)
    return files_digest({name: path for name, path in files.items() if not name.startswith(twice)})


def plugins() -> dict[str, dict[str, Any]]:
    """Distribution -> version and digest of its files, for every one that adds parts or settings to hvg.

    parts: those whose module this process has loaded, each with that file and its digest. Nothing is imported.
    """
    found: dict[str, dict[str, Any]] = {}
    for entry in (*entry_points(group="hvg.components"), *entry_points(group="hvg.conf")):
        name = entry.dist.name if entry.dist else entry.module.partition(".")[0]
        if name not in found:
            found[name] = {
                "version": entry.dist.version if entry.dist else "unknown",
                "digest": files_digest(distribution_files(entry)),
                "parts": {},
            }
        file = getattr(sys.modules.get(entry.module), "__file__", None)
        if entry.group == "hvg.components" and file:
            found[name]["parts"][entry.name] = {"file": file, "digest": files_digest({"": Path(file)})}
    return found


def distribution_files(entry: EntryPoint) -> dict[str, Path]:
    """Name -> file, of all top-level packages and modules of the distribution that brings an entry point.

    They are looked at where they lie, so that one that is installed as editable counts with what was edited.
    """
    known = (entry.dist.read_text("top_level.txt") or "").split() if entry.dist else []
    files: dict[str, Path] = {}
    for top in sorted({entry.module.partition(".")[0], *known}):
        spec = importlib.util.find_spec(top)
        for folder in (spec and spec.submodule_search_locations) or ():
            files |= {f"{top}/{name}": path for name, path in _files_below(Path(folder)).items()}
        if spec and spec.origin and not spec.submodule_search_locations:
            files[top] = Path(spec.origin)
    return files


def files_digest(files: Mapping[str, Path]) -> str:
    """Hexadecimal digest of files by name. One above a MiB, such as weights, counts by its size, so that this takes no time."""
    digest = hashlib.blake2b(digest_size=8)
    for name, path in sorted(files.items()):
        size = path.stat().st_size if path.is_file() else None
        digest.update(f"{name} {size}\n".encode())
        if size is not None and size <= READ_WHOLE:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _files_below(folder: Path) -> dict[str, Path]:
    """Name inside the folder -> file; without what Python or git keeps there."""
    found = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__" and not name.startswith(".")]
        paths = [Path(place, name) for name in names]
        found |= {path.relative_to(folder).as_posix(): path for path in paths}
    return found


def hardware() -> str:
    """Processor, cores this process may use, memory, and accelerators."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    capability = torch.backends.cpu.get_cpu_capability()
    return ", ".join([f"{_processor()} ({capability})", f"{usable_cores()} cores", f"{memory:.0f} GiB memory", *gpus])


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()
