"""Every option of every group, every experiment at every scale and every study takes two steps at tiny sizes, and samples.

What needs weights, files or libraries that are not here says so in one line. Here parts get small weights of their own.
"""

import importlib.util
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from body_models import person_model
from conftest import TINY
from data_set_files import SETS, set_words, write_models
from flux_pipelines import WORDS as FLUX_WORDS
from loss_curves import BACKBONES
from recordings import write_monocular, write_multiview
from svd_pipeline import overrides as svd
from test_conf import DRIVEN, EXPERIMENTS, NEEDS, OPTIONS, SCALES
from tiny_reconstructors import reconstruction_words
from train_runs import train_together

from hvg import cli
from hvg.config.composition import compose
from hvg.config.groups import option_values
from hvg.config.stages import stages_of
from hvg.core.errors import ConfigError
from hvg.core.shipped import CONF, studies
from hvg.data.cache import cache_folder
from hvg.data.prepare import prepare
from hvg.parts import registry
from hvg.study.arm import run_arm, run_need
from hvg.study.plan import ArmRun, needs_of, plan
from hvg.study.study_file import StudyFile, load_study
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
# A study's arms that run, at most; where they need others' weights, those besides.
MOST_ARMS = 4
# What makes ReImagine's image model small at scale=paper, and the settings that name a small FLUX Kontext's folder.
FLUX = (*FLUX_WORDS, "pose.encoder_settings.first=1", "dataset.image_size=64")
FLUX_FOLDERS = ("backbone.weights", "codec.path", "text.path", "slots.pooled.path")
# What makes of any study one on a transformer, which has no layers of time that could train alone.
TRANSFORMER = ("backbone=wan_tiny", "codec=pixel", "prediction=flow", "adapter=full")
# Experiments on a transformer -> what makes their other parts small.
_ENCODER = ("size=32", "patch=8", "width=16", "depth=1", "heads=2")
TRANSFORMERS = {
    "four_d_anyone": ("backbone.view_blocks=null",),
    "three_dimo": (
        *("backbone.view_blocks=null", "dataset.hand_size=16"),
        *(f"pose.{word}" for word in (*_ENCODER, "hand_size=16")),
    ),
    "wan_animate": ("backbone.view_blocks=null", "dataset.face_size=16", *(f"slots.face.{word}" for word in _ENCODER)),
    "wan_animate_2": ("backbone.view_blocks=null",),
}
# Groups that have a test of their own below.
APART = ("experiment", "protocol", "reconstructor", "scale", "strategy", "system")
PARTS = [(group, option) for group, option in OPTIONS if group not in APART]
STRATEGIES, PROTOCOLS, RECONSTRUCTORS = (
    [option for group, option in OPTIONS if group == g] for g in ("strategy", "protocol", "reconstructor")
)


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


def words_of(group: str, option: str, folder: Path, wan: Path, flux: Path, bodies: Path, cache: str) -> list[str]:
    """The choice of an option, and what makes it run here in two steps. folder: of a small Stable Video Diffusion. wan: of a
    small VAE of Wan's. flux: of a small FLUX Kontext.
    """
    more = {
        **{f"guidance={name}": NEEDS["guidance"] for name in registry.names("guidance")},
        "codec=svd_vae": [f"codec.path={folder}", "dataset.image_size=64"],
        "codec=wan_vae": [f"codec.path={wan}", "dataset.image_size=64"],
        "codec=flux_vae": [f"codec.path={flux}", "dataset.image_size=64"],
        "image_embedding=clip_image": [f"image_embedding.path={folder}", "backbone.cross_attention_width=32"],
        "text=prompt": ["backbone.cross_attention_width=32"],
        **{f"pose={name}": ["backbone.cross_attention_width=32"] for name in ("landmark_tokens", "pose_tokens")},
        **{f"pose={option}": DRIVEN for option in ("motion_tokens", "motion_tokens_tiny")},
        "camera=camera_prompt": ["backbone.cross_attention_width=32"],
        "logger=wandb": ["logger.offline=true"],
        **{f"body={family}": [f"body.path={bodies}"] for family in ("smpl", "smplh", "smplx")},
        "pose=driving_memory": NEEDS["pose=driving_memory"],
    }
    choice = f"{group}={option}"
    if group == "reconstruction":
        more[choice] = reconstruction_words(option, Path(cache.partition("=")[2]) / group, SIZES)
    seen_whole = choice == "appearance=reference_pictures"
    small = BACKBONES["flux_tiny" if seen_whole else option if group == "backbone" else "svd_tiny"]
    small = ("backbone=flux_tiny", *small) if seen_whole else small
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
    if choice.startswith("dataset=mixture"):
        people = "name:synthetic,num_subjects:2,num_held_out_subjects:1,views:2,frames:2,image_size:32"
        members = [f"dataset.members.{label}={{{people}}}" for label in ("scans", "studio", "camera")]
        return [*sizes, *small, cache, choice, *members]
    return [*SIZES, *small, cache, choice, *more.get(choice, [])]


