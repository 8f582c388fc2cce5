"""Somebody's package of two reconstructors, small enough to be trained in seconds, and of a system of their own.

``tiny`` is a network of a pixel's place, where its camera stands, and the photo's mean colour. ``flat`` learns nothing: everybody
is a rectangle of that colour. ``system.shifted`` trains a reconstructor, and adds a number to its loss.
"""

import textwrap
from pathlib import Path

TINY = '''
import torch
from pydantic import Field
from torch import nn

from hvg.plugin import Count, PartConfig, Reconstructor, Seen


class TinyConfig(PartConfig):
    """Settings of the network."""

    width: Count = Field(16, description="Channels.")


class Part(Reconstructor[TinyConfig]):
    """Colour and alpha by a network."""

    made_for = 4

    def __init__(self, config, context):
        super().__init__(config, context)
        self.mlp = nn.Sequential(nn.Linear(8, config.width), nn.SiLU(), nn.Linear(config.width, 4))

    def render(self, batch, pixels=None, draws=None):
        (clips, views, frames), (height, width) = batch.grid, batch.cameras.image_size
        every = torch.arange(views * frames * height * width, device=batch.cameras.intrinsics.device)
        places = every.expand(clips, -1) if pixels is None else pixels
        picture, pixel = places // (height * width), places % (height * width)
        x, y = (pixel % width) / width, (pixel // width) / height
        if draws is not None:
            x = x + torch.stack([torch.rand(places.shape[1], generator=draw) for draw in draws]).to(x) / width
        pelvis = batch.body.place("pelvis")[:, None]
        away = nn.functional.normalize(batch.cameras.centers - pelvis, dim=-1).flatten(1, 2)
        away = away.gather(1, picture[..., None].expand(-1, -1, 3))
        photo = batch.reference.frames.mean(dim=(1, 3, 4))[:, None].expand(-1, places.shape[1], -1)
        made = self.mlp(torch.cat([x[..., None], y[..., None], away, photo], dim=-1))
        alpha = made[..., 0].sigmoid()
        colour = made[..., 1:].tanh() * alpha[..., None]
        if pixels is None:
            alpha, colour = (x.unflatten(1, (views, frames, height, width)) for x in (alpha, colour))
        return Seen(colour=colour, alpha=alpha, depth=3 * alpha.detach())
'''
FLAT = '''
import torch

from hvg.plugin import PartConfig, Reconstructor, Seen


class Part(Reconstructor[PartConfig]):
    """A rectangle in the middle of every picture."""

    Config = PartConfig

    @classmethod
    def learns(cls, config):
        return False

    def render(self, batch, pixels=None, draws=None):
        height, width = batch.cameras.image_size
        alpha = torch.zeros(*batch.grid, height, width)
        alpha[..., height // 8 : -(height // 8), width // 3 : -(width // 3)] = 1
        photo = batch.reference.frames.mean(dim=(1, 3, 4))[:, None, None, None, None]
        seen = Seen(colour=alpha[..., None] * photo, alpha=alpha, depth=3 * alpha)
        if pixels is None:
            return seen
        colour = seen.colour.flatten(1, -2).gather(1, pixels[..., None].expand(-1, -1, 3))
        alpha, depth = (x.flatten(1).gather(1, pixels) for x in (seen.alpha, seen.depth))
        return Seen(colour=colour, alpha=alpha, depth=depth)
'''
SHIFTED = '''
from pydantic import Field

from hvg.plugin import PartConfig, System, TrainedSystem, build_reconstructor, trained_settings


class ShiftedConfig(PartConfig):
    """Settings of the loss."""

    shift: float = Field(0.5, ge=0, le=1e6, description="What is added to it.")


class Part(System[ShiftedConfig]):
    """A reconstructor whose mean alpha is to be the mean of the masks."""

    uses = frozenset({"reconstructor"})
    requires = frozenset({"alpha"})

    def build(self, run, start=None):
        class Steps(TrainedSystem):
            def __init__(self, shift):
                super().__init__(**trained_settings(run))
                self.reconstructor, self.shift = build_reconstructor(run), shift

            def training_step(self, batch, batch_idx):
                seen = self.reconstructor.render(batch)
                return {"loss": (seen.alpha - batch.alpha[:, :, :, 0]).square().mean() + self.shift}

            def pieces(self, batch, latents):
                yield self.reconstructor.render(batch).colour.movedim(-1, 3)

            def sampling_bytes(self, views, frames, image_size):
                return 0

        return Steps(self.config.shift)
'''
PARTS = {"reconstructor.tiny": TINY, "reconstructor.flat": FLAT, "system.shifted": SHIFTED}


def write_package(folder: Path, parts: dict[str, str] = PARTS) -> Path:
    """Writes the package as pip lays it out, with YAML for each part; returns the folder, for Python's path."""
    files = {"avatar_lab/__init__.py": ""}
    for part, source in parts.items():
        kind, _, name = part.partition(".")
        files[f"avatar_lab/{kind}_{name}.py"] = textwrap.dedent(source)
        files[f"avatar_lab/conf/{kind}/{name}.yaml"] = f"name: {name}\n"
    entries = [f"{part} = avatar_lab.{part.replace('.', '_')}:Part" for part in parts]
    files["avatar_lab-1.0.dist-info/METADATA"] = "Metadata-Version: 2.1\nName: avatar_lab\nVersion: 1.0\n"
    files["avatar_lab-1.0.dist-info/entry_points.txt"] = "\n".join(
        ["[hvg.components]", *entries, "[hvg.conf]", "avatar_lab = avatar_lab.conf"]
    )
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    return folder
