"""Cross-attention between two feature maps of the same image."""

from torch import Tensor, nn

from .spatio_temporal import attend


class MapCrossAttention(nn.Module):
    """Every cell of one feature map looks at all cells of another: (N, D, h, w) twice -> (N, D, h, w).

    query + out(attention(norm(query), norm(context))), multi-head. Cells carry no position: which of them belong
    together is found by their features alone.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width {width} is not divisible by {num_heads} heads")
        self.num_heads = num_heads
        self.query_norm = nn.LayerNorm(width)
        self.context_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        """query and context: (N, D, h, w)."""
        keys, values = self.key_value(self.context_norm(_cells(context))).chunk(2, dim=-1)
        seen = attend(self.query(self.query_norm(_cells(query))), keys, values, self.num_heads)
        return query + self.out(seen).mT.unflatten(-1, query.shape[-2:])


def _cells(features: Tensor) -> Tensor:
    """(N, D, h, w) -> (N, h w, D)."""
    return features.flatten(2).mT
