"""``hvg sample driving=VIDEO``: which frames of somebody's video are taken, how they are framed, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY
from loss_curves import BACKBONES
from recorded_detector import RATE, SIDE, environment_that_says, recorded

from hvg.cli import run
from hvg.config.command_options import SampleOptions
from hvg.config.composition import compose
from hvg.config.refine_options import RefineOptions
from hvg.core.errors import DataError, HvgError
from hvg.geometry.motion import Motion
from hvg.media.images import write_png
from hvg.media.video import write_video
from hvg.model.load import build_system
from hvg.sample.driving import (
    DrivingView,
    asked_motion,
    driving_frames,
    face_crop,
    hand_crop,
    moments_beside,
    open_driving,
    still_motion,
)
from hvg.sample.generate import request_digest
from hvg.sample.refine import GivenVideo, as_sampled
from hvg.sample.request import check_fields, make_clip
from hvg.train.run import train
from hvg.values.task import NOVEL_POSE

COUNT = 6
VIEW = DrivingView(size=(32, 32), fraction=0.9, background=(1.0, 1.0, 1.0))
WORDS = ["scale=cpu", "dataset.driving=other_view", "pose.width=16", "pose.heads=2", "pose.depth=1"]
TOKENS = [*WORDS, "pose=motion_tokens", "pose.inject=channels"]


@pytest.fixture(autouse=True)
def nobody_looks(monkeypatch, tmp_path):
    """The detector is not installed, unless a test installs it."""
    monkeypatch.setenv("HVG_VIDEO_ENV", str(tmp_path / "no-environment"))


@pytest.fixture
def videos(tmp_path):
    """A black person of 30 x 10 pixels who walks to the right on grey, and mattes: theirs, nobody's, a shorter one."""
    frames, matte = torch.zeros(COUNT, 3, 48, 64), -torch.ones(COUNT, 3, 48, 64)
    for t in range(COUNT):
        frames[t, :, 10:40, 20 + 2 * t : 30 + 2 * t] = -1
        matte[t, :, 10:40, 20 + 2 * t : 30 + 2 * t] = 1
    made = {"person": frames, "matte": matte, "nobody": -torch.ones_like(matte), "short": matte[:4]}
    paths = {name: tmp_path / f"{name}.mp4" for name in made}
    for name, path in paths.items():
        write_video(path, made[name], 10.0)
    return paths


def options(videos, matte: str | None = "matte", **given) -> SampleOptions:
    names = {"checkpoint": "a.ckpt", "reference": "a.png", "driving": videos["person"]}
    return SampleOptions(**(names | ({} if matte is None else {"driving_matte": videos[matte]}) | given))


def taken(asked: SampleOptions, moments, view=VIEW):
    return driving_frames(asked, open_driving(asked), moments, view)


def test_a_person_is_cut_out_alike_in_all_frames_on_the_background_of_training(videos):
    frames, near, notes = taken(options(videos), [0, 5, 5])
    assert frames.shape == (1, 3, 3, 32, 32) and not near and not notes
    assert torch.equal(frames[:, 1], frames[:, 2])
    assert frames[..., 0, :].min() > 0.9, "above the person is the background"
    dark = (frames[0, :, 0] < 0).nonzero()
    rows, height = dark[dark[:, 0] == 0][:, 1], round(0.9 * 32)
    assert abs(int(rows.max() - rows.min()) + 1 - height) <= 1
    left, right = (dark[dark[:, 0] == t][:, 2].float().mean() for t in (0, 1))
    assert right - left > 5, "they walk to the right, in a picture that stands still"


def test_without_a_matte_all_of_the_picture_is_taken_and_said(videos):
    frames, _, (note,) = taken(options(videos, None), [0])
    assert "nobody looked whether it shows a person" in note and "driving_matte=" in note
    assert frames[0, 0, :, 16, 0].abs().max() < 0.1
    boxed, _, _ = taken(options(videos, None, driving_box=(20, 10, 30, 40)), [0])
    assert (boxed[0, 0, 0, 4:28, 16] < -0.8).all() and boxed[0, 0, 0, 16, 0] > 0.9


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"matte": "nobody"},
            r"nobody\.mp4: shows nobody in the 1 frames that are taken; expected a video of one person",
        ),
        ({"matte": "short"}, r"short\.mp4: has 4 frames, the driving video 6; expected as many"),
        ({"driving_box": (0, 0, 5, 5)}, r"shows nobody inside driving_box= in the 1 frames"),
    ],
)
def test_a_video_without_a_person_is_one_line(videos, given, message):
    with pytest.raises(DataError, match=message) as error:
        taken(options(videos, **given), [0])
    assert "\n" not in str(error.value)


def test_a_matte_may_be_smaller_than_the_video(videos, tmp_path):
    half = torch.nn.functional.interpolate(torch.ones(COUNT, 3, 48, 64), scale_factor=0.5)
    write_video(tmp_path / "half.mp4", half, 10.0)
    whole = options(videos, None, driving_box=(20, 10, 30, 40))
    (boxed, _, _), (matted, _, _) = (
        taken(asked, [0]) for asked in (whole, whole.model_copy(update={"driving_matte": tmp_path / "half.mp4"}))
    )
    assert (matted[0, 0, 0, 4:28, 16] < -0.8).all() and (matted - boxed).abs().mean() < 0.2


