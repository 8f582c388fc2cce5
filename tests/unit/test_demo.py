"""What ``hvg demo`` brings and asks for, and the command that makes it."""

import json
import re
from pathlib import Path

import pytest
import torch
from untrained_checkpoints import write_untrained

from hvg import cli
from hvg.commands.words import options_and_overrides, take_options
from hvg.config.command_options import SampleOptions
from hvg.config.composition import compose
from hvg.config.demo_options import DemoOptions
from hvg.core.errors import HvgError
from hvg.geometry.motion_files import load_motion
from hvg.media.images import picture_size, read_image_8bit
from hvg.model.load import load_exported, load_system
from hvg.sample.demo import FOLDER, MODEL, RECORD, as_sampled, as_words, demo_files

LARGEST = 8e6


def options(*words: str) -> DemoOptions:
    return take_options(words, DemoOptions)[0]


def test_the_model_and_the_people_are_there_and_small():
    files = demo_files()
    assert files.model.parent == FOLDER and len(files.people) >= 1
    assert sum(path.stat().st_size for path in files.model.rglob("*") if path.is_file()) < LARGEST
    weights = list(files.model.rglob("*.safetensors"))
    assert len(weights) == 1
    for photo, motion in files.people:
        _, alpha = read_image_8bit(photo)
        assert alpha is not None and 0 < alpha.float().mean() < 128 and picture_size(photo) == (256, 256)
        brought = load_motion(motion)
        assert brought.own_body is not None and brought.num_frames >= 8 and brought.frames_per_second == 8
        assert brought.own_body.skinning is not None and "rotations" in brought.own_body.parameters


def test_what_is_there_says_how_it_was_made_and_on_no_machine_s_folder():
    record = json.loads((FOLDER / RECORD).read_text())
    assert record["dtype"] == "float16" and record["weights"] == "ema" and record["trained"]["packages"]["torch"]
    assert re.match(r"[0-9a-f]{40}", record["trained"]["commit"]) and re.match(
        r"[0-9a-f]{40}", record["made"]["commit"]
    )
    assert len(record["clips"]) == len(demo_files().people) and all(
        clip.startswith("test-") for clip in record["clips"]
    )
    for path in FOLDER.rglob("*.json"):
        assert not re.search(r'"/|/home|/root|/tmp|/work', path.read_text()), path
    # Nobody imports from the middle of the package.
    assert not list(FOLDER.rglob("*.py"))


def test_a_demo_is_a_sample_of_what_is_brought():
    photo, motion = demo_files().people[0]
    asked = as_sampled(options("out=here", "seed=3", "views=2"))
    assert isinstance(asked, SampleOptions) and not isinstance(asked, DemoOptions)
    assert (asked.checkpoint, asked.reference, asked.motion) == (demo_files().model, (photo,), motion)
    assert (asked.out, asked.seed, asked.views, asked.grid, asked.images) == (Path("here"), 3, 2, True, False)
    # The words that ask for the same.
    program, command, *words = as_words(asked, ["sampler=view"]).split()
    again, overrides = options_and_overrides(words, SampleOptions)
    assert (program, command) == ("hvg", "sample") and again == asked and overrides == ["sampler=view"]


def test_what_is_said_holds():
    mine = as_sampled(
        options("checkpoint=runs/me", "reference=[a.png,b.png]", "motion=w.npz", "stride=2", "grid=false")
    )
    assert (mine.checkpoint, mine.motion, mine.stride) == (Path("runs/me"), Path("w.npz"), 2)
    assert mine.reference == (Path("a.png"), Path("b.png")) and not mine.real_time and not mine.grid
    driven = as_sampled(options("driving=v.mp4"))
    assert driven.motion is None and driven.driving == Path("v.mp4") and not driven.real_time
    assert as_sampled(options()).real_time
    assert as_sampled(options("checkpoint=null", "reference=null")) == as_sampled(options())


def test_nobody_else_is_brought(capsys):
    count = len(demo_files().people)
    assert cli.run(["demo", f"subject={count}"]) == 1
    assert capsys.readouterr().err == f"hvg demo: subject={count}: hvg brings {count} people; give 0 to {count - 1}\n"


