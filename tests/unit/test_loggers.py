"""What loggers show of a validation: one video, in each of them that has a place for it."""

import io

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hvg.config.composition import compose
from hvg.core.eight_bit import frames_to_uint8
from hvg.media.images import LARGEST_MOVING, moving_picture
from hvg.train.loggers import Sample, ShowsSamples, make_loggers, show
from hvg.train.sample_files import newest_samples, sample_path


def flat(*greys: float, size: tuple[int, int] = (6, 10)) -> torch.Tensor:
    """Frames of one grey each."""
    return torch.tensor(greys)[:, None, None, None].expand(-1, 3, *size)


def decoded(coded: bytes) -> list[int]:
    """The grey in the middle of each frame."""
    with Image.open(io.BytesIO(coded)) as picture:
        greys = []
        for number in range(getattr(picture, "n_frames", 1)):
            picture.seek(number)
            frame = picture.convert("RGB")
            greys.append(frame.getpixel((frame.width // 2, frame.height // 2))[0])
        return greys


@pytest.mark.parametrize(("logger", "shows"), [("none", 0), ("csv", 0), ("tensorboard", 1), ("wandb", 1)])
def test_who_has_a_place_for_videos(tiny, tmp_path, logger, shows):
    found = make_loggers(compose([*tiny, f"logger={logger}", "logger.offline=true"]), tmp_path, 0)
    assert sum(isinstance(one, ShowsSamples) for one in found) == shows


def test_tensorboard_has_the_videos_of_a_validation_under_the_step_of_its_loss(tiny, tmp_path):
    loggers = make_loggers(compose([*tiny, "logger=tensorboard"]), tmp_path, 0)
    for step, greys in ((3, (-0.5, 0.5)), (7, (0.0, 0.8))):
        for clip in ("a", "b/c"):
            show(loggers, Sample(clip, flat(*greys), 4, sample_path(tmp_path, step + 1, clip)), step)
        for logger in loggers:
            logger.log_metrics({"loss": 1.5}, step)
    for logger in loggers:
        logger.finalize("success")
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    assert events.Tags()["images"] == ["samples/a", "samples/b/c"]
    for clip in ("a", "b/c"):
        shown = events.Images(f"samples/{clip}")
        assert [image.step for image in shown] == [event.step for event in events.Scalars("loss")] == [3, 7]
        for image, greys in zip(shown, ((-0.5, 0.5), (0.0, 0.8)), strict=True):
            assert (image.width, image.height) == (10, 6)
            assert decoded(image.encoded_image_string) == [int(frames_to_uint8(torch.tensor(x))) for x in greys]


def test_a_single_frame_is_a_still_picture_and_a_large_one_is_made_smaller():
    coded, size = moving_picture(flat(0.5, size=(8, LARGEST_MOVING * 2)), 4)
    assert size == (LARGEST_MOVING, 4) and coded.startswith(b"\x89PNG") and decoded(coded) == [191]


def test_the_newest_video_of_each_clip_is_found(tmp_path):
    assert newest_samples(tmp_path) == {}
    written = [(2, "b/c"), (10_000_000, "a"), (9, "a"), (4, "b/c"), (3, "step-0000009-a")]
    for step, clip in written:
        path = sample_path(tmp_path, step, clip)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name in (
        "step-0000099-b/.c.17.partial.mp4",
        ".step-0000099-a.17.partial.mp4",
        "step-0000099-a.png",
        "other.mp4",
    ):
        (tmp_path / "samples" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "samples" / name).touch()
    found = {clip: step for clip, (step, _) in newest_samples(tmp_path).items()}
    assert [*found.items()] == [("a", 10_000_000), ("b/c", 4), ("step-0000009-a", 3)]
    assert all(path == sample_path(tmp_path, step, clip) for clip, (step, path) in newest_samples(tmp_path).items())
