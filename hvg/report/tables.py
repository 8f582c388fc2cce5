"""The table of results: for a terminal, as CSV, Markdown and LaTeX."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from hvg.core.files import write_text
from hvg.core.text_tables import csv_text, markdown_text
from hvg.report.cells import Cell, Cells, compare, comparison_arm, evidence, is_decided, seed_range
from hvg.report.contrasts import contrasts
from hvg.report.finding import finding
from hvg.report.footnotes import about_intervals
from hvg.report.latex import results_latex
from hvg.report.number_format import format_difference, format_number, format_p
from hvg.report.origin import measured_lines
from hvg.report.results import Arm, Results, label_of, metric_heading, why_no_value
from hvg.score.anchors import anchor_label
from hvg.score.evaluation_record import finite


def table_text(results: Results) -> Table:
    """The table for a terminal: print it with rich. Below a value: its seeds, the difference to the first arm, p and wins."""
    cells = compare(results)
    caption = _caption(comparison_arm(results), cells)
    table = Table(title=results["title"], caption=caption, title_justify="left", caption_justify="left")
    table.add_column("arm")
    for metric in results["metrics"]:
        table.add_column(metric_heading(metric), justify="right")
    for index, arm in enumerate(results["arms"]):
        if arm["status"] != "done":
            style = "red" if arm["status"] == "failed" else "dim"
            table.add_row(Text(arm["label"]), Text(why_no_value(arm), style=style))
        else:
            row = [_cell_text(cells[arm["name"]].get(metric["name"])) for metric in results["metrics"]]
            table.add_row(Text(label_of(arm), style="dim" if arm["kind"] == "baseline" else ""), *row)
        following = results["arms"][index + 1 :]
        if following and following[0]["kind"] != arm["kind"]:
            table.add_section()
    table.add_section()
    for name, values in results.get("anchors", {}).items():
        table.add_row(*(Text(text, style="dim") for text in [anchor_label(name), *_anchor_texts(values, results)]))
    return table


def _anchor_texts(values: Mapping[str, float | None], results: Results) -> list[str]:
    """An anchor's row."""
    found = [values.get(metric["name"]) for metric in results["metrics"]]
    return ["–" if value is None else format_number(value) for value in found]


def _caption(first: Arm | None, cells: Cells) -> str:
    if first is None:
        return "No arm finished."
    difference = f"difference to {first['label']} with its 95 % interval over subjects"
    if not is_decided(cells):
        return f"Below a value: {difference}; subjects on which it is better. One seed: nothing is coloured or has a p."
    return (
        f"Below a value: its lowest and highest seed; {difference} and seeds; p of it, corrected for the rows of this table "
        "(Holm); subjects on which it is better. Coloured: corrected p below 0.05."
    )


def _cell_text(cell: Cell | None) -> Text:
    if cell is None:
        return Text("–")
    text = Text(format_number(cell.value), style="bold" if cell.best else "")
    seeds = seed_range(cell)
    text.append(f"\n{seeds}" if seeds else "", style="not bold dim")
    if cell.difference is not None:
        colour = {"better": "green", "worse": "red", "": "dim"}[cell.verdict]
        text.append("\n" + format_difference(cell.difference, cell.value), style=f"not bold {colour}")
        below = ", ".join(evidence(cell))
        text.append(f"\n{below}" if below else "", style=f"not bold {colour}")
    return text


