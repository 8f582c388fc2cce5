"""What a study trains before its arms: what is planned, started, waited for and kept. Nothing here trains."""

import json
import shlex
from pathlib import Path

import pytest

from hvg.cluster.launch_options import StudyOptions
from hvg.commands.words import take_options
from hvg.core.errors import ConfigError, DataError, HvgError
from hvg.report.origin import work
from hvg.report.results import Results
from hvg.study.arm import TRAINED
from hvg.study.arm_results import trained_first
from hvg.study.cost import seed_cost
from hvg.study.kept_seeds import of_seed
from hvg.study.merged_seeds import _merged_need, _refuse_other_arms, settings_changed
from hvg.study.needs import of_any_seed, with_checkpoints
from hvg.study.plan import ArmRun, needs_of, plan
from hvg.study.run import run_study
from hvg.study.study_file import StudyFile, load_study

TEXT = {
    "title": "From weights",
    "question": "What is a start worth?",
    "varies": ["checkpoint"],
    "arms": {
        "fresh": [],
        "begun": ["checkpoint=${needs.base}"],
        "begun_twice": ["checkpoint=${needs.more}"],
    },
    "needs": {"base": ["training.steps=1"], "more": ["checkpoint=${needs.base}", "training.steps=3"]},
    "seeds": [0, 1],
}


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "weights").mkdir()
    write(tmp_path / "weights")
    return tmp_path / "weights"


def write(folder: Path, **changed) -> Path:
    """The study, whose arms train two steps, with other entries."""
    base = ["debug=tiny", "device=cpu", f"output={folder.parent / 'out'}"]
    (folder / "study.yaml").write_text(json.dumps(TEXT | {"base": base} | changed))
    return folder


def planned(folder: Path, *words: str) -> dict[str, ArmRun]:
    """Name of a run -> arm or need."""
    runs = plan(load_study(folder), "weights", words)
    return {run.config.name: run for run in (*needs_of(runs), *runs)}


def trained(run: ArmRun) -> None:
    """Leaves what a trained run leaves, as far as a plan asks."""
    run.checkpoint.mkdir(parents=True)


def started(folder: Path, *words: str) -> None:
    """Prints what would be started."""
    options, overrides = take_options(words, StudyOptions)
    assert run_study(folder, overrides, options, dry_run=True) is None


def folders(output: str) -> list[list[str]]:
    """The folders, by their names, of each command that would be started; and flags."""
    commands = [shlex.split(line)[3:] for line in output.splitlines() if not line.startswith("#")]
    return [[word if word.startswith("-") else Path(word).name for word in words] for words in commands]


def test_arms_start_from_a_checkpoint_of_their_own_seed(folder, tmp_path):
    runs = planned(folder)
    assert list(runs) == [
        *("needs/base-seed0", "needs/more-seed0", "needs/base-seed1", "needs/more-seed1"),
        *(f"{arm}-seed{seed}" for seed in (0, 1) for arm in TEXT["arms"]),
    ]
    for seed in (0, 1):
        base, more = runs[f"needs/base-seed{seed}"], runs[f"needs/more-seed{seed}"]
        assert base.checkpoint == tmp_path / f"out/needs/base-seed{seed}/checkpoints/step-0000001.ckpt"
        assert base.config.seed == seed and base.config.resume == "auto" and base.config.checkpoint is None
        assert more.config.checkpoint == base.checkpoint and more.needs == (base,)
        assert runs[f"begun-seed{seed}"].config.checkpoint == base.checkpoint
        assert runs[f"begun_twice-seed{seed}"].config.checkpoint == more.checkpoint
        assert runs[f"fresh-seed{seed}"].needs == () and runs[f"fresh-seed{seed}"].config.checkpoint is None
    # No training is shared between arms that start elsewhere.
    assert all(run.trained_by is None for run in runs.values())


def test_words_of_all_hold_for_needs_too_but_not_those_that_name_one(folder):
    base = json.loads((folder / "study.yaml").read_text())["base"]
    write(
        folder,
        base=[*base, "checkpoint=${needs.base}", "training.learning_rate=0.5"],
        arms={"begun": [], "fresh": ["checkpoint=null"]},
        needs={"base": ["training.steps=1"]},
    )
    runs = planned(folder, "training.warmup_steps=0")
    need = runs["needs/base-seed0"]
    assert need.config.checkpoint is None
    assert need.config.training.learning_rate == 0.5 and need.config.training.warmup_steps == 0
    assert runs["begun-seed0"].config.checkpoint == need.checkpoint
    # A word that another replaces needs nothing.
    assert runs["fresh-seed0"].needs == ()


