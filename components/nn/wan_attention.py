"""Our forward passes of Wan's layers, over the library's own weights.

Folded axis N = B V t: frames of the clips of all views. S = h w: cells of a frame, each a token. R: rows of what several
frames that follow each other share, N / R of them a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hvg.core.required import required
from hvg.parts.attention import attend

from .rotary import frequencies, turn_pairs


@dataclass(frozen=True)
class Rotation:
    """Rotary positions of tokens: cosines and sines (B, t, S, d / 2), B and t may be 1.

    A head's d channels are pairs; those of the first are turned by the frame's place, those of the two other parts by the
    cell's row and column. Source: RoPE (arXiv 2104.09864), in three axes as in Wan (arXiv 2503.20314).
    """

    cosine: Tensor
    sine: Tensor

    @staticmethod
    def at(places: Tensor, cells: tuple[int, int], head_width: int, column: int = 0) -> "Rotation":
        """places: (B, t) of the frames in their videos. cells: (h, w) of a frame. column: the first one's place."""
        side = 2 * (head_width // 6)
        height, width = cells
        device = places.device
        axes = [
            (places[:, :, None, None], head_width - 2 * side),
            (torch.arange(height, device=device)[:, None], side),
            (torch.arange(column, column + width, device=device)[None, :], side),
        ]
        angles = [
            (position.double()[..., None] * frequencies(size, device)).expand(*places.shape, height, width, -1)
            for position, size in axes
        ]
        whole = torch.cat(angles, dim=-1).flatten(2, 3)
        return Rotation(whole.cos().float(), whole.sin().float())

    def turn(self, x: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """Queries or keys (N, S, heads, d) of clips of ``grid`` (B, V, t) -> same."""
        cosine, sine = (y[:, None, :, :, None] for y in (self.cosine, self.sine))
        return turn_pairs(x.unflatten(0, grid), cosine, sine).flatten(0, 2)

    def of_memory(self, tokens: int) -> "Rotation":
        """Of so many tokens of memory: whole pictures of S cells lie where those cells lie, others where the first one does."""
        cells = self.cosine.shape[2]
        if tokens % cells == 0:
            return Rotation(*(x.repeat(1, 1, tokens // cells, 1) for x in (self.cosine, self.sine)))
        return Rotation(*(x[:, :, :1].expand(-1, -1, tokens, -1) for x in (self.cosine, self.sine)))


@dataclass(frozen=True)
class Memory:
    """What frames see besides their clip: tokens (R, M, D), a row for N / R frames that follow each other.

    places: rotary positions of the cells where its pictures lie. beside: these are whole pictures beside the frame's own, of
    which one of zeros is not seen. gate: (heads) of a softmax of its own, whose result is added times the gate; None: its keys
    and values are more of the one softmax. Behind a gate frames see it at their own moment: it has places in the picture alone.
    """

    tokens: Tensor
    places: Rotation
    beside: bool = False
    gate: Tensor | None = None

    @property
    def seen(self) -> Tensor:
        """Which of its rows are seen, (R) bool."""
        rows = self.tokens.new_ones(len(self.tokens), dtype=torch.bool)
        return self.tokens.ne(0).flatten(1).any(dim=1) if self.beside else rows


def patches(convolution: Any, x: Tensor) -> Tensor:
    """Latents (N, C, h, w) -> tokens as a map (N, D, h / patch, w / patch); the library's convolution has a time axis of 1."""
    if type(convolution) is not nn.Conv3d:
        # Something was added to it.
        return convolution(x[:, :, None])[:, :, 0]
    return functional.conv2d(x, convolution.weight[:, :, 0], convolution.bias, stride=convolution.stride[1:])


def modulated(norm: nn.Module, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Tokens (N, S, D), normalised, then scaled and shifted in single precision; shift and scale broadcast."""
    return (norm(x.float()) * (1 + scale) + shift).type_as(x)


def with_branch(x: Tensor, branch: Tensor, gate: Tensor) -> Tensor:
    """Tokens plus a branch times its gate, in single precision."""
    return (x.float() + branch * gate).type_as(x)


def self_attention(
    attention: Any,
    x: Tensor,
    rotation: Rotation,
    grid: tuple[int, int, int],
    memories: Sequence[Memory] = (),
    still: Rotation | None = None,
) -> Tensor:
    """Every token (N, S, D) sees all of its clip, and of each memory what its own frame has.

    still: rotary positions (1, 1, S, d / 2) of a picture, for queries of a memory behind a gate.
    """
    query, key, value = _projected(attention, x, x)
    own = rotation.turn(query, grid), rotation.turn(key, grid), value
    joined = [memory for memory in memories if memory.gate is None]
    mixed = _with_more(attention, own, grid, joined) if joined else _within_clips(*own, grid)
    for memory in memories:
        if memory.gate is not None:
            looked = _looked(attention, required(still, "rotary positions of a picture").turn(query, grid), memory)
            mixed = mixed + memory.gate.to(mixed.dtype)[:, None] * looked
    return _put_out(attention, mixed.type_as(x))


def _with_more(
    attention: Any, own: tuple[Tensor, Tensor, Tensor], grid: tuple[int, int, int], memories: Sequence[Memory]
) -> Tensor:
    """Attention (N, S, heads, d) of every frame to its whole clip and its own rows of the memories, in one softmax."""
    query, keys, values = own[0], [_of_clip(own[1], grid[2])], [_of_clip(own[2], grid[2])]
    seen = [keys[0].new_ones(keys[0].shape[:2], dtype=torch.bool)]
    for memory in memories:
        key, value = (_per_frame(y, len(query)) for y in _memory(attention, memory.tokens))
        keys.append(memory.places.of_memory(key.shape[1]).turn(key, grid))
        values.append(value)
        seen.append(_per_frame(memory.seen, len(query))[:, None].expand(key.shape[:2]))
    mask = torch.cat(seen, dim=1) if any(memory.beside for memory in memories) else None
    return attend(query, torch.cat(keys, dim=1), torch.cat(values, dim=1), mask)


def _looked(attention: Any, query: Tensor, memory: Memory) -> Tensor:
    """Attention (N, S, heads, d) of every frame to its own row of a memory alone; 0 where that is not seen."""
    key, value = _memory(attention, memory.tokens)
    key = memory.places.of_memory(key.shape[1]).turn(key, (len(key), 1, 1))
    if memory.beside:
        value = value * memory.seen[:, None, None, None].to(value.dtype)
    return _look(query, key, value)


def cross_attention(attention: Any, x: Tensor, text: Tensor, image: Tensor | None) -> Tensor:
    """Tokens (N, S, D) see ``text`` (R, L, D), and in a second softmax ``image`` (R, L, D) through keys and values of its own."""
    query, key, value = _projected(attention, x, text)
    mixed = _look(query, key, value)
    if image is not None:
        key = _heads(attention, attention.norm_added_k(attention.add_k_proj(image)))
        mixed = mixed + _look(query, key, _heads(attention, attention.add_v_proj(image)))
    return _put_out(attention, mixed.type_as(x))


def told_by_one_token(attention: Any, text: Tensor, image: Tensor | None) -> Tensor:
    """What ``cross_attention`` adds to every token where there is one token (1, 1, D) to see of each kind, (D)."""
    value = attention.to_v(text)
    if image is not None:
        value = value + attention.add_v_proj(image)
    return attention.to_out[0](value)[0, 0]


def _projected(attention: Any, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query of x, key and value of the context, each (..., heads, d)."""
    query, key = attention.norm_q(attention.to_q(x)), attention.norm_k(attention.to_k(context))
    return _heads(attention, query), _heads(attention, key), _heads(attention, attention.to_v(context))


def _memory(attention: Any, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values of a memory, (R, M, heads, d)."""
    key = attention.norm_k(attention.to_k(memory))
    return _heads(attention, key), _heads(attention, attention.to_v(memory))


def _heads(attention: Any, x: Tensor) -> Tensor:
    return x.unflatten(-1, (attention.heads, -1))


def _put_out(attention: Any, mixed: Tensor) -> Tensor:
    linear, dropout = attention.to_out
    return dropout(linear(mixed.flatten(-2)))


def _within_clips(query: Tensor, key: Tensor, value: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Attention (N, S, heads, d) of all tokens of a clip to each other."""
    clips = grid[0] * grid[1]
    whole = (x.reshape(clips, -1, *x.shape[2:]) for x in (query, key, value))
    return attend(*whole).reshape(query.shape)


def _of_clip(x: Tensor, frames: int) -> Tensor:
    """For every frame the tokens of its whole clip: (N, S, heads, d) -> (N, t S, heads, d)."""
    clips = x.reshape(len(x) // frames, -1, *x.shape[2:])
    return _per_frame(clips, len(x))


def _per_frame(x: Tensor, frames: int) -> Tensor:
    """(R, ...) -> (N, ...): each row for the frames that share it."""
    return x[:, None].expand(-1, frames // len(x), *x.shape[1:]).flatten(0, 1)


def _look(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of frames (N, S, heads, d) to what their row (R, L, heads, d) holds, as one long sequence of queries a row."""
    shared = query.reshape(len(key), -1, *query.shape[2:])
    return attend(shared, key, value).reshape(query.shape)
