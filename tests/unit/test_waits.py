"""In a training step the host waits once for its device.

No GPU is needed. torch's device "meta" stands for one: its tensors have shapes and no values, so whatever asks it for a value
is seen asking, and where. Not seen: what libraries do below torch's operations (NCCL, DeepSpeed, the driver), and several
processes.
"""

import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import lightning
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from hvg.config import build
from hvg.config.composition import compose
from hvg.config.settings import RunConfig
from hvg.core.on_device import constants, upload
from hvg.core.quiet import quiet_training
from hvg.data.training_data import ClipDataModule
from hvg.model.fake_step import fake_request, stay, step_shape
from hvg.model.load import make_system
from hvg.testing import tiny_batch
from hvg.train.callbacks import AfterStep, Interruption, Progress
from hvg.train.faults import Quarantine, SkippedSteps
from hvg.train.lightning_system import LightningSystem
from hvg.train.strategies import make_strategy
from hvg.train.throughput import Meter
from hvg.train.utilisation import StepFlops
from hvg.values.buckets import alike
from hvg.values.clip import ClipBatch

aten = torch.ops.aten
DEVICE, CPU = torch.device("meta"), torch.device("cpu")
STEPS = 4
# The size of what they return depends on values.
SIZED_BY_VALUES = (
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.repeat_interleave.Tensor,
)


class Waits(TorchDispatchMode):
    """Notes every operation for which a host would wait until a GPU has come that far, and where it is asked for.

    Questions are answered with ones.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._pinned: set[int] = set()
        self._numbers = Numbers(self)

    def __enter__(self):
        self._numbers.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._numbers.__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is aten.is_pinned.default:
            return False
        if func is aten._pin_memory.default:
            copy = args[0].clone()
            self._pinned.add(copy.untyped_storage()._cdata)
            return copy
        if func is aten._fused_adamw_.default:
            # Has no kernel for this device.
            return None
        if func is aten._local_scalar_dense.default and args[0].device == DEVICE:
            return self.note(func, torch.ones((), dtype=args[0].dtype).item())
        if func in (aten._to_copy.default, aten.copy_.default):
            return self._copy(func, args, kwargs)
        if func in SIZED_BY_VALUES or (func is aten.index.Tensor and any(_is_mask(x) for x in args[1])):
            self.note(func, None)
        return func(*args, **kwargs)

    def _copy(self, func: Any, args: Any, kwargs: Any) -> Any:
        target, source = (args[0], args[1]) if func is aten.copy_.default else (kwargs.get("device"), args[0])
        target = source.device if target is None else target.device if isinstance(target, Tensor) else target
        quiet = kwargs.get("non_blocking") and source.untyped_storage()._cdata in self._pinned
        if source.device.type != target.type and not quiet:
            self.note(func, None)
        if func is aten._to_copy.default and source.device == DEVICE and target == CPU:
            return torch.ones(source.shape, dtype=kwargs.get("dtype") or source.dtype)
        return func(*args, **kwargs)

    def note(self, func: Any, answer: Any) -> Any:
        frames = [f for f in traceback.extract_stack() if "/hvg/" in f.filename or "/components/" in f.filename]
        places = " < ".join(f"{Path(f.filename).stem}.{f.name}:{f.lineno}" for f in reversed(frames[-3:]))
        self.found.append(f"{func} in {places}")
        return answer


class Numbers(TorchFunctionMode):
    """Sees Python's numbers become a tensor of the device, which for this device alone needs no copy of the host's."""

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self._waits = waits

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor, Tensor.new_tensor) and result.device == DEVICE:
            self._waits.note(func.__name__, None)
        return result


def _is_mask(x: Tensor | None) -> bool:
    return x is not None and x.device == DEVICE and x.dtype == torch.bool


# --- a run on that device ---


class OnDevice(LightningSystem):
    """Lightning knows of a CPU alone."""

    def transfer_batch_to_device(self, batch: ClipBatch, device: torch.device, dataloader_idx: int) -> ClipBatch:
        # As the data module of every training does, whose loader has pinned it.
        return ClipDataModule.transfer_batch_to_device(cast(Any, self), batch.pin_memory(), DEVICE, dataloader_idx)


class EveryStep(AfterStep):
    """What was waited for in each step."""

    def __init__(self, waits: Waits) -> None:
        self.waits, self.steps = waits, []

    def after_step(self, trainer, system) -> None:
        self.steps.append(list(self.waits.found))
        self.waits.found.clear()


@quiet_training()
def steps_of(config: RunConfig, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What a run waits for in each of its steps, with the callbacks of every training."""
    # The optimiser asks for a device whose kernels it knows.
    optimizers = import_module("torch.optim.optimizer")
    monkeypatch.setattr(optimizers, "_get_fused_kernels_supported_devices", lambda: ["meta"])
    # There is none for this device, and parts switch it off where they need all digits.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    with DEVICE:
        codec = build.build_codec(config, blank=True)
        networks = build.build_networks(config, codec, blank=True)
    system = make_system(config, build.complete_parts(config, codec, *networks))
    for module in (system, codec):
        if isinstance(module, torch.nn.Module):
            module.to(DEVICE)
    stay(system)
    shape = step_shape(config)
    assert shape is not None
    request = fake_request(config, shape)
    count = shape[0]
    valid = torch.ones(shape[:3], dtype=torch.bool)
    batch = replace(
        request.batch,
        body=tiny_batch(*shape[:3]).body,
        valid=valid,
        num_valid=(shape[1] * shape[2],) * count,
        unreadable=("",) * count,
    )
    log: Callable[[str], None] = print
    waits = Waits()
    every = EveryStep(waits)
    work = StepFlops(config, folder / "run.json", CPU, False, log)
    strategy = make_strategy(config, CPU, False)
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        strategy=strategy,
        max_steps=STEPS,
        accumulate_grad_batches=config.training.accumulate,
        callbacks=[
            Progress(lambda *_: None, config.training.log_every, Meter(), work, 1e9),
            Quarantine(folder, config, alike(10, *config.data.trained_buckets), log),
            SkippedSteps(folder, config, log),
            Interruption(),
            every,
        ],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    with waits:
        trainer.fit(OnDevice(system), train_dataloaders=Batches(batch, STEPS * config.training.accumulate))
    return every.steps


