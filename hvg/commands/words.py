"""The words of a command line: flags, options of a command, and overrides of a run."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hvg.core.errors import ConfigError, HvgError, Problem, did_you_mean
from hvg.core.next_commands import HELP


def take_flags(arguments: Sequence[str], known: Mapping[str, str]) -> tuple[frozenset[str], list[str]]:
    """The flags among the words, each by its long name without hyphens, and the other words.

    known: the names of each flag, as ``-m --multirun`` -> what it does. Raises: HvgError for any other word with a hyphen.
    """
    names = {name: spelt.split()[-1] for spelt in known for name in spelt.split()}
    given = [word for word in arguments if word.startswith("-")]
    unknown = [word for word in given if word not in names]
    if unknown:
        raise HvgError(
            f"there is no flag '{unknown[0]}' here. {did_you_mean(unknown[0], [*names, '--help'])}", then=HELP
        )
    return frozenset(names[word].lstrip("-") for word in given), [word for word in arguments if word not in given]


def is_override(word: str) -> bool:
    """True for a word that sets or leaves out a key, rather than naming a folder or a part."""
    return "=" in word or word.startswith("~")


def take_options(arguments: Sequence[str], model: type) -> tuple[Any, list[str]]:
    """Splits off the ``key=value`` words that are fields of a pydantic model; returns the options and the other words.

    Raises: ConfigError when a value has the wrong type or a required one is missing.
    """
    options, others, problems = _read_options(arguments, model)
    if problems:
        raise ConfigError(problems)
    return options, others


def _read_options(arguments: Sequence[str], model: type) -> tuple[Any, list[str], list[Problem]]:
    """The options, None where they cannot be used; the words that are none; and what is wrong with the options."""
    import yaml

    from hvg.config.parsing import read_yaml
    from hvg.config.validation import validate

    taken, others, problems = {}, [], []
    for word in arguments:
        key, equals, value = word.partition("=")
        if not equals or key not in model.model_fields:
            others.append(word)
            continue
        # Text is what it says: YAML would read 1:30:00 as a number to base 60, and a folder called 2024 as a number.
        kind = model.model_fields[key].annotation
        text = value != "null" and (_is_text(kind) or (_is_texts(kind) and not value.startswith("[")))
        try:
            taken[key] = None if not value else _unquoted(value) if text else read_yaml(value)
        except yaml.YAMLError as error:
            problems.append(Problem(key, f"cannot be read as a value: {error}"))
    if problems:
        return None, others, problems
    options, problems = validate(model, taken, "", "this command")
    return options, others, problems


def _is_text(annotation: Any) -> bool:
    """Whether a field holds text, a path, or one of several words, or nothing."""
    if get_origin(annotation) is Literal:
        return all(isinstance(word, str) for word in get_args(annotation))
    union = get_origin(annotation) in (Union, UnionType)
    return annotation in (str, Path, type(None)) or (union and all(map(_is_text, get_args(annotation))))


def _is_texts(annotation: Any) -> bool:
    """Whether a field holds several texts or paths, or nothing."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return all(kind is type(None) or _is_texts(kind) for kind in inner)
    if origin is Annotated:
        return _is_texts(inner[0])
    return origin is tuple and all(_is_text(kind) for kind in inner if kind is not ...)


def _unquoted(text: str) -> str:
    """Text without the quotes around all of it, which Hydra's grammar takes away, too."""
    quoted = len(text) > 1 and text[0] in "'\"" and text[0] == text[-1]
    return text[1:-1] if quoted else text


def only_options(arguments: Sequence[str], model: type) -> Any:
    """Options of a command that takes no overrides. Raises: ConfigError for any other word."""
    options, others, problems = _read_options(arguments, model)
    known = list(model.model_fields)
    problems += [Problem(key_of(word), f"unknown option. {did_you_mean(key_of(word), known)}", HELP) for word in others]
    if problems:
        raise ConfigError(problems)
    return options


def key_of(word: str) -> str:
    """The key that a word sets or leaves out."""
    return word.lstrip("+~").partition("=")[0]


def options_and_overrides(
    arguments: Sequence[str], *models: type, judge: Callable[[list[str]], object] = lambda words: None
) -> tuple[Any, ...]:
    """The options of each model, and the words that are overrides.

    judge: raises ConfigError where overrides cannot be used; it is asked where something else is wrong, too.
    Raises: ConfigError with all problems, also of a word that is neither an option nor begins with a key of the configuration.
    """
    from hvg.config.groups import did_you_mean_key, root_keys
    from hvg.config.overrides import root_key

    found: list[Any] = []
    problems: list[Problem] = []
    words = list(arguments)
    for model in models:
        options, words, more = _read_options(words, model)
        found.append(options)
        problems += more
    known = root_keys()
    unknown = [word for word in words if is_override(word) and root_key(word) not in {*known, "hydra"}]
    names = {*known, *(name for model in models for name in model.model_fields)}
    problems += [
        Problem(root_key(word), f"unknown key or option. {did_you_mean_key(root_key(word), names)}", HELP)
        for word in unknown
    ]
    if problems:
        try:
            judge([word for word in words if word not in unknown])
        except ConfigError as error:
            problems += error.problems
        raise ConfigError(problems)
    return *found, words
