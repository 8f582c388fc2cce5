"""Interfaces of the swappable parts. A part is one file in components/; its file name is its registered name.

Every part carries a ``Config`` (a frozen ``PartConfig`` that forbids unknown keys) and is built as ``Part(config, context)``.
Sizes are negotiated before any weight exists: ``Backbone.ports`` -> ``Conditioner.spec`` -> constructors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, cast, get_args

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypeVar

from hvg.parts import registry

if TYPE_CHECKING:
    from hvg.parts.context import Context


@dataclass(frozen=True)
class PartName:
    """Marks a setting as the registered name of another part, which is judged and built with the one that names it.

    kind: of that part. settings: the setting beside it that holds that part's own settings. As in
    ``regressor: Annotated[str, PartName("keypoints", settings="regressor_settings")]``.
    """

    kind: str
    settings: str


@dataclass(frozen=True)
class PartsByLabel:
    """Marks a setting as parts by labels of the user's: label -> the ``name`` of each, and its settings beside it.

    They are judged with the part that holds them. kind: of those parts. As in
    ``members: Annotated[dict[str, dict[str, Any]], PartsByLabel("dataset")]``.
    """

    kind: str


class PartConfig(BaseModel):
    """Settings of one part: frozen, strict, numbers finite, every field documented by ``Field(description=...)``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def inner_parts(cls) -> dict[str, PartName]:
        """The settings that name another part."""
        return cls._marked(PartName)

    @classmethod
    def labelled_parts(cls) -> dict[str, PartsByLabel]:
        """The settings that hold parts by label."""
        return cls._marked(PartsByLabel)

    @classmethod
    def _marked(cls, kind: type[MarkT]) -> dict[str, MarkT]:
        marks = {name: field.metadata for name, field in cls.model_fields.items()}
        return {name: mark for name, found in marks.items() for mark in found if isinstance(mark, kind)}

    def inner_part(self, name: str) -> tuple[type[Any], PartConfig]:
        """Class and settings of the part that the setting ``name`` names.

        Raises: UnknownPartError, PartImportError; ValidationError for settings that it does not have.
        """
        inner = self.inner_parts()[name]
        cls = registry.load(inner.kind, getattr(self, name))
        return cls, cls.Config(**getattr(self, inner.settings))

    def parts_of(self, name: str, **changed: Any) -> dict[str, tuple[type[Any], Any]]:
        """Label -> class and settings, of the parts that the setting ``name`` holds. changed: settings that all of them get.

        Raises: as of ``inner_part``.
        """
        kind, found = self.labelled_parts()[name].kind, dict[str, tuple[type[Any], Any]]()
        for label, given in getattr(self, name).items():
            cls = registry.load(kind, given["name"])
            settings = {key: value for key, value in given.items() if key != "name"}
            found[label] = cls, cls.Config(**{**settings, **changed})
        return found


MarkT = TypeVar("MarkT")
# Settings of a part. Of one whose ``Config`` stands inside it, and so cannot be named before it, type checkers know nothing.
ConfigT = TypeVar("ConfigT", bound=PartConfig, default=Any)


class _Plain:
    """Python compares how the bases of classes are laid out where an object is given another class, as ``fully_shard`` does with
    modules; one below ``Generic`` alone is refused.
    """


class Part(_Plain, Generic[ConfigT]):
    """Anything that can be chosen by name.

    ``Config`` is its settings class: the type parameter, as in ``class Pairs(Sampler[PairsConfig])``, or what is called so.
    It is built as ``Part(config, context)``; one that makes nothing of its own when it is built needs no constructor.
    made_for: the ``VERSION`` that a part of somebody's own was written against; it is refused by an hvg of another one.
    """

    Config: ClassVar[type[PartConfig]] = PartConfig
    made_for: ClassVar[int | None] = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        named = (argument for base in vars(cls).get("__orig_bases__", ()) for argument in get_args(base))
        for argument in named:
            if "Config" not in vars(cls) and isinstance(argument, type) and issubclass(argument, PartConfig):
                cls.Config = argument

    def __init__(self, config: ConfigT | None = None, context: Context | None = None) -> None:
        """config: None only for parts that have no settings and are not chosen by name."""
        super().__init__()
        self.config = cast(ConfigT, config)

    def frozen(self) -> Mapping[str, Any]:
        """Published models that it uses and never trains, by their component name in a diffusers pipeline (``vae``).

        A part that has some reads them from the pipeline folder or hub id in its setting ``path``; exports hold them.
        """
        return {}

    def adopt(self, components: Mapping[str, Any]) -> None:
        """Uses those of the components that ``frozen`` names, instead of its own."""
