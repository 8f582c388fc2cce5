"""Which clips of a data set on disk belong to train, val and test: by a text file, or drawn."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from hvg.core.bounds import Seed
from hvg.core.errors import DataError
from hvg.core.files import read_text
from hvg.core.random_keys import key_to_seed
from hvg.parts.part import PartConfig

SPLITS = ("train", "val", "test")


class SplitConfig(PartConfig):
    """Settings of a data set on disk that say which of its clips are whose."""

    root: str = Field(description="Folder of the data set.")
    split: Literal["train", "val", "test"] = Field("train", description="Which clips.")
    splits: str | None = Field(
        None,
        description="Text file with a line 'NAME SPLIT' for every subject (or clip, as of split_by); those not in it are not "
        "used. null: drawn by the seed.",
    )
    split_by: Literal["subject", "clip"] = Field(
        "subject",
        description="What is drawn or listed. By clip, people are in several splits, which evaluation.overlap has to allow.",
    )
    val_share: float = Field(0.05, gt=0, lt=0.5, description="Share that is drawn for val, at least one.")
    test_share: float = Field(0.05, gt=0, lt=0.5, description="Share that is drawn for test, at least one.")
    seed: Seed = Field(0, description="Of the drawn splits, and of the frames that become photos.")
    subject: str = Field(
        r"(.+)",
        max_length=1000,
        description="Regular expression whose first group is the person in a recording's name, as '(person\\d+)_.*'.",
    )

    @field_validator("subject")
    @classmethod
    def _one_group(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if groups < 1:
            raise ValueError("needs a group in brackets, as '(person\\d+)_.*'")
        return pattern


def subject_of(config: SplitConfig, name: str) -> str:
    """Whom a recording shows. Raises: DataError where ``subject`` does not match its name."""
    found = re.fullmatch(config.subject, name)
    if found is None or not found[1]:
        raise DataError(f"its name '{name}' does not match subject={config.subject}")
    return found[1]


def of_split(config: SplitConfig, subjects: Mapping[str, str]) -> list[str]:
    """The clips of ``config.split``, in the order given. subjects: clip -> whom it shows.

    Raises: DataError for a file of splits that cannot be used, and where too few are there to draw of.
    """
    unit: Callable[[str], str] = subjects.__getitem__ if config.split_by == "subject" else str
    units = list(dict.fromkeys(map(unit, subjects)))
    owners = _drawn(config, units) if config.splits is None else _listed(Path(config.splits), units)
    return [clip for clip in subjects if owners.get(unit(clip)) == config.split]


def _drawn(config: SplitConfig, units: Sequence[str]) -> dict[str, str]:
    """Name -> split: the order of the names' own random numbers, so that a name keeps its place among others."""
    if len(units) < len(SPLITS):
        what = "people" if config.split_by == "subject" else "clips"
        more = "; dataset.split_by=clip with dataset.frames=N cuts recordings into clips" if what == "people" else ""
        raise DataError(
            f"{config.root}: {len(units)} {what} that can be used, and train, val and test need three{more}; "
            "dataset.splits=FILE says which are whose"
        )
    order = sorted(units, key=lambda name: (key_to_seed(config.seed, "split", name), name))
    tests, vals = (max(1, round(share * len(order))) for share in (config.test_share, config.val_share))
    return {name: "test" if i < tests else "val" if i < tests + vals else "train" for i, name in enumerate(order)}


def _listed(path: Path, units: Sequence[str]) -> dict[str, str]:
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file of splits") from None
    owners: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, _, split = line.partition("#")[0].strip().rpartition(" ")
        if not name and not split:
            continue
        if split not in SPLITS or not name:
            raise DataError(f"{path}: line {number} is {line.strip()!r}; expected 'NAME SPLIT' with train, val or test")
        if owners.setdefault(name.strip(), split) != split:
            raise DataError(
                f"{path}: line {number} puts {name.strip()!r} into {split}, an earlier one into another split"
            )
    if not owners.keys() & set(units):
        raise DataError(
            f"{path}: names none of the {len(units)} that are there, such as {units[0] if units else 'none'!r}"
        )
    return owners
