"""The synthetic dataset: determinism, what clips hold, and whether pixels and geometry agree."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from components.bodies.anny import Anny
from components.datasets.synthetic import Synthetic
from components.people.garments import drape
from components.people.motions import MOTIONS, grounded
from components.people.person import Person, sample_look
from components.renderers.warp import Warp
from hvg.core.errors import ConfigError
from hvg.core.random_keys import numpy_generator
from hvg.geometry.camera_moves import MOVES, camera_moves
from hvg.geometry.motion import Motion
from hvg.parts.context import Context
from hvg.values.cameras import project
from hvg.values.task import NOVEL_POSE, NOVEL_VIEW, clip_task

CONTEXT = Context(body=Anny(), renderer=Warp())
SMALL = {
    "num_subjects": 3,
    "clips_per_subject": 2,
    "views": 2,
    "frames": 3,
    "image_size": 48,
    "supersampling": 2,
    "fov_degrees": 38.0,
}


def _dataset(**changes) -> Synthetic:
    return Synthetic(Synthetic.Config(**(SMALL | changes)), CONTEXT)


@pytest.fixture(scope="module")
def clips():
    dataset = _dataset()
    return [dataset.load(index) for index in range(len(dataset))]


def test_a_clip_holds_what_the_dataset_promises(clips):
    dataset = _dataset()
    assert len(dataset) == 6
    for clip in clips:
        assert dataset.provides(dataset.config) <= clip.present()
        assert clip.grid == (1, 2, 3)
        assert clip.frames.shape == (1, 2, 3, 3, 48, 48) and clip.alpha.shape == (1, 2, 3, 1, 48, 48)
        assert clip.reference.frames.shape == (1, 1, 3, 48, 48) and clip.reference.cameras.shape == (1, 1)
        assert clip.body.vertices.shape[:2] == (1, 3) and clip.valid.all() and clip.frame_index.tolist() == [[0, 1, 2]]
        assert clip.frames.min() >= -1 and clip.frames.max() <= 1
    assert clips[3].clip_id == ("train-0001-1",) and clips[3].subject == ("train-0001",)
    with pytest.raises(IndexError):
        dataset.load(6)


def test_a_clip_is_a_novel_view_where_it_stands_as_in_the_photo_and_every_clip_here_moves(clips):
    assert [clip.task.tolist() for clip in clips] == [[NOVEL_POSE]] * len(clips)
    clip, photo = clips[0], clips[0].reference.body
    standing = replace(clip, body=replace(clip.body, joints=photo.joints.expand_as(clip.body.joints)))
    assert clip_task(standing).tolist() == [NOVEL_VIEW]
    # Another place is another task, as is one frame that moves; a frame that nobody counts says nothing.
    assert clip_task(_moved(standing, 0)).tolist() == clip_task(_moved(standing, 2)).tolist() == [NOVEL_POSE]
    padded = replace(_moved(standing, 2), valid=torch.tensor([True, True, False]).expand(1, 2, 3))
    assert clip_task(padded).tolist() == [NOVEL_VIEW]
    assert clip_task(replace(clip, reference=None)) is None


def _moved(clip, first):
    """The clip with the person 2 mm elsewhere from frame ``first`` on."""
    joints = clip.body.joints.clone()
    joints[:, first:] += 2e-3 / 3**0.5
    return replace(clip, body=replace(clip.body, joints=joints))


def test_pixels_are_bytes_and_the_background_is_plain(clips):
    for clip in clips:
        bytes_of_frames, bytes_of_alpha = (clip.frames + 1) * 127.5, clip.alpha * 255
        assert (bytes_of_frames - bytes_of_frames.round()).abs().max() < 1e-3
        assert (bytes_of_alpha - bytes_of_alpha.round()).abs().max() < 1e-3
        empty = clip.alpha.expand_as(clip.frames) == 0
        assert (clip.frames[empty] == 1).all()
        assert 0.03 < clip.alpha.mean() < 0.3


def test_order_and_instance_do_not_matter(clips):
    dataset = _dataset()
    for index in (5, 0):
        again = dataset.load(index)
        assert torch.equal(again.frames, clips[index].frames) and torch.equal(again.alpha, clips[index].alpha)
        assert torch.equal(again.reference.frames, clips[index].reference.frames)
        assert torch.equal(again.body.vertices, clips[index].body.vertices)


@pytest.mark.long
def test_another_process_renders_the_same_pixels(clips):
    program = (
        "import sys, hashlib; from components.bodies.anny import Anny; from components.renderers.warp import Warp;"
        "from components.datasets.synthetic import Synthetic; from hvg.parts.context import Context;"
        f"d = Synthetic(Synthetic.Config(**{SMALL!r}), Context(body=Anny(), renderer=Warp()));"
        "print(hashlib.sha256(d.load(5).frames.numpy().tobytes()).hexdigest())"
    )
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.split()[-1] == hashlib.sha256(clips[5].frames.numpy().tobytes()).hexdigest()


def test_splits_and_seeds_have_different_people(clips):
    colours = {}
    for name, changes in (("test", {"split": "test"}), ("val", {"split": "val"}), ("seed", {"seed": 1})):
        other = _dataset(**changes).load(0)
        assert not torch.equal(other.body.constants["shape"], clips[0].body.constants["shape"])
        colours[name] = other.reference.frames
        assert (other.reference.frames - clips[0].reference.frames).abs().mean() > 0.01
    assert _dataset(split="test").load(0).subject == ("test-0000",)
    assert not torch.equal(clips[0].body.joints, clips[1].body.joints)
    assert torch.equal(clips[0].reference.frames, clips[1].reference.frames)


def test_more_subjects_do_not_change_the_first_ones(clips):
    assert torch.equal(_dataset(num_subjects=50).load(4).frames, clips[4].frames)


def test_joints_lie_in_the_silhouette_and_people_in_the_frame(clips):
    inside = []
    for clip in clips:
        pixels, depth = project(clip.body.joints[:, None], clip.cameras)
        assert (depth > 1).all()
        column, row = pixels.floor().long().clamp(0, 47).unbind(-1)
        alpha = clip.alpha[0, :, :, 0]
        for v in range(2):
            for t in range(3):
                inside.append(alpha[v, t][row[0, v, t], column[0, v, t]] > 0)
        border = torch.cat([alpha[..., 0, :], alpha[..., -1, :], alpha[..., :, 0], alpha[..., :, -1]], dim=-1)
        assert not border.any()
    assert torch.cat(inside).float().mean() > 0.97


def test_alpha_is_the_bare_body_and_more(clips):
    """Clothes cover the body: nearly all of the bare body's silhouette lies inside alpha."""
    for clip in clips[::2]:
        vertices = clip.body.vertices[0]
        image = Warp().render(vertices, clip.body.faces, clip.cameras[0, 0])
        bare = image.face >= 0
        assert (clip.alpha[0, 0, :, 0][bare] > 0).float().mean() > 0.995


