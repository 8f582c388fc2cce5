"""Hydra's sweep grammar as parameters of a search, and words that cannot be one."""

import json
from dataclasses import asdict

import pytest

from hvg.config.composition import compose
from hvg.core.errors import ConfigError
from hvg.sweep.space import Choices, Numbers, read_space, space_from_plain

RATE = "training.learning_rate"


@pytest.mark.parametrize(
    ("text", "parameter"),
    [
        ("interval(0, 1)", Numbers("a", 0.0, 1.0)),
        ("tag(log, interval(1e-4, 1e-2))", Numbers("a", 1e-4, 1e-2, log=True)),
        ("int(interval(1, 8))", Numbers("a", 1, 8, whole=True)),
        ("tag(log, int(interval(1, 64)))", Numbers("a", 1, 64, log=True, whole=True)),
        ("range(1, 9, 3)", Numbers("a", 1, 7, step=3, whole=True)),
        ("range(0, 10000000000000)", Numbers("a", 0, 9999999999999, step=1, whole=True)),
        ("range(9, 1, -3)", Numbers("a", 3, 9, step=3, whole=True)),
        ("range(0.1, 0.5, 0.1)", Numbers("a", 0.1, 0.4, step=0.1)),
        ("bone_map,skeleton,null", Choices("a", ("bone_map", "skeleton", "null"))),
        ("choice([1,2], [3,4])", Choices("a", ("[1,2]", "[3,4]"))),
        ("'a b',1,1", Choices("a", ("'a b'", "1"))),
    ],
)
def test_the_grammar_is_hydras(text, parameter):
    space, fixed = read_space([f"a={text}", "b=2", "~c"])
    assert space == (parameter,)
    assert fixed == ("b=2", "~c")
    assert space_from_plain(json.loads(json.dumps([asdict(parameter) for parameter in space]))) == space


def test_values_become_overrides_that_say_exactly_them():
    value = 0.0011584434150587503
    word = Numbers(RATE, 1e-4, 1e-2, log=True).word(value)
    assert compose([word]).training.learning_rate == value
    assert Numbers("a", 0.1, 0.4, step=0.1).word(0.1 + 0.1 + 0.1) == "a=0.3"
    assert Numbers("a", 1, 64, whole=True).word(7.0) == "a=7"
    assert read_space(["+slots.extra.name=a,b"])[0][0].word("b") == "+slots.extra.name=b"


@pytest.mark.parametrize(
    ("words", "where", "says"),
    [
        (["a=interval(3, 1)"], "a", "lower one"),
        (["a=tag(log, interval(0, 1))"], "a", "no logarithm"),
        (["a=tag(fast, interval(0, 1))"], "a", "'fast' means nothing"),
        (["a=range(3, 3)"], "a", "no number"),
        (["a=range(3, 9, 0)"], "a", "no number"),
        (["a=range(0.0, 1.0, 9.094947017729282e-13)"], "a", "holds 1099511627776 numbers; take interval(0.0, 1.0)"),
        (["a=shuffle(1, 2)"], "a", "order of its own"),
        (["a=glob(*)"], "a", "list the values"),
        (["a=1,2", "a=3"], "a", "twice"),
        (["name=x,y"], "name", "folder of its own"),
        (["a=1,2", "resume=auto"], "resume", "resumes"),
        (["a=1"], "", "nothing varies"),
        (["a=1,"], "a=1,", "cannot be read"),
    ],
)
def test_a_wrong_word_is_named(words, where, says):
    with pytest.raises(ConfigError) as refused:
        read_space(words)
    problem = next(problem for problem in refused.value.problems if problem.path == where)
    assert says in problem.message


def test_all_wrong_words_are_named_together():
    with pytest.raises(ConfigError) as refused:
        read_space(["a=interval(3, 1)", "b=tag(log, interval(0, 1))", "name=x,y"])
    assert {problem.path for problem in refused.value.problems} == {"a", "b", "name"}
