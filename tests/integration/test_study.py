"""A study from its file to its report, with a signal that another package brings."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parent.parent / "data" / "plugin"


@pytest.fixture(scope="module")
def plugin(tmp_path_factory) -> Path:
    """The example package, installed by pip into a folder of its own, as a user would install one."""
    site, source = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("source") / "plugin"
    shutil.copytree(PLUGIN, source)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(site)]
    subprocess.run([*command, str(source)], check=True)
    return site


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "small"
    folder.mkdir()
    (folder / "study.yaml").write_text(
        json.dumps(
            {
                "title": "Small",
                "question": "Does it run?",
                "varies": ["pose"],
                "base": [*tiny, "evaluation.clips=2"],
                "arms": {"none": ["pose=none"], "head_disc": ["pose=head_disc"]},
                "labels": {"none": "no pose"},
                "baselines": ["copy_reference", "mean_image", "mean_image_per_view"],
            }
        )
    )
    return folder


def test_another_packages_part_is_listed_and_checked(hvg, plugin):
    listed = hvg("list", "conditioner", path=plugin)
    assert "head_disc" in listed.stdout and "hvg-example-plugin" in listed.stdout
    # The broken neighbour is listed too, and hurts only a run that selects it.
    assert "broken" in listed.stdout
    assert hvg("check", "pose=head_disc", "pose.radius=0.1", path=plugin).returncode == 0
    wrong = hvg("check", "pose=head_disc", "pose.radios=0.1", path=plugin)
    assert wrong.returncode == 1 and "radius" in wrong.stdout + wrong.stderr
    broken = hvg("check", "slots.mine.name=broken", path=plugin)
    message = broken.stdout + broken.stderr
    assert broken.returncode == 1
    assert "a_package_that_does_not_exist" in message and "hvg-example-plugin" in message


def test_another_packages_part_trains_alone(hvg, plugin, tiny, tmp_path):
    done = hvg("train", *tiny, "pose=head_disc", f"output={tmp_path}", "name=mine", path=plugin)
    assert done.returncode == 0, done.stderr
    assert "name: head_disc" in (tmp_path / "mine" / "config.yaml").read_text()
    record = json.loads((tmp_path / "mine" / "run.json").read_text())
    added = record["plugins"]["hvg-example-plugin"]
    assert added["version"] == "0.1" and list(added["parts"]) == ["conditioner.head_disc"]
    assert added["parts"]["conditioner.head_disc"]["file"] == str(plugin / "hvg_example_plugin" / "head_disc.py")


@pytest.mark.long
def test_a_study_runs_reports_and_continues(hvg, plugin, study, tmp_path):
    words = ("study", str(study), f"output={tmp_path / 'out'}", f"data.cache={tmp_path / 'cache'}")
    done = hvg(*words, path=plugin)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    arms = {arm["name"]: arm for arm in results["arms"]}
    assert list(arms)[:2] == ["none", "head_disc"]
    assert set(list(arms)[2:]) == {"copy_reference", "mean_image", "mean_image_per_view"}
    assert all(arm["status"] == "done" for arm in arms.values())
    labels = ["psnr", "psnr_foreground", "ssim", "l1", "mask_iou", "dtssd", "dvssd"]
    assert all(list(arm["seeds"][0]["values"]) == labels for arm in arms.values())
    assert {seed["precision"] for arm in list(arms.values())[:2] for seed in arm["seeds"]} == {
        results["provenance"]["precision"]
    }
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<dt>precision</dt>" in page
    assert page.count("data:video/mp4;base64,") == 2
    assert str(tmp_path / "out" / "report.html") in done.stdout
    # While they ran, another page was kept fresh; the last time when they had ended.
    watched = tmp_path / "out" / "watch.html"
    assert f"as it runs: {watched}" in done.stderr.splitlines()
    assert watched.read_text().count('data-sort="scored"') == 2 and "data-seconds" not in watched.read_text()
    assert done.stdout.startswith("One seed decides nothing about training; in these runs ")
    assert "on the person (PSNR foreground; 2 people, 1 seed)" in done.stdout.splitlines()[0]
    assert "no pose" in done.stdout.splitlines()[1]
    assert [name for name, arm in arms.items() if arm.get("control")] == ["none"]

    finished = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*-seed*/results.json")}
    assert len(finished) == 2
    # One arm is lost: the second call trains that one alone.
    lost = tmp_path / "out" / "head_disc-seed0"
    shutil.rmtree(lost)
    assert hvg(*words, path=plugin).returncode == 0
    again = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*-seed*/results.json")}
    assert {p for p in finished if finished[p] != again[p]} == {lost / "results.json"}
    repeated = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [arm["seeds"][0]["values"] for arm in repeated["arms"]] == [
        arm["seeds"][0]["values"] for arm in results["arms"]
    ]


def test_arms_may_differ_only_in_what_the_study_varies(hvg, tiny, tmp_path):
    text = {
        "title": "Unfair",
        "question": "Is it fair?",
        "varies": ["pose"],
        "base": list(tiny),
        "arms": {"a": ["pose=skeleton"], "b": ["pose=bone_map", "training.learning_rate=1"], "c": ["pose=skeletn"]},
    }
    text["base"] = [*tiny, "name=mine"]
    (tmp_path / "study.yaml").write_text(json.dumps(text))
    done = hvg("study", str(tmp_path), f"output={tmp_path}")
    assert done.returncode == 1
    assert "did you mean 'skeleton'" in done.stderr.lower()
    assert "name: cannot be set in base: every arm has a folder of its own." in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_arms_that_only_sample_differently_share_one_training(hvg, tiny, tmp_path):
    text = {
        "title": "Plans",
        "question": "Which plan?",
        "varies": ["sampler", "view_attention"],
        "base": [*tiny, "evaluation.clips=1", f"data.cache={tmp_path / 'cache'}"],
        "arms": {
            "single": ["sampler=single"],
            "parts": ["sampler=partition", "sampler.views=1", "sampler.frames=1"],
            "other": ["sampler=single", "view_attention=none"],
        },
        "baselines": ["copy_reference"],
    }
    (tmp_path / "study.yaml").write_text(json.dumps(text))
    done = hvg("study", str(tmp_path), f"output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    trained = {path.parent.parent.name for path in (tmp_path / "out").glob("*/checkpoints/*.ckpt")}
    assert trained == {"single-seed0", "other-seed0"}
    arms = {arm["name"]: arm["seeds"][0] for arm in json.loads((tmp_path / "out" / "results.json").read_text())["arms"]}
    assert arms["parts"]["curve"] == arms["single"]["curve"] != []
    # A model whose views see each other answers otherwise when it is shown one view at a time.
    assert arms["parts"]["values"] != arms["single"]["values"]


@pytest.mark.long
def test_an_arm_whose_training_failed_elsewhere_is_named(hvg, tiny, tmp_path):
    text = {
        "title": "Broken",
        "question": "What is said?",
        "varies": ["sampler"],
        "base": [*tiny, "evaluation.clips=1"],
        "arms": {"a": [], "b": ["sampler=temporal"]},
        "baselines": ["copy_reference"],
    }
    (tmp_path / "study.yaml").write_text(json.dumps(text))
    # The first arm cannot write its checkpoints: a file lies where their folder belongs.
    blocked = tmp_path / "out" / "a-seed0"
    blocked.mkdir(parents=True)
    (blocked / "checkpoints").write_text("")
    done = hvg("study", str(tmp_path), f"output={tmp_path / 'out'}", f"data.cache={tmp_path / 'cache'}")
    assert done.returncode == 1
    arms = {arm["name"]: arm for arm in json.loads((tmp_path / "out" / "results.json").read_text())["arms"]}
    assert arms["a"]["status"] == arms["b"]["status"] == "failed"
    assert "arm a, which trains for it, failed" in arms["b"]["error"]
