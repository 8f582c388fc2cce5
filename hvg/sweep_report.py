"""report.html and trials.csv of a sweep: its best trials, what they have in common, and what became of the others."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path

from hvg import parallel_chart
from hvg.cells import csv_text
from hvg.chart import legend
from hvg.files import write_text
from hvg.line_chart import Line, line_chart
from hvg.names import text_word
from hvg.number_format import format_number
from hvg.outputs import try_folder
from hvg.parallel_chart import Axis, Trace
from hvg.report_script import SCROLLING, SORTING
from hvg.report_table import head
from hvg.report_template import PAGE, STYLE
from hvg.sweep_space import Choices
from hvg.sweep_store import FEWEST_FOR_IMPORTANCE, SweepRecord, TrialRecord

# Colours of the charts' lines.
COLOURS = {"complete": 0, "pruned": 1, "running": 2, "waiting": 2, "failed": 7}
BAR_STYLE = """
.bars td { vertical-align: middle; }
.bars .bar { display: inline-block; height: 12px; background: var(--c0); border-radius: 2px; vertical-align: middle; }
.bars th, .bars td:last-child { text-align: left; }
td.text { text-align: left; white-space: normal; }
.tall { max-height: 470px; overflow-y: auto; }
.tall thead th { position: sticky; top: 0; z-index: 1; background: var(--paper); }
"""


def write_sweep_report(record: SweepRecord, folder: Path) -> Path:
    """Writes report.html and trials.csv into ``folder`` and returns the report's path."""
    try_folder(folder, "the sweep's folder")
    sections = [
        _header(record),
        _best_section(record),
        _parallel_section(record),
        _importance_section(record),
        _course_section(record),
        _others_section(record),
        _settings_section(record),
    ]
    path, body = Path(folder) / "report.html", "\n".join(section for section in sections if section)
    style, script = STYLE + parallel_chart.STYLE + BAR_STYLE, SORTING + SCROLLING + parallel_chart.SCRIPT
    write_text(path, PAGE.format(title=escape(record.name), style=style, script=script, body=body))
    write_text(path.with_name("trials.csv"), trials_csv(record))
    return path


def trials_csv(record: SweepRecord) -> str:
    """A line per trial, in the order in which they were proposed."""
    keys = [parameter.key for parameter in record.space]
    rows: list[list[object]] = [["trial", "state", record.metric, *keys]]
    rows[0] += ["steps", "starts", "seconds", "folder", "note", "command"]
    for trial in record.trials:
        steps = trial.course[-1][0] if trial.course else ""
        value = "" if trial.value is None else repr(trial.value)
        values = [trial.values.get(key, "") for key in keys]
        facts = [steps, trial.starts, round(trial.seconds, 1), trial.folder, trial.note, rerun_command(record, trial)]
        rows.append([trial.index, trial.state, value, *values, *facts])
    return csv_text(rows)


def rerun_command(record: SweepRecord, trial: TrialRecord) -> str:
    """The command line that trains a trial's settings anew, in a folder of its own."""
    words = [*record.words, *trial.words, text_word("name", f"{record.name}-{trial.index:04d}")]
    return shlex.join(["hvg", "train", *words])


def _header(record: SweepRecord) -> str:
    states = Counter(trial.state for trial in record.trials)
    facts = [(len(record.trials), "trials"), *((states[state], state) for state in COLOURS if states[state])]
    listed = "".join(f"<li><b>{count}</b> {what}</li>" for count, what in facts)
    seconds = sum(trial.seconds for trial in record.trials)
    listed += f"<li><b>{seconds / 3600:.2f}</b> hours of training</li>"
    best = record.ranked[:1]
    found = f"Best so far: {format_number(best[0].value or 0.0)}, trial {best[0].index}." if best else "No result yet."
    return (
        f'<header><h1>{escape(record.name)}</h1><p class="question">A sweep over {len(record.space)} parameters that should '
        f'{record.direction} {escape(record.metric)}. {found}</p><ul class="facts">{listed}</ul></header>'
    )


def _best_section(record: SweepRecord) -> str:
    """The ended trials, the best first."""
    ranked = record.ranked
    if not ranked:
        return ""
    keys = [parameter.key for parameter in record.space]
    heads = "".join(map(head, ["trial", record.metric, *keys, "run"]))
    rows = "".join(_row(trial, keys, trial is ranked[0]) for trial in ranked)
    command = escape(rerun_command(record, ranked[0]))
    table = f'<table id="trials"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
    note = (
        "trials.csv has all trials, and such a command for each; config.yaml in a run folder has all settings of one."
    )
    return (
        f'<section><h2>Trials by result</h2><div class="scroll tall">{table}</div><p>The best one again, in a folder of its '
        f'own:</p><pre><code>{command}</code></pre><p class="note">{note}</p></section>'
    )


def _row(trial: TrialRecord, keys: Sequence[str], best: bool) -> str:
    value = trial.value or 0.0
    style = ' class="best"' if best else ""
    cells = [f'<td{style} data-sort="{value!r}"><span class="value">{format_number(value)}</span></td>']
    cells += [_value_cell(trial.values[key]) for key in keys]
    cells.append(f'<td data-sort="{trial.index}">{_link(trial)}</td>')
    return f'<tr data-trial="{_name(trial)}"><td data-sort="{trial.index}">{trial.index}</td>{"".join(cells)}</tr>'


