"""Small data sets in the layouts of the published ones: names of files, keys, types and nesting are theirs, people our own.

Bodies are posed by the package smplx as the data sets' own pages say, never by the code that is tested.
"""

import json
import pickle
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from body_models import by_the_package, person_model
from PIL import Image
from recordings import write_colmap_recordings, write_diffuman4d, write_monocular, write_multiview
from scipy.spatial.transform import Rotation

from components.renderers.warp import Warp
from hvg.values.cameras import Cameras, orbit

GENDERS = ("neutral", "male", "female")


def write_models(folder: Path, fingers: bool = False) -> Path:
    """SMPL-X of all genders, as the package has them; they look alike. fingers: as of ``person_model``."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = person_model("smplx", fingers=fingers)
    for gender in GENDERS:
        np.savez(folder / f"SMPLX_{gender.upper()}.npz", allow_pickle=True, **arrays)
    return folder


def relaxed(number: int, hand: int, frames: int = 1) -> dict[str, torch.Tensor]:
    """Parameters of somebody who stands, by the words of smplx: arms at 45 degrees, turned a little."""
    rng = np.random.default_rng(number)
    body = np.zeros((frames, 63))
    for joint, angle in ((15, -0.8), (16, 0.8)):
        body[:, 3 * joint + 2] = angle + np.linspace(0, 0.3, frames)
    body[:, 3 * 17 + 1] = -0.4
    given = {"body_pose": body + rng.normal(0, 0.02, body.shape), "global_orient": np.zeros((frames, 3))}
    given["global_orient"][:, 1] = rng.uniform(-0.7, 0.7)
    for word in ("jaw_pose", "leye_pose", "reye_pose"):
        given[word] = rng.normal(0, 0.02, (frames, 3))
    for side in ("left", "right"):
        given[f"{side}_hand_pose"] = rng.normal(0, 0.1, (frames, hand))
    given["betas"] = np.repeat(rng.normal(0, 0.5, (1, 10)), frames, axis=0)
    given["expression"] = rng.normal(0, 0.3, (frames, 10))
    given["transl"] = np.zeros((frames, 3))
    return {word: torch.tensor(x, dtype=torch.float32) for word, x in given.items()}


def _lines(form: str, values: np.ndarray) -> str:
    """A line of each row, all at once: a person has tens of thousands."""
    return f"{form}\n" * len(values) % tuple(values.ravel().tolist())


def write_obj(path: Path, vertices: np.ndarray, faces: np.ndarray, texture: str) -> None:
    """A mesh with a texture that lies on it from the front; with a material file, as scanners write them."""
    low, high = vertices.min(0), vertices.max(0)
    uv = ((vertices - low) / (high - low))[:, :2]
    corners = np.repeat(faces.astype(int) + 1, 2, axis=1)
    text = [f"mtllib {path.stem}.mtl\n", _lines("v %.6f %.6f %.6f", vertices), _lines("vt %.6f %.6f", uv)]
    text += ["usemtl material0\n", _lines("f" + " %d/%d" * faces.shape[1], corners)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(text))
    path.with_name(f"{path.stem}.mtl").write_text(f"newmtl material0\nmap_Kd {texture}\n")


def bands(path: Path, number: int) -> None:
    """A texture with bands of many colours, green to the right."""
    rows = np.random.default_rng(number).integers(0, 255, (8, 1, 3), dtype=np.uint8)
    pixels = rows.repeat(16, axis=0).repeat(128, axis=1)
    pixels[..., 1] = np.linspace(0, 255, 128)
    Image.fromarray(pixels).save(path, quality=95)


def write_thuman(
    folder: Path, models: Path, count: int = 4, bent: float = 0.0, flat: bool = False, version: str = "2.1"
) -> Path:
    """``THuman2.1_Release`` with its fits beside it; gives the folder of scans.

    bent: the first component of hands, from the mean hand, or wrongly from the flat one.
    """
    root, faces = folder / f"THuman{version}_Release", np.load(models / "SMPLX_MALE.npz")["f"]
    for number in range(count):
        given, name = relaxed(number, hand=12), f"{number:04d}"
        for side in ("left", "right"):
            given[f"{side}_hand_pose"][:, 0] += bent
        vertices = by_the_package(models, "smplx", given, use_pca=True, num_pca_comps=12, flat_hand_mean=flat)[0][0]
        # Scans are of any size, and lie anywhere.
        scale, shift = 0.6 + 0.3 * number, np.array([0.2, 0.9, -0.1]) * (1 + number)
        write_obj(root / name / f"{name}.obj", vertices.numpy() * scale + shift, faces, "material0.jpeg")
        (root / name / f"{name}.mtl").rename(root / name / "material0.mtl")
        bands(root / name / "material0.jpeg", number)
        fit = {word: x.numpy() for word, x in given.items() if word != "transl"}
        fit |= {"scale": np.array([scale], np.float32), "translation": shift.astype(np.float32)[None]}
        path = folder / f"THuman{version}_smplx" / name / "smplx_param.pkl"
        write_obj(path.with_name("mesh_smplx.obj"), vertices.numpy() * scale + shift, faces, "")
        path.write_bytes(pickle.dumps(fit))
    return root


def write_custom_humans(folder: Path, models: Path, count: int = 4, together: bool = False) -> Path:
    """``mesh/`` and ``smplx/``; the pelvis of every body at rest is where its scan's origin is.

    together: in one folder a scan, as the authors' training has them.
    """
    root, faces = folder / "CustomHumans", np.load(models / "SMPLX_MALE.npz")["f"]
    for number in range(count):
        given, name, stem = relaxed(number, hand=12), f"{3 + number:04d}_00100_01", f"mesh-f{101 + number:05d}"
        given["global_orient"][:] = 0
        options = {"use_pca": True, "num_pca_comps": 12, "flat_hand_mean": True}
        given["transl"] = -by_the_package(models, "smplx", {k: given[k] for k in ("body_pose", "betas")}, **options)[1][
            :, 0
        ]
        vertices = by_the_package(models, "smplx", given, **options)[0][0].numpy()
        write_obj(root / "mesh" / name / f"{stem}.obj", vertices, faces, f"{stem}.png")
        bands(root / "mesh" / name / f"{stem}.png", number)
        write_obj(root / "smplx" / name / f"{stem}_smpl.obj", vertices, faces, "")
        fit = {word: x[0].tolist() for word, x in given.items()}
        (root / "smplx" / name / f"{stem}.json").write_text(json.dumps(fit))
        if together:
            for kind in ("mesh", "smplx"):
                shutil.copytree(root / kind / name, root / "training_dataset" / name[:4], dirs_exist_ok=True)
    return root / "training_dataset" if together else root


def write_two_k2k(folder: Path, models: Path, count: int = 4, textured: bool = False) -> Path:
    """Scans of centimetres with colours of vertices, the last one in test, and somebody's fits beside them.

    textured: scans as .obj with .png, and fits as .npz.
    """
    root, faces = folder / "2K2K", np.load(models / "SMPLX_MALE.npz")["f"].astype(np.int32)
    for number in range(count):
        given, name = relaxed(number, hand=12), f"{number + 7:05d}"
        vertices = by_the_package(models, "smplx", given, use_pca=True, num_pca_comps=12, flat_hand_mean=False)[0][0]
        scale, shift = 100.0, np.array([3.0, 90.0, -2.0])
        points = vertices.numpy() * scale + shift
        split = "test" if number == count - 1 else "train"
        fit = {word: x.numpy() for word, x in given.items() if word != "transl"}
        fit |= {"scale": np.array([scale], np.float32), "transl": shift.astype(np.float32)[None]}
        fits = folder / "fits"
        if textured:
            write_obj(root / split / name / f"{name}.obj", points, faces, f"{name}.png")
            bands(root / split / name / f"{name}.png", number)
            fits.mkdir(exist_ok=True)
            np.savez(fits / f"{name}.npz", **fit)
        else:
            write_ply(root / split / name / f"{name}.ply", points, faces)
            (fits / name).mkdir(parents=True)
            (fits / name / "smplx_param.pkl").write_bytes(pickle.dumps(fit))
    return root


def write_ply(path: Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    """A binary mesh whose vertices have colours: redder to one side, bluer to the top."""
    low, high = vertices.min(0), vertices.max(0)
    colours = (255 * (vertices - low) / (high - low)).round()
    table = np.zeros(
        len(vertices), [*((k, "<f4") for k in "xyz"), *((k, "u1") for k in ("red", "green", "blue", "alpha"))]
    )
    for column, (key, colour) in enumerate(zip("xyz", ("red", "blue", "green"), strict=True)):
        table[key], table[colour] = vertices[:, column], colours[:, column]
    table["alpha"] = 255
    corners = np.zeros(len(faces), [("count", "u1"), ("corners", "<i4", 3)])
    corners["count"], corners["corners"] = 3, faces
    properties = [f"property float {k}" for k in "xyz"] + [
        f"property uchar {k}" for k in ("red", "green", "blue", "alpha")
    ]
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(table)}", *properties]
    lines += [f"element face {len(corners)}", "property list uchar int vertex_indices", "end_header", ""]
    path.parent.mkdir(parents=True)
    path.write_bytes("\n".join(lines).encode() + table.tobytes() + corners.tobytes())


# (x, y, z) of a world with y up -> of one with z down.
Z_DOWN = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])


def waving(number: int, frames: int) -> dict[str, torch.Tensor]:
    """Parameters in frames of which each is another, hands as 6 components; the last joints move most."""
    given = relaxed(number, hand=6, frames=frames)
    given["body_pose"][:, 3 * 16 + 2] = torch.linspace(-0.9, 1.2, frames)
    return given


def ring(views: int, heights=(1.1, 1.6), distance=3.4) -> Cameras:
    """Cameras (V) of two rings around the middle of a studio."""
    rings = [
        orbit(
            torch.arange(len(range(start, views, 2))) * 360.0 / len(range(start, views, 2)) + 20.0 + 30.0 * start,
            elevation_degrees=float(np.degrees(np.arctan2(height - 0.9, distance))),
            distance=float(np.hypot(distance, height - 0.9)),
            target=torch.tensor([0.0, 0.9, 0.0]),
            fov_degrees=50.0,
            image_size=(1024, 1024),
        )
        for start, height in enumerate(heights)
    ]
    return Cameras(
        world_to_camera=torch.cat([each.world_to_camera for each in rings]),
        intrinsics=torch.cat([each.intrinsics for each in rings]),
        image_size=(1024, 1024),
    )


def film(vertices: torch.Tensor, faces: np.ndarray, cameras: Cameras, size: tuple[int, int]) -> np.ndarray:
    """Pictures (V, T, H, W, 4) uint8 of a mesh (T, P, 3) of a world with y up: a striped person in a grey room, and the mask."""
    small = cameras.resized(size)
    views = len(cameras.world_to_camera)
    image = Warp().render(
        vertices, torch.from_numpy(faces.astype(np.int64)), small[torch.arange(views).repeat(len(vertices))]
    )
    hit = (image.face >= 0).numpy()
    pixels = np.full((*hit.shape, 4), 90, np.uint8)
    pixels[..., 3] = 0
    normal = image.normal.numpy()[hit]
    pixels[hit] = np.concatenate([127 + 120 * normal, np.full((len(normal), 1), 255)], axis=1).round()
    return pixels.reshape(len(vertices), views, *size, 4).swapaxes(0, 1)


def write_mvhumannet(
    folder: Path, models: Path, count=3, views=4, frames=3, scale=120 / 65, names=("images_lr", "fmask_lr")
) -> Path:
    """Outfits with pictures that are small copies of the cameras', of the frames 5, 10, ... of the film.

    names: of the folders of pictures and masks; in the README ``images`` and ``fmask``.
    """
    root, faces, size = folder / "MVHumanNet", np.load(models / "SMPLX_NEUTRAL.npz")["f"], (188, 256)
    full = (3000, 4096) if abs(scale - 120 / 65) < 1e-6 else (2048, 2448)
    for number in range(count):
        path = root / f"{100021 + number}"
        given = waving(number, frames)
        first = given["global_orient"].clone()
        given["global_orient"][:] = 0
        at_rest = by_the_package(models, "smplx", given, use_pca=True, num_pca_comps=6, flat_hand_mean=False)[0]
        # EasyMocap turns the body about the model's origin, and then moves it.
        turns = [Z_DOWN @ Rotation.from_rotvec(vector).as_matrix() for vector in first.numpy()]
        shift = np.array([0.1, -0.05, -1.3]) + np.linspace(0, 0.05, frames)[:, None]
        world = np.stack([x @ turn.T + s for x, turn, s in zip(at_rest.numpy(), turns, shift, strict=True)])
        cameras = ring(views)
        # Intrinsics count pixels from the middle of the first one.
        matrix = [[1900.0, 0.0, full[1] / 2 - 0.5], [0.0, 1900.0, full[0] / 2 - 0.5], [0.0, 0.0, 1.0]]
        lens = torch.tensor(matrix) + torch.tensor([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
        cameras = Cameras(world_to_camera=cameras.world_to_camera, intrinsics=lens.expand(views, 3, 3), image_size=full)
        pixels = film(torch.tensor(world @ Z_DOWN, dtype=torch.float32), faces, cameras, size)
        path.mkdir(parents=True)
        extrinsics = {}
        for view in range(views):
            name, matrices = f"CC32871A{view + 4:03d}", cameras.world_to_camera[view].numpy()
            extrinsics[f"1_{name}.png"] = {
                "focal_length": [1900.0, 1900.0],
                "image_center": [matrix[0][2], matrix[1][2]],
                "translation": (matrices[:3, 3] * 1000 / scale).tolist(),
                "camera_pos": [0.0, 0.0, 0.0],
                "quaternion": [1.0, 0.0, 0.0, 0.0],
                "rotation": (matrices[:3, :3] @ Z_DOWN.T).tolist(),
            }
            for frame, picture in enumerate(pixels[view]):
                tick = f"{5 * (frame + 1):04d}_img"
                _save(path / names[0] / name / f"{tick}.jpg", picture[..., :3])
                _save(path / names[1] / name / f"{tick}_fmask.png", picture[..., 3])
                for kind, ending in (("annots", ""), ("openpose", "_keypoints")):
                    _unread(path / kind / name / f"{tick}{ending}.json")
        (path / "camera_extrinsics.json").write_text(json.dumps(extrinsics))
        (path / "camera_intrinsics.json").write_text(json.dumps({"intrinsics": matrix, "dist": []}))
        (path / "camera_scale.pkl").write_bytes(pickle.dumps(scale))
        (path / "smplx" / "smpl").mkdir(parents=True)
        words = ("body_pose", "left_hand_pose", "right_hand_pose", "jaw_pose", "leye_pose", "reye_pose")
        for frame in range(frames):
            poses = torch.cat([torch.zeros(3), *(given[word][frame] for word in words)])
            person = {
                "id": 0,
                "Rh": [Rotation.from_matrix(turns[frame]).as_rotvec().tolist()],
                "Th": [shift[frame].tolist()],
                "poses": [poses.tolist()],
                "expression": [given["expression"][frame].tolist()],
                "shapes": [given["betas"][frame].tolist()],
            }
            (path / "smplx" / "smpl" / f"{frame:06d}.json").write_text(json.dumps([person]))
            for unread in ("keypoints3d/{}.json", "smplx_mesh/{}.obj"):
                _unread(path / "smplx" / unread.format(f"{frame:06d}"))
        _unread(path / "smpl_param" / "smpl_param.pkl")
    return root


def write_mvhumannet_pp(folder: Path, models: Path, count=4, views=4, frames=3) -> Path:
    """``main_data``: every 25th frame, and a picture in A-pose; the last outfit is in test and has its bodies in files of one."""
    root, faces = folder / "main_data", np.load(models / "SMPLX_NEUTRAL.npz")["f"]
    for number in range(count):
        path = root / ("test" if number == count - 1 else "train") / f"{100831 + number}"
        given = waving(number, frames + 1)
        turn = Rotation.from_matrix(Z_DOWN)
        first = (turn * Rotation.from_rotvec(given["global_orient"].numpy())).as_rotvec()
        given["global_orient"] = torch.tensor(first, dtype=torch.float32)
        # The package turns the body about its pelvis.
        given["transl"] = torch.tensor([[0.05, 0.35, -0.9]]).repeat(frames + 1, 1)
        world = by_the_package(models, "smplx", given, use_pca=True, num_pca_comps=6, flat_hand_mean=True)[0].numpy()
        cameras = ring(views, heights=(1.5, 1.5))
        pixels = film(torch.tensor(world @ Z_DOWN, dtype=torch.float32), faces, cameras, (128, 128))
        for view in range(views):
            name, matrices = f"cam_{view:02d}", cameras.world_to_camera[view].numpy().astype(np.float64)
            turned = matrices[:3] @ np.block([[Z_DOWN.T, np.zeros((3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]])
            lens = cameras.intrinsics[view].numpy().astype(np.float64) - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
            (path / "cameras" / name).mkdir(parents=True)
            np.savez(path / "cameras" / name / "camera.npz", intrinsic=lens, extrinsic=turned)
            for frame, picture in enumerate(pixels[view]):
                stem = f"{25 * (frame + 1):04d}" if frame < frames else "A-2045"
                _save(path / "images" / name / f"{stem}.jpg", picture[..., :3])
                _save(path / "masks" / name / f"{stem}.png", picture[..., 3])
                _unread(path / "openpose" / name / f"{stem}.json")
        values = {word: x.numpy() for word, x in given.items()}
        if number < count - 1:
            whole = {word: x for word, x in values.items() if word not in ("leye_pose", "reye_pose")}
            np.savez(path / "smplx_params.npz", **{**whole, "betas": values["betas"][:1]})
        else:
            (path / "smplx_params").mkdir()
            for frame in range(frames):
                one = {word: x[frame : frame + 1] for word, x in values.items()}
                pose = np.concatenate([one["global_orient"], one["body_pose"]], axis=1)
                np.savez(
                    path / "smplx_params" / f"{25 * (frame + 1):04d}.npz",
                    **one,
                    scale=np.ones(1, np.float32),
                    pose=pose,
                )
    return root


def write_tiktok(folder: Path, models: Path, count=4, frames=4, disco=False) -> Path:
    """Portrait videos of one person: with pictures and masks in folders, or as DisCo prepares them."""
    root, faces = folder / "TikTok_dataset", np.load(models / "SMPLX_NEUTRAL.npz")["f"]
    for number in range(count):
        path, given = root / f"{number + 334:05d}", waving(number, frames)
        given["transl"] = torch.tensor([[0.0, 1.3, 0.0]]).repeat(frames, 1)
        vertices = by_the_package(models, "smplx", given, use_pca=True, num_pca_comps=6, flat_hand_mean=False)[0]
        pixels = film(vertices, faces, ring(1, heights=(1.0,)), (160, 90))[0]
        for frame, picture in enumerate(pixels, start=1):
            if disco:
                name = f"{frame:06d}.png"
                _save(path / name, picture[..., :3])
                _save(path / "groundsam" / f"{name}.mask.png", (picture[..., 3] > 0).astype(np.uint8))
                drawn = np.where(picture[..., 3:] > 0, np.uint8((253, 231, 36)), np.uint8((68, 1, 84)))
                # As matplotlib saves a figure: of its own size, and with JPEG's usual quality.
                Image.fromarray(drawn.repeat(3, 0).repeat(3, 1)).save(path / "groundsam" / f"{name}.mask.jpg")
                _unread(path / "groundsam" / f"{name}.mask.json")
                _unread(path / "openpose_json" / f"{name}.json")
                _unread(path / "openpose_vis" / f"{name}.jpg")
            else:
                _save(path / "images" / f"{frame:04d}.png", picture[..., :3])
                _save(path / "masks" / f"{frame:04d}.png", picture[..., 3])
                _save(path / "densepose" / f"{frame:04d}.png", picture[..., :3])
    return root


def _unread(path: Path) -> None:
    """A file that the data set has, and no reader looks at."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"not read")


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))


