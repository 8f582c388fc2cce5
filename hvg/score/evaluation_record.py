"""Files of an evaluation, whatever was scored: results.json, and all that metrics kept of every clip."""

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NotRequired, cast

import numpy as np
from pydantic import BeforeValidator, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

# Python's own is not read by pydantic before Python 3.12.
from typing_extensions import TypedDict

from hvg.config.changes import same_results
from hvg.config.settings import RunConfig
from hvg.core.errors import HvgError
from hvg.core.files import read_text, regular_file, whole_file, write_text
from hvg.core.next_commands import EVALUATE

RECORD_FORMAT = "hvg-evaluation-2"
MEASUREMENTS = "measurements.safetensors"
# What names of folders begin with into which a run's checkpoints are scored.
EVALUATION = "evaluation-"
# Keys that every results.json holds.
REQUIRED = ("scored", "protocol", "seeds", "clips", "values", "provenance")
# A number that was not finite is None in the file, see ``finite``.
Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]


class ClipRecord(TypedDict):
    """azimuths: of every view around the person, degrees from the photo; None where cameras or photo are unknown.

    resized_from: width and height of a prediction that the protocol brought to the size of the truth. truth, truth_sketch:
    what the true frames are known by, as of ``TruthPrint``; records of earlier versions lack one or both. note: what a reader
    has to know of the clip's files, if anything.
    """

    clip_id: str
    subject: str
    azimuths: list[float] | None
    resized_from: NotRequired[list[int]]
    note: NotRequired[str]
    truth: NotRequired[str]
    truth_sketch: NotRequired[list[float]]


class ScoreRecord(TypedDict):
    """A metric's number with what makes it comparable. value: None where it is not available; ``unavailable`` says why.

    definition: id of exactly how it was computed. networks: pretrained network -> hash of its file. count: N; counted:
    what N counts. floor: what two samples of the truth would score at this N. per_clip: clip id -> value. over_time: mean
    of every frame; over_angle: pairs (degrees from the photo, mean). on_person: as of ``hvg.parts.metric.Metric``; verdict:
    as of its ``judges``. traceback: its lines, where the metric's code failed.
    """

    value: float | None
    definition: str
    higher_is_better: bool
    unit: str
    networks: dict[str, str]
    unavailable: str | None
    count: int
    counted: str
    floor: float | None
    notes: list[str]
    per_clip: dict[str, Number]
    over_time: list[float | None]
    over_angle: list[list[Number]]
    on_person: NotRequired[bool]
    verdict: NotRequired[bool]
    traceback: NotRequired[list[str]]


class ProtocolRecord(TypedDict):
    """id: name and version, with ``+changes`` where settings differ from what goes by that name."""

    id: str
    settings: dict[str, Any]


class Seeds(TypedDict):
    """training: None for outputs of another system."""

    training: int | None
    sampling: int | None


class EvaluationRecord(TypedDict):
    """One evaluation. scored: what was scored, in words. values: label -> score, in the protocol's order.

    precision: what the model was trained in, as of ``hvg.config.precision.trained_in``; None, or not there, where it is
    not known.
    problems: what of a folder could not be scored. overlap: what the clips share with those that the model learned from or was
    tuned on, as of ``hvg.config.overlap``, a line each; not there for outputs of another system. shift: setting of the
    dataset -> what
    it was in training and in scoring, where the clips were others on purpose.
    config: the run's whole configuration as YAML, and seconds that its stages took, of an arm of a study.
    anchors: what they score, as of ``hvg.score.anchors``; None where a metric has no value.
    """

    format: str
    scored: str
    protocol: ProtocolRecord
    seeds: Seeds
    clips: list[ClipRecord]
    values: dict[str, ScoreRecord]
    provenance: dict[str, Any]
    precision: NotRequired[str | None]
    problems: NotRequired[list[str]]
    overlap: NotRequired[list[str]]
    shift: NotRequired[dict[str, list[Any]]]
    config: NotRequired[str]
    seconds: NotRequired[dict[str, float]]
    anchors: NotRequired[dict[str, dict[str, float | None]]]


def write_record(folder: Path, record: EvaluationRecord, measurements: Mapping[str, Mapping[str, object]]) -> Path:
    """Writes results.json and measurements.safetensors, each whole or not at all; returns the path of the first.

    measurements: clip id -> label -> what a metric kept, as of ``hvg.score.protocol.Measurements``, in the order of the clips.
    """
    arrays = {
        f"{label}/{index:06d}/{name}": array
        for index, kept in enumerate(measurements.values())
        for label, measurement in kept.items()
        if isinstance(measurement, Mapping)
        for name, array in measurement.items()
    }
    with whole_file(folder / MEASUREMENTS) as partial:
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, partial)
    path = folder / "results.json"
    write_text(path, json.dumps(finite(record), indent=2, ensure_ascii=False) + "\n")
    return path


