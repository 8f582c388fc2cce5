"""Checks that a checkpoint holds all that a run needs to go on: one made by others is signed all the same."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from hvg.core.checkpoint import MANIFEST, Checkpoint
from hvg.core.errors import CheckpointError

Count = Annotated[StrictInt, Field(ge=0)]
# Sections of a checkpoint that hold no state of the optimiser.
OTHERS = ("weights", "state")


class _Optimizer(BaseModel):
    """step: earlier versions wrote a number with a point."""

    step: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]


class _Schedule(BaseModel):
    last_epoch: Count


class _State(BaseModel):
    """The plain values that Lightning and the run read; there are others."""

    model_config = ConfigDict(extra="allow")
    config: StrictStr
    epoch: Count
    global_step: Count
    loops: dict[str, dict[str, Any]]
    callbacks: dict[str, dict[str, Any]]
    lr_schedulers: Annotated[list[_Schedule], Field(min_length=1, max_length=1)]
    # "adam": of earlier versions, which had no other.
    optimizer: _Optimizer = Field(validation_alias=AliasChoices("optimizer", "adam"))


def check_training_state(opened: Checkpoint) -> None:
    """Raises: CheckpointError for values that are missing or of another type, and for moments that do not fit their weights."""
    try:
        _State(**opened.state)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise _wrong(opened, f"{place}: {first['msg'].lower()}, got {_shown(first['input'])}") from None
    except TypeError as error:
        raise _wrong(opened, f"its names are no words: {error}") from None
    sections = opened.sections()
    for section in [section for section in sections if section not in OTHERS]:
        for name in sections[section]:
            kind, shape = opened.facts(f"{section}/{name}")
            weight = opened.facts(f"weights/{name}")[1] if name in sections.get("weights", ()) else None
            if shape != weight or not kind.startswith(("F", "BF")):
                raise _wrong(opened, f"{section}/{name} is {kind} {shape}, its weight {weight}")


def optimizer_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint's state says of the optimiser: ``step``, how many it has taken, and its ``groups``."""
    found = state["optimizer"] if "optimizer" in state else state["adam"]
    return {**found, "step": int(found["step"])}


def check_moments(opened: Checkpoint, sections: Sequence[str]) -> None:
    """Raises: CheckpointError where it lacks what an optimiser keeps of weights, as one that another optimiser trained."""
    missing = next((section for section in sections if section not in opened.sections()), None)
    if missing is not None:
        raise CheckpointError(
            f"{opened.path}: was trained by another optimiser: it holds no {missing}; choose that one with optimizer=..., or "
            f"start a new run with checkpoint={opened.path}"
        )


def check_loops(opened: Checkpoint, expected: Mapping[str, Any]) -> None:
    """Raises: CheckpointError where the counters of Lightning's loops lack something. expected: those of a new run."""
    problem = _unlike(expected, opened.state["loops"], "loops")
    if problem:
        raise _wrong(opened, problem)


def saved_config_of(opened: Checkpoint) -> str:
    """The configuration, as YAML. Raises: CheckpointError where there is none."""
    found = opened.state.get("config")
    if not isinstance(found, str):
        raise _wrong(opened, f"config: expected the text of a configuration, got {_shown(found)}")
    return found


def _unlike(expected: Any, given: Any, place: str) -> str | None:
    """First entry that is missing or of another type, in words; None where there is none."""
    if isinstance(expected, Mapping):
        if not isinstance(given, Mapping):
            return f"{place}: expected values by name, got {_shown(given)}"
        missing = next((key for key in expected if key not in given), None)
        if missing is not None:
            return f"{place}.{missing} is missing"
        return next(
            (found for key in expected if (found := _unlike(expected[key], given[key], f"{place}.{key}"))), None
        )
    if isinstance(expected, int) and type(expected) is not type(given):
        return f"{place}: expected {'true or false' if isinstance(expected, bool) else 'a number'}, got {_shown(given)}"
    return None


def _wrong(opened: Checkpoint, reason: str) -> CheckpointError:
    return CheckpointError(f"{opened.path}: {MANIFEST} does not describe a training state: {reason}")


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 40 else f"{text[:40]}..."
