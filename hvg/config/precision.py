"""Precision of training: one rule for all that train, size memory, or report what was done."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch

from hvg.config.settings import RunConfig

Precision = Literal["32", "bf16"]

# NVIDIA's first GPUs (compute capability) that multiply bf16 in hardware; on older ones torch emulates it.
BF16_SINCE = (8, 0)
NAMES: dict[Precision, str] = {"32": "float32", "bf16": "bf16 autocast"}
# Lightning's name for it, with all strategies but ZeRO, which does it itself.
LIGHTNING: dict[Precision, Literal["32-true", "bf16-mixed"]] = {"32": "32-true", "bf16": "bf16-mixed"}


def precision_for(asked: Literal["auto", "32", "bf16"], capability: tuple[int, int] | None) -> Precision:
    """The precision that ``training.precision`` means on a device; ``capability``: of a GPU, None for a CPU.

    auto takes float32 on every CPU, so that the same words mean the same arithmetic on all of them.
    """
    if asked != "auto":
        return asked
    return "bf16" if capability is not None and capability >= BF16_SINCE else "32"


def capability_here(config: RunConfig) -> tuple[int, int] | None:
    """Compute capability of the GPU on which the run would train on this machine; None: it trains on a CPU."""
    if config.device == "cpu" or not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_capability()


def precision_here(config: RunConfig) -> Precision:
    """Precision that the run would be trained in on this machine."""
    return precision_for(config.training.precision, capability_here(config))


def explain_here(config: RunConfig) -> str:
    """The same in words, with the reason."""
    capability = capability_here(config)
    on = "a CPU" if capability is None else "a GPU of compute capability {}.{}".format(*capability)
    return _explained(config, precision_here(config), on)


def on_described_gpus(config: RunConfig) -> tuple[RunConfig, str]:
    """The configuration with the precision that it has on GPUs which are described, not at hand; and that in words.

    They are taken to multiply bf16, as all do on which such networks are trained. With device=cpu there are none.
    """
    capability = None if config.device == "cpu" else BF16_SINCE
    precision = precision_for(config.training.precision, capability)
    on = "a CPU" if capability is None else "GPUs of compute capability {}.{} or more".format(*BF16_SINCE)
    training = config.training.model_copy(update={"precision": precision})
    return config.model_copy(update={"training": training}), _explained(config, precision, on)


def _explained(config: RunConfig, precision: Precision, on: str) -> str:
    auto = config.training.precision == "auto"
    return f"{NAMES[precision]} (training.precision={config.training.precision}{f' on {on}' if auto else ''})"


def across_models(of_arms: Mapping[str, Sequence[str | None]]) -> tuple[str, list[str]]:
    """Precision that models were trained in, in words, and a note for the reader where it is not the same for all.

    of_arms: label -> ``trained_in`` of every model; None where it is not known, as of another system's outputs.
    """
    found: dict[str, dict[str, None]] = {}
    for label, precisions in of_arms.items():
        for precision in precisions:
            if precision is not None:
                found.setdefault(precision, {})[label] = None
    if len(found) < 2:
        return next(iter(found), "not known"), []
    words = "; ".join(f"{precision}: {', '.join(labels)}" for precision, labels in found.items())
    return words, [f"models were trained in different precisions, which their differences hold too ({words})"]


def trained_in(before: str | None, now: Precision) -> str:
    """Every precision of a run so far, in order; ``before``: the same when it was continued, None where it began."""
    if before is None or before.split(", then ")[-1] == now:
        return before or now
    return f"{before}, then {now}"
