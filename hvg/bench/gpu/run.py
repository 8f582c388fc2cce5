"""``hvg bench gpu``: its rows, one JSON, one page."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from hvg.bench.gpu import attention, kernels, sampling, training
from hvg.bench.gpu.sizes import SIZES, GpuJob, Size
from hvg.bench.gpu.tasks import Task, results
from hvg.bench.page import Section, write_bench_page
from hvg.core import provenance
from hvg.core.files import write_text

JSON, PAGE = "gpu.json", "gpu.html"
# Row, figure, what it is to reach (least, most), in words; on one card of the H100's class.
GOALS: tuple[tuple[str, str, float, float, str], ...] = (
    ("training", "utilisation", 0.40, float("inf"), "at least 40 % utilisation in training"),
    ("compile", "utilisation", 0.40, float("inf"), "at least 40 % utilisation in training, compiled"),
    ("memory", "found / forecast", 0.90, 1.10, "memory within 10 % of its forecast"),
    ("sampling bf16", "100 frames x 8 views, min", 0.0, 8.0, "100 frames x 8 views in at most 8 minutes"),
)


def tasks(size: Size) -> list[Task]:
    """Every row, in the order in which rows are taken, and cut where time is short."""
    steps, (bf16, float32) = training.tasks(size.batches), sampling.tasks(size.sampled)
    views, few = attention.tasks()
    first = [steps.pop(name) for name in ("training", "memory")]
    compiled = steps.pop("compile")
    return [*first, kernels.task(), bf16, views, compiled, few, *steps.values(), float32]


def bench_gpu(
    size: str, device: torch.device, minutes: float, folder: Path
) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Rows done, rows in all, and what the last one gave, row by row; the folder's JSON and page hold what there is by then."""
    job = GpuJob(SIZES[size], device)
    rows, found = tasks(job.size), list[dict[str, Any]]()
    about = provenance.collect() | {"device": name_of(device), "size": size, "minutes": minutes}
    about["settings"] = asdict(job.size)
    for entry in results(rows, job, 60 * minutes):
        found.append(entry)
        record = about | {"peak": asdict(job.peak), "rows": found}
        write_text(folder / JSON, json.dumps(record, indent=2))
        write_gpu_page(folder / PAGE, record)
        yield len(found), len(rows), entry


def name_of(device: torch.device) -> str:
    """The device in words."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def line(entry: Mapping[str, Any]) -> str:
    """A row as the terminal shows it."""
    told = ", ".join(f"{name} {shown(value)}" for name, value in entry.get("figures", {}).items())
    return f"{entry['name']:<20} {told or entry['state'] + ': ' + entry['why']}"


def shown(value: float | None) -> str:
    """Three digits that matter; a dash for what is not known."""
    return "–" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def goals(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Every goal, what was found, and whether it is reached."""
    figures = {row["name"]: row.get("figures", {}) for row in rows}
    found = []
    for row, name, least, most, words in GOALS:
        value = figures.get(row, {}).get(name)
        verdict = "not measured" if value is None else "reached" if least <= value <= most else "missed"
        found.append((words, shown(value), verdict))
    return found


def write_gpu_page(path: Path, record: Mapping[str, Any]) -> None:
    """Writes the page of a record, which says what of it a CPU cannot give."""
    rows, on_gpu = record["rows"], record["device"] != "CPU"
    figures = [(row["name"], row["what"], *_told(row)) for row in rows]
    kinds = next((row["figures"] for row in rows if row["name"] == "kernels" and "figures" in row), {})
    only = [(row["name"], "; ".join(row["gpu_only"])) for row in rows if row["gpu_only"]]
    sections = [
        Section(title="Figures", heads=("row", "what", "figures", "s"), rows=figures),
        Section(
            title="Where the time of a step goes",
            notes=[
                "Kernels by their names."
                if on_gpu
                else "Operations of the processor by their names, for want of a GPU."
            ],
            bars={kind: kinds[kind] for kind in [*kernels.KINDS, kernels.OTHER] if kind in kinds},
        ),
        Section(
            title="Goals for one H100",
            notes=[]
            if on_gpu
            else ["This was a CPU at tiny size: its figures say that the rows run, and nothing of the goals."],
            heads=("goal", "found", ""),
            rows=goals(rows if on_gpu else ()),
        ),
        Section(
            title="What a CPU cannot give",
            notes=["The rows run on a CPU too, at tiny size. These of their figures mean something on a GPU alone."],
            heads=("row", "figures"),
            rows=only,
        ),
    ]
    facts = {
        "device": record["device"],
        "peak": f"{record['peak']['tflops']:.3g} TFLOP/s ({record['peak']['source']})",
        "size": record["size"],
        "budget": f"{record['minutes']:g} min",
        "commit": record["commit"],
        "machine": record["hardware"],
    }
    summary = (
        "Training, sampling, attention over views and memory with random weights, row by row in the order of what matters; "
        f"{'bf16' if on_gpu else 'float32, for a CPU may emulate bf16'}."
    )
    write_bench_page(path, "One GPU", summary, facts, sections, record["command"])


def _told(row: Mapping[str, Any]) -> tuple[str, str]:
    """Figures, or why there are none; and the seconds that the row took."""
    told = "; ".join(f"{name} {shown(value)}" for name, value in row.get("figures", {}).items())
    return told or f"{row['state']}: {row['why']}", shown(row.get("seconds"))
