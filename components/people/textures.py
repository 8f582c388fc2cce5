"""Colours of surface points: patterns in rest-pose metres, and the palettes they are drawn from."""

import colorsys
from dataclasses import dataclass

import numpy as np

# sRGB, from light to dark.
SKIN_TONES = np.array(
    [
        [0.96, 0.82, 0.73],
        [0.92, 0.75, 0.62],
        [0.84, 0.64, 0.48],
        [0.72, 0.51, 0.36],
        [0.56, 0.37, 0.25],
        [0.40, 0.26, 0.18],
    ]
)
HAIR_COLOURS = np.array(
    [
        [0.10, 0.08, 0.07],
        [0.24, 0.15, 0.10],
        [0.42, 0.26, 0.14],
        [0.72, 0.53, 0.28],
        [0.60, 0.25, 0.12],
        [0.55, 0.55, 0.56],
    ]
)
PATTERNS = ("plain", "stripes", "bars", "checks", "logo")


@dataclass(frozen=True)
class Cloth:
    """A material: two sRGB colours (3,) in [0, 1] and how they alternate.

    pattern: one of PATTERNS (stripes run around the body, bars along it). period, phase: metres.
    """

    first: np.ndarray
    second: np.ndarray
    pattern: str = "plain"
    period: float = 0.14
    phase: float = 0.0

    def colour(self, across: np.ndarray, along: np.ndarray, front: np.ndarray) -> np.ndarray:
        """sRGB (N, 3) at points given in metres ``across`` (x, or around) and ``along`` (y), and a flag ``front``."""
        second = np.zeros(len(across), dtype=bool)
        row = np.floor((along + self.phase) / self.period * 2).astype(int) % 2 == 0
        column = np.floor((across + self.phase) / self.period * 2).astype(int) % 2 == 0
        if self.pattern == "stripes":
            second = row
        elif self.pattern == "bars":
            second = column
        elif self.pattern == "checks":
            second = row ^ column
        elif self.pattern == "logo":
            second = front & self._logo(across, along)
        return np.where(second[:, None], self.second, self.first)

    def _logo(self, across: np.ndarray, along: np.ndarray) -> np.ndarray:
        """A ring, a disc or a cross of 0.08 m around the origin; which one follows from the phase."""
        distance = np.hypot(across, along)
        kind = int(self.phase * 1000) % 3
        if kind == 0:
            return distance < 0.075
        if kind == 1:
            return (distance < 0.085) & (distance > 0.045)
        return (np.abs(across) < 0.03) & (np.abs(along) < 0.085) | (np.abs(along) < 0.03) & (np.abs(across) < 0.085)


def vivid(generator: np.random.Generator, hue: float) -> np.ndarray:
    """A saturated sRGB colour (3,) of a hue, of which the whole part does not matter."""
    return np.array(colorsys.hsv_to_rgb(hue % 1, generator.uniform(0.62, 0.95), generator.uniform(0.55, 0.95)))


def muted(generator: np.random.Generator) -> np.ndarray:
    """A plain trousers or shoe colour: navy, black, grey, khaki, brown, white-ish, or a dark vivid one."""
    plain = np.array(
        [[0.13, 0.17, 0.32], [0.10, 0.10, 0.11], [0.42, 0.43, 0.46], [0.62, 0.54, 0.38], [0.33, 0.21, 0.13]]
    )
    return plain[generator.integers(len(plain))] * generator.uniform(0.9, 1.15)


def cloth(generator: np.random.Generator, patterns: tuple[str, ...] = PATTERNS) -> Cloth:
    """A vivid material whose two colours differ clearly in hue or lightness."""
    hue = generator.uniform()
    first = vivid(generator, hue)
    white = generator.uniform() < 0.35
    second = np.array([0.95, 0.95, 0.93]) if white else vivid(generator, hue + generator.uniform(0.25, 0.75))
    return Cloth(
        first=first,
        second=second,
        pattern=patterns[generator.integers(len(patterns))],
        period=generator.uniform(0.10, 0.18),
        phase=generator.uniform(0, 0.1),
    )
