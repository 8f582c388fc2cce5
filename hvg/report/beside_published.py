"""A published table with a study's own rows above the paper's, laid out for HTML, LaTeX and CSV alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from hvg.core.text_tables import csv_text
from hvg.report.cells import Cell, Cells
from hvg.report.footnotes import facts, why_missing
from hvg.report.number_format import format_number
from hvg.report.published import PublishedColumn, PublishedTable, chosen_tables
from hvg.report.results import Arm, MetricInfo, Results, label_of

# On a value whose protocol is not the one that the column was scored with.
OTHER_PROTOCOL = "†"


@dataclass(frozen=True)
class TableCell:
    """text: as shown. span: columns that it covers. value: to sort by. hint: what the number is, or why there is none."""

    text: str
    span: int = 1
    value: float | None = None
    hint: str = ""
    best: bool = False


@dataclass(frozen=True)
class TableRow:
    """note: an arm's overrides, or whose method a published row is."""

    label: str
    note: str
    kind: Literal["arm", "baseline", "published"]
    cells: tuple[TableCell, ...]


@dataclass(frozen=True)
class ProtocolTable:
    """name: its id, such as ``hvg_1``. notes: what keeps the study's rows from being compared with the published ones."""

    name: str
    published: PublishedTable
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...]

    @property
    def groups(self) -> list[tuple[PublishedColumn, int]]:
        """Every metric's first column, and how many columns it has."""
        found = (list(columns) for _, columns in groupby(self.published.columns, lambda column: column.metric))
        return [(columns[0], len(columns)) for columns in found]


def protocol_tables(results: Results, cells: Cells) -> list[ProtocolTable]:
    """The tables that the study names under ``published``, or those of its protocol."""
    tables = chosen_tables(protocol_name(results), results.get("published"))
    return [_lay_out(name, table, results, cells) for name, table in tables.items()]


def protocol_name(results: Results) -> str:
    """``hvg`` of ``hvg/v1``."""
    return results["protocol"]["id"].partition("/")[0]


def _lay_out(name: str, table: PublishedTable, results: Results, cells: Cells) -> ProtocolTable:
    own = [
        TableRow(
            label_of(arm), " ".join(arm["overrides"]), arm["kind"], _own_cells(arm, cells[arm["name"]], table, results)
        )
        for kind in ("arm", "baseline")
        for arm in results["arms"]
        if arm["kind"] == kind
    ]
    published = [
        TableRow(row.method, row.citation, "published", tuple(_published_cell(word, table) for word in row.values))
        for row in table.rows
    ]
    return ProtocolTable(name, table, (*own, *published), tuple(_notes(table, own, results)))


def _published_cell(word: str, table: PublishedTable) -> TableCell:
    hint = f"published: {table.source}"
    return TableCell("–", hint=f"not in the paper; {hint}") if word == "-" else TableCell(word, 1, float(word), hint)


def _own_cells(arm: Arm, cells: Mapping[str, Cell], table: PublishedTable, results: Results) -> tuple[TableCell, ...]:
    """One value under all columns of its metric that are scored as the study is; under all of them where none is. One for each
    column where the study scores the tasks apart.
    """
    protocol = protocol_name(results)
    found = []
    for metric, group in groupby(table.columns, lambda column: column.metric):
        columns = list(group)
        fits = {column.set: protocol in table.protocols_of(column) for column in columns}
        if any(apart := [_label_of_task(column, results) for column in columns]):
            for column, label in zip(columns, apart, strict=True):
                found.append(_own_cell(arm, cells, label or metric, 1, _mark(fits[column.set], results), results))
            continue
        for same, part in groupby(columns, lambda column, fits=fits: fits[column.set]):
            part = list(part)
            if same or not any(fits.values()):
                found.append(_own_cell(arm, cells, metric, len(part), _mark(same, results), results))
            else:
                other = ", ".join(table.protocols_of(part[0]))
                found.append(TableCell("–", len(part), hint=f"this column is scored with protocol {other}"))
    return tuple(found)


def _label_of_task(column: PublishedColumn, results: Results) -> str | None:
    """Label of the study's metric that scores what the column does, of the clips of its task; None where there is none."""
    metrics = results["protocol"]["settings"].get("metrics", {})
    wanted = {"name": "of_task", "task": column.task, "metric": column.metric}
    return next((label for label, settings in metrics.items() if wanted.items() <= settings.items()), None)


def _mark(same: bool, results: Results) -> str:
    """What stands on a value. same: whether the column is scored with a protocol of the study's name."""
    return "" if same and "+" not in results["protocol"]["id"] else OTHER_PROTOCOL


def _own_cell(arm: Arm, cells: Mapping[str, Cell], name: str, span: int, mark: str, results: Results) -> TableCell:
    metric = _metric(results, name)
    if metric is None:
        return TableCell("–", span, hint=f"protocol {results['protocol']['id']} has no {name}")
    cell = cells.get(name)
    if cell is None:
        return TableCell("n/a", span, hint=why_missing(arm, metric))
    hint = "\n".join(facts(arm, metric, cell, results["protocol"]["id"]))
    return TableCell(format_number(cell.value) + mark, span, cell.value, hint, cell.best)


def _metric(results: Results, name: str) -> MetricInfo | None:
    return next((metric for metric in results["metrics"] if metric["name"] == name), None)


def _notes(table: PublishedTable, own: list[TableRow], results: Results) -> list[str]:
    protocol, subjects = results["protocol"]["id"], {clip["subject"] for clip in results["clips"]}
    notes = [
        f"Rows marked “published” are copied from {table.source}, as printed. Measured on: {table.measured_on}.",
        f"This study's rows: {len(results['clips'])} clips of {len(subjects)} test subjects, scored with {protocol}. Test "
        "set, image size, training data and size of the models differ from the paper's: between the two blocks no number "
        "can be compared, only the order of the rows within each.",
    ]
    cells = [cell for row in own for cell in row.cells]
    if any(cell.text.endswith(OTHER_PROTOCOL) for cell in cells):
        names = dict.fromkeys(name for column in table.columns for name in table.protocols_of(column))
        notes.append(
            f"{OTHER_PROTOCOL} scored with {protocol}, another definition than the column's, which is closest to protocol "
            f"{' or '.join(names)}."
        )
    if any(cell.span > 1 and cell.value is not None for cell in cells):
        notes.append(
            "A value in the middle of two columns is of the study's own clips, which are neither of the two sets."
        )
    return [*notes, *table.remarks]


def protocol_table_csv(table: ProtocolTable) -> str:
    """One line per row; a value that covers several columns stands in each of them."""
    heads = [" ".join(filter(None, [column.label, column.set])) for column in table.published.columns]
    rows: list[list[object]] = [["method", "kind", "source", *heads]]
    for row in table.rows:
        source = table.published.source if row.kind == "published" else "this study"
        words = ["" if cell.value is None else cell.value for cell in row.cells for _ in range(cell.span)]
        rows.append([row.label, row.kind, source, *words])
    return csv_text(rows)
