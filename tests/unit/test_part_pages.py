"""The parts that pages show can be pasted: each keeps its kind's promises by the test beside it, and is found by its word."""

import ast
import sys

import pytest
from lab_package import PAGES, ROOT, entry_points, files_of, install

from hvg.parts import registry

CODE = [(page, path, text) for page in PAGES for path, text in files_of(page) if path.endswith(".py")]
TESTS = [(page, path, text) for page, path, text in CODE if path.startswith("tests/")]
KEPT = {path.name: path for path in (ROOT / "tests" / "data").glob("plugin*/*/*.py")}


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory):
    """The package of the pages, for the tests of this file."""
    site = tmp_path_factory.mktemp("site-packages")
    install(site)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        registry._plugins.cache_clear()
        yield
    registry._plugins.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_lab"]:
        del sys.modules[name]


def opened(text: str) -> set[str]:
    """The modules of this project that a file imports."""
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {name for name in names if name.partition(".")[0] in ("hvg", "components")}


@pytest.mark.parametrize(("page", "path", "text"), TESTS, ids=[path for _, path, _ in TESTS])
def test_the_test_of_the_page_passes(page, path, text):
    names: dict = {}
    exec(compile(text, f"{page.name}: {path}", "exec"), names)
    tests = [function for name, function in names.items() if name.startswith("test_")]
    assert len(tests) == 1
    tests[0]()


def test_every_kind_that_has_a_page_is_found_by_its_word():
    kinds = {"conditioner", "view_attention", "sampler", "backbone", "dataset", "metric", "reconstructor"}
    parts = [entry.split(".") for entry in entry_points()["hvg.components"]]
    assert {kind for kind, _ in parts} == kinds
    for kind, name in parts:
        assert registry.load(kind, name).__module__ == f"my_lab.{name}"
    assert {path.removeprefix("my_lab/") for _, path, _ in CODE if path.startswith("my_lab/")} == {
        f"{name}.py" for _, name in parts
    }
    assert len(TESTS) == len(parts)


def test_parts_of_pages_import_one_door_and_their_tests_another():
    for _, path, text in CODE:
        allowed = {"hvg.testing", "hvg.plugin"} if path.startswith("tests/") else {"hvg.plugin"}
        assert opened(text) <= allowed and opened(text), path


def test_what_pages_show_is_what_other_tests_install():
    shown = {path.rpartition("/")[2]: text.strip() for _, path, text in CODE if path.startswith("my_lab/")}
    same = {name: KEPT[name].read_text(encoding="utf-8").strip() for name in shown if name in KEPT}
    assert len(same) == 6 and {name: shown[name] for name in same} == same
