"""A study's tables as LaTeX, for a paper with the packages booktabs and xcolor."""

from collections.abc import Iterator
from itertools import groupby

from hvg.report.beside_published import ProtocolTable, TableRow, protocol_tables
from hvg.report.cells import Cell, Cells, comparison_arm, is_decided
from hvg.report.contrasts import contrasts
from hvg.report.number_format import format_difference, format_number
from hvg.report.results import Arm, Results, label_of, metric_heading

ESCAPES = {
    "\\": r"\textbackslash{}",
    **{sign: "\\" + sign for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "−": "$-$",
    "–": "--",
    "∞": r"$\infty$",
    "×": r"$\times$",
    "°": r"$^\circ$",
    "†": r"$^\dagger$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "“": "``",
    "”": "''",
}


def escape(text: str) -> str:
    """Text as LaTeX that prints it, on one line."""
    return "".join(ESCAPES.get(sign, sign) for sign in " ".join(text.split()))


def results_latex(results: Results, cells: Cells) -> str:
    """The study's own table, its contrasts, then every published table with the study's rows in it."""
    tables = [*_contrasts_table(results), *(protocol_table_latex(table) for table in protocol_tables(results, cells))]
    return "\n".join(["% \\usepackage{booktabs,xcolor}", results_table(results, cells), *tables])


def _contrasts_table(results: Results) -> Iterator[str]:
    """The contrasts that the study named beforehand, where it named some."""
    found, metrics = contrasts(results), [metric for metric in results["metrics"] if not metric["unavailable"]]
    if not found:
        return
    lines = [_line("", [escape(metric_heading(metric)) for metric in metrics]), r"\midrule"]
    for label, of_metrics in found.items():
        lines.append(_line(escape(label), [escape(str(of_metrics.get(m["name"], "–"))) for m in metrics]))
    caption = f"{results['title']} Differences that the study named beforehand, with 95 % intervals; p after Holm."
    yield _table("contrasts", caption, "l" + "r" * len(metrics), lines)


def results_table(results: Results, cells: Cells) -> str:
    """All arms and metrics; below a value, the difference to the first arm with its interval."""
    metrics = results["metrics"]
    heads = [escape(metric_heading(metric)) for metric in metrics]
    lines = [_line("", heads), r"\midrule"]
    for index, (_, arms) in enumerate(groupby(results["arms"], lambda arm: arm["kind"])):
        lines += [r"\midrule"] if index else []
        for arm in arms:
            lines += _arm_lines(arm, [cells[arm["name"]].get(metric["name"]) for metric in metrics])
    first = comparison_arm(results)
    caption = [results["title"], f"Protocol {results['protocol']['id']}."]
    if first is not None:
        caption.append(f"Below a value: the difference to {first['label']} with its 95 % interval.")
        caption += [] if is_decided(cells) else ["One seed: it says nothing of the luck of a training run."]
    return _table("results", " ".join(caption), "l" + "r" * len(metrics), lines)


def _arm_lines(arm: Arm, cells: list[Cell | None]) -> list[str]:
    if arm["status"] != "done":
        return [_line(escape(arm["label"]), [arm["status"], *[""] * (len(cells) - 1)])]
    values = ["n/a" if cell is None else _bold(escape(format_number(cell.value)), cell.best) for cell in cells]
    lines = [_line(escape(label_of(arm)), values)]
    below = [
        "" if cell is None or cell.difference is None else format_difference(cell.difference, cell.value)
        for cell in cells
    ]
    if any(below):
        lines.append(_line("", [rf"{{\scriptsize {escape(text)}}}" if text else "" for text in below]))
    return lines


def protocol_table_latex(table: ProtocolTable) -> str:
    """The paper's table with the study's rows above; published rows are grey and say so."""
    published = table.published
    groups = [_spanned(escape(column.heading), span) for column, span in table.groups]
    lines = [_line("", groups)]
    if any(column.set for column in published.columns):
        lines.append(_line("", [escape(column.set) for column in published.columns]))
    for _, rows in groupby(table.rows, lambda row: row.kind):
        lines += [r"\midrule", *(_row_line(row) for row in rows)]
    remarks = "".join(f"% {' '.join(note.split())}\n" for note in table.notes)
    caption = (
        f"{published.title}. Rows marked published are those of {published.source}: on other data, so that only the "
    )
    caption += "order of rows within a block can be compared."
    return remarks + _table(table.name, caption, "l" + "r" * len(published.columns), lines)


def _row_line(row: TableRow) -> str:
    if row.kind != "published":
        return _line(
            escape(row.label), [_spanned(_bold(escape(cell.text), cell.best), cell.span) for cell in row.cells]
        )
    label = f"{escape(row.label)} (published; {escape(row.note)})"
    return _line(_grey(label), [_grey(escape(cell.text)) for cell in row.cells])


def _bold(text: str, best: bool) -> str:
    return rf"\textbf{{{text}}}" if best else text


def _grey(text: str) -> str:
    return rf"\textcolor{{gray}}{{{text}}}"


def _spanned(text: str, span: int) -> str:
    return text if span == 1 else rf"\multicolumn{{{span}}}{{c}}{{{text}}}"


def _line(label: str, fields: list[str]) -> str:
    # The line break before would take these signs for its own.
    label = "{}" + label if label.startswith(("[", "*")) else label
    return " & ".join([label, *fields]) + r" \\"


def _table(name: str, caption: str, columns: str, lines: list[str]) -> str:
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape(caption)}}}",
            rf"\label{{tab:{name}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )
