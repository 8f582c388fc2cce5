"""``hvg compare``: evaluations side by side."""

import sys

from rich.console import Console

from hvg.commands.words import take_options
from hvg.config.command_options import CompareOptions
from hvg.report.cells import compare
from hvg.report.compare_runs import compare_runs
from hvg.report.finding import finding
from hvg.report.results import Results
from hvg.report.tables import table_text


def run(words: list[str]) -> int:
    """``hvg compare``; 0."""
    options, runs = take_options(words, CompareOptions)
    results, notes = compare_runs(runs, options)
    print_found(results)
    print("\n".join(notes))
    return 0


def print_found(results: Results) -> None:
    """Prints the finding in sentences, then the table."""
    print(*finding(results, compare(results)).sentences, sep="\n", end="\n\n")
    Console(width=None if sys.stdout.isatty() else 160).print(table_text(results))
