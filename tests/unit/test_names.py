"""One rule for the names of which folders and files are made: none climbs out of its folder."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hvg.cli import run
from hvg.cluster.launch import _sweep_name
from hvg.config.composition import compose
from hvg.core.errors import ConfigError, DataError, HvgError
from hvg.core.names import LONGEST, as_name, name_problem, text_word
from hvg.data.shard_writing import write_index, write_shard
from hvg.data.shards import ShardReader, index_path
from hvg.data.signals import NO_SIGNALS
from hvg.sample.camera_paths import read_cameras
from hvg.study.plan import plan
from hvg.study.study_file import load_study, study_name
from hvg.testing import tiny_batch

CLIMBING = ("../../x", ".", "..", "a/..", "a\\..", "/tmp/x", "a//b", "a/", "", ".hidden")
UNUSABLE = ("two\nlines", "a\u202eb", "a\x00b", "${seed}", "x" * (LONGEST + 1))
USABLE = ("run", "lr0.01", "a b", "über", "it's", "a,b=[c]{d}(e)", "=1+1", "x" * LONGEST)


@pytest.mark.parametrize("name", [*CLIMBING, *UNUSABLE])
def test_a_name_stays_in_its_folder(name):
    assert "cannot be a name" in name_problem(name) and "\n" not in name_problem(name)
    assert name_problem(name, folders=True)


@pytest.mark.parametrize("name", USABLE)
def test_other_names_are_left_to_their_users_and_survive_the_command_line(name):
    assert name_problem(name) == ""
    assert name_problem(f"{name}/{name}", folders=True) == "" and name_problem(f"{name}/{name}")
    assert compose([text_word("name", f"sweep/{name}")]).name == f"sweep/{name}"


def test_the_rest_of_a_name_is_cut_where_it_is_too_long():
    assert as_name("a=1/ü") == "a_1_ü"
    assert len(as_name("ü" * 300).encode()) == 100
    words = [f"training.learning_rate={x}" for x in range(50)]
    assert name_problem(_sweep_name([], words, 7), folders=True) == ""


@pytest.mark.parametrize("name", ["../../x", ".", "..", "/tmp/x"])
@pytest.mark.parametrize("key", ["name", "protocol.name"])
def test_names_in_a_configuration(name, key):
    with pytest.raises(ConfigError) as error:
        compose([f"{key}={name}"])
    (problem,) = error.value.problems
    assert problem.path == key and "cannot be a name" in problem.message


@pytest.mark.parametrize("arm", ["../../../escaped", "a/b", "${seed}", "..", "a\nb", ""])
def test_names_of_arms(tmp_path, capsys, arm):
    folder = tmp_path / "study"
    folder.mkdir()
    arms = {"first": ["pose=none"], arm: ["pose=skeleton"]}
    text = {"title": "Arms", "question": "Which?", "varies": ["pose"], "arms": arms}
    (folder / "study.yaml").write_text(json.dumps(text))
    assert run(["study", str(folder), f"output={tmp_path / 'out'}", "--dry-run"]) == 1
    said = capsys.readouterr().err
    assert "arms" in said and "cannot be a name" in said and said.count("\n") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["study"]


def test_an_arm_may_have_any_name_that_is_one(tmp_path, tiny):
    folder = tmp_path / "a study, mine"
    folder.mkdir()
    text = {"title": "A", "question": "?", "varies": [], "base": [*tiny], "arms": {"a,b=[c] über's": []}}
    (folder / "study.yaml").write_text(json.dumps(text))
    (arm,) = plan(load_study(folder), study_name(folder), [])
    assert arm.folder == Path("runs/a study, mine/a,b=[c] über's-seed0")


def test_a_study_is_called_as_its_folder_wherever_one_stands(tmp_path, monkeypatch):
    (tmp_path / "mine" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "mine" / "inner")
    assert (study_name(Path(".")), study_name(Path(".."))) == ("inner", "mine")
    with pytest.raises(HvgError, match=r"the study's folder '.*\$x' cannot be a name"):
        study_name(tmp_path / "$x")


@pytest.mark.parametrize("name", ["../front", "two\nlines", 5, None, ["front"]])
def test_names_of_views(tmp_path, name):
    pose = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]]
    view = {"name": name, "world_to_camera": pose, "intrinsics": [[9, 0, 4], [0, 9, 4], [0, 0, 1]]}
    path = tmp_path / "cameras.json"
    path.write_text(json.dumps({"image_size": [8, 8], "views": [view]}))
    with pytest.raises(DataError, match=r"cameras.json: views\[0\].name: ") as error:
        read_cameras(path)
    assert "\n" not in str(error.value)
    path.write_text(json.dumps({"image_size": [8, 8], "views": [view | {"name": "front left"}]}))
    assert read_cameras(path).names == ("front left",)


@pytest.mark.parametrize("name", ["../../x", "/x", "a/../x", "a\nb", "a.b"])
def test_names_of_clips(tmp_path, name):
    clip = replace(tiny_batch(1), clip_id=("person/one",))
    path = tmp_path / "train-0.tar"
    write_shard(path, [clip])
    text = index_path(path).read_text()
    write_index(path, json.loads(text.replace("person/one", json.dumps(name)[1:-1])))
    with pytest.raises(DataError, match="cannot be a name"):
        ShardReader(path)
    with pytest.raises(DataError, match="cannot be a name"):
        write_shard(tmp_path / "train-1.tar", [replace(clip, clip_id=(name,))])

    class Clips:
        def load(self, index):
            return replace(clip, clip_id=(name,))

    with pytest.raises(DataError, match="cannot be a name"):
        NO_SIGNALS.load(Clips(), 0)  # type: ignore[arg-type]
    assert sorted(found.name for found in tmp_path.iterdir()) == [path.name, index_path(path).name]
