"""``hvg`` without words, and ``hvg COMMAND --help``: what may be typed, and what it means where nothing is."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from shutil import get_terminal_size
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel

WIDEST = 120
# Forms of every command, and what they do.
FORMS = """\
  list [KIND|WORD] [overrides] [--verbose]
                                  swappable parts; --verbose is the manual of every setting, with the values of a run
  check [overrides] [devices= nodes= memory= bandwidth=]
                                  judge a configuration and forecast its cost on each GPU; exit code 1 if it does not fit
  show [overrides] [index= split= frame= out=]
                                  a contact sheet of a clip: images, every signal, joints drawn over the person
  prepare [overrides] [jobs=]     render the dataset and its signals to shards; pose=a,b or pose=all for several poses
  prepare latents [overrides] [jobs=]
                                  and store what the codec and other frozen networks make of the training clips
  train [overrides] [--multirun]  train one model; with --multirun one per combination of comma-separated values
  train dry_run=32 [overrides]    build the job of a rank of 32 on shapes, without a GPU: what would each hold?
  launch train [overrides] launcher=basic|local|torchrun|slurm [--multirun] [--dry-run] [jobs= nodes= devices= ...]
                                  train here, side by side, under torchrun, or on Slurm; --dry-run shows the commands
  train --multirun sweep=optuna trials=40 'training.learning_rate=tag(log, interval(1e-4, 1e-2))' pose=bone_map,skeleton
                                  search; every start of the same command is a worker, and a dead one's trial is continued
  sweep report NAME [storage= output=]
                                  a sweep's best trials, parallel coordinates, importance: report.html and trials.csv
  sweep wandb --print [overrides] the same sweep as a file for `wandb sweep`
  evaluate checkpoint=PATH [protocol= sampler= solver= guidance= evaluation.KEY= anchors=] [shift=true dataset.KEY=]
                                  score a checkpoint on the test split; with shift=true on other clips, on purpose
  evaluate predictions=FOLDER reference=FOLDER [protocol= masks= subject= background= anchors= out=]
                                  score videos or frames that any system made, matched by name
  sample checkpoint=PATH reference=PHOTO motion=MOTION.npz camera=orbit out=FOLDER [start= stride= sampler= ...]
                                  a person of your own in a motion of your own
  export checkpoint=PATH out=FOLDER [weights=ema|raw]
                                  a folder for diffusers: hvg.pipeline.HumanVideoPipeline.from_pretrained(FOLDER)
  convert body=FILE.pkl out=FILE.npz
                                  a body model of the SMPL family as plain arrays; nothing in the pickle is called
  study FOLDER [overrides] [seeds= jobs= fresh= keep=] [launcher=local|basic|torchrun|slurm ...] [--dry-run]
                                  train and compare the arms of FOLDER/study.yaml, here or as jobs of Slurm; seeds=[1] a seed
                                  at a time; keep=true also writes what seeds measured to FOLDER/results, to be committed
  study NAME ...                  the same for a study that hvg brings, from any folder: study quickstart
  study FOLDER [overrides] collect=true
                                  report on what is finished; exit code 75 while some arms are not, 1 when one failed
  study FOLDER merge=true         report on the seeds in FOLDER/results, without data, checkpoints or runs
  compare RUN RUN ... [LABEL=RUN,RUN] [out= headline=]
                                  evaluations side by side, with intervals and p-values; several runs of an arm are seeds
  weights [folder=DIR]            the pretrained networks that metrics need: what is there, and where to get the rest
  bench [NAME ...]                what takes how long here
"""
OVERRIDES = {
    "run": "Overrides are Hydra's, of any setting of a run: pose=skeleton scale=cpu seed=3 training.steps=100. Its choices are "
    "shown by `hvg list`, every setting with its value by `hvg list --verbose`. As composed without any word:",
    "sampling": "Overrides are Hydra's, of how a trained model is sampled and scored: sampler= solver= guidance= protocol= "
    "evaluation.KEY= device=, with choices as shown by `hvg list`; where nothing is said it is as the model was trained. Folders "
    "take those of protocol= alone.",
}


@dataclass(frozen=True)
class Command:
    """A word after ``hvg``.

    run: takes the other words and the flags that were given, returns the exit code. options: names of their classes in
    ``hvg.config.command_options`` and ``hvg.cluster.launch_options``. flags: the names of each -> what it does.
    overrides: of what, a key of ``OVERRIDES``. interrupted: what is true after Ctrl-C, where the command did not say it itself.
    """

    run: Callable[[list[str], frozenset[str]], int]
    options: tuple[str, ...] = ()
    flags: Mapping[str, str] = field(default_factory=dict)
    overrides: str | None = None
    interrupted: str = "the same command starts anew"


def overview() -> str:
    """Every form of every command."""
    return f"""\
hvg COMMAND [key=value ...]

{FORMS}
Overrides are Hydra's: pose=skeleton scale=cpu seed=3 training.steps=100. Choices: `hvg list`.
Options with their defaults: `hvg COMMAND --help`."""


def command_help(name: str, command: Command) -> str:
    """The forms of one command; its flags; its options with types, defaults and meanings; and which overrides it takes."""
    from hvg.cluster import launch_options
    from hvg.config import command_options

    # A form begins with the command's name, and goes on in lines that are further in.
    forms = re.findall(rf"^  {name}\b.*(?:\n   .*)*", FORMS, re.MULTILINE)
    lines = [*(f"hvg {form.strip()}" for form in forms), ""]
    for names, meaning in {**command.flags, "-h --help": "Print this."}.items():
        lines += [f"  {', '.join(names.split())}", *_wrapped(meaning)]
    for chosen in command.options:
        lines += ["", *_options(getattr(command_options, chosen, None) or getattr(launch_options, chosen))]
    if command.overrides:
        lines += ["", *textwrap.wrap(OVERRIDES[command.overrides], _width())]
    if command.overrides == "run":
        lines += _choices()
    return "\n".join(lines)


def _options(model: type[BaseModel]) -> Iterator[str]:
    """The fields of a model, each as it may be typed."""
    from hvg.commands.listing import default_text, type_text

    yield (model.__doc__ or "").splitlines()[0].replace("``", "`")
    for name, setting in model.model_fields.items():
        required = setting.is_required()
        value, kind = "" if required else default_text(setting), type_text(setting.annotation)
        yield f"  {name}={value}  ({kind}{', required' if required else ''})"
        yield from _wrapped(setting.description or "")


def _choices() -> list[str]:
    """Lines that list the parts a run is composed of by default."""
    from hvg.config.composition import root_choices

    words = " ".join(f"{group}={name or 'null'}" for group, name in root_choices().items())
    return textwrap.wrap(words, _width(), initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _width(), initial_indent=" " * 6, subsequent_indent=" " * 6, break_on_hyphens=False)


def _width() -> int:
    return min(get_terminal_size().columns, WIDEST)
