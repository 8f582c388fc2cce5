"""The file of a study: what it asks, its arms, seeds and baselines.

A study is a folder with a ``study.yaml``: title, question, varies (root keys in which arms may differ), base (overrides of
all arms), arms (name -> overrides), needs (what is trained before them), seeds, baselines, caveats.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from hvg.cluster.launch_options import Seeds
from hvg.config.parsing import read_yaml
from hvg.config.validation import validate
from hvg.core.bounds import Count
from hvg.core.errors import ConfigError, HvgError, did_you_mean
from hvg.core.files import read_text
from hvg.core.names import Name, name_problem
from hvg.core.shipped import studies
from hvg.report.published import published_tables

Baseline = Literal["copy_reference", "mean_image", "mean_image_per_view"]


# What a study says of how its report shows it, where it says anything.
OF_REPORT = ("published", "headline", "contrasts", "curves")


class CurvesWords(BaseModel):
    """Charts of a study's own, one per metric."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = Field(description="Heading in the report.")
    x: str = Field(description="What x is, with its unit.")
    lines: dict[str, dict[float, str]] = Field(
        min_length=1, description="Label -> x -> the arm, or the contrast by its label, whose value stands there."
    )


class StudyFile(BaseModel):
    """The contents of a study.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = Field(description="Name in the report.")
    question: str = Field(description="What the study answers.")
    varies: tuple[str, ...] = Field(description="Root keys in which arms may differ.")
    base: tuple[str, ...] = Field((), description="Overrides of every arm.")
    arms: dict[Name, tuple[str, ...]] = Field(
        min_length=1, description="Arm -> its overrides; the first is the yardstick."
    )
    needs: dict[Name, tuple[str, ...]] = Field(
        {},
        description="Name -> overrides of a run that is trained first, once per seed, and not scored. ${needs.NAME} in the "
        "overrides of arms, and of needs behind it, is its checkpoint. Words of `base` that refer to a need are not for needs.",
    )
    labels: dict[str, str] = Field({}, description="Arm -> how the report calls it.")
    seeds: Seeds = Field((0,), description="Every arm is trained once per seed.")
    baselines: tuple[Baseline, ...] = Field((), description="Trivial predictors to stand beside the arms.")
    caveats: tuple[str, ...] = Field((), description="What a reader has to know before believing the numbers.")
    videos: Count = Field(8, description="Test clips shown in the report.")
    headline: str | None = Field(
        None,
        description="Metric of the protocol that answers the question in one sentence; null: the protocol's first that looks at "
        "the person alone, else its first with values of clips.",
    )
    published: tuple[str, ...] | None = Field(
        None, description="Published tables to show beside, such as hvg_3; null for those of the protocol."
    )
    weights: dict[Name, Name] = Field(
        {},
        description="Arm -> the arm whose trained weights it is scored with. It may differ from that one in `fit`, which then "
        "observes the test people alone, and in how it is sampled.",
    )
    near_to: Name | None = Field(
        None,
        description="Arm, such as one of many steps, whose frames those of all others are compared with by PSNR (psnr_to_ARM), "
        "besides the truth.",
    )
    contrasts: dict[str, tuple[Name, ...]] | None = Field(
        None,
        description="Label -> arms, decided on beforehand: [a, b] is a less b, [a, b, c, d] is (a less b) less (c less d).",
    )
    curves: tuple[CurvesWords, ...] | None = Field(None, description="Charts of arms and contrasts over a number.")

    @field_validator("published")
    @classmethod
    def _known_tables(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        known = list(published_tables())
        for name in names or ():
            if name not in known:
                raise ValueError(f"no published table is named '{name}'. {did_you_mean(name, known)}")
        return names

    @model_validator(mode="after")
    def _known_arms(self) -> "StudyFile":
        for label, arms in (self.contrasts or {}).items():
            if len(arms) not in (2, 4):
                raise ValueError(f"contrasts: '{label}' has {len(arms)} arms; 2 or 4 make a contrast")
        for place, name, known in self._named():
            if name not in known:
                raise ValueError(f"{place}: no arm is named '{name}'. {did_you_mean(name, known)}")
        return self

    def _named(self) -> Iterator[tuple[str, str, list[str]]]:
        """Where arms are named, the name, and those that may stand there."""
        arms, contrasts = [*self.arms], self.contrasts or {}
        yield from (("weights", name, arms) for pair in self.weights.items() for name in pair)
        yield from (("near_to", name, arms) for name in [self.near_to] if name is not None)
        yield from ((f"contrasts: '{label}'", name, arms) for label, names in contrasts.items() for name in names)
        lines = [line for curves in self.curves or () for line in curves.lines.values()]
        yield from (("curves", name, [*arms, *contrasts]) for line in lines for name in line.values())

    def of_report(self) -> dict[str, Any]:
        """Entries of a study's results that say how its report shows it, of those that it sets, as plain values."""
        return self.model_dump(mode="json", include={*OF_REPORT}, exclude_none=True)


def find_study(word: str) -> Path:
    """The folder of a study that is named by its path; or by its name alone, where no study lies there and one is shipped."""
    given = Path(word)
    return given if (given / "study.yaml").is_file() else studies().get(word, given)


def study_name(folder: Path) -> str:
    """Name of a study's folder, after which the folder of its runs is named. Raises: HvgError where it cannot be."""
    name = folder.resolve().name
    if problem := name_problem(name):
        raise HvgError(f"the study's folder {str(folder)!r} {problem}; rename it")
    return name


def load_study(folder: Path) -> StudyFile:
    """Reads ``folder/study.yaml``. Raises: ConfigError listing all problems; HvgError when there is none."""
    path = folder / "study.yaml"
    if not path.is_file():
        beside = {p.parent.name for p in folder.parent.glob("*/study.yaml")}
        hint = did_you_mean(folder.name, beside | set(studies()))
        raise HvgError(f"{path}: no such study. {hint}", then="hvg study quickstart")
    try:
        raw = read_yaml(read_text(path))
    except yaml.YAMLError as error:
        raise HvgError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise HvgError(f"{path}: has to hold settings by name, it holds a {type(raw).__name__}")
    study, problems = validate(StudyFile, raw, "", "a study")
    if problems:
        raise ConfigError([replace(problem, message=f"{problem.message} (in {path})") for problem in problems])
    return study
