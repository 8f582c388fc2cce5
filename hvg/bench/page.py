"""Pages of benchmarks: sections of tables, bars and charts, in the reports' look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hvg.report.figures import Chart
from hvg.report.page import write_page


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page. notes: sentences under its title. heads, rows: a table. bars: label -> share. charts: side by side."""

    title: str
    notes: Sequence[str] = ()
    heads: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    bars: Mapping[str, float] = field(default_factory=dict)
    charts: Sequence[Chart] = ()

    @property
    def legend(self) -> dict[str, int]:
        """Label -> look of all lines of its charts."""
        return {label: look for chart in self.charts for label, look in chart.legend.items()}


def write_bench_page(
    path: Path, title: str, summary: str, facts: Mapping[str, str], sections: Sequence[Section], command: str
) -> None:
    """Writes the page. facts: what they are of -> the fact. command: what makes the page again."""
    write_page(
        path,
        "bench.html",
        ["charts.js"],
        title=title,
        summary=summary,
        facts=facts,
        sections=sections,
        command=command,
    )