def _clothed(garment: str) -> tuple[Person, dict[str, float]]:
    for number in range(40):
        generator = numpy_generator("garment", number)
        look = sample_look(generator)
        if look.garment == garment:
            rest = CONTEXT.body.animate(Motion(rotations={"pelvis": torch.zeros(1, 3)}), {})
            return Person(rest, look, generator), {}
    raise AssertionError(f"nobody wears a {garment}")


@pytest.mark.parametrize("garment", ["skirt", "coat"])
@pytest.mark.parametrize("motion", ["walk", "squat"])
def test_loose_clothes_leave_the_body_and_cover_the_thighs(garment, motion):
    person, shape = _clothed(garment)
    moving = grounded(MOTIONS[motion](np.random.default_rng(3), 6), CONTEXT.body, shape)
    body = CONTEXT.body.animate(moving, shape, mesh=False)
    joints = dict(zip(body.joint_names, body.joints[0].numpy().swapaxes(0, 1), strict=True))
    skirt = person._skirt
    cloth = drape(skirt, joints).reshape(6, *skirt.support.shape, 3)
    assert np.isfinite(cloth).all()
    edges = np.linalg.norm(np.diff(cloth, axis=1), axis=-1)
    assert edges.max() < 0.2, "torn between two rings"
    ring = int(np.abs(skirt.below - 0.25).argmin())
    for side in ("left", "right"):
        thigh = 0.4 * joints[f"{side}_hip"] + 0.6 * joints[f"{side}_knee"]
        away = np.linalg.norm(cloth[:, ring] - thigh[:, None], axis=-1).min(axis=1)
        assert (away > 0.03).all()
    assert (cloth[:, -1].max(axis=1) - cloth[:, -1].min(axis=1)).max(axis=1).min() > 0.3


