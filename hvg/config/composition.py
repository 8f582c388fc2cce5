"""YAML and command line -> ``RunConfig``. Hydra composes; the strict parser judges; every problem is reported at once.

Hydra alone stops at its first error and lets ``+key`` through. So overrides are looked at before it composes: what it
could not apply becomes a ``Problem`` and is left out, and every key is applied as if new, to be judged afterwards.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from hvg.config import checks, clip_checks
from hvg.config.changes import mark_of
from hvg.config.chosen_parts import given_keys, with_chosen_parts
from hvg.config.groups import config_loader, did_you_mean_key, groups_of, options_of
from hvg.config.overrides import one_value_problem, parse_overrides, root_key, text_of
from hvg.config.parsing import PART_KEYS, parse, parse_settings, read_yaml, without_unused
from hvg.config.sections import ProtocolConfig
from hvg.config.settings import SINGLE_PARTS, SLOTS, RunConfig
from hvg.config.stage_words import plain_with_stages
from hvg.config.stages import problems_of_all, stage_problems, stage_trees, with_stages
from hvg.config.trees import composed, plain, tree_with
from hvg.core.errors import ConfigError, DataError, Problem, did_you_mean
from hvg.core.files import read_text
from hvg.core.next_commands import MANUAL
from hvg.parts import registry
from hvg.parts.continued import Continued

# Groups from which nothing need be chosen.
OPTIONAL_GROUPS = (*SLOTS, "reconstructor", "experiment", "debug")
# Groups of which a run has exactly one choice, and which say what is done, not how large or where.
CHOICES = (*SINGLE_PARTS, "protocol")
# Root keys that may change once a model is trained: they have no weights.
SAMPLING_KEYS = ("sampler", "solver", "guidance", "refiner", "evaluation", "protocol", "device")
# A metric of the protocol, and the choice of one.
METRIC = re.compile(r"protocol\.metrics\.[^.]+")
METRIC_NAME = re.compile(r"protocol\.metrics\.[^.]+\.name")


def compose(
    overrides: Sequence[str] = (), extra_search_paths: Sequence[str] = (), asked: Sequence[str] | None = None
) -> RunConfig:
    """The configuration that ``conf/`` and the command line choose; no weight is read.

    overrides: Hydra's override grammar (``pose=skeleton``, ``training.steps=10``), without sweeps.
    extra_search_paths: more folders of YAML, as ``pkg://package`` or ``file:///folder``.
    asked: those of the overrides whose parts the run's system has to use; the others hold where it does. None: all.
    Raises: ConfigError with all problems of the overrides, the values and the wiring.
    """
    loader = config_loader(extra_search_paths)
    raw, problems = _compose_raw(loader, overrides)
    raw = without_unused(raw, lambda: given_keys(loader, overrides if asked is None else asked))
    settings, failed, of_settings = parse_settings(raw, _written(overrides))
    of_settings += checks.check_settings(settings, failed)
    # Parts take seconds to import. Where all of the words that concern them are wrong, what is left are those that fit together.
    if (problems or of_settings) and _same_parts(raw, _compose_raw(loader, [])[0], failed):
        raise ConfigError([*problems, *of_settings])
    return _judge(with_chosen_parts(raw, loader, overrides), problems, overrides, new=True)


def _same_parts(raw: Mapping[str, Any], other: Mapping[str, Any], failed: Set[str]) -> bool:
    """Whether two trees have the same parts, and the same settings by which those are judged. failed: root keys that need not be
    the same, as no part is judged by them.
    """
    protocols = [tree.get("protocol") for tree in (raw, other)]
    metrics = [protocol.get("metrics") if isinstance(protocol, dict) else protocol for protocol in protocols]
    keys = PART_KEYS | (checks.READ - failed) | {"stages"}
    return metrics[0] == metrics[1] and all(raw.get(key) == other.get(key) for key in keys)


def judge_words(overrides: Sequence[str]) -> None:
    """Raises: ConfigError as ``compose``, for words that cannot be used."""
    if overrides:
        compose(overrides)


def load_resolved(path: str | Path) -> RunConfig:
    """The configuration in a run folder's ``config.yaml``, judged like a new one.

    Raises: ConfigError when it is missing, no YAML mapping, or has problems (a plugin that is no longer installed).
    """
    try:
        text = read_text(Path(path))
    except OSError as error:
        raise ConfigError([Problem(str(path), f"cannot be read: {error.strerror}.")]) from error
    except DataError as error:
        raise ConfigError([Problem("", f"{error}.")]) from error
    return parse_resolved(text, str(path))


def parse_resolved(text: str, where: str) -> RunConfig:
    """The configuration that ``RunConfig.to_yaml`` wrote; ``where`` names its place in messages."""
    try:
        raw = read_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError([Problem(where, f"is no YAML: {error}")]) from error
    if not isinstance(raw, dict):
        raise ConfigError([Problem(where, f"has to hold settings by name, it holds a {type(raw).__name__}.")])
    return _judge(raw, [])


def recompose(config: RunConfig, overrides: Sequence[str], more: Sequence[str] = ()) -> RunConfig:
    """The configuration of a trained model with another way to sample it, judged like a new one.

    overrides: as of ``compose``, of ``SAMPLING_KEYS``, the root keys ``more`` and settings that are marked as of sampling
    (a conditioner's strength) alone; a part that is not chosen anew keeps its settings.
    Raises: ConfigError with all problems of the overrides, the values and the wiring.
    """
    loader = config_loader()
    parsed, problems = parse_overrides(overrides)
    tree = OmegaConf.create(config.resolved())
    # Choices first, so that `sampler.views=4 sampler=view` means the same in any order; a protocol before its metrics.
    chosen = [override for override in parsed if override.key_or_group in CHOICES]
    problems += _repeated_choices(chosen)
    metrics = [override for override in parsed if METRIC_NAME.fullmatch(override.key_or_group)]
    rest = [override for override in parsed if override not in (*chosen, *metrics)]

    def update(overrides: Iterable[Override]) -> None:
        for override in overrides:
            key = override.key_or_group
            marked = [key] if mark_of(config, key) is Continued.SAMPLING else []
            problem = _sampling_problem(override, tree, (*SAMPLING_KEYS, *more), marked) or (
                _choice_problem(override, loader) if override in chosen else None
            )
            if problem:
                problems.append(problem)
            else:
                _update(tree, override, loader)

    update([*chosen, *metrics])
    inner = [override for override in rest if _inner_settings(tree, override.key_or_group)]
    update([*inner, *(override for override in rest if override not in inner)])
    raw, unresolved = plain(tree)
    return _judge(raw, [*problems, *unresolved], overrides)


def _update(tree: DictConfig, override: Override, loader: ConfigLoaderImpl) -> None:
    """Changes a trained model's settings by an override that has no problem."""
    key = override.key_or_group
    where, _, name = key.rpartition(".")
    if override.is_delete():
        del OmegaConf.select(tree, where)[name]
    elif key in CHOICES:
        tree[key] = composed(loader, (), f"{key}/{text_of(override)}")[key]
    elif METRIC_NAME.fullmatch(key):
        # Another metric keeps no setting of the one that had its label.
        OmegaConf.update(tree, where, {"name": override.value()}, merge=False, force_add=True)
    else:
        settings = _inner_settings(tree, key)
        if settings and OmegaConf.select(tree, key) != override.value():
            # Nor does another part keep one of the part that the setting named before.
            OmegaConf.update(tree, settings, {}, merge=False, force_add=True)
        OmegaConf.update(tree, key, override.value(), force_add=True)


def _inner_settings(tree: DictConfig, key: str) -> str | None:
    """Where the settings lie of the part that the setting ``key`` of another part names; None where it names none."""
    where, _, field = key.rpartition(".")
    kind = "metric" if METRIC.fullmatch(where) else SINGLE_PARTS.get(where)
    name = OmegaConf.select(tree, f"{where}.name") if kind else None
    # A name that is not known is a problem of the parser's.
    if kind is None or name not in registry.names(kind):
        return None
    inner = registry.load(kind, name).Config.inner_parts().get(field)
    return inner and f"{where}.{inner.settings}"


def given_settings(overrides: Sequence[str]) -> dict[str, Any]:
    """Key -> value of every single setting that the words give; mappings are taken apart."""
    parsed, _ = parse_overrides(overrides)
    return dict(pair for o in parsed if not o.is_delete() for pair in single_settings(o.value(), o.key_or_group))


def single_settings(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Key and value of every single setting in a tree of plain values that lies at ``path``."""
    if not isinstance(tree, dict):
        yield path, tree
        return
    for key, value in tree.items():
        yield from single_settings(value, f"{path}.{key}")


def named_protocol(name: str) -> ProtocolConfig | None:
    """The protocol of that name as ``conf/`` has it; None where there is none."""
    loader = config_loader()
    if not loader.repository.config_exists(f"protocol/{name}"):
        return None
    return compose([f"protocol={name}"]).protocol


def _sampling_problem(
    override: Override, tree: DictConfig, keys: Sequence[str], marked: Sequence[str]
) -> Problem | None:
    """Problem of an override for a trained model with the settings ``tree``.

    keys: root keys that may change. marked: further keys that may.
    """
    root = root_key(override.key_or_group)
    if root not in keys and override.key_or_group not in marked:
        shifts = " `hvg evaluate` takes it with shift=true, for other test data on purpose."
        hint = shifts if root in ("dataset", "fit") else ""
        hint = " Of a conditioner its strength can, as pose.strength=0.5." if root in (*SLOTS, "slots") else hint
        return Problem(root, f"cannot change after training; what can: {', '.join(keys)}.{hint}")
    if override.is_delete() and METRIC.fullmatch(override.key_or_group):
        label, labels = override.key_or_group.rpartition(".")[2], tree.protocol.metrics
        return None if label in labels else Problem(override.key_or_group, did_you_mean(label, labels))
    if override.is_delete():
        return Problem(override.key_or_group, "cannot be left out.")
    if override.key_or_group == "evaluation":
        return Problem(root, "is a section; set its keys, as evaluation.steps=10.")
    return one_value_problem(override)


def _judge(raw: dict[str, Any], problems: list[Problem], overrides: Sequence[str] = (), new: bool = False) -> RunConfig:
    """The configuration. overrides: what of it was written by hand. new: that of a run to come, whose data have to be here."""
    configs, found = dict[str, RunConfig](), dict[str, list[Problem]]()
    for label, tree in stage_trees(raw).items():
        configs[label], failed, of_parse = parse(tree, _written(overrides))
        of_files = clip_checks.check_files(configs[label], failed) if new else []
        found[label] = [*of_parse, *checks.check(configs[label], failed), *of_files]
    problems = [*problems, *stage_problems(raw), *problems_of_all(found)]
    if problems:
        raise ConfigError(problems)
    return with_stages(configs, raw)


def _written(overrides: Sequence[str]) -> dict[str, str]:
    """Key -> what was written there, letter by letter, where Hydra has read it as a number or a truth value."""
    given = [override for override in parse_overrides(overrides)[0] if isinstance(override.value(), (bool, int, float))]
    return {override.key_or_group: text_of(override) for override in given}


def _compose_raw(loader: ConfigLoaderImpl, overrides: Sequence[str]) -> tuple[dict[str, Any], list[Problem]]:
    """The composed tree of plain values, and what was wrong with the overrides (those are left out)."""
    parsed, problems = parse_overrides(overrides)
    problems += [problem for override in parsed if (problem := one_value_problem(override))]
    single = [override for override in parsed if not one_value_problem(override)]
    known_groups = groups_of(loader)
    known = {*RunConfig.model_fields, *known_groups}
    unknown = dict.fromkeys(key for override in single if (key := root_key(override.key_or_group)) not in known)
    problems += [Problem(key, f"unknown key for a run. {did_you_mean_key(key, known)}", MANUAL) for key in unknown]
    single = [override for override in single if root_key(override.key_or_group) in known]
    choices = [override for override in single if override.key_or_group in known_groups]
    values = [override for override in single if override.key_or_group not in known_groups]
    problems += _repeated_choices(choices)
    usable: dict[str, str] = {}
    for override in choices:
        if problem := _choice_problem(override, loader):
            problems.append(problem)
        else:
            usable[override.key_or_group] = _choice(override)
    config, value_problems = tree_with(loader, list(filter(None, usable.values())), values)
    raw, unresolved = plain_with_stages(loader, config, single)
    return raw, [*problems, *value_problems, *unresolved]


def _repeated_choices(choices: Sequence[Override]) -> Iterator[Problem]:
    for group, same in itertools.groupby(sorted(choices, key=lambda o: o.key_or_group), lambda o: o.key_or_group):
        given = [str(o.value()) for o in same]
        if len(given) > 1:
            yield Problem(group, f"chosen {len(given)} times: {', '.join(given)}; one is allowed.")


def _choice_problem(override: Override, loader: ConfigLoaderImpl) -> Problem | None:
    """Problem for which a group's choice cannot be composed; None when it can."""
    group, value = override.key_or_group, override.value()
    if override.package is not None:
        return Problem(f"{group}@{override.package}", f"parts have fixed places; write {group}=NAME.")
    if isinstance(value, list) and group in (*SLOTS, *CHOICES):
        given = ", ".join(str(item) for item in value)
        more = f" Further conditioners go under slots, as +slots.NAME.name={value[-1]}." if group in SLOTS else ""
        return Problem(group, f"two parts on one slot: {given}; one is allowed.{more}")
    if override.is_delete() or value is None:
        return None if group in OPTIONAL_GROUPS else Problem(group, "cannot be left out.")
    if group == "recipe":
        return Problem(group, "says how trained models are sampled; `hvg sample` and `hvg evaluate` take it.")
    options, name = options_of(loader, group), text_of(override)
    if isinstance(value, (list, dict)) or not loader.repository.config_exists(f"{group}/{name}"):
        return Problem(
            group, f"no {group} is named '{name}'. {did_you_mean(name, options)}".strip(), f"hvg list {group}"
        )
    return None


def _choice(override: Override) -> str:
    """The choice as Hydra takes it. It knows no null: a slot is deleted, and nothing else is chosen to begin with."""
    group, value = override.key_or_group, override.value()
    if override.is_delete() or value is None:
        return f"~{group}" if group in SLOTS else ""
    # In quotes, so that a name which looks like a number stays a name.
    return f"{group}='{text_of(override)}'"
