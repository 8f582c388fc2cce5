"""Driving videos: what synthetic people give, how training changes them, and that a copy of the target is refused."""

from dataclasses import replace

import pytest
import torch
from PIL import Image
from recordings import write_multiview
from torch.utils.data import DataLoader

from components.bodies.anny import Anny
from components.datasets.synthetic import Synthetic
from components.nn.body_frame import joints_in_body_axes
from components.renderers.warp import Warp
from hvg.commands.show import contact_sheet
from hvg.config import clip_checks
from hvg.config.command_options import ShowOptions
from hvg.config.composition import compose
from hvg.core.eight_bit import same_bits
from hvg.core.errors import DataError, HvgError
from hvg.data.driving import changed_driving, homography, refuse_copies, warped
from hvg.data.shard_writing import write_shard
from hvg.data.shards import ShardReader
from hvg.data.signals import NO_SIGNALS
from hvg.data.training_data import TrainingOrder
from hvg.data.unreadable import said_by_loader
from hvg.geometry.close_ups import close_up_cameras, middles
from hvg.parts import registry
from hvg.parts.context import Context
from hvg.testing import tiny_batch
from hvg.values.buckets import Bucket, alike
from hvg.values.cameras import azimuths_degrees, project
from hvg.values.packed import unpacked

CONTEXT = Context(body=Anny(), renderer=Warp())
SMALL = {"num_subjects": 3, "num_held_out_subjects": 1, "views": 2, "frames": 2, "image_size": 48, "supersampling": 1}
STRENGTHS = {"perspective": 0.3, "spatial": 0.3, "colour": 0.3}


def dataset(**changes) -> Synthetic:
    return Synthetic(Synthetic.Config(**(SMALL | changes)), CONTEXT)


def clip_of(**changes):
    return dataset(**changes).load(1)


@pytest.fixture(scope="module")
def clips():
    drivings = ("none", "same_view", "other_view", "other_person", "other_both")
    return {driving: clip_of(driving=driving) for driving in drivings}


def test_a_driving_video_changes_nothing_else_of_a_clip(clips):
    bare = clips["none"]
    assert bare.driving is None
    for clip in (clip for name, clip in clips.items() if name != "none"):
        assert clip.driving.shape == (1, 2, 3, 48, 48) and clip.driving_hands is None
        assert torch.equal(clip.frames, bare.frames) and torch.equal(clip.body.joints, bare.body.joints)
        assert torch.equal(clip.cameras.intrinsics, bare.cameras.intrinsics)
        assert torch.equal(clip.reference.frames, bare.reference.frames)


def test_same_view_is_the_first_view_and_the_others_are_none_of_the_clip_s(clips):
    assert torch.equal(clips["same_view"].driving, clips["same_view"].frames[:, 0])
    found = [clips[name].driving for name in ("other_view", "other_person", "other_both")]
    assert not any(torch.equal(driving[0], view) for driving in found for view in clips["same_view"].frames[0])
    assert not torch.equal(found[0], found[1]) and not torch.equal(found[1], found[2])


def test_of_several_drivers_each_clip_draws_one(clips):
    words = ("same_view", "other_view")
    mixed = dataset(driving=words)
    drawn = [mixed._driver(number, 0) for number in range(100)]
    assert {*drawn} == {*words} and 30 < drawn.count("same_view") < 70
    assert torch.equal(mixed.load(1).driving, clips[drawn[1]].driving)
    assert Synthetic.drives_itself(mixed.config) and "driving" in Synthetic.provides(mixed.config)
    assert not Synthetic.drives_itself(dataset(driving=("other_view", "other_person")).config)
    with pytest.raises(ValueError, match="driving"):
        dataset(driving=())


def test_another_person_moves_alike():
    """Joints of both, in the axes of their bodies, are alike where those of another clip are not."""
    people = dataset(driving="other_person")
    scene = people._scene(1, 0)
    other = people._moving_alike(1, 0, people._person(1, "driving-person-0")[0])
    stranger = people._scene(2, 0).body
    own, alike, apart = map(joints_in_body_axes, (scene.body, other, stranger))
    assert (own - alike).norm(dim=-1).mean() < 0.5 * (own - apart).norm(dim=-1).mean()


@pytest.mark.parametrize("views", [1, 2, 4])
def test_another_view_is_near_none_of_the_clip_s(views):
    people = dataset(driving="other_view", views=views)
    for number in range(3):
        scene = people._scene(number, 0)
        camera = people._camera_between(number, 0, scene.body, scene.cameras)
        apart = torch.remainder(azimuths_degrees(scene.cameras) - azimuths_degrees(camera) + 180, 360) - 180
        assert apart.abs().min() >= min(30, 120 / views) - 1e-3


