"""The report: one whole file that shows every arm, metric and clip, with nothing from outside."""

import base64
import csv
import hashlib
import html
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from example_study import arm, score, study_results
from plotly.offline import get_plotlyjs
from rich.console import Console

from hvg.core.text_tables import markdown_text
from hvg.media.video import write_video
from hvg.report.beside_published import protocol_table_csv, protocol_tables
from hvg.report.cells import compare
from hvg.report.charts import distributions, forest_charts, smooth
from hvg.report.figures import COLOURS, PAPER, Line, line_chart, small_ticks
from hvg.report.finding import finding
from hvg.report.footnotes import warnings
from hvg.report.latex import escape, results_latex
from hvg.report.number_format import format_amount, format_number
from hvg.report.published import chosen_tables, published_tables
from hvg.report.results import Results
from hvg.report.study_report import write_report
from hvg.report.tables import table_csv, table_markdown, table_text, write_results
from hvg.score.statistics import Interval
from hvg.study.study_file import StudyFile

VOID = {"meta", "br", "img", "input", "link", "hr"}


@pytest.fixture
def results() -> Results:
    return study_results()


class Page(HTMLParser):
    """Checks that every element is closed where it should be, and collects text and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.addresses: list[str] = []
        self.classes: list[str] = []
        self.hints: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self.hints += [value or "" for name, value in attrs if name == "title"]
        self.classes += [value or "" for name, value in attrs if name == "class"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass  # such as <line/>: opened and closed at once

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if self.open[-1:] not in (["style"], ["script"]) else ""


def read(path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    assert page.open == []
    return page


def own_text(path) -> str:
    """A page without plotly's script."""
    text, plotly = path.read_text(encoding="utf-8"), get_plotlyjs()
    assert text.count(plotly) == 1
    return text.replace(plotly, "")


def figures(path) -> list[dict]:
    """What plotly is given for each chart of a page."""
    texts = re.findall(r'<script type="application/json">(.*?)</script>', path.read_text(encoding="utf-8"))
    return [json.loads(text) for text in texts]


def test_the_report_shows_everything_and_needs_nothing(results, tmp_path):
    path = write_report(results, tmp_path)
    assert path == tmp_path / "report.html"
    page = read(path)
    for entry in results["arms"]:
        assert entry["label"] in page.text
    for wanted in (
        "PSNR (dB) ↑",
        "L1 ↓",
        "psnr/float/mean-over-frames/v2",
        "Does it matter & how much?",
        "abc123",
        "2.13.0",
        "small images",
    ):
        assert wanted in page.text
    for clip in results["clips"]:
        assert clip["clip_id"] in page.text and clip["subject"] in page.text
    assert "failed: DataError: no <nerf> was trained" in page.text
    assert not re.search(r"https?://|@import|url\(|<link", own_text(path))
    assert all(address.startswith("data:") for address in page.addresses)
    # Of PSNR and L1, differences of arms and of the baseline, and every clip; PSNR over time and angle; the loss and the
    # validation metric, not the epoch.
    assert page.classes.count("chart") == 2 * 2 + 2 + 2 + 2
    assert len(figures(path)) == page.classes.count("chart")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert path.stat().st_size < 8_000_000


def test_the_browser_is_told_to_ask_for_nothing_and_to_run_nothing_else(results, tmp_path):
    text = write_report(results, tmp_path).read_text(encoding="utf-8")
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="(.*?)">', text)[1]
    *_, script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.split("; ")[:2] == ["default-src 'none'", f"script-src 'sha256-{digest}'"]


