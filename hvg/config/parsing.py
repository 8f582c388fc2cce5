"""The strict parser: a tree of plain values -> ``RunConfig``, and every problem on the way.

Values are judged as JSON in pydantic's strict mode: a list may stand for a tuple and an integer for a float, but a
string never stands for a number. The other way round, YAML and Hydra have read a word such as 32 or true as a number or a
truth value; where a word is expected it is that word again, see ``_as_words``.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from hvg.config.settings import (
    BEFORE,
    CLIP_PARTS,
    RENAMED,
    SINGLE_PARTS,
    SLOTS,
    PartChoice,
    RunConfig,
    Settings,
    is_used,
)
from hvg.config.validation import shown, validate, word_for
from hvg.core.errors import HvgError, Problem
from hvg.core.next_commands import MANUAL
from hvg.parts import registry

# The root keys that hold parts.
PART_KEYS = frozenset({*SINGLE_PARTS, *SLOTS, "slots"})
# An interpolation of a key of the configuration, as ${output}: no resolver, as ${oc.env:HOME}, and none inside another.
_OF_A_KEY = re.compile(r"\$\{[\w.\[\]-]+\}")


class _PlainLoader(yaml.SafeLoader):
    """Reads YAML of plain values, without aliases: with them a few lines can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"aliases (*{self.peek_event().anchor}) are not read; write it out")
        return super().compose_node(parent, index)


# As JSON writes it, and YAML 1.2: 1e-08, for which YAML 1.1 wants a point.
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_yaml(text: str) -> Any:
    """The plain values of a YAML text. Raises: yaml.YAMLError with a message of one line."""
    try:
        return _PlainLoader(text).get_single_data()
    # ValueError: an impossible date, or a number of thousands of digits.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise yaml.YAMLError(" ".join(str(error).split())) from error


def parse(
    raw: dict[str, Any], written: Mapping[str, str] | None = None
) -> tuple[RunConfig, frozenset[str], list[Problem]]:
    """The configuration, the root keys that could not be read or are not used (their values are missing), and all problems.

    written: key -> what the command line says of it, letter by letter.
    """
    written = written or {}
    settings, failed, problems = parse_settings(raw, written)
    raw, _ = with_new_names(_plain(raw)[0])
    choices, part_problems = _parse_parts(raw, written)
    metrics, metric_problems = _parse_metrics(raw.get("protocol"), written)
    missing = {key for key in SINGLE_PARTS if key not in choices}
    bad_slots = {problem.path.split(".")[0] for problem in part_problems} & {*SLOTS, "slots"}
    values = {key: getattr(settings, key) for key in Settings.model_fields}
    values["protocol"] = settings.protocol.model_copy(update={"metrics": metrics})
    config = RunConfig.model_construct(**values, **choices)
    return (
        config,
        frozenset(failed | missing | bad_slots),
        [*problems, *metric_problems, *part_problems],
    )


def parse_settings(raw: dict[str, Any], written: Mapping[str, str]) -> tuple[Settings, set[str], list[Problem]]:
    """What is no part: settings, with defaults where a root key cannot be read; those keys; problems that need no part to be
    seen. written: as of ``parse``.
    """
    raw, problems = _plain(raw)
    raw, ambiguous = with_new_names(raw)
    problems += ambiguous
    rest = {key: value for key, value in raw.items() if key not in PART_KEYS}
    protocol = rest.get("protocol")
    if isinstance(protocol, dict):
        rest["protocol"] = {key: value for key, value in protocol.items() if key != "metrics"}
    settings, found = validate(Settings, rest, "", "a run", RunConfig, written, MANUAL)
    problems += found
    if settings is not None:
        return settings, set(), problems
    failed = {problem.path.split(".")[0] for problem in found}
    rest = {key: value for key, value in rest.items() if key not in failed}
    return validate(Settings, rest, "", "a run", RunConfig, written)[0], failed, problems


