"""Scenes of clips."""

from hvg.config.build import load_clip
from hvg.config.settings import RunConfig
from hvg.config.view_options import ViewOptions
from hvg.core.eight_bit import frames_to_uint8
from hvg.values.clip import ClipBatch
from hvg.view.pictures import small_pictures
from hvg.view.scene import FITTED, TRUE, Scene, figure, make_scene


def dataset_scene(config: RunConfig, options: ViewOptions) -> Scene:
    """The clip of a run's dataset that the options name. Raises: HvgError where there is none."""
    clip, rate = load_clip(config, options.split, options.index), options.frames_per_second
    if "frames_per_second" not in options.model_fields_set:
        rate = getattr(config.dataset.config, "frames_per_second", rate)
    return clip_scene(clip, f"{config.dataset.name}: {options.split} clip {options.index}", rate)


def clip_scene(clip: ClipBatch, title: str, rate: float) -> Scene:
    """A clip (B = 1); where a fit observes its body, the true one and the fitted one."""
    if clip.true_body is not None and clip.body is not None:
        people = [figure("true", clip.true_body, TRUE), figure("fitted", clip.body, FITTED)]
    else:
        people = [] if clip.body is None else [figure("person", clip.body)]
    count = clip.grid[1]
    pictures = [None] * count if clip.frames is None else [small_pictures(x) for x in frames_to_uint8(clip.frames[0])]
    notes = [f"clip {clip.clip_id[0]}", *(f"caption: {text}" for text in clip.caption or () if text)]
    path = (clip.cameras[0], [f"view {v}" for v in range(count)])
    return make_scene(title, people, path, pictures, rate, notes)
