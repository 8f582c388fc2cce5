"""Clips that ``hvg prepare`` (or anyone who writes the format of ``hvg.shards``) stored as tar shards."""

from __future__ import annotations

import bisect
from itertools import accumulate
from pathlib import Path

from pydantic import Field

from hvg.digests import settings_digest
from hvg.errors import DataError
from hvg.protocols import Choose, Context, Dataset, PartConfig
from hvg.shards import CLIP_IMAGES, ShardReader, index_path, whole_shard
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
        # A shard that is missing or damaged is named when it is opened.
        shards = [whole_shard(path) for path in sorted(Path(config.path).glob(f"{config.split}*.tar"))]
        captions = {"caption"} if shards and all(shard and shard.captions for shard in shards) else set()
        fixed = {"frames", "alpha", "cameras", "body", "reference", "task", "valid", "frame_index"}
        return frozenset({*fixed, *mesh, *captions})

    @classmethod
    def content(cls, config: Config) -> str:
        """Of the shards' indices; those that ``hvg`` wrote hold a digest of their shard."""
        paths = sorted(index_path(path) for path in Path(config.path).glob("*.tar"))
        return settings_digest([path.read_text(encoding="utf-8") for path in paths if path.exists()])

    def __len__(self) -> int:
        return self._ends[-1]

    def load(self, index: int) -> ClipBatch:
        reader, place = self._place(index)
        return reader.load(place)

    def load_part(self, index: int, choose: Choose, signals: frozenset[str]) -> ClipBatch | None:
        reader, place = self._place(index)
        if not reader.signals >= signals:
            return None
        return reader.load(place, choose, CLIP_IMAGES | {f"signal-{key}" for key in signals})

    def _place(self, index: int) -> tuple[ShardReader, int]:
        """A clip's shard, and its number in it."""
        shard = bisect.bisect_right(self._ends, index)
        return self._shards[shard], index - (self._ends[shard - 1] if shard else 0)
