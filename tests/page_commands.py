"""The commands that pages show: found in their text, and judged without running them.

A command is a line of a block of code that begins with a program; blocks whose language is another one hold none. Judged is what
would be judged before anything is read, trained or submitted: flags, options and overrides, by the parsers of the commands.
"""

import re
import shlex
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from hvg.cluster.launch_options import LaunchOptions, StudyOptions, SweepOptions, SweepReportOptions
from hvg.commands.bench import BENCHMARKS
from hvg.commands.table import COMMANDS
from hvg.commands.words import is_override, key_of, only_options, options_and_overrides, take_flags, take_options
from hvg.config import command_options
from hvg.config.bench_options import GpuBenchOptions, PeersOptions, ScaleOptions
from hvg.config.command_options import (
    CheckOptions,
    DryRunOptions,
    EvaluateOptions,
    FolderOptions,
    PrepareCheckOptions,
    PrepareOptions,
    SampleOptions,
    ShowOptions,
)
from hvg.config.composition import compose, recompose
from hvg.config.demo_options import DemoFilesOptions, DemoOptions
from hvg.config.groups import all_options
from hvg.config.overrides import expand_sweep
from hvg.config.recipes import with_recipe
from hvg.config.refine_options import RefineOptions
from hvg.config.settings import RunConfig
from hvg.config.view_options import ViewOptions
from hvg.config.watch_options import WatchOptions
from hvg.data.prepare import prepared_runs
from hvg.parts import registry
from hvg.study.plan import refuse_unknown
from hvg.study.study_file import find_study, load_study
from hvg.sweep.search import judged_sweep

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [
        ROOT / "README.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "experiments").rglob("*.md"),
        *(ROOT / ".github").rglob("*.md"),
    ]
)
BLOCK = re.compile(r"^[ ]*```([^\n]*)\n(.*?)^[ ]*```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`(hvg [^`]+|make [^`]+)`(?!`)")
# Variables of the environment before a program.
ASSIGNED = re.compile(r"^([A-Z_]+=\S* +)+")
# What a block may be in that holds commands; in any other language it holds none.
SHELL = ("", "bash", "sh")
# Programs that a line of commands begins with.
PROGRAMS = (
    "hvg",
    "make",
    "pip",
    "python",
    ".venv/bin/python",
    ".ci/run",
    "torchrun",
    "git",
    "pre-commit",
    "wandb",
    "pytest",
)


class NotJudged(Exception):
    """A command that no rule here knows."""


@dataclass(frozen=True)
class Command:
    """A command of a page. whole: whether all of its words are there, rather than some and `...`. refused: what it prints where
    the page shows how it is refused.
    """

    page: Path
    words: tuple[str, ...]
    whole: bool = True
    refused: str = ""

    @property
    def text(self) -> str:
        """As one would type it."""
        return shlex.join(self.words)


def commands_of(page: Path) -> list[Command]:
    """Every command that stands in a block of a page, in its order. Raises: NotJudged for a block that is half commands."""
    found: list[Command] = []
    for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
        lines = [line for line in lines if line and not line.startswith("#")]
        typed = [line for line in lines if ASSIGNED.sub("", line).split()[0] in PROGRAMS and not _is_said(line)]
        if found and re.match(rf"hvg {' '.join(found[-1].words[1:2])}: ", text):
            found[-1] = replace(found[-1], refused=text.strip())
        if language.split(" ")[0] not in SHELL:
            if language.split(" ")[0] in ("text", "console") and typed:
                raise NotJudged(f"{page.name}: a block of text holds the command `{typed[0]}`")
            continue
        if typed and typed != lines:
            other = next(line for line in lines if line not in typed)
            raise NotJudged(f"{page.name}: nobody judges the line `{other}`, which stands among commands")
        if language and not typed:
            raise NotJudged(f"{page.name}: nobody judges `{lines[0]}`")
        found += [command for line in typed for command in _of_line(page, line)]
    return found


