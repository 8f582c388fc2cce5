"""Parallel coordinates as inline SVG: an axis per parameter and one for the result, a line per trial; axes can be brushed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from statistics import median

from hvg.chart import bounds, svg, ticks
from hvg.number_format import format_number

WIDTH, HEIGHT = 1072, 400
LEFT, RIGHT, TOP, BOTTOM = 90, 90, 64, 16
# Half the width, around an axis, in which a pointer grips it.
GRIP = 14
LABEL_LETTERS = 24


@dataclass(frozen=True)
class Axis:
    """One axis. key: of the values that it shows. names: its values in order, where they are no numbers. log: by logarithm."""

    key: str
    names: tuple[str, ...] = ()
    log: bool = False


@dataclass(frozen=True)
class Trace:
    """One trial. values: of its parameters. result: None where it has none that compares. shade: 0 worst to 1 best."""

    name: str
    values: Mapping[str, float | str]
    result: float | None
    shade: float


def parallel_chart(axes: Sequence[Axis], traces: Sequence[Trace], result: str, lower_is_better: bool) -> str:
    """An ``<svg>`` with the result's axis last, its better end up; "" without a trace that has a result.

    What is far worse than most is drawn at the lower end of that axis.
    """
    results = [trace.result for trace in traces if trace.result is not None]
    if not results:
        return ""
    places = [_parameter_places(axis, traces) for axis in axes]
    worst, best = _result_range(results, lower_is_better)
    marks = [*(_parameter_marks(axis, traces) for axis in axes), _number_marks((worst, best), log=False)]
    xs = [LEFT + (WIDTH - LEFT - RIGHT) * i / len(axes) for i in range(len(axes) + 1)]
    labels = [axis.key for axis in axes] + [result]
    parts = []
    # The best are drawn last, over the others; the axes over them all, to be read.
    for trace in sorted(traces, key=lambda trace: (trace.result is not None, trace.shade)):
        heights = [place[trace.name] for place in places]
        if trace.result is not None:
            heights.append(_height(min(1.0, max(0.0, (trace.result - worst) / (best - worst)))))
        parts.append(_line(trace, xs, heights, result))
    parts += [_axis(x, label, marks[i], i) for i, (x, label) in enumerate(zip(xs, labels, strict=True))]
    parts += [_brush(x, i) for i, x in enumerate(xs)]
    return svg(WIDTH, HEIGHT, f"{result} and the parameters of every trial", parts).replace(
        'class="chart"', 'class="chart parallel"', 1
    )


def _height(share: float) -> float:
    """The y of a value at ``share`` of its axis, counted from below."""
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def _result_range(results: Sequence[float], lower_is_better: bool) -> tuple[float, float]:
    """The values at the lower and the upper end of the result's axis."""
    low, high = bounds(results)
    # Diverged trials would press all others into a line.
    reach = 4 * abs(median(results) - (low if lower_is_better else high)) or high - low
    return (min(high, low + reach), low) if lower_is_better else (max(low, high - reach), high)


def _parameter_range(axis: Axis, traces: Sequence[Trace]) -> tuple[float, float]:
    return bounds(_scaled(axis, float(trace.values[axis.key])) for trace in traces)


def _scaled(axis: Axis, value: float) -> float:
    return math.log10(value) if axis.log else value


def _parameter_places(axis: Axis, traces: Sequence[Trace]) -> dict[str, float]:
    """Trace -> y on a parameter's axis."""
    if axis.names:
        return {t.name: _name_height(axis.names.index(str(t.values[axis.key])), len(axis.names)) for t in traces}
    low, high = _parameter_range(axis, traces)
    return {t.name: _height((_scaled(axis, float(t.values[axis.key])) - low) / (high - low)) for t in traces}


def _name_height(index: int, count: int) -> float:
    return _height((index + 0.5) / count)


def _parameter_marks(axis: Axis, traces: Sequence[Trace]) -> list[tuple[float, str]]:
    if axis.names:
        return [(_name_height(i, len(axis.names)), name) for i, name in enumerate(axis.names)]
    return _number_marks(_parameter_range(axis, traces), axis.log)


