"""A protocol at work: what every metric keeps of every clip, and what that comes to.

Metrics measure one clip at a time and keep small arrays, so memory does not grow with frames. A measurement is a function of
its clip alone: ranks share the clips, and their numbers are those of one process to the last bit.
"""

import math
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from hvg.config.sections import ProtocolConfig
from hvg.config.settings import RunConfig
from hvg.core.eight_bit import resize_8bit
from hvg.core.errors import DataError, HvgError
from hvg.core.ranks import from_all_ranks
from hvg.core.required import required
from hvg.parts.context import Context
from hvg.parts.metric import Measurement, Metric, Score
from hvg.parts.network_files import NetworkFiles, default_folder
from hvg.score.evaluation_record import ClipRecord, ScoreRecord
from hvg.values.long_clip import LongClip
from hvg.values.scored_clip import NotAvailable, ScoredClip


@dataclass(frozen=True)
class Failure:
    """An error in a metric's own code: type and message in a line, and the lines of the traceback."""

    reason: str
    traceback: tuple[str, ...]


def failure_of(error: Exception) -> Failure:
    """The failure that records an error in a metric's code; other metrics keep their numbers."""
    reason = f"failed with {type(error).__name__}: {' '.join(str(error).split())}"
    lines = "".join(traceback.format_exception(error)).splitlines()
    return Failure(reason, tuple(lines))


# Label -> what was kept of one clip, or why there is nothing to keep.
ClipMeasurements = Mapping[str, Measurement | str | Failure]
# Clip id -> of that clip, in the order of the clips.
Measurements = Mapping[str, ClipMeasurements]

# Views are gathered by their angle to the photo in bins as wide as this, degrees.
ANGLE_BIN = 30.0


