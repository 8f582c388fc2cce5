"""Driving videos of clips: as pictures of files, changed for training, and refused where they show what is to be made."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from hvg.core.errors import HvgError
from hvg.values.clip import CLOSE_UPS, DRIVING, DRIVING_FIELDS, ClipBatch

# Close-up -> the setting of a data set that says the side of its pictures, pixels.
SIDES = {"driving_hands": "hand_size", "driving_face": "face_size"}
# Largest turn (degrees), change of size and shift (shares of the picture) at a strength of 1.
TURN, ZOOM, SHIFT = 30.0, 0.3, 0.3
# Weights of red, green and blue in what is grey. Source: ITU-R BT.601.
GREY = (0.299, 0.587, 0.114)


def close_up_sizes(config: Any) -> dict[str, int]:
    """Close-up -> the side of its pictures, pixels, of those that a data set with these settings makes."""
    return {close_up: size for close_up, setting in SIDES.items() if (size := getattr(config, setting, 0))}


def driving_pictures(clip: ClipBatch) -> dict[str, Tensor]:
    """Name -> pictures V T 3 H W of a clip's (B = 1) driving video and close-ups of it; V is how many pictures a frame has."""
    given = {name: x for name in CLOSE_UPS if (x := getattr(clip, name)) is not None}
    whole = {} if clip.driving is None else {DRIVING: clip.driving}
    return whole | {name: x[0].transpose(0, 1) for name, x in given.items()}


def driven(name: str, pictures: Tensor | None) -> Tensor | None:
    """The field of a clip (B = 1) that these pictures V T 3 H W are, as of ``driving_pictures``."""
    return pictures if pictures is None or name == DRIVING else pictures.transpose(0, 1)[None].contiguous()


def refuse_copies(clip: ClipBatch) -> None:
    """Raises: HvgError where the driving video of a clip (B = 1) is the target itself, seen by one of its own cameras.

    A network then learns to copy it: the loss falls, and the photo is never looked at.
    """
    driving, frames = clip.driving, clip.frames
    if driving is None or frames is None or (driving.shape[1:], driving.dtype) != (frames.shape[2:], frames.dtype):
        return
    if any(torch.equal(driving[0], view) for view in frames[0]):
        raise HvgError(
            f"clip '{clip.clip_id[0]}': its driving video is the target itself, from the same camera; training would learn to "
            "copy it, whatever the photo shows. Take another view or person (dataset.driving=other_view), or say "
            "data.copied_driving=allow"
        )


def changed_driving(
    clip: ClipBatch, draw: torch.Generator, *, perspective: float, spatial: float, colour: float
) -> ClipBatch:
    """The clip (B = 1) with its driving video, and close-ups of it, changed in the same way in every frame.

    perspective: share of half a side by which each corner moves inwards at most. spatial: strength of a turn, a change of
    size and a shift; 1 is ``TURN``, ``ZOOM`` and ``SHIFT``. colour: brightness, contrast and saturation are multiplied by
    1 - colour to 1 + colour. What was outside of the picture repeats its border. Nothing else of the clip changes.

    Source: 3DiMo (arXiv 2602.03796), which augments driving frames so that tokens know motion and not its picture; how
    strongly it does not say.
    """
    if clip.driving is None:
        return clip
    view = _homography(draw, perspective, spatial)
    factors = 1 + colour * (2 * torch.rand(3, generator=draw) - 1)

    def change(pictures: Tensor | None) -> Tensor | None:
        return None if pictures is None else recoloured(warped(pictures, view), *factors.tolist())

    return replace(clip, **{name: change(getattr(clip, name)) for name in DRIVING_FIELDS})


def _homography(draw: torch.Generator, perspective: float, spatial: float) -> Tensor:
    """From places in the changed picture to those in the given one, (3, 3), both in [-1, 1] with y down."""
    corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    inwards = perspective * torch.rand(4, 2, generator=draw)
    turn, zoom, *shift = (spatial * (2 * torch.rand(4, generator=draw) - 1)).tolist()
    angle = torch.deg2rad(torch.tensor(TURN * turn))
    scale = 1 + ZOOM * zoom
    similar = torch.eye(3)
    similar[:2, :2] = scale * torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).view(2, 2)
    similar[:2, 2] = 2 * SHIFT * torch.tensor(shift)
    return similar @ homography(corners, corners * (1 - inwards))


def homography(start: Tensor, end: Tensor) -> Tensor:
    """The projective map (3, 3) that takes four points (4, 2) to four others, its last entry 1."""
    x, y = start.double().unbind(1)
    one, none = torch.ones_like(x), torch.zeros_like(x)
    u, v = end.double().unbind(1)
    rows = [
        torch.stack([x, y, one, none, none, none, -u * x, -u * y], dim=1),
        torch.stack([none, none, none, x, y, one, -v * x, -v * y], dim=1),
    ]
    found = torch.linalg.solve(torch.cat(rows), torch.cat([u, v]))
    return torch.cat([found, found.new_ones(1)]).view(3, 3).to(start)


def warped(pictures: Tensor, view: Tensor) -> Tensor:
    """Pictures (..., 3, H, W) seen through a projective map (3, 3), as of ``_homography``; bilinear, the border repeated."""
    height, width = pictures.shape[-2:]
    y, x = ((2 * torch.arange(side) + 1) / side - 1 for side in (height, width))
    places = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width), torch.ones(height, width)], dim=-1)
    found = places @ view.T
    grid = found[..., :2] / found[..., 2:].clamp_min(1e-3)
    flat = pictures.reshape(-1, *pictures.shape[-3:])
    seen = grid_sample(flat, grid.to(flat).expand(len(flat), -1, -1, -1), padding_mode="border", align_corners=False)
    return seen.view_as(pictures)


def recoloured(pictures: Tensor, brightness: float, contrast: float, saturation: float) -> Tensor:
    """Pictures (..., 3, H, W) in [-1, 1] with each of these multiplied: light, distance from middle grey, and from their own
    grey.
    """
    colours = ((pictures + 1) / 2 * brightness - 0.5) * contrast + 0.5
    weights = colours.new_tensor(GREY).view(3, 1, 1)
    grey = (colours * weights).sum(dim=-3, keepdim=True)
    return (grey + saturation * (colours - grey)).clamp(0, 1) * 2 - 1
