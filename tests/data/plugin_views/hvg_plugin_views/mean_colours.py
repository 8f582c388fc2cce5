"""A refiner of a lab's own: every frame keeps its mean colours."""

from pydantic import Field

from hvg.plugin import Refiner, RefinerConfig


class MeanColoursConfig(RefinerConfig):
    """How strongly."""

    weight: float = Field(1.0, ge=0, le=1, description="0: not at all, as sdedit. 1: exactly.")


class MeanColours(Refiner[MeanColoursConfig]):
    """SDEdit whose estimates have the mean of each latent channel that the given frame has."""

    def estimate(self, x0, at):
        off = (at.given - x0).mean(dim=(-2, -1), keepdim=True)
        return super().estimate(x0 + self.config.weight * off, at)
