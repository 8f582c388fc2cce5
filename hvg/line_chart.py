"""A line chart as inline SVG, without a plotting library; colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 40
NUM_COLOURS = 8


@dataclass(frozen=True)
class Line:
    """One curve. label: its legend entry, which lines may share. colour: index. points: (x, y) in the order of x."""

    label: str
    colour: int
    points: Sequence[tuple[float, float]]


def smooth(points: Sequence[tuple[float, float]], reach: int) -> list[tuple[float, float]]:
    """Mean over ``reach`` neighbours on either side, as many as there are at the ends; x stays."""
    sums = [0.0]
    for _, y in points:
        sums.append(sums[-1] + y)
    smoothed = []
    for i, (x, _) in enumerate(points):
        first, last = max(i - reach, 0), min(i + reach + 1, len(points))
        smoothed.append((x, (sums[last] - sums[first]) / (last - first)))
    return smoothed


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` round numbers (1, 2 or 5 times a power of ten) within [low, high]."""
    step = 10 ** math.floor(math.log10((high - low) / count))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= count)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def line_chart(lines: Sequence[Line], x_label: str, y_label: str) -> str:
    """An ``<svg>`` of the lines with axes, grid, ticks; points that are not finite are left out, "" if none is left."""
    lines = [Line(line.label, line.colour, [p for p in line.points if math.isfinite(p[1])]) for line in lines]
    values = sorted(y for line in lines for _, y in line.points)
    if not values:
        return ""
    x_range = _range(x for line in lines for x, _ in line.points)
    # The first steps of a loss tower over the rest; what lies above the 98th percentile is cut off.
    y_range = _range([values[0], values[min(len(values) - 1, int(0.98 * len(values)))]], margin=0.05)
    parts = [_axes(x_range, y_range, x_label, y_label)]
    # An inner svg cuts off what lies outside the axes.
    box = f'x="{LEFT}" y="{TOP}" width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT - TOP - BOTTOM}"'
    view = f'viewBox="{LEFT} {TOP} {WIDTH - LEFT - RIGHT} {HEIGHT - TOP - BOTTOM}"'
    parts += [f"<svg {box} {view}>", *(_polyline(line, x_range, y_range) for line in lines if line.points), "</svg>"]
    label = escape(f"{y_label} over {x_label}", quote=True)
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def legend(lines: Sequence[Line]) -> str:
    """The legend of a chart, as HTML."""
    entries = {line.label: line.colour for line in lines}
    items = "".join(
        f'<li><span class="swatch {_style(colour)}"></span>{escape(label)}</li>' for label, colour in entries.items()
    )
    return f'<ul class="legend">{items}</ul>'


def _range(values, margin: float = 0.0) -> tuple[float, float]:
    values = list(values)
    low, high = min(values), max(values)
    if low == high:
        low, high = low - max(abs(low), 1.0) / 2, high + max(abs(high), 1.0) / 2
    space = margin * (high - low)
    return low - space, high + space


def _x(value: float, bounds: tuple[float, float]) -> float:
    return LEFT + (value - bounds[0]) / (bounds[1] - bounds[0]) * (WIDTH - LEFT - RIGHT)


def _y(value: float, bounds: tuple[float, float]) -> float:
    return HEIGHT - BOTTOM - (value - bounds[0]) / (bounds[1] - bounds[0]) * (HEIGHT - TOP - BOTTOM)


def _style(colour: int) -> str:
    """Class names: eight colours, then the same ones dashed."""
    return f"c{colour % NUM_COLOURS}" + (" dashed" if colour % (2 * NUM_COLOURS) >= NUM_COLOURS else "")


def _polyline(line: Line, x_range: tuple[float, float], y_range: tuple[float, float]) -> str:
    points = " ".join(f"{_x(x, x_range):.1f},{_y(y, y_range):.1f}" for x, y in line.points)
    title = f"<title>{escape(line.label)}</title>"
    return f'<polyline class="line {_style(line.colour)}" points="{points}">{title}</polyline>'


def _axes(x_range: tuple[float, float], y_range: tuple[float, float], x_label: str, y_label: str) -> str:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value in ticks(*y_range):
        y = _y(value, y_range)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in ticks(*x_range, count=6):
        x = _x(value, x_range)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{value:g}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    parts.append(f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>')
    middle = (TOP + bottom) / 2
    turned = f'x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})"'
    parts.append(f"<text {turned}>{escape(y_label)}</text>")
    return "".join(parts)