class Protocol:
    """The metrics of a protocol, ready to measure. unavailable: label -> why a metric could not be built.

    An error in a metric's code ends nothing: that metric is not available, and its result holds the traceback.
    """

    def __init__(
        self, settings: ProtocolConfig, metrics: Mapping[str, Metric], unavailable: Mapping[str, str | Failure]
    ) -> None:
        self.settings, self.metrics, self.unavailable = settings, metrics, unavailable

    def measure(self, clip: ScoredClip | LongClip) -> ClipMeasurements:
        """Measurements of a clip by every metric, or why there is none. Raises: as of ``prepare``."""
        if isinstance(clip, LongClip):
            # What is wrong with one piece is wrong with all; here it is said of the clip, later of each metric.
            self.prepare(next(clip.read([0])))
        clip = clip.map(self.prepare)
        kept: dict[str, Measurement | str | Failure] = {}
        shared: dict[str, Measurement | str | Failure] = {}
        for label, metric in self.metrics.items():
            if metric.measurement in shared:
                kept[label] = shared[metric.measurement]
                continue
            try:
                clip.require(metric.requires)
                found = metric.measure_pieces(clip) if isinstance(clip, LongClip) else metric.measure(clip)
                kept[label] = {name: _numbers(name, array) for name, array in found.items()}
            except NotAvailable as error:
                kept[label] = str(error)
            except Exception as error:
                kept[label] = failure_of(error)
            if metric.measurement is not None:
                shared[metric.measurement] = kept[label]
        return kept

    def prepare(self, clip: ScoredClip) -> ScoredClip:
        """The clip as the metrics see it: the prediction at the truth's size; with ``mask=truth``, both on white outside the
        true person.

        Raises: DataError when the sizes differ and the protocol does not resize; NotAvailable when it needs alpha.
        """
        (height, width), size = clip.truth.shape[-2:], clip.prediction.shape[-2:]
        if size != (height, width):
            if self.settings.size_mismatch == "refuse":
                raise DataError(
                    f"the prediction is {size[1]} x {size[0]} pixels, the reference {width} x {height}; bring both to one "
                    "size, in the way you mean it"
                )
            # A frame at a time: resizing takes many times the memory of what it resizes.
            frames = [resize_8bit(frame[None], (height, width)) for frame in clip.prediction.flatten(0, 1)]
            clip = replace(clip, prediction=torch.cat(frames).unflatten(0, clip.grid))
        if self.settings.mask == "none":
            return clip
        clip.require({"alpha"})
        alpha = required(clip.alpha, "ScoredClip.alpha")[:, :, None]
        truth = _on_white(clip.truth, alpha)
        # Metrics look once at a truth that is its own prediction.
        prediction = truth if clip.prediction is clip.truth else _on_white(clip.prediction, alpha)
        return replace(clip, prediction=prediction, truth=truth)

    def reduce(self, measurements: Measurements, clips: Sequence[ClipRecord] = ()) -> dict[str, ScoreRecord]:
        """Label -> score, in the protocol's order, without floors. clips: whose angles the curves over the angle are of.

        Raises: NotAvailable where nothing was measured.
        """
        if not measurements:
            raise NotAvailable("no clip was measured")
        azimuths = {clip["clip_id"]: clip["azimuths"] for clip in clips}
        return {label: self._score(label, measurements, azimuths) for label in self.settings.metrics}

    def described(self, label: str) -> ScoreRecord:
        """The metric without a number; and why it will have none, where it could not be built."""
        choice, missing = self.settings.metrics[label], self.unavailable.get(label)
        part = self.metrics.get(label, choice.cls)
        record = ScoreRecord(
            value=None,
            definition=self.metrics[label].definition if label in self.metrics else choice.name,
            higher_is_better=part.higher_is_better,
            unit=part.unit,
            on_person=part.on_person,
            verdict=part.judges(choice.config),
            networks=dict(part.networks),
            unavailable=None,
            count=0,
            counted="frames",
            floor=None,
            notes=[],
            per_clip={},
            over_time=[],
            over_angle=[],
        )
        return record if missing is None else _without(record, missing)

    def _score(
        self, label: str, measurements: Measurements, azimuths: Mapping[str, Sequence[float] | None]
    ) -> ScoreRecord:
        record, metric = self.described(label), self.metrics.get(label)
        if metric is None:
            return record
        of_clips = {clip_id: kept[label] for clip_id, kept in measurements.items()}
        reasons = [kept for kept in of_clips.values() if isinstance(kept, (str, Failure))]
        if reasons:
            # What failed is to be mended, so it is said before what the data do not hold.
            first = next((reason for reason in reasons if isinstance(reason, Failure)), reasons[0])
            more = f" ({len(reasons)} of {len(of_clips)} clips)" if len(reasons) < len(of_clips) else ""
            return _without(record, first, more)
        kept = {clip_id: kept for clip_id, kept in of_clips.items() if not isinstance(kept, (str, Failure)) and kept}
        if not kept:
            return _without(record, "no clip has anything to score: too few views or frames")
        try:
            found = _plain(metric.reduce(kept), azimuths)
        except NotAvailable as error:
            return _without(record, str(error))
        except Exception as error:
            return _without(record, failure_of(error))
        if len(kept) < len(of_clips):
            found["notes"].append(f"{len(of_clips) - len(kept)} of {len(of_clips)} clips have nothing to score")
        return cast(ScoreRecord, record | found)


def _without(record: ScoreRecord, reason: str | Failure, more: str = "") -> ScoreRecord:
    """Says in a metric's record why it has no value, and returns it."""
    if isinstance(reason, Failure):
        record["traceback"] = list(reason.traceback)
    record["unavailable"] = f"{reason.reason if isinstance(reason, Failure) else reason}{more}"
    return record


def _numbers(name: str, array: Any) -> np.ndarray:
    """A copy of what a metric keeps. Raises: TypeError for what is no array of numbers."""
    # Copied, because a small tensor that outlives large ones keeps the C library from reusing their memory.
    copy = np.array(array)
    if copy.dtype.kind not in "biuf":
        raise TypeError(f"measure gave '{name}' of type {copy.dtype}, expected an array of numbers")
    return copy


