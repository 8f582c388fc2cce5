"""Commands as a user types them, right and wrong."""

import json

import numpy as np
import pytest
import torch

from hvg.checkpoint import latest_checkpoint
from hvg.motion import Motion, save_motion
from hvg.video import read_image, read_video, write_png


@pytest.fixture(scope="module")
def run(hvg, tiny, cache, tmp_path_factory):
    """A trained tiny run."""
    folder = tmp_path_factory.mktemp("runs")
    done = hvg("train", *tiny, cache, f"output={folder}", "name=run", "training.validate_every=1")
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture
def motion(tmp_path):
    angles = torch.linspace(0, 1, 4)[:, None] * torch.tensor([1.0, 0.0, 0.0])
    save_motion(tmp_path / "walk.npz", Motion(rotations={"left_shoulder": angles, "pelvis": angles * 0}))
    return tmp_path / "walk.npz"


@pytest.fixture
def photo(tmp_path):
    write_png(tmp_path / "photo.png", torch.rand(3, 90, 50) * 2 - 1)
    return tmp_path / "photo.png"


def test_a_run_folder_holds_what_the_plan_says(run):
    names = {path.name for path in run.iterdir()}
    assert {"config.yaml", "run.json", "metrics.jsonl", "samples", "checkpoints"} <= names
    record = json.loads((run / "run.json").read_text())
    assert record["packages"]["torch"] and record["hardware"]
    videos = list((run / "samples").glob("*.mp4"))
    assert len(videos) == 2
    assert read_video(videos[0])[0].shape[0] == 2


def test_evaluate_prints_and_writes_every_metric(hvg, run, tmp_path):
    done = hvg("evaluate", f"checkpoint={latest_checkpoint(run / 'checkpoints')}", f"out={tmp_path}")
    assert done.returncode == 0, done.stderr
    values = json.loads((tmp_path / "results.json").read_text())["values"]
    assert set(values) == {"psnr", "psnr_foreground", "ssim", "l1", "mask_iou"}
    assert all(name in done.stdout for name in values)


def test_sample_takes_a_photo_and_a_motion(hvg, run, motion, photo, tmp_path):
    done = hvg(
        "sample",
        f"checkpoint={latest_checkpoint(run / 'checkpoints')}",
        f"reference={photo}",
        f"motion={motion}",
        "camera=orbit",
        "views=3",
        "frames=4",
        f"out={tmp_path / 'out.mp4'}",
    )
    assert done.returncode == 0, done.stderr
    frames, _ = read_video(tmp_path / "out.mp4")
    assert frames.shape[0] == 4
    assert "alpha" in done.stdout
    assert (tmp_path / "out-signals.mp4").exists()


@pytest.mark.parametrize(
    "fault", ["missing checkpoint", "unreadable image", "joints", "unknown option", "missing option"]
)
def test_bad_input_is_one_line_that_names_the_file(hvg, run, motion, photo, tmp_path, fault):
    words = {
        "checkpoint": latest_checkpoint(run / "checkpoints"),
        "reference": photo,
        "motion": motion,
        "out": tmp_path / "out.mp4",
    }
    named = "nothing"
    if fault == "missing checkpoint":
        words["checkpoint"] = named = tmp_path / "no.ckpt"
    if fault == "unreadable image":
        photo.write_bytes(b"no image")
        named = photo
    if fault == "joints":
        named = motion
        np.savez(motion, joints=np.zeros((4, 7, 3), dtype=np.float32))
    if fault == "unknown option":
        words["refrence"], named = photo, "reference"
    if fault == "missing option":
        del words["motion"]
        named = "motion"
    done = hvg("sample", *(f"{key}={value}" for key, value in words.items()))
    assert done.returncode == 1
    assert str(named) in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.mp4").exists()


def test_show_writes_a_contact_sheet(hvg, tiny, tmp_path):
    done = hvg("show", *tiny, "index=1", f"out={tmp_path / 'sheet.png'}")
    assert done.returncode == 0, done.stderr
    sheet, _ = read_image(tmp_path / "sheet.png")
    assert sheet.shape[1] > 200 and sheet.shape[2] > 700
    wrong = hvg("show", *tiny, "index=99")
    assert wrong.returncode == 1 and "2 clips" in wrong.stderr


def test_multirun_trains_every_combination(hvg, tiny, cache, tmp_path):
    done = hvg(
        "train",
        "--multirun",
        *tiny,
        cache,
        "pose=none,skeleton",
        f"output={tmp_path}",
        "name=sweep",
        "training.steps=1",
    )
    assert done.returncode == 0, done.stderr
    runs = sorted((tmp_path / "sweep").iterdir())
    assert [("none" in run.name, "skeleton" in run.name) for run in runs] == [(True, False), (False, True)]
    assert all(latest_checkpoint(run / "checkpoints") for run in runs)


def test_prepared_clips_equal_those_made_on_the_fly(hvg, tiny, tmp_path):
    from hvg.config import compose
    from hvg.data import load_with_signals
    from hvg.prepare import conditioner_signals, open_clips

    done = hvg("prepare", "synthetic", *tiny, f"data.cache={tmp_path}", "jobs=2")
    assert done.returncode == 0, done.stderr
    stored, live = compose([*tiny, f"data.cache={tmp_path}"]), compose(tiny)
    signals = conditioner_signals([live])
    a, b = (load_with_signals(open_clips(c, "test", signals), 1, signals) for c in (stored, live))
    assert torch.equal(a.frames, b.frames) and torch.equal(a.alpha, b.alpha)
    assert torch.equal(a.reference.frames, b.reference.frames)
    assert torch.equal(a.cameras.world_to_camera, b.cameras.world_to_camera)
    assert torch.equal(a.body.joints, b.body.joints)
    for key in signals:
        assert torch.equal(a.signals[key], b.signals[key])


def test_an_unknown_command_is_named(hvg):
    done = hvg("trian")
    assert done.returncode == 2 and "train" in done.stderr
