"""A study whose arm starts from a run that is trained first: trained, resumed, failed, kept and merged."""

import json
from pathlib import Path

import pytest
import torch

from hvg.core.checkpoint import Checkpoint

pytestmark = pytest.mark.long


@pytest.fixture
def study(tmp_path, tiny):
    """Writes the study; ``need`` are the words of what one arm starts from."""

    def write(*need: str) -> Path:
        folder = tmp_path / "begun"
        folder.mkdir(exist_ok=True)
        text = {
            "title": "Begun",
            "question": "What is a start worth?",
            "varies": ["checkpoint"],
            "base": [*tiny, "evaluation.clips=1", f"data.cache={tmp_path / 'cache'}"],
            "arms": {"fresh": [], "begun": ["checkpoint=${needs.base}"]},
            "needs": {"base": list(need)},
            "seeds": [0, 1],
        }
        (folder / "study.yaml").write_text(json.dumps(text))
        return folder

    return write


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    return Checkpoint(run / "checkpoints" / f"step-{step:07d}.ckpt").section("weights")


def test_an_arm_starts_from_what_was_trained_first(hvg, study, tmp_path):
    folder, out = study("training.steps=3", "training.learning_rate=0.01"), tmp_path / "out"
    words = ("study", str(folder), f"output={out}")
    done = hvg(*words, "keep=true")
    assert done.returncode == 0, done.stderr
    found = json.loads((out / "results.json").read_text())
    assert [arm["status"] for arm in found["arms"]] == ["done", "done"]
    (need,) = found["needs"]
    assert [one["seed"] for one in need["seeds"]] == [0, 1] and need["overrides"][0] == "training.steps=3"
    assert "Trained first: base" in (out / "report.html").read_text()
    for seed in (0, 1):
        base = out / "needs" / f"base-seed{seed}"
        assert (base / "trained.json").exists() and not (base / "results.json").exists()
        starts = json.loads((out / f"begun-seed{seed}" / "run.json").read_text())["starts"]
        assert len(starts) == 1 and starts[0]["step"] == 0
        # Of one seed and so of the same first weights, two runs of two steps; only one of them had three before.
        begun, fresh = (weights(out / f"{arm}-seed{seed}", 2) for arm in ("begun", "fresh"))
        before = weights(base, 3)
        name = next(name for name in before if name.endswith("conv_in.weight"))
        assert (begun[name] - before[name]).norm() < (fresh[name] - before[name]).norm()

    # Nothing is done twice.
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("**/checkpoints/*/manifest.json")}
    assert hvg(*words).returncode == 0
    assert stamps == {path: path.stat().st_mtime_ns for path in out.glob("**/checkpoints/*/manifest.json")}

    merged = hvg("study", str(folder), f"output={out}", "merge=true")
    assert merged.returncode == 0, merged.stderr
    both = json.loads((out / "merged" / "results.json").read_text())
    assert [one["seed"] for one in both["needs"][0]["seeds"]] == [0, 1]
    assert all(arm["num_seeds"] == 2 and len(arm["seeds"]) == 2 for arm in both["arms"])


def test_a_need_that_fails_fails_its_arm_and_no_other_and_goes_on_when_it_is_mended(hvg, study, tmp_path):
    folder, out = study("checkpoint=nowhere"), tmp_path / "out"
    words = ("study", str(folder), f"output={out}", "seeds=[0]")
    done = hvg(*words)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "need base (seed 0): CheckpointError: nowhere" in done.stderr
    assert "begun (seed 0): need base, which trains for it, failed: CheckpointError: nowhere" in done.stderr
    arms = {arm["name"]: arm for arm in json.loads((out / "results.json").read_text())["arms"]}
    assert arms["fresh"]["status"] == "done" and arms["begun"]["status"] == "failed"
    assert not (out / "begun-seed0").exists()
    study("training.steps=1")
    mended = hvg(*words, "fresh=true")
    assert mended.returncode == 0, mended.stderr
