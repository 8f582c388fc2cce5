"""``hvg list``: what there is to choose from."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from hvg.commands.table import Flags
from hvg.commands.words import is_override
from hvg.core.errors import ConfigError, HvgError, did_you_mean
from hvg.core.text_tables import table
from hvg.parts import registry

if TYPE_CHECKING:
    from pydantic import BaseModel

    from hvg.config.settings import RunConfig

# Characters of a value that the manual shows.
WIDEST_VALUE = 40
# Kind and name of a part -> its settings where they are not its own defaults.
Values = Mapping[tuple[str, str], Mapping[str, Any]]


def run(words: Sequence[str], flags: Flags) -> int:
    """``hvg list``; 0."""
    return list_command(words, verbose="verbose" in flags)


def list_command(words: Sequence[str], *, verbose: bool = False) -> int:
    """``hvg list [kind or word] [overrides] [--verbose]``: prints names and where they come from, or the manual; 0.

    Without --verbose nothing is imported but Hydra, which knows the YAML files.
    Raises: HvgError for an unknown kind, with the nearest one.
    """
    from hvg.config import groups as groups_module

    overrides = [word for word in words if is_override(word)]
    names = list(dict.fromkeys(word for word in words if word not in overrides))
    groups = groups_module.all_options()
    unknown = [name for name in names if name not in {*registry.KINDS, *groups}]
    if unknown:
        raise _misnamed(unknown[0], groups)
    if overrides and not verbose:
        raise HvgError(
            "overrides change the values that --verbose shows", then=shlex.join(["hvg", "list", "--verbose", *words])
        )
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


def _misnamed(name: str, groups: Mapping[str, Sequence[str]]) -> HvgError:
    """What to say of a name that is neither a kind nor a word: which other thing is called so, or nearly so."""
    from hvg.config.settings import Settings

    if kind := kind_by_other_name(name):
        return HvgError(f"there is no kind or word '{name}': it is a {kind}", then=f"hvg list {kind}")
    if kind := " ".join(kind for kind in sorted(registry.KINDS) if name in registry.names(kind)):
        said = f"there is no kind or word '{name}', but a part: {', '.join(f'{one} {name}' for one in kind.split())}"
        return HvgError(said, then=f"hvg list {kind} --verbose")
    if group := " ".join(group for group, options in groups.items() if name in options):
        said = f"there is no kind or word '{name}', but {', '.join(f'{one}={name}' for one in group.split())}"
        return HvgError(said, then=f"hvg list {group} --verbose")
    if name in Settings.model_fields:
        return HvgError(f"there is no kind or word '{name}': it is of a run's settings", then="hvg list --verbose")
    return HvgError(
        f"there is no kind or word '{name}'. {did_you_mean(name, {*registry.KINDS, *groups})}", then="hvg list"
    )


def kind_by_other_name(name: str) -> str | None:
    """The kind of part that is meant by the name of a slot, or as pages call it; None for any other name."""
    from hvg.config.settings import SLOTS

    return "conditioner" if name in (*SLOTS, "signal", "signals") else None


def _kind(group: str) -> str | None:
    """The kind of part that a word of the command line chooses; None where it chooses settings."""
    from hvg.config.settings import SINGLE_PARTS, SLOTS

    return "conditioner" if group in SLOTS else SINGLE_PARTS.get(group)


def _choices(groups: Mapping[str, Sequence[str]]) -> list[str]:
    """The words that a command line may use, group by group."""
    rows = [(f"{group}=", " ".join(options)) for group, options in groups.items()]
    return ["On the command line:", *table(rows)] if rows else []


def _manual(names: Sequence[str], overrides: Sequence[str]) -> Iterator[str]:
    """The reference manual, whole or of some kinds and words: every setting, as a command with these overrides has it."""
    from hvg.config.composition import compose
    from hvg.config.groups import all_options, option_text
    from hvg.config.settings import Settings

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
    from hvg.config.groups import option_values

    found = set()
    for option in options:
        with suppress(ConfigError):
            found.add(str(option_values(group, option).get("name")))
    return found


def _part_values(run: RunConfig, groups: Mapping[str, Sequence[str]]) -> Values:
    """The settings of parts: as the run has them; of those that it did not choose, as their YAML has them."""
    from hvg.config.groups import option_values

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
    chosen = [*run.protocol.metrics.values(), *run.conditioners.values(), *run.parts.values()]
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
