"""A radiance field of a person, told by one photo: the appearance signal of GAS."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from hvg.core.bounds import Count, Depth, Width
from hvg.core.required import required
from hvg.parts.context import SceneContext
from hvg.parts.part import PartConfig
from hvg.parts.reconstructor import Reconstructor, Seen
from hvg.values.clip import ClipBatch
from hvg.values.tensors import map_tensors

from ..nn.body_radiance import BodyRadiance
from ..nn.content_cache import ContentCache
from ..nn.photo_features import PhotoEncoder, Picture
from ..nn.volume_rendering import RaySamples, accumulate, samples_inside
from ..people.posed_people import Places, PosedPeople, Rays, posed_people

# Metres behind or before the body that a photo shows, beyond which it does not matter how many.
_BEHIND = 0.3


class NerfConfig(PartConfig):
    """Settings of the field, its network, and how rays are cast."""

    width: Width = Field(64, description="Channels of the MLP.")
    depth: Depth = Field(5, description="Layers of the MLP, the first of which takes the inputs.")
    features: tuple[Width, Width] = Field(
        (16, 32), description="Channels of the photo's features at full and half size."
    )
    told: tuple[Width, Width] = Field(
        (16, 12),
        description="Channels of the photo's features where the point rides on the pelvis, and at its nearest vertex.",
    )
    whole: Width = Field(24, description="Channels of the feature of the whole photo.")
    frequencies: int = Field(
        4, ge=1, le=16, description="Sines and cosines of a position's coordinates, each twice as fast."
    )
    samples: int = Field(24, ge=2, le=1024, description="Samples on each ray.")
    shell: float = Field(
        0.2,
        ge=0.01,
        le=2,
        description="Metres from the skin within which there may be something: of 2 cm, the median of loose clothes, 9 for nine "
        "tenths of what is seen of them, 21 for 99 of 100.",
    )
    inside: float = Field(
        0.035, ge=0, le=1, description="Metres below the skin at which a ray ends; nothing is seen through that point."
    )
    thickness: float = Field(0.012, ge=0, le=0.5, description="Metres from the skin at which an untrained field ends.")
    sharpness: float = Field(
        100.0, ge=1, le=1e4, description="How fast an untrained field's density falls there, per metre of distance."
    )
    opacity: float = Field(50.0, ge=1, le=1e5, description="Density, per metre, where the network says one.")
    march: int = Field(
        64, ge=8, le=4096, description="Pieces of a ray of which it is seen whether they are near the skin."
    )
    cell: float = Field(
        0.06,
        ge=0.005,
        le=0.5,
        description="Metres between the nodes of the grid in which the nearest skin is looked up.",
    )
    chunk: Count = Field(2048, description="Rays at once, which bounds the memory.")
    kept_megabytes: int = Field(
        512, ge=0, le=10**6, description="Memory for grids and other things that are the same in every step, on a CPU."
    )


@dataclass(frozen=True, kw_only=True)
class _Looks:
    """What the photos say, to be looked up in three ways, (B) pictures each, and of each as a whole, (B, G)."""

    pixel: Picture
    pelvis: Picture
    vertex: Picture
    whole: Tensor


class Nerf(Reconstructor[NerfConfig]):
    """A field around the body that the network fills by what the photo shows, seen by volume rendering before nothing.

    A point near the posed skin is taken to the body at rest by the inverse of its nearest vertex' blended skinning, and from
    there to the pose of the photo. Three looks at the photo tell its density and colour: where the point is in it, where it
    would be if it rode on the pelvis, as loose clothes do, and where its vertex or that one's mirror image is seen; and one
    feature of the whole. Of several photos the first counts.

    Source: GAS (arXiv 2502.06957), section 3.2, and SHERF (arXiv 2303.12791). There: features of ResNet18 in planes, pixels and
    sparse voxels, fused by attention; 5 cm of shell; no frame of the pelvis, which is what coats and skirts need.
    """

    requires = frozenset({"reference", "body", "body.vertices", "body.skinning", "cameras"})

    def __init__(self, config: NerfConfig, context: SceneContext) -> None:
        super().__init__(config, context)
        self.renderer = context.renderer
        self.encoder = PhotoEncoder(4, config.features, config.whole)
        pelvis, vertex = config.told
        self.for_pelvis = torch.nn.Conv2d(self.encoder.channels, pelvis, 1)
        self.for_vertex = torch.nn.Conv2d(self.encoder.channels, vertex, 1)
        # By its pixel; and colour, alpha and features of all three looks, and whether the vertex is known.
        told = 2 + self.encoder.channels + pelvis + vertex + 3 * 4 + 1
        self.radiance = BodyRadiance(told, config.whole, config.width, config.depth, config.frequencies, candidates=3)
        self._kept = ContentCache(config.kept_megabytes * 2**20)

    def flops(self, rays: int, photo: tuple[int, int]) -> int | None:
        height, width = photo
        looks = (self.for_pelvis.weight.numel() + self.for_vertex.weight.numel()) * height * width
        points = rays * self.config.samples * self.radiance.multiplications
        return 2 * (points + looks + self.encoder.multiplications(height, width))

    def render(
        self, batch: ClipBatch, pixels: Tensor | None = None, draws: Sequence[torch.Generator] | None = None
    ) -> Seen:
        """Raises: DataError where photo and clip have other meshes, or a body without a pelvis; HvgError for what is missing."""
        with torch.autocast(batch.cameras.intrinsics.device.type, enabled=False):
            clips, views, frames = batch.grid
            height, width = batch.cameras.image_size
            device = batch.cameras.intrinsics.device
            if pixels is not None:
                moments = pixels // (height * width) % frames
                first = frames * torch.arange(clips, device=device)[:, None]
                return self._seen(batch, pixels, (moments + first).unique(), draws)
            every = torch.arange(views * frames * height * width, device=device).expand(clips, -1)
            seen = self._seen(batch, every, torch.arange(clips * frames, device=device), draws)
            return map_tensors(seen, lambda x: x.unflatten(1, (views, frames, height, width)))

    def _seen(self, batch: ClipBatch, pixels: Tensor, frames: Tensor, draws: Sequence[torch.Generator] | None) -> Seen:
        """At pixels (B, N), which are of ``frames`` (F), counted through B and T."""
        renderer = required(self.renderer, "Context.renderer")
        people = posed_people(batch, frames, self.config.shell, self.config.cell, renderer, self._kept)
        looks = self._look(batch, people)
        count = pixels.shape[1]
        jitter = None if draws is None else _jitter(draws, count, self.config.samples, pixels.device)
        pieces = []
        for part in torch.arange(pixels.numel(), device=pixels.device).split(self.config.chunk):
            rays = Rays.through(batch.cameras, part // count, pixels.flatten()[part], frames)
            pieces.append(self._cast(people, looks, rays, None if jitter is None else jitter[part]))
        colour, alpha, depth = (torch.cat(x).unflatten(0, pixels.shape) for x in zip(*pieces, strict=True))
        return Seen(colour=colour, alpha=alpha, depth=depth)

    def _look(self, batch: ClipBatch, people: PosedPeople) -> _Looks:
        """What the photos show, by the encoder."""
        photo = required(batch.reference, "ClipBatch.reference")
        frames = photo.frames[:, 0].float()
        alpha = torch.ones_like(frames[:, :1]) if photo.alpha is None else photo.alpha[:, 0].float()
        seen = torch.cat([frames * alpha, alpha], dim=1)
        weight = self.for_pelvis.weight
        features, whole = self.encoder(seen.to(weight), alpha.to(weight))
        pelvis, vertex = self.for_pelvis(features), self.for_vertex(features)
        body = torch.stack([torch.stack([shown.depth, shown.coverage]) for shown in people.shown])
        return _Looks(
            pixel=Picture.of(torch.cat([seen, features.float(), body], dim=1)),
            pelvis=Picture.of(torch.cat([seen, pelvis.float()], dim=1)),
            vertex=Picture.of(torch.cat([seen, vertex.float()], dim=1)),
            whole=whole,
        )

    def _cast(
        self, people: PosedPeople, looks: _Looks, rays: Rays, jitter: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Colour (Q, 3), alpha (Q) and depth (Q) along rays (Q)."""
        total = len(rays.slot)
        reached, samples, opaque = self._near_the_skin(people, rays, jitter)
        rays, count = rays.some(reached), self.config.samples
        points = rays.at(samples.place)
        slots, clip = (x[:, None].expand(-1, count).flatten() for x in (rays.slot, rays.clip))
        directions = torch.nn.functional.normalize(rays.direction, dim=-1)[:, None].expand_as(points).flatten(0, 1)
        facts, places, found = people.near(points.flatten(0, 1), directions, slots)
        told, candidates = _told(looks, places, clip)
        skin = self.config.sharpness * (self.config.thickness - facts.distance)
        density, colour = self.radiance(facts, told, looks.whole, clip, candidates, skin)
        density = self.config.opacity * density * found
        made = accumulate(
            density.unflatten(0, (-1, count)),
            colour.unflatten(0, (-1, count)),
            samples.place,
            samples.length * rays.direction.norm(dim=-1),
            opaque,
        )
        # The other rays see nothing.
        colour, alpha, depth = (x.new_zeros(total, *x.shape[1:]).index_copy(0, reached, x) for x in made)
        return colour, alpha, depth

    def _near_the_skin(
        self, people: PosedPeople, rays: Rays, jitter: Tensor | None
    ) -> tuple[Tensor, RaySamples, Tensor]:
        """Which rays come near the skin, (R) int64; samples on those where they do; whether they end in the body, (R) bool."""
        config = self.config
        near, far = people.grid.crossed(rays.origin, rays.direction, rays.slot)
        reached = (far > near).nonzero()[:, 0]
        rays, near, far = rays.some(reached), near[reached], far[reached]
        step = (far - near) / config.march
        places = rays.origin, rays.direction, rays.slot
        inside, opaque = people.grid.near_pieces(places, near, step, config.march, (config.shell, config.inside))
        alive = inside.any(dim=1).nonzero()[:, 0]
        reached = reached[alive]
        samples = samples_inside(
            inside[alive], near[alive], step[alive], config.samples, None if jitter is None else jitter[reached]
        )
        return reached, samples, opaque[alive]


