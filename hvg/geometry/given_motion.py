"""What any body can follow of the parameters of a body of the SMPL family: 22 rotations, and where the pelvis is.

Bodies of the family take all of it (``hvg.geometry.body_parameters``). For others the pelvis at rest, which rotations turn
about and translations start from, is that of the model's mean person; what betas and gender change of it, up to a few
centimetres, is not looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hvg.geometry.body_conventions import Family, GivenBody
from hvg.geometry.motion import BODY_JOINTS, TO_Y_UP, Motion, axis_angle, rotation_matrix


@dataclass(frozen=True)
class _RestBody:
    """Pelvis of a body model's mean person at rest, (3,) metres, y up. origin: in the model's own axes. standing: soles at 0."""

    origin: Tensor
    standing: Tensor


# J_regressor @ v_template of the neutral models, and its height above their soles; SMPL-H's person is SMPL's.
SMPLX_REST = _RestBody(torch.tensor([0.003123, -0.351407, 0.012037]), torch.tensor([0.0, 0.95, 0.0]))
SMPL_REST = _RestBody(torch.tensor([-0.001795, -0.223333, 0.028219]), torch.tensor([0.0, 0.92, 0.0]))
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
