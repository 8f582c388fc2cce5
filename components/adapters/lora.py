"""Low-rank matrices beside layers of the backbone, by peft.

Source: LoRA (arXiv 2106.09685), equation 3: W x + (alpha / rank) B A x.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from hvg.core.errors import HvgError
from hvg.parts.adapter import (
    BACKBONE,
    Adapter,
    LearningRate,
    matching,
    meant,
    named_weights,
    train_only,
)
from hvg.parts.backbone import Backbone
from hvg.parts.model import Conditioner
from hvg.parts.part import PartConfig

from ..nn.lora_files import Pair, read_lora

# What peft calls the matrices of one adapter.
NAME = "default"
# Layers that peft can add to. Of these alone, not of what is derived from them: those may be used without being called.
LAYERS = (nn.Linear, nn.Conv2d, nn.Conv3d)


class LoraAdapterConfig(PartConfig):
    """Settings of ``Lora``."""

    rank: int = Field(16, ge=1, le=4096, description="Rank of what is added to a layer.")
    alpha: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="What is added is multiplied by alpha / rank; null: as it is, as with alpha = rank.",
    )
    targets: tuple[str, ...] = Field(
        ("attention",),
        min_length=1,
        max_length=256,
        description="Layers of the backbone that get one: words that it knows (attention, feed_forward, temporal, ...), or names "
        "of layers or their ends, with * for anything, as to_q, to_out.0 or up_blocks.*.proj_in. Never new layers.",
    )
    init: Literal["gaussian", "zero"] = Field(
        "gaussian",
        description="Start of the first matrix, A, as peft has it: gaussian draws it with deviation 1 / rank; zero is peft's "
        "default, A as a linear layer's. B is 0 with both, so that a new adapter changes nothing.",
    )
    learning_rate: float | None = Field(
        None, gt=0, le=1e3, description="Peak learning rate of the matrices; null: training.learning_rate."
    )
    new_layers: Literal["train", "freeze"] = Field(
        "train",
        description="Whether layers that no published network has, such as view attention, train as they are. Frozen, they do "
        "nothing that a checkpoint has not taught them.",
    )
    also: dict[str, LearningRate] = Field(
        {},
        max_length=256,
        description="What else of the backbone trains as it is, or how fast conditioners do; as of adapter=patterns.",
    )
    weights: str | None = Field(
        None,
        max_length=4096,
        description="LoRA file of diffusers, peft and others (.safetensors, or its folder) to start from: it says which layers "
        "get one, of which rank. It has to stay where it is. null: a new one, as the other settings say.",
    )


class Lora(Adapter[LoraAdapterConfig]):
    """The backbone's weights stay as they are; what trains is added to its layers, with few weights."""

    def adapt(self, backbone: Backbone, conditioners: Mapping[str, Conditioner]) -> dict[str, float]:
        layers, before = targets(backbone), named_weights(backbone, conditioners)
        given = (
            {} if self.config.weights is None else read_lora("adapter.weights", self.config.weights, layers, backbone)
        )
        sizes = {name: (pair.rank, pair.alpha) for name, pair in given.items()} or self._sizes(backbone, layers)
        rates = train_only("adapter.also", self._also(backbone), backbone, conditioners)
        learning = {id(weight) for weight in before.values() if weight.requires_grad}
        self._add(backbone, sizes)
        # peft freezes all that it did not add.
        for weight in before.values():
            weight.requires_grad_(id(weight) in learning)
        _fill(backbone, given)
        # Layers that were added to have another name now.
        names = {id(weight): name for name, weight in named_weights(backbone, conditioners).items()}
        own = {names[id(before[name])]: rate for name, rate in rates.items()}
        if self.config.learning_rate is not None:
            known = {id(weight) for weight in before.values()}
            own |= {name: self.config.learning_rate for key, name in names.items() if key not in known}
        return own

    def merge(self, backbone: Backbone) -> None:
        for name, layer in list(added(backbone)):
            layer.merge()
            parent, _, last = name.rpartition(".")
            setattr(backbone.get_submodule(parent), last, layer.get_base_layer())

    def file(self, backbone: Backbone) -> dict[str, Tensor]:
        if not backbone.library_name:
            raise HvgError(f"{type(backbone).__name__} is no network of diffusers', which could take a LoRA file")
        found: dict[str, Tensor] = {}
        for name, layer in added(backbone):
            place = f"{backbone.library_name}.{name}"
            found[f"{place}.lora_A.weight"] = layer.lora_A[NAME].weight.detach().float().cpu().contiguous()
            # The scale is part of it, for a file need not say how it is to be scaled.
            up = layer.lora_B[NAME].weight.detach().float().cpu() * layer.scaling[NAME]
            found[f"{place}.lora_B.weight"] = up.contiguous()
        return found

    def _sizes(self, backbone: Backbone, layers: Mapping[str, nn.Module]) -> dict[str, tuple[int, float]]:
        """Layer -> rank and alpha of what it gets, by the settings."""
        chosen = meant("adapter.targets", self.config.targets, list(layers), backbone.weight_words(), "layer")
        return dict.fromkeys(chosen, (self.config.rank, self.config.alpha or self.config.rank))

    def _also(self, backbone: Backbone) -> dict[str, float | None]:
        """Pattern -> learning rate, of what trains as it is."""
        names = [name for name, _ in backbone.named_parameters()]
        new = self.config.new_layers == "train" and bool(_new(backbone, names))
        return {**({"new": None} if new else {}), **self.config.also}

    def _add(self, backbone: Backbone, sizes: Mapping[str, tuple[int, float]]) -> None:
        """Puts peft's layers around those of these names. sizes: rank and alpha of each."""
        # Here, for it imports all of transformers.
        from peft import LoraConfig, inject_adapter_in_model

        names = {name: re.escape(f"{BACKBONE}{name}") for name in sizes}
        (rank, alpha), _ = Counter(sizes.values()).most_common(1)[0]
        others = {names[name]: size for name, size in sizes.items() if size != (rank, alpha)}
        alphas: Any = {name: size[1] for name, size in others.items()}
        settings = LoraConfig(
            r=rank,
            lora_alpha=cast(int, alpha),
            rank_pattern={name: size[0] for name, size in others.items()},
            alpha_pattern=alphas,
            target_modules="|".join(names.values()),
            init_lora_weights="gaussian" if self.config.init == "gaussian" else True,
        )
        # Around it, for peft takes a network's ``config`` for one of transformers'.
        inject_adapter_in_model(settings, nn.ModuleDict({"backbone": backbone}), NAME)


def targets(backbone: Backbone) -> dict[str, nn.Module]:
    """Name -> layer, of all that a LoRA may be added to."""
    layers = {name: module for name, module in backbone.named_modules() if type(module) in LAYERS}
    new = set(_new(backbone, list(layers)))
    return {name: layer for name, layer in layers.items() if name not in new}


def added(backbone: nn.Module) -> Iterator[tuple[str, Any]]:
    """Name and layer, of all that peft has put around others."""
    from peft.tuners.lora import LoraLayer

    return ((name, module) for name, module in backbone.named_modules() if isinstance(module, LoraLayer))


def _new(backbone: Backbone, names: list[str]) -> list[str]:
    words = backbone.weight_words()
    return matching("new", names, words) if "new" in words else []


@torch.no_grad()
def _fill(backbone: Backbone, given: Mapping[str, Pair]) -> None:
    for name, pair in given.items():
        layer: Any = backbone.get_submodule(name)
        layer.lora_A[NAME].weight.copy_(pair.down)
        layer.lora_B[NAME].weight.copy_(pair.up)
