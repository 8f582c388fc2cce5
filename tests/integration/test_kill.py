"""Killed at any moment, a run has a whole newest checkpoint; interrupted again and again, it ends in the same bits."""

import os
import random
import signal
import time
from functools import partial

import pytest
import torch

from hvg.core.checkpoint import (
    checkpoint_path,
    checkpoints,
    keep_checkpoints,
    latest_whole_checkpoint,
    remove_leftovers,
)
from hvg.model.checkpoint_writing import write_checkpoint
from hvg.model.writing_beside import WritingBeside


def write_for_ever(folder, step, saving):
    """Saves a state that says of which step it is, again and again, as a run does that waits for it or does not."""
    beside = WritingBeside()
    beside.then = partial(keep_checkpoints, folder, last=2, every=0)
    while True:
        step += 1
        state = {"global_step": step, "weights": {str(i): torch.full((64, 1024), float(step)) for i in range(8)}}
        if saving == "beside":
            beside.begin(checkpoint_path(folder, step), state)
        else:
            write_checkpoint(checkpoint_path(folder, step), state)
            beside.then()


@pytest.mark.parametrize("saving", ["wait", "beside"])
@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.long)])
def test_after_every_kill_there_is_a_whole_newest_checkpoint(tmp_path, kills, saving):
    draw, reached, in_the_middle = random.Random(0), 0, 0
    write_checkpoint(checkpoint_path(tmp_path, 0), {"global_step": 0, "weights": {"0": torch.zeros(1)}})
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            write_for_ever(tmp_path, reached, saving)
        time.sleep(draw.uniform(0.005, 0.15))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        in_the_middle += any(tmp_path.glob(".step-*"))
        found, damaged = latest_whole_checkpoint(tmp_path)
        assert found is not None and not damaged
        step = found.state["global_step"]
        assert step >= reached and step == max(checkpoints(tmp_path))
        assert all(bool((x == step).all()) for x in found.state["weights"].values())
        reached = step
        remove_leftovers(tmp_path)
        assert not any(tmp_path.glob(".step-*"))
    assert reached > 0 and in_the_middle > 0
