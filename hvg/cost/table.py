"""Tables and lines of ``hvg check`` on a run's cost on each of its GPUs, and whether it fits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hvg.config.command_options import CheckOptions
from hvg.core.text_tables import table

if TYPE_CHECKING:
    from hvg.config.settings import RunConfig
    from hvg.cost.forecast import Counts, Forecast
    from hvg.cost.passes import Passes
    from hvg.model.counted_step import Flops

GB = 10**9


def print_forecast(config: RunConfig, options: CheckOptions) -> bool:
    """Prints the cost of a run on each of its GPUs; whether it fits, or nobody knows."""
    from hvg.config.precision import explain_here, on_described_gpus
    from hvg.cost.forecast import count, divide, rank_count

    ranks = rank_count(config.strategy, options.ranks)
    if options.model_fields_set:
        config, arithmetic = on_described_gpus(config)
    else:
        arithmetic = explain_here(config)
    counts = count(config)
    forecast = divide(counts, config, ranks)
    lines = [
        "",
        f"trained in {arithmetic}",
        "",
        *parts_table(counts),
        "",
        *memory_table(forecast, options, config.strategy.name),
    ]
    lines += [*host_line(forecast, config), "", *sampling_line(config), traffic_line(forecast, options)]
    lines.append(verdict(forecast, options))
    print("\n".join(lines), flush=True)
    if fits(forecast, options) is not False:
        return True
    # These are counted anew, each for seconds.
    print("what would fit, all else equal:", flush=True)
    for line in advice(config, forecast, options):
        print(line, flush=True)
    return False


def parts_table(counts: Counts) -> list[str]:
    """Weights and arithmetic, part by part."""
    rows = [(name, f"{part.trainable:,}", f"{part.frozen:,}", flops(part.flops)) for name, part in counts.parts.items()]
    trainable, frozen = (sum(getattr(part, kind) for part in counts.parts.values()) for kind in ("trainable", "frozen"))
    rows = [
        ("part", "trainable", "frozen", "a step"),
        *rows,
        ("all", f"{trainable:,}", f"{frozen:,}", flops(counts.flops)),
    ]
    return [f"weights, and FLOPs of a training step on one device ({_described(counts)})", *table(rows)]


def memory_table(forecast: Forecast, options: CheckOptions, strategy: str) -> list[str]:
    """Lines that list each GPU's memory at the fullest moment of a step."""
    share, counts = forecast.share, forecast.counts
    rows = [
        ("weights", share.weights),
        ("codec and other networks that are never trained", counts.published),
        ("float32 copy of the weights that it updates", share.copies),
        ("what the optimiser keeps of them", share.optimizer),
        ("moving average", share.average),
        ("gradients", share.gradients),
        ("buckets to exchange gradients", share.buckets),
        ("gathered weights, at most", share.gathered),
        ("activations", forecast.activations),
        ("all", forecast.total),
    ]
    shown = [(name, gigabytes(size), _percent(size, options)) for name, size in rows if size != 0]
    lines = [f"memory of each of {forecast.ranks} GPU(s) under {strategy}, of {options.memory:g} GB", *table(shown)]
    if counts.step is not None:
        lines.append(f"GB are 10^9 bytes. The forward pass keeps {gigabytes(counts.step.saved)} for the backward pass.")
    lines.append("Data, the allocator's gaps and the driver come on top; an estimate where bf16 is autocast on a GPU.")
    return lines