def test_names_from_anyone_stay_text(results, tmp_path):
    """In the page, where HTML is read, and in charts, where plotly reads HTML and placeholders."""
    plain = read(write_report(results, tmp_path))
    name = '</script><script>alert("1")</script><a href="javascript:alert(1)">{{ 7 * 7 }} %{y} \' &amp;'
    results["arms"][1]["label"] = results["title"] = results["clips"][0]["subject"] = name
    path = write_report(results, tmp_path)
    page = read(path)
    assert page.text.count(name) > 6 and len(page.addresses) == len(plain.addresses)
    assert path.read_text().count("<script") == path.read_text().count("</script") == 1 + len(figures(path))
    traces = [trace for figure in figures(path) for trace in figure["data"]]
    texts = [str(trace.get(key, "")) for trace in traces for key in ("name", "text", "hovertext")]
    texts += [str(text["text"]) for figure in figures(path) for text in figure["layout"].get("annotations", [])]
    assert sum(html.escape(name) in text for text in texts) > 10
    assert not any("<a" in text or "<script" in text for text in texts)
    # Placeholders are looked for in these alone.
    assert {trace.get("hovertemplate", "") for trace in traces} <= {
        "",
        "%{y:.4g} at %{x}",
        "%{fullData.name}<br>%{text}: %{x:.4g}<extra></extra>",
    }


def test_videos_are_inside_and_play(results, tmp_path):
    write_video(tmp_path / "samples" / "clip0.mp4", torch.zeros(2, 3, 16, 16), fps=4)
    results["clips"][0]["video"] = "samples/clip0.mp4"
    results["clips"][1]["video"] = "samples/lost.mp4"
    page = read(write_report(results, tmp_path))
    (address,) = [address for address in page.addresses if address.startswith("data:video")]
    body = address.removeprefix("data:video/mp4;base64,")
    assert base64.b64decode(body) == (tmp_path / "samples" / "clip0.mp4").read_bytes()


def test_videos_beyond_the_limit_are_linked(results, tmp_path, monkeypatch):
    monkeypatch.setattr("hvg.report.study_report.MAX_VIDEO_CHARACTERS", 10)
    write_video(tmp_path / "clip0.mp4", torch.zeros(2, 3, 16, 16), fps=4)
    results["clips"][0]["video"] = "clip0.mp4"
    addresses = read(write_report(results, tmp_path)).addresses
    assert [a for a in addresses if not a.startswith(("data:", "#"))] == ["clip0.mp4"]


def test_differences_are_to_the_first_arm_that_is_done(results):
    cells = compare(results)
    assert cells["none"]["psnr"].difference is None
    assert cells["bone"]["psnr"].difference.mean == pytest.approx(3.0, abs=0.01)
    assert cells["copy"]["psnr"].difference.num_seeds == 2
    assert (cells["bone"]["psnr"].verdict, cells["bone"]["l1"].verdict) == ("better", "better")
    assert (cells["copy"]["psnr"].verdict, cells["bone"]["psnr"].wins) == ("worse", 8)
    assert cells["nerf"] == {}
    assert [name for name, row in cells.items() if row and row["psnr"].best] == ["bone"]
    results["arms"].insert(0, results["arms"].pop(3))
    assert compare(results)["none"]["psnr"].difference is None


def test_no_arm_is_best_where_the_two_ahead_cannot_be_told_apart(results):
    results["arms"][1] = arm("skeleton", 13.0)
    assert not any(row["psnr"].best for row in compare(results).values() if row)


def test_everything_may_fail(results, tmp_path):
    for entry in results["arms"]:
        entry |= {"status": "failed", "seeds": [], "error": "broken"}
    page = read(write_report(results, tmp_path))
    assert "No arm finished" in page.text
    Console(file=io.StringIO()).print(table_text(results))


def test_what_is_not_finished_is_named_in_every_table(results, tmp_path):
    results["arms"][1] |= {"num_seeds": 3, "error": "seed 2: not finished: at step 12 of 60"}
    results["arms"][2] |= {"num_seeds": 2, "seeds": [], "status": "unfinished", "error": "seed 0: not finished"}
    label = f"{results['arms'][1]['label']} (2 of 3 seeds)"
    out = io.StringIO()
    Console(file=out, width=160).print(table_text(results))
    tables = out.getvalue(), table_markdown(results, compare(results)), read(write_report(results, tmp_path)).text
    assert label in tables[0] and markdown_text(label) in tables[1] and label in tables[2]
    assert "seed 0: not finished" in tables[0]
    assert "unfinished" in tables[1] and "unfinished" in results_latex(results, compare(results))
    assert "2 of 3 seeds" in results_latex(results, compare(results))
    assert "seed 2: not finished: at step 12 of 60" in tables[-1] and "seed 0: not finished" in tables[-1]
    assert "1 unfinished" in tables[-1]


