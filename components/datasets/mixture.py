"""Clips of several datasets, so that one model learns of static, moving and single-camera footage together.

Source: GAS (arXiv 2502.06957), section 4.1, which mixes scans, multi-view and monocular videos, in shares that it does not state.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import torch
from pydantic import Field, model_validator

from hvg.core.digests import settings_digest
from hvg.core.errors import DataError, did_you_mean
from hvg.core.sources import source_digest
from hvg.data.signals import without_mesh
from hvg.parts.context import SceneContext
from hvg.parts.part import PartConfig, PartsByLabel
from hvg.parts.scene import Choose, Dataset, Holdings, told_size
from hvg.values.body import MESH_FIELDS
from hvg.values.clip import DRIVING_FIELDS, ClipBatch
from hvg.values.scored_clip import Surface

T = TypeVar("T")
# Fields of a clip that one dataset may have, and another not. (All have ``valid``: where none is given nothing is padded.)
_OPTIONAL = frozenset({"frames", "alpha", "body", "reference", "task", "frame_index", *DRIVING_FIELDS, "caption"})


def _agreed(setting: str) -> Any:
    """A property: what a setting of all members is; None where they differ."""

    def common(config: "MixtureConfig") -> Any:
        found = [getattr(member, setting, None) for _, member in config.parts_of("members").values()]
        return found[0] if all(value == found[0] for value in found) else None

    return property(common)


class MixtureConfig(PartConfig):
    """The datasets, by labels of one's own, and how often each is drawn."""

    members: Annotated[dict[str, dict[str, Any]], PartsByLabel("dataset")] = Field(
        min_length=1,
        max_length=64,
        description="Label -> a dataset's name and settings, as {scans: {name: thuman, root: data/thuman}}. Clips are called "
        "LABEL/CLIP; which split it is, the mixture says.",
    )
    weights: dict[str, Annotated[int, Field(ge=1, le=1000)]] = Field(
        {},
        max_length=64,
        description="Label -> of the sum of all weights, how many steps draw clips of this dataset; 1 where nothing is said. A "
        "dataset's own clips are drawn equally often.",
    )
    split: Literal["train", "val", "test"] = Field("train", description="Which clips of every dataset.")

    @model_validator(mode="after")
    def _fits(self) -> "MixtureConfig":
        for label, member in self.members.items():
            if member.get("name") == "mixture":
                raise ValueError(f"members.{label} is a mixture itself; name its members beside the others")
        for label in self.weights:
            if label not in self.members:
                raise ValueError(f"weights: no member is called '{label}'. {did_you_mean(label, self.members)}")
        return self

    def datasets(self) -> dict[str, tuple[type[Dataset], Any]]:
        """Label -> class and settings of each dataset, of this split. Raises: DataError for one that has no splits."""
        for label, (cls, _) in self.parts_of("members").items():
            if "split" not in cls.Config.model_fields:
                raise DataError(
                    f"dataset.members.{label}: the settings of '{self.members[label]['name']}' have no `split`"
                )
        return self.parts_of("members", split=self.split)

    # As of ``Dataset``, where all members agree.
    views, frames, image_size, distance, fov_degrees = map(
        _agreed, ("views", "frames", "image_size", "distance", "fov_degrees")
    )


