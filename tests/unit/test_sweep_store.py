"""The trials of a sweep in a real SQLite file: who gets which, what becomes of dead workers', and how many there are."""

import math
import os
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from hvg.cluster.launch_options import LaunchOptions, SweepOptions
from hvg.config.composition import compose
from hvg.core.checkpoint import checkpoint_path
from hvg.core.errors import HvgError
from hvg.model.checkpoint_writing import write_checkpoint
from hvg.sweep import database
from hvg.sweep.database import LostTrialError
from hvg.sweep.search import judged_sweep
from hvg.sweep.store import SweepStore, stored_sweep
from hvg.sweep.worker import work

WORDS = [
    "training.learning_rate=tag(log, interval(1e-4, 1e-2))",
    "pose=bone_map,skeleton",
    "training.validate_every=10",
]


@pytest.fixture(scope="module")
def judged():
    """A judged sweep of 100 steps; judging again and again would take longer than the tests."""
    return judged_sweep([*WORDS, "training.steps=100"], SweepOptions(), LaunchOptions())


@pytest.fixture
def sweep(judged, tmp_path):
    """The sweep with other options, in a folder of the test's own."""

    def change(**options):
        return replace(judged, folder=tmp_path / "lr", name="lr", options=SweepOptions(**{"trials": 4, **options}))

    return change


def psnr(trial):
    """A made-up result: best at a learning rate of 1e-3."""
    rate = float(trial.words[0].partition("=")[2])
    return 20.0 - (math.log10(rate) + 3) ** 2


def finish(sweep, worker="a"):
    """Trains all that is left, and returns the trials."""
    store = SweepStore(sweep)
    while (trial := store.claim(worker)) is not None:
        trial.report(100, psnr(trial))
        trial.complete(psnr(trial))
    return store.record().trials


def results(trials):
    return [(trial.words, trial.state, trial.value) for trial in trials]


def test_a_sweep_has_as_many_trials_as_it_was_asked_for_and_can_get_more(sweep):
    trials = finish(sweep())
    assert [trial.index for trial in trials] == [0, 1, 2, 3]
    assert all(trial.state == "complete" and trial.course == ((100, trial.value),) for trial in trials)
    more = finish(sweep(trials=6))
    assert results(more[:4]) == results(trials) and len(more) == 6


def test_the_best_are_first_and_known_without_the_command(sweep):
    finish(sweep(trials=12))
    record = stored_sweep(sweep().url, None)
    values = [trial.value for trial in record.ranked]
    assert values == sorted(values, reverse=True) and len(values) == 12
    assert record.metric == "validation_psnr" and record.space == sweep().space
    assert set(record.importance) == {"training.learning_rate", "pose"}
    assert sum(record.importance.values()) == pytest.approx(1)
    with pytest.raises(HvgError, match="it has lr"):
        stored_sweep(sweep().url, "other")


def test_proposals_follow_from_the_seed_whatever_stops_in_between(sweep, judged, tmp_path):
    options = {"trials": 4, "search_startup": 2, "lease": 1000.0}
    whole = finish(sweep(**options))
    assert len({trial.words for trial in whole}) == 4
    again = replace(sweep(**options), folder=tmp_path / "again")
    for reason in ("stopped", "failed"):
        trial = SweepStore(again).claim("b")
        trial.fail("exit code 1") if reason == "failed" else trial.give_back("its worker was stopped")
    stopped = finish(again)
    assert results(stopped) == results(whole)
    assert stopped[0].starts == 3
    other = finish(replace(sweep(**options, search_seed=1), folder=tmp_path / "other"))
    assert {trial.words for trial in other}.isdisjoint(trial.words for trial in whole)


@pytest.mark.long
def test_tpe_looks_near_the_best(sweep, judged, tmp_path):
    def mean(search):
        trials = finish(replace(sweep(trials=24, search=search), folder=tmp_path / search))[12:]
        return sum(trial.value for trial in trials) / len(trials)

    assert mean("tpe") > mean("random")


