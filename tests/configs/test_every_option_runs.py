"""Every option of every group, every experiment at every scale and every study takes two steps at tiny sizes, and samples.

What needs weights, files or libraries that are not here says so in one line. Here parts get small weights of their own.
"""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
from body_models import person_model
from conftest import TINY
from data_set_files import SETS, set_words, write_models
from loss_curves import BACKBONES
from recordings import write_monocular, write_multiview
from svd_pipeline import overrides as svd
from test_conf import EXPERIMENTS, OPTIONS, SCALES
from tiny_reconstructors import reconstruction_words
from train_runs import train_together

from hvg import cli
from hvg.config.composition import compose
from hvg.core.shipped import CONF, studies
from hvg.data.cache import cache_folder
from hvg.data.prepare import prepare
from hvg.study.arm import run_arm
from hvg.study.plan import plan
from hvg.study.study_file import load_study
from hvg.train.run import train

pytestmark = pytest.mark.long

# Sizes alone, for any choice of parts; and what is small besides of the default ones.
DATASET = tuple(word for word in TINY if word.startswith("dataset."))
SIZES = (
    *(*DATASET, "data.views=2", "data.frames=2", "data.workers=0", "device=cpu"),
    *("training.steps=2", "training.warmup_steps=0", "training.log_every=1", "training.checkpoint_every=2"),
    *("training.validate_every=2", "training.validation_clips=1", "evaluation.steps=2", "evaluation.clips=1"),
)
# Datasets of recordings: how many views they have at least, and what writes some.
FILMED = {"dataset=multiview": (2, write_multiview), "dataset=monocular": (1, write_monocular)}
# Groups that have a test of their own below.
APART = ("experiment", "protocol", "scale", "strategy")
PARTS = [(group, option) for group, option in OPTIONS if group not in APART]
STRATEGIES, PROTOCOLS = ([option for group, option in OPTIONS if group == g] for g in ("strategy", "protocol"))


@pytest.fixture(scope="module")
def svd_words(svd_folder) -> list[str]:
    """A small Stable Video Diffusion in place of the published one: network, VAE and CLIP; and a size that its latents have."""
    small = [word for word in svd(svd_folder) if word.startswith(("backbone.", "codec.", "image_embedding"))]
    return [*small, "dataset.image_size=64"]


@pytest.fixture(scope="module")
def bodies(tmp_path_factory) -> Path:
    """A folder of body models in the true format."""
    folder = tmp_path_factory.mktemp("bodies")
    for family in ("smpl", "smplh", "smplx"):
        np.savez(folder / f"{family.upper()}_NEUTRAL.npz", allow_pickle=True, **person_model(family))
    return folder


def words_of(group: str, option: str, folder: Path, bodies: Path, cache: str) -> list[str]:
    """The choice of an option, and what makes it run here in two steps. folder: of a small Stable Video Diffusion."""
    more = {
        **{f"guidance={name}": ["pose.dropout=0.1"] for name in ("constant", "linear", "triangular")},
        "codec=svd_vae": [f"codec.path={folder}", "dataset.image_size=64"],
        "image_embedding=clip_image": [f"image_embedding.path={folder}", "backbone.cross_attention_width=32"],
        "logger=wandb": ["logger.offline=true"],
        **{f"body={family}": [f"body.path={bodies}"] for family in ("smpl", "smplh", "smplx")},
    }
    choice = f"{group}={option}"
    if group == "reconstruction":
        more[choice] = reconstruction_words(option, Path(cache.partition("=")[2]) / group, SIZES)
    small = BACKBONES[option if group == "backbone" else "svd_tiny"]
    sizes = [word for word in SIZES if word not in DATASET]
    if group == "dataset" and option in SETS:
        data = Path(cache.partition("=")[2]) / option
        return [*sizes, *small, cache, *set_words(option, data, write_models(data / "models"))]
    if choice == "dataset=shards":
        rendered = compose([*SIZES, *small, cache])
        prepare([rendered], ("train", "val"), jobs=1)
        return [*sizes, *small, choice, f"dataset.path={cache_folder(rendered)}"]
    if choice in FILMED:
        views, write = FILMED[choice]
        write(root := bodies / option)
        sizes = [word for word in SIZES if word not in (*DATASET, "data.views=2")]
        return [*sizes, *small, cache, choice, f"dataset.root={root}", "dataset.image_size=32", f"data.views={views}"]
    return [*SIZES, *small, cache, choice, *more.get(choice, [])]


