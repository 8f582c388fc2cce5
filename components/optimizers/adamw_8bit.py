"""AdamW whose averages are kept in 8 bits, by the kernels of bitsandbytes.

Source: 8-bit Optimizers via Block-wise Quantization (arXiv 2110.02861): a block of numbers shares a scale, its largest magnitude,
and each is the nearest of 256 values in [-1, 1] times it. We differ in one of these: the smallest is -1, where the authors have
-0.993. So the largest of a block is exact whatever its sign, and averages that were written down as float32 become the same codes
and scales again.
"""

import importlib.util
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from hvg.parts.optimizer import AdamW, AdamWConfig, Group

# Numbers that share a scale: the kernels know no other count.
BLOCK = 256
# Weights, or flat pieces, of fewer numbers are kept in float32, as by the library: they save nothing.
SMALLEST = 4096
# Moment -> whether it has a sign, and the code of 0.
SIGNED = {"exp_avg": (True, 127), "exp_avg_sq": (False, 0)}
# Least scale that a number is divided by: a block of zeros has 0.
TINY = 1e-38


class AdamW8bit(AdamW):
    """AdamW with two averages in 8 bits and a scale for every 256: a quarter of the memory. Needs bitsandbytes."""

    @classmethod
    def missing(cls) -> str | None:
        if importlib.util.find_spec("bitsandbytes"):
            return None
        return "adamw_8bit needs bitsandbytes, which is not installed here; pip install 'hvg[8bit]', or choose another"

    def make(self, groups: list[Group], learning_rate: float) -> torch.optim.Optimizer:
        return _AdamW8bit(self, groups, lr=learning_rate, fused=True, **self.config.model_dump())

    def begin(self, weight: Tensor) -> dict[str, Any]:
        state = super().begin(weight)
        if weight.numel() < SMALLEST:
            return {**state, "step": state["step"].to(weight.device)}
        for moment, (_, zero) in SIGNED.items():
            state[moment] = torch.full(weight.shape, zero, dtype=torch.uint8, device=weight.device)
            state[_scale(moment)] = torch.zeros(_blocks(weight.numel()), device=weight.device)
        return state

    def read(self, state: Mapping[str, Any], moment: str, place: slice) -> Tensor:
        if not is_rounded(state):
            return super().read(state, moment, place)
        first, last = place.start // BLOCK, _blocks(place.stop)
        codes = state[moment].view(-1)[first * BLOCK : last * BLOCK]
        scales = state[_scale(moment)][first:last].repeat_interleave(BLOCK)[: len(codes)]
        values = self.values(moment, codes.device)[codes.int()] * scales
        return values[place.start - first * BLOCK : place.stop - first * BLOCK]

    def write(self, state: dict[str, Any], moment: str, parts: Iterable[tuple[slice, Tensor]]) -> None:
        if not is_rounded(state):
            super().write(state, moment, parts)
            return
        # A block may have parts of several weights, so that all of it has to be there before it has a scale.
        kept, count = state[moment].view(-1), state[moment].numel()
        whole = self.read(state, moment, slice(0, count))
        for place, value in parts:
            whole[place].copy_(value)
        blocks = pad(whole, (0, -count % BLOCK)).view(-1, BLOCK)
        scales = blocks.abs().amax(dim=1)
        values = self.values(moment, kept.device)
        shares = (blocks / scales.clamp_min(TINY)[:, None]).view(-1)[:count]
        kept.copy_(torch.bucketize(shares, (values[1:] + values[:-1]) / 2))
        state[_scale(moment)].copy_(scales)

    def values(self, moment: str, device: torch.device) -> Tensor:
        """What the 256 codes of a moment stand for, from low to high."""
        found = vars(self).setdefault("_values", {})
        if (moment, device) not in found:
            from bitsandbytes.functional import create_dynamic_map

            values = create_dynamic_map(signed=SIGNED[moment][0]).tolist()
            low = -1.0 if SIGNED[moment][0] else values[0]
            found[moment, device] = torch.tensor([low, *values[1:]], device=device)
        return found[moment, device]

    @classmethod
    def kept_bytes(cls, config: AdamWConfig, count: int) -> int:
        rounded = len(SIGNED) * (count + 4 * _blocks(count)) + 4
        return super().kept_bytes(config, count) if count < SMALLEST else rounded


class _AdamW8bit(torch.optim.AdamW):
    """torch's for what is kept in float32, bitsandbytes' kernel for the others."""

    def __init__(self, part: AdamW8bit, groups: list[Group], **settings: Any) -> None:
        super().__init__(groups, **settings)
        self._part = part

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        rounded = [[x for x in group["params"] if x.numel() >= SMALLEST] for group in groups]
        self.param_groups = [
            {**group, "params": [x for x in group["params"] if x.numel() < SMALLEST]} for group in groups
        ]
        super().step()
        self.param_groups = groups
        for group, weights in zip(groups, rounded, strict=True):
            for weight in weights:
                if weight.grad is not None:
                    self._move(weight, group)
        return loss

    def _move(self, weight: Tensor, group: Group) -> None:
        from bitsandbytes.functional import optimizer_update_8bit_blockwise

        if not self.state[weight]:
            self.state[weight].update(self._part.begin(weight))
        state = self.state[weight]
        state["step"] += 1
        # The kernel goes through memory as it lies.
        moved = weight.detach().contiguous()
        gradient = weight.grad
        assert gradient is not None
        first, second = SIGNED
        update: Any = optimizer_update_8bit_blockwise
        update(
            "adam",
            gradient.to(moved.dtype).contiguous(),
            moved,
            state[first],
            state[second],
            *group["betas"],
            0.0,
            0.0,
            group["eps"],
            int(state["step"]),
            group["lr"],
            *(self._part.values(moment, weight.device) for moment in SIGNED),
            *(state[_scale(moment)] for moment in SIGNED),
            weight_decay=group["weight_decay"],
        )
        if moved.data_ptr() != weight.data_ptr():
            weight.copy_(moved)


def is_rounded(state: Mapping[str, Any]) -> bool:
    """Whether the averages of a weight are kept in 8 bits."""
    return all(state[moment].dtype == torch.uint8 for moment in SIGNED)


def _scale(moment: str) -> str:
    return f"{moment}_scale"


def _blocks(count: int) -> int:
    return -(-count // BLOCK)
