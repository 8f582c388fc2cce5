"""A run goes on with the settings that it was trained with; what may change, changes, and it is written down."""

import json
import os
import signal
import time

import pytest
import yaml

from hvg.config.changes import changes, earlier_config, judged_changes
from hvg.config.composition import SAMPLING_KEYS, compose
from hvg.config.settings import RunConfig
from hvg.core.checkpoint import Checkpoint, checkpoint_path
from hvg.core.errors import CheckpointError, ConfigError, HvgError
from hvg.core.outputs import held_folder
from hvg.model import load
from hvg.model.checkpoint_writing import Entry, write_checkpoint
from hvg.parts.continued import Continued
from hvg.train.run import train


def trained(words, *more) -> list[str]:
    """Trains in this process; what it said."""
    said: list[str] = []
    train(compose([*words, *more]), log=said.append)
    return said


@pytest.fixture
def words(tiny, cache, tmp_path):
    """A run that stands at step 2 of 2."""
    words = (*tiny, cache, "device=cpu", f"output={tmp_path}", "name=cc", "training.checkpoint_every=1")
    trained(words, "pose=bone_map", "training.steps=2")
    return words


def refused(action) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        action()
    return {problem.path: problem.message for problem in caught.value.problems}


def test_another_experiment_is_not_continued(words, tmp_path):
    run = tmp_path / "cc"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    other = ("pose=smpl_normal", "seed=7", "training.learning_rate=1e-4", "training.steps=4", "logger=none")
    found = refused(lambda: trained(words, *other, "resume=auto"))
    assert list(found) == ["seed", "training.learning_rate", "pose", "resume"]
    assert (found["pose"], found["seed"]) == ("was bone_map, now smpl_normal.", "was 0, now 7.")
    assert found["training.learning_rate"] == "was 0.003, now 0.0001."
    assert "resume_changes=[seed,training.learning_rate,pose]" in found["resume"] and "step-0000002" in found["resume"]
    # From its checkpoint under another name it is the same; and so it is where nothing is left to train.
    path = checkpoint_path(run / "checkpoints", 2)
    assert list(refused(lambda: trained(words, *other, "name=dd", f"resume={path}"))) == list(found)
    finished = refused(lambda: trained(words, "seed=7", "training.steps=2", "resume=auto", "resume_changes=[seed]"))
    assert list(finished) == ["seed", "resume"] and "nothing is left to train" in finished["resume"]
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_what_cannot_matter_goes_through_and_is_recorded(words, tmp_path):
    more = ("training.steps=3", "logger=none", "training.log_every=1", "data.workers=1", "sampler=view")
    said = trained(words, *more, "resume=auto")
    assert "training.steps: was 2, now 3" in said[0] and "logger.name: was csv, now none" in said[0]
    assert said[-1] == f"trained 1 steps from step 2 on; the run is in {tmp_path / 'cc'}"
    first, second = json.loads((tmp_path / "cc" / "run.json").read_text())["starts"]
    assert (first["step"], first["from"], first["changed"]) == (0, None, {})
    assert (second["step"], second["changed"]["training.steps"]) == (2, [2, 3])
    assert second["changed"]["sampler"] == ["single", "view"] and second["commit"] and second["time"]
    kept = [yaml.safe_load((tmp_path / "cc" / start["config"]).read_text()) for start in (first, second)]
    assert [config["training"]["steps"] for config in kept] == [2, 3]
    assert (tmp_path / "cc" / second["config"]).read_text() == (tmp_path / "cc" / "config.yaml").read_text()
    # A schedule that ends earlier is another one; and where nothing is left to do, that is said.
    assert "training.steps" in refused(
        lambda: judged_changes(compose(["training.steps=9"]), compose(["training.steps=8"]), "a.ckpt", step=3)
    )
    said = trained(words, "training.steps=1", "resume=auto")
    path = checkpoint_path(tmp_path / "cc" / "checkpoints", 3)
    assert said == [f"nothing to train: {path} is at step 3, training.steps is 1"]


