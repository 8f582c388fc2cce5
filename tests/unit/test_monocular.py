"""Recordings of one camera: a video or frames, and a body in the camera's axes."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from recordings import save_in_world, write_monocular
from test_multiview import lies_in_the_pictures, number_of

from components.bodies.anny import Anny
from components.datasets.monocular import Monocular
from components.renderers.warp import Warp
from hvg.core.errors import DataError
from hvg.geometry.motion_files import load_motion
from hvg.media.video import write_video
from hvg.parts.context import Context


def opened(folder, **settings):
    settings = {"root": str(folder), "image_size": 64, **settings}
    return Monocular(Monocular.Config(**settings), Context(body=Anny(), renderer=Warp()))


@pytest.mark.parametrize("video", [False, True])
def test_the_body_lies_in_the_pictures(tmp_path, video):
    filmed = write_monocular(tmp_path, video=video)
    clip = opened(tmp_path).load(0)
    assert clip.grid == (1, 1, 4) and lies_in_the_pictures(clip)
    assert (clip.body.joints - filmed[number_of(clip)].body.joints).abs().max() < 1e-5
    assert torch.equal(clip.cameras.centers, torch.zeros(1, 1, 4, 3))


def test_frames_of_a_video_are_counted_whatever_its_rate_is(tmp_path):
    """Pictures at 29.97 a second, masks at 30, bodies at 8: every frame is there once, in its order."""
    filmed = write_monocular(tmp_path, frames=8)
    for number, each in enumerate(filmed):
        folder = tmp_path / f"person{number}"
        for kind, rate, pixels in (
            ("video", 30000 / 1001, numbered(8)),
            ("masks", 30.0, each.masks[0][:, None] / 127.5 - 1),
        ):
            shutil.rmtree(folder / {"video": "images"}.get(kind, kind))
            write_video(folder / f"{kind}.mp4", torch.as_tensor(pixels).float().expand(-1, 3, -1, -1), rate)
    config = settings(tmp_path, "train").model_copy(update={"frames": None, "split_by": "subject"})
    assert {size[1] for size in Monocular.holdings(config).sizes.values()} == {8} and not Monocular.holdings(
        config
    ).notes
    clip = opened(tmp_path, crop=False, image_size=(96, 72), background=None).load(0)
    shades = ((clip.frames[0, 0].mean((1, 2, 3)) + 1) * 127.5).round() / 30
    assert shades.round().tolist() == list(range(8)) and lies_in_the_pictures(clip)
    assert (clip.body.joints - filmed[number_of(clip)].body.joints).abs().max() < 1e-5


def numbered(count):
    """Frames (T, 1, 96, 72), each 30 levels brighter than the one before."""
    return (30 * torch.arange(count) / 127.5 - 1)[:, None, None, None].expand(-1, 1, 96, 72)


@pytest.mark.parametrize(
    ("pictures", "bodies", "told"),
    [
        (5, 6, r"5 frames were filmed and its body's file has 6; expected as many"),
        (6, 5, r"6 frames were filmed and its body's file has 5; expected as many"),
    ],
)
def test_a_body_of_one_frame_more_or_less_is_no_body_of_the_video(tmp_path, pictures, bodies, told):
    """As where somebody has made 29.97 frames a second into 30: nothing is dropped or doubled for it."""
    write_monocular(tmp_path, frames=max(pictures, bodies))
    for folder in tmp_path.iterdir():
        motion = replace(load_motion(folder / "motion.npz", up="-y"), body=None)
        rotations = {name: x[:bodies] for name, x in motion.rotations.items()}
        save_in_world(
            folder / "motion.npz", replace(motion, rotations=rotations, translation=motion.translation[:bodies]), "-y"
        )
        for kind in ("images", "masks"):
            for path in sorted((folder / kind).iterdir())[pictures:]:
                path.unlink()
    with pytest.raises(DataError, match=told):
        opened(tmp_path).load(0)


def test_a_lens_is_told_by_a_file_or_by_its_angle(tmp_path):
    write_monocular(tmp_path)
    clip = opened(tmp_path, crop=False, image_size=(96, 72)).load(0)
    for file in tmp_path.glob("*/intrinsics.json"):
        file.unlink()
    by_angle = opened(tmp_path, crop=False, image_size=(96, 72), lens_degrees=40.0).load(0)
    # The fixture's principal point is 3 pixels right of the middle.
    apart = clip.cameras.intrinsics - by_angle.cameras.intrinsics
    assert torch.allclose(apart[0, 0, 0], torch.tensor([[0.0, 0, 3], [0, 0, 0], [0, 0, 0]]), atol=1e-3)


def test_one_video_of_one_person_is_cut_into_clips(tmp_path):
    write_monocular(tmp_path, recordings=1, frames=6)
    ids = {split: Monocular.holdings(settings(tmp_path, split)).sizes for split in ("train", "val", "test")}
    assert sorted(name for found in ids.values() for name in found) == [f"person0-{k:06d}" for k in (0, 2, 4)]
    assert opened(tmp_path, frames=2, split_by="clip").load(0).grid == (1, 1, 2)


def settings(folder, split):
    return Monocular.Config(root=str(folder), split=split, frames=2, split_by="clip")


def lose_video(folder):
    shutil.rmtree(folder / "images")


def spoil_lens(folder):
    (folder / "intrinsics.json").write_text(json.dumps({"fx": 0, "fy": 50, "cx": 3, "cy": 3, "w": 72, "h": 96}))


def both(folder):
    (folder / "video.mp4").write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lose_video, "has no video.mp4 and no folder images"),
        (both, "has video.mp4 and also images"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path, spoil, why):
    write_monocular(tmp_path, recordings=4, frames=2)
    spoil(tmp_path / "person3")
    assert why in Monocular.holdings(Monocular.Config(root=str(tmp_path))).unusable["person3"]


def test_a_lens_that_is_none_is_said(tmp_path):
    write_monocular(tmp_path, frames=2)
    for folder in tmp_path.iterdir():
        spoil_lens(folder)
    with pytest.raises(Exception, match=r"intrinsics.json: fx: .*greater than 0; expected fx, fy, cx, cy, w, h"):
        opened(tmp_path).load(0)
