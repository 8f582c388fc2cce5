"""Time of a training step on any number of GPUs, from what is counted of one, and from stated speeds of chips and links.

Compute: FLOPs that run, repeated ones included, by ``utilisation`` of the peak. Communication: bytes that a GPU sends, as rings
send them, at the speed of the slowest link among the ranks; and for each collective as many delays as a tree of the ranks is
deep, there and back. A step takes between compute plus communication, where nothing is hidden, and compute plus what the backward
pass cannot hide. What links have to share with others, and waits for the slowest rank, come on top.
"""

import math
from dataclasses import dataclass

from hvg.config.strategy_section import StrategyConfig
from hvg.cost.forecast import Forecast
from hvg.train.shares import BUCKET, PERSISTENT, WeightSizes

# Bytes of gradients that distributed data parallel exchanges at once: torch's default.
DDP_BUCKET = 25 * 2**20


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A cluster. tflops: peak of a GPU. utilisation: the share of it that a step reaches by itself. memory: of a GPU, GB.

    per_node: GPUs of a machine. inside, between: GB/s at which a GPU sends to one of the same machine, and of another one.
    latency: of a hop, microseconds.
    """

    tflops: float
    utilisation: float
    memory: float
    per_node: int
    inside: float
    between: float
    latency: float

    def bandwidth(self, ranks: int) -> float:
        """GB/s of the slowest link among so many ranks."""
        return self.inside if ranks <= self.per_node else self.between


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Seconds of a step. backward: the share of compute in which gradients are made, and communication may hide."""

    compute: float
    communication: float
    backward: float

    @property
    def exposed(self) -> float:
        """Communication that the backward pass cannot hide."""
        return max(0.0, self.communication - self.backward)

    @property
    def least(self) -> float:
        """Where the backward pass hides as much as it can."""
        return self.compute + self.exposed

    @property
    def most(self) -> float:
        """Where nothing is hidden."""
        return self.compute + self.communication

    @property
    def efficiency(self) -> float:
        """Share of the step in which a GPU computes, where as much is hidden as can be."""
        return self.compute / self.least


def step_time(forecast: Forecast, strategy: StrategyConfig, machine: Machine, share: float = 1.0) -> StepTime:
    """The time of a forecast step. share: of the clips that were counted, where a rank has fewer.

    Raises: ValueError where the FLOPs are unknown.
    """
    flops = forecast.counts.flops
    if flops is None:
        raise ValueError("the FLOPs of a step are unknown")
    rate, runs = machine.tflops * 1e12 * machine.utilisation, forecast.accumulate * share
    compute = runs * flops.total / rate
    # Two of the three passes that the model's FLOPs are, and what is repeated within.
    backward = runs * (flops.model * 2 / 3 + flops.repeated) / rate
    count = collectives(strategy, forecast.counts.sizes, forecast.accumulate, flops.repeated > 0)
    hops = 2 * math.ceil(math.log2(forecast.ranks)) if forecast.ranks > 1 else 0
    sent = forecast.traffic.bytes / (1e9 * machine.bandwidth(forecast.ranks))
    return StepTime(compute=compute, communication=sent + count * hops * machine.latency / 1e6, backward=backward)


def collectives(strategy: StrategyConfig, sizes: WeightSizes, accumulate: int, repeats: bool) -> int:
    """How many collectives a step has: buckets of gradients; of strategies that divide the weights, these at each pass."""
    if strategy.name == "single":
        return 0
    if strategy.name == "ddp":
        return math.ceil(4 * sizes.elements / DDP_BUCKET)
    buckets = math.ceil(sizes.elements / BUCKET)
    if strategy.name in ("zero1", "zero2"):
        return buckets * ((accumulate if strategy.name == "zero2" else 1) + 1)
    if strategy.name == "fsdp":
        # Each block is gathered for both passes, and its gradients are reduced.
        return 3 * accumulate * len({rows.block for rows in sizes.rows})
    large = sum(size > PERSISTENT for size in sizes.trained)
    return accumulate * (large * (3 if repeats else 2) + buckets)