def _plain(tree: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """The tree without what no configuration holds, and a problem for each such thing."""
    tree, problems = _without_targets(tree)
    # Composing has resolved them. Kept, one would be resolved where the configuration is read back.
    tree, interpolations = without_interpolations(tree, of_keys=False)
    return tree, problems + interpolations


def with_new_names(tree: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """The tree with settings under the names of today, and a problem for each that is given by both its names."""
    found, problems = dict(tree), list[Problem]()
    for old, new in RENAMED.items():
        (section, before), (place, now) = (name.split(".") for name in (old, new))
        values, there = found.get(section), found.get(place, {})
        if not isinstance(values, Mapping) or before not in values or not isinstance(there, Mapping):
            continue
        value = values[before]
        found[section] = {key: x for key, x in values.items() if key != before}
        there = found.get(place, {})
        if value is not None and there.get(now) is not None:
            problems.append(Problem(old, f"is another name of {new}, which is given, too; one is allowed."))
        elif value is not None:
            found[place] = {**there, now: value}
    return found, problems


def _without_targets(tree: Any, path: str = "") -> tuple[Any, list[Problem]]:
    """The tree without ``_target_`` keys and missing values, and a problem for each."""
    if not isinstance(tree, dict):
        return tree, []
    kept, problems = {}, []
    for key, value in tree.items():
        place = f"{path}.{key}" if path else str(key)
        if key == "_target_":
            problems.append(Problem(place, f"parts are chosen by `name`, never by a class path ('{value}')."))
        elif value == "???":
            problems.append(Problem(place, "has no value yet; it has to be given."))
        else:
            kept[key], more = _without_targets(value, place)
            problems += more
    return kept, problems


def without_interpolations(tree: Any, of_keys: bool, path: str = "") -> tuple[Any, list[Problem]]:
    """The tree without values that hold ``${...}``, and a problem for each. of_keys: those of the configuration's keys stay.

    Resolvers would bring what is no setting, such as secrets of the environment, into every record of a run.
    """
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    kept, problems = [], []
    for key, value in items:
        place = f"{path}.{key}" if path else str(key)
        if isinstance(value, str) and "${" in (_OF_A_KEY.sub("", value) if of_keys else value):
            fix = "only keys of the configuration can be, as ${output}" if of_keys else "write the value"
            problems.append(Problem(place, f"cannot be interpolated: {fix}; got '{value}'."))
            continue
        value, more = without_interpolations(value, of_keys, place)
        kept.append((key, value))
        problems += more
    if isinstance(tree, dict):
        return dict(kept), problems
    return [value for _, value in kept] if isinstance(tree, list) else tree, problems


def _parse_parts(raw: dict[str, Any], written: Mapping[str, str]) -> tuple[dict[str, Any], list[Problem]]:
    """Root key -> choice (``slots``: slot -> choice) for every part that is used and can be read."""
    choices: dict[str, Any] = {}
    system, problems = _parse_part("system", raw.get("system", {"name": BEFORE["system"]}), "system", written)
    # Of one that cannot be read nobody knows what it uses: what is given is judged, nothing is asked for.
    uses = frozenset(raw) if system is None else system.cls.uses
    if system is not None:
        choices["system"] = system
    for key in (*SINGLE_PARTS, *SLOTS, "slots"):
        if not is_used(key, uses):
            problems += [_not_used(key, system)] if system is not None and raw.get(key) else []
        elif key not in ("system", "slots"):
            given = raw.get(key, {} if key in BEFORE else None)
            if key in BEFORE and isinstance(given, dict):
                given = {"name": BEFORE[key], **given}
            choice, found = _parse_part(SINGLE_PARTS.get(key, "conditioner"), given, key, written)
            problems += found
            if choice is not None or key in SLOTS:
                choices[key] = choice
    choices["slots"], found = _parse_slots((is_used("slots", uses) and raw.get("slots")) or {}, written)
    return choices, problems + found


def _not_used(key: str, system: PartChoice) -> Problem:
    own = ", ".join(dict.fromkeys((*CLIP_PARTS, *sorted(system.cls.uses))))
    return Problem(key, f"system={system.name} uses no {key}; it uses {own}. Leave it out, or choose another system.")


def without_unused(raw: dict[str, Any], given: Callable[[], Collection[str]]) -> dict[str, Any]:
    """The tree without parts that its system does not use and that nobody gave. given: asked for root keys that somebody gave."""
    system = raw.get("system", {"name": BEFORE["system"]})
    name = system.get("name") if isinstance(system, dict) else system
    if name not in registry.names("system"):
        return raw
    try:
        uses = registry.load("system", str(name)).uses
    except HvgError:
        # Parsing tells.
        return raw
    unused = {key for key in raw if key in PART_KEYS and not is_used(key, uses)}
    dropped = unused.difference(given()) if unused else unused
    return {key: x for key, x in raw.items() if key not in dropped}


def _slot_problem(slot: Any) -> str | None:
    """Why a conditioner's slot may not be called so; None where it may."""
    if slot in SLOTS:
        return f"two parts on one slot: '{slot}' is also a root key; choose a new name."
    if not str(slot).isidentifier():
        return "a slot's name has to be a Python identifier."
    # Parts, which are imported next, bring torch.
    from torch.nn import ModuleDict

    return "every network has something of that name; choose a new one." if hasattr(ModuleDict(), slot) else None


def _parse_slots(raw: Any, written: Mapping[str, str]) -> tuple[dict[str, PartChoice], list[Problem]]:
    if not isinstance(raw, dict):
        return {}, [Problem("slots", f"expected conditioners by slot name, got {shown(raw)}.")]
    choices, problems = {}, []
    for slot, value in raw.items():
        if problem := _slot_problem(slot):
            problems.append(Problem(f"slots.{slot}", problem))
            continue
        choice, found = _parse_part("conditioner", value, f"slots.{slot}", written)
        problems += found
        if choice is not None:
            choices[slot] = choice
    return choices, problems


def _parse_metrics(protocol: Any, written: Mapping[str, str]) -> tuple[dict[str, PartChoice], list[Problem]]:
    """Label -> metric of a protocol."""
    if not isinstance(protocol, dict) or "metrics" not in protocol:
        return {}, []
    return _parse_labelled("metric", protocol["metrics"], "protocol.metrics", written)


def _parse_labelled(
    kind: str, raw: Any, path: str, written: Mapping[str, str]
) -> tuple[dict[str, PartChoice], list[Problem]]:
    """Label -> part, of those that lie at ``path``."""
    if not isinstance(raw, dict):
        return {}, [Problem(path, f"expected {kind}s by label, got {shown(raw)}.")]
    choices, problems = {}, []
    for label, value in raw.items():
        # Labels are parts of overrides and of the names of stored arrays.
        if not re.fullmatch(r"[\w-]+", str(label)):
            problems.append(Problem(f"{path}.{label}", "a label has letters, digits, '_' and '-'."))
            continue
        choice, found = _parse_part(kind, value, f"{path}.{label}", written)
        problems += found
        if choice is not None:
            choices[str(label)] = choice
    return choices, problems


def _parse_part(kind: str, raw: Any, path: str, written: Mapping[str, str]) -> tuple[PartChoice | None, list[Problem]]:
    """The part chosen at ``path``; None for an empty slot or when it cannot be read."""
    if raw is None:
        return None, [] if kind == "conditioner" else [
            Problem(path, f"no {kind} is chosen. {_known(kind)}", f"hvg list {kind}")
        ]
    name = word_for(raw.get("name"), registry.names(kind)) if isinstance(raw, dict) else None
    if name is None:
        return None, [
            Problem(f"{path}.name", f"has to name a {kind}, got {shown(raw)}. {_known(kind)}", f"hvg list {kind}")
        ]
    settings = {key: value for key, value in raw.items() if key != "name"}
    return _judge_part(kind, name, settings, f"{path}.name", path, written)


def _judge_part(
    kind: str, name: str, settings: dict[str, Any], name_path: str, path: str, written: Mapping[str, str]
) -> tuple[PartChoice | None, list[Problem]]:
    """The part of that name with its settings, which lie at ``path``, and those of every part that they name."""
    try:
        cls = registry.load(kind, name)
    except HvgError as error:
        return None, [Problem(name_path, error.message, error.then)]
    # Of a slot with a name of its own the word is the kind.
    root = path.partition(".")[0]
    manual = f"hvg list {root if root in PART_KEYS - {'slots'} else kind} --verbose"
    config, problems = validate(cls.Config, settings, path, cls.__name__, written=written, then=manual)
    for key, inner in cls.Config.inner_parts().items():
        # As the part reads them, where it can: a name that looks like a number is a word there.
        given, of_given = (
            getattr(config, field) if config is not None else _given(cls.Config, settings, field)
            for field in (key, inner.settings)
        )
        if not isinstance(given, str) or not isinstance(of_given, dict):
            continue
        places = f"{path}.{key}", f"{path}.{inner.settings}"
        choice, found = _judge_part(inner.kind, given, of_given, *places, written)
        problems += found
        if choice is None:
            config = None
        elif config is not None:
            config = config.model_copy(update={inner.settings: choice.config.model_dump(mode="json")})
    for key, mark in cls.Config.labelled_parts().items():
        given = getattr(config, key) if config is not None else _given(cls.Config, settings, key)
        if isinstance(given, dict):
            choices, found = _parse_labelled(mark.kind, given, f"{path}.{key}", written)
            problems += found
            if config is not None:
                resolved = {label: choice.resolved() for label, choice in choices.items()}
                config = config.model_copy(update={key: resolved})
    return None if config is None else PartChoice(kind, name, cls, config), problems


def _given(model: type[BaseModel], settings: dict[str, Any], field: str) -> Any:
    """A setting's value, its default where it is not given."""
    return settings[field] if field in settings else model.model_fields[field].get_default(call_default_factory=True)


def _known(kind: str) -> str:
    return f"Known: {', '.join(registry.names(kind))}."