def test_hands_are_seen_from_nearby_in_the_middle_of_their_pictures():
    clip = clip_of(driving="other_view", hand_size=40)
    assert clip.driving_hands.shape == (1, 2, 2, 3, 40, 40)
    # At least some of each is skin on white, and neither hand is the other's picture.
    assert (clip.driving_hands < 0.9).flatten(3).float().mean(-1).min() > 0.05
    assert not torch.equal(clip.driving_hands[:, :, 0], clip.driving_hands[:, :, 1])
    cameras = close_up_cameras(clip.body, clip.cameras[0, :1, 0], "driving_hands", 40)
    for hand in range(2):
        pixels, depth = project(middles(clip.body, "driving_hands")[:, hand, None], cameras[:, hand])
        assert torch.allclose(pixels, torch.full_like(pixels, 20.0), atol=1e-3) and (depth > 0).all()


def test_hands_before_a_camera_that_moves_are_seen_by_it():
    people = dataset(driving="same_view", hand_size=24, camera_moves=("arc",), arc_degrees=90.0)
    clip, scene = people.load(1), people._scene(1, 0)
    cameras = close_up_cameras(scene.body, clip.cameras[0, 0], "driving_hands", 24)
    assert torch.equal(clip.driving_hands, people._near(scene.person, scene.body, cameras))


def test_a_face_is_seen_from_nearby_with_all_of_its_head():
    clip = clip_of(driving="same_view", face_size=40)
    assert clip.driving_face.shape == (1, 2, 1, 3, 40, 40) and clip.driving_hands is None
    camera = close_up_cameras(clip.body, clip.cameras[0, 0], "driving_face", 40)[:, 0]
    for joint in ("head", "head_top"):
        pixels, _ = project(clip.body.place(joint)[0][:, None], camera)
        assert ((pixels > 4) & (pixels < 36)).all(), joint
    # The head, 23 of the 30 cm high, takes half of the picture or more; beside its top is the background.
    covered = (clip.driving_face[0, :, 0] < 0.9).any(dim=1).float()
    assert (covered.mean(dim=(1, 2)) > 0.35).all() and (covered[:, 2, [0, -1]] == 0).all()


@pytest.mark.parametrize("setting", ["hand_size", "face_size"])
def test_close_ups_without_a_driving_video_are_refused(setting):
    with pytest.raises(ValueError, match=f"{setting}: close-ups are of a driving video"):
        Synthetic.Config(**(SMALL | {setting: 32}))


def test_shards_keep_driving_videos_and_close_ups(tmp_path):
    clip = clip_of(driving="other_both", hand_size=24, face_size=32)
    write_shard(tmp_path / "train-0.tar", [clip])
    reader = ShardReader(tmp_path / "train-0.tar")
    assert reader.driving == {"driving", "driving_hands", "driving_face"} and reader.eight_bit
    whole, part = reader.load(0), reader.load(0, lambda v, t: ([1], range(1, 2)))
    assert same_bits(whole.driving, clip.driving) and same_bits(whole.driving_hands, clip.driving_hands)
    assert same_bits(part.driving, clip.driving[:, 1:2]) and same_bits(part.driving_hands, clip.driving_hands[:, 1:2])
    assert same_bits(whole.driving_face, clip.driving_face)
    assert same_bits(part.driving_face, clip.driving_face[:, 1:2])


def filmed(root, **given):
    part = registry.load("dataset", "multiview")
    config = part.Config(root=str(root), image_size=32, **given)
    return part(config, CONTEXT)


def test_recordings_drive_by_a_camera_that_is_no_view(tmp_path):
    write_multiview(tmp_path)
    one, whole = filmed(tmp_path, views=1, driving="other_view", hand_size=16, face_size=8), filmed(tmp_path)
    clip, seen = one.load(0), whole.load(0)
    assert clip.clip_id == seen.clip_id and clip.driving_hands.shape == (1, clip.grid[2], 2, 3, 16, 16)
    matches = [torch.equal(clip.driving[0], view) for view in seen.frames[0]]
    assert matches.count(True) == 1 and not matches[0], "as that camera's own pictures are cut"
    assert clip.driving_hands.std() > 0
    assert clip.driving_face.shape == (1, clip.grid[2], 1, 3, 8, 8) and clip.driving_face.std() > 0
    part = unpacked(one.load_part(0, lambda v, t: ([0], range(1, t)), frozenset()))
    assert torch.equal(part.driving, clip.driving[:, 1:]) and torch.equal(part.driving_hands, clip.driving_hands[:, 1:])
    copied = filmed(tmp_path, driving="same_view")
    assert torch.equal(copied.load(0).driving[0], copied.load(0).frames[0, 0]) and copied.drives_itself(copied.config)
    with pytest.raises(DataError, match=r"cameras, all of which are views; expected one more"):
        filmed(tmp_path, driving="other_view")


