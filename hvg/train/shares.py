"""Share of a training state that one of several devices holds, and its traffic in a step, from sizes of weights.

Those of DeepSpeed (0.19.8) and of torch's ``fully_shard`` are read off their sources, and held to their real objects by
tests/integration/test_dry_run.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from hvg.config.strategy_section import StrategyConfig
from hvg.parts.blocks import blocks_of

# Elements of a buffer in which DeepSpeed exchanges gradients. It makes up to four of this size, however small the network is:
# its default of 5e8 would take 8 to 11 GB. Larger than any weight of Stable Video Diffusion (3e7).
BUCKET = 50_000_000
# DeepSpeed's defaults, which the run's settings leave as they are; in elements.
PERSISTENT = 100_000  # up to here stage 3 keeps a weight whole on every device
LIVE = 1_000_000_000  # of weights that stage 3 holds gathered at once
# Whose weights DeepSpeed exchanges in bf16 under autocast.
_HALF = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_FLOAT = 4


@dataclass(frozen=True)
class Rows:
    """A weight as torch's ``fully_shard`` cuts it: ``count`` along its first axis, of ``size`` elements each.

    block: number of the block that it is gathered with; None: with all that lies in none.
    """

    count: int
    size: int
    trained: bool
    block: int | None

    def part(self, ranks: int) -> int:
        """Elements of a device's part, filled up to as many rows as any device has."""
        return -(-self.count // ranks) * self.size


@dataclass(frozen=True)
class WeightSizes:
    """Sizes of a system's weights.

    trained: elements of every trained weight, in order. half: whether each is exchanged in bf16.
    frozen: bytes of the other weights and of buffers, which every device holds whole. rates: the learning rate of each trained
    weight, None: the training's; weights of one are a group of the optimiser. Empty: all have one. rows: of all weights.
    """

    trained: tuple[int, ...]
    half: tuple[bool, ...]
    frozen: int
    rates: tuple[float | None, ...] = ()
    rows: tuple[Rows, ...] = ()

    @property
    def elements(self) -> int:
        """Number of elements in all trained weights."""
        return sum(self.trained)

    @property
    def groups(self) -> list[tuple[int, ...]]:
        """Elements of the weights of every group of the optimiser."""
        rates = self.rates or (None,) * len(self.trained)
        pairs = list(zip(rates, self.trained, strict=True))
        return [tuple(size for own, size in pairs if own == rate) for rate in dict.fromkeys(rates)]

    def exchanged(self) -> dict[int, int]:
        """Bytes of an element when it is sent -> how many elements are sent so."""
        halves = sum(size for size, half in zip(self.trained, self.half, strict=True) if half)
        return {width: count for width, count in ((2, halves), (_FLOAT, self.elements - halves)) if count}


def weight_sizes(networks: list[nn.Module], bf16: bool, rates: Sequence[float | None] = ()) -> WeightSizes:
    """Sizes of the weights of a system's networks, in their order. rates: as of ``WeightSizes``."""
    half = {
        id(parameter)
        for network in networks
        for module in network.modules()
        if bf16 and type(module) in _HALF
        for parameter in module.parameters(recurse=False)
    }
    parameters = [parameter for network in networks for parameter in network.parameters()]
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    buffers = [buffer for network in networks for buffer in network.buffers()]
    places: dict[int, int] = {}
    for number, block in enumerate(blocks_of(networks)):
        for parameter in block.parameters():
            # A block within another one has come before it.
            places.setdefault(id(parameter), number)
    return WeightSizes(
        trained=tuple(parameter.numel() for parameter in trained),
        half=tuple(id(parameter) in half for parameter in trained),
        frozen=sum(x.numel() * x.element_size() for x in (*parameters, *buffers) if not x.requires_grad),
        rates=tuple(rates),
        rows=tuple(
            Rows(x.shape[0], x.numel() // x.shape[0], x.requires_grad, places.get(id(x))) for x in parameters if x.ndim
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Share:
    """Bytes that one device holds, whatever it is shown.

    weights: of the networks; of zero3 and fsdp the parts that this device keeps. gathered: of both, most that is whole at once.
    copies: zero's own float32 copy of the weights that this device updates. gradients: when the backward pass is over.
    optimizer: what it keeps of weights, but for the moving average. average: the moving average. buckets: to exchange gradients.
    host: in the memory of the machine, for this device. whole_gradients: whether gradients pile up in the backward pass.
    """

    weights: int
    copies: int = 0
    gradients: int
    optimizer: int
    average: int
    buckets: int = 0
    gathered: int = 0
    host: int = 0
    whole_gradients: bool = True


def two_averages(count: int) -> int:
    """Bytes that AdamW keeps of a tensor of so many elements: its two averages, and a count of steps."""
    return 2 * _FLOAT * count + _FLOAT


def share(
    strategy: StrategyConfig,
    sizes: WeightSizes,
    ranks: int,
    accumulate: int,
    rank: int | None = None,
    kept: Callable[[int], int] = two_averages,
) -> Share:
    """Share of the training state of a device under a strategy.

    rank: of the device; None: one that holds most. kept: bytes that the optimiser keeps of a tensor of so many elements.
    """
    if strategy.name == "fsdp":
        return _fully_sharded(sizes, ranks, kept)
    if strategy.name == "zero3":
        return _stage_3(strategy.offload, sizes, ranks, kept)
    if strategy.name.startswith("zero"):
        return _stages_1_and_2(strategy, sizes, ranks, accumulate, rank, kept)
    weights = _FLOAT * sizes.elements
    return Share(
        weights=weights + sizes.frozen,
        gradients=weights,
        optimizer=sum(map(kept, sizes.trained)),
        average=weights,
        buckets=weights if strategy.name == "ddp" else 0,
    )


def _stages_1_and_2(
    strategy: StrategyConfig,
    sizes: WeightSizes,
    ranks: int,
    accumulate: int,
    rank: int | None,
    kept: Callable[[int], int],
) -> Share:
    # One flat tensor of all trained weights of a group, filled up to equal parts of an even number of elements.
    parts = [2 * -(-sum(group) // (2 * ranks)) for group in sizes.groups]
    # Gradients of weights that reach into the device's parts are kept whole.
    touched = [_touched(group, part, ranks) for group, part in zip(sizes.groups, parts, strict=True)]
    of_ranks = [sum(group[number] for group in touched) for number in range(ranks)]
    own = max(of_ranks) if rank is None else of_ranks[rank]
    part = sum(parts)
    whole = strategy.name == "zero1" and accumulate > 1
    state = {"copies": _FLOAT * part, "optimizer": sum(map(kept, parts)), "average": _FLOAT * part}
    offload = strategy.offload != "none"
    return Share(
        weights=_FLOAT * part * ranks + sizes.frozen,
        gradients=_FLOAT * (sizes.elements if whole else own),
        # Two of each kind, so that one is filled while the other is sent; what is sent is copied, and copied in its type.
        buckets=2 * _FLOAT * BUCKET * len(sizes.exchanged())
        + max(min(BUCKET, count) * (_FLOAT + width % _FLOAT) for width, count in sizes.exchanged().items()),
        # On the host besides: gradients of the part, and the weights that are copied back.
        host=sum(state.values()) + 2 * _FLOAT * part if offload else 0,
        whole_gradients=whole,
        **dict.fromkeys(state, 0) if offload else state,
    )


def _touched(sizes: tuple[int, ...], part: int, ranks: int) -> list[int]:
    """Elements, for every rank, of the weights that reach into its part of the flat tensor."""
    touched, start = [0] * ranks, 0
    for size in sizes:
        for rank in range(start // part, (start + size - 1) // part + 1):
            touched[rank] += size
        start += size
    return touched


def _stage_3(offload: str, sizes: WeightSizes, ranks: int, kept: Callable[[int], int]) -> Share:
    # Every weight by itself is cut into parts of equal length.
    parts = [sum(-(-size // ranks) for size in group) for group in sizes.groups]
    part = _FLOAT * sum(parts)
    small = _FLOAT * sum(size for size in sizes.trained if size <= PERSISTENT)
    large = sum(size for size in sizes.trained if size > PERSISTENT)
    state = {"copies": part, "optimizer": sum(map(kept, parts)), "average": part}
    exchanged = sizes.exchanged()
    on_host = (sum(state.values()) + part if offload != "none" else 0) + (part if offload == "parameters" else 0)
    return Share(
        weights=(0 if offload == "parameters" else part) + sizes.frozen,
        gathered=small + _FLOAT * min(large, LIVE),
        gradients=part if offload == "none" else 0,
        buckets=BUCKET * sum(exchanged) + max(min(BUCKET, count) * width for width, count in exchanged.items()),
        host=on_host,
        whole_gradients=False,
        **state if offload == "none" else dict.fromkeys(state, 0),
    )


def _fully_sharded(sizes: WeightSizes, ranks: int, kept: Callable[[int], int]) -> Share:
    trained = [rows.part(ranks) for rows in sizes.rows if rows.trained]
    buffers = sizes.frozen - _FLOAT * sum(rows.count * rows.size for rows in sizes.rows if not rows.trained)
    whole, learned = (_by_block(sizes, only) for only in (False, True))
    return Share(
        weights=_FLOAT * sum(rows.part(ranks) for rows in sizes.rows) + buffers,
        # What is in no block, for the length of a step; a block; and the one that comes next.
        gathered=_FLOAT * (whole.pop(None, 0) + 2 * max(whole.values(), default=0)),
        gradients=_FLOAT * sum(trained),
        optimizer=sum(map(kept, trained)),
        average=_FLOAT * sum(trained),
        # Whole gradients of as much, and what is sent of a block.
        buckets=_FLOAT * (learned.pop(None, 0) + 2 * max(learned.values(), default=0)),
        whole_gradients=False,
    )


def _by_block(sizes: WeightSizes, trained: bool) -> dict[int | None, int]:
    """Block -> elements of its weights, or of those that are trained."""
    found: dict[int | None, int] = {}
    for rows in sizes.rows:
        if rows.trained or not trained:
            found[rows.block] = found.get(rows.block, 0) + rows.count * rows.size
    return found


@dataclass(frozen=True)
class Traffic:
    """Bytes that a device sends in an optimiser step, and receives as well; and the formula that gives them."""

    bytes: int
    formula: str


def traffic(strategy: StrategyConfig, sizes: WeightSizes, ranks: int, accumulate: int, repeats: bool) -> Traffic:
    """Traffic of gradients and weights, by ring algorithms.

    repeats: whether the forward pass is repeated in the backward pass.
    DeepSpeed's stages 1 and 2 reduce gradients by an all-reduce, of which every device keeps its part.
    """
    weights = _FLOAT * sizes.elements
    gradients = sum(width * count for width, count in sizes.exchanged().items())
    cut, name = (ranks - 1) / ranks, strategy.name
    if name == "single" or ranks == 1:
        return Traffic(0, "nothing is exchanged")
    if name == "ddp":
        # And of a flag for each, by which processes learn which weights had none.
        flags = _FLOAT * len(sizes.trained)
        return Traffic(round(2 * cut * (weights + flags)), "all-reduce of gradients: 2 (N-1)/N x their bytes")
    if name == "fsdp":
        once, twice = (
            sum(_FLOAT * ranks * rows.part(ranks) for rows in sizes.rows if (rows.block is None) == outside)
            for outside in (True, False)
        )
        back = sum(_FLOAT * ranks * rows.part(ranks) for rows in sizes.rows if rows.trained)
        formula = (
            f"{accumulate} x (2 all-gathers of blocks' weights, 1 of the others' + reduce-scatter of gradients), each (N-1)/N x "
            "their bytes"
        )
        return Traffic(round(cut * accumulate * (once + 2 * twice + back)), formula)
    if name != "zero3":
        times = accumulate if name == "zero2" else 1
        formula = f"{times} x all-reduce of gradients, 2 (N-1)/N, + all-gather of weights, (N-1)/N, x their bytes"
        return Traffic(round(cut * (2 * times * gradients + weights)), formula)
    passes = 3 if repeats else 2
    large = sum(
        size * (2 if half else _FLOAT)
        for size, half in zip(sizes.trained, sizes.half, strict=True)
        if size > PERSISTENT
    )
    small = _FLOAT * sum(size for size in sizes.trained if size <= PERSISTENT)
    formula = (
        f"{accumulate} x ({passes} all-gathers of weights + reduce-scatter of gradients) + all-gather of small weights, "
        "each (N-1)/N x their bytes"
    )
    return Traffic(round(cut * (accumulate * (passes * large + gradients) + small)), formula)
