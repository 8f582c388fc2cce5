"""CLIP's encoder of text, which Stable Diffusion reads text with."""

from typing import Any, Literal

from pydantic import Field

from ..nn.published_text import PublishedText, PublishedTextConfig


class ClipTextConfig(PublishedTextConfig):
    """Settings of CLIP's encoder of text."""

    max_tokens: int = Field(
        77, ge=2, le=65_536, description="Tokens of every text, of which its begin and its end take two."
    )
    precision: Literal["bf16", "32"] = Field(
        "32", description=PublishedTextConfig.model_fields["precision"].description
    )


class ClipText(PublishedText):
    """Tokens of a text that is filled up with CLIP's filler, which the network sees, as Stable Diffusion has them.

    As one vector a text is the last of them, at its end, as FLUX has it.

    Source: CLIP (arXiv 2103.00020); ``StableDiffusionPipeline`` of diffusers.
    """

    Config = ClipTextConfig
    network = "CLIPTextModel"
    tokenizer = "CLIPTokenizer"
    wide = "hidden_size"
    pools = True
    vocabularies = ("tokenizer.json", "vocab.json")

    def ids(self, tokenizer: Any, text: str) -> list[int]:
        return tokenizer(text, padding="max_length", truncation=True, max_length=self.max_tokens).input_ids
