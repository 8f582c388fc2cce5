"""Two models in one request, a video model on anybody's video, and what is refused: ``hvg sample``, ``refine``, ``evaluate``."""

import json
import re
from pathlib import Path

import pytest
import torch
from footage import read_image, read_video
from motion_files import save_motion
from untrained_checkpoints import write_untrained

from hvg import cli
from hvg.commands.words import take_options
from hvg.config.composition import compose
from hvg.config.refine_options import RefineOptions
from hvg.geometry.motion import Motion
from hvg.media.folder_clips import views_of
from hvg.media.images import write_png
from hvg.media.video import write_video
from hvg.sample.refine import open_request
from hvg.values.task import NOVEL_POSE

pytestmark = pytest.mark.long

FRAMES = 4
SECOND = ("refiner=low_frequency", "refiner.steps=2", "refiner.strength=0.5")


@pytest.fixture(scope="module")
def models(tiny, cache, tmp_path_factory) -> tuple[Path, Path]:
    """Checkpoints of two small models that nobody trained: one of single pictures, and a video model that reads other signals."""
    folder = tmp_path_factory.mktemp("models")
    image = compose(
        [*tiny, cache, "sampler=partition", "sampler.views=1", "sampler.frames=1", "evaluation.weights=raw"]
    )
    video = compose(
        [*tiny, cache, "pose=skeleton", "seed=7", "name=video", "evaluation.weights=raw", "pose.dropout=0.1"]
    )
    paths = folder / "image" / "step-0000000.ckpt", folder / "video" / "step-0000000.ckpt"
    for config, path in zip((image, video), paths, strict=True):
        path.parent.mkdir()
        write_untrained(config, path, 0.05)
    return paths


