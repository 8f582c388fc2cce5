"""``hvg bench``: what takes how long here, beside what others take, on a GPU, and on any number of them."""

from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from pkgutil import resolve_name

from hvg.commands.progress import ProgressLines
from hvg.commands.words import only_options, options_and_overrides
from hvg.config.bench_options import GpuBenchOptions, PeersOptions, ScaleOptions
from hvg.core.digests import settings_digest
from hvg.core.errors import HvgError, did_you_mean
from hvg.core.outputs import unfinished

# Name -> where its function is, which gives the lines of what it has timed.
BENCHMARKS = {
    "bone_map": "hvg.bench.drawing:bone_map",
    "reconstruction": "hvg.bench.reconstruction:reconstruction",
    "training": "hvg.bench.steps:training",
    "sampling": "hvg.bench.sampling:sampling",
    "progressive": "hvg.bench.sampling:progressive",
    "view_attention": "hvg.bench.attention:view_attention",
    "people": "hvg.bench.drawing:people",
    "scoring": "hvg.bench.scoring:scoring",
    "data": "hvg.bench.steps:data",
    "pictures": "hvg.bench.reading:pictures",
    "reading": "hvg.bench.reading:reading",
}


def run(words: list[str]) -> int:
    """``hvg bench``; 0. Raises: HvgError for an unknown name, with the nearest one."""
    if words and words[0] in REPORTS:
        return REPORTS[words[0]](words[1:])
    unknown = [name for name in words if name not in BENCHMARKS]
    if unknown:
        raise HvgError(f"no benchmark is named '{unknown[0]}'. {did_you_mean(unknown[0], [*BENCHMARKS, *REPORTS])}")
    for name in words or BENCHMARKS:
        function: Callable[[], Iterator[str]] = resolve_name(BENCHMARKS[name])
        for line in function():
            print(f"{name:<14} {line}", flush=True)
    return 0


def peers(words: list[str]) -> int:
    """``hvg bench peers [rows= threads= precision= pairs= seconds= out= recorded= overwrite=]``; 0."""
    options: PeersOptions = only_options(words, PeersOptions)
    # Late, as all that computes: the other forms need none of it.
    from hvg.bench.peers.row import How
    from hvg.bench.peers.run import JSON, TABLE, chosen_rows, compare_with_peers, recorded_rows

    how = How(precision=options.precision, threads=options.threads, pairs=options.pairs, seconds=options.seconds)
    rows, others = chosen_rows(options.rows), recorded_rows(options.recorded)
    with unfinished(options.out, _digest("peers", words), options.overwrite), ProgressLines() as progress:
        report = partial(progress.update, "bench peers", "rows", total=len(rows))
        for number, (row, line) in enumerate(compare_with_peers(rows, how, options.out, others), start=1):
            print(line, flush=True)
            report(number, note=row.name)
    print(f"{options.out / JSON}, and a table for a page: {options.out / TABLE}")
    return 0


def gpu(words: list[str]) -> int:
    """``hvg bench gpu [minutes= size= device= out= overwrite=]``; 0, or 1 where a row failed."""
    options: GpuBenchOptions = only_options(words, GpuBenchOptions)
    from hvg.bench.gpu.run import JSON, PAGE, bench_gpu, line
    from hvg.config.machine import choose_device

    device, failed = choose_device(options.device), False
    size = ("whole" if device.type == "cuda" else "tiny") if options.size == "auto" else options.size
    with unfinished(options.out, _digest("gpu", words), options.overwrite), ProgressLines() as progress:
        for done, total, entry in bench_gpu(size, device, options.minutes, options.out):
            print(line(entry), flush=True)
            failed |= entry["state"] == "failed"
            progress.update("bench gpu", "rows", done, total)
    print(f"{options.out / JSON}, and a page to look at: {options.out / PAGE}")
    return int(failed)


def scale(words: list[str]) -> int:
    """``hvg bench scale [overrides] [gpus= batch= tflops= utilisation= ... measure= out= overwrite=]``; 0."""
    from hvg.config.composition import compose, judge_words

    options, overrides = options_and_overrides(words, ScaleOptions, judge=judge_words)
    compose(overrides)
    from hvg.bench.scale.links import Machine
    from hvg.bench.scale.run import JSON, PAGE, bench_scale, lines

    machine = Machine(**{field.name: getattr(options, field.name) for field in fields(Machine)})
    asked = {"gpus": options.gpus, "batch": options.batch, "measure": options.measure, "folder": options.out}
    with unfinished(options.out, _digest("scale", words), options.overwrite), ProgressLines() as progress:
        record = bench_scale(overrides, machine, **asked, report=partial(progress.update, "bench scale"))
    print("\n".join(lines(record)))
    print(f"{options.out / JSON}, and a page to look at: {options.out / PAGE}")
    return 0


def _digest(name: str, words: list[str]) -> str:
    """Of what was asked, so that the same command may write again what an earlier one left unfinished."""
    return settings_digest({"bench": name, "words": [word for word in words if not word.startswith("overwrite=")]})


REPORTS: dict[str, Callable[[list[str]], int]] = {"peers": peers, "gpu": gpu, "scale": scale}
