"""The bare body's mesh as a chart: which part a point is of, how far along it, and which way around."""

from hvg.parts.pose_guided import PoseGuidedConfig

from ..nn.body_mesh import BodyMap


class IuvConfig(PoseGuidedConfig):
    """Settings of the chart."""


class Iuv(BodyMap[IuvConfig]):
    """Control map (B, V, T, 6, H, W) of the bare body's mesh: part (3), place along it in [0, 1], sine and cosine of the angle
    around its bone; the background is 0 in all channels.

    part is that of ``semantic_map``. Place and angle are of the body at rest (``hvg.geometry.part_places``), so a point of the
    skin has the same six numbers in every pose and view: they say which point of the body a pixel shows, where normals and
    depth say how it lies. With supersampling a pixel has those of its nearest ray.

    Source: DensePose (arXiv 1802.00434) has such charts, and MagicAnimate (arXiv 2311.16498) is driven by them. We differ, so
    that it is not called by that name: parts are those of any body's bones instead of 24 drawn on SMPL, and coordinates follow
    from bones.
    """

    @classmethod
    def maps(cls, config: IuvConfig) -> tuple[str, ...]:
        return "part", "uv"
