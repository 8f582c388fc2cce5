"""What a study found: the schema of results.json, the comparison of arms, and the table as text, CSV and JSON.

Everything a report shows is in one JSON-serialisable dict, ``Results``; ``compare`` adds the paired statistics.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, TypeGuard

from rich.table import Table
from rich.text import Text

from hvg.anchors import AnchorValues, anchor_label
from hvg.cells import csv_text, markdown_text
from hvg.files import write_text
from hvg.number_format import format_difference, format_number, format_p
from hvg.record import ClipRecord, ProtocolRecord, ScoreRecord, finite
from hvg.statistics import Interval, SeedValues, holm, jackknife_difference, paired_difference, wins

# Rows are called better or worse, and arms best, below this corrected p-value; intervals have the level 1 minus it.
SIGNIFICANCE = 0.05


class MetricInfo(TypedDict):
    """One column. name: its label in the protocol. label: for people. unit: "dB" or "" for none.

    definition: id of exactly how it is computed. unavailable: why no arm has it; None where some may. on_person: whether it
    looks at the person alone. verdict: whether a better value means a better arm; it does where this is left out.
    """

    name: str
    label: str
    higher_is_better: bool
    unit: str
    definition: str
    unavailable: str | None
    on_person: NotRequired[bool]
    verdict: NotRequired[bool]


class Measured(TypedDict):
    """Where a model's numbers are from. commit: of the program, as of ``hvg.provenance.git_commit``. seconds: stage -> what it
    took, in its last start.
    """

    commit: str
    hardware: str
    seconds: dict[str, float]


class SeedResult(TypedDict):
    """One trained model. values: metric name -> score. curve: as ``Arm.curve``, of this seed. precision: as of ``Record``.

    left_out: name of a distance between sets -> the distance with every subject left out in turn, which is what its
    interval is made of; as of ``hvg.set_statistics.left_out``. config: the run's whole configuration as YAML. It and
    ``measured`` are there for a study's own arms.
    """

    seed: int
    values: dict[str, ScoreRecord]
    left_out: NotRequired[dict[str, list[float]]]
    curve: NotRequired[list[dict[str, float]]]
    precision: NotRequired[str | None]
    config: NotRequired[str]
    measured: NotRequired[Measured]


class Arm(TypedDict):
    """One row. The first arm of kind "arm" that is done is what all others are compared with.

    overrides: the configuration words that make this arm. kind "baseline": a trivial predictor, one entry in ``seeds``.
    error: one line of why it failed (the arm is named, the rest stands), how far it is where it is unfinished, or what is
    missing of an arm that is done. num_seeds: how many it was to have; those of ``seeds`` are finished.
    curve: points {"step", "loss", and any validation metric by name}; used when no seed carries its own.
    config_diff: lines of the resolved configuration that differ from the study's base.
    control: it is without what the others have, such as an arm without a pose signal, and stands apart from them.
    unseeded: its one entry in ``seeds`` is no training run of ours and stands against every seed of the others, as that of
    a baseline does.
    """

    name: str
    label: str
    overrides: list[str]
    kind: Literal["arm", "baseline"]
    status: Literal["done", "failed", "unfinished"]
    error: str | None
    seeds: list[SeedResult]
    num_seeds: NotRequired[int]
    curve: NotRequired[list[dict[str, float]]]
    config_diff: NotRequired[list[str]]
    control: NotRequired[bool]
    unseeded: NotRequired[bool]


class Clip(ClipRecord):
    """One test clip. video: path of its tiled MP4 relative to the study's folder, None when there is none."""

    video: str | None


