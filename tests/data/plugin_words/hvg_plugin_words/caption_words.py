"""The caption's words, for cross-attention."""

import re

import torch
from pydantic import Field
from torch import nn

from hvg.plugin import Conditioner, ConditionerConfig, Conditioning, ConditioningSpec, HvgError, key_to_seed


class CaptionWords(Conditioner):
    """Fills ``tokens`` with one learned vector a word, plus one of its place; every caption has as many tokens."""

    class Config(ConditionerConfig):
        words: int = Field(8, ge=1, description="Words that are read, from the first on; the rest is left out.")
        buckets: int = Field(256, ge=2, description="Vectors that all words share: a word has the one of its hash.")

    requires = frozenset({"caption"})
    per_clip = True

    def __init__(self, config, context):
        super().__init__(config, context)
        self.word = nn.Embedding(config.buckets, context.ports.token_width)
        self.place = nn.Embedding(config.words, context.ports.token_width)

    @classmethod
    def spec(cls, config, ports):
        if ports.token_width == 0:
            raise HvgError(
                "caption_words fills the port 'tokens', but this backbone has no cross-attention; give it some, as by "
                "backbone.cross_attention_width=64"
            )
        return ConditioningSpec(tokens=ports.token_width)

    def forward(self, signal, batch):
        buckets = torch.tensor([self._buckets(caption) for caption in batch.caption], device=self.place.weight.device)
        tokens = self.word(buckets) + self.place.weight  # B L D
        return Conditioning(tokens=tokens[:, None, None])

    def _buckets(self, caption):
        """The bucket of every word; 0 stands where there is none."""
        words = re.findall(r"\w+", caption.lower())[: self.config.words]
        # Python's own hash() is another one in every process.
        found = [1 + key_to_seed(word) % (self.config.buckets - 1) for word in words]
        return found + [0] * (self.config.words - len(found))
