"""Charts of the report: differences with intervals, learning curves, values over time and view angle, and every clip's value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from hvg.chart import legend
from hvg.finding import headline
from hvg.forest_chart import Effect, forest_chart
from hvg.labels import readable
from hvg.line_chart import Line, line_chart, smooth
from hvg.record import ScoreRecord
from hvg.report_table import choice
from hvg.results import (
    Arm,
    Cell,
    MetricInfo,
    Results,
    carries_verdict,
    comparison_arm,
    is_decided,
    metric_heading,
    stands_apart,
)
from hvg.score_facts import clip_values, per_clip_metrics, scores
from hvg.strip_chart import Strip, strip_chart

# What Lightning logs beside the quantities of interest.
NOT_CHARTED = frozenset({"step", "epoch"})

# Pairs (x, y); no y where nothing was measured.
Curve = Sequence[Sequence[float | None]]


def forest_section(results: Results, cells: Mapping[str, Mapping[str, Cell]]) -> str:
    """The differences to the first arm under a metric that the reader chooses, first the one that answers the question."""
    answers = headline(results, cells)
    first = comparison_arm(results)
    metrics = [
        metric
        for metric in results["metrics"]
        if any(_effects(metric, results, cells, apart) for apart in (False, True))
    ]
    if answers is None or first is None or not metrics:
        return ""
    shown = answers if answers in metrics else metrics[0]
    charts = "".join(
        f'<div class="forest charts" data-metric="{escape(metric["name"])}"{"" if metric is shown else " hidden"}>'
        f"{_forest(metric, results, cells)}</div>"
        for metric in metrics
    )
    meaning = f"A line is the 95 % interval of the difference to {escape(first['label'])}, which is at 0. " + (
        "A filled dot: corrected p below 0.05; a ring: not told from 0."
        if is_decided(cells)
        else "One seed: nothing is decided, so all are rings."
    )
    return (
        f"<section><h2>Differences to {escape(first['label'])}</h2>{choice('forest', metrics, shown)}{charts}"
        f'<p class="note">{meaning}</p></section>'
    )


def _forest(metric: MetricInfo, results: Results, cells: Mapping[str, Mapping[str, Cell]]) -> str:
    """Two charts of a metric: what stands apart lies too far off for one scale."""
    parts = []
    for apart, title in ((False, "the arms"), (True, "apart from the arms")):
        effects = _effects(metric, results, cells, apart)
        side = metric["higher_is_better"] if carries_verdict(metric) else None
        chart = forest_chart(effects, f"difference in {metric_heading(metric)}", higher_is_better=side)
        parts += [f"<figure><figcaption>{title}</figcaption>{chart}</figure>"] if chart else []
    return "".join(parts)


def _effects(
    metric: MetricInfo, results: Results, cells: Mapping[str, Mapping[str, Cell]], apart: bool
) -> list[Effect]:
    found = []
    for index, arm in enumerate(results["arms"]):
        cell = cells[arm["name"]].get(metric["name"])
        if cell is not None and cell.difference is not None and stands_apart(arm) == apart:
            found.append(Effect(arm["label"], index, cell.difference, cell.value, cell.verdict != ""))
    return found


def learning_curves_section(results: Results) -> str:
    """A chart per logged quantity, with a line per seed."""
    arms = [(index, arm) for index, arm in enumerate(results["arms"]) if arm["kind"] == "arm"]
    points = [point for _, arm in arms for curve in _curves(arm) for point in curve]
    # A dict keeps the order in which quantities first appear: the loss before validation metrics.
    names = {name: None for point in points for name in point if name not in NOT_CHARTED}
    charts = []
    for name in names:
        lines = [line for index, arm in arms for line in _curve_lines(arm, index, name)]
        # The first steps of a loss tower over the rest.
        shown, title = (0.98, "loss (smoothed)") if name == "loss" else (1.0, readable(name))
        charts.append((line_chart(lines, "training step", title, shown=shown), lines))
    return _charts("<h2>Learning curves</h2>", charts)


def _charts(heading: str, charts: Sequence[tuple[str, list[Line]]]) -> str:
    """Charts with what they show, under one legend of all their lines; "" where no chart shows anything."""
    if not any(chart for chart, _ in charts):
        return ""
    entries = {line.label: line.colour for _, lines in charts for line in lines if line.points}
    items = "".join(f'<div class="scroll">{chart}</div>' for chart, _ in charts if chart)
    return f'<section>{heading}{legend(entries)}<div class="charts">{items}</div></section>'


def _curves(arm: Arm) -> list[list[dict[str, float]]]:
    """One curve per seed, or the arm's own."""
    per_seed = [curve for seed in arm["seeds"] if (curve := seed.get("curve"))]
    return per_seed or [arm.get("curve") or []]


def _curve_lines(arm: Arm, colour: int, name: str) -> list[Line]:
    """The curves of one quantity, one per seed in one colour; the loss is smoothed over a twentieth of its length."""
    lines = []
    for curve in _curves(arm):
        # A loss that diverged would spread over all smoothed points.
        points = [(point["step"], point[name]) for point in curve if _is_number(point.get(name))]
        lines.append(Line(arm["label"], colour, smooth(points, len(points) // 40) if name == "loss" else points))
    return lines


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def error_curves_section(results: Results) -> str:
    """A chart per metric that has more than one point over time, and over view angle."""
    note = '<p class="note">Mean over clips and seeds, and over views or frames. A pointer reads a dot\'s value.</p>'
    time = _metric_charts(results, "frame", lambda score: list(enumerate(score["over_time"])))
    angle = _metric_charts(results, "angle of the view to the photo (degrees)", lambda score: score["over_angle"])
    return _charts(f"<h2>Over time</h2>{note}", time) + _charts(f"<h2>Over the view angle</h2>{note}", angle)


def _metric_charts(
    results: Results, x_label: str, points_of: Callable[[ScoreRecord], Curve]
) -> list[tuple[str, list[Line]]]:
    """A chart, with a line per arm, of every metric of which some arm has more than one point."""
    charts = []
    for metric in results["metrics"]:
        lines = [
            Line(arm["label"], index, _mean_curve([points_of(score) for score in scores(arm, metric["name"])]))
            for index, arm in enumerate(results["arms"])
        ]
        if any(len(line.points) > 1 for line in lines):
            charts.append((line_chart(lines, x_label, metric_heading(metric)), lines))
    return charts


def _mean_curve(curves: Sequence[Curve]) -> list[tuple[float, float]]:
    """Mean over seeds at every x that one of them has a value at."""
    found: dict[float, list[float]] = {}
    for curve in curves:
        for x, y in curve:
            if x is not None and y is not None and math.isfinite(y):
                found.setdefault(x, []).append(y)
    return [(x, sum(values) / len(values)) for x, values in sorted(found.items())]


def distributions_section(results: Results) -> str:
    """A chart per metric with values of clips: every clip's value under every arm."""
    names = {clip["clip_id"]: f"{clip['clip_id']} (subject {clip['subject']})" for clip in results["clips"]}
    charts = []
    for metric in per_clip_metrics(results):
        strips = [
            Strip(arm["label"], index, clip_values(arm, metric["name"], results))
            for index, arm in enumerate(results["arms"])
        ]
        charts.append(strip_chart(strips, metric_heading(metric), names))
    charts = "".join(f'<div class="scroll">{chart}</div>' for chart in charts if chart)
    if not charts:
        return ""
    note = "A dot is a clip, mean over seeds; a thin line joins the same clip from arm to arm; a bar is the median."
    return f'<section><h2>Every clip at a glance</h2><p class="note">{note}</p><div class="charts">{charts}</div></section>'
