"""Checkpoints are whole or absent, hold everything, and never unpickle."""

import pickle

import pytest
import torch
from torch import nn

from hvg.checkpoint import (
    MovingAverage,
    checkpoint_path,
    find_checkpoint,
    latest_checkpoint,
    load_shared_weights,
    load_weights,
    read_checkpoint,
    write_checkpoint,
)
from hvg.errors import CheckpointError
from hvg.training import MetricsFile

STATE = {
    "weights": {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([True])},
    "optimizer": [{"state": {0: {"step": torch.tensor(3.0)}}, "groups": [{"betas": (0.9, 0.98), "fused": None}]}],
    "global_step": 7,
    "note": "ü",
}


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
    assert same(read_checkpoint(tmp_path / "step-0000007.ckpt"), STATE)


@pytest.mark.parametrize("damage", ["missing", "truncated", "pickle", "other"])
def test_a_bad_file_is_refused_in_one_line_that_names_it(tmp_path, damage):
    path = tmp_path / "step-0000007.ckpt"
    if damage == "truncated":
        write_checkpoint(path, STATE)
        path.write_bytes(path.read_bytes()[:-8])
    if damage == "pickle":
        path.write_bytes(pickle.dumps(STATE))
    if damage == "other":
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_checkpoint_points_to_one_that_is_there(tmp_path):
    write_checkpoint(checkpoint_path(tmp_path, 12), STATE)
    with pytest.raises(CheckpointError, match="step-0000012"):
        read_checkpoint(tmp_path / "last.ckpt")


def test_the_latest_is_the_highest_step_and_partial_files_do_not_count(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    for step in (9, 100, 20):
        write_checkpoint(checkpoint_path(tmp_path, step), STATE)
    (tmp_path / ".step-0000200.ckpt.77.partial").write_bytes(b"half")
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


def test_the_moving_average_follows_its_formula_and_swaps_back():
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(0.0)
    average = MovingAverage(module, decay=0.5)
    with torch.no_grad():
        module.weight.fill_(1.0)
    average.update()  # decay 1/10
    average.update()  # decay 2/11
    expected = 2 / 11 * 0.9 + 9 / 11
    assert average.average["weight"].item() == pytest.approx(expected)
    average.swap()
    assert module.weight.item() == pytest.approx(expected)
    average.swap()
    assert module.weight.item() == 1.0


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
        write_checkpoint(checkpoint_path(tmp_path / "checkpoints", step), STATE)
    assert find_checkpoint(tmp_path) == checkpoint_path(tmp_path / "checkpoints", 12)
    assert find_checkpoint(tmp_path / "checkpoints") == checkpoint_path(tmp_path / "checkpoints", 12)