def test_a_dead_workers_trial_goes_on_in_its_folder_and_counts_once(sweep):
    store = SweepStore(sweep(lease=0.3))
    dead = store.claim("dead")
    other = store.claim("alive")
    assert other.index == 1
    dead.report(10, 7.0)
    time.sleep(0.5)
    other.beat()
    assert store.record().trials[0].state == "running" and store.unfinished() == 2
    taken = store.claim("alive")
    assert (taken.index, taken.words, taken.folder) == (0, dead.words, dead.folder)
    # The one that was thought dead learns of it, and does no harm.
    with pytest.raises(LostTrialError):
        dead.report(20, 8.0)
    with pytest.raises(LostTrialError):
        dead.complete(8.0)
    taken.report(10, 7.0)
    taken.complete(9.0)
    other.complete(9.5)
    trials = finish(sweep(lease=0.3))
    assert [(trial.index, trial.state) for trial in trials] == [(i, "complete") for i in range(4)]
    assert (trials[0].value, trials[0].starts, trials[1].starts) == (9.0, 2, 1)


def test_a_trial_over_which_workers_die_ends_as_failed(sweep):
    store = SweepStore(sweep(trials=1, lease=0.05, deaths=2))
    for _ in range(3):
        assert store.claim("dead").index == 0
        time.sleep(0.1)
    assert store.claim("alive") is None
    (trial,) = store.record().trials
    assert trial.state == "failed" and "died 3 times" in trial.note and trial.starts >= 3


def test_a_failed_trial_is_started_again_as_often_as_asked(sweep):
    store = SweepStore(sweep(trials=1, retries=2))
    for again in (True, True, False):
        trial = store.claim("a")
        assert trial.index == 0
        assert trial.fail("exit code 1: out of memory") is again
    assert store.claim("a") is None and store.unfinished() == 0
    (record,) = store.record().trials
    assert (record.state, record.note, record.starts) == ("failed", "exit code 1: out of memory", 3)


def test_what_is_hopeless_is_not_started_again(sweep):
    store = SweepStore(sweep(trials=1))
    assert store.claim("a").fail("no such part", again=False) is False
    assert store.claim("a") is None


def test_a_bad_trial_is_pruned_by_what_others_had_at_the_step(sweep):
    store = SweepStore(sweep(trials=3, pruner="median", prune_startup=2))
    for value in (10.0, 11.0):
        trial = store.claim("a")
        assert not trial.report(10, value)
        trial.complete(value)
    trial = store.claim("a")
    assert trial.report(10, 5.0)
    trial.prune("stopped at step 10 by pruner=median")
    record = store.record()
    assert [t.state for t in record.trials] == ["complete", "complete", "pruned"]
    assert len(record.ranked) == 2 and "median" in record.trials[2].note


@pytest.mark.parametrize("pruner", ["none", "percentile", "halving", "hyperband"])
def test_every_pruner_can_be_asked(sweep, pruner):
    store = SweepStore(sweep(trials=4, pruner=pruner, prune_startup=2))
    stopped = 0
    for index in range(4):
        trial = store.claim("a")
        if any(trial.report(step, 20.0 - 3 * index) for step in (10, 30, 90)):
            trial.prune("stopped")
            stopped += 1
        else:
            trial.complete(20.0 - 3 * index)
    assert (stopped > 0) is (pruner != "none")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"words": ("training.validate_every=5",)}, "words"),
        ({"direction": "minimize"}, "direction"),
        ({"space": ()}, "space"),
        ({"options": SweepOptions(metric="loss")}, "metric"),
    ],
)
def test_another_sweep_of_the_same_name_is_refused(sweep, change, named):
    finish(sweep(trials=1))
    with pytest.raises(HvgError, match=f"other settings \\({named}\\)"):
        SweepStore(replace(sweep(), **change))
    assert len(finish(sweep(trials=2, pruner="median", search="random"))) == 2