def read_record(path: Path) -> EvaluationRecord:
    """The evaluation at a results.json, or in a folder that holds one. Raises: HvgError naming the file."""
    path = Path(path)
    path = path / "results.json" if path.is_dir() else path
    try:
        record = json.loads(read_text(path))
    except FileNotFoundError:
        raise HvgError(f"{path}: no such file, which an evaluation writes", then=EVALUATE) from None
    except (ValueError, RecursionError) as error:
        raise HvgError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(record, dict) or record.get("format") != RECORD_FORMAT:
        raise HvgError(f"{path}: not the results of an evaluation (format {RECORD_FORMAT})", then=EVALUATE)
    missing = [key for key in REQUIRED if key not in record]
    if missing:
        raise HvgError(f"{path}: damaged, it lacks {', '.join(missing)}")
    damage = _damage(record)
    if damage:
        raise HvgError(f"{path}: damaged: {damage}")
    return cast(EvaluationRecord, record)


@cache
def _shape() -> TypeAdapter:
    """Schema of a results.json, field by field."""
    return TypeAdapter(EvaluationRecord)


def _damage(record: dict[str, Any]) -> str:
    """The first thing that an evaluation cannot hold, and where; "" where everything fits together."""
    try:
        _shape().validate_python(record)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    clips, values = {clip["clip_id"] for clip in record["clips"]}, record["values"]
    for label, score in values.items():
        strangers = [clip for clip in score["per_clip"] if clip not in clips]
        if strangers:
            return f"values.{label}.per_clip: no clip is named '{strangers[0]}'"
    metrics = record["protocol"]["settings"].get("metrics")
    if not isinstance(metrics, dict) or metrics.keys() != values.keys():
        return "the metrics of protocol.settings are not those of values"
    wrong = [
        label
        for label, metric in metrics.items()
        if not (isinstance(metric, dict) and isinstance(metric.get("name"), str))
    ]
    return f"protocol.settings.metrics.{wrong[0]}: names no metric" if wrong else ""


def with_finite_clips(record: EvaluationRecord, path: Path) -> EvaluationRecord:
    """The evaluation at ``path``, to be compared clip by clip. Raises: HvgError where a clip's value is not finite."""
    for label, score in record["values"].items():
        for clip, value in score["per_clip"].items():
            if value is None:
                raise HvgError(f"{path}: values.{label}.per_clip: that of clip '{clip}' is not finite, so no mean is")
    return record


def failed_metrics(record: EvaluationRecord) -> list[str]:
    """A line for every metric whose code failed: which, how, and where its traceback is."""
    return [
        f"metric {label}: {score['unavailable'] or 'its floor failed'} (traceback: values.{label} in results.json)"
        for label, score in record["values"].items()
        if "traceback" in score
    ]


def data_notes(record: EvaluationRecord) -> list[str]:
    """Notes for the reader on the clips that were scored, a line each."""
    return [*record.get("overlap", []), *filter(None, [shift_note(record)])]


def shift_note(record: EvaluationRecord) -> str:
    """Text on how the scored clips differ on purpose from those of training; "" where they do not."""
    shift = [
        f"{path}={_plain(now)} (trained with {_plain(was)})" for path, (was, now) in record.get("shift", {}).items()
    ]
    return f"scored on other data than those of training, on purpose: {'; '.join(shift)}" if shift else ""


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def arms_data_notes(records: Mapping[str, Sequence[EvaluationRecord]]) -> list[str]:
    """Like ``data_notes``, each line once, with its arms where not of all. records: label -> those finished."""
    arms: dict[str, dict[str, None]] = {}
    for label, of_arm in records.items():
        for line in (line for record in of_arm for line in data_notes(record)):
            arms.setdefault(line, {})[label] = None
    scored = [label for label, of_arm in records.items() if of_arm]
    return [line if len(labels) == len(scored) else f"{', '.join(labels)}: {line}" for line, labels in arms.items()]


def finished_record(folder: Path, config: RunConfig) -> EvaluationRecord | None:
    """The finished evaluation in a folder; None where there is none of these settings, but for those that change no result."""
    path = Path(folder) / "results.json"
    if not path.exists():
        return None
    record = read_record(path)
    return record if same_results(record.get("config", ""), str(path), config) else None


def read_measurements(path: Path, record: EvaluationRecord, label: str) -> dict[str, dict[str, np.ndarray]]:
    """Clip id -> what a metric kept of it, of the evaluation whose results.json, or folder, is at ``path``.

    Raises: HvgError when measurements.safetensors is missing, damaged, or of another evaluation.
    """
    path = (Path(path) if Path(path).is_dir() else Path(path).parent) / MEASUREMENTS
    kept: dict[str, dict[str, np.ndarray]] = {}
    clips = {f"{index:06d}": clip["clip_id"] for index, clip in enumerate(record["clips"])}
    try:
        with safe_open(regular_file(path), framework="numpy") as arrays:
            for key in sorted(arrays.keys()):
                # Labels hold no slash; an array's name may.
                found, index, name = key.split("/", 2)
                if index not in clips:
                    raise HvgError(f"{path}: not the measurements of these results, which have {len(clips)} clips")
                if found == label:
                    kept.setdefault(clips[index], {})[name] = arrays.get_tensor(key)
    except (OSError, SafetensorError) as error:
        raise HvgError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    return kept


def finite(value: Any) -> Any:
    """Plain data with None for NaN and infinity, which JSON does not know and other readers than Python's refuse."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
