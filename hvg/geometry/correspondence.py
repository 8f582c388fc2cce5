"""Where the surface point that a pixel shows lies in another picture: from another camera, or at another moment."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from hvg.core.required import required
from hvg.values.cameras import Cameras, pixel_rays, project
from hvg.values.scored_clip import NotAvailable, Surface

# Nothing is nearer to a camera; keeps 1 / depth finite where there is no surface.
_NEAREST_METRES = 1e-3
# Unrelated points that each point is compared with, evenly spread over the others.
_UNRELATED = 16


@dataclass(frozen=True, kw_only=True)
class Matching:
    """Rule by which a surface point counts as seen: the pixels around it show the surface at its depth.

    tolerance_metres: by which depths may differ. max_slope: by which those of the pixels around may differ more for each
    metre that a pixel is wide at that depth, since a surface seen at an angle has other depths a pixel further (2 is an angle
    of 63 degrees).
    """

    tolerance_metres: float = 0.01
    max_slope: float = 2.0


@dataclass(frozen=True, kw_only=True)
class Correspondences:
    """Places of pixel centres' surface points in another picture.

    pixels: (N, H, W, 2). seen: (N, H, W) bool, whether both pictures show them.
    """

    pixels: Tensor
    seen: Tensor


def correspondences(
    surface: Surface, cameras: Cameras, source: Tensor, target: Tensor, matching: Matching | None = None
) -> Correspondences:
    """From N pictures to N others of one clip, each given as (view, frame), (N, 2) int64; cameras (V, T).

    A point keeps its place on the moving mesh. A pair of the same moment needs no mesh: depth gives the point.
    A point is seen where the pixel and its four neighbours in the source, and the four pixels around the place where it
    lands, show surface at its depth, as ``Matching`` says. So none lies within a pixel of a silhouette or of the edge of
    something that stands further out than a steep surface would, and none is seen at a flat angle.
    Raises: NotAvailable when the moments differ and the surface is known as depth only.
    """
    matching = matching or Matching()
    depth, seen_from = surface.depth[tuple(source.T)], cameras[tuple(source.T)]
    target_depth, seen_by = surface.depth[tuple(target.T)], cameras[tuple(target.T)]
    same_moment = bool((source[:, 1] == target[:, 1]).all())
    points = unproject(depth, seen_from) if same_moment else _moved(surface, source, target[:, 1])
    pixels, z = project(points.flatten(1, 2), seen_by)
    pixels, z = (x.unflatten(1, depth.shape[1:]) for x in (pixels, z))
    number = torch.arange(len(depth), device=depth.device)[:, None, None].expand_as(depth)
    around, inside = _around(target_depth[:, None], pixels, number)
    landed = _near(around[..., 0], z, seen_by, matching).all(dim=0) & inside
    # Over a plane 1 / z is linear in the picture; z is not.
    there = 1 / sample_pixels((1 / target_depth.clamp_min(_NEAREST_METRES))[:, None], pixels)[:, 0]
    landed = landed & ((there - z).abs() <= matching.tolerance_metres)
    return Correspondences(pixels=pixels, seen=_clear(depth, seen_from, matching) & landed & (z > 0))


def both_ways(
    surface: Surface, cameras: Cameras, source: Tensor, target: Tensor, matching: Matching | None = None
) -> tuple[Correspondences, Correspondences]:
    """From source to target, and back. Arguments as of ``correspondences``."""
    there = correspondences(surface, cameras, source, target, matching)
    return there, correspondences(surface, cameras, target, source, matching)


def inconsistency(
    source: Tensor, target: Tensor, matches: tuple[Correspondences, Correspondences]
) -> tuple[Tensor, Tensor]:
    """How unlike N pairs of pictures (N, C, H, W) are at the same surface points, (N,) float64, and at how many points.

    The root mean square difference of corresponding points over that of unrelated ones: 0 for equal, 1 for points that are no
    more alike than any two; 1 also where unrelated points do not differ, for a picture without contrast agrees with
    everything. So it does not change when a picture fades. NaN where no point is seen.

    A difference is the distance of a point's value in one picture from the range of values in the four pixels around its
    place in the other, squared and averaged over channels, both ways: one that less than a pixel's displacement explains is
    none. Unrelated are the places of other points of the same pair, ``_UNRELATED`` for each point.
    matches: as of ``both_ways``.
    """
    related, unrelated = torch.zeros(2, len(source), dtype=torch.float64, device=source.device)
    count = torch.zeros(len(source), dtype=torch.int64, device=source.device)
    for one, other, match in ((source, target, matches[0]), (target, source, matches[1])):
        number, row, column = match.seen.nonzero(as_tuple=True)
        values = one[number, :, row, column].double()
        around, _ = _around(other, match.pixels[match.seen], number)
        low, high = (x.double() for x in (around.amin(dim=0), around.amax(dim=0)))
        seen = match.seen.sum(dim=(1, 2))
        related += _summed(_outside(values, low, high), match.seen)
        for places in _others(number, seen):
            unrelated += _summed(_outside(values, low[places], high[places]), match.seen) / _UNRELATED
        count += seen
    value = (related / unrelated).where(unrelated > 0, 1.0).clamp(max=1.0).sqrt()
    return value.where(count > 0, torch.nan), count


def excess_inconsistency(
    prediction: tuple[Tensor, Tensor], truth: tuple[Tensor, Tensor], matches: tuple[Correspondences, Correspondences]
) -> tuple[Tensor, Tensor]:
    """By how much predictions are less consistent than the truth, (N,) float64 in [0, 1], and at how many points.

    (i - i_truth) / (1 - i_truth) with i their ``inconsistency``, 0 where the predictions are the more consistent ones: shading
    and sampling make the truth's points differ, too. NaN where no point is seen or the truth has no contrast.
    """
    (own, count), (ideal, _) = inconsistency(*prediction, matches), inconsistency(*truth, matches)
    return ((own - ideal) / (1 - ideal)).clamp_min(0).where(ideal < 1, torch.nan), count


def unproject(depth: Tensor, cameras: Cameras) -> Tensor:
    """World points (N, H, W, 3), metres, that pixel centres of cameras (N) show at depths (N, H, W)."""
    rotation, translation = cameras.world_to_camera[..., :3, :3], cameras.world_to_camera[..., :3, 3]
    in_camera = pixel_rays(cameras) * depth[..., None]
    return ((in_camera.flatten(1, 2) - translation[:, None]) @ rotation).unflatten(1, depth.shape[1:])


def sample_pixels(pictures: Tensor, pixels: Tensor) -> Tensor:
    """Bilinear values (N, C, ...) of pictures (N, C, H, W) at pixels (N, ..., 2); centres lie at +0.5."""
    size = pixels.new_tensor(pictures.shape[:1:-1])
    grid = (2 * pixels / size - 1).flatten(1, -2)[:, None]
    values = grid_sample(pictures, grid.to(pictures.dtype), mode="bilinear", padding_mode="border", align_corners=False)
    return values[:, :, 0].unflatten(2, pixels.shape[1:-1])


def check_shapes(surface: Surface, grid: tuple[int, int], image_size: tuple[int, int], cameras: Cameras) -> None:
    """Raises: ValueError when surface and cameras are not those of (V, T) pictures of this size."""
    given = (tuple(surface.depth.shape), (*cameras.shape, *cameras.image_size))
    if any(shape != (*grid, *image_size) for shape in given):
        raise ValueError(
            f"pictures are (V, T, H, W) = {(*grid, *image_size)}, the surface is for {given[0]}, the cameras for {given[1]}"
        )


def _around(pictures: Tensor, pixels: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
    """Values (4, ..., C) of the four pixels around places (..., 2) in those pictures of (N, C, H, W) that ``number`` (...) names.

    Also (...) bool, whether all four are in the picture.
    """
    height, width = pictures.shape[-2:]
    column, row = (pixels - 0.5).floor().long().unbind(-1)
    inside = (column >= 0) & (column < width - 1) & (row >= 0) & (row < height - 1)
    row, column = row.clamp(0, height - 2), column.clamp(0, width - 2)
    last = pictures.permute(0, 2, 3, 1)
    return torch.stack([last[number, row + down, column + right] for down in (0, 1) for right in (0, 1)]), inside


def _outside(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Squared distance (P) of values (P, C) from ranges, averaged over channels."""
    return ((values - high).clamp_min(0) + (low - values).clamp_min(0)).square().mean(dim=-1)


