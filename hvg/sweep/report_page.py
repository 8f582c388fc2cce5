"""report.html and trials.csv of a sweep: its best trials, what they have in common, and what became of the others."""

import shlex
from collections import Counter
from pathlib import Path

from hvg.core.files import write_text
from hvg.core.names import text_word
from hvg.core.outputs import try_folder
from hvg.core.text_tables import csv_text
from hvg.report.page import write_page
from hvg.sweep.charts import LOOKS, SCALE, course_charts, parallel_chart
from hvg.sweep.records import FEWEST_FOR_IMPORTANCE, SweepRecord, TrialRecord
from hvg.sweep.space import Choices, Parameter


def write_sweep_report(record: SweepRecord, folder: Path) -> Path:
    """Writes report.html and trials.csv into ``folder`` and returns the report's path."""
    try_folder(folder, "the sweep's folder")
    path, ranked = Path(folder) / "report.html", record.ranked
    write_page(
        path,
        "sweep.html",
        ["tables.js", "charts.js", "parallel.js"],
        record=record,
        ranked=ranked,
        keys=[parameter.key for parameter in record.space],
        counts=_counts(record),
        command=rerun_command(record, ranked[0]) if ranked else "",
        parallel=parallel_chart(record),
        scale=SCALE,
        fewest=FEWEST_FOR_IMPORTANCE,
        course=course_charts(record),
        settings="\n".join([*record.words, "", *map(_parameter_line, record.space)]),
    )
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


def _counts(record: SweepRecord) -> list[tuple[int | str, str]]:
    """Counts for the head of the page, each with its label."""
    states = Counter(trial.state for trial in record.trials)
    seconds = sum(trial.seconds for trial in record.trials)
    found = [(states[state], state) for state in LOOKS if states[state]]
    return [(len(record.trials), "trials"), *found, (f"{seconds / 3600:.2f}", "hours of training")]


def _parameter_line(parameter: Parameter) -> str:
    """Description of a parameter that varies: its name and its values or range."""
    if isinstance(parameter, Choices):
        return f"{parameter.key}: {' | '.join(parameter.values)}"
    kind = f"{'whole numbers' if parameter.whole else 'numbers'} from {parameter.low:g} to {parameter.high:g}"
    step = f" in steps of {parameter.step:g}" if parameter.step else ""
    return f"{parameter.key}: {kind}{step}{', by logarithm' if parameter.log else ''}"
