"""A line chart as inline SVG, without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

from hvg.chart import bounds, colour, svg, tick_label, ticks

WIDTH, HEIGHT = 560, 280
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 40
# A line of no more points than this shows each as a dot, whose value a pointer reads.
MOST_DOTS = 40


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


def line_chart(lines: Sequence[Line], x_label: str, y_label: str, *, shown: float = 1.0) -> str:
    """An ``<svg>`` of the lines with axes, grid, ticks; points that are not finite are left out, "" if none is left.

    shown: share of the values, from below, that the y axis holds; what lies above is cut off.
    """
    lines = [replace(line, points=[p for p in line.points if math.isfinite(p[1])]) for line in lines]
    values = sorted(y for line in lines for _, y in line.points)
    if not values:
        return ""
    x_range = bounds(x for line in lines for x, _ in line.points)
    y_range = bounds([values[0], values[min(len(values) - 1, int(shown * len(values)))]], margin=0.05)
    # An inner svg cuts off what lies outside the axes, but for the radius of a dot.
    left, top, width, height = LEFT - 4, TOP, WIDTH - LEFT - RIGHT + 8, HEIGHT - TOP - BOTTOM
    box = f'x="{left}" y="{top}" width="{width}" height="{height}" viewBox="{left} {top} {width} {height}"'
    curves = "".join(_curve(line, x_range, y_range) for line in lines if line.points)
    parts = [_axes(x_range, y_range, x_label, y_label), f"<svg {box}>{curves}</svg>"]
    return svg(WIDTH, HEIGHT, f"{y_label} over {x_label}", parts)


def _x(value: float, x_range: tuple[float, float]) -> float:
    return LEFT + (value - x_range[0]) / (x_range[1] - x_range[0]) * (WIDTH - LEFT - RIGHT)


def _y(value: float, y_range: tuple[float, float]) -> float:
    return HEIGHT - BOTTOM - (value - y_range[0]) / (y_range[1] - y_range[0]) * (HEIGHT - TOP - BOTTOM)


def _curve(line: Line, x_range: tuple[float, float], y_range: tuple[float, float]) -> str:
    places = [(f"{_x(x, x_range):.1f}", f"{_y(y, y_range):.1f}") for x, y in line.points]
    title, label = f"<title>{escape(line.label)}</title>", escape(line.label)
    points = " ".join(f"{x},{y}" for x, y in places)
    curve = f'<polyline class="line {colour(line.colour)}" points="{points}">{title}</polyline>'
    if len(places) > MOST_DOTS:
        return curve
    dots = (
        f'<circle cx="{x}" cy="{y}" r="3.5"><title>{label}: {value:.4g} at {at:.4g}</title></circle>'
        for (x, y), (at, value) in zip(places, line.points, strict=True)
    )
    return f'{curve}<g class="dots {colour(line.colour)}">{"".join(dots)}</g>'


def _axes(x_range: tuple[float, float], y_range: tuple[float, float], x_label: str, y_label: str) -> str:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value in ticks(*y_range):
        y = _y(value, y_range)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick_label(value)}</text>')
    # Between frames, or steps, there is nothing to read.
    whole = all(bound == int(bound) for bound in x_range)
    for value in ticks(*x_range, count=6):
        if whole and value != int(value):
            continue
        x = _x(value, x_range)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{tick_label(value)}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    parts.append(f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>')
    middle = (TOP + bottom) / 2
    turned = f'x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})"'
    parts.append(f"<text {turned}>{escape(y_label)}</text>")
    return "".join(parts)
