"""Checkpoints whose signature is right and whose content is not: anyone can sign one. Each is refused in one line."""

import hashlib
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from hvg.config.composition import compose
from hvg.core.checkpoint import MANIFEST, Checkpoint, checkpoint_path
from hvg.core.errors import HvgError
from hvg.model.load import load_system
from hvg.train.run import train

STEP = 1


@pytest.fixture(scope="module")
def trained(tiny, cache, tmp_path_factory):
    """Words of a run, and its checkpoint of step 1 of 1."""
    folder = tmp_path_factory.mktemp("resigned")
    words = [*tiny, cache, "device=cpu", f"output={folder}", "name=run", "logger=none", "training.validate_every=0"]
    train(compose([*words, f"training.steps={STEP}"]), log=lambda line: None)
    return words, checkpoint_path(folder / "run" / "checkpoints", STEP)


def signed(path, change_state=None, change_tensors=None):
    """Changes a checkpoint and signs it. change_state(plain state), change_tensors(name -> tensor)."""
    content = json.loads((path / MANIFEST).read_text())
    content.pop("sha256")
    if change_state is not None:
        state = plain(content["state"])
        change_state(state)
        content["state"] = packed(state)
    if change_tensors is not None:
        ((name, facts),) = content["files"].items()
        tensors = load_file(path / name)
        change_tensors(tensors)
        save_file(tensors, path / name)
        data = (path / name).read_bytes()
        facts.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    signature = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    (path / MANIFEST).write_text(json.dumps({**content, "sha256": signature}))


def plain(tree):
    ((kind, value),) = tree.items()
    if kind == "dict":
        return {key: plain(item) for key, item in value}
    return [plain(item) for item in value] if kind in ("list", "tuple") else value


def packed(value):
    if isinstance(value, dict):
        return {"dict": [[key, packed(item)] for key, item in value.items()]}
    return {"list": [packed(item) for item in value]} if isinstance(value, list) else {"value": value}


def progress(state):
    return state["loops"]["fit_loop"]["epoch_loop.batch_progress"]


STATES = {
    "no step": (lambda s: s.pop("global_step"), "global_step: field required"),
    "step of words": (
        lambda s: s.update(global_step="seven"),
        "global_step: input should be a valid integer, got 'seven'",
    ),
    "truth as step": (lambda s: s.update(global_step=True), "global_step: input should be a valid integer, got True"),
    "step below 0": (lambda s: s.update(global_step=-1), "global_step: input should be greater than or equal to 0"),
    "no loops": (lambda s: s.pop("loops"), "loops: field required"),
    "loops of numbers": (lambda s: s.update(loops=3), "loops: input should be a valid dictionary"),
    "no optimizer": (lambda s: s.pop("optimizer"), "optimizer: field required"),
    "optimizer of words": (lambda s: s["optimizer"].update(step="x"), "optimizer.step: input should be a valid number"),
    "endless optimizer": (
        lambda s: s["optimizer"].update(step=float("inf")),
        "optimizer.step: input should be a finite number",
    ),
    "no config": (lambda s: s.pop("config"), "config: field required"),
    "config of numbers": (lambda s: s.update(config=5), "config: input should be a valid string, got 5"),
    "no schedule": (lambda s: s.update(lr_schedulers=[]), "lr_schedulers: list should have at least 1 item"),
    "schedule": (
        lambda s: s["lr_schedulers"][0].update(last_epoch=None),
        "lr_schedulers.0.last_epoch: input should be",
    ),
    "callbacks": (lambda s: s.update(callbacks=[]), "callbacks: input should be a valid dictionary"),
    "counters": (lambda s: progress(s).pop("total"), "loops.fit_loop.epoch_loop.batch_progress.total is missing"),
    "counter": (lambda s: progress(s)["current"].update(ready="1"), "current.ready: expected a number, got '1'"),
}


def first(tensors, section):
    return next(name for name, x in tensors.items() if name.startswith(f"{section}/") and x.ndim > 1)


def reshaped(tensors):
    name = first(tensors, "exp_avg")
    tensors[name] = tensors[name].flatten()


def whole_moments(tensors):
    name = first(tensors, "average")
    tensors[name] = tensors[name].to(torch.int64)


def whole_weights(tensors):
    name = first(tensors, "weights")
    tensors[name] = tensors[name].to(torch.int64)


TENSORS = {
    "moments of another shape": (reshaped, "its weight ("),
    "moments of whole numbers": (whole_moments, "is I64"),
    "weights of whole numbers": (whole_weights, "is int64, the model's float32"),
}


def refused(action) -> str:
    with pytest.raises(HvgError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", [*STATES, *TENSORS])
def test_a_signed_checkpoint_of_another_content_is_one_line(trained, tmp_path, name):
    words, path = trained
    odd = tmp_path / path.name
    shutil.copytree(path, odd)
    change, message = {**STATES, **TENSORS}[name]
    signed(odd, **{"change_state" if name in STATES else "change_tensors": change})
    Checkpoint(odd)
    asked = compose([*words, "name=other", f"output={tmp_path}", "training.steps=2", f"resume={odd}"])
    said = refused(lambda: train(asked, log=lambda line: None))
    assert str(odd) in said and message in said


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no config", "config: expected the text of a configuration, got None"),
        ("config of numbers", "config: expected the text of a configuration, got 5"),
        ("weights of whole numbers", "is int64, the model's float32"),
    ],
)
def test_what_is_sampled_from_is_judged_as_well(trained, tmp_path, name, message):
    odd = tmp_path / trained[1].name
    shutil.copytree(trained[1], odd)
    change = {**STATES, **TENSORS}[name][0]
    signed(odd, **{"change_state" if name in STATES else "change_tensors": change})
    assert message in refused(lambda: load_system(odd, "raw"))
