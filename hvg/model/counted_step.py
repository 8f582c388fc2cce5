"""FLOPs and bytes of a training step, counted on shapes."""

import weakref
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch._C._autograd import _get_sequence_nr
from torch.autograd.graph import saved_tensors_hooks
from torch.utils import flop_counter
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves

from hvg.config.build import build_part
from hvg.config.settings import RunConfig
from hvg.config.wiring import picture_size
from hvg.core.errors import HvgError
from hvg.core.required import required
from hvg.model.fake_step import FakeRequest, autocast, fake_networks, fake_request, frozen_networks
from hvg.model.slots import condition_slots, tell
from hvg.parts.backbone import Backbone
from hvg.parts.codec_pictures import CodecPictures
from hvg.parts.model import Codec, Conditioner
from hvg.parts.view_attention import ViewAttention
from hvg.values.conditioning import Conditioning
from hvg.values.grid import ViewGrid
from hvg.values.latent_clip import grouped, latent_grid

T = TypeVar("T")
# Whose arithmetic is counted besides that of the slots.
BACKBONE, VIEW_ATTENTION = "backbone", "view_attention"
# Name for what belongs to no part: networks that are never trained, and arithmetic that is declared, so that it is not
# counted besides.
LEFT_OUT = "left out"
# What autograd asks fake tensors, twice for every operation; answered at once it costs a fifth of the time that counting takes.
DEVICE_OF = torch.ops.prim.device.default
# The kernel that fake tensors, being of the CPU, take for attention; the library counts those of GPUs only.
_CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda query, key, value, *_, **__: (
        flop_counter.sdpa_flop_count(query, key, value)
    ),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda grad, query, key, value, *_, **__: (
        flop_counter.sdpa_backward_flop_count(grad, query, key, value)
    ),
}


@dataclass(frozen=True)
class Flops:
    """FLOPs of a part in one training step on one device, 2 per multiply-add.

    model: of one forward and one backward pass. repeated: of the forward passes that activation checkpointing repeats.
    """

    model: int = 0
    repeated: int = 0

    @property
    def total(self) -> int:
        """FLOPs that run, repeated ones included."""
        return self.model + self.repeated

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(self.model + other.model, self.repeated + other.repeated)


