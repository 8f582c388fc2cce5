"""Interface of the encoders of text."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from hvg.core.errors import HvgError
from hvg.parts.part import ConfigT, Part

if TYPE_CHECKING:
    from hvg.parts.context import ConditionerContext


class TextEncoder(Part[ConfigT]):
    """Texts -> tokens (N, L, D) for cross-attention; each text's are its own, whatever texts are beside it.

    Conditioners name one by their setting ``encoder``. One that learns is a ``torch.nn.Module`` whose tokens are as wide as the
    backbone's port; any other is none, so that it is neither trained, saved nor partitioned, and says its own width.

    learns: whether it is trained with the model. pools: whether it gives a text as one vector, too. max_tokens: L, of every text.
    width: D.
    """

    learns: ClassVar[bool] = False
    pools: ClassVar[bool] = False

    max_tokens: int
    width: int

    def __init__(self, config: ConfigT, context: ConditionerContext, path: str | None = None) -> None:
        """path: folder of a pipeline, or hub id, for encoders that are read from files; the others take no notice."""
        super().__init__(config, context)

    @abstractmethod
    def count(self, text: str) -> int:
        """Tokens that all of a text takes, which may be more than ``max_tokens``."""

    @abstractmethod
    def encode(self, texts: Sequence[str], device: torch.device | None = None) -> Tensor:
        """Tokens (N, L, D); of a text that takes more than L, those of its beginning.

        device: where they are wanted. One that learns has them where its weights lie; None: wherever the network is.
        """

    def pooled(self, texts: Sequence[str], device: torch.device | None = None) -> Tensor:
        """Each text as one vector, (N, D), of those that ``pools``; device as of ``encode``. Raises: HvgError for others."""
        raise HvgError(f"{type(self).__name__} gives tokens of a text alone, not the text as one vector")
