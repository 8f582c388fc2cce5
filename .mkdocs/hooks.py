"""What `make docs` tells MkDocs: which files are pages, where they stand on the site, and in which order.

Pages are written as they read in the repository: links lead from file to file. Here each link becomes one of the site.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
INDEX = "docs/README.md"
# Files of the repository that stand elsewhere on the site; of docs/ all others stand where they lie.
MOVED = {
    "README.md": "index.md",
    INDEX: "pages.md",
    ".github/CONTRIBUTING.md": "contributing.md",
    ".mkdocs/site.css": "site.css",
}
STUDIES = ("experiments/README.md", "experiments/*/README.md", "experiments/*/*.png", "experiments/*/*.webp")
# What a page would fetch from another machine.
FETCHED = re.compile(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"?(?:https?:)?//[^>]*>")
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
CODE_IN_ROW = re.compile(r"`[^`]*`")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The pages in the order of docs/README.md; behind them the decisions and the studies."""
    text = (ROOT / INDEX).read_text(encoding="utf-8")
    sections = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)[1:]
    config.nav = ["index.md"]
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        links = [_resolved(INDEX, link) for _, link, _ in LINK.findall(body)]
        pages = [_on_site(link) for link in links if link.endswith(".md")]
        config.nav.append({title: [*dict.fromkeys(pages)]})
    config.nav.append({"Studies": [_on_site(path) for path in _found(STUDIES) if path.endswith(".md")]})
    config.nav.append(
        {"Decisions": ["decisions/index.md", *(_on_site(path) for path in _found(("docs/decisions/0*.md",)))]}
    )
    config.nav.append({"All pages": "pages.md"})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what does not lie in docs/, and a list of the decisions; docs/README.md has another name on the site."""
    files.remove(files.get_file_from_path("README.md"))
    for path in [*MOVED, *_found(STUDIES)]:
        files.append(File.generated(config, _on_site(path), abs_src_path=str(ROOT / path)))
    rows = [f"- [{_title(path)}]({PurePosixPath(path).name})" for path in _found(("docs/decisions/0*.md",))]
    text = "\n".join(
        [
            "# Decisions",
            "",
            "Why things are as they are, one page each, in the order in which they were made.",
            "",
            *rows,
        ]
    )
    files.append(File.generated(config, "decisions/index.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with links of the site. A pipe in code needs no backslash in a row of a table, as it does elsewhere."""
    source = next((path for path, uri in MOVED.items() if uri == page.file.src_uri), None)
    source = source or (
        page.file.src_uri if page.file.src_uri.startswith("experiments/") else f"docs/{page.file.src_uri}"
    )
    here = posixpath.dirname(page.file.src_uri)

    def changed(link: re.Match) -> str:
        path, hash_sign, anchor = link[2].partition("#")
        if not path or ":" in path:
            return link[0]
        return (
            f"{link[1]}{posixpath.relpath(_on_site(_resolved(source, path)), here or '.')}{hash_sign}{anchor}{link[3]}"
        )

    lines = LINK.sub(changed, markdown).split("\n")
    return "\n".join(
        CODE_IN_ROW.sub(lambda code: code[0].replace("\\|", "|"), line) if line.startswith("|") else line
        for line in lines
    )


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """The page as it is. Raises: PluginError where whoever reads it would ask another machine for something."""
    found = FETCHED.search(output)
    if found:
        raise PluginError(f"{page.file.src_uri} fetches {found[0]}")
    return output


def _resolved(page: str, link: str) -> str:
    """The file of the repository to which a page's link leads."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link.partition("#")[0]))


def _on_site(path: str) -> str:
    """Where a file of the repository stands on the site."""
    return MOVED.get(path) or path.removeprefix("docs/")


def _found(patterns: tuple[str, ...]) -> Iterator[str]:
    for pattern in patterns:
        yield from sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern))


def _title(path: str) -> str:
    number = int(PurePosixPath(path).name[:4])
    first = (ROOT / path).read_text(encoding="utf-8").splitlines()[0]
    return f"{number}. {first.lstrip('# ')}"