class Results(TypedDict):
    """A whole study. varies: what differs between arms, in words. provenance: versions, commit, hardware, seeds, ...

    published: ids of published tables to show, as of ``hvg.published``; those of the protocol when it is left out.
    headline: name of the metric that answers the question; ``hvg.finding`` chooses one when it is left out. overrides: words
    of the command line for all arms. anchors: what they score, anchor -> metric -> value, as of ``hvg.anchors``; they are
    compared with nothing.
    """

    title: str
    question: str
    study: str
    varies: list[str]
    command: str
    caveats: list[str]
    protocol: ProtocolRecord
    metrics: list[MetricInfo]
    arms: list[Arm]
    clips: list[Clip]
    provenance: dict[str, Any]
    published: NotRequired[list[str]]
    headline: NotRequired[str]
    overrides: NotRequired[list[str]]
    anchors: NotRequired[AnchorValues]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One arm under one metric.

    value: mean over seeds and clips. seeds: value of every seed. difference: to the comparison arm over the seeds and clips
    that both have, None for itself, where none is common, and where a distance between sets says nothing of its spread.
    wins: subjects on which it beats the comparison arm; None for distances between sets. p: of the difference; p_holm:
    corrected for all rows that are compared under this metric; None where the difference is of one seed, which says nothing
    of the luck of a training run. verdict: the difference as good or bad where p_holm is below ``SIGNIFICANCE``. best: the
    arm that is better than every other arm, with p-values corrected for that many comparisons below it.
    """

    value: float
    seeds: dict[int, float]
    difference: Interval | None = None
    wins: int | None = None
    p: float | None = None
    p_holm: float | None = None
    verdict: Literal["better", "worse", ""] = ""
    best: bool = False


def comparison_arm(results: Results) -> Arm | None:
    """The first arm that is done; all differences are to it. None when every arm failed."""
    return next((arm for arm in results["arms"] if _is_contender(arm)), None)


def compare(results: Results) -> dict[str, dict[str, Cell]]:
    """Arm name -> metric name -> cell, for every arm and baseline that is done and has the metric."""
    table: dict[str, dict[str, Cell]] = {arm["name"]: {} for arm in results["arms"]}
    for metric in results["metrics"]:
        arms = [arm for arm in results["arms"] if arm["status"] == "done" and _has_metric(arm, metric["name"])]
        first = next((arm for arm in arms if _is_contender(arm)), None)
        found = {arm["name"]: _difference(arm, first, metric, results) for arm in arms if first and arm is not first}
        p_values = {name: difference.p for name, (difference, _) in found.items() if _decides(difference)}
        corrected = holm(p_values)
        best = _best(arms, metric, results) if carries_verdict(metric) else None
        for arm in arms:
            difference, won = found.get(arm["name"], (None, None))
            p_holm = corrected.get(arm["name"])
            table[arm["name"]][metric["name"]] = Cell(
                **_values(arm, metric["name"]),
                difference=difference,
                wins=won if carries_verdict(metric) else None,
                p=p_values.get(arm["name"]),
                p_holm=p_holm,
                verdict=_verdict(difference, p_holm, metric["higher_is_better"]) if carries_verdict(metric) else "",
                best=arm is best,
            )
    return table


def carries_verdict(metric: MetricInfo) -> bool:
    """Whether a better value means a better arm (``hvg.protocols.Metric.judges``)."""
    return metric.get("verdict", True)


def _decides(difference: Interval | None) -> TypeGuard[Interval]:
    """Whether it is over several seeds: one says nothing of the luck of a training run, however many people it is over."""
    return difference is not None and difference.num_seeds > 1


def _is_contender(arm: Arm) -> bool:
    return arm["kind"] == "arm" and arm["status"] == "done"


def stands_apart(arm: Arm) -> bool:
    """Whether it is no rival of the arms: a trivial predictor, or the arm without what the others have."""
    return arm["kind"] == "baseline" or arm.get("control", False)


def label_of(arm: Arm) -> str:
    """The arm's label; with how many of its seeds are finished, where that is not all of them."""
    planned = arm.get("num_seeds", len(arm["seeds"]))
    return arm["label"] if len(arm["seeds"]) == planned else f"{arm['label']} ({len(arm['seeds'])} of {planned} seeds)"


def why_no_value(arm: Arm) -> str:
    """Why an arm that is not done has no value: what failed, or how far it is."""
    reason = arm["error"] or "no reason was recorded"
    return f"failed: {reason}" if arm["status"] == "failed" else reason


def value_of(seed: SeedResult, metric: str) -> float | None:
    """The value of a metric; None where it is not available."""
    return seed["values"][metric]["value"] if metric in seed["values"] else None