def test_the_table_for_the_terminal(results):
    out = io.StringIO()
    Console(file=out, width=160).print(table_text(results))
    for wanted in ("PSNR (dB) ↑", "the bone <arm>", "failed: DataError: no <nerf> was trained", "+3.00"):
        assert wanted in out.getvalue()


def test_results_and_csv_are_written_whole(results, tmp_path):
    results["arms"][0]["seeds"][0]["curve"][0]["loss"] = float("nan")
    write_results(results, tmp_path)
    read_back = json.loads((tmp_path / "results.json").read_text())
    assert read_back["arms"][1] == results["arms"][1]
    assert read_back["arms"][0]["seeds"][0]["curve"][0]["loss"] is None
    rows = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text())))
    assert len(rows) == 5 * 4
    by_arm = {(row["arm"], row["metric"]): row for row in rows}
    assert float(by_arm["bone", "psnr"]["difference"]) == pytest.approx(3.0, abs=0.01)
    assert by_arm["nerf", "psnr"]["status"] == "failed" and by_arm["nerf", "psnr"]["value"] == ""
    assert table_csv(results) == (tmp_path / "results.csv").read_text()
    assert {p.suffix for p in tmp_path.iterdir()} == {".csv", ".json", ".md", ".tex"}
    assert (tmp_path / "results.tex").read_text() == results_latex(results, compare(results))
    sentences = map(markdown_text, finding(results, compare(results)).sentences)
    expected = "\n\n".join([*sentences, table_markdown(results, compare(results))])
    assert (tmp_path / "results.md").read_text() == expected + f"\nBeware: {warnings(results)[0]}.\n"


def test_the_table_for_a_readme_has_every_arm_and_metric(results):
    lines = table_markdown(results, compare(results)).splitlines()
    assert "PSNR (dB) ↑" in lines[0]
    assert len(lines) == 2 + len(results["arms"])
    assert {line.count("|") for line in lines} == {2 + len(results["metrics"])}
    by_label = {line.split("|")[1].strip(): line for line in lines[2:]}
    assert list(by_label) == [markdown_text(arm["label"]) for arm in results["arms"]]
    for entry in results["arms"]:
        cell = compare(results)[entry["name"]].get("psnr")
        wanted = "failed" if entry["status"] == "failed" else format_number(cell.value)
        assert wanted in by_label[markdown_text(entry["label"])]


def test_seeds_that_only_one_arm_finished_do_not_pair(results):
    results["arms"][1]["seeds"] = results["arms"][1]["seeds"][1:]
    assert compare(results)["skeleton"]["psnr"].difference.num_seeds == 1
    results["arms"][0]["seeds"] = results["arms"][0]["seeds"][:1]
    cell = compare(results)["skeleton"]["psnr"]
    assert cell.difference is None and not cell.best


def test_one_step_that_diverged_does_not_take_the_curve_with_it(results, tmp_path):
    before = [len(figure["data"]) for figure in figures(write_report(results, tmp_path))]
    for seed in results["arms"][0]["seeds"]:
        seed["curve"] = [*seed["curve"], {"step": 40, "loss": float("nan")}]
    path = write_report(results, tmp_path)
    assert [len(figure["data"]) for figure in figures(path)] == before
    assert not re.search(r"\bnan\b", own_text(path), re.IGNORECASE)


def test_charts():
    line = Line("a", 0, [(float(x), 5.0) for x in range(10)])
    chart = line_chart([line, Line("b", 9, [(0.0, 4.0), (1.0, float("nan"))])], "x", "y")
    assert [len(trace.x) for trace in chart.figure.data] == [10, 1] and chart.legend == {"a": 0, "b": 9}
    assert [trace.line.dash for trace in chart.figure.data] == ["solid", "dash"]
    assert line_chart([Line("a", 0, [(0.0, float("nan"))])], "x", "y") is None


