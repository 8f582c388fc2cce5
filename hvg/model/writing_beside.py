"""Writing checkpoints while training goes on: from a copy, in a thread of every process, one checkpoint at a time."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from hvg.core.errors import CheckpointError
from hvg.core.ranks import rank_and_world
from hvg.model.checkpoint_writing import (
    Entry,
    Started,
    attempt,
    file_name,
    finish,
    raise_together,
    reason_of,
    start_checkpoint,
    write_share,
)

# Seconds between two looks for what other processes have written.
LOOK = 0.05
# Seconds for which the first process waits at least for the others' word, when it has written its own share.
LONGEST = 600.0
# Seconds for which a process that ends by an error waits for what it has begun to write.
PATIENCE = 60.0


class WritingBeside:
    """Writes checkpoints as ``hvg.model.checkpoint_writing`` does, while training goes on.

    Processes that train talk to each other in an order that no thread may disturb. So every thread leaves word of its share in
    a file beside it, and the first process's waits for the word of all before it gives the checkpoint its name. Killed at any
    moment, what is written is no checkpoint yet, and the one before is as it was.
    then: called by the first process's thread when a checkpoint is whole.
    """

    def __init__(self) -> None:
        self.then: Callable[[], None] = lambda: None
        self._thread: threading.Thread | None = None
        self._path, self._error = Path(), None
        # At what time nobody waits any more.
        self._until = float("inf")

    @property
    def failed(self) -> bool:
        """Whether this process's last share, or its checkpoint, could not be written."""
        return self._error is not None

    def begin(self, path: Path, state: Mapping[str, Any], entries: Sequence[Entry] = ()) -> None:
        """Copies this process's share and begins to write it, when what was begun before is written. All processes call it.

        Memory: of the host, this process's share. Raises: as ``write_checkpoint``; for what was begun before, and, in all
        processes together, in ``join``.
        """
        self.join()
        begun = start_checkpoint(path, state, entries)
        own, copies = {id(entry) for entry in begun.entries}, []
        for entry in begun.every:
            tensor = entry.read()
            if id(entry) in own:
                copies.append(_copied(entry, tensor))
        begun = replace(begun, entries=copies, every=[])
        self._path, self._until = path, float("inf")
        self._thread = threading.Thread(target=self._write, args=(begun, *rank_and_world(), self.then), daemon=True)
        self._thread.start()

    def join(self, hopeless: bool = False) -> None:
        """Waits until what was begun is written. All processes call it. Raises: CheckpointError in all, where one could not.

        hopeless: one is known to have failed, which need not be waited for.
        """
        if self._thread is None:
            return
        if hopeless:
            self._until = time.monotonic()
        self._thread.join()
        self._thread, error, self._error = None, self._error, None
        raise_together(self._path, error)

    def leave(self, at_once: bool = False) -> None:
        """Ends what was begun, where this process ends by an error: the others may be gone, and nobody is asked or told.

        at_once: what is not written yet is left out. Else it is waited for, ``PATIENCE`` seconds at most.
        """
        if self._thread is not None:
            self._until = time.monotonic() + (0 if at_once else PATIENCE)
            self._thread.join(PATIENCE)

    def _write(self, begun: Started, rank: int, world: int, then: Callable[[], None]) -> None:
        self._error = attempt(lambda: self._write_share(begun, rank, world, then))
        if self._error is not None and rank == 0:
            shutil.rmtree(begun.partial, ignore_errors=True)

    def _write_share(self, begun: Started, rank: int, world: int, then: Callable[[], None]) -> None:
        started, file = time.monotonic(), begun.partial / begun.name
        written, error = write_share(file, [self._while_waited_for(entry) for entry in begun.entries])
        word = written if error is None else {"error": reason_of(error)}
        if error is not None:
            # On a full disk its word could not be written, either.
            file.unlink(missing_ok=True)
        place = _word(begun.partial, begun.name)
        partial = place.with_suffix(".partial")
        partial.write_text(json.dumps(word), encoding="utf-8")
        partial.rename(place)
        if error is not None:
            raise error
        if rank == 0:
            # The others have as much to write. One that could not even say that it failed is not waited for for ever.
            now = time.monotonic()
            self._until = min(self._until, now + max(LONGEST, 10 * (now - started)))
            names = [file_name(number, world) for number in range(world)]
            files = {name: self._heard(_word(begun.partial, name)) for name in names}
            for name in names:
                _word(begun.partial, name).unlink()
            finish(begun, files)
            then()

    def _while_waited_for(self, entry: Entry) -> Entry:
        """The entry, which is not read any more when nobody waits for it."""

        def read() -> Tensor:
            self._expect("it was left out")
            return entry.read()

        return replace(entry, read=read)

    def _heard(self, place: Path) -> dict[str, Any]:
        """Another process's word of its share. Raises: CheckpointError with its error, or where nobody waits any more."""
        while not place.exists():
            self._expect(f"{place.stem} was not written in time")
            time.sleep(LOOK)
        word = json.loads(place.read_text(encoding="utf-8"))
        if "error" in word:
            raise CheckpointError(word["error"])
        return word

    def _expect(self, message: str) -> None:
        if time.monotonic() > self._until:
            raise CheckpointError(message)


def _copied(entry: Entry, tensor: Tensor) -> Entry:
    copy = tensor.detach().to("cpu", copy=True)
    return replace(entry, read=lambda: copy)


def _word(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"
