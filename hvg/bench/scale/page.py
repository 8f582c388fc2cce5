"""The page of ``hvg bench scale``: a section an axis, the ranks, and what was measured."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hvg.bench.page import Section, write_bench_page
from hvg.report.figures import Chart, Line, line_chart

# What is drawn of a step -> unit, and by what the numbers of the record are divided.
QUANTITIES = {
    "seconds": ("seconds a step, nothing hidden", 1.0),
    "memory": ("memory of a GPU, GB", 1e9),
    "sent": ("sent by a GPU in a step, GB", 1e9),
}
LABELS = {"pixels": "pixels of a side", "parameters": "trained weights, billions"}
# A page of the kind that one opens shows so many ranks as ticks.
TICKS = (1, 4, 16, 64, 256, 1024, 4096)


def write_scale_page(path: Path, record: Mapping[str, Any]) -> None:
    """Writes the page of a record of ``hvg.bench.scale.run``."""
    machine = record["machine"]
    sections = [
        _limits(record),
        _over_ranks(record),
        *(_along(record, axis) for axis in record["growth"]),
        *_measured(record),
        Section(title="How it is worked out", notes=record["formulas"]),
    ]
    facts = {
        "configuration": record["words"] or "as composed by default",
        "a step of a GPU": record["step"],
        "GPU": f"{machine['tflops']:g} TFLOP/s at {machine['utilisation']:.0%}, {machine['memory']:g} GB",
        "links": f"{machine['inside']:g} GB/s among {machine['per_node']}, {machine['between']:g} GB/s beyond, "
        f"{machine['latency']:g} µs a hop",
        "commit": record["commit"],
    }
    summary = (
        "How the time of a training step, the memory of a GPU and the bytes that it sends grow, counted on shapes; and where "
        "each strategy stops scaling, and why."
    )
    write_bench_page(path, "Scale", summary, facts, sections, record["command"])


def _limits(record: Mapping[str, Any]) -> Section:
    rows = [
        (
            name,
            "no number of GPUs" if found["fits"] is None else f"from {found['fits']}",
            f"up to {found['memory_shrinks_to']}",
            f"{found['growing'][0]}: {found['growing'][1]}",
            f"{found['fixed'][0]}: {found['fixed'][1]}",
        )
        for name, found in record["limits"].items()
    ]
    heads = (
        "strategy",
        "fits",
        "memory shrinks",
        "scales, batch growing with the GPUs",
        "scales, one batch shared out",
    )
    notes = [
        f"A strategy scales while a GPU computes for {record['enough']:.0%} of a step, if communication hides behind the "
        "backward pass as far as that lasts."
    ]
    return Section(title="Where each strategy stops", notes=notes, heads=heads, rows=rows)


def _over_ranks(record: Mapping[str, Any]) -> Section:
    kinds = {
        "growing": "seconds a step, batch growing with the GPUs",
        "fixed": f"seconds a step, {record['batch']} clips shared out",
        "efficiency": "share of a step in which a GPU computes",
        "memory": "memory of a GPU, GB",
        "sent": "sent by a GPU in a step, GB",
    }
    charts = []
    for key, label in kinds.items():
        scale = 1e9 if key in ("memory", "sent") else 1.0
        lines = [
            Line(name, number, _points(((row["ranks"], row[key]) for row in rows), scale))
            for number, (name, rows) in enumerate(record["ranks"].items())
        ]
        charts.append(_by_doublings(lines, label))
    notes = ["Steps are drawn with as much hidden as can be; one batch shared out ends where every GPU has one clip."]
    return Section(title="GPUs, from 1 to 4,096", notes=notes, charts=[chart for chart in charts if chart])


def _by_doublings(lines: Sequence[Line], label: str) -> Chart | None:
    """Lines over the number of GPUs, which is drawn by its logarithm."""
    logged = [Line(line.label, line.look, [(math.log2(x), y) for x, y in line.points]) for line in lines]
    chart = line_chart(logged, "GPUs", label)
    if chart is not None:
        chart.figure.update_xaxes(
            tickvals=[math.log2(x) for x in TICKS], ticktext=[f"{x:,}" for x in TICKS], dtick=None
        )
        traces: Any = chart.figure.data
        for trace in traces:
            trace.update(hovertemplate="%{y:.4g} on 2^%{x:.0f} GPUs")
    return chart


def _along(record: Mapping[str, Any], axis: str) -> Section:
    """Charts of an axis: a line a strategy."""
    scale = 1e9 if axis == "parameters" else 1.0
    charts = []
    for key, (label, unit) in QUANTITIES.items():
        lines = [
            Line(name, number, [(x / scale, y) for x, y in _points(((row["place"], row[key]) for row in rows), unit)])
            for number, (name, rows) in enumerate(record["growth"][axis].items())
        ]
        charts.append(line_chart(lines, LABELS.get(axis, axis), label))
    title = f"{axis.capitalize()}, on {record['gpus']} GPUs"
    return Section(title=title, charts=[chart for chart in charts if chart])


def _points(pairs: Iterable[tuple[float, float | None]], scale: float) -> list[tuple[float, float]]:
    return [(x, y / scale) for x, y in pairs if y is not None]


def _measured(record: Mapping[str, Any]) -> list[Section]:
    """What this machine measured of it, beside what was counted; none where nothing was."""
    sections = []
    steps = record["measured"].get("steps", {})
    if steps:
        charts = []
        for axis, rows in steps["axes"].items():
            scale = 1e9 if axis == "parameters" else 1.0
            for label, pairs in {
                "seconds a step": (("by its FLOPs", "expected", 1.0), ("measured", "seconds", 1.0)),
                "memory, MB": (("forecast", "forecast", 1e6), ("alive at once", "memory", 1e6)),
            }.items():
                lines = [
                    Line(name, number, [(row["place"] / scale, row[key] / unit) for row in rows])
                    for number, (name, key, unit) in enumerate(pairs)
                ]
                charts.append(line_chart(lines, LABELS.get(axis, axis), label))
        notes = [
            f"{steps['words']}, on {record['hardware']}, one thread, float32. Seconds by FLOPs are at one speed for all points, "
            f"{steps['gflops']:.3g} GFLOP/s, which is fitted; all else is counted.",
            f"Largest error: {steps['worst_seconds']:.0%} of a step's seconds, {steps['worst_memory']:.1%} of its memory.",
        ]
        sections.append(Section(title="Held to steps taken here", notes=notes, charts=[x for x in charts if x]))
    ranks = record["measured"].get("ranks", [])
    if ranks:
        rows = [
            (
                row["strategy"],
                str(row["ranks"]),
                *(f"{row[key] / 1e6:,.4g}" for key in ("sent", "sent_forecast", "peak", "peak_forecast")),
            )
            for row in ranks
        ]
        heads = ("strategy", "ranks", "sent, MB", "as counted", "held, MB", "as counted")
        notes = [
            "Of one rank the real strategy and optimiser, on shapes and with collectives that nobody answers, as in "
            "`hvg train dry_run=`."
        ]
        sections.append(Section(title="Held to what ranks send", notes=notes, heads=heads, rows=rows))
    return sections
