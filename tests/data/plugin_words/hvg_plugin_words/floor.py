"""A camera signal: which place on the floor every pixel looks at."""

from typing import Literal

import torch
from pydantic import Field

from hvg.plugin import GuidedConfig, PoseGuided, pixel_rays


class Floor(PoseGuided):
    """Three channels: x and z of the floor (y = 0) in metres and 1; all 0 where no floor is within ``reach``.

    Metres lie outside [-1, 1], so the map is kept as floats.
    """

    class Config(GuidedConfig):
        reach: float = Field(5.0, gt=0, description="Metres from the middle within which there is a floor.")
        middle: Literal["world", "cameras"] = Field(
            "world",
            description="Where x and z are 0: at the world's origin, or in the middle of the cameras that a step sees.",
        )

    requires = frozenset({"cameras"})

    @classmethod
    def signal_channels(cls, config):
        return 3

    @classmethod
    def signal_storage(cls, config):
        return "float16"

    @classmethod
    def per_picture(cls, config):
        return config.middle == "world"

    def draw_map(self, batch):
        cameras = batch.cameras
        # Rows of a rotation are the camera's axes, so a product from the right leads back to the world.
        rays = pixel_rays(cameras) @ cameras.world_to_camera[..., None, :3, :3]  # B V T H W 3
        centres = cameras.centers
        height = centres[..., 1, None, None]
        steps = -height / rays[..., 1].clamp(max=-1e-4)
        place = centres[..., None, None, ::2] + steps[..., None] * rays[..., ::2]
        if self.config.middle == "cameras":
            place = place - centres.mean(dim=1, keepdim=True)[..., None, None, ::2]
        there = (height > 0) & (rays[..., 1] < -1e-4) & (place.norm(dim=-1) < self.config.reach)
        return torch.cat([place, torch.ones_like(place[..., :1])], dim=-1).mul(there[..., None]).movedim(-1, -3)

    def signal_images(self, signal):
        place, there = signal[..., :2, :, :] / self.config.reach, signal[..., 2:, :, :]
        return {"map": torch.cat([place, there], dim=-3)}