def test_small_numbers_on_an_axis_have_one_digit_before_the_exponent():
    assert small_ticks(0, 1.1e-5)["ticktext"] == ["0", "2e−06", "4e−06", "6e−06", "8e−06", "1e−05"]
    assert small_ticks(-2.2e-4, 5e-4)["ticktext"] == ["−0.0002", "0", "0.0002", "0.0004"]
    assert small_ticks(0, 0.5) == small_ticks(-3.0, 1e-5) == {}
    axis = line_chart([Line("a", 0, [(0.0, 6e-6), (5000.0, 9e-6)])], "x", "y").figure.layout
    assert axis.yaxis.ticktext[0] == "6e−06" and axis.xaxis.ticktext is None
    assert axis.template.layout.xaxis.tickformat == "~g", "5000, not 0.5e+4"
    assert smooth([(0, 0.0), (1, 3.0), (2, 0.0)], reach=1) == [(0, 1.5), (1, 1.0), (2, 1.5)]


def test_a_loss_that_towers_is_cut_off():
    points = [(float(x), 1000.0 if x == 0 else 1.0 + x / 100) for x in range(100)]
    assert line_chart([Line("a", 0, points)], "x", "y", shown=0.98).figure.layout.yaxis.range[1] < 3
    assert line_chart([Line("a", 0, points)], "x", "y").figure.layout.yaxis.range[1] > 1000


def test_an_interval_without_an_end_stops_at_the_border(results):
    cells, psnr = compare(results), results["metrics"][1]
    endless = Interval(1.0, float("-inf"), float("inf"), 8, 2, 0.5)
    cells["skeleton"]["psnr"] = replace(cells["skeleton"]["psnr"], difference=endless, verdict="")
    charts = forest_charts(psnr, results, cells)
    assert list(charts) == ["the arms", "apart from the arms"]
    figure = charts["the arms"].figure
    low, high = figure.layout.xaxis.range
    first, second = figure.data
    assert (1 - first.error_x.arrayminus[0], 1 + first.error_x.array[0]) == pytest.approx((low, high))
    assert (first.marker.color, second.marker.color) == (PAPER, COLOURS[2])
    texts = {text.text for text in figure.layout.annotations}
    assert {"the bone &lt;arm&gt;", "+3.000 [+3.000, +3.000]", "← worse", "better →"} <= texts
    assert forest_charts(results["metrics"][0], results, cells) == {}


def test_every_clip_is_a_dot_that_names_it(results):
    del results["arms"][1]["seeds"][0]["values"]["psnr"]["per_clip"]["clip7"]
    del results["arms"][1]["seeds"][1]["values"]["psnr"]["per_clip"]["clip7"]
    chart = distributions(results)[0]
    *clips, medians = chart.figure.data
    assert chart.label == "PSNR (dB) ↑ of every clip" and len(clips) == 8
    # The arm that failed has no row, and one clip is missing of another.
    assert [list(clip.y) for clip in clips] == [[0, 1, 2, 3]] * 7 + [[0, 2, 3]]
    assert clips[0].x[0] == pytest.approx(10.0, abs=0.01) and medians.x[0] == pytest.approx(13.5, abs=0.01)
    assert (clips[0].name, clips[0].text[1]) == ("clip0 (subject person-clip0)", "the skeleton &lt;arm&gt;")
    assert list(clips[0].marker.color) == [COLOURS[i] for i in (0, 1, 2, 4)]
    assert "the bone &lt;arm&gt;: median 16.5" in medians.hovertext[2]


def test_what_is_not_available_is_said_and_never_a_number(results, tmp_path):
    page = read(write_report(results, tmp_path))
    assert "FVD: needs i3d_pretrained_400.pt; see `hvg weights`" in page.text
    cells = [row for row in compare(results).values() if row]
    assert not any("fvd" in row for row in cells) and page.text.count("n/a") > len(cells)
    # Of one arm only: it is named.
    results["arms"][1]["seeds"][0]["values"]["psnr"] = score("psnr", {}, unavailable="broken file")
    results["arms"][1]["seeds"][1]["values"]["psnr"] = score("psnr", {}, unavailable="broken file")
    page = read(write_report(results, tmp_path))
    assert "PSNR: broken file (the skeleton <arm>)" in page.text and "broken file" in page.hints


