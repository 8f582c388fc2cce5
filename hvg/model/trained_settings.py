"""What systems take of a run, whatever they train."""

from collections.abc import Collection
from typing import Any

from hvg.config.build import build_alignment
from hvg.config.settings import RunConfig
from hvg.data.signals import Signals
from hvg.model.load import make_optimizer
from hvg.values.body import MESH_FIELDS


def trained_settings(config: RunConfig, reads: Collection[str] = ()) -> dict[str, Any]:
    """Arguments of ``TrainedSystem`` for the system of a run without conditioners.

    reads: names of the ClipBatch fields that its steps read, by which clips carry their bodies' meshes or not.
    """
    return {
        "seed": config.seed,
        "alignment": build_alignment(config),
        "background": config.data.background,
        "signals": Signals(mesh=not MESH_FIELDS.isdisjoint(reads)),
        "optimizer": lambda groups: make_optimizer(groups, config),
    }