def takes_two_steps(words: list[str], folder: Path, name: str = "run") -> None:
    """Trains, and sees that it took two steps, saved the second and sampled a clip."""
    config = compose([*words, f"output={folder}", f"name={name}"])
    if config.data.cache is not None:
        prepare([config], ("train", "val"), jobs=1)
    train(config, log=lambda line: None)
    took_two_steps(folder / name)


def took_two_steps(folder: Path, sampled: bool = True) -> None:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = {row["step"]: row["loss"] for row in rows if "loss" in row}
    assert list(losses) == [0, 1] and all(map(math.isfinite, losses.values()))
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-0000002.ckpt"]
    assert bool(list(folder.glob("samples/step-0000002-*.mp4"))) == sampled


def lacks(choice: str) -> str | None:
    """The library that a choice needs and that is not here."""
    names = {"renderer=pytorch3d": ("pytorch3d",), "logger=tensorboard": ("tensorboard", "tensorboardX")}.get(choice)
    return names[0] if names and not any(map(importlib.util.find_spec, names)) else None


@pytest.mark.parametrize(("group", "option"), PARTS)
def test_every_option_takes_two_steps(group, option, svd_folder, bodies, cache, tmp_path, capsys):
    words = words_of(group, option, svd_folder, bodies, cache)
    if library := lacks(f"{group}={option}"):
        assert library in refusal([*words, f"output={tmp_path}"], capsys)
    else:
        takes_two_steps(words, tmp_path)


def refusal(words: list[str], capsys) -> str:
    """The one line with which a training is refused."""
    capsys.readouterr()
    assert cli.run(["train", *words]) == 1
    *head, line = capsys.readouterr().err.splitlines()
    assert head in ([], ["hvg train: 1 problem in the configuration:"]), head
    return line.removeprefix("hvg train: ").strip(" -")


SVD = "stabilityai/stable-video-diffusion-img2vid-xt"
SMALL_SVD = ("backbone=svd_xt", *BACKBONES["svd_xt"], f"backbone.weights={SVD}", "backbone.norm_groups=32")
CLIP = ("image_embedding=clip_image", "backbone.cross_attention_width=32")
# What no machine has by itself -> how its refusal begins.
ELSEWHERE = {
    SMALL_SVD: f"backbone.weights: no unet at '{SVD}'. Give",
    ("codec=svd_vae",): f"codec.path: no vae at '{SVD}'. Give",
    CLIP: f"image_embedding.path: no image_encoder at '{SVD}'. Give",
    ("scale=paper", "dataset.image_size=64"): f"codec.path: no vae at '{SVD}'. Give",
    ("dataset=shards", "dataset.path=nowhere"): "nowhere: no shard named train*.tar",
    ("body=smplx", "body.path=nowhere"): "nowhere: there is no such file; expected a body model's .npz",
}