def test_a_path_of_signs_is_quoted():
    paths = {"a": Path("runs/my study (1)/x.ckpt"), "b": Path("runs/b/x.ckpt")}
    assert with_checkpoints(["checkpoint=${needs.a}", "slots={x:{path:${needs.b}}}"], paths) == [
        "checkpoint='runs/my study (1)/x.ckpt'",
        "slots={x:{path:runs/b/x.ckpt}}",
    ]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            {"arms": {"a": ["checkpoint=${needs.bass}", "output=${needs.more}"]}},
            "arm a: refers to 'bass', which is not under",
        ),
        ({"needs": {"base": ["checkpoint=${needs.base}"]}}, "needs.base: refers to 'base', and only needs before it"),
        (
            {"needs": {"base": ["checkpoint=${needs.more}"], "more": []}},
            "needs.base: refers to 'more', and only needs before it can be meant.",
        ),
        ({"needs": {**TEXT["needs"], "unused": []}}, "needs.unused: nothing refers to it"),
        ({"needs": {**TEXT["needs"], "base": ["seed=3"]}}, "seed: cannot be set in needs.base"),
        ({"needs": {**TEXT["needs"], "base": ["pose=bone_mapp"]}}, "need base: pose: no pose is named 'bone_mapp'"),
        ({"needs": {**TEXT["needs"], "a/b": []}}, "needs.a/b"),
    ],
)
def test_what_a_study_says_of_its_needs_is_judged(folder, changed, told):
    write(folder, **changed)
    with pytest.raises(ConfigError) as error:
        planned(folder)
    assert told in str(error.value)


def test_needs_are_started_first_and_count_as_trainings(folder, capsys):
    started(folder, "seeds=[1]")
    found = capsys.readouterr()
    assert folders(found.out) == [
        ["--need", "base-seed1"],
        ["--need", "more-seed1"],
        ["fresh-seed1"],
        ["begun-seed1"],
        ["begun_twice-seed1"],
    ]
    assert found.err.startswith("a seed: 5 trainings (1 of 1 steps, 1 of 3 steps, 3 of 2 steps), 3 arms to score")


def test_an_arm_that_is_trained_as_a_need_is_that_run_scored(folder, capsys):
    write(
        folder,
        varies=["checkpoint", "training"],
        arms={**TEXT["arms"], "itself": ["training.steps=1"]},
        needs=TEXT["needs"],
    )
    runs = planned(folder)
    for seed in (0, 1):
        itself, base = runs[f"itself-seed{seed}"], runs[f"needs/base-seed{seed}"]
        assert itself.trained_by is not None and itself.trained_by.folder == base.folder
        assert [need.folder for need in itself.needs] == [base.folder]
        assert itself.state().status == "unfinished" and [run.folder for run in itself.waits_for()][:1] == [base.folder]
    started(folder, "seeds=[0]")
    assert folders(capsys.readouterr().out) == [
        ["--need", "base-seed0"],
        ["--need", "more-seed0"],
        ["fresh-seed0"],
        ["begun-seed0"],
        ["begun_twice-seed0"],
        ["itself-seed0", "base-seed0"],
    ]
    base = runs["needs/base-seed0"]
    base.folder.mkdir(parents=True)
    (base.folder / "error.txt").write_text("DataError: no clips\n")
    assert runs["itself-seed0"].lacks_weights() and runs["itself-seed0"].state().status == "failed"


def test_some_arms_are_worked_on_with_what_they_wait_for(folder, capsys):
    started(folder, "seeds=[0]", "arms=[begun]")
    assert folders(capsys.readouterr().out) == [["--need", "base-seed0"], ["begun-seed0"]]
    started(folder, "arms=fresh")
    assert folders(capsys.readouterr().out) == [["fresh-seed0"], ["fresh-seed1"]]
    write(
        folder,
        varies=["fit"],
        arms={"exact": [], "fitted": ["fit=mild"], "other": ["fit=typical"]},
        weights={"fitted": "exact"},
        needs={},
    )
    started(folder, "seeds=[0]", "arms=[fitted]")
    assert folders(capsys.readouterr().out) == [["exact-seed0"], ["fitted-seed0", "exact-seed0"]]
    with pytest.raises(ConfigError, match=r"arms: study\.yaml lists exact, fitted, other; exakt is none of them"):
        started(folder, "arms=[exakt]")


@pytest.mark.long
def test_under_slurm_what_waits_for_nothing_goes_first(folder, capsys):
    """A need that starts from another, and arms that start from either, are submitted when that is trained."""

    def submitted() -> tuple[list[str], str]:
        started(folder, "launcher=slurm", "time=1:00:00", "seeds=[0]")
        lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
        names = [Path(shlex.split(line)[-1]).name for line in lines if line.startswith("start -m hvg.study.arm")]
        return names, lines[-1]

    runs = planned(folder)
    assert submitted() == (
        ["base-seed0", "fresh-seed0"],
        "2 arms wait for base, more; when that is trained, the same words submit them",
    )
    trained(runs["needs/base-seed0"])
    names, last = submitted()
    assert names == ["more-seed0", "fresh-seed0", "begun-seed0"]
    assert last == "1 arms wait for more; when that is trained, the same words submit them"
    trained(runs["needs/more-seed0"])
    assert submitted()[0] == ["fresh-seed0", "begun-seed0", "begun_twice-seed0"]


