"""Files that say who of a data set is trained on, and who is tested: one's own, and those that papers publish.

A line is what it takes of the names that no line above took, and the split that gets it; ``#`` begins a remark:

    0000-1899 train
    draw 43 test
    rest val

A name, a range of numbers with its last one, or a pattern (``test-*``); those that are not here are passed over. ``first N``: of
the names in their order, ``first N PATTERN``: of those that fit it. ``draw N``: drawn by the seed, a name by itself, so that most
are the same whatever else is here. ``rest``: all others. Names that no line takes are not used.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from hvg.core.errors import DataError
from hvg.core.files import read_text
from hvg.core.random_keys import key_to_seed
from hvg.core.shipped import COMPONENTS
from hvg.media.listing import natural

SPLITS = ("train", "val", "test")
_SHIPPED = COMPONENTS / "datasets" / "splits"
_EXPECTED = "'NAME SPLIT', or A-B, PATTERN, 'first N', 'draw N' or 'rest' for NAME, with train, val or test"


def rules_path(dataset: str, splits: str) -> Path:
    """The file of rules: those of ``dataset`` that come with hvg under the name ``splits``, or that path."""
    shipped = _SHIPPED / f"{dataset}_{splits}.txt"
    return shipped if splits.isalnum() and shipped.is_file() else Path(splits)


def by_rules(path: Path, names: Sequence[str], seed: int) -> dict[str, str]:
    """Name -> split, of the names that a line takes. Raises: DataError for a line that is none, and where none takes a name."""
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file of splits, and no data set has rules of that name") from None
    owners: dict[str, str] = {}
    order = sorted(names, key=natural)
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            place = f"{path}: line {number}"
            owners |= dict.fromkeys(_taken(order, owners, words, seed, place), words[-1])
    if not owners:
        raise DataError(
            f"{path}: names none of the {len(names)} that are there, such as {order[0] if order else 'none'!r}"
        )
    return owners


def _taken(
    order: Sequence[str], owners: Mapping[str, str], words: Sequence[str], seed: int, place: str
) -> Sequence[str]:
    """The names that a line takes of those that have no owner."""
    *what, split = words
    left = [name for name in order if name not in owners]
    match what if split in SPLITS else []:
        case ["rest"]:
            return left
        case ["first" | "draw" as how, count, *within] if count.isdecimal() and len(within) < 2:
            left = [name for name in left if all(fnmatchcase(name, pattern) for pattern in within)]
            drawn = sorted(left, key=lambda name: (key_to_seed(seed, "split", name), name))
            return (left if how == "first" else drawn)[: int(count)]
        case [_, *_]:
            named = " ".join(what)
            if owners.get(named, split) != split:
                raise DataError(f"{place} puts {named!r} into {split}, an earlier one into {owners[named]}")
            return [name for name in left if name == named or fnmatchcase(name, named) or _within(name, named)]
    raise DataError(f"{place} is {' '.join(words)[:80]!r}; expected {_EXPECTED}")


def _within(name: str, numbers: str) -> bool:
    """Whether a name is a number of a range."""
    first, _, last = numbers.partition("-")
    return all(each.isdecimal() for each in (name, first, last)) and int(first) <= int(name) <= int(last)
