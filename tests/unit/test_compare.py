"""``hvg compare``: evaluations on disk side by side, and what may not stand side by side."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from example_study import score

from components.metrics.fid import FID
from components.metrics.kid import KID
from components.metrics.lpips import LPIPS
from components.metrics.psnr import PSNR
from hvg.cli import run
from hvg.config.command_options import CompareOptions
from hvg.config.sections import ProtocolConfig
from hvg.config.settings import PartChoice
from hvg.core.errors import HvgError
from hvg.parts.frame_metric import mean_score
from hvg.parts.set_distance import Frechet, Kernel
from hvg.report.cells import compare
from hvg.report.compare_runs import compare_runs
from hvg.report.tables import table_markdown
from hvg.score.evaluation import protocol_record
from hvg.score.evaluation_record import (
    MEASUREMENTS,
    RECORD_FORMAT,
    ClipRecord,
    EvaluationRecord,
    ScoreRecord,
    write_record,
)

CLIPS = [
    ClipRecord(clip_id=f"person{i}_clip{k}", subject=f"person{i}", azimuths=None, truth="0011")
    for i in range(12)
    for k in range(2)
]
METRICS = {"psnr": PSNR, "lpips": LPIPS, "fid": FID, "kid": KID}
PROTOCOL = ProtocolConfig(
    name="mine", metrics={name: PartChoice("metric", name, cls, cls.Config()) for name, cls in METRICS.items()}
)


def write(
    folder: Path,
    quality: float,
    *,
    luck: int = 0,
    seed: int | None = 0,
    network: str = "sha256:1",
    change: Callable[[EvaluationRecord], Any] = lambda record: None,
) -> Path:
    """The evaluation of a system whose PSNR is higher and whose features are nearer to the true ones with ``quality``."""
    shared, own = np.random.default_rng(0), np.random.default_rng([luck, int(100 * quality)])
    cells = {c["clip_id"]: 20 + quality + shared.normal() + 0.2 * own.normal(size=(1, 4)) for c in CLIPS}
    features = {}
    for clip in CLIPS:
        truth = shared.normal(size=(6, 5))
        prediction = truth + 1 / (1 + quality) * (1 + 0.1 * own.normal(size=(6, 5)))
        features[clip["clip_id"]] = {"prediction": prediction, "truth": truth, "short": np.asarray(0)}
    prediction, truth = (np.concatenate([f[name] for f in features.values()]) for name in ("prediction", "truth"))
    settings = PROTOCOL.metrics

    def of_sets(label: str, value: float, **more: Any) -> ScoreRecord:
        networks = {"inception": network}
        return score(label, {}, value=value, definition=f"{label}/v1", networks=networks, count=len(truth), **more)

    psnr = mean_score(cells)
    values = {
        "psnr": score("psnr", dict(psnr.per_clip), value=psnr.value, definition="psnr/v2", count=psnr.count),
        "lpips": score("lpips", {}, unavailable="the file of lpips is missing"),
        "fid": of_sets(
            "fid",
            Frechet(settings["fid"].config).between(prediction, truth),
            floor=0.25,
            notes=["N is small"],
        ),
        "kid": of_sets("kid", Kernel(settings["kid"].config).between(prediction, truth)),
    }
    record = EvaluationRecord(
        format=RECORD_FORMAT,
        scored=str(folder),
        protocol=protocol_record(PROTOCOL),
        seeds={"training": seed, "sampling": 0},
        clips=[dict(clip) for clip in CLIPS],  # type: ignore[misc]
        values=values,
        provenance={},
    )
    change(record)
    measurements = {
        clip: {"psnr": {"cells": cells[clip]}, "fid": features[clip], "kid": features[clip]} for clip in cells
    }
    write_record(folder, record, measurements)
    return folder


def three_seeds(folder: Path, name: str, quality: float) -> str:
    paths = [write(folder / f"{name}-seed{s}", quality, luck=s, seed=s) for s in range(3)]
    return f"{name}=" + ",".join(map(str, paths))


def test_arms_of_several_seeds_side_by_side(tmp_path, capsys):
    words = [three_seeds(tmp_path, name, quality) for name, quality in (("none", 0.0), ("bone", 1.0), ("same", 0.01))]
    results, notes = compare_runs(words, CompareOptions(out=tmp_path / "out"))
    cells = compare(results)
    psnr, fid = (cells["bone"][label] for label in ("psnr", "fid"))
    assert psnr.verdict == "better" and psnr.best and psnr.wins == 12
    assert (psnr.difference.num_subjects, psnr.difference.num_seeds) == (12, 3)
    assert psnr.difference.mean == pytest.approx(1.0, abs=0.1)
    assert psnr.p < psnr.p_holm < 0.05
    assert cells["same"]["psnr"].verdict == "" and cells["same"]["psnr"].p_holm > 0.05
    assert fid.verdict == "better" and fid.best and fid.wins is None
    assert fid.difference.mean == pytest.approx(fid.value - cells["none"]["fid"].value)
    assert fid.difference.high < 0 and fid.difference.num_seeds == 3
    assert cells["bone"]["kid"].verdict == "better"
    assert cells["none"]["psnr"].difference is None and cells["none"]["psnr"].p is None
    text = "\n".join(notes)
    assert "two samples of the truth score 0.250 at this N (144 frames)" in text
    assert "FID: N is small" in text and "not available: LPIPS: the file of lpips is missing" in text
    assert "luck of a training run" not in text
    with pytest.raises(HvgError, match=r"out is not empty .*overwrite=true"):
        compare_runs(words[:2], CompareOptions(out=tmp_path / "out"))
    rows = list(csv.DictReader((tmp_path / "out" / "results.csv").open()))
    row = next(row for row in rows if (row["arm"], row["metric"]) == ("bone", "psnr"))
    assert float(row["p_holm"]) == psnr.p_holm and float(row["p"]) == psnr.p
    assert "p < 0.001" in (tmp_path / "out" / "results.md").read_text()
    again = json.loads((tmp_path / "out" / "results.json").read_text())
    assert compare(again) == cells
    assert run(["compare", *words]) == 0
    printed = capsys.readouterr().out
    assert "better on 12/12" in printed and "difference to none" in printed
    assert (
        printed.startswith("bone is ahead of every other arm, of none by ") and "(PSNR; 12 people, 3 seeds)" in printed
    )
    assert run(["compare", *words, "headline=fid"]) == 0
    assert "(FID; 12 people, 3 seeds)" in capsys.readouterr().out
    assert run(["compare", *words, "headline=ssim"]) == 1
    assert "headline: protocol mine/v1+changes has no metric 'ssim'" in capsys.readouterr().err


def test_anchors_come_from_the_evaluations_or_from_their_study(tmp_path):
    """Whichever recorded them; a study of other true frames has nothing to say."""

    def recorded(values: dict[str, dict[str, float | None]]) -> Callable[[EvaluationRecord], None]:
        return lambda record: record.update(anchors=values)

    paths = [write(tmp_path / "study" / name, quality) for name, quality in (("a", 0.0), ("b", 1.0))]
    words = list(map(str, paths))
    assert compare_runs(words, CompareOptions())[0].get("anchors") == {}
    record = json.loads((paths[0] / "results.json").read_text())
    study = {"protocol": record["protocol"], "clips": record["clips"], "anchors": {"blank": {"psnr": 10.0}}}
    (tmp_path / "study" / "results.json").write_text(json.dumps(study))
    results, _ = compare_runs(words, CompareOptions())
    assert results.get("anchors") == {"blank": {"psnr": 10.0}}
    assert "a blank video" in table_markdown(results, compare(results))
    other = write(tmp_path / "c", 0.5, change=recorded({"truth": {"psnr": 100.0}}))
    results, _ = compare_runs([*words, str(other)], CompareOptions())
    assert results.get("anchors") == {"truth": {"psnr": 100.0}, "blank": {"psnr": 10.0}}
    study["clips"] = [clip | {"truth": "other"} for clip in record["clips"]]
    (tmp_path / "study" / "results.json").write_text(json.dumps(study))
    assert compare_runs(words, CompareOptions())[0].get("anchors") == {}


def test_one_run_each_says_what_it_cannot_say(tmp_path, capsys):
    paths = [write(tmp_path / "bone" / "evaluation-test-last", 1.0), write(tmp_path / "none", 0.0)]
    assert run(["compare", str(paths[1]), str(paths[0] / "results.json")]) == 0
    printed = capsys.readouterr().out
    assert "say nothing about the luck of a training run" in printed
    assert printed.startswith("One seed decides nothing about training; in these runs bone is ahead of none by ")
    assert "p 0" not in printed and "p < 0" not in printed
    assert "bone" in printed and "none" in printed


def test_outputs_of_another_system_stand_against_every_seed(tmp_path):
    theirs = write(tmp_path / "theirs", 0.5, seed=None)
    for words in ([three_seeds(tmp_path, "bone", 1.0), str(theirs)], [str(theirs), three_seeds(tmp_path, "none", 0.0)]):
        results, _ = compare_runs(words, CompareOptions())
        cell = compare(results)[results["arms"][1]["name"]]
        for label in ("psnr", "fid"):
            assert cell[label].difference.num_seeds == 3
            assert cell[label].verdict == "worse"


def test_runs_pair_by_their_training_seed(tmp_path):
    a = [write(tmp_path / f"a{s}", 0.0, luck=s, seed=s) for s in (0, 1)]
    b = [write(tmp_path / f"b{s}", 1.0, luck=s, seed=s) for s in (2, 1)]
    other = write(tmp_path / "c", 1.0, seed=7)

    def compared(*arms: list[Path]):
        return compare_runs([f"arm{i}=" + ",".join(map(str, arm)) for i, arm in enumerate(arms)], CompareOptions())

    results, notes = compared(a, b)
    assert compare(results)["arm1"]["psnr"].difference.num_seeds == 1
    assert "arms have different seeds; a difference is over those that both have" in notes
    results, notes = compared(a, [b[0], other])
    assert compare(results)["arm1"]["psnr"].difference.num_seeds == 2
    assert any("paired in the order given" in note for note in notes)
    with pytest.raises(HvgError, match=r"do not pair.*arm0 2, arm1 1"):
        compared(a, [other])


def set_path(record: Any, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for key in parents:
        record = record[int(key) if isinstance(record, list) else key]
    record[int(last) if isinstance(record, list) else last] = value


def test_models_trained_in_different_precisions_are_compared_with_a_note(tmp_path):
    """An evaluation that does not say it is taken for one of the others."""
    one, two, old = (
        write(tmp_path / name, 1.0, change=lambda record, p=p: record.update(precision=p) if p else None)
        for name, p in (("one", "32"), ("two", "bf16"), ("old", None))
    )
    results, notes = compare_runs([f"{one}", f"{two}", f"{old}"], CompareOptions())
    assert results["provenance"]["precision"] == "32: one; bf16: two"
    assert sum("different precisions" in note for note in notes) == 1
    results, notes = compare_runs([f"{one}", f"{old}"], CompareOptions())
    assert results["provenance"]["precision"] == "32" and not any("precision" in note for note in notes)


SHIFT = {"dataset.framing_jitter": [0.0, 0.2]}
SHIFTED = "scored on other data than those of training, on purpose: dataset.framing_jitter=0.2 (trained with 0.0)"


def test_what_is_special_about_the_scored_clips_is_told_first_with_whom_it_holds_for(tmp_path):
    shared = "1 of 12 subjects of test are in train too (person3)"
    plain = write(tmp_path / "plain", 0.0)
    one = write(tmp_path / "one", 0.0, change=lambda record: record.update(overlap=[shared]))
    two = write(tmp_path / "two", 0.0, change=lambda record: record.update(overlap=[shared], shift=SHIFT))
    results, notes = compare_runs([f"{plain}", f"{one}", f"{two}"], CompareOptions())
    assert results["caveats"][:2] == [f"one, two: {shared}", f"two: {SHIFTED}"]
    assert f"two: {SHIFTED}" in notes
    assert compare_runs([f"{one}", f"{two}"], CompareOptions())[0]["caveats"][0] == shared


def test_scores_on_differently_shifted_data_are_refused_with_the_shift(tmp_path):
    def shift(record: EvaluationRecord) -> None:
        record.update(shift=SHIFT, clips=[{**clip, "truth": "2233"} for clip in record["clips"]])

    plain, shifted, again = (
        write(tmp_path / name, 0.0, change=change)
        for name, change in (("plain", lambda record: None), ("shifted", shift), ("again", shift))
    )
    with pytest.raises(HvgError, match=r"24 of 24 clips were scored against other true frames") as error:
        compare_runs([f"{plain}", f"{shifted}"], CompareOptions())
    assert str(error.value).endswith(f"; it was {SHIFTED}")
    with pytest.raises(HvgError) as error:
        compare_runs([f"{shifted}", f"{plain}"], CompareOptions())
    assert str(error.value).endswith(f"; the other was {SHIFTED}")
    assert compare_runs([f"{shifted}", f"{again}"], CompareOptions())[0]["caveats"][0] == SHIFTED


def test_protocols_are_compared_by_what_they_mean(tmp_path):
    """A setting that came later has its default in records that lack it, and explanations change no number."""

    def earlier(record: EvaluationRecord) -> None:
        del record["protocol"]["settings"]["metrics"]["psnr"]["bound"]
        record["protocol"]["settings"]["source"] = "said otherwise"

    one, two = write(tmp_path / "one", 0.0), write(tmp_path / "two", 0.0, change=earlier)
    assert compare_runs([f"{one}", f"{two}"], CompareOptions())[0]["arms"][1]["status"] == "done"
    assert compare_runs([f"{two}", f"{one}"], CompareOptions())[0]["arms"][1]["status"] == "done"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("protocol.id", "other/v2", "follows protocol other/v2, not mine/v1"),
        ("protocol.settings.metrics.psnr.average", "frames", "protocol has metrics.psnr.average = 'frames'"),
        ("protocol.settings.metrics.psnr.unheard_of", 1, "protocol has metrics.psnr.unheard_of = 1, not None"),
        ("values.psnr.definition", "psnr/v1", "its psnr is psnr/v1, not psnr/v2"),
        ("values.fid.networks", {"inception": "sha256:2"}, "its fid looked through inception sha256:2, not sha256:1"),
        ("clips.3.truth", "2233", "1 of 24 clips were scored against other true frames, first 'person1_clip1'"),
        ("clips.3.subject", "stranger", "clip 'person1_clip1' shows the subject 'stranger', not 'person1'"),
    ],
)
def test_what_differs_is_named_with_its_run(tmp_path, path, value, message, capsys):
    first = write(tmp_path / "first", 0.0)
    second = write(tmp_path / "second", 0.0, change=lambda record: set_path(record, path, value))
    assert run(["compare", str(first), str(second)]) == 1
    said = capsys.readouterr().err
    assert message in said and f"{second} cannot be compared with {first}" in said
    assert len(said.splitlines()) == 1


def test_other_clips_are_named(tmp_path, capsys):
    first, second = write(tmp_path / "first", 0.0), write(tmp_path / "second", 0.0)
    path = second / "results.json"
    path.write_text(path.read_text().replace("person1_clip1", "stranger"))
    assert run(["compare", str(first), str(second)]) == 1
    said = capsys.readouterr().err
    assert f"{second} cannot be compared with {first}: 1 of 24 clips are missing, first 'person1_clip1'" in said


def test_a_metric_that_one_run_lacks_is_listed(tmp_path):
    def lose(record: EvaluationRecord) -> None:
        record["values"]["fid"] |= {"value": None, "definition": "fid", "networks": {}, "unavailable": "no file here"}

    first, second = write(tmp_path / "first", 0.0), write(tmp_path / "second", 1.0, change=lose)
    for order in ([first, second], [second, first]):
        results, notes = compare_runs([str(path) for path in order], CompareOptions())
        assert "fid" not in compare(results)["second"]
        assert "not available: FID: no file here (second)" in notes


def test_without_measurements_sets_have_no_interval(tmp_path):
    paths = [write(tmp_path / name, quality) for name, quality in (("first", 0.0), ("second", 1.0))]
    (paths[1] / MEASUREMENTS).unlink()
    results, notes = compare_runs([str(path) for path in paths], CompareOptions())
    cells = compare(results)["second"]
    assert cells["fid"].difference is None and cells["psnr"].difference is not None
    assert any("FID, KID: no interval" in note and MEASUREMENTS in note for note in notes)


def test_a_run_with_one_evaluation_stands_for_it(tmp_path):
    of_runs, of_evaluations = (
        [f"{name}={tmp_path / name}{inside}" for name in ("bone", "skeleton")]
        for inside in ("", "/evaluation-test-step-0000600")
    )
    for word, quality in zip(of_evaluations, (0.0, 1.0), strict=True):
        write(Path(word.partition("=")[2]), quality)
    found = compare_runs(of_runs, CompareOptions())[0]["arms"]
    assert found == compare_runs(of_evaluations, CompareOptions())[0]["arms"] and len(found) == 2
    with pytest.raises(HvgError, match="no such file"):
        compare_runs([of_runs[0] + "/results.json", of_runs[1]], CompareOptions())
    write(tmp_path / "bone" / "evaluation-test-step-0000300", 0.5)
    with pytest.raises(HvgError, match="give one of those: evaluation-test-step-0000300, evaluation-test-step-0000600"):
        compare_runs(of_runs, CompareOptions())


def test_what_is_no_run_is_refused(tmp_path):
    first = write(tmp_path / "study" / "none-seed0", 0.0)
    write(tmp_path / "study" / "bone-seed0", 1.0)
    (tmp_path / "study" / "results.json").write_text("{}")
    for words, message in (
        ([first], "give two runs or more"),
        ([first, first], "two arms are called 'none-seed0'"),
        ([first, tmp_path / "study"], "evaluations inside; give those: bone-seed0, none-seed0"),
        ([first, tmp_path / "lost"], "no such file"),
    ):
        with pytest.raises(HvgError, match=message):
            compare_runs([str(word) for word in words], CompareOptions())
