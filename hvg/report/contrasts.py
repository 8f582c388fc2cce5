"""Contrasts that a study names beforehand, one arm less another or the difference of two such differences; curves of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hvg.report.cells import Cells
from hvg.report.figures import Chart, Line, bounds, line_chart, small_ticks
from hvg.report.number_format import format_difference, format_p
from hvg.report.results import SIGNIFICANCE, Curves, MetricInfo, Results, metric_heading
from hvg.score.statistics import ClipValues, Interval, holm, paired_difference


@dataclass(frozen=True)
class Contrast:
    """A contrast under one metric. p_holm: corrected for all contrasts under the metric; None for one seed."""

    difference: Interval
    p_holm: float | None

    def __str__(self) -> str:
        p = "" if self.p_holm is None else f", {format_p(self.p_holm)}"
        return f"{format_difference(self.difference, self.difference.mean)}{p}"


# Label -> metric name -> contrast.
Contrasts = Mapping[str, Mapping[str, Contrast]]


def contrasts(results: Results) -> Contrasts:
    """Every contrast of the study under every metric of which clips have values, over the seeds and clips that its arms share."""
    named = results.get("contrasts", {})
    table: dict[str, dict[str, Contrast]] = {label: {} for label in named}
    for metric in (metric["name"] for metric in results["metrics"]):
        found = {label: _interval(results, arms, metric) for label, arms in named.items()}
        known = {label: interval for label, interval in found.items() if interval is not None}
        corrected = holm({label: interval.p for label, interval in known.items() if interval.num_seeds > 1})
        for label, interval in known.items():
            table[label][metric] = Contrast(interval, corrected.get(label))
    return table


def _interval(results: Results, arms: Sequence[str], metric: str) -> Interval | None:
    """The interval of a less b, of arms [a, b], or of (a less b) less (c less d), of [a, b, c, d].

    None where they share no clip's value.
    """
    values = [_per_clip(results, arm, metric) for arm in arms]
    seeds = sorted(set.intersection(*(set(of_seed) for of_seed in values)))
    clips = set.intersection(*(set(of_seed[seed]) for of_seed in values for seed in seeds)) if seeds else set()
    if not clips:
        return None
    # (a less b) less (c less d) is (a and d) less (b and c).
    ahead, behind = ([values[index] for index in sides if index < len(values)] for sides in ((0, 3), (1, 2)))
    a, b = (
        [{clip: sum(of_seed[seed][clip] for of_seed in side) for clip in clips} for seed in seeds]
        for side in (ahead, behind)
    )
    subject_of = {clip["clip_id"]: clip["subject"] for clip in results["clips"]}
    return paired_difference(a, b, subject_of, level=1 - SIGNIFICANCE)


def _per_clip(results: Results, name: str, metric: str) -> dict[int, ClipValues]:
    """Seed -> clip -> value of an arm; empty where it has none."""
    arm = next(arm for arm in results["arms"] if arm["name"] == name)
    found = {seed["seed"]: seed["values"][metric]["per_clip"] for seed in arm["seeds"] if metric in seed["values"]}
    return {seed: values for seed, values in found.items() if values}


class Point(NamedTuple):
    """A point of a curve with its interval; that of an arm, which has none, ends at the point."""

    x: float
    y: float
    low: float
    high: float


def study_curves(results: Results, cells: Cells, found: Contrasts) -> list[tuple[str, list[Chart]]]:
    """Title and charts of the study's curves, a chart per metric: of arms their values, of contrasts with their intervals."""
    charts = []
    for curves in results.get("curves", []):
        of_metrics = [_chart(curves, metric, cells, found) for metric in results["metrics"]]
        charts.append((curves["title"], [chart for chart in of_metrics if chart]))
    return [(title, of_metrics) for title, of_metrics in charts if of_metrics]


def _chart(curves: Curves, metric: MetricInfo, cells: Cells, found: Contrasts) -> Chart | None:
    points = [
        sorted(Point(float(x), *place) for x, name in line.items() if (place := _place(name, metric, cells, found)))
        for line in curves["lines"].values()
    ]
    lines = [Line(label, i, [point[:2] for point in points[i]]) for i, label in enumerate(curves["lines"])]
    chart = line_chart(lines, curves["x"], metric_heading(metric))
    if chart is None:
        return None
    ends = bounds((end for line in points for point in line for end in point[2:]), margin=0.05)
    chart.figure.update_yaxes(range=ends, zeroline=True, **small_ticks(*ends))
    for index, line in enumerate(points):
        spans = {
            "array": [point.high - point.y for point in line],
            "arrayminus": [point.y - point.low for point in line],
        }
        look = {"thickness": 1.4, "width": 4, "visible": any(spans["array"])}
        chart.figure.update_traces(error_y=spans | look, selector=index)
    return chart


def _place(name: str, metric: MetricInfo, cells: Cells, found: Contrasts) -> tuple[float, float, float] | None:
    """Value of an arm or a contrast, and the bounds of its interval; the value again where it has none, or an infinite one."""
    if contrast := found.get(name, {}).get(metric["name"]):
        mean, *ends = contrast.difference.mean, contrast.difference.low, contrast.difference.high
        low, high = (end if math.isfinite(end) else mean for end in ends)
        return mean, low, high
    cell = cells.get(name, {}).get(metric["name"])
    return cell and (cell.value, cell.value, cell.value)
