"""The strict parser: a tree of plain values -> ``RunConfig``, and every problem on the way.

Values are judged as JSON in pydantic's strict mode: a list may stand for a tuple and an integer for a float, but a
string never stands for a number. The other way round, YAML and Hydra have read a word such as 32 or true as a number or a
truth value; where a word is expected it is that word again, see ``_as_words``.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from hvg import registry
from hvg.errors import HvgError, Problem, did_you_mean
from hvg.settings import SINGLE_PARTS, SLOTS, PartChoice, RunConfig, Settings

# Arrays hold no larger ones.
LARGEST_FLOAT, LARGEST_INT = 3e38, 2**63 - 1
# An interpolation of a key of the configuration, as ${output}: no resolver, as ${oc.env:HOME}, and none inside another.
_OF_A_KEY = re.compile(r"\$\{[\w.\[\]-]+\}")


class _PlainLoader(yaml.SafeLoader):
    """Reads YAML of plain values, without aliases: with them a few lines can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"aliases (*{self.peek_event().anchor}) are not read; write it out")
        return super().compose_node(parent, index)


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
    """The configuration, the root keys that could not be read (their values are missing), and all problems.

    written: key -> what the command line says of it, letter by letter.
    """
    written = written or {}
    raw, problems = _without_targets(raw)
    # Composing has resolved them. Kept, one would be resolved where the configuration is read back.
    raw, interpolations = without_interpolations(raw, of_keys=False)
    problems += interpolations
    choices, part_problems = _parse_parts(raw, written)
    part_keys = {*SINGLE_PARTS, *SLOTS, "slots"}
    rest = {key: value for key, value in raw.items() if key not in part_keys}
    metrics, metric_problems = _parse_metrics(rest, written)
    settings, failed, setting_problems = _parse_settings(rest, written)
    missing = {key for key in SINGLE_PARTS if key not in choices}
    bad_slots = {problem.path.split(".")[0] for problem in part_problems} & {*SLOTS, "slots"}
    values = {key: getattr(settings, key) for key in Settings.model_fields}
    values["protocol"] = settings.protocol.model_copy(update={"metrics": metrics})
    config = RunConfig.model_construct(**values, **choices)
    return (
        config,
        frozenset(failed | missing | bad_slots),
        [*problems, *setting_problems, *metric_problems, *part_problems],
    )


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
    """Root key -> choice (``slots``: slot -> choice) for every part that can be read."""
    choices: dict[str, Any] = {}
    problems: list[Problem] = []
    for key in (*SINGLE_PARTS, *SLOTS):
        choice, found = _parse_part(SINGLE_PARTS.get(key, "conditioner"), raw.get(key), key, written)
        problems += found
        if choice is not None or key in SLOTS:
            choices[key] = choice
    choices["slots"], found = _parse_slots(raw.get("slots") or {}, written)
    return choices, problems + found


def _parse_slots(raw: Any, written: Mapping[str, str]) -> tuple[dict[str, PartChoice], list[Problem]]:
    if not isinstance(raw, dict):
        return {}, [Problem("slots", f"expected conditioners by slot name, got {_shown(raw)}.")]
    choices, problems = {}, []
    for slot, value in raw.items():
        if slot in SLOTS:
            problems.append(
                Problem(f"slots.{slot}", f"two parts on one slot: '{slot}' is also a root key; choose a new name.")
            )
            continue
        if not str(slot).isidentifier():
            problems.append(Problem(f"slots.{slot}", "a slot's name has to be a Python identifier."))
            continue
        choice, found = _parse_part("conditioner", value, f"slots.{slot}", written)
        problems += found
        if choice is not None:
            choices[slot] = choice
    return choices, problems


def _parse_metrics(rest: dict[str, Any], written: Mapping[str, str]) -> tuple[dict[str, PartChoice], list[Problem]]:
    """Label -> metric of the protocol; takes them out of ``rest``, whose other settings are judged as settings."""
    protocol = rest.get("protocol")
    if not isinstance(protocol, dict) or "metrics" not in protocol:
        return {}, []
    rest["protocol"] = {key: value for key, value in protocol.items() if key != "metrics"}
    raw, path = protocol["metrics"], "protocol.metrics"
    if not isinstance(raw, dict):
        return {}, [Problem(path, f"expected metrics by label, got {_shown(raw)}.")]
    choices, problems = {}, []
    for label, value in raw.items():
        # Labels are parts of overrides and of the names of stored arrays.
        if not re.fullmatch(r"[\w-]+", str(label)):
            problems.append(Problem(f"{path}.{label}", "a label has letters, digits, '_' and '-'."))
            continue
        choice, found = _parse_part("metric", value, f"{path}.{label}", written)
        problems += found
        if choice is not None:
            choices[str(label)] = choice
    return choices, problems


