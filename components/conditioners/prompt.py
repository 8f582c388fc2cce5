"""What is said of a clip, for cross-attention: its caption, or a prompt."""

import html
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from hvg.core.errors import DataError, HvgError
from hvg.parts.context import ConditionerContext
from hvg.parts.continued import Continued
from hvg.parts.text_conditioner import TextConditioner
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning, ConditioningSpec, Ports

from ..nn.encoded_text import EncodedText, EncodedTextConfig


class PromptConfig(EncodedTextConfig):
    """Which text, and how it is encoded."""

    fills: Literal["text", "pooled"] = Field(
        "text",
        description="text: the text's tokens. pooled: the text as one vector, for backbones that have a layer for it and "
        "encoders that give one (clip); on a slot of one's own, beside the tokens of another.",
    )
    prompt: str | None = Field(
        None, description="One text for every clip, whatever its caption; null: each clip's caption."
    )
    default: str | None = Field(None, description="Text of a clip that has no caption; null: such a clip is refused.")
    negative: Annotated[str, Continued.SAMPLING] = Field(
        "",
        description="Text that stands in where sampling leaves the text out, as guidance does; in training the empty one does. "
        "Encoders that learn have nothing in either.",
    )
    too_long: Literal["refuse", "cut"] = Field(
        "refuse",
        description="What becomes of a text that takes more tokens than the encoder gives: it is refused, or cut.",
    )


class Prompt(EncodedText[PromptConfig], TextConditioner[PromptConfig]):
    """Fills ``text`` with the tokens of the clip's text, or ``pooled`` with all of it as one vector, for every view and frame.

    Texts are cleaned as in ``WanPipeline`` of diffusers: HTML's names of characters become those, spaces single ones.
    """

    encoder_settings: ClassVar[frozenset[str]] = frozenset({"negative"})

    def __init__(self, config: PromptConfig, context: ConditionerContext) -> None:
        """Raises: HvgError, one line, for files that are missing; DataError for a text of the settings that is too long."""
        super().__init__(config, context)
        self._slot = context.slot
        for name in ("prompt", "default", "negative"):
            self._fitting(clean(getattr(config, name) or ""), f"{self._slot}.{name}")

    @classmethod
    def spec(cls, config: PromptConfig, ports: Ports) -> ConditioningSpec:
        if config.fills == "text":
            return super().spec(config, ports)
        encoder, _ = config.inner_part("encoder")
        if not encoder.pools:
            raise HvgError(f"the encoder {config.encoder} gives no text as one vector (fills=pooled); clip does")
        if ports.pooled_width == 0:
            raise HvgError("prompt fills the port 'pooled', which this backbone lacks")
        return ConditioningSpec(pooled=ports.pooled_width)

    @classmethod
    def port_width(cls, config: PromptConfig, ports: Ports) -> int:
        return ports.text_width if config.fills == "text" else ports.pooled_width

    @classmethod
    def needs(cls, config: PromptConfig) -> frozenset[str]:
        return cls.requires if config.prompt is None and config.default is None else frozenset()

    @classmethod
    def hears(cls, config: PromptConfig) -> bool:
        return config.prompt is None

    @classmethod
    def notes(cls, config: PromptConfig, provided: frozenset[str]) -> Sequence[str]:
        if config.prompt is not None:
            return [f"every clip has the text '{config.prompt}', whatever its caption (prompt)"]
        if config.default is None:
            return []
        who = "clips without a caption" if "caption" in provided else "the data set gives no captions, so all clips"
        return [f"{who} have the text '{config.default}' (default)"]

    @classmethod
    def has_frozen_features(cls, config: PromptConfig) -> bool:
        encoder, _ = config.inner_part("encoder")
        return not encoder.learns

    def text_of(self, caption: str, clip: str) -> str:
        config = self.config
        text = clean(caption) if config.prompt is None else clean(config.prompt)
        if text or config.prompt is not None:
            return self._fitting(text, f"clip '{clip}'")
        if config.default is None:
            raise DataError(
                f"clip '{clip}' has no caption, and the model reads one; {self._slot}.default says what stands in for it"
            )
        return clean(config.default)

    def frozen_features(self, batch: ClipBatch) -> Tensor | None:
        """The tokens of every clip's text, (B, L, D); one token that is all of it, (B, 1, D)."""
        cameras = batch.cameras.intrinsics
        return self.encoded(self.texts(batch), cameras.device).to(cameras.dtype)

    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        tokens = self.encoded(self.texts(batch)) if self.encoder.learns else self.features(batch)
        told = self.filling(tokens)
        return Conditioning(text=told) if self.config.fills == "text" else Conditioning(pooled=told)

    def encoded(self, texts: Sequence[str], device: torch.device | None = None) -> Tensor:
        """Tokens (N, L, D); one token that is all of a text, (N, 1, D)."""
        if self.config.fills == "pooled":
            return self.encoder.pooled(texts, device)[:, None]
        return super().encoded(texts, device)

    def filling(self, tokens: Tensor) -> Tensor:
        """For all views and frames: tokens (N, 1, 1, L, D), or the one vector (N, 1, 1, D)."""
        filled = super().filling(tokens)
        return filled if self.config.fills == "text" else filled[:, :, :, 0]

    def instead(self) -> str:
        return "" if self.training else clean(self.config.negative)

    def _fitting(self, text: str, whose: str) -> str:
        """The text. Raises: DataError for one that is too long, unless the settings say that it is cut."""
        if self.config.too_long == "refuse":
            count, most = self.encoder.count(text), self.encoder.max_tokens
            if count > most:
                raise DataError(
                    f"{whose}: its text '{text[:40]}...' takes {count} tokens of {self.config.encoder}, which gives {most} "
                    f"({self._slot}.encoder_settings.max_tokens); shorten it, or say {self._slot}.too_long=cut"
                )
        return text


def clean(text: str) -> str:
    """The text with characters for HTML's names of them, and single spaces between its words."""
    return " ".join(html.unescape(html.unescape(text)).split())
