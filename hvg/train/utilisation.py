"""Model FLOPs utilisation: the FLOPs of a run's batches, counted once, and the peak of its device.

Both are kept in ``run.json``: a resumed run need not count again, and a reader sees what a percentage is a share of.
"""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from hvg.config.settings import SINGLE_PARTS, SLOTS, RunConfig
from hvg.core.digests import settings_digest
from hvg.core.files import write_text
from hvg.train.counting import Counted, Counting, Shape, key_of
from hvg.train.throughput import Throughput

# Units that multiply matrices: with bf16 inputs, or with float32 ones, rounded to TF32 or not; sums are float32.
Unit = Literal["bf16", "tf32", "fp32"]

# TFLOP/s of whole chips, dense: data sheets print twice as much for matrices half of whose entries are 0. A row fits a device
# whose name holds all its words; the first one that fits counts. Sources: NVIDIA's data sheets of the A100 (2021), H100 (2023),
# H200 (2024), L40S, L40, L4, A40 and A10; for GeForce the white papers on GA102 and on Ada, tensor cores with FP32 accumulate.
PEAKS: tuple[tuple[tuple[str, ...], dict[Unit, float]], ...] = (
    (("A100",), {"bf16": 312.0, "tf32": 156.0, "fp32": 19.5}),
    (("H100", "PCIe"), {"bf16": 756.0, "tf32": 378.0, "fp32": 51.0}),
    (("H100", "NVL"), {"bf16": 835.0, "tf32": 417.5, "fp32": 60.0}),
    (("H100",), {"bf16": 989.0, "tf32": 494.5, "fp32": 67.0}),
    (("H200", "NVL"), {"bf16": 835.5, "tf32": 417.5, "fp32": 60.0}),
    (("H200",), {"bf16": 989.0, "tf32": 494.5, "fp32": 67.0}),
    (("L40S",), {"bf16": 362.0, "tf32": 183.0, "fp32": 91.6}),
    (("L40",), {"bf16": 181.0, "tf32": 90.5, "fp32": 90.5}),
    (("L4",), {"bf16": 121.0, "tf32": 60.0, "fp32": 30.3}),
    (("A40",), {"bf16": 149.7, "tf32": 74.8, "fp32": 37.4}),
    (("A10",), {"bf16": 125.0, "tf32": 62.5, "fp32": 31.2}),
    (("RTX", "4090"), {"bf16": 165.2, "tf32": 82.6, "fp32": 82.6}),
    (("RTX", "3090"), {"bf16": 71.0, "tf32": 35.6, "fp32": 35.6}),
)
# Other chips, or parts of one, that share a name with a row.
_NOT_WHOLE = {"Laptop", "MIG", "D", "Ti"}

# Seconds of training after which FLOPs are counted: a run of seconds would notice the seconds that counting takes.
COUNT_AFTER = 30.0
# Products of matrices in a row, and seconds until the next row: what else a machine does comes and goes.
PRODUCTS, ROWS, PAUSE = 9, 4, 0.25


@dataclass(frozen=True)
class Peak:
    """Peak speed of a device, TFLOP/s, and where the number is from."""

    tflops: float
    source: str


def told_peak(device: torch.device, bf16: bool, given: float | None) -> Peak | None:
    """Peak speed of ``device``: ``given`` (TFLOP/s), else as published; None: it has to be measured by a matrix product."""
    if given is not None:
        return Peak(given, "training.peak_tflops")
    if device.type != "cuda":
        return None
    name, unit = torch.cuda.get_device_name(device), _unit(bf16)
    published = published_peak(name, unit)
    return None if published is None else Peak(published, f"published for {name}, {unit}, dense")


def _unit(bf16: bool) -> Unit:
    """The fastest one that a run's arithmetic may use: torch lets convolutions round to TF32 unless told otherwise."""
    if bf16:
        return "bf16"
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32 else "fp32"


def published_peak(name: str, unit: Unit) -> float | None:
    """TFLOP/s of a device, by the name that torch gives it; None for one that is not listed."""
    words = set(name.replace("-", " ").split())
    if words & _NOT_WHOLE:
        return None
    return next((peaks[unit] for needed, peaks in PEAKS if words.issuperset(needed)), None)


