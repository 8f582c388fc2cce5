"""Body models of the SMPL family in their ``.pkl`` files, as plain arrays.

The files of SMPL, SMPL-H and SMPL-X (and MANO) are pickles of Python 2 with arrays of NumPy, a sparse matrix of SciPy and
values of chumpy, which ``hvg.geometry.plain_pickle`` reads.

What becomes of the result: ``smplx`` reads any ``.npz`` with ``np.load(allow_pickle=True)``, which unpickles arrays of
objects. A file that this command wrote has none, so reading it so is harmless; one from anyone else may. ``smplx.SMPL``
reads from a path only ``.pkl``: give it the arrays themselves, as ``data_struct=smplx.utils.Struct(**np.load(FILE))``.
hvg's bodies of the family never give smplx a file of the user's, only arrays that were read without pickle.
"""

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from hvg.core.errors import DataError
from hvg.geometry.plain_pickle import DAMAGE, LARGEST, Refused, plain_array, read_pickle

# Arrays that every body model needs.
REQUIRED = ("v_template", "f", "weights", "J_regressor", "shapedirs")
# An array's name in the archive becomes a file's.
_KEY = re.compile(r"[A-Za-z_]\w*")


def read_body_model(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """Name -> array of a body model's .pkl, and the names of entries that are no plain arrays.

    Raises: DataError, one line that names the file, and the function or class that it asks for where that is refused.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; expected a body model's .pkl")
    if zipfile.is_zipfile(path):
        raise DataError(
            f"{path}: is an archive; expected a body model's .pkl (an .npz is given as body.path= as it is)"
        )
    if path.stat().st_size > LARGEST:
        raise DataError(f"{path}: {path.stat().st_size} bytes; a body model has at most {LARGEST}")
    try:
        entries = read_pickle(path.read_bytes())
    except Refused as error:
        raise DataError(f"{path}: {error}") from error
    except DAMAGE as error:
        raise DataError(f"{path}: damaged or no pickle ({' '.join(str(error).split())})") from error
    if not isinstance(entries, dict):
        raise DataError(f"{path}: holds no entries by name; expected a body model with {', '.join(REQUIRED)}")
    arrays: dict[str, np.ndarray] = {}
    for name, value in entries.items():
        array = _array_of(path, name, value)
        if array is not None:
            arrays[name] = array
        # A pickle may name one array many times.
        if sum(known.nbytes for known in arrays.values()) > LARGEST:
            raise DataError(f"{path}: its arrays take more than {LARGEST} bytes")
    missing = [name for name in REQUIRED if name not in arrays]
    if missing:
        raise DataError(f"{path}: lacks {', '.join(missing)}; expected a body model with {', '.join(REQUIRED)}")
    return arrays, [str(name) for name in entries if name not in arrays]


def _array_of(path: Path, name: Any, value: Any) -> np.ndarray | None:
    """An entry as an array of numbers or text; None where it is something else. Raises: DataError for impossible sizes."""
    if not isinstance(name, str) or not _KEY.fullmatch(name):
        return None
    try:
        return plain_array(value)
    except DAMAGE as error:
        raise DataError(f"{path}: '{name}' is damaged ({' '.join(str(error).split())})") from error
