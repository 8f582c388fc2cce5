"""Tables of the report: the study's own, and published ones with the study's rows in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from urllib.parse import quote

from hvg.anchors import ANCHORS, TWO_SAMPLES, anchor_label
from hvg.latex import protocol_table_latex, results_latex
from hvg.number_format import format_difference, format_number
from hvg.protocol_table import ProtocolTable, TableCell, TableRow, protocol_table_csv, protocol_tables
from hvg.results import (
    SIGNIFICANCE,
    Arm,
    Cell,
    MetricInfo,
    Results,
    comparison_arm,
    evidence,
    is_decided,
    label_of,
    metric_heading,
    seed_range,
    table_csv,
    which_is_better,
    why_no_value,
)
from hvg.score_facts import (
    facts,
    scores,
    unavailable,
    warnings,
    why_missing,
)

Cells = Mapping[str, Mapping[str, Cell]]


def head(label: str, hint: str = "", column: int | None = None, rows: int = 1) -> str:
    """A table's head that sorts by its column; column: its number, where heads stand in two rows."""
    place = ("" if column is None else f' data-column="{column}"') + (f' rowspan="{rows}"' if rows > 1 else "")
    return f'<th scope="col" title="{escape(hint)}"{place}><button type="button">{escape(label)}</button></th>'


def choice(name: str, metrics: Sequence[MetricInfo], shown: MetricInfo) -> str:
    """A menu by which a reader chooses which of the parts of class ``name`` is shown, each of one metric."""
    options = "".join(
        f'<option value="{escape(m["name"])}"{" selected" if m is shown else ""}>{escape(m["label"])}</option>'
        for m in metrics
    )
    return f'<div class="controls"><label>By <select id="{name}" class="choice">{options}</select></label></div>'


def results_section(results: Results, cells: Cells) -> str:
    """The study's own table: every arm and metric, with what is missing and what to beware of."""
    heads = "".join(
        head(metric_heading(metric), f"{which_is_better(metric)}; {metric['definition']}")
        for metric in results["metrics"]
    )
    bodies = []
    for kind, style in (("arm", "arms"), ("baseline", "baselines")):
        rows = [_row(arm, cells[arm["name"]], results) for arm in results["arms"] if arm["kind"] == kind]
        bodies += [f'<tbody class="{style}">{"".join(rows)}</tbody>'] if rows else []
    table = (
        f'<table id="results"><thead><tr>{head("arm")}{heads}</tr></thead>{"".join(bodies)}{_anchors(results)}</table>'
    )
    parts = [
        f'<div class="scroll">{table}</div>',
        _export("results", results_latex(results, cells), table_csv(results)),
        _note(results, cells),
        _list("Not available", unavailable(results)),
        _list("Beware", warnings(results)),
    ]
    return f"<section><h2>Results</h2>{''.join(parts)}</section>"


def _row(arm: Arm, cells: Mapping[str, Cell], results: Results) -> str:
    name = label_of(arm) if arm["status"] == "done" else arm["label"]
    label = f'<td data-sort="{escape(arm["label"])}">{escape(name)}'
    if arm["overrides"]:
        label += f'<span class="overrides">{escape(" ".join(arm["overrides"]))}</span>'
    if arm["status"] != "done":
        reason, columns = escape(why_no_value(arm)), len(results["metrics"])
        return f'<tr>{label}</td><td class="{arm["status"]}" colspan="{columns}">{reason}</td></tr>'
    if arm["error"]:
        label += f'<span class="difference worse">{escape(arm["error"])}</span>'
    values = []
    for metric in results["metrics"]:
        cell = cells.get(metric["name"])
        if cell is None:
            values.append(f'<td class="missing" title="{escape(why_missing(arm, metric))}">n/a</td>')
        else:
            values.append(_cell(cell, facts(arm, metric, cell, results["protocol"]["id"])))
    return f"<tr>{label}</td>{''.join(values)}</tr>"


