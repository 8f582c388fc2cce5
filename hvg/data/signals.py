"""Control maps of clips: their keys, who draws them, which of them files hold, and what a batch carries for them.

Parts say what a map is (``Conditioner``); whoever stores, loads or shows one asks here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch

from hvg.config.build import build_conditioners
from hvg.config.settings import PartChoice, RunConfig
from hvg.core.digests import settings_digest
from hvg.core.eight_bit import signal_as_stored
from hvg.core.errors import HvgError
from hvg.core.labels import readable
from hvg.core.names import check_clip_names
from hvg.core.sources import source_digest
from hvg.parts.control_map import map_problem
from hvg.parts.model import Conditioner
from hvg.parts.scene import Dataset
from hvg.values.body import MESH_FIELDS
from hvg.values.clip import ClipBatch, Reference
from hvg.values.packed import unpacked
from hvg.values.resized import with_codes

HasBody = TypeVar("HasBody", ClipBatch, Reference)


def signal_key(choice: PartChoice[Conditioner], fit: Sequence[Any] = ()) -> str:
    """Name under which a conditioner's map is stored; it changes with every setting of the map, not of the encoder.

    And with the code that draws it, and the files that it looks at, so that a map of others is drawn anew. fit: as of
    ``fit_origin``.
    """
    settings = choice.config.model_dump(mode="json", exclude=set(choice.cls.not_made_ahead()))
    content = filter(None, [choice.cls.content(choice.config)])
    return f"{choice.name}-{settings_digest([settings, source_digest(choice.cls.__module__), *fit, *content], 6)}"


def fit_origin(config: RunConfig) -> list[Any]:
    """All that a run's observed bodies depend on besides the true ones; nothing where they are the true ones."""
    choice, body = config.fit, config.body
    if not choice.cls.changes(choice.config):
        return []
    code = [source_digest(part.cls.__module__) for part in (choice, body)]
    return [choice.resolved(), body.resolved(), body.cls.content(body.config), code]


def signal_label(key: str) -> str:
    """Label of the part that draws a control map, by the map's key (``smpl_normal-1a2b3c``)."""
    return readable(key.rpartition("-")[0])


def signal_keys(config: RunConfig) -> dict[str, str]:
    """Slot -> the key of its map, which it may not draw."""
    fit = fit_origin(config)
    return {slot: signal_key(choice, fit) for slot, choice in config.conditioners.items()}


def is_drawn_ahead(choice: PartChoice[Conditioner]) -> bool:
    """Whether a conditioner draws a map that does not depend on the views and frames drawn together: clips may carry it."""
    return choice.cls.has_signal() and choice.cls.per_picture(choice.config)


def drawn_keys(config: RunConfig) -> list[str]:
    """Keys of a run's maps that can be drawn ahead."""
    keys = signal_keys(config)
    return [keys[slot] for slot, choice in config.conditioners.items() if is_drawn_ahead(choice)]


def mesh_readers(config: RunConfig) -> list[str]:
    """The choices of a run, as words, that read the bodies' meshes of what a step sees."""
    found = [
        f"{slot}={choice.name}"
        for slot, choice in config.conditioners.items()
        if choice.cls.mesh_in_step(choice.config)
    ]
    part = config.parts.get("reconstructor")
    reads = part is not None and not MESH_FIELDS.isdisjoint(part.cls.needs(part.config))
    return [*found, f"reconstructor={part.name}"] if part is not None and reads else found


