"""Every value of every row as a dot on a line, with the same item joined from row to row, as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from statistics import median

from hvg.chart import bounds, colour, svg, tick_label, ticks

WIDTH, ROW = 560, 34
LEFT, RIGHT, TOP, BOTTOM = 214, 16, 10, 42
# As many letters of a row's label as fit to the left of the axis.
LABEL_LETTERS = 28


@dataclass(frozen=True)
class Strip:
    """One row. colour: index. values: item -> finite value."""

    label: str
    colour: int
    values: Mapping[str, float]


def strip_chart(strips: Sequence[Strip], x_label: str, names: Mapping[str, str]) -> str:
    """An ``<svg>`` with a row per strip; a bar marks its median. names: item -> what a pointer reads. "" without a value."""
    strips = [strip for strip in strips if strip.values]
    if not strips:
        return ""
    x_range = bounds((value for strip in strips for value in strip.values.values()), margin=0.03)
    height = TOP + ROW * len(strips) + BOTTOM
    parts = [_axes(strips, x_range, x_label, height)]
    parts += [_item(item, name, strips, x_range) for item, name in names.items()]
    parts += [_median(strip, row, x_range) for row, strip in enumerate(strips)]
    return svg(WIDTH, height, f"{x_label} of every clip", parts)


def _x(value: float, x_range: tuple[float, float]) -> float:
    return LEFT + (value - x_range[0]) / (x_range[1] - x_range[0]) * (WIDTH - LEFT - RIGHT)


def _y(row: int) -> float:
    return TOP + ROW * (row + 0.5)


def _item(item: str, name: str, strips: Sequence[Strip], x_range: tuple[float, float]) -> str:
    """One item's dots and the line that joins them."""
    found = [
        (f"{_x(strip.values[item], x_range):.1f}", f"{_y(row):.1f}", strip)
        for row, strip in enumerate(strips)
        if item in strip.values
    ]
    dots = "".join(
        f'<circle class="{colour(strip.colour)}" cx="{x}" cy="{y}" r="4">'
        f"<title>{escape(name)}\n{escape(strip.label)}: {strip.values[item]:.4g}</title></circle>"
        for x, y, strip in found
    )
    points = " ".join(f"{x},{y}" for x, y, _ in found)
    return f'<g class="item"><title>{escape(name)}</title><polyline points="{points}"/>{dots}</g>'


def _median(strip: Strip, row: int, x_range: tuple[float, float]) -> str:
    middle, y = median(strip.values.values()), _y(row)
    place = f'x1="{_x(middle, x_range):.1f}" x2="{_x(middle, x_range):.1f}" y1="{y - 12:.1f}" y2="{y + 12:.1f}"'
    return f'<line class="median" {place}><title>{escape(strip.label)}: median {middle:.4g}</title></line>'


def _axes(strips: Sequence[Strip], x_range: tuple[float, float], x_label: str, height: float) -> str:
    bottom, parts = height - BOTTOM, []
    for value in ticks(*x_range, count=6):
        x = _x(value, x_range)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{tick_label(value)}</text>')
    for row, strip in enumerate(strips):
        y, label = _y(row), strip.label
        short = label if len(label) <= LABEL_LETTERS else label[: LABEL_LETTERS - 1].rstrip() + "…"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        title = f"<title>{escape(label)}</title>"
        parts.append(
            f'<text class="row" x="{LEFT - 12}" y="{y + 4:.1f}" text-anchor="end">{title}{escape(short)}</text>'
        )
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{height - 6}" text-anchor="middle">{escape(x_label)}</text>')
    return "".join(parts)
