"""Shapes of training steps, and which clips have a place in which."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache

# (height, width), pixels.
Picture = tuple[int, int]
# (V, T, H, W) of a clip.
Size = tuple[int, int, int, int]


def centre_crop(picture: Picture, size: Picture) -> tuple[int, int, Picture]:
    """Top, left, (height, width) of the largest part in the middle of ``picture`` that has the aspect of ``size``, to a pixel."""
    height = min(picture[0], max(1, round(picture[1] * size[0] / size[1])))
    width = min(picture[1], max(1, round(picture[0] * size[1] / size[0])))
    return (picture[0] - height) // 2, (picture[1] - width) // 2, (height, width)


@dataclass(frozen=True)
class Bucket:
    """Shape of the clips of a step. size: (height, width) that their pictures are brought to; None: as they are."""

    views: int
    frames: int
    size: Picture | None = None

    @staticmethod
    def of(shape: Sequence[int]) -> "Bucket":
        """The bucket that settings write as [views, frames] or [views, frames, height, width]."""
        views, frames, *size = shape
        return Bucket(views, frames, (size[0], size[1]) if size else None)

    def __str__(self) -> str:
        return " x ".join(map(str, (self.views, self.frames, *(self.size or ()))))

    def misfit(self, clip: Size, max_crop: float) -> str | None:
        """Why a clip of this size has no place here; None where it has. max_crop: as of ``DataConfig``."""
        views, frames, *picture = clip
        if views < self.views:
            return f"more views than its {views}"
        if frames < self.frames:
            return f"more frames than its {frames}"
        if self.size is None:
            return None
        height, width = picture
        _, _, inner = centre_crop((height, width), self.size)
        if inner[0] < self.size[0] or inner[1] < self.size[1]:
            return f"pictures would be enlarged from {height} x {width}"
        lost = 1 - inner[0] * inner[1] / (height * width)
        return f"{lost:.0%} of a picture of {height} x {width} would be cut away" if lost > max_crop else None


@dataclass(frozen=True)
class Source:
    """The dataset of a mixture that clips come from. weight: of the sum of all weights so many steps draw them."""

    label: str = ""
    weight: int = 1


@dataclass(frozen=True)
class Group:
    """Clips of one source, by their indices in the dataset, and the buckets that each of them has a place in, one at least."""

    clips: Sequence[int]
    buckets: tuple[Bucket, ...]
    source: Source = Source()


def alike(count: int, *buckets: Bucket) -> list[Group]:
    """So many clips that all fit all of the buckets."""
    return [Group(range(count), buckets)]


def aspect_distance(picture: Picture, other: Picture) -> Fraction:
    """By how much the sides' ratios of two (height, width) differ: 1 for equal ones, 2 for a square and 1 to 2."""
    ratio = Fraction(picture[0] * other[1], picture[1] * other[0])
    return max(ratio, 1 / ratio)


def places(buckets: Sequence[Bucket], clip: Size, max_crop: float) -> tuple[Bucket, ...]:
    """The buckets of a clip, with the size that its pictures have there: of those it fits the ones of the nearest aspect."""
    picture = clip[2:]
    fitting = [replace(b, size=b.size or picture) for b in buckets if not b.misfit(clip, max_crop)]
    distances = [aspect_distance(b.size or picture, picture) for b in fitting]
    return tuple(b for b, distance in zip(fitting, distances, strict=True) if distance == min(distances))


def groups(
    buckets: Sequence[Bucket], sizes: Sequence[Size], max_crop: float, sources: Sequence[Source] | None = None
) -> list[Group]:
    """The clips of these sizes, those of the same places and source together; without the clips that have no place.

    sources: of every clip; None: all are of one.
    """
    known = cache(lambda size: places(buckets, size, max_crop))
    found: dict[tuple[tuple[Bucket, ...], Source], list[int]] = {}
    for index, size in enumerate(sizes):
        source = sources[index] if sources else Source()
        found.setdefault((known(size), source), []).append(index)
    return [Group(clips, *key) for key, clips in found.items() if key[0]]


def sources_of(clips: Iterable[str], weights: Mapping[str, int]) -> list[Source] | None:
    """The source of every clip, which its id begins with; None where there are no weights, as in all but a mixture."""
    known = {label: Source(label, weight) for label, weight in weights.items()}
    return [known[clip.partition("/")[0]] for clip in clips] if known else None


def unfit(buckets: Sequence[Bucket], sizes: Mapping[str, Size], max_crop: float) -> dict[str, str]:
    """Clip id -> why none of the buckets has a place for it, in words; of the clips for which none has."""

    @cache
    def reason(size: Size) -> str | None:
        reasons = {str(bucket): bucket.misfit(size, max_crop) for bucket in buckets}
        return None if None in reasons.values() else ", ".join(f"{name}: {why}" for name, why in reasons.items())

    return {clip: why for clip, size in sizes.items() if (why := reason(size))}


def evaluated_size(buckets: Sequence[Bucket], picture: Picture) -> Picture:
    """(height, width) that the pictures of a clip are brought to where all of it is sampled: the nearest aspect that training
    has; of several the largest to which nothing is enlarged, or else the smallest.
    """
    sizes = sorted({b.size or picture for b in buckets}, key=lambda size: size[0] * size[1])
    nearest = min(aspect_distance(size, picture) for size in sizes)
    same = [size for size in sizes if aspect_distance(size, picture) == nearest]
    whole = [size for size in same if size[0] <= picture[0] and size[1] <= picture[1]]
    return whole[-1] if whole else same[0]
