"""A sweep as the command line asks for it: what is judged before anything starts, and what workers are told."""

import json
import os
import shlex

import pytest

from hvg import cli
from hvg.cluster.launch_options import LaunchOptions, SweepOptions
from hvg.commands.words import take_options
from hvg.config.composition import compose
from hvg.config.groups import root_keys
from hvg.core.errors import ConfigError, HvgError
from hvg.sweep.database import use_password
from hvg.sweep.records import folder_name
from hvg.sweep.search import judged_sweep, worker_batch
from hvg.sweep.worker import MetricCourse

RATE = "training.learning_rate=tag(log, interval(1e-4, 1e-2))"
VALIDATED = "training.validate_every=5"


def judged(*words):
    options, words = take_options(words, SweepOptions)
    launch_options, overrides = take_options(words, LaunchOptions)
    return judged_sweep(overrides, options, launch_options)


def test_options_are_no_words_of_a_run():
    own = {*SweepOptions.model_fields, *LaunchOptions.model_fields}
    assert not own & root_keys()
    assert not set(SweepOptions.model_fields) & set(LaunchOptions.model_fields)


def test_a_sweep_is_what_its_words_say():
    sweep = judged(RATE, "pose=bone_map,skeleton", VALIDATED, "name=lr", "output=out", "training.steps=30,70")
    assert (sweep.name, sweep.direction, sweep.steps, sweep.metric_every) == ("lr", "maximize", 70, 5)
    assert sweep.words == (VALIDATED, "output=out")
    assert sweep.url == "sqlite:///out/lr/sweep.db"
    words = sweep.trial_words(["training.learning_rate=0.001", "pose=skeleton", "training.steps=30"], "0003-x")
    config = compose(words)
    assert (config.name, config.pose.name, config.resume) == ("lr/0003-x", "skeleton", "auto")


