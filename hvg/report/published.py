"""The tables of published papers, to stand beside a study's own rows: what they hold and which belong to a protocol."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

FILE = Path(__file__).with_name("published_tables.yaml")


class PublishedColumn(BaseModel):
    """A column of a paper's table. metric: its label in the protocol. set: the paper's word for a half of the column; task: of
    which clips that half is, view or pose, where it is of one task.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str
    label: str
    better: Literal["higher", "lower"]
    set: str = ""
    task: Literal["view", "pose"] | None = None
    protocols: tuple[str, ...] = ()

    @property
    def heading(self) -> str:
        """``PSNR ↑``: its label, and which of its values are better."""
        return f"{self.label} {'↑' if self.better == 'higher' else '↓'}"


class PublishedRow(BaseModel):
    """A row of a paper's table. values: as printed, "-" for none; their number is that of the columns."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    citation: str
    values: tuple[str, ...]

    @model_validator(mode="before")
    @classmethod
    def _split(cls, fields: dict) -> dict:
        return {**fields, "values": str(fields["values"]).split()}


class PublishedTable(BaseModel):
    """One table of a paper. measured_on: data and number of videos. protocols: of columns that name none themselves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    source: str
    protocols: tuple[str, ...]
    measured_on: str
    columns: tuple[PublishedColumn, ...] = Field(min_length=1)
    rows: tuple[PublishedRow, ...] = Field(min_length=1)
    remarks: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _rows_are_whole(self) -> "PublishedTable":
        for row in self.rows:
            if len(row.values) != len(self.columns):
                raise ValueError(f"{row.method}: {len(row.values)} values in {len(self.columns)} columns")
        return self

    def protocols_of(self, column: PublishedColumn) -> tuple[str, ...]:
        """Names of the protocols that score as the column was scored."""
        return column.protocols or self.protocols


@lru_cache
def published_tables() -> dict[str, PublishedTable]:
    """Every published table by its id, such as ``hvg_1``."""
    tables = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {name: PublishedTable.model_validate(table) for name, table in tables.items()}


def chosen_tables(protocol: str, chosen: Sequence[str] | None = None) -> dict[str, PublishedTable]:
    """The tables of these ids; of None, those with a column that the named protocol scores."""
    tables = published_tables()
    if chosen is not None:
        return {name: tables[name] for name in chosen}
    return {
        name: table
        for name, table in tables.items()
        if any(protocol in table.protocols_of(column) for column in table.columns)
    }
