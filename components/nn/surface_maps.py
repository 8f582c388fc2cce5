"""Maps of a body's surface as pixels see it, whatever it is made of: normal, depth, mask, code of the part and place on it."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, Field, field_validator
from torch import Tensor
from typing_extensions import TypeVar

from hvg.core.bounds import Metres
from hvg.core.required import required
from hvg.geometry.body_parts import part_colours
from hvg.geometry.skeleton import joint_index
from hvg.parts.pose_guided import PoseGuided, PoseGuidedConfig
from hvg.values.cameras import Cameras
from hvg.values.clip import ClipBatch

from .control_maps import box_filter, channels_first

# Name of a map -> its channels.
MAPS = {"normal": 3, "depth": 1, "part": 3, "uv": 3, "mask": 1}
# Maps whose numbers are of one part of the body: a mean of two is of none.
OF_PARTS = ("part", "uv")
# Depth of the far end of the range: not 0, which is the background.
FAR = 0.1


class DepthConfig(PoseGuidedConfig):
    """Settings of a map with depth."""

    half_range: Metres = Field(
        1.0,
        description="depth=pelvis: metres before and behind the pelvis over which depth falls from 1 (near) to 0.1 (far).",
    )
    depth: Literal["pelvis", "metric", "frame"] = Field(
        "pelvis",
        description="Distances over which depth falls from 1 to 0.1. pelvis: half_range before to half_range behind the "
        "pelvis' distance. metric: near to far. frame: nearest to farthest point of the person in each image.",
    )
    near: float = Field(1.0, ge=0, le=1e6, description="depth=metric: metres to the camera at which depth is 1.")
    far: Metres = Field(
        6.0, validate_default=True, description="depth=metric: metres to the camera at which depth is 0.1."
    )

    @field_validator("far")
    @classmethod
    def _beyond_near(cls, far: float, info: Any) -> float:
        near = info.data.get("near", 0.0)
        if far <= near:
            raise ValueError(f"far={far:g} has to lie beyond near={near:g}")
        return far


def unique_maps(maps: tuple[str, ...]) -> tuple[str, ...]:
    """The same names. Raises: ValueError naming one that is there twice."""
    twice = [name for name in maps if maps.count(name) > 1]
    if twice:
        raise ValueError(f"the map {twice[0]} is there twice")
    return maps


# Names of ``MAPS``, each once.
MapNames = Annotated[
    tuple[Literal["normal", "depth", "part", "mask"], ...],
    Field(
        min_length=1,
        max_length=4,
        description="Which maps, in which order; of the K channels normal and part have 3 each, depth and mask 1.",
    ),
    AfterValidator(unique_maps),
]


@dataclass(frozen=True, kw_only=True)
class SurfaceImage:
    """A surface as seen at the pixel centres; every value is 0 where nothing is hit.

    distance: (..., H, W), metres to the camera's origin. normal: (..., H, W, 3), unit, outward, camera axes. code:
    (..., H, W, 3) of the body part (``hvg.geometry.body_parts``), None where it was not asked for. mask: (..., H, W) bool.
    uv: (..., H, W, 3), where on that part (``hvg.geometry.part_places``), None where it was not asked for.
    """

    distance: Tensor
    normal: Tensor
    code: Tensor | None
    mask: Tensor
    uv: Tensor | None = None


def surface_maps(image: SurfaceImage, names: Sequence[str], pelvis: Tensor, settings: PoseGuidedConfig) -> Tensor:
    """(..., K, H, W): the maps of ``MAPS`` that ``names`` asks for, in its order; the background is 0.

    image: seen by ``settings.supersampling`` rays per pixel side. pelvis: (...), its distance in metres. Raises:
    TypeError for a depth whose settings are none of depth.

    normal: in [-1, 1], camera axes (x right, y down, z forward). depth: near is bright, in [0.1, 1]. mask: 1 on the body. Of
    these a pixel holds the mean of its rays. part: three numbers of which no mean is a part, so a pixel has those of the ray
    that meets the surface nearest to the camera; so has uv: place along the part in [0, 1], sine and cosine of the angle around.
    """
    made = []
    for name in names:
        if name in OF_PARTS:
            values = required(image.code if name == "part" else image.uv, f"the map {name} of a surface")
            made.append(_nearest(values, image, settings.supersampling))
            continue
        if name == "depth":
            value = brightness(image.distance, image.mask, pelvis, settings)
        else:
            value = image.normal if name == "normal" else image.mask.to(image.normal.dtype)
        made.append(
            box_filter(channels_first([value if name == "normal" else value[..., None]]), settings.supersampling)
        )
    return torch.cat(made, dim=-3)


def _nearest(values: Tensor, image: SurfaceImage, factor: int) -> Tensor:
    """Values (..., 3, H, W) of what lies nearest in every factor x factor block of samples (..., H, W, 3)."""

    def blocks(x: Tensor) -> Tensor:
        height, width = x.shape[-2] // factor, x.shape[-1] // factor
        return x.unflatten(-1, (width, factor)).unflatten(-3, (height, factor)).transpose(-3, -2).flatten(-2)

    which = blocks(image.distance.where(image.mask, torch.inf)).argmin(dim=-1, keepdim=True)
    found = blocks(values.movedim(-1, -3))
    return found.gather(-1, which[..., None, :, :, :].expand(*found.shape[:-1], 1))[..., 0]


def brightness(distance: Tensor, mask: Tensor, pelvis: Tensor, settings: PoseGuidedConfig) -> Tensor:
    """Depth map (..., H, W) of what is seen at distances (..., H, W) where ``mask`` is true, for the pelvis' distance (...)."""
    if not isinstance(settings, DepthConfig):
        raise TypeError(f"{type(settings).__name__} has no settings of depth")
    if settings.depth == "pelvis":
        nearness = 0.5 + (pelvis[..., None, None] - distance) / (2 * settings.half_range)
    elif settings.depth == "metric":
        nearness = (settings.far - distance) / (settings.far - settings.near)
    else:
        nearest = distance.where(mask, torch.inf).amin((-2, -1), keepdim=True)
        farthest = distance.amax((-2, -1), keepdim=True)
        # Where all of the person is at one distance (a pixel or none), it counts as near.
        span = (farthest - nearest).clamp_min(torch.finfo(nearest.dtype).tiny)
        nearness = 1 - (distance - nearest) / span
    return (FAR + (1 - FAR) * nearness.clamp(0, 1)) * mask


