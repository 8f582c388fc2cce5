"""Moving people to one place of the picture, and back: pixels, cameras and maps stay together."""

from dataclasses import replace
from typing import Literal

import pytest
import torch
from pydantic import Field

from components.alignments.first_frame import FirstFrameAlignment
from components.alignments.none import NoAlignment
from components.alignments.pelvis import PelvisAlignment, PelvisConfig
from components.bodies.anny import Anny
from components.datasets.synthetic import Synthetic
from components.renderers.warp import Warp
from hvg.config import checks
from hvg.config.composition import compose
from hvg.config.settings import PartChoice
from hvg.core.random_keys import generator
from hvg.model.load import build_system
from hvg.model.system import HumanVideoSystem
from hvg.parts import registry
from hvg.parts.context import Context
from hvg.parts.part import PartConfig
from hvg.parts.scene import Dataset
from hvg.testing import build, tiny_batch, tiny_context
from hvg.values.cameras import project
from hvg.values.clip import ClipBatch
from hvg.values.moved import align, move, move_cameras

SIZE = 64
WHITE = torch.ones(3)
EVERY, FIRST = PelvisAlignment(PelvisConfig()), PelvisAlignment(PelvisConfig(frames="first"))
FIRST_FRAME = FirstFrameAlignment(PartConfig())


def synthetic(**changes) -> Synthetic:
    settings = {"num_subjects": 2, "views": 4, "frames": 3, "image_size": SIZE, "fov_degrees": 42.0}
    config = Synthetic.Config(**(settings | {"framing_jitter": 0.12, "motions": ("walk", "dance")} | changes))
    return Synthetic(config, Context(body=Anny(), renderer=Warp()))


@pytest.fixture(scope="module")
def clip():
    """A person off the middle, by another amount in every view."""
    return synthetic().load(0)


def pelvis(body, cameras):
    """Pixels (B, V, T, 2)."""
    joint = body.joints[:, None, :, body.joint_names.index("pelvis"), None]
    return project(joint, cameras)[0][..., 0, :]


def shifted(images, offsets, fill):
    """What ``move`` has to give, written pixel by pixel: out(y, x) = in(y - dy, x - dx)."""
    height, width = images.shape[-2:]
    out = torch.empty_like(images)
    for image, target, (dx, dy) in zip(images, out, offsets.tolist(), strict=True):
        for y in range(height):
            for x in range(width):
                inside = 0 <= y - dy < height and 0 <= x - dx < width
                target[:, y, x] = image[:, y - dy, x - dx] if inside else fill.to(image)
    return out


# --- pixels ---

OFFSETS = torch.tensor(
    [[0, 0], [3, 0], [0, -4], [-2, 5], [1, -1], [8, 0], [0, 6], [-8, -6], [7, 5], [-7, 0], [100, 2], [1, -(10**10)]]
)


def pictures(dtype: torch.dtype, count: int) -> torch.Tensor:
    bytes_ = torch.randint(0, 255, (count, 3, 6, 8), generator=generator("pictures"))
    return bytes_.to(dtype) if dtype == torch.uint8 else (bytes_ / 100).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.uint8])
@pytest.mark.parametrize("fill", [torch.tensor([7.0]), torch.tensor([1.0, 2.0, 3.0])])
def test_every_pixel_goes_where_its_offset_says(dtype, fill):
    images = pictures(dtype, len(OFFSETS))
    moved = move(images, OFFSETS, fill)
    assert moved.dtype == dtype
    assert torch.equal(moved, shifted(images, OFFSETS, fill.expand(3)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8])
def test_moving_back_returns_what_stayed_inside_and_background_elsewhere(dtype):
    draws = torch.randint(-9, 10, (40, 2), generator=generator("offsets"))
    offsets = torch.cat([draws, OFFSETS])
    images, fill = pictures(dtype, len(offsets)), torch.tensor([9.0, 8.0, 7.0])
    back = move(move(images, offsets, fill), -offsets, fill)
    # What survives is what a picture of ones still shows.
    ones = torch.ones_like(images)
    kept = move(move(ones, offsets), -offsets) == 1
    assert torch.equal(back, torch.where(kept, images, fill.to(dtype).view(3, 1, 1)))
    counts = kept[:, 0].sum((-1, -2))
    height, width = images.shape[-2:]
    dx, dy = offsets.abs().unbind(-1)
    assert torch.equal(counts, (width - dx).clamp(0) * (height - dy).clamp(0))


