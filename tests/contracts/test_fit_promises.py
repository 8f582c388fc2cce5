"""Every registered fit keeps the promises that hvg.testing spells out, with every error that it has."""

from typing import Any

import pytest

from hvg.config.composition import compose
from hvg.parts import registry
from hvg.testing import check_fit

# Settings beyond the defaults, with which the defaults' errors of size 0 have one.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "errors": [
        {"joint_noise_mm": 30.0},
        {"rotation_noise_degrees": 5.0, "root_rotation_noise_degrees": 3.0, "correlation_frames": 0.0},
        {"shape": "other"},
        {"shape": "mean", "shape_share": 0.5, "joint_noise_mm": 10.0, "photo": "true"},
        {"dropped_limbs": 0.5, "dropped_frames": 2, "hands": "rest"},
        {"depth_mm": 40.0, "depth_drift_mm": 20.0, "scale_percent": 3.0},
        {"rotation_noise_degrees": 5.0, "shape": "other", "depth_mm": 40.0, "of": "mesh"},
    ]
}
CASES = [(name, settings) for name in registry.names("fit") for settings in [{}, *VARIANTS.get(name, [])]]
PRESETS = ("mild", "typical", "severe")


@pytest.fixture(scope="module")
def anny():
    part = registry.load("body", "anny")
    return part(part.Config())


@pytest.mark.parametrize(("name", "settings"), CASES, ids=str)
def test_fit(name, settings, anny):
    part = registry.load("fit", name)
    check_fit(part, part.Config(**settings), anny)


@pytest.mark.parametrize("preset", PRESETS)
def test_preset(preset, anny):
    choice = compose([f"fit={preset}"]).fit
    assert choice.cls.changes(choice.config)
    check_fit(choice.cls, choice.config, anny)
