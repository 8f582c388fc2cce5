"""Recordings of several cameras: what a folder holds is what a clip is, and what cannot be used is said."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from recordings import film, save_in_world, still_transforms, write_colmap, write_multiview, write_pictures

from components.bodies.anny import Anny
from components.datasets.multiview import Multiview
from components.renderers.warp import Warp
from hvg.config.composition import compose
from hvg.core.eight_bit import frames_from_uint8
from hvg.core.errors import DataError
from hvg.data import kept_listing, recorded
from hvg.data.cache import RenderedClips
from hvg.data.prepare import prepared_lines, render_shard
from hvg.data.recordings import facts, told
from hvg.data.shards import ShardReader
from hvg.data.signals import NO_SIGNALS
from hvg.geometry.motion_files import load_motion
from hvg.media.video import write_video
from hvg.parts.context import Context
from hvg.values.cameras import project
from hvg.values.packed import unpacked

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("filmed")
    return folder, write_multiview(folder)


@pytest.fixture
def copy(root, tmp_path):
    """The recordings in a folder of the test's own, to be spoilt."""
    return Path(shutil.copytree(root[0], tmp_path / "filmed"))


def opened(folder, split="train", **settings):
    settings = {"root": str(folder), "split": split, "image_size": 64, **settings}
    return Multiview(Multiview.Config(**settings), Context(body=Anny(), renderer=Warp()))


def number_of(clip):
    return int(clip.clip_id[0].removeprefix("person"))


def cover_at(clip, points):
    """Alpha (V, T, J) where points (T, J, 3) are seen."""
    pixels, depth = project(points[None], clip.cameras[0])
    assert bool((depth > 0).all())
    views, frames, _ = depth.shape
    column, row = pixels.floor().long().clamp(0, clip.cameras.image_size[0] - 1).unbind(-1)
    return clip.alpha[0, :, :, 0][torch.arange(views)[:, None, None], torch.arange(frames)[None, :, None], row, column]


def lies_in_the_pictures(clip):
    return share_inside(clip) > 0.95


def share_inside(clip):
    return float((cover_at(clip, clip.body.joints[0]) > 0.5).float().mean())


def test_the_body_lies_in_the_pictures_and_is_the_motion_s(root):
    clip = opened(root[0]).load(0)
    assert lies_in_the_pictures(clip)
    true = root[1][number_of(clip)].body
    assert (clip.body.joints - true.joints).abs().max() < 1e-5
    assert bool(clip.reference.alpha.max() > 0.9) and clip.reference.body.vertices.shape[1] == 1


def test_uncut_pictures_are_what_the_files_hold(root):
    """At their own size and with what was filmed behind the person, to the last bit."""
    clip = opened(root[0], image_size=(96, 72), crop=False, background=None).load(0)
    filmed = root[1][number_of(clip)]
    assert torch.equal(clip.frames[0], frames_from_uint8(torch.from_numpy(filmed.pictures)))
    assert torch.equal(clip.alpha[0, :, :, 0], torch.from_numpy(filmed.masks) / 255)
    assert (clip.cameras.intrinsics[0, :, 0] - filmed.cameras.intrinsics).abs().max() < 1e-4
    assert (clip.cameras.world_to_camera[0, :, 0] - filmed.cameras.world_to_camera).abs().max() < 1e-5


def test_a_cut_person_is_as_large_as_distance_and_angle_say(root):
    heights = {}
    for distance in (3.2, 4.8):
        rows = opened(root[0], distance=distance, image_size=96).load(0).alpha[0, :, 0, 0].amax(-1) > 0.5
        heights[distance] = rows.float().sum(-1).mean()
    assert 1.4 < heights[3.2] / heights[4.8] < 1.6 and 0.7 < heights[3.2] / 96 < 0.95