def test_show_has_columns_for_the_driving_video_and_its_hands(tmp_path):
    words = ["scale=cpu", "pose=none", "dataset.views=2", "dataset.frames=1", "dataset.num_subjects=2", "data.frames=1"]
    words += ["dataset.num_held_out_subjects=1", "dataset.image_size=32"]
    sizes = []
    for number, more in enumerate(([], ["dataset.driving=other_both", "dataset.hand_size=16"])):
        out = tmp_path / f"{number}.png"
        contact_sheet(compose([*words, *more]), ShowOptions(out=out))
        with Image.open(out) as sheet:
            sizes.append(sheet.width * sheet.height)
    assert sizes[1] > sizes[0]


# --- what training changes ---


def test_a_homography_takes_its_points_where_they_belong():
    random = torch.Generator().manual_seed(0)
    start = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    end = start + 0.3 * torch.rand(4, 2, generator=random)
    found = torch.cat([start, torch.ones(4, 1)], dim=1) @ homography(start, end).T
    assert torch.allclose(found[:, :2] / found[:, 2:], end, atol=1e-5)


def test_a_shifted_picture_is_where_it_was_looked_for():
    picture = torch.rand(2, 3, 8, 8)
    view = torch.eye(3)
    view[0, 2] = 2 * 2 / 8
    assert torch.allclose(warped(picture, view)[..., :6], picture[..., 2:], atol=1e-5)
    assert torch.allclose(warped(picture, torch.eye(3)), picture, atol=1e-6)


def test_driving_videos_change_alone_alike_in_all_frames_and_by_their_generator():
    clip = tiny_batch(1, 2, 2)
    still = replace(clip, driving=clip.driving[:, :1].expand(-1, 2, -1, -1, -1))

    def changed(seed: int, **strengths):
        return changed_driving(still, torch.Generator().manual_seed(seed), **(STRENGTHS | strengths))

    made = changed(0)
    assert torch.equal(made.driving[:, 0], made.driving[:, 1])
    assert torch.equal(made.driving, changed(0).driving) and not torch.equal(made.driving, changed(1).driving)
    assert not torch.equal(made.driving_hands, clip.driving_hands)
    assert torch.equal(made.frames, clip.frames) and torch.equal(made.reference.frames, clip.reference.frames)
    assert made.driving.abs().max() <= 1
    nothing = changed(0, perspective=0.0, spatial=0.0, colour=0.0)
    assert torch.allclose(nothing.driving, still.driving, atol=1e-5)


def order(clips, **words) -> TrainingOrder:
    return TrainingOrder(clips, NO_SIGNALS, seed=0, groups=alike(3, Bucket(2, 2)), clips_per_step=1, **words)


def test_a_step_sees_changed_driving_videos_and_the_same_again():
    clips = dataset(driving="other_view")
    plain, changed, again = order(clips)[3], order(clips, driving=STRENGTHS)[3], order(clips, driving=STRENGTHS)[3]
    assert torch.equal(plain.frames, changed.frames) and not torch.equal(plain.driving, changed.driving)
    assert torch.equal(changed.driving, again.driving)


# --- copies ---


def test_a_clip_that_drives_itself_is_refused_where_nobody_allows_it(clips):
    refuse_copies(clips["other_view"])
    with pytest.raises(HvgError, match=r"is the target itself.*data\.copied_driving=allow"):
        refuse_copies(clips["same_view"])
    with pytest.raises(HvgError, match="is the target itself"):
        order(dataset(driving="same_view"))[0]
    assert order(dataset(driving="same_view"), copies=True)[0].driving is not None


def test_what_a_loading_process_refuses_is_told_in_one_line():
    with pytest.raises(HvgError) as caught:
        next(iter(DataLoader(order(dataset(driving="same_view")), None, sampler=[0], num_workers=1)))
    said = said_by_loader(caught.value)
    assert said and said.startswith("clip '") and said.endswith("data.copied_driving=allow") and "\n" not in said
    assert said_by_loader(HvgError("clip 'a': is not")) is None


def test_a_run_that_would_learn_to_copy_is_refused_before_it_starts():
    words = ["scale=cpu", "pose=motion_tokens", "pose.inject=channels"]
    copying = compose([*words, "dataset.driving=other_view"]).model_copy
    config = copying()
    assert not clip_checks.check_files(config)
    copied = config.dataset.config.model_copy(update={"driving": "same_view"})
    choice = replace(config.dataset, config=copied)
    (problem,) = clip_checks.check_files(copying(update={"dataset": choice}))
    assert "which pose reads, is the target itself from the same camera" in str(problem)
    allowed = config.data.model_copy(update={"copied_driving": "allow"})
    assert not clip_checks.check_files(copying(update={"dataset": choice, "data": allowed}))
