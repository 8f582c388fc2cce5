"""A disk that takes no more, for tests of what is written."""

import resource
from contextlib import contextmanager


@contextmanager
def full_disk(largest: int = 1000):
    """Inside, no file takes more bytes than this: the system refuses as a full disk does, for root, too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
