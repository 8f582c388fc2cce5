"""Frames as the model makes them."""

from hvg.parts.refiner import Refiner, RefinerConfig


class NoRefiner(Refiner[RefinerConfig]):
    """There is no second model."""

    @classmethod
    def refines(cls, config: RefinerConfig) -> bool:
        return False
