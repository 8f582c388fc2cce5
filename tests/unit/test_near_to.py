"""A study's column of how near its arms' frames are to those of one of them."""

from types import SimpleNamespace

import pytest
import torch

from hvg.core.errors import ConfigError, DataError
from hvg.score.evaluation_record import ClipRecord
from hvg.score.measured_clips import save_predictions
from hvg.study.near_to import NearTo
from hvg.study.study_file import load_study
from hvg.testing import tiny_batch

CLIPS = [ClipRecord(clip_id=f"clip{i}", subject=f"clip{i}", azimuths=None) for i in range(2)]
RECORD = {"clips": CLIPS}


def arm(folder, name, seed, off):
    """A finished arm whose frames are grey, off by so much."""
    run = SimpleNamespace(arm=name, seed=seed, folder=folder / f"{name}-seed{seed}")
    frames = torch.full((2, 2, 3, 3, 8, 8), 100 + off, dtype=torch.uint8)
    save_predictions(run.folder / "predictions", tiny_batch(2, 2, 3), frames)
    return run


def test_an_arm_is_as_near_as_its_frames_are(tmp_path):
    runs = [
        arm(tmp_path, "many", 0, 0),
        arm(tmp_path, "few", 0, 16),
        arm(tmp_path, "same", 0, 0),
        arm(tmp_path, "few", 1, 16),
    ]
    near = NearTo("many", [(run, RECORD) for run in runs])
    few = near.score(runs[1], RECORD)
    # 20 log10(255 / 16).
    assert few["value"] == pytest.approx(24.0485, abs=1e-3) and set(few["per_clip"]) == {"clip0", "clip1"}
    assert near.score(runs[2], RECORD)["value"] == 100
    assert (
        near.score(runs[0], RECORD)["value"] is None and "its own frames" in near.score(runs[0], RECORD)["unavailable"]
    )
    assert near.score(runs[3], RECORD)["unavailable"] == "arm many is not finished"
    assert near.metric["name"] == "psnr_to_many" and near.metric["label"] == "PSNR to many"
    assert near.metric["higher_is_better"] and near.metric["unavailable"] is None


def test_frames_that_are_gone_are_named(tmp_path):
    many, few = arm(tmp_path, "many", 0, 0), arm(tmp_path, "few", 0, 1)
    near = NearTo("many", [(many, RECORD), (few, RECORD)])
    (few.folder / "predictions" / "clip1.npy").unlink()
    with pytest.raises(DataError, match=r"few-seed0/predictions/clip1\.npy: no such file"):
        near.score(few, RECORD)


def test_an_arm_that_is_not_there_is_refused(tmp_path):
    text = "title: T\nquestion: Q\nvaries: []\nnear_to: {}\narms: {{many: [], few: []}}\n"
    (tmp_path / "study.yaml").write_text(text.format("manny"))
    with pytest.raises(ConfigError, match=r"near_to: no arm is named 'manny'. .*many"):
        load_study(tmp_path)
    (tmp_path / "study.yaml").write_text(text.format("many"))
    assert load_study(tmp_path).near_to == "many"
