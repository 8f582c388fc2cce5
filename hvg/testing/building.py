"""Parts with known weights, and how a broken promise is said."""

from typing import Any, TypeVar

import torch
from torch import nn

from hvg.core.random_keys import generator
from hvg.parts.context import Context
from hvg.parts.part import Part
from hvg.parts.registry import KINDS, interface_problem

Network = TypeVar("Network", bound=nn.Module)


def build(cls: type[Network], config: Any, *more: Any) -> Network:
    """The part with weights from a fixed seed; the global random state is left as it was. more: its further arguments."""
    require_interface(cls)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return cls(config, *more).eval()


def make(cls: Any, config: Any, context: Context | None = None) -> Any:
    """A part without weights."""
    require_interface(cls)
    return cls(config, context or Context())


def nudged(part: Network) -> Network:
    """The part with seeded noise on every trainable weight, so that zero-initialised ones let signals through."""
    random = generator("nudge")
    with torch.no_grad():
        for parameter in part.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=random).to(parameter))
    return part


def require_interface(cls: Any) -> None:
    """A part is a subclass of its kind's interface, its Config of that one's, and it defines what is abstract there."""
    interfaces = {interface for _, interface in KINDS.values()}
    kind = next((base for base in cls.__mro__ if f"{base.__module__}.{base.__name__}" in interfaces), Part)
    problem = interface_problem(cls, kind)
    require(problem is None, f"{cls.__name__} {problem}")


def require_gradients(part: nn.Module) -> None:
    """After a backward pass, every trainable weight has a gradient."""
    weights = [(name, p) for name, p in part.named_parameters() if p.requires_grad]
    starved = [name for name, p in weights if p.grad is None or not p.grad.any()]
    require(not starved, f"no gradient reaches {', '.join(starved)}")


def require(holds: bool, message: str) -> None:
    """Raises: AssertionError with the message where a promise does not hold."""
    if not holds:
        raise AssertionError(message)
