"""Checks of what every encoder of maps promises."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from hvg.core.random_keys import generator
from hvg.parts.context import ConditionerContext
from hvg.parts.map_encoder import MapEncoder, by_site
from hvg.testing.building import build, nudged, require, require_gradients
from hvg.testing.outputs import check_batch_independence, check_device

# What a control map is made of in the checks: pictures, for the encoders that look at them through a codec.
MAPS = {"rgb": 3, "alpha": 1}
SIZE = 32


def check_encoder(cls: type[MapEncoder], config: Any, context: ConditionerContext) -> None:
    """Runs every check below. Raises: AssertionError that says which promise is broken."""
    cls.fit(config, MAPS, context.ports)
    part = build(cls, config, MAPS, context)
    check_zero_start(part, context)
    check_same_weights(cls, config, context)
    part = nudged(part)
    check_gradients(part)
    check_batch_independence(partial(_run, part), (_maps(),))
    check_half_precision(cls, config, context)
    check_device(partial(_run, part), (_maps(),), part)


def check_zero_start(part: MapEncoder, context: ConditionerContext) -> None:
    """It fills the sites that it says, in their channels and sizes, with exactly 0 before it is trained."""
    ports, sites = context.ports, part.sites(part.config, context.ports)
    added = by_site(part(_maps()))
    require(added.keys() == sites.keys(), f"it fills {', '.join(added)}, but says {', '.join(sites)}")
    for name, features in added.items():
        side = SIZE // (ports.residuals[name].stride * ports.latent_stride)
        expected = (2, sites[name], side, side)
        require(tuple(features.shape) == expected, f"features are {tuple(features.shape)}, not {expected}")
        require(not features.any(), "features are not zero at initialisation")


def check_same_weights(cls: type[MapEncoder], config: Any, context: ConditionerContext) -> None:
    """The same seed gives the same weights."""
    first, second = (build(cls, config, MAPS, context).state_dict() for _ in range(2))
    require(all(torch.equal(x, second[name]) for name, x in first.items()), "weights differ for the same seed")


def check_gradients(part: MapEncoder) -> None:
    """Every trainable weight gets a gradient once the zero-initialised ones have moved."""
    random = generator("loss")
    losses = [(x * torch.randn(x.shape, generator=random)).sum() for x in _run(part, _maps()).values()]
    torch.stack(losses).sum().backward()
    require_gradients(part)


def check_half_precision(cls: type[MapEncoder], config: Any, context: ConditionerContext) -> None:
    """bfloat16 weights and maps give bfloat16 features."""
    for name, x in _run(build(cls, config, MAPS, context).to(torch.bfloat16), _maps().to(torch.bfloat16)).items():
        require(x.dtype == torch.bfloat16, f"{name} are {x.dtype} for bfloat16 weights and maps")


def _maps() -> Tensor:
    """Two control maps, (2, 4, H, W): colours times their alpha, and alpha."""
    random = generator("maps")
    colour, alpha = (torch.rand(2, channels, SIZE, SIZE, generator=random) for channels in MAPS.values())
    return torch.cat([(2 * colour - 1) * alpha, alpha], dim=1)


def _run(part: MapEncoder, maps: Tensor) -> dict[str, Tensor]:
    return {f"features at {site}": x for site, x in by_site(part(maps)).items()}
