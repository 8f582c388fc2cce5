"""What a public repository has says what is so: hooks, workflow, citations, changes, pins of the site's environment."""

import os
import re
import tomllib
from pathlib import Path

import yaml

from hvg import plugin

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))
# An experiment of this project's own, which no paper has.
OURS = {"demo", "guided"}


def read(name: str):
    """A YAML file of the repository."""
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def recipe(target: str) -> list[str]:
    """The lines that a target of the Makefile runs, with the names of the environment filled in."""
    (body,) = re.findall(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    return [line.strip().replace("$(BIN)", ".venv/bin").replace("$(VENV)", ".venv") for line in body.splitlines()]


def test_hooks_are_the_checks_of_make_lint_and_none_is_fetched():
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    assert [hook["entry"] for hook in repository["hooks"]] == recipe("lint")
    assert all(hook["language"] == "system" and hook["id"] and hook["name"] for hook in repository["hooks"])


def test_the_workflow_calls_what_ci_calls():
    jobs = read(".github/workflows/ci.yml")["jobs"]
    runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert runs == [".ci/run", "make lint"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    minutes = int(re.findall(r"^LIMIT=(\d+)", (ROOT / ".ci/run").read_text(), re.MULTILINE)[0]) / 60
    assert jobs["test"]["timeout-minutes"] > minutes
    # Whether a commit that a figure names is in the history is asked of all of it.
    assert jobs["test"]["steps"][0]["with"]["fetch-depth"] == 0


def test_ci_runs_targets_that_there_are():
    called = re.findall(r"^\s*run make ([a-z-]+)", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"test", "test-slurm", "test-long", "docs"} == {*called} <= TARGETS


def test_every_experiment_says_whom_to_cite():
    cited = read(".github/CITATION.cff")
    assert cited["cff-version"] == "1.2.0" and cited["message"] and cited["title"] and cited["type"] == "software"
    assert cited["authors"] == [{"name": "The developers of hvg"}]
    assert (
        cited["license"] == tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["license"]
    )
    for reference in cited["references"]:
        assert {"type", "title", "authors", "url", "notes"} <= reference.keys()
        for known in reference.get("identifiers", ()):
            assert re.fullmatch(r"arXiv:\d{4}\.\d{5}", known["value"]) and known["value"][6:] in reference["url"]
    named = set(re.findall(r"experiment=(\w+)", " ".join(reference["notes"] for reference in cited["references"])))
    assert named == {path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")} - OURS


def test_papers_that_are_cited_are_those_of_the_code():
    """No number is made up: each stands where a part or a preset names its source."""
    files = [path for room in ("components", "conf", "docs", "hvg") for path in (ROOT / room).rglob("*.*")]
    text = " ".join(path.read_text(encoding="utf-8") for path in files if path.suffix in (".py", ".yaml", ".md"))
    for reference in read(".github/CITATION.cff")["references"]:
        for known in reference.get("identifiers", ()):
            assert known["value"].partition(":")[2] in text, reference["title"]


def test_changes_tell_of_every_version_of_the_door_for_parts():
    text = (ROOT / "docs" / "CHANGELOG.md").read_text(encoding="utf-8")
    assert all(f"Version {number}" in text for number in range(1, plugin.VERSION + 1))


def test_contributing_is_a_page():
    lines = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()
    assert 40 < len(lines) < 90


def test_the_environment_of_the_site_is_pinned_whole_and_needs_nothing_of_hvg():
    pins = [line for line in (ROOT / ".mkdocs" / "constraints.txt").read_text().splitlines() if line[:1] != "#"]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in pins)
    names = {line.partition("==")[0] for line in pins}
    assert {"mkdocs-material", "mkdocstrings-python"} <= names and not {"torch", "numpy", "hvg"} & names
