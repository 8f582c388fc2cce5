"""Presets of published methods: each trains, goes on, is scored and sampled, says its cost, and is what its page says."""

import json
import math

import pytest
import torch
from motion_files import save_motion
from PIL import Image

from hvg import cli
from hvg.config.composition import compose
from hvg.config.stages import stages_of
from hvg.core.shipped import CONF
from hvg.data.prepare import prepare
from hvg.geometry.motion import Motion
from hvg.train.run import train

PAGE = (CONF.parent / "docs" / "methods.md").read_text(encoding="utf-8")
ONE_CAMERA = ("animate_anyone", "champ", "magic_animate", "mimic_motion")
PRESETS = (*ONE_CAMERA, "human4dit", "humangif")
# Sizes of steps that a preset says by buckets, for clips of two views and two frames.
SMALLER = {"human4dit": ["data.buckets=[[2,1],[1,2]]"]}
# What debug=tiny says, but for the steps: those would hold in every stage.
TINY_STEPS = (
    *("training.warmup_steps=0", "training.log_every=1", "training.checkpoint_every=1", "training.validation_clips=1"),
    *("evaluation.steps=2", "evaluation.clips=1"),
)


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
        more = ["training.validate_every=1", "device=cpu", f"output={tmp_path}", *TINY_STEPS]
        rest = [word for word in tiny if word != "debug=tiny"]
        return [*rest, cache, f"experiment={name}", *SMALLER.get(name, []), *needs, *more]

    return words


def of_steps(name: str, last: int) -> list[str]:
    """Words for one step in each stage of a preset, and so many in its last."""
    *first, end = stages_of(compose([f"experiment={name}"]))
    words = [f"stages.{stage.label}.training.steps=1" for stage in first]
    return [*words, f"stages.{end.label}.training.steps={last}" if first else f"training.steps={last}"]


@pytest.mark.long
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_trains_goes_on_is_scored_and_sampled(name, words_of, tmp_path, capsys):
    """Those of several stages in each of them."""
    words, run = words_of(name), tmp_path / name
    stages = stages_of(compose([*words, *of_steps(name, 1)]))
    for stage in stages:
        prepare([stage.config], ("train", "val", "test"), jobs=1)
    assert cli.run(["train", *words, *of_steps(name, 1)]) == 0
    assert cli.run(["train", *words, *of_steps(name, 2), "resume=auto"]) == 0
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = {row["step"]: row["loss"] for row in rows if "loss" in row}
    assert list(losses) == [*range(len(stages) + 1)] and all(map(math.isfinite, losses.values()))
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
    assert (champ.evaluation.steps, champ.guidance.config.value) == (20, 3.5)
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


STEPS = {
    "animate_anyone": {"pictures": 30_000, "motion": 10_000},
    "champ": {"pictures": 100_000, "motion": 50_000},
    "magic_animate": {"pictures": 45_000, "motion": 15_000},
    "humangif": {"pictures": 140_000, "views": 10_000, "motion": 10_000},
}


@pytest.mark.parametrize("name", STEPS)
def test_stages_are_pictures_first_and_then_what_is_new_alone(name):
    config = compose([f"experiment={name}", "scale=paper"])
    first, *later = stages_of(config)
    assert {stage.label: stage.config.training.steps for stage in (first, *later)} == STEPS[name]
    assert (first.config.data.views, first.config.data.frames) == (1, 1) and config.data.frames > 1
    assert first.config.view_attention.name == "none"
    for stage in later:
        new, kept = stage.config.adapter.config.train.items()
        assert new == ("backbone.view_attention.*" if stage.label == "views" else "temporal", None)
        assert kept == ("conditioners.*", 0)


@pytest.mark.parametrize("name", ["animate_anyone", "champ"])
def test_the_noise_of_animate_anyone_s_code(name):
    for scale, target in (("cpu", "x0"), ("paper", "v")):
        config = compose([f"experiment={name}", f"scale={scale}"])
        noise = config.prediction.config
        assert (noise.target, noise.terminal_snr, noise.spacing, noise.max_weight) == (target, "zero", "trailing", 5)
        assert config.training.noise_offset == 0.05
    assert compose([f"experiment={name}", "prediction=x0"]).prediction.name == "x0"


def test_the_page_has_a_row_for_every_preset():
    for name in PRESETS:
        assert f"`experiment={name}`" in PAGE
    for path in (CONF / "experiment").glob("*.yaml"):
        if "docs/methods.md" in path.read_text(encoding="utf-8"):
            assert f"`experiment={path.stem}`" in PAGE, path.stem
