"""Every registered adapter keeps the promises that hvg.testing spells out."""

import pytest
from tiny_backbones import BACKBONES

from hvg.parts import registry
from hvg.testing import check_adapter

# Settings beyond the defaults that change what an adapter is.
VARIANTS = {
    "patterns": [
        {"train": {"temporal": 1e-4, "new": None}},
        {"train": {"backbone.*": None, "*.bias": 0, "attention": 1e-3}},
    ],
    "lora": [
        {"rank": 2, "alpha": 8, "init": "zero", "new_layers": "freeze"},
        {"rank": 3, "targets": ("*",), "learning_rate": 1e-2},
        {
            "targets": ("to_q", "up_blocks.*.conv1", "time_embedding.linear_1"),
            "also": {"norm*.weight": 1e-3, "new": 1e-4},
        },
    ],
}
TRANSFORMER = BACKBONES["wan_dit"] | {"memory": "gated"}
CASES = [(name, settings) for name in registry.names("adapter") for settings in [{}, *VARIANTS.get(name, [])]]


@pytest.mark.parametrize(("name", "settings"), CASES, ids=str)
def test_adapter(name, settings):
    part = registry.load("adapter", name)
    check_adapter(part, part.Config(**settings))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("full", {}),
        ("patterns", {"train": {"attention": 1e-4, "new": None, "scale_shift_table": 1e-3}}),
        ("lora", {"rank": 2, "alpha": 1}),
        ("lora", {"rank": 2, "targets": ("*",), "learning_rate": 1e-2}),
    ],
    ids=str,
)
def test_adapter_of_a_transformer(name, settings):
    part, backbone = registry.load("adapter", name), registry.load("backbone", "wan_dit")
    check_adapter(part, part.Config(**settings), (backbone, backbone.Config(**TRANSFORMER)))
