"""Recordings on disk for tests: rendered people, in the layouts of those who film."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from components.bodies.anny import Anny
from components.datasets.synthetic import Synthetic
from components.people.motions import MOTIONS
from components.renderers.warp import Warp
from hvg.core.eight_bit import frames_from_uint8
from hvg.core.random_keys import numpy_generator
from hvg.core.required import required
from hvg.geometry.foreign_cameras import write_transforms
from hvg.geometry.given_motion import SMPLX_REST
from hvg.geometry.motion import BODY_JOINTS, TO_Y_UP, Motion
from hvg.geometry.motion_files import load_motion
from hvg.geometry.rotations import axis_angle, rotation_matrix
from hvg.media.video import write_video
from hvg.parts.context import SceneContext
from hvg.values.body import BodyMotion
from hvg.values.cameras import Cameras, orbit


@dataclass(frozen=True)
class Filmed:
    """What was filmed: pictures (V, T, 3, H, W) uint8, masks (V, T, H, W) uint8, cameras (V), the body as it is read."""

    pictures: np.ndarray
    masks: np.ndarray
    cameras: Cameras
    body: BodyMotion


def save_in_world(path: Path, motion: Motion, up: str = "z") -> None:
    """A motion by AMASS's keys in a world with that axis up."""
    turn = TO_Y_UP[up]
    still = torch.zeros(motion.num_frames, 3)
    poses = [motion.rotations.get(name, still) for name in BODY_JOINTS]
    poses[0] = axis_angle(turn.mT @ rotation_matrix(poses[0]))
    moved = still if motion.translation is None else motion.translation
    np.savez(
        path,
        poses=torch.cat(poses, dim=1).numpy(),
        trans=((moved + SMPLX_REST.standing) @ turn - SMPLX_REST.origin).numpy(),
        mocap_frame_rate=np.array(8.0),
    )


def film(
    path: Path, number: int, *, views=3, frames=4, size=(96, 72), up="z", motion="walk", turn=20.0, in_camera=False
) -> Filmed:
    """Person ``number`` in a motion whose file is written to ``path``, before an orbit of cameras."""
    generator = numpy_generator(number, "filmed")
    made = MOTIONS[motion](generator, frames, 8.0)
    place = torch.tensor(generator.uniform(-0.15, 0.15, 3) * (1, 0, 1), dtype=torch.float32)
    moved = torch.zeros(frames, 3) if made.translation is None else made.translation
    made = replace(made, translation=moved + place)
    cameras = orbit(
        torch.arange(views) * 360.0 / views + 20.0,
        elevation_degrees=6.0,
        distance=3.4,
        target=torch.tensor([0.0, 0.95, 0.0]),
        fov_degrees=40.0,
        image_size=size,
    )
    lens = cameras.intrinsics.clone()
    lens[:, 0, 2] += 3.0
    cameras = replace(cameras, intrinsics=lens)
    if in_camera:
        made = as_seen(made, cameras.world_to_camera[0])
        cameras = replace(cameras, world_to_camera=torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))[None])
    save_in_world(path, made, up)
    scene = Synthetic(Synthetic.Config(num_subjects=8, supersampling=2), SceneContext(renderer=Warp(), body=Anny()))
    person = scene._person(number)[1]
    body = Anny().animate(load_motion(path, up=up), {}, mesh=True)
    colour, alpha = scene._render(person, body, cameras)
    room = torch.rand(3, *size, generator=torch.Generator().manual_seed(number)) * 0.6
    shown = (colour + 1) / 2 - (1 - alpha) * (1 - room)

    def grid(x):
        return (x * 255).round().clamp(0, 255).byte().unflatten(0, (frames, views)).transpose(0, 1).numpy()

    return Filmed(grid(shown), grid(alpha)[:, :, 0], cameras, body)


def picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels if pixels.ndim == 2 else pixels.transpose(1, 2, 0))


def write_pictures(folder: Path, filmed: Filmed, masks="masks", suffix="png") -> None:
    """images/<camera>/<frame>.png, and masks of the same names; suffix: of the pictures alone."""
    for kind, all_pixels in (("images", filmed.pictures), (masks, filmed.masks)):
        for view, frames in enumerate(all_pixels):
            inner = folder / kind / f"{view:02d}"
            inner.mkdir(parents=True)
            for frame, pixels in enumerate(frames):
                picture(pixels).save(inner / f"{frame:06d}.{suffix if kind == 'images' else 'png'}")


def still_transforms(path: Path, cameras: Cameras, suffix="png") -> None:
    """One entry for a camera, which stands still, as Diffuman4D's."""
    names = [[f"images/{view:02d}/000000.{suffix}"] for view in range(len(cameras.intrinsics))]
    write_transforms(path, replace_shape(cameras), names)
    tree = json.loads(path.read_text())
    for entry in tree["frames"]:
        del entry["time"]
        entry["camera_label"] = entry["file_path"].split("/")[1]
    path.write_text(json.dumps(tree))


