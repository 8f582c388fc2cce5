"""``hvg bench scale``: everything that is drawn, one JSON, one page."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hvg.bench.scale import growth, links, measured
from hvg.bench.scale.growth import Point
from hvg.bench.scale.links import Machine, step_time
from hvg.bench.scale.page import write_scale_page
from hvg.bench.scale.ranks import ENOUGH, AtRanks, limit, memory_stops, over_ranks, strategies
from hvg.config.composition import compose
from hvg.config.precision import on_described_gpus
from hvg.config.settings import RunConfig
from hvg.core import provenance
from hvg.core.files import write_text
from hvg.cost.forecast import divide
from hvg.cost.table import flops as in_words

JSON, PAGE = "scale.json", "scale.html"
# Numbers of ranks that are built on shapes, seconds each.
FEW = (2, 8)
# Called as ``report(stage, done, total)``.
Report = Callable[[str, int, int], None]


def bench_scale(
    words: Sequence[str], machine: Machine, *, gpus: int, batch: int, measure: str, folder: Path, report: Report
) -> dict[str, Any]:
    """The record, which the folder's JSON holds and its page shows. gpus, batch, measure: as of the command's options."""
    base, arithmetic = on_described_gpus(compose([*words]))
    found = growth.points(words, lambda done, total: report("count", done, total))
    counts = next(point.counts for point in found if point.config.to_yaml() == compose([*words]).to_yaml())
    known = strategies(base)
    ranks = {name: over_ranks(counts, base, name, machine, batch) for name in known}
    if counts.flops is None:
        raise ValueError("the FLOPs of a step are unknown")
    record = provenance.collect() | {
        "words": " ".join(words),
        "step": f"{in_words(counts.flops)}, {counts.sizes.elements / 1e9:.3g} billion trained weights, {arithmetic}",
        "machine": asdict(machine),
        "gpus": gpus,
        "batch": batch,
        "enough": ENOUGH,
        "ranks": {name: [_at_ranks(x) for x in rows] for name, rows in ranks.items()},
        "limits": {name: _limit(name, rows, machine, batch) for name, rows in ranks.items()},
        "growth": {axis: _growth(found, axis, known, machine, gpus) for axis in growth.AXES},
        "formulas": formulas(),
        "measured": {},
    }
    if measure != "none":
        record["measured"] = _measured(words, measure == "all", report)
    write_text(folder / JSON, json.dumps(record, indent=2))
    write_scale_page(folder / PAGE, record)
    return record


def lines(record: dict[str, Any]) -> list[str]:
    """What the terminal shows: where each strategy stops."""
    shown = []
    for name, found in record["limits"].items():
        fits = "does not fit" if found["fits"] is None else f"fits from {found['fits']} GPUs"
        (most, why), (shared, reason) = found["growing"], found["fixed"]
        shown.append(f"{name}: {fits}; scales to {most} with the batch ({why}); to {shared} without ({reason})")
    return shown


def formulas() -> list[str]:
    """How times are worked out, in sentences: those of the module that does."""
    return [" ".join((links.__doc__ or "").split("\n\n")[1].split())]


def _at_ranks(found: AtRanks) -> dict[str, float | None]:
    return {
        "ranks": found.ranks,
        "growing": found.growing.least,
        "fixed": None if found.fixed is None else found.fixed.least,
        "efficiency": found.growing.efficiency,
        "communication": found.growing.communication,
        "compute": found.growing.compute,
        "memory": found.forecast.total,
        "sent": found.forecast.traffic.bytes,
    }


def _limit(name: str, rows: Sequence[AtRanks], machine: Machine, batch: int) -> dict[str, Any]:
    return asdict(limit(name, rows, machine, batch)) | {"memory_shrinks_to": memory_stops(rows)}


def _growth(
    found: Sequence[Point], axis: str, names: Sequence[str], machine: Machine, gpus: int
) -> dict[str, list[dict[str, float | None]]]:
    """Strategy -> what a step takes at every point of an axis, on so many GPUs."""
    rows: dict[str, list[dict[str, float | None]]] = {}
    for name in names:
        for point in sorted((p for p in found if p.axis == axis), key=lambda p: p.place):
            chosen = point.config.strategy.model_copy(update={"name": name, "offload": "none"})
            forecast = divide(point.counts, point.config.model_copy(update={"strategy": chosen}), gpus)
            seconds = step_time(forecast, chosen, machine).most
            row = {"place": point.place, "seconds": seconds, "memory": forecast.total, "sent": forecast.traffic.bytes}
            rows.setdefault(name, []).append(row)
    return rows


def small_words(words: Sequence[str]) -> list[str]:
    """The words at the size that this machine can run: those that say how large it is give way to scale=cpu."""
    large = (
        "scale",
        "dataset",
        "backbone",
        "codec",
        "data",
        "strategy",
        "training",
        "prediction",
        "appearance",
        "device",
    )
    kept = [word for word in words if word.partition("=")[0].partition(".")[0].lstrip("+~") not in large]
    return [*kept, "scale=cpu", "device=cpu"]


def _measured(words: Sequence[str], ranks: bool, report: Report) -> dict[str, Any]:
    """Steps taken here along every axis, and ranks built on shapes."""
    small = small_words(words)
    points = growth.points(small, lambda done, total: report("count small", done, total))
    taken = measured.measured_steps(points, report=lambda done, total: report("steps", done, total))
    axes = {
        axis: [
            {
                "place": x.point.place,
                "seconds": x.seconds,
                "expected": x.expected,
                "memory": x.memory,
                "forecast": x.forecast,
            }
            for x in sorted(taken, key=lambda x: x.point.place)
            if x.point.axis == axis
        ]
        for axis in growth.AXES
    }
    flops = sum(x.point.counts.flops.total for x in taken if x.point.counts.flops)
    steps = {
        "words": " ".join(small),
        "axes": axes,
        "gflops": flops / sum(x.seconds for x in taken) / 1e9,
        "worst_seconds": max(abs(x.seconds / x.expected - 1) for x in taken),
        "worst_memory": max(abs(x.memory / x.forecast - 1) for x in taken),
    }
    found: dict[str, Any] = {"steps": steps}
    if ranks:
        config: RunConfig = compose(small)
        held = measured.measured_ranks(
            config, strategies(config), FEW, lambda done, total: report("ranks", done, total)
        )
        found["ranks"] = [asdict(x) for x in held]
    return found
