"""``hvg list``: what there is to choose from. ``hvg check``: what a run would be made of, or why it cannot be."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from hvg import registry
from hvg.errors import ConfigError, HvgError, did_you_mean

if TYPE_CHECKING:
    from pydantic import BaseModel

    from hvg.settings import RunConfig
    from hvg.types import ConditioningSpec


def list_command(argv: Sequence[str]) -> int:
    """``hvg list [kind] [--verbose]``: prints names and where they come from; 0.

    Without --verbose nothing is imported but Hydra, which knows the YAML files.
    Raises: HvgError for an unknown kind, with the nearest one.
    """
    parser = argparse.ArgumentParser(prog="hvg list", description="Parts to choose from, and where they come from.")
    parser.add_argument("kind", nargs="?", help=f"only one of: {', '.join(registry.KINDS)}")
    parser.add_argument("--verbose", action="store_true", help="every setting with its type, default and meaning")
    arguments = parser.parse_args(argv)
    if arguments.kind is not None and arguments.kind not in registry.KINDS:
        raise HvgError(f"there is no kind '{arguments.kind}'. {did_you_mean(arguments.kind, registry.KINDS)}")
    kinds = [arguments.kind] if arguments.kind else sorted(registry.KINDS)
    if arguments.verbose:
        print("\n".join(_manual(kinds, with_run=arguments.kind is None)))
        return 0
    rows = [(kind, name, registry.origin(kind, name)) for kind in kinds for name in registry.names(kind)]
    print("\n".join(table([("kind", "name", "from"), *rows])))
    if arguments.kind is None:
        print("\n" + "\n".join(_choices()))
    return 0


def _choices() -> list[str]:
    """The words that a command line may use, group by group."""
    from hvg import config

    rows = [(f"{group}=", " ".join(options)) for group, options in config.all_options().items()]
    return ["On the command line:", *table(rows)]


def _manual(kinds: Iterable[str], with_run: bool) -> Iterator[str]:
    """The reference manual: every setting of every part, and of a run."""
    if with_run:
        from hvg.settings import Settings

        yield "run"
        yield from _settings(Settings, "  ")
    for kind in kinds:
        for name in registry.names(kind):
            yield f"\n{kind} {name} ({registry.origin(kind, name)})"
            try:
                cls = registry.load(kind, name)
            except registry.PartImportError as error:
                yield f"  {error}"
                continue
            yield f"  {(inspect.getdoc(cls) or '').splitlines()[0]}"
            yield from _settings(cls.Config, "  ")


def _settings(model: type[BaseModel], indent: str) -> list[str]:
    from pydantic import BaseModel

    lines: list[str] = []
    rows: list[tuple[str, ...]] = []
    for name, field in model.model_fields.items():
        if inspect.isclass(field.annotation) and issubclass(field.annotation, BaseModel):
            lines += [f"{indent}{name}: {field.description}", *_settings(field.annotation, indent + "  ")]
        else:
            rows.append((name, _type(field.annotation), _default(field), field.description or ""))
    return [*(indent + line for line in table(rows)), *lines]


def _type(annotation: Any) -> str:
    """A type as a user would write it; bounds are left to the error message that states them."""
    plain = inspect.isclass(annotation) and not getattr(annotation, "__args__", None)
    text = annotation.__name__ if plain else str(annotation)
    text = re.sub(r"Annotated\[(\w+), [^\]]*\]", r"\1", re.sub(r"\b(typing|pathlib)\.", "", text))
    return text.replace("NoneType", "None")


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "null" if value is None else str(value)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def check_command(argv: Sequence[str]) -> int:
    """``hvg check [overrides] [devices= nodes= memory= bandwidth=]``: what fits where, what it will cost, whether it fits a GPU.

    0; 1 for a configuration with problems, all of which it prints, and for a run that does not fit.
    Raises: HvgError for several devices of a strategy that has one.
    """
    from hvg.cli import options_and_overrides
    from hvg.config import compose
    from hvg.cost_table import CheckOptions, print_forecast

    parser = argparse.ArgumentParser(prog="hvg check", description="Judge a configuration before anything is built.")
    parser.add_argument("overrides", nargs="*", help="as for hvg train: pose=skeleton training.steps=10")
    try:
        words = parser.parse_intermixed_args(argv).overrides
        options, words = options_and_overrides(words, CheckOptions, judge=compose)
        config = compose([*words, *options.overrides])
    except ConfigError as error:
        print(error)
        return 1
    # The verdict on the configuration comes in seconds; counting what a step costs takes longer the larger the model is.
    print("\n".join([*summary(config), *file_notes(config)]), flush=True)
    return 0 if print_forecast(config, options) else 1


def file_notes(config: RunConfig) -> list[str]:
    """What a user has to know of the dataset's files."""
    return [f"note: {note}" for note in config.dataset.cls.holdings(config.dataset.config).notes]


def summary(config: RunConfig) -> list[str]:
    """What a run is made of: its parts, and which slot fills which port."""
    from hvg import wiring
    from hvg.settings import SINGLE_PARTS

    parts = [(key, getattr(config, key).name) for key in SINGLE_PARTS]
    ports = [
        (slot, config.conditioners[slot].name, port)
        for slot, spec in wiring.specs(config).items()
        for port in _filled(spec) or ["nothing"]
    ]
    return ["parts", *table(parts), "", "ports", *table([("slot", "conditioner", "fills"), *ports]), "", "No problems."]


def _filled(spec: ConditioningSpec) -> list[str]:
    sites = [(port, site, width) for port in ("residuals", "memory") for site, width in getattr(spec, port).items()]
    widths = [(port, getattr(spec, port)) for port in ("tokens", "channels", "embedding") if getattr(spec, port)]
    return [
        *(f"{port}[{site}] x {width}" for port, site, width in sites),
        *(f"{port} x {width}" for port, width in widths),
    ]
