"""The task of a clip, told to the whole network: a novel view of the photo's pose, or a novel pose.

Source: GAS (arXiv 2502.06957), section 3.4.
"""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from hvg.core.errors import HvgError
from hvg.core.required import required
from hvg.parts.context import ConditionerContext
from hvg.parts.model import Conditioner, ConditionerConfig, OncePer
from hvg.parts.zero import zero_module
from hvg.values.clip import ClipBatch, Within
from hvg.values.conditioning import Conditioning, ConditioningSpec, Ports
from hvg.values.task import TASKS

from ..nn.sinusoidal import sinusoidal_embedding

# Those of the noise level in Stable Video Diffusion, which GAS takes for its switch, too.
_PERIODS = 2 * math.pi, 2 * math.pi * 1e4


class TaskSwitchConfig(ConditionerConfig):
    """Settings of the switch."""

    width: int = Field(
        256, ge=2, le=65_536, multiple_of=2, description="Sinusoidal features of each task's number, which is 0 or 1."
    )
    join: Literal["added", "concatenated"] = Field(
        "added",
        description="How it joins the noise-level embedding. added: through two layers, as in GAS's code. concatenated: as GAS's "
        "text has it, a projection of both side by side; that is one layer here, whose output is added.",
    )


class TaskSwitch(Conditioner[TaskSwitchConfig]):
    """Fills ``embedding``: a one-hot of the tasks, each number sinusoidal, then a network whose last layer starts at zero.

    A projection of [noise level, task] is one of the noise level plus one of the task. The first of these is a linear map behind
    the last linear layer of the noise level's embedding, which is trained, so that it can do nothing new.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"task"})

    def __init__(self, config: TaskSwitchConfig, context: ConditionerContext) -> None:
        super().__init__(config, context)
        features, width = len(TASKS) * config.width, context.ports.embedding_width
        if config.join == "added":
            self.network = nn.Sequential(nn.Linear(features, width), nn.SiLU(), zero_module(nn.Linear(width, width)))
        else:
            self.network = zero_module(nn.Linear(features, width, bias=False))

    @classmethod
    def once_per(cls, config: TaskSwitchConfig, first_view: Within = "grid") -> OncePer:
        return "clip"

    @classmethod
    def spec(cls, config: TaskSwitchConfig, ports: Ports) -> ConditioningSpec:
        if ports.embedding_width == 0:
            raise HvgError("task_switch fills the port 'embedding', which this backbone lacks")
        return ConditioningSpec(embedding=ports.embedding_width)

    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        task = required(batch.task, "ClipBatch.task")
        # Not a library's one-hot, which asks the device for the largest task.
        numbers = (task[:, None] == torch.arange(len(TASKS), device=task.device)).float()
        features = sinusoidal_embedding(numbers, self.config.width, *_PERIODS).flatten(-2)
        weight = next(self.network.parameters())
        return Conditioning(embedding=self.network(features.to(weight.dtype))[:, None, None])
