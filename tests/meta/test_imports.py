"""Imports run one way: experiments -> components -> hvg -> libraries; heavy libraries stay behind their fences."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("hvg", "components", "experiments")
FILES = sorted(path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py"))
# The one place where siblings meet.
SHARED_ROOMS = ("nn", "people")
PEOPLE = ("components/bodies", "components/renderers", "components/datasets", "components/people")
DIFFUSION = ("components/backbones", "components/codecs", "components/conditioners")
# Library -> the files and folders that may import it.
FENCES = {
    # hvg/pipeline.py is a pipeline of theirs; only `hvg export` and users of diffusers import it.
    "diffusers": (*DIFFUSION, "hvg/pipeline.py"),
    # Feature networks of metrics that look through CLIP and V-JEPA 2.
    "transformers": (*DIFFUSION, "components/nn/feature_networks"),
    "lightning": (
        "hvg/system.py",
        "hvg/data.py",
        "hvg/training.py",
        "hvg/callbacks.py",
        "hvg/strategies.py",
        "hvg/process_launcher.py",
        "hvg/dry_run.py",
    ),
    "deepspeed": ("hvg/strategies.py",),
    "hydra": ("hvg/config.py", "hvg/sweep_space.py", "hvg/cli.py"),
    "omegaconf": ("hvg/config.py", "hvg/cli.py"),
    "optuna": ("hvg/sweep_store.py", "hvg/sweep_report.py"),
    "sqlalchemy": ("hvg/sweep_store.py",),
    "anny": PEOPLE,
    "warp": PEOPLE,
    "smplx": PEOPLE,
    "pytorch3d": PEOPLE,
}


def imported_modules(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in the file it does."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the whole path"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def forbidden_arrow(path: Path, module: str) -> str | None:
    """Why ``path`` may not import ``module``; None when it may."""
    room, (top, *inner) = path.parts[0], module.split(".")
    if top in ROOMS and ROOMS.index(top) > ROOMS.index(room):
        return f"{room} must not import {top}"
    if room == top == "components" and inner[0] not in SHARED_ROOMS:
        return f"parts do not import their siblings, only components.{{{','.join(SHARED_ROOMS)}}}"
    allowed = FENCES.get(top)
    if allowed and not any(path == Path(place) or Path(place) in path.parents for place in allowed):
        return f"{top} is imported only in {', '.join(allowed)}"
    return None


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_arrow_points_the_wrong_way(path):
    wrong = {module: reason for module in imported_modules(path) if (reason := forbidden_arrow(path, module))}
    assert not wrong


@pytest.mark.parametrize(
    ("path", "module"),
    [
        ("hvg/types.py", "components.nn.guider.Guider"),
        ("components/codecs/pixel.py", "components.codecs.svd_vae.SvdVaeCodec"),
        ("components/samplers/single.py", "experiments.quickstart"),
        ("hvg/layout.py", "diffusers.models"),
        ("components/metrics/psnr.py", "lightning"),
    ],
)
def test_wrong_arrows_are_seen(path, module):
    assert forbidden_arrow(Path(path), module)
