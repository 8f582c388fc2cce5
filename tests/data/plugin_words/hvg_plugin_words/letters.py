"""An encoder of text: a learned vector for each of the first letters, and one for its place."""

import torch
from pydantic import Field
from torch import nn

from hvg.plugin import PartConfig, TextEncoder


class LettersConfig(PartConfig):
    """Settings of the letters."""

    letters: int = Field(16, ge=1, le=1000, description="Letters that are read, from the first on.")


class Letters(TextEncoder[LettersConfig], nn.Module):
    """Knows English letters from each other, and from all else."""

    learns = True

    def __init__(self, config, context, path=None):
        super().__init__(config, context, path)
        self.max_tokens, self.width = config.letters, context.ports.text_width
        self.letter = nn.Embedding(28, self.width)
        self.place = nn.Embedding(config.letters, self.width)

    def count(self, text):
        return len(text)

    def encode(self, texts, device=None):
        codes = [[1 + max(0, "abcdefghijklmnopqrstuvwxyz".find(c) + 1) for c in text.lower()] for text in texts]
        place = self.place.weight.device
        rows = [row[: self.max_tokens] + [0] * (self.max_tokens - len(row)) for row in codes]
        read = torch.tensor(rows, device=place)
        return self.letter(read) + self.place(torch.arange(self.max_tokens, device=place))
