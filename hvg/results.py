"""What a study found: the schema of results.json, the comparison of arms, and the table as text, CSV and JSON.

Everything a report shows is in one JSON-serialisable dict, ``Results``; ``compare`` adds the paired statistics.
"""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from rich.table import Table
from rich.text import Text

from hvg.files import write_text
from hvg.statistics import Interval, SeedValues, paired_difference, wins


class MetricInfo(TypedDict):
    """One column. unit: "dB" or "" for none. protocol: the metric's id of exactly how it is computed."""

    name: str
    label: str
    higher_is_better: bool
    unit: str
    protocol: str


class MetricValue(TypedDict):
    """value: mean over clips. per_clip: clip id -> value."""

    value: float
    per_clip: dict[str, float]


class SeedResult(TypedDict):
    """One trained model. values: metric name -> value. curve: as ``Arm.curve``, of this seed."""

    seed: int
    values: dict[str, MetricValue]
    curve: NotRequired[list[dict[str, float]]]


class Arm(TypedDict):
    """One row. The first arm of kind "arm" that is done is what all others are compared with.

    overrides: the configuration words that make this arm. kind "baseline": a trivial predictor, one entry in ``seeds``.
    error: one line of why it failed (the arm is named, the rest stands), or what is missing of an arm that is done.
    curve: points {"step", "loss", and any validation metric by name}; used when no seed carries its own.
    config_diff: lines of the resolved configuration that differ from the study's base.
    """

    name: str
    label: str
    overrides: list[str]
    kind: Literal["arm", "baseline"]
    status: Literal["done", "failed"]
    error: str | None
    seeds: list[SeedResult]
    curve: NotRequired[list[dict[str, float]]]
    config_diff: NotRequired[list[str]]


class Clip(TypedDict):
    """One test clip. video: path of its tiled MP4 relative to the study's folder, None when there is none."""

    clip_id: str
    subject: str
    video: str | None


