"""Stages as somebody writes them -> stages of plain values: words for parts, interpolations, and what the command line says."""

from collections.abc import Mapping, Sequence, Set
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from hvg.config.overrides import text_of
from hvg.config.parsing import PART_KEYS, with_new_names
from hvg.config.stages import OF_A_STAGE, differences, has_stages, merged
from hvg.config.trees import composed, plain
from hvg.core.errors import Problem, did_you_mean


def plain_with_stages(
    loader: ConfigLoaderImpl, config: DictConfig, parsed: Sequence[Override]
) -> tuple[dict[str, Any], list[Problem]]:
    """The tree as plain values, as of ``plain``, with each stage's differences from its root.

    In a stage a word stands for a part as on the command line (``sampler: view``), and interpolations mean the stage's own
    settings. What the words of the command line or of ``debug=`` say of a setting holds in every stage.
    """
    raw, problems = plain(config)
    if not has_stages(raw):
        return raw, problems
    written: Any = OmegaConf.to_container(config, resolve=False)
    said, stages = _said(loader, parsed), {}
    for label, changes in written.pop("stages").items():
        changes, wrong = _with_parts(loader, changes, f"stages.{label}")
        changes, twice = with_new_names(changes)
        for path in said:
            changes = _without(changes, path)
        tree, unresolved = plain(OmegaConf.create(merged(written, changes)))
        judged = {key: value for key, value in changes.items() if key not in OF_A_STAGE}
        stages[label] = judged | differences(tree, raw)
        problems += [*wrong, *(Problem(f"stages.{label}.{p.path}", p.message) for p in twice), *unresolved]
    return {**raw, "stages": stages}, [*dict.fromkeys(problems)]


def _with_parts(
    loader: ConfigLoaderImpl, changes: Mapping[str, Any], place: str
) -> tuple[dict[str, Any], list[Problem]]:
    """A stage's changes with parts for their words, and a problem for each word that is none, which is left out."""
    found, problems = dict(changes), []
    for key, word in changes.items():
        if key not in PART_KEYS or not isinstance(word, str):
            continue
        del found[key]
        known = loader.get_group_options(key, ObjectType.CONFIG)
        if word in known:
            found[key] = OmegaConf.to_container(composed(loader, (), f"{key}/{word}")[key], resolve=False)
        else:
            problems.append(
                Problem(f"{place}.{key}", f"no {key} is named '{word}'. {did_you_mean(word, known)}", f"hvg list {key}")
            )
    return found, problems


def _said(loader: ConfigLoaderImpl, parsed: Sequence[Override]) -> Set[str]:
    """Keys of the settings and choices that the command line gives, itself or by ``debug=``."""
    keys = {override.key_or_group for override in parsed}
    for override in parsed:
        name = f"debug/{text_of(override)}"
        if override.key_or_group == "debug" and loader.repository.config_exists(name):
            option = loader.repository.load_config(name)
            sections: Any = OmegaConf.to_container(option.config, resolve=False) if option else {}
            keys |= {f"{root}.{key}" for root, own in sections.items() if isinstance(own, Mapping) for key in own}
    return keys


def _without(changes: Mapping[str, Any], path: str) -> dict[str, Any]:
    """A stage's changes but for the setting, or the choice, of a key."""
    first, _, rest = path.partition(".")
    kept = dict(changes)
    if isinstance(kept.get(first), Mapping) and rest:
        kept[first] = _without(kept[first], rest)
    elif not rest:
        kept.pop(first, None)
    return kept
