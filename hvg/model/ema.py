"""The moving average of the weights, kept where their other averages are: in the optimiser's state."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from hvg.core.errors import HvgError
from hvg.parts.optimizer import TAKEN, Group, Optimizer

# Its name beside an optimiser's moments.
AVERAGE = "average"


class Averaging(torch.optim.Optimizer):
    """A part's optimiser that keeps, beside its moments, an exponential moving average of every weight it moves.

    As optimiser state the average is partitioned, gathered, saved and restored as the moments are, under every strategy.
    The decay warms up as min(decay, (1 + n) / (10 + n)) at update n, so that early averages forget the initialisation.
    leave_out: whether the next steps are left out: weights, moments, average and counters then stay as they are.
    """

    def __init__(self, part: Optimizer, groups: list[Group], learning_rate: float, decay: float) -> None:
        """Raises: HvgError where the part keeps something under a name that is taken."""
        taken = [name for name in part.moments if name in TAKEN]
        if taken:
            raise HvgError(
                f"{type(part).__name__}.moments names '{taken[0]}', a section that checkpoints have; call it otherwise"
            )
        self._part, self._inner = part, part.make(groups, learning_rate)
        # Of the very same groups, and the same state.
        super().__init__(self._inner.param_groups, self._inner.defaults)
        self.state = self._inner.state
        self.decay, self.leave_out = decay, False
        # Weight -> steps taken, as its state counts them on the device, which then need not be asked.
        self._updates: dict[Tensor, int] = {}

    @property
    def sections(self) -> tuple[str, ...]:
        """Names of what it keeps of every weight, in the weight's shape."""
        return (*self._part.moments, AVERAGE)

    @property
    def steps(self) -> int:
        """Steps taken of the weights that have a state."""
        return max(self._updates.values(), default=0)

    def prepare(self, weight: Tensor) -> dict[str, Any]:
        """The state of a weight, or of a strategy's flat piece of weights; made where it has none yet."""
        state = self.state[weight]
        if not state:
            state.update(self._part.begin(weight.detach()))
            state[AVERAGE] = weight.detach().float().clone()
            self._updates[weight] = 0
        return state

    def read(self, weight: Tensor, section: str, place: slice) -> Tensor:
        """A part of what is known of a weight, float32 (N). place: of the flattened weight."""
        state = self.state[weight]
        return state[AVERAGE].flatten()[place] if section == AVERAGE else self._part.read(state, section, place)

    def write(self, weight: Tensor, section: str, parts: Iterable[tuple[slice, Tensor]]) -> None:
        """Sets parts of it, given as places of the flattened weight and what comes there."""
        write = Optimizer.write if section == AVERAGE else type(self._part).write
        write(self._part, self.state[weight], section, parts)

    def restore_steps(self, steps: int) -> None:
        """Makes every weight that has a state one of which so many steps were taken."""
        for weight, state in self.state.items():
            if "step" in state:
                counted = state["step"]
                state["step"] = counted.fill_(steps) if isinstance(counted, Tensor) else steps
            self._updates[weight] = steps

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        # What the closure computes decides whether the step is taken.
        with torch.enable_grad():
            loss = None if closure is None else closure()
        if self.leave_out:
            return loss
        for group in self.param_groups:
            for weight in group["params"]:
                self.prepare(weight)
        # DeepSpeed shows its groups one by one, each in a list of its own.
        self._inner.param_groups = self.param_groups
        self._inner.step()
        for group in self.param_groups:
            self._average([weight for weight in group["params"] if weight.grad is not None])
        return loss

    def _average(self, moved: list[Tensor]) -> None:
        """Takes weights that have been moved, all equally often, into their averages."""
        if not moved:
            return
        updates = self._updates[moved[0]]
        decay = min(self.decay, (1 + updates) / (10 + updates))
        averages = [self.state[weight][AVERAGE] for weight in moved]
        torch._foreach_lerp_(averages, [weight.float() for weight in moved], 1 - decay)
        self._updates.update((weight, updates + 1) for weight in moved)
