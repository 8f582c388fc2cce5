"""Forecast of a training step's cost, before anything is allocated: weights, FLOPs, memory, traffic of one device."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch

from hvg.config.build import build_part
from hvg.config.precision import Precision, precision_here
from hvg.config.settings import RunConfig
from hvg.config.strategy_section import StrategyConfig
from hvg.core.errors import HvgError
from hvg.model.counted_step import (
    BACKBONE,
    VIEW_ATTENTION,
    Flops,
    StepBytes,
    count_encoding,
    count_step,
    tensors_of,
)
from hvg.model.fake_step import FakeNetworks, Shape, autocast, fake_networks, fake_request, step_shape, with_features
from hvg.parts.view_attention import ViewAttention
from hvg.train.shares import Share, Traffic, WeightSizes, share, traffic, weight_sizes


@dataclass(frozen=True, kw_only=True)
class PartCost:
    """Weights of one part, and its arithmetic in a training step; None where unknown."""

    trainable: int
    frozen: int
    flops: Flops | None = None


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Counts of one device's step that do not depend on the number of devices.

    parts: backbone, view attention (as declared) and the slots. sizes: of what strategies divide. published: bytes of
    networks that are read from files and never trained (codec, CLIP). step: bytes of forward and backward pass. encoding:
    most bytes that the codec holds while it encodes. Those and shape, (B, V, T, H, W), are None where pictures' size is unknown.
    """

    parts: Mapping[str, PartCost]
    sizes: WeightSizes
    published: int
    precision: Precision
    shape: Shape | None = None
    step: StepBytes | None = None
    encoding: int | None = None

    @property
    def flops(self) -> Flops | None:
        """FLOPs of a whole training step on one device, without codec, loss and optimiser."""
        known = [part.flops for part in self.parts.values() if part.flops is not None]
        return sum(known, Flops()) if len(known) == len(self.parts) else None


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Cost of a run on one of its devices. ranks: how many there are."""

    counts: Counts
    share: Share
    traffic: Traffic
    ranks: int
    accumulate: int

    @property
    def activations(self) -> int | None:
        """Bytes that come on top of the rest at the fullest moment of a step."""
        if self.total is None:
            return None
        return self.total - self._held - self.share.gradients

    @property
    def total(self) -> int | None:
        """Bytes at the fullest moment of a step; what the data, the allocator's gaps and the driver take comes on top."""
        step, encoding, held = self.counts.step, self.counts.encoding, self.share
        if step is None or encoding is None:
            return None
        before = held.gradients if self.accumulate > 1 else 0
        # Gradients that pile up take the place of activations, unless those of earlier batches are there already.
        piled = step.peak if held.whole_gradients and not before else step.activations + held.gradients
        return self._held + max(piled, before + encoding, held.gradients)

    @property
    def _held(self) -> int:
        held = self.share
        state = held.weights + held.copies + held.optimizer + held.average + held.buckets + held.gathered
        return state + self.counts.published


def forecast(config: RunConfig, ranks: int | None = None) -> Forecast:
    """The cost of a configured training step; reads no weight and allocates none. ranks: as in ``rank_count``."""
    return divide(count(config), config, ranks)


def divide(counts: Counts, config: RunConfig, ranks: int | None = None) -> Forecast:
    """Forecast for one device of a run, from the counts of a step."""
    ranks, accumulate = rank_count(config.strategy, ranks), config.training.accumulate
    repeats = counts.flops is not None and counts.flops.repeated > 0
    return Forecast(
        counts=counts,
        share=share(config.strategy, counts.sizes, ranks, accumulate, kept=kept_by(config)),
        traffic=traffic(config.strategy, counts.sizes, ranks, accumulate, repeats),
        ranks=ranks,
        accumulate=accumulate,
    )


def kept_by(config: RunConfig) -> Callable[[int], int]:
    """Bytes that a run's optimiser keeps of a tensor of so many elements."""
    return partial(config.optimizer.cls.kept_bytes, config.optimizer.config)


def alternatives(config: RunConfig, given: Forecast) -> Iterator[tuple[str, Forecast]]:
    """Single changes that take less memory, in the words of the command line, with their cost; the quickly counted first."""
    for words, strategy in _strategies(config, given.ranks):
        changed = config.model_copy(update={"strategy": config.strategy.model_copy(update=strategy)})
        yield words, divide(given.counts, changed, given.ranks)
    for words, changed in _smaller_steps(config):
        yield words, divide(count(changed), changed, given.ranks)