def _link(trial: TrialRecord) -> str:
    """Its run folder, which lies beside the report."""
    return f'<a href="{escape(trial.folder)}/" title="{escape(trial.folder)}">{escape(trial.folder[:4])}</a>'


def _value_cell(value: float | str) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f'<td data-sort="{escape(str(value))}" title="{escape(str(value))}">{escape(text)}</td>'


def _name(trial: TrialRecord) -> str:
    return f"trial {trial.index}"


def _parallel_section(record: SweepRecord) -> str:
    axes = [Axis(p.key, names=p.values) if isinstance(p, Choices) else Axis(p.key, log=p.log) for p in record.space]
    ranked = record.ranked
    traces = [
        Trace(_name(trial), trial.values, trial.value, 1 - rank / max(1, len(ranked) - 1))
        for rank, trial in enumerate(ranked)
    ]
    traces += [Trace(_name(t), t.values, None, 0.0) for t in record.trials if t.state == "pruned" and t.values]
    chart = parallel_chart.parallel_chart(axes, traces, record.metric, record.direction == "minimize")
    if not chart:
        return ""
    note = (
        'A line is a trial, from worst to best <span class="shades"></span>; its better results are up. Dashed: stopped early. '
        "Drag along an axis to keep the lines that cross it there, and click it to take that back."
    )
    return f'<section><h2>What good trials have in common</h2><p class="note">{note}</p>{chart}</section>'


def _importance_section(record: SweepRecord) -> str:
    heading = "<h2>Which parameters matter</h2>"
    if not record.importance:
        ended = sum(trial.state == "complete" for trial in record.trials)
        note = f"Left out: {ended} trials have trained to their end, fewer than {FEWEST_FOR_IMPORTANCE} say nothing."
        return f'<section>{heading}<p class="note">{note}</p></section>'
    note = (
        "PED-ANOVA (Watanabe et al., IJCAI 2023): how far the values of the best quarter of the trials are from those of all "
        "trials, parameter by parameter, as shares of 1. It knows nothing of parameters that matter only together, and is "
        "noisy below some hundred trials."
    )
    rows = "".join(
        f'<tr><td>{escape(key)}</td><td><span class="bar" style="width: {round(600 * share)}px"></span> {share:.2f}</td></tr>'
        for key, share in sorted(record.importance.items(), key=lambda item: -item[1])
    )
    return f'<section>{heading}<p class="note">{note}</p><table class="bars"><tbody>{rows}</tbody></table></section>'


def _course_section(record: SweepRecord) -> str:
    """How the sweep got better, and the trials' curves."""
    ended = sorted(record.ranked, key=lambda trial: trial.index)
    better = min if record.direction == "minimize" else max
    values = [(trial.index, trial.value or 0.0) for trial in ended]
    best = [(index, better(v for _, v in values[: i + 1])) for i, (index, _) in enumerate(values)]
    # The last of the dashed colours: quiet beside the line of the best.
    history = [Line("every trial", 15, values), Line("best so far", 0, best)]
    courses = [
        Line(trial.state, COLOURS[trial.state], trial.course) for trial in record.trials if len(trial.course) > 1
    ]
    charts = [
        (history, line_chart(history, "trial", record.metric)),
        (courses, line_chart(courses, "training step", record.metric)),
    ]
    drawn = "".join(
        f"<div>{legend({line.label: line.colour for line in lines})}{chart}</div>" for lines, chart in charts if chart
    )
    return f'<section><h2>The course of the sweep</h2><div class="charts">{drawn}</div></section>' if drawn else ""


def _others_section(record: SweepRecord) -> str:
    """Trials without a result that compares, and why."""
    others = [trial for trial in record.trials if trial.state != "complete"]
    if not others:
        return ""
    heads = "".join(f'<th scope="col">{name}</th>' for name in ("trial", "state", "why", "starts", "values", "run"))
    rows = "".join(
        f'<tr><td>{trial.index}</td><td>{trial.state}</td><td class="text">{escape(trial.note or "–")}</td>'
        f'<td>{trial.starts}</td><td class="text"><code>{escape(" ".join(trial.words))}</code></td>'
        f"<td>{_link(trial)}</td></tr>"
        for trial in others
    )
    table = f'<table class="scoring"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
    return f'<section><h2>Without a result</h2><div class="scroll">{table}</div></section>'


def _settings_section(record: SweepRecord) -> str:
    lines = [*record.words, "", *(_parameter_line(parameter) for parameter in record.space)]
    text = escape("\n".join(lines))
    return f"<section><h2>What all trials share, and what varies</h2><pre><code>{text}</code></pre></section>"


def _parameter_line(parameter) -> str:
    if isinstance(parameter, Choices):
        return f"{parameter.key}: {' | '.join(parameter.values)}"
    kind = f"{'whole numbers' if parameter.whole else 'numbers'} from {parameter.low:g} to {parameter.high:g}"
    step = f" in steps of {parameter.step:g}" if parameter.step else ""
    return f"{parameter.key}: {kind}{step}{', by logarithm' if parameter.log else ''}"
