"""``hvg convert``: a body model of the SMPL family, or somebody's estimated motion, as plain arrays."""

from collections.abc import Iterator, Mapping

import numpy as np

from hvg.commands.words import only_options
from hvg.config.command_options import ConvertOptions
from hvg.core import outputs
from hvg.core.arrays import write_archive
from hvg.core.errors import HvgError
from hvg.geometry.body_pickle import read_body_model
from hvg.geometry.estimated_motions import read_estimate
from hvg.geometry.motion_arrays import motion_of_arrays


def run(words: list[str]) -> int:
    """``hvg convert``; 0."""
    print(*convert(only_options(words, ConvertOptions)), sep="\n")
    return 0


def convert(options: ConvertOptions) -> Iterator[str]:
    """Writes the .npz; yields lines for the user. Raises: HvgError for names that do not fit, DataError for the file."""
    if (options.body is None) == (options.motion is None):
        raise HvgError("give one of body=MODEL.pkl and motion=FILE", then="hvg convert motion=FILE out=MOTION.npz")
    outputs.expect_suffix(options.out, ".npz")
    outputs.try_file(options.out, "out")
    if options.out.exists():
        raise HvgError(f"out={options.out}: exists already; give the name of a new file")
    arrays, notes = _read(options)
    write_archive(options.out, arrays)
    yield f"wrote {len(arrays)} arrays to {options.out}: {', '.join(sorted(arrays))}"
    yield from notes


def _read(options: ConvertOptions) -> tuple[Mapping[str, np.ndarray], list[str]]:
    """The arrays and what is said of them. Raises: DataError."""
    if options.body is not None:
        arrays, left_out = read_body_model(options.body)
        return arrays, [f"left out, for they are no plain arrays: {', '.join(sorted(left_out))}"] if left_out else []
    assert options.motion is not None
    arrays, notes = read_estimate(options.motion, options.person, options.axes)
    # What hvg sample could not read is told now, with the name of the file that it comes from.
    motion_of_arrays(options.motion, arrays, "auto", "auto", None)
    return arrays, [f"note: {note}" for note in notes]
