"""Speeds of training: what a step took, what it waited for, and what share of the device's arithmetic it used.

Time is that of a clock which only moves when told to, so every number is known.
"""

import json
import math
import signal
import sys
import time
from collections import deque
from dataclasses import fields
from typing import cast

import lightning
import pytest
import torch
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.utils.data import DataLoader, Dataset

from hvg.commands.progress import ProgressLines
from hvg.config.composition import compose
from hvg.core.quiet import quiet_training
from hvg.model.counted_step import model_flops
from hvg.model.trained_system import TrainedSystem
from hvg.parts.scene import Alignment
from hvg.train import counting
from hvg.train.callbacks import AfterStep, DataWait, Progress
from hvg.train.counting import Counting
from hvg.train.lightning_system import LightningSystem
from hvg.train.metric_rows import OPTIMIZER
from hvg.train.run import train
from hvg.train.throughput import PREFIX, Meter, StepReport, Throughput
from hvg.train.utilisation import PEAKS, Peak, StepFlops, measured_peak, published_peak, told_peak
from hvg.values.cameras import Cameras
from hvg.values.clip import ClipBatch

CPU = torch.device("cpu")


class Clock:
    """Seconds that pass when ``pass_`` says so."""

    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


def test_a_lap_is_split_into_steps_waits_and_what_lies_between():
    clock = Clock()
    meter = Meter(clock)
    with meter.during("data"):
        clock.pass_(1.0)
    clock.pass_(3.0)
    first = meter.lap(steps=1, images=8, flops=6e12)
    with meter.during("save"):
        clock.pass_(4.0)
    with meter.during("validate"):
        clock.pass_(5.0)
    with meter.during("data"):
        clock.pass_(0.5)
    clock.pass_(1.5)
    second = meter.lap(steps=1, images=8, flops=6e12)
    assert first == Throughput(steps=1, images=8, flops=6e12, seconds=4.0, data_seconds=1.0)
    assert second == Throughput(
        steps=1,
        images=8,
        flops=6e12,
        seconds=2.0,
        data_seconds=0.5,
        save_seconds=4.0,
        validate_seconds=5.0,
    )
    both = first + second
    assert both.wall_seconds == clock.now - 100.0
    assert (both.steps_per_second, both.images_per_second, both.tflops) == (2 / 6, 16 / 6, 2.0)
    assert both.rates(peak=8e12) == {
        "seconds_per_step": 3.0,
        "images_per_second": 2.667,
        "data_share": 0.25,
        "save_share": 0.2667,
        "validate_share": 0.3333,
        "tflops_per_device": 2.0,
        "mfu": 0.25,
    }


def test_time_before_the_first_step_does_not_count():
    clock = Clock()
    meter = Meter(clock)
    with meter.during("data"):
        clock.pass_(9.0)
    meter.start()
    clock.pass_(2.0)
    assert meter.lap(steps=1, images=1, flops=None) == Throughput(steps=1, images=1, flops=None, seconds=2.0)


def test_no_figure_is_made_up():
    unknown = Throughput(steps=1, images=1, flops=None, seconds=1.0)
    assert (unknown + Throughput(steps=1, flops=1e12, seconds=1.0)).tflops is None
    assert unknown.utilisation(1e12) is None
    assert {"tflops_per_device", "mfu"}.isdisjoint(unknown.rates(1e12))
    counted = Throughput(steps=1, flops=1e12, seconds=2.0)
    assert counted.utilisation(None) is None
    assert counted.rates(None)["tflops_per_device"] == 0.5 and "mfu" not in counted.rates(None)
    # A peak that was measured while others worked.
    assert Throughput(steps=1, flops=1.1e12, seconds=1.0).rates(1e12)["mfu"] == 1
    nothing = Throughput()
    assert nothing.tflops is None and nothing.steps_per_second == nothing.images_per_second == 0.0


def report(recent: Throughput, total: Throughput, **more) -> StepReport:
    return StepReport(**{"step": 2, "steps": 2, "loss": None, "peak": None, "recent": recent, "total": total, **more})


def test_the_note_says_what_is_known():
    recent = Throughput(steps=10, images=160, flops=3.6e11, seconds=3.0, data_seconds=0.03)
    assert report(recent, recent, peak=1e12, loss=0.1234).note == (
        "3.33 steps/s 53.3 img/s 12 % MFU data 1 % loss 0.123"
    )
    slow = Throughput(steps=10, images=64_000, flops=None, seconds=50.0)
    total = Throughput(steps=20, images=1, flops=None, seconds=90.0, save_seconds=4.0, validate_seconds=6.0)
    assert report(slow, total).note == "0.2 steps/s 1280 img/s data 0 % save 4 % validate 6 %"


