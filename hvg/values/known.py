"""Cells of the grid that are given, such as pictures of captured cameras: they stay clean while the others are made."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Known:
    """latents: (B, V, t, C, h, w), clean; they count where ``cells`` says so. cells: (V, t) bool, on the CPU, of all clips."""

    latents: Tensor
    cells: Tensor

    def laid_over(self, x: Tensor) -> Tensor:
        """x (B, V, t, C, h, w) with what is known in its place."""
        return self.latents.to(x).where(self.cells.to(x.device)[..., None, None, None], x)
