"""What charts as inline SVG share: round ticks, ranges, colours and legend; colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape

NUM_COLOURS = 8


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` round numbers (1, 2 or 5 times a power of ten) within [low, high]."""
    step = 10 ** math.floor(math.log10((high - low) / count))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    # Twelve digits, counted from the step's first, hide the rounding of the product.
    digits = 12 - math.floor(math.log10(step))
    return [round(i * step, digits) for i in range(first, last + 1)]


def tick_label(value: float) -> str:
    """A round number, with a true minus sign."""
    return f"{value:g}".replace("-", "−")


def bounds(values: Iterable[float], margin: float = 0.0) -> tuple[float, float]:
    """Lowest and highest value, with ``margin`` of their distance on either side; never an empty range."""
    values = list(values)
    low, high = min(values), max(values)
    if low == high:
        reach = abs(low) / 2 or 0.5
        low, high = low - reach, high + reach
    space = margin * (high - low)
    return low - space, high + space


def colour(index: int) -> str:
    """Class names: eight colours, then the same ones dashed."""
    return f"c{index % NUM_COLOURS}" + (" dashed" if index % (2 * NUM_COLOURS) >= NUM_COLOURS else "")


def svg(width: float, height: float, label: str, parts: Iterable[str]) -> str:
    """A chart; label: what a screen reader says of it."""
    head = f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">'
    return f"{head}{''.join(parts)}</svg>"


def legend(entries: Mapping[str, int]) -> str:
    """Label -> colour, as HTML."""
    items = "".join(
        f'<li><span class="swatch {colour(index)}"></span>{escape(label)}</li>' for label, index in entries.items()
    )
    return f'<ul class="legend">{items}</ul>'
