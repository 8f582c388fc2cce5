"""Clips that cannot be read: what a loader does with them. ``hvg.train.faults`` counts them over the run."""

import re
import time
from collections.abc import Callable, Sequence

from hvg.core.errors import DataError, HvgError
from hvg.values.clip import ClipBatch

# A file system over a network is away for seconds at times. Seconds before each further attempt.
PAUSES = (0.5, 2.0)
# Two shards (hvg.data.prepare.CLIPS_PER_SHARD): with more in a row than that, the data are not damaged but elsewhere.
MOST_IN_A_ROW = 64


def read_or_replace(
    read: Callable[[int], ClipBatch], index: int, count: int, pauses: Sequence[float] = PAUSES
) -> tuple[ClipBatch, str]:
    """Clip ``index`` of ``count`` and ""; else the next one that can be read, and in one line why ``index`` cannot.

    Nothing is remembered, so what a place of the training order gets does not depend on what was read before, and by which
    process. pauses: seconds before each further attempt where the file system fails. Raises: DataError where too many clips
    in a row cannot be read.
    """
    reasons: list[str] = []
    row = min(count, MOST_IN_A_ROW)
    for place in range(index, index + row):
        try:
            return _read_patiently(read, place % count, pauses), reasons[0] if reasons else ""
        except DataError as error:
            reasons.append(" ".join(str(error).split()))
        except OSError as error:
            reasons.append(f"{type(error).__name__}: {' '.join(str(error).split())}")
    raise DataError(f"{row} of {count} clips, those from clip {index} on, cannot be read; the first: {reasons[0]}")


def _read_patiently(read: Callable[[int], ClipBatch], index: int, pauses: Sequence[float]) -> ClipBatch:
    for pause in pauses:
        try:
            return read(index)
        except (FileNotFoundError, PermissionError):
            raise
        except OSError:
            time.sleep(pause)
    return read(index)


def said_by_loader(error: HvgError) -> str | None:
    """What an error of a process that loads data says, without the traceback that torch puts before it; None of any other."""
    said = str(error)
    if "DataLoader worker" not in said:
        return None
    # Of a DataError, which has one line, the end of the last one is written out.
    return re.split(r"hvg\.core\.errors\.\w+: ", said)[-1].removesuffix("\\n").strip()
