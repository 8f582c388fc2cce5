"""How far Anny's joints are from SMPL-X's in the same motions, as a table: `python tests/retargeting_error.py`.

Motions turn the mean SMPL-X skeleton by forward kinematics; Anny follows them as her mean person, and as one whose pelvis is
as high. Distances are from pelvis to pelvis, so places in the world are left out.
"""

import numpy as np
import torch

from components.bodies.anny import Anny
from components.people.motions import MOTIONS
from hvg.geometry.body_conventions import CONVENTIONS, GivenBody
from hvg.geometry.given_motion import motion_of
from hvg.geometry.motion import BODY_JOINTS, Motion
from hvg.geometry.retargeting import PARENT
from hvg.geometry.rotations import rotation_matrix
from hvg.parts.following import STILL

FRAMES, RATE = 60, 30.0
PELVIS = 0.95
# Joints of SMPL-X's neutral mean person at rest, metres: J_regressor @ v_template.
_REST = {
    "pelvis": (0.003123, -0.351407, 0.012037),
    "left_hip": (0.061313, -0.444171, -0.013965),
    "right_hip": (-0.060144, -0.455316, -0.009214),
    "spine1": (0.000361, -0.241517, -0.015581),
    "left_knee": (0.116008, -0.822924, -0.023361),
    "right_knee": (-0.104354, -0.817696, -0.026038),
    "spine2": (0.009808, -0.109664, -0.021521),
    "left_ankle": (0.072555, -1.225984, -0.055237),
    "right_ankle": (-0.088937, -1.228423, -0.046230),
    "spine3": (-0.001522, -0.057428, 0.006926),
    "left_foot": (0.119812, -1.283981, 0.062980),
    "right_foot": (-0.127750, -1.286752, 0.072819),
    "neck": (-0.013687, 0.107739, -0.024690),
    "left_collar": (0.044842, 0.027515, -0.000295),
    "right_collar": (-0.049217, 0.026910, -0.006474),
    "head": (0.011097, 0.268190, -0.003952),
    "left_shoulder": (0.164081, 0.085243, -0.015756),
    "right_shoulder": (-0.151795, 0.080435, -0.019143),
    "left_elbow": (0.418204, 0.013093, -0.058214),
    "right_elbow": (-0.422944, 0.043942, -0.045610),
    "left_wrist": (0.670191, 0.036314, -0.060687),
    "right_wrist": (-0.672212, 0.039410, -0.060935),
}
_ENDS = BODY_JOINTS[1:]


def smplx_places(motion) -> dict[str, torch.Tensor]:
    """Joint -> (T, 3) from the pelvis on."""
    still = torch.zeros(motion.num_frames, 3)
    turned = {"pelvis": rotation_matrix(motion.rotations.get("pelvis", still))}
    places = {"pelvis": still}
    for joint in _ENDS:
        parent = PARENT[joint]
        bone = torch.tensor(_REST[joint]) - torch.tensor(_REST[parent])
        places[joint] = places[parent] + turned[parent] @ bone
        turned[joint] = turned[parent] @ rotation_matrix(motion.rotations.get(joint, still))
    return places


def as_a_file(motion: Motion) -> Motion:
    """The rotations as a file of SMPL-X has them."""
    still = torch.zeros(motion.num_frames, 3)
    poses = [motion.rotations.get(joint, still) for joint in BODY_JOINTS]
    values = {"global_orient": poses[0], "body_pose": torch.cat(poses[1:], dim=1)}
    return motion_of(GivenBody(family="smplx", convention=CONVENTIONS["smplx_flat"], values=values))


def anny_places(motion, shape) -> dict[str, torch.Tensor]:
    """The same of Anny."""
    moved = Anny().animate(as_a_file(motion), shape, mesh=False)
    return {joint: (moved.place(joint) - moved.place("pelvis"))[0] for joint in BODY_JOINTS}


def as_tall() -> dict[str, float]:
    """Anny's shape whose pelvis is as high as SMPL-X's: its height grows evenly with the phenotype."""
    low, high = (
        float(Anny().animate(STILL, {"height": height}, mesh=False).place("pelvis")[0, 0, 1]) for height in (0.0, 1.0)
    )
    return {"height": (PELVIS - low) / (high - low)}


def errors(shape) -> dict[str, tuple[float, float, float, float]]:
    """Joint, of both sides -> mean and largest distance, millimetres; mean and largest angle of the bone to it, degrees."""
    motions = [make(np.random.default_rng(0), FRAMES, RATE) for make in MOTIONS.values()]
    pairs = [(smplx_places(motion), anny_places(motion, shape)) for motion in motions]
    found = {}
    for name in dict.fromkeys(joint.removeprefix("left_").removeprefix("right_") for joint in _ENDS):
        distances, angles = [], []
        for joint in (joint for joint in _ENDS if joint in (name, f"left_{name}", f"right_{name}")):
            for there, here in pairs:
                distances.append((there[joint] - here[joint]).norm(dim=-1))
                bones = (places[joint] - places[PARENT[joint]] for places in (there, here))
                angles.append(torch.rad2deg(torch.acos(torch.cosine_similarity(*bones, dim=-1).clamp(-1, 1))))
        mm, degrees = 1000 * torch.cat(distances), torch.cat(angles)
        found[name] = (float(mm.mean()), float(mm.max()), float(degrees.mean()), float(degrees.max()))
    return found


def table() -> str:
    """Of both people, in Markdown."""
    mean, tall = errors({}), errors(as_tall())
    lines = ["| joint | mean person, mm | as tall, mm | bone to it, degrees |", "|---|---|---|---|"]
    for joint, (mm, most, *_) in mean.items():
        a, b, c, d = tall[joint]
        lines.append(f"| {joint} | {mm:.0f} ({most:.0f}) | {a:.0f} ({b:.0f}) | {c:.1f} ({d:.1f}) |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