def test_axes_are_kept_and_no_offset_is_no_copy():
    images = torch.rand(2, 3, 4, 3, 6, 8)
    offsets = torch.randint(-3, 4, (2, 3, 4, 2), generator=generator("axes"))
    moved = move(images, offsets)
    assert torch.equal(moved.flatten(0, 2), move(images.flatten(0, 2), offsets.flatten(0, 2)))
    assert torch.equal(moved[1, 2, 3], move(images[1, 2, 3], offsets[1, 2, 3]))
    swapped = images.transpose(0, 1)
    assert torch.equal(move(swapped, offsets.transpose(0, 1)), moved.transpose(0, 1))
    assert move(images, None) is images
    assert torch.equal(move(images, torch.zeros(2, 3, 4, 2, dtype=torch.int64)), images)
    with pytest.raises(ValueError):
        move(images, offsets[:, :2])


# --- cameras and maps move with the pixels ---


def test_joints_move_by_the_offsets(clip):
    offsets = torch.randint(-20, 20, (1, 4, 3, 2), generator=generator("cameras"))
    points = clip.body.joints[:, None]
    before, depth = project(points, clip.cameras)
    after, depth_after = project(points, move_cameras(clip.cameras, offsets))
    torch.testing.assert_close(after, before + offsets[..., None, :], rtol=0, atol=1e-3)
    assert torch.equal(depth, depth_after)
    assert move_cameras(clip.cameras, None) is clip.cameras


@pytest.mark.parametrize("name", ["bone_map", "skeleton", "smpl_normal"])
def test_a_map_drawn_through_moved_cameras_is_the_moved_map(clip, name):
    part = registry.load("conditioner", name)
    draw = build(part, part.Config(), tiny_context()).signal
    offsets = torch.randint(-12, 12, (1, 4, 3, 2), generator=generator("maps"))
    moved = align(replace(clip, signals={"map": draw(clip)}), offsets, None, WHITE)
    drawn = draw(replace(moved, signals={}))
    common = move(torch.ones(1, 4, 3, 1, SIZE, SIZE), offsets) == 1
    difference = ((drawn - moved.signals["map"]).abs() * common).amax(3)
    assert drawn[common.expand_as(drawn)].any()
    # On an outline, rounding may decide for the other side; elsewhere they agree.
    assert (difference > 1e-3).float().mean() < 1e-4


def test_the_silhouette_moves_with_the_body(clip):
    offsets = EVERY.offsets(clip)
    moved = align(clip, offsets, EVERY.reference_offsets(clip), WHITE)
    column, row = project(moved.body.joints[:, None], moved.cameras)[0].floor().long().clamp(0, SIZE - 1).unbind(-1)
    v, t = torch.arange(4)[:, None, None], torch.arange(3)[None, :, None]
    assert (moved.alpha[0, v, t, 0, row[0], column[0]] > 0).float().mean() > 0.97
    assert (moved.frames[moved.alpha.expand_as(moved.frames) == 0] == 1).all()


def test_all_of_a_batch_moves_but_its_driving_video():
    batch = replace(tiny_batch(), signals={"map": torch.rand(2, 2, 2, 4, 32, 32)})
    photo = replace(batch.reference, alpha=torch.rand(2, 1, 1, 32, 32), cameras=batch.cameras[:, 0, :1])
    batch = replace(batch, reference=photo)
    offsets = torch.randint(-9, 9, (2, 2, 2, 2), generator=generator("batch"))
    photo_offsets = torch.tensor([[[4, -3]], [[0, 40]]])
    fill = torch.tensor([0.5, 0.0, -0.5])
    moved = align(batch, offsets, photo_offsets, fill)
    assert torch.equal(moved.frames, move(batch.frames, offsets, fill))
    assert torch.equal(moved.alpha, move(batch.alpha, offsets, 0.0))
    assert torch.equal(moved.signals["map"], move(batch.signals["map"], offsets, 0.0))
    assert torch.equal(moved.reference.frames, move(photo.frames, photo_offsets, fill))
    assert torch.equal(moved.reference.alpha, move(photo.alpha, photo_offsets, 0.0))
    shift = moved.reference.cameras.intrinsics - photo.cameras.intrinsics
    assert torch.equal(shift[..., :2, 2], photo_offsets.float())
    assert moved.driving is batch.driving and moved.body is batch.body
    assert torch.equal(moved.cameras.world_to_camera, batch.cameras.world_to_camera)
    only_photo = align(batch, None, photo_offsets, fill)
    assert only_photo.frames is batch.frames and torch.equal(only_photo.reference.frames, moved.reference.frames)
    assert align(replace(batch, reference=None, frames=None, alpha=None), offsets, None, fill).frames is None