@pytest.mark.parametrize("place", [".", "sparse/0"])
def test_a_colmap_model_in_a_world_of_its_own(copy, root, place):
    for number, filmed in enumerate(root[1]):
        folder = copy / f"person{number}"
        (folder / "transforms.json").unlink()
        write_colmap(folder / place, filmed.cameras, "-y", [f"{view:02d}/000000.png" for view in range(3)])
        motion = replace(load_motion(folder / "motion.npz", up="z"), body=None)
        save_in_world(folder / "motion.npz", motion, up="-y")
    with pytest.raises(DataError, match=r"a COLMAP world has no up; say which axis of it is: dataset.up="):
        opened(copy)
    assert lies_in_the_pictures(opened(copy, up="-y").load(0))


def test_videos_fmasks_and_single_moments(root, tmp_path):
    for number in range(3):
        folder = tmp_path / "videos" / f"p{number}"
        folder.mkdir(parents=True)
        filmed = film(folder / "motion.npz", number, views=2, frames=3)
        write_pictures(folder, filmed, masks="fmasks")
        still_transforms(folder / "transforms.json", filmed.cameras)
        shutil.rmtree(folder / "images")
        for view, frames in enumerate(filmed.pictures):
            write_video(folder / "images" / f"{view:02d}.mp4", frames_from_uint8(torch.from_numpy(frames)), 25)
    clip = opened(tmp_path / "videos").load(0)
    assert clip.grid == (1, 2, 3) and lies_in_the_pictures(clip)
    part = unpacked(opened(tmp_path / "videos").load_part(0, lambda v, t: ([1], range(1, 3)), frozenset()))
    assert torch.equal(part.frames, clip.frames[:, [1]][:, :, 1:])


def test_pictures_with_an_alpha_channel_need_no_masks(copy):
    for image in copy.glob("*/images/*/*.png"):
        mask = Image.open(str(image).replace("images", "masks"))
        picture = Image.open(image)
        picture.putalpha(mask)
        picture.save(image)
    with_masks = opened(copy).load(0)
    for folder in copy.glob("*/masks"):
        shutil.rmtree(folder)
    without = opened(copy).load(0)
    assert torch.equal(without.alpha, with_masks.alpha) and torch.equal(without.frames, with_masks.frames)


def test_smaller_copies_of_the_pictures_and_masks_of_ones_are_understood(copy):
    """Pictures at half the size that cameras say, as data sets give them; masks of 0 and 1."""
    whole = opened(copy, crop=False).load(0)
    for image in copy.glob("*/images/*/*.png"):
        Image.open(image).resize((36, 48), Image.Resampling.BOX).save(image)
    for mask in copy.glob("*/masks/*/*.png"):
        Image.fromarray((np.array(Image.open(mask)) > 127).astype(np.uint8)).save(mask)
    clip = opened(copy, crop=False).load(0)
    assert torch.equal(clip.cameras.intrinsics, whole.cameras.intrinsics)
    assert share_inside(clip) > share_inside(whole) - 0.05 and clip.alpha.max() == 1
    assert (clip.frames - whole.frames).abs().mean() < 0.1


def test_long_recordings_are_cut_into_clips_and_the_rest_is_said(root):
    config = Multiview.Config(root=str(root[0]), frames=3, every=1, split_by="clip")
    told_notes = Multiview.holdings(config).notes
    assert [note.partition(": ")[2] for note in told_notes] == [
        "its last 1 frames are no whole clip of dataset.frames=3 and not used"
    ] * 3
    clips = opened(root[0], frames=2, split_by="clip")
    assert sorted(Multiview.index(clips.config).clips)[:2] == ["person0-000000", "person0-000002"]
    assert clips.load(0).grid == (1, 3, 2)


