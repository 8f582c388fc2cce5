"""Parameters of bodies as others write them: the inverse of ``hvg.geometry.body_parameters``."""

from dataclasses import replace

import torch
from torch import Tensor

from hvg.core.errors import DataError
from hvg.geometry.body_conventions import BodyConvention
from hvg.geometry.body_files import BodyFile
from hvg.geometry.body_parameters import _HANDS, BodyParameters, _array, _joints, _turned, _words
from hvg.geometry.motion import TO_Y_UP
from hvg.geometry.rotations import axis_angle, rotation_matrix
from hvg.values.tensors import map_tensors, moved

# Largest entry of a hand's rotation, in radians, that components which cannot express it may lose.
_LOST = 1e-4


def in_convention(body: BodyParameters, convention: BodyConvention, file: BodyFile) -> dict[str, Tensor]:
    """The parameters as somebody else writes them: the inverse of ``body_parameters``.

    Raises: DataError where so few components cannot express a hand.
    """
    body = moved(body, torch.float64)
    frames, scale = body.num_frames, body.scale[:, None]
    first = rotation_matrix(body.rotations.get("pelvis", scale.new_zeros(frames, 3)).expand(frames, 3))
    pelvis, shift = file.rest_joints(body.betas, body.expression)[:, 0], body.translation
    if convention.up != "y":
        back = TO_Y_UP[convention.up].mT.double()
        shift = (scale * pelvis + shift) @ back.mT - scale * pelvis
        first = back @ first
    if convention.about == "origin":
        shift = shift - scale * (_turned(first, pelvis) - pelvis)
    if convention.scaled == "all":
        shift = shift / scale
    turned = replace(body, rotations={**body.rotations, "pelvis": axis_angle(first)})
    poses = {name: _pose(name, turned, convention, file) for name in _words(file)}
    written = {
        **poses,
        "betas": body.betas,
        "expression": body.expression,
        "transl": shift * convention.per_metre,
        "scale": body.scale,
    }
    return map_tensors(written, Tensor.float)


def _pose(word: str, body: BodyParameters, convention: BodyConvention, file: BodyFile) -> Tensor:
    """(T, numbers) of one of ``POSES``."""
    still = body.translation.new_zeros(body.num_frames, 3)
    pose = torch.cat([body.rotations.get(joint, still).expand_as(still) for joint in _joints(word, file)], dim=1)
    if word not in _HANDS:
        return pose
    side, count = _HANDS[word], convention.components
    if convention.hands == "mean":
        pose = pose - _array(file, f"hands_mean{side}")
    if count is None:
        return pose
    basis = _array(file, f"hands_components{side}")[:count]
    components = torch.linalg.lstsq(basis.mT, pose.mT).solution.mT
    lost = float((components @ basis - pose).abs().max())
    if lost > _LOST:
        raise DataError(
            f"{count} components cannot express '{word}': rotations would change by up to {lost:.3f} radians"
        )
    return components
