"""Kind and name -> class. Names are listed without importing anything; only the chosen part is imported."""

import importlib
import inspect
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

from hvg.core.errors import HvgError, did_you_mean
from hvg.core.shipped import COMPONENTS, PARTS

# Version of ``hvg.plugin``, which parts are written against: it goes up with any change that breaks a part.
VERSION = 4
# Modules of bases that built-in parts alone are derived from: ``hvg.plugin`` does not have them.
BUILT_IN_ALONE = frozenset({"hvg.parts.feature_metric"})
# kind -> (room in components/, its interface)
KINDS: dict[str, tuple[str, str]] = {
    "adapter": ("adapters", "hvg.parts.adapter.Adapter"),
    "alignment": ("alignments", "hvg.parts.scene.Alignment"),
    "backbone": ("backbones", "hvg.parts.backbone.Backbone"),
    "body": ("bodies", "hvg.parts.scene.BodyModel"),
    "codec": ("codecs", "hvg.parts.model.Codec"),
    "conditioner": ("conditioners", "hvg.parts.model.Conditioner"),
    "dataset": ("datasets", "hvg.parts.scene.Dataset"),
    "encoder": ("encoders", "hvg.parts.map_encoder.MapEncoder"),
    "fit": ("fits", "hvg.parts.scene.Fit"),
    "guidance": ("guidance", "hvg.parts.plan.Guidance"),
    "keypoints": ("keypoints", "hvg.parts.metric.KeypointRegressor"),
    "metric": ("metrics", "hvg.parts.metric.Metric"),
    "optimizer": ("optimizers", "hvg.parts.optimizer.Optimizer"),
    "prediction": ("predictions", "hvg.parts.model.Prediction"),
    "reconstructor": ("reconstructors", "hvg.parts.reconstructor.Reconstructor"),
    "refiner": ("refiners", "hvg.parts.refiner.Refiner"),
    "renderer": ("renderers", "hvg.parts.scene.Renderer"),
    "sampler": ("samplers", "hvg.parts.plan.Sampler"),
    "solver": ("solvers", "hvg.parts.plan.Solver"),
    "system": ("systems", "hvg.parts.system.System"),
    "text_encoder": ("text_encoders", "hvg.parts.text_encoder.TextEncoder"),
    "view_attention": ("view_attention", "hvg.parts.view_attention.ViewAttention"),
}


class UnknownPartError(HvgError):
    """No part of that kind has that name."""


class PartImportError(HvgError):
    """A part was found but its module cannot be imported (the cause is chained), or holds no part of the kind."""


@cache
def _plugins() -> dict[tuple[str, str], EntryPoint]:
    """Entry points of the group ``hvg.components``; an entry is named ``<kind>.<name>``."""
    found: dict[tuple[str, str], EntryPoint] = {}
    for entry in entry_points(group="hvg.components"):
        kind, _, name = entry.name.partition(".")
        found.setdefault((kind, name), entry)
    return found


@cache
def _rivals(kind: str, name: str) -> list[str]:
    """The different things that installed packages register under one name; one, unless two packages do."""
    return sorted({entry.value for entry in entry_points(group="hvg.components", name=f"{kind}.{name}")})


@cache
def _builtin(kind: str) -> frozenset[str]:
    files = (COMPONENTS / KINDS[kind][0]).glob("*.py")
    return frozenset(path.stem for path in files if not path.stem.startswith("_"))


def names(kind: str) -> list[str]:
    """Every registered name of a kind, sorted; imports nothing."""
    return sorted(_builtin(kind) | {name for k, name in _plugins() if k == kind})


def unknown_kinds() -> list[str]:
    """Warnings on parts of other packages of an unknown kind, a line each: nothing can choose them."""
    return [
        f"'{entry.name}' of package '{origin(kind, name)}': entry points of hvg.components are named <kind>.<name>, and there "
        f"is no kind '{kind}'. {did_you_mean(kind, KINDS)}"
        for (kind, name), entry in _plugins().items()
        if kind not in KINDS
    ]


def origin(kind: str, name: str) -> str:
    """Origin of a part: ``built-in`` or the distribution that registers it."""
    entry = _plugins().get((kind, name))
    if entry is None:
        return "built-in"
    return entry.dist.name if entry.dist else entry.value


def load(kind: str, name: str) -> type[Any]:
    """The class of a part.

    Raises: UnknownPartError with the nearest name; PartImportError, naming the package, when its module fails or what it
    registers is no part of that kind.
    """
    entry = _plugins().get((kind, name))
    if entry is None and name not in _builtin(kind):
        raise UnknownPartError(
            f"no {kind} is named '{name}'. {did_you_mean(name, names(kind))}".strip(), then=f"hvg list {kind}"
        )
    if entry and len(rivals := _rivals(kind, name)) > 1:
        raise PartImportError(f"two installed packages register the {kind} '{name}': {' and '.join(rivals)}")
    # Anything may go wrong in somebody else's module, which may even leave Python; in one of ours only a missing library is
    # the user's to mend.
    expected = (Exception, SystemExit) if entry else ImportError
    owner = f" of package '{origin(kind, name)}'" if entry else ""
    try:
        if not entry:
            return _only_class(kind, importlib.import_module(f"{PARTS}.{KINDS[kind][0]}.{name}"))
        cls = entry.load()
    except expected as error:
        raise PartImportError(
            f"the {kind} '{name}'{owner} cannot be imported: {type(error).__name__}: {' '.join(str(error).split())}"
        ) from error
    problem = interface_problem(cls, _interface(kind))
    if problem:
        raise PartImportError(f"the {kind} '{name}'{owner}: {entry.value} {problem}")
    return cls


def interface_problem(cls: Any, interface: Any) -> str | None:
    """Why a class is no part of the kind with this interface; None where it is one. Classes are named as hvg.plugin has them."""
    if not _is_subclass(cls, interface):
        return f"is no subclass of {_opened(interface)}"
    if not _is_subclass(getattr(cls, "Config", None), interface.Config):
        return f"has a Config that is no subclass of {_opened(interface.Config)}"
    if cls.made_for not in (None, VERSION):
        return f"was made for version {cls.made_for} of hvg.plugin; this is version {VERSION}"
    missing = [method for method in dir(cls) if _is_abstract(cls, method)]
    if not missing:
        return None
    # The nearest base that asks for them is the one that its author derived it from.
    ours = [base for base in cls.__mro__[1:] if base.__module__.startswith("hvg.")]
    asking = (base for base in ours if all(_is_abstract(base, method) for method in missing))
    return f"does not define {', '.join(missing)} of {_opened(next(asking, interface))}"


def _is_abstract(cls: type[Any], method: str) -> bool:
    return getattr(getattr(cls, method, None), "__isabstractmethod__", False)


def _opened(cls: type[Any]) -> str:
    """A class of hvg by the name that a part imports it by."""
    return f"{cls.__module__ if cls.__module__ in BUILT_IN_ALONE else 'hvg.plugin'}.{cls.__name__}"


def _is_subclass(cls: Any, of: Any) -> bool:
    return inspect.isclass(cls) and issubclass(cls, of)


def _interface(kind: str) -> type[Any]:
    module, _, name = KINDS[kind][1].rpartition(".")
    return getattr(importlib.import_module(module), name)


def _only_class(kind: str, module: ModuleType) -> type[Any]:
    """The one class that a built-in module defines for its kind."""
    interface = _interface(kind)
    classes = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, interface) and value.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise HvgError(f"{module.__name__} has to define exactly one {interface.__name__}, it defines {len(classes)}")
    return classes[0]
