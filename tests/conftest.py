"""Fixtures that several tests share."""

import os
import random
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from forks import Started

from hvg.config.settings import SINGLE_PARTS
from hvg.config.tiny_run import TINY_RUN
from hvg.parts import registry

OVER = "The time that all tests may take is over"
TINY = (*TINY_RUN, "backbone.widths=[32,32]", "backbone.heads=[1,1]")


# What a data set holds is looked at anew by every test that does not ask for another.
os.environ["HVG_LISTINGS"] = ""


def pytest_configure(config):
    """On a new machine Anny's body is read once, before the processes that test begin: it takes minutes, and says so."""
    folder = Path(os.environ.get("ANNY_CACHE_DIR", "~/.cache/anny")).expanduser()
    if not (hasattr(config, "workerinput") or any(folder.glob("*/*.safetensors"))):
        subprocess.run([sys.executable, "-c", "import anny; anny.Anny(skinning_method='lbs')"], check=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Where the long tests' time has an end, which of them come last, and may not be begun, changes with what is tested.

    The order stays, but for the file that comes first: neighbours share what was trained for them.
    """
    drawn = os.environ.get("HVG_TESTS_FIRST")
    if drawn is None or not all(item.get_closest_marker("long") for item in items):
        return
    first = random.Random(drawn).choice(sorted({item.path for item in items}))
    start = next(i for i, item in enumerate(items) if item.path == first)
    items[:] = items[start:] + items[:start]


def pytest_runtest_setup(item):
    """One thread, whatever a test before left; and CI's time may be over: ``.ci/run`` says when, in seconds since 1970."""
    # Two on two busy cores are several times slower, and their sums differ in the last bits.
    torch.set_num_threads(1)
    if time.time() > float(os.environ.get("HVG_TESTS_UNTIL", "inf")):
        pytest.skip(OVER)


def pytest_terminal_summary(terminalreporter):
    """Names the tests for which there was no time."""
    for report in terminalreporter.stats.get("skipped", ()):
        if OVER in str(report.longrepr):
            terminalreporter.write_line(f"NOT RUN: {report.nodeid}. {OVER}.")


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Overrides of a run that takes seconds."""
    return TINY


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> str:
    """One folder of rendered clips for all tests of a session."""
    return f"data.cache={tmp_path_factory.mktemp('cache')}"


@pytest.fixture(scope="session")
def hvg():
    """Runs the command line in a process of its own: ``hvg("train", ...)``; returns the finished process."""

    def run(*arguments: str, path: Path | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess:
        return Started("hvg.cli", *arguments, path=path, cwd=cwd).finish()

    return run


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Installs parts of somebody's for one test: ``package({"codec.quarter": SOURCE})``, each a module that defines ``Part``."""
    folder, name = tmp_path / "site-packages", f"lab_{uuid.uuid4().hex}"

    def install(parts: Mapping[str, str]) -> None:
        entries = ["[hvg.components]", *(f"{part} = {name}.{part.replace('.', '_')}:Part" for part in parts)]
        files = {f"{name}/{part.replace('.', '_')}.py": textwrap.dedent(source) for part, source in parts.items()}
        places = [part.replace(".", "/") for part in parts if part.partition(".")[0] in SINGLE_PARTS]
        files |= {f"{name}/conf/{place}.yaml": f"name: {Path(place).name}" for place in places}
        files[f"{name}/__init__.py"] = ""
        files[f"{name}-1.0.dist-info/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        files[f"{name}-1.0.dist-info/entry_points.txt"] = "\n".join([*entries, "[hvg.conf]", f"lab = {name}.conf"])
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        monkeypatch.syspath_prepend(folder)
        registry._plugins.cache_clear()

    yield install
    registry._plugins.cache_clear()


@pytest.fixture(scope="session")
def svd_folder(tmp_path_factory) -> Path:
    """A Stable Video Diffusion pipeline as published, small and with random weights."""
    from svd_pipeline import save_pipeline

    folder = tmp_path_factory.mktemp("svd")
    save_pipeline(folder)
    return folder


@pytest.fixture(scope="session")
def wan_folder(tmp_path_factory) -> Path:
    """Wan 2.1's VAE as published, small and with random weights."""
    from wan_vaes import write_vae

    return write_vae(tmp_path_factory.mktemp("wan"))


@pytest.fixture(scope="session")
def flux_folder(tmp_path_factory) -> Path:
    """A FLUX Kontext pipeline as published, small and with random weights."""
    from flux_pipelines import save_pipeline

    return save_pipeline(tmp_path_factory.mktemp("flux"))


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory) -> Path:
    """Folder with ``umt5/``, ``t5/`` and ``clip/``: encoders of text as published, small and with random weights."""
    from text_folders import save_text_folders

    folder = tmp_path_factory.mktemp("text")
    save_text_folders(folder)
    return folder
