"""Commands as a user types them, right and wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from footage import read_image, read_video
from forks import start_ranks
from motion_files import save_motion

from hvg import cli
from hvg.commands.words import take_options
from hvg.config.command_options import SampleOptions
from hvg.config.composition import load_resolved
from hvg.config.precision import explain_here, precision_here
from hvg.core.checkpoint import latest_checkpoint, precision_of
from hvg.geometry.motion import Motion
from hvg.media.images import write_png
from hvg.sample.camera_paths import read_cameras
from hvg.sample.generate import open_request, request_digest
from hvg.sample.grid import CELL

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def trained(hvg, tiny, cache, tmp_path_factory):
    """A tiny training that has ended, and its run folder."""
    folder = tmp_path_factory.mktemp("runs")
    done = hvg("train", *tiny, cache, f"output={folder}", "name=run", "training.validate_every=1")
    assert done.returncode == 0, done.stderr
    return done, folder / "run"


@pytest.fixture(scope="module")
def run(trained):
    """The folder of a trained tiny run."""
    return trained[1]


@pytest.fixture
def motion(tmp_path):
    angles = torch.linspace(0, 1, 4)[:, None] * torch.tensor([1.0, 0.0, 0.0])
    save_motion(tmp_path / "walk.npz", Motion(rotations={"left_shoulder": angles, "pelvis": angles * 0}))
    return tmp_path / "walk.npz"


@pytest.fixture
def photo(tmp_path):
    write_png(tmp_path / "photo.png", torch.rand(3, 90, 50) * 2 - 1)
    return tmp_path / "photo.png"


def test_a_run_folder_holds_what_the_plan_says(run):
    names = {path.name for path in run.iterdir()}
    assert {"config.yaml", "run.json", "metrics.jsonl", "samples", "checkpoints"} <= names
    record = json.loads((run / "run.json").read_text())
    assert record["packages"]["torch"] and record["hardware"]
    assert record["precision"] == precision_here(load_resolved(run / "config.yaml"))
    checkpoint = latest_checkpoint(run / "checkpoints")
    assert checkpoint is not None and precision_of(checkpoint) == record["precision"]
    videos = list((run / "samples").glob("*.mp4"))
    assert len(videos) == 2
    # What is tuned by a validation is tuned on people who are neither trained on nor tested on.
    assert all("-val-" in video.name for video in videos)
    assert read_video(videos[0])[0].shape[0] == 2


def test_a_run_is_watched_with_its_curves_and_its_pictures(run, tmp_path):
    page = tmp_path / "watch.html"
    assert cli.run(["watch", str(run), "once=true", f"out={page}"]) == 0
    text = page.read_text(encoding="utf-8")
    for name in ("loss (smoothed)", "validation PSNR", "learning rate", "gradient norm", "images per second"):
        assert f'aria-label="{name} over training step"' in text
    assert text.count('src="data:video/mp4;base64,') == 1 and "run, step 2" in text
    assert "2 of 2" in text and 'data-sort="trained"' in text


def test_a_training_says_nothing_but_what_is_ours(trained):
    done, run = trained
    # Whether a test before has prepared these clips.
    first, *missing, last = done.stdout.splitlines()
    assert first == f"trains in {explain_here(load_resolved(run / 'config.yaml'))}"
    assert len(missing) < 2
    assert all(line.startswith("data.cache=") and "no clips are prepared" in line for line in missing)
    assert last == f"trained 2 steps; the run is in {run}"
    assert all(line.startswith("run: train") for line in done.stderr.splitlines())


@pytest.mark.parametrize("command", ["evaluate", "sample"])
def test_a_gpu_that_is_not_there_is_missed_before_anything_is_built(
    run, motion, photo, tmp_path, monkeypatch, capsys, command
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("hvg.model.load.build_system", None)
    more = [] if command == "evaluate" else [f"reference={photo}", f"motion={motion}"]
    assert cli.run([command, f"checkpoint={run}", *more, "device=cuda", f"out={tmp_path / 'out'}"]) == 1
    assert "device: cuda is not available here" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_evaluate_prints_and_writes_every_metric(hvg, run, tmp_path):
    done = hvg("evaluate", f"checkpoint={latest_checkpoint(run / 'checkpoints')}", f"out={tmp_path}")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "results.json").read_text())
    values = record["values"]
    assert record["precision"] == json.loads((run / "run.json").read_text())["precision"]
    assert list(values) == ["psnr", "psnr_foreground", "ssim", "l1", "mask_iou", "dtssd", "dvssd"]
    assert all(score["value"] is not None and score["definition"] in done.stdout for score in values.values())
    assert "protocol basic/v2\n" in done.stdout
    assert all(name in done.stdout for name in values)
    assert "test: evaluate 1/1" in done.stderr
    own = record["anchors"]["truth"]
    assert list(record["anchors"]) == ["truth"] and list(own) == list(values)
    assert own["psnr"] > values["psnr"]["value"] and f"the truth itself {own['mask_iou']:.4g}" in done.stdout


def sample_words(run, photo, motion, **words):
    """Words of `hvg sample`, those given instead of or besides the least it needs."""
    checkpoint = latest_checkpoint(run / "checkpoints")
    return [f"{k}={v}" for k, v in ({"checkpoint": checkpoint, "reference": photo, "motion": motion} | words).items()]


def test_sample_writes_a_video_per_view_and_what_it_was_made_of(hvg, run, motion, photo, tmp_path):
    out = tmp_path / "out"
    words = sample_words(run, photo, motion, camera="orbit", views=3, frames=5, out=out)
    done = hvg("sample", *words)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == {
        *("view-00.mp4", "view-01.mp4", "view-02.mp4", "tiled.mp4", "signals.mp4", "photo_as_seen.png"),
        *("cameras.json", "sample.json", "images", "transforms.json", "transforms_train.json", "transforms_test.json"),
    }
    assert read_image(out / "photo_as_seen.png")[0].shape == (3, 32, 32)
    assert all(len(read_video(path)[0]) == 5 for path in out.glob("*.mp4"))
    assert read_video(out / "view-00.mp4")[0].shape == (5, 3, 32, 32)
    record = json.loads((out / "sample.json").read_text())
    assert (record["views"], record["frames"], record["image_size"]) == (3, 5, [32, 32])
    assert record["config"] == "run" and record["provenance"]["packages"]["torch"]
    assert "note:" in done.stdout and "alpha" in done.stdout
    for said in ("note: sampler=single denoises windows of 3 x 5", "0 to 4, and training told 0 to 1"):
        assert done.stdout.count(said) == 1
    assert "the video's 5 frames are 0, 0.8, 1.5, 2.2, 3, in between interpolated of the motion's 4" in done.stdout
    assert "sample: write 5/5" in done.stderr


def test_a_prompt_and_a_part_of_the_motion_reach_the_model(run, motion, photo):
    words = sample_words(run, photo, motion, views=1, prompt='"a man, in red"', start=1, end=4, stride=2)
    request = open_request(take_options(words, SampleOptions)[0], [])
    assert request.batch.caption == ("a man, in red",) and request.batch.grid == (1, 1, 2)
    whole = open_request(take_options(sample_words(run, photo, motion, views=1, frames=4), SampleOptions)[0], [])
    assert torch.equal(request.batch.body.joints, whole.batch.body.joints[:, [1, 3]])
    assert whole.batch.caption is None


def test_a_person_of_a_folder_of_frames_reaches_the_request(run, photo, tmp_path):
    """And the frames' content what is kept of an unfinished one."""
    frame = {"poses": [[0.0] * 72], "Rh": [[0.0] * 3], "Th": [[0.0, 1.0, 0.0]], "shapes": [[0.0] * 10]}
    (tmp_path / "smpl").mkdir()
    for k in range(3):
        persons = [{"id": 0, **frame}, {"id": 7, **frame}][: 1 if k == 2 else 2]
        (tmp_path / "smpl" / f"{k:06d}.json").write_text(json.dumps(persons))
    words = sample_words(run, photo, tmp_path / "smpl", views=1, frames=2, person=7, convention="easymocap")
    options = take_options(words, SampleOptions)[0]
    request, digest = open_request(options, []), request_digest(options, [])
    assert "person 7 is in 2 of the 3 frames" in request.notes[0]
    (tmp_path / "smpl" / "000001.json").write_text(json.dumps([{"id": 7, **frame}]))
    assert request_digest(options, []) != digest


