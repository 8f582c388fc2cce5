"""What a part cannot do without."""

from __future__ import annotations

from typing import TypeVar

from hvg.errors import HvgError

Value = TypeVar("Value")


def required(value: Value | None, name: str) -> Value:
    """The value. Raises: HvgError that names what is missing, where None came instead.

    Wiring checks ``Conditioner.requires`` beforehand; this speaks to whoever calls a part by hand.
    """
    if value is None:
        raise HvgError(f"this part needs {name}, which it was not given")
    return value
