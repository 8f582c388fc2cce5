"""The report: one whole file that shows every arm, metric and clip, with nothing from outside."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from html.parser import HTMLParser

import pytest
import torch
from rich.console import Console

from hvg.line_chart import Line, line_chart, smooth, ticks
from hvg.report import write_report
from hvg.results import Results, compare, format_number, table_csv, table_markdown, table_text, write_results
from hvg.study import _map_labels
from hvg.video import write_video

VOID = {"meta", "br", "img", "input", "link", "hr"}
CLIPS = [f"clip{i}" for i in range(8)]


def arm(name: str, level: float, *, kind: str = "arm", seeds: tuple[int, ...] = (0, 1)) -> dict:
    """An arm whose every value is ``level`` plus what the clip and the seed share, plus a little of its own."""

    def value(seed: int, clip: int) -> float:
        return level + clip + 0.01 * seed + 0.001 * ((clip * len(name) + seed) % 5)

    def metric(sign: int, seed: int) -> dict:
        per_clip = {clip: sign * value(seed, i) for i, clip in enumerate(CLIPS)}
        return {"value": sum(per_clip.values()) / len(per_clip), "per_clip": per_clip}

    curve = [{"step": step, "loss": 1 / (1 + step) + level / 100, "epoch": 0} for step in range(40)]
    curve[20]["validation_psnr"] = curve[39]["validation_psnr"] = 12.0
    return {
        "name": name,
        "label": f"the {name} <arm>",
        "overrides": [f"pose={name}"],
        "kind": kind,
        "status": "done",
        "error": None,
        "seeds": [
            {"seed": seed, "values": {"psnr": metric(1, seed), "l1": metric(-1, seed)}}
            | ({"curve": curve} if kind == "arm" else {})
            for seed in seeds
        ],
    }


@pytest.fixture
def results() -> Results:
    failed = arm("nerf", 0.0) | {"status": "failed", "seeds": [], "error": "DataError: no <nerf> was trained"}
    return {
        "title": "Which signal?",
        "question": "Does it matter & how much?",
        "study": "conditioning",
        "varies": ["pose"],
        "command": "hvg study experiments/conditioning",
        "caveats": ["small images"],
        "metrics": [
            {"name": "psnr", "label": "PSNR", "higher_is_better": True, "unit": "dB", "protocol": "psnr/v1"},
            {"name": "l1", "label": "L1", "higher_is_better": False, "unit": "", "protocol": "l1/v1"},
        ],
        "arms": [
            arm("none", 10.0),
            arm("skeleton", 12.0),
            arm("bone", 13.0),
            failed,
            arm("copy", 9.0, kind="baseline", seeds=(0,)),
        ],
        "clips": [{"clip_id": clip, "subject": f"person-{clip}", "video": None} for clip in CLIPS],
        "provenance": {"commit": "abc123", "versions": {"torch": "2.13.0"}, "seeds": [0, 1]},
    }


class Page(HTMLParser):
    """Checks that every element is closed where it should be, and collects text and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.addresses: list[str] = []
        self.classes: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self.classes += [value or "" for name, value in attrs if name == "class"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass  # such as <line/>: opened and closed at once

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    assert page.open == []
    return page


def test_the_report_shows_everything_and_needs_nothing(results, tmp_path):
    path = write_report(results, tmp_path)
    assert path == tmp_path / "report.html"
    page = read(path)
    for entry in results["arms"]:
        assert entry["label"] in page.text
    for wanted in ("PSNR (dB) ↑", "L1 ↓", "psnr/v1", "Does it matter & how much?", "abc123", "2.13.0", "small images"):
        assert wanted in page.text
    for clip in results["clips"]:
        assert clip["clip_id"] in page.text and clip["subject"] in page.text
    assert "failed: DataError: no <nerf> was trained" in page.text
    assert not re.search(r"https?://|@import|url\(|<link", path.read_text())
    assert page.classes.count("chart") == 2  # the loss and the validation metric, not the epoch
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_videos_are_inside_and_play(results, tmp_path):
    write_video(tmp_path / "samples" / "clip0.mp4", torch.zeros(2, 3, 16, 16), fps=4)
    results["clips"][0]["video"] = "samples/clip0.mp4"
    results["clips"][1]["video"] = "samples/lost.mp4"
    page = read(write_report(results, tmp_path))
    assert len(page.addresses) == 1
    body = page.addresses[0].removeprefix("data:video/mp4;base64,")
    assert base64.b64decode(body) == (tmp_path / "samples" / "clip0.mp4").read_bytes()


def test_videos_beyond_the_limit_are_linked(results, tmp_path, monkeypatch):
    monkeypatch.setattr("hvg.report.MAX_VIDEO_CHARACTERS", 10)
    write_video(tmp_path / "clip0.mp4", torch.zeros(2, 3, 16, 16), fps=4)
    results["clips"][0]["video"] = "clip0.mp4"
    assert read(write_report(results, tmp_path)).addresses == ["clip0.mp4"]


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


def test_the_table_for_the_terminal(results):
    out = io.StringIO()
    Console(file=out, width=160).print(table_text(results))
    for wanted in ("PSNR dB ↑", "the bone <arm>", "failed: DataError: no <nerf> was trained", "+3.00"):
        assert wanted in out.getvalue()


def test_results_and_csv_are_written_whole(results, tmp_path):
    results["arms"][0]["seeds"][0]["curve"][0]["loss"] = float("nan")
    write_results(results, tmp_path)
    read_back = json.loads((tmp_path / "results.json").read_text())
    assert read_back["arms"][1] == results["arms"][1]
    assert read_back["arms"][0]["seeds"][0]["curve"][0]["loss"] is None
    rows = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text())))
    assert len(rows) == 5 * 2
    assert float(rows[4]["difference"]) == pytest.approx(3.0, abs=0.01)
    assert rows[6]["status"] == "failed" and rows[6]["value"] == ""
    assert table_csv(results) == (tmp_path / "results.csv").read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["results.csv", "results.json", "results.md"]
    assert table_markdown(results) == (tmp_path / "results.md").read_text()