# --- where people go ---


@pytest.mark.parametrize("anchor", [(0.5, 0.5), (0.4, 0.55)])
def test_the_pelvis_is_at_the_anchor_in_every_frame(clip, anchor):
    part = PelvisAlignment(PelvisConfig(anchor=anchor))
    assert (pelvis(clip.body, clip.cameras) - SIZE / 2).abs().amax() > 4, "there is something to do"
    offsets = part.offsets(clip)
    assert offsets.dtype == torch.int64 and offsets.shape == (1, 4, 3, 2)
    moved = align(clip, offsets, part.reference_offsets(clip), WHITE)
    goal = torch.tensor(anchor) * SIZE
    assert (pelvis(moved.body, moved.cameras) - goal).abs().amax() <= 0.501
    assert (pelvis(moved.reference.body, moved.reference.cameras[:, None]) - goal).abs().amax() <= 0.501


def test_with_first_the_person_still_walks(clip):
    offsets = FIRST.offsets(clip)
    moved = align(clip, offsets, None, WHITE)
    place = pelvis(moved.body, moved.cameras)
    assert (place[:, :, 0] - SIZE / 2).abs().amax() <= 0.501
    before = pelvis(clip.body, clip.cameras)
    torch.testing.assert_close(place - place[:, :, :1], before - before[:, :, :1], rtol=0, atol=1e-3)
    assert (offsets == offsets[:, :, :1]).all() and torch.equal(offsets[:, :, 0], EVERY.offsets(clip)[:, :, 0])


def test_the_photo_meets_the_first_frame(clip):
    assert FIRST_FRAME.offsets(clip) is None
    moved = align(clip, None, FIRST_FRAME.reference_offsets(clip), WHITE)
    photo = pelvis(moved.reference.body, moved.reference.cameras[:, None])[:, 0]
    assert (photo - pelvis(clip.body, clip.cameras)[:, 0, :1]).abs().amax() <= 0.501
    assert moved.cameras is clip.cameras and moved.frames is clip.frames


def test_a_larger_photo_meets_the_first_frame_at_the_same_fraction(clip):
    photo = clip.reference
    large = replace(
        photo,
        frames=photo.frames.repeat_interleave(2, -1).repeat_interleave(2, -2),
        alpha=None,
        cameras=photo.cameras.resized((2 * SIZE, 2 * SIZE)),
    )
    offsets = FIRST_FRAME.reference_offsets(replace(clip, reference=large))
    place = pelvis(large.body, large.cameras[:, None])[:, 0] + offsets
    assert (place / 2 - pelvis(clip.body, clip.cameras)[:, 0, :1]).abs().amax() <= 0.251


@pytest.mark.parametrize("index", range(2))
def test_an_outline_tells_where_the_pelvis_is(index):
    """Clothes and hair make it a guess: within 4 % of the picture."""
    clip = synthetic().load(index)
    known = EVERY.reference_offsets(clip)
    for without in ({"body": None}, {"cameras": None}, {"body": None, "cameras": None}):
        guess = EVERY.reference_offsets(replace(clip, reference=replace(clip.reference, **without)))
        assert (guess - known).abs().amax() <= 0.04 * SIZE


@pytest.mark.parametrize("part", [EVERY, FIRST, FIRST_FRAME, PelvisAlignment(PelvisConfig(anchor=(0.3, 0.6)))])
def test_a_photo_in_which_nobody_is_seen_stays(clip, part):
    nobody = replace(clip.reference, body=None, alpha=torch.zeros_like(clip.reference.alpha))
    assert not part.reference_offsets(replace(clip, reference=nobody)).any()
    assert part.reference_offsets(replace(clip, reference=replace(nobody, alpha=None))) is None
    assert part.reference_offsets(replace(clip, reference=None)) is None


