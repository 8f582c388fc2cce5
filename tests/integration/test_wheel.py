"""The wheel brings one top-level name, and works where nothing of the source tree is."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from hvg import __version__
from hvg.config.composition import load_resolved
from hvg.core import shipped
from hvg.core.sources import source_digest
from hvg.data.cache import cache_folder
from hvg.model.load import load_exported, load_system
from hvg.sample import demo

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
BUILT_FROM = ("hvg", *shipped.FOLDERS, "pyproject.toml", "LICENSE")
# Loads every part, and says what of this project was loaded, and from where.
LOAD_ALL = """
import json, sys
from hvg.core import provenance, sources; from hvg.parts import registry
parts = {kind: [registry.load(kind, name).__module__ for name in registry.names(kind)] for kind in registry.KINDS}
tops = ("hvg", "components", "conf", "experiments")
modules = {name: module.__file__ for name, module in sys.modules.items() if name.split(".")[0] in tops}
digests = {module: sources.source_digest(module) for modules in parts.values() for module in modules}
print(json.dumps({"parts": parts, "modules": modules, "digests": digests, "source": provenance.source_digest()}))
"""
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
OFFLINE = ("--quiet", "--no-deps", "--no-index")


def run(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess:
    """A command that knows nothing of the tree in which the tests run."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([*map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A copy of the source tree, so that building leaves nothing in it; what runs write lies about there."""
    tree = tmp_path_factory.mktemp("source") / "tree"
    tree.mkdir()
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "runs", "outputs"))
        else:
            shutil.copy(ROOT / name, tree)
    for place in ("experiments/runs/x", "experiments/quickstart/runs/x", "experiments/outputs", "hvg/runs/x"):
        (tree / place).mkdir(parents=True)
        (tree / place / "config.yaml").touch()
        (tree / place / "README.md").touch()
    return tree


