"""``hvg refine``: a trained video model on anybody's videos."""

from hvg.commands.progress import ProgressLines
from hvg.commands.words import options_and_overrides
from hvg.config.refine_options import RefineOptions
from hvg.sample.refine import refine


def run(words: list[str]) -> int:
    """``hvg refine``; 0."""
    options, overrides = options_and_overrides(words, RefineOptions)
    with ProgressLines() as progress:
        for line in refine(options, overrides, lambda stage, d, n: progress.update("refine", stage, d, n)):
            print(line, flush=True)
    return 0
