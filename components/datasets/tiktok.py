"""TikTok's dances: videos of one person each, with masks and without bodies or cameras.

Sources: Jafarian and Park (CVPR 2021), github.com/yasaminjafarian/HDNet_TikTok; github.com/Wangt-CN/DisCo
(PREPRO.md, tsv_example/, annotator/grounded-sam/run.py).
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from pydantic import Field

from hvg.core.errors import DataError
from hvg.data.recorded import Recorded
from hvg.data.recordings import RecordedConfig, Recording
from hvg.media.images import picture_size
from hvg.values.cameras import Cameras, orbit

from ..people.capture_rigs import numbered, rig_recording

# Metres above the floor at which an assumed camera looks.
_HEIGHT = 0.9
# Masks beside pictures, by who made them. DisCo's are drawn in colours, beside files of numbers under nearly the same names.
_MASKS, _DRAWN = {"masks": "", "groundsam": ".mask.jpg"}, "groundsam"


class Tiktok(Recorded):
    """Dances ``<root>/00001``: Jafarian's ``images/0001.png`` and ``masks/0001.png``, or DisCo's pictures and ``groundsam/``,
    whose masks are ``000001.png.mask.jpg``, drawn by matplotlib.

    Nothing is known of the camera: it is taken to stand ``distance`` away in front, with ``fov_degrees``.
    """

    class Config(RecordedConfig):
        """Settings of the dances."""

        bodies: bool = Field(False, description="Whether clips carry bodies, of which there are none here.")

        @property
        def known_as(self) -> str:
            return "tiktok"

    @classmethod
    def survey(cls, config: Config, path: Path) -> Recording:
        if config.bodies:
            raise DataError(
                f"{path}: there are no bodies here; estimate them and use dataset=monocular, or dataset.bodies=false"
            )
        apart = (path / "images").is_dir()
        pictures = numbered(path / "images" if apart else path)
        kind = next((name for name in _MASKS if (path / name).is_dir()), "masks" if apart else _DRAWN)
        if not pictures:
            raise DataError(f"{path}: holds no pictures; expected images/0001.png, or 0001.png in it")
        first = pictures[min(pictures)]
        found = rig_recording(
            config,
            path,
            {"0": partial(_camera, first, config.distance, config.fov_degrees)},
            pictures={"0": pictures},
            masks={"0": numbered(path / kind, _MASKS[kind])},
            bodies={},
            motion=None,
            files=(),
        )
        tracks = {name: replace(track, masks_in="viridis") for name, track in found.tracks.items()}
        return replace(found, tracks=tracks) if kind == _DRAWN else found


def _camera(picture: Path, distance: float, fov_degrees: float) -> Cameras:
    """(1,), of pictures of that size."""
    return orbit(
        torch.zeros(1),
        elevation_degrees=0.0,
        distance=distance,
        target=torch.tensor([0.0, _HEIGHT, 0.0]),
        fov_degrees=fov_degrees,
        image_size=picture_size(picture),
    )
