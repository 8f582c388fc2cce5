"""The clips of a split, made by a model and measured."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hvg.config.build import told_captions
from hvg.config.settings import RunConfig
from hvg.core.arrays import array_bytes, read_array
from hvg.core.eight_bit import frames_from_uint8, frames_to_uint8
from hvg.core.errors import DataError
from hvg.core.files import regular_file, whole_file
from hvg.core.finite import refuse_not_finite
from hvg.core.next_commands import EVALUATE
from hvg.data.cache import open_clips
from hvg.model.refining import check_given, open_refining
from hvg.model.trained_system import TrainedSystem
from hvg.parts.scene import Dataset
from hvg.score.anchors import AnchorValues, anchor_values, measure_anchors
from hvg.score.evaluation_record import ClipRecord, ScoreRecord
from hvg.score.protocol import ClipMeasurements, Measurements, Protocol, build_protocol, gathered
from hvg.score.set_statistics import add_floors
from hvg.values.cameras import azimuths_degrees
from hvg.values.clip import ClipBatch
from hvg.values.known import with_known_views
from hvg.values.long_clip import LongClip
from hvg.values.scored_clip import ScoredClip, Surface, Told, scored_clips, true_clip


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Everything that was scored. values: label -> score, in the protocol's order. measurements: what metrics kept of every
    clip, in the order of ``clips``. anchors: what those score that were asked for.
    """

    values: dict[str, ScoreRecord]
    clips: list[ClipRecord]
    measurements: Measurements
    anchors: AnchorValues = field(default_factory=dict)


def batches(
    clips: Dataset, count: int, size: int, load: Callable[[int], ClipBatch], share: tuple[int, int] = (0, 1)
) -> Iterator[tuple[Sequence[int], ClipBatch]]:
    """The first ``count`` clips in order, ``size`` at a time, with their indices; every ``share[1]``-th batch.

    Batches are cut as for one process, so that what a batch holds does not depend on how many share them; and once more where
    the clips next to each other differ in size, or in what they hold.
    """
    for start in range(share[0] * size, count, share[1] * size):
        loaded = ((index, load(index)) for index in range(start, min(start + size, count)))
        for _, same in groupby(loaded, key=lambda pair: pair[1].form()):
            indices, found = zip(*same, strict=True)
            yield indices, ClipBatch.stack(found)


def num_clips(config: RunConfig, clips: Dataset) -> int:
    """Number of clips of a split that the configuration scores."""
    return min(len(clips), config.evaluation.clips or len(clips))


def evaluate(
    system: TrainedSystem,
    config: RunConfig,
    *,
    split: str = "test",
    predictions: Path | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
    share: tuple[int, int] = (0, 1),
    anchors: Sequence[str] = (),
) -> Evaluation:
    """Scores what the system makes. The noise is keyed by (evaluation.seed, clip), so it is the same for all models.

    Where the configuration has a refiner, what that makes of it is scored.

    predictions: folder that takes every clip as ``<clip>.npy``, (V, T, 3, H, W) uint8. The scores are those of the 8-bit
    frames, as a file would hold them. ``report(clips done, clips in all)``. share: this rank, and how many share the clips;
    all of them return the same. anchors: names of those that are scored besides.
    """

    refining, signals = open_refining(config, system), system.signals
    if refining is not None:
        provided = config.dataset.cls.provides(config.dataset.config)
        check_given(refining, provided, f"the clips of dataset={config.dataset.name} do")
        refining.system.check_captions(told_captions(config, split))
        signals |= refining.signals

    def generate(batch: ClipBatch) -> Tensor:
        made = system.generate(
            batch,
            num_steps=config.evaluation.steps,
            seed=config.evaluation.seed,
            windows_per_call=config.evaluation.windows_per_call,
        )
        if refining is None:
            return made
        return refining.refine(batch, frames_to_uint8(made), seed=config.evaluation.seed)

    system.check_captions(told_captions(config, split))
    clips = open_clips(config, split, signals)
    return score_dataset(
        build_protocol(config, system.device),
        clips,
        num_clips(config, clips),
        generate,
        load=lambda index: with_known_views(
            signals.load(clips, index).to(system.device),
            config.evaluation.known_views,
            config.evaluation.unscored_views,
        ),
        size=config.data.eval_batch_size,
        predictions=predictions,
        report=report,
        share=share,
        anchors=anchors,
        told=system.told_numbers,
    )