def test_written_cameras_can_be_given_back(run, motion, photo, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.run(["sample", *sample_words(run, photo, motion, views=2, frames=3, out=out)]) == 0
    first = {path.name: path.read_bytes() for path in out.glob("*.mp4")}
    cameras = json.loads((out / "cameras.json").read_text())
    words = sample_words(run, photo, motion, camera=out / "cameras.json", frames=3, out=tmp_path / "again")
    assert cli.run(["sample", *words]) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").glob("*.mp4")} == first
    # A camera that moves, for as many frames as it has; and where it may be written over, no video of the earlier views stays.
    moving = cameras["views"][0]
    moving["world_to_camera"] = [moving["world_to_camera"]] * 4
    moving["world_to_camera"][3] = [[*row[:3], row[3] + 0.1] for row in moving["world_to_camera"][3][:3]] + [
        [0, 0, 0, 1]
    ]
    (tmp_path / "moving.json").write_text(json.dumps({"image_size": [32, 48], "views": [moving]}))
    words = sample_words(run, photo, motion, camera=tmp_path / "moving.json", out=out)
    capsys.readouterr()
    assert cli.run(["sample", *words]) == 1
    assert f"out: {out} is not empty" in capsys.readouterr().err
    assert len(list(out.glob("view-*.mp4"))) == 2
    assert cli.run(["sample", *words, "overwrite=true"]) == 0
    assert [path.name for path in out.glob("view-*.mp4")] == ["view-00.mp4"]
    assert read_video(out / "view-00.mp4")[0].shape == (4, 3, 32, 48)


@pytest.mark.long
def test_what_a_sample_wrote_can_be_given_as_captured_views(run, motion, photo, tmp_path, capsys):
    rig, out = tmp_path / "rig", tmp_path / "between"
    assert cli.run(["sample", *sample_words(run, photo, motion, views=2, frames=3, out=rig)]) == 0
    capsys.readouterr()
    words = sample_words(run, photo, motion, known=rig, views=4, frames=3, out=out)
    assert cli.run(["sample", *words]) == 0
    said = capsys.readouterr().out
    assert "2 view(s) are as captured, behind the others: view-00, view-01" in said
    assert "2 view(s) are known, and no training step has such" in said
    assert "wrote 4 view(s)" in said
    names = [view["name"] for view in json.loads((out / "cameras.json").read_text())["views"]]
    assert names == ["90 degrees", "270 degrees", "view-00", "view-01"]
    for number, view in enumerate(("view-00", "view-01")):
        captured, made = (
            read_image(folder / f"images/{name}/00002.png")[0]
            for folder, name in ((rig, view), (out, f"view-0{number + 2}"))
        )
        # Pixels folded to latents come back as they were.
        assert (captured - made).abs().max() < 0.02
    (rig / "images" / "view-01" / "00000.png").unlink()
    assert cli.run(["sample", *words, "overwrite=true"]) == 1
    assert "camera 'view-01': there are pictures or poses of 2 moments; expected 4" in capsys.readouterr().err


def test_pictures_and_cameras_for_others_are_written_unless_nobody_wants_them(run, motion, photo, tmp_path, capsys):
    """What nerfstudio and 4D Gaussians open; it goes with the next sample, and what others have put there stays."""
    out = tmp_path / "out"
    words = sample_words(run, photo, motion, views=2, frames=3, out=out)
    assert cli.run(["sample", *words, "grid=true"]) == 0
    said = capsys.readouterr().out
    assert "grid.mp4, grid.webp, images/, transforms.json, photo_as_seen.png" in said
    # The photo and two views, each above its control map.
    grid = read_video(out / "grid.mp4")[0]
    assert len(grid) == 3 and grid.shape[-1] > 3 * CELL and grid.shape[-2] > 2 * CELL
    file = json.loads((out / "transforms.json").read_text())
    assert {frame["file_path"] for frame in file["frames"]} == {
        f"images/view-{v:02d}/{t:05d}.png" for v in range(2) for t in range(3)
    }
    video = read_video(out / "view-01.mp4")[0]
    for t in range(3):
        picture = read_image(out / f"images/view-01/{t:05d}.png")[0]
        # The video is compressed.
        assert picture.shape == (3, 32, 32) and (picture - video[t]).abs().mean() < 0.1
    given, own = (read_cameras(out / name).cameras for name in ("transforms.json", "cameras.json"))
    assert (given.world_to_camera - own.world_to_camera).abs().max() < 1e-5
    assert torch.equal(given.intrinsics, own.intrinsics.expand(2, 3, 3, 3))
    splits = {name: json.loads((out / f"transforms_{name}.json").read_text())["frames"] for name in ("train", "test")}
    assert {name: len(frames) for name, frames in splits.items()} == {"train": 6, "test": 3}
    assert all((out / f"{frame['file_path']}.png").is_file() for frames in splits.values() for frame in frames)
    (out / "images" / "mine.png").write_bytes(b"mine")
    assert cli.run(["sample", *words, "images=false", "overwrite=true"]) == 0
    assert [path.name for path in (out / "images").rglob("*.png")] == ["mine.png"]
    assert not list(out.glob("transforms*")) and not list(out.glob("grid*"))


def test_ranks_that_share_a_sample_write_what_one_process_writes(run, motion, photo, tmp_path, capsys):
    windows = ["sampler=temporal", "sampler.frames=3", "sampler.overlap=1", "evaluation.windows_per_call=1"]

    def words(name):
        return [*sample_words(run, photo, motion, views=2, frames=7, out=tmp_path / name), *windows]

    assert cli.run(["sample", *words("alone")]) == 0
    done = [process.finish() for process in start_ranks(2, "hvg.cli", "sample", *words("shared"))]
    assert not any(process.returncode for process in done), done
    assert [process.stdout.count("wrote 2 view(s)") for process in done] == [1, 0]
    for path in (tmp_path / "alone").glob("*.mp4"):
        assert (tmp_path / "shared" / path.name).read_bytes() == path.read_bytes()


def test_a_trained_model_is_scored_in_other_ways_of_sampling(run, tmp_path, capsys):
    checkpoint = f"checkpoint={latest_checkpoint(run / 'checkpoints')}"
    without = [f"~protocol.metrics.{label}" for label in ("ssim", "psnr_foreground", "mask_iou", "dtssd", "dvssd")]
    words = [checkpoint, "sampler=view", "sampler.views=1", "solver=heun", *without, f"out={tmp_path / 'out'}"]
    assert cli.run(["evaluate", *words]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("results.json", "measurements.safetensors", "predictions")
    }
    results = (tmp_path / "out/results.json").read_bytes()
    assert set(json.loads(results)["values"]) == {"psnr", "l1"}
    out = capsys.readouterr().out
    assert "protocol basic/v2+changes" in out
    assert (
        out.count("note: sampler=view denoises windows of 1 x 2 (views x frames), and no training step has that") == 1
    )
    assert cli.run(["evaluate", checkpoint, "solver=euler", f"out={tmp_path / 'out'}"]) == 1
    assert "is not empty" in capsys.readouterr().err
    assert (tmp_path / "out/results.json").read_bytes() == results
    assert cli.run(["evaluate", checkpoint, "pose=skeleton", f"out={tmp_path / 'other'}"]) == 1
    assert "cannot change after training" in capsys.readouterr().err


# What stops a command while it writes, its exit code then, and what it prints.
STOPS = {
    "disk full": (
        OSError(28, "No space left on device"),
        1,
        "cannot be written: No space left on device; the latents are kept",
    ),
    "Ctrl-C": (KeyboardInterrupt(), 130, "interrupted; the latents are kept in"),
}


@pytest.mark.parametrize("stop", STOPS)
def test_writing_is_repeated_without_denoising(run, motion, photo, tmp_path, monkeypatch, capsys, stop):
    from hvg.media import video
    from hvg.model import sampling

    def words(name, **more):
        return ["sample", *sample_words(run, photo, motion, views=2, frames=3, out=tmp_path / name, **more)]

    def stopped(*_):
        raise STOPS[stop][0]

    assert cli.run(words("whole")) == 0
    with monkeypatch.context() as broken:
        broken.setattr(video.VideoWriter, "add", stopped)
        assert cli.run(words("out")) == STOPS[stop][1]
        assert STOPS[stop][2] in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"latents.safetensors", "unfinished.json"}
    capsys.readouterr()
    assert cli.run(words("out", seed=9)) == 1
    assert "holds the unfinished output of another request" in capsys.readouterr().err
    with monkeypatch.context() as broken:
        broken.setattr(sampling, "denoise_windows", stopped)
        assert cli.run(words("out")) == 0
    assert "continues with the latents" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        path.name for path in (tmp_path / "whole").iterdir()
    }
    for path in (tmp_path / "whole").glob("*.mp4"):
        assert torch.equal(read_video(tmp_path / "out" / path.name)[0], read_video(path)[0])


