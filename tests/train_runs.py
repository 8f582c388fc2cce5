"""Trains several runs in one process, or in the processes of a group: ``python -m train_runs '[[override, ...], ...]'``.

The environment says who takes part, as of ``forks.start_ranks``.
"""

import json
import os
import sys
from pathlib import Path

import torch
from forks import start_ranks
from torch import distributed

from hvg.config.composition import compose
from hvg.train.run import train


def train_together(processes: int, runs: list[list[str]]) -> list[str]:
    """Trains runs in a group of processes; what each printed. They all have to end well."""
    started = start_ranks(processes, "train_runs", json.dumps(runs), path=Path(__file__).parent)
    finished = [process.finish() for process in started]
    printed = [done.stdout + done.stderr for done in finished]
    assert not any(done.returncode for done in finished), "\n".join(text[-3000:] for text in printed)
    return printed


def main() -> None:
    torch.set_num_threads(1)
    together = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if together:
        distributed.init_process_group("gloo")
    for words in json.loads(sys.argv[1]):
        train(compose(words), log=lambda line: print(line, flush=True))
    if together:
        distributed.barrier()
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