def test_cloth_lags_behind_but_starts_at_rest():
    person, _ = _clothed("skirt")
    turned = MOTIONS["walk"](np.random.default_rng(0), 5)
    body = CONTEXT.body.animate(turned, {}, mesh=False)
    joints = dict(zip(body.joint_names, body.joints[0].numpy().swapaxes(0, 1), strict=True))
    whole = drape(person._skirt, joints)
    alone = drape(person._skirt, {name: path[3:4] for name, path in joints.items()})
    first = drape(person._skirt, {name: path[:1] for name, path in joints.items()})
    np.testing.assert_allclose(whole[0], first[0], atol=1e-6)
    assert np.abs(whole[3] - alone[0]).max() > 0.005


@pytest.mark.parametrize("name", MOTIONS)
def test_motions_stand_on_the_floor(name):
    motion = grounded(MOTIONS[name](np.random.default_rng(1), 4), CONTEXT.body, {})
    assert motion.num_frames == 4
    lowest = CONTEXT.body.animate(motion, {}).vertices[0, :, :, 1].amin(dim=1)
    assert lowest.abs().max() < 0.06


def test_colours_are_unlike_between_people(clips):
    means = []
    for clip in clips[::2]:
        alpha = clip.reference.alpha
        means.append((clip.reference.frames * alpha).sum((0, 1, 3, 4)) / alpha.sum())
    distances = torch.pdist(torch.stack(means))
    assert distances.min() > 0.05 and distances.mean() > 0.2


def test_no_mesh_and_single_view_and_frame():
    clip = _dataset(mesh=False, views=1, frames=1, image_size=(32, 24)).load(0)
    assert clip.grid == (1, 1, 1) and clip.frames.shape[-2:] == (32, 24)
    assert "body.vertices" not in clip.present() and clip.reference.body.vertices is None


JITTER = {"framing_jitter": 0.12, "fov_degrees": 42.0}


def _off_centre(cameras) -> torch.Tensor:
    """Where the principal points are, from the picture's middle, as fractions of the shorter side."""
    height, width = cameras.image_size
    return (cameras.intrinsics[..., :2, 2] - torch.tensor([width / 2, height / 2])) / min(height, width)


def test_people_are_framed_in_the_middle_unless_jitter_is_asked_for(clips):
    """By default the pixels are those of the plain orbit."""
    dataset, clip = _dataset(), clips[3]
    assert dataset.config.framing_jitter == 0
    generator = numpy_generator(0, "train", 1, "cameras", 1)
    cameras = dataset._cameras(clip.body, generator)
    assert not _off_centre(cameras).any() and not _off_centre(clip.reference.cameras).any()
    frames, alpha = dataset._render(dataset._person(1)[1], clip.body, cameras)
    assert torch.equal(frames.unflatten(0, (3, 2)).transpose(0, 1)[None], clip.frames)
    assert torch.equal(alpha.unflatten(0, (3, 2)).transpose(0, 1)[None], clip.alpha)


def test_cameras_that_move_see_the_same_person_from_the_same_first_place(clips):
    still, moved = clips[0], _dataset(camera_moves=("arc",), arc_degrees=60.0).load(0)
    assert torch.equal(moved.body.joints, still.body.joints)
    first = (moved.cameras.world_to_camera - still.cameras.world_to_camera)[:, :, 0]
    assert float(first.abs().max()) < 1e-5
    off = (moved.frames - still.frames).abs().mean(dim=(0, 1, 3, 4, 5))
    assert float(off[0]) < 1e-3 < float(off[-1])
    turns = camera_moves(moved.cameras[0], 3.0)[:, MOVES.index("orbit")].abs()
    assert ((turns > 14.9) & (turns < 60.1)).all()
    # The person stays in every picture, where the cameras say.
    pixels, _ = project(moved.body.joints[:, None], moved.cameras)
    inside = (pixels > 0).all(dim=-1) & (pixels < moved.cameras.image_size[0]).all(dim=-1)
    assert inside.float().mean() > 0.95
    views = _dataset(camera_moves=("arc",), view_share=1.0).load(0)
    assert not camera_moves(views.cameras[0], 3.0).abs().gt(0.02).any()
    with pytest.raises(ValidationError, match="dolly_metres 2 is more than half of the distance"):
        _dataset(camera_moves=("dolly",), dolly_metres=2.0)