def _cell(cell: Cell, hints: Sequence[str]) -> str:
    seeds = seed_range(cell)
    below = f'<span class="difference whole">seeds {escape(seeds)}</span>' if seeds else ""
    if cell.difference is not None:
        mean, _, interval = format_difference(cell.difference, cell.value).partition(" ")
        below += f'<span class="difference {cell.verdict}">{mean} <span class="whole">{interval}</span></span>'
        parts = ", ".join(f'<span class="whole">{escape(word)}</span>' for word in evidence(cell))
        below += f'<span class="difference">{parts}</span>'
    style = ' class="best"' if cell.best else ""
    hint = escape("\n".join(hints))
    value = f'<span class="value">{format_number(cell.value)}</span>'
    return f'<td{style} data-sort="{cell.value!r}" title="{hint}">{value}{below}</td>'


def _anchors(results: Results) -> str:
    """What pictures score that nobody trained for, below all rows; "" where nothing is known of any."""
    rows = []
    for name, values in results.get("anchors", {}).items():
        explained = ANCHORS[name].explanation if name in ANCHORS else ""
        cells = [(values.get(metric["name"]), explained) for metric in results["metrics"]]
        rows.append(_anchor_row(anchor_label(name), explained, cells))
    floors = [_floor(metric, results) for metric in results["metrics"]]
    if any(value is not None for value, _ in floors):
        rows.insert(1, _anchor_row(TWO_SAMPLES, "each of as many people as there are", floors))
    return f'<tbody class="anchors">{"".join(rows)}</tbody>' if rows else ""


def _floor(metric: MetricInfo, results: Results) -> tuple[float | None, str]:
    """What two samples of the truth would score, and at which N."""
    found = [s for arm in results["arms"] for s in scores(arm, metric["name"]) if s["floor"] is not None]
    if not found:
        return None, "not a distance between sets"
    return found[0]["floor"], f"what two samples of the truth score at N = {found[0]['count']} {found[0]['counted']}"


def _anchor_row(label: str, explained: str, cells: Sequence[tuple[float | None, str]]) -> str:
    """cells: value and hint under every metric."""
    shown = (
        f'<td class="missing" title="{escape(hint)}">–</td>'
        if value is None
        else f'<td data-sort="{value!r}" title="{escape(hint)}">{format_number(value)}</td>'
        for value, hint in cells
    )
    name = f'{escape(label)}<span class="overrides">{escape(explained)}</span>'
    return f'<tr><td data-sort="{escape(label)}">{name}</td>{"".join(shown)}</tr>'


def _note(results: Results, cells: Cells) -> str:
    first = comparison_arm(results)
    if first is None:
        return '<p class="note">No arm finished, so there is nothing to compare with.</p>'
    if is_decided(cells):
        meaning = (
            "A value is the mean over seeds and clips. Below it: the lowest and the highest seed; the paired difference to "
            f"<b>{escape(first['label'])}</b> with its 95 % interval over subjects and seeds; its p-value corrected for the "
            "number of rows that are compared under the metric (Holm), and the number of subjects on which the row is better; "
            f"coloured where the corrected p-value is below {SIGNIFICANCE:g}. Bold: better than every other arm, corrected for "
            "that many comparisons. The intervals themselves are not corrected. What is of one seed has no p-value."
        )
    else:
        meaning = (
            f"A value is the mean over clips. Below it: the paired difference to <b>{escape(first['label'])}</b> with its "
            "95 % interval over subjects, and the number of subjects on which the row is better. There is one seed, so "
            "nothing is coloured, bold or has a p-value: the intervals do not cover the luck of a training run."
        )
    if results.get("anchors"):
        meaning += " Last rows: what pictures score that nobody trained for; they are compared with nothing."
    return (
        f'<p class="note">{meaning} Scored with protocol {escape(results["protocol"]["id"])}; a pointer on a number reads '
        "its definition, N and seeds.</p>"
    )


