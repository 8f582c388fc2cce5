"""Checks that every part of a kind has to pass, for our parts and for a lab's own; no data and no body model needed.

A lab's test is two lines: ``check_conditioner(MySignal, MySignal.Config(), tiny_context())`` and a name for it.
"""

from hvg.testing.building import build, nudged
from hvg.testing.conditioner import check_conditioner, ports_of
from hvg.testing.scene import standing_joints, tiny_batch, tiny_context

__all__ = [
    "build",
    "check_conditioner",
    "nudged",
    "ports_of",
    "standing_joints",
    "tiny_batch",
    "tiny_context",
]
