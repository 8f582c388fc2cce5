"""``hvg`` without words, and ``hvg COMMAND --help``: what may be typed, and what it means where nothing is."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from shutil import get_terminal_size
from typing import TYPE_CHECKING

from hvg.commands.table import COMMANDS, FORMS

if TYPE_CHECKING:
    from hvg.config.section import Section

WIDEST = 120
OVERRIDES = {
    "run": "Overrides are Hydra's, of any setting of a run: pose=skeleton scale=cpu seed=3 training.steps=100. Its choices are "
    "shown by `hvg list`, every setting with its value by `hvg list --verbose`. As composed without any word:",
    "sampling": "Overrides are Hydra's, of how a trained model is sampled and scored: sampler= solver= guidance= refiner= "
    "protocol= evaluation.KEY= device=, with choices as shown by `hvg list`; where nothing is said it is as the model was "
    "trained. recipe=, of demo, sample and evaluate, says several at once. Folders take those of protocol= alone.",
}


def overview() -> str:
    """Every form of every command."""
    return f"""\
hvg COMMAND [key=value ...]

{FORMS}
Overrides are Hydra's: pose=skeleton scale=cpu seed=3 training.steps=100. Choices: `hvg list`.
Options with their defaults: `hvg COMMAND --help`."""


def command_help(name: str) -> str:
    """The forms of one command; its flags; its options with types, defaults and meanings; and which overrides it takes."""
    command = COMMANDS[name]
    # A form begins with the command's name, and goes on in lines that are further in.
    forms = re.findall(rf"^  {name}\b.*(?:\n   .*)*", FORMS, re.MULTILINE)
    lines = [*(f"hvg {form.strip()}" for form in forms), ""]
    for names, meaning in {**command.flags, "-h --help": "Print this."}.items():
        lines += [f"  {', '.join(names.split())}", *_wrapped(meaning)]
    for model in command.models():
        lines += ["", *_options(model)]
    if command.overrides:
        lines += ["", *textwrap.wrap(OVERRIDES[command.overrides], _width())]
    if command.overrides == "run":
        lines += _choices()
    return "\n".join(lines)


def _options(model: type[Section]) -> Iterator[str]:
    """The fields of a model, each as it may be typed; at first those that have to be."""
    from hvg.commands.listing import default_text, type_text

    yield (model.__doc__ or "").splitlines()[0].replace("``", "`")
    for name, setting in sorted(model.model_fields.items(), key=lambda field: not field[1].is_required()):
        if name in model.refused:
            continue
        required = setting.is_required()
        value, kind = "" if required else default_text(setting), type_text(setting.annotation)
        yield f"  {name}={value}  ({kind}{', required' if required else ''})"
        yield from _wrapped(setting.description or "")


def _choices() -> list[str]:
    """Lines that list the parts a run is composed of by default."""
    from hvg.config.chosen_parts import root_choices

    words = " ".join(f"{group}={name or 'null'}" for group, name in root_choices().items())
    return textwrap.wrap(words, _width(), initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _width(), initial_indent=" " * 6, subsequent_indent=" " * 6, break_on_hyphens=False)


def _width() -> int:
    return min(get_terminal_size().columns, WIDEST)
