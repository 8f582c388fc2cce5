"""``hvg show``: a contact sheet with which a person checks that images, signals and cameras line up."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from hvg.commands.words import options_and_overrides
from hvg.config.build import build_alignment, build_reconstructor, load_clip
from hvg.config.command_options import ShowOptions
from hvg.config.composition import compose, judge_words
from hvg.config.settings import PartChoice, RunConfig
from hvg.config.validation import validate
from hvg.core import outputs
from hvg.core.errors import HvgError
from hvg.core.labels import PHOTO, map_label
from hvg.core.required import required
from hvg.data.driving import driving_pictures
from hvg.data.signals import NO_SIGNALS, Signals, signal_label, signals_of_all
from hvg.media.images import write_png
from hvg.media.tiles import over_text, tile_columns
from hvg.parts import registry
from hvg.parts.as_seen import as_seen
from hvg.values.cameras import project
from hvg.values.clip import CLOSE_UPS, ClipBatch

TRUE_COLOUR, OBSERVED_COLOUR = (1.0, -0.6, -0.6), (-0.8, 0.1, 1.0)


def run(words: list[str]) -> int:
    """``hvg show``; 0."""
    options, overrides = options_and_overrides(words, ShowOptions, judge=judge_words)
    print(f"wrote {contact_sheet(compose(overrides), options)}")
    return 0


def contact_sheet(config: RunConfig, options: ShowOptions) -> Path:
    """Writes a PNG: a row per view; columns photo, image, joints over the image, alpha, driving video and
    its hands, every pose signal there is; below, what is said of the clip.

    Where a fit observes the body, its joints are drawn over the true ones, in another colour that the label names. All of
    them are moved as the network sees them.
    """
    outputs.try_file(options.out, "out")
    outputs.refuse_existing(options.out, options.overwrite)
    clip = load_clip(config, options.split, options.index)
    if options.frame >= clip.grid[2]:
        raise HvgError(f"frame={options.frame}: the clip has {clip.grid[2]} frames")
    clip, signals = with_all_signals(config, clip)
    seen = as_seen(clip, build_alignment(config), config.data.background)
    clip = seen.select(frames=[options.frame])
    columns = {}
    if clip.reference is not None:
        for number, photo in enumerate(clip.reference.frames[0], start=1):
            columns[PHOTO if number == 1 else f"{PHOTO} {number}"] = photo.expand(clip.grid[1], 1, -1, -1, -1)
    if clip.frames is not None:
        columns["image"] = clip.frames[0]
    if clip.frames is not None and clip.body is not None:
        columns["joints" if clip.true_body is None else "true red, fit blue"] = draw_joints(clip)
    if clip.alpha is not None:
        columns["alpha"] = (clip.alpha[0] * 2 - 1).expand(-1, -1, 3, -1, -1)
    for name, pictures in driving_pictures(clip).items():
        # Of every view it is the same, whichever size it has.
        for number, picture in enumerate(pictures):
            title = CLOSE_UPS[name][number] if name in CLOSE_UPS else name
            columns[title] = interpolate(picture, clip.cameras.image_size).expand(clip.grid[1], 1, -1, -1, -1)
    for key, part in signals.items():
        for name, image in part.signal_images(clip.signals[key][0]).items():
            title = map_label(signal_label(key), name)
            columns[f"{key} {name}" if title in columns else title] = image
    sheet = tile_columns(columns | untrained_render(config, clip))[0]
    write_png(options.out, sheet if clip.caption is None else over_text(sheet, clip.caption[0] or "(no caption)"))
    return options.out


def untrained_render(config: RunConfig, clip: ClipBatch) -> dict[str, Tensor]:
    """Title -> what a reconstructor shows (V, T, 3, H, W) that has nothing to learn; nothing of one that has."""
    choice = config.parts.get("reconstructor")
    if choice is None or choice.cls.learns(choice.config):
        return {}
    background = clip.cameras.intrinsics.new_tensor(config.data.background) * 2 - 1
    with torch.no_grad():
        return {choice.name: build_reconstructor(config).render(clip).on(background)[0].movedim(-1, 2)}


def with_all_signals(config: RunConfig, clip: ClipBatch) -> tuple[ClipBatch, Signals]:
    """The clip with the map of every registered conditioner that draws one of what it holds; signal key -> who drew it.

    First those that the run chose, with its settings; the others with their defaults. None where the run's system has no
    conditioners, which are built for a backbone.
    """
    if "backbone" not in config.parts:
        return clip, NO_SIGNALS
    present, signals = clip.present(), signals_of_all([config])
    drawn = signals.draw(clip)
    chosen = {choice.name for choice in config.conditioners.values()}
    for name in registry.names("conditioner"):
        if name in chosen:
            continue
        # A part that cannot be used hurts only who selects it; here nobody did.
        try:
            more = signals | default_signals(config, name, present)
            drawn, signals = more.draw(drawn), more
        except HvgError as error:
            print(f"left out: {error}")
        except Exception as error:
            origin = registry.origin("conditioner", name)
            if origin == "built-in":
                raise
            reason = " ".join(str(error).split())
            print(f"left out: the conditioner '{name}' of package '{origin}': {type(error).__name__}: {reason}")
    return drawn, signals


def default_signals(config: RunConfig, name: str, present: frozenset[str]) -> Signals:
    """Signal key -> conditioner, for the map of a part at its defaults; none where it draws none, or not from these fields.

    Raises: HvgError for a part that cannot be imported or built, or that has no defaults.
    """
    cls = registry.load("conditioner", name)
    if not cls.has_signal():
        return NO_SIGNALS
    settings, problems = validate(cls.Config, {}, name, cls.__name__)
    if settings is None:
        raise HvgError("; ".join(map(str, problems)))
    if not cls.needs(settings) <= present:
        return NO_SIGNALS
    return signals_of_all([config.model_copy(update={"pose": PartChoice("conditioner", name, cls, settings)})])


def draw_joints(clip: ClipBatch) -> Tensor:
    """The clip's frames (V, T, 3, H, W) with a dot on every projected joint, true ones below those of a fit."""
    frames, true = required(clip.frames, "ClipBatch.frames")[0].clone(), required(clip.target_body, "ClipBatch.body")
    bodies = [(true, TRUE_COLOUR), *([] if clip.true_body is None else [(clip.body, OBSERVED_COLOUR)])]
    views, num_frames = frames.shape[:2]
    radius = max(1.0, frames.shape[-1] / 80)
    for (body, colour), v, t in product(bodies, range(views), range(num_frames)):
        pixels, depth = project(required(body, "ClipBatch.body").joints[0, t], clip.cameras[0, v, t])
        _dots(frames[v, t], pixels[depth > 0], radius, colour)
    return frames


def _dots(image: Tensor, pixels: Tensor, radius: float, colour: Sequence[float]) -> None:
    """Draws filled circles at pixel coordinates (N, 2) into an image (3, H, W)."""
    y, x = torch.meshgrid(torch.arange(image.shape[-2]) + 0.5, torch.arange(image.shape[-1]) + 0.5, indexing="ij")
    for px, py in pixels.tolist():
        near = (x - px) ** 2 + (y - py) ** 2 <= radius**2
        image[:, near] = torch.tensor(colour)[:, None]