def test_a_run_builds_its_system_once_and_opens_its_checkpoint_once(words, monkeypatch):
    """All of a checkpoint's files are read to open it, and a system of billions of weights takes minutes to build."""
    built, opened = [], []
    build, verify = load.build_parts, Checkpoint._verify
    monkeypatch.setattr(load, "build_parts", lambda *given: built.append(1) or build(*given))
    monkeypatch.setattr(Checkpoint, "_verify", lambda self: opened.append(self.path.name) or verify(self))
    trained(words, "pose=bone_map", "training.steps=3", "resume=auto")
    assert (len(built), opened) == (1, ["step-0000002.ckpt"])
    # Nothing is left to train: the checkpoint is judged, and nothing is built.
    trained(words, "pose=bone_map", "training.steps=3", "resume=auto")
    assert (len(built), opened[1:]) == (1, ["step-0000003.ckpt"])
    trained(words, "pose=bone_map", "training.steps=1", "name=dd")
    assert (len(built), len(opened)) == (2, 2)


def test_what_is_named_changes_from_there_on(words, tmp_path):
    more = ("training.learning_rate=1e-4", "training.betas=[0.8,0.9]", "training.steps=3", "training.weight_decay=0.5")
    allowed = "resume_changes=[training.learning_rate,training.betas,training.weight_decay]"
    trained(words, *more, "resume=auto", allowed)
    # The resume that follows has nothing more to change.
    trained(words, *more, "resume=auto", "training.steps=4")
    state = Checkpoint(checkpoint_path(tmp_path / "cc" / "checkpoints", 4)).state
    (group,), (schedule,) = state["optimizer"]["groups"], state["lr_schedulers"]
    assert (group["betas"], group["weight_decay"]) == ((0.8, 0.9), 0.5)
    assert schedule["base_lrs"] == [1e-4] and 0 < group["lr"] <= 1e-4
    starts = json.loads((tmp_path / "cc" / "run.json").read_text())["starts"]
    assert starts[1]["changed"]["training.learning_rate"] == [0.003, 0.0001]
    assert list(starts[2]["changed"]) == ["training.steps"]
    assert [start["config"] for start in starts] == [f"configs/000{number}.yaml" for number in range(3)]


MOMENTUM = """
import torch
from hvg.plugin import Optimizer

class Part(Optimizer):
    moments = ("momentum_buffer",)

    def make(self, groups, learning_rate):
        return torch.optim.SGD(groups, lr=learning_rate, momentum=0.9)
"""


def test_another_optimizer_is_meant_and_goes_on_with_averages_that_both_keep(words, tmp_path, package):
    """Of a checkpoint that an earlier version wrote, too, which knew no other optimiser than AdamW."""
    path = checkpoint_path(tmp_path / "cc" / "checkpoints", 2)
    old = Checkpoint(path)
    entries = [
        Entry.of(f"{section}/{name}", old.tensor(f"{section}/{name}"))
        for section, names in old.sections().items()
        for name in names
        if section != "state"
    ]
    state = {**old.state, "adam": {**old.state["optimizer"], "step": 2.0}}
    del state["optimizer"]
    write_checkpoint(path, state, entries)
    more = ("pose=bone_map", "training.steps=3", "resume=auto", "optimizer=adamw")
    assert list(refused(lambda: trained(words, *more))) == ["optimizer", "resume"]
    said = trained(words, *more, "resume_changes=[optimizer]")
    assert "optimizer: was adamw_fused, now adamw" in said[0]
    found = Checkpoint(checkpoint_path(tmp_path / "cc" / "checkpoints", 3))
    assert found.state["optimizer"]["step"] == 3 and {"exp_avg", "exp_avg_sq", "average"} < found.sections().keys()
    package({"optimizer.momentum": MOMENTUM})
    more = ("pose=bone_map", "training.steps=4", "resume=auto", "optimizer=momentum", "resume_changes=[optimizer]")
    with pytest.raises(CheckpointError, match=r"was trained by another optimiser: it holds no momentum_buffer; choose"):
        trained(words, *more)