def fine_cameras(batch: ClipBatch, settings: PoseGuidedConfig) -> Cameras:
    """The clips' cameras, with a pixel for every ray."""
    height, width = batch.cameras.image_size
    return batch.cameras.resized((settings.supersampling * height, settings.supersampling * width))


def pelvis_distance(batch: ClipBatch) -> Tensor:
    """(B, V, T) metres from the camera's origin."""
    body = required(batch.body, "ClipBatch.body")
    pelvis = body.joints[:, None, :, int(joint_index(body.joint_names, ["pelvis"]))]
    return (pelvis - batch.cameras.centers).norm(dim=-1)


def map_picture(name: str, signal: Tensor) -> Tensor:
    """A map of ``MAPS``, (..., k, H, W), as a picture (..., 3, H, W) in [-1, 1]: all but normals on black, parts in colour.

    Of a place on a part red says how far along, green and blue which way around.
    """
    if name == "normal":
        return signal
    if name == "uv":
        along, around = signal.split([1, 2], dim=-3)
        nobody = around.eq(0).all(dim=-3, keepdim=True)
        return torch.cat([2 * along - 1, around], dim=-3).masked_fill(nobody, -1)
    if name != "part":
        return (2 * signal - 1).expand(*signal.shape[:-3], 3, *signal.shape[-2:])
    return 2 * part_colours(signal.movedim(-3, -1)).movedim(-1, -3) - 1


SurfaceT = TypeVar("SurfaceT", bound=PoseGuidedConfig, default=Any)


class SurfaceMap(PoseGuided[SurfaceT]):
    """Base of control maps (B, V, T, K, H, W) that show maps of a surface; subclasses say of which."""

    @classmethod
    def maps(cls, config: Any) -> tuple[str, ...]:
        """The maps of ``MAPS`` that it shows, in their order."""
        return config.maps

    @classmethod
    def map_channels(cls, config: SurfaceT) -> dict[str, int]:
        return {name: MAPS[name] for name in cls.maps(config)}

    @classmethod
    def signal_channels(cls, config: SurfaceT) -> int:
        return sum(cls.map_channels(config).values())

    @classmethod
    def codes(cls, config: SurfaceT) -> Sequence[int]:
        found, first = list[int](), 0
        for name, count in cls.map_channels(config).items():
            found += range(first, first + count) if name in OF_PARTS else ()
            first += count
        return found

    def signal_images(self, signal: Tensor) -> dict[str, Tensor]:
        maps = self.map_channels(self.config)
        parts = signal.split(list(maps.values()), dim=-3)
        return {name: map_picture(name, part) for name, part in zip(maps, parts, strict=True)}

    @abstractmethod
    def draw_map(self, batch: ClipBatch) -> Tensor: ...
