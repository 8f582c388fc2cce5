"""One bad option is one problem: overrides beside it that are right are not called unknown."""

import pytest

from hvg.cli import run
from hvg.config.recipes import with_recipe

RIGHT = ("protocol=basic", "evaluation.steps=3", "device=cpu")


@pytest.mark.parametrize(
    ("command", "bad", "problem"),
    [
        ("evaluate checkpoint=a", "clipz=3", "clipz: unknown key or option. Did you mean 'clips'?"),
        ("evaluate checkpoint=a", "clips=x", "clips: expected"),
        ("evaluate predictions=a reference=b", "maks=c", "maks: unknown key or option. Did you mean 'masks'?"),
        ("sample checkpoint=a reference=b motion=c", "viewz=3", "viewz: unknown key or option. Did you mean 'views'?"),
        ("sample checkpoint=a reference=b motion=c", "views=x", "views: expected"),
        ("refine checkpoint=a video=b", "vidoe=3", "vidoe: unknown key or option. Did you mean 'video'?"),
        ("view", "viewz=3", "viewz: unknown key or option. Did you mean 'views'?"),
        ("show", "indx=3", "indx: unknown key or option. Did you mean 'index'?"),
        ("train launcher=local", "jbs=3", "jbs: unknown key or option. Did you mean 'jobs'?"),
    ],
)
def test_one_bad_option_is_one_problem(capsys, command, bad, problem):
    assert run([*command.split(), *RIGHT, bad]) == 1
    said = capsys.readouterr().err
    head, listed, *then = said.splitlines()
    assert head.endswith("1 problem in the configuration:") and listed.startswith(f"  - {problem}")
    # What is unknown is listed by the command's own help.
    assert then == ([f"next: `hvg {command.split()[0]} --help`"] if "unknown" in problem else [])


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("sample recipe=reimagin", "recipe: no recipe is named 'reimagin'. Did you mean 'reimagine'?"),
        ("sample recipe=reimagine recipe=reimagine", "recipe: chosen 2 times: reimagine, reimagine; one is allowed."),
        (
            "train recipe=reimagine",
            "recipe: says how trained models are sampled; `hvg sample` and `hvg evaluate` take it.",
        ),
        ("refine checkpoint=a video=b views=3", "views= cannot be given; the video has its own"),
    ],
)
def test_wrong_words_of_recipes_and_refining_are_told(capsys, words, problem):
    assert run(words.split()) == 1
    said = capsys.readouterr().err
    assert "1 problem in the configuration:" in said and problem in said


def test_what_is_said_beside_a_recipe_holds():
    own = with_recipe(["recipe=reimagine", "refiner.share=0.5", "refiner.checkpoint=video", "steps=4"])
    assert own[-3:] == ["refiner.share=0.5", "refiner.checkpoint=video", "steps=4"]
    assert "refiner=low_frequency" in own and "refiner.share=0.35" not in own and "refiner.strength=0.7" in own
    # Settings of a part that is another one now are none of its.
    other = with_recipe(["recipe=reimagine", "refiner=sdedit", "checkpoint=image"])
    assert other == ["refiner=sdedit", "checkpoint=image"]
    assert with_recipe(["steps=4"]) == ["steps=4"]
