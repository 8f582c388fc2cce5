"""Seeds that are kept one by one and merged: the same numbers as in one go, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from example_study import score, study_results

from components.metrics.fid import FID
from components.metrics.psnr import PSNR
from hvg.cli import run
from hvg.config.composition import compose
from hvg.config.sections import ProtocolConfig
from hvg.config.settings import PartChoice
from hvg.core.errors import HvgError
from hvg.parts.set_distance import Frechet
from hvg.report.cells import compare
from hvg.report.origin import measured_lines
from hvg.report.results import Results
from hvg.report.tables import table_markdown
from hvg.score.evaluation import protocol_record
from hvg.score.evaluation_record import RECORD_FORMAT, write_record
from hvg.score.set_statistics import left_out_of_run
from hvg.study.kept_seeds import FEATURES, keep_seed, kept_folder, read_kept
from hvg.study.merged_seeds import MARKS, merged, settings_since, shown_in
from hvg.study.study_file import StudyFile

METRICS = {"fid": FID, "psnr": PSNR}
PROTOCOL = ProtocolConfig(
    name="mine", metrics={name: PartChoice("metric", name, cls, cls.Config()) for name, cls in METRICS.items()}
)
STUDY = StudyFile.model_validate(
    {
        "title": "Which signal?",
        "question": "Does it matter & how much?",
        "varies": ["pose"],
        "arms": {name: [f"pose={name}"] for name in ("none", "skeleton", "bone")},
        "labels": {name: f"the {name} <arm>" for name in ("none", "skeleton", "bone")},
        "seeds": [0, 1],
        "baselines": ["copy_reference"],
        "caveats": ["small images"],
    }
)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def measured(seed: int, **changes: Any) -> dict[str, Any]:
    return {
        "commit": COMMIT,
        "hardware": "a processor, 2 cores",
        "seconds": {"train": 600.0, "evaluate": 60.0 * seed},
    } | changes


def study_of_two_seeds(folder: Path, change: Callable[[Results, int], Any] = lambda results, seed: None) -> Results:
    """Results whose FID is of features that lie in ``folder``/<arm>-seed<N>; two seeds of three arms, and a baseline."""
    results = study_results()
    results["arms"] = [arm for arm in results["arms"] if arm["status"] == "done"]
    results["arms"][-1]["name"] = "copy_reference"
    results["protocol"] = protocol_record(PROTOCOL)
    results["clips"] = [{**clip, "truth": "0011"} for clip in results["clips"]]  # type: ignore[typeddict-item]
    truth = np.random.default_rng(0).normal(size=(len(results["clips"]), 6, 5)).astype(np.float32)
    for number, arm in enumerate(results["arms"]):
        for seed in arm["seeds"]:
            noise = np.random.default_rng([number, seed["seed"]]).normal(size=truth.shape).astype(np.float32)
            features = [{"fid": {"prediction": t + n, "truth": t}} for t, n in zip(truth, 0.3 * noise, strict=True)]
            path = folder / f"{arm['name']}-seed{seed['seed']}"
            distance = Frechet(PROTOCOL.metrics["fid"].config)
            flat = [np.concatenate([one["fid"][name] for one in features]) for name in ("prediction", "truth")]
            seed["values"]["fid"] = score("fid", {}, value=distance.between(*flat), count=48)
            record: Any = {
                "format": RECORD_FORMAT,
                "scored": "",
                "protocol": results["protocol"],
                "seeds": {"training": seed["seed"], "sampling": 0},
                "provenance": {},
            }
            record |= {"clips": results["clips"], "values": {name: seed["values"][name] for name in METRICS}}
            names = [clip["clip_id"] for clip in results["clips"]]
            write_record(path, record, dict(zip(names, features, strict=True)))
            seed["left_out"] = left_out_of_run(path, record, {"fid": distance})
            if arm["kind"] == "arm":
                seed |= {"precision": "32", "config": f"name: {arm['name']}\nseed: {seed['seed']}\n"}
                seed["measured"] = measured(seed["seed"])  # type: ignore[typeddict-item]
                arm["num_seeds"] = 2
    return results


def keep(results: Results, folder: Path, seed: int, study: Path) -> Path:
    of_arms = {arm["name"]: folder / f"{arm['name']}-seed{seed}" for arm in results["arms"] if arm["kind"] == "arm"}
    return keep_seed(results, seed, of_arms | {"copy_reference": folder / "copy_reference-seed0"}, study)


@pytest.fixture(scope="module")
def kept_once(tmp_path_factory) -> tuple[Results, Path]:
    folder = tmp_path_factory.mktemp("kept")
    results = study_of_two_seeds(folder)
    for seed in (0, 1):
        keep(results, folder, seed, folder / "study")
    return results, folder / "study"


@pytest.fixture
def kept(kept_once, tmp_path) -> tuple[Results, Path]:
    """The results in one go; and a study beside which both seeds are kept."""
    shutil.copytree(kept_once[1], tmp_path / "study")
    return kept_once[0], tmp_path / "study"


def edit(study: Path, seed: int, change: Callable[[Any], Any]) -> None:
    path = kept_folder(study, seed) / "results.json"
    results = json.loads(path.read_text())
    change(results)
    path.write_text(json.dumps(results))


def test_merged_seeds_give_the_numbers_of_one_go(kept):
    results, study = kept
    together = merged(STUDY, "conditioning", read_kept(study, (0, 1)))
    assert together["arms"] == results["arms"]
    assert together["metrics"] == results["metrics"] and together["clips"] == results["clips"]
    assert table_markdown(together, compare(together)) == table_markdown(results, compare(results))
    cell = compare(together)["bone"]["fid"]
    assert cell.difference is not None and cell.difference.num_seeds == 2
    assert measured_lines(together) == [
        "Seeds 0, 1 measured at commit `01234567`, a processor, 2 cores, float32; 30 min, 33 min of work."
    ]


def test_a_distances_spread_is_computed_anew_from_what_was_kept(kept):
    results, study = kept
    exact = results["arms"][0]["seeds"][1].get("left_out", {})["fid"]
    edit(study, 1, lambda kept: kept["arms"][0]["seeds"][0]["left_out"].update(fid=[0.0]))
    assert read_kept(study, [1])[1]["arms"][0]["seeds"][0].get("left_out", {})["fid"] == exact
    # Of the two halves, truth is the same in all arms, and takes room once.
    arrays = 4 * 8 * 6 * 5 * 4 * 2
    assert (kept_folder(study, 1) / FEATURES).stat().st_size < 0.75 * arrays
    (kept_folder(study, 1) / FEATURES).write_bytes(b"no archive")
    with pytest.raises(HvgError, match=r"seed1.measurements.*cannot be read"):
        read_kept(study, (0, 1))


def test_what_only_one_seed_says_of_the_study_holds_for_all(kept):
    _, study = kept
    edit(study, 1, lambda kept: kept.update(floors={"psnr": 40.0}))
    edit(study, 1, lambda kept: kept["metrics"][0].update(scale="log"))
    edit(study, 0, lambda kept: kept["metrics"][0].update(unavailable="the file of inception is missing"))
    together: Any = merged(STUDY, "conditioning", read_kept(study, (0, 1)))
    assert together["floors"] == {"psnr": 40.0}
    assert together["metrics"][0]["scale"] == "log" and together["metrics"][0]["unavailable"] is None


def test_a_part_of_the_seeds_says_so(kept):
    _, study = kept
    arms = {arm["name"]: arm for arm in merged(STUDY, "conditioning", read_kept(study, [1]))["arms"]}
    assert [seed["seed"] for seed in arms["bone"]["seeds"]] == [1] and arms["bone"].get("num_seeds") == 2
    assert arms["bone"]["error"] == "seed 0: not kept"


def first_arm(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda results: change(results["arms"][0]["seeds"][0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda r: r["clips"][2].update(truth="0022"),
            r"seed 1 .*seed 0: arm none: 1 of 8 clips .*true frames.*'clip2'",
        ),
        (lambda r: r["protocol"].update(id="modern/v1"), r"seed 1 .*: arm none: it follows protocol modern/v1"),
        (
            first_arm(lambda seed: seed["values"]["psnr"].update(definition="psnr/v9")),
            r"seed 1 .*: arm none: its psnr is psnr/v9, not psnr/float",
        ),
        (lambda r: r["clips"].pop(), r"seed1.measurements.*: not the features of these results, which have 7 clips"),
        (lambda r: r["arms"][1].update(overrides=["pose=head"]), r"seed 1: arm skeleton was measured as 'pose=head'"),
        (
            lambda r: r["arms"][3]["seeds"][0]["values"]["psnr"].update(value=3.0),
            r"seed 1 .*: the copy <arm> scores psnr 3, not 12.5",
        ),
    ],
)
def test_seeds_that_were_measured_otherwise_are_refused_by_name(kept, change, message):
    _, study = kept
    edit(study, 1, change)
    with pytest.raises(HvgError, match=message):
        merged(STUDY, "conditioning", read_kept(study, (0, 1)))


def test_other_settings_are_refused_and_those_of_a_start_are_not(kept, tiny):
    _, study = kept
    text = compose([*tiny, "training.steps=3", "device=cpu"]).to_yaml()

    def settings(was: str = "", now: str = "") -> Callable[[Any], Any]:
        assert was in text
        return first_arm(lambda seed: seed.update(config=text.replace(was, now)))

    edit(study, 0, settings("\nseed: 0\n", "\nseed: 7\n"))
    edit(study, 1, settings("\ndevice: cpu\n", "\ndevice: auto\n"))
    merged(STUDY, "conditioning", read_kept(study, (0, 1)))
    edit(study, 1, settings("\n  steps: 3\n", "\n  steps: 4\n"))
    kept_seeds = read_kept(study, (0, 1))
    with pytest.raises(HvgError, match=r"seed 1 .*seed 0: arm none: training.steps: was 3, now 4"):
        merged(STUDY, "conditioning", kept_seeds)
    assert settings_since({"none": text}, kept_seeds) == [
        "the study was changed since it was measured (seed 1): training.steps: was 4, now 3"
    ]


def test_seeds_of_several_commits_are_shown_as_such(kept):
    _, study = kept
    place = measured(1, commit="f" * 40 + "+changes")
    edit(study, 1, lambda r: [arm["seeds"][0].update(measured=place) for arm in r["arms"][:3]])
    together = merged(STUDY, "conditioning", read_kept(study, (0, 1)))
    assert [line.partition(", ")[0] for line in measured_lines(together)] == [
        "Seed 0 measured at commit `01234567`",
        "Seed 1 measured at commit `ffffffff+changes`",
    ]
    assert any("different places (seed 0: commit `01234567`" in caveat for caveat in together["caveats"])
    assert together["provenance"]["measured"]["seed 1"].startswith("commit `ffffffff+changes`, a processor")


def test_a_readme_shows_what_was_merged_between_its_marks():
    readme = f"# Study\n\n{MARKS[0]}old\n{MARKS[1]}\nIn words.\n"
    assert shown_in(readme, "new\n") == f"# Study\n\n{MARKS[0]}new\n{MARKS[1]}\nIn words.\n"
    assert shown_in("# Study\n", "new\n") is None


def test_merging_starts_nothing_and_changes_nothing(tmp_path, capsys):
    (tmp_path / "study.yaml").write_text(json.dumps({"title": "t", "question": "q", "varies": [], "arms": {"a": []}}))
    assert run(["study", str(tmp_path), "merge=true", "training.steps=3", "fresh=true"]) == 1
    told = capsys.readouterr().err
    assert "training.steps: merge=true reports on what was measured" in told and "fresh: merge=true" in told
    assert run(["study", str(tmp_path), "merge=true"]) == 1
    assert "no seed is kept there" in capsys.readouterr().err
