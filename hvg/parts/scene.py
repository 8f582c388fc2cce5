"""Interfaces of where clips come from: datasets, body models and fits of them, renderers, alignment."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor

from hvg.core.errors import HvgError
from hvg.parts.part import ConfigT, Part
from hvg.values.body import BodyMotion
from hvg.values.buckets import Picture
from hvg.values.cameras import Cameras
from hvg.values.clip import ClipBatch
from hvg.values.resized import resize_clip
from hvg.values.scored_clip import NotAvailable, Surface

if TYPE_CHECKING:
    from hvg.geometry.motion import Motion
    from hvg.parts.context import SceneContext


class Alignment(Part[ConfigT]):
    """Where people are moved in the picture before the network sees them, and back afterwards.

    Whole pixels, so that nothing is interpolated; ``hvg.values.moved`` moves frames, maps and cameras together.
    requires: names of ClipBatch fields that it reads.
    """

    requires: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def per_picture(cls, config: ConfigT) -> bool:
        """Whether a picture's move does not depend on other views and frames, so that it can be encoded ahead."""
        return False

    @abstractmethod
    def offsets(self, batch: ClipBatch) -> Tensor | None:
        """Pixels (x, y) by which every frame is moved, (B, V, T, 2) int64; None where nothing moves."""

    @abstractmethod
    def reference_offsets(self, batch: ClipBatch) -> Tensor | None:
        """Pixels (x, y) by which every reference photo is moved, (B, R, 2) int64; None where nothing moves."""


class BodyModel(Part[ConfigT]):
    """Body parameters -> vertices, joints with SMPL-X names, bone radii."""

    @classmethod
    def content(cls, config: ConfigT) -> str:
        """Text of what its bodies depend on besides the settings, such as a digest of files; it is kept with caches."""
        return ""

    @abstractmethod
    def animate(self, motion: Motion, shape: Mapping[str, float] | None = None, *, mesh: bool = True) -> BodyMotion:
        """The body (B=1) of a person of ``shape`` (the model's own names) in a motion; world, metres."""

    def told_shape(self, motion: Motion) -> dict[str, float] | None:
        """The shape of the motion's own person by the model's own names; None where its file is no body's of this model."""
        return None

    def of_stature(self, shape: Mapping[str, float], stature: float) -> dict[str, float]:
        """The person of ``shape``, but ``stature`` metres tall. Raises: HvgError where the model has nobody of that height."""
        raise HvgError(f"{type(self).__name__} has no people of a given height; give their shape instead")

    def shape_of(self, body: BodyMotion) -> dict[str, float]:
        """The shape, by the model's own names, of a body (B=1) that it animated; nothing where a model has but one."""
        return {}

    def random_shape(self, generator: np.random.Generator) -> dict[str, float]:
        """A grown person's shape by the model's own names; the mean person's where a model has but one."""
        return {}

    def notes(self, motion: Motion) -> list[str]:
        """What a user should be told of how this body takes a motion."""
        return []


class Fit(Part[ConfigT]):
    """What estimators make of the people in a clip: bodies with errors, beside the true ones.

    Signals and alignments see ``ClipBatch.body``; metrics and targets go by ``target_body``. A clip's errors are functions of
    the settings, its clip id and the places of its frames (``frame_index``): some views and frames of a clip have those that
    they have in the whole one, in any process, with a mesh or without. ``hvg.testing.check_fit`` holds a fit to this.
    """

    @classmethod
    def changes(cls, config: ConfigT) -> bool:
        """Whether bodies with these settings differ from the true ones."""
        return True

    @classmethod
    def needs(cls, config: ConfigT) -> frozenset[str]:
        """Names of the ClipBatch fields that it reads."""
        return frozenset({"body"})

    @abstractmethod
    def observe(self, clip: ClipBatch) -> ClipBatch:
        """The clips (B) with ``body``, and the photo's, as a fit has them, and the given ones as ``true_body``.

        Raises: DataError that names a clip whose body has not what the errors need.
        """


