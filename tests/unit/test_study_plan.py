"""What a study starts and how far its arms are; nothing here trains."""

import json
import os
import shlex
import subprocess
import sys
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml

from hvg.cli import run
from hvg.cluster.jobs import Batch, Job
from hvg.cluster.launch import launch
from hvg.cluster.launch_options import LaunchOptions, StudyOptions
from hvg.cluster.slurm import queued, refuse_queued, sbatch_script
from hvg.commands.words import take_options
from hvg.core.checkpoint import checkpoint_path
from hvg.core.errors import ConfigError, HvgError
from hvg.study.arm_results import _is_control, drawn_otherwise
from hvg.study.plan import ArmRun, plan
from hvg.study.run import run_study
from hvg.study.study_file import load_study


@pytest.fixture
def study(tmp_path) -> Path:
    """Two trainings; with the weights of the first, another arm samples. Few words, for every arm composes them all."""
    text = {
        "title": "Plans",
        "question": "Which plan?",
        "varies": ["sampler", "view_attention"],
        "base": ["debug=tiny", "device=cpu", f"output={tmp_path / 'out'}"],
        "arms": {
            "single": ["sampler=single"],
            "parts": ["sampler=partition", "sampler.views=1", "sampler.frames=1"],
            "other": ["sampler=single", "view_attention=none"],
        },
    }
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "study.yaml").write_text(json.dumps(text))
    return tmp_path / "plans"


def started(folder: Path, *words: str) -> None:
    options, overrides = take_options(words, StudyOptions)
    assert run_study(folder, overrides, options, dry_run=True) is None


SCORE = {
    "value": None,
    "definition": "mine/v1",
    "higher_is_better": True,
    "unit": "",
    "networks": {},
    "unavailable": None,
    "count": 0,
    "counted": "frames",
    "floor": None,
    "notes": [],
    "per_clip": {},
    "over_time": [],
    "over_angle": [],
}


def finish(arm: ArmRun, config: str = "", **scores: dict) -> None:
    """Leaves what a finished arm leaves, without clips. config: with which it was started, as YAML."""
    record = {
        "format": "hvg-evaluation-2",
        "config": config or arm.config.to_yaml(),
        "scored": "it",
        "clips": [],
        "provenance": {},
    }
    record["protocol"] = {"id": "mine/v1", "settings": {"metrics": {label: {"name": label} for label in scores}}}
    record["seeds"] = {"training": arm.seed, "sampling": 0}
    record["values"] = {label: SCORE | score for label, score in scores.items()}
    arm.folder.mkdir(parents=True, exist_ok=True)
    (arm.folder / "results.json").write_text(json.dumps(record))


def words_of(line: str) -> list[str]:
    """The folders in a line that starts an arm."""
    return [Path(word).name for word in shlex.split(line)[3:]]


def test_under_slurm_an_element_trains_and_samples(study, tmp_path, capsys):
    path = study / "study.yaml"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seeds": [0, 1]}))
    started(study, "launcher=slurm", "time=1:00:00", "jobs=3")
    text = capsys.readouterr().out
    assert "#SBATCH --array=0-3%3" in text and "#SBATCH --job-name=hvg-plans" in text
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("start -m hvg.study.arm")]
    assert [words_of(line) for line in lines] == [
        ["single-seed0"],
        ["parts-seed0", "single-seed0"],
        ["other-seed0"],
        ["single-seed1"],
        ["parts-seed1", "single-seed1"],
        ["other-seed1"],
    ]
    elements = text.split('case "$SLURM_ARRAY_TASK_ID" in')[1].split(";;")
    assert [element.count("start -m") for element in elements] == [2, 1, 2, 1, 0]
    assert not (tmp_path / "out").exists()


def with_weights(study: Path, weights: dict[str, str], **arms: list[str]) -> Path:
    """The study with further arms, some of which take others' weights."""
    path = study / "study.yaml"
    text = json.loads(path.read_text())
    changed = {"varies": [*text["varies"], "fit"], "arms": text["arms"] | arms, "weights": weights, "seeds": [0, 1]}
    path.write_text(json.dumps(text | changed))
    return study


