"""Two packages of labs' own: each of their parts keeps its kind's promises, and works by words on the command line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from footage import read_video
from laid_out import lay_out
from motion_files import save_motion

from hvg.cli import run
from hvg.config.composition import compose
from hvg.core.checkpoint import Checkpoint, checkpoint_path
from hvg.geometry.motion import Motion
from hvg.media.images import write_png
from hvg.parts import registry
from hvg.testing import (
    build,
    check_adapter,
    check_conditioner,
    check_encoder,
    check_optimizer,
    check_refiner,
    check_signal,
    check_text_encoder,
    tiny_batch,
    tiny_context,
)
from hvg.values.cameras import project

DATA = Path(__file__).parent.parent / "data"
SOURCES = (DATA / "plugin_views", DATA / "plugin_words")
SMALL = ("scale=cpu", "debug=tiny", "backbone.widths=[32,32]", "backbone.heads=[1,1]", "logger=none")
VIEWS = (
    *SMALL,
    *("view_attention=opposite", "sampler=pairs", "sampler.together=1", "data.views=3", "data.frames=2"),
    *("dataset.num_subjects=3", "dataset.num_held_out_subjects=2", "dataset.views=4", "dataset.frames=2"),
    *("dataset.image_size=32", "dataset.mesh=false", "dataset.supersampling=1"),
)
WORDS = (
    *SMALL,
    *("dataset=balls", "dataset.frames=2", "pose=none", "camera=floor", "camera.middle=cameras"),
    "camera.encoder=pooled",
    *("text=prompt", "text.encoder=letters", "text.encoder_settings.letters=40", "text.dropout=0.5"),
    *("+slots.words.name=caption_words", "+slots.words.dropout=0.5", "backbone.cross_attention_width=16"),
    "guidance.value=9",
)
BIASES = ("adapter=biases", "adapter.learning_rate=1e-2")


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory):
    """Both packages, laid out as pip would, for the tests of this file."""
    site = tmp_path_factory.mktemp("site-packages")
    for source in SOURCES:
        lay_out(source, site)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        registry._plugins.cache_clear()
        yield
    registry._plugins.cache_clear()


@pytest.fixture
def hvg(capsys, tmp_path, monkeypatch):
    """Runs a command in a folder of the test's own, which has to end well; returns what it printed."""
    monkeypatch.chdir(tmp_path)

    def command(*words: str) -> str:
        code = run(words)
        printed = capsys.readouterr()
        assert code == 0, printed.err + printed.out
        return printed.out

    return command


# --- a lab's own tests: of the parts that pages do not show (tests/unit/test_part_pages.py) ----------------------------


def test_mean_colours():
    part = registry.load("refiner", "mean_colours")
    check_refiner(part, part.Config(weight=0.5))
    assert compose(["refiner=mean_colours", "refiner.weight=0.5"]).refiner.resolved()["weight"] == 0.5


@pytest.mark.parametrize("middle", ["world", "cameras"])
def test_floor(middle):
    part = registry.load("conditioner", "floor")
    check_conditioner(part, part.Config(middle=middle), tiny_context())


def test_pooled():
    part = registry.load("encoder", "pooled")
    check_encoder(part, part.Config(), tiny_context())


def test_biases():
    part = registry.load("adapter", "biases")
    check_adapter(part, part.Config(learning_rate=1e-3))


def test_momentum():
    part = registry.load("optimizer", "momentum")
    check_optimizer(part, part.Config(momentum=0.5))


def test_letters():
    part = registry.load("text_encoder", "letters")
    check_text_encoder(part, part.Config(), tiny_context())


# --- what they are for ------------------------------------------------------------------------------------------------


def test_a_view_sees_the_one_half_a_circle_away_where_it_is_there():
    part, four = registry.load("view_attention", "opposite"), tiny_batch(1, 4, 1)
    seen = [
        part.sees(part.Config(), batch.view_grid().resized((1, 1)))[0, 0].nonzero().tolist()
        for batch in (four.select([3, 1, 0]), four.select([0, 1]), tiny_batch(1, 5, 1))
    ]
    assert seen == [
        [[0, 0], [0, 1], [1, 0], [1, 1], [2, 2]],
        [[0, 0], [1, 1]],
        [[view, view] for view in range(5)],
    ]


def test_pairs_are_half_the_views_apart_after_the_first_steps():
    part = registry.load("sampler", "pairs")
    plan = [[window.views for window in part(part.Config(together=1)).windows(step, 3, 4, 2)] for step in range(3)]
    assert plan == [[(0, 1, 2, 3)], [(0, 2), (1, 3)], [(0, 2), (1, 3)]]


def test_a_place_on_the_floor_is_seen_by_its_pixel():
    part, batch = registry.load("conditioner", "floor"), tiny_batch(1, 3, 1)
    x, z, there = build(part, part.Config(), tiny_context()).signal(batch)[0, :, 0].unbind(1)
    points = torch.stack([x, torch.zeros_like(x), z], dim=-1).flatten(1, 2)
    pixels, _ = project(points, batch.cameras[0, :, 0])
    rows, columns = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(32) + 0.5, indexing="ij")
    expected = torch.stack([columns, rows], dim=-1).flatten(0, 1)
    seen = there.flatten(1) == 1
    assert 0 < seen.float().mean() < 1
    torch.testing.assert_close(pixels[seen], expected.expand(3, -1, -1)[seen], atol=1e-2, rtol=0)


