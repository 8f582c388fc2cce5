"""Contrasts and curves that a study names: their numbers, and where they are shown."""

import csv
import io

import pytest
from example_study import CLIPS, study_results

from hvg.report.cells import compare
from hvg.report.contrasts import contrasts, study_curves
from hvg.report.latex import escape, results_latex
from hvg.report.results import Results
from hvg.report.study_report import write_report
from hvg.report.tables import results_markdown, table_csv


@pytest.fixture
def results() -> Results:
    """Of arm skeleton every clip's PSNR is half its number more than of none; of bone it is the same everywhere."""
    found = study_results()
    for arm, gain in (("none", 0.0), ("skeleton", 0.5), ("bone", 0.0)):
        row = next(row for row in found["arms"] if row["name"] == arm)
        for seed in row["seeds"]:
            for index, clip in enumerate(CLIPS):
                seed["values"]["psnr"]["per_clip"][clip] = 10 + gain * index + 0.1 * seed["seed"]
    found["contrasts"] = {
        "a skeleton": ["skeleton", "none"],
        "a skeleton, twice over": ["skeleton", "none", "none", "skeleton"],
        "a nerf": ["nerf", "none"],
    }
    lines = {"arms": {"0": "none", "36.5": "skeleton"}, "gain": {"87": "a skeleton", "0": "a nerf"}}
    found["curves"] = [{"title": "By dose", "x": "MPJPE (mm)", "lines": lines}]
    return found


def test_two_arms_make_a_difference_and_four_one_of_differences(results):
    found = contrasts(results)
    difference = found["a skeleton"]["psnr"].difference
    assert difference.mean == pytest.approx(0.5 * sum(range(8)) / 8)
    assert difference == compare(results)["skeleton"]["psnr"].difference
    assert found["a skeleton, twice over"]["psnr"].difference.mean == pytest.approx(2 * difference.mean)
    assert found["a skeleton"]["psnr"].p_holm == pytest.approx(2 * difference.p)
    # Sets have no values of clips, and an arm that failed none at all.
    assert "fid" not in found["a skeleton"] and found["a nerf"] == {}


def test_one_seed_has_no_p(results):
    for arm in results["arms"]:
        arm["seeds"] = arm["seeds"][:1]
    assert contrasts(results)["a skeleton"]["psnr"].p_holm is None


def test_contrasts_are_in_the_tables(results):
    found = contrasts(results)
    rows = [line.split(" | ") for line in results_markdown(results).splitlines() if line.startswith("| a skeleton |")]
    heads = next(line for line in results_markdown(results).splitlines() if line.startswith("| contrast")).split(" | ")
    (row,) = rows
    assert row[heads.index("PSNR (dB) ↑")] == str(found["a skeleton"]["psnr"])
    assert row[heads.index("FID ↓")] == "–"
    lines = [line for line in csv.DictReader(io.StringIO(table_csv(results))) if line["kind"] == "contrast"]
    assert [(line["arm"], line["metric"]) for line in lines] == [
        (label, metric) for label in ("a skeleton", "a skeleton, twice over") for metric in ("psnr", "l1")
    ]
    assert float(lines[0]["difference"]) == found["a skeleton"]["psnr"].difference.mean
    latex = results_latex(results, compare(results))
    (line,) = (line for line in latex.splitlines() if line.startswith("a skeleton &"))
    assert escape(str(found["a skeleton"]["psnr"])) in line and r"\label{tab:contrasts}" in latex


def test_without_any_nothing_is_said_of_them(results):
    plain = study_results()
    assert "tab:contrasts" not in results_latex(plain, compare(plain))
    assert "contrast" not in results_markdown(plain) and study_curves(plain, compare(plain), contrasts(plain)) == []


def test_curves_show_arms_and_contrasts_with_intervals_over_a_number(results, tmp_path):
    found = contrasts(results)
    ((title, charts),) = study_curves(results, compare(results), found)
    chart = next(chart for chart in charts if chart.label == "PSNR (dB) ↑ over MPJPE (mm)")
    arms, gain = chart.figure.data
    assert title == "By dose" and chart.legend == {"arms": 0, "gain": 1}
    assert list(arms.x) == [0, 36.5] and not arms.error_y.visible
    # An arm that failed has no point.
    difference = found["a skeleton"]["psnr"].difference
    assert list(gain.x) == [87] and gain.y[0] == pytest.approx(difference.mean, rel=1e-5)
    assert gain.error_y.array[0] == pytest.approx(difference.high - difference.mean) and gain.error_y.visible
    low, high = chart.figure.layout.yaxis.range
    assert low < difference.low and high > max(arms.y)
    page = write_report(results, tmp_path).read_text()
    assert "<h2>Contrasts</h2>" in page and "<h2>By dose</h2>" in page and "a skeleton, twice over" in page
