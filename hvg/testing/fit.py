"""Checks of what every fit promises."""

from dataclasses import replace
from typing import Any

import torch

from hvg.parts.context import Context
from hvg.parts.scene import BodyModel, Fit
from hvg.testing.building import make, require
from hvg.testing.scene import posed_batch
from hvg.values.body import BodyMotion
from hvg.values.clip import ClipBatch, Reference
from hvg.values.tensors import tensors_of

_CLIPS, _VIEWS, _FRAMES = 2, 3, 6
# Metres by which vertices may differ: how many frames are skinned together shows in their last digits.
_NEAR = 1e-5


def check_fit(cls: type[Fit], config: Any, body: BodyModel) -> None:
    """Runs every check below, on people of a body model. Raises: AssertionError that says which promise is broken."""
    clip = posed_batch(body, _CLIPS, _VIEWS, _FRAMES)
    fit = make(cls, config, Context(body=body))
    missing = cls.needs(config) - clip.present()
    require(not missing, f"{cls.__name__}.needs names unknown ClipBatch fields: {sorted(missing)}")
    if not cls.changes(config):
        require(fit.observe(clip) is clip, "changes is false, but the clip that is observed is another one")
        return
    check_observed(fit, clip)
    check_repeats(fit, make(cls, config, Context(body=body)), clip)
    check_parts(fit, clip)


def check_observed(fit: Fit, clip: ClipBatch) -> None:
    """Another body of the same form with a confidence for every joint; the true one is kept, bit by bit, and all else."""
    seen = fit.observe(clip)
    photo, true_photo = _photo(seen), _photo(clip)
    for name, observed, kept, true in (
        ("body", _body(seen), seen.target_body, _body(clip)),
        ("photo's body", photo.body, photo.target_body, true_photo.body),
    ):
        require(_same(kept, true), f"the true {name} is not kept")
        form = [None if x is None else x.joint_names for x in (observed, true)]
        require(form[0] == form[1], f"the observed {name} has other joints than the true one")
        shapes = [[tuple(x.shape) for x in tensors_of(replace(y, confidence=None))] for y in (observed, true) if y]
        require(shapes[0] == shapes[-1], f"the observed {name} has tensors {shapes[0]}, the true one {shapes[-1]}")
    sure, joints = _body(seen).confidence, _body(clip).joints
    in_range = sure is not None and sure.shape == joints.shape[:-1] and bool(((sure >= 0) & (sure <= 1)).all())
    require(in_range, f"confidence has to be {tuple(joints.shape[:-1])} numbers from 0 to 1")
    rest = replace(seen, body=None, true_body=None, reference=None)
    require(_same(rest, replace(clip, body=None, reference=None)), "a fit changed more of the clip than its bodies")
    again = fit.observe(seen)
    require(_same(again.body, seen.body), "a clip that is observed a second time has other errors")


def check_repeats(fit: Fit, other: Fit, clip: ClipBatch) -> None:
    """A clip has its errors in any batch and from any instance, with a mesh or without."""
    seen = fit.observe(clip)
    require(_same(other.observe(clip).body, seen.body), "another instance makes other errors")
    alone = other.observe(clip.clips(slice(1, 2)))
    require(_same(alone.body, _body(seen.clips(slice(1, 2)))), "a clip's errors depend on the clips beside it")
    bare = fit.observe(replace(clip, body=replace(_body(clip), vertices=None, faces=None)))
    require(torch.equal(_body(bare).joints, _body(seen).joints), "without a mesh the joints are elsewhere")


def check_parts(fit: Fit, clip: ClipBatch) -> None:
    """Some views and frames are observed as in the whole clip; a mesh to its last digits."""
    whole, views, frames = fit.observe(clip), [2, 1], [3, 4]
    part, expected = fit.observe(clip.select(views, frames)), whole.select(views, frames)
    require(torch.equal(_body(part).joints, _body(expected).joints), "frames of a part differ from those of the clip")
    vertices, there = _body(part).vertices, _body(expected).vertices
    near = vertices is not None and there is not None and bool((vertices - there).abs().max() < _NEAR)
    require(near, "a part's mesh differs from that of the clip")


def _body(clip: ClipBatch) -> BodyMotion:
    if clip.body is None:
        raise AssertionError("a clip lost its body")
    return clip.body


def _photo(clip: ClipBatch) -> Reference:
    if clip.reference is None:
        raise AssertionError("a clip lost its photo")
    return clip.reference


def _same(a: Any, b: Any) -> bool:
    """Whether two values hold the same tensors, bit by bit."""
    found = tensors_of(a), tensors_of(b)
    return len(found[0]) == len(found[1]) and all(map(torch.equal, *found))
