"""Checks of what every adapter promises."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from hvg.core.digests import weights_digest
from hvg.core.errors import HvgError
from hvg.core.random_keys import generator
from hvg.parts import registry
from hvg.parts.adapter import BACKBONE, Adapter, named_weights
from hvg.parts.backbone import Backbone
from hvg.parts.model import Conditioner
from hvg.testing.backbone import Inputs, build_backbone, inputs, let_through
from hvg.testing.building import build, make, require
from hvg.testing.outputs import alike, check_device
from hvg.testing.scene import tiny_context

# The smallest network of ours that has every port, and gates of its own.
_SMALL = {
    "widths": (32, 32),
    "attention": (True, False),
    "heads": (2, 2),
    "layers_per_block": 1,
    "cross_attention_width": 8,
    "addition_time_embed_dim": 8,
    "memory": "gated",
}


def check_adapter(cls: type[Adapter], config: Any, backbone: tuple[type[Backbone], Any] | None = None) -> None:
    """Runs every check below, on a small backbone (its class and settings) and a conditioner beside it.

    Raises: AssertionError that says which promise is broken.
    """
    network, settings = backbone or (registry.load("backbone", "svd_unet"), None)
    settings = network.Config(**_SMALL) if settings is None else settings
    first, given = build_backbone(network, settings), inputs(network, settings, (1, 2, 2))
    beside = _conditioner()
    check_start(make(cls, config), first, beside, given)
    check_same_weights(make(cls, config), first, beside)
    check_rates(make(cls, config), first, beside)
    check_gradients(make(cls, config), first, beside, given)
    check_precision(make(cls, config), first, beside, given)
    check_merge(make(cls, config), first, beside, given)


@torch.no_grad()
def check_start(part: Adapter, backbone: Backbone, conditioner: Conditioner, given: Inputs) -> None:
    """What is new changes nothing of what the network computes, but for rounding."""
    adapted, _, _ = _adapted(part, let_through(deepcopy(backbone)), conditioner)
    same = alike(adapted(*given), let_through(deepcopy(backbone))(*given))
    require(same, "an adapter that has learned nothing changes what the network computes")


def check_same_weights(part: Adapter, backbone: Backbone, conditioner: Conditioner) -> None:
    """The same seed gives the same weights, another one leaves the network's own alone."""
    first, again = (_adapted(part, deepcopy(backbone), conditioner)[0].state_dict() for _ in range(2))
    require(weights_digest(first) == weights_digest(again), "the same seed gives other weights when it is asked again")
    other = _adapted(part, deepcopy(backbone), conditioner, seed=1)[0]
    merged = deepcopy(other)
    part.merge(merged)
    require(
        _same(merged.state_dict(), backbone.state_dict()), "another seed, or merging, changes the network's own weights"
    )


def check_rates(part: Adapter, backbone: Backbone, conditioner: Conditioner) -> None:
    """Learning rates are above 0, and of weights that train; what a conditioner's settings freeze stays so."""
    frozen = deepcopy(conditioner).requires_grad_(False)
    adapted, frozen, rates = _adapted(part, deepcopy(backbone), frozen)
    weights = named_weights(adapted, {"camera": frozen})
    train = {name for name, weight in weights.items() if weight.requires_grad}
    require(set(rates) <= train, f"it gives learning rates to what does not train: {sorted(set(rates) - train)[:3]}")
    require(all(rate > 0 for rate in rates.values()), "a learning rate is not above 0; freeze the weight")
    require(all(name.startswith(BACKBONE) for name in train), "it trains what the settings of a conditioner freeze")


def check_gradients(part: Adapter, backbone: Backbone, conditioner: Conditioner, given: Inputs) -> None:
    """Something trains; a gradient reaches every weight of the backbone that does, and no other is moved by a step."""
    adapted, _, _ = _adapted(part, let_through(deepcopy(backbone)), conditioner)
    weights = dict(let_through(adapted).named_parameters())
    adapted(*given).square().sum().backward()
    starved = [name for name, x in weights.items() if x.requires_grad and (x.grad is None or not x.grad.any())]
    require(not starved, f"no gradient reaches {', '.join(starved[:3])}")
    moved = [name for name, x in weights.items() if not x.requires_grad and x.grad is not None]
    require(not moved, f"what does not train has a gradient: {', '.join(moved[:3])}")


@torch.no_grad()
def check_precision(part: Adapter, backbone: Backbone, conditioner: Conditioner, given: Inputs) -> None:
    """bfloat16 weights and inputs give bfloat16, and what is added is where the network is."""
    half, _, _ = _adapted(part, deepcopy(backbone), conditioner)
    found = half.bfloat16()(*given.to(torch.bfloat16)).dtype
    require(found == torch.bfloat16, f"bfloat16 weights and inputs give {found}")
    moved, _, _ = _adapted(part, deepcopy(backbone), conditioner)
    check_device(lambda *some: {"the output": moved(*some)}, given, moved)


@torch.no_grad()
def check_merge(part: Adapter, backbone: Backbone, conditioner: Conditioner, given: Inputs) -> None:
    """Merged, the network has the names that it had, and computes the same. A file of what was added has the library's names."""
    adapted, _, _ = _adapted(part, let_through(deepcopy(backbone)), conditioner)
    random = generator("check_merge")
    for weight in adapted.parameters():
        if weight.requires_grad:
            weight.add_(0.02 * torch.randn(weight.shape, generator=random))
    before = adapted(*given)
    try:
        wrong = [name for name in part.file(adapted) if not name.startswith(f"{adapted.library_name}.")]
        require(not wrong, f"a name of the file does not begin as the library's do: {wrong[:1]}")
    except HvgError:
        require(list(adapted.state_dict()) == list(backbone.state_dict()), "it adds weights, but has no file of them")
    part.merge(adapted)
    require(
        list(adapted.state_dict()) == list(backbone.state_dict()), "merged, weights have other names, or another order"
    )
    torch.testing.assert_close(adapted(*given), before, rtol=1e-3, atol=1e-4)


def _adapted(
    part: Adapter, backbone: Backbone, conditioner: Conditioner, seed: int = 0
) -> tuple[Backbone, Conditioner, dict[str, float]]:
    """Both, adapted, and the learning rates; torch's generator is as it was."""
    beside = deepcopy(conditioner)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rates = part.adapt(backbone, {"camera": beside})
    return backbone, beside, rates


def _conditioner() -> Conditioner:
    part = registry.load("conditioner", "camera_rotation")
    return build(part, part.Config(), tiny_context())


def _same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(x, second[name]) for name, x in first.items())