def test_a_progress_line_holds_the_note(capsys):
    recent = Throughput(steps=1, images=16, flops=None, seconds=0.5)
    with ProgressLines() as progress:
        done = report(recent, recent)
        progress.update("run", "train", done.step, done.steps, done.note)
    assert capsys.readouterr().err == "run: train 2/2 2 steps/s 32 img/s data 0 % 0 s left\n"


# --- peaks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA H100 80GB HBM3", 989.0),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA H200", 989.0),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA L40", 181.0),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("NVIDIA H20", None),
        ("NVIDIA A10G", None),
        ("AMD Instinct MI300X", None),
    ],
)
def test_a_device_is_known_by_its_whole_name(name, tflops):
    assert published_peak(name, "bf16") == tflops


def test_published_peaks_are_dense():
    """Tensor cores double at every halving of the format; with sparsity one of the steps would be four."""
    for words, peaks in PEAKS:
        assert 1.9 < peaks["bf16"] / peaks["tf32"] < 2.1, words
        assert peaks["fp32"] <= peaks["tf32"], words


def test_a_given_peak_counts_and_a_measured_one_says_what_it_is():
    assert told_peak(CPU, False, 3.5) == Peak(3.5, "training.peak_tflops") and told_peak(CPU, False, None) is None
    measured = measured_peak(CPU, torch.float32)
    assert measured.source == f"measured: float32 matrix product of 1024 x 1024, {torch.get_num_threads()} CPU threads"
    # A core of the last twenty years, and a machine of the next.
    assert 1e-3 < measured.tflops < 1e3


# --- FLOPs of a run -----------------------------------------------------------------------------------------------


def looked(work: StepFlops, shapes) -> StepFlops:
    """Until what is being counted has been taken up."""
    work.look(shapes)
    while work._counting is not None:
        time.sleep(0.05)
        work.look(shapes)
    return work


@pytest.mark.long
def test_flops_are_counted_once_and_kept_in_the_run_record(tiny, tmp_path):
    config, record = compose([*tiny, "training.peak_tflops=2"]), tmp_path / "run.json"
    record.write_text(json.dumps({"seed": 0}))
    shape = (config.data.batch_size, 2, 1, 32, 32)
    work = StepFlops(config, record, CPU, False, print)
    assert work.of([shape]) is None and work.peak == 2e12
    looked(work, [shape, shape])
    counted = model_flops(config, (2, 1))
    assert counted > 0
    assert work.of([shape, shape]) == 2 * counted
    assert work.of([shape, (1, 1, 1, 32, 32)]) is None
    content = json.loads(record.read_text())
    assert content["seed"] == 0
    assert content["throughput"]["peak"] == {"tflops": 2.0, "source": "training.peak_tflops"}

    content["throughput"]["flops"] = {key: 7 for key in content["throughput"]["flops"]}
    record.write_text(json.dumps(content))
    assert StepFlops(config, record, CPU, False, print).of([shape]) == 7, "a resumed run reads what was counted"
    other = compose([*tiny, "view_attention=none"])
    assert StepFlops(other, record, CPU, False, print).of([shape]) is None, "another network has other FLOPs"


@pytest.mark.long
def test_a_network_that_cannot_be_counted_is_said_once_and_trains_on(tiny, tmp_path, capsys):
    """And a CPU's peak is measured by the process that counts, with the threads of this one."""
    work = StepFlops(compose(tiny), tmp_path / "run.json", CPU, False, print)
    # Too small for the levels of the network.
    shape = (1, 1, 1, 1, 1)
    looked(work, [shape])
    assert work.of([shape]) is None and work.peak > 0
    said = capsys.readouterr().out
    assert said.startswith(
        "warning: no utilisation is shown, the FLOPs of a batch of 1 x 1 x 1 x 1 x 1 (B V T H W) cannot"
    )
    assert said.count("\n") == 1
    peak = json.loads((tmp_path / "run.json").read_text())["throughput"]["peak"]
    assert peak["tflops"] * 1e12 == work.peak and f"{torch.get_num_threads()} CPU threads" in peak["source"]
    work.look([shape])
    assert work._counting is None, "what cannot be counted is not asked for again"


def process(monkeypatch, code: str) -> None:
    """In place of the process that counts, one that does this."""
    monkeypatch.setattr(counting, "command", lambda: [sys.executable, "-c", code])


