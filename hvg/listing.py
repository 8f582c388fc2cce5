"""``hvg list``: what there is to choose from. ``hvg check``: what a run would be made of, or why it cannot be."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from hvg import registry
from hvg.cells import table
from hvg.errors import ConfigError, HvgError, did_you_mean

if TYPE_CHECKING:
    from pydantic import BaseModel

    from hvg.settings import RunConfig
    from hvg.types import ConditioningSpec


# Characters of a value that the manual shows.
WIDEST_VALUE = 40
# Kind and name of a part -> its settings where they are not its own defaults.
Values = Mapping[tuple[str, str], Mapping[str, Any]]


def list_command(words: Sequence[str], *, verbose: bool = False) -> int:
    """``hvg list [kind or word] [overrides] [--verbose]``: prints names and where they come from, or the manual; 0.

    Without --verbose nothing is imported but Hydra, which knows the YAML files.
    Raises: HvgError for an unknown kind, with the nearest one.
    """
    from hvg import config
    from hvg.words import is_override

    overrides = [word for word in words if is_override(word)]
    names = list(dict.fromkeys(word for word in words if word not in overrides))
    groups = config.all_options()
    unknown = [name for name in names if name not in {*registry.KINDS, *groups}]
    if unknown:
        raise HvgError(
            f"there is no kind or word '{unknown[0]}'. {did_you_mean(unknown[0], {*registry.KINDS, *groups})}"
        )
    if overrides and not verbose:
        raise HvgError(f"overrides change the values that --verbose shows: hvg list --verbose {' '.join(overrides)}")
    if verbose:
        print("\n".join(_manual(names, overrides)))
        return 0
    kinds = [name for name in names if name in registry.KINDS] if names else sorted(registry.KINDS)
    rows = [(kind, name, registry.origin(kind, name)) for kind in kinds for name in registry.names(kind)]
    lines = table([("kind", "name", "from"), *rows]) if rows else []
    shown = {group: options for group, options in groups.items() if not names or {group, _kind(group)} & set(names)}
    print("\n".join([*lines, *([""] if lines and shown else []), *_choices(shown)]))
    for line in registry.unknown_kinds():
        print(f"left out: {line}")
    return 0


def _kind(group: str) -> str | None:
    """The kind of part that a word of the command line chooses; None where it chooses settings."""
    from hvg.settings import SINGLE_PARTS, SLOTS

    return "conditioner" if group in SLOTS else SINGLE_PARTS.get(group)


def _choices(groups: Mapping[str, Sequence[str]]) -> list[str]:
    """The words that a command line may use, group by group."""
    rows = [(f"{group}=", " ".join(options)) for group, options in groups.items()]
    return ["On the command line:", *table(rows)] if rows else []


def _manual(names: Sequence[str], overrides: Sequence[str]) -> Iterator[str]:
    """The reference manual, whole or of some kinds and words: every setting, as a command with these overrides has it."""
    from hvg.config import all_options, compose, option_text
    from hvg.settings import Settings

    run, groups = compose(overrides), all_options()
    values = _part_values(run, groups)
    if not names:
        yield "run"
        yield from _settings(Settings, "  ", run.resolved())
    for kind in names or sorted(registry.KINDS):
        if kind in registry.KINDS:
            yield from _parts(kind, registry.names(kind), values)
    for group in names:
        kind = _kind(group)
        if group in Settings.model_fields:
            yield group
            yield from _settings(type(getattr(run, group)), "  ", run.resolved()[group])
        elif kind is not None and kind != group:
            yield from _parts(kind, sorted(_parts_of(group, groups[group])), values)
        for option in groups.get(group, ()):
            try:
                text = option_text(group, option)
            except ConfigError as error:
                text = "\n".join(map(str, error.problems))
            yield f"\n{group}={option} sets"
            yield from (f"  {line}" for line in text.splitlines())


def _parts(kind: str, names: Iterable[str], values: Values) -> Iterator[str]:
    """Every setting of parts of a kind."""
    for name in names:
        yield f"\n{kind} {name} ({registry.origin(kind, name)})"
        try:
            cls = registry.load(kind, name)
            settings = _settings(cls.Config, "  ", values.get((kind, name), {}))
        except registry.PartImportError as error:
            yield f"  {error}"
            continue
        except Exception as error:
            if registry.origin(kind, name) == "built-in":
                raise
            yield f"  its settings cannot be listed: {type(error).__name__}: {' '.join(str(error).split())}"
            continue
        yield from (f"  {line}" for line in (inspect.getdoc(cls) or "").splitlines()[:1])
        yield from settings


def _parts_of(group: str, options: Iterable[str]) -> set[str]:
    """The parts that words' YAML choose; of a file that cannot be read, none."""
    from hvg.config import option_values

    found = set()
    for option in options:
        with suppress(ConfigError):
            found.add(str(option_values(group, option).get("name")))
    return found


