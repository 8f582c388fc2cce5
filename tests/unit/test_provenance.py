"""What a record says of the program and of what was added to it."""

import importlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from setuptools.config.pyprojecttoml import read_configuration

from hvg import __version__
from hvg.core import provenance

ROOT = Path(__file__).parents[2]
PLUGIN = Path(__file__).parents[1] / "data" / "plugin" / "hvg_example_plugin"
ENTRY_POINTS = """\
[hvg.components]
conditioner.broken = hvg_example_plugin.broken:Broken
conditioner.head_disc = hvg_example_plugin.head_disc:HeadDisc

[hvg.conf]
example = hvg_example_plugin.conf
"""


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=me", "-c", "user.email=me@home", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """A source tree of one commit."""
    tree = tmp_path / "tree"
    for room in provenance.PROGRAM:
        (tree / room).mkdir(parents=True)
        (tree / room / "file.py").write_text(f"of {room}\n")
    git(tree, "init", "-q")
    git(tree, "add", ".")
    git(tree, "commit", "-qm", "first")
    monkeypatch.setattr(provenance, "ROOT", tree)
    monkeypatch.setattr(provenance, "PROGRAM", {room: tree / room for room in provenance.PROGRAM})
    return tree


def test_records_and_the_wheel_have_the_version_that_the_command_says():
    """`hvg --version` prints the same name: tests/unit/test_command_help.py."""
    built = read_configuration(ROOT / "pyproject.toml")["project"]
    assert built["version"] == provenance.collect()["hvg"] == __version__
    assert "version" in built["dynamic"], "written down once"


def test_a_changed_tree_says_what_was_changed(tree):
    commit, source = git(tree, "rev-parse", "HEAD"), provenance.source_digest()
    assert (provenance.git_commit(), provenance.tree_changes()) == (commit, None)
    (tree / "hvg" / "file.py").write_text("2\n")
    (tree / "components" / "mine.py").write_text("3\n")
    (tree / "notes.txt").write_text("of no part of the program\n")
    changed = provenance.tree_changes()
    assert changed is not None and changed["files"] == ["components/mine.py", "hvg/file.py"]
    assert provenance.git_commit() == f"{commit}+changes" and provenance.source_digest() != source
    (tree / "components" / "mine.py").write_text("4\n")
    again = provenance.tree_changes()
    assert again is not None and again["files"] == changed["files"] and again["digest"] != changed["digest"]
    # The same program has the same digest, whatever git says of it.
    (tree / "hvg" / "file.py").write_text("of hvg\n")
    (tree / "components" / "mine.py").unlink()
    assert provenance.tree_changes() is None and provenance.source_digest() == source
    (tree / "conf" / "file.py").unlink()
    gone = provenance.tree_changes()
    assert gone is not None and gone["files"] == ["conf/file.py"]


def test_the_commit_of_a_repository_around_it_is_not_ours(tree, monkeypatch):
    source, installed = provenance.source_digest(), tree / "site-packages"
    shutil.copytree(tree / "hvg", installed / "hvg")
    inside = {room: shutil.copytree(tree / room, installed / "hvg" / room) for room in ("components", "conf")}
    monkeypatch.setattr(provenance, "ROOT", installed)
    monkeypatch.setattr(provenance, "PROGRAM", {"hvg": installed / "hvg", **inside})
    assert (provenance.git_commit(), provenance.tree_changes()) == ("unknown", None)
    # The program is the same where a wheel has its folders inside one another.
    assert provenance.source_digest() == source
    (installed / "hvg" / "conf" / "file.py").write_text("another\n")
    assert provenance.source_digest() != source


@pytest.fixture
def site(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder in which the example plugin is installed, beside a second module of its own."""
    site, info = tmp_path / "site", tmp_path / "site" / "hvg_example_plugin-0.3.dist-info"
    shutil.copytree(PLUGIN, site / "hvg_example_plugin")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hvg-example-plugin\nVersion: 0.3\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (info / "top_level.txt").write_text("hvg_example_plugin\nmore_of_it\n")
    (site / "more_of_it.py").write_text("1\n")
    monkeypatch.syspath_prepend(site)
    yield site
    for name in [name for name in sys.modules if name.startswith("hvg_example_plugin")]:
        del sys.modules[name]


def test_every_distribution_that_adds_something_is_named_with_its_files(site):
    found = provenance.plugins()["hvg-example-plugin"]
    assert found["version"] == "0.3" and found["parts"] == {}
    importlib.import_module("hvg_example_plugin.head_disc")
    file = site / "hvg_example_plugin" / "head_disc.py"
    (part,) = provenance.plugins()["hvg-example-plugin"]["parts"].items()
    assert part == ("conditioner.head_disc", {"file": str(file), "digest": provenance.files_digest({"": file})})

    def edited(path: Path) -> bool:
        before = provenance.plugins()["hvg-example-plugin"]["digest"]
        path.write_text(path.read_text() + "\n")
        return provenance.plugins()["hvg-example-plugin"]["digest"] != before

    assert edited(file) and edited(site / "more_of_it.py")
    assert edited(site / "hvg_example_plugin" / "conf" / "pose" / "head_disc.yaml")
    assert not edited(site / "hvg_example_plugin-0.3.dist-info" / "METADATA")
