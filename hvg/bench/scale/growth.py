"""How a step grows along views, frames, pixels and parameters: configurations along each axis, and what is counted of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hvg.config.composition import compose
from hvg.config.settings import RunConfig
from hvg.core.errors import HvgError
from hvg.cost.forecast import Counts, count

AXES = ("views", "frames", "pixels", "parameters")
# By how much the base's sides, and its channels, are multiplied.
SIDES, CHANNELS = (0.5, 0.75, 1.0, 1.5), (0.5, 1.0, 1.5)
MOST_POINTS = 5


@dataclass(frozen=True)
class Point:
    """A configuration along an axis. place: on the axis: views, frames, pixels of a side, or trained weights."""

    axis: str
    place: float
    config: RunConfig
    counts: Counts


def words_along(words: Sequence[str], base: RunConfig) -> Iterator[tuple[str, list[str]]]:
    """Axis and the words of a configuration, for every point; the base itself is among those of each axis.

    Raises: HvgError for a data set whose sizes its files decide, or a backbone without widths.
    """
    size = _picture(base)
    for axis, whole in (("views", base.data.views), ("frames", base.data.frames)):
        for number in _doublings(whole):
            yield axis, [*words, f"data.{axis}={number}", f"dataset.{axis}={max(number, _of_dataset(base, axis))}"]
    for scale in SIDES:
        # A multiple of what every network here halves.
        side = max(32, round(scale * size / 32) * 32)
        yield "pixels", [*words, f"dataset.image_size={side}"]
    for scale in CHANNELS:
        yield "parameters", [*words, *_wider(base, scale)]


def points(words: Sequence[str], report: Callable[[int, int], None] = lambda done, total: None) -> list[Point]:
    """Every point, counted on shapes: seconds each, the more the deeper the network."""
    base = compose([*words])
    asked = list(words_along(words, base))
    known: dict[str, Counts] = {}
    found = []
    for done, (axis, changed) in enumerate(asked, start=1):
        config = compose(changed)
        key = config.to_yaml()
        if key not in known:
            known[key] = count(config)
        found.append(Point(axis, place_of(axis, config, known[key]), config, known[key]))
        report(done, len(asked))
    return found


def place_of(axis: str, config: RunConfig, counts: Counts) -> float:
    """Where a configuration lies on an axis."""
    if axis == "parameters":
        return counts.sizes.elements
    return _picture(config) if axis == "pixels" else getattr(config.data, axis)


def _doublings(whole: int) -> list[int]:
    """Powers of two up to twice a number, and the number, the largest few."""
    powers = {2**n for n in range(11) if 2**n <= 2 * whole}
    return sorted(powers | {whole})[-MOST_POINTS:]


def _of_dataset(config: RunConfig, axis: str) -> int:
    return getattr(_settings(config), axis)


def _picture(config: RunConfig) -> int:
    return _settings(config).image_size


def _settings(config: RunConfig) -> Any:
    """The data set's. Raises: HvgError where they do not say how large its clips are."""
    settings: Any = config.dataset.config
    if not all(hasattr(settings, name) for name in ("views", "frames", "image_size")):
        raise HvgError(
            f"hvg bench scale changes the sizes of clips, which dataset={config.dataset.name} reads from its files; take "
            "dataset=synthetic, or one of its sizes"
        )
    return settings


def _wider(config: RunConfig, scale: float) -> list[str]:
    """Words of a backbone with so many times the channels, in whole heads."""
    settings: Any = config.backbone.config
    if hasattr(settings, "widths"):
        pairs = [_whole_heads(w, h, scale) for w, h in zip(settings.widths, settings.heads, strict=True)]
        widths, heads = (list(x) for x in zip(*pairs, strict=True))
        return [f"backbone.widths={widths}", f"backbone.heads={heads}"]
    if not hasattr(settings, "width"):
        raise HvgError(f"hvg bench scale does not know how backbone={config.backbone.name} is made wider")
    width, heads = _whole_heads(settings.width, settings.heads, scale)
    words = [f"backbone.width={width}", f"backbone.heads={heads}"]
    if hasattr(settings, "feed_forward"):
        words.append(f"backbone.feed_forward={round(settings.feed_forward * width / settings.width)}")
    return words


def _whole_heads(width: int, heads: int, scale: float) -> tuple[int, int]:
    """Width and heads, so many times larger, of heads as wide; widths stay multiples of 32."""
    of_head = width // heads
    step = 1
    while step * of_head % 32:
        step += 1
    count = max(step, round(scale * heads / step) * step)
    return count * of_head, count
