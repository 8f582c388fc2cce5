"""What the report shows of single clips: videos in step, the worst and best, and every value."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

from hvg.number_format import format_number
from hvg.report_table import choice, head
from hvg.results import Arm, MetricInfo, Results, carries_verdict, metric_heading
from hvg.score_facts import clip_values, per_clip_metrics
from hvg.video import video_data_uri

# Videos beyond this many characters are linked instead of embedded: mail and code review refuse large files.
MAX_VIDEO_CHARACTERS = 14_000_000
# How many of an arm's clips are listed as its worst, and as its best.
NUM_RANKED = 3


def videos_section(results: Results, folder: Path) -> str:
    """The clips' videos, embedded as far as the page stays small; all of them follow one clock."""
    figures, used = [], 0
    for clip in results["clips"]:
        path = clip["video"] and folder / clip["video"]
        if not path or not path.is_file():
            continue
        caption = f"<figcaption>{escape(clip['clip_id'])}, subject {escape(clip['subject'])}</figcaption>"
        source = video_data_uri(path)
        if used + len(source) <= MAX_VIDEO_CHARACTERS:
            used += len(source)
            content = f'<div class="scroll"><video muted playsinline preload="auto" src="{source}"></video></div>'
        else:
            link = escape(clip["video"] or "")
            content = f'<a href="{link}">{link}</a> (not embedded: the page would get too large)'
        figures.append(f'<figure id="{_anchor(clip["clip_id"], results)}">{caption}{content}</figure>')
    if not figures:
        return '<section><h2>Videos</h2><p class="note">This study kept no videos.</p></section>'
    speeds = "".join(f'<option value="{s}"{" selected" if s == 1 else ""}>{s}×</option>' for s in (0.25, 0.5, 1, 2))
    return (
        '<section><h2>Videos</h2><p class="note">One row per view: photo, control maps, the truth, every arm. The photo is as '
        "the network saw it, moved by the alignment. All videos run in step; a click on one stops them all.</p>"
        '<div class="controls"><button id="pause" type="button">Pause all</button>'
        f'<label>Speed <select id="speed">{speeds}</select></label>'
        '<label>Time <input id="time" type="range" min="0" max="1" step="0.001" value="0"></label></div>'
        f"{''.join(figures)}</section>"
    )


def _anchor(clip_id: str, results: Results) -> str:
    """A clip's id in the page; its own may hold signs that an address may not."""
    return f"video-{[clip['clip_id'] for clip in results['clips']].index(clip_id)}"


def _clip_link(clip_id: str, results: Results) -> str:
    """The clip's name, as a link where it has a video."""
    has_video = any(clip["clip_id"] == clip_id and clip["video"] for clip in results["clips"])
    name = escape(clip_id)
    return f'<a href="#{_anchor(clip_id, results)}">{name}</a>' if has_video else name


def ranking_section(results: Results) -> str:
    """Worst and best clips of every arm, by a metric that the reader chooses."""
    metrics = [metric for metric in per_clip_metrics(results) if carries_verdict(metric)]
    if not metrics:
        return ""
    tables = "".join(
        f'<div class="scroll ranking" data-metric="{escape(metric["name"])}"{" hidden" if index else ""}>'
        f"{_ranking(metric, results)}</div>"
        for index, metric in enumerate(metrics)
    )
    return f"<section><h2>Worst and best clips</h2>{choice('ranking', metrics, metrics[0])}{tables}</section>"


def _ranking(metric: MetricInfo, results: Results) -> str:
    rows = []
    for arm in results["arms"]:
        values = clip_values(arm, metric["name"], results)
        if not values:
            continue
        ordered = sorted(values, key=values.__getitem__, reverse=not metric["higher_is_better"])
        count = min(NUM_RANKED, math.ceil(len(ordered) / 2))
        ends = (ordered[:count], ordered[::-1][:count])
        cells = "".join(
            f"<td>{'<br>'.join(f'{_clip_link(clip, results)} {format_number(values[clip])}' for clip in clips)}</td>"
            for clips in ends
        )
        rows.append(f"<tr><td>{escape(arm['label'])}</td>{cells}</tr>")
    heads = "".join(f'<th scope="col">{text}</th>' for text in ("arm", "worst", "best"))
    title = f"<caption>{escape(metric_heading(metric))}</caption>"
    return f"<table>{title}<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def clips_section(results: Results) -> str:
    """Values of every clip, mean over seeds: one collapsible table per metric."""
    arms = [arm for arm in results["arms"] if arm["status"] == "done"]
    tables = "".join(_clip_table(metric, arms, results) for metric in per_clip_metrics(results))
    return f"<section><h2>Every clip</h2>{tables}</section>" if tables else ""


def _clip_table(metric: MetricInfo, arms: list[Arm], results: Results) -> str:
    columns = [clip_values(arm, metric["name"], results) for arm in arms]
    rows = []
    for clip in results["clips"]:
        clip_id, subject = clip["clip_id"], escape(clip["subject"])
        names = f'<td data-sort="{escape(clip_id)}">{_clip_link(clip_id, results)}</td>'
        names += f'<td data-sort="{subject}">{subject}</td>'
        rows.append(f"<tr>{names}{''.join(_value_cell(column.get(clip_id)) for column in columns)}</tr>")
    heads = "".join(head(label) for label in ["clip", "subject", *(arm["label"] for arm in arms)])
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<details><summary>{escape(metric["label"])}</summary><div class="scroll">{table}</div></details>'


def _value_cell(value: float | None) -> str:
    return "<td>–</td>" if value is None else f'<td data-sort="{value!r}">{format_number(value)}</td>'
