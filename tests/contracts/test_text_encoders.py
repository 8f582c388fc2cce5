"""Every registered encoder of text keeps the promises that hvg.testing spells out."""

import pytest
import torch
from torch import nn

from hvg.parts import registry
from hvg.parts.part import PartConfig
from hvg.parts.text_encoder import TextEncoder
from hvg.testing import build, check_text_encoder, tiny_context

VARIANTS = {
    "learned": [{"max_tokens": 20, "bytes_per_token": 1, "width": 8, "heads": 1, "layers": 1}],
    "umt5": [{"precision": "32", "max_tokens": 16}],
    "t5": [{"precision": "32"}, {"precision": "32", "filler": "seen", "max_tokens": 60}],
    "clip": [{"precision": "bf16", "max_tokens": 20}],
}
CASES = [(name, settings) for name in registry.names("text_encoder") for settings in [{}, *VARIANTS.get(name, [])]]


@pytest.mark.parametrize(("name", "settings"), CASES, ids=str)
def test_text_encoder(name, settings, text_folder):
    part = registry.load("text_encoder", name)
    path = None if part.learns else str(text_folder / name)
    check_text_encoder(part, part.Config(**settings), tiny_context(), path)


class Lengths(TextEncoder[PartConfig], nn.Module):
    """Says of a text how long the longest beside it is."""

    learns = True
    max_tokens = 2

    def __init__(self, config, context, path=None):
        super().__init__(config, context, path)
        self.width = context.ports.text_width
        self.scale = nn.Parameter(torch.ones(1))

    def count(self, text):
        return len(text)

    def encode(self, texts, device=None):
        told = torch.tensor([[[float(len(text) + max(map(len, texts)))]] for text in texts])
        return self.scale * told.expand(-1, self.max_tokens, self.width).to(self.scale)


class Wide(Lengths):
    """Tokens that the port does not take."""

    def __init__(self, config, context, path=None):
        super().__init__(config, context, path)
        self.width += 1


@pytest.mark.parametrize(
    ("part", "told"), [(Lengths, "change with the texts beside it"), (Wide, "the port's width, 24")]
)
def test_an_encoder_that_breaks_a_promise_is_told(part, told):
    with pytest.raises(AssertionError, match=told):
        check_text_encoder(part, part.Config(), tiny_context())


def test_a_text_as_one_vector_is_its_own_whatever_is_beside_it(text_folder):
    part = registry.load("text_encoder", "clip")
    encoder = part(part.Config(), tiny_context(), str(text_folder / "clip"))
    both = encoder.pooled(["a person", "a coat"])
    assert both.shape == (2, encoder.width) and not torch.equal(both[0], both[1])
    assert torch.equal(encoder.pooled(["a coat"])[0], both[1]) and not both.requires_grad
    assert [name for name in registry.names("text_encoder") if registry.load("text_encoder", name).pools] == ["clip"]


def test_beyond_a_text_s_end_a_learned_encoder_has_zeros():
    part = registry.load("text_encoder", "learned")
    encoder = build(part, part.Config(max_tokens=6), tiny_context())
    tokens = encoder.encode(["", "abcd", "abcde", "a" * 100])
    assert tokens.any(dim=-1).sum(dim=-1).tolist() == [0, 1, 2, 6]
    assert [encoder.count(text) for text in ("", "abcd", "abcde", "ä" * 3)] == [0, 1, 2, 2]
    assert not any("path" in name for name in encoder.state_dict())