def _list(title: str, lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<div class="note"><b>{title}</b><ul class="caveats">{items}</ul></div>' if lines else ""


def _export(name: str, latex: str, table: str) -> str:
    """Buttons that copy or save a table; the texts are in the page."""
    tex = f"data:application/x-tex;charset=utf-8,{quote(latex)}"
    sheet = f"data:text/csv;charset=utf-8,{quote(table)}"
    return (
        f'<div class="controls export"><button class="copy" type="button" data-from="{name}-tex">Copy LaTeX</button>'
        f'<a id="{name}-tex" download="{name}.tex" href="{tex}">{name}.tex</a>'
        f'<a id="{name}-csv" download="{name}.csv" href="{sheet}">{name}.csv</a></div>'
    )


def published_section(results: Results, cells: Cells) -> str:
    """The papers' tables with the study's rows above the published ones; "" where the study's protocol has none."""
    said: set[str] = set()
    parts = []
    for table in protocol_tables(results, cells):
        parts.append(_published_table(table, [note for note in table.notes if note not in said]))
        said.update(table.notes)
    return f"<section><h2>Beside published numbers</h2>{''.join(parts)}</section>" if parts else ""


def _published_table(table: ProtocolTable, notes: Sequence[str]) -> str:
    """notes: those that an earlier table of the page does not have."""
    bodies = (
        f'<tbody class="{kind if kind == "published" else f"{kind}s"}">{"".join(_published_row(row) for row in rows)}</tbody>'
        for kind, rows in groupby(table.rows, lambda row: row.kind)
    )
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return (
        f"<h3>{escape(table.published.source)}: {escape(table.published.title)}</h3>"
        f'<div class="scroll"><table id="{table.name}"><thead>{_published_heads(table)}</thead>{"".join(bodies)}</table></div>'
        f'{_export(table.name, protocol_table_latex(table), protocol_table_csv(table))}<ul class="note caveats">{items}</ul>'
    )


def _published_heads(table: ProtocolTable) -> str:
    """One row of heads, or two where metrics are split into sets."""
    columns = table.published.columns
    names = [f"{column.label} {'↑' if column.better == 'higher' else '↓'}" for column in columns]
    hints = [f"scored as in protocol {', '.join(table.published.protocols_of(column))}" for column in columns]
    if not any(column.set for column in columns):
        plain = (head(*words, column) for column, words in enumerate(zip(names, hints, strict=True), start=1))
        return f"<tr>{head('method', column=0)}{''.join(plain)}</tr>"
    groups = "".join(
        f'<th scope="colgroup" colspan="{span}">{escape(column.label)} {"↑" if column.better == "higher" else "↓"}</th>'
        for column, span in table.groups
    )
    sets = "".join(
        head(column.set, f"{name}; {hint}", index)
        for index, (column, name, hint) in enumerate(zip(columns, names, hints, strict=True), start=1)
    )
    return f"<tr>{head('method', column=0, rows=2)}{groups}</tr><tr>{sets}</tr>"


def _published_row(row: TableRow) -> str:
    tag = '<span class="tag">published</span>' if row.kind == "published" else ""
    note = f'<span class="overrides">{escape(row.note)}</span>' if row.note else ""
    label = f'<td data-sort="{escape(row.label)}">{escape(row.label)} {tag}{note}</td>'
    return f"<tr>{label}{''.join(_published_cell(cell) for cell in row.cells)}</tr>"


def _published_cell(cell: TableCell) -> str:
    place = f' colspan="{cell.span}"' if cell.span > 1 else ""
    place += "" if cell.value is None else f' data-sort="{cell.value!r}"'
    style = "best" if cell.best else "missing" if cell.value is None else ""
    text = f'<span class="value">{escape(cell.text)}</span>'
    return f'<td class="{style}"{place} title="{escape(cell.hint)}">{text}</td>'
