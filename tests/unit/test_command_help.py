"""What ``hvg`` and ``hvg COMMAND --help`` say, and how a command ends that is typed wrong or that nobody reads."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hvg import __version__, cli
from hvg.config.composition import compose

ROOT = Path(__file__).resolve().parents[2]


def said(capsys, *words: str) -> str:
    assert cli.run(words) == 0
    return capsys.readouterr().out


def test_help_is_every_form_of_every_command(capsys):
    text = said(capsys)
    assert said(capsys, "--help") == said(capsys, "help") == text
    assert all(f"\n  {command} " in text for command in cli.COMMANDS)
    assert said(capsys, "--version") == f"hvg {__version__}\n"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_of_a_command_is_its_forms_flags_options_and_overrides(capsys, command):
    text = said(capsys, command, "--help")
    assert text.startswith(f"hvg {command} ") and said(capsys, command, "pose=skeleton", "-h") == text
    forms = [line for line in text.splitlines() if line.startswith("hvg ")]
    assert len(forms) == said(capsys).count(f"\n  {command} ") and all(form.split()[1] == command for form in forms)
    for names in cli.COMMANDS[command].flags:
        assert f"\n  {', '.join(names.split())}\n" in text
    for model in cli.COMMANDS[command].models():
        for key, setting in model.model_fields.items():
            shown = f"\n  {key}=" in text
            assert setting.description and shown == (key not in model.refused)
            assert not shown or setting.description.split()[0] in text
    run = compose()
    choices = {f"{key}={run.resolved()[key]['name']}" for key in ("sampler", "solver", "renderer")}
    assert (choices <= set(text.split())) == (cli.COMMANDS[command].overrides == "run")


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_a_command_is_where_the_table_says(command):
    assert callable(cli.resolve_name(cli.COMMANDS[command].run))


def test_every_class_of_options_is_in_the_help_of_a_command():
    files = [*ROOT.glob("hvg/config/*_options.py"), ROOT / "hvg/cluster/launch_options.py"]
    classes = {name for path in files for name in re.findall(r"^class (\w+Options)\b", path.read_text(), re.MULTILINE)}
    assert classes == {model.__name__ for command in cli.COMMANDS.values() for model in command.models()}


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("evaluate", "  split=test  (train | val | test)"),
        ("evaluate", "  checkpoint=  (Path, required)"),
        ("study", "  launcher=local  (basic | local | torchrun | slurm)"),
        ("train", "  launcher=basic  (basic | local | torchrun | slurm)"),
        ("sample", "  image_size=null  (int | tuple[int, int] | null)"),
        ("launch", "  extra=[]  (tuple[str, ...])"),
    ],
)
def test_an_option_has_its_default_and_type(capsys, command, line):
    assert line in said(capsys, command, "--help").splitlines()


def test_help_imports_neither_torch_nor_what_does_the_work():
    code = (
        "import sys; from hvg.cli import COMMANDS, run\n"
        "for command in COMMANDS: run([command, '--help'])\n"
        "assert not {'torch', 'numpy', 'lightning', 'optuna'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["study", "here", "--dry-rn"],
            "hvg study: there is no flag '--dry-rn' here. Did you mean '--dry-run'? Next: `hvg study --help`",
        ),
        (
            ["list", "--verbos"],
            "hvg list: there is no flag '--verbos' here. Did you mean '--verbose'? Next: `hvg list --help`",
        ),
        (["check", "-x"], "hvg check: there is no flag '-x' here. Known: --help. Next: `hvg check --help`"),
    ],
)
def test_a_wrong_flag_is_a_line(capsys, words, line):
    assert cli.run(words) == 1
    assert capsys.readouterr().err == f"{line}\n"


@pytest.fixture
def unread() -> Iterator[int]:
    """A pipe to write to of which nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("words", [["--help"], ["list", "--verbose"]])
def test_a_process_whose_output_nobody_reads_ends_quietly(words, unread):
    """Short, as when Python writes it at its end; and longer than what Python keeps."""
    done = subprocess.run([sys.executable, "-m", "hvg.cli", *words], stdout=unread, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (cli.UNREAD, "")


@pytest.mark.parametrize("words", [["--help"], ["list"], ["list", "--verbose"], ["train", "--help"]])
def test_output_that_nobody_reads_ends_quietly(words, unread, monkeypatch, capsys):
    with monkeypatch.context() as patch, open(unread, "w", closefd=False) as output:
        patch.setattr(sys, "stdout", output)
        assert cli.run(words) == cli.UNREAD
    assert capsys.readouterr().err == ""


def test_another_pipe_that_broke_is_not_hushed_up(monkeypatch, capfd):
    def broken(words: list[str], flags: frozenset[str]) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(cli, "resolve_name", lambda name: broken)
    with pytest.raises(BrokenPipeError):
        cli.run(["list"])
