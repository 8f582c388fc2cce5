"""CIELAB: colours in which equal distances look about equally large."""

import torch
from torch import Tensor

# Linear sRGB -> XYZ of daylight D65. Source: IEC 61966-2-1.
SRGB_TO_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
# Least and greatest L*, a*, b* of an 8-bit sRGB colour, in whole numbers.
LOWEST, HIGHEST = (0.0, -87.0, -108.0), (100.0, 99.0, 95.0)


def lab(colours: Tensor) -> Tensor:
    """L*, a*, b* (3, P) float64 of 8-bit sRGB colours (3, P) uint8; white is exactly (100, 0, 0).

    Source: IEC 61966-2-1 for sRGB, CIE 15 for L*a*b*; its reference white is that of sRGB.
    """
    code = torch.arange(256, dtype=torch.float64, device=colours.device) / 255
    linear = (code / 12.92).where(code <= 0.04045, ((code + 0.055) / 1.055) ** 2.4)
    matrix = linear.new_tensor(SRGB_TO_XYZ)
    x, y, z = (matrix @ linear[colours.int()] / matrix.sum(dim=1, keepdim=True)).unbind()
    fx, fy, fz = (_compressed(value) for value in (x, y, z))
    return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


def _compressed(value: Tensor) -> Tensor:
    """The cube root, continued by a line near black."""
    knee = 6 / 29
    return value.pow(1 / 3).where(value > knee**3, value / (3 * knee**2) + 4 / 29)
