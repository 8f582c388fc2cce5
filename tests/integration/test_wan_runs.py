"""A transformer trains, is scored, sampled and exported as the UNet is; resumed, a run ends in the bits of one that went on."""

import json

import pytest
import torch
from motion_files import save_motion
from PIL import Image
from train_runs import train_together

from hvg import cli
from hvg.config.composition import compose
from hvg.core.checkpoint import Checkpoint, checkpoint_path, latest_checkpoint
from hvg.cost.forecast import forecast
from hvg.data.prepare import prepare
from hvg.geometry.motion import Motion
from hvg.model.load import build_system

STEPS = 4
SECTIONS = ("weights", "exp_avg", "exp_avg_sq", "average")
SMALL = ("width=48", "heads=2", "layers=2", "feed_forward=96", "view_blocks=[1]")


@pytest.fixture(scope="module")
def words(tiny, cache) -> tuple[str, ...]:
    own = [word for word in tiny if not word.startswith("backbone.")]
    words = (*own, cache, "backbone=wan_tiny", "codec=pixel", *(f"backbone.{word}" for word in SMALL), "device=cpu")
    prepare([compose(words)], ("train", "val"), jobs=1)
    return words


def test_it_trains_is_scored_sampled_and_exported(words, tmp_path, capsys):
    assert cli.run(["train", *words, f"output={tmp_path}", "name=run", "training.validate_every=1"]) == 0
    run = tmp_path / "run"
    losses = [json.loads(line).get("loss") for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len([loss for loss in losses if loss is not None]) == 2
    assert cli.run(["evaluate", f"checkpoint={run}", f"out={tmp_path / 'scores'}"]) == 0
    assert json.loads((tmp_path / "scores/results.json").read_text())
    Image.new("RGBA", (50, 90), (200, 60, 20, 255)).save(tmp_path / "person.png")
    turn = torch.linspace(0, 1, 3)[:, None] * torch.tensor([1.0, 0.0, 0.0])
    save_motion(tmp_path / "walk.npz", Motion(rotations={"left_shoulder": turn, "pelvis": turn * 0}))
    given = (f"reference={tmp_path / 'person.png'}", f"motion={tmp_path / 'walk.npz'}", "views=2")
    assert cli.run(["sample", f"checkpoint={run}", *given, f"out={tmp_path / 'videos'}"]) == 0
    assert len([*(tmp_path / "videos").glob("*.mp4")]) >= 2
    assert cli.run(["export", f"checkpoint={run}", f"out={tmp_path / 'model'}"]) == 0
    assert cli.run(["sample", f"checkpoint={tmp_path / 'model'}", *given, f"out={tmp_path / 'again'}"]) == 0
    capsys.readouterr()


def test_a_run_that_is_resumed_ends_in_the_same_bits(words, tmp_path):
    every = (f"training.steps={STEPS}", "training.checkpoint_every=2", "training.keep_last=9", f"output={tmp_path}")
    train_together(1, [[*words, *every, "name=whole"]])
    middle = checkpoint_path(tmp_path / "whole/checkpoints", STEPS // 2)
    train_together(1, [[*words, *every, f"resume={middle}", "name=again"]])
    whole, again = (Checkpoint(latest_checkpoint(tmp_path / name / "checkpoints")) for name in ("whole", "again"))
    for section in SECTIONS:
        mine, theirs = whole.section(section), again.section(section)
        assert mine.keys() == theirs.keys() and mine
        assert all(torch.equal(mine[name], x) for name, x in theirs.items()), section


@pytest.mark.long
@pytest.mark.parametrize(
    "more",
    [
        ("reference_keys=reference_net", "backbone.memory=gated", "view_attention=full_3d", "view_attention.init=copy"),
        ("pose.encoder=controlnet", "backbone.checkpointing=blocks", "view_attention=epipolar"),
        ("pose.inject=both", "pose.channels_by=codec", "task=switch", "camera=camera_rays"),
        ("backbone.views_as_frames=true", "view_attention=none", "alignment=pelvis"),
        ("sampler=coarse_to_fine", "data.latents=encode", "appearance=none"),
    ],
    ids=lambda more: more[0],
)
def test_every_kind_of_part_beside_it_takes_two_steps(words, tmp_path, more):
    config = compose([*words, f"output={tmp_path}", "name=run", *more])
    assert forecast(config).counts.parts["backbone"].trainable == sum(
        weight.numel()
        for name, weight in build_system(config).backbone.named_parameters()
        if "view_attention" not in name
    )
    train_together(1, [[*words, f"output={tmp_path}", "name=run", *more]])
    assert latest_checkpoint(tmp_path / "run/checkpoints").name == "step-0000002.ckpt"


@pytest.mark.long
def test_a_dry_run_and_a_check_take_its_step_on_shapes(words, capsys):
    assert cli.run(["check", *words]) == 0
    told = capsys.readouterr().out
    assert "memory[block_0] x 48" in told and "backbone" in told
    assert cli.run(["train", *words, "dry_run=2", "strategy=ddp"]) == 0
    assert "built and stepped on shapes" in capsys.readouterr().out
