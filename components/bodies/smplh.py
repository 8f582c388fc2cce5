"""The SMPL-H body, from the user's model file."""

from ..people.smpl_family import FamilyBody


class SmplH(FamilyBody):
    """SMPL-H (arXiv 2201.02610): SMPL's 6,890 vertices with fingers, 52 joints."""

    family = "smplh"