@dataclass(frozen=True)
class Layout:
    """How a data set lies on disk. write: of a folder and one of body models -> its root. words: of a run, with ``{folder}``."""

    dataset: str
    write: Callable[[Path, Path], Path]
    words: Sequence[str] = ()
    gender: str | None = None


def _filmed(write: Callable[[Path], object]) -> Callable[[Path, Path], Path]:
    """A writer of recordings that Anny plays in, and no model is needed for."""

    def written(folder: Path, models: Path) -> Path:
        write(folder / "filmed")
        return folder / "filmed"

    return written


FIT = "dataset.fits={folder}/fits"
VIDEO = ("dataset.views=1", "data.views=1", "data.frames=2", "dataset.frames=2")
# Every published data set, in its usual layout.
SETS = {
    "thuman": Layout("thuman", write_thuman, gender="male"),
    "custom_humans": Layout("custom_humans", write_custom_humans, gender="male"),
    "tiktok": Layout("tiktok", write_tiktok, (*VIDEO, "pose=none"), gender="neutral"),
    "two_k2k": Layout("two_k2k", write_two_k2k, (FIT,), gender="male"),
    "mvhumannet": Layout("mvhumannet", write_mvhumannet, ("dataset.frames=1",), gender="neutral"),
    "mvhumannet_pp": Layout("mvhumannet_pp", write_mvhumannet_pp, ("dataset.frames=1",), gender="neutral"),
}
SMALL_FILM = {"views": 2, "frames": 2, "size": (64, 48)}
# And the other ones that readers know.
LAYOUTS = SETS | {
    "thuman 2.0": Layout("thuman", partial(write_thuman, version="2.0"), ("dataset.version=2.0",), gender="male"),
    "custom_humans together": Layout("custom_humans", partial(write_custom_humans, together=True), gender="male"),
    "two_k2k textured": Layout("two_k2k", partial(write_two_k2k, textured=True), (FIT,), gender="male"),
    "tiktok of disco": Layout("tiktok", partial(write_tiktok, disco=True), (*VIDEO, "pose=none"), gender="neutral"),
    "mvhumannet of the README": Layout(
        "mvhumannet", partial(write_mvhumannet, names=("images", "fmask")), ("dataset.frames=1",), gender="neutral"
    ),
    "nerfstudio": Layout("multiview", _filmed(partial(write_multiview, **SMALL_FILM))),
    "diffuman4d": Layout("multiview", _filmed(partial(write_diffuman4d, **SMALL_FILM))),
    "colmap": Layout("multiview", _filmed(partial(write_colmap_recordings, **SMALL_FILM)), ("dataset.up=-y",)),
    "monocular": Layout("monocular", _filmed(partial(write_monocular, frames=2, size=(64, 48))), VIDEO),
    "monocular videos": Layout(
        "monocular", _filmed(partial(write_monocular, frames=2, size=(64, 48), video=True)), VIDEO
    ),
}


def set_words(name: str, folder: Path, models: Path) -> list[str]:
    """Writes a small data set into ``folder``, and gives the words of a run that reads it."""
    layout, rules = LAYOUTS[name], folder / "rules.txt"
    root = layout.write(folder, models)
    rules.write_text("first 1 val\nfirst 1 test\nrest train\n")
    words = [f"dataset={layout.dataset}", f"dataset.root={root}", f"dataset.splits={rules}", "dataset.image_size=32"]
    words += ["dataset.views=2", "data.views=2", "data.frames=1"]
    model = ["body=smplx", f"body.path={models}", f"body.gender={layout.gender}"] if layout.gender else []
    return [*words, *model, *(word.format(folder=folder) for word in layout.words)]