def test_an_arm_takes_the_weights_that_the_study_names_and_observes_bodies_otherwise(study):
    arms = {
        "fitted": ["fit=mild", "sampler=single"],
        "parts_fitted": ["fit=mild", "sampler=partition", "sampler.views=1"],
    }
    folder = with_weights(study, {"fitted": "parts", "parts_fitted": "single"}, **arms, own=["fit=mild"])
    found = {
        run.config.name: run.trained_by and run.trained_by.config.name for run in plan(load_study(folder), "plans", [])
    }
    for seed in (0, 1):
        # What samples with another's training is asked no more than that: its own trainer's weights count.
        assert found[f"fitted-seed{seed}"] == found[f"parts_fitted-seed{seed}"] == f"single-seed{seed}"
        assert found[f"own-seed{seed}"] is None and found[f"other-seed{seed}"] is None


def test_an_arm_without_a_pose_is_a_control_on_fitted_bodies_too(study):
    path = study / "study.yaml"
    arms = {"bone": ["pose=bone_map"], "none": ["pose=none"], "none_fitted": ["pose=none", "fit=mild"]}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"varies": ["pose", "fit"], "arms": arms}))
    runs = plan(load_study(study), "plans", [])
    assert [_is_control(load_study(study), run) for run in runs] == [False, True, True]


def test_weights_of_another_model_are_refused(study):
    folder = with_weights(study, {"fitted": "other", "again": "fitted"}, fitted=["fit=mild"], again=["fit=severe"])
    with pytest.raises(ConfigError) as error:
        plan(load_study(folder), "plans", [])
    assert str(error.value).splitlines()[1:] == [
        "  - weights.fitted: arm other is not trained so: view_attention: was none, now aligned_2d.",
        "  - weights.again: arm fitted trains nothing itself; name the arm that trains.",
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"weights": {"parts": "singel"}}, "weights: no arm is named 'singel'. Did you mean 'single'?"),
        ({"contrasts": {"gain": ["parts", "singel"]}}, "contrasts: 'gain': no arm is named 'singel'"),
        ({"contrasts": {"gain": ["parts"]}}, "contrasts: 'gain' has 1 arms; 2 or 4 make a contrast"),
        ({"curves": [{"title": "t", "x": "x", "lines": {"a": {"0": "gian"}}}]}, "curves: no arm is named 'gian'"),
    ],
)
def test_arms_that_a_study_names_have_to_be_there(study, words, told):
    path = study / "study.yaml"
    path.write_text(json.dumps(json.loads(path.read_text()) | words))
    with pytest.raises(ConfigError) as error:
        load_study(study)
    assert told in str(error.value)


def test_a_seed_at_a_time_is_started_alone(study, capsys):
    path = study / "study.yaml"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seeds": [0, 1]}))
    started(study, "launcher=slurm", "seeds=[1]")
    printed = capsys.readouterr()
    lines = [line.strip() for line in printed.out.splitlines() if line.strip().startswith("start -m hvg.study.arm")]
    assert [words_of(line) for line in lines] == [["single-seed1"], ["parts-seed1", "single-seed1"], ["other-seed1"]]
    assert printed.err == "a seed: 2 trainings (2 of 2 steps), 3 arms to score\n"


def test_what_is_done_is_not_submitted_again(study, capsys):
    single, parts, other = plan(load_study(study), "plans", [])
    finish(single)
    finish(other)
    started(study, "launcher=slurm")
    text = capsys.readouterr().out
    assert "--array" not in text
    assert [words_of(line) for line in text.splitlines() if line.startswith("start -m")] == [
        ["parts-seed0", "single-seed0"]
    ]
    finish(parts)
    started(study, "launcher=slurm")
    assert "every arm is finished" in capsys.readouterr().out
    started(study, "launcher=slurm", "fresh=true")
    assert capsys.readouterr().out.count("start -m") == 3
    assert single.state().status == "done"


