"""What `hvg new part` writes of every kind passes `hvg check` and its own tests, installed by pip, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hvg.cli import run
from hvg.parts import registry

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> Path:
    """A folder with a package of every kind, each in a folder of its kind's name."""
    place = tmp_path_factory.mktemp("packages")
    for kind in registry.KINDS:
        assert run(["new", "part", "of_the_lab", f"kind={kind}", f"out={place / kind}"]) == 0
    return place


@pytest.fixture(scope="module")
def site(packages, tmp_path_factory) -> Path:
    """Where pip installed them all."""
    site = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", site]
    subprocess.run([*install, *packages.iterdir()], check=True)
    return site


@pytest.mark.parametrize("kind", sorted(registry.KINDS))
def test_it_passes_hvg_check_and_its_own_tests(kind, packages, site):
    """Its second test is `hvg check` with the words that the command said."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=packages / kind, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout + done.stderr