class Results(TypedDict):
    """A whole study. varies: what differs between arms, in words. provenance: versions, commit, hardware, seeds, ..."""

    title: str
    question: str
    study: str
    varies: list[str]
    command: str
    caveats: list[str]
    metrics: list[MetricInfo]
    arms: list[Arm]
    clips: list[Clip]
    provenance: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One arm under one metric.

    value: mean over seeds and clips. seeds: value of every seed. difference: to the comparison arm over the seeds that
    both have, None for itself and where no seed is common.
    wins: subjects on which it beats the comparison arm. best: the best arm, and every paired interval against the other
    arms excludes 0. verdict: sign of the difference as good or bad where its interval excludes 0.
    """

    value: float
    seeds: dict[int, float]
    difference: Interval | None = None
    wins: int | None = None
    verdict: Literal["better", "worse", ""] = ""
    best: bool = False


def comparison_arm(results: Results) -> Arm | None:
    """The first arm that is done; all differences are to it. None when every arm failed."""
    return next((arm for arm in results["arms"] if _is_contender(arm)), None)


def compare(results: Results) -> dict[str, dict[str, Cell]]:
    """Arm name -> metric name -> cell, for every arm and baseline that is done and has the metric.

    Raises: ValueError when the arms were not measured on the same clips, so that they do not pair.
    """
    table: dict[str, dict[str, Cell]] = {arm["name"]: {} for arm in results["arms"]}
    for metric in results["metrics"]:
        arms = [arm for arm in results["arms"] if arm["status"] == "done" and _has_metric(arm, metric["name"])]
        first = next((arm for arm in arms if _is_contender(arm)), None)
        best = _best(arms, metric, results)
        for arm in arms:
            table[arm["name"]][metric["name"]] = _cell(arm, first, metric, results, arm is best)
    return table


def _is_contender(arm: Arm) -> bool:
    return arm["kind"] == "arm" and arm["status"] == "done"


def _has_metric(arm: Arm, metric: str) -> bool:
    return any(metric in seed["values"] for seed in arm["seeds"])


def _cell(arm: Arm, first: Arm | None, metric: MetricInfo, results: Results, best: bool) -> Cell:
    name = metric["name"]
    seeds = {seed["seed"]: seed["values"][name]["value"] for seed in arm["seeds"] if name in seed["values"]}
    value = sum(seeds.values()) / len(seeds)
    if first is None or arm is first:
        return Cell(value=value, seeds=seeds, best=best)
    pair, subject_of = _paired_values(arm, first, name), _subject_of(results)
    if pair is None:
        return Cell(value=value, seeds=seeds, best=best)
    difference = paired_difference(*pair, subject_of)
    won, _ = wins(*pair, subject_of, higher_is_better=metric["higher_is_better"])
    verdict = _verdict(difference, metric["higher_is_better"])
    return Cell(value=value, seeds=seeds, difference=difference, wins=won, verdict=verdict, best=best)


def _verdict(difference: Interval, higher_is_better: bool) -> Literal["better", "worse", ""]:
    if not difference.excludes_zero:
        return ""
    return "better" if (difference.mean > 0) == higher_is_better else "worse"


def _best(arms: list[Arm], metric: MetricInfo, results: Results) -> Arm | None:
    """The arm that beats each of the others with an interval that excludes 0; trivial baselines do not compete."""
    contenders = [arm for arm in arms if _is_contender(arm)]
    for arm in contenders:
        others = [other for other in contenders if other is not arm]
        if others and all(_beats(arm, other, metric, results) for other in others):
            return arm
    return None


def _beats(arm: Arm, other: Arm, metric: MetricInfo, results: Results) -> bool:
    pair = _paired_values(arm, other, metric["name"])
    if pair is None:
        return False
    return _verdict(paired_difference(*pair, _subject_of(results)), metric["higher_is_better"]) == "better"


def _paired_values(arm: Arm, other: Arm, metric: str) -> tuple[SeedValues, SeedValues] | None:
    """Values of the seeds that both finished, in the same order; None where that is no seed.

    ``arm`` may be a trivial baseline: it has no seeds, and its one mapping stands against every seed of the other.
    """
    own, others = _per_seed(arm, metric), _per_seed(other, metric)
    if arm["kind"] == "baseline":
        return next(iter(own.values())), list(others.values())
    shared = sorted(own.keys() & others.keys())
    return ([own[seed] for seed in shared], [others[seed] for seed in shared]) if shared else None


def _per_seed(arm: Arm, metric: str) -> dict[int, dict[str, float]]:
    """Seed -> clip id -> value."""
    return {seed["seed"]: seed["values"][metric]["per_clip"] for seed in arm["seeds"] if metric in seed["values"]}


def _subject_of(results: Results) -> dict[str, str]:
    return {clip["clip_id"]: clip["subject"] for clip in results["clips"]}


def format_number(value: float) -> str:
    """Two decimals from 10 upwards, three below, four below 0.1; with a true minus sign; infinity as its sign."""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    decimals = 2 if abs(value) >= 10 else 3 if abs(value) >= 0.1 else 4
    return f"{value:.{decimals}f}".replace("-", "−")


def format_difference(difference: Interval) -> str:
    """``+0.512 [+0.350, +0.664]``."""
    mean, low, high = (
        ("+" if x > 0 else "") + format_number(x) for x in (difference.mean, difference.low, difference.high)
    )
    return f"{mean} [{low}, {high}]"


def table_text(results: Results) -> Table:
    """The table for a terminal: print it with rich. The second line of a cell is the difference to the first arm."""
    cells = compare(results)
    first = comparison_arm(results)
    table = Table(title=results["title"], caption=_caption(first), title_justify="left", caption_justify="left")
    table.add_column("arm")
    for metric in results["metrics"]:
        arrow = "↑" if metric["higher_is_better"] else "↓"
        table.add_column(" ".join(filter(None, [metric["label"], metric["unit"], arrow])), justify="right")
    for index, arm in enumerate(results["arms"]):
        if arm["status"] == "failed":
            table.add_row(Text(arm["label"]), Text(f"failed: {arm['error']}", style="red"))
        else:
            row = [_cell_text(cells[arm["name"]].get(metric["name"])) for metric in results["metrics"]]
            table.add_row(Text(arm["label"], style="dim" if arm["kind"] == "baseline" else ""), *row)
        following = results["arms"][index + 1 :]
        if following and following[0]["kind"] != arm["kind"]:
            table.add_section()
    return table


def _caption(first: Arm | None) -> str:
    if first is None:
        return "No arm finished."
    return f"Below a value: difference to {first['label']}, 95 % interval by bootstrap over subjects and seeds."


def _cell_text(cell: Cell | None) -> Text:
    if cell is None:
        return Text("–")
    text = Text(format_number(cell.value), style="bold" if cell.best else "")
    if cell.difference is not None:
        colour = {"better": "green", "worse": "red", "": "dim"}[cell.verdict]
        text.append("\n" + format_difference(cell.difference), style=f"not bold {colour}")
    return text


def table_csv(results: Results) -> str:
    """One line per arm and metric, with the difference to the first arm; fields of failed arms are empty."""
    cells = compare(results)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = ["arm", "kind", "status", "metric", "protocol", "value", "difference", "low", "high", "wins"]
    writer.writerow([*head, "subjects", "seeds"])
    for arm in results["arms"]:
        for metric in results["metrics"]:
            row = [arm["name"], arm["kind"], arm["status"], metric["name"], metric["protocol"]]
            cell = cells[arm["name"]].get(metric["name"])
            writer.writerow([*row, *_csv_fields(cell)])
    return out.getvalue()


def _csv_fields(cell: Cell | None) -> list[Any]:
    if cell is None or cell.difference is None:
        return ["" if cell is None else cell.value, *[""] * 6]
    d = cell.difference
    return [cell.value, d.mean, d.low, d.high, cell.wins, d.num_subjects, d.num_seeds]


def table_markdown(results: Results) -> str:
    """The table for a README; in brackets the difference to the first arm and its interval."""
    cells, metrics = compare(results), results["metrics"]
    heads = []
    for metric in metrics:
        unit = f" ({metric['unit']})" if metric["unit"] else ""
        heads.append(f"{metric['label']}{unit} {'↑' if metric['higher_is_better'] else '↓'}")
    rows = [["", *heads], ["---"] * (len(metrics) + 1)]
    for arm in results["arms"]:
        if arm["status"] == "failed":
            rows.append([arm["label"], "failed", *[""] * (len(metrics) - 1)])
        else:
            rows.append([arm["label"], *(_cell_markdown(cells[arm["name"]].get(m["name"])) for m in metrics)])
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in rows)


def _cell_markdown(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    value = f"**{format_number(cell.value)}**" if cell.best else format_number(cell.value)
    return value if cell.difference is None else f"{value} ({format_difference(cell.difference)})"


def write_results(results: Results, folder: Path) -> None:
    """Writes results.json, results.csv and results.md into ``folder``, each whole or not at all; NaN becomes null."""
    folder = Path(folder)
    write_text(folder / "results.json", json.dumps(_finite(results), indent=2, ensure_ascii=False) + "\n")
    write_text(folder / "results.csv", table_csv(results))
    write_text(folder / "results.md", table_markdown(results))


def _finite(value: Any) -> Any:
    """JSON knows neither NaN nor infinity, and other readers than Python's refuse them."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
