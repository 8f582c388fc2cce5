"""What a training step will cost, before anything is allocated: weights, arithmetic and memory of one device.

The networks run forward and backward on fake tensors, which have shapes and types but no values. So what is counted is
what would run, activation checkpointing and a ReferenceNet included.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils import flop_counter
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hvg import build
from hvg.cameras import Cameras
from hvg.protocols import Backbone, Codec, Conditioner, ViewAttention
from hvg.settings import RunConfig
from hvg.types import ClipBatch, Conditioning, Reference

# The kernel that fake tensors, being of the CPU, take for attention; the library counts those of GPUs only.
_CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda query, key, value, *_, **__: (
        flop_counter.sdpa_flop_count(query, key, value)
    ),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda grad, query, key, value, *_, **__: (
        flop_counter.sdpa_backward_flop_count(grad, query, key, value)
    ),
}


@dataclass(frozen=True, kw_only=True)
class PartCost:
    """Weights of one part, and FLOPs (2 per multiply-add) of one training step on one device; None where unknown."""

    trainable: int
    frozen: int
    flops: int | None = None


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one device while it trains.

    weights: all networks', buffers included. gradients: in the weights' type. optimizer: AdamW's two averages and counters.
    average: the moving average, in float32. buckets: what distributed data parallel keeps to exchange gradients.
    saved: what the forward pass keeps for the backward pass. peak: most that is alive at once of all that the forward and
    the backward pass make, gradients included. Both are None where the pictures' size is unknown.
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    buckets: int
    saved: int | None = None
    peak: int | None = None

    @property
    def total(self) -> int | None:
        """At the fullest moment of a training step; the codec, data and the allocator's gaps come on top."""
        if self.peak is None:
            return None
        return self.weights + self.optimizer + self.average + self.buckets + max(self.peak, self.gradients)


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """parts: backbone, view attention (as declared) and the slots. shape: (B, V, T, H, W) of a step on one device, or None."""

    parts: Mapping[str, PartCost]
    memory: Memory
    shape: tuple[int, int, int, int, int] | None
    precision: str

    @property
    def flops(self) -> int | None:
        """Of a whole training step on one device, without codec, loss and optimiser."""
        counts = [part.flops for part in self.parts.values()]
        return None if None in counts else sum(count for count in counts if count is not None)


def forecast(config: RunConfig) -> Forecast:
    """The cost of a configured training step; reads no file and allocates no weight.

    FLOPs are counted for forward and backward pass. Those of view attention are what the part declares, times three for
    both passes, times four where the forward pass is repeated: its short sums are products that no counter sees.
    bf16 is that of the CPU's autocast, which leaves group norms in bf16 where a GPU's does not: on a GPU more is saved.
    """
    codec = _Shapes(config)
    with torch.device("meta"):
        backbone, conditioners = build.build_networks(config, codec)
    shape, precision = _shape(config), _precision(config)
    flops: dict[str, int] = {}
    saved = peak = None
    networks = (backbone, *conditioners.values())
    for network in networks:
        # Buffers that a library makes by torch.Tensor(...) have escaped the meta device.
        network.to("meta")
    with FakeTensorMode():
        for network in networks:
            network._apply(lambda x: torch.empty(x.shape, dtype=x.dtype))
        if shape is not None:
            request = fake_request(config, shape)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                saved, peak = count_memory(backbone, conditioners, request)
            flops = count_flops(backbone, conditioners, request)
    weights = {"backbone": _own_weights(backbone), "view_attention": _view_attention_weights(backbone)}
    weights |= {slot: list(part.parameters()) for slot, part in conditioners.items()}
    return Forecast(
        parts={name: _part_cost(parameters, flops.get(name)) for name, parameters in weights.items()},
        memory=_memory(config, networks, saved, peak),
        shape=shape,
        precision=precision,
    )


# --- what a step is given -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Request:
    """What backbone and conditioners are called with. signals: slot -> control map."""

    noisy: Tensor
    level: Tensor
    batch: ClipBatch
    signals: Mapping[str, Tensor] = field(default_factory=dict)


