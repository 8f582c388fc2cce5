"""What is worth saying of a request before it is sampled."""

import math

import torch
from torch.nn.functional import normalize

from hvg.config import wiring
from hvg.config.command_options import SampleOptions
from hvg.config.settings import RunConfig
from hvg.data.signals import is_drawn_ahead
from hvg.geometry.motion import TO_Y_UP
from hvg.parts.text_conditioner import TextConditioner
from hvg.values.cameras import project
from hvg.values.clip import ClipBatch
from hvg.values.task import NOVEL_VIEW

# From how many degrees on the first camera no longer counts as one in front of the person.
SIDEWAYS_DEGREES = 45.0
# From how many degrees on a person does not stand.
LYING_DEGREES = 60.0


def first_view_note(batch: ClipBatch) -> str | None:
    """Note where the first camera is not in front of a person who faces +z, as in a photo; else None."""
    assert batch.body is not None
    x, _, z = (batch.cameras.centers[0, 0, 0] - batch.body.place("pelvis")[0][0]).tolist()
    azimuth = math.degrees(math.atan2(x, z))
    if abs(azimuth) <= SIDEWAYS_DEGREES:
        return None
    return (
        f"the first view stands {azimuth:.0f} degrees from the front (+z); views are told relative to the first one, "
        "which should look as the photo does"
    )


def upright_note(batch: ClipBatch, up: str) -> str | None:
    """Note where the person does not stand: the file may mean another axis by up; else None."""
    assert batch.body is not None
    spine = batch.body.joints[0, :, batch.body.joint_names.index("neck")] - batch.body.place("pelvis")[0]
    tilt = math.degrees(float(torch.acos(normalize(spine, dim=-1)[:, 1].clamp(-1, 1)).median()))
    if tilt < LYING_DEGREES:
        return None
    other = " or ".join(f"up={axis}" for axis in TO_Y_UP if axis != up)
    return f"the person's back is {tilt:.0f} degrees from upright; if they should stand, the motion has another axis up: {other}"


def prompt_note(config: RunConfig, options: SampleOptions) -> str | None:
    """Note where a prompt is given that nothing reads, or none where the settings say what stands in for it; else None."""
    slots = [(slot, x.name, x.cls, x.config) for slot, x in config.conditioners.items()]
    heard = any(issubclass(cls, TextConditioner) and cls.hears(settings) for _, _, cls, settings in slots)
    needed = any("caption" in fields for _, fields in wiring.needed_fields(config).values())
    if options.prompt is not None:
        return None if heard or needed else "no part of this model reads the prompt"
    notes = (
        f"{wiring.path_of_slot(config, slot)}={name}: {note}"
        for slot, name, cls, settings in slots
        if issubclass(cls, TextConditioner)
        for note in cls.notes(settings, frozenset({"caption"}))
    )
    return "; ".join(notes) or None


def task_note(config: RunConfig, options: SampleOptions, batch: ClipBatch) -> str | None:
    """Note where a request is taken for a novel view by a model that hears of it; else None."""
    heard = any("task" in fields for _, fields in wiring.needed_fields(config).values())
    if not heard or options.task != "auto" or batch.task != NOVEL_VIEW:
        return None
    return "the person does not move, so the photo is taken to show this pose: a novel view; if it shows another, give task=pose"


def hidden_maps_note(config: RunConfig) -> str | None:
    """Note where the videos of control maps cannot show some that the model is told; else None."""
    drawn = {
        slot: choice
        for slot, choice in config.conditioners.items()
        if choice.cls.has_signal() and choice.config.strength
    }
    hidden = [
        f"{wiring.path_of_slot(config, slot)}={choice.name}"
        for slot, choice in drawn.items()
        if not is_drawn_ahead(choice)
    ]
    if not hidden:
        return None
    lacking = "signals.mp4 and the grid lack it" if len(hidden) < len(drawn) else "there is no signals.mp4"
    return f"{', '.join(hidden)}: the map is drawn anew in every window of the sampler (no per_picture), so {lacking}"


def out_of_sight_note(batch: ClipBatch) -> str | None:
    """Note where the person walks out of the picture, or behind a camera; else None."""
    assert batch.body is not None
    height, width = batch.cameras.image_size
    pixels, depth = project(batch.body.place("pelvis")[0][:, None], batch.cameras[0])
    x, y = pixels[..., 0, :].unbind(-1)
    seen = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (depth[..., 0] > 0)
    lost = int((~seen.all(dim=0)).sum())
    if not lost:
        return None
    return (
        f"the person leaves the picture in {lost} of {seen.shape[1]} frames; stand farther away (distance=), or move the "
        "cameras along (camera=FILE.json)"
    )
