"""An adapter that trains the backbone's biases alone. Source: BitFit (arXiv 2106.10199)."""

from pydantic import Field

from hvg.plugin import Adapter, PartConfig, train_only


class Biases(Adapter):
    """Biases train; weights that are multiplied with stay as they are."""

    class Config(PartConfig):
        learning_rate: float | None = Field(None, gt=0, le=1, description="Of the biases; null: the training's.")

    def adapt(self, backbone, conditioners):
        return train_only("adapter", {"backbone.*.bias": self.config.learning_rate}, backbone, conditioners)
