"""Clips of a coloured ball that rolls over the floor, with a caption: no body and no file needed."""

from typing import Literal

import torch
from pydantic import Field

from hvg.plugin import ClipBatch, Dataset, PartConfig, Reference, numpy_generator, orbit, project

COLOURS = {"red": (1, -1, -1), "green": (-1, 1, -1), "blue": (-1, -1, 1), "yellow": (1, 1, -1)}
WAYS = {"left": (-1, 0), "right": (1, 0), "near": (0, 1), "far": (0, -1)}  # x and z
METRES = 0.8


class Balls(Dataset):
    """A ball a clip; the photo shows it at rest, from the front."""

    class Config(PartConfig):
        split: Literal["train", "val", "test"] = Field("train", description="Balls of two splits are different.")
        clips: int = Field(16, ge=1, description="Clips of every split.")
        views: int = Field(4, ge=1, description="V: cameras, spread evenly around the floor.")
        frames: int = Field(4, ge=1, description="T: frames in a clip.")
        image_size: int = Field(32, ge=8, description="Side of the pictures, pixels.")
        distance: float = Field(3.2, gt=2, description="From the cameras to the middle of the floor, metres.")
        fov_degrees: float = Field(50.0, gt=5, lt=120, description="Angle of view.")

    @classmethod
    def provides(cls, config):
        return frozenset({"frames", "alpha", "cameras", "reference", "caption", "task", "valid", "frame_index"})

    def __len__(self):
        return self.config.clips

    def load(self, index):
        split, views, frames = self.config.split, self.config.views, self.config.frames
        random = numpy_generator("balls", split, index)
        colour, way = (str(random.choice(list(words))) for words in (COLOURS, WAYS))
        radius, name = random.uniform(0.3, 0.6), f"ball-{split}-{index:04d}"
        (x, z), travelled = WAYS[way], torch.linspace(0, METRES, frames)
        places = torch.stack([x * travelled, torch.full_like(travelled, radius), z * travelled], dim=-1)
        cameras = self._cameras(views)[None, :, None].expand(1, views, frames)
        pictures, alpha = _draw(places, radius, COLOURS[colour], cameras)
        front = self._cameras(1)[None]
        photo, photo_alpha = _draw(places[0], radius, COLOURS[colour], front)
        return ClipBatch(
            frames=pictures,
            alpha=alpha,
            cameras=cameras,
            reference=Reference(frames=photo, alpha=photo_alpha, cameras=front),
            caption=(f"a {colour} ball rolls {way}",),
            task=torch.ones(1, dtype=torch.int64),
            valid=torch.ones(1, views, frames, dtype=torch.bool),
            frame_index=torch.arange(frames)[None],
            clip_id=(name,),
            subject=(name,),
        )

    def _cameras(self, views):
        """Cameras (V) around the floor, the first in front."""
        return orbit(
            torch.arange(views) * 360.0 / views,
            elevation_degrees=20.0,
            distance=self.config.distance,
            target=torch.zeros(3),
            fov_degrees=self.config.fov_degrees,
            image_size=(self.config.image_size, self.config.image_size),
        )


def _draw(places, radius, colour, cameras):
    """Pictures (..., 3, H, W) in [-1, 1], on white, and alpha (..., 1, H, W) of a ball at places that cameras (...) see."""
    pixels, depth = project(places[..., None, :], cameras)
    height, width = cameras.image_size
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    distance = (torch.stack([x, y], dim=-1) - pixels[..., None, :]).norm(dim=-1)
    inside = distance < (cameras.intrinsics[..., 0, 0, None] * radius / depth)[..., None]
    return torch.where(inside[..., None, :, :], torch.tensor(colour)[:, None, None], 1.0), inside[
        ..., None, :, :
    ].float()