@pytest.mark.parametrize("choice", ELSEWHERE)
def test_weights_and_files_that_are_not_here_are_named_in_a_line(choice, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    sizes = [word for word in SIZES if choice[0] != "dataset=shards" or word not in DATASET]
    assert refusal([*sizes, *choice, f"output={tmp_path}"], capsys).startswith(ELSEWHERE[choice])


def test_every_strategy_takes_two_steps(cache, tmp_path):
    """One after another in a process of their own, in which DeepSpeed stays."""
    base = [*SIZES, *BACKBONES["svd_tiny"], cache, f"output={tmp_path}"]
    prepare([compose(base)], ("train", "val"), jobs=1)
    without_samples = {"zero3": ["training.validate_every=0"]}
    train_together(
        1, [[*base, f"strategy={name}", f"name={name}", *without_samples.get(name, [])] for name in STRATEGIES]
    )
    for name in STRATEGIES:
        took_two_steps(tmp_path / name, sampled=name not in without_samples)


@pytest.mark.parametrize("scale", SCALES)
def test_every_experiment_takes_two_steps_at_every_scale(scale, svd_words, cache, tmp_path):
    """The second phase from the first one's run, as it is meant."""
    small = {"cpu": BACKBONES["svd_tiny"], "gpu": BACKBONES["svd_mid"], "paper": svd_words}[scale]
    base = [f"scale={scale}", "strategy=single", *SIZES, *small, cache, f"output={tmp_path}"]
    grids = {"hvg_stage2": ["data.buckets=[[2,1],[1,2]]"]}
    for experiment in (None, *EXPERIMENTS):
        chosen = [f"experiment={experiment}"] if experiment else []
        takes_two_steps([*base, *chosen, *grids.get(experiment or "", [])], tmp_path, experiment or "plain")


def test_every_protocol_scores_what_was_trained(cache, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    takes_two_steps([*SIZES, *BACKBONES["svd_tiny"], cache], tmp_path)
    for name in PROTOCOLS:
        assert cli.run(["evaluate", f"checkpoint={tmp_path / 'run'}", f"protocol={name}", f"out={name}"]) == 0
        values = json.loads((tmp_path / name / "results.json").read_text())["values"]
        assert values.keys() == compose([f"protocol={name}"]).protocol.metrics.keys()
        for score in values.values():
            missing = score["unavailable"]
            if missing is None:
                assert math.isfinite(score["value"])
            else:
                assert missing and "\n" not in missing and not missing.startswith("failed with")


@pytest.mark.parametrize("name", sorted(studies()))
def test_every_study_takes_two_steps_and_reports(name, cache, tmp_path, monkeypatch, capsys):
    """Its arms at the first seed, one after another in this process, then its report."""
    monkeypatch.chdir(tmp_path)
    folder, study = studies()[name], load_study(studies()[name])
    given = {word.partition("=")[0] for word in study.base}
    sizes = [
        word for word in SIZES if not word.startswith(("dataset.", "data.")) or word.partition("=")[0] not in given
    ]
    people = ["dataset.num_subjects=3", "training.validate_every=0"]
    words = [*sizes, *people, *BACKBONES["svd_tiny"], cache, f"output={tmp_path}"]
    arms = plan(study.model_copy(update={"seeds": study.seeds[:1]}), name, words)
    assert [arm.arm for arm in arms] == list(study.arms)
    prepare([arm.config for arm in arms], ("train", "val", "test"), jobs=1)
    for arm in sorted(arms, key=lambda arm: arm.trained_by is not None):
        arm.folder.mkdir()
        (arm.folder / "config.yaml").write_text(arm.config.to_yaml())
        run_arm(arm.folder, arm.trained_by and arm.trained_by.folder)
    assert cli.run(["study", str(folder), *words, f"seeds=[{study.seeds[0]}]", "collect=true"]) == 0
    found = json.loads((tmp_path / "results.json").read_text())["arms"]
    assert [arm["name"] for arm in found] == [*study.arms, *study.baselines]
    assert all(arm["status"] == "done" and arm["seeds"][0]["values"] for arm in found)


def test_every_file_of_conf_is_in_a_test_above():
    groups = {path.parent.name for path in CONF.glob("*/*.yaml")}
    assert groups == {group for group, _ in OPTIONS} | {"at_scale"}
    assert {group for group, _ in PARTS} | {*APART} == groups - {"at_scale"}
