"""Exact ray casting of ellipsoids: what every pixel centre sees of a body made of one ellipsoid per bone.

No mesh and no library is involved. Per ellipsoid, the rows and the columns within each row that it covers follow in
closed form from its projected conic, so that work is spent on hit pixels only; all images and bones go through at once.
"""

from dataclasses import dataclass
from operator import itemgetter

import torch
from torch import Tensor

from hvg.values.cameras import Cameras
from hvg.values.tensors import map_tensors

# Shortest long semi-axis, metres: two joints at one place would make a disc without thickness.
MIN_HALF_LENGTH = 1e-3
# Most pixels that go through at once: small pieces stay in the cache.
PIXELS_AT_ONCE = 1 << 19


@dataclass(frozen=True, kw_only=True)
class Ellipsoids:
    """Ellipsoids of revolution, N to an image.

    center: (..., N, 3), world, metres. axis: (..., N, 3), unit, along the long axis.
    half_length: (..., N), metres, semi-axis along ``axis``. radius: (..., N), metres, the two other semi-axes.
    """

    center: Tensor
    axis: Tensor
    half_length: Tensor
    radius: Tensor


@dataclass(frozen=True, kw_only=True)
class EllipsoidImage:
    """Ellipsoids as seen at the pixel centres; every value is 0 where nothing is hit, ``index`` is -1 there.

    distance: (..., H, W), metres to the camera's origin. z: (..., H, W), camera-space depth, metres.
    normal: (..., H, W, 3), unit, outward, camera axes. index: (..., H, W) int64, which ellipsoid. mask: (..., H, W)
    bool.
    """

    distance: Tensor
    z: Tensor
    normal: Tensor
    index: Tensor
    mask: Tensor


def ellipsoids_from_bones(joint_a: Tensor, joint_b: Tensor, radius: Tensor) -> Ellipsoids:
    """One ellipsoid per bone: centred between its joints, as long as the bone, ``radius`` across.

    joint_a, joint_b: (..., N, 3), world, metres. radius: broadcasts to (..., N), metres.

    Source: HVG (arXiv 2602.21188), section 3.1 and equation 1. Half the length never falls below ``MIN_HALF_LENGTH``.
    """
    bone = joint_b - joint_a
    length = bone.norm(dim=-1)
    up = torch.tensor([0.0, 1.0, 0.0], dtype=bone.dtype, device=bone.device)
    short = length < 2 * MIN_HALF_LENGTH
    # The direction of a bone without length is noise, and dividing by its length would make gradients infinite.
    axis = torch.where(short[..., None], up, bone / length.clamp_min(2 * MIN_HALF_LENGTH)[..., None])
    return Ellipsoids(
        center=(joint_a + joint_b) / 2,
        axis=axis,
        half_length=(length / 2).clamp_min(MIN_HALF_LENGTH),
        radius=radius.to(bone.dtype).expand(length.shape),
    )