def test_nobody_waits_for_what_is_counted_and_it_ends_with_the_training(tiny, tmp_path, monkeypatch):
    process(monkeypatch, "import time; time.sleep(600)")
    work = StepFlops(compose([*tiny, "training.peak_tflops=2"]), tmp_path / "run.json", CPU, False, print)
    shape = (1, 2, 1, 32, 32)
    started = time.perf_counter()
    for _ in range(20):
        work.look([shape])
    under_way = work._counting._process
    assert time.perf_counter() - started < 5 and work.of([shape]) is None and under_way.poll() is None
    work.stop()
    assert under_way.returncode == -signal.SIGKILL and work._counting is None


def test_a_process_that_does_not_count_is_a_line_and_no_end(tiny, tmp_path, monkeypatch, capsys):
    process(monkeypatch, "raise SystemExit(3)")
    work = StepFlops(compose(tiny), tmp_path / "run.json", CPU, False, print)
    looked(work, [(1, 2, 1, 32, 32)])
    assert "cannot be counted: the process that counts ended with exit code 3" in capsys.readouterr().out
    assert work.peak is None and work.of([(1, 2, 1, 32, 32)]) is None
    work.look([(1, 2, 1, 32, 32)])
    assert work._counting is None


# --- in training --------------------------------------------------------------------------------------------------


class Clips(Dataset):
    """One-clip batches of 1 x 2 images, which take two seconds to come; the last frame of every second one is padding."""

    def __init__(self, clock: Clock, count: int) -> None:
        self.clock, self.count = clock, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> ClipBatch:
        self.clock.pass_(2.0)
        cameras = Cameras(
            world_to_camera=torch.eye(4).expand(1, 1, 2, 4, 4),
            intrinsics=torch.eye(3).expand(1, 1, 2, 3, 3),
            image_size=(8, 8),
        )
        return ClipBatch(cameras=cameras, clip_id=("",), subject=("",), num_valid=(1 + (index % 2 == 0),))


class Slow(TrainedSystem):
    """A weight whose loss takes three seconds."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(seed=0, alignment=cast(Alignment, None))
        self.weight, self.clock = torch.nn.Parameter(torch.ones(())), clock

    def training_step(self, batch, batch_idx):
        self.clock.pass_(3.0)
        return {"loss": self.weight * 1.0}

    def make_optimizer(self):
        return torch.optim.SGD(self.parameters(), lr=0.25), lambda step: 1.0


class Norms(SingleDeviceStrategy):
    """Norms of two steps' gradients, of which the second is not to be had."""

    def gradient_norm(self) -> float:
        return math.nan if self.lightning_module.global_step > 2 else 3.0


class SaveAfterStepTwo(AfterStep):
    def __init__(self, clock: Clock, meter: Meter) -> None:
        self.clock, self.meter = clock, meter

    def after_step(self, trainer, system) -> None:
        if trainer.global_step == 2:
            with self.meter.during("save"):
                self.clock.pass_(10.0)


class Rows(DummyLogger):
    def __init__(self) -> None:
        super().__init__()
        self.rows = []

    def log_metrics(self, metrics, step=None) -> None:
        self.rows.append({"step": step, **metrics})