def test_settings_are_compared_by_what_they_mean():
    now = compose(["pose=skeleton", "training.steps=5"])
    raw = now.resolved()
    # A checkpoint of a version that did not have some settings yet.
    del raw["resume_changes"], raw["training"]["max_loss_ratio"], raw["pose"]["widths"], raw["dataset"]["seed"]
    raw["training"]["learning_rate"] = 3e-3
    earlier = earlier_config(yaml.safe_dump(raw), "old.ckpt")
    assert changes(earlier, now) == []
    later = compose(["pose=skeleton", "training.steps=5", "training.max_loss_ratio=3", "+slots.outline.name=skeleton"])
    assert [str(change) for change in changes(earlier, later)] == [
        "training.max_loss_ratio: was null, now 3.0",
        "slots.outline: was null, now skeleton",
    ]
    raw["training"]["invented"] = 3
    found = refused(lambda: earlier_config(yaml.safe_dump(raw), "old.ckpt"))
    assert list(found) == ["old.ckpt: training.invented"] and "unknown key" in found["old.ckpt: training.invented"]


def test_a_name_that_is_no_setting_is_found():
    now = compose(["seed=3", "resume_changes=[seed,traning]"])
    found = refused(lambda: judged_changes(compose([]), now, "a.ckpt"))
    assert list(found) == ["resume_changes"] and "Did you mean 'training'?" in found["resume_changes"]


def test_a_step_sees_as_many_clips_however_they_are_shared_out():
    was, now = compose(["data.batch_size=4"]), compose(["data.batch_size=1", "training.accumulate=2"])
    assert len(judged_changes(was, now, "a.ckpt", clips=(4, 4))) == 2
    assert list(refused(lambda: judged_changes(was, now, "a.ckpt", clips=(4, 2)))) == [
        "data.batch_size",
        "training.accumulate",
        "resume",
    ]


def test_what_can_change_after_training_may_change_on_a_resume():
    marked = {
        name: mark
        for name, field in RunConfig.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, Continued)
    }
    assert {name for name, mark in marked.items() if mark is Continued.SAMPLING} | {"device"} == set(SAMPLING_KEYS)


@pytest.mark.long
def test_a_run_goes_on_from_an_earlier_checkpoint_and_keeps_the_later_ones(words, tmp_path):
    """Each checkpoint that it saved was removed at once, as older than those that lay there."""
    run = tmp_path / "cc"
    trained(words, "pose=bone_map", "training.steps=4", "training.keep_last=2", "resume=auto")
    path, before = checkpoint_path(run / "checkpoints", 3), Checkpoint(checkpoint_path(run / "checkpoints", 4))
    said = trained(words, "pose=bone_map", "training.steps=5", "training.keep_last=2", f"resume={path}")
    assert "set aside, since the run goes on from step 3: later-step-0000004.ckpt" in said
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == [
        "later-step-0000004.ckpt",
        "step-0000004.ckpt",
        "step-0000005.ckpt",
    ]
    kept = Checkpoint(run / "checkpoints" / "later-step-0000004.ckpt")
    assert kept.state["global_step"] == before.state["global_step"] == 4


@pytest.mark.long
def test_a_whole_checkpoint_under_a_later_name_is_continued(words, tmp_path):
    run = tmp_path / "cc"
    checkpoint_path(run / "checkpoints", 2).rename(checkpoint_path(run / "checkpoints", 7))
    said = trained(words, "pose=bone_map", "training.steps=3", "resume=auto")
    assert said[-1] == f"trained 1 steps from step 2 on; the run is in {run}"
    assert not any(path.name.startswith("damaged") for path in (run / "checkpoints").iterdir())
    assert Checkpoint(checkpoint_path(run / "checkpoints", 3)).state["global_step"] == 3


@pytest.mark.long
def test_a_second_process_in_the_run_folder_is_refused(words, tmp_path):
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        with held_folder(tmp_path / "cc", "name"):
            os.write(told, b"1")
            time.sleep(600)
    os.read(ready, 1)
    try:
        with pytest.raises(HvgError, match=f"cc is in use by process {child} on "):
            trained(words, "pose=bone_map", "training.steps=3", "resume=auto")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
