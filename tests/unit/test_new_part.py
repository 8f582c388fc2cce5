"""``hvg new part``: of every kind a package that keeps its kind's promises as it is written, and names that cannot be used."""

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from test_plugin import opened

from hvg import plugin, testing
from hvg.cli import run
from hvg.commands import new
from hvg.parts import registry

TEMPLATES = Path(new.__file__).parent / "part_templates" / "kinds"
NAME = "of_the_lab"


@pytest.fixture(scope="module", params=sorted(registry.KINDS))
def written(request, tmp_path_factory) -> tuple[str, Path]:
    """A kind, and the folder of its package."""
    folder = tmp_path_factory.mktemp(request.param) / "package"
    assert run(["new", "part", NAME, f"kind={request.param}", f"out={folder}"]) == 0
    return request.param, folder


@pytest.fixture
def installed(written, monkeypatch) -> tuple[str, Path]:
    """The same where Python finds it, with what pip would write of it."""
    kind, folder = written
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    about = folder / f"{new._package(kind, NAME)}-{project['version']}.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    entries = [line for group, names in groups for line in (f"[{group}]", *map(" = ".join, names.items()))]
    (about / "entry_points.txt").write_text("\n".join(entries))
    monkeypatch.syspath_prepend(folder)
    registry._plugins.cache_clear()
    yield kind, folder
    registry._plugins.cache_clear()


def own_test(folder: Path):
    """The package's test, as a module."""
    spec = importlib.util.spec_from_file_location("own_test", folder / "tests" / f"test_{NAME}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_kind_has_a_template_and_a_check():
    assert {path.stem for path in TEMPLATES.glob("*.j2")} == {*registry.KINDS}
    assert {f"check_{kind}" for kind in registry.KINDS} <= {*testing.__all__}


def test_it_keeps_its_promises(installed):
    kind, folder = installed
    own_test(folder).test_promises()
    part = registry.load(kind, NAME)
    assert part.made_for == plugin.VERSION and part.__doc__
    assert all(field.description for field in part.Config.model_fields.values())


def test_it_imports_nothing_but_the_doors(written):
    kind, folder = written
    part, test = (folder / path for path in (f"{new._package(kind, NAME)}/{NAME}.py", f"tests/test_{NAME}.py"))
    assert opened(part.read_text(encoding="utf-8")) == {"hvg.plugin"}
    assert opened(test.read_text(encoding="utf-8")) == {"hvg.cli", "hvg.testing"}


def test_its_code_is_in_order(written):
    _, folder = written
    ruff = [sys.executable, "-m", "ruff"]
    for words in (
        ["check", "--select", "E,F,I,UP,B,SIM,RUF", "--ignore", "RUF001,RUF002,RUF003,RUF012"],
        ["format", "--check"],
    ):
        done = subprocess.run(
            [*ruff, words[0], "--isolated", "--line-length", "120", *words[1:]], cwd=folder, capture_output=True
        )
        assert done.returncode == 0, done.stdout.decode()
