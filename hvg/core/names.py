"""Rules for names of runs, arms, views and clips, which become names of folders and files, and words of commands."""

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from hvg.core.errors import DataError

# Bytes of UTF-8. File systems take 255, and a file that is still being written has a longer name than its own.
LONGEST = 200
RULE = rf"a name has printable characters other than / \ and $, begins with no dot, and is at most {LONGEST} bytes long"


def name_problem(name: str, *, folders: bool = False, dots: bool = True) -> str:
    """Why a name cannot be used, in words that follow it in a sentence, with the rule; "" where it can.

    folders: whether slashes may part it into names, of folders inside one another. dots: whether it may hold any.
    """
    problems = (_part_problem(part, dots) for part in (name.split("/") if folders else [name]))
    problem = next(filter(None, problems), "")
    also = "; slashes part folders, each with a name" * folders + "; this one holds no dot" * (not dots)
    return f"cannot be a name: {problem} ({RULE}{also})" if problem else ""


def _part_problem(part: str, dots: bool) -> str:
    """Problem with a name without folders, in words; "" for none."""
    wrong = [c for c in part if not c.isprintable() or c in "/\\$" or (c == "." and not dots)]
    if not part:
        return "a part of it is empty"
    if wrong:
        return f"it holds {wrong[0]!r}"
    if part.startswith("."):
        return f"'{part}' begins with a dot"
    length = len(part.encode())
    return f"it is {length} bytes long" if length > LONGEST else ""


def as_name(text: str, longest: int = 100) -> str:
    """The rest of a name that reads like ``text``: letters, digits and ``._-``, of at most so many bytes."""
    kept = "".join(c if c.isalnum() or c in "._-" else "_" for c in text)
    return kept.encode()[:longest].decode(errors="ignore")


def text_word(key: str, text: str) -> str:
    """The override that sets ``key`` to a text of names and slashes, whatever characters of Hydra's grammar it holds."""
    plain = re.fullmatch(r"[A-Za-z0-9_./+-]+", text)
    return f"{key}={text}" if plain else "{}='{}'".format(key, text.replace("'", "\\'"))


def _with_group(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    if groups < 1:
        raise ValueError("needs a group in brackets, as '(person\\d+)_.*'")
    return pattern


# A regular expression whose first group is what is meant.
GroupPattern = Annotated[str, AfterValidator(_with_group)]


def clip_name_problem(name: str) -> str:
    """Like ``name_problem``, for a clip: folders may part it, and no dot, which would end it in a shard's files."""
    return name_problem(name, folders=True, dots=False)


def check_clip_names(names: Iterable[str]) -> None:
    """Raises: DataError where a clip has a name of which no file's can be made."""
    for name in names:
        if problem := clip_name_problem(name):
            raise DataError(f"clip {name!r} {problem}")


def _judged(name: str, *, folders: bool = False) -> str:
    if problem := name_problem(name, folders=folders):
        raise ValueError(problem)
    return name


# Settings that hold a name; one of a folder inside other folders.
Name = Annotated[str, AfterValidator(_judged)]
NameInFolders = Annotated[str, AfterValidator(partial(_judged, folders=True))]

# Files that a command takes of one kind; a single one need not stand in brackets.
OneOrSeveral = Annotated[
    tuple[Path, ...],
    BeforeValidator(lambda given: tuple(given) if isinstance(given, (list, tuple)) else (given,)),
    Field(min_length=1, max_length=16),
]
