"""Pages are followed: their commands run one after another in one folder, on small networks and a few drawn people.

What needs a GPU, weights, an account or hours is judged by its words alone (tests/meta/test_page_commands.py); so is what another
test runs: studies, sweeps, clusters, detectors, and presets, which tests/configs trains, and whose models here are new ones.
"""

import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from conftest import TINY
from lab_package import install
from loss_curves import BACKBONES
from motion_files import save_motion
from page_commands import PAGES, ROOT, Command, commands_of
from PIL import Image
from untrained_checkpoints import write_untrained

from hvg import cli
from hvg.commands.words import key_of, take_options
from hvg.config.command_options import CheckOptions, PrepareOptions, ShowOptions
from hvg.config.composition import compose
from hvg.core.random_keys import generator
from hvg.geometry.motion import Motion
from hvg.media.video import write_video
from hvg.parts import registry
from hvg.sample.camera_paths import around, write_cameras

pytestmark = pytest.mark.long

# Pages with a test of their own, and those that tell what was done.
ELSEWHERE = {
    "data.md": "test_footage.py",
    "datasets.md": "test_data_sets.py",
    "new_part.md": "test_new_parts.py",
    "video.md": "test_video_detector.py",
    "CHANGELOG.md": "tells what changed",
}
COMMANDS = ("list", "check", "show", "prepare", "train", "evaluate", "sample", "refine", "export", "compare", "weights")
# Words that ask for what no machine has by itself, or for more than minutes. 3DiMo looks at hands, which a detector finds.
NOT_HERE = re.compile(
    r"scale=(gpu|paper)|launcher=|sweep=|--|dry_run=|strategy=|logger=wandb|backbone=(svd_xt|wan_\w*[^y]|flux_kontext)$|"
    r"codec=wan_vae|dataset=(thuman|mvhumannet|tiktok|mixture|shards)|body=smpl|(reconstruction|reconstructor)=(nerf|files)|"
    r"recipe=|protocol=(hvg|gas)|checkpoint=(runs/base|runs/three_dimo|hvg_model)|.*=(FOLDER|WAN|FLUX)$|camera=scene|camera=me/"
)
# Options that are no overrides.
OPTIONS = {"check": CheckOptions, "show": ShowOptions, "prepare": PrepareOptions}
SIZES = {
    "backbones.svd_unet": BACKBONES["svd_tiny"],
    "backbones.wan_dit": BACKBONES["wan_tiny"],
    "backbones.flux_kontext": BACKBONES["flux_tiny"],
}
# As many as a video has at most.
MOST = {"views": 4, "frames": 6}
PLACEHOLDERS = ("PATH", "IMAGE", "VIDEO")


def followed(page: Path) -> list[Command]:
    """The commands of a page that run here."""
    return [command for command in commands_of(page) if runs_here(command)]


def runs_here(command: Command) -> bool:
    """Whether a command takes seconds on a CPU, with nothing but what pages say lies about."""
    name = command.words[1] if command.words[0] == "hvg" and command.whole and not command.refused else ""
    # A preset's people are many: to make their clips takes an hour.
    prepares_all = name == "prepare" and any(word.startswith("experiment=") for word in command.words)
    return name in COMMANDS and not prepares_all and not any(NOT_HERE.match(word) for word in command.words[2:])


FOLLOWED = [page for page in PAGES if page.name not in ELSEWHERE and "decisions" not in page.parts and followed(page)]