@dataclass(frozen=True, eq=False)
class Signals(Mapping[str, Conditioner]):
    """Key -> the conditioner that draws the map.

    mesh: whether a step needs the body's mesh besides, for these or for conditioners without a map.
    """

    parts: Mapping[str, Conditioner] = field(default_factory=dict)
    mesh: bool = False

    @classmethod
    def of(cls, conditioners: Mapping[str, Conditioner]) -> "Signals":
        """Those of conditioners by key, of which some may draw no map."""
        drawing = {key: part for key, part in conditioners.items() if part.has_signal()}
        return cls(drawing, any(part.mesh_in_step(part.config) for part in conditioners.values()))

    def __getitem__(self, key: str) -> Conditioner:
        return self.parts[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def __or__(self, other: "Signals") -> "Signals":
        return Signals({**self.parts, **other.parts}, self.mesh or other.mesh)

    @property
    def ahead(self) -> "Signals":
        """Those that clips may carry, for which no step needs a mesh (``is_drawn_ahead``)."""
        return Signals({key: part for key, part in self.items() if part.per_picture(part.config)})

    @property
    def photo_colours(self) -> dict[str, tuple[int, int, int, int]]:
        """Key -> the channels that hold colours of the photo, of the maps that clips may carry."""
        found = {key: part.photo_colours(part.config) for key, part in self.ahead.items()}
        return {key: channels for key, channels in found.items() if channels is not None}

    def draw(self, clip: ClipBatch) -> ClipBatch:
        """The clip with each of these maps and no other, rounded to what a file holds of it; those it carries are kept.

        Raises: HvgError where what a part draws is no control map of its.
        """
        signals, missing = dict(clip.signals), self.keys() - clip.signals.keys()
        seen = unpacked(clip) if missing else clip
        for key, part in self.items():
            if key in missing:
                with torch.no_grad():
                    signal: Any = part.signal(seen)
                problem = map_problem(part, signal, seen)
                if problem:
                    raise HvgError(f"{type(part).__name__}: {problem}")
                signals[key] = signal_as_stored(signal, part.signal_storage(part.config))
        return replace(clip, signals={key: signals[key] for key in self if key in signals})

    def draw_ahead(self, clip: ClipBatch) -> ClipBatch:
        """The clip with the maps that can be drawn ahead, and without its mesh unless a step needs it."""
        clip = self.ahead.draw(clip)
        return clip if self.mesh else without_mesh(clip)

    @property
    def codes(self) -> dict[str, Sequence[int]]:
        """Key -> the channels of the map that are codes (``Conditioner.codes``), where it has some."""
        found = {key: part.codes(part.config) for key, part in self.items()}
        return {key: channels for key, channels in found.items() if channels}

    def shrunk(self, clip: ClipBatch, factor: int) -> ClipBatch:
        """The clip with pictures whose sides are divided by ``factor``, as of ``ClipBatch.shrunk``; codes stay codes."""
        small = clip.shrunk(factor)
        return replace(small, signals=with_codes(clip.signals, small.signals, self.codes))

    def load(self, clips: Dataset, index: int) -> ClipBatch:
        """Clip ``index``, as of ``draw_ahead``. Raises: HvgError for a clip id that cannot be the name of a file."""
        clip = clips.load(index)
        check_clip_names(clip.clip_id)
        return self.draw_ahead(clip)


# Neither maps nor a mesh.
NO_SIGNALS = Signals()


def signals_of(config: RunConfig, conditioners: Mapping[str, Conditioner]) -> Signals:
    """The maps of a run. conditioners: by slot."""
    return Signals.of({key: conditioners[slot] for slot, key in signal_keys(config).items()})


def signals_of_all(configs: Sequence[RunConfig]) -> Signals:
    """The maps of all configurations, whose conditioners are built for it."""
    found = NO_SIGNALS
    for config in configs:
        if not config.conditioners:
            continue
        found |= signals_of(config, build_conditioners(config)[1])
    return found


def without_mesh(clip: ClipBatch) -> ClipBatch:
    """The clip without the mesh of its bodies, which few need once the maps are drawn."""
    photo = clip.reference and _bare(clip.reference)
    return replace(_bare(clip), reference=photo)


def _bare(value: HasBody) -> HasBody:
    """A clip or a photo without the mesh of its bodies."""
    bodies = {"body": value.body, "true_body": value.true_body}
    return replace(value, **{name: x and x.without_mesh() for name, x in bodies.items()})