def inline_commands_of(page: Path) -> list[Command]:
    """Every command inside the text of a page; most are the beginning of one."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    found = [part.strip() for code in INLINE.findall(text) for part in code.replace("\n", " ").split("`")]
    # A form, as [WORD] or A|B or FOLDER, and the sentence of a program, are no commands.
    forms = [line for line in found if _is_said(line) or re.search(r"^hvg [A-Z]|\[[A-Za-z]+[ =\]]|\\\||<", line)]
    return [
        Command(page, command.words, False) for line in found if line not in forms for command in _of_line(page, line)
    ]


def _is_said(line: str) -> bool:
    """Whether a line is what hvg says, as ``hvg train: 3 problems``, or that of a tree of files."""
    second = line.split()[1] if len(line.split()) > 1 else ""
    return bool(re.match(r"hvg( \w+)?:|hvg/", line)) or (line.startswith("hvg ") and not re.match(r"[\w.-]", second))


def _of_line(page: Path, line: str) -> Iterator[Command]:
    words = shlex.split(line, comments=True)
    while words:
        end = words.index("&&") if "&&" in words else len(words)
        typed, words = words[:end], words[end + 1 :]
        while re.fullmatch(r"[A-Z_]+=\S*", typed[0]):
            typed = typed[1:]
        typed = typed[: typed.index(">")] if ">" in typed else typed
        given = tuple(word for word in typed if word != "...")
        yield Command(page, given, len(given) == len(typed))


# --- judging ----------------------------------------------------------------------------------------------------------


def judge(command: Command, runs: "Runs") -> None:
    """Raises: NotJudged where no rule knows the command; HvgError, or AssertionError, where it cannot be typed so."""
    program, *words = command.words
    if program == "hvg":
        _judge_hvg(words, command.whole, runs)
    elif program == "make":
        _judge_make(words)
    elif program == "torchrun":
        assert words[words.index("-m") + 1] == "hvg.cli"
        _judge_hvg(words[words.index("-m") + 2 :], command.whole, runs)
    elif program == ".ci/run":
        assert (ROOT / program).is_file() and not words
    elif program in ("python", ".venv/bin/python"):
        _judge_python(words)
    elif program == "pip":
        _judge_pip(words)
    elif program == "git":
        _require(words[0] == "add" and (ROOT / words[1]).parent.is_dir(), command.text)
    elif (program, *words) not in {("pre-commit", "install"), ("wandb", "login"), ("pytest",)}:
        raise NotJudged(command.text)


def _require(holds: bool, text: str) -> None:
    if not holds:
        raise NotJudged(text)


def _judge_make(words: Sequence[str]) -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE))
    variables = set(re.findall(r"^([A-Z]+)\s*[?:]?=", text, re.MULTILINE))
    for word in words:
        name, equals, _ = word.partition("=")
        assert name in (variables if equals else targets), f"make {word}: the Makefile has no such target or variable"


def _judge_python(words: Sequence[str]) -> None:
    if words[:2] == ["-m", "pytest"]:
        words = [word for word in words[2:] if word not in ("-m", "long", "-q")]
    _require(bool(words) and (ROOT / words[0]).is_file(), shlex.join(words))


def _judge_pip(words: Sequence[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    allowed = {".", "hvg", *(f"hvg[{extra}]" for extra in project["optional-dependencies"])}
    named = [word for word in words[1:] if not word.startswith("-")]
    folders = {word for word in named if words[0] == "install" and "--editable" in words}
    _require(words[0] in ("install", "wheel") and bool(named) and set(named) <= allowed | folders, shlex.join(words))


def _judge_hvg(words: Sequence[str], whole: bool, runs: "Runs") -> None:
    name, *words = words
    assert name in COMMANDS or name in ("--help", "--version", "help"), f"no command is named {name}"
    if name not in COMMANDS or {"-h", "--help"} & set(words):
        return
    flags, words = take_flags(words, COMMANDS[name].flags)
    if not whole:
        _judge_some(name, words)
        return
    _require(name in RULES, f"hvg {name}")
    RULES[name](words, flags, runs)


def _judge_some(name: str, words: Sequence[str]) -> None:
    """Of a command that goes on: whether what is there are words of this command."""
    models = COMMANDS[name].models()
    known = {key for model in models for key in model.model_fields}
    for word in words:
        if is_override(word) and key_of(word) not in known:
            root = re.split(r"[.=]", key_of(word))[0]
            assert root in {*RunConfig.model_fields, *_options()}, f"hvg {name}: no word begins with {root}"
            _known_choice(root, word)


@cache
def _options() -> dict[str, list[str]]:
    """Group -> its words, of what is installed when they are first asked for."""
    return dict(all_options())


def _known_choice(group: str, word: str) -> None:
    key, _, value = word.partition("=")
    options = _options().get(group)
    if key.lstrip("+~") == group and options and value and value.islower() and "," not in value and value != "all":
        assert value in options, f"{group}={value} is no choice"


class Runs:
    """The trained models that a page speaks of: a name under ``runs/`` -> the configuration of what trained it.

    What was trained elsewhere, or nobody says how, is a video model as ``hvg train`` makes it.
    """

    def __init__(self) -> None:
        self._words: dict[str, tuple[str, ...]] = {}

    def trained(self, overrides: Sequence[str]) -> None:
        """Remembers a training by its name."""
        self._words[_composed(tuple(overrides)).name] = tuple(overrides)

    def of(self, checkpoint: Path) -> RunConfig:
        """What a ``checkpoint=`` was trained with."""
        parts = checkpoint.parts
        name = parts[1] if parts[:1] == ("runs",) and len(parts) > 1 else ""
        return _composed(self._words.get(name, ()))


@cache
def _composed(overrides: tuple[str, ...]) -> RunConfig:
    return compose(overrides)


def _run(*models: type) -> Callable:
    """A command that takes options and overrides of a run."""

    def rule(words: Sequence[str], flags: frozenset[str], runs: Runs) -> None:
        *options, overrides = options_and_overrides(words, *models)
        overrides = [*overrides, *(word for given in options for word in getattr(given, "overrides", ()))]
        _composed(tuple(overrides))

    return rule


def _listing(words: Sequence[str], flags: frozenset[str], runs: Runs) -> None:
    named, overrides = [word for word in words if not is_override(word)], [word for word in words if is_override(word)]
    assert set(named) <= {*registry.KINDS, *_options()} and len(named) <= 1
    _composed(tuple(overrides))


def _prepare(words: Sequence[str], flags: frozenset[str], runs: Runs) -> None:
    model, more = PrepareOptions, []
    if words[:1] == ["check"]:
        words, model, more = words[1:], PrepareCheckOptions, ["data.views=1", "data.frames=1"]
    words = ["data.latents=cached" if word == "latents" else word for word in words]
    words = [*more, *(word if is_override(word) else f"dataset={word}" for word in words)]
    options, overrides = options_and_overrides(words, model)
    prepared_runs([*overrides, *getattr(options, "overrides", ())], lambda line: None)


def _train(words: Sequence[str], flags: frozenset[str], runs: Runs) -> None:
    if any(word.startswith("sweep=") for word in words):
        options, launch, overrides = options_and_overrides(words, SweepOptions, LaunchOptions)
        judged_sweep(overrides, options, launch)
        return
    launched = flags or any(word.startswith("launcher=") for word in words)
    models = (LaunchOptions,) if launched else (DryRunOptions,) if any(w.startswith("dry_run=") for w in words) else ()
    *_, overrides = options_and_overrides(words, *models)
    for run in expand_sweep(overrides) if "multirun" in flags else [overrides]:
        _composed(tuple(run))
        runs.trained(run)


def _launch(words: Sequence[str], flags: frozenset[str], runs: Runs) -> None:
    assert words[:1] == ["train"]
    options, overrides = options_and_overrides(words[1:], LaunchOptions)
    short = {"nodes": options.nodes, "devices": options.devices}
    _train(
        [*overrides, *(f"strategy.{key}={value}" for key, value in short.items() if value is not None)],
        frozenset(),
        runs,
    )


def _study(words: Sequence[str], flags: frozenset[str], runs: Runs) -> None:
    (named,) = [word for word in words if not is_override(word)]
    options, overrides = options_and_overrides([word for word in words if is_override(word)], StudyOptions)
    study = load_study(find_study(named))
    refuse_unknown(study, options)
    # Whole studies are composed by tests/configs; words beside them are judged with one arm.
    if overrides:
        _composed((*study.base, *next(iter(study.arms.values())), *overrides))


def _sweep(words: Sequence[str], flags: frozenset[str], runs: Runs) -> None:
    what, *words = words
    if what == "report":
        only_options([word for word in words if is_override(word)], SweepReportOptions)
        return
    assert what == "wandb" and "print" in flags
    options, overrides = options_and_overrides(words, SweepOptions)
    judged_sweep(overrides, options, LaunchOptions())


def _evaluate(words: Sequence[str], flags: frozenset[str], runs: Runs) -> None:
    words = with_recipe(words)
    if "checkpoint" not in map(key_of, words):
        _, overrides = options_and_overrides(words, FolderOptions)
        _composed(tuple(overrides))
        return
    options, overrides = options_and_overrides(words, EvaluateOptions)
    recompose(runs.of(options.checkpoint), overrides, ("dataset", "fit") if options.shift else ())


def _sampled(model: type) -> Callable:
    def rule(words: Sequence[str], flags: frozenset[str], runs: Runs) -> None:
        options, overrides = options_and_overrides(with_recipe(words), model)
        recompose(runs.of(options.checkpoint), overrides)

    return rule


def _compare(words: Sequence[str], flags: frozenset[str], runs: Runs) -> None:
    _, others = take_options(words, command_options.CompareOptions)
    assert others and all(re.fullmatch(r"(\w+=)?[\w/.,-]+", word) for word in others)


def _photo(words: Sequence[str], flags: frozenset[str], runs: Runs) -> None:
    only_options([word for word in words if is_override(word)], command_options.PhotoOptions)
    assert len([word for word in words if not is_override(word)]) == 1


def _bench(words: Sequence[str], flags: frozenset[str], runs: Runs) -> None:
    models = {"peers": PeersOptions, "gpu": GpuBenchOptions, "scale": ScaleOptions}
    if words[:1] and words[0] in models:
        _, overrides = options_and_overrides(words[1:], models[words[0]])
        assert words[0] == "scale" or not overrides
        _composed(tuple(overrides))
        return
    assert set(words) <= set(BENCHMARKS)


def _watch(words: Sequence[str], flags: frozenset[str], runs: Runs) -> None:
    only_options([word for word in words if is_override(word)], WatchOptions)
    assert [word for word in words if not is_override(word)]


def _demo(words: Sequence[str], flags: frozenset[str], runs: Runs) -> None:
    makes = "make" in map(key_of, words)
    options_and_overrides(with_recipe(words), DemoFilesOptions if makes else DemoOptions)


def _new(words: Sequence[str], flags: frozenset[str], runs: Runs) -> None:
    options, others = take_options(words, command_options.NewPartOptions)
    assert others[:1] == ["part"] and len(others) == 2 and options.kind in registry.KINDS


def _only(model: type) -> Callable:
    return lambda words, flags, runs: only_options(words, model)


RULES: dict[str, Callable] = {
    "list": _listing,
    "check": _run(CheckOptions),
    "show": _run(ShowOptions),
    "prepare": _prepare,
    "train": _train,
    "launch": _launch,
    "study": _study,
    "sweep": _sweep,
    "evaluate": _evaluate,
    "sample": _sampled(SampleOptions),
    "refine": _sampled(RefineOptions),
    "export": _only(command_options.ExportOptions),
    "convert": _only(command_options.ConvertOptions),
    "motion": _only(command_options.MotionOptions),
    "photo": _photo,
    "compare": _compare,
    "weights": _only(command_options.WeightsOptions),
    "bench": _bench,
    "view": _run(ViewOptions),
    "watch": _watch,
    "demo": _demo,
    "new": _new,
}
