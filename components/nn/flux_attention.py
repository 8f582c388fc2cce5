"""Our forward passes of FLUX's blocks, over the library's own weights.

N pictures, each by itself. S: tokens of pictures, those of the one that is made first. L: tokens of text. T = L + S.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hvg.parts.attention import attend

from .rotary import frequencies, turn_pairs


@dataclass(frozen=True)
class Places:
    """Rotary positions of tokens, the same in all pictures: cosines and sines (T, d / 2)."""

    cosine: Tensor
    sine: Tensor

    @staticmethod
    def of(ids: Tensor, axes: Sequence[int]) -> "Places":
        """ids: (T, 3), number of a token's picture, its row and its column. axes: channels of a head that each of them turns."""
        turns = [ids[:, i, None].double() * frequencies(size, ids.device) for i, size in enumerate(axes)]
        angles = torch.cat(turns, dim=-1)
        return Places(angles.cos().float(), angles.sin().float())

    def turn(self, x: Tensor) -> Tensor:
        """Queries or keys (N, T, heads, d) -> same."""
        return turn_pairs(x, self.cosine[:, None], self.sine[:, None])


@dataclass(frozen=True)
class Memory:
    """Further keys and values: tokens (R, M, D), each row for N / R pictures that follow each other, and where they stand.

    gate: (heads) of a softmax of their own; None: they are in the one softmax.
    """

    tokens: Tensor
    places: Places
    gate: Tensor | None


def picture_ids(number: int, cells: tuple[int, int], device: torch.device) -> Tensor:
    """Ids (h w, 3) of a picture's tokens: its number, row and column."""
    rows, columns = torch.meshgrid(*(torch.arange(n, device=device) for n in cells), indexing="ij")
    return torch.stack([torch.full_like(rows, number), rows, columns], dim=-1).flatten(0, 1)


def memory_ids(tokens: int, cells: tuple[int, int], device: torch.device) -> Tensor:
    """Ids (M, 3) of so many tokens of memory: whole pictures of (h, w) cells are numbers 1, 2, ...; others are at a corner."""
    pictures, rest = divmod(tokens, cells[0] * cells[1])
    if rest or not pictures:
        return picture_ids(1, (1, 1), device).expand(tokens, -1)
    return torch.cat([picture_ids(1 + number, cells, device) for number in range(pictures)])


def double_block(
    block: Any, x: Tensor, text: Tensor | None, embedding: Tensor, places: Places, memory: Memory | None = None
) -> tuple[Tensor, Tensor | None]:
    """Pictures (N, S, D) and text (N, L, D) or None -> same. embedding: (N, D) of the noise level."""
    seen, gate, shift, scale, ff_gate = block.norm1(x, emb=embedding)
    if text is None:
        mixed = block.attn.to_out[0](_mix(block.attn, seen, None, places, memory))
        return _with_branches(block.norm2, block.ff, x, mixed, (gate, shift, scale, ff_gate)), None
    read, *told = block.norm1_context(text, emb=embedding)
    mixed = _mix(block.attn, seen, read, places, memory)
    of_text, of_pictures = mixed[:, : text.shape[1]], mixed[:, text.shape[1] :]
    x = _with_branches(block.norm2, block.ff, x, block.attn.to_out[0](of_pictures), (gate, shift, scale, ff_gate))
    return x, _with_branches(block.norm2_context, block.ff_context, text, block.attn.to_add_out(of_text), told)


def single_block(
    block: Any, x: Tensor, text: Tensor | None, embedding: Tensor, places: Places, memory: Memory | None = None
) -> tuple[Tensor, Tensor | None]:
    """As ``double_block``."""
    length = 0 if text is None else text.shape[1]
    whole = x if text is None else torch.cat([text, x], dim=1)
    seen, gate = block.norm(whole, emb=embedding)
    whole = whole + gate[:, None] * single_branches(block, seen, places, memory)
    return whole[:, length:], None if text is None else whole[:, :length]


