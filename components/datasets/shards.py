"""Clips that ``hvg prepare`` (or anyone who writes the format of ``hvg.shards``) stored as tar shards."""

from __future__ import annotations

import bisect
from itertools import accumulate
from pathlib import Path

from pydantic import Field

from hvg.errors import DataError
from hvg.protocols import Context, Dataset, PartConfig
from hvg.shards import ShardReader
from hvg.types import ClipBatch


class Shards(Dataset):
    """Reads ``<path>/<split>*.tar``."""

    class Config(PartConfig):
        path: str = Field(description="Folder of the shards.")
        split: str = Field("train", description="Beginning of the shards' file names.")
        mesh: bool = Field(False, description="Whether the clips carry the bare body's mesh (body.vertices).")

    def __init__(self, config: Config, context: Context | None = None) -> None:
        self.config = config
        paths = sorted(Path(config.path).glob(f"{config.split}*.tar"))
        if not paths:
            raise DataError(f"{config.path}: no shard named {config.split}*.tar")
        self._shards = [ShardReader(path) for path in paths]
        self._ends = list(accumulate(len(shard) for shard in self._shards))

    @classmethod
    def provides(cls, config: Config) -> frozenset[str]:
        mesh = {"body.vertices"} if config.mesh else set()
        return frozenset({"frames", "alpha", "cameras", "body", "reference", "task", "valid", "frame_index", *mesh})

    def __len__(self) -> int:
        return self._ends[-1]

    def load(self, index: int) -> ClipBatch:
        shard = bisect.bisect_right(self._ends, index)
        return self._shards[shard].load(index - (self._ends[shard - 1] if shard else 0))