class Mixture(Dataset[MixtureConfig]):
    """The clips of all members in turn: the first of each, then the second of each, and so on.

    Training draws a member for each step, by the weights, and of its clips a batch that fits one bucket. A clip holds what clips
    of every member hold.
    """

    beside_clips: ClassVar[frozenset[str]] = frozenset({"split", "weights"})

    def __init__(self, config: MixtureConfig, context: SceneContext) -> None:
        """Raises: DataError and ConfigError of a member that cannot be opened."""
        super().__init__(config, context)
        self._members = {label: cls(settings, context) for label, (cls, settings) in config.datasets().items()}
        self._names = {label: member["name"] for label, member in config.members.items()}
        self._places = list(_in_turn([[(label, i) for i in range(len(d))] for label, d in self._members.items()]))
        self._fields = self.provides(config)

    @classmethod
    def provides(cls, config: MixtureConfig) -> frozenset[str]:
        fields = [member.provides(settings) for member, settings in config.datasets().values()]
        return frozenset.intersection(*fields) | {"valid"}

    @classmethod
    def num_photos(cls, config: MixtureConfig) -> int | None:
        counts = [member.num_photos(settings) for member, settings in config.datasets().values()]
        return min((count for count in counts if count is not None), default=None)

    @classmethod
    def eight_bit(cls, config: MixtureConfig) -> bool:
        return all(member.eight_bit(settings) for member, settings in config.datasets().values())

    @classmethod
    def drives_itself(cls, config: MixtureConfig) -> bool:
        return any(member.drives_itself(settings) for member, settings in config.datasets().values())

    @classmethod
    def content(cls, config: MixtureConfig) -> str:
        """Digest of what the members' clips depend on, their code included."""
        datasets = config.datasets().values()
        return settings_digest([[source_digest(member.__module__), member.content(own)] for member, own in datasets])

    @classmethod
    def holdings(cls, config: MixtureConfig) -> Holdings:
        held = {
            label: _held(label, config.members[label]["name"], *found) for label, found in config.datasets().items()
        }
        parts = held.values()
        return Holdings(
            # All of them, or none.
            sizes=dict(_in_turn([list(h.sizes.items()) for h in parts])) if all(h.sizes for h in parts) else {},
            subjects=_merged(h.subjects for h in parts),
            digests=_merged(h.digests for h in parts),
            unusable=_merged(h.unusable for h in parts),
            notes=tuple(chain(*(h.notes for h in parts))),
            lossy=", ".join(dict.fromkeys(h.lossy for h in parts if h.lossy)) or None,
            weights={label: config.weights.get(label, 1) for label in held},
            captions=_merged(h.captions for h in parts) if "caption" in cls.provides(config) else {},
        )

    def __len__(self) -> int:
        return len(self._places)

    def load(self, index: int) -> ClipBatch:
        """Clip ``index``. Raises: IndexError outside the dataset; what the member raises."""
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} of a dataset with {len(self)} clips")
        label, place = self._places[index]
        return self._common(label, self._members[label].load(place))

    def load_part(self, index: int, choose: Choose, signals: frozenset[str]) -> ClipBatch | None:
        label, place = self._places[index]
        part = self._members[label].load_part(place, choose, signals)
        return part and self._common(label, part)

    def surface(self, index: int) -> Surface:
        label, place = self._places[index]
        return self._members[label].surface(place)

    def _common(self, label: str, clip: ClipBatch) -> ClipBatch:
        """A member's clip with the fields that all have, and the mixture's names."""
        clip = clip if self._fields >= MESH_FIELDS else without_mesh(clip)
        return replace(
            clip,
            **dict.fromkeys(clip.present() & _OPTIONAL - self._fields),
            valid=torch.ones(clip.grid, dtype=torch.bool) if clip.valid is None else clip.valid,
            clip_id=(f"{label}/{clip.clip_id[0]}",),
            subject=(_person(self._names[label], clip.subject[0]),),
        )


def _held(label: str, name: str, cls: type[Dataset], config: Any) -> Holdings:
    """Contents of a member's files by the mixture's names, with the sizes that its settings tell."""
    found, size = cls.holdings(config), told_size(config)
    sizes = found.sizes or (dict.fromkeys(found.subjects, size) if size else {})
    notes = [f"{label}: {note}" for note in found.notes]
    if not sizes and not notes:
        notes = [f"{label}: the dataset '{name}' does not tell the sizes of its clips, by which a mixture draws"]

    def renamed(clips: Mapping[str, T]) -> dict[str, T]:
        return {f"{label}/{clip}": value for clip, value in clips.items()}

    return replace(
        found,
        sizes=renamed(sizes),
        subjects={clip: _person(name, subject) for clip, subject in renamed(found.subjects).items()},
        digests=renamed(found.digests),
        unusable=renamed(found.unusable),
        captions=renamed(found.captions),
        notes=tuple(notes),
    )


def _person(name: str, subject: str) -> str:
    """Whom a clip of the dataset ``name`` shows: two of the same kind may show the same people, others do not."""
    return f"{name}/{subject}"


def _merged(parts: Iterator[Mapping[str, T]]) -> dict[str, T]:
    return {key: value for part in parts for key, value in part.items()}


def _in_turn(lists: Sequence[Sequence[T]]) -> Iterator[T]:
    """The first of each list, then the second of each that has one, and so on."""
    longest = max(map(len, lists), default=0)
    return (own[place] for place in range(longest) for own in lists if place < len(own))