def _summed(values: Tensor, seen: Tensor) -> Tensor:
    """Sums (N,) of the seen points' values (P), picture by picture: so they do not depend on the order in which a GPU adds."""
    grid = torch.zeros(seen.shape, dtype=values.dtype, device=values.device)
    grid[seen] = values
    return grid.sum(dim=(1, 2))


def _others(number: Tensor, count: Tensor) -> Iterator[Tensor]:
    """For each of P points in order of their picture, ``_UNRELATED`` times, the place of another point of that picture.

    number: (P) picture of every point. count: (N) points of every picture. A picture's only point has itself.
    """
    first = (count.cumsum(dim=0) - count)[number]
    place, size = torch.arange(len(number), device=number.device) - first, count[number]
    for k in range(_UNRELATED):
        yield first + (place + 1 + k * (size - 1) // _UNRELATED) % size


def _near(depth: Tensor, at: Tensor, cameras: Cameras, matching: Matching) -> Tensor:
    """Whether depths (4, N, H, W) of neighbouring pixels are those of one piece of surface with ``at`` (N, H, W)."""
    pixel = at / cameras.intrinsics[:, 0, 0, None, None]
    return (depth > 0) & ((depth - at).abs() <= matching.tolerance_metres + matching.max_slope * pixel)


def _clear(depth: Tensor, cameras: Cameras, matching: Matching) -> Tensor:
    """(N, H, W) bool: pixels that show, with their four neighbours, one piece of surface; never at the border."""
    middle = depth[:, 1:-1, 1:-1]
    neighbours = [depth[:, :-2, 1:-1], depth[:, 2:, 1:-1], depth[:, 1:-1, :-2], depth[:, 1:-1, 2:]]
    near = _near(torch.stack(neighbours), middle, cameras, matching).all(dim=0)
    clear = torch.zeros_like(depth, dtype=torch.bool)
    clear[:, 1:-1, 1:-1] = near & (middle > 0)
    return clear


def _moved(surface: Surface, source: Tensor, frame: Tensor) -> Tensor:
    """World points (N, H, W, 3), metres: where the material that pictures show is at other moments (N,)."""
    if surface.face is None:
        raise NotAvailable("the motion of the surface's points is not known, only its depth")
    barycentric = required(surface.barycentric, "Surface.barycentric")[tuple(source.T)]
    vertices, faces = required(surface.vertices, "Surface.vertices"), required(surface.faces, "Surface.faces")
    face = surface.face[tuple(source.T)]
    picture, row, column = (face >= 0).nonzero(as_tuple=True)
    corners = vertices[frame[picture, None], faces[face[picture, row, column]]]
    points = torch.zeros_like(barycentric)
    points[picture, row, column] = (corners * barycentric[picture, row, column, :, None]).sum(dim=1)
    return points
