"""Commands in forks of one process that has imported the libraries: that takes longer than all else a tiny run does.

Each still has a process, arguments, environment, folder and exit code of its own; what it starts itself, it starts as ever.
"""

import atexit
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
# What commands import, but for the modules that are started themselves. DeepSpeed asks for its accelerator where it is used.
IMPORTED = (
    "hvg.train.run",
    "hvg.score.evaluation",
    "hydra",
    "warp",
    "diffusers.models.unets.unet_spatio_temporal_condition",
    "diffusers.schedulers",
)

# Files of what a process prints, in the order of its streams 1 and 2.
PRINTED = ("stdout", "stderr")

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(list(IMPORTED))
# Where Python looks for modules, before any test adds to it.
_PATHS = [path for path in sys.path if not Path(path or ".").resolve().is_relative_to(ROOT / "tests")]


class Started:
    """A Python module at work in a process of its own: what ``python -m MODULE ARGUMENT ...`` starts."""

    def __init__(self, *words: str, path: Path | None = None, cwd: Path | None = None, **environment: str) -> None:
        self.words, self._printed = words, tempfile.TemporaryDirectory(prefix="hvg-test-")
        given = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        given["PYTHONPATH"] = os.pathsep.join(map(str, filter(None, [path, ROOT])))
        for name in PRINTED:
            Path(self._printed.name, name).touch()
        arguments = (words, given, str(cwd or Path.cwd()), _PATHS, self._printed.name)
        # It ends at the latest when the tests do.
        self.process = _FORKS.Process(target=_run, args=arguments, daemon=True)
        self.process.start()

    def finish(self) -> subprocess.CompletedProcess:
        """Its exit code and what it printed, when it has ended."""
        self.process.join()
        stdout, stderr = (Path(self._printed.name, name).read_text() for name in PRINTED)
        return subprocess.CompletedProcess(self.words, self.process.exitcode or 0, stdout, stderr)


def start_ranks(count: int, *words: str, path: Path | None = None) -> list[Started]:
    """A module in processes that find each other, as torchrun starts them; one alone is not told of any group."""
    if count == 1:
        return [Started(*words, path=path)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"WORLD_SIZE": str(count), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [Started(*words, path=path, RANK=rank, LOCAL_RANK=rank, **group) for rank in map(str, range(count))]


def _run(words: tuple[str, ...], environment: Mapping[str, str], folder: str, paths: list[str], printed: str) -> None:
    """Becomes the process."""
    # It may start others.
    multiprocessing.current_process()._config["daemon"] = False
    os.environ.clear()
    os.environ.update(environment)
    # PyTorch read it when it was imported, too.
    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    # Which of its run's processes this is, Lightning reads when it is imported; here that was long ago.
    from lightning.pytorch.utilities import rank_zero_only

    rank_zero_only.rank = int(environment.get("RANK", 0))
    os.chdir(folder)
    for number, name in enumerate(PRINTED, start=1):
        os.dup2(os.open(Path(printed, name), os.O_WRONLY | os.O_APPEND), number)
    sys.path[:] = [folder, *environment["PYTHONPATH"].split(os.pathsep), *paths]
    sys.argv[:] = words
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()