def fake_request(config: RunConfig, shape: tuple[int, int, int, int, int]) -> Request:
    """Inputs of a training step, shape (B, V, T, H, W); zeros, or nothing at all on fake tensors."""
    b, v, t, height, width = shape
    channels, stride, temporal_stride = config.codec.cls.shape(config.codec.config)
    frames = -(-t // temporal_stride)

    def cameras(*grid: int) -> Cameras:
        poses, intrinsics = (torch.eye(size).expand(*grid, size, size) for size in (4, 3))
        return Cameras(world_to_camera=poses, intrinsics=intrinsics, image_size=(height, width))

    return Request(
        noisy=torch.zeros(b, v, frames, channels, height // stride, width // stride),
        level=torch.zeros(b, v, frames),
        batch=ClipBatch(
            cameras=cameras(b, v, t),
            clip_id=("",) * b,
            subject=("",) * b,
            reference=Reference(
                frames=torch.zeros(b, 1, 3, height, width),
                alpha=torch.zeros(b, 1, 1, height, width),
                cameras=cameras(b, 1),
            ),
            task=torch.zeros(b, dtype=torch.int64),
            frame_index=torch.arange(t).expand(b, t),
        ),
        signals={
            slot: torch.zeros(b, v, t, choice.cls.signal_channels(choice.config), height, width)
            for slot, choice in config.conditioners.items()
            if choice.cls.has_signal()
        },
    )


class _Shapes(Codec):
    """Stands in for the codec: latents of the right shape, made by nothing."""

    def __init__(self, config: RunConfig) -> None:
        self.channels, self.stride, self.temporal_stride = config.codec.cls.shape(config.codec.config)

    @classmethod
    def shape(cls, config: Any) -> tuple[int, int, int]:
        return config.codec.cls.shape(config.codec.config)

    def encode(self, frames: Tensor) -> Tensor:
        b, v, t, _, height, width = frames.shape
        size = (height // self.stride, width // self.stride)
        return frames.new_zeros(b, v, -(-t // self.temporal_stride), self.channels, *size)

    def decode(self, latents: Tensor) -> Tensor:
        b, v, t, _, height, width = latents.shape
        size = (height * self.stride, width * self.stride)
        return latents.new_zeros(b, v, t * self.temporal_stride, 3, *size)


def _shape(config: RunConfig) -> tuple[int, int, int, int, int] | None:
    size = getattr(config.dataset.config, "image_size", None)
    if size is None:
        return None
    height, width = size if isinstance(size, (tuple, list)) else (size, size)
    # Of several grids the one with the most images, and among those the one with the most views.
    views, frames = max(
        config.data.grids or [(config.data.views, config.data.frames)], key=lambda grid: (grid[0] * grid[1], grid[0])
    )
    return config.data.batch_size, views, frames, height, width


def _precision(config: RunConfig) -> str:
    """``auto`` is taken to be bf16 on a GPU and 32 on a CPU."""
    if config.training.precision != "auto":
        return config.training.precision
    on_gpu = torch.cuda.is_available() if config.device == "auto" else config.device == "cuda"
    return "bf16" if on_gpu else "32"


# --- arithmetic ---------------------------------------------------------------------------------------------------


def count_flops(backbone: Backbone, conditioners: Mapping[str, Conditioner], request: Request) -> dict[str, int]:
    """FLOPs of forward and backward pass: of ``backbone``, of ``view_attention`` as it declares them, and of every slot.

    Replaces the view attention of ``backbone`` by identities.
    """
    calls: list[int] = []
    for module in backbone.modules():
        if isinstance(module, ViewAttention):
            module.forward = partial(_declare, module, calls)
    counts, given = {}, {}
    for slot, part in conditioners.items():
        given[slot], counts[slot] = _counted(partial(part, request.signals.get(slot), request.batch))
    # Cut here, so that what is counted can be told apart by part.
    merged = Conditioning.merge(list(given.values())).map(lambda x: x.detach().requires_grad_(x.requires_grad))
    output, forward = _counted(partial(backbone, request.noisy, request.level, merged))
    once = sum(calls)
    _, backward = _counted(lambda: output.sum().backward())
    for slot, conditioning in given.items():
        counts[slot] += _counted(partial(_backward, conditioning))[1]
    # A backward pass costs two forward passes: one for the inputs, one for the weights. Repeated forward passes are calls.
    return {"backbone": forward + backward, "view_attention": sum(calls) + 2 * once, **counts}


def _counted(function: Callable[[], Any]) -> tuple[Any, int]:
    """What ``function`` returns, and its FLOPs."""
    with flop_counter.FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter:
        result = function()
    return result, counter.get_total_flops()


def _declare(module: ViewAttention, calls: list[int], x: Tensor) -> Tensor:
    """A view attention that only says what it would cost."""
    b, v, t, height, width, channels = x.shape
    calls.append(b * t * module.flops(module.config, v, height, width, channels))
    return x


def _backward(conditioning: Conditioning) -> None:
    """The backward pass of what gave these ports."""
    ends = [x for x in _tensors(conditioning) if x.requires_grad]
    if ends:
        torch.autograd.backward(ends, [torch.zeros_like(x) for x in ends])


def _tensors(conditioning: Conditioning) -> list[Tensor]:
    found = list(conditioning.losses.values())

    def collect(x: Tensor) -> Tensor:
        found.append(x)
        return x

    conditioning.map(collect)
    return found


# --- memory -------------------------------------------------------------------------------------------------------


def count_memory(backbone: Backbone, conditioners: Mapping[str, Conditioner], request: Request) -> tuple[int, int]:
    """Bytes that the forward pass saves for the backward pass, and most that is alive at once in both; weights apart."""
    saved, networks = {}, (backbone, *conditioners.values())
    fixed = {x.untyped_storage()._cdata for network in networks for x in _state(network)}

    def keep(x: Tensor) -> Tensor:
        if (storage := x.untyped_storage())._cdata not in fixed:
            saved[storage._cdata] = storage.nbytes()
        return x

    with _LiveBytes(fixed) as alive:
        with saved_tensors_hooks(keep, lambda x: x):
            parts = [part(request.signals.get(slot), request.batch) for slot, part in conditioners.items()]
            output = backbone(request.noisy, request.level, Conditioning.merge(parts))
        output.sum().backward()
    for network in networks:
        network.zero_grad(set_to_none=True)
    return sum(saved.values()), alive.peak


class _LiveBytes(TorchDispatchMode):
    """Follows the storages that operations make until they are freed. ``ignored``: handles of storages that do not count."""

    def __init__(self, ignored: Iterable[int]) -> None:
        super().__init__()
        self._known, self._live, self.peak = set(ignored), 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        results = func(*args, **(kwargs or {}))
        for x in tree_leaves(results):
            if isinstance(x, Tensor):
                self._add(x.untyped_storage())
        return results

    def _add(self, storage: torch.UntypedStorage) -> None:
        handle, size = storage._cdata, storage.nbytes()
        if handle in self._known:
            return
        self._known.add(handle)
        self._live += size
        self.peak = max(self.peak, self._live)
        weakref.finalize(storage, self._drop, handle, size)

    def _drop(self, handle: int, size: int) -> None:
        self._known.discard(handle)
        self._live -= size


def _state(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(x.numel() * x.element_size() for x in tensors)


def _memory(config: RunConfig, networks: Iterable[nn.Module], saved: int | None, peak: int | None) -> Memory:
    """Every strategy but those that partition keeps everything on every device."""
    state = [x for network in networks for x in _state(network)]
    trained = [x for x in state if x.requires_grad]
    gradients = _bytes(trained)
    return Memory(
        weights=_bytes(state),
        gradients=gradients,
        # AdamW keeps a counter of four bytes for every tensor.
        optimizer=2 * gradients + 4 * len(trained),
        average=4 * sum(x.numel() for x in trained),
        # A strategy that partitions (ZeRO) divides its share of the above by the number of devices: it belongs here.
        buckets=gradients if config.strategy.name == "ddp" else 0,
        saved=saved,
        peak=peak,
    )


# --- weights ------------------------------------------------------------------------------------------------------


def _view_attention_weights(backbone: Backbone) -> list[nn.Parameter]:
    return [p for module in backbone.modules() if isinstance(module, ViewAttention) for p in module.parameters()]


def _own_weights(backbone: Backbone) -> list[nn.Parameter]:
    """Without those of view attention."""
    others = {id(parameter) for parameter in _view_attention_weights(backbone)}
    return [parameter for parameter in backbone.parameters() if id(parameter) not in others]


def _part_cost(parameters: Iterable[nn.Parameter], flops: int | None) -> PartCost:
    counts = {True: 0, False: 0}
    for parameter in parameters:
        counts[parameter.requires_grad] += parameter.numel()
    return PartCost(trainable=counts[True], frozen=counts[False], flops=flops)