def test_beside_a_video_that_is_refined_a_driving_one_says_the_motion(videos):
    video = GivenVideo(frames=torch.zeros(1, 1, 4, 3, 32, 32, dtype=torch.uint8), names=("a",), rate=10.0)
    given = {"checkpoint": "a.ckpt", "video": videos["matte"]}
    alone, driven = (RefineOptions(**given, **more) for more in ({}, {"driving": videos["person"]}))
    assert as_sampled(alone, video).motion == videos["matte"] and as_sampled(driven, video).motion is None
    assert {as_sampled(asked, video).task for asked in (alone, driven)} == {"pose"}


def test_a_box_outside_of_the_video_and_words_without_one_are_refused(videos):
    with pytest.raises(DataError, match=r"box=\[0, 0, 65, 10\] is not inside the picture"):
        open_driving(options(videos, driving_box=(0, 0, 65, 10)))
    with pytest.raises(HvgError, match="are of a driving video"):
        open_driving(SampleOptions(checkpoint="a", reference="b", motion="c", driving_matte=videos["matte"]))


# --- which frames ---


def test_beside_a_motion_a_video_is_as_fast(videos):
    video = open_driving(options(videos))
    motion = Motion(rotations={"pelvis": torch.zeros(30, 3)}, frames_per_second=20.0)
    assert moments_beside(video, motion, torch.tensor([4.0, 6.0, 12.0])) == [0, 1, 4]
    with pytest.raises(HvgError, match=r"lasts 0\.60 s, and the motion's frames that are taken 1\.45 s"):
        moments_beside(video, motion, torch.tensor([0.0, 29.0]))


def test_without_a_motion_a_video_s_frames_are_a_motion_s(videos):
    video = open_driving(options(videos))
    motion = still_motion(video)
    assert motion.num_frames == COUNT and motion.frames_per_second == pytest.approx(10.0)
    with pytest.raises(HvgError, match="motion: nothing says how the person moves"):
        asked_motion(SampleOptions(checkpoint="a", reference="b"), None)


@pytest.fixture(scope="module")
def system():
    config = compose(TOKENS)
    return build_system(config), config


@pytest.mark.parametrize(
    ("given", "moments"),
    [({"frames": 3}, [0, 2, 5]), ({"stride": 2}, [0, 2, 4]), ({"start": 2, "real_time": True}, [2, 3, 4, 5])],
)
def test_a_request_takes_the_frames_that_its_words_say(system, videos, given, moments, tmp_path):
    write_png(tmp_path / "a.png", torch.rand(3, 40, 20))
    (model, config), words = system, {"frames_per_second": 10.0, **given}
    asked = options(videos, reference=tmp_path / "a.png", **words)
    check_fields(config, asked)
    video = open_driving(asked)
    clip, _, notes = make_clip(model, config, asked, still_motion(video), None, driving=video)
    size = clip.cameras.image_size
    assert clip.driving.shape == (1, len(moments), 3, *size) and clip.grid[2] == len(moments)
    middles = torch.stack([(frame[0] < 0).nonzero()[:, 1].float().mean() for frame in clip.driving[0]])
    assert (middles.diff() > 0).all(), "the person walks to the right"
    assert int(clip.task) == NOVEL_POSE and clip.clip_id == ("a.png+person.mp4",)
    assert any(f"of the motion's {COUNT}" in note for note in notes)


@pytest.mark.parametrize(
    ("words", "given", "message"),
    [
        (
            TOKENS,
            {"driving": None, "motion": "a.npz"},
            "pose=motion_tokens takes the motion from a video; give driving=",
        ),
        ([*TOKENS, "pose.hands=crops", "dataset.hand_size=16"], {}, "looks at the hands, which the detector"),
        ([*TOKENS, "pose.looks_at=face", "dataset.face_size=64"], {}, "looks at the face, which the detector"),
        (
            ["scale=cpu"],
            {},
            "pose=bone_map reads the body's motion, which a driving video does not tell; give motion=FILE",
        ),
    ],
)
def test_what_a_model_reads_and_nobody_gives_is_one_line(videos, words, given, message):
    with pytest.raises(HvgError, match=message) as error:
        check_fields(compose(words), options(videos, None, **given))
    assert "\n" not in str(error.value)


def test_a_loss_s_body_is_not_asked_of_a_request(videos):
    config = compose(TOKENS)
    assert config.pose.config.auxiliary == "joints"
    check_fields(config, options(videos))


def test_another_video_is_another_request(videos, tmp_path, monkeypatch):
    checkpoint = tmp_path / "a.ckpt"
    checkpoint.write_bytes(b"weights")
    photo = tmp_path / "a.png"
    photo.write_bytes(b"photo")
    monkeypatch.setattr("hvg.sample.generate.checkpoint_digest", lambda path: "digest")
    monkeypatch.chdir(tmp_path)
    first, second = (
        request_digest(
            options(videos, None, checkpoint=checkpoint, reference=photo, driving=videos[name], camera="a.png"), []
        )
        for name in ("person", "matte")
    )
    assert first != second