class Batches:
    """The same batch, again and again."""

    def __init__(self, batch: ClipBatch, count: int) -> None:
        self._batch, self._count = batch, count

    def __iter__(self):
        return iter([self._batch] * self._count)

    def __len__(self) -> int:
        return self._count


SPIKES, ACCUMULATE = ["training.max_loss_ratio=3", "training.loss_window=2"], ["training.accumulate=2"]
MOVE = ["alignment=pelvis", "training.foreground_weight=1", "pose=hvg"]
RUNS = [
    pytest.param([], id="as it is", marks=pytest.mark.long),
    pytest.param(SPIKES, id="spikes", marks=pytest.mark.long),
    pytest.param(ACCUMULATE, id="accumulate", marks=pytest.mark.long),
    pytest.param([*SPIKES, *ACCUMULATE], id="spikes of accumulated batches"),
    pytest.param(MOVE, id="pictures that move", marks=pytest.mark.long),
    pytest.param([*MOVE, "codec=pixel_time"], id="frames that are joined"),
]


@pytest.mark.parametrize("words", RUNS)
def test_a_step_waits_once_for_its_device(words, tiny, tmp_path, monkeypatch):
    config = compose([*tiny, "training.log_every=4", "training.precision=32", *words])
    _, *middle, logged = steps_of(config, tmp_path, monkeypatch)
    assert [len(step) for step in middle] == [1, 1], "\n".join(x for step in middle for x in step)
    assert "judge_step" in middle[0][0]
    # To read the means that are logged.
    assert len(logged) == 2 and any("_means" in place for place in logged), "\n".join(logged)


def test_what_waits_is_seen():
    """The waits of the first version of a step, and what took their places."""
    x, host = torch.zeros(3, device=DEVICE), torch.zeros(3)
    asked = {
        "a number": lambda: float(x.sum()),
        "a list": lambda: x.cpu().tolist(),
        "a truth value": lambda: bool((x > 0).any()),
        "a mask": lambda: x[x > 0],
        "places": lambda: x.nonzero(),
        "a list of numbers there": lambda: x.new_tensor([1.0, 2.0]),
        "memory that is not pinned": lambda: host.to(DEVICE, non_blocking=True),
        "pinned memory, and waiting": lambda: host.pin_memory().to(DEVICE),
    }
    quiet = [lambda: upload(host, DEVICE), lambda: constants([1.0, 2.0], x), lambda: x.mean() + 1]
    for what, ask in asked.items():
        with Waits() as waits:
            try:
                ask()
            except (RuntimeError, NotImplementedError):
                assert what in ("a mask", "places"), "the size is not known here"
        assert len(waits.found) == 1, (what, waits.found)
    for ask in quiet:
        with Waits() as waits:
            ask()
        assert waits.found == []
