"""DeepSpeed's ZeRO with checkpoints that hold whole tensors by name."""

from typing import Any, Literal, cast

import torch
from lightning.pytorch.plugins.precision import DeepSpeedPrecision
from lightning.pytorch.strategies import DeepSpeedStrategy
from torch import Tensor, nn

from hvg.config.settings import RunConfig
from hvg.model.ema import Averaging
from hvg.train.lightning_system import LightningSystem
from hvg.train.logical_checkpoints import Piece, SeveralProcesses
from hvg.train.shares import BUCKET


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
            # Both let it take any optimiser; those that are not indifferent to how weights are cut up are refused before.
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
            self.hidden = hide_frozen(cast(LightningSystem, model).system)
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

    def averaging(self) -> Averaging:
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
        self.averaging().leave_out = mean > limit
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
        from deepspeed.utils import safe_get_full_fp32_param

        if section != "weights":
            return self.gathered(parameter, section, getattr(parameter, "ds_shape", parameter.shape))
        if parameter.requires_grad:
            return cast(Tensor, safe_get_full_fp32_param(parameter))
        if not hasattr(parameter, "ds_id"):
            return parameter.detach()
        with deepspeed.zero.GatheredParameters([parameter]):
            return parameter.detach().clone()

    # Inside DeepSpeed, all that follows; held to this version by tests/integration/test_strategies.py.
    def start_optimizer(self) -> None:
        zero = self._zero_optimizer
        for held in zero.fp32_partitioned_groups_flat if self._partitioned else zero.single_partition_of_fp32_groups:
            self.averaging().prepare(held)

    def piece(self, parameter: nn.Parameter) -> Piece | None:
        zero, weight = self._zero_optimizer, cast(Any, parameter)
        if not self._partitioned:
            fragment = weight._hp_mapping
            if fragment is None:
                return None
            held = zero.single_partition_of_fp32_groups[fragment.param_group_index]
            return Piece(held, _slice(fragment.hp_fragment_address), _slice(fragment.lp_fragment_address))
        group, start, part = zero.grad_position[zero.get_param_id(parameter)]
        first = min(self.global_rank * part, weight.ds_numel)
        # The last processes' parts are filled up, or hold nothing but what fills them up.
        count = min(part, weight.ds_numel - first)
        held = zero.fp32_partitioned_groups_flat[group]
        return Piece(held, slice(start, start + count), slice(first, first + count)) if count else None


def _slice(address: Any) -> slice:
    """The place of a fragment, as DeepSpeed says it."""
    return slice(address.start, address.start + address.numel)


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
