"""The results that the kept seeds of a study make together, and the README that shows them."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import yaml

from hvg.config.changes import changes, earlier_config
from hvg.config.parsing import read_yaml
from hvg.config.precision import across_models
from hvg.core.errors import ConfigError, HvgError
from hvg.core.labels import arm_label
from hvg.parts.continued import Continued
from hvg.report.origin import mixed_origins, seed_provenance
from hvg.report.results import Arm, ClipInfo, MetricInfo, Need, Results, SeedResult, value_of
from hvg.score.comparability import differences
from hvg.score.evaluation_record import EvaluationRecord
from hvg.study.needs import of_any_seed
from hvg.study.study_file import OF_REPORT, StudyFile

# Settings that differ between seeds by their nature.
OF_A_SEED = ("seed", "name", "output")
# Trivial predictors learn no seed; what they score differs between machines by rounding.
ROUNDING = 1e-3
# A README shows a study's results.md between these.
MARKS = ("<!-- results.md -->\n", "<!-- end of results.md -->\n")


def merged(study: StudyFile, name: str, kept: Mapping[int, Results]) -> Results:
    """The results of all kept seeds. What is said about the study is as study.yaml has it now; what a later version added to
    the results of one seed, and does not depend on seeds, holds for all.

    Raises: HvgError naming the seed that was measured otherwise, and how.
    """
    (first, yardstick), *others = kept.items()
    for seed, results in kept.items():
        _refuse_other_arms(study, seed, results)
    for seed, results in others:
        what = next(_unlike(yardstick, results), None)
        if what is not None:
            raise HvgError(f"seed {seed} was not measured as seed {first}: {what}; run one of them again")
    arms = [_merged_arm(study, arm, kept) for arm in study.arms]
    baselines = dict.fromkeys(
        arm["name"] for of_seed in kept.values() for arm in of_seed["arms"] if arm["kind"] == "baseline"
    )
    of_precision = {arm["label"]: [seed.get("precision") for seed in arm["seeds"]] for arm in arms}
    precision, mixed = across_models(of_precision)
    results = cast(Results, _filled(list(kept.values())))
    results["title"], results["question"], results["study"] = study.title, study.question, name
    results["varies"] = list(study.varies)
    results["caveats"] = [*study.caveats, *mixed, *mixed_origins(arms)]
    results["command"] = f"hvg study {name} merge=true"
    results["arms"] = [*arms, *(cast(Arm, _filled(_named(kept.values(), "arms", name))) for name in baselines)]
    results["metrics"] = [_merged_metric(metric["name"], kept.values()) for metric in yardstick["metrics"]]
    results["clips"] = [
        cast(ClipInfo, _filled([results["clips"][index] for results in kept.values()]))
        for index in range(len(yardstick["clips"]))
    ]
    results["needs"] = [_merged_need(study, name, kept) for name in study.needs]
    results["provenance"] = seed_provenance(arms, study.seeds, precision)
    said = study.of_report()
    return cast(Results, {key: value for key, value in results.items() if key not in OF_REPORT} | said)


def _merged_arm(study: StudyFile, name: str, kept: Mapping[int, Results]) -> Arm:
    own = cast(list[Arm], _named(kept.values(), "arms", name))
    seeds = [seed for arm in own for seed in arm["seeds"]]
    missing = [seed for seed in study.seeds if seed not in {one["seed"] for one in seeds}]
    known: dict[str, Any] = {"name": name, "kind": "arm"} | _filled(own)
    return cast(
        Arm,
        known
        | {
            "label": arm_label(name, study.labels),
            "overrides": list(study.arms[name]),
            "status": "done" if seeds else "unfinished",
            "error": "; ".join(f"seed {seed}: not kept" for seed in missing) or None,
            "seeds": seeds,
            "num_seeds": len(study.seeds),
        },
    )


def _merged_need(study: StudyFile, name: str, kept: Mapping[int, Results]) -> Need:
    own = [need for results in kept.values() for need in results.get("needs", []) if need["name"] == name]
    return Need(name=name, overrides=list(study.needs[name]), seeds=[seed for need in own for seed in need["seeds"]])


def _merged_metric(name: str, kept: Iterable[Results]) -> MetricInfo:
    """A metric's facts, from the first seed that had it: one machine may lack what another has."""
    found = _named(kept, "metrics", name)
    return cast(MetricInfo, _filled(sorted(found, key=lambda metric: metric["unavailable"] is not None)))


def _named(kept: Iterable[Results], key: str, name: str) -> list[dict[str, Any]]:
    """The entries of that name in a list of every seed's results."""
    return [entry for results in kept for entry in cast(dict, results)[key] if entry["name"] == name]