def _told(looks: _Looks, places: Places, clip: Tensor) -> tuple[list[Tensor], Tensor]:
    """What the photos tell of M points, (M, k) each, and the colours (M, 3, 3) at the three places where each is looked up."""
    pixel = looks.pixel.at(places.pixel, clip)
    pixel, depth, coverage = pixel[:, :-2], pixel[:, -2:-1], pixel[:, -1:]
    behind = (places.depth[:, None] - depth / coverage.clamp_min(1e-3)).clamp(-_BEHIND, _BEHIND) / _BEHIND
    skin = places.skin
    known = skin.known[:, None].to(pixel)
    # Looked up once for each vertex, whatever the number of points beside it.
    vertex = torch.cat([looks.vertex.at(skin.where, skin.clip) * known, known], dim=1).index_select(0, places.nearest)
    pelvis = looks.pelvis.at(places.pelvis, clip)
    colours = [look[:, :3] / look[:, 3:4].clamp_min(1e-3) for look in (pixel, pelvis, vertex)]
    told = [pixel, behind * coverage, coverage, pelvis, vertex]
    return told, torch.stack(colours, dim=1).detach().clamp(-1, 1)


def _jitter(draws: Sequence[torch.Generator], count: int, samples: int, device: torch.device) -> Tensor:
    """(B N, S) in [0, 1), of each clip by its own generator."""
    return torch.cat([torch.rand(count, samples, generator=draw) for draw in draws]).to(device)
