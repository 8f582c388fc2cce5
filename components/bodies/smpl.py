"""The SMPL body, from the user's model file."""

from ..people.smpl_family import FamilyBody


class Smpl(FamilyBody):
    """SMPL (Loper et al. 2015): 6,890 vertices, 24 joints, hands without fingers."""

    family = "smpl"