def takes_two_steps(words: list[str], folder: Path, name: str = "run", asked: Sequence[str] | None = None) -> None:
    """Trains, and sees that it took two steps, saved the second and sampled a clip. asked: as of ``compose``."""
    own = [word for word in words if not word.startswith(("output=", "name="))]
    config = compose([*own, f"output={folder}", f"name={name}"], asked=asked)
    for stage in stages_of(config):
        if stage.config.data.cache is not None:
            prepare([stage.config], ("train", "val"), jobs=1)
    train(config, log=lambda line: None)
    took_two_steps(folder / name, stages=len(stages_of(config)))


def took_two_steps(folder: Path, sampled: bool = True, stages: int = 1) -> None:
    """stages: of the run, of two steps each."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = {row["step"]: row["loss"] for row in rows if "loss" in row}
    assert list(losses) == [*range(2 * stages)] and all(map(math.isfinite, losses.values()))
    saved = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert saved == [f"step-{2 * number:07d}.ckpt" for number in range(1, stages + 1)]
    # The name of a clip may have folders.
    assert any("step-0000002-" in str(path) for path in folder.glob("samples/**/*.mp4")) == sampled


def lacks(choice: str) -> str | None:
    """The library that a choice needs and that is not here."""
    name = {"renderer=pytorch3d": "pytorch3d"}.get(choice)
    return name if name and not importlib.util.find_spec(name) else None


@pytest.mark.parametrize(("group", "option"), PARTS)
def test_every_option_takes_two_steps(
    group, option, svd_folder, wan_folder, flux_folder, bodies, cache, tmp_path, capsys
):
    words = words_of(group, option, svd_folder, wan_folder, flux_folder, bodies, cache)
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
UMT5 = ("text=prompt", "text.encoder=umt5", "backbone.cross_attention_width=32")
# What no machine has by itself -> how its refusal begins.
ELSEWHERE = {
    SMALL_SVD: f"backbone.weights: no unet at '{SVD}'. Give",
    ("codec=svd_vae",): f"codec.path: no vae at '{SVD}'. Give",
    ("codec=wan_vae",): "codec.path: no vae at 'Wan-AI/Wan2.1-T2V-1.3B-Diffusers'. Give",
    ("codec=flux_vae",): "codec.path: no vae at 'black-forest-labs/FLUX.1-Kontext-dev'. Give",
    CLIP: f"image_embedding.path: no image_encoder at '{SVD}'. Give",
    UMT5: "text.path: umt5 is read from files; give text.path the folder of a pipeline with tokenizer/ and text_encoder/",
    (*UMT5, "text.path=no/wan"): "text.path: no text_encoder at 'no/wan'. Give text.path a folder with config.json and",
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
    without_samples = {name: ["training.validate_every=0"] for name in ("zero3", "fsdp")}
    train_together(
        1, [[*base, f"strategy={name}", f"name={name}", *without_samples.get(name, [])] for name in STRATEGIES]
    )
    for name in STRATEGIES:
        took_two_steps(tmp_path / name, sampled=name not in without_samples)


# Experiments that start from another one's run.
AFTER = {"gas": "gas_nerf", "humangif": "gas_nerf", "hvg_stage2": "hvg_stage1"}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("experiment", [None, *sorted({*EXPERIMENTS} - TRANSFORMERS.keys())], ids=str)
def test_every_experiment_takes_two_steps_at_every_scale(experiment, scale, svd_words, flux_folder, cache, tmp_path):
    """The second phase from the first one's run, and GAS from its radiance field, as they are meant."""
    networks = {"cpu": BACKBONES["svd_tiny"], "gpu": BACKBONES["svd_mid"], "paper": svd_words}[scale]
    pictures = (
        [*FLUX, *(f"{key}={flux_folder}" for key in FLUX_FOLDERS)] if scale == "paper" else BACKBONES["flux_tiny"]
    )
    # Given views have a level of their own, which the library's kernels do not know.
    small_buckets, given = "data.buckets=[[2,1],[1,2]]", ["evaluation.known_views=[0]", "backbone.kernels=fast"]
    grids = {
        "hvg_stage2": [small_buckets],
        "demo": [small_buckets],
        "human4dit": [small_buckets],
        "hvg": [f"stages.views_and_frames.{small_buckets}"],
        "diffuman4d": ["data.buckets=[[2,1],[2,2]]", *given],
        "sv4d": ["data.buckets=[[2,2]]", *given],
    }
    for name in [*([AFTER[experiment]] if experiment in AFTER else []), experiment]:
        chosen = [f"experiment={name}"] if name else []
        small = pictures if name == "reimagine_image" else networks
        base = [f"scale={scale}", "strategy=single", *SIZES, *small, cache, f"output={tmp_path}"]
        # Sizes of a video model's parts hold for those that use them.
        words = [*base, *chosen, *grids.get(name or "", [])]
        if name == "gas":
            people = "num_subjects:2,num_held_out_subjects:1,image_size:64"
            members = {"views": "views:2,frames:1", "poses": "views:1,frames:2"}
            words = [word for word in words if word not in DATASET and word != "dataset.image_size=64"]
            words += [f"dataset.members.{label}={{{people},{sizes}}}" for label, sizes in members.items()]
            words.append("data.buckets=[[2,1],[1,2]]")
        asked = [word for word in words if word not in small]
        takes_two_steps(words, tmp_path, name or "plain", asked)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("experiment", TRANSFORMERS)
