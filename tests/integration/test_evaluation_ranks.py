"""Processes that share an evaluation come to what one process comes to, to the last bit."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from forks import start_ranks
from golden_networks import write_network_files
from PIL import Image

from hvg import cli
from hvg.core.checkpoint import latest_checkpoint
from hvg.score.evaluation_record import read_measurements, read_record


def shared(*words: str) -> subprocess.CompletedProcess:
    """``hvg evaluate`` in two processes."""
    done = [process.finish() for process in start_ranks(2, "hvg.cli", "evaluate", *words)]
    stdout, stderr = "".join(one.stdout for one in done), "".join(one.stderr for one in done)
    code = next((one.returncode for one in done if one.returncode), 0)
    return subprocess.CompletedProcess(words, code, stdout, stderr)


def assert_same(alone: Path, together: Path) -> None:
    """The records hold the same clips and numbers, and the same was kept of every clip."""
    first, second = read_record(alone), read_record(together)
    assert first["clips"] == second["clips"] and first["values"] == second["values"]
    assert first.get("problems") == second.get("problems") and first["protocol"] == second["protocol"]
    assert any(score["value"] is not None for score in first["values"].values())
    assert first.get("precision") == second.get("precision")
    for label in first["values"]:
        one, other = read_measurements(alone, first, label), read_measurements(together, second, label)
        assert list(one) == list(other)
        for name, arrays in one.items():
            assert all(np.array_equal(array, other[name][key], equal_nan=True) for key, array in arrays.items())


@pytest.fixture(scope="module")
def run(hvg, tiny, cache, tmp_path_factory):
    """A trained tiny run with two test clips."""
    folder = tmp_path_factory.mktemp("runs")
    words = [word for word in tiny if not word.startswith("dataset.clips_per_subject")]
    words += ["dataset.clips_per_subject=3", "data.eval_batch_size=1", "training.steps=1"]
    # With a fit, whose errors have to be the same on every rank.
    words += ["training.precision=bf16", "fit=typical"]
    done = hvg("train", *words, cache, f"output={folder}", "name=run")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_ranks_share_the_clips_of_a_checkpoint(run, tmp_path, capsys):
    words = [f"checkpoint={latest_checkpoint(run / 'checkpoints')}", "evaluation.steps=2", "clips=2"]
    assert cli.run(["evaluate", *words, f"out={tmp_path / 'alone'}"]) == 0
    done = shared(*words, f"out={tmp_path / 'together'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("protocol basic/v2") == done.stdout.count("per-clip values:") == 1
    assert_same(tmp_path / "alone", tmp_path / "together")
    predictions = {path.name: path.read_bytes() for path in (tmp_path / "alone" / "predictions").iterdir()}
    assert len(predictions) == 2
    assert predictions == {path.name: path.read_bytes() for path in (tmp_path / "together" / "predictions").iterdir()}


def save_clip(folder: Path, seed: int) -> None:
    folder.mkdir(parents=True)
    frames = np.random.default_rng(seed).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number}.png")


def test_ranks_share_the_clips_of_folders(tmp_path, capsys):
    truth, made = tmp_path / "truth", tmp_path / "made"
    for clip in range(5):
        save_clip(truth / f"clip{clip}", clip)
        save_clip(made / f"clip{clip}", clip + 10)
    (made / "clip1" / "2.png").unlink()
    (made / "clip2" / "0.png").write_bytes(b"")
    words = [f"predictions={made}", f"reference={truth}"]
    assert cli.run(["evaluate", *words, f"out={tmp_path / 'alone'}"]) == 1
    done = shared(*words, f"out={tmp_path / 'together'}")
    assert done.returncode == 1
    assert done.stderr.count("2 not scored:") == done.stdout.count("protocol basic/v2") == 1
    assert_same(tmp_path / "alone", tmp_path / "together")
    problems = read_record(tmp_path / "together").get("problems", [])
    assert [problem.split(":")[0] for problem in problems] == ["clip1", "clip2"]


@pytest.mark.long
def test_ranks_share_the_features_of_sets(tmp_path, capsys):
    networks = write_network_files(tmp_path / "networks", ["inception"])
    for clip in range(3):
        save_clip(tmp_path / "truth" / f"clip{clip}", clip)
        save_clip(tmp_path / "made" / f"clip{clip}", clip + 10)
    words = [
        *(f"predictions={tmp_path / 'made'}", f"reference={tmp_path / 'truth'}"),
        *(f"evaluation.networks={networks}", "evaluation.any_network=true"),
        *("protocol.metrics.fid.name=fid", "protocol.metrics.kid.name=kid"),
    ]
    assert cli.run(["evaluate", *words, f"out={tmp_path / 'alone'}"]) == 0
    done = shared(*words, f"out={tmp_path / 'together'}")
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "alone", tmp_path / "together")
    values = read_record(tmp_path / "together")["values"]
    assert values["fid"]["value"] is not None and values["kid"]["value"] is not None