def test_here_those_that_train_come_first(study, tmp_path, capsys):
    started(study)
    printed = capsys.readouterr().out.splitlines()
    assert printed[::2] == ["# single-seed0", "# other-seed0", "# parts-seed0"]
    assert shlex.split(printed[1]) == [sys.executable, "-m", "hvg.study.arm", str(tmp_path / "out" / "single-seed0")]
    started(study, "strategy=ddp", "devices=2", "data.batch_size=1")
    assert "torch.distributed.run --nproc-per-node=2 --standalone -m hvg.study.arm" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (("launcher=joblib",), "launcher"),
        (("launcher=slurm", "devices=2"), "strategy"),
        (("strategy=ddp", "nodes=2"), "launcher"),
        (("launcher=torchrun", "strategy=ddp", "nodes=2", "rendezvous=first:29500"), "launcher"),
        (("collect=true", "fresh=true"), "fresh"),
        (("seeds=[0,7]",), "seeds"),
        (("seeds=[0,0]",), "seeds"),
        (("launcher=slurm", "keep=true"), "keep"),
        (("name=mine",), "name"),
        (("resume_changes=[seed]",), "resume_changes"),
    ],
)
def test_what_cannot_be_started_is_refused(study, words, where):
    with pytest.raises(ConfigError) as refused:
        started(study, *words)
    assert {problem.path for problem in refused.value.problems} == {where}


def test_a_word_that_leaves_something_out_is_no_folder(study, capsys):
    text = json.loads((study / "study.yaml").read_text())
    (study / "study.yaml").write_text(
        json.dumps(text | {"base": [*text["base"], "camera=none", "+slots.more.name=none"]})
    )
    assert run(["study", str(study), "~camera", "~slots.more", "--dry-run"]) == 0
    assert capsys.readouterr().out.count("hvg.study.arm") == 3
    (arm, *_) = plan(load_study(study), "plans", ["~camera", "~slots.more"])
    assert not {"camera", "more"} & set(arm.config.conditioners)
    (study / "study.yaml").write_text(json.dumps(text | {"arms": {"alone": []}}))
    assert run(["study", str(study), "~seed", "--dry-run"]) == 1
    assert "seed: cannot be set in the command line" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "path", "message"),
    [
        ({"armz": {}}, "armz", "unknown key for a study. Did you mean 'arms'?"),
        ({"arms": {"a": "pose=none"}}, "arms.a", "expected a list, got 'pose=none' (str)."),
        ({"seeds": [0, "1"]}, "seeds.1", "expected a valid integer, got '1' (str)."),
        ({"seeds": [0, 1, 0]}, "seeds", "seed 0 is listed twice"),
        ({"baselines": ["mean"]}, "baselines.0", "expected 'copy_reference', 'mean_image' or 'mean_image_per_view'"),
        ({"published": ["hvg_33"]}, "published", "Did you mean 'hvg_3'?"),
    ],
)
def test_a_mistake_in_a_study_is_named_like_any_other(study, changed, path, message):
    place = study / "study.yaml"
    place.write_text(json.dumps(json.loads(place.read_text()) | changed))
    with pytest.raises(ConfigError) as error:
        load_study(study)
    (problem,) = error.value.problems
    assert problem.path == path and message in problem.message and str(place) in problem.message


def test_what_is_wrong_with_options_and_with_overrides_is_said_together(study, capsys):
    assert run(["study", str(study), "launcher=slum", "jbs=3", "training.stepz=3", "~camera"]) == 1
    said = capsys.readouterr().err
    assert "launcher: expected" in said and "jbs: unknown key or option. Did you mean 'jobs'?" in said
    assert "Did you mean 'steps'?" in said and "camera" not in said.replace("~camera", "")


