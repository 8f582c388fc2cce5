"""A package of somebody's as pip lays it out, without pip."""

import shutil
import tomllib
from pathlib import Path


def lay_out(source: Path, site: Path) -> None:
    """Copies the package of a folder with a pyproject.toml into ``site``, and writes beside it what says what it registers."""
    project = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    package = project["name"].replace("-", "_")
    shutil.copytree(source / package, site / package)
    about = site / f"{package}-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("".join(f"{key.title()}: {project[key]}\n" for key in ("name", "version")))
    groups = project["entry-points"].items()
    entries = [line for group, names in groups for line in (f"[{group}]", *map(" = ".join, names.items()))]
    (about / "entry_points.txt").write_text("\n".join(entries))