def test_a_number_says_what_it_is(results, tmp_path):
    page = read(write_report(results, tmp_path))
    (hint,) = [hint for hint in page.hints if "fid/inception/v1" in hint and "seed 0: 87.00" in hint][:1]
    for wanted in (
        "protocol hvg/v1",
        "N = 48 frames",
        "seed 1:",
        "two samples of the truth: 12.50",
        "inception sha256:ab12",
    ):
        assert wanted in hint
    assert "48 frames are few for 2048 dimensions" in hint and "FID: 48 frames are few" in page.text
    assert "two samples of the truth" in page.text and "inception sha256:ab12" in page.text


def test_anchors_stand_below_the_arms_and_take_no_part(results, tmp_path):
    """What pictures score that nobody trained for: better than any arm here, and neither ranked nor compared."""
    plain = finding(results, compare(results))
    page = read(write_report(results, tmp_path))
    assert "Last rows" not in page.text
    anchors = {"truth": {"fid": 0.0, "psnr": 98.75, "l1": 0.0, "fvd": None}, "of_tomorrow": {"psnr": 7.25}}
    with_anchors: Results = {**results, "anchors": anchors}
    assert compare(with_anchors) == compare(results) and finding(with_anchors, compare(with_anchors)) == plain
    page = read(write_report(with_anchors, tmp_path))
    body = re.search(r'<tbody class="anchors">.*?</tbody>', (tmp_path / "report.html").read_text(), re.DOTALL)
    assert body is not None
    rows = body[0].split("<tr>")[1:]
    assert [re.search(r'data-sort="(.*?)"', row)[1] for row in rows] == [  # type: ignore[index]
        "the truth itself",
        "two samples of the truth",
        "of tomorrow",
    ]
    assert "98.75" in rows[0] and "12.50" in rows[1] and "7.250" in rows[2]
    assert "best" not in body[0] and "difference" not in body[0]
    assert "Last rows: what pictures score that nobody trained for" in page.text
    markdown = table_markdown(with_anchors, compare(with_anchors)).splitlines()
    assert markdown[:-2] == table_markdown(results, compare(results)).splitlines()
    assert markdown[-2] == "| *the truth itself* | 0.0000 | 98.75 | 0.0000 | – |"
    lines = list(csv.DictReader(io.StringIO(table_csv(with_anchors))))
    anchored = [line for line in lines if line["kind"] == "anchor"]
    assert [line["value"] for line in anchored if line["arm"] == "truth"] == ["0.0", "98.75", "0.0", ""]
    assert all(line["difference"] == "" for line in anchored)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table_text(with_anchors))
    assert "the truth itself" in console.export_text()
    assert results_latex(with_anchors, compare(results)) == results_latex(results, compare(results))


def test_the_worst_and_best_clips_are_linked_to_their_videos(results, tmp_path):
    write_video(tmp_path / "clip0.mp4", torch.zeros(2, 3, 16, 16), fps=4)
    results["clips"][0]["video"] = "clip0.mp4"
    text = write_report(results, tmp_path).read_text()
    ranking = text[text.index("Worst and best clips") :]
    worst, best = re.search(r"the bone &lt;arm&gt;</td><td>(.*?)</td><td>(.*?)</td>", ranking).groups()
    assert re.findall(r"clip\d", worst) == ["clip0", "clip1", "clip2"] and 'href="#video-0"' in worst
    assert re.findall(r"clip\d", best) == ["clip7", "clip6", "clip5"] and "href" not in best
    assert 'id="video-0"' in text


