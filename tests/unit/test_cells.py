"""Names are anyone's: in a table none is run as a formula, and none is a tag or a link."""

import csv
import io
import json
from pathlib import Path

import pytest
from example_study import study_results

from hvg.core.text_tables import csv_text, markdown_text
from hvg.report.beside_published import ProtocolTable, TableCell, TableRow, protocol_table_csv
from hvg.report.published import published_tables
from hvg.report.tables import table_csv, write_results
from hvg.sweep.records import SweepRecord, TrialRecord
from hvg.sweep.report_page import trials_csv
from hvg.sweep.space import Choices

FORMULAS = ('=HYPERLINK("http://x","a")', "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", " \r=1")


def cells(text: str) -> list[str]:
    return [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]


def test_text_is_no_formula_and_numbers_stay_numbers():
    numbers = [-1.5, 3, "", "-1.5", "+2e-3", "-inf", "nan", "1"]
    assert cells(csv_text([FORMULAS, numbers])) == [f"'{text}".replace("\r", "\n") for text in FORMULAS] + [
        str(x) for x in numbers
    ]


@pytest.mark.parametrize("formula", FORMULAS[:4])
def test_no_table_holds_a_formula(formula):
    results = study_results()
    results["arms"][0] |= {"name": formula, "label": formula}
    trial = TrialRecord(0, ("a=b",), {"pose": formula}, "failed", -2.5, (), formula, 1, formula, 0.5)
    record = SweepRecord("lr", Path("runs/lr"), (), (Choices("pose", (formula,)),), "loss", "minimize", (trial,), {})
    name, published = next(iter(published_tables().items()))
    row = TableRow(formula, "", "arm", (TableCell("1", len(published.columns), -1.0),))
    table = ProtocolTable(name, published, (row,), ())
    for text in (table_csv(results), trials_csv(record), protocol_table_csv(table)):
        assert f"'{formula}" in cells(text)
        assert not [cell for cell in cells(text) if cell.startswith(("=", "@")) or cell == formula]
    assert "-2.5" in cells(trials_csv(record)) and "-1.0" in cells(protocol_table_csv(table))


def test_markdown_shows_names_as_they_are(tmp_path):
    assert markdown_text("p < 0.05, R&D, [0.1, 0.2] (a) 5>3") == "p < 0.05, R&D, [0.1, 0.2] (a) 5>3"
    assert markdown_text("![a](http://x)\nb &lt;") == r"![a]\(http://x) b &amp;lt;"
    results = study_results()
    for arm in results["arms"]:
        arm["label"] = f"<img src=x onerror=alert(1)>[a](http://x){arm['label']}\n<!-- "
    write_results(results, tmp_path)
    text = (tmp_path / "results.md").read_text()
    assert "&lt;img src=x onerror=alert(1)>" in text
    assert "<img" not in text and "<!--" not in text and "](" not in text
    assert json.loads((tmp_path / "results.json").read_text())["arms"][0]["label"].startswith("<img")
