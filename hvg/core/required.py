"""Values that may be absent in general, and must be there in one place."""

from typing import TypeVar

from hvg.core.errors import HvgError

Value = TypeVar("Value")


def required(value: Value | None, name: str) -> Value:
    """The value. Raises: HvgError that names what is missing, where None came instead.

    Wiring checks ``Conditioner.requires`` beforehand; this speaks to whoever calls a part or a system by hand.
    """
    if value is None:
        raise HvgError(f"{name} is needed here, and was not given")
    return value
