"""torch's fully sharded data parallelism, with checkpoints that hold whole tensors by name."""

from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from hvg.core.errors import HvgError
from hvg.core.ranks import rank_and_world
from hvg.core.required import required
from hvg.parts.blocks import GATHERED, blocks_of
from hvg.train.logical_checkpoints import Piece, SeveralProcesses


class FullyShard(SeveralProcesses, DDPStrategy):
    """Every process keeps some rows of every weight, of its gradient and of what the optimiser knows of it.

    A block's weights are gathered when it runs, and once more for its backward pass; what lies outside of blocks
    (``hvg.parts.blocks``) is gathered for the length of a step. Arithmetic is as under the other strategies: bf16 by autocast
    over float32 weights, which are gathered in float32, as gradients are summed. What the optimiser moves are plain tensors,
    this process's rows, as under ZeRO: it need not know torch's distributed ones.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        # Weight -> this process's rows of it.
        self._rows: dict[nn.Parameter, Tensor] = {}
        # All processes in a row; None: made when they have joined.
        self.mesh: DeviceMesh | None = None

    # --- Lightning's hooks ----------------------------------------------------------------------------------------

    def model_to_device(self) -> None:
        # Block by block, so that the device never has all of the network.
        system = required(self.lightning_module, "the system")
        refuse_scalars(system)
        mesh = self.mesh or init_device_mesh(self.root_device.type, (rank_and_world()[1],))
        for block in blocks_of([system]):
            fully_shard(block, mesh=mesh)
            vars(block)[GATHERED] = _run
            register_fsdp_forward_method(block, GATHERED)
        fully_shard(system, mesh=mesh)
        # What Lightning calls is no forward pass by its name.
        register_fsdp_forward_method(system, "training_step")
        super().model_to_device()

    def configure_ddp(self) -> None:
        """Nothing is wrapped: the system's own modules gather their weights."""

    def setup_optimizers(self, trainer: Any) -> None:
        super().setup_optimizers(trainer)
        with torch.no_grad():
            for group in self.averaging().param_groups:
                rows = [_local(weight) for weight in group["params"]]
                self._rows |= zip(group["params"], rows, strict=True)
                group["params"] = rows

    def backward(self, closure_loss: Tensor, optimizer: Any, *args: Any, **kwargs: Any) -> Tensor:
        for weight, rows in self._rows.items():
            # What the optimiser has let go of is not added to.
            if rows.grad is None:
                weight.grad = None
        loss = super().backward(closure_loss, optimizer, *args, **kwargs)
        with torch.no_grad():
            for weight, rows in self._rows.items():
                rows.grad = None if weight.grad is None else _local(weight.grad)
        return loss

    # --- what the optimiser moves ---------------------------------------------------------------------------------

    def moved(self) -> list[Tensor]:
        return list(self._rows.values())

    def gradients(self) -> list[Tensor]:
        return [rows.grad for rows in self._rows.values() if rows.grad is not None]

    def total_norm(self) -> Tensor:
        squares = nn.utils.get_total_norm(self.gradients()).to(self.root_device, torch.float64) ** 2
        distributed.all_reduce(squares)
        return squares.sqrt().float()

    def start_optimizer(self) -> None:
        for rows in self._rows.values():
            self.averaging().prepare(rows)

    def piece(self, parameter: nn.Parameter) -> Piece | None:
        rows, (rank, world) = self._rows[parameter], rank_and_world()
        if not rows.numel():
            return None
        # Of the first axis every process has equally many, but for the last ones.
        first = rank * -(-parameter.shape[0] // world) * (rows.numel() // rows.shape[0])
        return Piece(rows, slice(0, rows.numel()), slice(first, first + rows.numel()))

    def whole(self, parameter: nn.Parameter, section: str) -> Tensor:
        if section != "weights":
            return self.gathered(parameter, section, parameter.shape)
        with torch.no_grad():
            return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter.detach()


def refuse_scalars(system: nn.Module) -> None:
    """Raises: HvgError for a weight without axes, of which no rows can be kept."""
    for name, weight in system.named_parameters():
        if not weight.ndim:
            raise HvgError(
                f"strategy=fsdp: {name} is a single number; make it a vector of one, or choose strategy=zero3"
            )


def _run(function: Any, *inputs: Any) -> Any:
    return function(*inputs)


def _local(x: Tensor) -> Tensor:
    """This process's part of a tensor; the same memory. Asked without gradients."""
    return x.to_local() if isinstance(x, DTensor) else x