class Renderer(Part[ConfigT]):
    """Rasterises triangle meshes."""

    @abstractmethod
    def render(self, vertices: Tensor, faces: Tensor, cameras: Cameras) -> MeshImage:
        """The surface seen at each pixel centre of the cameras (N). faces: (F, 3) int64.

        vertices: (M, P, 3) world metres, M poses of one mesh; M divides N and camera n sees pose n M // N.
        """


@dataclass(frozen=True, kw_only=True)
class MeshImage:
    """A mesh as seen at the pixel centres.

    face: (N, H, W) int64, -1 where nothing is hit. barycentric: (N, H, W, 3) weights of the face's corners.
    depth: (N, H, W) z in camera space, metres, 0 where nothing is hit. normal: (N, H, W, 3) unit outward normal in camera
    axes, interpolated from area-weighted vertex normals, 0 where nothing is hit.
    """

    face: Tensor
    barycentric: Tensor
    depth: Tensor
    normal: Tensor


# From a clip's V and T to the views and the consecutive frames that are wanted; asked again, it answers the same.
Choose = Callable[[int, int], tuple[Sequence[int], range]]


@dataclass(frozen=True, kw_only=True)
class Holdings:
    """Contents of a dataset's files, as far as known without reading a picture.

    sizes: clip id -> (V, T, H, W), of all clips in their order, so that each is drawn for the buckets that it fits. subjects:
    clip id -> whom it shows, as of ``ClipBatch.subject``. digests: clip id -> a digest of its frames, the same for a copy under
    another name; of clips of which it is known. unusable: what of the files cannot be used, of any split -> why. notes: what a
    user has to know of the files, a line each. lossy: with which loss their pictures are kept, in words; None where they are
    kept as they were taken. weights: of a mixture, what a clip's id begins with, up to its first slash -> the weight of those
    clips: of sum(weights) steps so many draw them. captions: clip id -> caption, "" for none, of clips that carry captions.
    """

    sizes: Mapping[str, tuple[int, int, int, int]] = field(default_factory=dict[str, tuple[int, int, int, int]])
    subjects: Mapping[str, str] = field(default_factory=dict[str, str])
    digests: Mapping[str, str] = field(default_factory=dict[str, str])
    unusable: Mapping[str, str] = field(default_factory=dict[str, str])
    notes: tuple[str, ...] = ()
    lossy: str | None = None
    weights: Mapping[str, int] = field(default_factory=dict[str, int])
    captions: Mapping[str, str] = field(default_factory=dict[str, str])


def told_size(config: Any) -> tuple[int, int, int, int] | None:
    """(V, T, H, W) of every clip of a dataset whose settings say it: those named views, frames and image_size; else None."""
    views, frames, size = (getattr(config, name, None) for name in ("views", "frames", "image_size"))
    if not views or not frames or not size:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    return views, frames, height, width


