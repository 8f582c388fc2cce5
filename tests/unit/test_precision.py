"""Which arithmetic a network is trained in: the rule, and what is told of it."""

import pytest
import torch

from hvg.config.composition import compose
from hvg.config.precision import (
    across_models,
    explain_here,
    on_described_gpus,
    precision_for,
    precision_here,
    trained_in,
)
from hvg.core.checkpoint import Checkpoint, precision_of
from hvg.model.checkpoint_writing import write_checkpoint


@pytest.mark.parametrize(
    ("asked", "capability", "used"),
    [
        ("auto", None, "32"),
        ("auto", (7, 5), "32"),
        ("auto", (8, 0), "bf16"),
        ("auto", (12, 0), "bf16"),
        ("32", (9, 0), "32"),
        ("bf16", None, "bf16"),
        ("bf16", (7, 0), "bf16"),
    ],
)
def test_auto_is_bf16_only_on_gpus_that_multiply_it(asked, capability, used):
    assert precision_for(asked, capability) == used


def test_the_same_words_are_the_same_arithmetic_on_every_cpu(monkeypatch):
    """Whatever instructions torch says that it has."""
    config = compose(["device=cpu", "training.precision=auto"])
    for capability in ("DEFAULT", "AVX2", "AVX512"):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda capability=capability: capability)
        assert precision_here(config) == "32"
    assert explain_here(config) == "float32 (training.precision=auto on a CPU)"


def test_gpus_that_are_described_multiply_bf16_unless_it_is_said_otherwise():
    auto = compose(["training.precision=auto"])
    found, words = on_described_gpus(auto)
    assert found.training.precision == "bf16" and "8.0 or more" in words
    assert found.model_copy(update={"training": auto.training}) == auto
    assert on_described_gpus(compose(["training.precision=32"]))[0].training.precision == "32"
    assert on_described_gpus(compose(["training.precision=auto", "device=cpu"]))[0].training.precision == "32"


def test_a_run_that_goes_on_in_another_precision_says_both():
    assert trained_in(None, "32") == "32" == trained_in("32", "32")
    both = trained_in("bf16", "32")
    assert both == "bf16, then 32" == trained_in(both, "32")
    assert trained_in(both, "bf16") == "bf16, then 32, then bf16"


def test_models_of_different_precisions_are_named():
    assert across_models({"a": ["32", "32"], "b": ["32"], "theirs": [None]}) == ("32", [])
    assert across_models({"theirs": [None], "empty": []}) == ("not known", [])
    words, (note,) = across_models({"a": ["32", "bf16"], "b": ["32"]})
    assert words == "32: a, b; bf16: a"
    assert words in note and "different precisions" in note


def test_a_checkpoint_says_it_without_its_tensors(tmp_path):
    for name, state in (("step-0000001.ckpt", {"precision": "bf16"}), ("step-0000002.ckpt", {})):
        write_checkpoint(tmp_path / name, {"global_step": 1, "x": torch.zeros(2), **state})
        expected = state.get("precision")
        assert precision_of(tmp_path / name) == expected == Checkpoint(tmp_path / name).precision
