"""Clips that ``hvg prepare`` (or anyone who writes the format of ``hvg.data.shards``) stored as tar shards."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import Field

from hvg.core.digests import settings_digest
from hvg.core.errors import DataError
from hvg.core.files import read_text
from hvg.core.next_commands import PREPARE
from hvg.data.shards import ShardReader, Size, check_complete, index_path, whole_shard
from hvg.parts.context import Context
from hvg.parts.part import PartConfig
from hvg.parts.scene import Choose, Dataset, Holdings
from hvg.values.body import MESH_FIELDS
from hvg.values.clip import ClipBatch


class Shards(Dataset):
    """Reads ``<path>/<split>*.tar``."""

    class Config(PartConfig):
        path: str = Field(description="Folder of the shards.")
        split: str = Field("train", description="Beginning of the shards' file names.")
        mesh: bool = Field(
            False,
            description="Whether the clips carry the bare body's mesh (body.vertices, body.skinning).",
        )

    def __init__(self, config: Config, context: Context | None = None) -> None:
        super().__init__(config)
        paths = _paths(config)
        if not paths:
            raise DataError(f"{config.path}: no shard named {config.split}*.tar", then=PREPARE)
        shards = [ShardReader(path) for path in paths]
        check_complete({shard.path: shard.part for shard in shards})
        self._places = [(shard, i) for shard in shards for i in range(len(shard))]

    @classmethod
    def provides(cls, config: Config) -> frozenset[str]:
        mesh = MESH_FIELDS if config.mesh else set()
        # A shard that is missing or damaged is named when it is opened.
        shards = [whole_shard(path) for path in _paths(config)]
        captions = {"caption"} if shards and all(shard and shard.captions for shard in shards) else set()
        fixed = {"frames", "alpha", "cameras", "body", "reference", "task", "valid", "frame_index"}
        driving = (
            frozenset.intersection(*(shard.driving for shard in shards if shard)) if all(shards) and shards else ()
        )
        return frozenset({*fixed, *mesh, *captions, *driving})

    @classmethod
    def holdings(cls, config: Config) -> Holdings:
        found = {path: _known(path, path.stat().st_mtime_ns) for path in _paths(config)}
        if not found:
            # A configuration may be judged where its data are not.
            where = f"{config.path}: no shard named {config.split}*.tar is here"
            return Holdings(notes=(f"{where}, so whether its clips fit the run is not judged",))
        notes = check_complete({path: shard.part for path, shard in found.items()})
        return Holdings(
            sizes={clip: size for shard in found.values() for clip, size in shard.sizes.items()},
            subjects={clip: subject for shard in found.values() for clip, subject in shard.subjects.items()},
            digests={clip: digest for shard in found.values() for clip, digest in shard.digests.items()},
            captions={clip: text for shard in found.values() for clip, text in shard.texts.items()},
            notes=notes,
            lossy=", ".join(dict.fromkeys(shard.lossy for shard in found.values() if shard.lossy)) or None,
        )

    @classmethod
    def eight_bit(cls, config: Config) -> bool:
        return all(ShardReader(path).eight_bit for path in _paths(config))

    @classmethod
    def content(cls, config: Config) -> str:
        """Digest of the shards' indices; those that ``hvg`` wrote hold a digest of their shard."""
        paths = sorted(index_path(path) for path in Path(config.path).glob("*.tar"))
        return settings_digest([read_text(path) for path in paths if path.exists()])

    def __len__(self) -> int:
        return len(self._places)

    def load(self, index: int) -> ClipBatch:
        reader, place = self._places[index]
        return reader.load(place)

    def load_part(self, index: int, choose: Choose, signals: frozenset[str]) -> ClipBatch | None:
        reader, place = self._places[index]
        if not reader.signals >= signals:
            return None
        return reader.load_packed(place, choose, signals=signals)


def _paths(config: Shards.Config) -> list[Path]:
    return sorted(Path(config.path).glob(f"{config.split}*.tar"))


@dataclass(frozen=True)
class _Known:
    """Facts of a shard, as in ``ShardReader`` and ``Holdings``."""

    part: tuple[int, int] | None
    sizes: dict[str, Size]
    subjects: dict[str, str]
    digests: dict[str, str]
    texts: dict[str, str]
    lossy: str | None


@cache
def _known(path: Path, changed: int) -> _Known:
    """Facts of a shard, read once though every arm of a study asks. changed: when the shard was written."""
    shard = ShardReader(path)
    sizes, texts = dict(zip(shard.keys, shard.sizes, strict=True)), shard.texts if shard.captions else {}
    return _Known(shard.part, sizes, shard.subjects, shard.digests, texts, shard.lossy)
