"""Runs as they go on: what their folders say, how much of it a page holds, and when it is written."""

import json
import math
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from written_runs import STEPS, row, save_step, set_failed, set_progress, set_working, write_rows, write_run

from hvg import cli
from hvg.core.locks import locked, worker
from hvg.report import watch_page
from hvg.report.thinned import Thinned
from hvg.report.watch_page import PAGE, BesideWork, WatchPage, sections
from hvg.report.watched_runs import WatchedRun, find_runs


def now(folder: Path):
    return WatchedRun(folder.name, folder).now()


def page_of(folder: Path, **words) -> WatchPage:
    return WatchPage([folder], folder / PAGE, **{"clips": 4, "every": 10.0, **words})


# --- curves -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("most", "count"), [(10, 0), (10, 7), (10, 10), (10, 11), (9, 1000), (10, 12345)])
def test_a_thinned_curve_is_bounded_in_order_and_keeps_the_mean(most, count):
    curve = Thinned(most)
    for x in range(count):
        curve.add(x, 3.0 * x + 1)
    assert len(curve.points) <= most
    if count <= most:
        assert curve.points == [(x, 3.0 * x + 1) for x in range(count)]
    else:
        assert len(curve.points) > most / 2
    places = [x for x, _ in curve.points]
    assert places == sorted(set(places))
    # A line stays a line, but for x, which has one decimal.
    assert all(abs(y - (3 * x + 1)) < 0.2 for x, y in curve.points)


def test_a_curve_that_is_thinned_has_its_ends(tmp_path):
    curve = Thinned(100)
    for x in range(99_999):
        curve.add(x, x)
    assert curve.points[0][0] < 1024 and curve.points[-1][0] > 99_999 - 1024


def test_rows_are_read_once_and_anew_where_the_file_is_another(tmp_path):
    folder = write_run(tmp_path / "run", rows=range(9, 100, 10))
    run, metrics = WatchedRun("run", folder), folder / "metrics.jsonl"
    assert (run.now().step, len(run.now().curves["loss"])) == (100, 10)
    with metrics.open("a") as stream:
        stream.write(json.dumps(row(109, loss=0.5)))
    assert run.now().step == 100, "half a line"
    with metrics.open("a") as stream:
        stream.write("\n")
    found = run.now()
    assert (found.step, found.newest["loss"], found.curves["loss"][-1]) == (110, 0.5, (109, 0.5))
    # Resumed from step 50: written anew, without what is done again.
    (tmp_path / "new").write_text("".join(f"{line}\n" for line in metrics.read_text().splitlines()[:5]))
    (tmp_path / "new").replace(metrics)
    found = run.now()
    assert (found.step, len(found.curves["loss"])) == (50, 5) and "validation_psnr" not in found.newest


def test_a_damaged_line_is_told_and_the_others_are_read(tmp_path):
    folder = write_run(tmp_path / "run", rows=range(5))
    run = WatchedRun("run", folder)
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write("what is this\n")
    write_rows(folder, range(5, 8))
    for _ in range(2):
        found = run.now()
        assert found.text.endswith("'what is this' is no row of numbers with a step; delete that line")
        assert (found.step, len(found.curves["loss"])) == (8, 8)


def test_a_loss_that_is_no_number_is_said_and_not_drawn(tmp_path):
    folder = write_run(tmp_path / "run", rows=range(3))
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write(json.dumps({"step": 3, "loss": math.nan}) + "\n")
    found = now(folder)
    assert math.isnan(found.newest["loss"]) and len(found.curves["loss"]) == 3


# --- states -----------------------------------------------------------------------------------------------------------


