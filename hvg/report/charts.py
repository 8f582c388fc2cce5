"""Charts of a study's report: differences with intervals, learning curves, values over time and angle, every clip's value."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go

from hvg.core.labels import readable
from hvg.report.cells import Cell, Cells
from hvg.report.figures import (
    FAINT_GREY,
    INK,
    PAPER,
    Chart,
    Line,
    Points,
    bounds,
    line_chart,
    look,
    new_figure,
    rounded,
    shortened,
    small_ticks,
)
from hvg.report.footnotes import clip_values, per_clip_metrics, scores
from hvg.report.number_format import format_difference
from hvg.report.results import Arm, MetricInfo, Results, carries_verdict, metric_heading, stands_apart
from hvg.score.statistics import Interval

# Columns that Lightning logs beside the quantities of interest.
NOT_CHARTED = frozenset({"step", "epoch"})
# Where an arrow to a better, and to a worse value stands, by whether higher is better.
SIDES = {None: (), True: ("← worse", "better →"), False: ("← better", "worse →")}


class Row(NamedTuple):
    """A difference to the first arm. number: the arm's place among all."""

    number: int
    arm: Arm
    cell: Cell
    difference: Interval


def forest_charts(metric: MetricInfo, results: Results, cells: Cells) -> dict[str, Chart]:
    """The differences to the first arm: title -> chart. What stands apart lies too far off for one scale."""
    found = [(number, arm, cells[arm["name"]].get(metric["name"])) for number, arm in enumerate(results["arms"])]
    rows = [Row(number, arm, cell, cell.difference) for number, arm, cell in found if cell and cell.difference]
    groups = {
        "the arms": [row for row in rows if not stands_apart(row.arm)],
        "apart from the arms": [row for row in rows if stands_apart(row.arm)],
    }
    return {title: _forest_chart(metric, group) for title, group in groups.items() if group}


def _forest_chart(metric: MetricInfo, rows: Sequence[Row]) -> Chart:
    """Differences beside 0, a row each; a filled dot is told from 0, a ring is not."""
    label = f"difference in {metric_heading(metric)}"
    spans = [(row.difference.low, row.difference.mean, row.difference.high) for row in rows]
    low, high = bounds([0.0, *(x for span in spans for x in span if math.isfinite(x))], margin=0.04)
    figure = new_figure(94 + 44 * len(rows), xaxis_title_text=escape(label), margin_t=24)
    figure.update_xaxes(range=[low, high], nticks=5, zeroline=True, zerolinewidth=2, **small_ticks(low, high))
    figure.update_yaxes(range=[len(rows) - 0.6, -0.8], visible=False)
    for y, (row, span) in enumerate(zip(rows, spans, strict=True)):
        numbers, colour = format_difference(row.difference, row.cell.value), look(row.number)["color"]
        # A bound that is infinite ends at the border.
        first, mean, last = (min(high, max(low, x)) for x in span)
        figure.add_scatter(
            x=[mean],
            y=[y],
            error_x={"array": [last - mean], "arrayminus": [mean - first], "color": colour, "thickness": 2, "width": 5},
            marker={"color": colour if row.cell.verdict else PAPER, "size": 11, "line": {"color": colour, "width": 2}},
            hovertext=f"{escape(row.arm['label'])}: {numbers}",
            hoverinfo="text",
        )
        _write_at_ends(figure, (shortened(row.arm["label"]), numbers), y=y, yshift=16)
    sides = SIDES[metric["higher_is_better"] if carries_verdict(metric) else None]
    _write_at_ends(figure, sides, y=1, yshift=20, yref="paper")
    return Chart(f"{label}: {len(rows)} differences with their intervals", figure)


def _write_at_ends(figure: go.Figure, texts: Sequence[str], **place: Any) -> None:
    """Writes the first text at the left, and the second at the right border."""
    for x, anchor, text in zip((0, 1), ("left", "right"), texts, strict=False):
        figure.add_annotation(text=text, x=x, xref="paper", xanchor=anchor, showarrow=False, font_size=13, **place)


def learning_curves(results: Results) -> list[Chart]:
    """A chart per logged quantity, with a line per seed."""
    curves = [
        (number, arm, curve)
        for number, arm in enumerate(results["arms"])
        if arm["kind"] == "arm"
        for curve in [*filter(None, (seed.get("curve") for seed in arm["seeds"]))] or [arm.get("curve") or []]
    ]
    # A dict keeps the order in which quantities first appear: the loss before validation metrics.
    names = {name: None for *_, curve in curves for point in curve for name in point if name not in NOT_CHARTED}
    return logged_charts(
        [(arm["label"], number, {name: _points(curve, name) for name in names}) for number, arm, curve in curves],
        list(names),
    )


