"""Tables as text: aligned columns, CSV, and words as they may stand in Markdown. A name is anyone's, and some would be code."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from html import escape

# First characters by which spreadsheets take a cell for a formula.
FORMULA = ("=", "+", "-", "@")


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as a CSV file. A text that a spreadsheet would run as a formula begins with an apostrophe; numbers are left alone.

    Source: OWASP, CSV injection.
    """
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
    return stream.getvalue()


def _cell(value: object) -> object:
    if not isinstance(value, str) or _is_number(value):
        return value
    # The writer puts cells with line feeds in quotes, those with carriage returns not.
    text = value.replace("\r", "\n")
    return f"'{text}" if text.lstrip().startswith(FORMULA) else text


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|-inf", text) is not None


def markdown_text(text: str) -> str:
    """Text on one line that Markdown shows as it is, without tags, links or pictures in it; other text stays unchanged."""
    tame = re.sub(r"<(?=[\w/!?])|&(?=#?\w+;)", lambda found: escape(found[0]), " ".join(text.split()))
    return tame.replace("](", r"]\(").replace("][", r"]\[")


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
