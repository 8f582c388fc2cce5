"""AdamW, operation by operation."""

import torch

from hvg.parts.optimizer import AdamW, Group


class PlainAdamW(AdamW):
    """AdamW as torch computes it without a kernel of its own: on any device, one operation after another."""

    def make(self, groups: list[Group], learning_rate: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, lr=learning_rate, fused=False, **self.config.model_dump())
