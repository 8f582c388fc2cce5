"""The report of a sweep, its table and charts, and the file for W&B, from records of sweeps that never ran."""

import csv
import io
import os
import re
import shlex
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
import yaml
from plotly.offline import get_plotlyjs

from hvg import cli
from hvg.cluster.launch_options import LaunchOptions, SweepOptions
from hvg.config.composition import compose
from hvg.core.errors import HvgError
from hvg.sweep.charts import parallel_chart
from hvg.sweep.records import SweepRecord, TrialRecord
from hvg.sweep.report_page import rerun_command, trials_csv, write_sweep_report
from hvg.sweep.search import judged_sweep
from hvg.sweep.space import Choices, Numbers
from hvg.sweep.wandb_file import wandb_sweep

RATE, POSE = "training.learning_rate", "pose"


def trial(index, rate, pose, state="complete", value=None, note="", course=()):
    words = (f"{RATE}={rate}", f"{POSE}={pose}")
    values = {RATE: rate, POSE: pose}
    return TrialRecord(index, words, values, state, value, course, f"{index:04d}-x", 1, note, 60.0)


@pytest.fixture
def record():
    """Five trials: the second is the best, one was stopped, one failed."""
    return SweepRecord(
        name="<lr>",
        folder=Path("runs/lr"),
        words=("scale=cpu", "training.validate_every=5"),
        space=(Numbers(RATE, 1e-4, 1e-2, log=True), Choices(POSE, ("bone_map", "skeleton"))),
        metric="validation_psnr",
        direction="maximize",
        trials=(
            trial(0, 1e-4, "bone_map", value=14.0, course=((5, 12.0), (10, 14.0))),
            trial(1, 1e-3, "skeleton", value=17.5, course=((5, 13.0), (10, 17.5))),
            trial(2, 1e-2, "bone_map", value=16.0),
            trial(3, 5e-3, "skeleton", "pruned", 9.0, "stopped at step 5 by pruner=median"),
            trial(4, 2e-3, "bone_map", "failed", None, "exit code 1: <out of memory>"),
        ),
        importance={RATE: 0.75, POSE: 0.25},
    )


@pytest.fixture
def page(record, tmp_path):
    return write_sweep_report(record, tmp_path).read_text()


def test_trials_stand_by_result_and_the_best_can_be_trained_again(page, record):
    table = page[page.index('<table id="trials">') : page.index("</table>")]
    assert re.findall(r'data-trial="trial (\d)"', table) == ["1", "2", "0"]
    assert "<h1>&lt;lr&gt;</h1>" in page and "Best so far: 17.50, trial 1" in page
    command = rerun_command(replace(record, name="lr"), record.ranked[0])
    assert shlex.split(command)[:2] == ["hvg", "train"]
    config = compose(shlex.split(command)[2:])
    assert (config.training.learning_rate, config.pose.name, config.name) == (1e-3, "skeleton", "lr-0001")
    word = shlex.quote("name='<lr>-0001'")
    assert unescape(page).count(f"pose=skeleton {word}") == 1


def test_what_did_not_end_is_counted_and_said_why(page):
    assert all(f"<b>{count}</b> {state}" in page for count, state in ((3, "complete"), (1, "pruned"), (1, "failed")))
    assert "stopped at step 5 by pruner=median" in page and "exit code 1: &lt;out of memory&gt;" in page


