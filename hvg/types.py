"""The values that flow through the framework: frozen dataclasses of tensors in the canonical order B V T C H W."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from hvg.cameras import Cameras, close_a_circle

# What places in a video are counted in: the whole clip or request, or the step or window that is denoised together.
Within = Literal["grid", "window"]


def _map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """``value`` with ``function`` applied to every tensor in it (dataclasses, mappings and tuples are walked)."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Cameras):
        return replace(value, world_to_camera=function(value.world_to_camera), intrinsics=function(value.intrinsics))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _map_tensors(getattr(value, f.name), function) for f in fields(value)})
    if isinstance(value, Mapping):
        return {key: _map_tensors(item, function) for key, item in value.items()}
    return value


def _count_bytes(value: Any, size: Callable[[Tensor], int]) -> int:
    total = 0

    def count(x: Tensor) -> Tensor:
        nonlocal total
        total += size(x)
        return x

    _map_tensors(value, count)
    return total


@dataclass(frozen=True, kw_only=True)
class BodyMotion:
    """The motion of one person per clip; it does not depend on the view.

    joints: (B, T, J, 3), world, metres, in the order of ``joint_names`` (SMPL-X names).
    bone_radii: (B, N) metres, radius of every bone of ``hvg.geometry.skeleton.BONES`` across its axis, or None.
    vertices: (B, T, P, 3), world, metres: the bare body's mesh, or None. faces: (F, 3) int64, shared by all clips.
    parameters: the body model's own parameters of every frame by name, each (B, T, ...); ``rotations`` (B, T, 22, 3, 3),
    where there are any, turn the SMPL-X body joints from the T-pose to the pose, in world axes.
    constants: the body model's own parameters that hold for the whole clip, such as the person's build, each (B, ...).
    """

    joints: Tensor
    joint_names: tuple[str, ...]
    bone_radii: Tensor | None = None
    vertices: Tensor | None = None
    faces: Tensor | None = None
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    constants: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The photo(s) that say who the person is.

    frames: (B, R, 3, H, W) sRGB in [-1, 1]; alpha: (B, R, 1, H, W) in [0, 1]; cameras: (B, R) or None;
    body: the person in the photo (its T axis is R) or None.
    """

    frames: Tensor
    alpha: Tensor | None = None
    cameras: Cameras | None = None
    body: BodyMotion | None = None


@dataclass(frozen=True, kw_only=True)
class ViewGrid:
    """Where the views at hand stand: among all views of their clip, and in the world.

    view_index: (B, V) int64, place of every view among all views of its clip. num_views: (B,) int64, how many those are.
    circle: (B,) bool, whether those close a circle, so that the last is next to the first (``hvg.cameras.close_a_circle``).
    cameras: (B, V, t) of the aligned pictures, one for every latent frame; at a site of a backbone their image size is that
    of the site, (h, w) cells.
    """

    view_index: Tensor
    num_views: Tensor
    circle: Tensor
    cameras: Cameras

    @staticmethod
    def whole(cameras: Cameras) -> ViewGrid:
        """All views of clips with these cameras (B, V, T)."""
        (b, v, _), device = cameras.shape, cameras.intrinsics.device
        return ViewGrid(
            view_index=torch.arange(v, device=device).expand(b, v),
            num_views=torch.full((b,), v, device=device),
            circle=close_a_circle(cameras),
            cameras=cameras,
        )

    def select(self, views: Sequence[int] | Tensor | slice, frames: Sequence[int] | Tensor | slice) -> ViewGrid:
        """Some of the views and frames, in the order given; what they are part of stays."""
        v, t = (x if isinstance(x, slice) else torch.as_tensor(x) for x in (views, frames))
        return replace(self, view_index=self.view_index[:, v], cameras=self.cameras[:, v][:, :, t])

    def resized(self, image_size: tuple[int, int]) -> ViewGrid:
        """The same views at another size (height, width), such as that of a backbone's site."""
        return replace(self, cameras=self.cameras.resized(image_size))

    def steps(self) -> Tensor:
        """How many places lie between any two of the views, (B, V, V) int64; around the circle the shorter way."""
        apart = (self.view_index[:, :, None] - self.view_index[:, None]).abs()
        return torch.where(self.circle[:, None, None], apart.minimum(self.num_views[:, None, None] - apart), apart)

    @staticmethod
    def stack(grids: Sequence[ViewGrid]) -> ViewGrid:
        """Grids of equal shapes, one after the other along B."""
        return _stack(list(grids))