def _strategies(config: RunConfig, ranks: int) -> Iterator[tuple[str, dict[str, str]]]:
    """Strategies that divide more than this one, or move it to the host."""
    strategy, order = config.strategy, ["ddp", "zero1", "zero2", "zero3", "fsdp"]
    # The last two divide the same.
    others = ["zero3"] if strategy.name == "fsdp" else order[order.index(strategy.name) + 1 :] if ranks > 1 else []
    for name in others if ranks > 1 else ():
        changed = strategy.model_copy(update={"name": name})
        # What divides the weights cannot sample while it trains.
        silent = " training.validate_every=0" if changed.divides_weights and config.training.validate_every else ""
        yield f"strategy={name}{silent}", {"name": name}
    if strategy.name.startswith("zero") and strategy.offload == "none":
        yield "strategy.offload=optimizer", {"offload": "optimizer"}
    if strategy.name == "zero3" and strategy.offload != "parameters":
        yield "strategy.offload=parameters", {"offload": "parameters"}


def _smaller_steps(config: RunConfig) -> Iterator[tuple[str, RunConfig]]:
    """Steps that keep less for the backward pass, with the same result."""
    if getattr(config.backbone.config, "checkpointing", None) == "none":
        settings = config.backbone.config.model_copy(update={"checkpointing": "blocks"})
        backbone = replace(config.backbone, config=settings)
        yield "backbone.checkpointing=blocks", config.model_copy(update={"backbone": backbone})
    if config.data.batch_size % 2 == 0:
        size, accumulate = config.data.batch_size // 2, 2 * config.training.accumulate
        changed = {
            "data": config.data.model_copy(update={"batch_size": size}),
            "training": config.training.model_copy(update={"accumulate": accumulate}),
        }
        yield f"data.batch_size={size} training.accumulate={accumulate}", config.model_copy(update=changed)


def rank_count(strategy: StrategyConfig, ranks: int | None = None) -> int:
    """Number of devices of a run: ``ranks``, or as its settings say; ``auto`` is those of this machine, at least 1.

    Raises: HvgError for several devices of the strategy ``single``.
    """
    if strategy.name == "single":
        if ranks not in (None, 1):
            raise HvgError(
                f"strategy=single trains on one device, not on {ranks}; choose strategy=ddp, fsdp or one of zero"
            )
        return 1
    per_node = strategy.devices if isinstance(strategy.devices, int) else max(1, torch.cuda.device_count())
    return ranks or strategy.nodes * per_node


def count(config: RunConfig) -> Counts:
    """Counts weights, and forward and backward pass, on fake tensors.

    What training reads from the disk (``data.latents=cached``) needs no codec on the device. Of a system without a backbone the
    weights alone.
    """
    if "backbone" not in config.parts:
        return _weights_alone(config)
    shape, encodes = step_shape(config), config.data.latents == "encode"
    flops: dict[str, Flops] = {}
    step = encoding = None
    with fake_networks(config) as networks:
        if shape is not None:
            request = fake_request(config, shape)
            with autocast(config):
                encoding = count_encoding(networks.codec, request) if encodes else 0
                if not encodes:
                    # As `hvg prepare latents` keeps it.
                    request = replace(request, batch=with_features(request.batch, networks.conditioners))
                flops, step = count_step(networks.backbone, networks.conditioners, request)
    published = tensors_of(networks.published())
    return Counts(
        parts=_part_costs(networks, flops),
        sizes=weight_sizes(networks.trained, precision_here(config) == "bf16", networks.learning_rates()),
        published=sum(x.numel() * x.element_size() for x in published) if encodes else 0,
        precision=precision_here(config),
        shape=shape,
        step=step,
        encoding=encoding,
    )


def _weights_alone(config: RunConfig) -> Counts:
    """Counts of a system whose step cannot be taken on shapes, and its FLOPs where it has one part and says them."""
    system, precision, shape = build_part(config.system).build(config), precision_here(config), step_shape(config)
    parts = dict(system.named_children())
    said = system.step_flops(config.data.batch_size, shape[3:]) if shape is not None and len(parts) == 1 else None
    return Counts(
        parts={
            name: PartCost(
                trainable=sum(p.numel() for p in part.parameters() if p.requires_grad),
                frozen=sum(p.numel() for p in part.parameters() if not p.requires_grad),
                flops=None if said is None else Flops(said),
            )
            for name, part in parts.items()
        },
        sizes=weight_sizes([system], precision == "bf16"),
        published=0,
        precision=precision,
        shape=shape,
    )


def _part_costs(networks: FakeNetworks, flops: Mapping[str, Flops]) -> dict[str, PartCost]:
    backbone = networks.backbone
    inside = {p for module in backbone.modules() if isinstance(module, ViewAttention) for p in module.parameters()}
    weights = {
        BACKBONE: set(backbone.parameters()) - inside,
        VIEW_ATTENTION: inside,
        **{slot: set(part.parameters()) for slot, part in networks.conditioners.items()},
    }
    return {
        name: PartCost(
            trainable=sum(p.numel() for p in parameters if p.requires_grad),
            frozen=sum(p.numel() for p in parameters if not p.requires_grad),
            flops=flops.get(name),
        )
        for name, parameters in weights.items()
    }
