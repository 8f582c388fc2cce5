"""HVG's ellipsoids with what each of them is."""

from ..nn.bone_ellipsoids import EllipsoidConfig, EllipsoidMap
from ..nn.surface_maps import MapNames


class PartMapConfig(EllipsoidConfig):
    """Settings of the part map."""

    maps: MapNames = ("normal", "depth", "part")


class PartMap(EllipsoidMap[PartMapConfig]):
    """Control map (B, V, T, K, H, W) of one ellipsoid per bone: normal and depth as of ``bone_map``, part, and mask in [0, 1].

    part: side (left 1, right -1, middle 0), limb (arm 1, trunk and head 0, leg -1), place along the limb's chain of bones in
    (0, 1] (``hvg.geometry.body_parts``). With supersampling it is the nearest ray's, where other maps hold the mean of
    their rays. The background is 0 in all channels.

    Source: the ellipsoids are HVG's (arXiv 2602.21188), section 3.1; it does not tell which is which. Semantic maps of a body
    stand beside its normals in Champ (arXiv 2403.14781), section 3.2, in colours of the SMPL model's own segmentation. We
    differ: three numbers that any body's tree of bones gives, so that left and right are one part but for a sign.
    """
