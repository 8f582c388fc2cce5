"""Parts of other packages that are broken: they are named where they are chosen, and hurt nobody else."""

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from hvg import parts, plugin
from hvg.cli import run
from hvg.config.composition import compose
from hvg.core.errors import ConfigError, HvgError
from hvg.parts import registry
from hvg.parts.registry import PartImportError
from hvg.parts.scene import ClipsOf

BROKEN = {
    "leaves": ("import sys\nsys.exit(0)", "cannot be imported: SystemExit: 0"),
    "number": ("Part = 5", "is no subclass of hvg.plugin.Sampler"),
    "module": ("import sys\nPart = sys", "is no subclass of hvg.plugin.Sampler"),
    "bare": ("class Part: pass", "is no subclass of hvg.plugin.Sampler"),
    "settingless": (
        "from hvg.parts.plan import Sampler\nclass Part(Sampler):\n    Config = None\n    windows = None",
        "has a Config that is no subclass of hvg.plugin.PartConfig",
    ),
    "raises": ("raise ValueError('one\\ntwo')", "cannot be imported: ValueError: one two"),
}


@pytest.fixture
def broken(package):
    package({f"sampler.{name}": source for name, (source, _) in BROKEN.items()})


def bomb(folder: Path) -> Path:
    """A file of a few lines that stands for 10^9 values; in the place of a part's that is installed."""
    place = next(folder.glob("site-packages/lab_*/conf/sampler")) / "bomb.yaml"
    rows = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    rows += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    place.write_text("\n".join(["name: bomb", *rows]))
    return place


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_part_is_named_where_it_is_chosen(broken, name):
    with pytest.raises(PartImportError, match=rf"the sampler '{name}' of package 'lab_.*{BROKEN[name][1]}") as error:
        registry.load("sampler", name)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=f"the sampler '{name}' of package"):
        compose([f"sampler={name}"])


def test_broken_parts_hurt_nobody_else(broken, tmp_path, capsys):
    place = bomb(tmp_path)
    assert compose([]).sampler.name != "bomb"
    assert run(["list", "sampler", "--verbose"]) == 0
    manual = capsys.readouterr().out
    assert not {name for name, (_, message) in BROKEN.items() if message not in manual}
    assert f"{place}: cannot be read as YAML: aliases" in manual and "sampler progressive (built-in)" in manual
    with pytest.raises(ConfigError, match=r"bomb\.yaml: cannot be read as YAML: aliases \(\*a0\) are not read"):
        compose(["sampler=bomb"])


def test_two_packages_with_one_name_hurt_who_chooses_it(package, tmp_path):
    source = "from hvg.parts.plan import Sampler\nclass Part(Sampler): pass"
    package({"sampler.twice": source})
    other = tmp_path / "site-packages" / "other-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (other / "entry_points.txt").write_text("[hvg.components]\nsampler.twice = other.module:Part\n")
    registry._plugins.cache_clear()
    assert "twice" in registry.names("sampler")
    with pytest.raises(
        HvgError, match=r"two installed packages register the sampler 'twice': lab_.* and other\.module:Part"
    ):
        registry.load("sampler", "twice")


@pytest.mark.long
def test_a_module_that_leaves_python_ends_training_with_its_name(broken, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "hvg.cli", "train", "sampler=leaves", "debug=tiny", f"output={tmp_path}"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{Path(__file__).parents[2]}:{tmp_path / 'site-packages'}", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 1 and "the sampler 'leaves' of package" in done.stderr


def test_classes_that_a_message_names_are_those_of_the_door():
    """``interface_problem`` names interfaces, their Configs, and the bases that ask for methods."""
    for module in pkgutil.iter_modules(parts.__path__, f"{parts.__name__}."):
        importlib.import_module(module.name)
    named = {cls for kind in registry.KINDS for cls in (registry._interface(kind), registry._interface(kind).Config)}
    bases = [*named]
    for base in bases:
        bases += [cls for cls in base.__subclasses__() if cls.__module__.startswith("hvg.") and cls not in bases]
    named |= {cls for cls in bases if any(registry._is_abstract(cls, method) for method in dir(cls))}
    # Those are made in the code, and chosen by nobody.
    named = {cls for cls in named if not issubclass(cls, ClipsOf)}
    elsewhere = {cls for cls in named if getattr(plugin, cls.__name__, None) is not cls}
    assert {cls.__module__ for cls in elsewhere} == registry.BUILT_IN_ALONE
    assert {registry._opened(cls) for cls in elsewhere} == {f"{cls.__module__}.{cls.__name__}" for cls in elsewhere}
