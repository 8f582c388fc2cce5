"""The package of a lab's own that the pages on parts describe: every file that they title, laid out as pip would."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "docs" / "parts.md", *sorted((ROOT / "docs" / "parts").glob("*.md")), ROOT / "docs" / "stages.md"]
TITLED = re.compile(r"^```\w+ title=\"([^\"]+)\"\n(.*?)^```", re.MULTILINE | re.DOTALL)


def files_of(page: Path) -> list[tuple[str, str]]:
    """Path in the package and text of every file that a page shows; one path may be shown in pieces, or more than once."""
    return TITLED.findall(page.read_text(encoding="utf-8"))


def entry_points() -> dict[str, dict[str, str]]:
    """Group -> name -> what it names, of what all pages say of pyproject.toml."""
    found: dict[str, dict[str, str]] = {}
    for text in [text for page in PAGES for path, text in files_of(page) if path == "pyproject.toml"]:
        for group, entries in tomllib.loads(text)["project"]["entry-points"].items():
            found.setdefault(group, {}).update(entries)
    return found


def install(site: Path) -> None:
    """Writes the package of all pages into a folder that Python looks into."""
    for path, text in [found for page in PAGES for found in files_of(page)]:
        if path.startswith("my_lab/"):
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_text(text, encoding="utf-8")
    for folder in [site / "my_lab", *(path for path in (site / "my_lab").rglob("*") if path.is_dir())]:
        (folder / "__init__.py").touch()
    about = site / "my_lab-0.1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-lab\nVersion: 0.1\n")
    lines = [
        line for group, names in entry_points().items() for line in (f"[{group}]", *map(" = ".join, names.items()))
    ]
    (about / "entry_points.txt").write_text("\n".join(lines))
