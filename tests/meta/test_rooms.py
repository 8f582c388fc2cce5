"""hvg has rooms: each imports from those above it alone, wherever in a file it does, and nothing stands in the corridor."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# From the one that everybody opens to the one that opens all others.
ROOMS = (
    "core",
    "values",
    "media",
    "geometry",
    "parts",
    "config",
    "data",
    "model",
    "train",
    "cost",
    "score",
    "sample",
    "view",
    "cluster",
    "report",
    "study",
    "sweep",
    "bench",
    "commands",
)
# At the top of hvg/, for who stands outside; no room opens them.
DOORS = ("__init__", "cli", "pipeline", "plugin", "testing")
# What parts may open: what they are written against, what flows through them, and, for datasets, shards.
FOR_PARTS = ("core", "values", "media", "geometry", "parts", "data")
# And systems, whose steps lie in the room of models.
FOR_SYSTEMS = (*FOR_PARTS, "config", "model")
HVG = sorted(path.relative_to(ROOT) for path in (ROOT / "hvg").rglob("*.py"))
COMPONENTS = sorted(path.relative_to(ROOT) for path in (ROOT / "components").rglob("*.py"))


def opened(text: str) -> Iterator[str]:
    """What a file opens of hvg: rooms and doors, also inside functions and for type checkers."""
    for node in ast.walk(ast.parse(text)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            top, _, inner = name.partition(".")
            if top == "hvg" and inner not in ("", "__version__"):
                yield inner.partition(".")[0]


def allowed(path: Path) -> tuple[str, ...]:
    """The rooms that a file may open, its own among them."""
    top, place = path.parts[0], path.with_suffix("").parts[1]
    if top == "components":
        return FOR_SYSTEMS if path.parts[1] == "systems" else FOR_PARTS
    return ROOMS[: ROOMS.index(place) + 1] if place in ROOMS else (*ROOMS, *DOORS)


def forbidden(path: Path, text: str) -> list[str]:
    """The rooms and doors that a file of this text at ``path`` opens and may not."""
    return sorted({room for room in opened(text) if room not in allowed(path)})


@pytest.mark.parametrize("path", [*HVG, *COMPONENTS], ids=str)
def test_a_room_opens_rooms_above_it_alone(path):
    assert not forbidden(path, (ROOT / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("hvg/core/files.py", "from hvg.values.clip import ClipBatch"),
        ("hvg/parts/model.py", "from hvg.config import settings"),
        ("hvg/model/load.py", "import hvg.train.run"),
        ("hvg/config/wiring.py", "def late():\n    from hvg.score.protocol import Protocol"),
        ("hvg/report/results.py", "if TYPE_CHECKING:\n    from hvg.study.plan import ArmRun"),
        ("hvg/sample/export.py", "from hvg.pipeline import HumanVideoPipeline"),
        ("hvg/commands/check.py", "from hvg import cli"),
        ("components/samplers/single.py", "from hvg.model.sampling import sample"),
        ("components/samplers/single.py", "from hvg import testing"),
        ("components/systems/avatar.py", "from hvg.train.run import train"),
    ],
)
def test_a_planted_arrow_is_seen(path, text):
    assert forbidden(Path(path), text)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("hvg/parts/model.py", "from hvg.values.clip import ClipBatch\nfrom hvg.parts import registry"),
        ("hvg/core/provenance.py", "import hvg\nfrom hvg import __version__"),
        ("hvg/cli.py", "from hvg.commands import check"),
        ("hvg/testing/scene.py", "from hvg.model.sampling import sample"),
        ("components/datasets/shards.py", "from hvg.data.shards import ShardReader"),
        ("components/systems/avatar.py", "from hvg.model.avatar import AvatarSystem"),
    ],
)
def test_an_arrow_up_the_list_is_let_through(path, text):
    assert not forbidden(Path(path), text)


def test_everything_stands_in_a_room():
    places = {path.relative_to(ROOT / "hvg").parts[0] for path in (ROOT / "hvg").rglob("*.py")}
    assert {place.removesuffix(".py") for place in places} <= {*ROOMS, *DOORS}
    assert set(ROOMS) <= places


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_is_and_imports_nothing(room):
    (said,) = ast.parse((ROOT / "hvg" / room / "__init__.py").read_text(encoding="utf-8")).body
    assert isinstance(said, ast.Expr) and isinstance(said.value, ast.Constant)