def _number_marks(ends: tuple[float, float], log: bool) -> list[tuple[float, str]]:
    """(y, text) of round numbers on an axis from ``ends[0]`` below to ``ends[1]`` above; ends of logarithms with ``log``."""
    low, high = min(ends), max(ends)
    numbers = _log_ticks(low, high) if log else ticks(low, high)
    return [(_height(((math.log10(n) if log else n) - ends[0]) / (ends[1] - ends[0])), f"{n:g}") for n in numbers]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between two logarithms, and numbers between those where there are few."""
    factors = (1, 2, 5) if high - low < 2 else (1, 3) if high - low < 4 else (1,)
    exponents = range(math.floor(low), math.ceil(high) + 1)
    numbers = [factor * 10.0**exponent for exponent in exponents for factor in factors]
    return [n for n in numbers if low - 1e-9 <= math.log10(n) <= high + 1e-9]


def _axis(x: float, label: str, marks: Sequence[tuple[float, str]], number: int) -> str:
    parts = [f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>']
    # Labels of neighbours stand in two rows, for they are longer than the axes are apart.
    y, short = (18, 38)[number % 2], label if len(label) <= LABEL_LETTERS else f"…{label[1 - LABEL_LETTERS :]}"
    parts.append(
        f'<text class="row" x="{x:.1f}" y="{y}" text-anchor="middle">{escape(short)}<title>{escape(label)}</title></text>'
    )
    for height, text in marks:
        parts.append(f'<line class="axis" x1="{x - 4:.1f}" x2="{x:.1f}" y1="{height:.1f}" y2="{height:.1f}"/>')
        cut = text if len(text) <= LABEL_LETTERS else f"{text[: LABEL_LETTERS - 1]}…"
        parts.append(f'<text class="mark" x="{x - 7:.1f}" y="{height + 4:.1f}" text-anchor="end">{escape(cut)}</text>')
    return "".join(parts)


def _line(trace: Trace, xs: Sequence[float], heights: Sequence[float], result: str) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, heights, strict=False))
    read = [f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in trace.values.items()]
    read += [] if trace.result is None else [f"{result} {format_number(trace.result)}"]
    style = "trace" if trace.result is not None else "trace unended"
    title = "\n".join([trace.name, *read])
    return (
        f'<polyline class="{style}" data-trial="{escape(trace.name)}" style="--shade: {trace.shade:.3f}" '
        f'points="{points}"><title>{escape(title)}</title></polyline>'
    )


def _brush(x: float, number: int) -> str:
    # It reaches beyond the axis, so that its ends can be chosen too.
    top, height = TOP - GRIP / 2, HEIGHT - BOTTOM - TOP + GRIP
    place = f'x="{x - GRIP:.1f}" width="{2 * GRIP}"'
    return (
        f'<rect class="chosen" {place} y="{top}" height="0"/>'
        f'<rect class="grip" data-axis="{number}" {place} y="{top}" height="{height}"/>'
    )


STYLE = """
:root { --low: #c9b458; --high: #0b3c8c; }
@media (prefers-color-scheme: dark) { :root { --low: #5a4a86; --high: #f5d547; } }
.parallel .trace { fill: none; stroke-width: 1.6; stroke-linejoin: round; stroke-opacity: 0.8;
  stroke: color-mix(in oklab, var(--high) calc(var(--shade) * 100%), var(--low)); }
.parallel .trace.unended { stroke: var(--quiet); stroke-opacity: 0.35; stroke-dasharray: 4 4; }
.parallel .trace.out { stroke-opacity: 0.04; pointer-events: none; }
.parallel .trace:hover, .parallel .trace.lit { stroke-width: 4; stroke-opacity: 1; }
.parallel text { pointer-events: none; }
.parallel .mark { font-size: 11px; paint-order: stroke; stroke: var(--paper); stroke-width: 5px; stroke-linejoin: round; }
.parallel .grip { fill: transparent; cursor: ns-resize; touch-action: none; }
.parallel .chosen { fill: var(--quiet); fill-opacity: 0.22; }
.shades { display: inline-block; width: 90px; height: 9px; vertical-align: middle; border-radius: 3px;
  background: linear-gradient(in oklab to right, var(--low), var(--high)); }
tr.lit td { background: var(--wash); }
tr.out { opacity: 0.3; }
"""

# Dragging along an axis keeps the lines that cross it there; a click takes the choice back. A pointer on a line lights its
# row of the table, and the other way round.
SCRIPT = """
for (const chart of document.querySelectorAll("svg.parallel")) {
  const traces = [...chart.querySelectorAll(".trace")], chosen = new Map();
  const rowOf = (name) => [...document.querySelectorAll("tr[data-trial]")].find((row) => row.dataset.trial === name);
  const heights = new Map(traces.map((trace) => [trace, [...trace.points].map((point) => point.y)]));
  const heightAt = (event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.getScreenCTM().inverse()).y;
  const choose = () => {
    for (const trace of traces) {
      const out = [...chosen].some(([axis, [top, bottom]]) => {
        const y = heights.get(trace)[axis];
        return !(y >= top && y <= bottom);
      });
      trace.classList.toggle("out", out);
      rowOf(trace.dataset.trial)?.classList.toggle("out", out);
    }
  };
  for (const grip of chart.querySelectorAll(".grip")) {
    const box = grip.previousElementSibling, axis = Number(grip.dataset.axis);
    let from = null;
    const show = (top, bottom) => {
      box.setAttribute("y", top);
      box.setAttribute("height", bottom - top);
    };
    grip.addEventListener("pointerdown", (event) => {
      grip.setPointerCapture(event.pointerId);
      from = heightAt(event);
    });
    grip.addEventListener("pointermove", (event) => {
      if (from === null) return;
      const at = heightAt(event), range = [Math.min(from, at), Math.max(from, at)];
      if (range[1] - range[0] < 3) return;
      chosen.set(axis, range);
      show(...range);
      choose();
    });
    grip.addEventListener("pointerup", (event) => {
      if (Math.abs(heightAt(event) - from) < 3) {
        chosen.delete(axis);
        show(0, 0);
        choose();
      }
      from = null;
    });
  }
  for (const trace of traces) {
    const row = rowOf(trace.dataset.trial);
    for (const [here, there] of [[trace, row], [row, trace]]) {
      here?.addEventListener("pointerenter", () => there?.classList.add("lit"));
      here?.addEventListener("pointerleave", () => there?.classList.remove("lit"));
    }
  }
}
"""