def _filled(entries: Sequence[Any]) -> Any:
    """The first of some mappings, with what only later ones have."""
    filled: dict[str, Any] = {}
    for entry in entries:
        filled |= {key: value for key, value in entry.items() if key not in filled}
    return filled


def _refuse_other_arms(study: StudyFile, seed: int, results: Results) -> None:
    for arm in results["arms"]:
        words = list(study.arms.get(arm["name"], arm["overrides"]))
        if arm["kind"] == "arm" and words != arm["overrides"]:
            was = " ".join(arm["overrides"])
            raise HvgError(f"seed {seed}: arm {arm['name']} was measured as '{was}', and is '{' '.join(words)}' now")
    for need in results.get("needs", []):
        if list(study.needs.get(need["name"], need["overrides"])) != need["overrides"]:
            was, now = " ".join(need["overrides"]), " ".join(study.needs[need["name"]])
            raise HvgError(f"seed {seed}: need {need['name']} was trained as '{was}', and is '{now}' now")


def _unlike(first: Results, other: Results) -> Iterator[str]:
    """Differences for which two seeds are no runs of one study, the weightiest first."""
    theirs = {arm["name"]: arm for arm in other["arms"]}
    both = [(arm, theirs[arm["name"]]) for arm in first["arms"] if arm["name"] in theirs]
    for a, b in both:
        for what in differences(_as_record(first, a["seeds"][0]), _as_record(other, b["seeds"][0])):
            yield f"arm {a['name']}: {what}"
    for a, b in both:
        if a["kind"] == "arm":
            yield from (f"arm {a['name']}: {what}" for what in _other_settings(a["seeds"][0], b["seeds"][0]))
        else:
            yield from _other_values(a, b)


def _as_record(results: Results, seed: SeedResult) -> EvaluationRecord:
    """One model of a study, as far as ``differences`` looks at it."""
    return cast(
        EvaluationRecord, {"protocol": results["protocol"], "values": seed["values"], "clips": results["clips"]}
    )


def _other_settings(a: SeedResult, b: SeedResult) -> Iterator[str]:
    ours, theirs = a.get("config", ""), b.get("config", "")
    # Of one version, text says it all; only otherwise does it have to be understood.
    if _plain(ours) != _plain(theirs):
        yield from settings_changed(ours, theirs)


def settings_changed(was: str, now: str) -> Iterator[str]:
    """``training.steps: was 660, now 400``: every setting that changes a result, of two configurations as YAML."""
    for change in changes(earlier_config(was, "its configuration"), earlier_config(now, "its configuration")):
        same = of_any_seed(change.was) == of_any_seed(change.now)
        if change.continued is not Continued.FREE and change.path not in OF_A_SEED and not same:
            yield str(change)


def _plain(config: str) -> Any:
    settings = read_yaml(config)
    return {key: value for key, value in settings.items() if key not in OF_A_SEED} if settings else None


def _other_values(a: Arm, b: Arm) -> Iterator[str]:
    for label, score in a["seeds"][0]["values"].items():
        ours, theirs = score["value"], value_of(b["seeds"][0], label)
        if (
            ours is not None
            and theirs is not None
            and not math.isclose(ours, theirs, rel_tol=ROUNDING, abs_tol=ROUNDING)
        ):
            yield f"{a['label']} scores {label} {theirs:.6g}, not {ours:.6g}, so the data is another"


def settings_since(planned: Mapping[str, str], kept: Mapping[int, Results]) -> list[str]:
    """Caveats where the study has other settings by now. planned: arm -> its configuration now, as YAML."""
    found: dict[str, dict[str, None]] = {}
    for seed, results in kept.items():
        for arm in results["arms"]:
            if arm["kind"] == "arm" and arm["name"] in planned:
                for what in _since(arm["seeds"][0].get("config", ""), planned[arm["name"]]):
                    found.setdefault(what, {})[f"seed {seed}"] = None
    return [
        f"the study was changed since it was measured ({', '.join(seeds)}): {what}" for what, seeds in found.items()
    ]


def _since(was: str, now: str) -> list[str]:
    try:
        return list(settings_changed(was, now))
    except (ConfigError, yaml.YAMLError) as error:
        return [" ".join(str(error).split())]


def shown_in(readme: str, found: str) -> str | None:
    """A README with a study's results.md between its marks; None where it has no marks."""
    before, mark, rest = readme.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    return f"{before}{mark}{found}{end}{after}" if mark and end else None
