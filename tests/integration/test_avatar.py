"""An avatar is trained, stopped, continued, scored, sampled and studied by the commands that video models have."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from avatars import write_package
from footage import read_video
from forks import start_ranks
from motion_files import save_motion

from hvg.commands import show
from hvg.commands.words import take_options
from hvg.config.command_options import ExportOptions, SampleOptions, ShowOptions
from hvg.config.composition import compose
from hvg.core.checkpoint import Checkpoint, checkpoint_path
from hvg.core.errors import CheckpointError, ConfigError, DataError, HvgError
from hvg.core.labels import PHOTO
from hvg.geometry.motion import Motion
from hvg.media.images import write_png
from hvg.model.load import load_system
from hvg.parts import registry
from hvg.sample.camera_paths import around, write_cameras
from hvg.sample.export import export
from hvg.sample.generate import open_request
from hvg.study.plan import plan
from hvg.study.study_file import load_study
from hvg.train.run import train

AVATAR = ("system=avatar", "reconstructor=tiny", "system.rays=64")
SECTIONS = ("weights", "exp_avg", "exp_avg_sq", "average")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    return write_package(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module", autouse=True)
def installed(site):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        registry._plugins.cache_clear()
        yield
    registry._plugins.cache_clear()


@pytest.fixture(scope="module")
def words(tiny, cache, tmp_path_factory) -> tuple[str, ...]:
    """Four steps of a tiny avatar, with a checkpoint of each."""
    own = [word for word in tiny if not word.startswith("backbone.")]
    every = (
        "training.steps=4",
        "training.checkpoint_every=1",
        "training.keep_last=9",
        "data.recolour=0.5",
        "fit=typical",
    )
    return (*own, cache, *AVATAR, *every, "device=cpu", f"output={tmp_path_factory.mktemp('runs')}")


def flattened(words) -> list[str]:
    """The words of a run whose reconstructor learns nothing."""
    return ["reconstructor=flat" if word == "reconstructor=tiny" else word for word in words]


def folder(words, name: str) -> Path:
    return Path(words[-1].removeprefix("output=")) / name


def saved(words, name: str, step: int = 4) -> Path:
    return checkpoint_path(folder(words, name) / "checkpoints", step)


def losses(words, name: str) -> list[float]:
    rows = [json.loads(line) for line in (folder(words, name) / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def same_bits(a: Path, b: Path) -> bool:
    mine, theirs = Checkpoint(a), Checkpoint(b)
    pairs = [(mine.section(section), theirs.section(section)) for section in SECTIONS]
    return all(x.keys() == y.keys() and all(torch.equal(x[key], y[key]) for key in x) for x, y in pairs)


@pytest.fixture(scope="module")
def run(words) -> Path:
    """The folder of a trained avatar."""
    said: list[str] = []
    train(compose([*words, "name=run", "training.validate_every=2"]), log=said.append)
    assert said[-1] == f"trained 4 steps; the run is in {folder(words, 'run')}"
    return folder(words, "run")


def test_a_run_logs_every_loss_and_validates(words, run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    first = next(row for row in rows if "loss" in row)
    assert first["loss"] == pytest.approx(first["colour"] + 0.1 * first["mask"], rel=1e-5)
    assert [row["step"] for row in rows if "validation_psnr" in row] == [1, 3]
    assert len(list((run / "samples").glob("step-0000004-*.mp4"))) == 1
    assert "codec" not in yaml.safe_load((run / "config.yaml").read_text())


def test_a_stopped_run_continues_to_the_same_bits(words, run):
    train(compose([*words, "name=again", f"resume={saved(words, 'run', 2)}"]), log=lambda line: None)
    assert same_bits(saved(words, "again"), saved(words, "run"))
    train(compose([*words, "name=seed1", "seed=1"]), log=lambda line: None)
    assert losses(words, "seed1") != losses(words, "run") and not same_bits(saved(words, "seed1"), saved(words, "run"))


def test_other_words_are_refused_when_it_goes_on(words, run):
    with pytest.raises(ConfigError, match=r"system\.mask") as refusal:
        train(
            compose([*words, "name=run", "system.mask=0.5", "training.steps=5", "resume=auto"]), log=lambda line: None
        )
    assert "resume_changes=[system.mask]" in str(refusal.value)
    with pytest.raises(ConfigError, match="reconstructor: was tiny, now flat"):
        train(compose([*flattened(words), "name=run", "resume=auto"]), log=lambda line: None)


def test_batches_that_a_step_accumulates_are_one_batch(words):
    for name, more in (("whole", ["data.batch_size=2"]), ("parts", ["data.batch_size=1", "training.accumulate=2"])):
        train(compose([*words, f"name={name}", "training.precision='32'", *more]), log=lambda line: None)
    assert losses(words, "parts") == pytest.approx(losses(words, "whole"), rel=1e-4)


def test_a_new_run_starts_from_another_avatar_and_not_from_a_video_model(words, tiny, cache, run):
    said: list[str] = []
    train(compose([*words, "name=on", f"checkpoint={run}", "training.steps=1"]), log=said.append)
    assert any("4 weights kept" in line for line in said)
    video = (*tiny, cache, "device=cpu", "training.steps=1", words[-1])
    train(compose([*video, "name=video"]), log=lambda line: None)
    with pytest.raises(CheckpointError, match="cannot be started from"):
        train(compose([*words, "name=off", f"checkpoint={folder(words, 'video')}"]), log=lambda line: None)


# --- what is made of it ---


def test_it_is_scored_like_any_other(hvg, site, run):
    done = hvg("evaluate", f"checkpoint={run}", path=site)
    assert done.returncode == 0, done.stderr
    assert "psnr" in done.stdout
    record = json.loads((run / "evaluation-test-step-0000004" / "results.json").read_text())
    assert record["values"]["psnr"]["value"] > 3
    again = hvg("evaluate", f"checkpoint={run}", "sampler=view", "overwrite=true", path=site)
    assert again.returncode == 1 and "system=avatar uses no sampler" in again.stderr


@pytest.fixture
def asked(tmp_path, run) -> dict[str, str]:
    """Options of ``hvg sample``."""
    angles = torch.linspace(0.5, 1, 10)[:, None] * torch.tensor([1.0, 0.0, 0.0])
    save_motion(tmp_path / "walk.npz", Motion(rotations={"left_shoulder": angles, "pelvis": angles * 0}))
    write_png(tmp_path / "photo.png", torch.rand(3, 90, 90) * 2 - 1)
    given = {"checkpoint": run, "reference": tmp_path / "photo.png", "motion": tmp_path / "walk.npz"}
    return {key: str(value) for key, value in given.items()}


def request(asked: dict[str, str], **more: object):
    words = [f"{key}={value}" for key, value in (asked | {key: str(x) for key, x in more.items()}).items()]
    return open_request(take_options(words, SampleOptions)[0], [])


def test_a_person_of_a_photo_is_drawn(hvg, site, asked, tmp_path):
    words = [f"{key}={value}" for key, value in asked.items()]
    done = hvg("sample", *words, f"out={tmp_path / 'out'}", "frames=10", "camera=static", path=site)
    assert done.returncode == 0, done.stderr
    assert "note: the photo's person is taken to stand at rest, arms spread; reference_motion=" in done.stdout
    assert (
        "note: the photo is taken to be from the front, 3.2 m away, 36 degrees of view; reference_camera="
        in done.stdout
    )
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"view-00.mp4", "tiled.mp4", "photo_as_seen.png", "cameras.json", "sample.json"} <= names
    assert not {"signals.mp4", "latents.safetensors"} & names
    assert len(read_video(tmp_path / "out" / "view-00.mp4")[0]) == 10
    assert json.loads((tmp_path / "out" / "sample.json").read_text())["sampling"] == {}


def test_pieces_of_a_long_video_are_those_of_the_whole(asked):
    made = request(asked, frames=10)
    system, batch = made.system, made.batch
    pieces = list(system.pieces(batch, None))
    assert [piece.shape[2] for piece in pieces] == [8, 2]
    late = batch.select(frames=[9])
    assert (torch.cat(pieces, dim=2)[:, :, 9:] - system.generate(late, num_steps=1)).abs().max() < 1e-5


def test_a_photo_is_taken_from_where_and_as_is_said(asked, tmp_path):
    plain = request(asked).batch.reference
    assert plain.cameras.shape == (1, 1) and plain.body.vertices is not None
    assert float(plain.cameras.centers[0, 0, 2]) == pytest.approx(3.2, abs=0.1)
    path = around(
        torch.tensor([0.0, 1.0, 0.0]), 1, elevation_degrees=30.0, distance=5.0, fov_degrees=20.0, image_size=(90, 90)
    )
    write_cameras(tmp_path / "photo.json", path.cameras, path.names)
    told = request(asked, reference_camera=tmp_path / "photo.json", reference_motion=asked["motion"])
    assert not [note for note in told.notes if note.startswith("the photo")]
    photo = told.batch.reference
    assert photo.cameras.image_size == photo.frames.shape[-2:] == (32, 32)
    assert torch.allclose(photo.cameras.world_to_camera[0], path.cameras.world_to_camera[0])
    assert photo.cameras.intrinsics[0, 0, 0, 0] == pytest.approx(float(path.cameras.intrinsics[0, 0, 0, 0]) * 32 / 90)
    assert photo.body.joints.shape[:2] == (1, 1) and not torch.equal(photo.body.joints, plain.body.joints)


def test_a_video_model_is_told_where_one_of_its_parts_asks(asked, words, tiny, cache, monkeypatch):
    video = (*tiny, cache, "device=cpu", "training.steps=1", "name=asking", words[-1])
    train(compose(video), log=lambda line: None)
    given = asked | {"checkpoint": str(folder(words, "asking"))}
    unasked = request(given, reference_motion=asked["motion"])
    assert unasked.batch.reference.cameras is None
    assert "no part of this model asks for reference_motion=" in unasked.notes
    monkeypatch.setattr(registry.load("conditioner", "reference_latent"), "poses_photo", True)
    told = request(given)
    assert told.batch.reference.cameras.shape == (1, 1) and any("at rest" in note for note in told.notes)


def test_what_cannot_be_a_photo_s_camera_is_told_in_one_line(asked, tmp_path):
    for name, views, size in (("two", 2, (90, 90)), ("wide", 1, (45, 90))):
        path = around(torch.zeros(3), views, elevation_degrees=0.0, distance=3.0, fov_degrees=40.0, image_size=size)
        write_cameras(tmp_path / f"{name}.json", path.cameras, path.names)
    for name, said in (("two", "holds 2 view"), ("wide", "expected the same aspect")):
        with pytest.raises(DataError, match=said) as refusal:
            request(asked, reference_camera=tmp_path / f"{name}.json")
        assert f"{name}.json" in str(refusal.value) and "\n" not in str(refusal.value)
    with pytest.raises(HvgError, match="box= cuts the photo"):
        request(asked, reference_camera=tmp_path / "two.json", box="[0,0,9,9]")


def test_a_contact_sheet_shows_what_needs_no_training(words, tmp_path, monkeypatch):
    columns = {}
    drawn = show.tile_columns
    monkeypatch.setattr(show, "tile_columns", lambda found: columns.update(found) or drawn(found))
    for name, more in (("tiny", list(words)), ("flat", flattened(words))):
        columns.clear()
        show.contact_sheet(compose(more), ShowOptions(out=tmp_path / f"{name}.png"))
        titles = [PHOTO, "image", "true red, fit blue", "alpha", *(["flat"] if name == "flat" else [])]
        assert list(columns) == titles and (tmp_path / f"{name}.png").is_file()
    assert columns["flat"].shape == columns["image"].shape and columns["flat"].max() == 1


def test_an_export_is_of_video_models(run, tmp_path):
    with pytest.raises(CheckpointError, match="holds system=avatar; exports are of video models") as refusal:
        list(export(ExportOptions(checkpoint=run, out=tmp_path / "out")))
    assert "\n" not in str(refusal.value) and not (tmp_path / "out").exists()


def test_a_damaged_one_is_named(words, run):
    train(compose([*words, "name=damaged", "training.steps=1"]), log=lambda line: None)
    (file,) = saved(words, "damaged", 1).glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="damaged") as refusal:
        load_system(folder(words, "damaged"))
    assert "\n" not in str(refusal.value)


# --- one that has nothing to learn ---


def test_what_learns_nothing_is_a_checkpoint_of_step_0(words, tmp_path):
    flat, said = [*flattened(words), "name=flat"], []
    train(compose(flat), log=said.append)
    assert said == [
        f"nothing to train: this avatar has no weights; its checkpoint is of step 0, in {folder(words, 'flat')}"
    ]
    names = {path.name for path in folder(words, "flat").iterdir()}
    assert {"config.yaml", "run.json", "checkpoints"} <= names
    system, config = load_system(folder(words, "flat"))
    assert config.last_step == 0 and not list(system.parameters())
    train(compose([*flat, "resume=auto"]), log=said.append)
    assert said[1] == f"nothing to train: {saved(words, 'flat', 0)} is at step 0, training.steps is 0"
    with pytest.raises(CheckpointError, match="holds checkpoints of an earlier run"):
        train(compose(flat), log=said.append)
    with pytest.raises(ConfigError, match=r"dataset\.seed"):
        train(compose([*flat, "dataset.seed=5", "resume=auto"]), log=said.append)


@pytest.mark.long
def test_a_study_compares_avatars_with_a_video_model(hvg, site, tiny, cache, tmp_path):
    own = [word for word in tiny if not word.startswith("backbone.")]
    text = {
        "title": "Avatars",
        "question": "Which?",
        "varies": ["system", "reconstructor"],
        "base": [*own, cache, "device=cpu", "training.steps=2", "data.batch_size=2", f"output={tmp_path / 'out'}"],
        "arms": {
            "video": [],
            "tiny": ["system=avatar", "reconstructor=tiny"],
            "flat": ["system=avatar", "reconstructor=flat"],
        },
        "baselines": ["copy_reference"],
        "videos": 1,
    }
    (tmp_path / "avatars").mkdir()
    (tmp_path / "avatars" / "study.yaml").write_text(json.dumps(text))
    runs = plan(load_study(tmp_path / "avatars"), "avatars", [])
    assert [run.config.last_step for run in runs] == [2, 2, 0]
    done = hvg("study", str(tmp_path / "avatars"), "jobs=1", path=site)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-3000:]
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [arm["status"] for arm in results["arms"]] == ["done"] * 4
    assert all(run.is_trained() for run in runs)
    # What all arms are told holds for those that use it; an arm's own word has to be of use.
    text["base"] = [*text["base"], "pose=skeleton"]
    (tmp_path / "avatars" / "study.yaml").write_text(json.dumps(text))
    video, *others = plan(load_study(tmp_path / "avatars"), "avatars", [])
    assert video.config.pose.name == "skeleton" and all(run.config.conditioners == {} for run in others)
    text["arms"]["flat"].append("pose=skeleton")
    (tmp_path / "avatars" / "study.yaml").write_text(json.dumps(text))
    with pytest.raises(ConfigError, match="arm flat: pose: system=avatar uses no pose"):
        plan(load_study(tmp_path / "avatars"), "avatars", [])


# --- several processes ---


@pytest.mark.long
def test_every_strategy_trains_it_and_continues_to_the_same_bits(words, site):
    names, two = (
        ("ddp", "zero1", "zero2", "zero3", "fsdp"),
        ("strategy.devices=2", "data.batch_size=1", "training.precision='32'"),
    )
    alone = [*words, "data.batch_size=2", "training.precision='32'", "name=alone"]
    whole = [[*words, *two, f"strategy={name}", f"name={name}"] for name in names]
    again = [
        [*words, *two, f"strategy={name}", f"name={name}_again", f"resume={saved(words, name, 2)}"] for name in names
    ]
    train_together(1, [alone], site)
    train_together(2, [*whole, *again], site)
    for name in names:
        assert losses(words, name) == pytest.approx(losses(words, "alone"), abs=1e-5)
        assert same_bits(saved(words, name), saved(words, f"{name}_again"))


def train_together(processes: int, runs: list[list[str]], site: Path) -> None:
    """As of ``train_runs``, with a package on the path."""
    started = start_ranks(
        processes, "train_with_package", json.dumps([str(site), runs]), path=Path(__file__).parents[1]
    )
    finished = [process.finish() for process in started]
    assert not any(done.returncode for done in finished), "\n".join((d.stdout + d.stderr)[-3000:] for d in finished)
