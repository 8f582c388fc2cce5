"""Checkpoints are whole or absent, hold everything, and never unpickle."""

import errno
import hashlib
import json
import os
import pickle
import resource
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from hvg.core.checkpoint import (
    Checkpoint,
    checkpoint_path,
    checkpoints,
    find_checkpoint,
    keep_checkpoints,
    latest_checkpoint,
    latest_whole_checkpoint,
    set_aside,
)
from hvg.core.errors import CheckpointError
from hvg.model.checkpoint_writing import Entry, write_checkpoint
from hvg.model.ema import Averaging
from hvg.parts import registry
from hvg.parts.weights import load_shared_weights, load_weights
from hvg.train.loggers import MetricsFile

TYPES = {"float": torch.float32, "half": torch.bfloat16, "whole": torch.int64, "truth": torch.bool}

STATE = {
    "plain": {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([True])},
    "optimizer": [{"state": {0: {"step": torch.tensor(3.0)}}, "groups": [{"betas": (0.9, 0.98), "fused": None}]}],
    "global_step": 7,
    "note": "ü",
}


def at(step):
    return STATE | {"global_step": step}


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b and type(a) is type(b)


def test_a_nested_state_comes_back_exactly(tmp_path):
    write_checkpoint(tmp_path / "step-0000007.ckpt", STATE)
    assert same(Checkpoint(tmp_path / "step-0000007.ckpt").state, STATE)


def test_its_files_are_plain_safetensors_with_whole_tensors_by_name(tmp_path):
    path = checkpoint_path(tmp_path, 7)
    entries = [Entry.of(f"weights/{name}", torch.randn(3, 2).to(dtype)) for name, dtype in TYPES.items()]
    write_checkpoint(path, STATE, [*entries, Entry.of("weights/scalar", torch.tensor(3.0))])
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["step"] == 7 and manifest["world_size"] == 1
    (name,) = manifest["files"]
    loaded = load_file(path / name)
    assert all(torch.equal(loaded[entry.name], entry.read()) for entry in entries)
    assert Checkpoint(path).section("weights").keys() == {*TYPES, "scalar"}
    assert same(Checkpoint(path).state, STATE)