def logged_charts(curves: Sequence[tuple[str, int, Mapping[str, Points]]], names: Sequence[str]) -> list[Chart]:
    """A chart for each of these logged quantities, over the steps of training.

    curves: label, number of a look, and name -> points, of each run. A loss is smoothed over a twentieth of its length.
    """
    charts = []
    for name in names:
        found = [(label, number, points[name]) for label, number, points in curves if name in points]
        # The first steps of a loss tower over the rest.
        shown, title = (0.98, "loss (smoothed)") if name == "loss" else (1.0, readable(name.rpartition("/")[2]))
        lines = [Line(label, number, smooth(x, len(x) // 40) if name == "loss" else x) for label, number, x in found]
        charts.append(line_chart(lines, "training step", title, shown=shown))
    return [chart for chart in charts if chart]


def _points(curve: Sequence[Mapping[str, float]], name: str) -> Points:
    """A quantity over the steps at which it was logged."""
    # A loss that diverged would spread over all smoothed points.
    return [(point["step"], point[name]) for point in curve if _is_number(point.get(name))]


def smooth(points: Points, reach: int) -> Points:
    """Mean over ``reach`` neighbours on either side, as many as there are at the ends; x stays."""
    if not points:
        return []
    near, (places, values) = np.ones(2 * reach + 1), zip(*points, strict=True)
    means = np.convolve(values, near, "same") / np.convolve(np.ones(len(values)), near, "same")
    return [*zip(places, means.tolist(), strict=True)]


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def metric_curves(results: Results, key: str, x_label: str) -> list[Chart]:
    """A chart, with a line per arm, of every metric of which some arm has more than one point.

    key: over_time, whose values are of every frame, or over_angle, whose values are pairs.
    """
    charts = []
    for metric in results["metrics"]:
        lines = []
        for number, arm in enumerate(results["arms"]):
            curves = [score[key] for score in scores(arm, metric["name"])]
            pairs = [enumerate(curve) if key == "over_time" else curve for curve in curves]
            lines.append(Line(arm["label"], number, _mean_curve(pairs)))
        if any(len(line.points) > 1 for line in lines):
            charts.append(line_chart(lines, x_label, metric_heading(metric)))
    return charts


def _mean_curve(curves: Sequence[Any]) -> list[tuple[float, float]]:
    """Mean over seeds at every x that one of them has a value at. curves: of pairs (x, y); no y where nothing was measured."""
    found: dict[float, list[float]] = {}
    for curve in curves:
        for x, y in curve:
            if x is not None and _is_number(y):
                found.setdefault(x, []).append(y)
    return [(x, sum(values) / len(values)) for x, values in sorted(found.items())]


def distributions(results: Results) -> list[Chart]:
    """A chart per metric with values of clips: every clip's value under every arm."""
    return [_strip_chart(metric, results) for metric in per_clip_metrics(results)]


def _strip_chart(metric: MetricInfo, results: Results) -> Chart:
    """A row per arm: a dot per clip, joined from row to row, and a bar at the median."""
    values = {number: clip_values(arm, metric["name"], results) for number, arm in enumerate(results["arms"])}
    rows = [number for number, found in values.items() if found]
    labels = {number: escape(results["arms"][number]["label"]) for number in rows}
    title = metric_heading(metric)
    figure = new_figure(56 + 34 * len(rows), xaxis_title_text=escape(title))
    names = [shortened(results["arms"][number]["label"]) for number in rows]
    figure.update_xaxes(**small_ticks(*bounds(value for number in rows for value in values[number].values())))
    figure.update_yaxes(range=[len(rows) - 0.5, -0.5], tickvals=[*range(len(rows))], ticktext=names)
    for clip in results["clips"]:
        name, found = clip["clip_id"], [number for number in rows if clip["clip_id"] in values[number]]
        figure.add_scatter(
            x=[rounded(values[number][name]) for number in found],
            y=[rows.index(number) for number in found],
            name=escape(f"{name} (subject {clip['subject']})"),
            mode="lines+markers",
            line={"color": FAINT_GREY, "width": 1},
            marker={"color": [look(number)["color"] for number in found], "size": 8},
            text=[labels[number] for number in found],
            hovertemplate="%{fullData.name}<br>%{text}: %{x:.4g}<extra></extra>",
        )
    medians = {number: median(values[number].values()) for number in rows}
    figure.add_scatter(
        x=[*medians.values()],
        y=[*range(len(rows))],
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 22, "color": INK, "line_width": 2.5},
        hovertext=[f"{labels[number]}: median {middle:.4g}" for number, middle in medians.items()],
        hoverinfo="text",
    )
    return Chart(f"{title} of every clip", figure)