def ended() -> int:
    """Number of a process that there is no longer."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_run_does_is_read_from_its_folder(tmp_path):
    folder = write_run(tmp_path / "run", begun=False)
    assert (now(folder).status, now(folder).step, now(folder).steps) == ("waits", 0, STEPS)
    (folder / "run.json").write_text(json.dumps({"steps": 300}))
    write_rows(folder, range(9, 100, 10))
    set_working(folder)
    found = now(folder)
    assert (found.status, found.text, found.step, found.steps) == ("trains", "", 100, 300)
    assert found.seconds_left == 200 * 0.5 and found.written == (folder / "metrics.jsonl").stat().st_mtime
    set_progress(folder, "train", 107, 300)
    assert now(folder).step == 107
    set_working(folder, ended())
    assert now(folder).status == "stopped" and "resume=auto" in now(folder).text
    assert now(folder).seconds_left is None
    save_step(folder, 300)
    assert (now(folder).status, now(folder).step) == ("trained", 300)
    set_working(folder)
    set_progress(folder, "evaluate", 3, 16)
    assert (now(folder).status, now(folder).text) == ("scores", "clip 3 of 16")
    (folder / ".lock").unlink()
    (folder / "results.json").touch()
    assert now(folder).status == "scored"
    set_failed(folder, "DataError: no such shard\n")
    assert (now(folder).status, now(folder).text) == ("failed", "DataError: no such shard")


def test_a_run_with_damaged_notes_is_shown_with_what_is_wrong(tmp_path):
    folder = write_run(tmp_path / "run", rows=range(3))
    (folder / "run.json").write_text("{")
    (folder / "progress.json").write_text("{}")
    found = now(folder)
    assert found.status == "stopped" and found.steps is None
    assert "run.json: damaged" in found.text and "progress.json: damaged" in found.text
    (folder / "run.json").unlink()
    (folder / "config.yaml").write_text("training: 3\n")
    assert "config.yaml: says of no number of steps" in now(folder).text


def test_a_lock_names_the_process_that_has_it(tmp_path):
    path = tmp_path / ".lock"
    assert worker(path) is None
    code = "from pathlib import Path; from hvg.core.locks import worker; print(worker(Path({0!r})))"
    with locked(path):
        asked = subprocess.run([sys.executable, "-c", code.format(str(path))], capture_output=True, text=True)
        assert asked.stdout == f"process {os.getpid()} on {socket.gethostname()}\n"
        # It is as locked as before.
        entered = f"from pathlib import Path; from hvg.core.locks import locked\nwith locked(Path({str(path)!r})): pass"
        refused = subprocess.run([sys.executable, "-c", entered], capture_output=True, text=True)
        assert "is in use by process" in refused.stderr
    assert worker(path) is None
    for text, expected in (("elsewhere 17\n", "process 17 on elsewhere"), ("", None), ("what is this\n", None)):
        path.write_text(text)
        assert worker(path) == expected


def test_runs_are_found_below_a_folder_and_called_by_their_places(tmp_path):
    for name in ("b-seed0", "needs/a-seed0", "tries/first", ".hidden/run"):
        write_run(tmp_path / name)
    write_run(tmp_path / "b-seed0" / "inside")
    assert list(find_runs([tmp_path])) == ["b-seed0", "needs/a-seed0", "tries/first"]
    write_run(tmp_path / "other" / "first")
    both = find_runs([tmp_path / "other", tmp_path / "tries", tmp_path / "tries" / "first"])
    assert list(both) == [str(tmp_path / "other" / "first"), str(tmp_path / "tries" / "first")]


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_shows_every_run_with_its_state_its_numbers_and_its_videos(tmp_path):
    clips = ("val-0", "val<1>")
    write_run(tmp_path / "bone_map", rows=range(9, 200, 10), clips=clips)
    set_working(tmp_path / "bone_map")
    set_failed(write_run(tmp_path / "skeleton", rows=range(9, 60, 10), clips=clips[:1]), "HvgError: <diverged>")
    write_run(tmp_path / "none", begun=False)
    runs = page_of(tmp_path).write(goes_on=True)
    text = (tmp_path / PAGE).read_text()
    assert [run.status for run in runs] == ["trains", "waits", "failed"]
    for part in ("HvgError: &lt;diverged&gt;", "200 of 400", "60 of 400", "val&lt;1&gt;", "skeleton, step 60", "20.50"):
        assert part in text
    assert "<diverged>" not in text and text.count('src="data:video/mp4;base64,') == 3
    assert 'data-seconds="10"' in text
    shown = {heading: [chart.label for chart in charts] for heading, charts in sections(runs)}
    assert shown == {
        "Losses and scores": ["loss (smoothed) over training step", "validation PSNR over training step"],
        "The optimiser": ["learning rate over training step", "gradient norm over training step"],
        "Speed": ["seconds per step over training step", "images per second over training step"],
    }
    (loss, _), *_ = (charts for _, charts in sections(runs))
    assert loss.legend == {"bone_map": 0, "skeleton": 2}, "as in the table of runs"


def test_a_long_run_makes_no_larger_page(tmp_path):
    sizes = []
    for name, count in (("short", 500), ("long", 20_000)):
        write_run(tmp_path / name, rows=range(count))
        page_of(tmp_path / name).write(goes_on=True)
        sizes.append((tmp_path / name / PAGE).stat().st_size)
    assert sizes[1] < 1.01 * sizes[0] < 6_000_000


def test_many_runs_and_large_videos_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(watch_page, "MAX_VIDEO_CHARACTERS", 6000)
    for number in range(20):
        write_run(tmp_path / f"run-{number:02d}", rows=range(number + 1), clips=("a", "b", "c", "d", "e"))
    page_of(tmp_path, clips=2).write(goes_on=False)
    text = (tmp_path / PAGE).read_text()
    assert text.count('<tr><td data-sort="run-') == watch_page.MOST_RUNS == 16
    assert "4 more that have been written to less lately are left out" in text and "3 more clips" in text
    held, linked = text.count("data:video/mp4;base64,"), text.count("(not embedded:")
    assert held > 0 and held + linked == 2 * 16
    assert re.search(r'<a href="run-\d\d/samples/step-\d{7}-[ab]\.mp4">', text)
    assert "data-seconds" not in text and "nothing writes this page any more" in text


def test_the_page_is_written_where_something_has_changed(tmp_path):
    folder = write_run(tmp_path / "run", rows=range(3))
    page = page_of(folder)

    def written(goes_on: bool = True) -> int:
        page.write(goes_on=goes_on)
        return page.path.stat().st_ino

    first = written()
    assert written() == first
    write_rows(folder, range(3, 5))
    second = written()
    assert second != first and written() == second and written(goes_on=False) != second


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_writes_once_or_until_the_runs_have_ended(tmp_path, capsys, monkeypatch):
    folder, slept = write_run(tmp_path / "run", rows=range(3)), []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            (folder / ".lock").unlink()
            save_step(folder, STEPS)

    monkeypatch.setattr("hvg.commands.watch.time.sleep", sleep)
    assert cli.run(["watch", str(folder), "once=true"]) == 0
    assert capsys.readouterr().out == f"wrote {folder / PAGE}\n" and not slept
    assert "data-seconds" not in (folder / PAGE).read_text()
    set_working(folder)
    assert cli.run(["watch", str(folder), "every=3"]) == 0
    # Twice in a row, for what has trained may be about to be scored.
    assert slept == [3, 3, 3] and capsys.readouterr().out.endswith("1 run has ended\n")
    assert "data-seconds" not in (folder / PAGE).read_text() and "trained" in (folder / PAGE).read_text()


def test_ctrl_c_ends_it_well(tmp_path, capsys, monkeypatch):
    folder = write_run(tmp_path / "run", rows=range(3))
    set_working(folder)

    def pressed(seconds: float) -> None:
        assert 'data-seconds="10"' in (folder / PAGE).read_text()
        raise KeyboardInterrupt

    monkeypatch.setattr("hvg.commands.watch.time.sleep", pressed)
    assert cli.run(["watch", str(folder)]) == 0
    assert capsys.readouterr().out.endswith(f"no longer written; {folder / PAGE} stays\n")
    assert "data-seconds" not in (folder / PAGE).read_text()


def test_several_runs_have_a_page_in_the_folder_that_holds_them(tmp_path, capsys):
    for name in ("a/one", "b/two"):
        write_run(tmp_path / name)
    assert cli.run(["watch", str(tmp_path / "a"), str(tmp_path / "b" / "two"), "once=true"]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / PAGE}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give a run, or a folder of several"),
        (["{}/nobody"], "{}/nobody: no such folder. Did you mean 'nobodys'?"),
        (["{}/nobodys"], "{}/nobodys: holds no run; the folder of one has a config.yaml"),
        (["{}/run", "evry=3"], "evry: unknown option. Did you mean 'every'?"),
        (["{}/run", "every=0"], "every: expected greater than or equal to 1"),
        (["{}/run", "out={}/run/config.yaml"], "out: {}/run/config.yaml is no page of `hvg watch`"),
        (["{}/run", "out={}/run"], "out: {}/run cannot be written: it is a folder, expected a file"),
    ],
)
def test_what_cannot_be_watched_is_a_line(tmp_path, capsys, words, message):
    write_run(tmp_path / "run")
    (tmp_path / "nobodys").mkdir()
    assert cli.run(["watch", "once=true", *(word.format(tmp_path) for word in words)]) == 1
    said = capsys.readouterr()
    assert message.format(tmp_path) in said.err and not said.out
    assert not [*tmp_path.rglob(PAGE)]


# --- beside other work ------------------------------------------------------------------------------------------------


def test_work_goes_on_beside_the_page_and_without_it(tmp_path):
    said, told = [], []
    page = page_of(tmp_path, every=1000.0)
    with BesideWork(page, said.append) as work:
        report = work.beside(lambda *words: told.append(words))
        report("arm", 1)
        assert not said and not page.path.exists(), "no run has begun"
        work._due = 0.0
        write_run(tmp_path / "run", rows=range(3))
        report("arm", 2)
        assert said == [f"as it runs: {page.path}"] and "data-seconds" in page.path.read_text()
        seen = page.path.stat().st_ino
        write_rows(tmp_path / "run", range(3, 5))
        report("arm", 3)
        assert page.path.stat().st_ino == seen, "it is not time yet"
    assert told == [("arm", 1), ("arm", 2), ("arm", 3)] and "data-seconds" not in page.path.read_text()


def test_a_page_that_cannot_be_written_is_said_once(tmp_path):
    (tmp_path / "file").touch()
    write_run(tmp_path / "run", rows=range(3))
    said = []
    page = WatchPage([tmp_path], tmp_path / "file" / PAGE, clips=4, every=0.0)
    with BesideWork(page, said.append) as work:
        for number in range(3):
            work.beside(print)(number)
    (line,) = said
    assert line.startswith(f"note: {page.path} is not kept fresh: ")
