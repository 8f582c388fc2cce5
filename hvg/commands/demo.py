"""``hvg demo``: a first video, of a model and a person that hvg brings."""

from hvg.commands.progress import ProgressLines
from hvg.commands.words import key_of, options_and_overrides
from hvg.config.demo_options import DemoFilesOptions, DemoOptions
from hvg.config.recipes import with_recipe


def run(words: list[str]) -> int:
    """``hvg demo``, in both of its forms; 0."""
    words = with_recipe(words)
    if "make" in map(key_of, words):
        from hvg.sample.demo_making import make_demo_files

        for line in make_demo_files(*options_and_overrides(words, DemoFilesOptions)):
            print(line, flush=True)
        return 0
    from hvg.sample.demo import as_sampled, as_words
    from hvg.sample.generate import generate

    options, overrides = options_and_overrides(words, DemoOptions)
    asked = as_sampled(options)
    with ProgressLines() as progress:
        for line in generate(asked, overrides, lambda stage, d, n: progress.update("demo", stage, d, n)):
            print(line, flush=True)
    print(f"with files of your own: {as_words(asked, overrides)}")
    if asked.grid:
        print(f"to look at: {asked.out / 'grid.webp'} in a browser, {asked.out / 'grid.mp4'} in a player")
    return 0
