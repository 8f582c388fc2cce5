"""Changes between a run's earlier settings and those it is to go on with, and which of them are allowed."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from hvg.config.parsing import parse, read_yaml
from hvg.config.settings import RENAMED, SLOTS, PartChoice, RunConfig
from hvg.config.stages import stages_of
from hvg.core.errors import ConfigError, Problem, did_you_mean
from hvg.core.files import write_text
from hvg.core.next_commands import MANUAL
from hvg.parts.continued import Continued

# How a start is asked for; no property of the run, so not worth a word where it changes.
OF_A_START = ("resume", "resume_world", "resume_changes")
# Words on a protocol, which change no number.
EXPLANATIONS = ("source", "left_open", "videos")
NO_CHANGE = frozenset({*OF_A_START, *(f"protocol.{name}" for name in EXPLANATIONS)})


@dataclass(frozen=True)
class Change:
    """A setting that was another one. path: as an override names it; a part that was replaced is one change, by its key."""

    path: str
    was: Any
    now: Any
    continued: Continued | None

    def __str__(self) -> str:
        return f"{self.path}: was {_shown(self.was)}, now {_shown(self.now)}"


def earlier_config(text: str, where: str) -> RunConfig:
    """A configuration that was trained with, as this version reads it: settings that it lacks have their defaults.

    Unlike ``hvg.config.composition.parse_resolved`` it does not ask whether the parts fit together: they did. Raises:
    ConfigError for
    settings that this version does not have; ``where`` names the place of the text.
    """
    try:
        raw = read_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError([Problem(where, f"holds a configuration that is no YAML: {error}")]) from error
    config, _, problems = parse(raw)
    if problems:
        raise ConfigError(
            [replace(p, path=f"{where}: {p.path}", message=f"of an earlier version: {p.message}") for p in problems]
        )
    return config


def changes(was: RunConfig, now: RunConfig) -> list[Change]:
    """Changes of every setting that differs, but for how a start is asked for and what explains a protocol.

    Of a run with stages those of each, as ``stages.LABEL.KEY``; the last one's by their own names.
    """
    before, after = ({stage.label: stage for stage in stages_of(config)} for config in (was, now))
    found = list[Change]()
    if [*before] != [*after]:
        grown = [*after][: len(before)] == [*before]
        found.append(Change("stages", [*was.stages], [*now.stages], Continued.LONGER if grown else None))
    *_, last = after
    compared = before.get(last) if before.keys() & after.keys() else [*before.values()][-1]
    common = [] if compared is None else _changes(compared.config, after[last].config)
    for label in [label for label in after if label in before and label != last]:
        own = _changes(before[label].config, after[label].config)
        # What changes alike in the last stage is said once, but for the length of each.
        own = [change for change in own if change.path == "training.steps" or change not in common]
        found += [replace(change, path=f"stages.{label}.{change.path}") for change in own]
    begins = [(label, before[label].begins, after[label].begins) for label in after if label in before]
    found += [Change(f"stages.{label}.begins", was, now, None) for label, was, now in begins if was != now]
    return [*found, *common]


def _changes(was: RunConfig, now: RunConfig) -> list[Change]:
    before, after = _settings(was), _settings(now)
    found = [
        Change(path, before.get(path), after.get(path), mark_of(now if path in after else was, path))
        for path in dict.fromkeys([*after, *before])
        if before.get(path) != after.get(path) and path not in NO_CHANGE
    ]
    # Settings of another part are no changes of their own.
    replaced = {*_parts(was), *_parts(now)}.intersection(change.path for change in found)
    return [change for change in found if not replaced.intersection(_parents(change.path))]


def same_results(text: str, where: str, config: RunConfig) -> bool:
    """Whether a configuration gives the same weights and scores as another, written as YAML."""
    return text == config.to_yaml() or all(
        change.continued is Continued.FREE for change in changes(earlier_config(text, where), config)
    )


def judged_changes(
    was: RunConfig, now: RunConfig, where: str, *, step: int = 0, clips: tuple[int, int] | None = None
) -> list[Change]:
    """Changes between a run's checkpoint and the configuration that is to continue it, all of them allowed.

    where: names the checkpoint. step: at which it stands. clips: that a step saw, and is to see; None where that is not known.
    Raises: ConfigError with every setting that changes what is trained and that ``resume_changes`` does not name, and with
    names there that are no setting.
    """
    found, settled = changes(was, now), _settled(was, now, step)
    ends = step >= now.last_step
    meant = {name: RENAMED.get(name, name) for name in now.resume_changes}
    named = () if ends else tuple(meant.values())
    refused = [
        change
        for change in found
        if change.path in settled or not (_may_change(change, ends, clips) or _named(change.path, named))
    ]
    problems = [Problem(change.path, f"was {_shown(change.was)}, now {_shown(change.now)}.") for change in refused]
    known = {parent for path in (*_paths(was), *_paths(now)) for parent in (path, *_parents(path))}
    unknown = [name for name, place in meant.items() if place not in known]
    problems += [
        Problem("resume_changes", f"no setting is named '{name}'. {did_you_mean(name, known)}", MANUAL)
        for name in unknown
    ]
    if refused:
        over = any(change.path in settled for change in refused)
        problems.append(Problem("resume", f"{where} was trained otherwise: {_way_out(refused, step, ends, over)}."))
    if problems:
        raise ConfigError(problems)
    return found


def _settled(was: RunConfig, now: RunConfig, step: int) -> frozenset[str]:
    """Paths of what no word changes in a run that stands at a step: how long stages were that are over, and which have begun."""
    stages = [stage for stage in stages_of(was) if stage.first <= step]
    over = {f"stages.{stage.label}.training.steps" for stage in stages if stage.last <= step}
    begun = [stage.label for stage in stages]
    same = [stage.label for stage in stages_of(now)][: len(begun)] == begun
    return frozenset(over if same else {*over, "stages"})


def _paths(config: RunConfig) -> Iterator[str]:
    """Paths of all settings, of every stage too."""
    yield from _settings(config)
    for stage in stages_of(config) if config.stages else ():
        yield from (f"stages.{stage.label}.{path}" for path in ("begins", *_settings(stage.config)))


def _way_out(refused: Sequence[Change], step: int, ends: bool, over: bool) -> str:
    """Advice for the user about changes that are refused. over: whether one is of a stage that is over."""
    if over:
        return (
            f"it stands at step {step}, and what its stages were up to there stays; for another run choose another name"
        )
    if ends:
        return f"it stands at step {step}, where nothing is left to train; for another run choose another name"
    names = ",".join(change.path for change in refused)
    return f"to change that from here on say resume_changes=[{names}]; for another run choose another name"


def keep_config(folder: Path, text: str) -> str:
    """Keeps a configuration in a run folder, each once; the name of its file."""
    kept = sorted((folder / "configs").glob("*.yaml"))
    for path in kept:
        if path.read_text(encoding="utf-8") == text:
            return f"configs/{path.name}"
    name = f"configs/{len(kept):04d}.yaml"
    write_text(folder / name, text)
    return name


def _may_change(change: Change, ends: bool, clips: tuple[int, int] | None) -> bool:
    """Whether a change is allowed without naming it in ``resume_changes``. ends: whether nothing is left to train."""
    if change.continued is Continued.LONGER:
        return ends or change.now > change.was
    if change.continued is Continued.SHARED:
        # The numbers are those of the last stage.
        return not change.path.startswith("stages.") and (clips is None or clips[0] == clips[1])
    return change.continued is not None


def _named(path: str, names: Sequence[str]) -> bool:
    return path in names or not set(_parents(path)).isdisjoint(names)


def _parents(path: str) -> Iterator[str]:
    """``a`` and ``a.b`` of ``a.b.c``."""
    keys = path.split(".")
    return (".".join(keys[:count]) for count in range(1, len(keys)))


def _settings(config: RunConfig) -> dict[str, Any]:
    """Path -> value, of every setting; a part's name stands under the part's own path."""
    flat = _flat(config.resolved())
    for path, choice in _parts(config).items():
        flat.pop(f"{path}.name", None)
        flat[path] = choice and choice.name
    return flat


def _parts(config: RunConfig) -> dict[str, PartChoice | None]:
    """Path -> part, of all but the protocol's metrics."""
    slots = {slot: getattr(config, slot) for slot in SLOTS}
    return {**config.parts, **slots, **{f"slots.{slot}": choice for slot, choice in config.slots.items()}}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def trained_settings(config: RunConfig) -> dict[str, Any]:
    """Path -> value, of what says how a run is trained: neither its name and device, nor how it is sampled and scored."""
    return {
        path: value
        for path, value in _settings(config).items()
        if path not in ("name", "device") and mark_of(config, path) is not Continued.SAMPLING
    }


def mark_of(config: RunConfig, path: str) -> Continued | None:
    """The mark of a setting, or of what it is a part of."""
    model: Any = config
    for key in path.split("."):
        if isinstance(model, PartChoice):
            model = model.config
        if isinstance(model, Mapping):
            model = model.get(key)
            continue
        field = type(model).model_fields.get(key) if isinstance(model, BaseModel) else None
        if field is None:
            return None
        for mark in field.metadata:
            if isinstance(mark, Continued):
                return mark
        model = getattr(model, key, None)
    return None


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
