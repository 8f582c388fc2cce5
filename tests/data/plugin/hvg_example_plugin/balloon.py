"""A reconstruction of a lab's own: a balloon in the photo's mean colour, held by the pelvis."""

import torch
from pydantic import Field

from hvg.plugin import PartConfig, Reconstructor, Seen, project


class Balloon(Reconstructor):
    """A disc of ``radius`` metres around the pelvis, towards the camera."""

    class Config(PartConfig):
        radius: float = Field(0.25, gt=0, le=10, description="Metres.")

    @classmethod
    def learns(cls, config):
        return False

    def render(self, batch, pixels=None, draws=None):
        pelvis = batch.body.place("pelvis")[:, None, :, None]
        centre, depth = project(pelvis, batch.cameras)
        height, width = batch.cameras.image_size
        rows, columns = (torch.arange(side, device=depth.device) + 0.5 for side in (height, width))
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        away = (torch.stack([x, y], dim=-1) - centre[..., None, :]).norm(dim=-1)
        alpha = (away * depth[..., None] < self.config.radius * batch.cameras.intrinsics[..., :1, :1]).float()
        mean = batch.reference.frames[:, 0].mean(dim=(-2, -1))[:, None, None, None, None]
        seen = Seen(colour=alpha[..., None] * mean, alpha=alpha, depth=alpha * depth[..., None])
        return seen if pixels is None else seen.at(pixels)
