"""Recordings of one camera: a video or frames, and a body in the camera's axes."""

import json
import shutil

import pytest
import torch
from recordings import write_monocular
from test_multiview import lies_in_the_pictures, number_of

from components.bodies.anny import Anny
from components.datasets.monocular import Monocular
from components.renderers.warp import Warp
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
