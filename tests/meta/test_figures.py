"""Figures on a page are from a commit that is there, and those of a study are what its kept results give."""

import re
import subprocess
from pathlib import Path

import pytest

from hvg.report.tables import results_markdown
from hvg.study.kept_seeds import read_kept
from hvg.study.merged_seeds import merged, shown_in
from hvg.study.study_file import load_study

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"\bcommit\s+`([0-9a-f]{7,40})(?:\+changes)?`")
STUDIES = sorted(path.parent for path in ROOT.glob("experiments/*/study.yaml"))
READMES = [ROOT / "docs" / "first_steps.md", *(study / "README.md" for study in STUDIES)]
PAGES = sorted((ROOT / "docs").glob("*.md"))
DECISIONS = sorted(ROOT.glob("docs/decisions/*.md"))


def git(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)


def has_history() -> bool:
    """Whether this is a checkout with every commit before it, rather than an archive or a shallow clone."""
    shallow = git("rev-parse", "--is-shallow-repository")
    return (ROOT / ".git").exists() and shallow.returncode == 0 and shallow.stdout.strip() == "false"


def named_commits(path: Path) -> set[str]:
    return set(NAMED.findall(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", READMES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_page_with_figures_names_the_commit_that_they_are_from(path):
    assert named_commits(path)


def test_the_commits_that_figures_are_from_are_in_the_history():
    if not has_history():
        pytest.skip("not a checkout with its history")
    # Of a merge that rewrote it, a commit may lie about without being part of this history.
    known = git("rev-list", "HEAD").stdout.split()
    missing = {
        f"{path.relative_to(ROOT)}: {commit}"
        for path in {*READMES, *PAGES, *DECISIONS}
        for commit in named_commits(path)
        if not any(full.startswith(commit) for full in known)
    }
    assert not missing


@pytest.mark.parametrize("folder", STUDIES, ids=lambda path: path.name)
def test_a_readme_shows_what_the_kept_seeds_give(folder):
    study = load_study(folder)
    kept = read_kept(folder, study.seeds)
    if kept:
        readme = (folder / "README.md").read_text(encoding="utf-8")
        found = results_markdown(merged(study, folder.name, kept))
        assert readme == shown_in(readme, found), f"hvg study {folder.relative_to(ROOT)} merge=true writes it"


def test_a_commit_is_found_where_the_line_breaks():
    assert NAMED.findall("at commit\n`b9bf728`, and at commit `0123456789+changes`; not `deadbee`") == [
        "b9bf728",
        "0123456789",
    ]