@pytest.fixture(scope="module")
def wheel(tree, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(*PIP, "wheel", *OFFLINE, "--no-build-isolation", "--wheel-dir", folder, tree, cwd=folder)
    (wheel,) = folder.iterdir()
    return wheel


@pytest.fixture(scope="module")
def commands(wheel, tmp_path_factory) -> Path:
    """The commands of a fresh environment that has the wheel; of the tests' own environment it has the other packages."""
    return environment(tmp_path_factory.mktemp("environment"), wheel)


def environment(home: Path, wheel: Path) -> Path:
    """Makes one in an empty folder; returns where its commands are."""
    run(sys.executable, "-m", "venv", "--without-pip", home, cwd=home)
    python = home / "bin" / "python"
    run(*PIP, "--python", python, "install", *OFFLINE, wheel, cwd=home)
    # A folder that is named in a .pth file has its own such files left alone: the editable install is not seen.
    (_site(home) / "others.pth").write_text(sysconfig.get_path("purelib"))
    return home / "bin"


def _site(home: Path) -> Path:
    return Path(sysconfig.get_path("purelib", vars={"base": str(home)}))


@pytest.fixture(scope="module")
def site(commands) -> Path:
    """Where the wheel was installed."""
    return _site(commands.parent)


def files_below(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_a_wheel_has_one_top_level_name_and_all_that_a_study_needs(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    (info,) = {name.split("/")[0] for name in names} - {"hvg"}
    assert info.endswith(".dist-info")
    assert zipfile.ZipFile(wheel).read(f"{info}/top_level.txt").split() == [b"hvg"]
    code = [path for room in ("hvg", "components") for path in (ROOT / room).rglob("*.py")]
    data = [*(ROOT / "conf").rglob("*.yaml"), *(ROOT / "hvg").glob("*.yaml"), *(ROOT / "components").rglob("*.txt")]
    data += (ROOT / "hvg").rglob("*.j2")
    studies = [path for name in ("study.yaml", "README.md") for path in (ROOT / "experiments").glob(f"*/{name}")]
    assert len(code) > 100 and len(data) > 50 and len(studies) >= 8
    expected = {path.relative_to(ROOT).as_posix() for path in [*code, *data, *studies]}
    expected = {name if name.startswith("hvg/") else f"hvg/{name}" for name in expected}
    assert expected <= set(names)
    # Neither what runs wrote nor the figures of the studies.
    assert not [name for name in names if {"runs", "outputs", "results", "__pycache__"} & set(name.split("/"))]
    brought = {path.relative_to(ROOT).as_posix() for path in demo.FOLDER.rglob("*") if path.is_file()}
    assert len(brought) >= 6 and brought <= set(names)
    others = {Path(name).suffix for name in set(names) - expected - brought if name.startswith("hvg/")}
    assert others <= {".md", ".yaml", ".html", ".css", ".js", ".sbatch", ".txt", ".j2"}
    assert "hvg/media/pose_detector/constraints.txt" in names


def test_a_wheel_and_its_command_are_of_one_version(wheel, commands, tmp_path):
    assert run(commands / "hvg", "--version", cwd=tmp_path).stdout == f"hvg {__version__}\n"
    assert wheel.name.startswith(f"hvg-{__version__}-")


def test_every_part_is_loaded_from_the_wheel(commands, site, tree, tmp_path):
    found = json.loads(run(commands / "python", "-c", LOAD_ALL, cwd=tmp_path).stdout)
    assert all(found["parts"].values())
    assert all(Path(file).is_relative_to(site / "hvg") for file in found["modules"].values())
    assert all(module.startswith("hvg.components.") for modules in found["parts"].values() for module in modules)
    # Caches and records know the code as that of the tree.
    assert {m.removeprefix("hvg."): source_digest(m.removeprefix("hvg.")) for m in found["digests"]} == {
        m.removeprefix("hvg."): digest for m, digest in found["digests"].items()
    }
    shutil.rmtree(tree / "hvg" / "runs")
    program = "from hvg.core import provenance; print(provenance.source_digest())"
    assert run(sys.executable, "-c", program, cwd=tree).stdout.strip() == found["source"]


def test_the_demo_runs_outside_the_tree(commands, site, tmp_path):
    """With the model and the person that the wheel brings."""
    before = files_below(site)
    told = run(commands / "hvg", "demo", "views=2", "frames=2", "steps=1", cwd=tmp_path).stdout
    assert f"checkpoint={site / 'hvg' / 'sample' / 'demo_files' / 'model'} " in told
    assert {"view-00.mp4", "view-01.mp4", "grid.webp"} <= {path.name for path in (tmp_path / "demo").iterdir()}
    assert [path.name for path in tmp_path.iterdir()] == ["demo"] and files_below(site) == before


def test_commands_and_the_shipped_study_run_outside_the_tree(commands, site, tiny, tmp_path):
    before = files_below(site)
    listed = run(commands / "hvg", "list", cwd=tmp_path).stdout
    assert "bone_map" in listed and "built-in" in listed
    assert "fits" in run(commands / "hvg", "check", "scale=cpu", cwd=tmp_path).stdout
    words = [*tiny, "evaluation.clips=1", "jobs=2"]
    told = run(commands / "hvg", "study", "quickstart", *words, cwd=tmp_path).stdout
    assert f"report: {Path('runs', 'quickstart', 'report.html')}" in told
    output = tmp_path / "runs" / "quickstart"
    results = json.loads((output / "results.json").read_text())
    arms = {arm["name"]: arm for arm in results["arms"]}
    assert {"bone_map", "skeleton", "smpl_normal", "none", "copy_reference"} <= set(arms)
    assert all(arm["status"] == "done" for arm in arms.values())
    # It is written where the command was typed, and nowhere else.
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert files_below(site) == before
    # And nothing of it depends on what the parts' package is called there: the tree reads it all.
    assert not [name for name, content in files_below(output).items() if b"hvg.components" in content]
    trained = output / "none-seed0"
    assert load_system(trained)[1].training.steps > 0
    config = load_resolved(trained / "config.yaml")
    assert (tmp_path / "runs" / "cache" / cache_folder(config).name).is_dir()
    run(commands / "hvg", "export", f"checkpoint={trained}", "out=exported", cwd=tmp_path)
    assert not [name for name, content in files_below(tmp_path / "exported").items() if b"hvg.components" in content]
    assert load_exported(tmp_path / "exported")[1].backbone == config.backbone


@pytest.mark.parametrize("kind", ["conditioner", "sampler", "metric"])
def test_a_part_of_ones_own_is_written_installed_and_tested(kind, wheel, tmp_path):
    """In an environment of its own, by the words that `hvg new part` says to type next."""
    (tmp_path / "environment").mkdir()
    commands, place = environment(tmp_path / "environment", wheel), tmp_path / "lab"
    place.mkdir()
    said = run(commands / "hvg", "new", "part", "of_the_lab", f"kind={kind}", cwd=place).stdout
    install, check, test = (line.split() for line in said.splitlines() if line.startswith("  "))
    assert install[:2] == ["pip", "install"] and check[:2] == ["hvg", "check"] and test[0] == "pytest"
    offline = (*OFFLINE, "--no-build-isolation")
    run(*PIP, "--python", commands / "python", "install", *offline, *install[2:], cwd=place)
    listed = run(commands / "hvg", "list", kind, cwd=place).stdout
    assert f"hvg-{kind}-of-the-lab" in listed
    assert "of_the_lab" in run(commands / "hvg", *check[1:], cwd=place).stdout
    assert "2 passed" in run(commands / "python", "-m", *test, cwd=place).stdout