def test_latents_of_another_checkpoint_or_photo_are_not_taken(run, motion, photo, tmp_path, monkeypatch, capsys):
    from hvg.media import video

    def stopped(*_):
        raise KeyboardInterrupt

    words = ["sample", *sample_words(run, photo, motion, views=1, frames=2, out=tmp_path / "out")]
    with monkeypatch.context() as broken:
        broken.setattr(video.VideoWriter, "add", stopped)
        assert cli.run(words) == 130
    write_png(photo, torch.zeros(3, 90, 50))
    capsys.readouterr()
    assert cli.run(words) == 1
    assert "of another request" in capsys.readouterr().err
    assert cli.run([*words, "overwrite=true"]) == 0
    assert "sample: denoise" in capsys.readouterr().err
    assert "latents.safetensors" not in {path.name for path in (tmp_path / "out").iterdir()}


def test_ctrl_c_while_denoising_says_that_the_command_starts_anew(run, motion, photo, tmp_path, monkeypatch, capsys):
    from hvg.model import sampling

    def stopped(*_):
        raise KeyboardInterrupt

    words = ["sample", *sample_words(run, photo, motion, views=1, frames=2, out=tmp_path / "out")]
    with monkeypatch.context() as broken:
        broken.setattr(sampling, "denoise_windows", stopped)
        assert cli.run(words) == 130
    assert "nothing of the denoising is kept; the same command begins it anew" in capsys.readouterr().err
    # Nor does what was not even begun stand in the way of another request.
    assert cli.run([*words, "seed=3"]) == 0


