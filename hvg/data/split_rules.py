"""Who of a data set is trained on, and who is tested: text files of rules, those that papers publish and one's own.

A line is what it takes of the names that no line above took, and the split that gets it; ``#`` begins a remark:

    0000-1899 train
    draw 43 test
    rest val

A name, or a range of numbers with its last one; those that are not here are passed over. ``first N``: of the names in their
order. ``draw N``: a draw that goes by the names alone, so that it takes the same whatever else is here. ``rest``: all others.
Names that no line takes are not used.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from hvg.core.errors import DataError, did_you_mean
from hvg.core.shipped import COMPONENTS

SPLITS = ("train", "val", "test")
_EXPECTED = "NAME, A-B, 'first N', 'draw N' or 'rest', then train, val or test"


def rules_file(dataset: str, splits: str) -> Path:
    """The file of rules: of a data set, as somebody's paper has it, or one's own by its path ending in .txt.

    Raises: DataError for a name that is not known.
    """
    if splits.endswith(".txt"):
        return Path(splits)
    known = {path.stem.removeprefix(f"{dataset}_"): path for path in _shipped(dataset)}
    if splits not in known:
        raise DataError(
            f"splits={splits}: {dataset} has no such rules, and it is no .txt. {did_you_mean(splits, known)}"
        )
    return known[splits]


def _shipped(dataset: str) -> list[Path]:
    return sorted((COMPONENTS / "datasets" / "splits").glob(f"{dataset}_*.txt"))


def split_names(names: Sequence[str], split: str, rules: Path) -> list[str]:
    """Those of a data set's names that belong to a split, in their order.

    Raises: DataError for a line that is none, and where the split takes nobody.
    """
    left, taken = sorted(names), []
    for number, line in enumerate(_lines(rules), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        found = _taken(left, words, f"{rules}, line {number}")
        taken += found if words[-1] == split else []
        left = [name for name in left if name not in set(found)]
    if not taken:
        raise DataError(f"{rules}: takes none of the {len(names)} names that are here for '{split}'; expected some")
    return sorted(taken)


def _lines(rules: Path) -> list[str]:
    try:
        return rules.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{rules}: cannot be read ({error}); expected a text file of lines: {_EXPECTED}") from error


def _taken(left: list[str], words: list[str], place: str) -> list[str]:
    """The names that a line takes of those that are left."""
    *rule, split = words
    match rule if split in SPLITS else []:
        case ["rest"]:
            return left
        case ["first", count] if count.isdecimal():
            return left[: int(count)]
        case ["draw", count] if count.isdecimal():
            return sorted(left, key=_drawn)[: int(count)]
        case [_, *_]:
            whole = " ".join(rule)
            return [name for name in left if name == whole or _within(name, whole)]
    raise DataError(f"{place}: '{' '.join(words)[:80]}'; expected {_EXPECTED}")


def _drawn(name: str) -> str:
    """Place of a name in every draw."""
    return hashlib.sha256(name.encode()).hexdigest()


def _within(name: str, numbers: str) -> bool:
    """Whether a name is a number of a range."""
    first, _, last = numbers.partition("-")
    return all(each.isdecimal() for each in (name, first, last)) and int(first) <= int(name) <= int(last)
