"""Messages name the next command to type, and what they name can be typed: the command line's own parser takes it."""

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from hvg.commands.table import COMMANDS, FORMS
from hvg.commands.words import is_override, only_options, take_flags
from hvg.config.groups import all_options, root_keys
from hvg.config.overrides import root_key
from hvg.core import next_commands
from hvg.core.errors import ConfigError, HvgError
from hvg.parts import registry

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for room in ("hvg", "components") for path in (ROOT / room).rglob("*.py"))
# What a command names of the error that it is in: an expression -> a word of its kind.
FILLED = {
    "group": "pose",
    "kind": "pose",
    "key": "pose",
    "root if root in PART_KEYS - {'slots'} else kind": "pose",
    "config.system.name": "avatar",
    "config.strategy.name": "zero2",
    "config.strategy.offload": "optimizer",
    "config.reconstructor": "nerf",
    "arg": "nerf",
}
# What `hvg bench peers` sets beside ours, and hvg does not need.
COMPARED = {"pip install --no-deps cd-fvd", "pip install lpips torchvision", "pip install webdataset"}
# Of what is begun with these nothing is parsed; hvg does not bring it.
OTHERS = ("wandb login", "sbatch ", "scancel ", "apt-get install ", "python3.11 -m venv ")
ERRORS = ("HvgError", "DataError", "CheckpointError", "PartImportError", "UnknownPartError", "NotAvailable", "Problem")
# What a message says that has to name a command, and how that begins.
RULES = {
    r"no such checkpoint|holds no checkpoint|holds no run\b": "hvg train",
    r"has to be trained|which holds no reconstructor|trained no ": "hvg train system=avatar",
    r"^\{(config\.)?path\}: no (such )?shard\b|has no index": "hvg prepare",
    r"data\.latents=cached: |holds nothing of clip|delete it and make it again": "hvg prepare latents",
    r"^no \{(kind|group|key)\} is (named|chosen)|has to name a \{kind\}|no recipe is named|there is no kind or word": "hvg list",
    r"unknown key for a run|no setting is named": "hvg list",
    r"there is no flag|unknown (key or )?option": "hvg ",
    r"not installed|needs the package|version 0\.1 of LPIPS": "pip install|make video-env",
    r"environment is not there": "make",
    r"compiler on a CPU": "apt-get install",
    r"not logged in": "wandb login",
    r"which an evaluation writes|not the results of an evaluation|score the model again": "hvg evaluate",
    r"no folder that .hvg export. wrote": "hvg export",
    r"is a pickle, which hvg never runs": "hvg convert",
    r"no such study|no seed is kept|not the results of a study|give one study": "hvg study",
    r"there is no such file; expected an \.npz motion file|nothing says how the person moves": "hvg motion",
    r"cameras or body are not what they are said": "hvg prepare check",
    r"give two runs": "hvg compare",
}


