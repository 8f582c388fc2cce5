"""The smallest run, for checks that need a whole configuration."""

from hvg.config.composition import compose
from hvg.config.settings import RunConfig

# A step takes a fraction of a second; the parts are those of scale=cpu.
TINY_RUN = (
    "scale=cpu",
    "debug=tiny",
    "dataset.num_subjects=3",
    "dataset.num_held_out_subjects=2",
    "dataset.clips_per_subject=1",
    "dataset.views=2",
    "dataset.frames=2",
    "dataset.image_size=32",
    "data.views=2",
    "data.frames=2",
)


def tiny_run(*words: str) -> RunConfig:
    """The configuration of a run on a few small synthetic people, changed by words of the command line.

    Raises: ConfigError with every problem of the words.
    """
    return compose([*TINY_RUN, *words])