SMALL = (
    *(word for word in TINY if word.startswith("dataset.")),
    *("scale=cpu", "backbone=wan_tiny", *BACKBONES["wan_tiny"], "prediction=flow_x0", "device=cpu", "data.workers=0"),
    *("backbone.cross_attention_width=16", "pose=motion_tokens_tiny", "pose.width=16", "pose.heads=2"),
    *("dataset.driving=other_both", "data.driving_perspective=0.2", "data.driving_colour=0.2", "data.views=2"),
    *(
        "data.frames=2",
        "training.steps=1",
        "training.warmup_steps=0",
        "training.validate_every=0",
        "evaluation.steps=1",
    ),
)


@pytest.mark.long
def test_the_command_makes_a_video_of_somebody_s_own(videos, tmp_path, capsys):
    """From a training on driving videos that are changed, to videos of a photo's person."""
    train(compose([*SMALL, f"output={tmp_path}", "name=run"]), log=lambda line: None)
    write_png(tmp_path / "me.png", torch.rand(3, 40, 20))
    words = [f"checkpoint={tmp_path / 'run'}", f"reference={tmp_path / 'me.png'}", f"driving={videos['person']}"]
    words += [f"driving_matte={videos['matte']}", "camera=static", "frames=3", f"out={tmp_path / 'sample'}"]
    assert run(["sample", *words]) == 0
    assert {"view-00.mp4", "tiled.mp4", "sample.json"} <= {path.name for path in (tmp_path / "sample").iterdir()}
    said, other = capsys.readouterr().out, f"out={tmp_path / 'other'}"
    assert "the video's 3 frames are 0, 2, 5 of the motion's 6" in said
    assert run(["sample", *words[:2], f"driving={videos['person']}", f"driving_matte={videos['nobody']}", other]) == 1
    error = capsys.readouterr().err.strip()
    assert "shows nobody" in error and "\n" not in error


# --- what the detector sees ---


def test_the_detector_cuts_the_person_out_and_finds_the_hands(tmp_path, monkeypatch):
    arrays = recorded()
    monkeypatch.setenv("HVG_VIDEO_ENV", str(environment_that_says(tmp_path / "environment", arrays, 10_000)))
    path = tmp_path / "dance.mp4"
    write_video(path, torch.zeros(4, 3, SIDE, SIDE), RATE)
    asked = SampleOptions(checkpoint="a", reference="b", driving=path)
    close_ups = {"driving_hands": 16, "driving_face": 24}
    frames, near, notes = taken(asked, [0, 1], replace(VIEW, close_ups=close_ups))
    assert frames.shape == (1, 2, 3, 32, 32) and not notes
    assert near["driving_hands"].shape == (1, 2, 2, 3, 16, 16) and near["driving_face"].shape == (1, 2, 1, 3, 24, 24)
    assert frames[..., 0, 0].min() > 0.9, "the corner is the background"
    assert frames.min() < 0.1
    whole = tmp_path / "matte.mp4"
    write_video(whole, torch.ones(4, 3, SIDE, SIDE), RATE)
    asked = asked.model_copy(update={"driving_matte": whole})
    frames, near, _ = taken(asked, [0, 1], replace(VIEW, close_ups={"driving_hands": 16}))
    assert frames[..., 16, 16].max() < 0.1 and near["driving_hands"].shape == (1, 2, 2, 3, 16, 16), (
        "cut by the matte, hands by the detector"
    )


def test_a_hand_s_square_lies_around_it_as_wide_as_its_forearm_is_long():
    points = np.zeros((33, 2))
    points[[13, 14]] = [[10, 10], [90, 10]]
    points[[15, 17, 19, 21]], points[[16, 18, 20, 22]] = (10, 60), (90, 110)
    left, right = (hand_crop(points, side, (200, 100)) for side in range(2))
    assert (left.left + left.width / 2, left.top + left.height / 2, left.width) == (10, 60, 60)
    assert (right.left + right.width / 2, right.top + right.height / 2, right.width) == (90, 110, 120)


def test_a_face_s_square_lies_around_its_ears_as_wide_from_the_side_as_from_the_front():
    front = np.zeros((33, 2))
    front[[2, 5]], front[[7, 8]], front[[9, 10]] = [[52, 48], [48, 48]], [[65, 50], [35, 50]], [[53, 61], [47, 61]]
    aside = front.copy()
    aside[[2, 5]], aside[[7, 8]], aside[[9, 10]] = [[62, 48], [61, 48]], [[51, 50], [49, 50]], [[62, 61], [60, 61]]
    seen = [face_crop(points, (200, 100)) for points in (front, aside)]
    for crop in seen:
        assert (crop.left + crop.width / 2, crop.top + crop.height / 2) == (50, 50)
    assert seen[0].width == 60 and abs(seen[1].width - 60) < 2
