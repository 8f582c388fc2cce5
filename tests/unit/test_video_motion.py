"""``hvg motion`` and ``hvg photo`` on what MediaPipe said of a drawn person, and how a person is placed in the world."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from footage import read_image, read_video
from PIL import Image
from recorded_detector import FOV, RATE, SIDE, environment_that_says, recorded

from hvg.cli import run
from hvg.core.errors import DataError
from hvg.geometry.keypoint_sets import MEDIAPIPE
from hvg.geometry.motion_files import load_motion
from hvg.geometry.person_in_world import (
    FEET,
    HIPS,
    Landmarks,
    camera_axes,
    camera_intrinsics,
    in_picture,
    person_in_world,
    smooth,
    stature,
)
from hvg.media.steady_video import steady_video
from hvg.media.video import write_video

# The twelve joints that the record has the truth of.
NAMES = [
    f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle") for side in ("left", "right")
]
COUNT = 30


@pytest.fixture
def said(tmp_path, monkeypatch):
    """What the stand-in for the detector says; a test may change it before it runs a command."""
    arrays = recorded()

    def install(last=10_000):
        folder = environment_that_says(tmp_path / "environment", arrays, last)
        monkeypatch.setenv("HVG_VIDEO_ENV", str(folder))

    return arrays, install


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "in" / "dance.mp4"
    write_video(path, torch.zeros(COUNT, 3, SIDE, SIDE), RATE)
    return path


def outcome(capsys, *words):
    """The exit code, and what was said on standard output and error."""
    code = run([*words])
    return code, *capsys.readouterr()


def from_hips(joints):
    pair = [NAMES.index(f"{side}_hip") for side in ("left", "right")]
    return joints - joints[:, pair].mean(1, keepdims=True)


def test_a_recorded_walk_becomes_a_motion_a_matte_and_an_overlay(said, video, tmp_path, capsys):
    arrays, install = said
    install()
    out = tmp_path / "new" / "dance.npz"
    words = [f"fov_degrees={FOV}", f"tilt_degrees={float(arrays['tilt'])}"]
    code, lines, progress = outcome(capsys, "motion", f"video={video}", f"out={out}", *words)
    assert code == 0 and "30 frames, 20 a second; a person is found in all of them" in lines
    assert "m tall; height= says otherwise" in lines
    assert all(f"motion: {stage} 30/30" in progress for stage in ("read", "detect", "draw"))
    assert {path.name for path in out.parent.iterdir()} == {"dance.npz", "dance_matte.mp4", "dance_overlay.mp4"}

    motion = load_motion(out)
    assert motion.frames_per_second == pytest.approx(RATE) and motion.num_frames == COUNT
    joints = np.stack([motion.places()[name].numpy() for name in NAMES], axis=1)
    error = np.linalg.norm(from_hips(joints) - from_hips(arrays["joints"]), axis=-1)
    assert error.mean() < 0.1
    # They go the way that they went: 1.35 m.
    way, true_way = (each[-1].mean(0) - each[0].mean(0) for each in (joints, arrays["joints"]))
    assert np.linalg.norm(way - true_way) < 0.2 * np.linalg.norm(true_way)

    with np.load(out, allow_pickle=False) as written:
        feet = written["joints"][:, FEET, 1].min(axis=1)
        assert np.abs(feet).max() < 0.06 and abs(feet.mean()) < 0.02
        assert (
            written["confidence"].shape == (COUNT, 33)
            and 0 <= written["confidence"].min() <= written["confidence"].max() <= 1
        )
        assert np.abs(written["joints"][0, HIPS].mean(0)[[0, 2]]).max() < 1e-5
        points = written["joints"] @ written["world_to_camera"][:3, :3].T + written["world_to_camera"][:3, 3]
        points = points @ written["intrinsics"].T
        pixels = points[..., :2] / points[..., 2:]
    seen = [MEDIAPIPE.index(name) for name in NAMES]
    assert np.linalg.norm(pixels - arrays["image"], axis=-1)[:, seen].mean() < 6
    matte, _ = read_video(out.with_name("dance_matte.mp4"))
    enlarged = np.kron(arrays["matte"], np.ones((8, 8)))
    assert ((matte[:, 0].numpy() > 0) == (enlarged > 127)).mean() > 0.995
    overlay, rate = read_video(out.with_name("dance_overlay.mp4"))
    assert len(overlay) == COUNT and rate == pytest.approx(RATE)
    # Bones are drawn: bright spots on the grey picture, inside the person's box.
    rows, columns = np.nonzero((overlay[10].amax(0) > 0.5).numpy())
    low, high = arrays["image"][10].min(0), arrays["image"][10].max(0)
    assert len(rows) > 100 and columns.min() > low[0] - 12 and rows.max() < high[1] + 12


def test_frames_in_which_nobody_was_found_are_guessed_without_confidence(said, video, tmp_path, capsys):
    arrays, install = said
    missing = [0, 11, 12, 13]
    for name in ("image", "world", "visibility"):
        arrays[name][missing] = np.nan
    arrays["people"][5] = 2
    install()
    code, lines, _ = outcome(capsys, "motion", f"video={video}", f"out={tmp_path}/dance.npz")
    assert code == 0 and "a person is found in 26 of 30" in lines
    assert "nobody is found in frame 0 and 3 others; joints there are guessed, confidence 0" in lines
    assert "more than one person is seen in 1 of 30 frames" in lines
    with np.load(tmp_path / "dance.npz", allow_pickle=False) as written:
        assert np.isfinite(written["joints"]).all()
        assert np.flatnonzero((written["confidence"] == 0).all(1)).tolist() == missing


def test_feet_out_of_sight_are_said(said, video, tmp_path, capsys):
    arrays, install = said
    arrays["visibility"][:, FEET] = 0.1
    install()
    code, lines, _ = outcome(capsys, "motion", f"video={video}", f"out={tmp_path}/dance.npz")
    assert code == 0 and "feet are mostly out of sight; where the floor is, is a guess" in lines
    # Then nothing moves the person up and down: they stay where the picture has them.
    with np.load(tmp_path / "dance.npz", allow_pickle=False) as written:
        points = written["joints"] @ written["world_to_camera"][:3, :3].T + written["world_to_camera"][:3, 3]
        pixels = points @ written["intrinsics"].T
    away = np.abs(pixels[..., 1] / pixels[..., 2] - arrays["image"][..., 1])
    assert away[:, [MEDIAPIPE.index(name) for name in NAMES]].mean() < 4


def test_a_video_without_a_person_or_with_two_is_one_line(said, video, tmp_path, capsys):
    arrays, install = said
    arrays["people"][:] = 2
    install()
    code, _, errors = outcome(capsys, "motion", f"video={video}", f"out={tmp_path}/dance.npz")
    assert code == 1 and f"hvg motion: {video}: shows 2 people, as in frame" in errors.splitlines()[-1]
    arrays["people"][:] = 0
    arrays["world"][4:] = np.nan
    np.savez(tmp_path / "environment" / "said.npz", **arrays)
    code, _, errors = outcome(capsys, "motion", f"video={video}", f"out={tmp_path}/dance.npz")
    assert code == 1 and f"{video}: a person is found in 4 of its 30 frames; expected" in errors.splitlines()[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"in", "environment"}


def test_a_detector_that_dies_is_one_line_and_leaves_nothing(said, video, tmp_path, capsys):
    said[1](last=7)
    code, _, errors = outcome(capsys, "motion", f"video={video}", f"out={tmp_path}/dance.npz")
    assert code == 1
    assert errors.splitlines()[-1] == f"hvg motion: {tmp_path}/environment: the detector ended: its memory is full"
    assert {path.name for path in tmp_path.iterdir()} == {"in", "environment"}


def test_a_missing_environment_says_how_to_make_it(video, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HVG_VIDEO_ENV", str(tmp_path / "none"))
    for words in (
        ["motion", f"video={video}", f"out={tmp_path}/dance.npz"],
        ["photo", "me.png", f"out={tmp_path}/me.png"],
    ):
        code, _, errors = outcome(capsys, *words)
        assert code == 1 and errors.count("\n") == 1
        assert "the detector's environment is not there; next: `python3.11 -m venv" in errors
    monkeypatch.delenv("HVG_VIDEO_ENV")
    monkeypatch.setattr("hvg.media.person_detector.HVG", tmp_path / "hvg")
    code, _, errors = outcome(capsys, "photo", "me.png", f"out={tmp_path}/me.png")
    assert code == 1 and f"next: `make video-env -C {tmp_path}`" in errors
    assert f"{tmp_path}/.venv-video: the detector's environment is not there" in errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["out=dance.npy"], "out=dance.npy: give the name of an .npz file"),
        (["out=there.npz"], "out: there.npz exists already"),
        (["out=half.npz"], "out: half_matte.mp4 exists already"),
        (["out=new.npz", "video=none.mp4"], "none.mp4: no such video file"),
        (["out=new.npz", "video=there.npz"], "there.npz: the video cannot be read"),
        (["out=new.npz", "video=one.mp4"], "one.mp4: has one frame; expected a video of at least two"),
        (
            ["out=new.npz", "box=[0,0,400,384]"],
            "box=[0, 0, 400, 384] is not inside the picture, which is 384 pixels wide",
        ),
        (["out=new.npz", "height=17"], "height: "),
        (["out=new.npz", "fov_degree=60"], "fov_degree: unknown option. Did you mean 'fov_degrees'?"),
        (["out=new.npz", "in.mp4"], "in.mp4: unknown option"),
    ],
)
def test_bad_words_of_motion_are_one_line_each(said, video, tmp_path, monkeypatch, capsys, words, message):
    said[1]()
    monkeypatch.chdir(tmp_path)
    for name in ("there.npz", "half_matte.mp4"):
        (tmp_path / name).write_text("no video")
    write_video(tmp_path / "one.mp4", torch.zeros(1, 3, 32, 32), 8)
    before = {path.name for path in tmp_path.iterdir()}
    code, _, errors = outcome(capsys, "motion", f"video={video}", *words)
    assert code == 1 and message in errors
    assert {path.name for path in tmp_path.iterdir()} == before
    if words == ["out=there.npz"]:
        assert run(["motion", f"video={video}", *words, "overwrite=true"]) == 0
        assert load_motion(tmp_path / "there.npz").num_frames == COUNT


def test_a_photo_becomes_a_cut_out(said, tmp_path, monkeypatch, capsys):
    arrays, install = said
    install()
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    Image.fromarray(pixels).save("me.png")
    code, lines, _ = outcome(capsys, "photo", "me.png", "out=cut.png")
    matte = np.kron(arrays["matte"][0], np.ones((8, 8), np.uint8))
    rows, columns = np.nonzero(matte >= 128)
    box = f"box=[{columns.min()},{rows.min()},{columns.max() + 1},{rows.max() + 1}]"
    assert code == 0 and lines == f"wrote cut.png; the person is in {box}\n"
    written = np.asarray(Image.open("cut.png"))
    assert (written[..., :3] == pixels).all() and (written[..., 3] == matte).all()
    faults = {
        ("cut.png", "out=again.png"): "cut.png: is a cut-out already",
        ("me.png", "out=cut.png"): "out: cut.png exists already",
        ("me.png", "out=cut.jpg"): "out=cut.jpg: give the name of a .png file",
        ("me.png", "you.png", "out=new.png"): "expected one photo, got 2; next: `hvg photo PHOTO out=CUTOUT.png`",
        ("none.png", "out=new.png"): "none.png: no such image file",
        ("me.png", "out=new.png", "box=[0,0,4,500]"): "is not inside the picture",
    }
    for words, message in faults.items():
        code, _, errors = outcome(capsys, "photo", *words)
        assert code == 1 and errors.count("\n") == 1 and message in errors
    for people, message in ((2, "me.png: shows 2 people; expected one"), (0, "me.png: nobody is found")):
        arrays["people"][:], arrays["world"][:] = people, np.nan
        np.savez(tmp_path / "environment" / "said.npz", **arrays)
        code, _, errors = outcome(capsys, "photo", "me.png", "out=new.png")
        assert code == 1 and message in errors
    assert {path.name for path in tmp_path.iterdir()} == {"environment", "me.png", "cut.png"}


def test_a_large_photo_keeps_its_size_and_a_box_looks_at_a_part(said, tmp_path, capsys):
    arrays, install = said
    # Handed over at half its size, of which the stand-in has a matte.
    arrays["matte"] = np.kron(arrays["matte"], np.ones((1, 2, 4), np.uint8))[:, :80, :160]
    install()
    Image.new("RGB", (2660, 1280)).save(tmp_path / "large.png")
    words = ["photo", f"{tmp_path}/large.png", f"out={tmp_path}/cut.png", "box=[100,0,2660,1280]"]
    assert run(words) == 0
    pixels, alpha = read_image(tmp_path / "cut.png")
    assert pixels.shape == (3, 1280, 2660) and not alpha[0, :, :100].any() and alpha.any()


def planted(tilt, rate=25.0, frames=100, height_of_jump=0.0):
    """A stiff person of the record who goes a circle on a floor 1.2 m below a camera that looks down by ``tilt`` degrees, without
    any error: what is seen, and the true joints with the floor at 0."""
    stiff = recorded()["world"][3].astype(float)
    time = np.arange(frames) / rate
    axes = camera_axes(tilt)
    upright = stiff @ axes.T
    place = np.stack([0.4 * np.sin(time), -upright[FEET, 1].min() - 1.2 + 0 * time, -4 + 0.4 * np.cos(time)], axis=-1)
    place[:, 1] += height_of_jump * np.sin(np.pi * (time - 1.5) / 0.4) * ((time > 1.5) & (time < 1.9))
    joints = upright + place[:, None]
    points = joints @ axes
    intrinsics = camera_intrinsics((480, 640), 50)
    pixels = points @ intrinsics.T
    world = np.tile(stiff, (frames, 1, 1))
    seen = Landmarks(pixels[..., :2] / pixels[..., 2:], world, np.ones((frames, 33)), np.ones(frames))
    return seen, intrinsics, joints + np.array([0, 1.2, 0]), rate


@pytest.mark.parametrize(("tilt", "jump"), [(0.0, 0.0), (14.0, 0.0), (14.0, 0.35)])
def test_a_person_seen_without_error_is_placed_exactly(tilt, jump):
    seen, intrinsics, true, rate = planted(tilt, height_of_jump=jump)
    person = person_in_world(seen, rate, intrinsics, tilt_degrees=tilt, smoothing=0)
    expected = true - true[0, HIPS].mean(0) * (1, 0, 1)
    assert np.abs(person.joints - expected).max() < 1e-6
    assert np.abs(in_picture(person, intrinsics) - seen.image).max() < 1e-3
    camera = np.linalg.inv(person.world_to_camera)[:3, 3]
    assert camera[1] == pytest.approx(1.2, abs=1e-6)


def test_smoothing_takes_noise_away_and_keeps_the_way():
    seen, intrinsics, true, rate = planted(14.0)
    generator = np.random.default_rng(0)
    noisy = Landmarks(
        seen.image + generator.normal(0, 2, seen.image.shape),
        seen.world + generator.normal(0, 0.02, seen.world.shape),
        seen.visibility,
        seen.people,
    )
    expected = true - true[0, HIPS].mean(0) * (1, 0, 1)

    def error_and_shake(smoothing):
        joints = person_in_world(noisy, rate, intrinsics, tilt_degrees=14.0, smoothing=smoothing).joints
        return np.linalg.norm(joints - expected, axis=-1).mean(), np.linalg.norm(
            np.diff(joints, 2, axis=0), axis=-1
        ).mean()

    (rough, shaken), (smoothed, calm) = error_and_shake(0.0), error_and_shake(0.3)
    assert smoothed < 0.75 * rough and calm < 0.15 * shaken and smoothed < 0.05


def test_a_tilt_that_nobody_said_does_not_lift_a_person_off_the_floor():
    seen, intrinsics, _, rate = planted(10.0)
    person = person_in_world(seen, rate, intrinsics, tilt_degrees=0.0, smoothing=0)
    assert np.abs(person.joints[:, FEET, 1].min(axis=1)).max() < 0.05


def test_height_makes_a_person_as_tall_and_as_far():
    seen, intrinsics, true, rate = planted(0.0)
    tall = person_in_world(seen, rate, intrinsics, height=2.0)
    assert stature(tall.joints) == pytest.approx(2.0)
    camera, before = (
        np.linalg.inv(each.world_to_camera)[:3, 3] for each in (tall, person_in_world(seen, rate, intrinsics))
    )
    assert camera == pytest.approx(before * 2.0 / stature(true), rel=1e-3)


def test_a_parabola_is_left_as_it_is_and_short_clips_are_not_smoothed():
    time = np.linspace(0, 1, 30)[:, None]
    assert np.allclose(smooth(3 * time**2 - time, 30.0, 0.3), 3 * time**2 - time)
    for frames in (1, 2, 3):
        short = np.random.default_rng(0).normal(size=(frames, 2))
        assert smooth(short, 30.0, 0.5) is short
    assert smooth(time[:4], 30.0, 9.0).shape == (4, 1)


def write_moments(path, ticks, timescale, size=(32, 32), pixels="yuv420p"):
    """A video of ``size`` (height, width) whose k-th frame has the grey value 8 k and is shown at ``ticks[k] / timescale``
    seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "0", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = *size, pixels
        stream.time_base = stream.codec_context.time_base = Fraction(1, timescale)
        for number, tick in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(np.full((*size, 3), 8 * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, timescale)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_every_frame_of_a_steady_video_is_taken_once(tmp_path):
    write_moments(tmp_path / "ntsc.mp4", [1001 * k for k in range(20)], 30000)
    video = steady_video(tmp_path / "ntsc.mp4")
    assert video.picks.tolist() == list(range(20)) and video.rate == pytest.approx(30000 / 1001)
    assert video.size == (32, 32) and not video.notes
    assert len(list(video.frames())) == 20


def test_a_varying_rate_is_evened_out_and_said(tmp_path):
    # 10 frames at 10 a second, then 10 at 40.
    ticks = [4 * k for k in range(10)] + [39 + k for k in range(1, 11)]
    write_moments(tmp_path / "phone.mp4", ticks, 40)
    told = []
    video = steady_video(tmp_path / "phone.mp4", progress=lambda done, total: told.append((done, total)))
    shown = np.array(ticks) / 40
    moments = np.arange(20) / video.rate
    assert video.rate == pytest.approx(19 / shown[-1])
    assert all(shown[pick] <= moment + 1e-5 for pick, moment in zip(video.picks, moments, strict=True))
    assert all(moment < shown[pick + 1] for pick, moment in zip(video.picks, moments, strict=True) if pick < 19)
    greys = [int(frame[0, 0, 0]) for frame in video.frames()]
    assert np.abs(np.subtract(greys, 8 * video.picks)).max() <= 3
    (note,) = video.notes
    assert note.startswith("its rate varies: of 20 frames ")
    assert told[-1] == (20, 20)
    assert steady_video(tmp_path / "phone.mp4", rate=15.0).picks.tolist() == list(range(20))


def test_a_file_that_does_not_say_when_its_frames_are_shown(tmp_path, monkeypatch):
    write_moments(tmp_path / "a.mp4", range(3), 8)
    frames = [(np.zeros((4, 4, 3), np.uint8), None)] * 3
    monkeypatch.setattr("hvg.media.steady_video.video_frames", lambda path: iter(frames))
    with pytest.raises(DataError, match=r"a\.mp4: does not say when its frames are shown; say frames_per_second="):
        steady_video(tmp_path / "a.mp4")
    assert steady_video(tmp_path / "a.mp4", rate=8.0).rate == 8.0


def test_sides_may_be_odd(said, tmp_path):
    said[1]()
    write_moments(tmp_path / "odd.mp4", range(9), 8, (301, 211), "yuv444p")
    assert run(["motion", f"video={tmp_path}/odd.mp4", f"out={tmp_path}/out.npz"]) == 0
    for name in ("matte", "overlay"):
        assert read_video(tmp_path / f"out_{name}.mp4")[0].shape == (9, 3, 302, 212)
    with np.load(tmp_path / "out.npz", allow_pickle=False) as written:
        assert written["image_size"].tolist() == [301, 211]


def test_an_interrupted_command_leaves_nothing(said, video, tmp_path, monkeypatch, capsys):
    said[1]()

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("hvg.commands.motion.draw_person", stopped)
    code, _, errors = outcome(capsys, "motion", f"video={video}", f"out={tmp_path}/new/dance.npz")
    assert code == 130 and "hvg motion: interrupted; the same command starts anew" in errors
    assert not list((tmp_path / "new").iterdir())
