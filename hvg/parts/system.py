"""Interface of systems: what a run trains."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from hvg.parts.part import ConfigT, Part


class System(Part[ConfigT]):
    """What a run trains: of which parts of a configuration it is made, and which steps train them.

    uses: root keys of a configuration whose parts it takes, ``conditioner`` for every slot of one, besides those that clips are
    made with (dataset, renderer, body, fit). One that is given and is not among them is refused by name. requires: names of
    ClipBatch fields that training reads, besides frames and those that its parts name.

    It stands in the room of parts, and so knows neither configurations nor what trains: ``run`` is a
    ``hvg.config.settings.RunConfig``, what is built a ``hvg.model.trained_system.TrainedSystem``.
    """

    uses: ClassVar[frozenset[str]] = frozenset()
    requires: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def learns(cls, run: Any) -> bool:
        """Whether a run has weights to train; one that has none is over at step 0."""
        return True

    @abstractmethod
    def build(self, run: Any, start: Callable[[Any], None] | None = None) -> Any:
        """The system of a run with seeded initial weights, on the CPU.

        start: gives a backbone the weights that a new run starts from, before anything copies from it; for systems that have
        one.
        """