def test_frames_without_a_body_of_their_own_are_said(root, tmp_path):
    config = Multiview.Config(root=str(root[0]), body_every=2, split_by="clip")
    assert [note.partition(": ")[2] for note in Multiview.holdings(config).notes] == [
        "1 of its 4 frames lack a body, or a picture or mask of some camera, and are not used"
    ] * 3
    assert {size[1] for size in Multiview.holdings(config).sizes.values()} == {3}
    words = [f"dataset.root={root[0]}", "dataset.body_every=2", "dataset.split_by=clip", f"data.cache={tmp_path}"]
    words += ["dataset=multiview", "data.views=1", "data.frames=1", "evaluation.overlap=allow"]
    notes, counts = [*prepared_lines(compose(words))][:3], [*prepared_lines(compose(words))][3:]
    assert all(line.startswith("note: ") and line.endswith("are not used") for line in notes) and len(counts) == 1


def test_pictures_keep_the_shape_in_which_they_were_filmed(root):
    """In eights; the body stays where it is, and a pixel as wide as high."""
    clip = opened(root[0], image_size=None, shorter_side=64).load(0)
    assert clip.cameras.image_size == (88, 64) == tuple(clip.frames.shape[-2:]) and lies_in_the_pictures(clip)
    lens = clip.cameras.intrinsics
    assert torch.allclose(lens[..., 0, 0], lens[..., 1, 1]) and clip.reference.cameras.image_size == (88, 64)
    config = Multiview.Config(root=str(root[0]), image_size=None, shorter_side=64)
    assert list(Multiview.holdings(config).sizes.values()) == [(3, 4, 88, 64)]


def test_bodies_of_every_second_picture(copy, root):
    for number in range(3):
        motion = replace(load_motion(copy / f"person{number}" / "motion.npz", up="z"), body=None)
        halved = {name: x[::2] for name, x in motion.rotations.items()}
        shifted = motion.translation[::2]
        save_in_world(
            copy / f"person{number}" / "motion.npz", replace(motion, rotations=halved, translation=shifted), up="z"
        )
    with pytest.raises(DataError, match=r"4 frames were filmed and its body's file has 2; .*dataset.body_every=2"):
        opened(copy).load(0)
    clip = opened(copy, body_every=2, every=2).load(0)
    true = root[1][number_of(clip)].body.joints[:, ::2]
    assert clip.grid[2] == 2 and (clip.body.joints - true).abs().max() < 1e-5


def test_splits_are_drawn_or_listed(root, tmp_path):
    owners = {split: opened(root[0], split).load(0).subject[0] for split in ("train", "val", "test")}
    assert sorted(owners.values()) == ["person0", "person1", "person2"]
    file = tmp_path / "splits.txt"
    file.write_text("# whose\nperson0 test\n\nperson2 train\n")
    listed = {split: list(Multiview.holdings(of(root, split, file)).sizes) for split in ("train", "test")}
    assert listed == {"train": ["person2"], "test": ["person0"]}
    file.write_text("person0 tests\n")
    with pytest.raises(DataError, match="line 1 is 'person0 tests'; expected 'NAME SPLIT'"):
        Multiview.holdings(of(root, "train", file))


def of(root, split, file):
    return Multiview.Config(root=str(root[0]), split=split, splits=str(file))


def test_too_few_people_are_said(copy):
    shutil.rmtree(copy / "person0")
    with pytest.raises(
        DataError, match=r"2 people that can be used, and train, val and test need three; .*split_by=clip"
    ):
        opened(copy)


def spoil_nothing(folder):
    (folder / "images" / "02").rename(folder / "images" / "03")


def drop_motion(folder):
    (folder / "motion.npz").unlink()


def drop_frame(folder):
    (folder / "images" / "01" / "000003.png").unlink()


def drop_mask(folder):
    (folder / "masks" / "01" / "000003.png").unlink()


def drop_cameras(folder):
    (folder / "transforms.json").unlink()


