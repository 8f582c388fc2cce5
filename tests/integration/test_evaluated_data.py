"""``hvg evaluate`` on clips that share people with training, and on clips that are others on purpose."""

import json
from dataclasses import replace

import pytest

from components.bodies.anny import Anny
from components.datasets.synthetic import Synthetic
from components.renderers.warp import Warp
from hvg import cli
from hvg.data.shard_writing import write_shard
from hvg.parts.context import Context

pytestmark = pytest.mark.long

SHARED = "1 of 2 subjects of test are in train too (train-0000)"
ALLOWED = "evaluation.overlap=allow"


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A folder with the people of all splits, none of them in two."""
    folder = tmp_path_factory.mktemp("shards")
    for split in ("train", "val", "test"):
        config = Synthetic.Config(
            split=split, num_subjects=2, num_held_out_subjects=2, views=2, frames=2, image_size=32, mesh=False
        )
        people = Synthetic(config, Context(body=Anny(), renderer=Warp()))
        write_shard(folder / f"{split}-0.tar", [people.load(i) for i in range(2)], part=(0, 1))
    return folder


@pytest.fixture
def put_in_test(shards):
    """Puts a person of training among those of test, seen anew, for one test."""
    kept = {path: path.read_bytes() for path in shards.glob("test-0.tar*")}
    config = Synthetic.Config(num_subjects=2, clips_per_subject=2, views=2, frames=2, image_size=32, mesh=False)
    people = Synthetic(config, Context(body=Anny(), renderer=Warp()))
    held_out = Synthetic(
        config.model_copy(update={"split": "test", "clips_per_held_out_subject": 1}),
        Context(body=Anny(), renderer=Warp()),
    )
    stranger = replace(people.load(1), clip_id=("test-again",))
    write_shard(shards / "test-0.tar", [held_out.load(0), stranger], part=(0, 1))
    yield
    for path, data in kept.items():
        path.write_bytes(data)


def words_of(tiny, folder, name):
    """Of a run on the folder of shards."""
    own = [word for word in tiny if not word.startswith("dataset.")]
    return [*own, "dataset=shards", f"dataset.path={folder}", f"output={folder / 'runs'}", f"name={name}"]


def test_a_run_on_shared_people_is_refused_or_says_so_everywhere(tiny, shards, put_in_test, capsys):
    words = words_of(tiny, shards, "shared")
    for command in ("train", "check"):
        assert cli.run([command, *words]) == 1
        said = capsys.readouterr()
        assert SHARED in said.err + said.out
    assert cli.run(["train", *words, ALLOWED]) == 0
    assert f"note: {SHARED}" in capsys.readouterr().out
    run = shards / "runs" / "shared"
    assert json.loads((run / "run.json").read_text())["overlap"] == [SHARED]
    assert cli.run(["evaluate", f"checkpoint={run}", f"out={run / 'scores'}"]) == 0
    assert SHARED in capsys.readouterr().out
    assert json.loads((run / "scores" / "results.json").read_text())["overlap"] == [SHARED]


@pytest.fixture(scope="module")
def apart(tiny, shards):
    """A run on people of whom none is in two splits."""
    assert cli.run(["train", *words_of(tiny, shards, "apart")]) == 0
    return shards / "runs" / "apart"


def test_people_that_come_into_the_test_later_are_noticed_by_evaluate(apart, put_in_test, capsys):
    assert json.loads((apart / "run.json").read_text())["overlap"] == []
    assert cli.run(["evaluate", f"checkpoint={apart}", f"out={apart / 'refused'}"]) == 1
    assert SHARED in capsys.readouterr().err
    assert cli.run(["evaluate", f"checkpoint={apart}", ALLOWED, f"out={apart / 'allowed'}"]) == 0
    assert json.loads((apart / "allowed" / "results.json").read_text())["overlap"] == [SHARED]


def test_shifted_test_data_are_scored_on_request_and_never_beside_others(tiny, cache, tmp_path, capsys):
    assert cli.run(["train", *tiny, cache, f"output={tmp_path}", "name=run"]) == 0
    words = ["evaluate", f"checkpoint={tmp_path / 'run'}", "dataset.framing_jitter=0.2"]
    assert cli.run([*words, f"out={tmp_path / 'refused'}"]) == 1
    assert "shift=true" in capsys.readouterr().err
    records = {}
    for name, more in (("plain", words[:2]), ("shifted", [*words, "shift=true", "dataset.views=3"])):
        assert cli.run([*more, f"out={tmp_path / name}"]) == 0
        records[name] = json.loads((tmp_path / name / "results.json").read_text())
    assert records["plain"]["shift"] == {} and records["plain"]["overlap"] == []
    assert records["shifted"]["shift"] == {"dataset.views": [2, 3], "dataset.framing_jitter": [0.0, 0.2]}
    assert len(records["shifted"]["clips"][0]["azimuths"]) == 3
    assert "dataset.framing_jitter=0.2 (trained with 0.0)" in capsys.readouterr().out
    assert cli.run(["compare", str(tmp_path / "plain"), str(tmp_path / "shifted")]) == 1
    assert "on purpose: dataset.views=3" in capsys.readouterr().err
