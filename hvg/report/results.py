"""Results of a study or a comparison, as plain data: arms, seeds, metrics, clips."""

from typing import Any, Literal, NotRequired, TypedDict

from hvg.core.labels import readable
from hvg.score.anchors import AnchorValues
from hvg.score.evaluation_record import ClipRecord, ProtocolRecord, ScoreRecord

# Rows are called better or worse, and arms best, below this corrected p-value; intervals have the level 1 minus it.
SIGNIFICANCE = 0.05


class MetricInfo(TypedDict):
    """One column. name: its label in the protocol. label: for people. unit: "dB" or "" for none.

    definition: id of exactly how it is computed. unavailable: why no arm has it; None where some may. on_person: whether it
    looks at the person alone. verdict: whether a better value means a better arm; it does where this is left out.
    """

    name: str
    label: str
    higher_is_better: bool
    unit: str
    definition: str
    unavailable: str | None
    on_person: NotRequired[bool]
    verdict: NotRequired[bool]


class Measured(TypedDict):
    """Where a model's numbers are from. commit: of the program, as of ``hvg.core.provenance.git_commit``. seconds:
    stage -> what it
    took, in its last start.
    """

    commit: str
    hardware: str
    seconds: dict[str, float]


class SeedResult(TypedDict):
    """One trained model. values: metric name -> score. curve: as ``Arm.curve``, of this seed. precision, config: as of
    ``hvg.score.evaluation_record.EvaluationRecord``. left_out: name of a distance between sets ->
    ``hvg.score.set_statistics.left_out``, of which its interval is made. A study's own arms have ``config`` and ``measured``.
    """

    seed: int
    values: dict[str, ScoreRecord]
    left_out: NotRequired[dict[str, list[float]]]
    curve: NotRequired[list[dict[str, float]]]
    precision: NotRequired[str | None]
    config: NotRequired[str]
    measured: NotRequired[Measured]


class Arm(TypedDict):
    """One row. The first arm of kind "arm" that is done is what all others are compared with.

    overrides: the configuration words that make this arm. kind "baseline": a trivial predictor, one entry in ``seeds``.
    error: one line of why it failed (the arm is named, the rest stands), how far it is where it is unfinished, or what is
    missing of an arm that is done. num_seeds: how many it was to have; those of ``seeds`` are finished.
    curve: points {"step", "loss", and any validation metric by name}; used when no seed carries its own.
    config_diff: lines of the resolved configuration that differ from the study's base.
    control: it is without what the others have, such as an arm without a pose signal, and stands apart from them.
    unseeded: its one entry in ``seeds`` is no training run of ours and stands against every seed of the others, as that of
    a baseline does.
    """

    name: str
    label: str
    overrides: list[str]
    kind: Literal["arm", "baseline"]
    status: Literal["done", "failed", "unfinished"]
    error: str | None
    seeds: list[SeedResult]
    num_seeds: NotRequired[int]
    curve: NotRequired[list[dict[str, float]]]
    config_diff: NotRequired[list[str]]
    control: NotRequired[bool]
    unseeded: NotRequired[bool]


class Need(TypedDict):
    """What arms of a study start from: trained before them and not scored. overrides: its words. seeds: without values."""

    name: str
    overrides: list[str]
    seeds: list[SeedResult]


class ClipInfo(ClipRecord):
    """One test clip. video: path of its tiled MP4 relative to the study's folder, None when there is none."""

    video: str | None


class Curves(TypedDict):
    """Charts of a study's own, one per metric. lines: label -> x, as text -> name of an arm, or label of a contrast, there."""

    title: str
    x: str
    lines: dict[str, dict[str, str]]


class Results(TypedDict):
    """A whole study. varies: what differs between arms, in words. provenance: versions, commit, hardware, seeds, ...

    published: ids of published tables to show, as of ``hvg.report.published``; those of the protocol when it is left out.
    headline: name of the metric that answers the question; ``hvg.report.finding`` chooses one when it is left out.
    contrasts: label -> two or four arms, as of ``hvg.report.contrasts``. curves: of arms and contrasts.
    overrides: words of the command line for all arms. needs: what was trained before the arms. anchors: what they score,
    anchor -> metric -> value, as of ``hvg.score.anchors``; they are compared with nothing.
    """

    title: str
    question: str
    study: str
    varies: list[str]
    command: str
    caveats: list[str]
    protocol: ProtocolRecord
    metrics: list[MetricInfo]
    arms: list[Arm]
    clips: list[ClipInfo]
    provenance: dict[str, Any]
    published: NotRequired[list[str]]
    headline: NotRequired[str]
    contrasts: NotRequired[dict[str, list[str]]]
    curves: NotRequired[list[Curves]]
    overrides: NotRequired[list[str]]
    needs: NotRequired[list[Need]]
    anchors: NotRequired[AnchorValues]


def metric_info(name: str, score: ScoreRecord) -> MetricInfo:
    """The column of a metric, from what one evaluation says of it."""
    return MetricInfo(
        name=name,
        label=readable(name),
        higher_is_better=score["higher_is_better"],
        unit=score["unit"],
        definition=score["definition"],
        on_person=score.get("on_person", False),
        verdict=score.get("verdict", True),
        unavailable=score["unavailable"],
    )


def carries_verdict(metric: MetricInfo) -> bool:
    """Whether a better value means a better arm (``hvg.parts.metric.Metric.judges``)."""
    return metric.get("verdict", True)


def stands_apart(arm: Arm) -> bool:
    """Whether an arm is no rival of the others: a trivial predictor, or the arm without what the others have."""
    return arm["kind"] == "baseline" or arm.get("control", False)


def label_of(arm: Arm) -> str:
    """The arm's label; with how many of its seeds are finished, where that is not all of them."""
    planned = arm.get("num_seeds", len(arm["seeds"]))
    return arm["label"] if len(arm["seeds"]) == planned else f"{arm['label']} ({len(arm['seeds'])} of {planned} seeds)"


def why_no_value(arm: Arm) -> str:
    """Why an arm that is not done has no value: what failed, or how far it is."""
    reason = arm["error"] or "no reason was recorded"
    return f"failed: {reason}" if arm["status"] == "failed" else reason


def value_of(seed: SeedResult, metric: str) -> float | None:
    """The value of a metric; None where it is not available."""
    return seed["values"][metric]["value"] if metric in seed["values"] else None


def metric_heading(metric: MetricInfo) -> str:
    """``PSNR (dB) ↑``; without an arrow where neither direction is better."""
    arrow = "" if not carries_verdict(metric) else "↑" if metric["higher_is_better"] else "↓"
    return " ".join(filter(None, [metric["label"], f"({metric['unit']})" if metric["unit"] else "", arrow]))


def which_is_better(metric: MetricInfo) -> str:
    """``higher is better``, or that the metric only describes."""
    if not carries_verdict(metric):
        return "describes an arm, and does not say which is better"
    return f"{'higher' if metric['higher_is_better'] else 'lower'} is better"