# A command that writes, with everything but where.
WRITERS = {
    "sample": ["sample", "checkpoint=none.ckpt", "reference=none.png", "motion=none.npz", "out={}"],
    "demo": ["demo", "out={}"],
    "demo make": ["demo", "make={}", "checkpoint=none.ckpt"],
    "evaluate": ["evaluate", "checkpoint=none.ckpt", "out={}"],
    "export": ["export", "checkpoint=none.ckpt", "out={}"],
    "show": ["show", "out={}"],
    "view": ["view", "out={}"],
    "convert": ["convert", "body=none.pkl", "out={}.npz"],
    "motion": ["motion", "video=none.mp4", "out={}.npz"],
    "photo": ["photo", "none.png", "out={}.png"],
    "compare": ["compare", "none", "nothing", "out={}"],
    "prepare": ["prepare", "data.cache={}"],
    "train": ["train", "output={}"],
    "launch": ["launch", "train", "output={}"],
    "sweep": ["train", "sweep=optuna", "metric=loss", "seed=1,2", "output={}"],
    "study": ["study", "experiments/quickstart", "output={}"],
    "collect": ["study", "experiments/quickstart", "output={}", "collect=true"],
}


@pytest.mark.parametrize(
    ("command", "place"), [*((command, place) for command in WRITERS for place in ("file", "long")), ("sample", "proc")]
)
def test_an_output_is_tried_before_any_work(tiny, tmp_path, monkeypatch, capsys, command, place):
    (tmp_path / "file").touch()
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path)
    # Not even root makes folders there.
    out, reason = {
        "file": ("file/out", "file is a file, where a folder belongs"),
        "long": ("o" * 300, "File name too long"),
        "proc": ("/proc/out", "cannot be written"),
    }[place]
    words = [word.format(out) for word in WRITERS[command]]
    if command in ("show", "view", "prepare", "train", "launch", "sweep"):
        words += tiny
    assert cli.run(words) == 1
    said = capsys.readouterr().err
    assert reason in said and said.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"file", "experiments"}