def _has_metric(arm: Arm, metric: str) -> bool:
    return any(value_of(seed, metric) is not None for seed in arm["seeds"])


def _values(arm: Arm, metric: str) -> dict[str, Any]:
    seeds = {seed["seed"]: value for seed in arm["seeds"] if (value := value_of(seed, metric)) is not None}
    return {"value": sum(seeds.values()) / len(seeds), "seeds": seeds}


def _verdict(
    difference: Interval | None, p_holm: float | None, higher_is_better: bool
) -> Literal["better", "worse", ""]:
    if difference is None or p_holm is None or p_holm >= SIGNIFICANCE:
        return ""
    return "better" if (difference.mean > 0) == higher_is_better else "worse"


def _best(arms: list[Arm], metric: MetricInfo, results: Results) -> Arm | None:
    """The arm that beats each of the others, corrected for their number; trivial baselines do not compete."""
    contenders = [arm for arm in arms if _is_contender(arm)]
    for arm in contenders:
        others = [other for other in contenders if other is not arm]
        if others and _beats_all(arm, others, metric, results):
            return arm
    return None


def _beats_all(arm: Arm, others: list[Arm], metric: MetricInfo, results: Results) -> bool:
    found: dict[str, Interval] = {}
    for other in others:
        difference, _ = _difference(arm, other, metric, results)
        if not _decides(difference) or _verdict(difference, difference.p, metric["higher_is_better"]) != "better":
            return False
        found[other["name"]] = difference
    return max(holm({name: difference.p for name, difference in found.items()}).values()) < SIGNIFICANCE


def _difference(arm: Arm, other: Arm, metric: MetricInfo, results: Results) -> tuple[Interval | None, int | None]:
    """The difference of two arms, and the subjects on which the first is better; None where there is none of it."""
    name = metric["name"]
    own, others = _paired_seeds(arm, other, name)
    both = [*own, *others]
    if not both:
        return None, None
    subject_of = {clip["clip_id"]: clip["subject"] for clip in results["clips"]}
    clips = set.intersection(*(set(seed["values"][name]["per_clip"]) for seed in both))
    if clips:
        a, b = _clip_values(own, name, clips, len(others)), _clip_values(others, name, clips, len(own))
        won, _ = wins(a, b, subject_of, higher_is_better=metric["higher_is_better"])
        return paired_difference(a, b, subject_of, level=1 - SIGNIFICANCE), won
    if not all(name in seed.get("left_out", {}) for seed in both):
        return None, None
    values = [[seed["values"][name]["value"] for seed in seeds] for seeds in (own, others)]
    left_out = [[seed.get("left_out", {})[name] for seed in seeds] for seeds in (own, others)]
    difference = jackknife_difference(
        values[0],  # type: ignore[arg-type]  # seeds without a value are not paired
        left_out[0],
        values[1],  # type: ignore[arg-type]
        left_out[1],
        num_subjects=len(set(subject_of.values())),
        level=1 - SIGNIFICANCE,
    )
    return difference, None


def _paired_seeds(arm: Arm, other: Arm, metric: str) -> tuple[list[SeedResult], list[SeedResult]]:
    """The seeds that both finished, in the same order; one that is no training run of ours stands against all.

    Both lists are empty where nothing pairs.
    """
    own, others = (
        {seed["seed"]: seed for seed in side["seeds"] if value_of(seed, metric) is not None} for side in (arm, other)
    )
    if not own or not others:
        return [], []
    if _is_unseeded(arm) or _is_unseeded(other):
        return list(own.values()), list(others.values())
    shared = sorted(own.keys() & others.keys())
    return [own[seed] for seed in shared], [others[seed] for seed in shared]


def _is_unseeded(arm: Arm) -> bool:
    return arm["kind"] == "baseline" or arm.get("unseeded", False)


def _clip_values(seeds: list[SeedResult], metric: str, clips: set[str], num_others: int) -> SeedValues:
    """Clip id -> value of every seed; of the only one, as what stands against several seeds."""
    values = [{clip: seed["values"][metric]["per_clip"][clip] for clip in clips} for seed in seeds]
    return values[0] if len(values) == 1 and num_others > 1 else values


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


