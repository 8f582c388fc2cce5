"""Reconstructors of a few lines, as parts of somebody's own, and the checkpoint of a run that trained one."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import torch
import yaml
from PIL import Image
from torch import Tensor

from hvg.config.build import build_dataset, build_part
from hvg.config.composition import compose
from hvg.core.checkpoint import checkpoint_path
from hvg.core.eight_bit import frames_to_uint8
from hvg.model.checkpoint_writing import Entry, write_checkpoint
from hvg.parts import registry
from hvg.parts.context import SceneContext

# The photo itself, cut out by a disc around the pelvis; every picture copies its colours.
COPIED = """
    import torch
    from pydantic import Field
    from torch.nn.functional import interpolate

    from hvg.plugin import PartConfig, Reconstructor, Seen, project


    class Config(PartConfig):
        radius: float = Field(0.3, gt=0, le=10, description="Radius of the disc as a fraction of the picture's height.")


    class Part(Reconstructor[Config]):
        @classmethod
        def learns(cls, config):
            return False

        def render(self, batch, pixels=None, draws=None):
            (height, width), names = batch.cameras.image_size, batch.body.joint_names
            place, depth = project(batch.body.joints[:, None, :, [names.index("pelvis")]], batch.cameras)
            rows, columns = (torch.arange(n, device=depth.device) + 0.5 for n in (height, width))
            y, x = torch.meshgrid(rows, columns, indexing="ij")
            distance = (torch.stack([x, y], dim=-1) - place[..., None, :]).norm(dim=-1)
            alpha = (self.config.radius * height - distance).clamp(0, 1)
            photo = interpolate(batch.reference.frames[:, 0], (height, width), mode="nearest")
            colour = self.looks(photo).movedim(1, -1)[:, None, None] * alpha[..., None]
            seen = Seen(colour=colour, alpha=alpha, depth=depth[..., None] * (alpha > 0))
            if pixels is None:
                return seen
            flat = [x.flatten(1, 4) for x in (seen.colour, seen.alpha, seen.depth)]
            clip = torch.arange(len(pixels))[:, None]
            return Seen(**dict(zip(("colour", "alpha", "depth"), (x[clip, pixels] for x in flat))))

        def looks(self, photo):
            return photo
"""
# The same, dimmed by weights that have to be learned.
DIMMED = COPIED.replace("return False", "return True").replace(
    """        def looks(self, photo):
            return photo
""",
    """        def __init__(self, config, context):
            super().__init__(config, context)
            self.gain = torch.nn.Linear(1, 3)

        def looks(self, photo):
            return photo * self.gain.bias[:, None, None]
""",
)
PARTS = {"reconstructor.copied": COPIED, "reconstructor.dimmed": DIMMED}
GAIN = {"gain.weight": torch.zeros(3, 1), "gain.bias": torch.tensor([0.5, 0.6, 0.7])}


def write_avatar(
    run: Path,
    weights: Mapping[str, Tensor] = GAIN,
    *,
    name: str | None = "dimmed",
    body: str = "anny",
    step: int = 5,
    average: Mapping[str, Tensor] | None = None,
    **settings: object,
) -> Path:
    """A run folder with the checkpoint of a run that trained a reconstructor; the folder."""
    config = {"system": {"name": "avatar"}, "reconstructor": {"name": name, **settings}, "body": {"name": body}}
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    sections = {"weights": weights, "average": average or {}}
    entries = [
        Entry.of(f"{section}/reconstructor.{key}", value)
        for section, found in sections.items()
        for key, value in found.items()
    ]
    state = {"config": yaml.safe_dump(config), "global_step": step}
    write_checkpoint(checkpoint_path(run / "checkpoints", step), state, entries)
    return run


def reconstruction_words(option: str, folder: Path, sizes: Sequence[str]) -> list[str]:
    """What ``reconstruction=OPTION`` needs: a radiance field with its first weights, as if they were learned; the truth as
    somebody's pictures. sizes: words of the dataset.
    """
    config = compose(list(sizes))
    if option == "nerf":
        cls = registry.load("reconstructor", "nerf")
        part = cls(cls.Config(), SceneContext(renderer=build_part(config.renderer), body=build_part(config.body)))
        return [f"reconstruction.checkpoint={write_avatar(folder / 'nerf', part.state_dict(), name='nerf')}"]
    if option != "files":
        return []
    for clips in (build_dataset(config, split) for split in ("train", "val")):
        for clip in (clips.load(i) for i in range(len(clips))):
            pictures = frames_to_uint8(torch.cat([clip.frames, 2 * clip.alpha - 1], dim=3))[0].movedim(2, -1)
            for view, t in product(range(pictures.shape[0]), range(pictures.shape[1])):
                path = folder / "pictures" / clip.clip_id[0] / f"view-{view}" / f"{t}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pictures[view, t].numpy()).save(path)
    return [f"reconstruction.reconstructor_settings.path={folder / 'pictures'}"]