class Dataset(Part[ConfigT]):
    """Clips by index. Loading clip i gives the same values in any process and any order.

    Its ``Config`` has a setting ``split`` that takes ``train``, ``val`` and ``test``; no clip, and so no clip id, belongs to
    two of them. A clip id is one clip's alone. ``hvg.testing.check_dataset`` holds a dataset to all of this. Where ``holdings``
    tells subjects or digests, a run whose splits share some is refused, unless ``evaluation.overlap`` allows it; a dataset
    that does not tell them vouches that its splits have different people.

    Settings named ``views``, ``frames``, ``image_size``, ``distance`` (metres) and ``fov_degrees``, where it has them, say how
    clips are framed: ``hvg sample`` frames a video alike, and ``hvg check`` counts its cost by them.
    beside_clips: names of the settings that change no clip, so that what was prepared stays in use.
    """

    beside_clips: ClassVar[frozenset[str]] = frozenset({"split"})

    def __init__(self, config: ConfigT | None = None, context: SceneContext | None = None) -> None:
        super().__init__(config, context)

    @classmethod
    @abstractmethod
    def provides(cls, config: ConfigT) -> frozenset[str]:
        """Names of the ClipBatch fields that every clip holds; what is not named here, no other part may ask for."""

    @classmethod
    def num_photos(cls, config: ConfigT) -> int | None:
        """How many photos of its person each clip holds at least (R of ``Reference``); None where only the clips say it."""
        return None

    @classmethod
    def eight_bit(cls, config: ConfigT) -> bool:
        """Whether frames, photos and alpha are what 8 bits hold (``hvg.core.eight_bit``), as those of files of pictures are.

        Where they are not, ``hvg prepare`` stores them as floats, four times as large before compression or more.
        """
        return True

    @classmethod
    def drives_itself(cls, config: ConfigT) -> bool:
        """Whether a clip's driving video is the clip itself as one of its own cameras sees it, so that it could be copied."""
        return False

    @classmethod
    def holdings(cls, config: ConfigT) -> Holdings:
        """Contents of the split's files; nothing where there are no files here, or the settings say it (views, frames).

        Raises: DataError for files that are damaged or missing.
        """
        return Holdings()

    @classmethod
    def content(cls, config: ConfigT) -> str:
        """Text of what its clips depend on besides the settings, such as a digest of files; it is kept with caches."""
        return ""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def load(self, index: int) -> ClipBatch:
        """Clip ``index`` with B = 1, all its views and frames."""

    def load_part(self, index: int, choose: Choose, signals: frozenset[str]) -> ClipBatch | None:
        """The views and frames of clip ``index`` that ``choose`` names, as ``select`` gives them, with these control maps at
        least; their pictures may be 8 bits (``hvg.values.packed``).

        None where that is no cheaper than all of the clip, or a map is not there: then ``load`` is asked.
        """
        return None

    def at_size(self, size: Picture, codes: Mapping[str, Sequence[int]]) -> Dataset:
        """The same clips with pictures of ``size`` (height, width), as of ``hvg.values.resized.resize_clip``, codes and all."""
        return ResizedClips(self, lambda picture: size, codes)

    def surface(self, index: int) -> Surface:
        """The true geometry behind the pictures of clip ``index``. Raises: NotAvailable where it is not known."""
        raise NotAvailable(f"the dataset '{type(self).__name__}' does not know the surface behind its pictures")


class ClipsOf(Dataset):
    """The clips of another dataset, changed when they are loaded. Nobody chooses it by name, so it has no settings."""

    def __init__(self, source: Dataset) -> None:
        super().__init__()
        self._source = source

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        raise TypeError("what these clips hold is said by the settings of their source")

    def __len__(self) -> int:
        return len(self._source)

    def surface(self, index: int) -> Surface:
        return self._source.surface(index)


class ResizedClips(ClipsOf):
    """Clips whose pictures are brought to other sizes.

    size_of: from that of a clip, (height, width), to the one that it gets. codes: as of ``hvg.values.resized.resize_clip``.
    """

    def __init__(
        self, source: Dataset, size_of: Callable[[Picture], Picture], codes: Mapping[str, Sequence[int]]
    ) -> None:
        super().__init__(source)
        self._size_of, self._codes = size_of, codes

    def load(self, index: int) -> ClipBatch:
        return self._resized(self._source.load(index))

    def load_part(self, index: int, choose: Choose, signals: frozenset[str]) -> ClipBatch | None:
        part = self._source.load_part(index, choose, signals)
        return part and self._resized(part)

    def surface(self, index: int) -> Surface:
        picture = self._source.load(index).cameras.image_size
        if self._size_of(picture) != picture:
            raise NotAvailable("the surface behind pictures that data.buckets brings to another size is not known")
        return self._source.surface(index)

    def _resized(self, clip: ClipBatch) -> ClipBatch:
        return resize_clip(clip, self._size_of(clip.cameras.image_size), self._codes)
