"""Imports run one way: experiments -> components -> hvg -> libraries; heavy libraries stay behind their fences."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("hvg", "components", "experiments")
FILES = sorted(path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py"))
# Folders that a wheel has inside hvg.
BESIDE = ("components", "conf", "experiments")
# The one place where siblings meet.
SHARED_ROOMS = ("nn", "people")
PEOPLE = ("components/bodies", "components/renderers", "components/datasets", "components/people")
DIFFUSION = ("components/backbones", "components/codecs", "components/conditioners")
# Library -> the files and folders that may import it.
FENCES = {
    # A pipeline of theirs; only `hvg export` and users of diffusers import it.
    "diffusers": (
        *DIFFUSION,
        "components/nn/flux_transformer.py",
        "components/nn/picture_vae.py",
        "components/nn/spatio_temporal_unet.py",
        "components/nn/wan_transformer.py",
        "hvg/pipeline.py",
        "hvg/sample/diffusers_pipeline.py",
        # What ours is timed beside.
        "hvg/bench/peers",
        # Imports it before parts do, and uses nothing of it.
        "hvg/core/late_compiler.py",
    ),
    # Feature networks of metrics that look through CLIP and V-JEPA 2; encoders of text.
    "transformers": (
        *DIFFUSION,
        "components/nn/feature_networks",
        "components/nn/published_text.py",
        "hvg/bench/peers",
    ),
    "lightning": (
        "hvg/data/training_data.py",
        "hvg/train",
        "hvg/cost/dry_run.py",
    ),
    "peft": ("components/adapters",),
    "bitsandbytes": ("components/optimizers",),
    "deepspeed": ("hvg/train/zero.py",),
    "viser": ("hvg/view",),
    "hydra": ("hvg/config", "hvg/sweep/space.py"),
    "omegaconf": ("hvg/config",),
    "optuna": ("hvg/sweep",),
    "sqlalchemy": ("hvg/sweep",),
    "anny": PEOPLE,
    "warp": PEOPLE,
    "smplx": PEOPLE,
    "pytorch3d": PEOPLE,
}


def imported_modules(text: str) -> Iterator[str]:
    """Every module that a file of this text imports, wherever in the file it does; as it is written, with leading dots."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            origin = f"{node.module}." if node.module else ""
            yield from (f"{'.' * node.level}{origin}{alias.name}" for alias in node.names)


def forbidden_arrow(path: Path, module: str) -> str | None:
    """Why ``path`` may not import ``module``; None when it may."""
    room, name = path.parts[0], module.lstrip(".")
    if dots := len(module) - len(name):
        packages = path.parent.parts[: len(path.parent.parts) - dots + 1]
        if room != "components" or not packages:
            return "only components import relatively, from one another; write the whole path"
        module = ".".join([*packages, name])
    elif room == "components" and module.split(".")[0] == room:
        return "a wheel has components inside hvg; write it relatively, as in ..nn.zero"
    top, *inner = module.split(".")
    if top == "hvg" and inner and inner[0] in BESIDE:
        return f"{inner[0]} lies in hvg only where that is installed"
    if top in ROOMS and ROOMS.index(top) > ROOMS.index(room):
        return f"{room} must not import {top}"
    if room == top == "components" and inner[0] not in SHARED_ROOMS:
        return f"parts do not import their siblings, only components.{{{','.join(SHARED_ROOMS)}}}"
    allowed = FENCES.get(top)
    if allowed and not any(path == Path(place) or Path(place) in path.parents for place in allowed):
        return f"{top} is imported only in {', '.join(allowed)}"
    return None


def wrong_arrows(path: Path, text: str) -> dict[str, str]:
    """Module -> why a file of this text at ``path`` may not import it."""
    return {module: reason for module in imported_modules(text) if (reason := forbidden_arrow(path, module))}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_arrow_points_the_wrong_way(path):
    assert not wrong_arrows(path, (ROOT / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("hvg/values/clip.py", "from components.nn.guider import Guider"),
        ("hvg/values/clip.py", "from hvg.components.nn.guider import Guider"),
        ("hvg/values/clip.py", "from .components.nn import guider"),
        ("hvg/values/clip.py", "from . import layout"),
        ("components/codecs/pixel.py", "from .svd_vae import SvdVaeCodec"),
        ("components/codecs/pixel.py", "from . import svd_vae"),
        ("components/codecs/pixel.py", "from ..metrics.psnr import PSNR"),
        ("components/codecs/pixel.py", "from .. import metrics"),
        ("components/codecs/pixel.py", "def late():\n    from ..metrics import psnr"),
        ("components/nn/feature_networks/i3d.py", "from ...metrics.psnr import PSNR"),
        ("components/codecs/pixel.py", "from ...hvg.values.conditioning import Ports"),
        ("components/codecs/pixel.py", "from components.nn.guider import Guider"),
        ("components/codecs/pixel.py", "import components.metrics.psnr"),
        ("components/samplers/single.py", "import experiments.quickstart"),
        ("hvg/values/layout.py", "from diffusers.models import attention"),
        ("components/metrics/psnr.py", "import lightning"),
    ],
)
def test_wrong_arrows_are_seen(path, text):
    assert wrong_arrows(Path(path), text)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("components/codecs/pixel.py", "from hvg.parts.guider import Guider"),
        ("components/nn/guider.py", "from .zero import zero_module"),
        ("components/nn/feature_networks/i3d.py", "from ..zero import zero_module"),
        ("components/people/suit.py", "from ..nn import zero"),
        ("components/codecs/pixel.py", "from hvg.values.conditioning import Ports"),
    ],
)
def test_right_arrows_are_let_through(path, text):
    assert not wrong_arrows(Path(path), text)