def score_dataset(
    protocol: Protocol,
    clips: Dataset,
    count: int,
    generate: Callable[[ClipBatch], Tensor],
    *,
    load: Callable[[int], ClipBatch],
    size: int = 1,
    predictions: Path | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
    share: tuple[int, int] = (0, 1),
    anchors: Sequence[str] = (),
    told: Callable[[ClipBatch], Told] | None = None,
) -> Evaluation:
    """Scores ``generate(batch)``, (B, V, T, 3, H, W) in [-1, 1], in 8 bits, on the first ``count`` clips of a dataset.

    load: index -> clip with all that ``generate`` needs. size: clips in a batch. predictions, share, anchors: as of
    ``evaluate``. told: what the model is told of a clip (B = 1), for metrics that ask.
    Raises: HvgError naming clips whose frames, made or true, are not finite.
    """
    own: dict[int, MeasuredClip] = {}
    for indices, batch in batches(clips, count, size, load, share):
        made = generate(batch)
        refuse_not_finite(made, batch.clip_id, "the predicted frames")
        frames = frames_to_uint8(made)
        if predictions is not None:
            save_predictions(predictions, batch, frames)
        for index, clip in zip(indices, scored_clips(batch, frames), strict=True):
            surface = _surface(clips, index, clip.truth.device)
            one = batch.clips(slice(index - indices[0], index - indices[0] + 1))
            azimuths = azimuths_of(one)
            clip = clip if told is None else replace(clip, told=cache(partial(told, one)))
            described = ClipRecord(
                clip_id=clip.clip_id, subject=clip.subject, azimuths=azimuths, **clip.truth_print.record()
            )
            own[index] = measure_clip(protocol, clip.with_surface(surface), described, anchors)
        report(min(count, indices[0] // size * size + size * share[1]), count)
    return finished(protocol, gathered(own))


@dataclass(frozen=True)
class MeasuredClip:
    """A clip, what was kept of its prediction, and of each of its anchors by name."""

    clip: ClipRecord
    prediction: ClipMeasurements
    anchors: Mapping[str, ClipMeasurements] = field(default_factory=dict)


def measure_clip(
    protocol: Protocol, clip: ScoredClip | LongClip, described: ClipRecord, anchors: Sequence[str]
) -> MeasuredClip:
    """The clip measured, with the anchors of these names. Raises: as of ``Protocol.prepare``."""
    return MeasuredClip(described, protocol.measure(clip), measure_anchors(protocol, clip, anchors))


def score_anchors(
    protocol: Protocol,
    clips: Dataset,
    count: int,
    names: Sequence[str],
    *,
    load: Callable[[int], ClipBatch],
    report: Callable[[int, int], None] = lambda done, total: None,
) -> AnchorValues:
    """Scores of anchors on the first ``count`` clips of a dataset. load: index -> clip, with its true frames."""
    kept = {}
    for index in range(count):
        clip = true_clip(load(index))
        clip = clip.with_surface(_surface(clips, index, clip.truth.device))
        kept[clip.clip_id] = measure_anchors(protocol, clip, names)
        report(index + 1, count)
    return anchor_values(protocol, kept)


def finished(protocol: Protocol, clips_by_index: Mapping[int, MeasuredClip]) -> Evaluation:
    """The evaluation of the clips, in the order of their indices. Raises: DataError when two clips have one name."""
    everything = [clips_by_index[index] for index in sorted(clips_by_index)]
    clips = [one.clip for one in everything]
    measurements = {one.clip["clip_id"]: one.prediction for one in everything}
    if len(measurements) < len(clips):
        twice = next(name for name, count in Counter(clip["clip_id"] for clip in clips).items() if count > 1)
        raise DataError(f"two clips are named '{twice}'; names have to differ, for scores are kept by them")
    values = protocol.reduce(measurements, clips)
    add_floors(values, protocol.metrics, measurements, clips)
    anchors = anchor_values(protocol, {one.clip["clip_id"]: one.anchors for one in everything})
    return Evaluation(values=values, clips=clips, measurements=measurements, anchors=anchors)


def _surface(clips: Dataset, index: int, device: torch.device) -> Callable[[], Surface]:
    return lambda: clips.surface(index).to(device)


def azimuths_of(clip: ClipBatch) -> list[float] | None:
    """Azimuth of every view (in the first frame) from the photo, degrees in (-180, 180]; None without a photo's camera."""
    if clip.reference is None or clip.reference.cameras is None:
        return None
    photo = azimuths_degrees(clip.reference.cameras[0, 0])
    turned = azimuths_degrees(clip.cameras[0, :, 0]) - photo
    return (180 - (180 - turned) % 360).tolist()


def save_predictions(folder: Path, batch: ClipBatch, frames: Tensor) -> None:
    """Writes every clip's frames, uint8, as ``<clip>.npy``."""
    for name, clip in zip(batch.clip_id, frames.cpu().numpy(), strict=True):
        # A name may hold a slash.
        with whole_file(folder / f"{name}.npy") as partial:
            partial.write_bytes(array_bytes(clip))


def load_prediction(folder: Path, clip_id: str) -> Tensor:
    """(V, T, 3, H, W) in [-1, 1]. Raises: DataError naming the file where it is missing, damaged or holds no frames."""
    path = folder / f"{clip_id}.npy"
    try:
        with regular_file(path).open("rb") as stream:
            frames = read_array(stream, path.stat().st_size)
        if frames.ndim != 5 or frames.shape[2] != 3 or frames.dtype != np.uint8:
            raise ValueError(f"it holds {frames.dtype} {frames.shape}, expected frames (V, T, 3, H, W) of 8 bits")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; what was scored is kept there", then=EVALUATE) from None
    except (ValueError, EOFError, SyntaxError) as error:
        raise DataError(
            f"{path}: damaged ({' '.join(str(error).split())}); score the model again", then=EVALUATE
        ) from error
    return frames_from_uint8(torch.from_numpy(frames))
