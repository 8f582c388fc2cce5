"""A reconstructor of people from one photo, trained to show them from other cameras and in other poses."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from hvg.core.bounds import Weight
from hvg.parts.part import PartConfig
from hvg.parts.system import System

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from hvg.config.settings import RunConfig
    from hvg.model.avatar import AvatarSystem, Distance
    from hvg.parts.network_files import NetworkFiles


class AvatarConfig(PartConfig):
    """Settings of the losses, and of the pixels at which they are taken."""

    rays: int = Field(
        190,
        ge=2,
        le=1_000_000,
        description="Pixels of each clip at which a step compares colour and mask: half of them on the person, the others in "
        "the box around them.",
    )
    box_margin: float = Field(
        0.1,
        ge=0,
        le=1,
        description="By how much that box is larger than the person, on each side: share of the picture's side.",
    )
    patch: int = Field(
        32,
        ge=16,
        le=8192,
        description="Side, in pixels, of the square around a pixel of the person on which SSIM and LPIPS look; one for each "
        "clip, drawn where one of the two has a weight.",
    )
    colour: Weight = Field(1.0, description="Weight of the squared error of colours in [-1, 1].")
    mask: Weight = Field(0.1, description="Weight of the squared error of alpha.")
    ssim: Weight = Field(0.0, description="Weight of 1 - SSIM.")
    lpips: Weight = Field(
        0.0,
        description="Weight of LPIPS through VGG16, whose file `hvg weights` names. Where it is missing the loss goes without, "
        "and the log says so.",
    )

    @model_validator(mode="after")
    def _compares_something(self) -> AvatarConfig:
        if not any(self.weights.values()):
            raise ValueError("every loss has weight 0, so that nothing would be learnt")
        return self

    @property
    def weights(self) -> dict[str, float]:
        """Loss -> its weight."""
        return {name: getattr(self, name) for name in ("colour", "mask", "ssim", "lpips")}


class Avatar(System[AvatarConfig]):
    """A reconstructor of people (``reconstructor=``). Its steps are ``hvg.model.avatar.AvatarSystem``'s."""

    uses: ClassVar[frozenset[str]] = frozenset({"reconstructor"})
    requires: ClassVar[frozenset[str]] = frozenset({"alpha"})

    @classmethod
    def learns(cls, run: RunConfig) -> bool:
        return run.reconstructor.cls.learns(run.reconstructor.config)

    def build(self, run: RunConfig, start: Callable[[Any], None] | None = None) -> AvatarSystem:
        # Late: wrong words are told without what trains.
        from hvg.model.avatar import build_avatar

        weights, notes, distance = self.config.weights, (), None
        if weights["lpips"]:
            distance, notes = _lpips(run)
            weights["lpips"] *= distance is not None
        return build_avatar(
            run,
            rays=self.config.rays,
            box_margin=self.config.box_margin,
            patch=self.config.patch if weights["ssim"] or weights["lpips"] else 0,
            weights=weights,
            distance=distance,
            notes=notes,
        )


def _lpips(run: RunConfig) -> tuple[Distance | None, tuple[str, ...]]:
    """LPIPS through the user's file; None where that is missing, and a note that says so."""
    from hvg.parts.network_files import NetworkFiles, default_folder
    from hvg.values.scored_clip import NotAvailable

    from ..nn.feature_networks.load import LPIPS

    files = NetworkFiles(run.evaluation.networks or default_folder(), run.evaluation.any_network)
    try:
        files.path(LPIPS["vgg"].trunk)
    except NotAvailable as error:
        return None, (f"the loss goes without LPIPS: it {error}",)
    return _distance(files), ()


def _distance(files: NetworkFiles) -> Distance:
    """LPIPS of pictures (N, 3, H, W) in [-1, 1] -> (N,), through a network that is read when it is first asked."""
    from ..nn.feature_networks.load import load_lpips

    @cache
    def network(device: torch.device) -> torch.nn.Module:
        return load_lpips("vgg", files, device).module

    def distance(made: Tensor, truth: Tensor) -> Tensor:
        return network(made.device)(made, truth)

    return distance
