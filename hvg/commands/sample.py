"""``hvg sample``: videos of a person of one's own in a motion of one's own."""

from hvg.commands.progress import ProgressLines
from hvg.commands.words import options_and_overrides
from hvg.config.command_options import SampleOptions
from hvg.config.recipes import with_recipe
from hvg.sample.generate import generate


def run(words: list[str]) -> int:
    """``hvg sample``; 0."""
    options, overrides = options_and_overrides(with_recipe(words), SampleOptions)
    with ProgressLines() as progress:
        for line in generate(options, overrides, lambda stage, d, n: progress.update("sample", stage, d, n)):
            print(line, flush=True)
    return 0