def text_of(node: ast.AST) -> str | None:
    """The text of a string in the code, with its expressions in braces; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = (x.value if isinstance(x, ast.Constant) else f"{{{ast.unparse(x.value)}}}" for x in node.values)
        return "".join(map(str, parts))
    if isinstance(node, ast.List):
        words = [text_of(word) for word in node.elts if not isinstance(word, ast.Starred)]
        return " ".join(map(str, words)) if words[:1] == ["hvg"] else None
    return None


def spoken(tree: ast.AST) -> Iterator[str]:
    """Every string that a program may say: no docstring."""
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        text = text_of(node)
        if text is not None and id(node) not in silent | inside:
            yield text


def commands_in(text: str) -> list[str]:
    """The commands that a string is, or names in backticks."""
    found = re.findall(r"`((?:hvg|make|pip) [^`]+)`", text)
    whole = re.fullmatch(r"hvg [a-z][^:\n]*|make [a-z-]+( -C \S+)?|pip install .*", text)
    return [*found, *([text] if whole else [])]


NAMED = sorted({c for path in FILES for text in spoken(ast.parse(path.read_text())) for c in commands_in(text)})


def filled(command: str) -> str:
    return re.sub(r"\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}", lambda match: FILLED.get(match[1], "PLACE"), command)


def refusal(command: str) -> str | None:
    """Why a command cannot be typed; None where it can, as far as it is known before it is run."""
    program, *words = shlex.split(command)
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return None if words[0] in targets else f"no target {words[0]}"
    if program == "pip":
        file = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        known = {f"hvg[{extra}]" for extra in file["optional-dependencies"]}
        known |= {re.split(r"[^\w-]", text)[0] for text in file["dependencies"]}
        wrong = [w for w in words[1:] if not w.startswith(("-", "git+https://")) and w not in known]
        return f"hvg declares no {wrong[0]}" if wrong and command not in COMPARED else None
    try:
        return _refused(*words)
    except HvgError as error:
        return str(error)


def _refused(name: str, *words: str) -> str | None:
    if name in ("--help", "--version") or "--help" in words:
        return None if name.startswith("--") or name in {*COMMANDS, "COMMAND"} else f"no command {name}"
    if name not in COMMANDS:
        return f"no command {name}"
    command = COMMANDS[name]
    _, rest = take_flags(list(words), command.flags)
    places = [word for word in rest if not is_override(word)]
    # Behind two spaces is what it does.
    forms = " ".join(form.split("  ")[0] for form in re.findall(rf"^  {name}\b(.*)", FORMS, re.MULTILINE))
    if wrong := [word for word in places if word not in forms.split() and not re.search(r"\b[A-Z]{3,}\b", forms)]:
        return f"hvg {name} takes no word {wrong[0]}"
    if name == "list" and (wrong := {*places} - {*registry.KINDS, *all_options()}):
        return f"there is no word {wrong}"
    given = [word for word in rest if is_override(word)]
    own = [word for word in given if not (command.overrides and root_key(word) in root_keys())]
    models = command.models()
    problems = []
    for model in models:
        try:
            only_options(own, model)
            return None
        except ConfigError as error:
            problems.append(str(error))
    return problems[-1] if own else None


def test_commands_are_found_where_messages_name_them():
    assert len(NAMED) > 40
    for command in ("hvg list {group}", "hvg prepare latents", "pip install 'hvg[tensorboard]'", "make video-env"):
        assert command in NAMED
    # In one, in a list of words, in backticks.
    tree = ast.parse(
        'said = E(f"no {x}", then=f"hvg list {x}"), ["hvg", "study", f"{y}"], "see `hvg weights`", "hvg: no"'
    )
    found = sorted(c for text in spoken(tree) for c in commands_in(text))
    assert found == ["hvg list {x}", "hvg study {y}", "hvg weights"]


@pytest.mark.parametrize("command", NAMED)
def test_a_command_that_is_named_can_be_typed(command):
    assert refusal(filled(command)) is None


@pytest.mark.parametrize(
    "command",
    [
        "hvg trian name=NAME",
        "hvg train nmae=NAME",
        "hvg train NAME",
        "hvg train --multi",
        "hvg list posse",
        "hvg prepare latent",
        "hvg evaluate chekpoint=RUN",
        "hvg evaluate split=test",
        "hvg convert out=FILE.npz hdf=3",
        "hvg stduy --help",
        "make envs",
        "pip install 'hvg[nothing]'",
        "pip install torchvision",
    ],
)
def test_a_command_that_cannot_be_typed_is_seen(command):
    assert refusal(command) is not None


def calls(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """The message of every error of the user's, and the commands that go with it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS and node.args:
            place = 1 if node.func.id == "Problem" else 0
            told = [keyword.value for keyword in node.keywords if keyword.arg == "then"] + node.args[place + 1 :]
            message = node.args[place] if len(node.args) > place else node.args[0]
            inner = [text_of(part) for part in ast.walk(message) if text_of(part) is not None]
            text = text_of(message) or " ".join(map(str, inner))
            then = " ".join(vars(next_commands).get(ast.unparse(x), text_of(x) or ast.unparse(x)) for x in told)
            yield text, " ".join([then, *commands_in(text)])


def keeps(text: str, commands: str) -> bool:
    """Whether a message names what the rules ask of it. A function that says which command it is counts."""
    return all(
        re.search(begins, commands) or re.search(r"\w\(", commands)
        for said, begins in RULES.items()
        if re.search(said, text)
    )


def test_messages_name_the_command_where_there_is_one():
    found = {
        (path.relative_to(ROOT).as_posix(), *call) for path in FILES for call in calls(ast.parse(path.read_text()))
    }
    assert len(found) > 500
    for said in RULES:
        assert any(re.search(said, text) for _, text, _ in found), f"no message says {said!r} any more"
    assert not sorted((path, text) for path, text, commands in found if not keeps(text, commands))


def test_a_message_without_its_command_is_seen():
    code = (
        'raise CheckpointError(f"{path}: no such checkpoint")\nraise HvgError("it is not installed", then="hvg list")'
    )
    assert [keeps(*call) for call in calls(ast.parse(code))] == [False, False]
    assert all(keeps(*call) for call in calls(ast.parse('raise HvgError("it is not installed", then=TENSORBOARD)')))
