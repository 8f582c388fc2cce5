"""Which clips of a data set on disk belong to train, val and test: by a text file, or drawn."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from hvg.core.bounds import Seed
from hvg.core.errors import DataError
from hvg.core.names import GroupPattern
from hvg.core.random_keys import key_to_seed
from hvg.data.split_rules import SPLITS, by_rules, rules_path
from hvg.parts.part import PartConfig


class SplitConfig(PartConfig):
    """Settings of a data set on disk that say which of its clips are whose."""

    root: str = Field(description="Folder of the data set.")
    split: Literal["train", "val", "test"] = Field("train", description="Which clips.")
    splits: str | None = Field(
        None,
        description="Rules of who is in which split, of subjects (or clips, as of split_by): a text file of lines 'NAME SPLIT', "
        "or a paper's by its name (docs/datasets.md); those that no line takes are not used. null: drawn by the seed.",
    )
    split_by: Literal["subject", "clip"] = Field(
        "subject",
        description="What is drawn or listed. By clip, people are in several splits, which evaluation.overlap has to allow.",
    )
    val_share: float = Field(0.05, gt=0, lt=0.5, description="Share that is drawn for val, at least one.")
    test_share: float = Field(0.05, gt=0, lt=0.5, description="Share that is drawn for test, at least one.")
    seed: Seed = Field(0, description="Of the drawn splits, and of the frames that become photos.")
    subject: GroupPattern = Field(
        r"(.+)",
        max_length=1000,
        description="Regular expression whose first group is the person in a recording's name, as '(person\\d+)_.*'.",
    )

    @property
    def rules(self) -> Path | None:
        """The file of ``splits``."""
        return None if self.splits is None else rules_path(self.known_as, self.splits)

    @property
    def known_as(self) -> str:
        """How the files of rules that come with this data set begin."""
        return ""


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
    owners = _drawn(config, units) if config.rules is None else by_rules(config.rules, units, config.seed)
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