def replace_shape(cameras: Cameras) -> Cameras:
    """(V) -> (V, 1)."""
    return Cameras(
        world_to_camera=cameras.world_to_camera[:, None],
        intrinsics=cameras.intrinsics[:, None],
        image_size=cameras.image_size,
    )


def write_multiview(root: Path, recordings=3, **options) -> list[Filmed]:
    """A folder of recordings in the layout of nerfstudio and Diffuman4D."""
    found = []
    for number in range(recordings):
        folder = root / f"person{number}"
        folder.mkdir(parents=True)
        filmed = film(folder / "motion.npz", number, **options)
        write_pictures(folder, filmed)
        still_transforms(folder / "transforms.json", filmed.cameras)
        found.append(filmed)
    return found


def write_colmap(folder: Path, cameras: Cameras, up: str, pictures: list[str]) -> None:
    """cameras.txt and images.txt in a world with that axis up."""
    import roma

    folder.mkdir(parents=True, exist_ok=True)
    turn = torch.eye(4)
    turn[:3, :3] = TO_Y_UP[up]
    height, width = cameras.image_size
    lenses, images = ["# made"], ["# made"]
    for number, name in enumerate(pictures, 1):
        k, pose = cameras.intrinsics[number - 1], cameras.world_to_camera[number - 1] @ turn
        x, y, z, w = roma.rotmat_to_unitquat(pose[:3, :3]).tolist()
        lenses.append(f"{number} PINHOLE {width} {height} {k[0, 0]} {k[1, 1]} {k[0, 2]} {k[1, 2]}")
        images += [f"{number} {w} {x} {y} {z} {' '.join(map(str, pose[:3, 3].tolist()))} {number} {name}", ""]
    (folder / "cameras.txt").write_text("\n".join(lenses) + "\n")
    (folder / "images.txt").write_text("\n".join(images) + "\n")


def write_colmap_recordings(root: Path, **options) -> None:
    """The same recordings with a COLMAP model each, in a world of which -y is up."""
    for number, filmed in enumerate(write_multiview(root, **options)):
        folder = root / f"person{number}"
        (folder / "transforms.json").unlink()
        pictures = [f"{view:02d}/000000.png" for view in range(len(filmed.pictures))]
        write_colmap(folder / "sparse" / "0", filmed.cameras, "-y", pictures)
        motion = replace(load_motion(folder / "motion.npz", up="z"), body=None)
        save_in_world(folder / "motion.npz", motion, up="-y")


def write_diffuman4d(root: Path, **options) -> None:
    """Scenes of DNA-Rendering as Diffuman4D processes them, with motions beside them; what no reader looks at is there, too."""
    for number in range(3):
        folder = root / f"{number + 7:04d}_01"
        folder.mkdir(parents=True)
        filmed = film(folder / "motion.npz", number, **options)
        write_pictures(folder, filmed, masks="fmasks", suffix="webp")
        shutil.copytree(folder / "images", folder / "skeletons")
        still_transforms(folder / "transforms.json", filmed.cameras, "webp")
        for name in ("cameras/intri.yml", "cameras/extri.yml", "poses_2d/00/000000.json", "poses_3d/000000.json"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("{}")
        (folder / "sparse_pcd.ply").write_text("ply\n")


def write_monocular(root: Path, recordings=3, video=False, **options) -> list[Filmed]:
    """A folder of videos of one camera, whose bodies are in its axes, and whose lens a file says."""
    found = []
    for number in range(recordings):
        folder = root / f"person{number}"
        folder.mkdir(parents=True)
        filmed = film(folder / "motion.npz", number, views=1, up="-y", in_camera=True, **options)
        lens, (height, width) = filmed.cameras.intrinsics[0], filmed.cameras.image_size
        names = {"fx": lens[0, 0], "fy": lens[1, 1], "cx": lens[0, 2], "cy": lens[1, 2]}
        tree = {name: float(value) for name, value in names.items()} | {"w": width, "h": height}
        (folder / "intrinsics.json").write_text(json.dumps(tree))
        for kind, frames in (("images", filmed.pictures[0]), ("masks", filmed.masks[0])):
            if video and kind == "images":
                write_video(folder / "video.mp4", frames_from_uint8(torch.from_numpy(frames)), 25)
                continue
            (folder / kind).mkdir()
            for frame, pixels in enumerate(frames):
                picture(pixels).save(folder / kind / f"{frame:06d}.png")
        found.append(filmed)
    return found


def as_seen(motion: Motion, pose: torch.Tensor) -> Motion:
    """The motion in a world whose axes are a camera's (4, 4), turned so that y is up."""
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    turn, shift = flip @ pose[:3, :3], flip @ pose[:3, 3]
    stand = Anny().animate(Motion(rotations={"pelvis": torch.zeros(1, 3)}), {}, mesh=False).place("pelvis")[0, 0]
    root = motion.rotations["pelvis"]
    moved = (required(motion.translation, "translation") + stand) @ turn.mT + shift - stand
    turned = {**motion.rotations, "pelvis": axis_angle(turn @ rotation_matrix(root))}
    return replace(motion, rotations=turned, translation=moved)
