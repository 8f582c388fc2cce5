"""How far Anny's joints are from those of an SMPL-X body in the same motions, as a table: `python tests/retargeting_error.py`.

Two SMPL-X bodies in files of the true format: one whose joints at rest are Anny's own (what the rotations alone lose), and
one whose bones at rest have the lengths and directions of ``hvg.testing.standing_joints`` (what another skeleton costs).
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from body_models import person_model, write_body_model

from components.bodies.anny import Anny
from components.bodies.smplx import SmplX
from components.people.motions import MOTIONS
from hvg.geometry.skeleton import BONES, JOINTS, joint_index

FRAMES, RATE = 60, 30.0
BODIES = ("Anny's own skeleton", "another skeleton")


def bodies(folder: Path) -> dict[str, SmplX]:
    np.savez(folder / "own.npz", allow_pickle=True, **person_model("smplx"))
    write_body_model(folder / "other.npz", "smplx", 20)
    return dict(
        zip(BODIES, (SmplX(SmplX.Config(path=folder / f"{name}.npz")) for name in ("own", "other")), strict=True)
    )


def _joints(body, motion) -> torch.Tensor:
    """(T, 25, 3), from the pelvis on."""
    moved = body.animate(motion, {}, mesh=False)
    joints = moved.joints[0][:, joint_index(moved.joint_names, JOINTS)]
    return joints - joints[:, :1]


def errors(body: SmplX) -> dict[str, tuple[float, float, float, float]]:
    """Joint -> mean and largest distance, millimetres; mean and largest angle of the bone that ends there, degrees."""
    parents = {end: start for start, end in BONES}
    distances, angles = [], []
    for make in MOTIONS.values():
        motion = make(np.random.default_rng(0), FRAMES, RATE)
        there, here = _joints(body, motion), _joints(Anny(), motion)
        distances.append((there - here).norm(dim=-1))
        ends = [JOINTS.index(joint) for joint in JOINTS[1:]]
        starts = [JOINTS.index(parents[joint]) for joint in JOINTS[1:]]
        cosine = torch.cosine_similarity(there[:, ends] - there[:, starts], here[:, ends] - here[:, starts], dim=-1)
        angles.append(torch.rad2deg(torch.acos(cosine.clamp(-1, 1))))
    mm, degrees = 1000 * torch.cat(distances)[:, 1:], torch.cat(angles)
    columns = zip(mm.mean(0), mm.amax(0), degrees.mean(0), degrees.amax(0), strict=True)
    return {joint: tuple(map(float, row)) for joint, row in zip(JOINTS[1:], columns, strict=True)}


def of_both_sides(found: dict[str, tuple[float, ...]]) -> dict[str, tuple[float, ...]]:
    """The mean of left and right of what is a mean, the larger of what is the largest."""
    rows = {}
    for joint, (mm, most, degrees, widest) in found.items():
        name = joint.removeprefix("left_").removeprefix("right_")
        a, b, c, d = rows.get(name, (mm, most, degrees, widest))
        rows[name] = ((a + mm) / 2, max(b, most), (c + degrees) / 2, max(d, widest))
    return rows


def table(columns: list[dict[str, tuple[float, ...]]]) -> str:
    lines = ["| joint | " + " | ".join(f"{name}: mm | degrees" for name in BODIES) + " |", "|---" * 5 + "|"]
    for joint in columns[0]:
        cells = [f"{c[joint][0]:.0f} ({c[joint][1]:.0f}) | {c[joint][2]:.1f} ({c[joint][3]:.1f})" for c in columns]
        lines.append(f"| {joint} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    with TemporaryDirectory() as made:
        print(table([of_both_sides(errors(body)) for body in bodies(Path(made)).values()]))
