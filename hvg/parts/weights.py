"""Tensors by name into a module: all of them, or those that both have."""

from collections.abc import Collection, Mapping

from torch import Tensor, nn

from hvg.core.errors import CheckpointError

# A weight as large as that is no weight: its square has no float32.
DIVERGED = 2.0**63


def has_diverged(weight: Tensor) -> bool:
    """Whether a weight is useless to any model: it holds NaN, or numbers whose squares float32 does not hold."""
    return weight.is_floating_point() and weight.numel() > 0 and not float(weight.abs().amax()) < DIVERGED


def load_weights(
    module: nn.Module, weights: Mapping[str, Tensor], source: str, left_out: Collection[str] = frozenset()
) -> None:
    """Loads all of a module's weights but those ``left_out``, which stay as they are.

    Raises: CheckpointError that lists what is missing, unexpected or of another shape, or has diverged; nothing is
    loaded then.
    """
    own = {key: x for key, x in module.state_dict().items() if key not in left_out}
    problems = [f"missing {key}" for key in own if key not in weights]
    problems += [f"unexpected {key}" for key in weights if key not in own]
    problems += [
        f"{key} has shape {tuple(weights[key].shape)}, the model {tuple(own[key].shape)}"
        for key in own
        if key in weights and own[key].shape != weights[key].shape
    ]
    problems += [
        f"{key} is {str(weights[key].dtype).removeprefix('torch.')}, the model's {str(own[key].dtype).removeprefix('torch.')}"
        for key in own
        if key in weights and own[key].is_floating_point() != weights[key].is_floating_point()
    ]
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise CheckpointError(f"{source}: does not fit the model: {shown}")
    _refuse_diverged(module, weights, source)
    module.load_state_dict(dict(weights), strict=not left_out)


def load_shared_weights(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> list[str]:
    """Loads every weight whose name both have; returns a line each on what was kept, what is new and what is unused.

    Raises: CheckpointError when a shared weight has another shape or has diverged, or nothing is shared; nothing is loaded then.
    """
    own = module.state_dict()
    shared = {key: value for key, value in weights.items() if key in own}
    wrong = [
        f"{k} is {tuple(v.shape)}, here {tuple(own[k].shape)}" for k, v in shared.items() if v.shape != own[k].shape
    ]
    if wrong or not shared:
        raise CheckpointError(
            f"{source}: cannot be started from: {'; '.join(wrong[:5]) or 'no weight has the same name'}"
        )
    _refuse_diverged(module, shared, source)
    module.load_state_dict(shared, strict=False)
    new, unused = [key for key in own if key not in weights], [key for key in weights if key not in own]
    lines = [f"{source}: {len(shared)} weights kept"]
    if new:
        lines.append(f"new: {', '.join(_places(new))}")
    return [*lines, f"unused: {', '.join(_places(unused))}"] if unused else lines


def _refuse_diverged(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Raises: CheckpointError for parameters that have diverged; what else a module keeps may be infinite."""
    names = [name for name, _ in module.named_parameters() if name in weights]
    bad = [name for name in names if has_diverged(weights[name])]
    if bad:
        raise CheckpointError(
            f"{source}: training had diverged: {len(bad)} of {len(names)} weights hold numbers such as "
            f"{float(weights[bad[0]].abs().amax()):.3g}, first {bad[0]}; take an earlier checkpoint"
        )


def _places(names: list[str]) -> list[str]:
    """``part.place (n)`` for weights that lie in the same place."""
    counts: dict[str, int] = {}
    for name in names:
        place = ".".join(name.split(".")[:2])
        counts[place] = counts.get(place, 0) + 1
    return [f"{place} ({count})" for place, count in counts.items()]