def test_published_tables_are_whole():
    tables = published_tables()
    assert list(tables) == ["hvg_1", "hvg_2", "hvg_3", "gas_1", "gas_2", "gas_3", "gas_4"]
    assert [len(table.rows) for table in tables.values()] == [9, 9, 5, 5, 5, 3, 2]
    # In each of them the paper's own last row is ahead in every column, ties apart.
    for table in tables.values():
        for index, column in enumerate(table.columns):
            values = [float(row.values[index]) for row in table.rows]
            assert values[-1] == (max if column.better == "higher" else min)(values)
    own = {
        name: dict(zip([c.label + c.set for c in t.columns], t.rows[-1].values, strict=True))
        for name, t in tables.items()
    }
    # The ablations repeat rows of the main tables.
    assert own["hvg_3"].items() <= own["hvg_1"].items()
    for label in ("PSNR", "SSIM", "LPIPS", "FVD"):
        assert own["gas_3"][f"{label}NVS"] == own["gas_1"][f"{label}THuman"]
        assert own["gas_4"][f"{label}NVS"] == own["gas_1"][f"{label}2K2K"]
        assert own["gas_4"][f"{label}NPS"] == own["gas_2"][label]


def test_a_protocol_has_its_papers_tables():
    assert list(chosen_tables("hvg")) == list(chosen_tables("disco_fixed")) == ["hvg_1", "hvg_2", "hvg_3"]
    assert list(chosen_tables("gas")) == ["gas_1", "gas_2", "gas_3", "gas_4"]
    assert list(chosen_tables("gas_masked")) == ["gas_1", "gas_3"]
    assert not chosen_tables("basic") and not chosen_tables("disco_2023")
    assert list(chosen_tables("basic", ["hvg_3"])) == ["hvg_3"] and not chosen_tables("hvg", [])


def test_own_rows_stand_above_the_published_ones(results, tmp_path):
    page = read(write_report(results, tmp_path))
    assert "HVG (arXiv 2602.21188), Table 3" in page.text and page.text.count("MagicAnimate") == 2
    assert page.classes.count("tag") == 9 + 9 + 5
    table = protocol_tables(results, compare(results))[0]
    assert [row.kind for row in table.rows] == ["arm"] * 4 + ["baseline"] + ["published"] * 9
    bone = table.rows[2]
    assert [cell.text for cell in bone.cells[3:]] == ["–", format_number(bone.cells[4].value or 0), "–", "n/a"]
    assert "e−06" in bone.cells[4].text
    assert bone.cells[3].hint == "protocol hvg/v1 has no lpips" and "i3d" in bone.cells[6].hint
    assert bone.cells[2].best and "psnr/float" in bone.cells[2].hint
    assert table.rows[-1].cells[4].text == "1.5e-05"
    rows = list(csv.DictReader(io.StringIO(protocol_table_csv(table))))
    assert rows[-1]["source"] == "HVG (arXiv 2602.21188), Table 1" and rows[0]["source"] == "this study"
    assert rows[2]["FVD"] == "" and float(rows[2]["PSNR"]) == bone.cells[2].value


def test_no_published_table_where_the_protocol_has_none(results, tmp_path):
    results["protocol"]["id"] = "basic/v2"
    assert "published" not in read(write_report(results, tmp_path)).text
    assert "published" not in results_latex(results, compare(results))


@pytest.mark.parametrize(
    ("protocol", "table", "spans"),
    [
        ("gas/v2", "gas_1", [("–", 1), ("16.51", 1)]),  # 2K2K keeps its background
        ("gas_masked/v2", "gas_1", [("16.51", 1), ("–", 1)]),  # THuman does not
        ("gas/v2", "gas_4", [("16.51", 2)]),  # one number of the study's own clips
        ("gas/v2+changes", "gas_2", [("16.51†", 1)]),
        ("basic/v2", "gas_1", [("16.51†", 2)]),
    ],
)
def test_a_value_stands_only_where_the_column_is_scored_alike(results, protocol, table, spans):
    results["protocol"]["id"], results["published"] = protocol, [table]
    (laid_out,) = protocol_tables(results, compare(results))
    psnr = [cell for cell in laid_out.rows[2].cells if cell.span][: len(spans)]
    assert [(cell.text.replace("16.51", "16.51"), cell.span) for cell in psnr] == spans
    assert any("another definition" in note for note in laid_out.notes) == ("†" in spans[0][0])