def test_one_empty_photo_does_not_move_the_others():
    box = torch.zeros(2, 1, 1, 40, 40)
    box[0, :, :, 0:20, 4:10] = 1
    batch = tiny_batch(size=40)
    photo = replace(batch.reference, alpha=box)
    offsets = EVERY.reference_offsets(replace(batch, reference=photo))
    # The middle of columns 4 to 10 is 7; 0.47 of rows 0 to 20 is 9.4.
    assert offsets.tolist() == [[[13, 11]], [[0, 0]]]


def test_a_view_with_the_pelvis_behind_it_stays(clip):
    turn = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0]))
    matrices = clip.cameras.world_to_camera.clone()
    matrices[:, 2] = turn @ matrices[:, 2]
    behind = replace(clip, cameras=replace(clip.cameras, world_to_camera=matrices))
    offsets = EVERY.offsets(behind)
    assert not offsets[:, 2].any()
    assert torch.equal(offsets[:, [0, 1, 3]], EVERY.offsets(clip)[:, [0, 1, 3]])


def test_the_photo_may_stay():
    part = PelvisAlignment(PelvisConfig(reference=False))
    assert part.reference_offsets(tiny_batch()) is None


def test_offsets_do_not_depend_on_autocast():
    # At 512 pixels a projection in bfloat16 is off by one.
    batch = tiny_batch(size=512)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = EVERY.offsets(batch)
    assert torch.equal(low, EVERY.offsets(batch))


def test_none_moves_nothing(clip):
    part = NoAlignment(PartConfig())
    assert part.offsets(clip) is None and part.reference_offsets(clip) is None
    same = align(clip, None, None, WHITE)
    assert same.frames is clip.frames and same.cameras is clip.cameras and same.reference is clip.reference


def test_an_anchor_is_a_fraction():
    with pytest.raises(ValueError, match="less than or equal to 1"):
        PelvisConfig(anchor=(32, 32))


# --- the whole system ---


@pytest.fixture(scope="module")
def batch():
    """Two clips in the training order, large enough a jitter that nothing is aligned by itself."""
    dataset = synthetic(image_size=32, views=2, frames=2, framing_jitter=0.15)
    clips = ClipBatch.stack([dataset.load(0), dataset.load(1)])
    return replace(clips, sample_index=torch.tensor([3, 8]))


@pytest.fixture(scope="module")
def systems(tiny) -> dict[str, HumanVideoSystem]:
    names = ("none", "pelvis", "first_frame")
    built = {name: build_system(compose([*tiny, f"alignment={name}", "sampler=temporal"])) for name in names}
    for system in built.values():
        random = generator("weights")
        # So that the network says something, and the same in every system.
        with torch.no_grad():
            for weight in system.parameters():
                weight.add_(0.05 * torch.randn(weight.shape, generator=random))
    return built


def by_hand(batch, system):
    """The aligned batch, pixel by pixel."""
    offsets, photo = system.alignment.offsets(batch), system.alignment.reference_offsets(batch)
    reference, black = batch.reference, torch.zeros(1)
    moved_photo = shifted(reference.frames.flatten(0, 1), photo.flatten(0, 1), WHITE).view_as(reference.frames)
    batch = replace(batch, reference=replace(reference, frames=moved_photo))
    if offsets is None:
        return batch
    intrinsics = batch.cameras.intrinsics.clone()
    intrinsics[..., :2, 2] += offsets
    flat = offsets.flatten(0, 2)
    return replace(
        batch,
        frames=shifted(batch.frames.flatten(0, 2), flat, WHITE).view_as(batch.frames),
        alpha=shifted(batch.alpha.flatten(0, 2), flat, black).view_as(batch.alpha),
        cameras=replace(batch.cameras, intrinsics=intrinsics),
    )


@pytest.mark.parametrize("name", ["pelvis", "first_frame"])
def test_a_training_step_is_that_of_the_aligned_batch(systems, batch, name):
    loss = systems[name].training_step(batch, 0)["loss"]
    assert loss.isfinite()
    assert torch.equal(loss, systems["none"].training_step(by_hand(batch, systems[name]), 0)["loss"])
    assert not torch.equal(loss, systems["none"].training_step(batch, 0)["loss"])


