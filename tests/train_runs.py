"""Trains several runs in one process, or in the processes of a group: ``python tests/train_runs.py '[[override, ...], ...]'``.

Starting Python and its libraries takes longer than a tiny run. RANK, WORLD_SIZE and MASTER_PORT say who takes part.
"""

import json
import os
import sys

import torch
from torch import distributed

from hvg.config import compose
from hvg.training import train


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
