"""``hvg train dry_run=32``: the job that one of 32 devices would run, built and stepped on shapes, in a process without a GPU.

Lightning, DeepSpeed or distributed data parallel and the optimiser are the real ones; tensors are fake (shapes without
values) and so is the process group, which answers every collective at once. So nothing takes memory, and numbers (losses,
norms) mean nothing; what is held and what is sent is that of the real job. Each rank is a process of its own, for DeepSpeed
keeps state that belongs to a process. Writes no file.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hvg.config import build
from hvg.config.composition import parse_resolved
from hvg.config.precision import LIGHTNING, on_described_gpus, precision_here
from hvg.config.settings import RunConfig
from hvg.config.strategy_section import StrategyConfig
from hvg.core.errors import HvgError
from hvg.core.text_tables import table
from hvg.cost.forecast import forecast, rank_count
from hvg.cost.table import gigabytes
from hvg.model.counted_step import LiveBytes, Watch, handle, tensors_of
from hvg.model.fake_step import FakeNetworks, fake_networks, fake_request, stay, step_shape, with_features
from hvg.model.load import make_system
from hvg.model.system import HumanVideoSystem
from hvg.train.lightning_system import LightningSystem
from hvg.train.logical_checkpoints import LogicalCheckpoints
from hvg.train.shares import Share
from hvg.train.strategies import make_strategy
from hvg.values.clip import ClipBatch


@dataclass(frozen=True, kw_only=True)
class RankBytes:
    """Bytes that a rank's real objects hold.

    share: between steps, of zero3 what is gathered then included. peak: most that was alive at once, everything included.
    sent: by collectives of the step, as ring algorithms send it.
    """

    rank: int
    share: Share
    peak: int
    sent: int


def dry_run(config: RunConfig, ranks: int) -> Iterator[str]:
    """Lines on what the first device of ``ranks`` holds, and the last one where shares differ, beside what is forecast.

    Raises: HvgError where the strategy has no such number of devices, or a rank cannot be built.
    """
    shape = step_shape(config)
    if "backbone" not in config.parts:
        raise HvgError(
            f"dry_run steps on shapes, which system={config.system.name} cannot; a check counts its weights",
            then=f"hvg check system={config.system.name}",
        )
    if shape is None:
        raise HvgError(f"dry_run needs the size of pictures, which dataset {config.dataset.name} reads from its files")
    if config.strategy.offload != "none":
        raise HvgError(
            "dry_run has no GPU to offload from: set strategy.offload=none, or let a check forecast it",
            then=f"hvg check strategy={config.strategy.name} strategy.offload={config.strategy.offload}",
        )
    ranks = rank_count(config.strategy, ranks)
    config, arithmetic = on_described_gpus(config)
    b, v, t, height, width = shape
    yield f"{ranks} x {config.strategy.name}, {b} x {v} views x {t} frames of {height} x {width}: built and stepped on shapes"
    yield f"trained in {arithmetic}"
    found = [holdings(config, rank, ranks) for rank in _differing(config.strategy, ranks)]
    predicted = forecast(config, ranks)
    shares = [*(x.share for x in found), predicted.share]
    kinds = ("weights", "copies", "optimizer", "average", "gradients", "buckets", "gathered")
    rows = [(kind, *(gigabytes(getattr(x, kind)) for x in shares)) for kind in kinds]
    rows.append(("peak", *(gigabytes(x.peak) for x in found), gigabytes(predicted.total)))
    rows.append(("sent", *(gigabytes(x.sent) for x in found), gigabytes(predicted.traffic.bytes)))
    yield from table([("", *(f"rank {x.rank}" for x in found), "forecast"), *rows])
    yield "Collectives were answered by nobody, so losses and norms meant nothing. Nothing was trained or written."


def _differing(strategy: StrategyConfig, ranks: int) -> list[int]:
    """Ranks whose shares may differ: the last part of what is cut up may be filled up."""
    return [0, ranks - 1] if strategy.name.startswith("zero") and ranks > 1 else [0]


def holdings(config: RunConfig, rank: int, ranks: int) -> RankBytes:
    """Memory that one rank holds, found in a process of its own. Raises: HvgError where it cannot be built."""
    command = [sys.executable, "-m", "hvg.cost.dry_run", str(rank), str(ranks)]
    # One of several machines with one device each; the others do not exist.
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "NODE_RANK": str(rank), "LOCAL_RANK": "0"}
    result = subprocess.run(command, input=config.to_yaml(), capture_output=True, text=True, env=environment)
    if result.returncode:
        reason = (result.stderr.strip() or "no reason given").splitlines()[-1]
        raise HvgError(f"dry_run: rank {rank} of {ranks} cannot be built: {reason}")
    # DeepSpeed writes to the same stream before.
    found = json.loads(result.stdout.splitlines()[-1])
    return RankBytes(**found | {"share": Share(**found["share"])})


def main() -> None:
    """Entry point of a rank's process: ``python -m hvg.cost.dry_run RANK RANKS``, with the configuration on standard input."""
    rank, ranks = map(int, sys.argv[1:])
    print("\n" + json.dumps(asdict(hold(parse_resolved(sys.stdin.read(), "dry_run"), rank, ranks))), flush=True)


