"""Position of the pelvis in a picture, in pixels; NaN where nobody is seen."""

import torch
from torch import Tensor

from hvg.values.body import BodyMotion
from hvg.values.cameras import Cameras, project
from hvg.values.clip import Reference

# From the top of the head (0) to the soles (1) of a standing person: hips are at 0.53 of the stature (Drillis and Contini
# 1966, as tabulated in Winter, figure 4.1).
PELVIS_FROM_TOP = 0.47


def projected_pelvis(body: BodyMotion, cameras: Cameras) -> Tensor:
    """Pixels (B, V, T, 2) of a body's pelvis seen by cameras (B, V, T); NaN where it lies behind the camera."""
    pelvis = body.joints[:, None, :, body.joint_names.index("pelvis"), None]
    # A projection in bfloat16 would miss by pixels.
    with torch.autocast(pelvis.device.type, enabled=False):
        pixels, depth = project(pelvis, cameras)
    return pixels[..., 0, :].where(depth > 0, torch.nan)


def pelvis_in_photo(reference: Reference) -> Tensor | None:
    """Pixels (B, R, 2) of the person's pelvis; None where the photo has neither a body with a camera, nor alpha."""
    if reference.body is not None and reference.cameras is not None:
        return projected_pelvis(reference.body, reference.cameras[:, None])[:, 0]
    return None if reference.alpha is None else pelvis_in_outline(reference.alpha)


def pelvis_in_outline(alpha: Tensor) -> Tensor:
    """Pixels (B, R, 2) of the pelvis of a standing person with this alpha (B, R, 1, H, W); NaN where alpha is empty."""
    covered = alpha[:, :, 0] > 0.5
    top, bottom = _extent(covered.any(dim=-1))
    left, right = _extent(covered.any(dim=-2))
    pixels = torch.stack([(left + right) / 2, top + PELVIS_FROM_TOP * (bottom - top)], dim=-1)
    return pixels.where(covered.any(dim=(-2, -1))[..., None], torch.nan)


def whole_pixels(start: Tensor, goal: Tensor) -> Tensor:
    """Nearest whole pixels, int64, from ``start`` to ``goal``; 0 where either is NaN."""
    return (goal - start).nan_to_num(0.0).round().long()


def _extent(covered: Tensor) -> tuple[Tensor, Tensor]:
    """Edges (B, R) before the first and after the last covered place of (B, R, N) bool."""
    places = torch.arange(covered.shape[-1], device=covered.device, dtype=torch.float32).expand(covered.shape)
    return places.where(covered, covered.shape[-1]).amin(dim=-1), places.where(covered, -1).amax(dim=-1) + 1
