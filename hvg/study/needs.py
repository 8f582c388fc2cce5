"""Runs that a study trains before its arms, which start from them: ``${needs.NAME}`` in a word is such a run's checkpoint."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hvg.core.errors import Problem, did_you_mean
from hvg.core.names import text_word
from hvg.study.study_file import StudyFile

# Folder of their runs, in that of the study's.
FOLDER = "needs"
_NAMED = re.compile(r"\$\{needs\.([^}]*)\}")
_CHECKPOINT = re.compile(rf"(?:.*/)?{FOLDER}/([^/]+)-seed\d+/checkpoints/(.*)")


def needs_of_words(words: Sequence[str]) -> list[str]:
    """Names of the needs that words refer to, each once."""
    return list(dict.fromkeys(name for word in words for name in _NAMED.findall(word)))


def with_checkpoints(words: Sequence[str], checkpoints: Mapping[str, Path]) -> list[str]:
    """The words with the path of each need that they refer to, in quotes where Hydra's grammar asks for them."""

    def path(match: re.Match[str]) -> str:
        return text_word("path", str(checkpoints[match[1]])).partition("=")[2]

    return [_NAMED.sub(path, word) for word in words]


def without_needs(words: Sequence[str]) -> list[str]:
    """The words that refer to no need."""
    return [word for word in words if not _NAMED.search(word)]


def of_any_seed(value: Any) -> Any:
    """A setting's value, in which the checkpoint of a need is the same for every seed and folder of the study."""
    found = _CHECKPOINT.fullmatch(value) if isinstance(value, str) else None
    return f"{FOLDER}/{found[1]}/{found[2]}" if found else value


def wrong_needs(study: StudyFile, overrides: Sequence[str]) -> Iterator[Problem]:
    """Problems of references to needs that are not there, or not before; and of needs that nothing refers to."""
    names = [*study.needs]
    places = {"base": study.base, "the command line": overrides} | {
        f"arm {a}": words for a, words in study.arms.items()
    }
    for place, words in places.items():
        for name in needs_of_words(words):
            if name not in names:
                yield Problem(
                    place, f"refers to '{name}', which is not under needs. {did_you_mean(name, names)}".strip()
                )
    for number, (need, words) in enumerate(study.needs.items()):
        for name in needs_of_words(words):
            if name not in names[:number]:
                yield Problem(f"needs.{need}", f"refers to '{name}', and only needs before it can be meant.")
    said = needs_of_words([word for words in [*places.values(), *study.needs.values()] for word in words])
    yield from (
        Problem(f"needs.{name}", f"nothing refers to it; name its checkpoint as ${{needs.{name}}}, or leave it out.")
        for name in names
        if name not in said
    )
