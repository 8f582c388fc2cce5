"""``hvg new part``: a package for a part of one's own, which can be installed, checked and tested as it is."""

import ast
import builtins
import importlib.util
import keyword
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from hvg.commands.listing import kind_by_other_name
from hvg.commands.words import take_options
from hvg.config.command_options import NewPartOptions
from hvg.config.groups import config_loader, options_of, root_keys
from hvg.config.overrides import parse_override
from hvg.config.parsing import read_yaml
from hvg.config.settings import SLOTS
from hvg.core.errors import HvgError, did_you_mean
from hvg.core.files import whole_folder, write_text
from hvg.core.outputs import try_folder
from hvg.parts import registry

FORM = "hvg new part NAME kind=conditioner"
# The word of the command line that chooses a part; of the other kinds it is the kind itself.
WORDS = {
    "conditioner": "pose",
    "encoder": "pose",
    "text_encoder": "text",
    "keypoints": "protocol",
    "metric": "protocol",
}
# What words mean on the command line wherever a part is chosen.
MEANINGS = {"none": "no part", "all": "every part of the word"}
# Modules that parts import.
IMPORTED = frozenset({"components", "hvg", "numpy", "pydantic", "torch"})
# Letters of a name, which is part of longer ones.
LONGEST = 60


def run(words: list[str]) -> int:
    """``hvg new part NAME kind= [out=]``; 0."""
    if not any(word.startswith("kind=") for word in words):
        # What else is wrong comes first.
        _name_of([word for word in words if not word.startswith("out=")])
        raise HvgError(f"kind= has to be given, as in `{FORM}`. Known: {', '.join(registry.KINDS)}.")
    options, others = take_options(words, NewPartOptions)
    for line in new_part(_name_of(others), options):
        print(line)
    return 0


def new_part(name: str, options: NewPartOptions) -> list[str]:
    """Writes the package; returns lines for the user.

    Raises: HvgError, in one line, for a kind that there is not, a name that cannot be used, a folder that is not empty.
    """
    kind = options.kind
    if kind not in registry.KINDS:
        meant = kind_by_other_name(kind)
        hint = f"It is a {meant}: kind={meant}" if meant else did_you_mean(kind, registry.KINDS)
        raise HvgError(f"kind={kind}: no part is of that kind. {hint}")
    problem = name_problem(kind, name)
    if problem:
        raise HvgError(f"'{name}' cannot be the name of a new {kind}: {problem}")
    folder = options.out or Path(_distribution(kind, name))
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise HvgError(f"out={folder} is there already, and is no empty folder; give another out=")
    try_folder(folder, "out")
    _write(folder, package_files(kind, name))
    words = _rendered("words.j2", kind, name).strip()
    return [
        f"wrote {folder}: a {kind} '{name}' with its settings, word and test; README.md says which file is what",
        "next:",
        f"  pip install --editable {folder}",
        f"  hvg check {words}",
        f"  pytest {folder}",
    ]


def name_problem(kind: str, name: str) -> str:
    """Why a part of this kind cannot have this name, in words that go on after a colon; "" where it can."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or len(name) > LONGEST:
        parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
        plain = re.sub(r"\W+", "_", parted).lower().strip("_").lstrip("_0123456789")[:LONGEST]
        near = f", as {plain}" if plain != name and re.fullmatch(r"[a-z][a-z0-9_]*", plain) else ""
        return f"it has to be a name of a Python module in small letters, at most {LONGEST}{near}"
    if not isinstance(read_yaml(name), str) or not isinstance(parse_override(f"word={name}").value(), str):
        return "in YAML, or on the command line, it is no word"
    if name in registry.names(kind):
        return f"one is called so, of {registry.origin(kind, name)}"
    group = _group(kind)
    # What stands in one slot may be moved to another.
    for place in dict.fromkeys([group, *(SLOTS if group in SLOTS else ())]):
        if name in options_of(config_loader(), place):
            return f"{place}={name} means something else already"
    if name in MEANINGS:
        return f"{group}={name} reads as {MEANINGS[name]}"
    if name in root_keys():
        return f"{name}= is a key of a run already"
    if name in IMPORTED:
        return "parts import a module that is called so"
    package = _package(kind, name)
    if name == "conf" or importlib.util.find_spec(package) is not None:
        return f"a module {package if name != 'conf' else name} is there already"
    return ""


def package_files(kind: str, name: str) -> dict[str, str]:
    """Path in the package's folder -> text, of every file of a package with one part."""
    package = _package(kind, name)
    return {
        "pyproject.toml": _rendered("pyproject.toml.j2", kind, name),
        "README.md": _rendered("README.md.j2", kind, name),
        f"{package}/__init__.py": "",
        f"{package}/{name}.py": _rendered("part.py.j2", kind, name),
        f"{package}/conf/{_group(kind)}/{name}.yaml": _rendered("word.yaml.j2", kind, name),
        f"tests/test_{name}.py": _rendered("test_part.py.j2", kind, name),
    }


def _name_of(words: list[str]) -> str:
    """The name among the words that are no options."""
    unknown = [word for word in words if "=" in word]
    if unknown:
        key = unknown[0].partition("=")[0]
        raise HvgError(
            f"unknown option '{key}'. {did_you_mean(key, NewPartOptions.model_fields)}", then="hvg new --help"
        )
    if words[:1] != ["part"] or len(words) != 2:
        raise HvgError(f"expected one name, as in `{FORM}`, got '{' '.join(words)}'")
    return words[1]


def _write(folder: Path, files: Mapping[str, str]) -> None:
    """Writes all files, whole or not at all where the folder is new."""
    if folder.exists():
        _write_into(folder, files)
        return
    with whole_folder(folder) as partial:
        _write_into(partial, files)


def _write_into(folder: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        write_text(folder / path, text)


def _rendered(layout: str, kind: str, name: str) -> str:
    """A file of the package. layout: of all kinds; it holds what the template of the kind, which extends it, fills in."""
    template, group = _environment().get_template(f"kinds/{kind}.j2"), _group(kind)
    given = {
        "kind": kind,
        "name": name,
        "group": group,
        "package": _package(kind, name),
        "distribution": _distribution(kind, name),
        "version": registry.VERSION,
        # A kind's template says others.
        "words": [f"{group}={name}"],
        "testing": [],
    }
    own = "".join(word.capitalize() for word in name.split("_"))
    # That of none_ is a word of Python.
    own = f"{own}Part" if keyword.iskeyword(own) else own
    part = template.render(given, layout="part.py.j2", cls=own)
    cls = own if _taken(part).isdisjoint({own, f"{own}Config", f"{own}Steps"}) else f"{own}Part"
    text = template.render(given, layout=layout, cls=cls, base=_base(part, own))
    return f"{text.rstrip()}\n"


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("hvg.commands", "part_templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _base(source: str, cls: str) -> str:
    """The name of the class that a module's class is derived from; of several the first."""
    (node,) = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == cls]
    return ast.unparse(node.bases[0]).partition("[")[0]


def _taken(source: str) -> set[str]:
    """Names that a module imports, and those of Python itself."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    return {alias.name for node in nodes for alias in node.names} | {*dir(builtins)}


def _group(kind: str) -> str:
    return WORDS.get(kind, kind)


def _package(kind: str, name: str) -> str:
    return f"hvg_{kind}_{name}"


def _distribution(kind: str, name: str) -> str:
    return _package(kind, name).replace("_", "-").strip("-")