def test_a_value_of_one_task_stands_under_the_column_of_that_task(results):
    """fid is scored of novel views, l1 of novel poses; both are called PSNR there."""
    metrics = {
        "psnr": {"name": "psnr"},
        "fid": {"name": "of_task", "task": "view", "metric": "psnr"},
        "l1": {"name": "of_task", "task": "pose", "metric": "psnr"},
    }
    results["protocol"] = {"id": "gas/v2+changes", "settings": {"metrics": metrics}}
    results["published"] = ["gas_3"]
    (laid_out,) = protocol_tables(results, compare(results))
    bone = laid_out.rows[2]
    cells = compare(results)["bone"]
    assert [cell.text for cell in bone.cells[:2]] == [f"{format_number(cells[x].value)}†" for x in ("fid", "l1")]
    assert [cell.span for cell in bone.cells[:2]] == [1, 1] and bone.cells[2].text == "–"


def test_a_study_names_published_tables_that_exist():
    fields = {"title": "t", "question": "q", "varies": ["pose"], "arms": {"a": []}}
    assert StudyFile.model_validate(fields).published is None
    assert StudyFile.model_validate({**fields, "published": ["hvg_3"]}).published == ("hvg_3",)
    with pytest.raises(ValueError, match=r"no published table is named 'hvg3'\. Did you mean 'hvg_3'"):
        StudyFile.model_validate({**fields, "published": ["hvg3"]})


def test_latex_is_whole_and_escaped(results):
    assert escape("a_b & 50 % <x> ~ ^ \\ {−} Fréchet") == (
        r"a\_b \& 50 \% \textless{}x\textgreater{} \textasciitilde{} \textasciicircum{} \textbackslash{} \{$-$\} Fréchet"
    )
    results["arms"][0]["label"] = "[none] 50%"
    latex = results_latex(results, compare(results))
    assert latex.count(r"\begin{tabular}") == latex.count(r"\bottomrule") == 4
    for table in latex.split(r"\begin{tabular}")[1:]:
        columns, body = re.match(r"\{(.*?)\}(.*?)\\end", table, re.DOTALL).groups()
        assert columns.count("{") == columns.count("}")
        for line in body.splitlines():
            if line.endswith(r"\\"):
                spans = sum(int(span) - 1 for span in re.findall(r"multicolumn\{(\d)", line))
                assert len(re.findall(r"(?<!\\)&", line)) + 1 + spans == len(columns)
                assert not line.startswith(("[", "*"))
    assert re.search(r"the bone \\textless\{\}arm\\textgreater\{\} &.*\\textbf\{16\.51", latex)
    assert "published; Xu et al., 2024" in latex and r"\textcolor{gray}{363.1}" in latex and "& n/a" in latex
    assert {line for line in latex.splitlines() if "%" in line.replace(r"\%", "")} == {
        line for line in latex.splitlines() if line.startswith("% ")
    }


def test_numbers():
    assert [format_number(x) for x in (12.3456, -0.12345, 0.0123456, float("inf"))] == [
        "12.35",
        "−0.123",
        "0.0123",
        "∞",
    ]
    assert [format_number(x) for x in (12.3456, 0.0, 0.00012, -1.5e-5)] == ["12.35", "0.0000", "1.2e−04", "−1.5e−05"]


def test_amounts_have_the_digits_that_mean_something():
    cases = {
        (0.4863, 0.322, 0.653): "0.49 dB [0.32, 0.65]",
        (3.0, 2.9999, 3.0001): "3.000 dB [3.000, 3.000]",
        (12.0, 3.0, 21.0): "12.0 dB [3.0, 21.0]",
        (0.0126, 0.0111, 0.0141): "0.0126 dB [0.0111, 0.0141]",
        (1.5e-5, -1e-6, 3.1e-5): "1.5e−05 dB [−1.0e−06, 3.1e−05]",
        (0.5, float("-inf"), float("inf")): "0.5000 dB [−∞, ∞]",
    }
    for (mean, low, high), wanted in cases.items():
        assert format_amount(Interval(mean, low, high, 8, 2, 0.5), "dB") == wanted
