"""The section of a run's settings that says on how many devices it trains."""

from typing import Literal

from pydantic import Field, model_validator

from hvg.config.section import Section
from hvg.core.bounds import MachineCount, ProcessCount

# Machines, and processes of each.
Processes = tuple[int, int | Literal["auto"]]


class StrategyConfig(Section):
    """Settings of the number of devices that a run trains on, and how they share the work."""

    name: Literal["single", "ddp", "zero1", "zero2", "zero3", "fsdp"] = Field(
        default="single",
        description="One device; distributed data parallel; DeepSpeed ZeRO, where devices share the optimiser's state "
        "(zero1), the gradients too (zero2), the weights too (zero3); or torch's fully_shard (fsdp), where they share all three.",
    )
    devices: ProcessCount | Literal["auto"] = Field(
        default=1, description="Devices per node, of all but single; auto takes all GPUs."
    )
    nodes: MachineCount = Field(default=1, description="Machines, of all but single.")
    offload: Literal["none", "optimizer", "parameters"] = Field(
        default="none",
        description="What ZeRO keeps in the memory of the host: nothing, the optimiser's state, or (zero3) the weights too.",
    )

    @model_validator(mode="after")
    def _only_zero_offloads(self) -> "StrategyConfig":
        if self.offload != "none" and not self.name.startswith("zero"):
            raise ValueError(f"offload={self.offload} needs one of the ZeRO strategies, not {self.name}")
        if self.offload == "parameters" and self.name != "zero3":
            raise ValueError(f"offload=parameters needs zero3: {self.name} does not partition the weights")
        return self

    @property
    def divides_weights(self) -> bool:
        """Whether no device has all weights."""
        return self.name in ("zero3", "fsdp")

    @property
    def cuts_weights(self) -> bool:
        """Whether what a device's optimiser moves are pieces of weights."""
        return self.name.startswith("zero") or self.name == "fsdp"

    @property
    def processes(self) -> Processes:
        """Machines, and processes of each, that train a run."""
        return (1, 1) if self.name == "single" else (self.nodes, self.devices)