def test_the_table_for_a_readme_has_every_arm_and_metric(results):
    lines = table_markdown(results).splitlines()
    assert "PSNR (dB) ↑" in lines[0]
    assert len(lines) == 2 + len(results["arms"])
    assert {line.count("|") for line in lines} == {2 + len(results["metrics"])}
    by_label = {line.split("|")[1].strip(): line for line in lines[2:]}
    assert list(by_label) == [arm["label"] for arm in results["arms"]]
    for arm in results["arms"]:
        cell = compare(results)[arm["name"]].get("psnr")
        if arm["status"] == "failed":
            assert "failed" in by_label[arm["label"]]
        else:
            assert format_number(cell.value) in by_label[arm["label"]]


def test_seeds_that_only_one_arm_finished_do_not_pair(results):
    results["arms"][1]["seeds"] = results["arms"][1]["seeds"][1:]
    assert compare(results)["skeleton"]["psnr"].difference.num_seeds == 1
    results["arms"][0]["seeds"] = results["arms"][0]["seeds"][:1]
    cell = compare(results)["skeleton"]["psnr"]
    assert cell.difference is None and not cell.best


def test_one_step_that_diverged_does_not_take_the_curve_with_it(results, tmp_path):
    before = write_report(results, tmp_path).read_text().count("<polyline")
    for seed in results["arms"][0]["seeds"]:
        seed["curve"] = [*seed["curve"], {"step": 40, "loss": float("nan")}]
    page = write_report(results, tmp_path).read_text()
    assert page.count("<polyline") == before
    assert not re.search(r"\bnan\b", page)


def test_charts():
    line = Line("a", 0, [(float(x), 5.0) for x in range(10)])
    assert "polyline" in line_chart([line], "x", "y")
    assert line_chart([Line("a", 0, [(0.0, float("nan"))])], "x", "y") == ""
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(-3, 47) == [0, 10, 20, 30, 40]
    assert smooth([(0, 0.0), (1, 3.0), (2, 0.0)], reach=1) == [(0, 1.5), (1, 1.0), (2, 1.5)]


def test_numbers():
    assert [format_number(x) for x in (12.3456, -0.12345, 0.0123456, float("inf"))] == [
        "12.35",
        "−0.123",
        "0.0123",
        "∞",
    ]


def test_a_map_that_arms_share_is_shown_once():
    shared = {"a": ["bone_map-1"], "b": ["bone_map-1"], "c": []}
    assert _map_labels(shared) == {"bone_map-1": "bone_map map"}
    own = {"a": ["hvg-1"], "b": ["hvg-2"]}
    assert _map_labels(own) == {"hvg-1": "a map", "hvg-2": "b map"}
