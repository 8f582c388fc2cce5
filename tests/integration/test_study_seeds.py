"""A study run a seed at a time, kept and merged elsewhere, against the same study in one go."""

import json
import os
import shutil
from pathlib import Path

import pytest
from test_study_collect import make_ready, write_study

from hvg.cli import run
from hvg.study.arm import run_arm
from hvg.study.kept_seeds import kept_folder
from hvg.study.plan import plan
from hvg.study.study_file import load_study


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def numbers(results: dict) -> dict:
    """All that does not say when or where it was measured; no video is kept."""
    arms = [
        arm | {"seeds": [{**seed, "config": "", "measured": {}} for seed in arm["seeds"]]} for arm in results["arms"]
    ]
    clips = [clip | {"video": None} for clip in results["clips"]]
    return {key: results[key] for key in ("metrics", "protocol", "caveats", "varies")} | {"arms": arms, "clips": clips}


@pytest.mark.long
def test_a_seed_at_a_time_is_kept_and_merged_without_any_run(tiny, cache, tmp_path, capsys):
    base = [*tiny, cache, "device=cpu", "evaluation.clips=2", "evaluation.steps=1", f"output={tmp_path / 'out'}"]
    arms = {"single": ["pose=none"], "temporal": ["pose=none", "sampler=temporal"]}
    study = write_study(tmp_path / "small", base=base, seeds=[0, 1], arms=arms, videos=1)
    (study / "README.md").write_text("# Small\n\n<!-- results.md -->\n<!-- end of results.md -->\n")
    runs = plan(load_study(study), "small", [])

    def work(seed: int) -> None:
        for arm in (arm for arm in runs if arm.seed == seed):
            make_ready(arm)
            run_arm(arm.folder, arm.trained_by and arm.trained_by.folder)

    work(1)
    assert run(["study", str(study), "collect=true", "seeds=1", "keep=true"]) == 0
    told = capsys.readouterr()
    assert f"kept in {kept_folder(study, 1)}" in told.out and "seed 0" not in told.err
    assert "(1 of 2 seeds)" in (tmp_path / "out" / "results.md").read_text()
    assert run(["study", str(study), "collect=true", "seeds=[0]", "keep=true"]) == os.EX_TEMPFAIL
    assert not kept_folder(study, 0).exists()
    # The videos are of a seed that is finished.
    assert read(tmp_path / "out" / "results.json")["clips"][0]["video"]
    assert run(["study", str(study), "merge=true"]) == os.EX_TEMPFAIL
    assert f"seed 0: not kept in {kept_folder(study, 0)}" in capsys.readouterr().err

    work(0)
    assert run(["study", str(study), "collect=true", "seeds=[0]", "keep=true"]) == 0
    together = read(tmp_path / "out" / "results.json")
    table = (tmp_path / "out" / "results.md").read_text()
    assert [len(arm["seeds"]) for arm in together["arms"]] == [2, 2, 1]
    assert (
        read(tmp_path / "out" / "copy_reference" / "results.json")["values"]
        == together["arms"][2]["seeds"][0]["values"]
    )
    capsys.readouterr()
    assert run(["study", str(study), "--dry-run"]) == 0
    cost = capsys.readouterr().err
    assert "a seed: 1 trainings (1 of 2 steps), 2 arms to score; one arm after another, seed 0 took" in cost

    # Elsewhere there is nothing but the study's folder.
    shutil.rmtree(tmp_path / "out")
    assert run(["study", str(study), "merge=true"]) == 0
    merged = read(tmp_path / "out" / "merged" / "results.json")
    assert numbers(merged) == numbers(together)
    assert (tmp_path / "out" / "merged" / "results.md").read_text() == table
    assert table in (study / "README.md").read_text()
    assert "no videos" in (tmp_path / "out" / "merged" / "report.html").read_text()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["merged"]

    # Truth that is another, by one clip, is not merged.
    path = kept_folder(study, 1) / "results.json"
    kept = json.loads(path.read_text())
    rounded, other = kept["clips"][0] | {"truth": "0" * 16}, [x + 1 for x in kept["clips"][0]["truth_sketch"]]
    # One that was rounded otherwise is.
    path.write_text(json.dumps(kept | {"clips": [rounded, *kept["clips"][1:]]}))
    assert run(["study", str(study), "merge=true"]) == 0
    path.write_text(json.dumps(kept | {"clips": [rounded | {"truth_sketch": other}, *kept["clips"][1:]]}))
    capsys.readouterr()
    assert run(["study", str(study), "merge=true"]) == 1
    assert (
        "seed 1 was not measured as seed 0: arm single: 1 of 2 clips were scored against other"
        in capsys.readouterr().err
    )


@pytest.mark.long
def test_seeds_started_one_by_one_are_those_of_one_start(hvg, tiny, tmp_path):
    base = [*tiny, f"data.cache={tmp_path / 'cache'}", "device=cpu", "evaluation.clips=1", "training.steps=6"]
    study = write_study(
        tmp_path / "small", base=base, seeds=[0, 1], arms={"a": ["pose=none"], "b": ["pose=bone_map"]}, videos=1
    )
    one, other = tmp_path / "one", tmp_path / "other"
    assert hvg("study", str(study), f"output={one}").returncode == 0
    first = hvg("study", str(study), f"output={other}", "seeds=[1]", "keep=true")
    assert first.returncode == 0, first.stderr
    assert sorted(path.parent.name for path in other.glob("*-seed*/results.json")) == ["a-seed1", "b-seed1"]
    before = (other / "a-seed1" / "results.json").stat().st_mtime_ns
    # A seed that was interrupted goes on: one of its arms is there, of the other nothing.
    shutil.copytree(one / "a-seed0", other / "a-seed0")
    (other / "a-seed0" / "results.json").unlink()
    second = hvg("study", str(study), f"output={other}", "seeds=[0]", "keep=true")
    assert second.returncode == 0, second.stderr
    assert (other / "a-seed1" / "results.json").stat().st_mtime_ns == before
    assert hvg("study", str(study), f"output={tmp_path / 'third'}", "merge=true").returncode == 0
    reports = [read(folder / "results.json") for folder in (one, other, tmp_path / "third" / "merged")]
    assert numbers(reports[0]) == numbers(reports[1]) == numbers(reports[2])


@pytest.mark.long
def test_a_study_of_the_folder_one_stands_in_has_its_name(tmp_path, monkeypatch):
    folder = tmp_path / "quickstart"
    shutil.copytree(Path(__file__).parents[2] / "experiments" / "quickstart", folder)
    monkeypatch.chdir(folder)
    assert run(["study", ".", "merge=true"]) == 0
    results = read(folder / "runs" / "quickstart" / "merged" / "results.json")
    assert results["study"] == "quickstart" and results["command"] == "hvg study quickstart merge=true"