@quiet_training()
def fit(work: StepFlops, steps: int, accumulate: int = 1) -> tuple[list[StepReport], list[dict]]:
    """Reports and rows of a run whose times are known."""
    clock, reports, logger = Clock(), deque(), Rows()
    meter = Meter(clock)
    trainer = lightning.Trainer(
        strategy=Norms(CPU),
        max_steps=steps,
        accumulate_grad_batches=accumulate,
        log_every_n_steps=1,
        logger=logger,
        callbacks=[Progress(reports.append, 2, meter, work, math.inf), SaveAfterStepTwo(clock, meter)],
        profiler=DataWait(meter),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(Clips(clock, steps * accumulate), batch_size=None)
    trainer.fit(LightningSystem(Slow(clock)), loader)
    return list(reports), logger.rows


def test_a_slow_loader_and_a_slow_checkpoint_show_as_what_they_are(tiny, tmp_path):
    config, record = compose([*tiny, "training.peak_tflops=1e-9"]), tmp_path / "run.json"
    work = StepFlops(config, record, CPU, False, print)
    reports, rows = fit(work, steps=4)
    assert [row["step"] for row in rows] == [1, 3]
    assert [row.pop(f"{OPTIMIZER}gradient_norm", None) for row in rows] == [3.0, None]
    assert [row.pop("loss") for row in rows] == [0.75, 0.25], "a quarter less after each step"
    expected = {f"{OPTIMIZER}learning_rate": 0.25, f"{PREFIX}seconds_per_step": 5.0, f"{PREFIX}images_per_second": 0.3}
    expected |= {f"{PREFIX}data_share": 0.4, f"{PREFIX}validate_share": 0.0}
    for row, save in zip(rows, (0.0, 0.5), strict=True):
        assert row == {"step": row["step"], **expected, f"{PREFIX}save_share": save}
    assert [r.step for r in reports] == [1, 2, 3, 4]
    assert [r.loss for r in reports] == [None, 0.75, 0.75, 0.25]
    steps = [Throughput(steps=1, images=n, flops=None, seconds=5.0, data_seconds=2.0) for n in (2, 1, 2, 1)]
    total = sum(steps, Throughput()) + Throughput(save_seconds=10.0)
    assert reports[-1].total == reports[-1].recent == total
    noted = json.loads(record.read_text())["throughput"]["total"]
    assert {field.name: noted[field.name] for field in fields(total)} == {
        field.name: getattr(total, field.name) for field in fields(total)
    }


def test_every_batch_of_a_step_counts(tiny, tmp_path):
    """Two batches of 2 and 1 images and of 40 FLOPs, in ten seconds of a device that does 16 FLOP/s."""
    config, record = compose([*tiny, "training.peak_tflops=16e-12"]), tmp_path / "run.json"
    network = StepFlops(config, record, CPU, False, print)._network
    record.write_text(json.dumps({"throughput": {"network": network, "flops": {"1 x 1 x 2 x 8 x 8": 40}}}))
    work = StepFlops(config, record, CPU, False, print)
    reports, rows = fit(work, steps=2, accumulate=2)
    assert len(reports) == 2 and len(rows) == 1
    assert rows[0][f"{PREFIX}images_per_second"] == 0.3
    assert rows[0][f"{PREFIX}tflops_per_device"] == pytest.approx(8e-12)
    assert rows[0][f"{PREFIX}mfu"] == 0.5
    assert "50 % MFU data 40 %" in reports[-1].note


def test_rows_of_a_resumed_run_go_on_and_name_the_same_quantities(tiny, cache, tmp_path):
    words = [*tiny, cache, f"output={tmp_path}", "training.log_every=1", "training.checkpoint_every=1"]
    train(compose([*words, "training.steps=2"]), log=lambda line: None)
    record = tmp_path / "run" / "run.json"
    first = json.loads(record.read_text())["throughput"]["total"]
    reports: deque[StepReport] = deque()
    train(compose([*words, "training.steps=3", "resume=auto"]), reports.append, log=lambda line: None)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert all(row.keys() == rows[0].keys() for row in rows)
    batch = compose(words).data.batch_size
    # Two views of two frames.
    assert [(r.step, r.recent.images) for r in reports] == [(3, 4 * batch)]
    assert rows[1][f"{PREFIX}save_share"] > 0, "the first step's checkpoint"
    second = json.loads(record.read_text())["throughput"]["total"]
    assert (first["steps"], second["steps"]) == (2, 1)
    assert first["save_seconds"] > 0 and second["save_seconds"] > 0


@pytest.mark.long
def test_counting_flops_changes_nothing_of_training(tiny, cache, tmp_path, monkeypatch):
    words = [*tiny, cache, f"output={tmp_path}", "training.steps=4", "training.log_every=1", "training.peak_tflops=1"]
    train(compose([*words, "name=plain"]), log=lambda line: None)
    monkeypatch.setattr("hvg.train.run.COUNT_AFTER", 0.0)
    begun = []
    monkeypatch.setattr(
        "hvg.train.utilisation.Counting", lambda *given, **more: begun.append(Counting(*given, **more)) or begun[-1]
    )

    def report(done: StepReport) -> None:
        if done.step == 3:
            begun[0]._process.wait()

    train(compose([*words, "name=counted"]), report, log=lambda line: None)
    plain, counted = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("plain", "counted")
    )
    assert [row["loss"] for row in plain] == [row["loss"] for row in counted]
    # Begun after the first step, there after the third; the device does one TFLOP/s, so both numbers are the same.
    assert [f"{PREFIX}mfu" in row for row in counted][-1] and not any(f"{PREFIX}mfu" in row for row in plain)
    assert counted[-1][f"{PREFIX}mfu"] == counted[-1][f"{PREFIX}tflops_per_device"] > 0
    noted = json.loads((tmp_path / "counted" / "run.json").read_text())["throughput"]
    (flops,) = noted["flops"].values()
    assert len(begun) == 1 and noted["total"]["flops"] == 4 * flops
