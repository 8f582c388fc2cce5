"""``hvg convert``: a body model of the SMPL family as plain arrays."""

import zipfile
from collections.abc import Iterator

import numpy as np

from hvg.commands.words import only_options
from hvg.config.command_options import ConvertOptions
from hvg.core import outputs
from hvg.core.errors import HvgError
from hvg.core.files import whole_file
from hvg.geometry.body_pickle import read_body_model


def run(words: list[str]) -> int:
    """``hvg convert``; 0."""
    print(*convert(only_options(words, ConvertOptions)), sep="\n")
    return 0


def convert(options: ConvertOptions) -> Iterator[str]:
    """Writes the .npz; yields lines for the user. Raises: HvgError for names that do not fit, DataError for the file."""
    if options.out.suffix != ".npz":
        raise HvgError(f"out={options.out}: give the name of an .npz file")
    outputs.try_file(options.out, "out")
    if options.out.exists():
        raise HvgError(f"out={options.out}: exists already; give the name of a new file")
    arrays, left_out = read_body_model(options.body)
    with whole_file(options.out) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)
    yield f"wrote {len(arrays)} arrays to {options.out}: {', '.join(sorted(arrays))}"
    if left_out:
        yield f"left out, for they are no plain arrays: {', '.join(sorted(left_out))}"