def render(ellipsoids: Ellipsoids, cameras: Cameras) -> EllipsoidImage:
    """Image of the nearest ellipsoid at each pixel centre (+0.5).

    The leading axes of ellipsoids and cameras broadcast: bodies (B, 1, T) and cameras (B, V, T) give images (B, V, T).
    Only outer surfaces in front of the camera count: an ellipsoid behind it, or one that contains the camera's origin,
    is not seen. Differentiable with respect to the ellipsoids and to ``world_to_camera`` wherever a pixel is hit (which
    ellipsoid it hits is held fixed, silhouettes give no gradient).
    """
    shape = torch.broadcast_shapes(ellipsoids.center.shape[:-2], cameras.shape)
    local = _in_camera(ellipsoids, cameras, shape)
    intrinsics = cameras.intrinsics.expand(*shape, 3, 3).reshape(-1, 3, 3)
    height, width = cameras.image_size
    index = torch.empty(len(intrinsics), height, width, dtype=torch.int64, device=intrinsics.device)
    hits, values = [], []
    images = max(1, PIXELS_AT_ONCE // (height * width))
    for start in range(0, len(intrinsics), images):
        part = slice(start, start + images)
        some = map_tensors(local, itemgetter(part))
        index[part] = _nearest(some, intrinsics[part], (height, width))
        hit, seen = _surface(some, intrinsics[part], index[part])
        hits.append(hit + start * height * width)
        values.append(seen)
    canvas = local.center.new_zeros(5, index.numel()).index_copy_(1, torch.cat(hits), torch.cat(values, dim=1))
    canvas = canvas.reshape(5, *shape, height, width)
    index = index.reshape(*shape, height, width)
    return EllipsoidImage(
        distance=canvas[0], z=canvas[1], normal=canvas[2:].movedim(0, -1), index=index, mask=index >= 0
    )


def _surface(local: Ellipsoids, intrinsics: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Flat numbers (P) of the hit pixels of images (I, H, W), and distance, z and normal (5, P) there.

    The nearest ellipsoids are known by now (``index``, found without gradient); each pixel meets its own once more, so
    that going backward costs one intersection per pixel, however many ellipsoids there are.
    """
    height, width = index.shape[1:]
    hit = (index.flatten() >= 0).nonzero()[:, 0]
    image = hit // (height * width)
    which = image * local.radius.shape[-1] + index.flatten().index_select(0, hit)
    rays = _rays(intrinsics.index_select(0, image), hit, (height, width))
    z, normal = _intersect(local, which, rays)
    return hit, torch.cat([torch.stack([z * _length(rays), z]), normal])


def _length(v: Tensor) -> Tensor:
    """Length of vectors (3, P). ``norm`` over the first axis takes twenty times as long."""
    return v.square().sum(0).sqrt()


def _rays(intrinsics: Tensor, pixel: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Camera-space rays (3, P) with z = 1 through the centres of pixels (P), for intrinsics (P, 3, 3)."""
    height, width = image_size
    y = (pixel // width % height + 0.5 - intrinsics[:, 1, 2]) / intrinsics[:, 1, 1]
    x = (pixel % width + 0.5 - intrinsics[:, 0, 2] - intrinsics[:, 0, 1] * y) / intrinsics[:, 0, 0]
    return torch.stack([x, y, torch.ones_like(x)])


def _in_camera(ellipsoids: Ellipsoids, cameras: Cameras, shape: torch.Size) -> Ellipsoids:
    """The ellipsoids in camera axes, leading axes folded to one (I images): (I, N, ...)."""
    rotation, translation = cameras.world_to_camera[..., :3, :3], cameras.world_to_camera[..., :3, 3]

    def folded(x: Tensor, *size: int) -> Tensor:
        return x.expand(*shape, *size).reshape(-1, *size)

    count = ellipsoids.radius.shape[-1]
    return Ellipsoids(
        center=folded(ellipsoids.center @ rotation.mT + translation[..., None, :], count, 3),
        axis=folded(ellipsoids.axis @ rotation.mT, count, 3),
        half_length=folded(ellipsoids.half_length, count),
        radius=folded(ellipsoids.radius, count),
    )


def _intersect(local: Ellipsoids, which: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    """z (P, metres) and outward unit normal (3, P) where rays (3, P) with z = 1 meet ellipsoids number ``which`` (P).

    Every ray has to hit. Solved in the space where the ellipsoid is the unit sphere, from the point of the ray that is
    nearest to its centre: unlike the textbook quadratic, this subtracts no large squares.
    """
    table = torch.cat(
        [local.center, local.axis, 1 / local.radius[..., None], (1 / local.half_length - 1 / local.radius)[..., None]],
        dim=-1,
    )
    # Coordinates first: sums over a last axis of 3 are many times slower.
    center, axis, across, stretch = table.flatten(0, 1).T.contiguous().index_select(1, which).split([3, 3, 1, 1])

    def to_sphere(v: Tensor) -> Tensor:
        return v * across + axis * (stretch * (v * axis).sum(0))

    direction, center = to_sphere(rays), to_sphere(center)
    squared = direction.square().sum(0)
    middle = (direction * center).sum(0) / squared
    offset = middle * direction - center
    # The square root's slope is infinite on the silhouette.
    half_chord = ((1 - offset.square().sum(0)).clamp_min(1e-12) / squared).sqrt()
    normal = to_sphere(offset - half_chord * direction)
    return middle - half_chord, normal / _length(normal)


@dataclass(frozen=True, kw_only=True)
class _Conics:
    """Per ellipsoid (I, N), float64: where it is seen and how near, as polynomials of pixel coordinates.

    A ray r(x, y) hits where D(x, y) >= 0, at inverse depth 1 / z = (L(x, y) + sqrt(D(x, y))) / k.
    discriminant: (I, N, 3, 3), D = p^T discriminant p for p = (x, y, 1). linear: (I, N, 3), L = linear . p.
    k: (I, N), negative where the camera's origin lies inside. bounded: (I, N) bool, wholly in front of the camera.
    top, bottom: (I, N), pixel coordinates of the first and last point of the outline; unbounded ones span the image.
    """

    discriminant: Tensor
    linear: Tensor
    k: Tensor
    bounded: Tensor
    top: Tensor
    bottom: Tensor


def _conics(e: Ellipsoids, intrinsics: Tensor, height: int) -> _Conics:
    """Projects ellipsoids (I, N) with matrix A and centre c in camera space.

    A point z r of a ray lies on the surface where z^2 r^T A r - 2 z r^T A c + k = 0 with k = c^T A c - 1. Hence
    L = r^T A c and D = L^2 - k r^T A r. The vertical extent comes from the dual conic K (A^-1 - c c^T) K^T, whose
    tangent lines y = const solve a quadratic. In float64, since D is a small difference of large numbers.
    """
    center, axis = e.center.double(), e.axis.double()
    length2, radius2 = e.half_length.double().square()[..., None, None], e.radius.double().square()[..., None, None]
    k_matrix = intrinsics.double()[:, None]
    k_inverse = torch.linalg.inv(k_matrix)
    along = axis[..., :, None] * axis[..., None, :]
    eye = torch.eye(3, dtype=torch.float64, device=center.device)
    a = (eye - along) / radius2 + along / length2
    ac = (a @ center[..., None])[..., 0]
    k = (ac * center).sum(-1) - 1
    quadric = ac[..., :, None] * ac[..., None, :] - k[..., None, None] * a
    inverse = radius2 * eye + (length2 - radius2) * along
    dual = k_matrix @ (inverse - center[..., :, None] * center[..., None, :]) @ k_matrix.mT
    bounded = (center[..., 2] > 0) & (dual[..., 2, 2] < 0)
    root = (dual[..., 1, 2].square() - dual[..., 1, 1] * dual[..., 2, 2]).clamp_min(0).sqrt()
    divisor = torch.where(bounded, dual[..., 2, 2], 1.0)
    return _Conics(
        discriminant=k_inverse.mT @ quadric @ k_inverse,
        linear=(k_inverse.mT @ ac[..., None])[..., 0],
        k=k,
        bounded=bounded,
        top=torch.where(bounded, (dual[..., 1, 2] + root) / divisor, 0.0),
        bottom=torch.where(bounded, (dual[..., 1, 2] - root) / divisor, float(height)),
    )


def _ranges(first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """All integers of ranges [first, last] (R, empty where last < first): their range's number and themselves, (S)."""
    count = (last - first + 1).clamp_min(0)
    owner = torch.repeat_interleave(count)
    start = count.cumsum(0) - count
    return owner, torch.arange(len(owner), device=first.device) + (first - start).index_select(0, owner)


def _pixel_range(low: Tensor, high: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """First and last pixel number in [0, size) whose centre lies in [low, high] (pixel coordinates)."""
    return (low - 0.5).clamp(0, size).ceil().long(), (high - 0.5).clamp(-1, size - 1).floor().long()


@torch.no_grad()
def _nearest(e: Ellipsoids, intrinsics: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Number of the nearest ellipsoid at every pixel, (I, H, W) int64, -1 where there is none."""
    height, width = image_size
    images, count = e.radius.shape
    conics = _conics(e, intrinsics, height)
    first, last = _pixel_range(conics.top, conics.bottom, height)
    # A camera inside an ellipsoid, or one that lies wholly behind, sees nothing of it.
    behind = ~conics.bounded & (e.center[..., 2] <= 0) & _clear_of_camera_plane(e)
    last = torch.where((conics.k > 0) & ~behind, last, -1)
    bone, row = _ranges(first.flatten(), last.flatten())
    rows, low, high = _row_polynomials(conics, bone, row)
    bounded = conics.bounded.flatten()[bone]
    low, high = torch.where(bounded, low, 0.0), torch.where(bounded, high, float(width))
    owner, column = _ranges(*_pixel_range(low, high, width))

    d0, d1, d2, l0, l1, middle = rows.to(e.center.dtype).index_select(1, owner).unbind(0)
    x = column + 0.5 - middle
    discriminant = d0 + x * (d1 + x * d2)
    nearness = l0 + x * l1 + discriminant.clamp_min(0).sqrt()
    nearness = torch.where((discriminant >= 0) | bounded.index_select(0, owner), nearness, 0.0)
    pixel = ((bone // count * height + row) * width).index_select(0, owner) + column
    best = nearness.new_zeros(images * height * width).scatter_reduce_(0, pixel, nearness, "amax")
    winner = ((nearness == best.index_select(0, pixel)) & (nearness > 0)).nonzero()[:, 0]
    index = torch.full((images * height * width,), -1, dtype=torch.int64, device=pixel.device)
    # Two surfaces at exactly one depth: the lower number wins, whatever the order in which a device writes.
    index.scatter_reduce_(
        0, pixel.index_select(0, winner), (bone % count)[owner.index_select(0, winner)], "amin", include_self=False
    )
    return index.reshape(images, height, width)


def _clear_of_camera_plane(e: Ellipsoids) -> Tensor:
    """Whether the plane z = 0 misses the ellipsoid, (I, N) bool."""
    extent2 = e.radius.square() + (e.half_length.square() - e.radius.square()) * e.axis[..., 2].square()
    return e.center[..., 2].square() > extent2


def _row_polynomials(conics: _Conics, bone: Tensor, row: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The polynomials on the line y = row + 0.5, and the columns between which the conic crosses it.

    Returns rows (6, R): d0, d1, d2 with D = d0 + d1 x + d2 x^2, l0, l1 with (L + sqrt(D)) / k = 1 / z (both D and L
    already divided by k), and the column from which x counts: the crossing's middle, so that D does not cancel in
    single precision. low, high: (R), pixel coordinates.
    """
    q, linear = conics.discriminant.flatten(0, 1)[bone], conics.linear.flatten(0, 1)[bone]
    k, y = conics.k.flatten()[bone], row + 0.5
    d2 = q[:, 0, 0]
    d1 = 2 * (q[:, 0, 1] * y + q[:, 0, 2])
    d0 = q[:, 1, 1] * y * y + 2 * q[:, 1, 2] * y + q[:, 2, 2]
    # An ellipse has d2 < 0; other conics are searched over the whole row, from column 0.
    ellipse = d2 < 0
    safe = torch.where(ellipse, d2, -1.0)
    middle = torch.where(ellipse, -d1 / (2 * safe), 0.0)
    half = ((d1 * d1 - 4 * d2 * d0).clamp_min(0).sqrt() / (-2 * safe)).clamp_min(0)
    d0_middle = d0 + middle * (d1 + middle * d2)
    d1_middle = d1 + 2 * middle * d2
    l0 = linear[:, 0] * middle + linear[:, 1] * y + linear[:, 2]
    rows = torch.stack([d0_middle / k**2, d1_middle / k**2, d2 / k**2, l0 / k, linear[:, 0] / k, middle])
    return rows, middle - half, middle + half
