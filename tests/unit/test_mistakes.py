"""The usual mistakes of footage, planted: each is called by its name, and clean clips raise no alarm."""

from dataclasses import replace

import pytest
import torch
from recordings import write_multiview

from components.bodies.anny import Anny
from components.datasets.multiview import Multiview
from components.renderers.warp import Warp
from hvg.commands import prepare_check
from hvg.data.mistakes import agreement, bad_camera, mistake
from hvg.geometry.bone_mesh import bone_mesh
from hvg.geometry.given_motion import SMPLX_REST
from hvg.geometry.motion import TO_Y_UP
from hvg.geometry.skeleton import JOINTS, bone_index, complete_joints
from hvg.parts.context import Context
from hvg.values.cameras import project

OPENGL = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
FRAMES = 12


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A clip of each of three people, as they were filmed."""
    folder = tmp_path_factory.mktemp("filmed")
    write_multiview(folder, frames=FRAMES, size=(64, 48))
    config = {"root": str(folder), "image_size": (64, 48), "crop": False}
    splits = ("train", "val", "test")
    return [
        Multiview(Multiview.Config(**config, split=split), Context(body=Anny(), renderer=Warp())).load(0)
        for split in splits
    ]


def with_cameras(clip, pose=None, lens=None):
    cameras = clip.cameras
    return replace(
        clip,
        cameras=replace(
            cameras,
            world_to_camera=cameras.world_to_camera if pose is None else pose,
            intrinsics=cameras.intrinsics if lens is None else lens,
        ),
    )


def translated(factor):
    def trap(clip):
        pose = clip.cameras.world_to_camera.clone()
        pose[..., :3, 3] *= factor
        return with_cameras(clip, pose)

    return trap


def magnified(factor):
    def trap(clip):
        lens = clip.cameras.intrinsics.clone()
        lens[..., :2, :] *= factor
        return with_cameras(clip, lens=lens)

    return trap


def shifted(shift):
    return lambda clip: replace(clip, body=clip.body.shifted(torch.tensor(shift).expand(1, FRAMES, 3)))


def mirrored_body(clip):
    left, right, pelvis = (clip.body.place(name)[0] for name in ("left_hip", "right_hip", "pelvis"))
    across = torch.nn.functional.normalize(left - right, dim=-1)
    mirror = torch.eye(3) - 2 * across[:, :, None] * across[:, None]
    moved = (clip.body.vertices[0] - pelvis[:, None]) @ mirror.mT + pelvis[:, None]
    return replace(clip, body=replace(clip.body, vertices=moved[None]))


def lying(clip):
    return replace(clip, body=replace(clip.body, vertices=clip.body.vertices @ TO_Y_UP["z"]))


def with_pictures_of(frames):
    """Pictures of other frames than the bodies."""
    return lambda clip: replace(clip.select(frames=frames), body=clip.body)


TRAPS = {
    "camera scale": (translated(65 / 120), "camera translation not scaled: it fits when multiplied by 1.8"),
    "millimetres": (translated(1000.0), "camera translation not scaled: it fits when multiplied by 0.001"),
    "opengl": (lambda c: with_cameras(c, OPENGL @ c.cameras.world_to_camera), "OpenGL axes"),
    "inverse": (
        lambda c: with_cameras(c, torch.linalg.inv(c.cameras.world_to_camera)),
        "matrices are camera to world",
    ),
    "half K": (magnified(0.5), "half-size intrinsics"),
    "twice K": (magnified(2.0), "half-size pictures"),
    "mirrored pictures": (lambda c: replace(c, alpha=c.alpha.flip(-1)), "pictures mirrored"),
    "mirrored body": (mirrored_body, "person mirrored"),
    "pelvis": (shifted((-SMPLX_REST.origin).tolist()), "pelvis offset forgotten"),
    "up": (lying, "another axis is up"),
    "pictures every 5th": (
        with_pictures_of([0, 5, 10, *[11] * 9]),
        "pictures are every 5th frame of the bodies: dataset.picture_every=5",
    ),
    "bodies every 5th": (
        with_pictures_of([k // 5 for k in range(FRAMES)]),
        "bodies are of every 5th picture: dataset.body_every=5",
    ),
}
QUICK = ("opengl", "half K", "pelvis")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in TRAPS]
)
def test_a_planted_mistake_is_called_by_its_name(clips, name):
    plant, told = TRAPS[name]
    assert mistake(plant(clips[0]), Warp()).startswith(told)


@pytest.mark.long
def test_clean_clips_raise_no_alarm(clips):
    for clip in clips:
        found = agreement(clip, Warp())
        assert found.inside > 0.9 and float(found.overlap.min()) > 0.7
        assert mistake(clip, Warp()) == "" and bad_camera(found.overlap, ["a", "b", "c"]) == ""


def test_bodies_of_joints_alone_are_judged_by_their_bones(clips):
    bare = [replace(clip, body=bone_mesh(clip.body.without_mesh())) for clip in clips]
    for clip in bare:
        found = agreement(clip, Warp())
        assert found.inside > 0.9 and float(found.overlap.min()) > 0.4
        assert mistake(clip, Warp()) == "" and bad_camera(found.overlap, ["a", "b", "c"]) == ""
    for name in QUICK:
        plant, told = TRAPS[name]
        assert mistake(plant(bare[0]), Warp()).startswith(told)


def test_ellipsoids_around_bones_lie_around_them(clips):
    body = bone_mesh(clips[0].body)
    joints = complete_joints(body.joints, body.joint_names)
    first, second = bone_index(JOINTS)
    middle = (joints[:, :, first] + joints[:, :, second]) / 2
    found = body.vertices.unflatten(2, (len(first), -1))
    assert torch.allclose(found.mean(3), middle, atol=1e-5)
    away = (found - middle[..., None, :]).norm(dim=-1)
    half = (joints[:, :, first] - joints[:, :, second]).norm(dim=-1) / 2
    assert bool((away.amax(-1) > half).all()) and bool((away.amin(-1) <= 1.21 * body.bone_radii[:, None]).all())


def test_every_view_is_drawn_with_outline_and_joints(clips, monkeypatch):
    """The outline is near the mask's edge; dots are where joints are seen."""
    groups = []
    monkeypatch.setattr(
        prepare_check, "tile_groups", lambda given, **_: groups.extend(given) or torch.zeros(1, 3, 8, 8)
    )
    clip = clips[0].select(frames=[0])
    prepare_check._drawn(clip, Warp(), ["a", "b", "c"])
    assert [[*group] for group in groups] == [["a"], ["b"], ["c"]]
    for view, group in enumerate(groups):
        (picture,) = next(iter(group.values()))
        line = (picture == torch.tensor(prepare_check._OUTLINE)[:, None, None]).all(0)
        cover = clip.alpha[0, view, 0, 0] > 0.5
        near = torch.nn.functional.max_pool2d(torch.stack([cover, ~cover]).float(), 7, 1, 3).amin(0) > 0
        assert line.sum() > 30 and float((line & near).sum() / line.sum()) > 0.8
        pixels, _ = project(clip.body.joints[0, 0], clip.cameras[0, view, 0])
        column, row = pixels.long().unbind(-1)
        changed = (picture != clip.frames[0, view, 0]).any(0)
        assert bool(changed[row, column].all())


def test_a_bad_camera_is_called_by_its_name(clips):
    pose = clips[0].cameras.world_to_camera.clone()
    pose[:, 2, :, :3, 3] += torch.tensor([0.8, 0.5, 0.3])
    spoilt = with_cameras(clips[0], pose)
    assert mistake(spoilt, Warp()) == ""
    told = bad_camera(agreement(spoilt, Warp()).overlap, ["00", "01", "02"])
    assert told.startswith("a bad camera") and "camera '02'" in told
