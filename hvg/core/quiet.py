"""Keeps from users what libraries say that nobody here can act on: each by its source and its words, while one is used."""

import logging
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import nn

# Where Lightning says which devices there are, what it restored, why it stopped, and which of its products one might buy.
LIGHTNINGS_NEWS = (
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.rank_zero",
    "lightning.fabric.utilities.distributed",
    "lightning.pytorch.strategies.deepspeed",
)
# How warnings begin that a training raises, and why they say nothing to a user.
OF_TRAINING = (
    # `hvg launch` starts runs under srun; elsewhere hvg starts its processes itself.
    "The `srun` command is available on your system but is not used",
    # The order of clips is a function of the step: a resumed run goes on in it.
    "You're resuming from a checkpoint that ended before the epoch ended",
    # `device=cpu`, and `data.workers`, were chosen; what waiting for data costs is shown beside the speed.
    "GPU available but not used",
    "The 'train_dataloader' does not have many workers",
    # How Lightning and DeepSpeed use torch.
    "`isinstance(treespec, LeafSpec)` is deprecated",
    "`torch.distributed.all_gather_into_tensor` is deprecated",
    "`torch.distributed.reduce_scatter_tensor` is deprecated",
)
# The same of what DeepSpeed logs: our optimiser is held to one process by tests, and so are gradients through our values.
OF_DEEPSPEED = (
    "**** You are using ZeRO with an untested optimizer",
    "A module has unknown inputs or outputs type (<class 'hvg.",
)
# Said by native code of torch's: that switch is what keeps the bits of a resumed run (decision 24).
OF_DATA_PARALLEL = (
    "find_unused_parameters=True was specified in DDP constructor, but did not find any unused parameters"
)


@contextmanager
def quiet_training() -> Iterator[None]:
    """Lightning's Trainer without its news, and without warnings that speak to its programmers."""
    deepspeed = logging.getLogger("DeepSpeed")
    with ExitStack() as stack:
        for logger in map(logging.getLogger, LIGHTNINGS_NEWS):
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(max(logging.WARNING, logger.level))
        deepspeed.addFilter(_not_of_deepspeed)
        stack.callback(deepspeed.removeFilter, _not_of_deepspeed)
        stack.enter_context(warnings.catch_warnings())
        for beginning in OF_TRAINING:
            warnings.filterwarnings("ignore", message=re.escape(beginning))
        yield


def _not_of_deepspeed(record: logging.LogRecord) -> bool:
    return not any(words in record.getMessage() for words in OF_DEEPSPEED)


def quiet_first_forward(module: nn.Module) -> None:
    """Takes torch's remark on DDP's switch out of the module's first forward pass, the only one in which it is made."""
    stack = ExitStack()

    def end(*_: object) -> None:
        stack.close()
        before.remove()
        after.remove()

    before = module.register_forward_pre_hook(lambda *_: stack.enter_context(without_line(OF_DATA_PARALLEL)))
    after = module.register_forward_hook(end, always_call=True)


@contextmanager
def without_line(words: str) -> Iterator[None]:
    """Filters standard error of native code: lines with these words are dropped, the rest comes at the end."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            caught.seek(0)
            os.write(2, b"".join(line for line in caught if words.encode() not in line))
