"""The videos of a study's report: the photo, every control map, the truth and every arm's result, side by side."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from hvg.config.build import build_alignment
from hvg.core.errors import DataError
from hvg.core.labels import PHOTO, arm_label, map_label
from hvg.core.required import required
from hvg.data.cache import open_clips
from hvg.data.signals import NO_SIGNALS, drawn_keys, signal_label, signals_of_all
from hvg.media.tiles import tile_columns
from hvg.media.video import write_video
from hvg.parts.as_seen import photos_as_seen
from hvg.parts.model import Conditioner
from hvg.report.results import ClipInfo
from hvg.score.measured_clips import azimuths_of, load_prediction, num_clips
from hvg.study.plan import ArmRun, ArmState
from hvg.study.study_file import StudyFile
from hvg.values.clip import ClipBatch
from hvg.values.scored_clip import true_clip


def study_clips(study: StudyFile, states: Sequence[tuple[ArmRun, ArmState]], output: Path) -> list[ClipInfo]:
    """Every test clip; the first few with a side-by-side video of the arms at the seed that most of them finished."""
    config, finished = states[0][0].config, [run for run, state in states if state.record is not None]
    done = Counter(run.seed for run in finished)
    shown = [run for run in finished if run.seed == max(study.seeds, key=lambda seed: done[seed])]
    wanted = signals_of_all([run.config for run in shown]).ahead
    clips = open_clips(config, "test", wanted)
    titles = map_titles({arm_label(run.arm, study.labels): drawn_keys(run.config) for run in shown})
    entries = []
    for index in range(num_clips(config, clips)):
        clip = (wanted if index < study.videos else NO_SIGNALS).load(clips, index)
        video = None
        if index < study.videos:
            video = f"samples/{clip.clip_id[0]}.mp4"
            drawn, made = maps(clip, wanted, titles), outcomes(study, clip, shown)
            columns = photos(study, clip, shown) | beside(drawn, made) | made
            write_video(output / video, tile_columns(columns), fps=4)
        name, subject, known_by = clip.clip_id[0], clip.subject[0], true_clip(clip).truth_print
        azimuths = azimuths_of(clip)
        entries.append(ClipInfo(clip_id=name, subject=subject, azimuths=azimuths, video=video, **known_by.record()))
    return entries


def map_titles(keys: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Signal key -> whose map it is, for the keys that every arm (by its label) sees: the part's, where it draws one map in
    the whole study, else that of the first arm that sees it.
    """
    arms: dict[str, str] = {}
    for arm, own in keys.items():
        for key in own:
            arms.setdefault(key, arm)
    drawn = Counter(map(signal_label, arms))
    return {key: signal_label(key) if drawn[signal_label(key)] == 1 else f"{arm}:" for key, arm in arms.items()}


def maps(clip: ClipBatch, parts: Mapping[str, Conditioner], titles: Mapping[str, str]) -> dict[str, Tensor]:
    """Label -> (V, T, 3, H, W): every picture of every control map. parts: signal key -> what draws it."""
    return {
        map_label(title, name): image
        for key, title in titles.items()
        for name, image in parts[key].signal_images(clip.signals[key][0]).items()
    }


def beside(drawn: Mapping[str, Tensor], made: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The maps ``drawn``, by labels that none of the results ``made`` has: an arm may be called as its map is."""
    return {f"{label} map" if label in made else label: image for label, image in drawn.items()}


def photos(study: StudyFile, clip: ClipBatch, shown: Sequence[ArmRun]) -> dict[str, Tensor]:
    """Label -> (V, 1, 3, H, W): the photo as the networks saw it, once for each alignment, with the first arm that has it."""
    if clip.reference is None:
        return {}
    runs: dict[str, ArmRun] = {}
    for run in shown:
        alignment = run.config.parts.get("alignment")
        runs.setdefault(json.dumps(alignment.resolved() if alignment else {"name": "none"}), run)
    found = {}
    for run in runs.values():
        seen = photos_as_seen(clip, build_alignment(run.config), run.config.data.background)[0]
        title = PHOTO if len(runs) == 1 else f"{PHOTO} by {arm_label(run.arm, study.labels)}"
        found[title] = seen.expand(clip.grid[1], 1, -1, -1, -1)
    return found


def outcomes(study: StudyFile, clip: ClipBatch, shown: Sequence[ArmRun]) -> dict[str, Tensor]:
    """Label -> (V, T, 3, H, W): the truth, and every arm's result."""
    found = {"truth": required(clip.frames, "ClipBatch.frames")[0]}
    for run in shown:
        made = load_prediction(run.folder / "predictions", clip.clip_id[0])
        if made.shape != found["truth"].shape:
            sizes = f"{tuple(made.shape)}, the clip {tuple(found['truth'].shape)}"
            raise DataError(f"{run.folder}: its prediction of clip '{clip.clip_id[0]}' is {sizes}; score it again")
        found[arm_label(run.arm, study.labels)] = made
    return found
