"""Charts of report pages as plotly figures: what they share, and curves."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import plotly.graph_objects as go

from hvg.report.number_format import SMALL

# Okabe and Ito's palette, which people with colour-deficient sight tell apart, tuned to stand out from a white and a dark page.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b8578f", "#8a6d00", "#3c9bd1", "#7d62b5", "#757b84")
GREY, FAINT_GREY = COLOURS[-1], "rgba(117, 123, 132, 0.3)"
# The page draws these two in the colours of its theme, as it does letters (page.css).
INK, PAPER = "#000000", "#ffffff"
# A line of no more points than this shows each as a dot.
MOST_DOTS = 40
# As many letters of a label as fit beside what else a chart shows.
LABEL_LETTERS = 28
# Plain numbers of six digits: plotly's own format makes 0.5e+4 of 5000. Small ones: see ``small_ticks``.
AXIS = {"tickformat": "~g", "automargin": True, "tickfont_size": 12, "title_font_size": 12, "title_standoff": 10}
AXIS |= {"gridcolor": FAINT_GREY, "linecolor": GREY, "tickcolor": GREY, "zeroline": False, "zerolinecolor": GREY}
TEMPLATE = go.layout.Template(
    layout={
        "font_family": "system-ui, sans-serif",
        "paper_bgcolor": "rgba(0, 0, 0, 0)",
        "plot_bgcolor": "rgba(0, 0, 0, 0)",
        "margin": {"l": 12, "r": 12, "t": 12, "b": 12},
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {"namelength": -1, "align": "left", "font_family": "system-ui, sans-serif"},
        "xaxis": AXIS | {"showline": True, "ticks": "outside"},
        "yaxis": AXIS,
    }
)


@dataclass(frozen=True)
class Chart:
    """label: what a screen reader says of it. legend: label -> number of a look, where it is not in the figure itself."""

    label: str
    figure: go.Figure
    legend: Mapping[str, int] = field(default_factory=dict)


# A curve: (x, y), in the order of x.
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """One curve. label: its legend entry, which lines may share. look: number."""

    label: str
    look: int
    points: Points


def look(number: int) -> dict[str, str]:
    """Colour and dash of a line: all colours, then the same ones dashed."""
    return {"color": COLOURS[number % len(COLOURS)], "dash": "dash" if number // len(COLOURS) % 2 else "solid"}


def shortened(label: str) -> str:
    """The first letters of a label, for plotly, which reads its texts as HTML."""
    return escape(label if len(label) <= LABEL_LETTERS else label[: LABEL_LETTERS - 1].rstrip() + "…")


def rounded(value: float) -> float:
    """Six digits: more than a picture shows, and half of what a page would hold."""
    return float(f"{value:.6g}")


def bounds(values: Iterable[float], margin: float = 0.0) -> tuple[float, float]:
    """Lowest and highest value, with ``margin`` of their distance on either side; never an empty range."""
    values = list(values)
    low, high = min(values), max(values)
    if low == high:
        reach = abs(low) / 2 or 0.5
        low, high = low - reach, high + reach
    space = margin * (high - low)
    return low - space, high + space


def small_ticks(low: float, high: float) -> dict[str, Any]:
    """Ticks of an axis whose numbers need exponents, as 6e−06; {} for any other, whose ticks plotly sets."""
    if not 0 < max(abs(low), abs(high)) < SMALL:
        return {}
    step = 10.0 ** math.floor(math.log10((high - low) / 2))
    step *= next(factor for factor in (1, 2, 5) if (high - low) / (factor * step) < 6)
    places = [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return {"tickvals": places, "ticktext": [f"{place:.4g}".replace("-", "−") for place in places]}


def new_figure(height: float, **layout: Any) -> go.Figure:
    """An empty figure. height: pixels. The page sets its width."""
    return go.Figure(layout={"template": TEMPLATE, "height": height, **layout})


def line_chart(lines: Sequence[Line], x_label: str, y_label: str, *, shown: float = 1.0) -> Chart | None:
    """The lines in one chart; points that are not finite are left out, None if none is left.

    shown: share of the values, from below, that the y axis holds; what lies above is cut off.
    """
    finite = [(line, [(x, y) for x, y in line.points if math.isfinite(y)]) for line in lines]
    values = sorted(y for _, points in finite for _, y in points)
    if not values:
        return None
    places = [x for _, points in finite for x, _ in points]
    figure = new_figure(280, xaxis_title_text=escape(x_label), yaxis_title_text=escape(y_label))
    ends = bounds([values[0], values[min(len(values) - 1, int(shown * len(values)))]], margin=0.05)
    figure.update_yaxes(range=ends, **small_ticks(*ends))
    # Between frames, or steps, there is nothing to read.
    figure.update_xaxes(range=bounds(places, margin=0.02), dtick=1 if max(places) - min(places) < 6 else None)
    for line, points in finite:
        figure.add_scatter(
            x=[x for x, _ in points],
            y=[rounded(y) for _, y in points],
            name=escape(line.label),
            mode="lines" if len(points) > MOST_DOTS else "lines+markers",
            line={"width": 1.8, **look(line.look)},
            hovertemplate="%{y:.4g} at %{x}",
        )
    return Chart(f"{y_label} over {x_label}", figure, {line.label: line.look for line, points in finite if points})