def test_a_report_that_cannot_be_written_is_told_in_one_line(record, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(HvgError, match=r"the sweep's folder: .*file is a file, where a folder belongs"):
        write_sweep_report(record, tmp_path / "file")


def test_importance_is_named_and_left_out_where_it_says_nothing(page, record, tmp_path):
    assert "PED-ANOVA" in page and "0.75" in page
    few = write_sweep_report(replace(record, importance={}), tmp_path).read_text()
    assert "PED-ANOVA" not in few and "3 trials have trained to their end" in few


def test_a_sweep_without_a_result_has_a_report(record, tmp_path):
    page = write_sweep_report(replace(record, trials=record.trials[3:], importance={}), tmp_path).read_text()
    assert "No result yet" in page and 'class="chart' not in page and "out of memory" in page
    assert "0 trials" in write_sweep_report(replace(record, trials=(), importance={}), tmp_path).read_text()


def test_the_page_needs_nothing_from_elsewhere(page):
    own = page.replace(get_plotlyjs(), "").replace("http-equiv", "")
    assert not re.findall(r'(?:src|href)="(?!\d{4}-x/)', own)
    assert "http" not in own
    assert "default-src 'none'" in page and len(page.encode()) < 8_000_000


def test_the_table_of_all_trials_reads_back(record):
    rows = list(csv.DictReader(io.StringIO(trials_csv(record))))
    assert [row["state"] for row in rows] == [trial.state for trial in record.trials]
    assert [row["validation_psnr"] for row in rows] == ["14.0", "17.5", "16.0", "9.0", ""]
    assert [float(row[RATE]) for row in rows] == [trial.values[RATE] for trial in record.trials]
    assert rows[4]["note"] == "exit code 1: <out of memory>"
    assert all(row["command"] == rerun_command(record, trial) for row, trial in zip(rows, record.trials, strict=True))


def heights(record):
    """Trial -> share of each axis that is below its line."""
    return {trace.name: list(trace.y) for trace in parallel_chart(record).figure.data if trace.name}


def test_axes_run_upwards_by_logarithm_and_by_name(record):
    trials = (
        trial(0, 1e-4, "bone_map", value=1.0),
        trial(1, 1e-3, "skeleton", value=2.0),
        trial(2, 1e-2, "skeleton", value=3.0),
        trial(3, 1e-3, "bone_map", "pruned", 9.0),
        trial(4, 1e-1, "bone_map", "failed"),
    )
    record = replace(record, trials=trials, metric="<psnr>")
    assert heights(record) == {
        "trial 0": pytest.approx([0.0, 0.25, 0.0]),
        "trial 1": pytest.approx([0.5, 0.75, 0.5]),
        "trial 2": pytest.approx([1.0, 0.75, 1.0]),
        "trial 3": pytest.approx([0.5, 0.25]),
    }
    figure = parallel_chart(record).figure
    stopped, worst, _, best = figure.data[:4]
    assert (stopped.line.dash, best.line.dash) == ("dash", "solid")
    assert (worst.name, best.name) == ("trial 0", "trial 2") and worst.line.color != best.line.color
    assert best.hovertext == f"trial 2<br>{RATE} 0.01<br>{POSE} skeleton<br>&lt;psnr&gt; 3.000"
    # The scales beside the axes are those that the lines are drawn by.
    scales = [figure.layout[f"yaxis{number}"] for number in (2, 3, 4)]
    assert [scale.range for scale in scales] == [(-4, -2), (-0.5, 1.5), (1, 3)]
    assert scales[0].type == "log" and scales[1].ticktext == ("bone_map", "skeleton")
    assert [scale.position for scale in scales] == [0, 0.5, 1]
    turned = heights(replace(record, direction="minimize"))
    assert turned["trial 0"][2] > turned["trial 1"][2] > turned["trial 2"][2]
    assert parallel_chart(replace(record, trials=trials[3:])) is None


def test_a_diverged_trial_does_not_press_the_others_together(record):
    trials = [trial(i, float(i + 1), "skeleton", value=1.0 + 0.1 * i) for i in range(5)]
    trials.append(trial(5, 9.0, "skeleton", value=1e9))
    found = heights(replace(record, trials=tuple(trials), direction="minimize"))
    assert found["trial 0"][2] > found["trial 4"][2] + 0.15
    assert found["trial 5"][2] == min(line[2] for line in found.values()) == 0


# --- W&B --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wandb_words():
    return [
        "scale=cpu",
        "training.validate_every=5",
        f"{RATE}=tag(log, interval(1e-4, 1e-2))",
        "training.final_learning_rate=interval(0, 1)",
        "training.warmup_steps=int(interval(0, 20))",
        "training.steps=tag(log, int(interval(10, 1000)))",
        "data.batch_size=range(1, 7, 2)",
        "pose=bone_map,null",
        "name=l r",
    ]


@pytest.fixture(scope="module")
def wandb_file(wandb_words):
    text = wandb_sweep(judged_sweep(wandb_words, SweepOptions(trials=9, pruner="hyperband"), LaunchOptions()))
    return yaml.safe_load(text)


def test_the_space_is_the_same_in_wandbs_words(wandb_file):
    assert wandb_file["method"] == "bayes" and wandb_file["run_cap"] == 9
    assert wandb_file["metric"] == {"name": "validation_psnr", "goal": "maximize"}
    assert wandb_file["early_terminate"] == {"type": "hyperband", "min_iter": 1, "eta": 3}
    parameters = wandb_file["parameters"]
    assert parameters[RATE] == {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2}
    assert parameters["training.final_learning_rate"] == {"distribution": "uniform", "min": 0.0, "max": 1.0}
    assert parameters["training.warmup_steps"] == {"distribution": "int_uniform", "min": 0, "max": 20}
    assert parameters["data.batch_size"] == {"values": [1, 3, 5]}
    assert parameters["pose"] == {"values": ["bone_map", "null"]}
    steps = parameters["training.steps"]["values"]
    assert steps[0] == 10 and steps[-1] == 1000 and steps == sorted(set(steps))
    assert all(isinstance(value, int) for value in steps)


def test_what_wandbs_agent_would_start_trains_what_it_proposed(wandb_file, tmp_path):
    """The agent's own functions fill in the command; a program called hvg writes down how it was called."""
    # Late: it takes seconds to import, in every process that collects tests.
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    proposed = {RATE: 0.002, "training.final_learning_rate": 0.5, "training.warmup_steps": 3, "training.steps": 35}
    proposed |= {"data.batch_size": 3, "pose": "null"}
    filled = create_sweep_command_args({"args": {key: {"value": value} for key, value in proposed.items()}})
    filled["env"] = ["/usr/bin/env"]
    command = []
    for word in create_sweep_command(list(wandb_file["command"])):
        macro = re.fullmatch(r"\$\{(\w+)\}", word)
        command += filled[macro[1]] if macro else [word]
    program = tmp_path / "hvg"
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {tmp_path}/called\n")
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "WANDB_RUN_ID": "x1y2"}
    assert subprocess.run(command, env=environment).returncode == 0
    train, *words = (tmp_path / "called").read_text().splitlines()
    config = compose(words)
    assert train == "train" and config.name == "l r/x1y2"
    assert (config.training.learning_rate, config.training.steps, config.pose) == (0.002, 35, None)
    assert (config.data.batch_size, config.logger.name, config.resume) == (3, "wandb", "auto")


def test_the_file_is_printed_and_nothing_is_sent(capsys, wandb_words):
    words = [*wandb_words[:3], "name=lr"]
    assert cli.run(["sweep", "wandb", *words]) == 1
    assert "--print" in capsys.readouterr().err
    assert cli.run(["sweep", "wandb", "--print", "--multirun", "sweep=optuna", *words]) == 0
    assert set(yaml.safe_load(capsys.readouterr().out)["parameters"]) == {RATE}


def test_a_report_of_nothing_is_refused_in_one_line(capsys, tmp_path):
    assert cli.run(["sweep", "report", "lr", f"output={tmp_path}"]) == 1
    assert "no such file" in capsys.readouterr().err
    assert cli.run(["sweep", "report"]) == 1
    assert "give one sweep" in capsys.readouterr().err
    assert cli.run(["sweep"]) == 1
    assert "hvg sweep report NAME" in capsys.readouterr().err
