"""``hvg sweep``: the report of a search, or the search as a file for W&B."""

import shlex

from hvg.cluster.launch_options import LaunchOptions, SweepOptions, SweepReportOptions
from hvg.commands.table import Flags
from hvg.commands.words import is_override, only_options, options_and_overrides
from hvg.core.errors import HvgError
from hvg.sweep.database import use_password
from hvg.sweep.report_page import write_sweep_report
from hvg.sweep.search import default_storage, judged_sweep
from hvg.sweep.store import stored_sweep
from hvg.sweep.wandb_file import wandb_sweep


def run(words: list[str], flags: Flags) -> int:
    """``hvg sweep report`` and ``hvg sweep wandb``; 0."""
    if words[:1] == ["report"]:
        return _report(words[1:])
    if words[:1] == ["wandb"]:
        return _wandb(words[1:], flags)
    raise HvgError("give what to do, report NAME or wandb", then="hvg sweep report NAME")


def _report(words: list[str]) -> int:
    names = [word for word in words if not is_override(word)]
    options = only_options([word for word in words if is_override(word)], SweepReportOptions)
    if len(names) > 1 or not (names or options.storage):
        raise HvgError("give one sweep, a NAME or storage=ADDRESS", then="hvg sweep report NAME")
    name = names[0] if names else None
    url = use_password(options.storage) if options.storage else default_storage(options.output / str(name))
    record = stored_sweep(url, name)
    print(f"report: {write_sweep_report(record, record.folder)}")
    return 0


def _wandb(words: list[str], flags: Flags) -> int:
    if "print" not in flags:
        raise HvgError(
            "nothing is sent from here; print the file that wandb takes",
            then=shlex.join(["hvg", "sweep", "wandb", "--print", *words]),
        )
    options, overrides = options_and_overrides(words, SweepOptions)
    print(wandb_sweep(judged_sweep(overrides, options, LaunchOptions())), end="")
    return 0
