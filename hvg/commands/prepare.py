"""``hvg prepare``: the dataset and its signals, drawn ahead of training."""

import sys
from functools import partial

from hvg.commands.progress import ProgressLines
from hvg.commands.words import is_override, key_of, options_and_overrides
from hvg.config.command_options import PrepareOptions
from hvg.data.prepare import never_stored, prepare, prepared_lines, prepared_runs, unusable


def run(words: list[str]) -> int:
    """``hvg prepare [latents|check] [DATASET] [overrides] [jobs=]``; 0, or 1 where something cannot be used."""
    if words[:1] == ["check"]:
        # Late: it draws, and the other forms do not.
        from hvg.commands.prepare_check import run as check

        return check(words[1:])
    # `hvg prepare latents synthetic` reads as `hvg prepare data.latents=cached dataset=synthetic`.
    words = ["data.latents=cached" if word == "latents" else word for word in words]
    words = [word if is_override(word) else f"dataset={word}" for word in words]
    judge = partial(prepared_runs, log=lambda line: None)
    options, overrides = options_and_overrides(words, PrepareOptions, judge=judge)
    overrides += options.overrides
    if "data.cache" not in map(key_of, overrides):
        overrides.append("data.cache=cache")
    bad = 0
    for folder, configs in prepared_runs(overrides, print).items():
        first = configs[0]
        with ProgressLines() as progress:
            prepare(configs, jobs=options.jobs, report=partial(progress.update, first.dataset.name, "prepare"))
        print("\n".join(prepared_lines(first)))
        asked = " ".join([f"data.cache={first.data.cache}", *options.overrides])
        print(f"rendered to {folder}; used by every run with {asked} and the same dataset settings")
        if first.data.latents == "cached":
            print(
                "latents lie beside it; used by runs with data.latents=cached and the same codec, weights and alignment"
            )
        print("".join(f"{line}\n" for line in never_stored(configs)), end="")
        lines = unusable(first)
        print("".join(f"hvg: cannot be used: {line}\n" for line in lines), end="", file=sys.stderr)
        bad += len(lines)
    return int(bad > 0)
