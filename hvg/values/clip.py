"""A batch of clips, and the photo of the person in each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from typing import Literal

from torch import Tensor
from torch.nn.functional import avg_pool2d

from hvg.values.body import MESH_FIELDS, BodyMotion
from hvg.values.cameras import Cameras
from hvg.values.grid import ViewGrid, as_index
from hvg.values.tensors import SHARED, change, concatenate, map_tensors, moved, tensors_of

# Pictures from nearby in a driving video -> what they show: a field of a clip each.
CLOSE_UPS = {"driving_hands": ("left hand", "right hand"), "driving_face": ("face",)}
# Fields of a clip that a driving video fills.
DRIVING = "driving"
DRIVING_FIELDS = (DRIVING, *CLOSE_UPS)
# Range in which places in a video are counted: the whole clip or request, or a step or window denoised together.
Within = Literal["grid", "window"]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The photo(s) that say who the person is.

    frames: (B, R, 3, H, W) sRGB in [-1, 1]; alpha: (B, R, 1, H, W) in [0, 1]; cameras: (B, R) or None;
    body: the person in the photo (its T axis is R) or None; ``true_body``: as of ``ClipBatch``.
    """

    frames: Tensor
    alpha: Tensor | None = None
    cameras: Cameras | None = None
    body: BodyMotion | None = None
    true_body: BodyMotion | None = None

    @property
    def target_body(self) -> BodyMotion | None:
        """The body as it is, whatever a fit makes of it."""
        return self.body if self.true_body is None else self.true_body