def _parse_part(kind: str, raw: Any, path: str, written: Mapping[str, str]) -> tuple[PartChoice | None, list[Problem]]:
    """The part chosen at ``path``; None for an empty slot or when it cannot be read."""
    if raw is None:
        return None, [] if kind == "conditioner" else [Problem(path, f"no {kind} is chosen. {_known(kind)}")]
    name = _word(raw.get("name"), registry.names(kind)) if isinstance(raw, dict) else None
    if name is None:
        return None, [Problem(f"{path}.name", f"has to name a {kind}, got {_shown(raw)}. {_known(kind)}")]
    settings = {key: value for key, value in raw.items() if key != "name"}
    return _judge_part(kind, name, settings, f"{path}.name", path, written)


def _judge_part(
    kind: str, name: str, settings: dict[str, Any], name_path: str, path: str, written: Mapping[str, str]
) -> tuple[PartChoice | None, list[Problem]]:
    """The part of that name with its settings, which lie at ``path``, and those of every part that they name."""
    try:
        cls = registry.load(kind, name)
    except HvgError as error:
        return None, [Problem(name_path, str(error).strip())]
    config, problems = validate(cls.Config, settings, path, cls.__name__, written=written)
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
        if config is not None and choice is not None:
            config = config.model_copy(update={inner.settings: choice.config.model_dump(mode="json")})
    return None if config is None else PartChoice(kind, name, cls, config), problems


def _given(model: type[BaseModel], settings: dict[str, Any], field: str) -> Any:
    """A setting's value, its default where it is not given."""
    return settings[field] if field in settings else model.model_fields[field].get_default(call_default_factory=True)


def _known(kind: str) -> str:
    return f"Known: {', '.join(registry.names(kind))}."


def _parse_settings(raw: dict[str, Any], written: Mapping[str, str]) -> tuple[Settings, set[str], list[Problem]]:
    """The settings, with defaults where a root key cannot be read; those keys; the problems."""
    settings, problems = validate(Settings, raw, "", "a run", RunConfig, written)
    if settings is not None:
        return settings, set(), problems
    failed = {problem.path.split(".")[0] for problem in problems}
    rest = {key: value for key, value in raw.items() if key not in failed}
    return validate(Settings, rest, "", "a run", RunConfig, written)[0], failed, problems


def validate(
    model: type[BaseModel],
    raw: dict[str, Any],
    path: str,
    owner: str,
    names: type[BaseModel] | None = None,
    written: Mapping[str, str] | None = None,
) -> tuple[Any, list[Problem]]:
    """``raw`` as ``model``, or None; unknown keys are reported and then ignored, so that the rest is judged too.

    names: the model whose fields are suggested for a misspelt key, ``model`` unless given. written: as of ``parse``.
    """
    errors = _errors(model, raw)
    words = _as_words(errors, raw, path, written or {})
    if words:
        raw = _changed(raw, words)
        errors = _errors(model, raw)
    wild = {problem.path: problem for problem in _wild_numbers(raw, path)}
    problems = [*wild.values(), *(p for p in _problems(errors, raw, path, owner, names or model) if p.path not in wild)]
    unknown = [e["loc"] for e in errors if e["type"] == "extra_forbidden"]
    if wild or len(unknown) < len(errors):
        return None, problems
    return model.model_validate_json(_json(_without(raw, unknown)), strict=True), problems


