"""What the pages say of files, rooms and imports is so."""

import re
import subprocess
import sys
from pathlib import Path

from test_rooms import DOORS, ROOMS

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def test_the_map_of_rooms_is_the_order_that_is_held():
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "rooms.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert tuple(rows) == ROOMS
    assert {path.parent.name for path in (ROOT / "hvg").glob("*/__init__.py")} - {*DOORS} == {*ROOMS}


def test_files_that_pages_name_are_there():
    named = {(page.name, path) for page in PAGES for path in _paths(page.read_text(encoding="utf-8"))}
    assert len(named) > 40
    assert not sorted((page, path) for page, path in named if not (ROOT / path).exists())


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), (page.name, link)


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


def _paths(text: str) -> set[str]:
    """The files of the tree that a text names."""
    return set(re.findall(r"\b(?:hvg|components|tests)/[\w/]+\.(?:py|yaml)\b", text))