def _plain(score: Score, azimuths: Mapping[str, Sequence[float] | None]) -> dict[str, Any]:
    """What a score says, as JSON takes it. Raises: TypeError, ValueError for what is no number."""
    flat = [clip_id for clip_id, cells in score.cells.items() if np.ndim(cells) != 2]
    if flat:
        raise ValueError(f"reduce gave cells of clip '{flat[0]}' that are not (V, T)")
    value = float(score.value)
    return {
        "value": value if math.isfinite(value) else None,
        "unavailable": None if math.isfinite(value) else f"the value is {value}",
        "count": int(score.count),
        "counted": score.counted,
        "floor": None if score.floor is None else float(score.floor),
        "notes": [*score.notes],
        "per_clip": {clip_id: float(value) for clip_id, value in score.per_clip.items()},
        "over_time": over_time(score),
        "over_angle": [list(pair) for pair in over_angle(score, azimuths)],
    }


def _on_white(frames: Tensor, alpha: Tensor) -> Tensor:
    """frames: (V, T, 3, H, W) uint8. alpha: (V, T, 1, H, W). A frame at a time, for that is done with floats."""
    pairs = zip(frames.flatten(0, 1), alpha.flatten(0, 1), strict=True)
    white = [(frame * cover + 255 * (1 - cover)).round().to(torch.uint8) for frame, cover in pairs]
    return torch.stack(white).unflatten(0, frames.shape[:2])


def build_protocol(config: RunConfig, device: torch.device) -> Protocol:
    """The run's protocol with every metric that can be computed here; the others with the reason why not, or how they failed.

    Raises: HvgError when a file of weights is damaged or another one than published.
    """
    folder = config.evaluation.networks or default_folder()
    context = Context(networks=NetworkFiles(folder, config.evaluation.any_network), device=device)
    metrics: dict[str, Metric] = {}
    unavailable: dict[str, str | Failure] = {}
    for label, choice in config.protocol.metrics.items():
        try:
            metrics[label] = choice.cls(choice.config, context)
        except NotAvailable as error:
            unavailable[label] = str(error)
        except HvgError:
            raise
        except Exception as error:
            unavailable[label] = failure_of(error)
    return Protocol(config.protocol, metrics, unavailable)


def gathered(own: Mapping[int, Any]) -> dict[int, Any]:
    """Values of all ranks by index of the clip; each rank gives its own and gets all of them."""
    return {index: value for part in from_all_ranks(dict(own)) for index, value in part.items()}


def over_time(score: Score) -> list[float | None]:
    """Mean value of every frame, over views and clips; None where no picture has one."""
    longest = max((cells.shape[1] for cells in score.cells.values()), default=0)
    columns = [
        [value for cells in score.cells.values() if frame < cells.shape[1] for value in cells[:, frame]]
        for frame in range(longest)
    ]
    return [_mean(values) for values in columns]


def over_angle(score: Score, azimuths: Mapping[str, Sequence[float] | None]) -> list[tuple[float, float]]:
    """Pairs (angle to the photo in degrees, mean value), by bins of ``ANGLE_BIN``.

    azimuths: clip id -> angle of every view around the person, from the photo; clips without are left out.
    """
    bins: dict[int, list[tuple[float, float]]] = {}
    for clip_id, cells in score.cells.items():
        for angle, values in zip(azimuths.get(clip_id) or (), cells, strict=False):
            distance = abs((angle + 180) % 360 - 180)
            found = [(distance, value) for value in values if np.isfinite(value)]
            bins.setdefault(round(distance / ANGLE_BIN), []).extend(found)
    means = [np.mean(pairs, axis=0) for _, pairs in sorted(bins.items()) if pairs]
    return [(float(angle), float(value)) for angle, value in means]


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else None
