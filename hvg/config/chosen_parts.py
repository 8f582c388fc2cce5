"""Parts that words choose where an experiment or a scale has set up others."""

from collections.abc import Iterable, Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.default_element import GroupDefault
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult

from hvg.config.groups import ROOT, config_loader
from hvg.config.overrides import parse_overrides, root_key, text_of
from hvg.config.parsing import PART_KEYS
from hvg.config.settings import SINGLE_PARTS
from hvg.core.errors import HvgError
from hvg.parts import registry


def root_choices(loader: ConfigLoaderImpl | None = None) -> dict[str, str | None]:
    """Group -> the word that is chosen of it where nobody chooses."""
    found = (loader or config_loader()).repository.load_config(ROOT)
    choices = [default for default in (found and found.defaults_list) or [] if isinstance(default, GroupDefault)]
    return {str(choice.group): choice.get_name() for choice in choices if not choice.optional}


def given_keys(loader: ConfigLoaderImpl, overrides: Sequence[str]) -> set[str]:
    """Root keys that the words give, themselves or by the experiment that they choose; the others are the root's or a scale's."""
    parsed, _ = parse_overrides(overrides)
    keys = {root_key(override.key_or_group) for override in parsed if not override.is_delete()}
    for found in _of_experiment(loader, parsed):
        chosen = [default for default in found.defaults_list or [] if isinstance(default, GroupDefault)]
        keys |= {*map(str, found.config), *(str(default.group).lstrip("/") for default in chosen)}
    return keys


def _of_experiment(loader: ConfigLoaderImpl, parsed: Sequence[Override]) -> list[ConfigResult]:
    """What the experiment that words choose says: its own file, and what it needs at their scale."""
    experiment, scale = _experiment_and_scale(loader, parsed)
    return _files(loader, (f"experiment/{experiment}", f"at_scale/{experiment}_{scale}") if experiment else ())


def _experiment_and_scale(loader: ConfigLoaderImpl, parsed: Sequence[Override]) -> tuple[str | None, str | None]:
    words = {override.key_or_group: text_of(override) for override in parsed if not override.is_delete()}
    return words.get("experiment"), words.get("scale", root_choices(loader)["scale"])


def _files(loader: ConfigLoaderImpl, options: Iterable[str]) -> list[ConfigResult]:
    found = [loader.repository.load_config(option) for option in options if loader.repository.config_exists(option)]
    return [config for config in found if config is not None]


def with_chosen_parts(raw: dict[str, Any], loader: ConfigLoaderImpl, overrides: Sequence[str]) -> dict[str, Any]:
    """The tree with the parts that words choose where their experiment or scale sets others, and without settings of those that
    the chosen ones do not have, unless words give them.
    """
    parsed, _ = parse_overrides(overrides)
    written = {override.key_or_group for override in parsed}
    chosen = {o.key_or_group: text_of(o) for o in parsed if not o.is_delete() and "." not in o.key_or_group}
    _, scale = _experiment_and_scale(loader, parsed)
    for found in (*_files(loader, [f"scale/{scale}"]), *_of_experiment(loader, parsed)):
        for key in [key for key in map(str, found.config) if key in chosen and isinstance(raw.get(key), dict)]:
            option: Any = loader.repository.load_config(f"{key}/{chosen[key]}")
            if option is not None and "name" in option.config:
                part = raw[key] | {"name": option.config.name}
                fields = _fields(key, option.config.name)
                left = {name for name in found.config[key] if name not in fields and f"{key}.{name}" not in written}
                raw = raw | {key: {name: value for name, value in part.items() if name not in left or not fields}}
    return raw


def _fields(key: str, name: str) -> set[str]:
    """``name``, and the settings of a root key's part; nothing where it is no part, or cannot be read, which parsing tells."""
    try:
        kind = SINGLE_PARTS.get(key, "conditioner") if key in PART_KEYS else ""
        return {"name", *registry.load(kind, name).Config.model_fields} if kind else set()
    except HvgError:
        return set()
