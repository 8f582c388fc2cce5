"""What the buckets of a run make of its dataset's clips: which fit none, at which sizes they train, what a user has to know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from hvg.config.wiring import picture_size, temporal_stride
from hvg.core.errors import Problem
from hvg.core.required import required
from hvg.values.buckets import Size, groups, places, sources_of, unfit
from hvg.values.latent_time import padded_frames

if TYPE_CHECKING:
    from hvg.config.settings import RunConfig
    from hvg.parts.scene import Holdings

# Unfit clips that a message names.
MOST_NAMED = 3


def unfit_clips(config: RunConfig, sizes: Mapping[str, Size]) -> Iterator[Problem]:
    """Clips that no step can draw: a run without them has to be asked for."""
    data, where = config.data, f"clips of the dataset '{config.dataset.name}'"
    found = unfit(data.trained_buckets, sizes, data.max_crop)
    if not found or (data.unfit == "leave_out" and len(found) < len(sizes)):
        return
    if data.buckets is not None:
        way_out = "" if len(found) == len(sizes) else "; data.unfit=leave_out trains without them"
        yield Problem("data.buckets", f"{len(found)} of {len(sizes)} {where} fit none: {_first(found)}{way_out}.")
        return
    for place, axis, count in asked(config):
        small = {clip: size[axis] for clip, size in sizes.items() if size[axis] < count}
        if small:
            clip, word = min(small, key=lambda clip: small[clip]), ("views", "frames")[axis]
            yield Problem(
                place,
                f"{count} {word} are asked for; {len(small)} of {len(sizes)} {where} hold fewer, '{clip}' {small[clip]}.",
            )


def unmixed(config: RunConfig, held: Holdings) -> Iterator[Problem]:
    """Buckets for which a mixture has no clip, and parts of it without a clip for any bucket."""
    if not held.weights or not held.sizes:
        return
    buckets, sources = config.data.trained_buckets, sources_of(held.sizes, held.weights)
    found = groups(buckets, list(held.sizes.values()), config.data.max_crop, sources)
    drawn = {shape for group in found for bucket in group.buckets for shape in (bucket, replace(bucket, size=None))}
    place = "data.views" if config.data.buckets is None else "data.buckets"
    for bucket in buckets:
        if bucket not in drawn:
            yield Problem(place, f"no clip of the mixture is drawn for {bucket} (views x frames x height x width).")
    for label in held.weights.keys() - {group.source.label for group in found}:
        yield Problem(f"dataset.members.{label}", "none of its clips is drawn for any bucket (data.buckets).")


def _first(reasons: Mapping[str, str]) -> str:
    """The first clips and why they do not fit, in words; of many only those. reasons: as of ``unfit``."""
    named = [f"'{clip}' ({why})" for clip, why in islice(reasons.items(), MOST_NAMED)]
    return ", ".join([*named, *(["..."] if len(reasons) > MOST_NAMED else [])])


def shortened_clips(config: RunConfig, sizes: Iterable[Size]) -> Iterator[Problem]:
    """Latents made ahead for steps that see less than a whole clip, where a codec joins frames: they are of whole clips.

    sizes: (V, T, H, W) of clips.
    """
    data = config.data
    if data.latents == "encode" or temporal_stride(config) == 1:
        return
    for size in dict.fromkeys(sizes):
        for bucket in places(data.trained_buckets, size, data.max_crop):
            if bucket.frames < size[1]:
                yield Problem(
                    "data.latents",
                    f"cached are latents of whole clips where a codec joins frames in time, as {config.codec.name} does, and "
                    f"steps see {bucket.frames} of {size[1]} frames (data.frames); data.latents=encode encodes them.",
                )
                return


def padding_notes(config: RunConfig, frames: Iterable[int]) -> list[str]:
    """Notes for the user where videos of so many frames are padded for the codec, a line each."""
    stride, notes = temporal_stride(config), list[str]()
    for count in sorted(set(frames)):
        padded = padded_frames(count, stride)
        if padded != count:
            notes.append(
                f"codec={config.codec.name} joins {stride} frames in time, behind a first one: {count} frames are padded to "
                f"{padded} with the last one, and cut to {count} again; with {padded - stride} or {padded} nothing is padded"
            )
    return notes


def trained_pictures(config: RunConfig, sizes: Mapping[str, Size]) -> dict[tuple[int, int], str]:
    """(height, width) of pictures that the clips of a dataset have in training -> the first clip of each."""
    buckets, clips = config.data.trained_buckets, list(sizes)
    found: dict[tuple[int, int], str] = {}
    for group in groups(buckets, list(sizes.values()), config.data.max_crop):
        for bucket in group.buckets:
            found.setdefault(required(bucket.size, "the size of a bucket of known clips"), clips[group.clips[0]])
    return found


def asked(config: RunConfig) -> Iterator[tuple[str, int, int]]:
    """Where a configuration says how many views (axis 0) or frames (axis 1) a step draws, the axis, and how many."""
    if config.data.buckets is None:
        yield from (("data.views", 0, config.data.views), ("data.frames", 1, config.data.frames))
    for number, shape in enumerate(config.data.buckets or ()):
        yield from ((f"data.buckets.{number}", axis, count) for axis, count in enumerate(shape[:2]))


def unfit_pictures(config: RunConfig) -> Iterator[Problem]:
    """Buckets that no clip of a dataset fits whose settings say the size of its pictures."""
    size = picture_size(config)
    if size is None:
        return
    for number, bucket in enumerate(config.data.trained_buckets):
        reason = bucket.misfit((bucket.views, bucket.frames, size[0], size[1]), config.data.max_crop)
        if reason:
            yield Problem(f"data.buckets.{number}", f"fits no clip of the dataset: {reason}.")


def bucket_notes(config: RunConfig) -> list[str]:
    """Notes for the user on clips that are left out of training, buckets that no clip is drawn for, and steps whose videos are
    padded, a line each.
    """
    data, sizes = config.data, config.dataset.cls.holdings(config.dataset.config).sizes
    notes = padding_notes(config, (bucket.frames for bucket in data.trained_buckets))
    if not sizes:
        return notes
    left_out = unfit(data.trained_buckets, sizes, data.max_crop)
    found = groups(data.trained_buckets, list(sizes.values()), data.max_crop)
    drawn = {shape for group in found for b in group.buckets for shape in (b, replace(b, size=None))}
    notes += [f"no clip is drawn for the bucket {b}" for b in data.trained_buckets if b not in drawn]
    if left_out:
        notes.append(
            f"{len(left_out)} of {len(sizes)} training clips fit no bucket and are left out: {_first(left_out)}"
        )
    return notes


def scored_size_notes(config: RunConfig) -> list[str]:
    """Notes for the reader of a score whose pictures had their size changed, a line each."""
    sizes = dict.fromkeys(bucket.size for bucket in config.data.trained_buckets if bucket.size)
    listed = " or ".join(f"{height} x {width}" for height, width in sizes)
    note = f"clips are scored at the sizes of data.buckets ({listed}), cut in the middle where they had another"
    return [note] if sizes else []
