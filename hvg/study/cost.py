"""Cost of one seed of a study, in words."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hvg.report.origin import duration, work
from hvg.study.kept_seeds import read_kept
from hvg.study.plan import ArmRun, needs_of
from hvg.study.study_file import StudyFile


def seed_cost(study: StudyFile, folder: Path, runs: Sequence[ArmRun]) -> str:
    """Line on the cost of a seed: its trainings and scorings, and what finished seeds took, wherever they were kept."""
    own = [run for run in runs if run.seed == study.seeds[0]]
    trained = [*needs_of(own), *(run for run in own if run.trained_by is None)]
    steps = Counter(run.config.last_step for run in trained)
    trainings = ", ".join(f"{count} of {number} steps" for number, count in steps.items())
    took: dict[int, float] = {}
    for kept in read_kept(folder, study.seeds).values():
        took |= work(kept)
    records = [(run, record) for run in runs if (record := run.state().record) is not None]
    for seed, count in Counter(run.seed for run, _ in records).items():
        if count == len(own):
            took[seed] = sum(sum(r.get("seconds", {}).values()) for run, r in records if run.seed == seed)
    seeds = ", ".join(f"seed {seed} took {duration(seconds)}" for seed, seconds in sorted(took.items()))
    known = f"; one arm after another, {seeds}" if seeds else ""
    return f"a seed: {sum(steps.values())} trainings ({trainings}), {len(own)} arms to score{known}"