def single_branches(block: Any, seen: Tensor, places: Places, memory: Memory | None = None) -> Tensor:
    """What attention and feed-forward of a block of one stream make of normalised tokens (N, T, D)."""
    mixed = _mix(block.attn, seen, None, places, memory)
    return block.proj_out(torch.cat([mixed, block.act_mlp(block.proj_mlp(seen))], dim=2))


def picture_attention(attention: Any, seen: Tensor, places: Places) -> Tensor:
    """What pictures without text see of themselves, normalised tokens (N, S, D) -> same."""
    return attention.to_out[0](_mix(attention, seen, None, places, None))


def modulated(norm: Any, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Tokens (N, S, D), normalised, then scaled and shifted by (N, D) or (1, D)."""
    return norm(x) * (1 + scale[:, None]) + shift[:, None]


def attention_of_single(block: Any) -> nn.Module:
    """The attention of a block of one stream with a layer that leads out of it, its part of the block's."""
    whole = block.proj_out
    attention: Any = nn.Module()
    width = whole.out_features
    out = nn.Linear(width, width, device=whole.weight.device, dtype=whole.weight.dtype)
    with torch.no_grad():
        out.weight.copy_(whole.weight[:, :width])
        out.bias.copy_(whole.bias)
    for name in ("norm_q", "norm_k", "to_q", "to_k", "to_v"):
        attention.add_module(name, getattr(block.attn, name))
    attention.add_module("to_out", nn.ModuleList([out]))
    attention.heads = block.attn.heads
    return attention


def _with_branches(norm: Any, network: Any, x: Tensor, mixed: Tensor, told: Sequence[Tensor]) -> Tensor:
    """Tokens with what attention gave them, and then the feed-forward network. told: (N, D) each, gate, shift, scale, gate."""
    gate, shift, scale, ff_gate = told
    x = x + gate[:, None] * mixed
    return x + ff_gate[:, None] * network(modulated(norm, x, shift, scale))


def _mix(attention: Any, x: Tensor, text: Tensor | None, places: Places, memory: Memory | None) -> Tensor:
    """Every token of text and pictures sees all of them, and the memory: (N, L, D) and (N, S, D) -> (N, T, D)."""
    query, key, value = _projected(attention, x)
    if text is not None:
        told = _projected_text(attention, text)
        query, key, value = (torch.cat(both, dim=1) for both in zip(told, (query, key, value), strict=True))
    query, key = places.turn(query), places.turn(key)
    if memory is None:
        return attend(query, key, value).flatten(2)
    seen = memory.places.turn(attention.norm_k(_heads(attention, attention.to_k(memory.tokens))))
    told = _heads(attention, attention.to_v(memory.tokens))
    if memory.gate is None:
        more = (y.repeat_interleave(len(x) // len(y), dim=0) for y in (seen, told))
        key, value = (torch.cat(both, dim=1) for both in zip((key, value), more, strict=True))
        return attend(query, key, value).flatten(2)
    # As one long sequence of queries for each row.
    looked = attend(query.reshape(len(seen), -1, *query.shape[2:]), seen, told).reshape(query.shape)
    mixed = attend(query, key, value)
    return (mixed + memory.gate.to(mixed.dtype)[:, None] * looked).flatten(2)


def _projected(attention: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value (N, S, heads, d) of pictures."""
    query, key, value = (_heads(attention, layer(x)) for layer in (attention.to_q, attention.to_k, attention.to_v))
    return attention.norm_q(query), attention.norm_k(key), value


def _projected_text(attention: Any, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same (N, L, heads, d) of text, by layers of its own."""
    layers = attention.add_q_proj, attention.add_k_proj, attention.add_v_proj
    query, key, value = (_heads(attention, layer(text)) for layer in layers)
    return attention.norm_added_q(query), attention.norm_added_k(key), value


def _heads(attention: Any, x: Tensor) -> Tensor:
    return x.unflatten(-1, (attention.heads, -1))