@pytest.fixture
def person(tmp_path) -> list[str]:
    """Words of a photo and of a motion of ``FRAMES`` frames."""
    angles = torch.linspace(0, 1, FRAMES)[:, None] * torch.tensor([1.0, 0.0, 0.0])
    save_motion(tmp_path / "walk.npz", Motion(rotations={"left_shoulder": angles, "pelvis": angles * 0}))
    write_png(tmp_path / "photo.png", torch.rand(3, 90, 50, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    return [f"reference={tmp_path / 'photo.png'}", f"motion={tmp_path / 'walk.npz'}"]


def pictures(folder: Path) -> dict[str, torch.Tensor]:
    return {str(path.relative_to(folder)): read_image(path)[0] for path in sorted(folder.rglob("*.png"))}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(x, other[name]) for name, x in one.items())


def run(capsys, *words: object) -> str:
    """What a command prints that ends well."""
    code = cli.run([*map(str, words)])
    printed = capsys.readouterr()
    assert code == 0, printed.err + printed.out
    return printed.out


def test_a_recipe_of_two_models_is_one_after_the_other(models, person, tmp_path, capsys):
    image, video = models
    shot = ["views=2", f"frames={FRAMES}", "distance=3.0"]
    both = ["recipe=reimagine", f"checkpoint={image}", f"refiner.checkpoint={video}", "refiner.steps=2"]
    said = run(capsys, "sample", *both, *person, *shot, f"out={tmp_path / 'both'}")
    assert "note: refiner=low_frequency: " in said and "refines the frames, by 2 steps" in said
    record = json.loads((tmp_path / "both" / "sample.json").read_text())
    assert record["sampling"]["refiner"]["share"] == 0.35 and record["checkpoint"] == str(image)
    run(capsys, "sample", f"checkpoint={image}", *person, *shot, f"out={tmp_path / 'first'}")
    first, refined = (pictures(tmp_path / name / "images") for name in ("first", "both"))
    assert first.keys() == refined.keys() and not same(first, refined)
    # The anchor, and then all of it by hand: the pictures that the first model wrote, refined by the second one.
    assert torch.equal(first["view-00/00000.png"], refined["view-00/00000.png"])
    words = [*SECOND[:1], "refiner.strength=0.7", "refiner.steps=2", f"camera={tmp_path / 'first' / 'cameras.json'}"]
    by_hand = [f"checkpoint={video}", f"video={tmp_path / 'first' / 'images'}", *person, *words]
    run(capsys, "refine", *by_hand, f"out={tmp_path / 'second'}")
    assert same(pictures(tmp_path / "second" / "images"), refined)


def test_strength_0_of_a_request_is_the_first_model_alone(models, person, tmp_path, capsys):
    image, video = models
    shot = ["camera=static", f"frames={FRAMES}", "image_size=32", "distance=3.0"]
    run(capsys, "sample", f"checkpoint={image}", *person, *shot, f"out={tmp_path / 'first'}")
    words = ["refiner=sdedit", f"refiner.checkpoint={video}", "refiner.strength=0"]
    run(capsys, "sample", f"checkpoint={image}", *words, *person, *shot, f"out={tmp_path / 'same'}")
    assert same(pictures(tmp_path / "first" / "images"), pictures(tmp_path / "same" / "images"))


def test_head_and_hands_of_a_request_are_its_own_models(models, person, tmp_path, capsys):
    image, _ = models
    shot = ["camera=static", f"frames={FRAMES}", "distance=3.0"]
    run(capsys, "sample", f"checkpoint={image}", *person, *shot, f"out={tmp_path / 'first'}")
    said = run(capsys, "sample", f"checkpoint={image}", "refiner=crop", *person, *shot, f"out={tmp_path / 'crops'}")
    assert "refiner=crop: the model itself refines the frames" in said
    first, crops = (pictures(tmp_path / name / "images") for name in ("first", "crops"))
    apart = torch.stack([(first[name] != crops[name]).any(dim=0) for name in first])
    assert 0 < float(apart.float().mean()) < 0.9


def test_a_video_alone_is_refined_and_what_is_not_told_is_said(models, tmp_path, capsys):
    _, video = models
    frames = torch.rand(FRAMES, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    write_video(tmp_path / "film.mp4", frames, 12.0)
    said = run(capsys, "refine", f"checkpoint={video}", f"video={tmp_path / 'film.mp4'}", f"out={tmp_path / 'out'}")
    assert "note: pose=skeleton tells the model nothing: it reads motion= and camera=, not given" in said
    assert "note: appearance=reference_latent tells the model nothing: it reads reference=, not given" in said
    assert "no training step lacked reference_latent (appearance.dropout=0)" in said
    assert "photo_as_seen" not in said and not (tmp_path / "out" / "photo_as_seen.png").exists()
    made, rate = read_video(tmp_path / "out" / "view-00.mp4")
    assert made.shape == frames.shape and rate == pytest.approx(12.0)
    # The default is sdedit with the first frame as an anchor.
    first, _ = read_video(tmp_path / "film.mp4")
    assert torch.equal(pictures(tmp_path / "out" / "images")["view-00/00000.png"], first[0])
    assert not torch.equal(pictures(tmp_path / "out" / "images")["view-00/00001.png"], first[1])


def test_what_is_not_told_changes_nothing(models, person, tmp_path, capsys):
    """A photo that is told is heard; one that is not is not looked at, whatever stands in for it."""
    _, video = models
    frames = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    for t, frame in enumerate(frames):
        write_png(tmp_path / "film" / f"{t}.png", frame)
    words = [f"checkpoint={video}", f"video={tmp_path / 'film'}", "refiner.anchor=none"]
    run(capsys, "refine", *words, f"out={tmp_path / 'bare'}")
    run(capsys, "refine", *words, person[0], f"out={tmp_path / 'photo'}")
    run(
        capsys,
        "refine",
        *words,
        person[0],
        "appearance.strength=0",
        "reference_keys.strength=0",
        f"out={tmp_path / 'deaf'}",
    )
    bare, photo, deaf = (pictures(tmp_path / name / "images") for name in ("bare", "photo", "deaf"))
    assert same(bare, deaf) and not same(bare, photo)


def test_a_driving_video_beside_the_one_that_is_refined_moves_the_person(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HVG_VIDEO_ENV", str(tmp_path / "no-environment"))
    words = ["pose=motion_tokens", "pose.inject=channels", "pose.width=16", "pose.heads=2", "pose.depth=1"]
    words += ["dataset.driving=other_view", "evaluation.weights=raw"]
    checkpoint = tmp_path / "run" / "step-0000000.ckpt"
    checkpoint.parent.mkdir()
    write_untrained(compose([*tiny, *words]), checkpoint, 0.05)
    dance = torch.rand(2 * FRAMES, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    write_video(tmp_path / "dance.mp4", dance, 12.0)
    words = [f"checkpoint={checkpoint}", f"video={film(tmp_path, rate=12.0)}", f"driving={tmp_path / 'dance.mp4'}"]
    options = take_options(words, RefineOptions)[0]
    request = open_request(options, ["refiner=sdedit"], views_of(options.video), lambda stage, done, total: None)
    assert request.batch.driving.shape == (1, FRAMES, 3, 32, 32) and int(request.batch.task) == NOVEL_POSE
    assert (request.batch.driving.diff(dim=1).abs().amax(dim=(0, 2, 3, 4)) > 0.1).all(), "all are of other moments"
    assert any("dance.mp4: nobody looked whether it shows a person" in note for note in request.notes)
    assert not any("pose=motion_tokens tells the model nothing" in note for note in request.notes)
    run(capsys, "refine", *words, f"out={tmp_path / 'out'}")
    assert len(pictures(tmp_path / "out" / "images")) == FRAMES


def film(folder: Path, name: str = "film", frames: int = FRAMES, size: int = 32, rate: float = 30.0) -> Path:
    path = folder / f"{name}.mp4"
    write_video(path, torch.zeros(frames, 3, size, size), rate)
    return path


def two(folder: Path, **other) -> Path:
    """A folder of two views, of which the second one is another."""
    film(folder / "two", "a")
    return film(folder / "two", "b", **other).parent


FAULTS = {
    "missing": (lambda f: [f"video={f / 'none.mp4'}"], r"none\.mp4: there is no such file or folder"),
    "length": (
        lambda f: [f"video={film(f, frames=3)}", f"motion={f / 'walk.npz'}"],
        r"walk\.npz: has 4 frames \(start=0 end=4 stride=1\), .*film\.mp4 has 3; expected as many",
    ),
    "rate": (
        lambda f: [f"video={film(f, rate=12.0)}", f"motion={f / 'fast.npz'}"],
        r"fast\.npz: has 30 frames a second with stride=1, .*film\.mp4 12; expected the same",
    ),
    "cameras": (
        lambda f: [f"video={film(f)}", f"camera={f / 'cameras.json'}"],
        r"cameras\.json: holds 1 camera\(s\) of 4 frames, 64 x 48 pixels; the video has 1 view\(s\) of 4 frames, 32 x 32",
    ),
    "views": (
        lambda f: [f"video={two(f, size=48)}"],
        r"two: view 'b' is 4 frames of 48 x 48, view 'a' 4 frames of 32 x 32; expected all alike",
    ),
    "rates of views": (
        lambda f: [f"video={two(f, rate=15.0)}"],
        r"two: view 'b' has 15 frames a second, view 'a' 30; expected all alike",
    ),
    "size": (
        lambda f: [f"video={film(f, size=36)}"],
        r"image_size \[36, 36\] is not divisible by 8",
    ),
    "joints": (lambda f: [f"video={film(f)}", "refiner=crop"], r"refiner=crop looks for the person .* motion= camera="),
    "none": (lambda f: [f"video={film(f)}", "refiner=none"], "refiner=none: nothing would be changed"),
    "second": (lambda f: [f"video={film(f)}", "refiner.checkpoint=a"], "the model that refines is that of checkpoint="),
    "memory": (
        lambda f: [f"video={film(f)}", "memory=0.00001"],
        r"film\.mp4: its frames take more than memory=1e-05 GB",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_a_video_is_told_in_one_line(models, person, tmp_path, capsys, fault):
    still = torch.zeros(FRAMES, 3)
    save_motion(tmp_path / "fast.npz", Motion(rotations={"pelvis": still}, frames_per_second=30.0))
    camera = {"world_to_camera": torch.eye(4).tolist(), "intrinsics": [[50, 0, 32], [0, 50, 24], [0, 0, 1]]}
    (tmp_path / "cameras.json").write_text(json.dumps({"image_size": [48, 64], "views": [camera]}))
    words, message = FAULTS[fault]
    capsys.readouterr()
    assert cli.run(["refine", f"checkpoint={models[1]}", f"out={tmp_path / 'out'}", *words(tmp_path)]) == 1
    *progress, said = capsys.readouterr().err.strip().splitlines()
    assert all(line.startswith("refine: read ") for line in progress)
    assert said.startswith("hvg refine: ") and re.search(message, said), said


def test_what_a_refiner_makes_is_what_is_scored(models, tmp_path, capsys):
    image, video = models
    scores = {}
    for name, words in {
        "alone": (),
        "strength_0": ("refiner=sdedit", f"refiner.checkpoint={video}", "refiner.strength=0"),
        "low": (*SECOND, f"refiner.checkpoint={video}"),
        "crop": ("refiner=crop", "refiner.steps=2"),
    }.items():
        run(capsys, "evaluate", f"checkpoint={image}", *words, "anchors=none", f"out={tmp_path / name}")
        record = json.loads((tmp_path / name / "results.json").read_text())
        scores[name] = {metric: score["value"] for metric, score in record["values"].items()}
    assert scores["strength_0"] == scores["alone"]
    assert scores["low"]["psnr"] != scores["alone"]["psnr"] != scores["crop"]["psnr"]


def test_a_video_model_that_is_not_there_is_named(models, tmp_path, capsys):
    words = ["refiner=sdedit", "refiner.checkpoint=none", f"out={tmp_path / 'out'}"]
    assert cli.run(["evaluate", f"checkpoint={models[0]}", *words]) == 1
    assert "none: no such checkpoint" in capsys.readouterr().err
