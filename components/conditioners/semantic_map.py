"""The bare body's mesh with the part that every point belongs to."""

from typing import Literal

from pydantic import Field, field_validator

from ..nn.body_mesh import BodyMap
from ..nn.surface_maps import DepthConfig, unique_maps


class SemanticMapConfig(DepthConfig):
    """Settings of the semantic map."""

    maps: tuple[Literal["normal", "depth", "part", "mask"], ...] = Field(
        ("normal", "mask", "part"),
        min_length=1,
        max_length=4,
        description="Which maps, in which order; of the K channels normal and part have 3 each, depth and mask 1.",
    )

    _unique = field_validator("maps")(unique_maps)


class SemanticMap(BodyMap[SemanticMapConfig]):
    """Control map (B, V, T, K, H, W) of the bare body's mesh; the maps are those of ``part_map``, background 0.

    A point's part is that of the bone that skin follows most there, by the weights of the body model: nothing but the model is
    needed. Fingers, where a body has them, go on along the arm's chain.

    Source: the semantic maps of Champ (arXiv 2403.14781), section 3.2. We differ: they take the colours of SMPL's
    segmentation, and one guider each for depth, normal, semantics and skeleton.
    """