def test_a_floor_between_the_cameras_may_not_say_that_its_pictures_stand_alone():
    part = registry.load("conditioner", "floor")
    careless = type("Careless", (part,), {"per_picture": classmethod(lambda cls, config: True)})
    check_signal(careless, part.Config(middle="world"), tiny_context())
    with pytest.raises(AssertionError, match="let `per_picture` say False"):
        check_signal(careless, part.Config(middle="cameras"), tiny_context())


# --- by words ---------------------------------------------------------------------------------------------------------


def test_parts_are_listed_with_their_package(hvg):
    for kind, name, package in (
        ("view_attention", "opposite", "hvg-plugin-views"),
        ("sampler", "pairs", "hvg-plugin-views"),
        ("conditioner", "caption_words", "hvg-plugin-words"),
        ("text_encoder", "letters", "hvg-plugin-words"),
        ("dataset", "balls", "hvg-plugin-words"),
        ("adapter", "biases", "hvg-plugin-words"),
    ):
        assert [kind, name, package] in [line.split() for line in hvg("list", kind).splitlines()]
    assert "floor" in hvg("list", "camera").split()
    manual = hvg("list", "sampler", "--verbose")
    assert "together" in manual and "Steps at the start that denoise all views together." in manual


def test_biases_alone_are_trained_and_kept(hvg):
    # Of the scale's settings of an optimiser this one has none.
    words = [*WORDS, *BIASES, "optimizer=momentum", "training.learning_rate=1e-3"]
    judged = [*map(str.split, hvg("check", *words).splitlines())]
    assert ["adapter", "biases"] in judged and ["optimizer", "momentum"] in judged
    hvg("train", *words, "training.steps=1", "name=biases")
    sections = Checkpoint(checkpoint_path(Path("runs/biases/checkpoints"), 1)).sections()
    assert sections.keys() - {"state"} == {"weights", "momentum_buffer", "average"}
    kept = sections["weights"]
    of_backbone = [name for name in kept if name.startswith("backbone.")]
    assert of_backbone and all(name.endswith(".bias") for name in of_backbone) and len(kept) > len(of_backbone)


@pytest.mark.long
def test_view_parts_train_evaluate_and_are_judged(hvg):
    judged = hvg("check", *VIEWS).splitlines()
    assert ["view_attention", "opposite"] in map(str.split, judged) and ["sampler", "pairs"] in map(str.split, judged)
    hvg("train", *VIEWS, "name=views")
    hvg("evaluate", "checkpoint=runs/views")
    trained = json.loads(Path("runs/views/run.json").read_text())["plugins"]["hvg-plugin-views"]
    # Those that the process has loaded, by whichever test.
    assert {"sampler.pairs", "view_attention.opposite"} <= trained["parts"].keys()
    scored = json.loads(Path("runs/views/evaluation-test-step-0000002/results.json").read_text())
    assert scored["values"]["psnr"]["count"] == 8


def test_words_and_floor_train_evaluate_sample_and_are_shown(hvg, capsys):
    judged = hvg("check", *WORDS)
    assert "text x 16" in judged and "tokens x 16" in judged and "residuals[stem] x 32" in judged
    hvg("show", *WORDS, "out=sheet.png")
    hvg("train", *WORDS, "name=words")
    hvg("evaluate", "checkpoint=runs/words", "sampler=view", "sampler.views=2")
    write_png(Path("photo.png"), torch.rand(3, 90, 50) * 2 - 1)
    save_motion(Path("walk.npz"), Motion(rotations={"pelvis": torch.zeros(2, 3)}))
    asked = ("checkpoint=runs/words", "reference=photo.png", "motion=walk.npz")
    assert run(["sample", *asked]) == 1 and "reads what the video shows, and nothing says it" in capsys.readouterr().err
    hvg("sample", *asked, "prompt='a red ball rolls left'", "out=red")
    hvg("sample", *asked, "prompt='a blue ball rolls far'", "out=blue")
    red, blue = (read_video(Path(name) / "view-00.mp4")[0] for name in ("red", "blue"))
    assert red.shape == blue.shape == (2, 3, 32, 32) and not torch.equal(red, blue)


@pytest.mark.long
def test_pip_installs_both_with_their_words(tmp_path):
    sources = [shutil.copytree(source, tmp_path / source.name) for source in SOURCES]
    install = ["pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(tmp_path / "site")]
    subprocess.run([sys.executable, "-m", *install, *map(str, sources)], check=True)
    paths = os.pathsep.join(map(str, (tmp_path / "site", DATA.parents[1])))
    for words in ([*VIEWS], [*WORDS]):
        command = [sys.executable, "-m", "hvg.cli", "check", *words]
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
