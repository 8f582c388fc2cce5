"""How processes share a run: one device, distributed data parallel, or DeepSpeed ZeRO.

Whatever a strategy does with weights and optimiser, it saves and restores them whole and by name (``hvg.checkpoint``).
DeepSpeed is imported only by a run that chose it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning.pytorch.plugins.precision import DeepSpeedPrecision
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, SingleDeviceStrategy, Strategy
from torch import Tensor, distributed, nn
from torch.optim.lr_scheduler import LambdaLR

from hvg.checkpoint import Checkpoint, Entry, write_checkpoint
from hvg.ema import AveragedAdamW
from hvg.errors import CheckpointError, HvgError
from hvg.on_device import upload
from hvg.process_launcher import ProcessLauncher
from hvg.quiet import quiet_first_forward
from hvg.ranks import rank_and_world
from hvg.settings import RunConfig
from hvg.shares import BUCKET
from hvg.training_state import MOMENTS, check_loops


def make_strategy(config: RunConfig, device: torch.device, bf16: bool) -> LogicalCheckpoints:
    """Lightning's strategy for a run. Raises: HvgError where the device cannot do it."""
    name, offload = config.strategy.name, config.strategy.offload
    if name == "single":
        return SingleDevice(config, device=torch.device("cuda", 0) if device.type == "cuda" else device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    if name == "ddp":
        # So that gradients keep their first grouping for the exchange. Else they would be grouped anew after a first step, a
        # resumed run's too, and of three processes and more their sums would be taken in another order.
        return DataParallel(config, process_group_backend=backend, find_unused_parameters=True)
    if device.type == "cpu":
        if offload != "none":
            raise HvgError(
                f"strategy.offload={offload} needs a GPU to offload from; on a CPU set strategy.offload=none"
            )
        os.environ["DS_ACCELERATOR"] = "cpu"
    return Zero(config, stage=int(name[-1]), bf16=bf16, process_group_backend=backend)


class LogicalCheckpoints(Strategy):
    """A strategy whose checkpoints hold whole tensors by name, so that any other can continue from them.

    Weights of a checkpoint are loaded into the system before a strategy takes it over; what Lightning restores here is the
    optimiser.
    """

    def __init__(self, run: RunConfig, **settings: Any) -> None:
        super().__init__(**settings)
        self._any_world, self._clip = run.resume_world == "any", run.training.gradient_clip
        self._resumed: Checkpoint | None = None
        self._gradient_norm = math.nan
        # Numbers of this process that the others have to know of a step, by name; and their sums over all processes, as of
        # the last step.
        self.told: dict[str, float] = {}
        self.heard: dict[str, float] = {}
        # Modules that a strategy keeps out of the tree.
        self.hidden: dict[str, nn.Module] = {}

    @property
    def sections(self) -> Mapping[str, nn.Parameter]:
        """Name -> weight, of those that are trained."""
        assert self.lightning_module is not None
        return {name: p for name, p in self.lightning_module.named_parameters() if p.requires_grad}

    def adam(self) -> AveragedAdamW:
        """The optimiser; what it updates may be shards of weights."""
        return cast(AveragedAdamW, self.optimizers[0])

    def whole(self, parameter: nn.Parameter, section: str) -> Tensor:
        """A weight, or what the optimiser knows of it, in whole; all processes have to ask."""
        return parameter.detach() if section == "weights" else self.adam().state[parameter][section]

    def start_optimizer(self) -> None:
        """Makes the optimiser's state before its first step."""
        for parameter in self.sections.values():
            self.adam().prepare(parameter)

    def put(self, parameter: nn.Parameter, section: str, value: Tensor) -> None:
        """Sets what the optimiser knows of a weight, given in whole."""
        self.adam().state[parameter][section].copy_(value)

    def gradients(self) -> list[Tensor]:
        """What this process holds of the gradient between the backward pass and the step."""
        return [parameter.grad for parameter in self.sections.values() if parameter.grad is not None]

    def buckets(self) -> list[Tensor]:
        """Buffers in which gradients wait to be exchanged; distributed data parallel does not tell its own."""
        return []

    def judge_step(self, loss: Tensor, limit: float) -> float:
        """With the gradient complete, clips it, and says whether the optimiser takes the step; the mean loss of all processes.

        It does not if the gradient's norm is not finite, nor if the mean of ``loss`` is above ``limit``. All processes ask,
        and come to the same answer. Here, once a step, the host waits for the device, and processes hear what the others
        tell: all that it needs to know is read at once.
        """
        # Clipped here and not by Lightning, which would compute the norm once more.
        norm = nn.utils.get_total_norm(self.gradients())
        if self._clip is not None:
            nn.utils.clip_grads_with_norm_(self.sections.values(), self._clip, norm)
        mean, self._gradient_norm = self._read(loss, norm)
        self.adam().leave_out = mean > limit or not math.isfinite(self._gradient_norm)
        return mean

    def _read(self, loss: Tensor, *more: Tensor) -> list[float]:
        """The mean of a loss over all processes, and further scalars of the device; what is told is exchanged on the way."""
        world, names = rank_and_world()[1], sorted(self.told)
        self.heard = dict(self.told)
        if world == 1:
            return torch.stack([loss.float(), *(x.float() for x in more)]).cpu().tolist()
        notes = upload(torch.tensor([self.told[name] for name in names]), loss.device)
        shared = torch.cat([loss.float()[None] / world, notes])
        # Not Lightning's, which waits for the device before it begins.
        distributed.all_reduce(shared)
        read = torch.cat([shared, *(x.float()[None] for x in more)]).cpu().tolist()
        self.heard = dict(zip(names, read[1:], strict=False))
        return [read[0], *read[1 + len(names) :]]

    def step_taken(self) -> bool:
        """Whether the optimiser took the last step."""
        return not self.adam().leave_out

    def gradient_norm(self) -> float:
        """Of the last step's gradient, before it was clipped."""
        return self._gradient_norm

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """The moving average stands in for the weights inside; all processes have to enter."""
        kept = {name: p.detach().to("cpu", copy=True) for name, p in self.sections.items()}
        with torch.no_grad():
            for parameter in self.sections.values():
                parameter.copy_(self.whole(parameter, "average"))
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self.sections.items():
                    parameter.copy_(kept[name])

    # --- Lightning's hooks ----------------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        # A checkpoint needs the optimiser's state, even if no step has been taken yet.
        if not self.adam().state:
            self.start_optimizer()
        super().on_train_start()

    def backward(self, closure_loss: Tensor, optimizer: Any, *args: Any, **kwargs: Any) -> Tensor:
        # A loss that is not finite need not have such a gradient. Made so, all processes see it in the gradient they share.
        finite = torch.where(closure_loss.detach().isfinite(), 1.0, torch.nan)
        return super().backward(closure_loss * finite, optimizer, *args, **kwargs)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        return {}

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        return {}

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Writes weights and optimiser by name, and the rest of Lightning's state. All processes call it."""
        del checkpoint["state_dict"], checkpoint["optimizer_states"]
        adam = self.adam()
        groups = [{key: value for key, value in group.items() if key != "params"} for group in adam.param_groups]
        step = next(iter(adam.state.values()))["step"]
        state = {**checkpoint, "strategy": type(self).__name__, "adam": {"step": float(step), "groups": groups}}
        write_checkpoint(Path(self.broadcast(str(filepath))), state, list(self._entries()))

    def _entries(self) -> Iterator[Entry]:
        assert self.lightning_module is not None
        parameters = dict(self.lightning_module.named_parameters(remove_duplicate=False))
        for name, tensor in self.lightning_module.state_dict().items():
            if name in parameters:
                yield self._entry("weights", name, parameters[name])
            else:
                yield Entry.of(f"weights/{name}", tensor)
        for prefix, module in self.hidden.items():
            yield from (Entry.of(f"weights/{prefix}.{name}", x) for name, x in module.state_dict().items())
        for section in MOMENTS:
            for name, parameter in self.sections.items():
                yield self._entry(section, name, parameter)

    def _entry(self, section: str, name: str, parameter: nn.Parameter) -> Entry:
        shape = tuple(getattr(parameter, "ds_shape", parameter.shape))
        learned = section in ("weights", "average")
        return Entry(f"{section}/{name}", parameter.dtype, shape, lambda: self.whole(parameter, section), learned)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """The plain state. Raises: CheckpointError when another number of processes wrote it, unless that was allowed."""
        opened, (_, world) = Checkpoint(Path(checkpoint_path)), rank_and_world()
        if opened.world_size != world and not self._any_world:
            raise CheckpointError(
                f"{opened.path}: written by {opened.world_size} process(es), this run has {world}; the result will "
                "not be the same bits, resume_world=any continues all the same"
            )
        assert self.lightning_module is not None
        trainer, loops = self.lightning_module.trainer, ("fit_loop", "validate_loop", "test_loop", "predict_loop")
        check_loops(opened, {name: getattr(trainer, name).state_dict() for name in loops})
        self._resumed = opened
        places = [{key: x for key, x in saved.items() if key != "base_lrs"} for saved in opened.state["lr_schedulers"]]
        return {**opened.state, "state_dict": {}, "optimizer_states": [{}], "lr_schedulers": places}

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Nothing: the weights are there already."""

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        assert self._resumed is not None
        self.start_optimizer()
        with torch.no_grad():
            for section in MOMENTS:
                for name, parameter in self.sections.items():
                    self.put(parameter, section, self._resumed.tensor(f"{section}/{name}"))
            self.adam().restore_step(int(checkpoint["adam"]["step"]))
        self._resumed = None
        # The checkpoint says where on its schedule the learning rate is; what the schedule is, and all else that the
        # optimiser is set to, the configuration says: it may have changed on purpose.
        (schedule,) = (cast(LambdaLR, config.scheduler) for config in self.lr_scheduler_configs)
        (place,) = (saved["last_epoch"] for saved in checkpoint["lr_schedulers"])
        for group, peak, share in zip(self.adam().param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
            group["lr"] = peak * share(place)


class SingleDevice(LogicalCheckpoints, SingleDeviceStrategy):
    """One process."""


class SeveralProcesses(LogicalCheckpoints):
    """A strategy of several processes, which the first one starts where nobody else has."""

    def _configure_launcher(self) -> None:
        assert isinstance(self, DDPStrategy) and self.cluster_environment is not None
        self._launcher = ProcessLauncher(self.cluster_environment, self.num_processes, self.num_nodes)


class DataParallel(SeveralProcesses, DDPStrategy):
    """Every process has all of the state, and its part of each batch."""

    def _setup_model(self, model: nn.Module) -> Any:
        wrapped = super()._setup_model(model)
        quiet_first_forward(wrapped)
        return wrapped


class ZeroPrecision(DeepSpeedPrecision):
    """Batches stay as they are: a clip's cameras and joints are not the network's to round."""

    def convert_input(self, data: Any) -> Any:
        return data


class Zero(SeveralProcesses, DeepSpeedStrategy):
    """DeepSpeed ZeRO of a stage, on GPUs, and on CPUs with gloo.

    bf16: as under the other strategies, by autocast over float32 weights; DeepSpeed then exchanges those of linear and
    convolution layers in bf16. The network is built before, whole and seeded, and partitioned here: diffusers' blocks cannot
    be built inside ``deepspeed.zero.Init`` (its stand-in for ``torch.Tensor(...)`` takes sizes only).
    """

    def __init__(
        self,
        run: RunConfig,
        *,
        stage: Literal[1, 2, 3] | int,
        bf16: bool,
        process_group_backend: str,
    ) -> None:
        zero: dict[str, Any] = {
            "stage": stage,
            "contiguous_gradients": True,
            "overlap_comm": torch.cuda.is_available(),
            "reduce_bucket_size": BUCKET,
            "allgather_bucket_size": BUCKET,
        }
        if run.strategy.offload != "none":
            zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
        if run.strategy.offload == "parameters":
            zero["offload_param"] = {"device": "cpu", "pin_memory": True}
        settings = {
            "zero_optimization": zero,
            # Both let it take our AdamW, which is elementwise and so indifferent to how weights are cut up.
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "train_micro_batch_size_per_gpu": run.data.batch_size,
            "gradient_clipping": run.training.gradient_clip or 0.0,
            "torch_autocast": {"enabled": bf16, "dtype": "bfloat16"},
        }
        super().__init__(
            run,
            config=settings,
            precision_plugin=ZeroPrecision("32-true"),
            process_group_backend=process_group_backend,
        )
        self._partitioned = stage == 3
        # Stage 3 replaces it for the whole process, by one that keeps no gathered weight and rounds biases' gradients
        # otherwise: left there, it would change the last bits of what this process trains or samples next.
        self._linear = nn.functional.linear

    def setup_environment(self) -> None:
        """Without the parent's refusal of CPUs. Those are numbered, for DeepSpeed is told a device by its number."""
        assert self.parallel_devices is not None
        if self.parallel_devices[0].type == "cpu":
            self.parallel_devices = [torch.device("cpu", index) for index in range(len(self.parallel_devices))]
        super(DeepSpeedStrategy, self).setup_environment()

    def setup_distributed(self) -> None:
        import deepspeed

        # Not used in training; on CPUs it would be compiled, for minutes, by the first run of a machine.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        super().setup_distributed()

    def _setup_model_and_optimizer(self, model: nn.Module, optimizer: Any, lr_scheduler: Any = None) -> Any:
        if self._partitioned:
            self.hidden = hide_frozen(model)
            for module in self.hidden.values():
                module.to(self.root_device)
        return super()._setup_model_and_optimizer(model, optimizer, lr_scheduler)

    def teardown(self) -> None:
        nn.functional.linear = self._linear
        super().teardown()

    @property
    def _zero_optimizer(self) -> Any:
        """DeepSpeed's, around ours."""
        return self.optimizers[0]

    def adam(self) -> AveragedAdamW:
        return self._zero_optimizer.optimizer

    # Inside DeepSpeed, both; held to this version by tests/integration/test_dry_run.py.
    def gradients(self) -> list[Tensor]:
        parts = self._zero_optimizer.averaged_gradients.values()
        return [*super().gradients(), *(x for part in parts for x in part or ())]

    def buckets(self) -> list[Tensor]:
        buffers = [bucket.buffer for bucket in self._zero_optimizer.ipg_buckets.values()]
        return [x for buffer in buffers for x in (buffer if isinstance(buffer, list) else [buffer])]

    def judge_step(self, loss: Tensor, limit: float) -> float:
        # DeepSpeed computes the norm inside of its step, and leaves that out by itself where the norm is not finite.
        (mean,) = self._read(loss)
        self.adam().leave_out = mean > limit
        return mean

    # Inside DeepSpeed, both; held to this version by tests/integration/test_faulty_runs.py.
    def step_taken(self) -> bool:
        return not self._zero_optimizer.overflow and super().step_taken()

    def gradient_norm(self) -> float:
        # One that is not a number is called infinite.
        return float(self._zero_optimizer._global_grad_norm)

    def backward(self, closure_loss: Tensor, optimizer: Any, *args: Any, **kwargs: Any) -> Tensor:
        # Lightning has divided the loss by the number of batches that a step accumulates; DeepSpeed would do it once more.
        return super().backward(closure_loss, optimizer, *args, scale_wrt_gas=False, **kwargs)

    def whole(self, parameter: nn.Parameter, section: str) -> Tensor:
        import deepspeed
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        if section != "weights":
            return cast(Tensor, safe_get_full_optimizer_state(parameter, section))
        if parameter.requires_grad:
            return cast(Tensor, safe_get_full_fp32_param(parameter))
        if not hasattr(parameter, "ds_id"):
            return parameter.detach()
        with deepspeed.zero.GatheredParameters([parameter]):
            return parameter.detach().clone()

    def start_optimizer(self) -> None:
        # Inside DeepSpeed: it makes the state in its first step, and in stages 1 and 2 notes then which part of which flat
        # shard is whose. Held to this version by tests/integration/test_strategies.py.
        zero = self._zero_optimizer
        for shard in zero.fp32_partitioned_groups_flat if self._partitioned else zero.single_partition_of_fp32_groups:
            self.adam().prepare(shard)
        if not self._partitioned:
            zero._lazy_init_hp_params_optimizer_state()

    def put(self, parameter: nn.Parameter, section: str, value: Tensor) -> None:
        from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

        if not self._partitioned:
            safe_set_full_optimizer_state(parameter, value, section)
            return
        # In stage 3 that function fails where the processes' parts are not equally long: the last ones are filled up.
        part, (rank, world) = cast(Any, parameter).ds_tensor.numel(), rank_and_world()
        filled = nn.functional.pad(value.flatten(), (0, part * world - value.numel()))
        safe_set_local_optimizer_state(parameter, filled.narrow(0, rank * part, part), section)


def hide_frozen(model: nn.Module) -> dict[str, nn.Module]:
    """Makes modules without anything to train plain attributes of theirs, and returns them by name.

    They run as before, but no one who walks the tree of modules finds them. What lies directly in a container of modules
    stays: there it is found by its place in the tree.
    """
    hidden: dict[str, nn.Module] = {}

    def walk(module: nn.Module, prefix: str) -> None:
        container = isinstance(module, (nn.ModuleDict, nn.ModuleList, nn.Sequential))
        for name, child in list(module.named_children()):
            parameters = list(child.parameters())
            if container or not parameters or any(parameter.requires_grad for parameter in parameters):
                walk(child, f"{prefix}{name}.")
                continue
            del module._modules[name]
            vars(module)[name] = hidden[f"{prefix}{name}"] = child

    walk(model, "")
    return hidden


@contextmanager
def joined_group() -> Iterator[None]:
    """Processes that join a group inside leave it together; one that ended in it could abort after success."""
    outside = _in_group()
    yield
    if _in_group() and not outside:
        distributed.barrier()
        distributed.destroy_process_group()


def _in_group() -> bool:
    return distributed.is_available() and distributed.is_initialized()
