"""Results that are kept by the content of the tensors that they are made of."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

from hvg.values.tensors import tensors_of

Result = TypeVar("Result")


class ContentCache:
    """Keeps up to so many bytes of results; the one that was not asked for the longest goes first.

    What is made of equal tensors is made once. On other devices than the CPU nothing is kept: to look at their content the host
    would have to wait for them.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit, self._held = limit_bytes, 0
        self._results: OrderedDict[tuple[str, bytes], tuple[Any, int]] = OrderedDict()

    def __call__(self, name: str, make: Callable[[], Result], *made_of: Tensor) -> Result:
        """What ``make`` gives. name: of what is made; ``made_of``: all that it depends on. It is not to be changed."""
        if not self._limit or any(x.device.type != "cpu" for x in made_of):
            return make()
        key = name, _digest(made_of)
        if key in self._results:
            self._results.move_to_end(key)
            return self._results[key][0]
        result = make()
        size = sum(x.nbytes for x in tensors_of(result))
        self._results[key] = result, size
        self._held += size
        while self._held > self._limit:
            _, (_, freed) = self._results.popitem(last=False)
            self._held -= freed
        return result


def _digest(tensors: tuple[Tensor, ...]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for x in tensors:
        digest.update(f"{x.dtype} {tuple(x.shape)}".encode())
        digest.update(x.detach().contiguous().numpy().data)
    return digest.digest()
