"""Scoring anyone's outputs: folders of videos or frames beside folders of the truth, matched by name.

A clip of a folder is a video file, a folder of frames, or a folder of views, each of them one of the two. Frames that lie in
the folder itself, named ``<sequence><number>.png`` as DisCo does, make a clip of every run of consecutive numbers, named
after its first frame. Other files, and names that begin with a dot, are no clips. Nothing is resized (unless the protocol
says so), skipped or replaced in silence: what cannot be scored is listed.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path

import torch
from torch import Tensor

from hvg.config.command_options import FolderOptions
from hvg.config.composition import compose
from hvg.config.machine import choose_device
from hvg.config.overrides import root_key
from hvg.config.settings import RunConfig
from hvg.core import outputs
from hvg.core.errors import ConfigError, DataError, HvgError, Problem, did_you_mean
from hvg.core.next_commands import HELP
from hvg.core.ranks import joined_ranks
from hvg.media.folder_clips import FolderClip, MaskLook, find_clips, known_views, same_names
from hvg.media.folder_video import Room, Video, survey, time_note
from hvg.score.anchors import chosen
from hvg.score.evaluation import make_record, table_lines
from hvg.score.evaluation_record import ClipRecord, failed_metrics, write_record
from hvg.score.measured_clips import MeasuredClip, finished, measure_clip
from hvg.score.protocol import build_protocol, gathered
from hvg.values.long_clip import HELD_BYTES, LongClip, frames_in_piece
from hvg.values.scored_clip import ScoredClip
from hvg.values.truth_print import print_of

# Root keys that a command without a model may set.
SCORING_KEYS = ("protocol", "evaluation", "device")


def evaluate_folders(
    options: FolderOptions, overrides: Sequence[str], report: Callable[[int, int], None]
) -> tuple[list[str], list[str], Path] | None:
    """Scores every clip; returns the table's lines, what could not be scored, and the path of results.json.

    overrides: of the protocol and the device. Ranks share the clips: None but on the first.
    Raises: HvgError when a folder is missing, or nothing can be scored; ConfigError for wrong overrides.
    """
    config = _config(overrides)
    truth, made = find_clips(options.reference), find_clips(options.predictions)
    masks = None if options.masks is None else find_clips(options.masks)
    if config.protocol.mask == "truth" and masks is None:
        raise HvgError(f"protocol '{config.protocol.name}' takes the background away; give masks=FOLDER")
    problems = [f"{name}: there is no prediction" for name in truth if name not in made]
    problems += [f"{name}: a prediction without a reference" for name in made if name not in truth]
    names = [name for name in truth if name in made]
    predictions = options.predictions.resolve()
    out = options.out or predictions.parent / f"{predictions.name}-{config.protocol.name}"
    with joined_ranks() as (rank, world), outputs.held_folder(out, "out") if rank == 0 else nullcontext():
        if rank == 0:
            outputs.refuse_existing(out, options.overwrite)
        device = choose_device(config.device)
        protocol = build_protocol(config, device)
        own: dict[int, MeasuredClip] = {}
        failed: dict[int, str] = {}
        for index in range(rank, len(names), world):
            try:
                clip = load_clip(names[index], made, truth, masks, options)
                own[index] = measure_clip(protocol, clip.to(device), _described(clip), chosen(options.anchors))
            except DataError as error:
                failed[index] = f"{names[index]}: {error}"
            if rank == 0:
                report(min(len(names), index + world), len(names))
        problems += [problem for _, problem in sorted(gathered(failed).items())]
        measured = gathered(own)
        if rank:
            return None
        if not measured:
            raise HvgError("\n  ".join(["nothing can be scored:", *problems]))
        evaluation = finished(protocol, measured)
        record = make_record(evaluation, config.protocol, _scored(options), None, None)
        record["problems"] = problems
        problems = [*problems, *failed_metrics(record)]
        return table_lines(record), problems, write_record(out, record, evaluation.measurements)


def _config(overrides: Sequence[str]) -> RunConfig:
    """The configuration, of which only the protocol, the networks' folder and the device are used."""
    wrong = [root for word in overrides if (root := root_key(word)) not in SCORING_KEYS]
    if wrong:
        known = [*FolderOptions.model_fields, *SCORING_KEYS]
        raise ConfigError(
            [Problem(name, f"unknown option. {did_you_mean(name, known)}".strip(), HELP) for name in wrong]
        )
    return compose(overrides)


def _described(clip: ScoredClip | LongClip) -> ClipRecord:
    described = ClipRecord(clip_id=clip.clip_id, subject=clip.subject, azimuths=None, **clip.truth_print.record())
    first = next(clip.read([0])) if isinstance(clip, LongClip) else clip
    if first.prediction.shape != first.truth.shape:
        described["resized_from"] = [first.prediction.shape[-1], first.prediction.shape[-2]]
    if clip.note:
        described["note"] = clip.note
    return described


def _scored(options: FolderOptions) -> str:
    """Description of what was scored, with its folders and background."""
    words = [f"{options.predictions} against {options.reference}"]
    words += [f"masks of {options.masks}"] if options.masks else []
    words += [f"transparent pictures on {options.background}"] if options.background else []
    return ", ".join(words)


