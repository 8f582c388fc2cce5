"""hvg bench gpu: its rows at tiny size on a CPU, its budget of minutes, its page, and what it says that a CPU cannot give."""

import html
import json
from dataclasses import replace

import pytest
import torch

from hvg import cli
from hvg.bench.gpu import kernels, run
from hvg.bench.gpu.sizes import TINY, WHOLE, GpuJob
from hvg.bench.gpu.tasks import Task, results

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def job():
    return GpuJob(TINY, CPU)


def task(name: str, seconds: float = 1.0, run=lambda job: {"x": 1.0}) -> Task:
    return Task(name=name, what=name, seconds=seconds, run=run)


class Card:
    """A job as the budget sees it, on a card with a clock."""

    device = torch.device("cuda")

    def __init__(self) -> None:
        self.now = 0.0

    def tidy(self) -> None:
        pass

    def taking(self, seconds: float):
        def run(job) -> dict[str, float]:
            self.now += seconds
            return {"x": seconds}

        return run


def test_rows_for_which_too_little_time_is_left_are_cut_in_order_and_shorter_ones_still_run():
    card = Card()
    tasks = [
        task("first", 60, card.taking(50)),
        task("long", 200, card.taking(200)),
        task("short", 30, card.taking(30)),
        task("late", 45, card.taking(45)),
    ]
    found = list(results(tasks, card, 120, lambda: card.now))
    assert [row["state"] for row in found] == ["measured", "cut", "measured", "cut"]
    assert found[1]["why"] == "takes about 200 s, and 70 s were left"
    assert [row.get("seconds") for row in found] == [50, None, 30, None]


def test_a_row_that_does_not_fit_or_fails_leaves_the_others(job):
    def full(job):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    def broken(job):
        raise RuntimeError("no such kernel")

    found = list(results([task("full", run=full), task("broken", run=broken), task("fine")], job, 60))
    assert [row["state"] for row in found] == ["does not fit", "failed", "measured"]
    assert "no such kernel" in found[1]["why"] and "broken" in found[1]["traceback"]
    assert run.line(found[0]).endswith("does not fit: CUDA out of memory. Tried to allocate 2 GiB")


def test_all_that_matters_fits_the_minutes_by_its_own_estimates():
    tasks = run.tasks(WHOLE.size if hasattr(WHOLE, "size") else WHOLE)
    assert sum(task.seconds for task in tasks) <= 600
    needed = [task.name for task in tasks if task.name in {row for row, *_ in run.GOALS}]
    spent = 0.0
    for task_ in tasks:
        spent += task_.seconds
        if task_.name == needed[-1]:
            break
    assert spent <= 480


def test_memory_is_as_forecast_and_rows_have_their_figures(job):
    """The quick ones; `python -m pytest -m long` runs them all by the command."""
    wanted = ["training", "memory", "sampling bf16", "view_attention", "few tokens", "encoding"]
    tasks = [x for x in run.tasks(TINY) if x.name in wanted]
    found = {row["name"]: row["figures"] for row in results(tasks, job, 60)}
    assert set(found) == set(wanted)
    assert found["training"]["images/s"] > 0 and found["training"]["memory, GB"] is None
    assert 0.9 < found["memory"]["found / forecast"] < 1.1
    views, frames = TINY.sampled
    whole = found["sampling bf16"]
    minutes = [whole[key] for key in ("denoising, min", "decoding, min", f"{frames} frames x {views} views, min")]
    assert minutes[0] + minutes[1] == pytest.approx(minutes[2])
    seconds = sum(value for name, value in whole.items() if name.endswith("s a call"))
    assert minutes[0] == pytest.approx(whole["calls of the denoiser"] * seconds / 60)
    assert len(found["few tokens"]) == 8 and all(value > 0 for value in found["few tokens"].values())


def test_settings_of_blocks_are_put_back(job):
    before = job.system.backbone.config
    with job.backbone(checkpointing="blocks", compile="blocks"):
        assert job.system.backbone.config.compile == "blocks"
    assert job.system.backbone.config is before


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128>>", "attention"),
        ("sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32", "convolutions"),
        ("sm80_xmma_gemm_bf16bf16_bf16f32_f32_tn_n", "matrix products"),
        ("nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_NNT", "matrix products"),
        ("void at::native::vectorized_elementwise_kernel<4, ...>", "point by point"),
        ("void at::native::RowwiseMomentsCUDAKernelImpl<float>", "norms"),
        (
            "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<FusedAdamMathFunctor>",
            "optimiser and averages",
        ),
        ("Memcpy DtoD (Device -> Device)", "copies"),
        ("something_else_entirely_x", "other"),
        ("aten::mkldnn_convolution", "convolutions"),
        ("aten::addmm", "matrix products"),
    ],
)
def test_kernels_are_told_by_their_names(name, kind):
    assert kernels.kind_of(name) == kind


def test_goals_are_judged_of_a_gpu_alone(tmp_path):
    rows = [
        {"name": "training", "figures": {"utilisation": 0.45}},
        {"name": "memory", "figures": {"found / forecast": 1.2}},
    ]
    assert [verdict for *_, verdict in run.goals(rows)] == ["reached", "not measured", "missed", "not measured"]
    assert all(verdict == "not measured" for *_, verdict in run.goals([]))


@pytest.mark.long
def test_the_command_runs_every_row_on_a_cpu_and_says_which_figures_that_cannot_give(capsys, tmp_path):
    """A minute or two, of which the compiler takes most."""
    assert cli.run(["bench", "gpu", "device=cpu", f"out={tmp_path / 'gpu'}"]) == 0
    record = json.loads((tmp_path / "gpu" / run.JSON).read_text())
    assert [row["state"] for row in record["rows"]] == ["measured"] * len(run.tasks(TINY))
    assert record["size"] == "tiny" and record["device"] == "CPU" and record["peak"]["tflops"] > 0
    shares = next(row["figures"] for row in record["rows"] if row["name"] == "kernels")
    assert sum(shares[kind] for kind in [*kernels.KINDS, kernels.OTHER]) == pytest.approx(1)
    page = html.unescape((tmp_path / "gpu" / run.PAGE).read_text(encoding="utf-8"))
    assert "What a CPU cannot give" in page and "nothing of the goals" in page
    assert all(reason in page for row in record["rows"] for reason in row["gpu_only"])
    assert "gpu.html" in capsys.readouterr().out


def test_sizes_name_the_same_rows():
    names = [[task.name for task in run.tasks(replace(size, batches=TINY.batches))] for size in (WHOLE, TINY)]
    assert names[0] == names[1]