@dataclass(frozen=True, kw_only=True)
class ClipBatch:
    """Clips of people seen by several cameras over time.

    frames: (B, V, T, 3, H, W) sRGB in [-1, 1], None when they are to be generated. alpha: (B, V, T, 1, H, W) in [0, 1].
    cameras: (B, V, T). body: the motion, as signals and alignments see it. true_body: the motion as it is, where ``body`` is a
    fit with errors (``Fit``); metrics and targets go by ``target_body``. reference: the photo. task: (B,) int64, 0 novel view,
    1 novel pose
    (``hvg.values.task``).
    signals: already rendered control maps by ``hvg.data.signals.signal_key``, (B, V, T, K, H, W), as ``Conditioner.signal`` says.
    valid: (B, V, T) bool, False where a ragged clip is padded. driving: (B, T, 3, H, W), a video whose motion is wanted, of any
    size. driving_hands: (B, T, 2, 3, h, w), left and right hand in it, cut out or seen from nearby. driving_face:
    (B, T, 1, 3, h, w), the face in it, alike.
    known: (B, V, T) bool, True for pictures that are given and stay as they are while the others are made; None: none is.
    origin: (B, 1, T) cameras of the first view of the grid that this is a part of; None: that of these views.
    view_index (B, V), num_views (B,), circle (B,): as of ``ViewGrid``, of all views that the data or the request hold, of
    which these may be some; None: these are all.
    frame_index: (B, T) int64, position of every frame in its clip. sample_index: (B,) int64, place of every clip in the
    training order; with the run's seed it keys the clip's noise. The host draws that, so it stays on the CPU.
    caption: what is said of each clip, one text per clip, "" where nothing is. clip_id: one name per clip.
    subject: one name per clip, the same for all clips of one person.
    num_valid: in training, how many pictures of each clip are valid, so that nobody has to ask a device for it.
    unreadable: in training, why the clip that belongs in a place cannot be read, one text per clip, "" where it can; another
    clip, nowhere valid, fills the place.
    What frozen networks made of the clip ahead of training, aligned and at full size (``hvg prepare latents``): latents
    (B, V, t, C, h, w), the codec's of the frames, which then stay on the disk; coverage (B, V, t, 1, h, w), mean alpha of
    every latent cell; features by ``Conditioner.features_key``, (B, ...), of the photo or the caption. Where the codec joins
    frames in time (``hvg.values.latent_time``), latents and coverage are of whole clips.
    """

    cameras: Cameras
    clip_id: tuple[str, ...]
    subject: tuple[str, ...]
    frames: Tensor | None = None
    alpha: Tensor | None = None
    body: BodyMotion | None = None
    true_body: BodyMotion | None = None
    reference: Reference | None = None
    task: Tensor | None = None
    signals: Mapping[str, Tensor] = field(default_factory=dict)
    latents: Tensor | None = None
    coverage: Tensor | None = None
    features: Mapping[str, Tensor] = field(default_factory=dict)
    valid: Tensor | None = None
    known: Tensor | None = None
    driving: Tensor | None = None
    driving_hands: Tensor | None = None
    driving_face: Tensor | None = None
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

    @property
    def target_body(self) -> BodyMotion | None:
        """The body as it is, whatever a fit makes of it."""
        return self.body if self.true_body is None else self.true_body

    @property
    def captions(self) -> dict[str, str]:
        """Clip id -> caption, "" for none."""
        return dict(zip(self.clip_id, self.caption or ("",) * len(self.clip_id), strict=True))

    def view_grid(self) -> ViewGrid:
        """Grid of its views: their places among all views of their clips, and its cameras."""
        if self.view_index is None or self.num_views is None or self.circle is None:
            return ViewGrid.whole(self.cameras)
        return ViewGrid(view_index=self.view_index, num_views=self.num_views, circle=self.circle, cameras=self.cameras)

    def present(self) -> frozenset[str]:
        """Names of the fields that hold something; the body's mesh counts as ``body.vertices`` and ``body.skinning``."""
        names = set()
        for f in fields(self):
            value = getattr(self, f.name)
            if value is not None and not (isinstance(value, Mapping) and not value):
                names.add(f.name)
        mesh = (name for name in MESH_FIELDS if getattr(self.body, name.removeprefix("body."), None) is not None)
        return frozenset(names).union(mesh)

    def form(self) -> tuple:
        """What clips have to agree in to be stacked: what they hold, in which sizes, and how joints are called."""
        bodies = (self.body, self.reference and self.reference.body)
        names = tuple(body and body.joint_names for body in bodies)
        return self.present(), self.cameras.image_size, names, *(x.shape[1:] for x in tensors_of(self))

    def nbytes(self) -> int:
        """Bytes of all its tensors."""
        return sum(x.nbytes for x in tensors_of(self))

    def to(self, *args, **kwargs) -> "ClipBatch":
        """The same batch on another device; a floating type changes floating tensors only. ``sample_index`` stays."""
        return moved(self, *args, leave=("sample_index",), **kwargs)

    def pin_memory(self) -> "ClipBatch":
        """The same batch in memory from which a GPU copies by itself; a loader asks for it."""
        return map_tensors(self, lambda x: x.pin_memory())

    def select(
        self, views: Sequence[int] | Tensor | slice | None = None, frames: Sequence[int] | Tensor | slice | None = None
    ) -> "ClipBatch":
        """The batch restricted to some views and frames, in the order given; the reference, the origin and what the views
        are part of are kept. A slice copies nothing.

        Raises: ValueError for some frames of a batch whose latents join frames in time.
        """
        v, t = (slice(None) if places is None else as_index(places) for places in (views, frames))
        part = change(self, ("frames", "alpha", "valid", "known", "signals"), lambda x: x[:, v][:, :, t])
        part = change(part, ("latents", "coverage"), lambda x: x[:, v][:, :, self._latents_of(t)])
        part = change(part, (*DRIVING_FIELDS, "frame_index"), lambda x: x[:, t])
        origin = self.cameras[:, :1] if self.origin is None else self.origin
        bodies = {name: body and body.select(t) for name, body in (("body", self.body), ("true_body", self.true_body))}
        return replace(part, origin=origin[:, :, t], **bodies, **vars(self.view_grid().select(v, t)))

    def _latents_of(self, frames: slice | Tensor) -> slice | Tensor:
        """Index of the latent frames of some frames: the same where every frame has one; else all are of all."""
        count = self.grid[2]
        if self.latents is None or self.latents.shape[2] == count:
            return frames
        chosen = [*range(count)[frames]] if isinstance(frames, slice) else frames.tolist()
        if chosen != [*range(count)]:
            raise ValueError(f"latents that join frames in time are of all {count} frames of a clip, not of some")
        return slice(None)

    def shrunk(self, factor: int) -> "ClipBatch":
        """The batch with pictures whose sides are divided by ``factor``: every pixel the mean of a square of pixels.

        What was made of the pictures at full size is left out. Close-ups stay: no latent cell belongs to a part of them.
        """
        if factor == 1:
            return self

        def small(x: Tensor) -> Tensor:
            return avg_pool2d(x.flatten(0, -4), factor).unflatten(0, x.shape[:-3])

        def resized(cameras: Cameras | None) -> Cameras | None:
            return cameras and cameras.resized((cameras.image_size[0] // factor, cameras.image_size[1] // factor))

        photo = self.reference and change(self.reference, ("frames", "alpha"), small)
        return replace(
            change(self, ("frames", "alpha", "driving", "signals"), small),
            cameras=resized(self.cameras),
            origin=resized(self.origin),
            reference=photo and replace(photo, cameras=resized(photo.cameras)),
            latents=None,
            coverage=None,
            features={},
        )

    def clips(self, index: slice) -> "ClipBatch":
        """The batch restricted to some clips, given as a slice of the B axis."""
        names = {name: values[index] for name, values in self._of_each_clip().items()}
        return replace(map_tensors(self, lambda x: x[index], leave=SHARED), **names)

    @staticmethod
    def stack(batches: "Sequence[ClipBatch]") -> "ClipBatch":
        """One batch of all clips; every batch has to hold the same fields and sizes.

        Raises: ValueError when the batches disagree in what they hold.
        """
        if len({b.present() for b in batches}) != 1:
            raise ValueError(f"clips hold different fields: {sorted({tuple(sorted(b.present())) for b in batches})}")
        names = {name: tuple(chain(*(getattr(b, name) for b in batches))) for name in batches[0]._of_each_clip()}
        return replace(concatenate(batches), **names)

    def _of_each_clip(self) -> dict[str, tuple]:
        """Name -> what is no tensor, one item per clip."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, tuple)}
