"""A study answers its question in one sentence, and one seed decides nothing about training."""

import csv
import io
import re
from typing import Any

import pytest
from example_study import arm, study_results
from rich.console import Console

from hvg.core.errors import ConfigError
from hvg.report.cells import compare
from hvg.report.finding import Finding, finding, headline
from hvg.report.footnotes import warnings
from hvg.report.latex import results_latex
from hvg.report.results import Results
from hvg.report.study_report import write_report
from hvg.report.tables import results_markdown, table_csv, table_markdown, table_text
from hvg.study.plan import plan
from hvg.study.study_file import StudyFile


def named(name: str, level: float, label: str, **changes: Any) -> Any:
    return arm(name, level, **changes) | {"label": label}


def study(*arms: Any, headline: str | None = None) -> Results:
    """Results of arms whose PSNR is of the person alone."""
    results = study_results()
    if headline is not None:
        results["headline"] = headline
    results["arms"] = [*arms]
    next(metric for metric in results["metrics"] if metric["name"] == "psnr")["on_person"] = True
    return results


def said(results: Results) -> Finding:
    return finding(results, compare(results))


def bone(seeds=(0, 1)) -> Any:
    return named("bone", 13.0, "bone map", seeds=seeds)


def test_who_is_ahead_by_how_much_on_what_and_how_many():
    found = said(study(bone(), named("smpl", 13.5, "SMPL normal"), named("skeleton", 12.7, "skeleton")))
    amount = r"0\.[45]\d+ dB \[0\.\d+, 0\.\d+\]"
    assert re.match(
        rf"SMPL normal is ahead of every other arm, of bone map by {amount} on the person \(PSNR; 8 people, 2 seeds\); "
        r"bone map is ahead of skeleton by 0\.\d+ dB \[0\.\d+, 0\.\d+\]\.$",
        found.answer,
    )
    assert found.apart == ""


def test_an_arm_beside_which_only_what_stands_apart_is_left_is_compared_with_that():
    found = said(study(bone(), named("none", 10.0, "no pose") | {"control": True}))
    assert re.match(r"(?i)bone map is ahead of (every other arm, of )?no pose by 3\.\d+ dB \[", found.answer), (
        found.answer
    )
    assert found.apart == ""


def test_the_first_arm_may_be_the_one_ahead():
    found = said(study(bone(), named("none", 10.0, "no pose"), named("skeleton", 12.0, "skeleton")))
    assert re.match(r"bone map is ahead of skeleton by 1\.\d+ dB \[.*\] and of no pose by 3\.\d+ dB \[", found.answer)
    assert found.answer.count("on the person") == 1


def test_where_nothing_separates_it_says_what_could_have_been_seen():
    found = said(study(bone(), named("bones", 13.0, "twin")))
    assert found.answer.startswith(
        "Nothing separates twin from bone map on the person (PSNR; 8 people, 2 seeds), where a "
    )
    smallest = re.search(r"a difference of about ([\d.e-]+) dB could have been seen\.$", found.answer)
    assert smallest is not None
    # An arm that differs by several times that is told apart.
    far = 13.0 + 5 * float(smallest[1])
    assert "SMPL normal is ahead" in said(study(bone(), named("bones", far, "SMPL normal"))).answer


def test_what_could_have_been_seen_allows_for_those_that_are_not_told_apart():
    """Not for the baseline, whose difference is beyond doubt: Holm's method has done with it."""

    def smallest(*arms: Any) -> float:
        found = re.search(r"about ([\d.e-]+) dB", said(study(bone(), *arms)).answer)
        assert found is not None
        return float(found[1])

    copy = named("copy", 9.0, "copy the reference", kind="baseline", seeds=(0,))
    twins = [named("bones", 13.0, "twin"), named("bonesbo", 13.0, "second twin")]
    assert smallest(twins[0], copy) == smallest(twins[0])
    assert smallest(*twins) > smallest(twins[0])


def test_a_long_list_is_counted():
    others = [named(f"n{'e' * i}", 12.0 - i, f"arm {i}") for i in range(5)]
    answer = said(study(bone(), *others)).answer
    assert answer.count(" by ") == 3 and " and 2 more on the person" in answer


def test_baselines_and_the_arm_without_are_named_apart():
    without = named("none", 10.0, "no pose") | {"control": True}
    copy = named("copy", 9.0, "copy the reference", kind="baseline", seeds=(0,))
    found = said(study(bone(), named("skeleton", 12.0, "skeleton"), without, copy))
    assert "no pose" not in found.answer and "copy" not in found.answer
    assert found.apart.startswith("Apart from the arms, bone map is ahead of no pose by 3.0")
    assert " and of copy the reference by 4.0" in found.apart and "on the person" not in found.apart


def test_lower_is_better_is_ahead_too():
    results = study(bone(), named("skeleton", 12.0, "skeleton"), headline="l1")
    assert re.match(
        r"bone map is ahead of skeleton by \d\.\de−0\d \[\d.*\] \(L1; 8 people, 2 seeds\)\.$", said(results).answer
    )


