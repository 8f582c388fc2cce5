"""``hvg evaluate``: scores of a checkpoint, or of what any system made."""

import sys
from difflib import get_close_matches

from hvg.commands.progress import ProgressLines
from hvg.commands.words import key_of, options_and_overrides
from hvg.config.command_options import EvaluateOptions, FolderOptions
from hvg.config.recipes import with_recipe


def run(words: list[str]) -> int:
    """``hvg evaluate``, in both of its forms; 1 where something could not be scored."""
    words = with_recipe(words)
    keys = list(map(key_of, words))
    folders = get_close_matches("predictions", keys) + get_close_matches("reference", keys)
    with ProgressLines() as progress:
        if "checkpoint" not in keys and folders:
            from hvg.score.folders import evaluate_folders

            options, overrides = options_and_overrides(words, FolderOptions)
            found = evaluate_folders(options, overrides, lambda d, n: progress.update("folders", "score", d, n))
        else:
            from hvg.score.evaluation import evaluate_checkpoint

            options, overrides = options_and_overrides(words, EvaluateOptions)
            found = evaluate_checkpoint(options, overrides, lambda d, n: progress.update("test", "evaluate", d, n))
    # None on all ranks but the first.
    if found is None:
        return 0
    lines, problems, path = found
    print("\n".join(lines))
    print(f"per-clip values: {path}")
    if problems:
        print(f"{len(problems)} not scored:", *problems, sep="\n  ", file=sys.stderr)
    return 1 if problems else 0
