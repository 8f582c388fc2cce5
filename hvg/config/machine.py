"""Checks that this machine can do a run, made before any work, where the work is done."""

import importlib.util
from collections.abc import Iterable, Iterator

import torch

from hvg.config.sections import LoggerConfig
from hvg.config.settings import RunConfig
from hvg.core.errors import ConfigError, Problem
from hvg.core.next_commands import TENSORBOARD


def choose_device(device: str) -> torch.device:
    """``auto`` takes a GPU where there is one. Raises: ConfigError for ``cuda`` where there is none."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if problem := _device_problem(device):
        raise ConfigError([problem])
    return torch.device(device)


def refuse_missing(configs: Iterable[RunConfig], *, trains: bool = True) -> None:
    """Asks whether this machine has what every configuration needs: the device, and for a training its logger and optimiser.

    Raises: ConfigError with each thing that is missing.
    """
    problems = [
        problem
        for config in configs
        for problem in (_device_problem(config.device), *(_training_problems(config) if trains else ()))
        if problem
    ]
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))


def _training_problems(config: RunConfig) -> Iterator[Problem | None]:
    yield _logger_problem(config.logger)
    missing = config.optimizer.cls.missing()
    yield Problem("optimizer", f"{missing}.") if missing else None


def _device_problem(device: str) -> Problem | None:
    if device != "cuda" or torch.cuda.is_available():
        return None
    why = (
        "this torch was built without CUDA"
        if torch.version.cuda is None
        else "torch finds no usable GPU (see nvidia-smi, and CUDA_VISIBLE_DEVICES)"
    )
    return Problem("device", f"cuda is not available here: {why}; give device=cpu, or device=auto.")


def _logger_problem(logger: LoggerConfig) -> Problem | None:
    if logger.name == "tensorboard" and not importlib.util.find_spec("tensorboard"):
        return Problem("logger", "tensorboard is not installed here; choose another, or install it.", TENSORBOARD)
    if logger.name == "wandb" and not logger.offline and not _logged_in_to_wandb():
        return Problem(
            "logger",
            "wandb is not logged in here; log in, set WANDB_API_KEY, or give logger.offline=true.",
            "wandb login",
        )
    return None


def _logged_in_to_wandb() -> bool:
    """Whether W&B has a key to use, or was told by its own settings to need none; its server is not asked."""
    import wandb

    needs_none = wandb.setup().settings.mode in ("offline", "dryrun", "disabled")
    return needs_none or wandb.login(prompt=False, verify=False)
