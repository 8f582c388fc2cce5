"""A found person drawn over their picture, to be looked at."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

# sRGB of a bone by the first letters of its joints' names; what is neither left nor right is light.
COLOURS = {"left": (60, 130, 255), "right": (255, 90, 60)}
LIGHT = (250, 220, 60)
# What stays of the picture where the person is not, and how sure of both joints one is where a bone is drawn wide.
DIMMED, SURE = 0.35, 0.5


def draw_person(
    picture: np.ndarray,
    matte: np.ndarray,
    joints: np.ndarray,
    confidence: np.ndarray,
    bones: Sequence[tuple[int, int, str]],
) -> np.ndarray:
    """The picture (H, W, 3), uint8, darker outside of the matte (H, W), with bones between joints (J, 2), pixels.

    confidence: (J,) in [0, 1]: below a half bones are thin. bones: of each two joints' numbers and ``left``, ``right`` or "".
    """
    share = DIMMED + (1 - DIMMED) * matte[..., None] / 255
    shown = Image.fromarray((picture * share).round().astype(np.uint8))
    draw = ImageDraw.Draw(shown)
    width = max(2, round(min(picture.shape[:2]) / 120))
    for first, second, side in bones:
        sure = min(confidence[first], confidence[second]) >= SURE
        ends = [tuple(joints[joint].tolist()) for joint in (first, second)]
        draw.line(ends, fill=COLOURS.get(side, LIGHT), width=width if sure else max(1, width // 3))
    for (x, y), sure in zip(joints.tolist(), confidence >= SURE, strict=True):
        radius = width * (0.8 if sure else 0.4)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(255, 255, 255), outline=(30, 30, 30))
    return np.asarray(shown)