def test_one_seed_decides_nothing(tmp_path):
    arms = [bone((0,)), named("smpl", 13.5, "SMPL normal", seeds=(0,)), named("skeleton", 12.7, "skeleton", seeds=(0,))]
    results = study(*arms)
    cells = compare(results)
    found = finding(results, cells)
    assert found.answer.startswith(
        "One seed decides nothing about training; in these runs SMPL normal is ahead of bone map by"
    )
    assert "8 people, 1 seed" in found.answer
    # The intervals over people stay; p, colour and bold go, everywhere.
    assert all(cell.difference for name, row in cells.items() for cell in row.values() if name != "bone" and cell.wins)
    assert all(
        (cell.p, cell.p_holm, cell.verdict, cell.best) == (None, None, "", False)
        for r in cells.values()
        for cell in r.values()
    )
    page = write_report(results, tmp_path).read_text()
    assert not re.search(r'class="(best|difference (better|worse))"', page) and not re.search(r">p [<\d]", page)
    out = io.StringIO()
    Console(file=out, width=160, force_terminal=True).print(table_text(results))
    assert not re.search(r"\bp [<\d]|\[3[12]m", out.getvalue())
    markdown = table_markdown(results, cells)
    assert "**" not in markdown and not re.search(r"\bp [<\d]", markdown)
    assert r"\textbf" not in results_latex(results, cells)
    rows = [row for row in csv.DictReader(io.StringIO(table_csv(results))) if row["metric"] == "psnr"]
    assert {row["p"] for row in rows} == {row["p_holm"] for row in rows} == {""} and rows[1]["low"]


def test_a_metric_that_only_describes_ranks_nobody(tmp_path):
    results = study(bone(), named("smpl", 13.5, "SMPL normal"))
    (psnr,) = (metric for metric in results["metrics"] if metric["name"] == "psnr")
    coloured = 'class="difference better"'
    judged = write_report(results, tmp_path / "judged").read_text()
    assert compare(results)["smpl"]["psnr"].verdict == "better" and "PSNR" in finding(results, compare(results)).answer
    psnr["verdict"] = False
    cells = compare(results)
    cell = cells["smpl"]["psnr"]
    assert cell.difference is not None and cell.p_holm < 0.05, "the difference is there all the same"
    assert (cell.verdict, cell.best, cell.wins) == ("", False, None)
    assert "PSNR (dB) |" in table_markdown(results, compare(results)) and "PSNR" not in finding(results, cells).answer
    page = write_report(results, tmp_path / "described").read_text()
    assert "describes an arm, and does not say which is better" in page
    # Of one metric fewer.
    assert page.count(coloured) == judged.count(coloured) - 1


def test_too_few_people_or_seeds_are_said(tmp_path):
    two, three = (study(bone(seeds), named("smpl", 13.5, "SMPL normal", seeds=seeds)) for seeds in ((0, 1), (0, 1, 2)))
    assert any(line.startswith("two seeds decide next to nothing") for line in warnings(two))
    assert not any("seeds" in line for line in warnings(three))
    for clip in two["clips"]:
        clip["subject"] = "one" if clip is two["clips"][0] else "other"
    assert any(line.startswith("intervals over 2 people hold") for line in warnings(two))
    page = write_report(two, tmp_path).read_text()
    assert "two seeds decide next to nothing" in page and "intervals over 2 people hold" in page
    readme = results_markdown(two)
    assert "\nBeware: two seeds decide next to nothing" in readme and "\nBeware: intervals over 2 people" in readme
    assert "Beware" not in results_markdown(three)


def test_several_seeds_show_their_spread(tmp_path):
    results = study(bone(), named("smpl", 13.5, "SMPL normal"))
    page = write_report(results, tmp_path).read_text()
    assert "seeds 16.50–16.51" in page and 'class="difference better"' in page
    out = io.StringIO()
    Console(file=out, width=160).print(table_text(results))
    assert "16.50–16.51" in out.getvalue()


def test_an_arm_with_one_seed_in_common_is_not_told_apart():
    found = said(study(bone(), named("smpl", 13.5, "SMPL normal"), named("late", 13.6, "the late one", seeds=(1,))))
    assert "SMPL normal is ahead" in found.answer
    assert found.answer.endswith("; too little is known to tell the late one from bone map.")


def test_the_answer_stands_first_in_the_report_and_in_results_md(tmp_path):
    results = study(bone(), named("smpl", 13.5, "SMPL normal"))
    page = write_report(results, tmp_path).read_text()
    header = page[page.index("<header>") : page.index("</header>")]
    assert said(results).answer in header
    assert header.index("finding") < header.index("facts")


@pytest.mark.parametrize(("named_by_study", "chosen"), [(None, "psnr"), ("fid", "fid"), ("l1", "l1")])
def test_the_metric_that_answers(named_by_study, chosen):
    results = study(bone(), named("smpl", 13.5, "SMPL normal"), headline=named_by_study)
    assert headline(results, compare(results))["name"] == chosen


def test_without_a_metric_of_the_person_the_first_with_values_of_clips_answers():
    """Not the FID, which comes first, but says little of a few people."""
    results = study_results()
    assert headline(results, compare(results))["name"] == "psnr"


def test_a_metric_that_is_not_there_cannot_answer():
    found = said(study(bone(), named("smpl", 13.5, "SMPL normal"), headline="fvd"))
    assert found.answer.startswith("FVD was to give the answer and is not available: needs i3d")


def test_nothing_finished_and_one_arm_alone():
    failed = bone() | {"status": "failed", "seeds": [], "error": "broken"}
    assert said(study(failed)).answer == "No arm finished, so nothing was found."
    copy = named("copy", 9.0, "copy the reference", kind="baseline", seeds=(0,))
    found = said(study(bone(), copy))
    assert found.answer.startswith("bone map is the only arm") and "copy the reference by 4" in found.apart


def test_a_study_names_a_metric_that_its_protocol_has(tiny):
    fields = {"title": "t", "question": "q", "varies": ["pose"], "base": tiny, "arms": {"a": []}}
    assert plan(StudyFile.model_validate({**fields, "headline": "ssim"}), "t", [])
    with pytest.raises(ConfigError, match=r"headline: .*no metric 'psnr_forground'\. Did you mean 'psnr_foreground'"):
        plan(StudyFile.model_validate({**fields, "headline": "psnr_forground"}), "t", [])
