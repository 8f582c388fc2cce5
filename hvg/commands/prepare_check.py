"""``hvg prepare check``: whether bodies lie in the pictures of a dataset, and if not, which of the usual mistakes it is."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from hvg.commands.progress import ProgressLines
from hvg.commands.show import draw_joints
from hvg.commands.words import is_override, options_and_overrides
from hvg.config.build import build_part, true_clips
from hvg.config.command_options import PrepareCheckOptions
from hvg.config.composition import compose, judge_words
from hvg.config.settings import RunConfig
from hvg.core import outputs
from hvg.core.errors import DataError, HvgError
from hvg.core.names import as_name
from hvg.core.required import required
from hvg.data.clenched_hands import clenched_hands
from hvg.data.mistakes import agreement, bad_camera, mistake, scene_of, silhouettes
from hvg.data.recorded import Recorded
from hvg.geometry.bone_mesh import bone_mesh
from hvg.media.images import write_png
from hvg.media.tiles import tile_groups
from hvg.parts.scene import Dataset, Renderer
from hvg.values.clip import ClipBatch
from hvg.values.packed import unpacked

# Views and consecutive frames by which mistakes are told: with 26 frames or more, bodies of every 25th can be.
_VIEWS, _FRAMES = 6, 30
# Pixels of the shorter side of whole pictures.
_SHORTER = 384
_OUTLINE = (-0.9, 0.9, 1.0)


@dataclass(frozen=True)
class Finding:
    """What was found of one clip. problem: the mistake, or why the clip cannot be used; "" for neither."""

    clip: str
    told: str
    problem: str


def run(words: list[str]) -> int:
    """``hvg prepare check [DATASET] [overrides] [clips= split= out=]``; 0, or 1 where something is wrong."""
    words = [word if is_override(word) else f"dataset={word}" for word in words]
    # What a step would see does not matter here, so clips need not be large enough for it.
    words = ["data.views=1", "data.frames=1", *words]
    options, overrides = options_and_overrides(words, PrepareCheckOptions, judge=judge_words)
    config = compose(overrides)
    outputs.refuse_existing(options.out, options.overwrite)
    unusable = config.dataset.cls.holdings(config.dataset.config).unusable
    for name, reason in unusable.items():
        print(f"hvg: cannot be used: {name}: {reason}", file=sys.stderr)
    findings = check(config, options)
    for found in findings:
        print(f"{found.clip}: {found.told or found.problem}")
        if found.told and found.problem:
            print(f"{found.clip}: {found.problem}")
    return int(bool(unusable) or any(found.problem for found in findings))


def check(config: RunConfig, options: PrepareCheckOptions) -> list[Finding]:
    """Looks at some clips of a split, and writes a PNG for each."""
    clips, renderer = true_clips(_uncut(config), options.split), build_part(config.renderer)
    count = min(options.clips, len(clips))
    chosen = torch.linspace(0, len(clips) - 1, count).round().long().tolist()
    findings = []
    with ProgressLines() as progress:
        for number, index in enumerate(chosen):
            progress.update(config.dataset.name, "check", number, count)
            findings.append(_look(clips, index, renderer, options.out))
        progress.update(config.dataset.name, "check", count, count)
    return findings


def _uncut(config: RunConfig) -> RunConfig:
    """The run with clips as they were filmed, where the dataset can give them so."""
    choice, settings = config.dataset, config.dataset.config
    if issubclass(choice.cls, Recorded):
        settings = choice.cls.uncut(settings, _SHORTER)
    elif "mesh" in type(settings).model_fields:
        settings = settings.model_copy(update={"mesh": True})
    return config.model_copy(update={"dataset": replace(choice, config=settings)})


def _look(clips: Dataset, index: int, renderer: Renderer, out: Path) -> Finding:
    try:
        everywhere, some = _all_views(clips, index), _some_views(clips, index)
    except DataError as error:
        return Finding(f"clip {index}", "", " ".join(str(error).split()))
    name = everywhere.clip_id[0]
    names = _camera_names(clips, index, everywhere.grid[1])
    surface = "body's surface"
    if "body.vertices" not in everywhere.present():
        surface = "ellipsoids around the body's bones, in place of a mesh that is not here,"
        everywhere, some = (replace(clip, body=bone_mesh(required(clip.body, "body"))) for clip in (everywhere, some))
    path = out / f"{as_name(name)}.png"
    write_png(path, _drawn(everywhere, renderer, names))
    found, more = agreement(everywhere, renderer), agreement(some, renderer)
    told = (
        f"{100 * more.inside:.0f} % of the {surface} lies in the masks, overlap {float(found.overlap.mean()):.2f} "
        f"(from {float(found.overlap.min()):.2f} to {float(found.overlap.max()):.2f} over {len(names)} views); {path}"
    )
    problem = mistake(some, renderer) or bad_camera(found.overlap, names) or clenched_hands(some, renderer)
    return Finding(name, told, problem)


def _part(clips: Dataset, index: int, most_views: int | None, most_frames: int, middle: bool) -> ClipBatch:
    """Some views, spread evenly, and some frames in a row of a clip. Raises: HvgError where it lacks what is needed."""

    def choose(views: int, frames: int) -> tuple[list[int], range]:
        count = min(views, most_views or views)
        first = max(0, frames - most_frames) // 2 if middle else 0
        return [views * k // count for k in range(count)], range(first, min(frames, first + most_frames))

    part = clips.load_part(index, choose, frozenset())
    if part is not None:
        part = unpacked(part)
    else:
        clip = clips.load(index)
        part = clip.select(*choose(*clip.grid[1:]))
    lacking = {"frames", "alpha", "body"} - part.present()
    if lacking:
        raise HvgError(f"clip '{part.clip_id[0]}' has no {', '.join(sorted(lacking))}, by which bodies are checked")
    return part


def _all_views(clips: Dataset, index: int) -> ClipBatch:
    return _part(clips, index, None, 1, middle=True)


def _some_views(clips: Dataset, index: int) -> ClipBatch:
    return _part(clips, index, _VIEWS, _FRAMES, middle=False)


def _camera_names(clips: Dataset, index: int, count: int) -> Sequence[str]:
    """The names of a clip's cameras, where its dataset has any."""
    named = getattr(clips, "camera_names", None)
    return named(index) if named is not None else [str(view) for view in range(count)]


def _drawn(clip: ClipBatch, renderer: Renderer, names: Sequence[str]) -> torch.Tensor:
    """Every view of a frame, (3, H, W), with the outline of the mesh and joints over the picture."""
    pictures = draw_joints(clip)
    seen = silhouettes(scene_of(clip, range(clip.grid[1]), range(clip.grid[2])), renderer)
    inner = torch.nn.functional.max_pool2d((~seen).float(), 3, 1, 1) == 0
    edge = (seen & ~inner)[:, :, None].expand_as(pictures)
    pictures = torch.where(edge, torch.tensor(_OUTLINE)[:, None, None], required(pictures, "pictures"))
    return tile_groups([{name: video} for name, video in zip(names, pictures, strict=True)], min_cell_height=256)[0]