@dataclass(frozen=True, kw_only=True)
class ClipBatch:
    """Clips of people seen by several cameras over time.

    frames: (B, V, T, 3, H, W) sRGB in [-1, 1], None when they are to be generated. alpha: (B, V, T, 1, H, W) in [0, 1].
    cameras: (B, V, T). body: the motion. reference: the photo. task: (B,) int64, 0 novel view, 1 novel pose
    (``hvg.task``).
    signals: already rendered control maps by ``hvg.data.signal_key``, (B, V, T, K, H, W), as ``Conditioner.signal`` says.
    valid: (B, V, T) bool, False where a ragged clip is padded. driving: (B, T, 3, H, W), a video whose motion is wanted.
    origin: (B, 1, T) cameras of the first view of the grid that this is a part of; None: that of these views.
    view_index (B, V), num_views (B,), circle (B,): as of ``ViewGrid``, of all views that the data or the request hold, of
    which these may be some; None: these are all.
    frame_index: (B, T) int64, position of every frame in its clip. sample_index: (B,) int64, place of every clip in the
    training order; with the run's seed it keys the clip's noise. The host draws that, so it stays on the CPU.
    clip_id: one name per clip.
    subject: one name per clip, the same for all clips of one person.
    num_valid: in training, how many pictures of each clip are valid, so that nobody has to ask a device for it.
    unreadable: in training, why the clip that belongs in a place cannot be read, one text per clip, "" where it can; another
    clip, nowhere valid, fills the place.
    What frozen networks made of the clip ahead of training, aligned and at full size (``hvg prepare latents``): latents
    (B, V, t, C, h, w), the codec's of the frames, which then stay on the disk; coverage (B, V, t, 1, h, w), mean alpha of
    every latent cell; features by ``Conditioner.features_key``, (B, ...), of the photo.
    """

    cameras: Cameras
    clip_id: tuple[str, ...]
    subject: tuple[str, ...]
    frames: Tensor | None = None
    alpha: Tensor | None = None
    body: BodyMotion | None = None
    reference: Reference | None = None
    task: Tensor | None = None
    signals: Mapping[str, Tensor] = field(default_factory=dict)
    latents: Tensor | None = None
    coverage: Tensor | None = None
    features: Mapping[str, Tensor] = field(default_factory=dict)
    valid: Tensor | None = None
    driving: Tensor | None = None
    origin: Cameras | None = None
    view_index: Tensor | None = None
    num_views: Tensor | None = None
    circle: Tensor | None = None
    frame_index: Tensor | None = None
    sample_index: Tensor | None = None
    caption: tuple[str, ...] | None = None
    num_valid: tuple[int, ...] | None = None
    unreadable: tuple[str, ...] | None = None

    @property
    def grid(self) -> tuple[int, int, int]:
        """(B, V, T)."""
        b, v, t = self.cameras.shape
        return b, v, t

    def view_grid(self) -> ViewGrid:
        """Where its views stand among all views of their clips, and its cameras."""
        if self.view_index is None or self.num_views is None or self.circle is None:
            return ViewGrid.whole(self.cameras)
        return ViewGrid(view_index=self.view_index, num_views=self.num_views, circle=self.circle, cameras=self.cameras)

    def present(self) -> frozenset[str]:
        """Names of the fields that hold something; mesh vertices count as ``body.vertices``."""
        names = set()
        for f in fields(self):
            value = getattr(self, f.name)
            if value is not None and not (isinstance(value, Mapping) and not value):
                names.add(f.name)
        if self.body is not None and self.body.vertices is not None:
            names.add("body.vertices")
        return frozenset(names)

    def nbytes(self) -> int:
        """Bytes of all its tensors."""
        return _count_bytes(self, lambda x: x.nbytes)

    def to(self, *args, **kwargs) -> ClipBatch:
        """The same batch on another device; a floating type changes floating tensors only. ``sample_index`` stays."""
        moved = _map_tensors(
            self, lambda x: x.to(*args, **kwargs) if x.is_floating_point() else _to_device(x, *args, **kwargs)
        )
        return replace(moved, sample_index=self.sample_index)

    def pin_memory(self) -> ClipBatch:
        """The same batch in memory from which a GPU copies by itself; a loader asks for it."""
        return _map_tensors(self, lambda x: x.pin_memory())

    def select(
        self, views: Sequence[int] | Tensor | None = None, frames: Sequence[int] | Tensor | None = None
    ) -> ClipBatch:
        """The batch restricted to some views and frames, in the order given; the reference, the origin and what the views
        are part of are kept.

        Latents are taken to have a frame for every frame of the video.
        """
        v = slice(None) if views is None else torch.as_tensor(views)
        t = slice(None) if frames is None else torch.as_tensor(frames)

        def grid(x: Tensor | None) -> Tensor | None:
            return None if x is None else x[:, v][:, :, t]

        body = self.body and replace(
            self.body,
            joints=self.body.joints[:, t],
            vertices=None if self.body.vertices is None else self.body.vertices[:, t],
            parameters={key: value[:, t] for key, value in self.body.parameters.items()},
        )
        origin = self.cameras[:, :1] if self.origin is None else self.origin
        views_of = self.view_grid().select(v, t)
        return replace(
            self,
            origin=origin[:, :, t],
            view_index=views_of.view_index,
            num_views=views_of.num_views,
            circle=views_of.circle,
            frames=grid(self.frames),
            alpha=grid(self.alpha),
            latents=grid(self.latents),
            coverage=grid(self.coverage),
            valid=grid(self.valid),
            cameras=views_of.cameras,
            body=body,
            driving=None if self.driving is None else self.driving[:, t],
            frame_index=None if self.frame_index is None else self.frame_index[:, t],
            signals={key: value[:, v][:, :, t] for key, value in self.signals.items()},
        )

    def shrunk(self, factor: int) -> ClipBatch:
        """The batch with pictures whose sides are divided by ``factor``: every pixel the mean of a square of pixels.

        What was made of the pictures at full size is left out.
        """
        if factor == 1:
            return self

        def small(x: Tensor | None) -> Tensor | None:
            if x is None:
                return None
            return avg_pool2d(x.flatten(0, -4), factor).unflatten(0, x.shape[:-3])

        def resized(cameras: Cameras | None) -> Cameras | None:
            return cameras and cameras.resized((cameras.image_size[0] // factor, cameras.image_size[1] // factor))

        reference = self.reference and replace(
            self.reference,
            frames=small(self.reference.frames),
            alpha=small(self.reference.alpha),
            cameras=resized(self.reference.cameras),
        )
        return replace(
            self,
            frames=small(self.frames),
            alpha=small(self.alpha),
            driving=small(self.driving),
            cameras=resized(self.cameras),
            origin=resized(self.origin),
            reference=reference,
            signals={key: small(value) for key, value in self.signals.items()},
            latents=None,
            coverage=None,
            features={},
        )

    def clips(self, index: slice) -> ClipBatch:
        """The batch restricted to some clips, given as a slice of the B axis."""
        part = _map_tensors(self, lambda x: x[index])
        body = self.body and replace(part.body, faces=self.body.faces)
        reference = part.reference
        if self.reference is not None and self.reference.body is not None:
            reference = replace(reference, body=replace(reference.body, faces=self.reference.body.faces))
        caption = None if self.caption is None else self.caption[index]
        unreadable = None if self.unreadable is None else self.unreadable[index]
        num_valid = None if self.num_valid is None else self.num_valid[index]
        return replace(
            part,
            body=body,
            reference=reference,
            clip_id=self.clip_id[index],
            subject=self.subject[index],
            caption=caption,
            num_valid=num_valid,
            unreadable=unreadable,
        )

    @staticmethod
    def stack(batches: Sequence[ClipBatch]) -> ClipBatch:
        """One batch of all clips; every batch has to hold the same fields and sizes.

        Raises: ValueError when the batches disagree in what they hold.
        """
        if len({b.present() for b in batches}) != 1:
            raise ValueError(f"clips hold different fields: {sorted({tuple(sorted(b.present())) for b in batches})}")
        first = batches[0]
        stacked = _stack(list(batches))
        return replace(
            stacked,
            clip_id=tuple(name for b in batches for name in b.clip_id),
            subject=tuple(name for b in batches for name in b.subject),
            caption=None if first.caption is None else tuple(c for b in batches for c in (b.caption or ())),
            num_valid=None if first.num_valid is None else tuple(n for b in batches for n in (b.num_valid or ())),
            unreadable=None if first.unreadable is None else tuple(r for b in batches for r in (b.unreadable or ())),
        )


def _to_device(x: Tensor, *args, **kwargs) -> Tensor:
    device = kwargs.get("device", next((a for a in args if isinstance(a, (str, torch.device))), None))
    return x if device is None else x.to(device=device, non_blocking=kwargs.get("non_blocking", False))


def _stack(values: list[Any]) -> Any:
    """Concatenates along B, field by field; values that are no tensors are taken from the first."""
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(values)
    if isinstance(first, Cameras):
        return replace(
            first,
            world_to_camera=torch.cat([v.world_to_camera for v in values]),
            intrinsics=torch.cat([v.intrinsics for v in values]),
        )
    if isinstance(first, BodyMotion):
        parts = {f.name: _stack([getattr(v, f.name) for v in values]) for f in fields(first) if f.name != "faces"}
        return replace(first, **parts)
    if is_dataclass(first) and not isinstance(first, type):
        return replace(first, **{f.name: _stack([getattr(v, f.name) for v in values]) for f in fields(first)})
    if isinstance(first, Mapping):
        return {key: _stack([v[key] for v in values]) for key in first}
    return first


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """What one conditioner, or all of them merged, gives the backbone. An empty port stays empty.

    The axes V and t of a port may be 1: what it holds is then the same for every view, or frame.

    residuals[site]: (B, V, t, C, h, w), added to the backbone's features at a named site.
    tokens: (B, V, t, L, D), appended to the cross-attention context. L is the conditioner's choice, the same in every batch.
    channels: (B, V, t, K, h, w), concatenated to the noisy latents.
    embedding: (B, V, t, E), added to the noise-level embedding.
    memory[site]: (B, V, t, M, D), extra keys and values for spatial self-attention at a site.
    losses: named auxiliary losses (B,), added to the loss.
    """

    residuals: Mapping[str, Tensor] = field(default_factory=dict)
    tokens: Tensor | None = None
    channels: Tensor | None = None
    embedding: Tensor | None = None
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    losses: Mapping[str, Tensor] = field(default_factory=dict)

    def map(self, function: Callable[[Tensor], Tensor]) -> Conditioning:
        """Applies ``function`` to every port's tensor (auxiliary losses are left out)."""
        return replace(_map_tensors(replace(self, losses={}), function), losses=self.losses)

    def expand(self, views: int, frames: int) -> Conditioning:
        """The ports with all their views and latent frames; nothing is copied."""
        return self.map(lambda x: x.expand(-1, views, frames, *x.shape[3:]))

    def nbytes(self) -> int:
        """Bytes that the ports hold."""
        return _count_bytes(replace(self, losses={}), lambda x: x.untyped_storage().nbytes())

    def where(self, keep: Tensor, other: Conditioning) -> Conditioning:
        """This conditioning for clips where ``keep`` (B,) is true, ``other`` elsewhere; both fill the same ports."""

        def choose(a: Tensor, b: Tensor) -> Tensor:
            return torch.where(keep.view(-1, *[1] * (a.ndim - 1)), a, b)

        return replace(
            self,
            residuals={site: choose(x, other.residuals[site]) for site, x in self.residuals.items()},
            memory={site: choose(x, other.memory[site]) for site, x in self.memory.items()},
            tokens=None if self.tokens is None else choose(self.tokens, _filled(other.tokens)),
            channels=None if self.channels is None else choose(self.channels, _filled(other.channels)),
            embedding=None if self.embedding is None else choose(self.embedding, _filled(other.embedding)),
        )

    @staticmethod
    def merge(parts: Sequence[Conditioning]) -> Conditioning:
        """All parts as one: residuals and embeddings add; tokens, channels and memory concatenate, in order."""

        def add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
            return b if a is None else a if b is None else a + b

        def cat(a: Tensor | None, b: Tensor | None, dim: int) -> Tensor | None:
            if a is None or b is None:
                return b if a is None else a
            views, frames = (max(a.shape[axis], b.shape[axis]) for axis in (1, 2))
            return torch.cat([x.expand(-1, views, frames, *x.shape[3:]) for x in (a, b)], dim=dim)

        total = Conditioning()
        for part in parts:
            total = Conditioning(
                residuals=_merge_sites(total.residuals, part.residuals, add),
                tokens=cat(total.tokens, part.tokens, -2),
                channels=cat(total.channels, part.channels, 3),
                embedding=add(total.embedding, part.embedding),
                memory=_merge_sites(total.memory, part.memory, lambda a, b: cat(a, b, -2)),
                losses={**total.losses, **part.losses},
            )
        return total

    @staticmethod
    def stack(parts: Sequence[Conditioning]) -> Conditioning:
        """Conditionings of equal shapes, one after the other along B."""
        first = parts[0]
        if len(parts) == 1:
            return first

        def cat(values: list[Tensor | None]) -> Tensor | None:
            return None if values[0] is None else torch.cat([_filled(value) for value in values])

        return Conditioning(
            residuals={site: torch.cat([p.residuals[site] for p in parts]) for site in first.residuals},
            memory={site: torch.cat([p.memory[site] for p in parts]) for site in first.memory},
            tokens=cat([p.tokens for p in parts]),
            channels=cat([p.channels for p in parts]),
            embedding=cat([p.embedding for p in parts]),
        )


def _filled(x: Tensor | None) -> Tensor:
    if x is None:
        raise ValueError("the conditioning that stands in has to fill the same ports")
    return x


def _merge_sites(a: Mapping[str, Tensor], b: Mapping[str, Tensor], combine: Callable) -> dict[str, Tensor]:
    return {site: combine(a.get(site), b.get(site)) for site in [*a, *(s for s in b if s not in a)]}


@dataclass(frozen=True)
class Site:
    """A named place in a backbone: its channel width and its stride relative to the latents."""

    channels: int
    stride: int


@dataclass(frozen=True, kw_only=True)
class Ports:
    """What a backbone accepts, known before any weight exists.

    latent_channels: channels of the latents it denoises. latent_stride: pixels per latent cell (spatial).
    residuals: sites of the residual port. memory: sites of the memory port. token_width, embedding_width: 0 where the
    backbone has no such port. channels: whether more channels may be concatenated to the noisy latents.
    """

    latent_channels: int
    latent_stride: int
    residuals: Mapping[str, Site] = field(default_factory=dict)
    memory: Mapping[str, Site] = field(default_factory=dict)
    token_width: int = 0
    embedding_width: int = 0
    channels: bool = False


@dataclass(frozen=True, kw_only=True)
class ConditioningSpec:
    """Which ports a conditioner fills and how widely, known before any weight exists.

    residuals, memory: site -> channels. tokens: width D, 0 for none. channels: K added to the noisy latents.
    embedding: width E, 0 for none.
    """

    residuals: Mapping[str, int] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)
    tokens: int = 0
    channels: int = 0
    embedding: int = 0


@dataclass(frozen=True)
class Window:
    """A part of the V x t grid that is denoised together at one step.

    views, frames: indices into the grid. weights: (len(views), len(frames)), positive; the engine normalises them.
    """

    views: tuple[int, ...]
    frames: tuple[int, ...]
    weights: Tensor
