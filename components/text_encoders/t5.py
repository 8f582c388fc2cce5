"""T5's encoder, which LTX-Video, CogVideoX and FLUX read text with."""

from typing import Any, Literal, cast

from pydantic import Field

from ..nn.published_text import PublishedText, PublishedTextConfig


class T5Config(PublishedTextConfig):
    """Settings of T5's encoder."""

    filler: Literal["zeros", "seen"] = Field(
        "zeros",
        description="Beyond a text's end. zeros: nothing, and the network does not see it. seen: the network sees T5's filler, "
        "and gives tokens of it, too, as in FLUX.",
    )


class T5(PublishedText):
    """Tokens of a text up to its end of sequence, and zeros beyond it, or tokens of filler. Source: T5 (arXiv 1910.10683)."""

    Config = T5Config
    network = "T5EncoderModel"
    tokenizer = "T5Tokenizer"

    def ids(self, tokenizer: Any, text: str) -> list[int]:
        if cast(T5Config, self.config).filler == "zeros":
            return super().ids(tokenizer, text)
        return tokenizer(text, padding="max_length", truncation=True, max_length=self.max_tokens).input_ids
