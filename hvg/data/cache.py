"""Clips that were prepared: where they lie, and datasets that read them."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path

from hvg import __version__
from hvg.config.buckets import shortened_clips
from hvg.config.build import observed, true_clips
from hvg.config.settings import RunConfig
from hvg.core.digests import settings_digest
from hvg.core.errors import DataError
from hvg.core.next_commands import PREPARE_LATENTS
from hvg.core.sources import source_digest
from hvg.data.clip_files import as_kept
from hvg.data.features import encodings
from hvg.data.latents import (
    EncodedClips,
    EncodedFile,
    Encoding,
    StoredClips,
    encoded_path,
    trained_sizes,
    wanted_images,
)
from hvg.data.picture_files import PictureFormat
from hvg.data.shards import SHARD_FORMAT, ShardReader
from hvg.data.signals import NO_SIGNALS, Signals, is_drawn_ahead, mesh_readers, signal_keys, signals_of
from hvg.parts.model import Codec, Conditioner
from hvg.parts.scene import Choose, ClipsOf, Dataset, ResizedClips
from hvg.values.buckets import Picture, evaluated_size
from hvg.values.clip import ClipBatch
from hvg.values.scored_clip import Surface


def picture_format(config: RunConfig, split: str) -> PictureFormat:
    """How the clips of a split are kept: those that a model is scored on to the bit, whatever is asked for training."""
    kind, quality = config.data.images, config.data.quality
    asked = PictureFormat(kind, 95 if kind == "jpeg" and quality is None else quality)
    return asked if split == "train" else asked.exact


def missing_from_cache(config: RunConfig) -> str | None:
    """Line on what ``data.cache`` lacks, so that training makes it at every step; None where nothing is missing."""
    if config.data.cache is None:
        return None
    place, shards = f"data.cache={config.data.cache}", [*map(ShardReader, shard_paths(config, "train"))]
    kept = frozenset.intersection(*(shard.signals for shard in shards)) if shards else frozenset[str]()
    slots = {f"{slot}={choice.name}": choice for slot, choice in config.conditioners.items()}
    wanted = zip(slots.items(), signal_keys(config).values(), strict=True)
    drawn = [word for (word, choice), key in wanted if is_drawn_ahead(choice) and key not in kept]
    meshes = [] if all(shard.meshes for shard in shards) else mesh_readers(config)
    made = "clips are made, and control maps drawn, while training, which may take most of a step (`data` in the progress line)"
    remedy = "`hvg prepare` with the words of this run makes them ahead (with pose=all for every pose)"
    if not config.data.cache.is_dir():
        return f"{place}: there is no such folder; {made}; {remedy}"
    if not shards:
        return f"{place}: no clips are prepared for these dataset settings, in {cache_folder(config).name}; {made}; {remedy}"
    if meshes:
        return f"{place}: the meshes that {', '.join(meshes)} reads are not prepared; {made}; {remedy}"
    if drawn:
        return f"{place}: the control maps of {', '.join(drawn)} are not prepared; {made}; {remedy}"
    return None


def cache_folder(config: RunConfig) -> Path:
    """Folder of a run's rendered clips, whose name changes with every setting they depend on, and the code.

    They hold true bodies; a map that was drawn of a fit has a key that says so.
    """
    choice = config.dataset
    settings = choice.config.model_dump(mode="json", exclude=set(choice.cls.beside_clips))
    code = [source_digest(part.cls.__module__) for part in (choice, config.body, config.renderer)]
    parts = [choice.name, settings, config.body.resolved(), config.renderer.resolved(), SHARD_FORMAT, __version__, code]
    # PNG has no word, so that what was prepared before there were others stays in use.
    parts += [] if config.data.images == "png" else [str(picture_format(config, "train"))]
    contents = filter(None, (part.cls.content(part.config) for part in (choice, config.body)))
    name = settings_digest([*parts, *contents])
    return Path(config.data.cache or "cache") / f"{choice.name}-{name}"


class AsKept(ClipsOf):
    """Clips whose pictures are what files with loss keep of them, whether they lie in files or not."""

    def __init__(self, clips: Dataset, form: PictureFormat) -> None:
        super().__init__(clips)
        self._form = form

    def load(self, index: int) -> ClipBatch:
        return as_kept(self._source.load(index), self._form)


class RenderedClips(ClipsOf):
    """Clips from shards; meshes only where ``mesh`` asks for them.

    A clip whose shard lacks a wanted control map, or the mesh, is made anew by the source, mesh and all.
    """

    def __init__(self, shards: Sequence[Path], source: Dataset, wanted: frozenset[str], mesh: bool = False) -> None:
        super().__init__(source)
        readers = [ShardReader(path) for path in shards]
        self._places = [(reader, i) for reader in readers for i in range(len(reader))]
        self._wanted, self._mesh = wanted, mesh
        # Places in the source of clips that cannot be used, which no shard holds.
        starts = accumulate((len(reader) + len(reader.left_out) for reader in readers), initial=0)
        self._gaps = sorted(
            start + place for start, reader in zip(starts, readers, strict=False) for place in reader.left_out
        )

    def __len__(self) -> int:
        return len(self._places)

    def load(self, index: int) -> ClipBatch:
        reader, place = self._places[index]
        if not self._holds(reader, self._wanted):
            return self._source.load(self._in_source(index))
        return reader.load(place, signals=self._wanted, mesh=self._mesh)

    def load_part(self, index: int, choose: Choose, signals: frozenset[str]) -> ClipBatch | None:
        reader, place = self._places[index]
        if not self._holds(reader, self._wanted | signals):
            return None
        return reader.load_packed(place, choose, signals=signals, mesh=self._mesh)

    def _holds(self, reader: ShardReader, wanted: frozenset[str]) -> bool:
        return reader.signals >= wanted and (reader.meshes or not self._mesh)

    def surface(self, index: int) -> Surface:
        return self._source.surface(self._in_source(index))

    def _in_source(self, index: int) -> int:
        """Place of a clip among those of the source."""
        for gap in self._gaps:
            index += gap <= index
        return index


def shard_paths(config: RunConfig, split: str) -> list[Path]:
    """The finished shards of a split in the cache; empty when one is missing."""
    found = sorted(cache_folder(config).glob(f"{split}-*-of-*.tar"))
    return found if found and len(found) == int(found[0].stem.rsplit("-", 1)[1]) else []


def open_clips(config: RunConfig, split: str, signals: Signals = NO_SIGNALS) -> Dataset:
    """The clips of a split, to look at whole: from the cache where it was prepared, else made on the fly; their pictures at a
    size that ``data.buckets`` names, where it names sizes.

    signals: the control maps, and the mesh, that will be asked of the clips.
    """
    clips, buckets = clips_at_own_size(config, split, signals), config.data.trained_buckets
    if not any(bucket.size for bucket in buckets):
        return clips
    return ResizedClips(clips, partial(evaluated_size, buckets), signals.codes)


def clips_at_own_size(config: RunConfig, split: str, signals: Signals) -> Dataset:
    """The clips of a split at their own size."""
    source, form = true_clips(config, split), picture_format(config, split)
    source = AsKept(source, form) if form.is_lossy else source
    paths = shard_paths(config, split) if config.data.cache else []
    clips = RenderedClips(paths, source, frozenset(signals.ahead), signals.mesh) if paths else source
    return observed(config, clips)


def open_training_clips(config: RunConfig, codec: Codec, conditioners: Mapping[str, Conditioner]) -> Dataset:
    """The clips that training reads; with ``data.latents=cached``, what ``hvg prepare latents`` made of them.

    conditioners: by slot. Raises: DataError where something was not prepared for these settings and weights, or is damaged.
    """
    signals = signals_of(config, conditioners)
    if config.data.latents == "encode":
        return clips_at_own_size(config, "train", signals)
    shards = [ShardReader(path) for path in shard_paths(config, "train")]
    if not shards or not all(shard.signals >= signals.ahead.keys() for shard in shards):
        raise _unprepared(cache_folder(config), "the clips are not rendered with all control maps of this run")
    for problem in shortened_clips(config, (size for shard in shards for size in shard.sizes)):
        raise DataError(str(problem))
    made = encodings(config, codec, conditioners.values())
    files = {place: opened for shard in shards for place, opened in _encoded_files(config, shard, made).items()}
    clips = StoredClips(shards, wanted_images(config), frozenset(signals.ahead))
    return EncodedClips(observed(config, clips), made, files)


def _encoded_files(
    config: RunConfig, shard: ShardReader, made: Sequence[Encoding]
) -> dict[tuple[str, Picture], list[EncodedFile]]:
    """Clip and size of its pictures in training -> the files of what was made of it, one for each encoding."""
    found, own = {}, {clip: (size[2], size[3]) for clip, size in zip(shard.keys, shard.sizes, strict=True)}
    for size, clips in trained_sizes(config, shard).items():
        paths = [encoded_path(shard.path, encoding.name, size) for encoding in made]
        for encoding, path in zip(made, paths, strict=True):
            if not path.exists():
                raise _unprepared(path.parent, f"there are no {encoding.what}")
        captions = {clip: shard.texts[clip] for clip in clips}
        opened = [EncodedFile(path, encoding.keys(captions)) for encoding, path in zip(made, paths, strict=True)]
        found |= {(clip, size or own[clip]): opened for clip in clips}
    return found


def _unprepared(folder: Path, reason: str) -> DataError:
    return DataError(
        f"data.latents=cached: {reason} in {folder}, whose name stands for the settings, the alignment and the weights of "
        "the frozen networks; make them with the words of this run, or use data.latents=encode",
        then=PREPARE_LATENTS,
    )
