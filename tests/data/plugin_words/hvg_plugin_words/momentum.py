"""Gradient descent with momentum, as torch has it."""

import torch
from pydantic import Field

from hvg.plugin import Optimizer, PartConfig


class Momentum(Optimizer):
    """Weights follow a running sum of their gradients."""

    moments = ("momentum_buffer",)

    class Config(PartConfig):
        momentum: float = Field(0.9, ge=0, lt=1, description="How much of the sum is kept from step to step.")

    def make(self, groups, learning_rate):
        return torch.optim.SGD(groups, lr=learning_rate, momentum=self.config.momentum)