def test_how_far_an_arm_is(study):
    single, parts, other = plan(load_study(study), "plans", [])[:3]
    assert (parts.state().status, parts.state().text) == ("unfinished", "not finished: not started")
    checkpoint_path(other.folder / "checkpoints", 1).mkdir(parents=True)
    steps = other.config.training.steps
    assert other.state().text == f"not finished: at step 1 of {steps}"
    (other.folder / "progress.json").write_text(json.dumps({"stage": "train", "done": 2, "total": steps, "note": ""}))
    assert other.state().text == f"not finished: at step 2 of {steps}"
    (other.folder / "progress.json").write_text(json.dumps({"stage": "evaluate", "done": 3, "total": 9, "note": ""}))
    assert other.state().text == "not finished: scored clip 3 of 9"
    for damaged in ("", "[" * 100_000, "{}", '{"stage": "train", "done": "2", "total": 9, "note": ""}', "\xff"):
        (other.folder / "progress.json").write_text(damaged, encoding="latin-1")
        assert other.state().text.startswith(f"not finished: {other.folder / 'progress.json'}: ")
        assert "\n" not in other.state().text
    (other.folder / "error.txt").write_text("DataError: no\n")
    assert (other.state().status, other.state().text) == ("failed", "DataError: no")
    finish(other)
    assert other.state().status == "done"

    single.folder.mkdir(parents=True)
    (single.folder / "error.txt").write_text("HvgError: broken")
    assert parts.lacks_weights()
    assert parts.state().text == "arm single, which trains for it, failed"
    # It was scoring that failed: there are weights.
    checkpoint_path(single.folder / "checkpoints", steps).mkdir(parents=True)
    assert parts.state().status == "unfinished" and not parts.lacks_weights()


def test_an_arm_with_a_metric_that_failed_is_scored_again(study, capsys):
    single, parts, other = plan(load_study(study), "plans", [])
    for arm in (single, other):
        finish(arm)
    finish(parts, mine={"unavailable": "failed with KeyError: 'mean'", "traceback": ["..."]})
    assert parts.state().status == "failed"
    assert parts.state().text.startswith("metric mine: failed with KeyError: 'mean'")
    started(study, "launcher=slurm")
    text = capsys.readouterr().out
    assert [words_of(line)[0] for line in text.splitlines() if line.startswith("start -m")] == ["parts-seed0"]


def test_a_study_of_other_settings_is_not_collected(study, capsys):
    arm = plan(load_study(study), "plans", ["training.steps=7"])[0]
    arm.folder.mkdir(parents=True)
    (arm.folder / "config.yaml").write_text(arm.config.to_yaml())
    assert run(["study", str(study), "collect=true"]) == 1
    message = capsys.readouterr().err
    assert "holds arms with other settings" in message
    assert (
        f"arm single: training.steps: was 7, now {plan(load_study(study), 'plans', [])[0].config.training.steps}"
        in message
    )


def test_what_changes_no_result_may_differ_between_the_starts_of_a_study(study, capsys):
    before = plan(load_study(study), "plans", [])
    for arm in before:
        finish(arm)
        (arm.folder / "config.yaml").write_text(arm.config.to_yaml())
    other = ["logger=tensorboard", "training.log_every=3", "data.workers=1"]
    assert [arm.state().status for arm in plan(load_study(study), "plans", other)] == ["done"] * 3
    started(study, "launcher=slurm", *other)
    assert "every arm is finished" in capsys.readouterr().out
    changed = plan(load_study(study), "plans", ["training.learning_rate=1e-4", "evaluation.steps=9"])
    assert [arm.state().status for arm in changed] == ["unfinished"] * 3
    assert run(["study", str(study), "collect=true", "training.learning_rate=1e-4", "evaluation.steps=9"]) == 1
    message = capsys.readouterr().err
    assert "arm single, parts, other: training.learning_rate: was 0.003, now 0.0001" in message
    assert f"evaluation.steps: was {before[0].config.evaluation.steps}, now 9" in message


def edited(config: str, path: str, *value: Any) -> str:
    """A configuration as a version wrote it that did not know a setting; or with another value of it."""
    settings = yaml.safe_load(config)
    *parents, key = path.split(".")
    section = reduce(lambda tree, parent: tree[parent], parents, settings)
    del section[key]
    section |= {key: value[0]} if value else {}
    return yaml.safe_dump(settings, sort_keys=False)


