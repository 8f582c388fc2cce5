"""Every command of every page can be typed: its words are those of the commands, parts and settings that there are."""

import sys
from pathlib import Path

import pytest
from data_set_files import write_models
from lab_package import PAGES as LAB
from lab_package import files_of, install
from laid_out import lay_out
from page_commands import PAGES, ROOT, Command, NotJudged, Runs, commands_of, inline_commands_of, judge

from hvg import cli
from hvg.core.errors import HvgError
from hvg.parts import registry

# Decisions tell what was so when they were made; in their text are commands that were refused, or are gone.
TOLD = [page for page in PAGES if page.parent.name != "decisions"]


@pytest.fixture(scope="module", autouse=True)
def world(tmp_path_factory):
    """A folder with what pages say that lies there: packages of a lab's that are installed, a study, body models."""
    folder, site = tmp_path_factory.mktemp("world"), tmp_path_factory.mktemp("site-packages")
    install(site)
    # What a page shows in full lies there already.
    shown = {Path(path).stem for page in LAB for path, _ in files_of(page)}
    begun = [command for page in PAGES for command in commands_of(page) if command.words[1:3] == ("new", "part")]
    for command in [command for command in begun if command.words[3] not in shown]:
        made = folder / "made" / command.words[3]
        assert cli.run([*command.words[1:], f"out={made}"]) == 0
        lay_out(made, site)
    write_models(folder / "models")
    for path, text in files_of(ROOT / "docs" / "compare.md"):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    (folder / "experiments").symlink_to(ROOT / "experiments")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        patch.chdir(folder)
        registry._plugins.cache_clear()
        yield folder
    registry._plugins.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_lab"]:
        del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_can_be_typed(page, capsys):
    runs, wrong = Runs(), {}
    for command in [*commands_of(page), *(inline_commands_of(page) if page in TOLD else ())]:
        if command.refused:
            capsys.readouterr()
            assert cli.run(command.words[1:]) == 1 and capsys.readouterr().err.strip() == command.refused
            continue
        try:
            judge(command, runs)
        except (HvgError, AssertionError, NotJudged) as error:
            wrong[command.text] = f"{type(error).__name__}: {error}"
    assert not wrong


def test_pages_hold_commands_of_every_kind():
    found = [command for page in PAGES for command in commands_of(page)]
    assert len(found) > 200
    assert {command.words[1] for command in found if command.words[0] == "hvg"} == {*cli.COMMANDS}
    assert {command.words[0] for command in found} > {"hvg", "make", "pip", "torchrun"}


# --- that a command which is wrong is found ---------------------------------------------------------------------------


def of_text(tmp_path: Path, text: str) -> list[Command]:
    page = tmp_path / "page.md"
    page.write_text(text)
    return [*commands_of(page), *inline_commands_of(page)]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("hvg trian pose=skeleton", "no command is named trian"),
        ("hvg train pose=skelton", "no pose is named 'skelton'"),
        ("hvg train training.stepz=3", "unknown key for training"),
        ("hvg train --multirun pose=skeleton,bone_mop", "no pose is named 'bone_mop'"),
        ("hvg sample checkpoint=runs/a reference=me.png motion=walk.npz viws=3", "unknown key or option"),
        ("hvg sample checkpoint=runs/a reference=me.png motion=walk.npz pose=skeleton", "cannot change after training"),
        ("hvg evaluate checkpoint=runs/a protocol=modrn", "no protocol is named 'modrn'"),
        ("hvg study experiments/quickstart arms=[bone_mop]", "bone_mop"),
        ("hvg study experiments/quickstart seeds=[7]", "7"),
        ("hvg show frame=first", "frame"),
        ("hvg bench trainings", ""),
        ("hvg launch train launcher=slum", "launcher"),
        ("make tset", "the Makefile has no such target"),
        ("make test ARG=x", "the Makefile has no such target or variable"),
        ("pip install hvg[nothing]", "hvg\\[nothing\\]"),
        ("python tests/no_such_file.py", "no_such_file"),
        ("hvg train adapter=lora backbone.rank=3", "backbone.rank"),
    ],
)
def test_a_wrong_command_is_found(tmp_path, line, error):
    (command,) = of_text(tmp_path, f"```\n{line}\n```\n")
    with pytest.raises((HvgError, AssertionError, NotJudged), match=error):
        judge(command, Runs())


@pytest.mark.parametrize(
    "text",
    [
        "```\nhvg train\nrm -rf runs\n```\n",
        "```bash\ncurl example.org\n```\n",
        "```text\nhvg train pose=skeleton\n```\n",
    ],
)
def test_a_line_that_nobody_judges_is_found(tmp_path, text):
    with pytest.raises(NotJudged):
        of_text(tmp_path, text)


def test_a_rule_is_asked_for_every_command():
    """A new command needs one, where a page types it."""
    with pytest.raises(NotJudged):
        judge(Command(Path("page.md"), ("git", "push")), Runs())


def test_what_is_no_command_is_none(tmp_path):
    blocks = "```text\nhvg train: 1 problem\nhvg/            the core\n```\n```python\nhvg = 3\n```\n"
    assert of_text(tmp_path, f"{blocks}`hvg COMMAND --help` `hvg train [overrides]`\n") == []


def test_words_of_a_command_are_what_a_shell_would_make_of_them(tmp_path):
    text = "```\nA=1 hvg train 'pose=none' \\\n  seed=3  # why\nhvg show && hvg sweep report lr > out.txt\n"
    text += "hvg sample views=3 ...\n```\nsay `hvg train pose=skeleton`, or\n`make test`."
    found = of_text(tmp_path, text)
    assert [(" ".join(command.words), command.whole) for command in found] == [
        ("hvg train pose=none seed=3", True),
        ("hvg show", True),
        ("hvg sweep report lr", True),
        ("hvg sample views=3", False),
        ("hvg train pose=skeleton", False),
        ("make test", False),
    ]


def test_a_model_is_the_one_that_the_page_has_trained(tmp_path):
    runs = Runs()
    for line in (
        "hvg train +slots.more.name=skeleton name=two",
        "hvg sample checkpoint=runs/two reference=a.png motion=b.npz slots.more.strength=0.5",
    ):
        judge(*of_text(tmp_path, f"```\n{line}\n```\n"), runs)
    (other,) = of_text(tmp_path, "```\nhvg evaluate checkpoint=runs/one slots.more.strength=0.5\n```\n")
    with pytest.raises(HvgError, match="cannot change after training"):
        judge(other, runs)
