"""report.html: a study's question, table, learning curves, videos and provenance in one file that opens from disk.

``hvg.results`` holds the schema of what is reported, the comparison, and the table for the terminal, CSV and JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from hvg.line_chart import Line, legend, line_chart, smooth
from hvg.report_template import PAGE, SCRIPT, STYLE
from hvg.results import (
    Arm,
    Cell,
    MetricInfo,
    Results,
    compare,
    comparison_arm,
    format_difference,
    format_number,
    table_csv,
    table_text,
    write_results,
    write_text,
)
from hvg.video import video_data_uri

__all__ = ["Results", "table_csv", "table_text", "write_report", "write_results"]

# Videos beyond this many characters are linked instead of embedded: mail and code review refuse large files.
MAX_VIDEO_CHARACTERS = 14_000_000
# What Lightning logs beside the quantities of interest.
NOT_CHARTED = frozenset({"step", "epoch"})


def write_report(results: Results, folder: Path) -> Path:
    """Writes report.html into ``folder``, where the clips' videos lie, and returns its path.

    Raises: ValueError when the arms were not measured on the same clips.
    """
    path = Path(folder) / "report.html"
    sections = [
        _header(results),
        _results_section(results),
        _curves_section(results),
        _videos_section(results, path.parent),
        _clips_section(results),
        _arms_section(results),
        _provenance_section(results),
    ]
    body = "\n".join(section for section in sections if section)
    write_text(path, PAGE.format(title=escape(results["title"]), style=STYLE, script=SCRIPT, body=body))
    return path


def _header(results: Results) -> str:
    arms = [arm for arm in results["arms"] if arm["kind"] == "arm"]
    failed = sum(arm["status"] == "failed" for arm in arms)
    seeds = {seed["seed"] for arm in arms for seed in arm["seeds"]}
    subjects = {clip["subject"] for clip in results["clips"]}
    facts = [
        (len(arms), "arms" + (f", {failed} failed" if failed else "")),
        (len(seeds), "seed" if len(seeds) == 1 else "seeds"),
        (len(subjects), "test subjects"),
        (len(results["clips"]), "test clips"),
    ]
    listed = "".join(f"<li><b>{count}</b> {what}</li>" for count, what in facts)
    varies = ", ".join(f"<code>{escape(str(item))}</code>" for item in results["varies"])
    caveats = "".join(f"<li>{escape(text)}</li>" for text in results["caveats"])
    return (
        f'<header><h1>{escape(results["title"])}</h1><p class="question">{escape(results["question"])}</p>'
        f'<ul class="facts">{listed}</ul><p>What varies: {varies}. Everything else is equal.</p>'
        + (f'<h2>Read this first</h2><ul class="caveats">{caveats}</ul>' if caveats else "")
        + "</header>"
    )


def _results_section(results: Results) -> str:
    cells = compare(results)
    heads = "".join(_metric_head(metric) for metric in results["metrics"])
    bodies = []
    for kind, style in (("arm", "arms"), ("baseline", "baselines")):
        rows = [_row(arm, cells[arm["name"]], results["metrics"]) for arm in results["arms"] if arm["kind"] == kind]
        bodies += [f'<tbody class="{style}">{"".join(rows)}</tbody>'] if rows else []
    table = f'<table id="results"><thead><tr>{_head("arm")}{heads}</tr></thead>{"".join(bodies)}</table>'
    return f'<section><h2>Results</h2><div class="scroll">{table}</div>{_table_note(results, cells)}</section>'


def _table_note(results: Results, cells: Mapping[str, Mapping[str, Cell]]) -> str:
    first = comparison_arm(results)
    if first is None:
        return '<p class="note">No arm finished, so there is nothing to compare with.</p>'
    intervals = [cell.difference for row in cells.values() for cell in row.values() if cell.difference]
    one_seed = intervals and max(interval.num_seeds for interval in intervals) == 1
    return (
        '<p class="note">A value is the mean over seeds and clips. Below it: the paired difference to '
        f"<b>{escape(first['label'])}</b> with its 95 % interval (bootstrap over subjects and seeds), coloured where "
        "the interval excludes 0, and the number of subjects on which the row is better. Bold: better than every other "
        "arm, each time with an interval that excludes 0. Intervals are not corrected for the number of comparisons."
        + (" With one seed, they do not cover the luck of a training run." if one_seed else "")
        + "</p>"
    )


def _head(label: str, hint: str = "") -> str:
    return f'<th scope="col" title="{escape(hint)}"><button type="button">{escape(label)}</button></th>'


def _metric_head(metric: MetricInfo) -> str:
    arrow = "↑" if metric["higher_is_better"] else "↓"
    better = "higher is better" if metric["higher_is_better"] else "lower is better"
    words = [metric["label"], f"({metric['unit']})" if metric["unit"] else "", arrow]
    return _head(" ".join(filter(None, words)), f"{better}; {metric['protocol']}")


def _row(arm: Arm, cells: Mapping[str, Cell], metrics: list[MetricInfo]) -> str:
    label = f'<td data-sort="{escape(arm["label"])}">{escape(arm["label"])}'
    if arm["overrides"]:
        label += f'<span class="overrides">{escape(" ".join(arm["overrides"]))}</span>'
    if arm["status"] == "failed":
        reason = escape(arm["error"] or "no reason was recorded")
        return f'<tr>{label}</td><td class="failed" colspan="{len(metrics)}">failed: {reason}</td></tr>'
    if arm["error"]:
        label += f'<span class="difference worse">{escape(arm["error"])}</span>'
    return f"<tr>{label}</td>{''.join(_cell(cells.get(metric['name'])) for metric in metrics)}</tr>"


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "<td>–</td>"
    per_seed = ", ".join(f"seed {seed}: {format_number(value)}" for seed, value in cell.seeds.items())
    below = ""
    if cell.difference is not None:
        below = f'<span class="difference {cell.verdict}">{format_difference(cell.difference)}</span>'
        below += f'<span class="difference">better on {cell.wins}/{cell.difference.num_subjects}</span>'
    style = ' class="best"' if cell.best else ""
    value = f'<span class="value">{format_number(cell.value)}</span>'
    return f'<td{style} data-sort="{cell.value!r}" title="{escape(per_seed)}">{value}{below}</td>'


def _curves_section(results: Results) -> str:
    arms = [arm for arm in results["arms"] if arm["kind"] == "arm"]
    points = [point for arm in arms for curve in _curves(arm) for point in curve]
    # A dict keeps the order in which quantities first appear: the loss before validation metrics.
    names = {name: None for point in points for name in point if name not in NOT_CHARTED}
    charts, shown = [], []
    for name in names:
        lines = [line for index, arm in enumerate(arms) for line in _curve_lines(arm, index, name)]
        chart = line_chart(lines, "training step", "loss (smoothed)" if name == "loss" else name.replace("_", " "))
        charts += [f"<div>{chart}</div>"] if chart else []
        shown += [line for line in lines if line.points]
    if not charts:
        return ""
    return f'<section><h2>Learning curves</h2>{legend(shown)}<div class="charts">{"".join(charts)}</div></section>'


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


def _videos_section(results: Results, folder: Path) -> str:
    figures, used = [], 0
    for clip in results["clips"]:
        path = clip["video"] and folder / clip["video"]
        if not path or not path.is_file():
            continue
        caption = f"<figcaption>{escape(clip['clip_id'])}, subject {escape(clip['subject'])}</figcaption>"
        source = video_data_uri(path)
        if used + len(source) <= MAX_VIDEO_CHARACTERS:
            used += len(source)
            content = f'<video loop muted autoplay playsinline src="{source}"></video>'
        else:
            link = escape(clip["video"] or "")
            content = f'<a href="{link}">{link}</a> (not embedded: the page would get too large)'
        figures.append(f"<figure>{caption}{content}</figure>")
    if not figures:
        return '<section><h2>Videos</h2><p class="note">This study kept no videos.</p></section>'
    speeds = "".join(f'<option value="{s}"{" selected" if s == 1 else ""}>{s}×</option>' for s in (0.25, 0.5, 1, 2))
    return (
        '<section><h2>Videos</h2><p class="note">One column per source, one row per view. A click stops a video.</p>'
        f'<div class="controls"><button id="pause" type="button">Pause all</button>'
        f'<label>Speed <select id="speed">{speeds}</select></label></div>{"".join(figures)}</section>'
    )


def _clips_section(results: Results) -> str:
    """Values of every clip, mean over seeds: one collapsible table per metric."""
    arms = [arm for arm in results["arms"] if arm["status"] == "done"]
    if not arms:
        return ""
    tables = "".join(_clip_table(metric, arms, results) for metric in results["metrics"])
    return f"<section><h2>Every clip</h2>{tables}</section>"


def _clip_table(metric: MetricInfo, arms: list[Arm], results: Results) -> str:
    rows = []
    for clip in results["clips"]:
        values = "".join(_clip_cell(_clip_value(arm, metric["name"], clip["clip_id"])) for arm in arms)
        names = (escape(clip["clip_id"]), escape(clip["subject"]))
        head = "".join(f'<td data-sort="{name}">{name}</td>' for name in names)
        rows.append(f"<tr>{head}{values}</tr>")
    heads = "".join(_head(label) for label in ["clip", "subject", *(arm["label"] for arm in arms)])
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<details><summary>{escape(metric["label"])}</summary><div class="scroll">{table}</div></details>'


def _clip_value(arm: Arm, metric: str, clip_id: str) -> float | None:
    """Mean over seeds; None where the clip was not scored."""
    per_seed = [seed["values"][metric]["per_clip"].get(clip_id) for seed in arm["seeds"] if metric in seed["values"]]
    values = [value for value in per_seed if value is not None]
    return sum(values) / len(values) if values else None


def _clip_cell(value: float | None) -> str:
    return "<td>–</td>" if value is None else f'<td data-sort="{value!r}">{format_number(value)}</td>'


def _arms_section(results: Results) -> str:
    """What each arm sets, so that a reader sees that nothing else differs."""
    items = []
    for arm in results["arms"]:
        lines = arm.get("config_diff") or arm["overrides"]
        if lines:
            items.append(f"<h3>{escape(arm['label'])}</h3><pre><code>{escape(chr(10).join(lines))}</code></pre>")
    return f"<section><h2>What each arm sets</h2>{''.join(items)}</section>" if items else ""


def _provenance_section(results: Results) -> str:
    facts: dict[str, Any] = {"study": results["study"], **results["provenance"]}
    protocols = {metric["label"]: metric["protocol"] for metric in results["metrics"]}
    return (
        f"<section><h2>Provenance</h2><pre><code>{escape(results['command'])}</code></pre>"
        f"{_definitions(facts)}<h3>Metric protocols</h3>{_definitions(protocols)}</section>"
    )


def _definitions(facts: Mapping[str, Any]) -> str:
    items = "".join(f"<dt>{escape(str(key))}</dt><dd>{_value(value)}</dd>" for key, value in facts.items())
    return f"<dl>{items}</dl>"


def _value(value: Any) -> str:
    """A JSON value as HTML: mappings as lists of definitions, lists joined by commas."""
    if isinstance(value, Mapping):
        return _definitions(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(_value(item) for item in value)
    return escape(str(value))
