"""Small data sets in the exact layouts of the published ones: names of files, keys, types and nesting as theirs, people of our own.

Bodies are posed by the package smplx as the data sets' own pages say, never by the code that is tested.
"""

import pickle
from pathlib import Path

import numpy as np
import torch
from body_models import by_the_package, person_model
from PIL import Image

GENDERS = ("neutral", "male", "female")


def write_models(folder: Path) -> Path:
    """SMPL-X of all genders, as the package has them; they look alike."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = person_model("smplx")
    for gender in GENDERS:
        np.savez(folder / f"SMPLX_{gender.upper()}.npz", allow_pickle=True, **arrays)
    return folder


def relaxed(number: int, hand: int, frames: int = 1) -> dict[str, torch.Tensor]:
    """Parameters of somebody who stands, by the words of smplx: arms at 45 degrees, turned a little, the hands' components small."""
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


def write_obj(path: Path, vertices: np.ndarray, faces: np.ndarray, texture: str) -> None:
    """A mesh with a texture that lies on it from the front; with a material file, as scanners write them."""
    low, high = vertices.min(0), vertices.max(0)
    uv = ((vertices - low) / (high - low))[:, :2]
    lines = [f"mtllib {path.stem}.mtl", *(f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices)]
    lines += [f"vt {u:.6f} {v:.6f}" for u, v in uv] + ["usemtl material0"]
    lines += ["f " + " ".join(f"{k}/{k}" for k in face) for face in faces.astype(int) + 1]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    path.with_name(f"{path.stem}.mtl").write_text(f"newmtl material0\nmap_Kd {texture}\n")


def bands(path: Path, number: int) -> None:
    """A texture with bands of many colours, green to the right."""
    rows = np.random.default_rng(number).integers(0, 255, (8, 1, 3), dtype=np.uint8)
    pixels = rows.repeat(16, axis=0).repeat(128, axis=1)
    pixels[..., 1] = np.linspace(0, 255, 128)
    Image.fromarray(pixels).save(path, quality=95)


def write_thuman(folder: Path, models: Path, count: int = 4) -> Path:
    """``THuman2.1_Release`` with its fits beside it; gives the folder of scans."""
    root, faces = folder / "THuman2.1_Release", np.load(models / "SMPLX_MALE.npz")["f"]
    for number in range(count):
        given, name = relaxed(number, hand=12), f"{number:04d}"
        vertices = by_the_package(models, "smplx", given, use_pca=True, num_pca_comps=12, flat_hand_mean=False)[0][0]
        # Scans are of any size, and lie anywhere.
        scale, shift = 0.6 + 0.3 * number, np.array([0.2, 0.9, -0.1]) * (1 + number)
        write_obj(root / name / f"{name}.obj", vertices.numpy() * scale + shift, faces, "material0.jpeg")
        (root / name / f"{name}.mtl").rename(root / name / "material0.mtl")
        bands(root / name / "material0.jpeg", number)
        fit = {word: x.numpy() for word, x in given.items() if word != "transl"}
        fit |= {"scale": np.array([scale], np.float32), "translation": shift.astype(np.float32)[None]}
        path = folder / "THuman2.1_smplx" / name / "smplx_param.pkl"
        path.parent.mkdir(parents=True)
        path.write_bytes(pickle.dumps(fit))
    return root