@pytest.mark.parametrize(
    ("words", "where"),
    [
        ([RATE], "training.validate_every"),
        (["training.learning_rate=interval(-1, 1)", VALIDATED], "training.learning_rate"),
        (["pose=bone_map,skeletn", VALIDATED], "pose"),
        ([RATE, VALIDATED, "training.stps=3"], "training.stps"),
        ([RATE, VALIDATED, "metric=task_loss"], "direction"),
        ([RATE, VALIDATED, "strategy=ddp", "nodes=2", "devices=2"], "strategy.nodes"),
        ([RATE, VALIDATED, "launcher=torchrun"], "launcher"),
        ([RATE, VALIDATED, "launcher=submitit"], "launcher"),
        ([RATE, VALIDATED, "pruner=medain"], "pruner"),
        ([RATE, VALIDATED, "trials=0"], "trials"),
        ([VALIDATED], ""),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_starts(words, where):
    with pytest.raises(ConfigError) as refused:
        judged(*words)
    assert where in [problem.path for problem in refused.value.problems]


def test_every_value_of_a_choice_is_judged():
    with pytest.raises(ConfigError, match="skeletn") as refused:
        judged(VALIDATED, "pose=bone_map,skeletn", "solver=euler,hoin", RATE)
    assert {problem.path for problem in refused.value.problems} == {"pose", "solver"}


def test_the_loss_needs_no_validation():
    assert judged(RATE, "metric=loss").direction == "minimize"


def test_workers_join_the_same_sweep_and_know_no_launcher(tmp_path):
    words = [RATE, "pose=bone_map,skeleton", VALIDATED, "name=lr", f"output={tmp_path}", "trials=7", "wait=false"]
    options, overrides = take_options([*words, "launcher=slurm", "jobs=3"], SweepOptions)
    launch_options, overrides = take_options(overrides, LaunchOptions)
    sweep = judged_sweep(overrides, options, launch_options)
    batch, launch_options = worker_batch(sweep, overrides, launch_options)
    assert len(batch.jobs) == 3 and batch.folder == tmp_path / "lr"
    (command,) = {job.commands for job in batch.jobs}
    module, main, train, multirun, *arguments = command[0]
    assert (module, main, train, multirun) == ("-m", "hvg.cli", "train", "--multirun")
    options, overrides = take_options(arguments, SweepOptions)
    assert (options.trials, options.wait, options.sweep) == (7, False, "optuna")
    again = judged_sweep(overrides, options, LaunchOptions())
    assert again.identity() == sweep.identity()


def test_a_worker_has_the_gpus_of_its_trial():
    words = [RATE, VALIDATED, "strategy=ddp"]
    options, overrides = take_options([*words, "launcher=slurm", "devices=4"], LaunchOptions)
    sweep = judged_sweep(overrides, SweepOptions(), options)
    batch, options = worker_batch(sweep, overrides, options)
    assert batch.jobs[0].processes == (1, 1) and options.gpus_per_node == 4
    assert "strategy.devices=4" in batch.jobs[0].commands[0]


def test_how_workers_would_start_is_shown(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["train", "--multirun", "sweep=optuna", RATE, VALIDATED, "name=lr", "--dry-run"]
    assert cli.run([*words, "launcher=slurm", "jobs=4", "partition=gpu"]) == 0
    script = capsys.readouterr().out
    assert "--array=0-3%4" in script and shlex.quote(RATE) in script and "sweep=optuna" in script
    assert list(tmp_path.iterdir()) == []
    assert cli.run(words) == 1
    assert "launcher=local" in capsys.readouterr().err


def test_a_password_goes_where_no_file_shows_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    monkeypatch.delenv("PGPASSWORD", raising=False)
    assert use_password("postgresql://me@host:5/db") == "postgresql+psycopg://me@host:5/db"
    with monkeypatch.context() as inner:
        inner.setenv("PGPASSWORD", "")
        assert use_password("postgresql://me:se%40cret@host/db") == "postgresql+psycopg://me@host/db"
        assert os.environ["PGPASSWORD"] == "se@cret"
        assert use_password("postgresql://me@host/db?password=other&sslmode=require").endswith("/db?sslmode=require")
        assert os.environ["PGPASSWORD"] == "other"
    assert use_password("sqlite:///runs/lr/sweep.db") == "sqlite:///runs/lr/sweep.db"


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("mysql://me:secret@host/db", "got mysql"),
        ("runs/sweep.db", "no address"),
        ("sqlite://", "name a file"),
        ("sqlite:///:memory:", "name a file"),
        ("postgresql://me:secret@host/db", "hvg\\[postgresql\\]"),
    ],
)
def test_a_storage_that_cannot_be_used_is_named_without_its_password(address, says, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(HvgError, match=says) as refused:
        use_password(address)
    assert "secret" not in str(refused.value)


def test_a_folder_tells_a_trial_by_its_number():
    words = ["training.learning_rate=0.0011584434150587503", "pose=skeleton", "data.grids=[[1,2]]"]
    assert folder_name(12, words) == "0012-learning_rate_0.00116-pose_skeleton-grids___1_2__"
    assert len(folder_name(12, [f"a{i}={'x' * 30}" for i in range(20)])) < 120


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_a_validation_counts_as_it_is(tmp_path):
    path = tmp_path / "metrics.jsonl"
    course = MetricCourse(path, "validation_psnr")
    assert list(course.new()) == [] and course.last() is None
    path.write_text(lines({"step": 0, "loss": 1.0}, {"step": 9, "validation_psnr": 12.0}) + '{"step": 1')
    assert list(course.new()) == [(10, 12.0)]
    with path.open("a") as stream:
        stream.write('0, "loss": 1.0}\n' + lines({"step": 19, "validation_psnr": 13.0}))
    assert list(course.new()) == [(20, 13.0)]
    assert course.last() == 13.0 and course.logged == {"loss", "validation_psnr"}


def test_the_loss_is_a_mean_over_the_last_tenth(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines(*({"step": step, "loss": float(step)} for step in range(100))))
    course = MetricCourse(path, "loss")
    assert len(list(course.new())) == 100
    assert course.last() == sum(range(90, 100)) / 10
    assert course.value(10) == 9.0


def test_a_file_that_a_continued_run_wrote_anew_is_read_from_its_beginning(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines({"step": 0, "loss": 3.0}, {"step": 1, "loss": 2.0}))
    course = MetricCourse(path, "loss")
    assert [step for step, _ in course.new()] == [1, 2]
    (tmp_path / "new").write_text(lines({"step": 0, "loss": 3.0}))
    (tmp_path / "new").replace(path)
    assert [step for step, _ in course.new()] == [1]
