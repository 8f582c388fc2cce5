"""Checks of what every encoder of text promises."""

from typing import Any

import torch
from torch import Tensor, nn

from hvg.core.random_keys import generator
from hvg.parts.context import ConditionerContext
from hvg.parts.text_encoder import TextEncoder
from hvg.testing.building import build, nudged, require, require_gradients
from hvg.testing.outputs import alike, check_device

# Of different lengths, and one of none; not all letters are of English.
TEXTS = ("a person walks", "", "a person in a red coat waves at somebody", "Ein Mädchen läuft 跑步")


def check_text_encoder(
    cls: type[TextEncoder], config: Any, context: ConditionerContext, path: str | None = None
) -> None:
    """Runs every check below. path: as of ``TextEncoder``. Raises: AssertionError that says which promise is broken."""
    part = _made(cls, config, context, path)
    check_tokens(part, context)
    check_determinism(cls, config, context, path)
    check_lengths(part)
    if isinstance(part, nn.Module):
        check_gradients(part)
        check_half_precision(part)
    check_device(lambda there: {"tokens": part.encode(TEXTS, there.device)}, (torch.zeros(1),), part)


def check_tokens(part: TextEncoder, context: ConditionerContext) -> None:
    """Tokens are (N, L, D) as it says, without a gradient unless it learns; of the port's width where it does.

    Texts differ in them, and each text's are its own, whatever texts are beside it.
    """
    together = part.encode(TEXTS)
    expected = (len(TEXTS), part.max_tokens, part.width)
    require(tuple(together.shape) == expected, f"tokens are {tuple(together.shape)}, not {expected}")
    require(part.learns == isinstance(part, nn.Module), "one that learns is a module, and any other is none")
    require(part.learns or not together.requires_grad, "tokens of an encoder that does not learn carry a gradient")
    fits = not part.learns or part.width == context.ports.text_width
    require(fits, f"one that learns gives tokens of the port's width, {context.ports.text_width}, not {part.width}")
    for text, tokens in zip(TEXTS, together, strict=True):
        require(alike(part.encode([text])[0], tokens), f"tokens of {text!r} change with the texts beside it")
    same = [a for a in range(len(TEXTS)) for b in range(a) if torch.equal(together[a], together[b])]
    require(not same, "two texts have the same tokens")


def check_determinism(cls: type[TextEncoder], config: Any, context: ConditionerContext, path: str | None) -> None:
    """The same seed gives the same tokens."""
    first, second = (_made(cls, config, context, path).encode(TEXTS) for _ in range(2))
    require(torch.equal(first, second), "tokens differ between two encoders with the same seed")


def check_lengths(part: TextEncoder) -> None:
    """A longer text counts for more; one that is too long is cut, and has as many tokens as any other."""
    short, long = (part.count(text) for text in ("a person", "a person " * part.max_tokens * 8))
    require(0 <= short < long, f"a longer text counts for {long} tokens, its beginning for {short}")
    require(long > part.max_tokens, f"a text of {8 * part.max_tokens} words counts for {long} tokens")
    tokens = part.encode(["a person " * part.max_tokens * 8])
    require(tokens.shape[1] == part.max_tokens, f"a text that is too long has {tokens.shape[1]} tokens")


def check_gradients(part: nn.Module) -> None:
    """Every trainable weight gets a gradient once the zero-initialised ones have moved."""
    tokens = _encoded(nudged(part))
    (tokens * torch.randn(tokens.shape, generator=generator("loss"))).sum().backward()
    require_gradients(part)
    part.zero_grad(set_to_none=True)


def check_half_precision(part: nn.Module) -> None:
    """bfloat16 weights give bfloat16 tokens."""
    kind = _encoded(part.to(torch.bfloat16)).dtype
    part.float()
    require(kind == torch.bfloat16, f"tokens are {kind} for bfloat16 weights")


def _encoded(part: Any) -> Tensor:
    return part.encode(TEXTS)


def _made(cls: type[TextEncoder], config: Any, context: ConditionerContext, path: str | None) -> TextEncoder:
    """The encoder with weights from a fixed seed, where it learns."""
    if issubclass(cls, nn.Module):
        return build(cls, config, context, path)
    return cls(config, context, path)
