"""Fixtures that several tests share."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

# Two threads on two busy cores are several times slower than one.
torch.set_num_threads(1)

ROOT = Path(__file__).parent.parent
# Small enough that a step takes a fraction of a second; the parts are those of scale=cpu.
TINY = (
    "scale=cpu",
    "debug=tiny",
    "dataset.num_subjects=3",
    "dataset.num_held_out_subjects=2",
    "dataset.clips_per_subject=1",
    "dataset.views=2",
    "dataset.frames=2",
    "dataset.image_size=32",
    "data.views=2",
    "data.frames=2",
    "backbone.widths=[32,32]",
    "backbone.heads=[1,1]",
)


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
    """Runs the command line as a user does: ``hvg("train", ...)``; returns the finished process."""

    def run(*arguments: str, path: Path | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(map(str, filter(None, [path, ROOT])))
        return subprocess.run(
            [sys.executable, "-m", "hvg.cli", *arguments], capture_output=True, text=True, env=environment, cwd=cwd
        )

    return run


@pytest.fixture(scope="session")
def svd_folder(tmp_path_factory) -> Path:
    """A Stable Video Diffusion pipeline as published, small and with random weights."""
    from svd_pipeline import save_pipeline

    folder = tmp_path_factory.mktemp("svd")
    save_pipeline(folder)
    return folder
