"""The moving average of the weights, kept where their other averages are: in the optimiser's state."""

from typing import Any

import torch
from torch import Tensor, nn


class AveragedAdamW(torch.optim.AdamW):
    """AdamW that keeps, beside its two moments, an exponential moving average of every weight it trains.

    As optimiser state the average is partitioned, gathered, saved and restored as the moments are, under every strategy.
    The decay warms up as min(decay, (1 + n) / (10 + n)) at update n, so that early averages forget the initialisation.
    leave_out: whether the next steps are left out: weights, moments, average and counters then stay as they are.
    """

    def __init__(self, parameters: list[nn.Parameter] | list[dict[str, Any]], decay: float, **settings: Any) -> None:
        super().__init__(parameters, fused=True, **settings)
        self.decay, self.leave_out = decay, False
        # Weight -> steps taken, as its state counts them on the device, which then need not be asked.
        self._updates: dict[Tensor, int] = {}

    def prepare(self, parameter: Tensor) -> dict[str, Any]:
        """The state of a weight, or of a strategy's flat shard of weights; made where it has none yet."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
            state["average"] = parameter.detach().float().clone()
            self._updates[parameter] = 0
        return state

    def restore_step(self, step: int) -> None:
        """Makes every weight that has a state one of which so many steps were taken."""
        for parameter, state in self.state.items():
            state["step"].fill_(step)
            self._updates[parameter] = step

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        # What the closure computes decides whether the step is taken.
        with torch.enable_grad():
            loss = None if closure is None else closure()
        if self.leave_out:
            return loss
        for group in self.param_groups:
            for parameter in group["params"]:
                self.prepare(parameter)
        super().step()
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            if moved:
                # All of a group have been moved equally often.
                updates = self._updates[moved[0]]
                decay = min(self.decay, (1 + updates) / (10 + updates))
                averages = [self.state[parameter]["average"] for parameter in moved]
                torch._foreach_lerp_(averages, [parameter.float() for parameter in moved], 1 - decay)
                self._updates.update((parameter, updates + 1) for parameter in moved)
        return loss