@pytest.fixture(scope="module", autouse=True)
def lab(tmp_path_factory):
    """The package of a lab's own that pages describe, installed."""
    site = tmp_path_factory.mktemp("site-packages")
    install(site)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        registry._plugins.cache_clear()
        yield
    registry._plugins.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_lab"]:
        del sys.modules[name]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a photo, a motion, videos, and what some system has made, as pages call them."""
    monkeypatch.chdir(tmp_path)
    colours = {"me": (200, 60, 20), "person": (20, 90, 200), "front": (90, 160, 60), "back": (60, 60, 60)}
    for name, colour in colours.items():
        Image.new("RGBA", (50, 90), (*colour, 255)).save(f"{name}.png")
    turn = torch.linspace(0, 1, 6)[:, None] * torch.tensor([1.0, 0.0, 0.0])
    save_motion("walk.npz", Motion(rotations={"left_shoulder": turn, "pelvis": turn * 0}))
    moving = torch.rand(6, 3, 64, 48, generator=generator("pages")) * 2 - 1
    for name in ("dance", "film"):
        write_video(Path(f"{name}.mp4"), moving, 8.0)
    write_video(Path("dance_matte.mp4"), torch.ones(6, 3, 64, 48), 8.0)
    for place in ("outputs/champ", "data/test", "data/masks"):
        for number in range(3):
            (clip := Path(place, "person1_walk")).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 64), (80 * number, 90, 200) if "masks" not in place else "white").save(
                clip / f"{number:04d}.png"
            )
    path = around(
        torch.tensor([0.0, 0.9, 0.0]), 4, elevation_degrees=0.0, distance=3.0, fov_degrees=40.0, image_size=(32, 32)
    )
    write_cameras(Path("mine.json"), path.cameras, path.names)
    write_cameras(Path("rig/cameras.json"), path.cameras[:2], path.names[:2])
    for name in path.names[:2]:
        for number in range(6):
            (view := Path("rig", name)).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (40 * number, 90, 200)).save(view / f"{number:04d}.png")
    return tmp_path


class Followed:
    """A page at work: which words trained the run of each name."""

    def __init__(self, cache: str) -> None:
        self.cache, self.trained = cache, dict[str, list[str]]()

    def run(self, words: Sequence[str]) -> int:
        """Runs a command of hvg's, made small; the exit code."""
        name, *words = words
        for word in words:
            key, _, value = word.partition("=")
            if key in ("checkpoint", "refiner.checkpoint"):
                self._make(Path(value))
            elif name == "compare":
                for run in value.split(","):
                    self._score(Path(run))
        if name in ("check", "show", "prepare", "train"):
            words = self._small(name, words)
        if name == "train" and self._remembered(words):
            return 0
        words = [self._given(word) for word in words]
        if name in ("evaluate", "sample", "refine", "show"):
            words.append("overwrite=true")
        return cli.run([name, *words])

    def remember(self, words: Sequence[str]) -> None:
        """A training whose base is not here, where that is all: its model is a new one where a later command reads it."""
        small = [word for word in words if not word.startswith("checkpoint=")]
        if not any(NOT_HERE.match(word) for word in small):
            small = self._small("train", small)
            self.trained[compose(small).name] = small

    def _given(self, word: str) -> str:
        key, _, value = word.partition("=")
        if key in MOST:
            return f"{key}={min(int(value), MOST[key])}"
        return f"{key}=runs/{value}" if key.endswith("checkpoint") and value in PLACEHOLDERS else word

    def _small(self, name: str, words: list[str]) -> list[str]:
        """The words, and those that make the run small, unless they say it themselves."""
        named = [word for word in words if "=" not in word and not word.startswith("~")]
        overrides = [word if word not in named or name != "prepare" else f"dataset={word}" for word in words]
        if name in OPTIONS:
            _, overrides = take_options(overrides, OPTIONS[name])
        overrides = [word for word in overrides if "=" in word or word.startswith("~")]
        config = compose(overrides)
        more = ["debug=tiny", "data.workers=0", "device=cpu", self.cache]
        if config.dataset.name == "synthetic" and not any(word.startswith("experiment=") for word in words):
            more += [word for word in TINY if word.startswith(("dataset.", "data."))]
        given = {key_of(word): word.partition("=")[2] for word in words}
        if "backbone" in config.parts:
            small = SIZES.get(config.backbone.cls.__module__.partition(".")[2], ())
            more += BACKBONES.get(given.get("backbone", ""), small)
        # Clips hold what a step takes of them, and the data set those that are asked for by number.
        large = {
            "dataset.views": max(4 if "training.known_views" in given else 2, int(given.get("data.views", 0))),
            "dataset.frames": max(2, int(given.get("data.frames", 0))),
            "dataset.num_held_out_subjects": max(2, int(given.get("index", 0)) + 1),
        }
        more = [
            f"{key}={large[key]}" if key in large else word
            for key, word in ((key_of(word), word) for word in more)
            if key not in given
        ]
        return [*words, *more, *(["jobs=1"] if name == "prepare" and "jobs" not in given else [])]

    def _remembered(self, words: list[str]) -> bool:
        """Whether a training is of a preset, whose model is made where it is asked for; a folder of another run makes room."""
        config = compose(words)
        self.trained[config.name] = words
        if any(word.startswith("experiment=") for word in words):
            return True
        if "resume=auto" not in words:
            shutil.rmtree(Path("runs", config.name), ignore_errors=True)
        return False

    def _make(self, checkpoint: Path) -> None:
        """A model that nobody trained, where the page has trained none under that name."""
        name = checkpoint.parts[1] if checkpoint.parts[0] == "runs" else checkpoint.name
        folder = Path("runs", name, "checkpoints")
        if not folder.is_dir():
            words = self.trained.get(name) or self._small("train", [f"name={name}"])
            config = compose(words)
            if config.adapter.name == "lora":
                assert cli.run(["train", *words]) == 0
                return
            if config.checkpoint is not None:
                self._make(Path(config.checkpoint))
            folder.mkdir(parents=True)
            step = checkpoint.name if checkpoint.suffix == ".ckpt" else "step-0000002.ckpt"
            write_untrained(config, folder / step, 0.01)
        elif checkpoint.suffix == ".ckpt" and not checkpoint.exists():
            # A run of two steps has none of a later one.
            next(folder.iterdir()).rename(checkpoint)

    def _score(self, run: Path) -> None:
        self._make(run)
        if not list(run.rglob("results.json")):
            assert cli.run(["evaluate", f"checkpoint={run}"]) == 0


@pytest.mark.parametrize("page", FOLLOWED, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_can_be_followed(page, folder, cache, capsys):
    following = Followed(cache)
    for command in commands_of(page):
        if runs_here(command):
            code = following.run(command.words[1:])
            assert code == 0, (command.text, capsys.readouterr())
        elif command.words[:2] == ("hvg", "train") and any(word.startswith("name=") for word in command.words):
            following.remember(command.words[2:])


def test_most_commands_run_and_the_others_are_judged_elsewhere():
    assert {page.name for page in FOLLOWED} >= {"README.md", "first_steps.md", "compare.md", "sampling.md", "signal.md"}
    assert sum(len(followed(page)) for page in FOLLOWED) > 100
    assert all((ROOT / "tests/integration" / test).is_file() for test in ELSEWHERE.values() if test.endswith(".py"))
