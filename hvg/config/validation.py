"""Values against a pydantic model: every problem with its path, what was given and what is allowed."""

import ast
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from hvg.core.errors import Problem, did_you_mean

# Arrays hold no larger ones.
LARGEST_FLOAT, LARGEST_INT = 3e38, 2**63 - 1


def validate(
    model: type[BaseModel],
    raw: dict[str, Any],
    path: str,
    owner: str,
    names: type[BaseModel] | None = None,
    written: Mapping[str, str] | None = None,
    then: str = "",
) -> tuple[Any, list[Problem]]:
    """``raw`` as ``model``, or None; unknown keys are reported and then ignored, so that the rest is judged too.

    names: the model whose fields are suggested for a misspelt key, ``model`` unless given. written: as of ``parse``. then: the
    command that lists the known keys.
    """
    errors = _errors(model, raw)
    words = _as_words(errors, raw, path, written or {})
    if words:
        raw = _changed(raw, words)
        errors = _errors(model, raw)
    wild = {problem.path: problem for problem in _wild_numbers(raw, path)}
    problems = [
        *wild.values(),
        *(p for p in _problems(errors, raw, path, owner, names or model, then) if p.path not in wild),
    ]
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
        yield Problem(path, f"expected a finite number, got {shown(tree)}.")
    elif isinstance(tree, float) and abs(tree) > LARGEST_FLOAT:
        yield Problem(
            path, f"expected a number within {LARGEST_FLOAT:.0e}, as single precision has it, got {shown(tree)}."
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
            word = word_for(error["input"], _choices(error))
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


def word_for(value: Any, choices: Sequence[str]) -> str | None:
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


def _problems(
    errors: list, raw: dict[str, Any], path: str, owner: str, model: type[BaseModel], then: str
) -> list[Problem]:
    """One problem per place; a union's alternatives are joined."""
    places: dict[str, list[str]] = {}
    given: dict[str, Any] = {}
    for error in errors:
        keys = _keys(error, raw)
        place = ".".join([*filter(None, [path]), *map(str, keys)])
        given[place] = error
        places.setdefault(place, []).append(_message(error, keys, owner, model))
    return [
        Problem(place, _joined(messages, error), then if error["type"] == "extra_forbidden" else "")
        for (place, messages), error in zip(places.items(), given.values(), strict=True)
    ]


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
    return f"{expected}, got {shown(given)}{fix}.{hint}"


def _keys(error: Any, raw: Any) -> list[str | int]:
    """Keys to an error's place in the tree, without the names that pydantic adds for the alternatives of a union."""
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


def shown(value: Any) -> str:
    return f"{value!r} ({type(value).__name__})"
