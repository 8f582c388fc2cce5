"""Predictions with one known fault each, made from true clips of people in the calibration suit."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

from components.datasets.synthetic import Synthetic
from components.people.suit import PARTS, SuitedPerson
from hvg.core.eight_bit import frames_to_uint8
from hvg.core.required import required
from hvg.parts.context import Context
from hvg.score.anchors import blurred
from hvg.values.scored_clip import ScoredClip, true_clip

WHITE = 255


class Mirrored(SuitedPerson):
    """Wears the suit with left and right exchanged."""

    def part(self, point: np.ndarray) -> np.ndarray:
        return super().part(point * np.array([-1, 1, 1], dtype=point.dtype))


class SuitClips:
    """True clips of people in the suit, as metrics see them, and what only the renderer knows of them."""

    def __init__(self, context: Context, **settings) -> None:
        self.dataset = Synthetic(Synthetic.Config(clothes="suit", **settings), context)

    def clip(self, index: int) -> ScoredClip:
        """Clip ``index`` with the truth for its prediction."""
        return true_clip(self.dataset.load(index)).with_surface(lambda: self.dataset.surface(index))

    def rest(self, index: int) -> Tensor:
        """(V, T, 3, H, W) metres: where the surface point that a pixel's centre shows is in the T-pose; NaN off the person."""
        surface, person = self.dataset.surface(index), self.dataset._scene(index, 0).person
        face, barycentric = required(surface.face, "face"), required(surface.barycentric, "barycentric")
        corners = torch.from_numpy(person._texture).float()[person.faces[face.clamp_min(0)]]
        points = (corners * barycentric[..., None]).sum(dim=-2)
        return points.where((face >= 0)[..., None], torch.nan).permute(0, 1, 4, 2, 3)

    def parts(self, index: int) -> Tensor:
        """(V, T, H, W) int64: position in ``PARTS`` of what a pixel's centre shows; -1 off the person."""
        points = self.rest(index).permute(0, 1, 3, 4, 2)
        hit, person = points.isfinite().all(dim=-1), self.dataset._scene(index, 0).person
        assert isinstance(person, SuitedPerson)
        parts = torch.full(hit.shape, -1)
        parts[hit] = torch.from_numpy(person.part(points[hit].numpy()))
        return parts

    def swapped(self, index: int) -> Tensor:
        """(V, T, 3, H, W) uint8: the clip, rendered anew, of a person whose left and right limbs changed colours."""
        scene = self.dataset._scene(index, 0)
        person = Mirrored.__new__(Mirrored)
        person.__dict__.update(vars(scene.person))
        frames, _ = self.dataset._render(person, scene.body, scene.cameras)
        return frames_to_uint8(self.dataset._grid(frames))


def recoloured(clip: ScoredClip, parts: Tensor, view: int, how: str) -> ScoredClip:
    """The shirt of one view in another colour, in all frames: ``pale`` or ``dark``, of the same hue, or ``grey``."""
    frames = clip.prediction.clone()
    shirt = (parts[view] == list(PARTS).index("trunk"))[:, None]
    colour = frames[view].float()
    paint = {
        "pale": 0.4 * colour + 0.6 * WHITE,
        "dark": 0.4 * colour,
        "grey": colour.amax(dim=1, keepdim=True).expand_as(colour),
    }[how]
    frames[view] = torch.where(shirt, paint.round().to(torch.uint8), frames[view])
    return replace(clip, prediction=frames)


def shifted(clip: ScoredClip, views: list[int], frame: int, right: int, down: int) -> ScoredClip:
    """One frame of some views moved by whole pixels; white comes in."""
    frames = clip.prediction.clone()
    for view in views:
        frames[view, frame] = shift(frames[view, frame], right, down)
    return replace(clip, prediction=frames)


def shift(picture: Tensor, right: int, down: int) -> Tensor:
    """(..., H, W) uint8 moved by whole pixels, white where nothing was."""
    height, width = picture.shape[-2:]
    result = torch.full_like(picture, WHITE)
    rows, columns = slice(max(down, 0), height + min(down, 0)), slice(max(right, 0), width + min(right, 0))
    from_rows, from_columns = slice(max(-down, 0), height - max(down, 0)), slice(max(-right, 0), width - max(right, 0))
    result[..., rows, columns] = picture[..., from_rows, from_columns]
    return result


def darker(clip: ScoredClip, frame: int) -> ScoredClip:
    """One frame of all views with everybody at two thirds of their brightness; the background stays as it is."""
    frames = clip.prediction.clone()
    alpha = required(clip.alpha, "alpha")[:, frame, None]
    picture = frames[:, frame].float()
    frames[:, frame] = (picture - alpha * (picture - (1 - alpha) * WHITE) / 3).clamp(0, WHITE).round().to(torch.uint8)
    return replace(clip, prediction=frames)


def dilated(clip: ScoredClip, pixels: int = 1) -> ScoredClip:
    """Everybody thicker by some pixels: every pixel gets the darkest value of each channel nearby."""
    views, _ = clip.grid
    darkest = -max_pool2d(-clip.prediction.flatten(0, 1).float(), 2 * pixels + 1, stride=1, padding=pixels)
    return replace(clip, prediction=darkest.to(torch.uint8).unflatten(0, (views, -1)))


def faded(frames: Tensor, strength: float) -> Tensor:
    """Pictures uint8 blended with white: 1 leaves them, 0 is blank."""
    return (WHITE - strength * (WHITE - frames.float())).round().to(torch.uint8)


def noisy(frames: Tensor, strength: float) -> Tensor:
    """Pictures uint8 with noise of a standard deviation in grey levels, another for every pixel."""
    return _rounded(frames + strength * torch.randn(frames.shape, generator=torch.Generator().manual_seed(0)))


def still(frames: Tensor) -> Tensor:
    """(V, T, 3, H, W): the first frame of every view all the time."""
    return frames[:, :1].expand_as(frames).contiguous()


def generated(clip: ScoredClip) -> Tensor:
    """(V, T, 3, H, W) uint8 as a mediocre model might make them: soft, each with mistakes of its own in place and colour."""
    random = torch.Generator().manual_seed(1)
    frames = blurred(clip.truth, 1.0).clone()
    for picture in frames.flatten(0, 1):
        right, down = torch.randint(-1, 2, (2,), generator=random).tolist()
        tint = 1 + 0.15 * torch.randn(3, 1, 1, generator=random)
        stains = torch.randn(1, 3, 8, 8, generator=random)
        stains = 12 * interpolate(stains, picture.shape[-2:], mode="bicubic")[0]
        paint = WHITE - (WHITE - shift(picture, right, down).float()) * tint
        picture.copy_(_rounded(paint + stains * (paint < WHITE - 5)))
    return frames


def _rounded(frames: Tensor) -> Tensor:
    return frames.round().clamp(0, WHITE).to(torch.uint8)
