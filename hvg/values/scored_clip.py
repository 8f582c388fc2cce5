"""Scored clip: a clip that a model made, and what is known of the truth, as metrics see it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from hvg.core.eight_bit import frames_to_uint8
from hvg.core.errors import HvgError
from hvg.core.finite import refuse_not_finite
from hvg.core.required import required
from hvg.values.body import BodyMotion
from hvg.values.cameras import Cameras
from hvg.values.clip import ClipBatch, Reference
from hvg.values.truth_print import TruthPrint, print_of

# Regions of a dressed person. The head has neck and hair; collar bones are of the torso, hips of the limbs; loose is what hangs
# free of the body, a skirt or the lower half of a coat.
Region = Literal["head", "hands", "feet", "torso", "limbs", "loose"]
REGIONS: tuple[Region, ...] = get_args(Region)


class NotAvailable(HvgError):
    """A metric has no value here; the message says why: a missing file, or a field that the data do not hold."""


@dataclass(frozen=True, kw_only=True)
class Surface:
    """The true geometry that pixel centres show, of the clothed person; V views, T frames.

    depth: (V, T, H, W) z in camera space, metres, 0 where there is no surface. The rest says which material point a pixel
    shows, and is None where only depth is known. face: (V, T, H, W) int64, -1 where there is no surface. barycentric:
    (V, T, H, W, 3). vertices: (T, P, 3) world, metres. faces: (F, 3) int64. regions: (F,) int64, place in ``REGIONS`` of what
    every face is of; None where the data do not know.
    """

    depth: Tensor
    face: Tensor | None = None
    barycentric: Tensor | None = None
    vertices: Tensor | None = None
    faces: Tensor | None = None
    regions: Tensor | None = None

    def to(self, device: torch.device | str) -> "Surface":
        """The same geometry on another device."""
        return _moved(self, device)


@dataclass(frozen=True)
class Told:
    """What a model's conditioners made of a clip. numbers: slot -> (V, t, D) of every view and latent frame; V is 1 where views
    are told the same. frames: of the clip, with which the t latent frames end.
    """

    numbers: Mapping[str, Tensor]
    frames: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ScoredClip:
    """One clip: pictures as 8 bits hold them, so that a score is that of a file.

    prediction, truth: (V, T, 3, H, W) uint8 sRGB. valid: (V, T) bool, False where a ragged clip is padded.
    alpha: (V, T, H, W) float in [0, 1], the true coverage by the person. cameras: (V, T). body: the true motion (B = 1).
    reference: the photo (B = 1). task: as of ``hvg.values.task``. surface: makes the true geometry, when asked; None where it is
    not known. told: makes what the model was told, when asked; None where no model made the prediction.
    Fields that the data do not hold are None. note: what a reader of its scores has to know of its files; "" for nothing.
    """

    clip_id: str
    subject: str
    prediction: Tensor
    truth: Tensor
    valid: Tensor
    alpha: Tensor | None = None
    cameras: Cameras | None = None
    body: BodyMotion | None = None
    reference: Reference | None = None
    task: int | None = None
    surface: Callable[[], Surface] | None = None
    told: Callable[[], Told] | None = None
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("prediction", "truth"):
            frames = getattr(self, name)
            if frames.dtype != torch.uint8 or frames.ndim != 5 or frames.shape[2] != 3:
                raise ValueError(f"{name} has to be (V, T, 3, H, W) uint8, got {tuple(frames.shape)} {frames.dtype}")
        if self.prediction.shape[:2] != self.truth.shape[:2]:
            given = [tuple(frames.shape[:2]) for frames in (self.prediction, self.truth)]
            raise ValueError(f"clip '{self.clip_id}': prediction has (V, T) = {given[0]}, the truth {given[1]}")

    @property
    def grid(self) -> tuple[int, int]:
        """(V, T)."""
        views, frames = self.truth.shape[:2]
        return views, frames

    @property
    def truth_print(self) -> TruthPrint:
        """What the true frames that are scored are known by."""
        return print_of(self.truth.shape, self.valid, [self.truth])

    def require(self, names: Iterable[str]) -> None:
        """Raises: NotAvailable naming the fields that are None."""
        missing = sorted(name for name in names if getattr(self, name) is None)
        if missing:
            raise NotAvailable(f"needs {', '.join(missing)}, which clip '{self.clip_id}' does not hold")

    def within(self, region: Region) -> "ScoredClip":
        """The same clip as if all but a region were predicted rightly: outside it the prediction is the truth, and ``alpha`` is
        1 on the pixels whose centres show the region, 0 elsewhere.

        Raises: NotAvailable where the data do not know it; ValueError where the surface is that of pictures of another size.
        """
        self.require({"surface"})
        surface = required(self.surface, "surface")()
        if surface.face is None or surface.regions is None:
            raise NotAvailable(
                f"needs to know of what part of the person a pixel is, which clip '{self.clip_id}' does not tell"
            )
        if surface.face.shape != (*self.grid, *self.truth.shape[-2:]):
            raise ValueError(f"the surface is for {tuple(surface.face.shape)}, the truth is {tuple(self.truth.shape)}")
        face = surface.face.to(self.truth.device)
        shown = surface.regions.to(face.device)[face] == REGIONS.index(region)
        inside = shown & (face >= 0)
        prediction = self.prediction.where(inside[:, :, None], self.truth)
        return replace(self, prediction=prediction, alpha=inside.float())

    def map(self, change: "Callable[[ScoredClip], ScoredClip]") -> "ScoredClip":
        """The clip changed; as ``LongClip.map``, which changes every piece."""
        return change(self)

    def with_surface(self, surface: Callable[[], Surface]) -> "ScoredClip":
        """The same clip with what makes its geometry; it is made once, when first asked for."""
        return replace(self, surface=cache(surface))

    def to(self, device: torch.device | str) -> "ScoredClip":
        """The same clip on another device, with its geometry."""
        moved, surface = _moved(replace(self, surface=None), device), self.surface
        return moved if surface is None else moved.with_surface(lambda: surface().to(device))


def _moved(value: Any, device: torch.device | str) -> Any:
    """The same value with every tensor inside on another device."""
    if isinstance(value, (Tensor, Cameras)):
        return value.to(device)
    if isinstance(value, (ScoredClip, Surface, BodyMotion, Reference)):
        return replace(value, **{f.name: _moved(getattr(value, f.name), device) for f in fields(value)})
    if isinstance(value, Mapping):
        return {key: _moved(item, device) for key, item in value.items()}
    return value


def true_clip(batch: ClipBatch) -> ScoredClip:
    """The one clip of a batch, with the truth for its prediction. Raises: NotAvailable when it holds no true frames."""
    if batch.frames is None:
        raise NotAvailable(f"clip '{batch.clip_id[0]}' holds no true frames to compare with")
    clip = scored_clips(batch, frames_to_uint8(batch.frames))[0]
    return replace(clip, prediction=clip.truth)


def scored_clips(batch: ClipBatch, frames: Tensor) -> list[ScoredClip]:
    """Every clip of a batch with what was made for it, uint8 (B, V, T, 3, H, W), on the batch's device.

    Raises: NotAvailable when the batch holds no true frames; HvgError naming clips where they are not finite.
    """
    if batch.frames is None:
        raise NotAvailable(f"clip '{batch.clip_id[0]}' holds no true frames to compare with")
    refuse_not_finite(batch.frames, batch.clip_id, "the true frames")
    truth = frames_to_uint8(batch.frames)
    whole = torch.ones(batch.grid, dtype=torch.bool, device=truth.device)
    valid = whole if batch.valid is None else batch.valid
    clips = []
    for i, (clip_id, subject) in enumerate(zip(batch.clip_id, batch.subject, strict=True)):
        one = batch.clips(slice(i, i + 1))
        clips.append(
            ScoredClip(
                clip_id=clip_id,
                subject=subject,
                prediction=frames[i],
                truth=truth[i],
                valid=valid[i],
                alpha=None if one.alpha is None else one.alpha[0, :, :, 0],
                cameras=one.cameras[0],
                body=one.target_body,
                reference=one.reference and replace(one.reference, body=one.reference.target_body, true_body=None),
                task=None if one.task is None else int(one.task),
            )
        )
    return clips
