"""Places of this project's parts, settings and studies: beside ``hvg`` in the source tree, inside it in a wheel, which
brings one top-level name."""

from pathlib import Path

import hvg

HVG = Path(hvg.__file__).resolve().parent
FOLDERS = ("components", "conf", "experiments")
# What lies beside an installed hvg is somebody else's, whatever its name.
INSTALLED = (HVG / FOLDERS[0]).is_dir()
COMPONENTS, CONF, EXPERIMENTS = ((HVG if INSTALLED else HVG.parent) / name for name in FOLDERS)
# The package of the parts.
PARTS = "hvg.components" if INSTALLED else "components"


def name_in_tree(module: str) -> str:
    """A module's name in the source tree, for digests: what one installation keeps in a cache, another finds."""
    return module.removeprefix("hvg.") if f"{module}.".startswith("hvg.components.") else module


def studies() -> dict[str, Path]:
    """Name -> folder of every study that is shipped."""
    return {path.parent.name: path.parent for path in sorted(EXPERIMENTS.glob("*/study.yaml"))}