def test_files_that_are_gone_are_a_line(tmp_path):
    with pytest.raises(HvgError, match=f"{tmp_path}: the demo's files are not all there; .* hvg demo make={tmp_path} "):
        demo_files(tmp_path)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine").touch()
    assert cli.run(["demo", f"out={tmp_path}"]) == 1
    assert f"out: {tmp_path} is not empty (it holds mine)" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.fixture(scope="module")
def checkpoint(tiny, tmp_path_factory) -> Path:
    """A run that nobody trained, with the record of a run."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    config = compose([*tiny, "pose=smpl_normal", "name=untrained", "evaluation.weights=raw"])
    write_untrained(config, folder / "checkpoints" / "step-0000002.ckpt", 0.02)
    (folder / "run.json").write_text(json.dumps({"commit": "c" * 40, "command": "hvg train x=/home/me", "seed": 0}))
    return folder


@pytest.fixture(scope="module")
def made(checkpoint, tmp_path_factory) -> Path:
    """What the command makes of it, of the second of two people."""
    folder = tmp_path_factory.mktemp("made") / "files"
    words = [
        f"make={folder}",
        f"checkpoint={checkpoint}",
        "subjects=[1]",
        "frames=3",
        "sampler=view",
        "sampler.views=1",
    ]
    assert cli.run(["demo", *words]) == 0
    return folder


def test_the_command_makes_all_that_is_brought(checkpoint, made):
    files = demo_files(made)
    assert [path.name for path in sorted(made.iterdir())] == ["demo.json", "model", "people"]
    assert not list(made.rglob("*.py")) and not list(made.parent.glob(".*"))
    record = json.loads((made / RECORD).read_text())
    assert record["run"] == "untrained" and record["trained"] == {"commit": "c" * 40, "seed": 0}
    assert record["clips"] == ["test-0001-0"] and record["overrides"] == ["sampler=view", "sampler.views=1"]
    ((photo, motion),) = files.people
    brought = load_motion(motion)
    assert brought.num_frames == 3 and brought.own_body is not None and brought.own_body.bone_radii is not None
    colours, alpha = read_image_8bit(photo)
    assert alpha is not None and bool((alpha == 255).any()) and bool((alpha == 0).any())
    # What is behind the person is not in their colours: at an edge they are no nearer to white than inside.
    edge, inside = (alpha[0] > 100) & (alpha[0] < 200), alpha[0] == 255
    assert colours[:, edge].float().mean() < colours[:, inside].float().mean() + 40


def test_the_model_is_the_run_s_in_half_precision(checkpoint, made):
    system, config = load_exported(made / MODEL)
    assert config.sampler.name == "view" and config.name == "untrained"
    kept = load_system(checkpoint, "raw")[0].state_dict()
    for name, weight in system.named_parameters():
        assert weight.dtype == torch.float32 and torch.equal(weight, kept[name].half().float()), name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["make={made}", "checkpoint={run}"], "make={made}: exists already; give the name of a new folder"),
        (
            ["make={new}", "checkpoint={run}", "subjects=[5]"],
            "subjects=[5]: the test split has 2 clips; give numbers from 0 to 1",
        ),
        (["make={new}", "checkpoint=none"], "none: no such checkpoint"),
        (["make={new}", "checkpoint={run}", "pose=skeleton"], "cannot change after training"),
        (["make={new}", "checkpoint={run}", "fraems=3"], "fraems: unknown key or option. Did you mean 'frames'?"),
    ],
)
def test_a_wrong_word_of_making_is_named_and_nothing_is_left(checkpoint, made, tmp_path, capsys, words, said):
    places = {"made": made, "run": checkpoint, "new": tmp_path / "new"}
    assert cli.run(["demo", *(word.format(**places) for word in words)]) == 1
    assert said.format(**places) in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_demo_ends_with_videos_and_where_they_are(tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.run(["demo", f"out={out}", "views=2", "frames=2", "steps=1"]) == 0
    said = capsys.readouterr().out
    names = {"view-00.mp4", "view-01.mp4", "tiled.mp4", "signals.mp4", "grid.mp4", "grid.webp", "photo_as_seen.png"}
    assert {path.name for path in out.iterdir()} == names | {"cameras.json", "sample.json"}
    assert f"to look at: {out / 'grid.webp'} in a browser, {out / 'grid.mp4'} in a player\n" in said
    assert f"with files of your own: hvg sample checkpoint={demo_files().model} reference=" in said
    assert "no body model is built" in said
