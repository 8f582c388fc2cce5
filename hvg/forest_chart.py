"""Differences with their intervals beside 0, a row each, as inline SVG that is still legible in a narrow window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from hvg.chart import bounds, colour, svg, tick_label, ticks
from hvg.number_format import format_difference
from hvg.statistics import Interval

# As wide as a narrow window, so that letters are hardly shrunk there.
WIDTH, ROW = 400, 44
LEFT, RIGHT, TOP, BOTTOM = 10, 10, 22, 44
# As many letters of a label as fit beside the numbers.
LABEL_LETTERS = 30


@dataclass(frozen=True)
class Effect:
    """One row. colour: index. value: what the row's own value is. settled: whether the difference is told from 0."""

    label: str
    colour: int
    difference: Interval
    value: float
    settled: bool


def forest_chart(effects: Sequence[Effect], x_label: str, *, higher_is_better: bool | None) -> str:
    """An ``<svg>`` with a row per effect; a filled dot is settled, a ring is not. "" without an effect.

    higher_is_better: None where neither side is better.
    """
    if not effects:
        return ""
    x_range = bounds([0.0, *(x for effect in effects for x in _finite(effect.difference))], margin=0.04)
    height = TOP + ROW * len(effects) + BOTTOM
    parts = [_axes(x_range, x_label, height, higher_is_better)]
    parts += [_row(effect, row, x_range) for row, effect in enumerate(effects)]
    return svg(WIDTH, height, f"{x_label}: {len(effects)} differences with their intervals", parts)


def _finite(difference: Interval) -> list[float]:
    return [x for x in (difference.mean, difference.low, difference.high) if math.isfinite(x)]


def _x(value: float, x_range: tuple[float, float]) -> float:
    """Pixels; a bound that is infinite ends at the border."""
    share = (value - x_range[0]) / (x_range[1] - x_range[0])
    return LEFT + min(1.0, max(0.0, share)) * (WIDTH - LEFT - RIGHT)


def _row(effect: Effect, row: int, x_range: tuple[float, float]) -> str:
    d, y = effect.difference, TOP + ROW * (row + 0.75)
    numbers = format_difference(d, effect.value)
    low, mean, high = (_x(x, x_range) for x in (d.low, d.mean, d.high))
    label = effect.label
    short = label if len(label) <= LABEL_LETTERS else label[: LABEL_LETTERS - 1].rstrip() + "…"
    title = f"<title>{escape(label)}: {numbers}</title>"
    dot = "dot" if effect.settled else "dot ring"
    ends = "".join(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 5:.1f}" y2="{y + 5:.1f}"/>' for x in (low, high))
    return (
        f'<g class="effect {colour(effect.colour)}">{title}'
        f'<text class="row" x="{LEFT}" y="{y - 14:.1f}">{escape(short)}</text>'
        f'<text x="{WIDTH - RIGHT}" y="{y - 14:.1f}" text-anchor="end">{numbers}</text>'
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>{ends}'
        f'<circle class="{dot}" cx="{mean:.1f}" cy="{y:.1f}" r="5"/></g>'
    )


def _axes(x_range: tuple[float, float], x_label: str, height: float, higher_is_better: bool | None) -> str:
    bottom, parts = height - BOTTOM, []
    for value in ticks(*x_range, count=5):
        x = _x(value, x_range)
        style = "zero" if value == 0 else "grid"
        parts.append(f'<line class="{style}" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{tick_label(value)}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>')
    worse, better = ("start", "end") if higher_is_better else ("end", "start")
    places = {"start": LEFT, "end": WIDTH - RIGHT}
    arrows = {("start", "better"): "← better", ("end", "better"): "better →"}
    arrows |= {("start", "worse"): "← worse", ("end", "worse"): "worse →"}
    for anchor, side in ((worse, "worse"), (better, "better")) if higher_is_better is not None else ():
        parts.append(f'<text x="{places[anchor]}" y="{TOP - 10}" text-anchor="{anchor}">{arrows[anchor, side]}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{height - 8}" text-anchor="middle">{escape(x_label)}</text>')
    return "".join(parts)
