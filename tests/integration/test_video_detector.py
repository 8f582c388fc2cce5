"""MediaPipe itself on drawn people who walk: how far its joints are from the true ones, and what is said of other videos."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from footage import read_image, read_video

from components.people import motions
from hvg.cli import run
from hvg.config.build import build_dataset
from hvg.config.composition import compose
from hvg.geometry.motion_files import load_motion
from hvg.geometry.person_in_world import camera_axes
from hvg.media.images import write_png
from hvg.media.person_detector import environment
from hvg.media.video import write_video

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not (environment() / "bin" / "python").is_file(),
        reason=f"{environment()} is not there; `make video-env` makes it",
    ),
]
RATE, FRAMES, PEOPLE, SIDE, FOV = 20.0, 30, 6, 384, 36.0
SETTINGS = (
    *("data.views=1", f"data.frames={FRAMES}", "dataset.views=1", f"dataset.frames={FRAMES}"),
    *(f"dataset.image_size={SIDE}", f"dataset.fov_degrees={FOV}", f"dataset.frames_per_second={RATE}"),
    *(f"dataset.num_held_out_subjects={PEOPLE}", "dataset.motions=[walk]", "dataset.mesh=false"),
    *("dataset.distance=4.5", "dataset.azimuth_jitter_degrees=180"),
)
NAMES = [
    f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle") for side in ("left", "right")
]
HIPS = [NAMES.index(f"{side}_hip") for side in ("left", "right")]
METRES_A_SECOND = 0.9


def strolled(generator, frames, rate):
    """The walk on the spot, going where the person faces."""
    motion = motions.walk(generator, frames, rate)
    yaw = motion.rotations["pelvis"][:, 1]
    way = torch.stack([yaw.sin(), torch.zeros(frames), yaw.cos()], dim=1)
    passed = (torch.arange(frames) - frames / 2)[:, None] * METRES_A_SECOND / rate
    return replace(motion, translation=motion.translation + passed * way)


@pytest.fixture(scope="module")
def clips():
    """Six people, seen from any side."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(motions.MOTIONS, "walk", strolled)
        people = build_dataset(compose([*SETTINGS]), "test")
        return [people.load(index) for index in range(PEOPLE)]


def true_joints(clip):
    """(T, 12, 3) metres in the camera's axes turned upright by its tilt, and that tilt, degrees."""
    to_camera = clip.cameras.world_to_camera[0, 0, 0].double().numpy()
    tilt = math.degrees(math.asin(-to_camera[2, 1]))
    joints = clip.body.joints[0].double().numpy()[:, [clip.body.joint_names.index(name) for name in NAMES]]
    return (joints @ to_camera[:3, :3].T + to_camera[:3, 3]) @ camera_axes(tilt).T, tilt


def from_hips(joints):
    return joints - joints[:, HIPS].mean(1, keepdims=True)


def distance(a, b):
    """Millimetres."""
    return float(1000 * np.linalg.norm(a - b, axis=-1).mean())


def turned_onto(joints, true):
    """Every frame turned, moved and scaled to lie best on the true one."""
    a, b = joints - joints.mean(1, keepdims=True), true - true.mean(1, keepdims=True)
    u, sizes, v = np.linalg.svd(a.swapaxes(1, 2) @ b)
    sign = np.ones_like(sizes)
    sign[:, 2] = np.sign(np.linalg.det(u @ v))
    scale = (sizes * sign).sum(1) / (a**2).sum((1, 2))
    return scale[:, None, None] * (a @ ((u * sign[:, None]) @ v)) + true.mean(1, keepdims=True)


def test_joints_of_walking_people_are_near_the_true_ones(clips, tmp_path, capsys):
    errors = []
    for number, clip in enumerate(clips):
        video, out = tmp_path / f"{number}.mp4", tmp_path / f"{number}.npz"
        write_video(video, clip.frames[0, 0], RATE)
        true, tilt = true_joints(clip)
        words = [f"fov_degrees={FOV}", f"tilt_degrees={tilt}"]
        assert run(["motion", f"video={video}", f"out={out}", *words]) == 0
        motion = load_motion(out)
        assert motion.num_frames == FRAMES and motion.frames_per_second == pytest.approx(RATE)
        joints = np.stack([motion.places()[name].double().numpy() for name in NAMES], axis=1)
        matte = read_video(tmp_path / f"{number}_matte.mp4")[0][:, 0] > 0
        alpha = clip.alpha[0, 0, :, 0] > 0.5
        way, true_way = ((each[-1] - each[0])[HIPS].mean(0) for each in (joints, true))
        errors.append(
            [
                distance(from_hips(joints), from_hips(true)),
                distance(turned_onto(joints, true), true),
                distance(joints - joints[:, HIPS].mean((0, 1)), true - true[:, HIPS].mean((0, 1))),
                100 * float(np.linalg.norm(way - true_way) / np.linalg.norm(true_way)),
                100 * float((matte & alpha).sum() / (matte | alpha).sum()),
            ]
        )
    mean = np.mean(errors, axis=0)
    with capsys.disabled():
        print()
        for row in [*errors, mean]:
            print(
                "from the hips {:.0f} mm, turned and scaled {:.0f} mm, in the world {:.0f} mm; way {:.0f} % off; "
                "matte {:.0f} % IoU".format(*row)
            )
    assert mean[0] < 110 and mean[1] < 90 and mean[2] < 120 and mean[3] < 15 and mean[4] > 93


def test_nobody_and_two_people_are_said(clips, tmp_path, capsys):
    first, second = (clip.frames[0, 0, :12] for clip in clips[:2])
    write_video(tmp_path / "two.mp4", torch.cat([first, second], dim=-1), RATE)
    write_video(tmp_path / "nobody.mp4", torch.zeros(12, 3, 96, 128), RATE)
    for name, message in (("two", "shows 2 people"), ("nobody", "a person is found in none of its 12 frames")):
        assert run(["motion", f"video={tmp_path / name}.mp4", f"out={tmp_path / name}.npz"]) == 1
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith(f"hvg motion: {tmp_path / name}.mp4: {message}")
    # A box tells which of the two.
    out = tmp_path / "left.npz"
    assert run(["motion", f"video={tmp_path}/two.mp4", f"out={out}", f"box=[0,0,{SIDE},{SIDE}]"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["two.mp4", "nobody.mp4", "left.npz", "left_matte.mp4", "left_overlay.mp4"]
    )


def test_a_photo_is_cut_out(clips, tmp_path, capsys):
    photo, out = tmp_path / "me.png", tmp_path / "cut.png"
    write_png(photo, clips[0].frames[0, 0, 0])
    assert run(["photo", str(photo), f"out={out}"]) == 0
    pixels, alpha = read_image(out)
    assert torch.equal(pixels, read_image(photo)[0])
    true = clips[0].alpha[0, 0, 0, 0] > 0.5
    assert ((alpha[0] > 0.5) & true).sum() / ((alpha[0] > 0.5) | true).sum() > 0.85
    rows, columns = true.any(1).nonzero()[:, 0], true.any(0).nonzero()[:, 0]
    box = [int(edge) for edge in capsys.readouterr().out.rpartition("box=[")[2].rstrip("]\n").split(",")]
    expected = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
    assert np.abs(np.subtract(box, expected)).max() < 25
    write_png(tmp_path / "two.png", torch.cat([clip.frames[0, 0, 0] for clip in clips[:2]], dim=-1))
    assert run(["photo", str(tmp_path / "two.png"), f"out={tmp_path}/no.png"]) == 1
    assert "shows 2 people" in capsys.readouterr().err and not Path(tmp_path / "no.png").exists()
