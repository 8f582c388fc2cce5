"""``hvg sweep wandb --print``: the same sweep as a file for ``wandb sweep``, whose server proposes and whose agents train."""

import shlex
from collections.abc import Sequence
from typing import Any

import yaml

from hvg.sweep.search import Sweep
from hvg.sweep.space import Choices, Numbers, Parameter

# Whole numbers by logarithm become a list of as many, or fewer where they are close.
LOG_VALUES = 12
METHODS = {"tpe": "bayes", "random": "random"}
# The agent puts a run's id into the environment of what it starts; as its name, every run has a folder of its own, and one
# that the agent starts again goes on there.
RUN_ID = "WANDB_RUN_ID"


def wandb_sweep(sweep: Sweep) -> str:
    """The YAML text. Agents have to be started in the folder where ``hvg`` is to write its ``output``."""
    words = [word for word in sweep.words if not word.startswith("logger=")]
    shell = f'exec hvg train "$@" name={shlex.quote(sweep.name)}/${RUN_ID} resume=auto'
    plain: dict[str, Any] = {
        "name": sweep.name,
        "project": sweep.config.logger.project,
        "method": METHODS[sweep.options.search],
        "metric": {"name": sweep.options.metric, "goal": sweep.direction},
        "run_cap": sweep.options.trials,
        # sh calls the first word after its script $0.
        "command": ["${env}", "sh", "-c", shell, "hvg", *words, "logger=wandb", "${args_no_hyphens}"],
        "parameters": {parameter.key.lstrip("+"): _parameter(parameter) for parameter in sweep.space},
    }
    if sweep.options.pruner in ("halving", "hyperband"):
        # Counted in the values of the metric that a run has logged, not in steps.
        plain["early_terminate"] = {"type": "hyperband", "min_iter": 1, "eta": 3}
    head = (
        "# wandb sweep THIS_FILE prints the agent's command. W&B optimises what runs log as "
        f"'{sweep.options.metric}'.\n# Proposals and early stops are W&B's; hvg's own are sweep=optuna.\n"
    )
    return head + yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=1000)


def _parameter(parameter: Parameter) -> dict[str, Any]:
    if isinstance(parameter, Choices):
        return {"values": list(parameter.values)}
    low, high = parameter.low, parameter.high
    if parameter.step is not None:
        count = round((high - low) / parameter.step) + 1
        return _values(parameter, [low + i * parameter.step for i in range(count)])
    if parameter.log and parameter.whole:
        # W&B has no distribution of whole numbers by logarithm.
        return _values(parameter, [low * (high / low) ** (i / (LOG_VALUES - 1)) for i in range(LOG_VALUES)])
    kind = "log_uniform_values" if parameter.log else "int_uniform" if parameter.whole else "uniform"
    return {"distribution": kind, "min": low, "max": high}


def _values(parameter: Numbers, numbers: Sequence[float]) -> dict[str, Any]:
    """The numbers as the overrides would say them, each once."""
    rounded = [round(number) if parameter.whole else number for number in numbers]
    texts = dict.fromkeys(parameter.word(number).partition("=")[2] for number in rounded)
    return {"values": [int(text) if parameter.whole else float(text) for text in texts]}
