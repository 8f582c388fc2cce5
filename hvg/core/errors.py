"""Errors that a user can act on: the command line prints them as one message without a traceback."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches


class HvgError(Exception):
    """Something the user gave cannot be used; the message says what, where, what was expected, and the likely fix."""

    def __init__(self, message: str, *, then: str = "") -> None:
        """then: the command to type next, where there is one; words in capitals are to be filled in."""
        self.message, self.then = message, then
        joined = " Next" if message.endswith((".", "?")) else "; next"
        super().__init__(f"{message}{joined}: {_listed([then])}" if then else message)


class DataError(HvgError):
    """A file or a sample cannot be read or does not hold what it should; the message names the file, in one line."""

    def __init__(self, message: str, *, then: str = "") -> None:
        super().__init__(in_one_line(message), then=then)


class CheckpointError(HvgError):
    """A checkpoint is missing, damaged, or does not fit the model."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a configuration: where it is, and what to do about it. then: as of ``HvgError``."""

    path: str
    message: str
    then: str = ""

    def __str__(self) -> str:
        # A key from a file may hold anything, a message has one line.
        place = in_one_line(self.path)
        return f"{place}: {self.message}" if place else self.message


class ConfigError(HvgError):
    """A configuration cannot be used; carries every problem that was found, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = "1 problem in the configuration:" if count == 1 else f"{count} problems in the configuration:"
        lines = [head, *(f"  - {problem}" for problem in self.problems)]
        if commands := _listed(problem.then for problem in self.problems):
            lines.append(f"next: {commands}")
        super().__init__("\n".join(lines))


def _listed(commands: Iterable[str]) -> str:
    """The commands that are none of ""; each once."""
    return ", ".join(f"`{command}`" for command in dict.fromkeys(commands) if command)


def in_one_line(text: str) -> str:
    """The text with what has no picture, such as the newline in a file's name, written as Python writes it."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Returns a half sentence that names the nearest known word, else lists them all; "" when nothing is known."""
    names = sorted(known)
    near = get_close_matches(given, names, n=1, cutoff=0.5)
    if near:
        return f"Did you mean '{near[0]}'?"
    return f"Known: {', '.join(names)}." if names else ""