def measured_peak(device: torch.device, dtype: torch.dtype) -> Peak:
    """Speed of products of two square matrices, measured here and now, with as many threads as training has.

    The fastest counts, of several rows spread over a second: what else a machine does only slows it down.
    """
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))
    times = []
    for product in range(ROWS * PRODUCTS):
        if product and product % PRODUCTS == 0:
            time.sleep(PAUSE)
        started = time.perf_counter()
        torch.matmul(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    threads = f", {torch.get_num_threads()} CPU threads" if device.type == "cpu" else ""
    kind = str(dtype).removeprefix("torch.")
    return Peak(2 * size**3 / min(times) / 1e12, f"measured: {kind} matrix product of {size} x {size}{threads}")


class StepFlops:
    """Model FLOPs of a run's batches, by their shape, and the peak of its device; counted beside training.

    FLOPs that an earlier start of the same network has noted in ``run.json`` are known, as are peaks that are given or
    published. bf16: whether the run computes in it. log: takes a line when FLOPs cannot be counted.
    """

    def __init__(
        self, config: RunConfig, record: Path, device: torch.device, bf16: bool, log: Callable[[str], None]
    ) -> None:
        self._config, self._record, self._device, self._bf16, self._log = config, record, device, bf16, log
        # None: cannot be counted.
        self._known: dict[str, int | None] = {}
        self._peak = told_peak(device, bf16, config.training.peak_tflops)
        self._counting: Counting | None = None
        self._measures = self._peak is None
        resolved = config.resolved()
        self._network = settings_digest({key: resolved.get(key) for key in (*SINGLE_PARTS, *SLOTS, "slots")})
        found = self._content().get("throughput", {})
        if found.get("network") == self._network:
            self._known = {key: count for key, count in found["flops"].items() if count is not None}

    @property
    def peak(self) -> float | None:
        """FLOP/s of the device; None where unknown."""
        return None if self._peak is None else 1e12 * self._peak.tflops

    def of(self, shapes: Iterable[Shape]) -> int | None:
        """FLOPs of all batches together; None where one is unknown."""
        counts = [self._known.get(key_of(shape)) for shape in shapes]
        return None if None in counts else sum(count for count in counts if count is not None)

    def start(self) -> None:
        """Measures a GPU that is neither given nor published, for a second: before the first step, while nobody else computes."""
        if self._peak is None and self._device.type == "cuda":
            self._peak = measured_peak(self._device, torch.bfloat16 if self._bf16 else torch.float32)
            self._measures = False

    def look(self, shapes: Iterable[Shape], begin: bool = True) -> None:
        """Takes up what has been counted, and notes it in ``run.json``; if ``begin`` says so and something of batches of these
        shapes is not known, a count of it begins. Waits for nothing.
        """
        if self._counting is not None:
            found = self._counting.result()
            if found is None:
                return
            self._counting = None
            self._take(found)
        missing = [shape for shape in dict.fromkeys(shapes) if key_of(shape) not in self._known]
        if begin and (missing or self._measures):
            threads, text = torch.get_num_threads(), self._config.to_yaml()
            self._counting = Counting(text, missing, peak=self._measures, bf16=self._bf16, threads=threads)
            # One that could not be measured is not asked for again.
            self._measures = False

    def _take(self, found: Counted) -> None:
        self._known |= {**found.flops, **dict.fromkeys(found.reasons)}
        for key, reason in found.reasons.items():
            self._log(
                f"warning: no utilisation is shown, the FLOPs of a batch of {key} (B V T H W) cannot be counted: {reason}"
            )
        if self._peak is None and found.peak is not None:
            self._peak = Peak(**found.peak)
        self._note(network=self._network, flops=self._known, peak=self._peak and asdict(self._peak))

    def stop(self) -> None:
        """Ends a count that is under way; nobody will look at it."""
        if self._counting is not None:
            self._counting.stop()
            self._counting = None

    def note_total(self, total: Throughput) -> None:
        """Notes in ``run.json`` what this start of the run did in all."""
        self._note(total=asdict(total) | total.rates(self.peak))

    def _note(self, **found: Any) -> None:
        content = self._content()
        content["throughput"] = content.get("throughput", {}) | found
        write_text(self._record, json.dumps(content, indent=2))

    def _content(self) -> dict[str, Any]:
        return json.loads(self._record.read_text()) if self._record.exists() else {}
