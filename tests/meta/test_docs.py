"""What the pages say of files, words, rooms and imports is so, and links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from lab_package import PAGES as LAB
from lab_package import files_of
from test_rooms import DOORS, ROOMS

from hvg.commands.table import COMMANDS
from hvg.core.shipped import CONF

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").glob("*.md")])
LINKED = [*PAGES, *sorted((ROOT / "experiments").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)\s#:]*)(?:#([^)\s]+))?\)")
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def test_the_map_of_rooms_is_the_order_that_is_held():
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "rooms.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert tuple(rows) == ROOMS
    assert {path.parent.name for path in (ROOT / "hvg").glob("*/__init__.py")} - {*DOORS} == {*ROOMS}


def test_files_that_pages_name_are_there():
    pages = [page for page in PAGES if page.parent.name != "decisions"]
    named = {(page.name, path) for page in pages for path in _paths(page.read_text(encoding="utf-8"))}
    # Those of a lab's package are shown where they are named.
    shown = {path for page in LAB for path, _ in files_of(page)}
    assert len(named) > 40
    assert not sorted((page, path) for page, path in named if path not in shown and not (ROOT / path).exists())


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    for link, heading in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        target = (page.parent / link) if link else page
        assert target.exists(), link
        assert not heading or heading in _headings(target), f"{link}#{heading}"


def test_every_page_stands_in_the_list_of_pages_once():
    """From which the site has its order."""
    links = [link for link, _ in LINK.findall((ROOT / "docs" / "README.md").read_text(encoding="utf-8"))]
    listed = [(ROOT / "docs" / link).resolve() for link in links if link != "../README.md"]
    assert len({*listed}) == len(listed)
    pages = {page for page in PAGES if page.name != "README.md" and page.parent.name != "decisions"}
    assert {*listed} == pages | {ROOT / "experiments" / "README.md"}


def test_the_table_of_words_has_every_word_with_all_its_options():
    text = (ROOT / "docs" / "words.md").read_text(encoding="utf-8")
    rows = {group: words.split() for group, words in re.findall(r"^\| `(\w+)=` \| ([^|]+) \|", text, re.MULTILINE)}
    groups = [folder for folder in CONF.iterdir() if folder.is_dir() and folder.name != "at_scale"]
    assert rows == {folder.name: sorted(path.stem for path in folder.glob("*.yaml")) for folder in groups}


def test_words_of_the_readme_are_among_them():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`\w+=`[^|]*) \| [^|]+ \| ([^|]+) \|", text, re.MULTILINE)
    assert len(rows) > 9
    for keys, examples in rows:
        groups = re.findall(r"`(\w+)=`", keys)
        for word in " ".join(re.findall(r"`([^`]+)`", examples)).split():
            assert any((CONF / group / f"{word}.yaml").is_file() for group in groups), (groups, word)


def test_the_table_of_commands_has_every_command():
    rows = re.findall(r"^\| `hvg (\w+)", (ROOT / "docs" / "commands.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {*rows} == {*COMMANDS}


def test_a_file_that_is_not_there_is_found():
    assert _paths("read `hvg/types.py` and (hvg/core/errors.py).") == {"hvg/types.py", "hvg/core/errors.py"}


def test_counting_and_loading_a_checkpoint_need_nothing_of_training():
    """One process for both: it imports for seconds."""
    rooms = "hvg.sample.generate, hvg.score.evaluation, hvg.pipeline"
    code = "import sys, hvg.cost.forecast; print([m for m in ('lightning', 'transformers') if m in sys.modules])\n"
    # Counting knows how strategies share weights; nothing else of training.
    code += f"counted = {{'hvg.train', 'hvg.train.shares'}}; import {rooms}; all = set(sys.modules) - counted\n"
    code += "print([m for m in all if m.startswith(('hvg.train', 'deepspeed'))])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-2:] == ["[]", "[]"], done.stdout + done.stderr


def test_a_network_is_made_without_the_compiler_which_is_there_when_it_is_asked_for():
    """One process for both: it imports for seconds."""
    code = (
        "import sys\n"
        "from hvg.config import build\n"
        "from hvg.config.composition import compose\n"
        "config = compose(['debug=tiny'])\n"
        "build.build_parts(config)\n"
        "print('torch._dynamo' in sys.modules, 'diffusers.models.resnet' in sys.modules)\n"
        "import torch\n"
        "print(torch.compile(lambda x: x + 1, backend='eager')(torch.ones(1)).item())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["False True", "2.0"], done.stdout + done.stderr


@pytest.mark.parametrize(
    ("heading", "name"),
    [
        ("## Captured cameras: `known=FOLDER`", "captured-cameras-knownfolder"),
        ("# THuman2.0 and 2.1", "thuman20-and-21"),
        ("### A part of one's own", "a-part-of-ones-own"),
    ],
)
def test_headings_have_the_names_that_links_use(tmp_path, heading, name):
    (page := tmp_path / "page.md").write_text(f"{heading}\n\n```\n# no heading\n```\n")
    assert _headings(page) == {name}


def _headings(page: Path) -> set[str]:
    """The names by which links find a page's headings, as GitHub makes them: letters, numbers, hyphens for spaces."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower().replace("`", "")).strip().replace(" ", "-") for title in titles}


def _paths(text: str) -> set[str]:
    """The files of the tree that a text names."""
    return set(re.findall(r"\b(?:hvg|components|tests)/[\w/]+\.(?:py|yaml)\b", text))
