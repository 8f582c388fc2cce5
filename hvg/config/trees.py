"""Trees of settings: how Hydra composes them, sets values in them and resolves them; problems instead of its first error."""

import copy
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hvg.config.groups import ROOT
from hvg.config.overrides import parse_override
from hvg.config.parsing import without_interpolations
from hvg.core.errors import ConfigError, Problem


def tree_with(
    loader: ConfigLoaderImpl, choices: list[str], values: Sequence[Override]
) -> tuple[DictConfig, list[Problem]]:
    """The composed tree with every value that can be set; one problem for each that cannot."""
    texts = [_forced(override) for override in values]
    try:
        return _load(loader, choices, texts), []
    except (HydraException, OmegaConfBaseException):
        judged = {text: _value_problem(loader, choices, text) for text in texts}
    problems = list(filter(None, judged.values()))
    try:
        return _load(loader, choices, [text for text in texts if not judged[text]]), problems
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError([*problems, Problem("", f"conf/ cannot be composed: {_reason(error)}")]) from error


def _forced(override: Override) -> str:
    """The override as one that may set any key: the parser judges whether the key exists."""
    if override.is_delete():
        return str(override.input_line)
    return "++" + str(override.input_line).lstrip("+")


def _value_problem(loader: ConfigLoaderImpl, choices: list[str], text: str) -> Problem | None:
    try:
        _load(loader, choices, [text])
    except (HydraException, OmegaConfBaseException) as error:
        return Problem(text.lstrip("+"), f"cannot be set: {_reason(error)}")
    return None


def _load(loader: ConfigLoaderImpl, choices: Sequence[str], values: list[str]) -> DictConfig:
    """The tree of these choices with these values set in it. Raises: HydraException, OmegaConfBaseException."""
    config = copy.deepcopy(composed(loader, tuple(choices)))
    ConfigLoaderImpl._apply_overrides_to_config([*map(parse_override, values)], config)
    return config


@lru_cache(maxsize=64)
def composed(loader: ConfigLoaderImpl, choices: tuple[str, ...], name: str = ROOT) -> DictConfig:
    """The tree of these choices, which takes a tenth of a second. Not to be changed: it serves everybody who chooses the same."""
    # As ``load_configuration`` does, without Hydra's own settings: they are half of all files, and have no effect on a run.
    repository = CachingConfigRepository(loader.repository)
    found = create_defaults_list(
        repository, name, [*map(parse_override, choices)], prepend_hydra=False, skip_missing=False
    )
    config = loader._compose_config_from_defaults_list(found.defaults, repository)
    ConfigLoaderImpl._apply_overrides_to_config(found.config_overrides, config)
    config.pop("hydra", None)
    return config


def plain(config: DictConfig) -> tuple[dict[str, Any], list[Problem]]:
    """The tree as plain values with interpolations of its keys resolved; no resolver is called."""
    tree: Any = OmegaConf.to_container(config, resolve=False)
    tree, problems = without_interpolations(tree, of_keys=True)
    if "${" not in repr(tree):
        return tree, problems
    try:
        return _resolved(tree), problems
    except OmegaConfBaseException as error:
        # One problem is enough: what is left unresolved would be judged as the text that it is.
        tree, _ = without_interpolations(tree, of_keys=False)
        return tree, [*problems, Problem(error.full_key or "", _reason(error))]


def _resolved(tree: dict[str, Any]) -> Any:
    return OmegaConf.to_container(OmegaConf.create(tree), resolve=True)


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0]
