"""What a machine lacks for a run is said in one line, before any work; elsewhere it is asked for all the same."""

import importlib.util
import json
import os

import pytest
import torch

from hvg import cli
from hvg.core.quiet import without_line

STUDY = {"title": "S", "question": "?", "varies": ["pose"], "arms": {"a": ["pose=none"], "b": ["pose=skeleton"]}}
SEARCH = ["--multirun", "sweep=optuna", "training.learning_rate=1e-3,2e-3", "metric=loss"]


@pytest.fixture
def words(tiny, tmp_path, monkeypatch):
    """A run on a machine without a GPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "study.yaml").write_text(json.dumps(STUDY | {"base": list(tiny)}))
    return [*tiny, f"output={tmp_path / 'runs'}"]


COMMANDS = {
    "train": ["train"],
    "multirun": ["train", "--multirun", "pose=none,skeleton"],
    "launch": ["launch", "train", "launcher=local"],
    "sweep": ["train", *SEARCH],
    "study": ["study", "small"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_gpu_that_is_not_there_is_missed_at_once(words, tmp_path, capsys, command):
    assert cli.run([*COMMANDS[command], *words, "device=cuda"]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"hvg {COMMANDS[command][0]}: 1 problem")
    assert "device: cuda is not available here" in message and "device=auto" in message
    assert not (tmp_path / "runs").exists()


def test_what_is_started_elsewhere_is_judged_there(words, capsys):
    """A login node has no GPU."""
    asked = ["device=cuda", "logger=wandb", "launcher=slurm", "--dry-run"]
    assert cli.run(["launch", "train", *words, *asked]) == 0
    assert cli.run(["study", "small", *words, *asked]) == 0
    assert capsys.readouterr().out.count("#SBATCH --job-name") == 2


def test_a_logger_that_cannot_be_used_is_missed_at_once(hvg, words, tmp_path, monkeypatch):
    """In a process of its own: W&B remembers for the length of one who is logged in."""
    for key in [key for key in os.environ if key.startswith(("WANDB_", "NETRC"))]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("HOME", str(tmp_path))
    done = hvg("train", *words, "logger=wandb")
    assert done.returncode == 1 and "logger: wandb is not logged in here" in done.stderr
    assert done.stderr.splitlines()[2:] == ["next: `wandb login`"] and not (tmp_path / "runs").exists()


def test_a_library_that_an_optimizer_needs_is_missed_at_once(words, tmp_path, monkeypatch, capsys):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *_: None if name == "bitsandbytes" else found(name, *_)
    )
    assert cli.run(["train", *words, "optimizer=adamw_8bit"]) == 1
    message = capsys.readouterr().err
    assert "optimizer: adamw_8bit needs bitsandbytes, which is not installed here; pip install 'hvg[8bit]'" in message
    assert len(message.splitlines()) == 2 and not (tmp_path / "runs").exists()


def test_of_what_native_code_says_one_line_is_left_out(capfd):
    with without_line("of no use"):
        os.write(2, b"first\nthis is of no use here\nlast\n")
    assert capfd.readouterr().err == "first\nlast\n"
    with pytest.raises(ValueError, match="broken"), without_line("of no use"):
        os.write(2, b"why it broke\n")
        raise ValueError("broken")
    assert capfd.readouterr().err == "why it broke\n"
