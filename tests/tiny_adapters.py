"""A small network, a conditioner beside it, and adapters of them."""

import torch

from hvg.parts import registry
from hvg.parts.adapter import named_weights
from hvg.testing import build, tiny_context


def networks():
    """The backbone and the conditioners of ``tiny_context``, and one with a frozen weight."""
    context = tiny_context()
    camera = registry.load("conditioner", "camera_rotation")
    return context.backbone, {"camera": build(camera, camera.Config(), context)}


def adapted(name, backbone, conditioners, seed=0, **settings):
    """The part, and the learning rates that it gives."""
    cls = registry.load("adapter", name)
    part = cls(cls.Config(**settings))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return part, part.adapt(backbone, conditioners)


def learning(backbone, conditioners):
    """Names of the weights that train."""
    return {name for name, weight in named_weights(backbone, conditioners).items() if weight.requires_grad}


def noisy(backbone, scale=0.1):
    """The backbone with seeded noise on what was added to it."""
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in backbone.named_parameters():
            if ".lora_" in name:
                weight.add_(scale * torch.randn(weight.shape, generator=random))
    return backbone
