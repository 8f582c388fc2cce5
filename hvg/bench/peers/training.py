"""Row: a training step beside one of a bare loop of the same model, clips and optimiser."""

import tempfile
from collections.abc import Iterator

from hvg.bench.peers.row import How, Row
from hvg.bench.steps import SMALL, WARM, steps_in_turns
from hvg.bench.timing import Ratio
from hvg.config.composition import compose


def rows() -> Iterator[Row]:
    """A step of ``scale=cpu``."""
    yield Row(
        name="training step",
        ours="hvg train",
        theirs="a bare loop: the same network, data loader, clipping and AdamW",
        what="4 clips x 2 views of 64 x 64, scale=cpu; ours with averages, log, checks of every step, EMA",
        measure=measure,
    )


def measure(how: How, words: tuple[str, ...] = ()) -> Ratio:
    """Steps of one run; those of the bare loop take turns with them."""
    with tempfile.TemporaryDirectory() as folder:
        places = (f"data.cache={folder}", f"output={folder}", f"training.threads={how.threads}")
        steps = (f"training.steps={WARM + 2 * how.pairs}", "training.checkpoint_every=1000", "training.log_every=10")
        precision = f"training.precision='{how.precision}'"
        config = compose(["scale=cpu", *SMALL, *places, *steps, precision, *words])
        found = steps_in_turns(config, lambda line: None)
        return found.over(found.loop)