@pytest.mark.parametrize(
    "damage", ["missing", "flipped", "truncated", "lost", "half", "manifest", "signature", "pickle", "other"]
)
def test_a_bad_checkpoint_is_refused_in_one_line_that_names_it(tmp_path, damage):
    path = tmp_path / "step-0000007.ckpt"
    if damage == "pickle":
        path.write_bytes(pickle.dumps(STATE))
    elif damage != "missing":
        write_checkpoint(path, STATE)
    (file,) = list(path.glob("*.safetensors")) or [None]
    if damage == "flipped":
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-8])
    if damage == "lost":
        file.unlink()
    manifest = path / "manifest.json"
    if damage == "half":
        manifest.unlink()
    if damage == "manifest":
        manifest.write_text(manifest.read_text()[:-9])
    if damage == "signature":
        manifest.write_text(manifest.read_text().replace('"step": 7', '"step": 8'))
    if damage == "other":
        manifest.write_text('{"format": "x", "sha256": ""}')
    with pytest.raises(CheckpointError) as error:
        Checkpoint(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_the_newest_whole_checkpoint_is_found_behind_damaged_ones(tmp_path):
    assert latest_whole_checkpoint(tmp_path) == (None, [])
    for step in (1, 2, 3):
        write_checkpoint(checkpoint_path(tmp_path, step), at(step))
    for step in (2, 3):
        (checkpoint_path(tmp_path, step) / "manifest.json").write_text("{")
    found, damaged = latest_whole_checkpoint(tmp_path)
    assert found is not None and found.path == checkpoint_path(tmp_path, 1)
    assert ["step-0000003" in damaged[0], "step-0000002" in damaged[1]] == [True, True]
    set_aside((checkpoint_path(tmp_path, step) for step in (2, 3)), "damaged")
    assert latest_checkpoint(tmp_path) == checkpoint_path(tmp_path, 1)
    (checkpoint_path(tmp_path, 1) / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="no checkpoint is whole"):
        latest_whole_checkpoint(tmp_path)


def test_the_newest_are_kept_and_every_so_many(tmp_path):
    for step in range(1, 11):
        write_checkpoint(checkpoint_path(tmp_path, step), at(step))
        keep_checkpoints(tmp_path, last=2, every=4)
    assert list(checkpoints(tmp_path)) == [4, 8, 9, 10]
    assert len(list(tmp_path.iterdir())) == 4


def test_the_step_inside_decides_and_not_the_name(tmp_path):
    for step in (2, 4, 6):
        write_checkpoint(checkpoint_path(tmp_path, step), at(step))
    shutil.copytree(checkpoint_path(tmp_path, 2), checkpoint_path(tmp_path, 8))
    checkpoint_path(tmp_path, 4).rename(checkpoint_path(tmp_path, 9))
    places = {2: checkpoint_path(tmp_path, 2), 4: checkpoint_path(tmp_path, 9), 6: checkpoint_path(tmp_path, 6)}
    assert checkpoints(tmp_path) == places
    found, damaged = latest_whole_checkpoint(tmp_path)
    assert found is not None and found.state["global_step"] == 6 and not damaged
    keep_checkpoints(tmp_path, last=1, every=0)
    assert list(checkpoints(tmp_path)) == [2, 6]


def test_what_is_set_aside_is_not_lost_to_what_follows(tmp_path):
    for name in ("later-step-0000003.ckpt", "later-2-step-0000003.ckpt"):
        write_checkpoint(checkpoint_path(tmp_path, 3), at(3))
        assert set_aside([checkpoint_path(tmp_path, 3)], "later") == [tmp_path / name]
    assert checkpoints(tmp_path) == {}


def test_a_full_disk_costs_one_line_and_nothing_that_was_saved(tmp_path):
    """The system refuses to let a file grow beyond a limit, as a full disk would."""
    write_checkpoint(checkpoint_path(tmp_path, 1), STATE)
    large = {**STATE, "large": torch.zeros(2**20)}
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        with pytest.raises(CheckpointError) as error:
            write_checkpoint(checkpoint_path(tmp_path, 2), large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "step-0000002.ckpt: the checkpoint cannot be written: File too large" in str(error.value)
    assert "step-0000001.ckpt is as it was" in str(error.value) and "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000001.ckpt"]
    assert same(Checkpoint(checkpoint_path(tmp_path, 1)).state, STATE)
    write_checkpoint(checkpoint_path(tmp_path, 2), large)


@pytest.mark.parametrize("moment", ["the first byte", "the flush", "the manifest"])
def test_no_space_left_at_any_moment_leaves_nothing_behind(tmp_path, monkeypatch, moment):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    place = {"the first byte": "_header", "the flush": "flush_to_disk", "the manifest": "finish"}[moment]
    monkeypatch.setattr(f"hvg.model.checkpoint_writing.{place}", full)
    with pytest.raises(CheckpointError, match="No space left on device; there is none before it"):
        write_checkpoint(checkpoint_path(tmp_path, 1), STATE)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_checkpoint_points_to_one_that_is_there(tmp_path):
    write_checkpoint(checkpoint_path(tmp_path, 12), STATE)
    with pytest.raises(CheckpointError, match="step-0000012"):
        Checkpoint(tmp_path / "last.ckpt")


def test_the_latest_is_the_highest_step_and_partial_files_do_not_count(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    for step in (9, 100, 20):
        write_checkpoint(checkpoint_path(tmp_path, step), at(step))
    (tmp_path / ".step-0000200.ckpt.partial").mkdir()
    assert latest_checkpoint(tmp_path) == checkpoint_path(tmp_path, 100)


def test_what_cannot_be_saved_is_named(tmp_path):
    with pytest.raises(TypeError, match="callbacks/bad"):
        write_checkpoint(tmp_path / "x.ckpt", {"callbacks": {"bad": object()}})
    assert list(tmp_path.iterdir()) == []


def test_weights_load_strictly():
    module = nn.Linear(2, 3)
    weights = dict(module.state_dict())
    load_weights(module, weights, "file")
    for wrong in (
        {"weight": weights["weight"]},
        {**weights, "extra": weights["bias"]},
        {**weights, "bias": torch.zeros(4)},
    ):
        with pytest.raises(CheckpointError, match="file"):
            load_weights(module, wrong, "file")


def test_the_moving_average_follows_its_formula():
    parameter = nn.Parameter(torch.zeros(1))
    part = registry.load("optimizer", "adamw_fused")
    optimizer = Averaging(
        part(part.Config(weight_decay=0.0, betas=(0.9, 0.999))), [{"params": [parameter]}], 1.0, decay=0.5
    )
    expected, decays = 0.0, [1 / 10, 2 / 11]
    for decay in decays:
        parameter.grad = -torch.ones(1)
        optimizer.step()
        expected = decay * expected + (1 - decay) * float(parameter.detach())
    assert optimizer.state[parameter]["average"].item() == pytest.approx(expected)
    plain = nn.Parameter(torch.zeros(1))
    adam = torch.optim.AdamW([plain], lr=1.0, weight_decay=0.0, fused=True)
    for _ in decays:
        plain.grad = -torch.ones(1)
        adam.step()
    assert torch.equal(plain, parameter), "averaging changes nothing of Adam's"


def test_half_a_line_of_a_killed_run_does_not_stop_the_next_one(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0, "loss": 2.0}\n{"step": 1, "loss": 1.5}\n{"step": 2, "lo')
    MetricsFile(path, first_step=1).log_metrics({"loss": 1.5}, step=1)
    assert path.read_text() == '{"step": 0, "loss": 2.0}\n{"step": 1, "loss": 1.5}\n'


def test_a_run_starts_from_every_weight_that_another_model_shares():
    old = nn.ModuleDict({"kept": nn.Linear(3, 2), "gone": nn.Linear(2, 2)})
    new = nn.ModuleDict({"kept": nn.Linear(3, 2), "added": nn.Linear(2, 4)})
    added = {key: value.clone() for key, value in new["added"].state_dict().items()}
    lines = load_shared_weights(new, old.state_dict(), "a.ckpt")
    assert all(torch.equal(new["kept"].state_dict()[key], value) for key, value in old["kept"].state_dict().items())
    assert all(torch.equal(new["added"].state_dict()[key], value) for key, value in added.items())
    assert lines == [
        "a.ckpt: 2 weights kept",
        "new: added.weight (1), added.bias (1)",
        "unused: gone.weight (1), gone.bias (1)",
    ]


def test_a_start_that_cannot_be_right_is_refused():
    model = nn.ModuleDict({"a": nn.Linear(3, 2)})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"a\.weight is \(2, 4\), here \(2, 3\)"):
        load_shared_weights(model, {"a.weight": torch.zeros(2, 4), "a.bias": torch.zeros(2)}, "x.ckpt")
    with pytest.raises(CheckpointError, match="no weight has the same name"):
        load_shared_weights(model, {"b": torch.zeros(1)}, "x.ckpt")
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())


def test_a_run_folder_stands_for_its_newest_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        find_checkpoint(tmp_path)
    for step in (3, 12):
        write_checkpoint(checkpoint_path(tmp_path / "checkpoints", step), at(step))
    assert find_checkpoint(tmp_path) == checkpoint_path(tmp_path / "checkpoints", 12)
    assert find_checkpoint(tmp_path / "checkpoints") == checkpoint_path(tmp_path / "checkpoints", 12)


@pytest.mark.parametrize(
    "changes",
    [
        {"state": {"value": 1}},
        {"state": {"dict": 3}},
        {"state": []},
        {"files": 3},
        {"files": {"../other.safetensors": {"bytes": 0, "sha256": ""}}},
        {"world_size": None},
    ],
    ids=str,
)
def test_a_signed_manifest_that_describes_no_training_state_is_refused(tmp_path, changes):
    path = checkpoint_path(tmp_path, 1)
    write_checkpoint(path, {"global_step": 1})
    content = json.loads((path / "manifest.json").read_text())
    del content["sha256"]
    content |= changes
    signature = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps({**content, "sha256": signature}))
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        Checkpoint(path)