def test_workers_at_once_share_the_trials(sweep):
    shared, children = sweep(trials=9, lease=60.0), []
    for number in range(3):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                finish(shared, f"worker {number}")
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    trials = stored_sweep(shared.url, "lr").trials
    assert [(trial.index, trial.state, trial.starts) for trial in trials] == [(i, "complete", 1) for i in range(9)]
    assert len({trial.words for trial in trials}) == 9


def test_a_trial_does_not_go_on_from_that_of_another_space(sweep, tmp_path, capsys):
    """The folder of a first trial holds a checkpoint that was trained with another weight decay."""
    ours = replace(sweep(trials=1), words=(f"output={tmp_path}", "training.steps=100", "device=cpu"))
    (trial,) = finish(replace(ours, folder=tmp_path / "elsewhere"))
    run = tmp_path / "lr" / trial.folder
    text = compose([*ours.trial_words(trial.words, trial.folder), "training.weight_decay=0.5"]).to_yaml()
    write_checkpoint(checkpoint_path(run / "checkpoints", 7), {"config": text, "global_step": 7})
    assert work(ours, SweepStore(ours)) == 0
    (refused,) = stored_sweep(ours.url, "lr").trials
    assert refused.state == "failed" and refused.starts == 1 and refused.words == trial.words
    assert "optimizer.weight_decay: was 0.5, now 0.01" in refused.note
    assert "weight_decay" in capsys.readouterr().out


# --- storages that cannot be used ---


def changed(path, *statements):
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def damage(path, kind):
    """Makes a sweep's good storage one that cannot be used; what is returned has to be kept meanwhile."""
    if kind in ("garbage", "truncated", "empty", "of something else"):
        path.write_bytes({"garbage": bytes(range(256)) * 20, "truncated": path.read_bytes()[:5000]}.get(kind, b""))
    if kind in ("a folder", "a pipe"):
        path.unlink()
        path.mkdir() if kind == "a folder" else os.mkfifo(path)
    if kind == "of something else":
        changed(path, "CREATE TABLE people (name)")
    if kind == "of another version":
        changed(path, "UPDATE version_info SET schema_version = 1", "DELETE FROM alembic_version")
    if kind == "no JSON":
        changed(path, "UPDATE study_user_attributes SET value_json = '{'")
    if kind == "no record":
        changed(path, "UPDATE study_user_attributes SET value_json = '{\"space\": 5}'")
    if kind == "locked":
        connection = sqlite3.connect(path)
        connection.execute("BEGIN EXCLUSIVE")
        return connection
    if kind == "held by a stopped worker":
        hold = f"import fcntl; f = open({str(path) + '.lock'!r}, 'a+'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
        holder = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert holder.stdout is not None and holder.stdout.readline()
        return holder
    return None


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("garbage", "file is not a database"),
        ("truncated", "malformed"),
        ("a folder", "no regular file"),
        ("a pipe", "no regular file"),
        ("of something else", "holds no sweeps, but people"),
        ("of another version", "no longer compatible with the table schema"),
        ("no JSON", "cannot be used"),
        ("no record", "its record in the storage is damaged|with other settings"),
        ("locked", "database is locked"),
        ("held by a stopped worker", "is in use by another process"),
    ],
)
def test_a_storage_that_cannot_be_used_is_one_line(sweep, monkeypatch, kind, message):
    SweepStore(sweep())
    path = sweep().folder / "sweep.db"
    monkeypatch.setattr(database, "LONGEST_WAIT", 0.1)
    kept = damage(path, kind)
    for use in (lambda: stored_sweep(sweep().url, "lr"), lambda: SweepStore(sweep()).record()):
        with pytest.raises((HvgError, OSError), match=message) as error:
            use()
        assert "\n" not in str(error.value)
    if isinstance(kept, subprocess.Popen):
        kept.communicate()
    elif kept is not None:
        kept.close()


def test_reading_a_storage_makes_no_tables_in_it(sweep):
    path = sweep().folder / "sweep.db"
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(HvgError, match="holds no sweeps"):
        stored_sweep(sweep().url, "lr")
    assert path.read_bytes() == b""
