"""The folder of a run: what is written there of how it was started, and of one that has nothing to train."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hvg.config.changes import Change, keep_config
from hvg.config.overlap import overlap
from hvg.config.precision import precision_here
from hvg.config.settings import RunConfig
from hvg.config.stages import TrainingStage, stages_of
from hvg.core import provenance
from hvg.core.checkpoint import Checkpoint, checkpoint_path, checkpoints, remove_leftovers, set_aside
from hvg.core.files import write_text
from hvg.model.checkpoint_writing import Entry, write_checkpoint
from hvg.model.load import build_system
from hvg.train.run_notes import CONFIG, RECORD, forget_notes, read_run_record


def run_folder(config: RunConfig) -> Path:
    """``<output>/<name>``."""
    return Path(config.output) / config.name


def prepare_folder(config: RunConfig, start: Checkpoint | None, log: Callable[[str], None]) -> None:
    """Makes the run folder, with nothing that a killed write or a failed start left and no checkpoint later than ``start``."""
    folder = run_folder(config)
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder / "checkpoints")
    forget_notes(folder)
    if start is None:
        return
    step, others = int(start.state["global_step"]), checkpoints(folder / "checkpoints").items()
    later = [path for n, path in others if n > step or (n == step and path.resolve() != start.path.resolve())]
    # Whatever is newer than what resume=auto found is damaged.
    moved = set_aside(later, "damaged" if config.resume == "auto" else "later")
    if moved and config.resume != "auto":
        log(f"set aside, since the run goes on from step {step}: {', '.join(path.name for path in moved)}")


def write_down(
    config: RunConfig, start: Checkpoint | None, changed: Sequence[Change], precision: str, stage: TrainingStage
) -> None:
    """Writes what the run is, once it is sure that it can start so; what it was before is kept.

    precision: what the run is trained in, as of ``hvg.config.precision.trained_in``. stage: that starts.
    """
    folder = run_folder(config)
    if start is not None:
        keep_config(folder, start.state["config"])
    kept = keep_config(folder, config.to_yaml())
    write_text(folder / CONFIG, config.to_yaml())
    stages = stages_of(config)
    people = dict.fromkeys(line for each in stages for line in overlap(each.config.dataset).lines)
    record = provenance.collect(config.seed) | {"precision": precision, "overlap": [*people], "steps": config.last_step}
    if stage.label:
        record["stages"] = {each.label: [each.first, each.last] for each in stages}
    before = read_run_record(folder) if start is not None else {}
    # What its FLOPs were counted to be.
    record["throughput"] = before.get("throughput", {})
    begun = _start_record(record, start, kept, changed) | ({"stage": stage.label} if stage.label else {})
    record["starts"] = [*before.get("starts", []), begun]
    write_text(folder / RECORD, json.dumps(record, indent=2))


def _start_record(
    record: Mapping[str, Any], start: Checkpoint | None, kept: str, changed: Sequence[Change]
) -> dict[str, Any]:
    """Record of one start of a run, for ``run.json``. config: the file that holds its configuration."""
    return {
        "step": 0 if start is None else int(start.state["global_step"]),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": record["commit"],
        "command": record["command"],
        "from": None if start is None else str(start.path),
        "config": kept,
        "changed": {change.path: [change.was, change.now] for change in changed},
    }


def keep_untrained(config: RunConfig, is_first: bool, log: Callable[[str], None]) -> None:
    """Leaves the checkpoint of step 0 of a run that has no weights to train, so that it is scored and sampled like any other.

    Of several processes in a group all call it; is_first: whether this one writes for all what only one can.
    """
    system, precision = build_system(config), precision_here(config)
    if is_first:
        prepare_folder(config, None, log)
        write_down(config, None, (), precision, stages_of(config)[0])
    state = {"config": config.to_yaml(), "precision": precision, "global_step": 0}
    weights = [Entry.of(f"weights/{name}", x) for name, x in system.state_dict().items()]
    write_checkpoint(checkpoint_path(run_folder(config) / "checkpoints", 0), state, weights)
    log(
        f"nothing to train: this {config.system.name} has no weights; its checkpoint is of step 0, in {run_folder(config)}"
    )
