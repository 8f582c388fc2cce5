"""The SMPL-X body, from the user's model file."""

from ..people.smpl_family import FamilyBody


class SmplX(FamilyBody):
    """SMPL-X (arXiv 1904.05866): 10,475 vertices, 55 joints, fingers and a face."""

    family = "smplx"