def table_csv(results: Results) -> str:
    """One line per arm and metric, with the difference to the first arm; fields of arms that are not done are empty.

    Below them one per anchor and metric, with a value alone, and one per contrast and metric, with a difference alone.
    """
    cells = compare(results)
    head = ["arm", "kind", "status", "metric", "definition", "value", "difference", "low", "high", "wins"]
    rows: list[list[Any]] = [[*head, "subjects", "seeds", "p", "p_holm"]]
    for arm in results["arms"]:
        for metric in results["metrics"]:
            row = [arm["name"], arm["kind"], arm["status"], metric["name"], metric["definition"]]
            cell = cells[arm["name"]].get(metric["name"])
            rows.append([*row, *_csv_fields(cell)])
    for name, values in results.get("anchors", {}).items():
        for metric in results["metrics"]:
            value = values.get(metric["name"])
            row = [name, "anchor", "done", metric["name"], metric["definition"], "" if value is None else value]
            rows.append([*row, *[""] * 8])
    for label, found in contrasts(results).items():
        for metric in (metric for metric in results["metrics"] if metric["name"] in found):
            d, p_holm = found[metric["name"]].difference, found[metric["name"]].p_holm
            row = [label, "contrast", "done", metric["name"], metric["definition"], ""]
            p = "" if p_holm is None else d.p
            rows.append([*row, d.mean, d.low, d.high, "", d.num_subjects, d.num_seeds, p, p_holm])
    return csv_text(rows)


def _csv_fields(cell: Cell | None) -> list[Any]:
    if cell is None or cell.difference is None:
        return ["" if cell is None else cell.value, *[""] * 8]
    d = cell.difference
    return [cell.value, d.mean, d.low, d.high, cell.wins, d.num_subjects, d.num_seeds, cell.p, cell.p_holm]


def table_markdown(results: Results, cells: Cells) -> str:
    """The table for a README; in brackets the difference to the first arm, its interval, and, of several seeds, p after Holm."""
    metrics = results["metrics"]
    rows = [["", *map(metric_heading, metrics)], ["---"] * (len(metrics) + 1)]
    for arm in results["arms"]:
        if arm["status"] != "done":
            rows.append([arm["label"], arm["status"], *[""] * (len(metrics) - 1)])
        else:
            rows.append([label_of(arm), *(_cell_markdown(cells[arm["name"]].get(m["name"])) for m in metrics)])
    for name, values in results.get("anchors", {}).items():
        rows.append([f"*{anchor_label(name)}*", *_anchor_texts(values, results)])
    return _markdown(rows)


def results_markdown(results: Results) -> str:
    """Results for a README, in Markdown: finding in words, table, what to beware of, and where the numbers are from."""
    cells = compare(results)
    found = "".join(f"{markdown_text(sentence)}\n\n" for sentence in finding(results, cells).sentences)
    below = [*(f"Beware: {warning}." for warning in about_intervals(results)), *measured_lines(results)]
    tables = filter(None, [table_markdown(results, cells), _contrasts_markdown(results)])
    return found + "\n".join(tables) + "".join(f"\n{line}\n" for line in below)


def _contrasts_markdown(results: Results) -> str:
    """The contrasts that the study named beforehand, with intervals, and, of several seeds, p after Holm; "" without any."""
    found, metrics = contrasts(results), [metric for metric in results["metrics"] if not metric["unavailable"]]
    rows = [["contrast", *map(metric_heading, metrics)], ["---"] * (len(metrics) + 1)]
    rows += [[label, *(str(cells.get(metric["name"], "–")) for metric in metrics)] for label, cells in found.items()]
    return _markdown(rows) if found else ""


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(markdown_text(cell).replace('|', '/') for cell in row)} |\n" for row in rows)


def _cell_markdown(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    value = f"**{format_number(cell.value)}**" if cell.best else format_number(cell.value)
    if cell.difference is None:
        return value
    p = "" if cell.p_holm is None else f", {format_p(cell.p_holm)}"
    return f"{value} ({format_difference(cell.difference, cell.value)}{p})"


def write_results(results: Results, folder: Path) -> None:
    """Writes results.json, .csv, .md and .tex into ``folder``, each whole or not at all; in JSON, NaN becomes null."""
    folder = Path(folder)
    write_text(folder / "results.json", json.dumps(finite(results), indent=2, ensure_ascii=False) + "\n")
    write_text(folder / "results.csv", table_csv(results))
    write_text(folder / "results.md", results_markdown(results))
    write_text(folder / "results.tex", results_latex(results, compare(results)))