def hold(config: RunConfig, rank: int, ranks: int) -> RankBytes:
    """Builds and steps the job of one rank in this process, and leaves DeepSpeed's traces in it."""
    if config.strategy.name == "zero3":
        # It compares with other ranks the order in which two batches use weights. It holds the same for one.
        config = config.model_copy(update={"training": config.training.model_copy(update={"accumulate": 1})})
    strategy = make_strategy(config, torch.device("cpu"), precision_here(config) == "bf16")
    alive = LiveBytes()
    with (
        _fake_group(rank, ranks, strategy, config),
        fake_networks(config) as networks,
        Watch(alive.watch),
        _Answers(ranks) as answers,
    ):
        for x in tensors_of([*networks.trained, *networks.published()]):
            alive.follow(x)
        system, batch = _system(config, networks), _batch(config, networks)
        inspection = _Inspection(answers)
        _trainer(config, strategy, inspection, ranks).fit(
            _FakeModule(system), train_dataloaders=_Batches(batch, config.training.accumulate)
        )
    return RankBytes(rank=rank, share=Share(**inspection.held), peak=alive.peak, sent=answers.sent)


# --- what stands in for a cluster ---------------------------------------------------------------------------------


@contextmanager
def _fake_group(rank: int, ranks: int, strategy: LogicalCheckpoints, config: RunConfig) -> Iterator[None]:
    """This process as one of a group in which no other exists, and its strategy prepared for that."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    distributed.init_process_group("fake", store=FakeStore(), rank=rank, world_size=ranks)
    _prepare(strategy, config)
    yield
    distributed.destroy_process_group()


class _Answers(TorchDispatchMode):
    """Answers what a step asks of values: numbers are 1, whole numbers 0, questions False. Counts what collectives send.

    sent: bytes of one rank, while ``counting``.
    """

    def __init__(self, ranks: int) -> None:
        super().__init__()
        cut = (ranks - 1) / ranks
        # Collective -> the place of its larger argument, and how often a ring sends it.
        self._collectives = {
            "allreduce_": (0, 2 * cut),
            "_allgather_base_": (0, cut),
            "allgather_": (0, cut),
            "_reduce_scatter_base_": (1, cut),
            "reduce_scatter_": (1, cut),
        }
        self.counting, self.sent = False, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            if args[0].dtype == torch.bool:
                return False
            return 1.0 if args[0].dtype.is_floating_point else 0
        if self.counting and func.namespace == "c10d":
            place, times = self._collectives.get(func.overloadpacket.__name__, (0, 0))
            sizes = [x.numel() * x.element_size() for x in tree_leaves(args[place]) if isinstance(x, Tensor)]
            self.sent += round(times * sum(sizes))
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class _Batches:
    """The same batch, as often as a step accumulates."""

    batch: ClipBatch
    count: int

    def __iter__(self) -> Iterator[ClipBatch]:
        return iter([self.batch] * self.count)

    def __len__(self) -> int:
        return self.count


# --- the job ------------------------------------------------------------------------------------------------------


class _FakeSystem(HumanVideoSystem):
    """Without what depends on values: where people are in the picture."""

    def aligned(self, batch: ClipBatch) -> tuple[ClipBatch, Tensor | None]:
        return batch, None


class _FakeModule(LightningSystem):
    """Whose batches are where they should be."""

    def transfer_batch_to_device(self, batch: ClipBatch, device: torch.device, dataloader_idx: int) -> ClipBatch:
        return batch


def _system(config: RunConfig, networks: FakeNetworks) -> HumanVideoSystem:
    parts = build.complete_parts(config, networks.codec, networks.backbone, networks.conditioners)
    system = make_system(config, parts, _FakeSystem)
    system.rates = networks.rates
    stay(system)
    return system


def _batch(config: RunConfig, networks: FakeNetworks) -> ClipBatch:
    """A batch as training reads it."""
    shape = step_shape(config)
    assert shape is not None
    request = fake_request(config, shape)
    if config.data.latents == "encode":
        return request.batch
    return replace(with_features(request.batch, networks.conditioners), latents=request.noisy, frames=None)


def _prepare(strategy: LogicalCheckpoints, config: RunConfig) -> None:
    """Prepares a strategy: leaves out what needs other processes, and sets what it otherwise does only on GPUs."""
    # Objects are sent as bytes, which fake tensors do not have.
    vars(strategy)["broadcast"] = lambda obj, src=0: obj
    settings: Any = strategy
    if config.strategy.name == "ddp":
        # It compares the values of all processes.
        settings._ddp_kwargs["init_sync"] = False
    if config.strategy.name.startswith("zero"):
        settings.config["zero_optimization"]["overlap_comm"] = True
    if config.strategy.name == "fsdp":
        # Made of numbers that tensors without values do not have.
        settings.mesh = init_device_mesh("cpu", (distributed.get_world_size(),))


def _trainer(config: RunConfig, strategy: LogicalCheckpoints, inspection: Callback, ranks: int) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="cpu",
        devices=1,
        num_nodes=ranks,
        strategy=strategy,
        plugins=[] if config.strategy.name == "single" else [LightningEnvironment()],
        # ZeRO does it itself.
        precision=None if config.strategy.name.startswith("zero") else LIGHTNING[precision_here(config)],
        max_steps=1,
        accumulate_grad_batches=config.training.accumulate,
        callbacks=[inspection],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


class _Inspection(Callback):
    """Looks at what the objects of a run hold: buckets in the backward pass, gradients after it, the rest after the step."""

    def __init__(self, answers: _Answers) -> None:
        self._answers = answers
        self._buckets: dict[int, Tensor] = {}
        self.held: dict[str, Any] = {"buckets": 0, "gradients": 0}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._answers.counting = True
        if isinstance(trainer.model, nn.parallel.DistributedDataParallel):
            # The fake group's answer is none that the library's own hook understands.
            trainer.model.register_comm_hook(None, lambda state, bucket: self._reduce(bucket))
        for parameter in trainer.strategy.sections.values():
            parameter.register_post_accumulate_grad_hook(lambda _: self._see_buckets(trainer.strategy.buckets()))

    def _reduce(self, bucket: Any) -> torch.futures.Future[Tensor]:
        # Distributed data parallel shows its buckets one by one, and keeps them.
        self._see_buckets([*self._buckets.values(), bucket.buffer()])
        distributed.all_reduce(bucket.buffer())
        done: torch.futures.Future[Tensor] = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    def _see_buckets(self, buckets: Iterable[Tensor]) -> None:
        found = {handle(x): x for x in buckets}
        if found:
            self._buckets = found
            self.held["buckets"] = max(self.held["buckets"], _size(found.values()))

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        # Under zero1 gradients that other devices update stay in the buckets.
        found = [x for x in trainer.strategy.gradients() if handle(x) not in self._buckets]
        self.held["gradients"] = max(self.held["gradients"], _size(found))
        if not isinstance(trainer.model, nn.parallel.DistributedDataParallel):
            self._buckets = {}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        strategy = trainer.strategy
        tensors = tensors_of([pl_module, *strategy.hidden.values()])
        states = strategy.averaging().state
        kinds: dict[str, list[Tensor]] = {
            # Of stage 3 and fsdp: the part that a device keeps, and what it holds whole.
            "weights": [_kept(x) for x in tensors],
            "gathered": [x for x in tensors if not isinstance(x, DTensor)],
            "copies": list(states),
            "optimizer": [x for state in states.values() for name, x in state.items() if name != "average"],
            "average": [state["average"] for state in states.values()],
        }
        seen: set[int] = set()
        for kind, found in kinds.items():
            self.held[kind] = _size(x for x in found if handle(x) not in seen)
            seen |= {handle(x) for x in found}


def _kept(x: Tensor) -> Tensor:
    """What a device keeps of a weight between two steps."""
    return x.to_local() if isinstance(x, DTensor) else getattr(x, "ds_tensor", x)


def _size(tensors: Iterable[Tensor]) -> int:
    """Bytes of all memory that these share."""
    return sum({handle(x): x.untyped_storage().nbytes() for x in tensors}.values())


if __name__ == "__main__":
    main()
