"""Interface of view attention: how the views of a moment see each other inside the backbone."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from hvg.core.errors import HvgError
from hvg.parts.attention import AttentionLayers
from hvg.parts.part import ConfigT, Part, PartConfig
from hvg.values.grid import ViewGrid


class ViewAttentionConfig(PartConfig):
    """Setting of every view attention that has weights."""

    init: Literal["zero", "copy"] = Field(
        "zero",
        description="What it starts as; it changes nothing in either case. zero: random projections, of which the last is zero. "
        "copy: the attention within a picture that stands before it, weights included, behind a gate per channel that is zero.",
    )


class ViewAttention(Part[ConfigT], nn.Module):
    """Mixes features over views, with a residual connection and an output projection that starts at zero.

    A part says who sees whom in one of two ways: by ``token_groups``, or, where tokens form no groups, by ``sees``.
    """

    def __init__(self, config: ConfigT, width: int, num_heads: int) -> None:
        super().__init__(config)

    @abstractmethod
    def forward(self, x: Tensor, grid: ViewGrid) -> Tensor:
        """(B, V, t, h, w, D) -> same. grid: of these views and latent frames, its cameras (B, V, t) of pictures of h x w."""

    @property
    def starts_as_copy(self) -> bool:
        """Whether its settings ask for ``copy_spatial``."""
        return getattr(self.config, "init", "zero") == "copy"

    def copy_spatial(self, norm: nn.Module, attention: nn.Module) -> None:
        """Its layers as a copy of the backbone's attention within a picture (``AttentionLayers.copy``)."""
        for layers in self.modules():
            if isinstance(layers, AttentionLayers):
                layers.copy(norm, attention)

    @classmethod
    def token_groups(cls, config: ConfigT, views: int, height: int, width: int) -> Tensor | None:
        """Group number of every token, (V, h, w) int64: tokens see each other if and only if their numbers are equal.

        None where tokens form no groups, or other ones for other cameras or views.
        """
        return None

    @classmethod
    def sees(cls, config: ConfigT, grid: ViewGrid) -> Tensor:
        """Who sees whom, (B, t, L, L) bool: whether the token of a row sees that of a column; the L = V h w of a latent frame
        in this order. By ``token_groups``, unless a part knows better.

        grid: as of ``forward``. Raises: HvgError for a part that declares neither.
        """
        (b, v, t), size = grid.cameras.shape, grid.cameras.image_size
        groups = cls.token_groups(config, v, *size)
        if groups is None:
            raise HvgError(f"{cls.__name__} has to say who sees whom: it declares neither token_groups nor sees")
        groups = groups.flatten().to(grid.view_index.device)
        return (groups[:, None] == groups).expand(b, t, -1, -1)

    @classmethod
    @abstractmethod
    def flops(cls, config: ConfigT, views: int, height: int, width: int, channels: int) -> int:
        """Forward FLOPs for one latent frame of V views (2 per multiply-add): of what runs, not of what is seen."""
