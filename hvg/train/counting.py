"""FLOPs of a run's batches, counted beside its training in a process of its own: ``python -m hvg.train.counting``.

Counting takes seconds, at paper scale a minute, in which the other processes of a run would wait for the one that counts. In a
thread it could not be: tensors without values, and the compiler, are settings of a process.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hvg.core.exit_codes import ends_with_parent

# Batches have a shape (B, V, T, H, W).
Shape = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class Counted:
    """FLOPs by the key of a shape, and why there are none where they cannot be counted; a measured peak as plain values."""

    flops: dict[str, int]
    reasons: dict[str, str]
    peak: dict[str, Any] | None


class Counting:
    """A count that is under way. Nobody waits for it; it ends with the process that began it."""

    def __init__(self, config: str, shapes: Sequence[Shape], *, peak: bool, bf16: bool, threads: int) -> None:
        """config: of the run, as YAML. peak: whether to measure what the CPU can do, with so many threads."""
        self.shapes = list(shapes)
        asked = {"config": config, "shapes": self.shapes, "peak": peak, "bf16": bf16, "threads": threads}
        # What this process finds modules by. A GPU is not asked.
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self._process = subprocess.Popen(
            command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
            preexec_fn=ends_with_parent(signal.SIGKILL),
        )
        stream, self._process.stdin = self._process.stdin, None
        assert stream is not None
        # A pipe holds more than that.
        with stream:
            stream.write(json.dumps(asked).encode())

    def result(self) -> Counted | None:
        """What was found; None as long as it is under way."""
        if self._process.poll() is None:
            return None
        printed, _ = self._process.communicate()
        try:
            return Counted(**json.loads(printed.splitlines()[-1]))
        except (ValueError, IndexError, TypeError):
            reason = f"the process that counts ended with exit code {self._process.returncode}"
            return Counted({}, {key_of(shape): reason for shape in self.shapes}, None)

    def stop(self) -> None:
        """Ends it, if it has not ended."""
        self._process.kill()
        self._process.communicate()


def command() -> list[str]:
    """The command line of the process."""
    return [sys.executable, "-m", "hvg.train.counting"]


def key_of(shape: Sequence[int]) -> str:
    """How a shape is called in ``run.json``."""
    return " x ".join(map(str, shape))


def main() -> None:
    """Reads what is asked as JSON from standard input, and prints a ``Counted`` as the last line."""
    asked = json.load(sys.stdin)
    # All that is imported comes late: the peak is measured first, and the rest takes nobody's time.
    import torch

    from hvg.train.utilisation import measured_peak

    torch.set_num_threads(asked["threads"])
    kind = torch.bfloat16 if asked["bf16"] else torch.float32
    peak = vars(measured_peak(torch.device("cpu"), kind)) if asked["peak"] else None
    torch.set_num_threads(1)
    os.nice(19)
    flops, reasons = _count(asked["config"], asked["shapes"], asked["bf16"]) if asked["shapes"] else ({}, {})
    print("\n" + json.dumps({"flops": flops, "reasons": reasons, "peak": peak}), flush=True)


def _count(text: str, shapes: Sequence[Sequence[int]], bf16: bool) -> tuple[dict[str, int], dict[str, str]]:
    from hvg.config.composition import parse_resolved
    from hvg.model.counted_step import model_flops

    config, flops, reasons = parse_resolved(text, "counting"), {}, {}
    training = config.training.model_copy(update={"precision": "bf16" if bf16 else "32"})
    config = config.model_copy(update={"device": "cpu", "training": training})
    for shape in shapes:
        try:
            flops[key_of(shape)] = model_flops(config, (shape[1], shape[2]), (shape[3], shape[4]))
        except Exception as error:
            # Somebody's part may do what tensors without values cannot. That is no reason to end a training.
            reasons[key_of(shape)] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return flops, reasons


if __name__ == "__main__":
    main()
