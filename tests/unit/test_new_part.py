"""``hvg new part``: of every kind a package that keeps its kind's promises as it is written, and names that cannot be used."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
from laid_out import lay_out
from test_plugin import opened

from hvg import plugin, testing
from hvg.cli import run
from hvg.commands import new
from hvg.config.composition import compose
from hvg.parts import registry

NAME = "of_the_lab"
# Of these the promises take seconds; tests/integration/test_new_parts.py asks for them, too.
SLOW = {"adapter", "body", "dataset", "fit", "reconstructor", "system"}


@dataclass(frozen=True)
class Written:
    """A package: its kind and folder, and what the command said."""

    kind: str
    folder: Path
    said: str

    def text(self, path: str) -> str:
        return (self.folder / path).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> dict[str, Written]:
    """One of every kind, before any is installed."""
    place, found = tmp_path_factory.mktemp("packages"), {}
    for kind in registry.KINDS:
        with redirect_stdout(StringIO()) as said:
            assert run(["new", "part", NAME, f"kind={kind}", f"out={place / kind}"]) == 0
        found[kind] = Written(kind, place / kind, said.getvalue())
    return found


@pytest.fixture(scope="module", params=sorted(registry.KINDS))
def written(request, packages) -> Written:
    return packages[request.param]


@pytest.fixture(scope="module")
def installed(written, tmp_path_factory) -> Written:
    """One where Python finds it."""
    site = tmp_path_factory.mktemp("site")
    lay_out(written.folder, site)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        registry._plugins.cache_clear()
        yield written
    registry._plugins.cache_clear()
    for name in [name for name in sys.modules if NAME in name]:
        del sys.modules[name]


def own_test(folder: Path):
    """The package's test, as a module."""
    spec = importlib.util.spec_from_file_location("own_test", folder / "tests" / f"test_{NAME}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def refused(capsys, *words: str) -> str:
    assert run(["new", *words]) == 1
    said = capsys.readouterr().err.removesuffix("\n")
    assert "\n" not in said
    return said


# --- what is written --------------------------------------------------------------------------------------------------


def test_every_kind_has_a_template_a_check_and_its_interface_behind_the_door():
    templates = Path(new.__file__).parent / "part_templates" / "kinds"
    assert {path.stem for path in templates.glob("*.j2")} == {*registry.KINDS}
    assert {f"check_{kind}" for kind in registry.KINDS} <= {*testing.__all__}
    assert {place.rpartition(".")[2] for _, place in registry.KINDS.values()} <= {*plugin.__all__}


def test_a_part_is_loaded_and_documented_and_keeps_its_promises(installed):
    part = registry.load(installed.kind, NAME)
    assert part.made_for == plugin.VERSION and part.__doc__
    assert all(field.description for field in part.Config.model_fields.values())
    if installed.kind not in SLOW:
        own_test(installed.folder).test_promises()


def test_it_imports_nothing_but_the_doors_and_nothing_of_a_template_is_left(written):
    part, test = f"hvg_{written.kind}_{NAME}/{NAME}.py", f"tests/test_{NAME}.py"
    assert opened(written.text(part)) == {"hvg.plugin"}
    assert opened(written.text(test)) == {"hvg.cli", "hvg.testing"}
    files = [path for path in written.folder.rglob("*.*") if path.is_file() and path.suffix != ".pyc"]
    assert len(files) == 6
    assert not [path for path in files if re.search(r"{{|{%|%}|}}", path.read_text(encoding="utf-8"))]


def test_what_is_typed_next_is_what_its_readme_and_its_test_say(written):
    (typed,) = re.findall(r"^  (hvg check .*)$", written.said, re.MULTILINE)
    assert typed in written.text("README.md").splitlines()
    words = ", ".join(f'"{word}"' for word in typed.split()[1:])
    assert f"run([{words}]) == 0" in written.text(f"tests/test_{NAME}.py")
    assert any(word.endswith(f"={NAME}") for word in typed.split())


def test_its_readme_names_what_the_part_is_built_on(written):
    part = written.text(f"hvg_{written.kind}_{NAME}/{NAME}.py")
    (base,) = re.findall(r"^class OfTheLab\((\w+)", part, re.MULTILINE)
    assert f"`python -m pydoc hvg.plugin.{base}`" in written.text("README.md")
    assert issubclass(getattr(plugin, base), registry._interface(written.kind))


@pytest.mark.parametrize(
    ("kind", "said", "silent"),
    [
        ("conditioner", "`hvg show pose=of_the_lab`", "hvg evaluate"),
        ("conditioner", "`hvg train pose=of_the_lab debug=tiny name=try`", "hvg evaluate"),
        ("metric", "`hvg evaluate checkpoint=RUN protocol=of_the_lab`", "hvg train"),
        ("sampler", "`hvg evaluate checkpoint=RUN sampler=of_the_lab`", "hvg show"),
        ("guidance", "`hvg evaluate checkpoint=RUN guidance=of_the_lab`", "hvg train"),
    ],
)
def test_its_readme_says_what_a_part_of_the_kind_is_used_for(kind, said, silent, packages):
    text = packages[kind].text("README.md")
    assert said in text and silent not in text


def test_a_first_try_of_its_readme_is_a_run(installed):
    for words in re.findall(r"`hvg train (.* debug=tiny) name=try`", installed.text("README.md")):
        assert compose(words.split()).training.steps == 2


def test_code_of_every_kind_is_in_order(packages):
    rules = ["--isolated", "--no-cache", "--line-length", "120"]
    own = f"src={json.dumps([str(written.folder) for written in packages.values()])}"
    chosen = ["--select", "E,F,I,UP,B,SIM,RUF", "--ignore", "RUF001,RUF002,RUF003,RUF012", "--config", own]
    place = packages["sampler"].folder.parent
    for words in (["check", *rules, *chosen], ["format", "--check", *rules]):
        done = subprocess.run([sys.executable, "-m", "ruff", *words], cwd=place, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_one_that_is_called_as_something_that_it_imports_gets_another_class(tmp_path):
    for kind, name in (("sampler", "window"), ("metric", "frame_metric"), ("conditioner", "pose_guided")):
        files = new.package_files(kind, name)
        own = "".join(word.capitalize() for word in name.split("_"))
        assert f"class {own}Part(" in files[f"hvg_{kind}_{name}/{name}.py"]
        assert f"import {own}Part\n" in files[f"tests/test_{name}.py"]
        assert f"{name}:{own}Part" in files["pyproject.toml"]
    assert "class NonePart(" in new.package_files("sampler", "none_")["hvg_sampler_none_/none_.py"]
    assert "class Pairs(" in new.package_files("sampler", "pairs")["hvg_sampler_pairs/pairs.py"]


def test_a_second_part_moves_into_the_first_ones_package_as_the_page_says(packages, tmp_path, monkeypatch):
    first, second = packages["conditioner"], packages["sampler"]
    package, moved, site = "hvg_conditioner_of_the_lab", "hvg_sampler_of_the_lab", tmp_path / "site"
    both = shutil.copytree(first.folder, tmp_path / "both", ignore=shutil.ignore_patterns("__pycache__"))
    (both / package / "turns.py").write_text(second.text(f"{moved}/{NAME}.py"))
    (both / package / "conf" / "sampler").mkdir()
    (both / package / "conf" / "sampler" / "turns.yaml").write_text("name: turns\n")
    (line,) = [line for line in first.text("pyproject.toml").splitlines() if line.startswith('"conditioner.')]
    added = f'"sampler.turns" = "{package}.turns:OfTheLab"'
    (both / "pyproject.toml").write_text(first.text("pyproject.toml").replace(line, f"{line}\n{added}"))
    lay_out(both, site)
    monkeypatch.syspath_prepend(site)
    registry._plugins.cache_clear()
    config = compose([f"pose={NAME}", "sampler=turns"])
    assert (config.sampler.name, config.conditioners["pose"].name) == ("turns", NAME)
    registry._plugins.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]


# --- what cannot be written -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "told"),
    [
        ("sampler", "Pairs", "a name of a Python module in small letters, at most 60, as pairs"),
        ("sampler", "myPairs-2", "as my_pairs_2"),
        ("sampler", "2pairs", "as pairs"),
        ("sampler", "lambda", "a name of a Python module"),
        ("sampler", "../pairs", "as pairs"),
        ("sampler", "p" * 61, "at most 60"),
        ("sampler", "true", "it is no word"),
        ("sampler", "nan", "it is no word"),
        ("sampler", "single", "one is called so, of built-in"),
        ("encoder", "skeleton", "pose=skeleton means something else already"),
        ("metric", "basic", "protocol=basic means something else already"),
        ("sampler", "conf", "a module conf is there already"),
        ("sampler", "none", "sampler=none reads as no part"),
        ("metric", "none", "protocol=none reads as no part"),
        ("conditioner", "none", "of built-in"),
        ("conditioner", "all", "pose=all reads as every part of the word"),
        ("conditioner", "pose", "pose= is a key of a run already"),
        ("sampler", "training", "training= is a key of a run already"),
        ("conditioner", "plucker_rays", "camera=plucker_rays means something else already"),
        ("sampler", "torch", "parts import a module that is called so"),
        ("conditioner", "hvg", "of built-in"),
        ("sampler", "hvg", "parts import a module that is called so"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused_in_a_line(kind, name, told, capsys, tmp_path):
    said = refused(capsys, "part", name, f"kind={kind}", f"out={tmp_path / 'new'}")
    assert said.startswith(f"hvg new: '{name}' cannot be the name of a new {kind}: ") and told in said
    assert not (tmp_path / "new").exists()


def test_the_name_of_an_installed_part_is_refused_with_its_package(installed, capsys, tmp_path):
    said = refused(capsys, "part", NAME, f"kind={installed.kind}", f"out={tmp_path / 'new'}")
    assert said.endswith(f"one is called so, of hvg-{installed.kind.replace('_', '-')}-of-the-lab")


def test_a_folder_that_holds_something_is_left_alone(capsys, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "full", tmp_path / "file"):
        said = refused(capsys, "part", NAME, "kind=sampler", f"out={place}")
        assert said == f"hvg new: out={place} is there already, and is no empty folder; give another out="
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    said = refused(capsys, "part", NAME, "kind=sampler", f"out={tmp_path / 'file' / 'new'}")
    assert "is a file, where a folder belongs" in said
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert run(["new", "part", NAME, "kind=sampler", "out=."]) == 0
    assert {path.name for path in Path().iterdir()} == {"pyproject.toml", "README.md", "tests", f"hvg_sampler_{NAME}"}
    monkeypatch.chdir(tmp_path)
    assert run(["new", "part", NAME, "kind=sampler"]) == 0
    assert Path("hvg-sampler-of-the-lab/pyproject.toml").is_file()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["part", NAME, "kind=smapler"], "kind=smapler: no part is of that kind. Did you mean 'sampler'?"),
        (["part", NAME, "kind=logger"], "kind=logger: no part is of that kind."),
        (["part", NAME, "kind=signal"], "kind=signal: no part is of that kind. It is a conditioner: kind=conditioner"),
        (["part", NAME, "kind=pose"], "kind=pose: no part is of that kind. It is a conditioner: kind=conditioner"),
        (
            ["part", NAME],
            "kind= has to be given, as in `hvg new part NAME kind=conditioner`. Known: adapter, alignment,",
        ),
        (["part", NAME, "kid=sampler"], "unknown option 'kid'. Did you mean 'kind'?"),
        (["part"], "expected one name, as in `hvg new part NAME kind=conditioner`, got 'part'"),
        (["part", "kind=sampler"], "expected one name, as in `hvg new part NAME kind=conditioner`, got 'part'"),
        (["pat", NAME, "kind=sampler"], "got 'pat of_the_lab'"),
        (["part", NAME, "kind=sampler", "uot=x"], "unknown option 'uot'. Did you mean 'out'?"),
    ],
)
def test_wrong_words_are_a_line(words, told, capsys):
    assert told in refused(capsys, *words)
