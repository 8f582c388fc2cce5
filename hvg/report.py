"""report.html: a study's question, tables, charts, videos and provenance in one file that opens from disk.

``hvg.results`` holds the schema of what is reported, the comparison, and the table for the terminal, CSV and JSON. The
sections are written in ``hvg.report_table``, ``hvg.report_charts`` and ``hvg.report_clips``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from hvg.anchors import TWO_SAMPLES
from hvg.files import write_text
from hvg.finding import Finding, finding
from hvg.number_format import format_number
from hvg.report_charts import distributions_section, error_curves_section, forest_section, learning_curves_section
from hvg.report_clips import clips_section, ranking_section, videos_section
from hvg.report_script import SCRIPT
from hvg.report_table import published_section, results_section
from hvg.report_template import PAGE, STYLE
from hvg.results import MetricInfo, Results, compare
from hvg.score_facts import networks, scores


def write_report(results: Results, folder: Path) -> Path:
    """Writes report.html into ``folder``, where the clips' videos lie, and returns its path.

    Raises: ValueError when the arms were not measured on the same clips.
    """
    path, cells = Path(folder) / "report.html", compare(results)
    sections = [
        _header(results, finding(results, cells)),
        forest_section(results, cells),
        results_section(results, cells),
        published_section(results, cells),
        videos_section(results, path.parent),
        distributions_section(results),
        ranking_section(results),
        error_curves_section(results),
        learning_curves_section(results),
        clips_section(results),
        _arms_section(results),
        _provenance_section(results),
    ]
    body = "\n".join(section for section in sections if section)
    write_text(path, PAGE.format(title=escape(results["title"]), style=STYLE, script=SCRIPT, body=body))
    return path


def _header(results: Results, found: Finding) -> str:
    arms = [arm for arm in results["arms"] if arm["kind"] == "arm"]
    states = Counter(arm["status"] for arm in arms if arm["status"] != "done")
    seeds = {seed["seed"] for arm in arms for seed in arm["seeds"]}
    subjects = {clip["subject"] for clip in results["clips"]}
    facts = [
        (len(arms), ", ".join(["arms", *(f"{count} {state}" for state, count in states.items())])),
        (len(seeds), "seed" if len(seeds) == 1 else "seeds"),
        (len(subjects), "test subjects"),
        (len(results["clips"]), "test clips"),
    ]
    listed = "".join(f"<li><b>{count}</b> {what}</li>" for count, what in facts)
    listed += f"<li>protocol <b>{escape(results['protocol']['id'])}</b></li>"
    varies = ", ".join(f"<code>{escape(str(item))}</code>" for item in results["varies"])
    caveats = "".join(f"<li>{escape(text)}</li>" for text in results["caveats"])
    apart = f'<p class="note">{escape(found.apart)}</p>' if found.apart else ""
    return (
        f'<header><h1>{escape(results["title"])}</h1><p class="question">{escape(results["question"])}</p>'
        f'<p class="finding">{escape(found.answer)}</p>{apart}'
        f'<ul class="facts">{listed}</ul><p>What varies: {varies}. Everything else is equal.</p>'
        + (f'<h2>Read this first</h2><ul class="caveats">{caveats}</ul>' if caveats else "")
        + "</header>"
    )


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
    rows = "".join(_scoring_row(metric, results) for metric in results["metrics"])
    names = ("metric", "definition", "N", TWO_SAMPLES, "networks")
    heads = "".join(f'<th scope="col">{name}</th>' for name in names)
    settings = escape(json.dumps(results["protocol"]["settings"], indent=2, ensure_ascii=False))
    protocol = escape(results["protocol"]["id"])
    return (
        f"<section><h2>Provenance</h2><pre><code>{escape(results['command'])}</code></pre>{_definitions(facts)}"
        f'<h3>Scoring: protocol {protocol}</h3><div class="scroll"><table class="scoring"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        f"<details><summary>Settings of the protocol</summary><pre><code>{settings}</code></pre></details></section>"
    )


def _scoring_row(metric: MetricInfo, results: Results) -> str:
    """How one metric was computed, over all arms."""
    found = [score for arm in results["arms"] for score in scores(arm, metric["name"])]
    scored = [score for score in found if score["value"] is not None]
    floors = [format_number(score["floor"]) for score in scored if score["floor"] is not None]
    columns = [
        [metric["label"]],
        [score["definition"] for score in scored] or [metric["definition"]],
        [f"{score['count']} {score['counted']}" for score in scored],
        floors,
        networks(found),
    ]
    cells = ("<br>".join(escape(line) for line in dict.fromkeys(lines)) or "–" for lines in columns)
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


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
