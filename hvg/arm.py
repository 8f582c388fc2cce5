"""One arm of a study in a process of its own: ``python -m hvg.arm FOLDER [TRAINED]`` trains and scores FOLDER/config.yaml,
with the weights of the run folder TRAINED where one is given.

Writes FOLDER/progress.json while it works and FOLDER/results.json at the end; a restarted arm continues from its newest
checkpoint. On failure FOLDER/error.txt holds one line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hvg.files import write_text


def run_arm(folder: Path, trained: Path | None) -> None:
    """Trains (or takes the weights of ``trained``), scores, and writes results.json and measurements.safetensors."""
    from hvg.checkpoint import find_checkpoint
    from hvg.config import load_resolved
    from hvg.evaluation import evaluate, make_record
    from hvg.record import write_record
    from hvg.training import build_system, choose_device, load_system_weights, train

    started = time.perf_counter()
    config = load_resolved(folder / "config.yaml")
    report = _reporter(folder / "progress.json")
    if trained is None:
        system = train(config, lambda step, steps, speed, loss: report("train", step, steps, speed))
    else:
        system = build_system(config).to(choose_device(config.device)).eval()
        load_system_weights(system, find_checkpoint(trained), config.evaluation.weights)
    ready = time.perf_counter()
    evaluation = evaluate(
        system,
        config,
        predictions=folder / "predictions",
        report=lambda done, total: report("evaluate", done, total, 0.0),
    )
    record = make_record(evaluation, config.protocol, str(folder), config.seed, config.evaluation.seed)
    record["config"] = config.to_yaml()
    record["seconds"] = {"train": ready - started, "evaluate": time.perf_counter() - ready}
    write_record(folder, record, evaluation.measurements)


def _reporter(path: Path) -> Callable[[str, int, int, float], None]:
    """Writes the newest progress at most twice a second."""
    last = {"time": 0.0, "stage": ""}

    def report(stage: str, done: int, total: int, speed: float) -> None:
        now = time.perf_counter()
        if stage != last["stage"] or done == total or now - last["time"] > 0.5:
            last.update(time=now, stage=stage)
            write_text(path, json.dumps({"stage": stage, "done": done, "total": total, "speed": speed}))

    return report


def main() -> None:
    """Runs the arm; exit code 1 and one line in error.txt where it fails."""
    import torch

    folder, *trained = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    (folder / "error.txt").unlink(missing_ok=True)
    try:
        run_arm(folder, trained[0] if trained else None)
    except Exception as error:
        lines = str(error).splitlines() or [""]
        write_text(folder / "error.txt", f"{type(error).__name__}: {lines[0]}")
        raise


if __name__ == "__main__":
    main()