def test_every_experiment_on_a_transformer_takes_two_steps_at_every_scale(experiment, scale, wan_folder, tmp_path):
    words = ["backbone.width=48", "backbone.heads=2", "backbone.layers=2", "backbone.feed_forward=96"]
    if scale == "paper":
        words += ["backbone.weights=null", "backbone.cross_attention_width=16", f"codec.path={wan_folder}"]
        words += ["camera.encoder=learned"] * (experiment == "three_dimo")
    words = [f"experiment={experiment}", f"scale={scale}", "strategy=single", *SIZES, *words, *TRANSFORMERS[experiment]]
    takes_two_steps([*words, "dataset.image_size=64"], tmp_path)


@pytest.mark.parametrize("option", RECONSTRUCTORS)
def test_every_reconstructor_takes_two_steps_or_none(option, cache, tmp_path):
    words = [*SIZES, cache, "system=avatar", f"reconstructor={option}", f"output={tmp_path}", "name=run"]
    fields = registry.load("reconstructor", option_values("reconstructor", option)["name"]).Config.model_fields
    lacking = [f"reconstructor.{key}" for key, field in fields.items() if field.is_required()]
    if lacking:
        with pytest.raises(ConfigError) as refused:
            compose(words)
        assert [problem.path for problem in refused.value.problems] == lacking
    elif compose(words).last_step:
        takes_two_steps(words, tmp_path)
    else:
        train(compose(words), log=lambda line: None)
        assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-0000000.ckpt"]


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
    """Its arms at the first seed, of many some, one after another in this process, then its report."""
    monkeypatch.chdir(tmp_path)
    folder, study = studies()[name], load_study(studies()[name])
    compared = any(word.startswith("backbone=") for arm in study.arms.values() for word in arm)
    chosen = [word.partition("=")[2] for word in study.base if word.startswith("backbone=")]
    small = () if compared else BACKBONES[[*chosen, "svd_tiny"][0]]
    words = [*study_sizes(study), *small, cache, f"output={tmp_path}"]
    arms = plan(study.model_copy(update={"seeds": study.seeds[:1]}), name, words)
    assert [arm.arm for arm in arms] == list(study.arms)
    some = arms[:: -(-len(arms) // MOST_ARMS)]
    some = [arm for arm in arms if arm in some or any(other.trained_by is arm for other in some)]
    train_needs(some)
    prepare([arm.config for arm in some], ("train", "val", "test"), jobs=1)
    for arm in sorted(some, key=lambda arm: arm.trained_by is not None):
        arm.folder.mkdir()
        (arm.folder / "config.yaml").write_text(arm.config.to_yaml())
        run_arm(arm.folder, arm.trained_by and arm.trained_by.folder)
    code = cli.run(["study", str(folder), *words, f"seeds=[{study.seeds[0]}]", "collect=true"])
    assert code == (0 if len(some) == len(arms) else os.EX_TEMPFAIL)
    found = json.loads((tmp_path / "results.json").read_text())["arms"]
    assert [arm["name"] for arm in found] == [*study.arms, *study.baselines]
    done = [arm["name"] for arm in found if arm["status"] == "done" and arm["seeds"][0]["values"]]
    assert done == [*(arm.arm for arm in some), *study.baselines]


@pytest.mark.parametrize("name", sorted(studies()))
def test_every_arm_of_every_study_takes_two_steps_on_a_transformer(name, cache, tmp_path):
    """By four words on the command line, which no study knows of. Arms that only sample otherwise have the weights of others."""
    study = load_study(studies()[name])
    # A model of single pictures sees photos of any size, as no video model does.
    arms = {arm: words for arm, words in study.arms.items() if "backbone=flux_tiny" not in words}
    study = study.model_copy(update={"arms": arms})
    # Steps that share have blocks between the outer ones.
    deep = ["backbone.layers=3"] if any(w.startswith("evaluation.reuse") for x in arms.values() for w in x) else []
    words = [*study_sizes(study), *TRANSFORMER, *BACKBONES["wan_tiny"], *deep, cache, f"output={tmp_path}"]
    arms = plan(study.model_copy(update={"seeds": study.seeds[:1]}), name, words)
    assert [arm.arm for arm in arms] == list(study.arms)
    of_videos = [arm for arm in arms if "backbone" in arm.config.parts]
    chosen = {(arm.config.backbone.name, arm.config.codec.name, arm.config.prediction.name) for arm in of_videos}
    assert chosen == ({("wan_dit", "pixel", "flow")} if of_videos else set())
    trained = [arm for arm in of_videos if arm.trained_by is None]
    train_needs(trained)
    for arm in trained:
        prepare([arm.config], ("train", "val"), jobs=1)
        train(arm.config, log=lambda line: None)
        took_two_steps(arm.folder, sampled=False, stages=len(stages_of(arm.config)))


def study_sizes(study: StudyFile) -> list[str]:
    """Words that make a study small where it does not say the size itself."""
    given = {word.partition("=")[0] for word in study.base}
    sizes = [
        word for word in SIZES if not word.startswith(("dataset.", "data.")) or word.partition("=")[0] not in given
    ]
    # Steps of those that say themselves how many views they see, and not how many there are, see 4 at most.
    seen = given & {"data.views", "data.buckets", "data.grids"}
    views = ["dataset.views=4"] if seen and "dataset.views" not in given else []
    if any(word.startswith("experiment=") for words in study.arms.values() for word in words):
        # Presets say in buckets how much of a clip of scale=cpu a step sees.
        views = ["dataset.views=4", "dataset.frames=4"]
    people = ["dataset.num_subjects=3", *views]
    mixed = [word.partition("=")[0] for word in study.base if word.startswith("dataset.members.")]
    if mixed:
        sizes = [word for word in sizes if word not in DATASET]
        small = ("num_subjects=3", "num_held_out_subjects=1", "image_size=32")
        people = [f"{member}.{word}" for member in mixed for word in small]
    return [*sizes, *people, "training.validate_every=0"]


def train_needs(arms: Sequence[ArmRun]) -> None:
    for need in needs_of(arms):
        prepare([need.config], ("train", "val"), jobs=1)
        need.folder.mkdir(parents=True)
        (need.folder / "config.yaml").write_text(need.config.to_yaml())
        run_need(need.folder)


def test_every_file_of_conf_is_in_a_test_above():
    groups = {path.parent.name for path in CONF.glob("*/*.yaml")}
    assert groups == {group for group, _ in OPTIONS} | {"at_scale"}
    assert {group for group, _ in PARTS} | {*APART} == groups - {"at_scale"}
