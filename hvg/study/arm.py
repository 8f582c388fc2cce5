"""One arm of a study in processes of its own: ``python -m hvg.study.arm FOLDER [TRAINED]`` trains and scores FOLDER/config.yaml,
with the weights of the run folder TRAINED where one is given; ``python -m hvg.study.arm --need FOLDER`` only trains it.

Writes FOLDER/progress.json while it works and FOLDER/results.json at the end, of a need trained.json; what is done already is
left alone, and a restarted arm continues from its newest checkpoint. On failure FOLDER/error.txt holds one line, and the exit
code is 1. Exit code 143, or an end by SIGTERM: it was stopped, and is to be started again. Under torchrun or srun processes
share the work.
"""

import json
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path

from hvg.core.files import write_text
from hvg.train.run_notes import failure_noted, forget_notes, progress_notes

# What a need leaves when it is trained: precision, configuration, and where it was made.
TRAINED = "trained.json"


def run_arm(folder: Path, trained: Path | None) -> None:
    """Trains (or takes the weights of ``trained``), scores, and writes results.json and measurements.safetensors.

    Raises: CheckpointError when ``trained`` has not reached its last step; SystemExit(143) after SIGTERM in training.
    """
    from hvg.config.buckets import scored_size_notes
    from hvg.config.composition import load_resolved
    from hvg.config.machine import choose_device
    from hvg.config.overlap import overlap
    from hvg.core.checkpoint import Checkpoint, checkpoint_path
    from hvg.core.errors import CheckpointError
    from hvg.core.outputs import held_folder
    from hvg.core.ranks import joined_ranks
    from hvg.model.load import opened_system, trained_precision
    from hvg.score.evaluation import make_record
    from hvg.score.evaluation_record import failed_metrics, finished_record, write_record
    from hvg.score.measured_clips import evaluate
    from hvg.train.run import train

    started = time.perf_counter()
    config = load_resolved(folder / "config.yaml")
    finished = finished_record(folder, config)
    # What a metric's code failed at is tried again: somebody may have mended it.
    if finished is not None and not failed_metrics(finished):
        return
    # One group for training and scoring: torchrun's processes can join only once.
    with joined_ranks() as (rank, world):
        # The first process speaks for all.
        report = progress_notes(folder) if rank == 0 else lambda *_: None
        log = print if rank == 0 else lambda _: None
        if trained is None:
            train(config, lambda done: report("train", done.step, done.steps, done.note), log)
        last = checkpoint_path((trained or folder) / "checkpoints", config.last_step)
        if not last.exists():
            raise CheckpointError(f"{trained or folder}: has not been trained to step {config.last_step}")
        system = opened_system(config, Checkpoint(last), config.evaluation.weights)
        system = system.to(choose_device(config.device)).eval()
        ready = time.perf_counter()
        with held_folder(folder, "arm", log=log) if rank == 0 else nullcontext():
            evaluation = evaluate(
                system,
                config,
                predictions=folder / "predictions",
                report=lambda done, total: report("evaluate", done, total, ""),
                share=(rank, world),
            )
            if rank:
                return
            record = make_record(evaluation, config.protocol, str(folder), config.seed, config.evaluation.seed)
            record["config"] = config.to_yaml()
            record["precision"] = trained_precision(last)
            record["overlap"] = [*overlap(config.dataset, splits=("test",)).lines, *scored_size_notes(config)]
            record["seconds"] = {"train": ready - started, "evaluate": time.perf_counter() - ready}
            write_record(folder, record, evaluation.measurements)


def run_need(folder: Path) -> None:
    """Trains what arms start from, and writes trained.json. Raises: SystemExit(143) after SIGTERM."""
    from hvg.config.composition import load_resolved
    from hvg.core import provenance
    from hvg.core.checkpoint import checkpoint_path
    from hvg.core.ranks import joined_ranks
    from hvg.model.load import trained_precision
    from hvg.train.run import train

    started, record = time.perf_counter(), folder / TRAINED
    config = load_resolved(folder / "config.yaml")
    last = checkpoint_path(folder / "checkpoints", config.last_step)
    if last.exists() and record.exists():
        return
    with joined_ranks() as (rank, _):
        report = progress_notes(folder) if rank == 0 else lambda *_: None
        train(
            config,
            lambda done: report("train", done.step, done.steps, done.note),
            print if rank == 0 else lambda _: None,
        )
        if rank == 0:
            place = provenance.collect(config.seed)
            measured = {"commit": place["commit"], "hardware": place["hardware"]}
            measured["seconds"] = {"train": time.perf_counter() - started}
            told = {"precision": trained_precision(last), "config": config.to_yaml(), "measured": measured}
            write_text(record, json.dumps(told))


def main() -> None:
    """Runs the arm; exit code 1 and one line in error.txt where it fails."""
    # Before torch is loaded, with all that counts threads: see decision 11.
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    import torch

    from hvg.core.ranks import started_ranks

    is_need = sys.argv[1] == "--need"
    folder, *trained = map(Path, sys.argv[1 + is_need :])
    torch.set_num_threads(1)
    if started_ranks()[0] == 0:
        forget_notes(folder)
    with failure_noted(folder):
        run_need(folder) if is_need else run_arm(folder, trained[0] if trained else None)


if __name__ == "__main__":
    main()