class Watch(TorchDispatchMode):
    """Shows each operation inside, with its arguments and result, to every watcher. One mode: each costs a call from C++."""

    def __init__(self, *watchers: Callable[[Any, Sequence[Any], Mapping[str, Any], Any], None]) -> None:
        super().__init__()
        self._watchers = watchers

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing compiles inside, so that the compiler need not be told each time to look away."""
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is DEVICE_OF:
            return args[0].device
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        for watcher in self._watchers:
            watcher(func, args, kwargs, result)
        return result


class PartFlops:
    """Adds up the FLOPs of every part: of its forward pass, and of the backward pass through what it made.

    What runs within a backward pass with gradients enabled is a forward pass that activation checkpointing repeats.
    """

    def __init__(self) -> None:
        self._formulas = flop_counter.FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION).flop_registry
        self.counts: defaultdict[str, Flops] = defaultdict(Flops)
        self._part: str | None = None
        # Autograd numbers its nodes one after another: those from this number on, up to the next, are of this part.
        self._owners: list[tuple[int, str | None]] = []

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Counts the FLOPs inside for this part, or for none where it is ``LEFT_OUT``."""
        outer = self._part
        self._begin(part)
        try:
            yield
        finally:
            self._begin(outer)

    def _begin(self, part: str | None) -> None:
        self._part = part
        self._owners.append((_get_sequence_nr(), part))

    def watch(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
        """Counts an operation that has run."""
        formula = self._formulas.get(func.overloadpacket)
        if formula is None:
            return
        repeats = repeating()
        part = self._part or self._owner(repeats)
        if part and part != LEFT_OUT:
            count = formula(*args, **kwargs, out_val=result)
            self.counts[part] += Flops(repeated=count) if repeats else Flops(model=count)

    def _owner(self, repeats: bool) -> str | None:
        """Whose node a backward pass is at, or whose forward pass it repeats there; None outside of any."""
        node = torch._C._current_autograd_node()
        if node is None:
            return None
        place = bisect_right(self._owners, node._sequence_nr(), key=itemgetter(0))
        before = (part for _, part in reversed(self._owners[:place]))
        return next((part for part in before if not (repeats and part == LEFT_OUT)), None)


def repeating() -> bool:
    """Whether activation checkpointing repeats a forward pass just now."""
    return torch._C._current_autograd_node() is not None and torch.is_grad_enabled()


def counted_flops(function: Callable[[], Any]) -> tuple[Any, int]:
    """Result of ``function``, and its FLOPs."""
    flops = PartFlops()
    with Watch(flops.watch), flops.of("it"):
        result = function()
    return result, sum(count.total for count in flops.counts.values())


def _declare(
    module: ViewAttention, forward: Callable[..., Tensor], flops: PartFlops, x: Tensor, grid: ViewGrid
) -> Tensor:
    """A view attention that also says what it costs."""
    b, v, t, height, width, channels = x.shape
    once = b * t * module.flops(module.config, v, height, width, channels)
    # A backward pass costs two forward passes: one for the inputs, one for the weights.
    flops.counts[VIEW_ATTENTION] += Flops(repeated=once) if repeating() else Flops(model=3 * once)
    return _count_for(LEFT_OUT, forward, flops, x, grid)


def _count_for(part: str, function: Callable[..., T], flops: PartFlops, *inputs: Any) -> T:
    """Result of the function, whose FLOPs are counted for the part."""
    with flops.of(part):
        return function(*inputs)


@dataclass(frozen=True, kw_only=True)
class StepBytes:
    """Bytes that a forward and a backward pass allocate, without weights.

    saved: what the forward pass keeps for the backward pass. activations: most that is alive at once besides gradients of
    weights that are complete. peak: most that is alive at once, those gradients included.
    """

    saved: int
    activations: int
    peak: int


def count_step(
    backbone: Backbone, conditioners: Mapping[str, Conditioner], request: FakeRequest
) -> tuple[dict[str, Flops], StepBytes]:
    """FLOPs by part, and bytes, of a training step's forward and backward pass; leaves no gradient behind.

    FLOPs are those of ``backbone``, of ``view_attention`` and of every slot, without networks that are never trained (codec,
    CLIP). Those of view attention are what the part declares, times three for both passes, and once more where the forward pass
    is repeated: its short sums are products that no counter sees.

    bf16 is that of the CPU's autocast, which leaves group norms in bf16 where a GPU's does not: on a GPU more is saved.
    """
    saved, networks = {}, (backbone, *conditioners.values())
    fixed = set(map(handle, tensors_of(networks)))
    attentions = [module for module in backbone.modules() if isinstance(module, ViewAttention)]
    layers = [module for part in conditioners.values() for module in part.modules()]
    latents = [module for module in layers if isinstance(module, CodecPictures)]

    def keep(x: Tensor) -> Tensor:
        if handle(x) not in fixed:
            saved[handle(x)] = x.untyped_storage().nbytes()
        return x

    alive, flops = LiveBytes(fixed), PartFlops()
    with Watch(alive.watch, flops.watch):
        hooks = [
            parameter.register_post_accumulate_grad_hook(lambda p: alive.set_aside(cast(Tensor, p.grad)))
            for network in networks
            for parameter in network.parameters()
            if parameter.requires_grad
        ]
        for module in attentions:
            vars(module)["forward"] = partial(_declare, module, module.forward, flops)
        for module in latents:
            vars(module)["forward"] = partial(_count_for, LEFT_OUT, module.forward, flops)
        for slot, part in conditioners.items():
            vars(part)["forward"] = partial(_count_for, slot, part.forward, flops)
            vars(part)["features"] = partial(_count_for, LEFT_OUT, part.features, flops)
        with saved_tensors_hooks(keep, lambda x: x):
            seen = grouped(request.batch, request.temporal_stride)
            given = tell(conditioners, condition_slots(conditioners, request.signal_keys, seen), seen)
            with flops.of(BACKBONE):
                conditioning = Conditioning.merge(given.values())
                grid = latent_grid(request.batch.view_grid(), request.temporal_stride)
                output = backbone(request.noisy, request.level, conditioning, grid=grid)
            ends = [output, *(loss for loss in conditioning.losses.values() if loss.requires_grad)]
        torch.autograd.backward([end.sum() for end in ends])
    for module in (*attentions, *latents):
        del vars(module)["forward"]
    for part in conditioners.values():
        del vars(part)["forward"], vars(part)["features"]
    for hook in hooks:
        hook.remove()
    for network in networks:
        network.zero_grad(set_to_none=True)
    counts = {part: flops.counts[part] for part in (BACKBONE, VIEW_ATTENTION, *conditioners)}
    return counts, StepBytes(saved=sum(saved.values()), activations=alive.peak_apart, peak=alive.peak)


def count_encoding(codec: Codec, request: FakeRequest) -> int:
    """Most bytes alive at once while the codec encodes a batch; its weights apart."""
    alive = LiveBytes(map(handle, tensors_of(frozen_networks(codec))))
    with Watch(alive.watch), torch.no_grad():
        codec.encode(required(request.batch.frames, "ClipBatch.frames"))
    return alive.peak


class LiveBytes:
    """Follows the storages that operations make until they are freed. ``ignored``: handles of storages that do not count.

    peak: most bytes alive at once. peak_apart: the same without what was set aside.
    """

    def __init__(self, ignored: Iterable[int] = ()) -> None:
        self._sizes = dict.fromkeys(ignored, 0)
        self._aside: set[int] = set()
        self._live = self._apart = self.peak = self.peak_apart = 0

    def watch(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
        """Follows what an operation has made; of what only stands for other tensors those are seen themselves."""
        for x in (result,) if isinstance(result, Tensor) else tree_leaves(result):
            if isinstance(x, Tensor) and not is_traceable_wrapper_subclass(x):
                self.follow(x)

    def set_aside(self, x: Tensor) -> None:
        """From now on it counts in ``peak`` alone."""
        if handle(x) not in self._aside:
            self._aside.add(handle(x))
            self._apart -= self._sizes.get(handle(x), 0)

    def follow(self, x: Tensor) -> None:
        """Counts the memory of a tensor, until nothing holds it any more."""
        key, size = handle(x), x.untyped_storage().nbytes()
        if key in self._sizes:
            return
        self._sizes[key] = size
        self._live += size
        self._apart += size
        self.peak, self.peak_apart = max(self.peak, self._live), max(self.peak_apart, self._apart)
        weakref.finalize(x.untyped_storage(), self._drop, key)

    def _drop(self, key: int) -> None:
        size = self._sizes.pop(key)
        self._live -= size
        if key in self._aside:
            self._aside.discard(key)
        else:
            self._apart -= size


def tensors_of(modules: Iterable[nn.Module]) -> list[Tensor]:
    """Weights and buffers of modules."""
    return [x for module in modules for x in (*module.parameters(), *module.buffers())]


def handle(x: Tensor) -> int:
    """Says which tensors share memory, for as long as they live."""
    return x.untyped_storage()._cdata


def model_flops(config: RunConfig, grid: tuple[int, int], size: tuple[int, int] | None = None) -> int:
    """FLOPs of forward and backward pass of one batch of ``grid`` (views, frames) on one device, each counted once.

    What activation checkpointing repeats is not the model's: the numerator of model FLOPs utilisation (PaLM, arXiv
    2204.02311, appendix B). Without codec, loss and optimiser. Counted on fake tensors, once per grid: at paper scale it
    takes seconds; without a backbone as the system says. size: of the pictures, (height, width); None: as the dataset says.
    Raises: HvgError where one of them does not.
    """
    size = size or picture_size(config)
    if size is None:
        raise HvgError(
            f"the FLOPs of a step are unknown: dataset {config.dataset.name} decides the size of pictures by its files"
        )
    if "backbone" not in config.parts:
        said = build_part(config.system).build(config).step_flops(config.data.batch_size, size)
        if said is None:
            raise HvgError(f"system={config.system.name} does not say how many FLOPs its step takes")
        return said
    with fake_networks(config) as networks, autocast(config):
        request = fake_request(config, (config.data.batch_size, *grid, *size))
        counted, _ = count_step(networks.backbone, networks.conditioners, request)
    return sum(flops.model for flops in counted.values())
