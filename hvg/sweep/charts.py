"""Charts of a sweep's report: parallel coordinates, whose axes the page lets be brushed, and how the sweep got better."""

import math
from collections.abc import Sequence
from html import escape
from statistics import median
from typing import Any

from plotly.colors import sample_colorscale

from hvg.report.figures import GREY, Chart, Line, bounds, line_chart, new_figure, shortened
from hvg.report.number_format import format_number
from hvg.sweep.records import SweepRecord, TrialRecord
from hvg.sweep.space import Choices, Parameter

# Looks of the trials' curves.
LOOKS = {"complete": 0, "pruned": 1, "running": 2, "waiting": 2, "failed": 7}
# Colours of the worst and the best trial; both stand out from a white and a dark page.
SCALE = ("#b8892b", "#2f6fde")


def parallel_chart(record: SweepRecord) -> Chart | None:
    """An axis per parameter, and last one of the result, its better end up; a line per trial that has one or was stopped.

    Lines are in shares of their axes. What is far worse than most is drawn at the lower end of the result's axis. None without a
    result.
    """
    ranked = record.ranked
    if not ranked:
        return None
    # The best are drawn last, over the others.
    trials = [trial for trial in record.trials if trial.state == "pruned" and trial.values] + ranked[::-1]
    colours = [GREY] * (len(trials) - len(ranked)) + [*sample_colorscale(SCALE, max(2, len(ranked)))][-len(ranked) :]
    results = [trial.value or 0.0 for trial in ranked]
    ends = [_ends(parameter, trials) for parameter in record.space]
    ends.append(_result_ends(results, record.direction == "minimize"))
    figure = new_figure(420, margin={"l": 90, "r": 90, "t": 64})
    figure.update_xaxes(range=[0, len(record.space)], visible=False)
    figure.update_yaxes(range=[0, 1], visible=False)
    for trial, colour in zip(trials, colours, strict=True):
        ended = trial.state == "complete"
        places = [_place(parameter, trial.values[parameter.key]) for parameter in record.space]
        places += [trial.value or 0.0] if ended else []
        shares = [(x - low) / (high - low) for x, (low, high) in zip(places, ends, strict=False)]
        figure.add_scatter(
            x=[*range(len(shares))],
            y=[min(1.0, max(0.0, share)) for share in shares],
            name=f"trial {trial.index}",
            mode="lines",
            line={"color": colour, "width": 1.6 if ended else 1, "dash": "solid" if ended else "dash"},
            hovertext=_description(trial, record.metric),
            hoverinfo="text",
        )
    scales = [(parameter.key, _ticks(parameter, places)) for parameter, places in zip(record.space, ends, strict=False)]
    for number, (label, ticks) in enumerate([*scales, (record.metric, {"tickmode": "auto"})]):
        # A scale of its own, with what plotly needs to draw one: a trace, which has no point.
        figure.add_scatter(x=[number], y=[None], yaxis=f"y{number + 2}", hoverinfo="skip")
        drawn = {"overlaying": "y", "anchor": "free", "showline": True, "ticks": "outside", "showgrid": False}
        place = {"position": number / len(record.space), "range": ends[number]}
        figure.update_layout({f"yaxis{number + 2}": drawn | place | ticks})
        # Labels of neighbours stand in two rows, for they are longer than the axes are apart.
        head = {"text": shortened(label), "hovertext": escape(label), "yshift": (42, 22)[number % 2]}
        figure.add_annotation(x=number, y=1, yref="paper", showarrow=False, **head)
    return Chart(f"{record.metric} and the parameters of every trial", figure)


def _place(parameter: Parameter, value: float | str) -> float:
    """Position of a value on its axis, in the units of ``_ends``."""
    if isinstance(parameter, Choices):
        return parameter.values.index(str(value))
    return math.log10(float(value)) if parameter.log else float(value)


def _ends(parameter: Parameter, trials: Sequence[TrialRecord]) -> tuple[float, float]:
    """The places of the lower and the upper end of its axis."""
    if isinstance(parameter, Choices):
        return -0.5, len(parameter.values) - 0.5
    return bounds(_place(parameter, trial.values[parameter.key]) for trial in trials)


def _result_ends(results: Sequence[float], lower_is_better: bool) -> tuple[float, float]:
    """The values at the lower and the upper end of the result's axis."""
    low, high = bounds(results)
    # Diverged trials would press all others into a line.
    reach = 4 * abs(median(results) - (low if lower_is_better else high)) or high - low
    return (min(high, low + reach), low) if lower_is_better else (max(low, high - reach), high)


def _ticks(parameter: Parameter, ends: tuple[float, float]) -> dict[str, Any]:
    """Plotly settings for the ticks of a parameter's axis: its values' names, or round numbers."""
    if isinstance(parameter, Choices):
        return {"tickvals": [*range(len(parameter.values))], "ticktext": [*map(shortened, parameter.values)]}
    if parameter.log:
        # 1, 2 and 5 times powers of ten, or powers alone.
        return {"type": "log", "dtick": "D2" if ends[1] - ends[0] < 3 else 1, "tickformat": "~g"}
    return {"tickmode": "auto"}


def _description(trial: TrialRecord, metric: str) -> str:
    values = [
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in trial.values.items()
    ]
    result = [f"{metric} {format_number(trial.value or 0.0)}"] if trial.state == "complete" else []
    return "<br>".join(map(escape, [f"trial {trial.index}", *values, *result]))


def course_charts(record: SweepRecord) -> list[Chart]:
    """Charts of the best value over trials, and of the trials' curves."""
    ended = sorted(record.ranked, key=lambda trial: trial.index)
    better = min if record.direction == "minimize" else max
    values = [(trial.index, trial.value or 0.0) for trial in ended]
    best = [(index, better(v for _, v in values[: i + 1])) for i, (index, _) in enumerate(values)]
    # The last of the dashed looks: quiet beside the line of the best.
    history = [Line("every trial", 15, values), Line("best so far", 0, best)]
    courses = [Line(trial.state, LOOKS[trial.state], trial.course) for trial in record.trials if len(trial.course) > 1]
    charts = [line_chart(history, "trial", record.metric), line_chart(courses, "training step", record.metric)]
    return [chart for chart in charts if chart]
