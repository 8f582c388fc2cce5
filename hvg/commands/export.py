"""``hvg export``: a trained model as a folder for diffusers."""

from hvg.commands.words import only_options
from hvg.config.command_options import ExportOptions
from hvg.sample.export import export


def run(words: list[str]) -> int:
    """``hvg export``; 0."""
    print(*export(only_options(words, ExportOptions)), sep="\n")
    return 0