# What is wrong -> the words that make it so, and what the error has to name.
FAULTS = {
    "missing checkpoint": ({"checkpoint": "no.ckpt"}, "no.ckpt"),
    "missing photo": ({"reference": "no.png"}, "no.png"),
    "missing cameras": ({"camera": "no.json"}, "no.json"),
    "misspelt preset": ({"camera": "orbitt"}, "Did you mean 'orbit'"),
    "box": ({"box": "[0,0,51,90]"}, "50 pixels wide and 90 high"),
    "no box": ({"box": "[0,0,51]"}, "box.3: is missing"),
    "box without brackets": ({"box": "0,0,50,90"}, "got '0,0,50,90' (str). Did you mean [0,0,50,90]?"),
    "size": ({"image_size": 36}, "not divisible by 8"),
    "size of two sides": (
        {"image_size": "64x96"},
        "image_size: expected a valid integer or a list, got '64x96' (str). Did you mean [64,96]?",
    ),
    "unknown option": ({"refrence": "me.png"}, "refrence: unknown key or option. Did you mean 'reference'?"),
    "frozen": ({"pose": "skeleton"}, "cannot change after training"),
    "sampler": ({"sampler": "progresive"}, "Did you mean 'progressive'"),
    "file for a folder": ({"out": "me.mp4"}, "is the folder"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_word_of_sample_is_named(run, motion, photo, tmp_path, monkeypatch, capsys, fault):
    monkeypatch.chdir(tmp_path)
    words, named = FAULTS[fault]
    assert cli.run(["sample", *sample_words(run, photo, motion, **{"out": "out", **words})]) == 1
    assert named in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and not (tmp_path / "me.mp4").exists()


@pytest.mark.parametrize("fault", ["unreadable image", "joints", "missing option"])
def test_a_file_that_cannot_be_used_is_named_in_one_line(hvg, run, motion, photo, tmp_path, fault):
    words = sample_words(run, photo, motion, out=tmp_path / "out")
    named = {"unreadable image": photo, "joints": motion, "missing option": "motion"}[fault]
    if fault == "unreadable image":
        photo.write_bytes(b"no image")
    if fault == "joints":
        np.savez(motion, joints=np.zeros((4, 7, 3), dtype=np.float32))
    if fault == "missing option":
        words = [word for word in words if not word.startswith("motion=")]
    done = hvg("sample", *words)
    assert done.returncode == 1
    assert str(named) in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def write_folder(path, files):
    path.mkdir()
    for name, text in files.items():
        (path / name).write_text(text)


PERSON = {"poses": [[0.0] * 72], "Rh": [[0.0] * 3], "Th": [[0.0] * 3], "shapes": [[0.0] * 10]}
BENT = {"fl_x": 50, "w": 32, "h": 32, "k1": 0.1, "transform_matrix": np.eye(4).tolist()}
COLMAP = {"cameras.txt": "1 PINHOLE 32 32 50 50 16 16", "images.txt": "1 1 0 0 0 0 0 3 1 a.png"}
# What is wrong with a file -> the option that names it, its name, what writes it, and what the line has to say.
INPUTS = {
    "millimetres": (
        "motion",
        "m.npz",
        lambda path: np.savez(path, poses=np.zeros((2, 66)), trans=np.full((2, 3), 900.0)),
        "expected metres (from millimetres: save it / 1000)",
    ),
    "components": (
        "motion",
        "m.npz",
        lambda path: np.savez(
            path, global_orient=np.zeros((2, 3)), body_pose=np.zeros((2, 63)), left_hand_pose=np.zeros((2, 50))
        ),
        "'left_hand_pose' has 50 numbers a frame; expected 45",
    ),
    "program": (
        "motion",
        "m.pkl",
        lambda path: path.write_bytes(b"cos\nsystem\n(S'touch ran'\ntR."),
        "is a pickle, a program that hvg never runs; make plain arrays of it with `hvg convert",
    ),
    "two persons": (
        "motion",
        "smpl",
        lambda path: write_folder(path, {"000000.json": json.dumps([{"id": n, **PERSON} for n in (0, 3)])}),
        "holds the persons 0, 3, several; say which with person=",
    ),
    "bvh": ("motion", "m.bvh", lambda path: path.write_text("HIERARCHY\nROOT Hips\n{\n"), "damaged or no BVH"),
    "nobody's joints": (
        "motion",
        "m.npz",
        lambda path: np.savez(path, joints=np.random.default_rng(0).normal(size=(5, 17, 3))),
        "expected names, or 17 (COCO, Human3.6M)",
    ),
    "lens": (
        "camera",
        "transforms.json",
        lambda path: path.write_text(json.dumps({"frames": [BENT]})),
        "its lens bends",
    ),
    "up": (
        "camera",
        "sparse",
        lambda path: write_folder(path, COLMAP),
        "say which axis of it is: camera_up=y, -y, z or -z",
    ),
    "key": ("reference_body", "me.json", lambda path: path.write_text('{"hight": 1.7}'), "hight: Extra inputs"),
    "giant": ("reference_body", "me.yaml", lambda path: path.write_text("height: 17.2"), "less than or equal to 3"),
}


@pytest.mark.parametrize("fault", INPUTS)
def test_a_file_of_a_person_or_of_cameras_that_is_wrong_ends_a_sample_in_one_line(
    run, motion, photo, tmp_path, monkeypatch, capsys, fault
):
    monkeypatch.chdir(tmp_path)
    option, name, write, message = INPUTS[fault]
    write(tmp_path / name)
    before = {path.name for path in tmp_path.iterdir()}
    words = sample_words(run, photo, motion, out="out")
    words = [*(word for word in words if not word.startswith(f"{option}=")), f"{option}={tmp_path / name}"]
    assert cli.run(["sample", *words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / name) in line and message in line, line
    assert {path.name for path in tmp_path.iterdir()} == before


def test_show_writes_a_contact_sheet(hvg, tiny, tmp_path):
    done = hvg("show", *tiny, "index=1", f"out={tmp_path / 'sheet.png'}")
    assert done.returncode == 0, done.stderr
    sheet, _ = read_image(tmp_path / "sheet.png")
    assert sheet.shape[1] > 200 and sheet.shape[2] > 700
    wrong = hvg("show", *tiny, "index=99", f"out={tmp_path / 'other.png'}")
    assert wrong.returncode == 1 and "2 clips" in wrong.stderr
    before = (tmp_path / "sheet.png").read_bytes()
    again = hvg("show", *tiny, f"out={tmp_path / 'sheet.png'}")
    assert again.returncode == 1 and "exists already" in again.stderr and "overwrite=true" in again.stderr
    assert (tmp_path / "sheet.png").read_bytes() == before


def test_multirun_trains_every_combination(hvg, tiny, cache, tmp_path):
    done = hvg(
        "train",
        "--multirun",
        *tiny,
        cache,
        "pose=none,skeleton",
        f"output={tmp_path}",
        "name=sweep",
        "training.steps=1",
    )
    assert done.returncode == 0, done.stderr
    runs = sorted((tmp_path / "sweep").iterdir())
    assert [("none" in run.name, "skeleton" in run.name) for run in runs] == [(True, False), (False, True)]
    assert all(latest_checkpoint(run / "checkpoints") for run in runs)


def test_prepared_clips_equal_those_made_on_the_fly(hvg, tiny, tmp_path):
    from hvg.config.composition import compose
    from hvg.data.cache import open_clips
    from hvg.data.signals import signals_of_all

    # Several processes render the data of every study; each takes seconds to start.
    done = hvg("prepare", "synthetic", *tiny, f"data.cache={tmp_path}", "jobs=1", "pose=bone_map,smpl_normal")
    assert done.returncode == 0, done.stderr
    stored, live = compose([*tiny, f"data.cache={tmp_path}"]), compose(tiny)
    signals = signals_of_all([compose([*tiny, f"pose={pose}"]) for pose in ("bone_map", "smpl_normal")])
    assert len(signals) == 2
    a, b = (signals.load(open_clips(c, "test", signals), 1) for c in (stored, live))
    assert torch.equal(a.frames, b.frames) and torch.equal(a.alpha, b.alpha)
    assert torch.equal(a.reference.frames, b.reference.frames)
    assert torch.equal(a.cameras.world_to_camera, b.cameras.world_to_camera)
    assert torch.equal(a.body.joints, b.body.joints)
    for key in signals:
        assert torch.equal(a.signals[key], b.signals[key])


def test_an_unknown_command_is_named(hvg):
    done = hvg("trian")
    assert done.returncode == 2 and "train" in done.stderr
