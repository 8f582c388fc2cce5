"""Digest of the code that a part is made of: caches made by other code are not read."""

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path

from hvg.core.shipped import name_in_tree

# Packages whose modules are followed, besides the part's own.
PROJECT = frozenset({"hvg", "components"})
# Interfaces and values say what goes in and out, and draw nothing. Every part imports them, and through them half of hvg:
# followed, a change anywhere would void every cache.
INTERFACES = frozenset(
    {
        f"hvg.parts.{family}"
        for family in ("part", "context", "model", "plan", "scene", "metric", "reconstructor", "text_encoder")
    }
    | {f"hvg.values.{value}" for value in ("body", "clip", "conditioning", "grid", "scored_clip", "tensors")}
    # What reads the weights that a part draws with.
    | {"hvg.core.checkpoint", "hvg.data.trained_reconstructor"}
)
# Gives on what other modules define: of it a part reaches those alone whose names it imports.
DOOR = "hvg.plugin"
# Modules that a part may compute with without importing them: the cameras of a batch.
ALWAYS = ("hvg.values.cameras",)


@cache
def source_digest(module: str) -> str:
    """Hexadecimal digest of a module's code and of the project's code that it imports, directly or not.

    The same whatever comments, docstrings and layout are; the code of other libraries has no part in it. A package of
    somebody else's also counts by its name and version, for what it holds besides Python. Nothing is imported.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted(source_modules(module), key=name_in_tree):
        digest.update(f"{name_in_tree(name)} {_source(name).code}".encode())
    top = module.partition(".")[0]
    if top not in PROJECT:
        for name in sorted(set(packages_distributions().get(top, ()))):
            digest.update(f"{name} {version(name)}".encode())
    return digest.hexdigest()


def source_modules(module: str) -> set[str]:
    """A module, and those of its own package and the project that it imports, directly or not."""
    followed = PROJECT | {module.partition(".")[0]}
    found, waiting = set[str](), [module, *ALWAYS]
    while waiting:
        name = waiting.pop()
        outside = name.partition(".")[0] not in followed or name in INTERFACES
        if outside or name in found or module_file(name) is None:
            continue
        found.add(name)
        # Importing a module runs the packages around it.
        waiting += [*_source(name).imports, name.rpartition(".")[0]]
    return found


def module_file(name: str) -> Path | None:
    """The Python file of a module, which is not imported for that; None for what is no module, or has no such file."""
    top, *inner = name.split(".")
    loaded = sys.modules.get(top)
    spec = importlib.util.find_spec(top) if loaded is None else getattr(loaded, "__spec__", None)
    if spec is None:
        # A script has no place in the import system.
        files = [Path(file)] if (file := getattr(loaded, "__file__", None)) and not inner else []
    elif inner:
        places = [Path(root).joinpath(*inner) for root in spec.submodule_search_locations or ()]
        files = [path for place in places for path in (place / "__init__.py", place.with_name(f"{place.name}.py"))]
    else:
        files = [Path(spec.origin or "")]
    return next((path for path in files if path.suffix == ".py" and path.is_file()), None)


@dataclass(frozen=True)
class _Source:
    """One module. code: a digest. imports: what it imports anywhere, names of functions and classes among them."""

    code: str
    imports: frozenset[str]


@cache
def _source(name: str) -> _Source:
    path = module_file(name)
    assert path is not None, name
    tree = ast.parse(path.read_bytes())
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    imports = frozenset(_imports(tree, package))
    return _Source(hashlib.blake2b(ast.dump(_without_docstrings(tree)).encode(), digest_size=8).hexdigest(), imports)


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            if origin == DOOR:
                yield from (_behind_the_door().get(alias.name, DOOR) for alias in node.names)
                continue
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)


@cache
def _behind_the_door() -> dict[str, str]:
    """Name -> the module that defines it, of all that the door gives on."""
    path = module_file(DOOR)
    assert path is not None
    nodes = [node for node in ast.parse(path.read_bytes()).body if isinstance(node, ast.ImportFrom)]
    return {alias.name: f"{node.module}" for node in nodes for alias in node.names}


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) or not node.body:
            continue
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            node.body = node.body[1:]
    return tree
