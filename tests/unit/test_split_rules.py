"""Who is trained on and who is tested: rules that come with hvg, and one's own."""

from collections import Counter

import pytest

from components.datasets.custom_humans import CustomHumans
from components.datasets.mvhumannet import Mvhumannet
from components.datasets.mvhumannet_pp import MvhumannetPp
from components.datasets.thuman import Thuman
from components.datasets.two_k2k import TwoK2k
from hvg.core.errors import DataError
from hvg.core.shipped import COMPONENTS
from hvg.data.split_rules import by_rules

THUMAN = [f"{number:04d}" for number in range(2445)]
K2K = [f"train-{number:05d}" for number in range(2000)] + [f"test-{number:05d}" for number in range(50)]
OUTFITS = [f"{number}" for number in range(100001, 109001)]


@pytest.mark.parametrize(
    ("config", "names", "counts"),
    [
        (Thuman.Config(root="x"), THUMAN, (1900, 20, 43)),
        (Thuman.Config(root="x", version="2.0"), THUMAN[:526], (500, 6, 20)),
        (Thuman.Config(root="x", splits="gas"), THUMAN, (2325, 20, 100)),
        (CustomHumans.Config(root="x"), THUMAN[:646], (625, 10, 2)),
        (TwoK2k.Config(root="x", fits="y"), K2K, (1950, 50, 50)),
        (TwoK2k.Config(root="x", fits="y", splits="hvg"), K2K, (1980, 20, 5)),
        (TwoK2k.Config(root="x", fits="y", splits="hvg"), THUMAN[:2050], (1980, 20, 5)),
        (Mvhumannet.Config(root="x", splits="hvg"), OUTFITS, (5000, 25, 25)),
        (Mvhumannet.Config(root="x", splits="gas"), OUTFITS, (876, 20, 48)),
        (MvhumannetPp.Config(root="x"), [f"train-{n}" for n in OUTFITS[:900]] + ["test-1", "test-2"], (850, 50, 2)),
    ],
)
def test_published_numbers(config, names, counts):
    found = Counter(by_rules(config.rules, names, 0).values())
    assert tuple(found[split] for split in ("train", "val", "test")) == counts


def test_every_file_of_rules_says_where_it_is_from():
    files = sorted((COMPONENTS / "datasets" / "splits").glob("*.txt"))
    assert files and all(path.read_text(encoding="utf-8").startswith("# ") for path in files)


def test_the_first_of_hvg_are_trained_on_and_no_draw_takes_them():
    owners = by_rules(Thuman.Config(root="x").rules, THUMAN, 0)
    assert {owners[name] for name in THUMAN[:1900]} == {"train"}
    assert all(int(name) >= 1900 for name, split in owners.items() if split == "test")


def test_a_draw_goes_by_the_names_and_the_seed(tmp_path):
    rules = tmp_path / "mine.txt"
    rules.write_text("draw 20 test\nrest train\n")
    whole = by_rules(rules, THUMAN, 0)
    without = by_rules(rules, THUMAN[:-1], 0)
    assert sum(whole[name] != without[name] for name in THUMAN[:-1]) <= 1
    assert whole == by_rules(rules, THUMAN[::-1], 0) != by_rules(rules, THUMAN, 1)


def test_names_and_patterns_and_numbers(tmp_path):
    rules = tmp_path / "mine.txt"
    rules.write_text("# a remark\na person train\nb-* val # and another\n0010-12 test\n\nfirst 1 val\n")
    names = ["a person", "b-1", "b-2", "9", "0010", "12", "13"]
    assert by_rules(rules, names, 0) == {
        **{"a person": "train", "b-1": "val", "b-2": "val", "0010": "test", "12": "test", "9": "val"}
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0000 training", "line 1 is '0000 training'; expected 'NAME SPLIT'"),
        ("train", "line 1 is 'train'; expected"),
        ("rest test\n0001 train", "line 2 puts '0001' into train, an earlier one into test"),
        ("someone else train", "names none of the 2445 that are there, such as '0000'"),
        ("", "names none of the 2445"),
    ],
)
def test_a_line_that_is_none_is_told(tmp_path, text, told):
    rules = tmp_path / "mine.txt"
    rules.write_text(text)
    with pytest.raises(DataError) as error:
        by_rules(rules, THUMAN, 0)
    assert told in str(error.value) and str(rules) in str(error.value)


def test_rules_that_nobody_has_are_told():
    with pytest.raises(DataError, match="hgv: there is no such file of splits, and no data set has rules of that name"):
        by_rules(Thuman.Config(root="x", splits="hgv").rules, THUMAN, 0)
