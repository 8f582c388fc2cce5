"""One bad option is one problem: overrides beside it that are right are not called unknown."""

import pytest

from hvg.cli import run

RIGHT = ("protocol=basic", "evaluation.steps=3", "device=cpu")


@pytest.mark.parametrize(
    ("command", "bad", "problem"),
    [
        ("evaluate checkpoint=a", "clipz=3", "clipz: unknown key or option. Did you mean 'clips'?"),
        ("evaluate checkpoint=a", "clips=x", "clips: expected"),
        ("evaluate predictions=a reference=b", "maks=c", "maks: unknown key or option. Did you mean 'masks'?"),
        ("sample checkpoint=a reference=b motion=c", "viewz=3", "viewz: unknown key or option. Did you mean 'views'?"),
        ("sample checkpoint=a reference=b motion=c", "views=x", "views: expected"),
        ("show", "indx=3", "indx: unknown key or option. Did you mean 'index'?"),
        ("train launcher=local", "jbs=3", "jbs: unknown key or option. Did you mean 'jobs'?"),
    ],
)
def test_one_bad_option_is_one_problem(capsys, command, bad, problem):
    assert run([*command.split(), *RIGHT, bad]) == 1
    said = capsys.readouterr().err
    assert "1 problem in the configuration:" in said and problem in said and said.count("\n") == 2