def load_clip(
    name: str,
    made: Mapping[str, FolderClip],
    truth: Mapping[str, FolderClip],
    masks: Mapping[str, FolderClip] | None,
    options: FolderOptions,
) -> ScoredClip | LongClip:
    """A clip with all its views, held where it is no larger than ``HELD_BYTES``.

    Raises: DataError when something is missing, unreadable, or does not fit the truth.
    """
    match = re.fullmatch(options.subject, name)
    if match is None:
        raise DataError(f"its name does not match subject='{options.subject}'")
    views, made_views = known_views(truth[name]), known_views(made[name])
    if ("" in views) != ("" in made_views):
        kinds = [
            "a single video" if "" in found else f"a folder of {len(found)} views" for found in (views, made_views)
        ]
        raise DataError(f"the reference is {kinds[0]}, the prediction {kinds[1]}")
    same_names("views", made_views, views)
    room = Room(HELD_BYTES)
    true, predicted, covers = [], [], []
    for view, place in views.items():
        true.append(survey(place, options.background, room))
        predicted.append(survey(made_views[view], options.background, room))
        _same_frames(predicted[-1], true[-1])
        if masks is not None:
            covers.append(_mask(masks.get(name), view, true[-1], room))
    for what, videos in (("reference", true), ("prediction", predicted)):
        if len(kinds := {video.size_text(count=True) for video in videos}) > 1:
            raise DataError(f"the views of the {what} differ: {', '.join(sorted(kinds))}")
    notes = [note for videos in zip(predicted, true, strict=True) if (note := time_note(*videos))]
    folder_clip = _OpenedClip(name, match[1] or name, predicted, true, covers, (*notes, "")[0])
    return folder_clip.held() if room.is_left else folder_clip.long()


@dataclass(frozen=True)
class _OpenedClip:
    """The videos of a clip, one a view; masks: empty where there are none."""

    name: str
    subject: str
    prediction: Sequence[Video]
    truth: Sequence[Video]
    masks: Sequence[Video]
    note: str

    def held(self) -> ScoredClip:
        """The clip, of videos that are held."""
        (clip,) = self._read([self.truth[0].length], range(len(self.truth)))
        return clip

    def long(self) -> LongClip:
        """The clip that reads its files when it is looked at."""
        videos, first = [*self.prediction, *self.truth, *self.masks], self.truth[0]
        each = frames_in_piece(sum(3 * video.size[0] * video.size[1] for video in videos))
        lengths = [each] * (first.length // each)
        rest = first.length - sum(lengths)
        if rest == 1 and each > 1:
            # Not by itself: see ``hvg.parts.frame_metric.parts``.
            lengths[-1] += 1
        elif rest:
            lengths.append(rest)
        shape = (len(self.truth), first.length, 3, *first.size)
        pixels = (frames for video in self.truth for frames in video.pieces(lengths))
        return LongClip(
            clip_id=self.name,
            subject=self.subject,
            grid=shape[:2],
            size=first.size,
            note=self.note,
            truth_print=print_of(shape, torch.ones(shape[:2], dtype=torch.bool), pixels),
            read=partial(self._read, lengths),
        )

    def _read(self, lengths: Sequence[int], views: Sequence[int]) -> Iterator[ScoredClip]:
        """The clip of some views in pieces of so many frames."""

        def pieces(videos: Sequence[Video]) -> Iterator[tuple[Tensor, ...]]:
            return zip(*(videos[view].pieces(lengths) for view in views), strict=True)

        alphas = pieces(self.masks) if self.masks else repeat(None)
        for prediction, truth, alpha in zip(pieces(self.prediction), pieces(self.truth), alphas, strict=False):
            yield ScoredClip(
                clip_id=self.name,
                subject=self.subject,
                prediction=_views_together(prediction),
                truth=_views_together(truth),
                valid=torch.ones(len(views), len(truth[0]), dtype=torch.bool),
                note=self.note,
                alpha=None if alpha is None else torch.stack([mask[:, 0].float() / 255 for mask in alpha]),
            )


def _views_together(videos: Sequence[Tensor]) -> Tensor:
    """(V, T, 3, H, W); of one view without a copy."""
    return videos[0][None] if len(videos) == 1 else torch.stack(list(videos))


def _same_frames(found: Video, true: Video) -> None:
    """Raises: DataError when the prediction does not have the frames of the truth."""
    if not isinstance(found.place, Path) and not isinstance(true.place, Path):
        same_names("frames", found.place, true.place)
    if found.length != true.length:
        raise DataError(f"the prediction has {found.length} frames, the reference {true.length}")


def _mask(clip: FolderClip | None, view: str, true: Video, room: Room) -> Video:
    """The mask of a view, in its channels. Raises: DataError where it is no mask of these frames."""
    found = None if clip is None else known_views(clip).get(view)
    if found is None:
        raise DataError(f"there is no mask{' of view ' + repr(view) if view else ''}")
    if not isinstance(true.place, Path) and not isinstance(found, Path):
        same_names("masks", found, true.place)
    look = MaskLook()
    mask = survey(found, "black", room, look)
    if (mask.length, mask.size) != (true.length, true.size):
        raise DataError(f"the mask is {mask.size_text(count=True)}, the reference {true.size_text(count=True)}")
    look.refuse_what_is_none()
    return mask
