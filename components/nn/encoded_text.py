"""Base of the conditioners that have texts encoded for cross-attention: by which encoder, and at which width."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import TypeVar

from hvg.core.errors import HvgError
from hvg.parts.context import ConditionerContext
from hvg.parts.model import Conditioner, ConditionerConfig
from hvg.parts.part import PartName
from hvg.parts.text_encoder import TextEncoder
from hvg.values.conditioning import Conditioning, ConditioningSpec, Ports


class EncodedTextConfig(ConditionerConfig):
    """How a text is encoded."""

    encoder: Annotated[str, PartName("text_encoder", settings="encoder_settings")] = Field(
        "learned", description="Registered name of what encodes the text (hvg list text_encoder)."
    )
    encoder_settings: Mapping[str, Any] = Field({}, description="That encoder's own settings.")
    path: str | None = Field(
        None,
        description="Folder, or hub id, of a pipeline with tokenizer/ and text_encoder/, for encoders that are read from files.",
    )


EncodedT = TypeVar("EncodedT", bound=EncodedTextConfig, default=EncodedTextConfig)


class EncodedText(Conditioner[EncodedT]):
    """Fills ``text`` with the tokens of texts.

    An encoder that is read from files is frozen; where the port has another width than its tokens, a linear layer without bias
    leads from one to the other, so that zeros stay zeros. Dropped, a text is the empty one; of an encoder that learns, zeros.
    """

    def __init__(self, config: EncodedT, context: ConditionerContext) -> None:
        """Raises: HvgError, one line, for files that are missing."""
        super().__init__(config, context)
        cls, settings = config.inner_part("encoder")
        self.encoder: TextEncoder = cls(settings, context, config.path)
        width = self.port_width(config, context.ports)
        same = self.encoder.width == width
        self.projection = None if same else nn.Linear(self.encoder.width, width, bias=False)

    @classmethod
    def spec(cls, config: EncodedT, ports: Ports) -> ConditioningSpec:
        if ports.text_width == 0:
            raise HvgError(
                f"{cls.__module__.rpartition('.')[2]} fills the port 'text', but this backbone has no cross-attention; give it "
                "some, as by backbone.cross_attention_width=64"
            )
        return ConditioningSpec(text=ports.text_width)

    @classmethod
    def port_width(cls, config: EncodedT, ports: Ports) -> int:
        """Width of the port that the text fills."""
        return ports.text_width

    def encoded(self, texts: Sequence[str], device: torch.device | None = None) -> Tensor:
        """Tokens of texts, (N, L, D), of the encoder's width."""
        return self.encoder.encode(texts, device)

    def filling(self, tokens: Tensor) -> Tensor:
        """Tokens (N, L, D) as the port has them, for all views and frames, (N, 1, 1, L, D)."""
        return self.of_the_port(tokens)[:, None, None]

    def instead(self) -> str:
        """The text that stands in for one that is dropped."""
        return ""

    def null(self, conditioning: Conditioning) -> Conditioning:
        if self.encoder.learns:
            return super().null(conditioning)
        return conditioning.map(
            lambda tokens: self.filling(self.encoded([self.instead()]).to(tokens)).expand_as(tokens)
        )

    def frozen(self) -> Mapping[str, Any]:
        return self.encoder.frozen()

    def adopt(self, components: Mapping[str, Any]) -> None:
        self.encoder.adopt(components)

    def of_the_port(self, tokens: Tensor) -> Tensor:
        """Tokens (N, L, D) at the width of the port."""
        return tokens if self.projection is None else self.projection(tokens.to(self.projection.weight.dtype))
