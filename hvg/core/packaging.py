"""A wheel brings one top-level name: the folders beside ``hvg`` go inside it. In the tree, and where it is installed as
editable, they stay beside it; ``hvg/core/shipped.py`` finds them in both places.

setuptools runs this file by itself when it builds: it imports nothing of hvg.
"""

from setuptools import find_namespace_packages
from setuptools.command.build_py import build_py

FOLDERS = ("components", "conf", "experiments")
# Files that runs write, wherever they were started.
WRITTEN = ("*.runs", "*.runs.*", "*.outputs", "*.outputs.*", "*.__pycache__", "*.__pycache__.*")


class BuildInside(build_py):
    """Builds every package below ``FOLDERS`` as one of ``hvg``."""

    def finalize_options(self) -> None:
        super().finalize_options()
        inside = find_namespace_packages(include=[*FOLDERS, *(f"{name}.*" for name in FOLDERS)], exclude=WRITTEN)
        self.packages = [*self.packages, *(f"hvg.{name}" for name in inside)]
        self.package_dir = {**self.package_dir, **{f"hvg.{name}": name for name in FOLDERS}}
