"""Whether numbers of two evaluations can be compared, and if not, why."""

from collections.abc import Iterator, Mapping
from typing import Any

from hvg.config.changes import EXPLANATIONS
from hvg.config.parsing import parse
from hvg.score.evaluation_record import EvaluationRecord, shift_note
from hvg.values.truth_print import is_same_truth


def differences(a: EvaluationRecord, b: EvaluationRecord) -> Iterator[str]:
    """Differences that make numbers of two evaluations incomparable, the weightiest first."""
    if a["protocol"]["id"] != b["protocol"]["id"]:
        yield f"it follows protocol {b['protocol']['id']}, not {a['protocol']['id']}"
    yield from (
        f"its protocol has {place} = {theirs!r}, not {ours!r}"
        for place, ours, theirs in _changed(*protocols_by_meaning(a["protocol"]["settings"], b["protocol"]["settings"]))
    )
    for label in [*a["values"], *(label for label in b["values"] if label not in a["values"])]:
        ours, theirs = a["values"].get(label), b["values"].get(label)
        if ours is None or theirs is None:
            yield f"only one of them has '{label}'"
        elif ours["value"] is not None and theirs["value"] is not None:
            if ours["definition"] != theirs["definition"]:
                yield f"its {label} is {theirs['definition']}, not {ours['definition']}"
            yield from (
                f"its {label} looked through {name} {other}, not {own}"
                for name, own, other in _changed(ours["networks"], theirs["networks"])
            )
    subjects_a, subjects_b = ({clip["clip_id"]: clip["subject"] for clip in record["clips"]} for record in (a, b))
    lost, new = [c for c in subjects_a if c not in subjects_b], [c for c in subjects_b if c not in subjects_a]
    if lost:
        yield f"{len(lost)} of {len(subjects_a)} clips are missing, first '{lost[0]}'"
    if new:
        yield f"it has {len(new)} further clips, first '{new[0]}'"
    yield from (
        f"clip '{clip}' shows the subject '{theirs}', not '{ours}'"
        for clip, ours, theirs in _changed(subjects_a, subjects_b)
    )
    clips_a, clips_b = ({clip["clip_id"]: clip for clip in record["clips"]} for record in (a, b))
    other = [name for name in clips_a if name in clips_b and not is_same_truth(clips_a[name], clips_b[name])]
    if other:
        notes = (("it was", shift_note(b)), ("the other was", shift_note(a)))
        why = "".join(f"; {who} {note}" for who, note in notes if note)
        yield f"{len(other)} of {len(clips_a)} clips were scored against other true frames, first '{other[0]}'{why}"


def protocols_by_meaning(a: dict[str, Any], b: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of two protocols, by what they mean: without explanations; what one lacks, since it came later, is its
    default. As they are where this version does not know all that they set.
    """
    if a == b:
        return a, b
    a, b = ({key: value for key, value in settings.items() if key not in EXPLANATIONS} for settings in (a, b))
    (config_a, _, problems_a), (config_b, _, problems_b) = (parse({"protocol": settings}) for settings in (a, b))
    if any(problem.path.startswith("protocol") for problem in (*problems_a, *problems_b)):
        return a, b
    return config_a.protocol.resolved(), config_b.protocol.resolved()


def _changed(a: Any, b: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two trees of plain values differ, with both values; None stands for what is not there."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in dict.fromkeys([*a, *b]):
            yield from _changed(a.get(key), b.get(key), f"{place}.{key}" if place else key)
    elif a != b:
        yield place, a, b
