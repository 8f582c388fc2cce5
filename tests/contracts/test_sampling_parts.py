"""Every registered sampler, solver, guidance, refiner, prediction, alignment and codec keeps the promises of hvg.testing."""

from typing import Any

import pytest

from hvg.parts import registry
from hvg.testing import (
    check_alignment,
    check_codec,
    check_guidance,
    check_prediction,
    check_refiner,
    check_sampler,
    check_solver,
)

CHECKS = {
    "alignment": check_alignment,
    "codec": check_codec,
    "guidance": check_guidance,
    "prediction": check_prediction,
    "refiner": check_refiner,
    "sampler": check_sampler,
    "solver": check_solver,
}
_SPACE_TIME = {
    "frames": 6,
    "frame_overlap": 2,
    "temporal_views": 2,
    "views": 4,
    "view_overlap": 2,
    "view_frames": 3,
}
# Settings beyond the defaults that change what a part is. Of samplers: small windows, so that small grids need several.
VARIANTS: dict[tuple[str, str], list[dict[str, Any]]] = {
    ("alignment", "pelvis"): [{"frames": "first"}, {"anchor": (0.4, 0.55)}, {"reference": False}],
    ("codec", "pixel"): [{"factor": 1}, {"scale": 2.0, "zero": "grey"}],
    ("codec", "pixel_time"): [{"frames": 1}, {"frames": 3, "factor": 2, "scale": 2.0, "zero": "grey"}],
    ("guidance", "gas"): [{"drops": ("pose", "camera"), "minimum": 2, "maximum": 1}],
    ("guidance", "separate"): [{"scales": {"camera": 1.0, "pose": 2.0, "appearance": 2.0}}],
    ("guidance", "linear"): [{"axis": "views", "minimum": 2, "maximum": 1}],
    ("guidance", "triangular"): [{"axis": "frames"}],
    ("prediction", "flow"): [
        {"target": "x0", "timesteps": "uniform", "loss_weight": "bell", "last_level": 0.003},
        {"timesteps": "mode", "shift": 5, "base_pixels": 4096, "max_weight": 5},
        {"shift": 1.5, "base_pixels": 4096, "max_shift": 3, "max_pixels": 65536},
    ],
    ("prediction", "v"): [{"max_weight": 5.0}],
    ("prediction", "ddpm"): [
        {"target": "epsilon", "terminal_snr": "kept", "spacing": "leading"},
        {"target": "x0", "betas": "linear", "beta_start": 1e-4, "beta_end": 0.02, "max_weight": 5.0},
    ],
    ("refiner", "crop"): [{"regions": ("head",), "least": 0.5, "edge": 0.0, "anchor": "first_frame"}],
    ("refiner", "feature_propagation"): [{"every": 2, "sites": "second_half", "anchor": "none"}, {"every": 1}],
    ("refiner", "low_frequency"): [{"share": 1.0, "time": 1.0, "space": 2.0, "anchor": "none"}, {"share": 0.0}],
    ("refiner", "sdedit"): [{"strength": 1.0, "anchor": "none"}],
    ("sampler", "alternating"): [_SPACE_TIME],
    ("sampler", "anchored"): [{"frames": 5, "overlap": 2}, {"frames": 5, "overlap": 2, "views": 1}],
    ("sampler", "carry_over"): [{"frames": 5, "carried": 2}],
    ("sampler", "sliding"): [{"views": 3, "frames": 4}, {"rounds": ("frames",), "view_frames": 2, "temporal_views": 2}],
    ("sampler", "coarse_to_fine"): [{"frames": 4, "overlap": 1, "levels": 2}],
    ("sampler", "partition"): [{"views": 3, "frames": 4}],
    ("sampler", "progressive"): [_SPACE_TIME, _SPACE_TIME | {"mix": 0.2}],
    ("sampler", "shifting"): [{"views": 3, "frames": 4}],
    ("sampler", "temporal"): [{"frames": 5, "overlap": 2}, {"frames": 5, "overlap": 2, "views": 2}],
    ("sampler", "view"): [{"views": 3, "overlap": 1}, {"views": 3, "overlap": 1, "circular": False}],
    ("solver", "ddim"): [{"eta": 0.5}, {"eta": 1.0}],
}
# Whose setting ``path`` names a published model's folder: the tests have a small one.
FOLDERS = {("codec", "svd_vae"): "svd_folder", ("codec", "wan_vae"): "wan_folder", ("codec", "flux_vae"): "flux_folder"}
CASES = [
    (kind, name, settings)
    for kind in CHECKS
    for name in registry.names(kind)
    for settings in [{}, *VARIANTS.get((kind, name), [])]
]


@pytest.mark.parametrize(("kind", "name", "settings"), CASES, ids=str)
def test_part(kind, name, settings, request):
    part, fixture = registry.load(kind, name), FOLDERS.get((kind, name))
    folder = {} if fixture is None else {"path": str(request.getfixturevalue(fixture))}
    CHECKS[kind](part, part.Config(**settings, **folder))