def host_line(forecast: Forecast, config: RunConfig) -> list[str]:
    """Line on the host's memory that offloading takes, and saving beside training; none without both."""
    per_node, host = -(-forecast.ranks // config.strategy.nodes), forecast.share.host
    if config.training.saving == "beside":
        sizes, sections = forecast.counts.sizes, len(config.optimizer.cls.moments) + 2
        # A checkpoint, of which every process copies its share.
        host += -(-(4 * sections * sizes.elements + sizes.frozen) // forecast.ranks)
    if not host:
        return []
    return [f"memory of the host: {gigabytes(host)} for a GPU, {gigabytes(per_node * host)} a node"]


def sampling_line(config: RunConfig) -> list[str]:
    """Line on how often the network looks at a test clip, the largest there is; none where nothing says how large clips are, or
    where nothing is denoised.
    """
    from hvg.cost.passes import sampling_passes
    from hvg.model.trained_windows import clip_grids

    if "sampler" not in config.parts:
        return []
    views, frames = max(clip_grids(config, "test"), key=lambda grid: grid[0] * grid[1], default=(0, 0))
    if not views:
        return []
    passes = sampling_passes(config, views, frames)
    return [
        f"a sample of {views} views x {frames} frames: {config.evaluation.steps} steps, {passes.all:.3g} passes of the network "
        f"over all of it{outer_passes(config, passes)}",
        *refining_line(config, views, frames),
    ]


def outer_passes(config: RunConfig, passes: Passes) -> str:
    """Words on how many of the passes the deep half of the network sits out."""
    return f", {passes.outer:.3g} of them by its outer layers alone" if config.evaluation.reuse > 1 else ""


def refining_line(config: RunConfig, views: int, frames: int) -> list[str]:
    """Line on how often the model that refines looks at those frames; none where nothing refines."""
    from hvg.config.build import build_part
    from hvg.cost.passes import refining_passes
    from hvg.model.refining import refining_config

    choice = config.refiner
    if not choice.cls.refines(choice.config):
        return []
    place = choice.config.checkpoint
    if place is not None and not place.exists():
        return [f"refiner={choice.name} of its frames: unknown, for refiner.checkpoint={place} is not there"]
    passes = refining_passes(refining_config(config), build_part(choice), views, frames)
    whose = "its network" if place is None else f"the network of {place}"
    return [f"refiner={choice.name} of its frames: {passes.all:.3g} passes of {whose} over all of them"]


def traffic_line(forecast: Forecast, options: CheckOptions) -> str:
    """Line on the bytes that a GPU sends in an optimiser step, and how long that takes at least."""
    sent = forecast.traffic.bytes
    return (
        f"sent by each GPU in a step: {gigabytes(sent)} ({forecast.traffic.formula}); at {options.bandwidth:g} GB/s "
        f"{sent / GB / options.bandwidth:.3g} s, a bound for what does not overlap with arithmetic"
    )


def fits(forecast: Forecast, options: CheckOptions) -> bool | None:
    """Whether a step fits the GPU's memory; None where that is unknown."""
    return None if forecast.total is None else forecast.total <= options.memory * GB


def verdict(forecast: Forecast, options: CheckOptions) -> str:
    """One line that says whether a step fits the GPU, and by how much."""
    if forecast.total is None:
        return "whether it fits is unknown"
    room = options.memory * GB - forecast.total
    if room >= 0:
        return f"fits {options.memory:g} GB: {gigabytes(round(room))} are left"
    return f"does not fit {options.memory:g} GB: {gigabytes(round(-room))} over"


def advice(config: RunConfig, forecast: Forecast, options: CheckOptions) -> Iterator[str]:
    """Changes of the configuration that make it fit, each forecast; those that do not are passed over."""
    from hvg.cost.forecast import alternatives

    found = False
    for words, other in alternatives(config, forecast):
        if fits(other, options):
            found = True
            yield f"  {words}: {gigabytes(other.total)}"
    if not found:
        yield "  no single change of strategy, offloading, checkpointing or batch size makes it fit"


def flops(count: Flops | None) -> str:
    """FLOPs that run, as text: in GFLOP, or in TFLOP from 1 TFLOP on."""
    if count is None:
        return "unknown"
    value, unit = count.total / 1e9, "GFLOP"
    if value >= 1000:
        value, unit = value / 1000, "TFLOP"
    return f"{value:,.3g} {unit}" if value < 1000 else f"{value:,.0f} {unit}"


def gigabytes(size: int | None) -> str:
    """10^9 bytes, to three digits."""
    return "unknown" if size is None else f"{size / GB:,.3g} GB" if size < 1000 * GB else f"{size / GB:,.0f} GB"


def _percent(size: int | None, options: CheckOptions) -> str:
    return "" if size is None else f"{100 * size / (options.memory * GB):.3g} %"


def _described(counts: Counts) -> str:
    if counts.shape is None:
        return "unknown, for the dataset's files decide the size of pictures"
    b, v, t, height, width = counts.shape
    from hvg.config.precision import NAMES

    return f"{b} x {v} views x {t} frames of {height} x {width}, {NAMES[counts.precision]}"
