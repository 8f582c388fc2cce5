"""What the page on published data sets types fits together, on small files in their layouts."""

import re
from pathlib import Path

import pytest
from data_set_files import SETS, write_models

from hvg.config.composition import compose

PAGE = Path(__file__).resolve().parents[2] / "docs" / "datasets.md"
COMMANDS = re.findall(r"^hvg prepare (dataset=(\w+) .*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
# What small files have not: so many scans and frames.
LARGE = ("dataset.splits=", "dataset.frames=", "jobs=")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize(("command", "name"), COMMANDS, ids=[name for _, name in COMMANDS])
def test_a_command_of_the_page_is_one_that_runs(command, name, tmp_path, models):
    (rules := tmp_path / "rules.txt").write_text("first 1 val\nfirst 1 test\nrest train\n")
    given = {"dataset.root": SETS[name].write(tmp_path, models), "body.path": models, "dataset.splits": rules}
    words = [word for word in command.split() if not word.startswith((*LARGE, *(f"{key}=" for key in given)))]
    config = compose(
        [*words, *(f"{key}={value}" for key, value in given.items() if f"{key}=" in command or "spl" in key)]
    )
    assert config.dataset.name == name and len(config.dataset.cls.holdings(config.dataset.config).sizes) > 0


def test_the_page_types_a_command_for_scans_studios_and_dances():
    assert {name for _, name in COMMANDS} == {"thuman", "mvhumannet", "tiktok"}