def test_jitter_changes_the_framing_and_nothing_else():
    centred, jittered = (_dataset(**JITTER | changes).load(3) for changes in ({"framing_jitter": 0.0}, {}))
    assert torch.equal(jittered.body.vertices, centred.body.vertices)
    for one, other in ((jittered, centred), (jittered.reference, centred.reference)):
        assert torch.equal(one.cameras.world_to_camera, other.cameras.world_to_camera)
        assert torch.equal(one.cameras.intrinsics[..., :2, :2], other.cameras.intrinsics[..., :2, :2])
        assert not torch.equal(one.frames, other.frames)
        # The same people, only elsewhere in the picture.
        assert (one.frames.mean() - other.frames.mean()).abs() < 0.01
    again = _dataset(**JITTER).load(3)
    assert torch.equal(again.frames, jittered.frames) and torch.equal(again.reference.frames, jittered.reference.frames)


def test_every_view_clip_and_photo_has_its_own_framing():
    dataset = _dataset(**JITTER)
    clips = [dataset.load(index) for index in range(6)]
    for clip in clips:
        shifts = _off_centre(clip.cameras)
        assert torch.equal(shifts, shifts[:, :, :1].expand_as(shifts)), "cameras stand still"
    # The photo is the subject's, not the clip's.
    photos = [_off_centre(clip.reference.cameras)[0] for clip in clips]
    assert torch.equal(photos[0], photos[1])
    shifts = torch.cat([*(_off_centre(clip.cameras)[0, :, 0] for clip in clips), *photos[::2]])
    assert len(shifts.unique(dim=0)) == len(shifts) == 6 * 2 + 3
    sideways, vertical = shifts.abs().amax(0)
    assert 0.06 < sideways <= 0.12 and 0.02 < vertical <= 0.04
    # Further views leave the first ones where they are; more of it is the same direction, further.
    more = _dataset(**JITTER, views=3).load(5)
    assert torch.equal(more.cameras.intrinsics[:, :2], clips[5].cameras.intrinsics)
    half = _dataset(**JITTER | {"framing_jitter": 0.06}).load(5)
    torch.testing.assert_close(2 * _off_centre(half.cameras), _off_centre(clips[5].cameras))


def test_joints_lie_in_the_silhouette_of_jittered_people():
    dataset, inside = _dataset(**JITTER, image_size=(40, 56)), []
    for index in range(6):
        clip = dataset.load(index)
        for body, cameras, alpha in (
            (clip.body, clip.cameras, clip.alpha),
            (clip.reference.body, clip.reference.cameras[:, None], clip.reference.alpha[:, None]),
        ):
            column, row = project(body.joints[:, None], cameras)[0].floor().long().unbind(-1)
            _, views, times = cameras.shape
            v, t = torch.arange(views)[:, None, None], torch.arange(times)[None, :, None]
            inside.append((alpha[0, v, t, 0, row[0], column[0]] > 0).flatten())
            rim = torch.cat([alpha[..., 0, :], alpha[..., -1, :], alpha[..., :, 0], alpha[..., :, -1]], dim=-1)
            assert not rim.any()
    assert torch.cat(inside).float().mean() > 0.97


def test_missing_parts_and_motions_are_explained():
    with pytest.raises(ConfigError, match="body=anny") as caught:
        Synthetic(Synthetic.Config(), Context())
    assert len(caught.value.problems) == 2
    with pytest.raises(ValueError, match="Did you mean 'walk'"):
        Synthetic.Config(motions=("wlak",))