def bend_lens(folder):
    tree = json.loads((folder / "transforms.json").read_text())
    (folder / "transforms.json").write_text(json.dumps({**tree, "k1": 0.1}))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (spoil_nothing, "'02' has a camera, but no pictures"),
        (drop_motion, "has no body; expected one, or dataset.bodies=false"),
        (drop_frame, "3 frames, but camera '00' has 4; expected equally many"),
        (drop_mask, "has no mask '000003'; expected one for 000003.png"),
        (drop_cameras, "has no transforms.json, and no cameras.txt"),
        (bend_lens, "its lens bends (k1 is 0.1); undistort the pictures first"),
    ],
)
def test_a_recording_that_cannot_be_used_is_listed_with_its_reason(copy, root, spoil, why):
    shutil.copytree(copy / "person0", copy / "person3")
    spoil(copy / "person3")
    holdings = Multiview.holdings(Multiview.Config(root=str(copy)))
    assert list(holdings.unusable) == ["person3"] and why in holdings.unusable["person3"]
    assert holdings.notes == told(holdings.unusable)
    assert len(opened(copy)) == 1


def test_a_body_that_no_camera_sees_is_said(copy):
    for number in range(3):
        motion = replace(load_motion(copy / f"person{number}" / "motion.npz", up="z"), body=None)
        save_in_world(copy / f"person{number}" / "motion.npz", replace(motion, translation=motion.translation + 15))
    with pytest.raises(DataError, match=r"no camera sees any joint of its body.*`hvg prepare check`"):
        opened(copy).load(0)


def test_nothing_there_is_said(tmp_path):
    with pytest.raises(DataError, match=r"no such folder; expected dataset.root="):
        opened(tmp_path / "nowhere")
    notes = Multiview.holdings(Multiview.Config(root=str(tmp_path / "nowhere"))).notes
    assert "whether its clips fit is not judged" in notes[0]
    with pytest.raises(DataError, match="holds no recordings"):
        opened(tmp_path)


def test_the_reader_on_the_page_reads(copy, root):
    """A layout of one's own: other folders, cameras from a file of one's own."""
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)

    def my_camera(file, name):
        return Multiview.survey(Multiview.Config(root=str(root[0])), root[0] / file.parent.name).tracks[name].cameras()

    for folder in copy.iterdir():
        (folder / "images").rename(folder / "rgb")
        (folder / "masks").rename(folder / "alpha")
        save_in_world(folder / "smplx.npz", replace(load_motion(folder / "motion.npz", up="z"), body=None), up="z")
    names = {"my_camera": my_camera}
    exec(code, names)
    reader = names["Mine"]
    clip = reader(reader.Config(root=str(copy), image_size=64), Context(body=Anny(), renderer=Warp())).load(0)
    assert lies_in_the_pictures(clip)


class OneBad(Multiview):
    """Its second clip cannot be read until its files are mended."""

    mended = False

    def load(self, index):
        if index == 1 and not self.mended:
            raise DataError("broken.png: not an image")
        return super().load(index)


def test_a_clip_that_cannot_be_used_is_left_out_of_its_shard_and_the_others_keep_their_places(root, tmp_path):
    (file := tmp_path / "splits.txt").write_text("".join(f"person{k} train\n" for k in range(3)))
    settings = Multiview.Config(root=str(root[0]), image_size=32, splits=str(file))
    clips, calls = OneBad(settings, Context(body=Anny(), renderer=Warp())), []
    path = render_shard(tmp_path, "train", clips, NO_SIGNALS, on_clip=lambda: calls.append(1))
    shard = ShardReader(path)
    assert (
        shard.keys == ["person0", "person2"] and shard.left_out == {1: "broken.png: not an image"} and len(calls) == 3
    )
    rendered = RenderedClips([path], clips, frozenset({"a map that no shard has"}))
    assert [rendered.load(k).clip_id[0] for k in range(len(rendered))] == ["person0", "person2"]
    # The next time it is tried again: nothing changes while it is broken, and when it is mended it has its place.
    before = path.stat().st_mtime_ns
    render_shard(tmp_path, "train", clips, NO_SIGNALS)
    assert path.stat().st_mtime_ns == before
    clips.mended = True
    mended = ShardReader(render_shard(tmp_path, "train", clips, NO_SIGNALS))
    assert mended.keys == ["person0", "person1", "person2"] and not mended.left_out
    alone = tmp_path / "alone.txt"
    alone.write_text("person0 val\nperson1 train\n")

    class AllBad(OneBad):
        def load(self, index):
            raise DataError("broken.png: not an image")

    broken = AllBad(settings.model_copy(update={"splits": str(alone)}), Context(body=Anny(), renderer=Warp()))
    with pytest.raises(
        DataError, match=r"none of 1 clips of val-00000-of-00001.tar can be used; the first: broken.png"
    ):
        render_shard(tmp_path, "val", broken, NO_SIGNALS)
    assert not list(tmp_path.glob("val*")) and not list(tmp_path.glob(".*"))