def test_stored_maps_give_what_drawn_ones_give(systems, batch):
    """To the last bit, also where the border cuts people off: maps are drawn before they are moved."""
    system = systems["pelvis"]
    near = replace(batch.cameras, intrinsics=batch.cameras.intrinsics * torch.tensor([[2.0], [2.0], [1.0]]))
    cut = replace(batch, cameras=move_cameras(near, torch.tensor([7, -5]).expand(*batch.grid, 2)))
    stored = system.signals.draw(cut)
    assert stored.signals
    for key, signal in stored.signals.items():
        assert signal[..., 0, :].any() or signal[..., -1, :].any(), f"{key}: nobody is cut off"
    with torch.no_grad():
        losses = [system.training_step(b, 0)["loss"] for b in (cut, stored)]
    assert torch.equal(*losses)
    assert torch.equal(*(system.generate(b, num_steps=2) for b in (cut, stored)))


def test_decoding_brings_the_truth_back(systems, batch):
    system = systems["pelvis"]
    aligned, offsets = system.aligned(batch)
    assert offsets.any()
    decoded = torch.cat(list(system.decode(system.codec.encode(aligned.frames), offsets, aligned.clip_id)), dim=2)
    direct = system.codec.decode(system.codec.encode(batch.frames)).clamp(-1, 1)
    kept = move(move(torch.ones_like(batch.frames), offsets), -offsets) == 1
    assert torch.equal(decoded, torch.where(kept, direct, torch.ones(())))
    assert torch.equal(decoded, direct), "nobody was cut off, and the rest is white"


def test_long_videos_are_decoded_and_moved_piece_by_piece(systems):
    system = systems["pelvis"]
    long = synthetic(image_size=32, views=1, frames=2 * system.codec.decode_chunk + 1).load(0)
    aligned, offsets = system.aligned(long)
    pieces = list(system.decode(system.codec.encode(aligned.frames), offsets, aligned.clip_id))
    assert len(pieces) == 3
    torch.testing.assert_close(torch.cat(pieces, dim=2), long.frames, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["pelvis", "first_frame"])
def test_generated_frames_are_in_the_frame_that_was_asked_for(systems, batch, name):
    """They are those of the aligned request, moved back."""
    system, request = systems[name], replace(batch, frames=None, alpha=None)
    ours = system.generate(request, num_steps=2)
    aligned, offsets = system.aligned(request)
    there = systems["none"].generate(aligned, num_steps=2)
    assert torch.equal(ours, there if offsets is None else move(there, -offsets, WHITE))
    assert there.std() > 0.05, "the network says something"
    assert not torch.equal(ours, systems["none"].generate(request, num_steps=2))


def test_the_background_is_the_configured_colour(tiny, batch):
    system = build_system(compose([*tiny, "alignment=pelvis", "data.background=[0.0,0.5,1.0]"]))
    aligned, offsets = system.aligned(batch)
    new = (move(torch.ones_like(batch.frames), offsets) == 0)[:, :, :, 0]
    assert new.any()
    assert (aligned.frames.movedim(3, -1)[new] == torch.tensor([-1.0, 0.0, 1.0])).all()


# --- wiring ---


class Bodiless(Dataset):
    """Clips without a body."""

    class Config(PartConfig):
        split: Literal["train", "val", "test"] = Field("train", description="Which clips.")

    @classmethod
    def provides(cls, config) -> frozenset[str]:
        return frozenset({"frames", "alpha", "cameras", "reference"})


@pytest.mark.parametrize("name", ["pelvis", "first_frame"])
def test_a_dataset_without_bodies_is_refused_once(name):
    config = compose([f"alignment={name}", "pose=none"])
    dataset = PartChoice("dataset", "bodiless", Bodiless, Bodiless.Config())
    problems = checks.check(config.model_copy(update={"dataset": dataset}))
    assert [problem.path for problem in problems] == ["alignment"]
    assert f"{name} requires the field 'body', which the dataset 'bodiless' does not provide" in problems[0].message
    plain = compose(["alignment=none", "pose=none"])
    assert not checks.check(plain.model_copy(update={"dataset": dataset}))
