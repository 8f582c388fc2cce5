"""Frames that a codec joins in time, from training to a video: resumed, scored, sampled in windows, and as a pipeline."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from motion_files import save_motion
from PIL import Image
from untrained_checkpoints import write_untrained

from hvg import cli
from hvg.config.command_options import ExportOptions, SampleOptions
from hvg.config.composition import compose
from hvg.core.checkpoint import Checkpoint, checkpoint_path
from hvg.data.prepare import prepare
from hvg.geometry.motion import Motion
from hvg.pipeline import HumanVideoPipeline
from hvg.sample.export import export
from hvg.sample.generate import open_request
from hvg.train.run import train

STEPS = 4
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A cut-out photo and a motion of 14 frames, as files."""
    folder = tmp_path_factory.mktemp("inputs")
    photo = torch.rand(4, 90, 50, generator=torch.Generator().manual_seed(0))
    photo[3] = 1.0
    photo[3, :10] = 0.0
    Image.fromarray((photo * 255).byte().permute(1, 2, 0).numpy(), "RGBA").save(folder / "person.png")
    angles = torch.linspace(0, 1, 14)[:, None] * torch.tensor([1.0, 0.0, 0.0])
    save_motion(folder / "walk.npz", Motion(rotations={"left_shoulder": angles, "pelvis": angles * 0}))
    return folder / "person.png", folder / "walk.npz"


@pytest.fixture(scope="module")
def words(tiny, cache):
    """Overrides of a run whose steps see 5 of 9 frames, and whose test clips are sampled whole."""
    words = [*tiny, cache, "codec=pixel_time", "pose=skeleton", "dataset.frames=9", "data.frames=5", "data.workers=0"]
    words += [f"training.steps={STEPS}", f"training.keep_last={STEPS}", "training.precision='32'"]
    words += ["appearance.dropout=0.1", "guidance.value=1.5", "data.frame_index=window"]
    prepare([compose(words)], ("train", "val", "test"), jobs=1)
    return words


def trained(words, folder, *more):
    """A run's losses by step, and every tensor of its last checkpoint."""
    train(compose([*words, f"output={folder}", "name=run", *more]), log=lambda line: None)
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    last = Checkpoint(checkpoint_path(folder / "run" / "checkpoints", STEPS))
    state = {f"{part}/{k}": v for part in ("weights", "exp_avg", "average") for k, v in last.section(part).items()}
    return {row["step"]: row["loss"] for row in rows if "loss" in row}, state


@pytest.fixture(scope="module")
def run(words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return folder, *trained(words, folder)


def test_a_run_that_was_resumed_ends_in_the_same_bits(words, run, tmp_path):
    folder, losses, state = run
    assert list(losses) == list(range(STEPS)) and all(map(math.isfinite, losses.values()))
    middle = checkpoint_path(folder / "run" / "checkpoints", STEPS // 2)
    resumed, again = trained(words, tmp_path, f"resume={middle}")
    assert resumed == {step: loss for step, loss in losses.items() if step >= STEPS // 2}
    assert all(torch.equal(again[key], state[key]) for key in state)


@pytest.mark.parametrize("sampler", ["temporal", "progressive"])
def test_whole_clips_are_scored(run, tmp_path, sampler, capsys):
    windows = ["sampler.frames=2", *(["sampler.overlap=1"] if sampler == "temporal" else ["sampler.view_frames=1"])]
    out = tmp_path / sampler
    asked = [f"checkpoint={run[0] / 'run'}", f"sampler={sampler}", *windows, f"out={out}"]
    assert cli.run(["evaluate", *asked]) == 0
    assert "padded" not in capsys.readouterr().out
    results = json.loads((out / "results.json").read_text())
    assert math.isfinite(results["values"]["psnr"]["value"])
    made = list((out / "predictions").rglob("*.npy"))
    assert made and all(np.load(path).shape[:2] == (2, 9) for path in made)


@pytest.mark.parametrize("frames", [14, 5, 1])
def test_a_video_has_the_frames_that_were_asked_for(run, inputs, tmp_path, frames, capsys):
    photo, motion = inputs
    words = [f"checkpoint={run[0] / 'run'}", f"reference={photo}", f"motion={motion}", f"frames={frames}", "views=2"]
    plan = ["sampler=temporal", "sampler.frames=2", "sampler.overlap=1", "images=true", f"out={tmp_path / 'videos'}"]
    assert cli.run(["sample", *words, *plan]) == 0
    said = capsys.readouterr()
    assert ("14 frames are padded to 17" in said.out + said.err) == (frames == 14)
    for view in ("view-00", "view-01"):
        assert len(list((tmp_path / "videos" / "images" / view).glob("*.png"))) == frames


def sampled(checkpoint, inputs, **given):
    """What `hvg sample` generates."""
    options = SampleOptions(checkpoint=checkpoint, reference=inputs[0], motion=inputs[1], **given)
    request = open_request(options, [])
    evaluation = request.config.evaluation
    return request.system.generate(request.batch, num_steps=evaluation.steps, seed=evaluation.seed)[0]


def test_an_export_generates_what_the_run_does(run, inputs, tmp_path):
    checkpoint = run[0] / "run"
    list(export(ExportOptions(checkpoint=checkpoint, out=tmp_path / "model")))
    pipeline = HumanVideoPipeline.from_pretrained(tmp_path / "model")
    pipeline.set_progress_bar_config(disable=True)
    expected = sampled(checkpoint, inputs, frames=7)
    assert expected.shape[1] == 7
    assert torch.equal(pipeline(*inputs, num_frames=7, output_type="pt").frames, expected)


def test_an_export_holds_wan_s_vae(tiny, wan_folder, inputs, tmp_path):
    """Made where the folder that it started from is gone afterwards."""
    source = shutil.copytree(wan_folder, tmp_path / "wan")
    plain = [word for word in tiny if "image_size" not in word]
    config = compose([*plain, "dataset.image_size=64", "codec=wan_vae", f"codec.path={source}", "pose=skeleton"])
    checkpoint = tmp_path / "step-0000001.ckpt"
    write_untrained(config, checkpoint, 0.02)
    folder = tmp_path / "model"
    expected = sampled(checkpoint, inputs, weights="raw", frames=6)
    list(export(ExportOptions(checkpoint=checkpoint, out=folder, weights="raw")))
    shutil.rmtree(source)
    pipeline = HumanVideoPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    assert type(pipeline.vae).__name__ == "AutoencoderKLWan"
    assert torch.equal(pipeline(*inputs, num_frames=6, output_type="pt").frames, expected)
