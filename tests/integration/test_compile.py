"""Compiled blocks train what uncompiled ones do; a run of them that was interrupted ends in the same bits, and is sampled."""

import json

import pytest
import torch
from train_runs import train_together

from hvg.config.composition import compose
from hvg.core.checkpoint import Checkpoint, checkpoint_path
from hvg.data.prepare import prepare

STEPS = 4
SECTIONS = ("weights", "exp_avg", "exp_avg_sq", "average")
COMPILED = "backbone.compile=blocks"


@pytest.fixture(scope="module")
def overrides(tiny, cache, tmp_path_factory):
    every = (f"training.steps={STEPS}", "training.checkpoint_every=2", "training.keep_last=9")
    # One level: the fewer kinds of blocks there are, the less has to be compiled.
    small = ("backbone.widths=[32]", "backbone.heads=[1]", "backbone.attention=[true]", "view_attention=none")
    folder = tmp_path_factory.mktemp("compiled")
    return (*tiny, cache, *every, *small, "pose=skeleton", "reference_keys=none", "device=cpu", f"output={folder}")


def run_folder(overrides, name):
    return compose([*overrides, f"name={name}"]).output / name


def logged(overrides, name, key="loss"):
    rows = (run_folder(overrides, name) / "metrics.jsonl").read_text().splitlines()
    return [row[key] for row in map(json.loads, rows) if key in row]


@pytest.mark.long
def test_compiled_blocks_train_alike_resume_to_the_same_bits_and_are_sampled(overrides, hvg):
    """Sampled in the middle of training, when blocks are compiled already, and at its end, by commands of their own."""
    prepare([compose(overrides)], ("train", "val"), jobs=1)
    sampled = ("training.validate_every=2", "training.validation_clips=1", "evaluation.clips=1")
    runs = [[*overrides, *sampled, "name=plain"], [*overrides, *sampled, COMPILED, "name=whole"]]
    train_together(1, runs)
    middle = checkpoint_path(run_folder(overrides, "whole") / "checkpoints", STEPS // 2)
    train_together(1, [[*overrides, *sampled, COMPILED, f"resume={middle}", "name=again"]])
    assert len(logged(overrides, "whole")) == STEPS
    assert logged(overrides, "whole") == pytest.approx(logged(overrides, "plain"), abs=1e-5)
    quality = logged(overrides, "whole", "validation_psnr")
    assert len(quality) == 2 and quality == pytest.approx(logged(overrides, "plain", "validation_psnr"), abs=1e-2)
    assert logged(overrides, "again", "validation_psnr") == quality[1:]
    done = hvg("evaluate", f"checkpoint={run_folder(overrides, 'again')}")
    assert done.returncode == 0, done.stderr
    first, second = (
        Checkpoint(checkpoint_path(run_folder(overrides, name) / "checkpoints", STEPS)) for name in ("whole", "again")
    )
    for section in SECTIONS:
        mine, theirs = first.section(section), second.section(section)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], x) for name, x in theirs.items()), section


def test_without_a_compiler_compiling_is_refused_in_one_line(hvg, overrides, monkeypatch):
    monkeypatch.setenv("PATH", "")
    refused = hvg("train", *overrides, COMPILED, "name=refused")
    assert refused.returncode == 1
    assert "needs a C++ compiler on a CPU" in refused.stderr.strip().splitlines()[-1]
    assert "Traceback" not in refused.stderr
