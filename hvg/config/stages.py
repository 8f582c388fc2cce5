"""Stages of a run, trained one after the other: each the run's configuration with changes of its own (decision 72)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from hvg.config.parsing import PART_KEYS, parse, with_new_names
from hvg.config.settings import MOST_STAGES, RunConfig
from hvg.config.validation import shown
from hvg.core.errors import ConfigError, Problem, did_you_mean

# Where a stage starts: from the averaged weights of the stage before; its raw ones; those with the optimiser's state.
Begins = Literal["averaged", "raw", "continued"]
# Root keys of what is the same in all stages; the others a stage may change.
OF_THE_RUN = frozenset(
    {
        *("name", "output", "device", "strategy", "logger", "evaluation", "protocol", "system", "stages"),
        *("resume", "resume_world", "resume_changes", "checkpoint"),
    }
)
OF_A_STAGE = frozenset(RunConfig.model_fields) - OF_THE_RUN


@dataclass(frozen=True, kw_only=True)
class TrainingStage:
    """Steps of a run that go by one configuration.

    label: "" of a run without stages. first: steps of the run before it. ends: the steps at which all of the run's stages end.
    ordered: steps of the order of samples that are behind it.
    """

    label: str
    config: RunConfig
    ends: tuple[int, ...]
    first: int = 0
    begins: Begins = "averaged"
    ordered: int = 0

    @property
    def last(self) -> int:
        """The step of the run at which it ends."""
        return self.first + self.config.training.steps


def stages_of(config: RunConfig) -> tuple[TrainingStage, ...]:
    """All stages of a run, in order; one without stages is one. Raises: ConfigError where this version cannot read one."""
    if not config.stages:
        return (TrainingStage(label="", config=config, ends=(config.training.steps,)),)
    found: list[TrainingStage] = []
    for label, tree in stage_trees(config.resolved()).items():
        own, _, problems = parse(tree)
        if problems:
            raise ConfigError([replace(p, path=f"stages.{label}.{p.path}") for p in problems])
        begins, before = config.stages[label].get("begins", "averaged"), found[-1] if found else None
        ordered = before.ordered + before.config.training.steps if before and begins == "continued" else 0
        first = before.last if before else 0
        found.append(TrainingStage(label=label, config=own, ends=(), first=first, begins=begins, ordered=ordered))
    return tuple(replace(stage, ends=tuple(x.last for x in found)) for stage in found)


def stage_config(config: RunConfig, label: str | None) -> RunConfig:
    """The configuration of a run's stage of that label; the run's own where there is none."""
    return next((stage.config for stage in stages_of(config) if stage.label == label), config)


def has_stages(raw: Mapping[str, Any]) -> bool:
    """Whether a tree of plain values has stages that can be taken for some; the parser tells of others."""
    stages = raw.get("stages")
    if not isinstance(stages, Mapping) or not 0 < len(stages) <= MOST_STAGES:
        return False
    return all(isinstance(changes, Mapping) for changes in stages.values())


def stage_trees(raw: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Label -> the whole tree of a stage; "" -> the tree itself where it has none."""
    if not has_stages(raw):
        return {"": dict(raw)}
    root = {key: value for key, value in raw.items() if key != "stages"}
    return {str(label): merged(root, changes) for label, changes in raw["stages"].items()}


def merged(root: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A tree with a stage's changes: settings of a section or of the same part are changed one by one, another part replaces."""
    own = {key: _changed(key, root.get(key), x) for key, x in with_new_names(changes)[0].items() if key in OF_A_STAGE}
    return {**root, **own}


def _changed(key: str, before: Any, value: Any) -> Any:
    if not (isinstance(before, Mapping) and isinstance(value, Mapping)):
        return value
    if key == "slots":
        slots = {**before, **{slot: _changed(slot, before.get(slot), x) for slot, x in value.items()}}
        return {slot: x for slot, x in slots.items() if x is not None}
    other = "name" in value and value["name"] != before.get("name")
    return dict(value) if other else {**before, **value}


def differences(tree: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """The changes by which ``merged`` makes one tree of another; parts that differ as a whole."""
    keys = [key for key in tree if key in OF_A_STAGE and tree[key] != root.get(key)]
    return {key: _difference(key, tree[key], root.get(key)) for key in keys}


def _difference(key: str, value: Any, before: Any) -> Any:
    is_part = key in PART_KEYS and key != "slots"
    if is_part or not (isinstance(before, Mapping) and isinstance(value, Mapping)):
        return value
    return {name: value.get(name) for name in {**before, **value} if value.get(name) != before.get(name)}


def with_stages(configs: Mapping[str, RunConfig], raw: Mapping[str, Any]) -> RunConfig:
    """One configuration of all stages: the last one's, with each stage's differences from it. raw: the tree that they are of."""
    last = [*configs.values()][-1]
    if not has_stages(raw):
        return last
    root, stages = last.resolved(), {}
    for label, changes in raw["stages"].items():
        begins = {} if changes.get("begins", "averaged") == "averaged" else {"begins": changes["begins"]}
        stages[str(label)] = begins | differences(configs[str(label)].resolved(), root)
    return last.model_copy(update={"stages": stages})


def stage_problems(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """Problems of stages' labels and keys; what their values are the parser judges."""
    stages = raw["stages"] if has_stages(raw) else {}
    for number, (label, changes) in enumerate(stages.items()):
        place = f"stages.{label}"
        if not re.fullmatch(r"[\w-]+", str(label)):
            yield Problem(place, "a label has letters, digits, '_' and '-'.")
        for key in changes.keys() - OF_A_STAGE - {"begins"}:
            known = {*OF_A_STAGE, "begins"}
            fix = "is the same in all stages." if key in OF_THE_RUN else f"is unknown. {did_you_mean(str(key), known)}"
            yield Problem(f"{place}.{key}", fix)
        begins = changes.get("begins", "averaged")
        if begins not in get_args(Begins):
            yield Problem(f"{place}.begins", f"expected {' or '.join(get_args(Begins))}, got {shown(begins)}.")
        elif number == 0 and "begins" in changes:
            yield Problem(f"{place}.begins", "no stage is before it; the run begins with the weights of checkpoint=.")


def problems_of_all(found: Mapping[str, list[Problem]]) -> list[Problem]:
    """The problems of all stages, by label: what all have once, what one has with its place there."""
    *_, last = found
    # What is scored is what the last stage has made.
    found = {
        label: [problem for problem in own if label == last or problem.path != "evaluation.unscored_views"]
        for label, own in found.items()
    }
    common = set.intersection(*map(set, found.values()))
    problems = [
        problem if problem in common else replace(problem, path=f"stages.{label}.{problem.path}")
        for label, own in found.items()
        for problem in own
    ]
    return [*dict.fromkeys(problems)]
