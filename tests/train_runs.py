"""Trains several runs in one process, or in the processes of a group: ``python tests/train_runs.py '[[override, ...], ...]'``.

Starting Python and its libraries takes longer than a tiny run. RANK, WORLD_SIZE and MASTER_PORT say who takes part.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
from torch import distributed

from hvg.config import compose
from hvg.training import train

ROOT = Path(__file__).parents[1]


def train_together(processes: int, runs: list[list[str]]) -> list[str]:
    """Trains runs in a group of processes; what each printed. They all have to end well."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(processes):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        if processes > 1:
            ranks = {"RANK": rank, "LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": processes, "MASTER_PORT": port}
            environment |= {"MASTER_ADDR": "127.0.0.1", **{key: str(value) for key, value in ranks.items()}}
        command = [sys.executable, str(ROOT / "tests/train_runs.py"), json.dumps(runs)]
        started.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    printed = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0] * processes, "\n".join(p[-3000:] for p in printed)
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
