"""Counter-based randomness: every random number is a function of a key, never of what was drawn before it."""

import hashlib

import numpy as np
import torch


def key_to_seed(*key: int | str) -> int:
    """A 63-bit seed that depends on every part of ``key`` and on nothing else (not on the process or the platform)."""
    digest = hashlib.blake2b("\x1f".join(str(part) for part in key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*key: int | str) -> torch.Generator:
    """A CPU generator for ``key``; numbers drawn from it are moved to a device, so that devices agree."""
    return torch.Generator().manual_seed(key_to_seed(*key))


def numpy_generator(*key: int | str) -> np.random.Generator:
    """A NumPy generator for ``key``."""
    return np.random.default_rng(key_to_seed(*key))
