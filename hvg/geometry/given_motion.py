"""What any body can follow of the parameters of a body of the SMPL family: 22 rotations, and where the pelvis is.

Bodies of the family take all of it (``hvg.geometry.body_parameters``). For others the pelvis at rest, which rotations turn
about and translations start from, and the arms at rest, from which theirs turn, are those of the model's mean person; what betas
and gender change of it, up to a few centimetres, is not looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hvg.geometry.body_conventions import Family, GivenBody
from hvg.geometry.motion import BODY_JOINTS, TO_Y_UP, Motion
from hvg.geometry.retargeting import swing
from hvg.geometry.rotations import axis_angle, rotation_matrix


@dataclass(frozen=True)
class _RestBody:
    """A body model's mean person at rest, metres, y up.

    origin: (3,), the pelvis in the model's own axes. standing: (3,), the same with the soles at 0. arms: joint -> the way
    (x, y, z) from it to the next one on the left; the right is its mirror image.
    """

    origin: Tensor
    standing: Tensor
    arms: Mapping[str, tuple[float, float, float]]


# J_regressor @ v_template of the neutral models, and its height above their soles; SMPL-H's person is SMPL's. Arms are the mean
# of the left and the mirrored right one: the models' elbows are no mirror images (SMPL-X's are 9 degrees apart), hands are.
SMPLX_REST = _RestBody(
    origin=torch.tensor([0.003123, -0.351407, 0.012037]),
    standing=torch.tensor([0.0, 0.95, 0.0]),
    arms={"shoulder": (0.2626, -0.0543, -0.0345), "elbow": (0.2506, 0.0093, -0.0089)},
)
SMPL_REST = _RestBody(
    origin=torch.tensor([-0.001795, -0.223333, 0.028219]),
    standing=torch.tensor([0.0, 0.92, 0.0]),
    arms={"shoulder": (0.2567, -0.0131, -0.0245), "elbow": (0.2523, 0.0084, -0.0034)},
)
_RESTS: Mapping[Family, _RestBody] = {"smpl": SMPL_REST, "smplh": SMPL_REST, "smplx": SMPLX_REST}


def motion_of(body: GivenBody, frames_per_second: float | None = None) -> Motion:
    """The motion of ``body``, which has a ``global_orient`` and a ``body_pose``, for every body; ``body`` goes with it."""
    convention, values = body.convention, body.values
    poses = torch.cat([values["global_orient"], values["body_pose"][:, :63]], dim=1).unflatten(1, (-1, 3))
    rotations = dict(zip(BODY_JOINTS, poses.unbind(1), strict=True))
    first, to_y_up = rotations["pelvis"], TO_Y_UP[convention.up]
    if convention.up != "y":
        rotations["pelvis"] = axis_angle(to_y_up @ rotation_matrix(first))
    return Motion(
        rotations=rotations,
        translation=_translation(body, first) if "transl" in values else None,
        frames_per_second=frames_per_second,
        body=body,
    )


def arms_at_rest(family: Family) -> Tensor:
    """(22, 3, 3), by joint of ``BODY_JOINTS``: the rotation from the T-pose to how the family's mean person is at rest.

    Their arms are neither level nor straight; everything else is taken to be as in the T-pose.
    """
    turns = torch.eye(3).repeat(len(BODY_JOINTS), 1, 1)
    for joint, (x, y, z) in _RESTS[family].arms.items():
        for side, out in (("left", 1.0), ("right", -1.0)):
            level, held = torch.tensor([out, 0.0, 0.0]), torch.tensor([out * x, y, z])
            turns[BODY_JOINTS.index(f"{side}_{joint}")] = swing(level, held)
    return turns


def mean_pelvis_height(body: GivenBody) -> float:
    """Metres from the floor to the pelvis of the model's mean person, who stands, with the scale of ``body``."""
    scale = body.values["scale"].mean() if "scale" in body.values else 1.0
    return float(scale * _RESTS[body.family].standing[1])


def _translation(body: GivenBody, first: Tensor) -> Tensor:
    """(T, 3) metres, y up: as ``Motion.translation``. first: (T, 3), the file's first rotation."""
    convention, rest, shift = body.convention, _RESTS[body.family], body.values["transl"]
    origin, standing = rest.origin, rest.standing
    if convention.per_metre != 1:
        shift = shift / convention.per_metre
    if convention.about == "origin":
        # Else it is the fixed point of the first rotation, so it is not turned by it.
        origin = (rotation_matrix(first) @ origin[:, None])[..., 0]
    if "scale" in body.values:
        scale = body.values["scale"].reshape(-1, 1)
        origin, standing = scale * origin, scale * standing
        shift = scale * shift if convention.scaled == "all" else shift
    return (origin + shift) @ TO_Y_UP[convention.up].mT - standing
