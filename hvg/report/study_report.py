"""report.html: a study's question, tables, charts, videos and provenance in one file that opens from disk.

Here is what study.html, the page's template, shows besides the results and their cells; its charts are in ``hvg.report.charts``.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hvg.report import cells as comparison
from hvg.report import footnotes
from hvg.report import results as words
from hvg.report.beside_published import protocol_table_csv, protocol_tables
from hvg.report.cells import compare
from hvg.report.charts import distributions, forest_charts, learning_curves, metric_curves
from hvg.report.contrasts import contrasts, study_curves
from hvg.report.finding import finding, headline
from hvg.report.footnotes import clip_values, networks, per_clip_metrics, scores
from hvg.report.latex import protocol_table_latex, results_latex
from hvg.report.number_format import format_difference, format_number
from hvg.report.page import embedded, write_page
from hvg.report.results import MetricInfo, Results, carries_verdict
from hvg.report.tables import table_csv
from hvg.score.anchors import ANCHORS, TWO_SAMPLES, anchor_label

# Videos beyond this many characters are linked instead of embedded: mail and code review refuse large files.
MAX_VIDEO_CHARACTERS = 14_000_000
# How many of an arm's clips are listed as its worst, and as its best.
NUM_RANKED = 3


def write_report(results: Results, folder: Path) -> Path:
    """Writes report.html into ``folder``, where the clips' videos lie, and returns its path.

    Raises: ValueError when the arms were not measured on the same clips.
    """
    path, cells, of_study = Path(folder) / "report.html", compare(results), contrasts(results)
    forests = {metric["name"]: forest_charts(metric, results, cells) for metric in results["metrics"]}
    of_clips, done = per_clip_metrics(results), [arm for arm in results["arms"] if arm["status"] == "done"]
    write_page(
        path,
        "study.html",
        ["tables.js", "videos.js", "charts.js"],
        results=results,
        cells=cells,
        # What the template asks of single arms, metrics and cells.
        words=words,
        comparison=comparison,
        csv=table_csv(results),
        footnotes=footnotes,
        format_difference=format_difference,
        found=finding(results, cells),
        answers=headline(results, cells),
        forests={name: charts for name, charts in forests.items() if charts},
        contrasts=of_study,
        curves=study_curves(results, cells, of_study),
        anchors=_anchors(results),
        two_samples=TWO_SAMPLES,
        latex=results_latex(results, cells),
        published=[(t, protocol_table_latex(t), protocol_table_csv(t)) for t in protocol_tables(results, cells)],
        videos=list(_videos(results, path.parent)),
        # A clip's own id may hold signs that an address may not.
        places={clip["clip_id"]: f"video-{i}" for i, clip in enumerate(results["clips"]) if clip["video"]},
        distributions=distributions(results),
        rankings=[(metric, _ranking(metric, results)) for metric in of_clips if carries_verdict(metric)],
        over_time=metric_curves(results, "over_time", "frame"),
        over_angle=metric_curves(results, "over_angle", "angle of the view to the photo (degrees)"),
        learning_curves=learning_curves(results),
        done=done,
        clip_values=[(metric, [clip_values(arm, metric["name"], results) for arm in done]) for metric in of_clips],
        scoring=[(metric["label"], _scoring(metric, results)) for metric in results["metrics"]],
        settings=json.dumps(results["protocol"]["settings"], indent=2, ensure_ascii=False),
    )
    return path


def _anchors(results: Results) -> list[tuple[str, str, list[tuple[float | None, str]]]]:
    """Rows on the anchors, which need no training: label, explanation, and value and hint under every metric."""
    rows = []
    for name, values in results.get("anchors", {}).items():
        explained = ANCHORS[name].explanation if name in ANCHORS else ""
        cells = [(values.get(metric["name"]), explained) for metric in results["metrics"]]
        rows.append((anchor_label(name), explained, cells))
    floors = [_floor(metric, results) for metric in results["metrics"]]
    if any(value is not None for value, _ in floors):
        rows.insert(1, (TWO_SAMPLES, "each of as many people as there are", floors))
    return rows


def _floor(metric: MetricInfo, results: Results) -> tuple[float | None, str]:
    """Score that two samples of the truth would have, and a hint with its N; None where there is none."""
    found = [s for arm in results["arms"] for s in scores(arm, metric["name"]) if s["floor"] is not None]
    if not found:
        return None, "not a distance between sets"
    return found[0]["floor"], f"what two samples of the truth score at N = {found[0]['count']} {found[0]['counted']}"


def _videos(results: Results, folder: Path) -> Iterator[tuple[Any, str | None]]:
    """Clips that have a video, and the video's address; None beyond what a page should hold."""
    shown = [clip for clip in results["clips"] if clip["video"] and (folder / str(clip["video"])).is_file()]
    yield from zip(shown, embedded((folder / str(clip["video"]) for clip in shown), MAX_VIDEO_CHARACTERS), strict=True)


def _ranking(metric: MetricInfo, results: Results) -> list[tuple[str, list[dict[str, float]]]]:
    """Every arm's label, and its worst and its best clips with their values."""
    rows = []
    for arm in results["arms"]:
        values = clip_values(arm, metric["name"], results)
        ordered = sorted(values, key=values.__getitem__, reverse=not metric["higher_is_better"])
        count = min(NUM_RANKED, math.ceil(len(ordered) / 2))
        ends = (ordered[:count], ordered[::-1][:count])
        rows += [(arm["label"], [{clip: values[clip] for clip in clips} for clips in ends])] if values else []
    return rows


def _scoring(metric: MetricInfo, results: Results) -> list[list[str]]:
    """How a metric was computed over all arms: definitions, N, what two samples of the truth would score, networks."""
    found = [score for arm in results["arms"] for score in scores(arm, metric["name"])]
    scored = [score for score in found if score["value"] is not None]
    columns = [
        [score["definition"] for score in scored] or [metric["definition"]],
        [f"{score['count']} {score['counted']}" for score in scored],
        [format_number(score["floor"]) for score in scored if score["floor"] is not None],
        networks(found),
    ]
    return [list(dict.fromkeys(lines)) for lines in columns]