def metric_heading(metric: MetricInfo) -> str:
    """``PSNR (dB) ↑``; without an arrow where neither direction is better."""
    arrow = "" if not carries_verdict(metric) else "↑" if metric["higher_is_better"] else "↓"
    return " ".join(filter(None, [metric["label"], f"({metric['unit']})" if metric["unit"] else "", arrow]))


def which_is_better(metric: MetricInfo) -> str:
    """``higher is better``, or that the metric only describes."""
    if not carries_verdict(metric):
        return "describes an arm, and does not say which is better"
    return f"{'higher' if metric['higher_is_better'] else 'lower'} is better"


def is_decided(cells: Mapping[str, Mapping[str, Cell]]) -> bool:
    """Whether some difference is over several seeds, so that it has a p-value."""
    return any(cell.p is not None for row in cells.values() for cell in row.values())


def seed_range(cell: Cell) -> str:
    """``14.30–14.61``, the lowest and the highest; "" where there is one."""
    values = [format_number(value) for value in (min(cell.seeds.values()), max(cell.seeds.values()))]
    return "–".join(dict.fromkeys(values)) if len(cell.seeds) > 1 else ""


def _caption(first: Arm | None, cells: Mapping[str, Mapping[str, Cell]]) -> str:
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


def evidence(cell: Cell) -> list[str]:
    """What stands behind a difference: its corrected p-value, and on how many subjects the arm is better."""
    words = [] if cell.p_holm is None else [format_p(cell.p_holm)]
    if cell.wins is not None and cell.difference is not None:
        words.append(f"better on {cell.wins}/{cell.difference.num_subjects}")
    return words


def table_csv(results: Results) -> str:
    """One line per arm and metric, with the difference to the first arm; fields of arms that are not done are empty.

    Below them one per anchor and metric, with a value alone.
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
    return csv_text(rows)


def _csv_fields(cell: Cell | None) -> list[Any]:
    if cell is None or cell.difference is None:
        return ["" if cell is None else cell.value, *[""] * 8]
    d = cell.difference
    return [cell.value, d.mean, d.low, d.high, cell.wins, d.num_subjects, d.num_seeds, cell.p, cell.p_holm]


def table_markdown(results: Results) -> str:
    """The table for a README; in brackets the difference to the first arm, its interval, and, of several seeds, p after Holm."""
    return _table_markdown(results, compare(results))


def _table_markdown(results: Results, cells: Mapping[str, Mapping[str, Cell]]) -> str:
    metrics = results["metrics"]
    rows = [["", *map(metric_heading, metrics)], ["---"] * (len(metrics) + 1)]
    for arm in results["arms"]:
        if arm["status"] != "done":
            rows.append([arm["label"], arm["status"], *[""] * (len(metrics) - 1)])
        else:
            rows.append([label_of(arm), *(_cell_markdown(cells[arm["name"]].get(m["name"])) for m in metrics)])
    for name, values in results.get("anchors", {}).items():
        rows.append([f"*{anchor_label(name)}*", *_anchor_texts(values, results)])
    return "".join(f"| {' | '.join(markdown_text(cell).replace('|', '/') for cell in row)} |\n" for row in rows)


def results_markdown(results: Results) -> str:
    """What a README shows: what was found, in words, the table, and where the numbers are from."""
    from hvg.finding import finding  # they are built on this module
    from hvg.measured import measured_lines

    cells = compare(results)
    found = "".join(f"{markdown_text(sentence)}\n\n" for sentence in finding(results, cells).sentences)
    return found + _table_markdown(results, cells) + "".join(f"\n{line}\n" for line in measured_lines(results))


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
    from hvg.latex import results_latex  # it is built on this module

    folder = Path(folder)
    write_text(folder / "results.json", json.dumps(finite(results), indent=2, ensure_ascii=False) + "\n")
    write_text(folder / "results.csv", table_csv(results))
    write_text(folder / "results.md", results_markdown(results))
    write_text(folder / "results.tex", results_latex(results, compare(results)))
