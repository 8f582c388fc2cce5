"""No file of the product unpickles, unpacks archives or runs what a file says; ``hvg convert`` alone reads pickles, by hand."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path.relative_to(ROOT) for room in ("hvg", "components") for path in (ROOT / room).rglob("*.py"))

# Modules that read pickles or other programs in the guise of data.
MODULES = frozenset(
    {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle", "hydra.utils"}
)
# The one explicit converter takes a pickle apart without ever following it.
FENCED = {"pickletools": "hvg/geometry/plain_pickle.py", "torch.jit.load": "components/keypoints/torchscript.py"}
# Full name of a function -> what a call of it has to say.
NEEDS = {
    "torch.load": ("weights_only", True),
    "numpy.load": ("allow_pickle", False),
    "numpy.save": ("allow_pickle", False),
    "numpy.lib.format.read_array": ("allow_pickle", False),
    "numpy.lib.format.write_array": ("allow_pickle", False),
}
FUNCTIONS = frozenset(
    {"eval", "exec", "__import__", "builtins.eval", "builtins.exec", "shutil.unpack_archive", "pandas.read_pickle"}
    | {f"yaml.{name}" for name in ("load", "load_all", "full_load", "full_load_all", "unsafe_load", "unsafe_load_all")}
    | {f"yaml.{name}" for name in ("Loader", "FullLoader", "UnsafeLoader", "CLoader")}
    | {"hydra.utils.instantiate", "hydra.utils.call", "omegaconf.OmegaConf.register_new_resolver"}
)
# Methods, whatever they are called on.
METHODS = frozenset({"extract", "extractall", "unpack_archive", "load_from_checkpoint", "read_pickle", "unsafe_load"})


def full_names(tree: ast.AST) -> dict[str, str]:
    """Name in the file -> what it was imported as."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        if isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def dotted(node: ast.AST, names: dict[str, str]) -> str:
    """The whole name of ``np.lib.load``; "" for what is no name."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value, names)
        return f"{inner}.{node.attr}" if inner else ""
    return ""


def modules(node: ast.AST) -> list[str]:
    """Modules, and their members, that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def unsafe(text: str, path: str) -> Iterator[str]:
    """Every place of a file that may do what data says."""
    tree = ast.parse(text)
    names = full_names(tree)
    for node in ast.walk(tree):
        for module in modules(node):
            if any(module == bad or module.startswith(f"{bad}.") for bad in MODULES):
                yield f"{node.lineno}: imports {module}"
            if any(module.startswith(fenced) and path != place for fenced, place in FENCED.items()):
                yield f"{node.lineno}: imports {module}"
        name = dotted(node, names)
        if name in FUNCTIONS or (name in FENCED and path != FENCED[name]):
            yield f"{node.lineno}: uses {name}"
        if isinstance(node, ast.Call):
            yield from (f"{node.lineno}: {reason}" for reason in unsafe_call(node, dotted(node.func, names)))


def unsafe_call(node: ast.Call, name: str) -> Iterator[str]:
    """Why a call is unsafe."""
    given = {word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)}
    if name in NEEDS and given.get(NEEDS[name][0]) is not NEEDS[name][1]:
        yield f"{name} without {NEEDS[name][0]}={NEEDS[name][1]}"
    method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    if method in METHODS:
        yield f".{method}()"
    # The libraries' readers of published models take pickles where there is nothing better; tokenizers are JSON and text.
    of_weights = "tokenizer" not in ast.unparse(node.func).lower()
    if method == "from_pretrained" and of_weights and given.get("use_safetensors") is not True:
        yield "from_pretrained without use_safetensors=True"
    if given.get("trust_remote_code"):
        yield "trust_remote_code"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_nothing_does_what_data_says(path):
    assert list(unsafe((ROOT / path).read_text(encoding="utf-8"), path.as_posix())) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "import numpy, dill",
        "from pickle import loads",
        "from joblib.numpy_pickle import load",
        "import pickletools",
        "import torch; torch.load(path)",
        "import torch; torch.load(path, weights_only=False)",
        "from torch import load as read; read(path, map_location='cpu')",
        "import torch; torch.jit.load(path)",
        "import numpy as np; np.load(path)",
        "import numpy as np; np.load(path, allow_pickle=True)",
        "import numpy as np; np.save(path, array)",
        "import yaml; yaml.load(text, Loader=yaml.SafeLoader)",
        "import yaml; yaml.unsafe_load(text)",
        "from yaml import FullLoader as L; L(text).get_single_data()",
        "import tarfile; tarfile.open(path).extractall(folder)",
        "archive.extract(member)",
        "import shutil; shutil.unpack_archive(path)",
        "from shutil import unpack_archive as unpack; unpack(path)",
        "eval(text)",
        "exec(text)",
        "import builtins; builtins.eval(text)",
        "from hydra.utils import instantiate",
        "import hydra; hydra.utils.instantiate(config)",
        "system = HumanVideoSystem.load_from_checkpoint(path)",
        "model = Model.from_pretrained(folder)",
        "model = Model.from_pretrained(folder, use_safetensors=True, trust_remote_code=True)",
    ],
)
def test_planted_holes_are_seen(text):
    assert list(unsafe(text, "hvg/planted.py"))


@pytest.mark.parametrize(
    "text",
    [
        "import torch; torch.load(path, weights_only=True)",
        "import numpy as np; np.load(path, allow_pickle=False)",
        "import yaml; yaml.safe_load(text)",
        "module.eval()",
        "model = Model.from_pretrained(folder, use_safetensors=True)",
    ],
)
def test_safe_ways_pass(text):
    assert not list(unsafe(text, "hvg/planted.py"))
