"""Parts, settings and studies are found beside hvg, as in the source tree, and inside it, as in a wheel."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hvg import cli
from hvg.core import shipped
from hvg.core.errors import ConfigError, HvgError
from hvg.core.shipped import name_in_tree
from hvg.study import run
from hvg.study.study_file import find_study, load_study

PROGRAM = """
import json
import hvg.core.shipped as s
found = {"components": s.COMPONENTS, "conf": s.CONF, "experiments": s.EXPERIMENTS} | s.studies()
print(json.dumps([s.INSTALLED, s.PARTS, {name: str(path) for name, path in found.items()}]))
"""


@pytest.mark.parametrize("installed", [False, True])
def test_folders_are_found_in_either_layout(tmp_path, installed):
    """By the module itself, in a process that has nothing else of this project on its path."""
    module = Path(shipped.__file__).relative_to(shipped.HVG)
    (tmp_path / "hvg" / module).parent.mkdir(parents=True)
    shutil.copy(shipped.HVG / "__init__.py", tmp_path / "hvg")
    shutil.copy(shipped.__file__, tmp_path / "hvg" / module)
    home = tmp_path / "hvg" if installed else tmp_path
    for name in shipped.FOLDERS:
        (home / name).mkdir()
    # Somebody else's, where this project's lie in the tree.
    (tmp_path / "components").mkdir(exist_ok=True)
    for name, file in {"mine": "study.yaml", "notes": "README.md"}.items():
        (home / "experiments" / name).mkdir()
        (home / "experiments" / name / file).touch()
    program = PROGRAM.replace("hvg.core.shipped", shipped.__name__)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, check=True)
    places = {name: str(home / name) for name in shipped.FOLDERS} | {"mine": str(home / "experiments" / "mine")}
    assert json.loads(done.stdout) == [installed, "hvg.components" if installed else "components", places]


def test_a_module_has_one_name_in_both_layouts():
    for module in ("components", "components.nn.windows"):
        assert name_in_tree(module) == name_in_tree(f"hvg.{module}") == module
    for module in ("hvg", "hvg.values.clip", "hvg.components_of_somebody", "lab.components.nn"):
        assert name_in_tree(module) == module


def test_a_shipped_study_is_found_by_its_name_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quickstart = shipped.EXPERIMENTS / "quickstart"
    # A folder without a study, such as one of runs, does not hide it.
    (tmp_path / "quickstart").mkdir()
    assert find_study("quickstart") == quickstart and load_study(quickstart).seeds == (0,)
    # A path is a path.
    for path in ("./quickstart", "experiments/quickstart", str(tmp_path / "quickstart")):
        assert find_study(path) == Path(path)
        with pytest.raises(HvgError, match=r"quickstart/study\.yaml: no such study\. Did you mean 'quickstart'\?"):
            load_study(find_study(path))
    assert find_study(str(quickstart)) == quickstart
    # One's own comes first.
    (tmp_path / "quickstart" / "study.yaml").touch()
    assert find_study("quickstart") == Path("quickstart")


def test_a_study_that_there_is_not_is_told_with_those_that_there_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "study.yaml").touch()
    assert cli.run(["study", "quikstart"]) == 1
    assert capsys.readouterr().err.endswith("no such study. Did you mean 'quickstart'? Next: `hvg study quickstart`\n")
    assert cli.run(["study", "x"]) == 1
    known = ", ".join(sorted([*shipped.studies(), "mine"]))
    assert (
        capsys.readouterr().err
        == f"hvg study: x/study.yaml: no such study. Known: {known}. Next: `hvg study quickstart`\n"
    )


@pytest.mark.parametrize("word", ["keep", "merge"])
def test_nothing_is_kept_inside_an_installed_package(tmp_path, monkeypatch, word):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shipped, "EXPERIMENTS", tmp_path / "experiments")
    monkeypatch.setattr(shipped, "INSTALLED", True)
    folder = shutil.copytree(
        Path(__file__).parents[2] / "experiments" / "hvg_sampling", tmp_path / "experiments" / "it"
    )
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(
        ConfigError, match=f"{word}: works beside study.yaml, here in the installed package; copy {folder}"
    ):
        run.run_study(find_study("it"), [], run.StudyOptions(**{word: True}))
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["experiments"]
