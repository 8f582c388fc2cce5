"""What code imports is declared, and what is declared is imported."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Imported where they are there: without a wheel, an extra, or what ours is compared with.
OPTIONAL = {"pytorch3d", "bitsandbytes", "webdataset", "lpips", "cdfvd"}
# Runs in an environment of its own, which `make video-env` makes.
ELSEWHERE = ROOT / "hvg" / "media" / "pose_detector"


def _name(requirement: str) -> str:
    """A distribution's name as package indexes compare it."""
    return re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-")


def _imported() -> set[str]:
    """The distributions whose modules hvg and components import, wherever in a file they do."""
    files = [path for room in ("hvg", "components") for path in (ROOT / room).rglob("*.py") if path.parent != ELSEWHERE]
    modules: set[str] = set()
    for node in (node for path in files for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.add(node.module)
    tops = {module.split(".")[0] for module in modules} - sys.stdlib_module_names - {"hvg", "components"}
    known = packages_distributions()
    return {_name(distribution) for top in tops for distribution in known.get(top, [top])}


def test_imports_and_declarations_are_the_same():
    file = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    # What builds the wheel is in hvg/core/packaging.py; what `hvg view` imports is an extra of its own.
    given = (
        file["project"]["dependencies"],
        file["build-system"]["requires"],
        file["project"]["optional-dependencies"]["view"],
    )
    run, built, view = ({_name(text) for text in requirements} for requirements in given)
    assert _imported() - OPTIONAL == run | built | view


def test_the_detectors_environment_is_pinned_whole():
    pins = [
        line for line in (ELSEWHERE / "constraints.txt").read_text(encoding="utf-8").splitlines() if line[:1] != "#"
    ]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in pins)
    versions = dict(line.split("==") for line in pins)
    assert versions["mediapipe"] == "0.10.21" and versions["numpy"].startswith("1.") and "torch" not in versions


def test_the_detectors_program_imports_nothing_of_hvg():
    text = (ELSEWHERE / "detect.py").read_text(encoding="utf-8")
    assert not [line for line in text.splitlines() if re.match(r"\s*(from|import) (hvg|components|torch)", line)]