def _wild_numbers(tree: Any, path: str) -> Iterator[Problem]:
    """A problem for each number that no setting means: one that is not finite, or beyond what arithmetic holds."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, (list, tuple)) else ()
    for key, value in items:
        yield from _wild_numbers(value, f"{path}.{key}" if path else str(key))
    if isinstance(tree, float) and not math.isfinite(tree):
        yield Problem(path, f"expected a finite number, got {_shown(tree)}.")
    elif isinstance(tree, float) and abs(tree) > LARGEST_FLOAT:
        yield Problem(
            path, f"expected a number within {LARGEST_FLOAT:.0e}, as single precision has it, got {_shown(tree)}."
        )
    elif isinstance(tree, int) and abs(tree) > LARGEST_INT:
        yield Problem(path, f"expected an integer of 64 bits, got one of {tree.bit_length()} bits.")


def _errors(model: type[BaseModel], raw: Any) -> list[Any]:
    """Everything that pydantic finds wrong with ``raw``."""
    try:
        model.model_validate_json(_json(raw), strict=True)
    except ValidationError as error:
        return error.errors(include_url=False)
    return []


def _as_words(
    errors: Sequence[Any], raw: Any, path: str, written: Mapping[str, str]
) -> dict[tuple[str | int, ...], str]:
    """Place in ``raw`` -> the word that is meant there: where a word is expected, and a number or a truth value is given.

    Of a choice that is the one that reads as this value. Of free text it is what the command line says; a file has to put it
    in quotes, for 0x1F or 1e-4 could not be told from 31 and 0.0001 any more.
    """
    words: dict[tuple[str | int, ...], str] = {}
    for error in errors:
        if isinstance(error["input"], (str, list, dict)):
            continue
        keys = tuple(_keys(error, raw))
        if error["type"] in ("literal_error", "enum"):
            word = _word(error["input"], _choices(error))
        elif error["type"] == "string_type" and error["input"] is not None:
            word = written.get(".".join([*filter(None, [path]), *map(str, keys)]))
        else:
            continue
        if word is not None:
            words[keys] = word
    return words


def _choices(error: Any) -> list[str]:
    """The words among what an error of pydantic says it expected: it names them there alone, as Python writes them."""
    return [
        ast.literal_eval(text)
        for text in re.findall(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", error["ctx"]["expected"])
    ]


def _word(value: Any, choices: Sequence[str]) -> str | None:
    """The only one of the words that YAML reads as ``value``, or that is the same number; a word is itself."""
    if isinstance(value, str):
        return value
    found = [word for word in choices if _reads_as(word, value)]
    return found[0] if len(found) == 1 else None


def _reads_as(word: str, value: Any) -> bool:
    if isinstance(value, bool) or value is None:
        return word.lower() in {True: ("true", "yes", "on"), False: ("false", "no", "off"), None: ("null",)}[value]
    try:
        return isinstance(value, (int, float)) and float(word) == value
    except ValueError:
        return False


def _json(raw: Any) -> str:
    return json.dumps(raw, default=str)


def _without(raw: Any, paths: list[tuple]) -> Any:
    """A copy of ``raw`` without the values at ``paths``."""
    copy = json.loads(_json(raw))
    for *parents, last in paths:
        del _inside(copy, parents)[last]
    return copy


def _changed(raw: Any, values: Mapping[tuple, Any]) -> Any:
    """A copy of ``raw`` with other values at some places."""
    copy = json.loads(_json(raw))
    for (*parents, last), value in values.items():
        _inside(copy, parents)[last] = value
    return copy


def _inside(tree: Any, keys: Sequence[Any]) -> Any:
    for key in keys:
        tree = tree[key]
    return tree


def _problems(errors: list, raw: dict[str, Any], path: str, owner: str, model: type[BaseModel]) -> list[Problem]:
    """One problem per place; a union's alternatives are joined."""
    places: dict[str, list[str]] = {}
    given: dict[str, Any] = {}
    for error in errors:
        keys = _keys(error, raw)
        place = ".".join([*filter(None, [path]), *map(str, keys)])
        given[place] = error
        places.setdefault(place, []).append(_message(error, keys, owner, model))
    return [Problem(place, _joined(messages, given[place])) for place, messages in places.items()]


def _joined(messages: list[str], error: Any) -> str:
    """The messages of one place as a sentence with what was given."""
    if error["type"] in ("extra_forbidden", "missing"):
        return messages[0]
    given = error["input"]
    # As people write sizes and boxes: 64x96, or 1,2,3,4.
    numbers = re.split(r"[x, ]+", given) if isinstance(given, str) else ()
    listed = len(numbers) > 1 and all(number.isdecimal() for number in numbers)
    hint = f" Did you mean [{','.join(numbers)}]?" if listed and "a list" in " ".join(messages) else ""
    expected = " or ".join(dict.fromkeys(messages)).replace(" or expected ", " or ")
    quotes = error["type"] == "string_type" and isinstance(given, (bool, int, float))
    fix = "; in quotes it is text" if quotes else ""
    return f"{expected}, got {_shown(given)}{fix}.{hint}"


def _keys(error: Any, raw: Any) -> list[str | int]:
    """Where an error is in the tree, without the names that pydantic adds for the alternatives of a union."""
    keys: list[str | int] = []
    for key in error["loc"]:
        inside = (isinstance(raw, dict) and key in raw) or (isinstance(raw, list) and key in range(len(raw)))
        if inside:
            raw = raw[key]
        if inside or error["type"] == "missing":
            keys.append(key)
    return keys


def _message(error: Any, keys: list[str | int], owner: str, model: type[BaseModel]) -> str:
    if error["type"] == "extra_forbidden":
        owner = ".".join(map(str, keys[:-1])) or owner
        return f"unknown key for {owner}. {did_you_mean(str(keys[-1]), _fields(model, keys[:-1]))}".strip()
    if error["type"] == "missing":
        return "is missing; it has to be given."
    message = error["msg"].replace("Input should be ", "expected ").removeprefix("Value error, ")
    return message.replace("a valid array", "a list")


def _fields(model: Any, keys: list[str | int]) -> list[str]:
    """The names of a model's fields, or of the section inside it that ``keys`` lead to."""
    for key in keys:
        field = model.model_fields.get(str(key)) if isinstance(model, type) and issubclass(model, BaseModel) else None
        model = field.annotation if field else None
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _shown(value: Any) -> str:
    return f"{value!r} ({type(value).__name__})"