def _part_values(run: RunConfig, groups: Mapping[str, Sequence[str]]) -> Values:
    """The settings of parts: as the run has them; of those that it did not choose, as their YAML has them."""
    from hvg.config import option_values
    from hvg.settings import SINGLE_PARTS

    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for group, options in groups.items():
        kind = _kind(group)
        for option in options if kind else ():
            try:
                values = option_values(group, option)
            except ConfigError:
                # Of a file that cannot be read its word is listed all the same; choosing it says why.
                continue
            name = str(values.get("name"))
            # Of several words for a part, the one with its name says what it has by itself.
            if option == name or (kind, name) not in found:
                found[str(kind), name] = values
    chosen = [*run.protocol.metrics.values(), *run.conditioners.values(), *(getattr(run, key) for key in SINGLE_PARTS)]
    return found | {(choice.kind, choice.name): choice.resolved() for choice in reversed(chosen)}


def _settings(model: type[BaseModel], indent: str, values: Mapping[str, Any]) -> list[str]:
    """A line for each setting; values: those that are not the defaults of the model."""
    from pydantic import BaseModel

    lines: list[str] = []
    rows: list[tuple[str, ...]] = []
    for name, field in model.model_fields.items():
        if inspect.isclass(field.annotation) and issubclass(field.annotation, BaseModel):
            inner = _settings(field.annotation, indent + "  ", values.get(name, {}))
            lines += [f"{indent}{name}: {field.description}", *inner]
        else:
            given = name in values and values[name] != "???"
            value = _shown(values[name]) if given else default_text(field)
            rows.append((name, type_text(field.annotation), value, field.description or ""))
    return [*(indent + line for line in table(rows)), *lines] if rows else lines


def type_text(annotation: Any) -> str:
    """A type as a user would write it; bounds are left to the error message that states them."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation in (None, NoneType):
        return "null"
    if origin is Annotated:
        return type_text(inner[0])
    if origin in (Union, UnionType):
        return " | ".join(map(type_text, inner))
    if origin is Literal:
        return " | ".join(map(_shown, inner))
    name = getattr(origin or annotation, "__name__", str(annotation))
    return f"{name}[{', '.join('...' if one is ... else type_text(one) for one in inner)}]" if inner else name


def default_text(field: Any) -> str:
    """A setting's default as one would type it; "required" where there is none."""
    if field.is_required():
        return "required"
    return _shown(field.get_default(call_default_factory=True))


def _shown(value: Any) -> str:
    """A value as one would type it; of a long one its beginning."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple, Mapping)):
        value = f"[{', '.join(map(_shown, value))}]"
    text = str(value)
    return text if len(text) <= WIDEST_VALUE else f"{text[: WIDEST_VALUE - 3]}..."


def check_command(words: Sequence[str]) -> int:
    """``hvg check [overrides] [devices= nodes= memory= bandwidth=]``: what fits where, what it will cost, whether it fits a GPU.

    0; 1 for a configuration with problems, all of which it prints, and for a run that does not fit.
    Raises: HvgError for several devices of a strategy that has one.
    """
    from hvg.config import compose
    from hvg.cost_table import print_forecast
    from hvg.options import CheckOptions
    from hvg.words import options_and_overrides

    try:
        options, words = options_and_overrides(words, CheckOptions, judge=compose)
        config = compose([*words, *options.overrides])
    except ConfigError as error:
        print(error)
        return 1
    # The verdict on the configuration comes in seconds; counting what a step costs takes longer the larger the model is.
    print("\n".join([*summary(config), *(f"note: {note}" for note in notes(config))]), flush=True)
    return 0 if print_forecast(config, options) else 1


def notes(config: RunConfig) -> list[str]:
    """What a user has to know of the dataset's files, and of how test clips are sampled."""
    from hvg.build import build_sampler
    from hvg.overlap import dataset_notes
    from hvg.trained_windows import clip_grids, sampling_notes

    sampler, grids = build_sampler(config), clip_grids(config, "test")
    return [*dataset_notes(config.dataset), *sampling_notes(config, sampler, config.evaluation.steps, grids)]


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
