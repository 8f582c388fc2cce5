"""Strategies whose checkpoints hold whole tensors by name, whoever wrote them."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy
from torch import Tensor, distributed, nn
from torch.optim.lr_scheduler import LambdaLR

from hvg.config.settings import RunConfig
from hvg.core.checkpoint import Checkpoint
from hvg.core.errors import CheckpointError
from hvg.core.on_device import upload
from hvg.core.quiet import quiet_first_forward
from hvg.core.ranks import rank_and_world
from hvg.core.required import required
from hvg.model.checkpoint_writing import Entry, write_checkpoint
from hvg.model.ema import AVERAGE, Averaging
from hvg.model.training_state import check_loops, optimizer_of
from hvg.model.writing_beside import WritingBeside
from hvg.train.lightning_system import LightningSystem
from hvg.train.process_launcher import ProcessLauncher


@dataclass(frozen=True)
class Piece:
    """What this process's optimiser moves of a weight: ``place`` of what it knows as ``held``, ``of_weight`` of the weight
    itself, both flattened.
    """

    held: Tensor
    place: slice
    of_weight: slice


class LogicalCheckpoints(Strategy):
    """A strategy whose checkpoints hold whole tensors by name, so that any other can continue from them.

    Weights of a checkpoint are loaded into the system before a strategy takes it over; what Lightning restores here is the
    optimiser.
    """

    def __init__(self, run: RunConfig, **settings: Any) -> None:
        super().__init__(**settings)
        self._any_world, self._clip = run.resume_world == "any", run.training.gradient_clip
        # The checkpoint that the run continues from, open, until the optimiser has its state; and that of the stage before, where
        # the optimiser goes on with what it knew.
        self.start: Checkpoint | None = None
        self.carried: Checkpoint | None = None
        self._gradient_norm = math.nan
        # Numbers of this process that the others have to know of a step, by name; and their sums over all processes, as of
        # the last step.
        self.told: dict[str, float] = {}
        self.heard: dict[str, float] = {}
        # Where checkpoints are written while training goes on; None: they are waited for.
        self.beside: WritingBeside | None = None
        # Modules that a strategy keeps out of the tree.
        self.hidden: dict[str, nn.Module] = {}

    @property
    def sections(self) -> Mapping[str, nn.Parameter]:
        """Name -> weight, of those that are trained."""
        assert self.lightning_module is not None
        return {name: p for name, p in self.lightning_module.named_parameters() if p.requires_grad}

    def averaging(self) -> Averaging:
        """The optimiser; what it moves may be pieces of weights."""
        return cast(Averaging, self.optimizers[0])

    def piece(self, parameter: nn.Parameter) -> Piece | None:
        """What this process's optimiser moves of a weight; None: nothing."""
        everything = slice(0, parameter.numel())
        return Piece(parameter, everything, everything)

    def whole(self, parameter: nn.Parameter, section: str) -> Tensor:
        """A weight, or what the optimiser knows of it, in whole; all processes have to ask."""
        if section == "weights":
            return parameter.detach()
        return self.averaging().read(parameter, section, slice(0, parameter.numel())).view_as(parameter)

    def start_optimizer(self) -> None:
        """Makes the optimiser's state before its first step."""
        for parameter in self.sections.values():
            self.averaging().prepare(parameter)

    def put(self, section: str, before: Checkpoint, names: Iterable[str]) -> None:
        """Sets what the optimiser knows of these weights to what a checkpoint holds of it."""
        found: dict[int, tuple[Tensor, list[tuple[slice, str, slice]]]] = {}
        for name in names:
            piece = self.piece(self.sections[name])
            if piece is not None:
                _, parts = found.setdefault(id(piece.held), (piece.held, []))
                parts.append((piece.place, name, piece.of_weight))
        for held, parts in found.values():
            values = (
                (place, before.tensor(f"{section}/{name}").flatten()[of_weight]) for place, name, of_weight in parts
            )
            self.averaging().write(held, section, values)

    def moved(self) -> list[Tensor]:
        """What this process's optimiser moves, with gradients."""
        return list(self.sections.values())

    def total_norm(self) -> Tensor:
        """Norm of the gradient, which is complete, before it is clipped; all processes ask."""
        return nn.utils.get_total_norm(self.gradients())

    def gradients(self) -> list[Tensor]:
        """This process's share of the gradient between the backward pass and the step."""
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
        norm = self.total_norm()
        if self._clip is not None:
            nn.utils.clip_grads_with_norm_(self.moved(), self._clip, norm)
        mean, self._gradient_norm = self._read(loss, norm)
        self.averaging().leave_out = mean > limit or not math.isfinite(self._gradient_norm)
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
        return not self.averaging().leave_out

    def gradient_norm(self) -> float:
        """Norm of the last step's gradient, before it was clipped."""
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
        if not self.averaging().state:
            self.start_optimizer()
        if self.carried is not None:
            self._carry(self.carried)
            self.carried = None
        super().on_train_start()

    def _carry(self, before: Checkpoint) -> None:
        """Gives every weight that is as a checkpoint holds it what the optimiser knew of it there; and all its count of steps."""
        averaging, trained = self.averaging(), before.sections().get(AVERAGE, ())
        with torch.no_grad():
            # All processes have to ask.
            weights = {name: self.whole(parameter, "weights").cpu() for name, parameter in self.sections.items()}
            same = [x for x in weights if x in trained and torch.equal(weights[x], before.tensor(f"weights/{x}"))]
            for section in averaging.sections:
                self.put(section, before, same)
            averaging.restore_steps(optimizer_of(before.state)["step"])

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
        averaging = self.averaging()
        groups = [{key: value for key, value in group.items() if key != "params"} for group in averaging.param_groups]
        known = {"step": averaging.steps, "groups": groups}
        state = {**checkpoint, "strategy": type(self).__name__, "optimizer": known}
        write = write_checkpoint if self.beside is None else self.beside.begin
        write(Path(self.broadcast(str(filepath))), state, list(self._entries()))

    def _entries(self) -> Iterator[Entry]:
        """Every weight, or where a system says what its base is, those that train; buffers."""
        system = cast(LightningSystem, self.lightning_module).system
        whole, parameters = system.base is None, dict(system.named_parameters(remove_duplicate=False))
        for name, tensor in system.state_dict().items():
            if name not in parameters:
                yield Entry.of(f"weights/{name}", tensor)
            elif whole or parameters[name].requires_grad:
                yield self._entry("weights", name, parameters[name])
        for prefix, module in self.hidden.items():
            fixed = set() if whole else {name for name, _ in module.named_parameters(remove_duplicate=False)}
            kept = {name: x for name, x in module.state_dict().items() if name not in fixed}
            yield from (Entry.of(f"weights/{prefix}.{name}", x) for name, x in kept.items())
        for section in self.averaging().sections:
            for name, parameter in self.sections.items():
                yield self._entry(section, name, parameter)

    def _entry(self, section: str, name: str, parameter: nn.Parameter) -> Entry:
        shape = tuple(getattr(parameter, "ds_shape", parameter.shape))
        learned = section in ("weights", "average")
        kind = parameter.dtype if section == "weights" else torch.float32
        return Entry(f"{section}/{name}", kind, shape, lambda: self.whole(parameter, section), learned)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """The plain state of ``start``, which lies at this path.

        Raises: CheckpointError when another number of processes wrote it, unless that was allowed.
        """
        opened, (_, world) = required(self.start, "LogicalCheckpoints.start"), rank_and_world()
        if opened.world_size != world and not self._any_world:
            raise CheckpointError(
                f"{opened.path}: written by {opened.world_size} process(es), this run has {world}; the result will "
                "not be the same bits, resume_world=any continues all the same"
            )
        assert self.lightning_module is not None
        trainer, loops = self.lightning_module.trainer, ("fit_loop", "validate_loop", "test_loop", "predict_loop")
        check_loops(opened, {name: getattr(trainer, name).state_dict() for name in loops})
        places = [{key: x for key, x in saved.items() if key != "base_lrs"} for saved in opened.state["lr_schedulers"]]
        return {**opened.state, "state_dict": {}, "optimizer_states": [{}], "lr_schedulers": places}

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Does nothing: the weights are there already."""

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        start, averaging = required(self.start, "LogicalCheckpoints.start"), self.averaging()
        self.start_optimizer()
        with torch.no_grad():
            for section in averaging.sections:
                self.put(section, start, self.sections)
            averaging.restore_steps(optimizer_of(checkpoint)["step"])
        self.start = None
        # The checkpoint says where on its schedule the learning rate is; what the schedule is, and all else that the
        # optimiser is set to, the configuration says: it may have changed on purpose.
        (schedule,) = (cast(LambdaLR, config.scheduler) for config in self.lr_scheduler_configs)
        (place,) = (saved["last_epoch"] for saved in checkpoint["lr_schedulers"])
        for group, peak, share in zip(averaging.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
            group["lr"] = peak * share(place)


class SingleDevice(LogicalCheckpoints, SingleDeviceStrategy):
    """One process."""


class SeveralProcesses(LogicalCheckpoints):
    """A strategy of several processes, which the first one starts where nobody else has."""

    def gathered(self, parameter: nn.Parameter, section: str, shape: Sequence[int]) -> Tensor:
        """What the processes' optimisers know of a weight of which each moves a piece, in whole; all have to ask."""
        piece, found = self.piece(parameter), torch.zeros(torch.Size(shape), device=self.root_device)
        if piece is not None:
            found.view(-1)[piece.of_weight] = self.averaging().read(piece.held, section, piece.place).to(found)
        distributed.all_reduce(found)
        return found

    def _configure_launcher(self) -> None:
        assert isinstance(self, DDPStrategy) and self.cluster_environment is not None
        self._launcher = ProcessLauncher(self.cluster_environment, self.num_processes, self.num_nodes)


class DataParallel(SeveralProcesses, DDPStrategy):
    """Every process has all of the state, and its part of each batch."""

    def _setup_model(self, model: nn.Module) -> Any:
        wrapped = super()._setup_model(model)
        quiet_first_forward(wrapped)
        return wrapped