@pytest.mark.parametrize(
    ("path", "other"),
    [("optimizer.weight_decay", 0.5), ("evaluation.overlap", "allow"), ("protocol.metrics.psnr.bound", "identical")],
)
def test_a_setting_that_came_later_voids_no_arm_that_was_finished_with_its_default(study, capsys, path, other):
    arms = plan(load_study(study), "plans", [])
    earlier = {arm.arm: edited(arm.config.to_yaml(), path) for arm in arms}
    for arm in arms:
        finish(arm, earlier[arm.arm])
        (arm.folder / "config.yaml").write_text(earlier[arm.arm])
    assert [arm.state().status for arm in arms] == ["done"] * 3
    started(study, "launcher=slurm")
    assert "every arm is finished" in capsys.readouterr().out
    single, config = arms[0], edited(arms[0].config.to_yaml(), path, other)
    finish(single, config)
    (single.folder / "config.yaml").write_text(config)
    assert [arm.state().status for arm in arms] == ["unfinished", "done", "done"]
    assert run(["study", str(study), "collect=true"]) == 1
    assert f"arm single: {path}: was {other}, now " in capsys.readouterr().err


def test_clips_that_other_code_draws_are_said():
    clips: Any = [{"clip_id": name, "subject": "ann", "truth": digest} for name, digest in (("a", "00"), ("b", "11"))]
    records: Any = [{"clips": clips}, {"clips": [clips[0] | {"truth": "22"}, {"clip_id": "b", "subject": "ann"}]}]
    assert drawn_otherwise(clips, records[:1]) == []
    (caveat,) = drawn_otherwise(clips, records)
    assert caveat.startswith("1 of 2 test clips are drawn otherwise now")


def test_words_on_a_protocol_void_no_finished_arm(study):
    arm = plan(load_study(study), "plans", [])[0]
    finish(arm, edited(arm.config.to_yaml(), "protocol.source", "said otherwise"))
    assert arm.state().status == "done"


# --- jobs with several commands ---------------------------------------------------------------------------------------


def job(folder: Path, *codes: int) -> Job:
    """Commands that write down their number and end with a code."""
    text = "import sys, pathlib; pathlib.Path(sys.argv[1]).open('a').write(sys.argv[2]); sys.exit(int(sys.argv[3]))"
    commands = tuple(("-c", text, str(folder / "ran"), str(i), str(code)) for i, code in enumerate(codes))
    return Job(name="job", commands=commands, log=folder / "log.txt")


@pytest.mark.parametrize(
    ("codes", "ran", "code"),
    [((0, 0, 0), "012", 0), ((3, 0), "01", 3), ((0, 143, 0), "01", 143), ((1, 143), "01", 143)],
)
def test_commands_after_one_that_failed_start_and_after_one_that_was_stopped_do_not(tmp_path, codes, ran, code):
    batch = Batch(name="batch", folder=tmp_path, jobs=(job(tmp_path, *codes),))
    ends = []
    assert launch(batch, LaunchOptions(), tell=lambda job, code: ends.append(code)) == (1 if code else 0)
    assert (tmp_path / "ran").read_text() == ran
    assert ends[0] is None and len(ends) == 2 and bool(ends[1]) == bool(code)

    # The same of the script, with a srun that starts one process here.
    (tmp_path / "ran").unlink()
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "srun").write_text('#!/bin/bash\nwhile [[ "$1" == -* ]]; do shift; done\nexec "$@"\n')
    (programs / "srun").chmod(0o755)
    text = sbatch_script(batch, LaunchOptions(launcher="slurm", requeues=0), tmp_path / "job.sbatch")
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", text], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, "")
    assert (tmp_path / "ran").read_text() == ran


def test_a_folder_in_which_a_job_still_works_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    refuse_queued(tmp_path)
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / "job.id").write_text("17\n")
    squeue = tmp_path / "squeue"
    squeue.write_text('#!/bin/bash\n[[ "$*" == *"--jobs 17"* ]] && printf "PENDING\\nRUNNING\\nRUNNING\\n"\n')
    squeue.chmod(0o755)
    assert queued(tmp_path) == ("17", ["PENDING", "RUNNING"])
    with pytest.raises(HvgError, match=r"job 17, .* is PENDING, RUNNING"):
        refuse_queued(tmp_path)
    squeue.write_text('#!/bin/bash\necho "slurm_load_jobs error: Invalid job id specified" >&2\nexit 1\n')
    refuse_queued(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(HvgError, match="only squeue knows"):
        refuse_queued(tmp_path)
