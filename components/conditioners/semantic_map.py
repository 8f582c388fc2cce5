"""The bare body's mesh with the part that every point belongs to."""

from ..nn.body_mesh import BodyMap
from ..nn.surface_maps import DepthConfig, MapNames


class SemanticMapConfig(DepthConfig):
    """Settings of the semantic map."""

    maps: MapNames = ("normal", "mask", "part")


class SemanticMap(BodyMap[SemanticMapConfig]):
    """Control map (B, V, T, K, H, W) of the bare body's mesh; the maps are those of ``part_map``, background 0.

    A point's part is that of the bone that skin follows most there, by the weights of the body model: nothing but the model is
    needed. Fingers, where a body has them, go on along the arm's chain.

    Source: the semantic maps of Champ (arXiv 2403.14781), section 3.2. We differ: they take the colours of SMPL's
    segmentation, and one guider each for depth, normal, semantics and skeleton.
    """
