"""``hvg study``: arms x seeds of a study, trained, scored and compared."""

import sys

from hvg.cluster.launch_options import StudyOptions
from hvg.commands.compare import print_found
from hvg.commands.progress import ProgressLines
from hvg.commands.table import Flags
from hvg.commands.words import is_override, options_and_overrides
from hvg.core.errors import HvgError
from hvg.study.plan import plan
from hvg.study.run import run_study
from hvg.study.study_file import find_study, load_study, study_name


def run(words: list[str], flags: Flags) -> int:
    """``hvg study``; the exit code."""
    named = [word for word in words if not is_override(word)]
    if len(named) != 1:
        raise HvgError("give one study: its folder, or the name of one that hvg brings", then="hvg study quickstart")
    folder = find_study(named[0])
    options, overrides = options_and_overrides(
        [word for word in words if is_override(word)],
        StudyOptions,
        judge=lambda words: plan(load_study(folder), study_name(folder), words),
    )
    with ProgressLines() as progress:
        outcome = run_study(folder, overrides, options, dry_run="dry-run" in flags, progress=progress.update)
    if outcome is None:
        return 0
    print_found(outcome.results)
    for line in outcome.missing:
        print(line, file=sys.stderr)
    print(f"report: {outcome.report}")
    return outcome.exit_code