def test_a_failed_need_fails_what_starts_from_it_by_name(folder):
    runs = planned(folder)
    base = runs["needs/base-seed0"]
    assert base.state().status == "unfinished" and not runs["begun-seed0"].lacks_weights()
    base.folder.mkdir(parents=True)
    (base.folder / "error.txt").write_text("DataError: no clips\n")
    assert base.state().status == "failed"
    assert runs["needs/more-seed0"].state().text == "need base, which trains for it, failed: DataError: no clips"
    for arm, why in (
        ("begun", "need base, which trains for it, failed: DataError: no clips"),
        (
            "begun_twice",
            "need more, which trains for it, failed: need base, which trains for it, failed: DataError: no clips",
        ),
    ):
        run = runs[f"{arm}-seed0"]
        assert run.lacks_weights() and run.state().status == "failed" and run.state().text == why
    assert not runs["fresh-seed0"].lacks_weights() and not runs["begun-seed1"].lacks_weights()
    # What trained in another start, after all, counts.
    trained(base)
    assert base.state().status == "done" and runs["begun-seed0"].state().status == "unfinished"


def test_a_need_with_other_settings_is_not_gone_on_with(folder, capsys):
    need = planned(folder)["needs/base-seed0"]
    need.folder.mkdir(parents=True)
    (need.folder / "config.yaml").write_text(
        need.config.to_yaml().replace("learning_rate: 0.003", "learning_rate: 0.5")
    )
    options, overrides = take_options(["collect=true"], StudyOptions)
    with pytest.raises(ConfigError) as error:
        run_study(folder, overrides, options)
    assert "need base: training.learning_rate: was 0.5, now 0.003." in str(error.value)
    assert f"{folder.parent / 'out'} holds arms with other settings" in str(error.value)


# --- what is kept ---


def results(folder: Path, study: StudyFile, runs: dict[str, ArmRun]) -> Results:
    return {"arms": [], "clips": [], "provenance": {}, "needs": trained_first(study, list(runs.values()))}


def test_what_was_trained_first_is_kept_by_seed_and_merged(folder):
    study, runs = load_study(folder), planned(folder)
    for number, name in enumerate(("needs/base-seed0", "needs/base-seed1", "needs/more-seed0")):
        run = runs[name]
        run.folder.mkdir(parents=True)
        measured = {"commit": "abc", "hardware": "a machine", "seconds": {"train": 10.0 + number}}
        told = {"precision": "32", "config": run.config.to_yaml(), "measured": measured}
        (run.folder / TRAINED).write_text(json.dumps(told))
        (run.folder / "metrics.jsonl").write_text('{"step": 0, "loss": 1.5}\n')
    whole = results(folder, study, runs)
    assert [(need["name"], [one["seed"] for one in need["seeds"]]) for need in whole["needs"]] == [
        ("base", [0, 1]),
        ("more", [0]),
    ]
    assert whole["needs"][0]["seeds"][0]["curve"] == [{"step": 0, "loss": 1.5}]
    assert work(whole) == {0: 22.0, 1: 11.0}
    kept = {seed: of_seed(whole, seed) for seed in (0, 1)}
    assert [len(need["seeds"]) for need in kept[1]["needs"]] == [1, 0]
    assert _merged_need(study, "base", kept) == whole["needs"][0]
    changed = study.model_copy(update={"needs": {**study.needs, "base": ("training.steps=9",)}})
    with pytest.raises(
        HvgError, match=r"seed 0: need base was trained as 'training.steps=1', and is 'training.steps=9' now"
    ):
        _refuse_other_arms(changed, 0, kept[0])
    (runs["needs/base-seed0"].folder / TRAINED).write_text("{}")
    with pytest.raises(DataError, match=r"trained\.json: damaged"):
        trained_first(study, list(runs.values()))


def test_seeds_differ_in_the_folder_of_what_they_start_from_and_in_nothing_else(folder, tmp_path):
    runs = planned(folder)
    first, second = (runs[f"begun-seed{seed}"].config.to_yaml() for seed in (0, 1))
    assert list(settings_changed(first, second)) == []
    other = planned(folder, f"output={tmp_path / 'elsewhere'}")["begun-seed1"].config.to_yaml()
    assert list(settings_changed(first, other)) == []
    (told,) = settings_changed(first, runs["fresh-seed0"].config.to_yaml())
    assert told.startswith("checkpoint: was ") and told.endswith("now null")
    (told,) = settings_changed(first, runs["begun_twice-seed0"].config.to_yaml())
    assert "base-seed0" in told and "more-seed0" in told
    assert of_any_seed("runs/a/needs/b-seed3/checkpoints/step-1.ckpt") == "needs/b/step-1.ckpt"
    assert of_any_seed("runs/b-seed3/checkpoints/step-1.ckpt") == "runs/b-seed3/checkpoints/step-1.ckpt"


def test_the_cost_of_a_seed_counts_what_is_trained_first(folder):
    study = load_study(folder)
    runs = plan(study, "weights", [])
    assert seed_cost(study, folder, runs).startswith("a seed: 5 trainings")
