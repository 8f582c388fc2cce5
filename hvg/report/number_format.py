"""Numbers as tables show them, in the terminal, in Markdown, LaTeX and HTML alike; with true minus signs."""

import math

from hvg.score.statistics import Interval

# Below this, four decimals would leave nothing of a number; DisCo's L1 is around 1e-5.
SMALL = 1e-3


def format_number(value: float) -> str:
    """Two decimals from 10 upwards, three below, four below 0.1, an exponent below 0.001; infinity as its sign."""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if 0 < abs(value) < SMALL:
        return _with_exponent(value)
    decimals = 2 if abs(value) >= 10 else 3 if abs(value) >= 0.1 else 4
    return f"{value:.{decimals}f}".replace("-", "−")


def format_difference(difference: Interval, value: float) -> str:
    """``+0.512 [+0.350, +0.664]``; with exponents where four decimals would leave little, of a small ``value`` too."""
    bounds = (difference.mean, difference.low, difference.high)
    small = 0 < abs(value) < SMALL or 0 < max(map(abs, bounds)) < SMALL
    mean, low, high = (("+" if x > 0 else "") + _bound(x, small) for x in bounds)
    return f"{mean} [{low}, {high}]"


def format_amount(difference: Interval, unit: str) -> str:
    """``0.49 dB [0.32, 0.65]``: two digits of the interval's half width, and at most four of the mean."""
    bounds = (difference.mean, difference.low, difference.high)
    half = (difference.high - difference.low) / 2
    decimals = 3 - _magnitude(difference.mean)
    if 0 < half < math.inf:
        decimals = min(decimals, 1 - _magnitude(half))
    small = 0 < abs(difference.mean) < SMALL
    mean, low, high = (_with_exponent(x) if small else _rounded(x, max(0, decimals)) for x in bounds)
    return f"{mean}{' ' + unit if unit else ''} [{low}, {high}]"


def _magnitude(value: float) -> int:
    """Power of ten of the first digit; 0 for 0."""
    return math.floor(math.log10(abs(value))) if value else 0


def _rounded(value: float, decimals: int) -> str:
    return format_number(value) if math.isinf(value) else f"{value:.{decimals}f}".replace("-", "−")


def format_p(p: float) -> str:
    """``p 0.012``, ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p {p:.3f}" if p < 0.1 else f"p {p:.2f}"


def _bound(value: float, small: bool) -> str:
    if small:
        return _with_exponent(value) if abs(value) < 1 else format_number(value)
    # Beside bounds of ordinary size an exponent would only distract.
    return f"{value:.4f}".replace("-", "−") if abs(value) < SMALL else format_number(value)


def _with_exponent(value: float) -> str:
    return f"{value:.1e}".replace("-", "−") if value else "0"
