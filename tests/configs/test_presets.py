"""Presets of published methods: each trains, goes on, is scored and sampled, says its cost, and is what its page says."""

import json
import math

import pytest
import torch
from motion_files import save_motion
from PIL import Image

from hvg import cli
from hvg.config.composition import compose
from hvg.core.shipped import CONF
from hvg.data.prepare import prepare
from hvg.geometry.motion import Motion
from hvg.train.run import train

PAGE = (CONF.parent / "docs" / "methods.md").read_text(encoding="utf-8")
ONE_CAMERA = ("animate_anyone", "champ", "magic_animate", "mimic_motion")
PRESETS = (*ONE_CAMERA, "human4dit", "humangif")
# Sizes of steps that a preset says by buckets, for clips of two views and two frames.
SMALLER = {"human4dit": ["data.buckets=[[2,1],[1,2]]"]}


@pytest.fixture(scope="module")
def field(tiny, cache, tmp_path_factory) -> str:
    """Word for a radiance field that has taken two steps."""
    output = tmp_path_factory.mktemp("field")
    words = [*tiny, cache, "experiment=gas_nerf", "data.views=2", "data.frames=1", "device=cpu", f"output={output}"]
    config = compose(words, asked=[word for word in words if not word.startswith("backbone.")])
    prepare([config], ("train", "val"), jobs=1)
    train(config, log=lambda line: None)
    return f"reconstruction.checkpoint={output / 'gas_nerf'}"


@pytest.fixture
def words_of(tiny, cache, tmp_path, request):
    def words(name: str) -> list[str]:
        needs = [request.getfixturevalue("field")] if name == "humangif" else []
        more = ["training.validate_every=1", "device=cpu", f"output={tmp_path}"]
        return [*tiny, cache, f"experiment={name}", *SMALLER.get(name, []), *needs, *more]

    return words


@pytest.mark.long
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_trains_goes_on_is_scored_and_sampled(name, words_of, tmp_path, capsys):
    words, run = words_of(name), tmp_path / name
    prepare([compose(words)], ("train", "val", "test"), jobs=1)
    assert cli.run(["train", *words]) == 0
    assert cli.run(["train", *words, "training.steps=3", "resume=auto"]) == 0
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = {row["step"]: row["loss"] for row in rows if "loss" in row}
    assert list(losses) == [0, 1, 2] and all(map(math.isfinite, losses.values()))
    assert cli.run(["evaluate", f"checkpoint={run}", f"out={tmp_path / 'scores'}"]) == 0
    values = json.loads((tmp_path / "scores/results.json").read_text())["values"]
    assert math.isfinite(values["psnr"]["value"])
    Image.new("RGBA", (50, 90), (200, 60, 20, 255)).save(tmp_path / "person.png")
    turn = torch.linspace(0, 1, 3)[:, None] * torch.tensor([1.0, 0.0, 0.0])
    save_motion(tmp_path / "walk.npz", Motion(rotations={"left_shoulder": turn, "pelvis": turn * 0}))
    given = (f"reference={tmp_path / 'person.png'}", f"motion={tmp_path / 'walk.npz'}", "views=2")
    assert cli.run(["sample", f"checkpoint={run}", *given, f"out={tmp_path / 'videos'}"]) == 0
    assert len([*(tmp_path / "videos").glob("*.mp4")]) >= 2
    capsys.readouterr()


@pytest.mark.long
@pytest.mark.parametrize("name", PRESETS)
def test_hvg_check_says_what_a_preset_costs(name, words_of, capsys):
    assert cli.run(["check", *words_of(name)]) == 0
    told = capsys.readouterr().out
    assert "FLOP" in told and "passes of the network" in told


@pytest.mark.parametrize("name", ONE_CAMERA)
def test_a_method_of_one_camera_sees_one_view_at_a_time(name):
    for scale in ("cpu", "paper"):
        config = compose([f"experiment={name}", f"scale={scale}"])
        assert config.view_attention.name == "none" and config.camera.name == "none"
        assert config.data.views == config.sampler.config.views == 1


def test_presets_are_what_their_page_says():
    champ = compose(["experiment=champ", "scale=paper"])
    assert {champ.pose.config.encoder, champ.slots["skeleton"].config.encoder} == {"attention"}
    assert (champ.training.steps, champ.evaluation.steps, champ.guidance.config.value) == (150_000, 20, 3.5)
    mimic = compose(["experiment=mimic_motion", "scale=paper"])
    assert {*mimic.droppable} == {"pose", "appearance", "image_embedding"} and mimic.sampler.name == "anchored"
    assert mimic.pose.config.encoder_settings["widths"] == [16, 32, 64, 128]
    magic = compose(["experiment=magic_animate"])
    assert (magic.pose.name, magic.pose.config.encoder, magic.guidance.config.value) == ("iuv", "controlnet", 7.5)
    four = compose(["experiment=human4dit"])
    assert (four.view_attention.name, four.camera.config.network, four.camera.config.width) == ("full_3d", "mlp", 32)
    gif = compose(["experiment=humangif", "output=elsewhere"])
    assert (gif.view_attention.name, gif.alignment.name) == ("aligned_2d", "none")
    assert str(gif.reconstruction.config.checkpoint) == "elsewhere/gas_nerf"


def test_the_page_has_a_row_for_every_preset():
    for name in PRESETS:
        assert f"`experiment={name}`" in PAGE
    for path in (CONF / "experiment").glob("*.yaml"):
        if "docs/methods.md" in path.read_text(encoding="utf-8"):
            assert f"`experiment={path.stem}`" in PAGE, path.stem