# --- what is kept of a listing ---


@pytest.fixture
def listings(tmp_path, monkeypatch):
    """A folder for what data sets hold, however quickly that was seen; and whom a process looks at."""
    folder, looked = tmp_path / "listings", []
    monkeypatch.setenv("HVG_LISTINGS", str(folder))
    monkeypatch.setattr(kept_listing, "WORTH", 0.0)
    survey = Multiview.survey.__func__
    monkeypatch.setattr(
        Multiview,
        "survey",
        classmethod(lambda cls, config, path: looked.append(path.name) or survey(cls, config, path)),
    )
    monkeypatch.setattr(Multiview.survey.__func__, "__qualname__", "Multiview.survey")

    def look(copy):
        recorded._index.cache_clear()
        looked.clear()
        index = Multiview.index(Multiview.Config(root=str(copy)))
        return index, list(looked)

    yield folder, look
    recorded._index.cache_clear()


def test_what_a_data_set_holds_is_kept_for_the_next_process(copy, listings):
    folder, look = listings
    first, looked = look(copy)
    assert looked == ["person0", "person1", "person2"] and len(list(folder.iterdir())) == 1
    again, looked = look(copy)
    assert looked == [] and again.clips.keys() == first.clips.keys()
    for name, clip in again.clips.items():
        assert facts(clip.recording) == facts(first.clips[name].recording)
    images = [
        Multiview(Multiview.Config(root=str(copy), image_size=32), Context(body=Anny(), renderer=Warp())).load(0).frames
        for _ in range(2)
    ]
    assert torch.equal(*images)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "motion.npz").write_bytes((folder / "motion.npz").read_bytes() + b" "),
        lambda folder: (folder / "images" / "01" / "000004.png").write_bytes(b"one more"),
        lambda folder: (folder / "images" / "03").mkdir(),
        lambda folder: shutil.rmtree(folder / "masks"),
        lambda folder: (folder / "transforms.json").unlink(),
    ],
    ids=["a file", "a picture", "a camera", "masks", "cameras"],
)
def test_a_recording_that_has_changed_is_looked_at_anew_and_one_that_cannot_be_used_each_time(copy, listings, change):
    _, look = listings
    look(copy)
    change(copy / "person1")
    for _ in range(2):
        index, looked = look(copy)
        assert looked[:1] == ["person1"]
        if "person1" in index.clips:
            break
        assert looked == ["person1"]


def test_a_listing_of_somebody_else_s_calls_nothing(copy, listings):
    """Neither damage nor functions that are not the reader's do anything but to look again."""
    folder, look = listings
    first, _ = look(copy)
    (file,) = folder.iterdir()
    text = file.read_text()
    for other in (
        "{",
        "[]",
        '{"a": 1}',
        text.replace('"_camera"', '"_files"'),
        text.replace("components.datasets", "os"),
    ):
        file.write_text(other)
        index, looked = look(copy)
        assert index.clips.keys() == first.clips.keys()
        assert looked == [] if '"_files"' in other else len(looked) == 3
        file.write_text(text)
