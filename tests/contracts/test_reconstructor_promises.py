"""Every registered reconstructor keeps the promises that hvg.testing spells out, with every body model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from body_models import person_model
from PIL import Image

from hvg.parts import registry
from hvg.parts.context import Context, SceneContext
from hvg.testing import check_reconstructor, posed_batch
from hvg.testing.reconstructor import photographed
from hvg.values.clip import ClipBatch

# Settings beyond the defaults that change what a reconstructor is.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "nerf": [
        {"width": 16, "depth": 2, "samples": 8, "shell": 0.05, "cell": 0.03, "chunk": 1000, "kept_megabytes": 0},
        {"frequencies": 1, "features": (8, 8), "told": (4, 4), "whole": 8, "kept_megabytes": 1},
    ],
    "projection": [
        {"outward_mm": 0.0, "supersampling": 1, "sweeps": 0, "kept_megabytes": 0},
        {"outward_mm": 40.0, "supersampling": 3, "kept_megabytes": 1},
    ],
}
CASES = [(name, settings) for name in registry.names("reconstructor") for settings in [{}, *VARIANTS.get(name, [])]]
FAMILIES = ("smpl", "smplh", "smplx")


def context_of(name: str, **settings) -> SceneContext:
    renderer, body = registry.load("renderer", "warp"), registry.load("body", name)
    return SceneContext(renderer=renderer(renderer.Config(), Context()), body=body(body.Config(**settings), Context()))


@pytest.fixture(scope="module")
def anny() -> SceneContext:
    return context_of("anny")


def write_pictures(folder: Path, batch: ClipBatch) -> None:
    """Discs with alpha, a file for every clip, view and frame."""
    clips, views, frames = batch.grid
    height, width = batch.cameras.image_size
    y, x = np.mgrid[:height, :width]
    for c, v, t in np.ndindex(clips, views, frames):
        away = np.hypot(x - width / 2 + v, y - height / 2 + t)
        alpha = (255 * np.clip(width / 3 - away, 0, 1)).astype(np.uint8)
        rgb = np.stack([np.full_like(alpha, value) for value in (40 * c, 60 * v, 50 * t)])
        path = folder / batch.clip_id[c] / f"view-{v:02d}" / f"{t:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.concatenate([rgb, alpha[None]]).transpose(1, 2, 0), "RGBA").save(path)


@pytest.mark.parametrize(("name", "settings"), CASES, ids=str)
def test_reconstructor(name, settings, anny, tmp_path):
    part = registry.load("reconstructor", name)
    batch = photographed(posed_batch(anny.body))
    if name == "files":
        write_pictures(tmp_path, batch)
        settings = {"path": tmp_path}
    check_reconstructor(part, part.Config(**settings), anny, batch)


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_reconstructor_of_the_family(family, tmp_path):
    np.savez(tmp_path / f"{family.upper()}_NEUTRAL.npz", allow_pickle=True, **person_model(family))
    context = context_of(family, path=tmp_path)
    for name in ("projection", "nerf"):
        part = registry.load("reconstructor", name)
        check_reconstructor(part, part.Config(), context)


def test_what_needs_weights_says_so():
    parts = {name: registry.load("reconstructor", name) for name in ("files", "nerf", "projection")}
    learns = {name: part.learns(part.Config.model_construct()) for name, part in parts.items()}
    assert learns == {"files": False, "nerf": True, "projection": False}
