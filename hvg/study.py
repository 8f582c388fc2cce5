"""Studies: arms that differ in one thing, trained and scored alike, and what came of it.

A study is a folder with a ``study.yaml``: title, question, varies (root keys in which arms may differ), base (overrides of
all arms), arms (name -> overrides), seeds, baselines, caveats. Arms run side by side, one process each; a study that was
stopped continues arm by arm. Budgets are steps, never seconds; data order, seeds and sampling noise are equal across arms.
Arms that differ only in how they sample share one training: the first of them trains, the others take its weights.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator
from torch import Tensor

from hvg import provenance
from hvg.baselines import MeanImage, copy_reference
from hvg.build import build_protocol
from hvg.checkpoint import checkpoint_path
from hvg.config import SAMPLING_KEYS, RunConfig, compose
from hvg.data import load_with_signals
from hvg.eight_bit import frames_to_uint8
from hvg.errors import ConfigError, HvgError, Problem, did_you_mean
from hvg.evaluation import azimuths_of, load_prediction, num_clips, protocol_record, score_dataset
from hvg.feature_metric import SetDistance
from hvg.files import write_text
from hvg.parsing import read_yaml
from hvg.prepare import conditioner_signals, open_clips, prepare
from hvg.published import published_tables
from hvg.record import Record, read_record
from hvg.report import write_report
from hvg.required import required
from hvg.results import Arm, Clip, MetricInfo, Results, SeedResult, write_results
from hvg.sample_videos import picture
from hvg.scoring import Protocol
from hvg.set_statistics import left_out_of_results, left_out_of_run, set_distances
from hvg.training import choose_device, run_folder
from hvg.types import ClipBatch
from hvg.video import tile_columns, write_video

Baseline = Literal["copy_reference", "mean_image", "mean_image_per_view"]
BASELINE_LABELS = {
    "copy_reference": "copy the reference",
    "mean_image": "mean training image",
    "mean_image_per_view": "mean training image per view",
}


class StudyFile(BaseModel):
    """The contents of a study.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = Field(description="Name in the report.")
    question: str = Field(description="What the study answers.")
    varies: tuple[str, ...] = Field(description="Root keys in which arms may differ.")
    base: tuple[str, ...] = Field((), description="Overrides of every arm.")
    arms: dict[str, tuple[str, ...]] = Field(
        min_length=1, description="Arm -> its overrides; the first is the yardstick."
    )
    labels: dict[str, str] = Field({}, description="Arm -> how the report calls it.")
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="Every arm is trained once per seed.")
    baselines: tuple[Baseline, ...] = Field((), description="Trivial predictors to stand beside the arms.")
    caveats: tuple[str, ...] = Field((), description="What a reader has to know before believing the numbers.")
    videos: PositiveInt = Field(8, description="Test clips shown in the report.")
    published: tuple[str, ...] | None = Field(
        None, description="Published tables to show beside, such as hvg_3; null for those of the protocol."
    )

    @field_validator("published")
    @classmethod
    def _known_tables(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        known = list(published_tables())
        for name in names or ():
            if name not in known:
                raise ValueError(f"no published table is named '{name}'. {did_you_mean(name, known)}")
        return names


class StudyOptions(BaseModel):
    """What the command line sets besides overrides of all arms."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    jobs: PositiveInt = Field(default_factory=provenance.usable_cores, description="Arms that run side by side.")
    fresh: bool = Field(False, description="Throw away what an earlier run of the study left.")


@dataclass(frozen=True)
class ArmRun:
    """One arm at one seed. trained_by: the run whose weights it samples with; None: it trains its own."""

    arm: str
    seed: int
    config: RunConfig
    trained_by: ArmRun | None = None

    @property
    def folder(self) -> Path:
        return run_folder(self.config)

    def result(self) -> Record | None:
        """The finished result of exactly this configuration."""
        path = self.folder / "results.json"
        if not path.exists():
            return None
        record = read_record(path)
        return record if record.get("config") == self.config.to_yaml() else None

    def error(self) -> str:
        """Why it failed, in a line."""
        path = self.folder / "error.txt"
        return path.read_text().strip() if path.exists() else f"the process ended early, see {self.folder / 'log.txt'}"


def load_study(folder: Path) -> StudyFile:
    """Reads ``folder/study.yaml``. Raises: ConfigError listing all problems; HvgError when there is none."""
    path = folder / "study.yaml"
    if not path.is_file():
        known = sorted(p.parent.name for p in folder.parent.glob("*/study.yaml"))
        raise HvgError(f"{path}: no such study. {did_you_mean(folder.name, known)}")
    try:
        return StudyFile.model_validate(read_yaml(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise HvgError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        problems = [Problem(".".join(map(str, e["loc"])), f"{e['msg']} (in {path})") for e in error.errors()]
        raise ConfigError(problems) from error


def plan(study: StudyFile, name: str, overrides: Sequence[str]) -> list[ArmRun]:
    """Every arm at every seed, composed and judged before anything runs.

    Raises: ConfigError with the problems of all arms; also where arms differ in more than ``varies``.
    """
    runs, problems = [], _reserved(study, overrides)
    for seed in study.seeds:
        for arm, words in study.arms.items():
            own = (f"output=runs/{name}", f"name={arm}-seed{seed}", f"seed={seed}", "resume=auto")
            try:
                runs.append(ArmRun(arm, seed, compose(_last_wins(*own, *study.base, *words, *overrides))))
            except ConfigError as error:
                problems += [Problem(f"arm {arm}: {p.path}", p.message) for p in error.problems]
    problems = list(dict.fromkeys(problems))
    for run in runs[1:]:
        problems += _differences(study, runs[0], run)
    if problems:
        raise ConfigError(problems)
    return _share_training(runs)


def _reserved(study: StudyFile, overrides: Sequence[str]) -> list[Problem]:
    """Words that a study says itself, for every arm and seed."""
    places = {"base": study.base, "the command line": overrides} | {f"arm {a}": w for a, w in study.arms.items()}
    said = {"name": "every arm has a folder of its own", "seed": "seeds are listed under `seeds`"}
    return [
        Problem(key, f"cannot be set in {place}: {said[key]}.")
        for place, words in places.items()
        for key in (word.lstrip("+").partition("=")[0] for word in words)
        if key in said
    ]


def _share_training(runs: Sequence[ArmRun]) -> list[ArmRun]:
    """The runs, each with the first one that trains the same."""
    trainers: dict[str, ArmRun] = {}
    shared = []
    for run in runs:
        plain = {key: value for key, value in run.config.resolved().items() if key not in ("name", *SAMPLING_KEYS)}
        trainer = trainers.setdefault(json.dumps(plain, sort_keys=True), run)
        shared.append(run if trainer is run else replace(run, trained_by=trainer))
    return shared


def _last_wins(*overrides: str) -> list[str]:
    """Overrides where a later word for the same key replaces an earlier one: arm over base, command line over all."""
    return list({word.lstrip("+").partition("=")[0]: word for word in overrides}.values())


def _differences(study: StudyFile, first: ArmRun, run: ArmRun) -> list[Problem]:
    """Where a run differs from the first in what the study does not vary."""
    a, b = first.config.resolved(), run.config.resolved()
    keys = [key for key in a if a[key] != b[key] and key not in {*study.varies, "name", "seed"}]
    return [
        Problem(
            f"arm {run.arm}", f"differs from arm {first.arm} in '{key}', which the study does not list under varies"
        )
        for key in keys
    ]


def run_study(
    folder: Path,
    overrides: Sequence[str],
    options: StudyOptions,
    *,
    progress: Callable[[str, str, int, int, float], None] = lambda *_: None,
) -> tuple[Results, Path]:
    """Runs what is not done yet and writes results.json and report.html; returns the results and the report's path.

    ``progress(arm, stage, done, total, speed)`` is called as work proceeds; speed is in steps per second.
    """
    study, started = load_study(folder), time.perf_counter()
    runs = plan(study, folder.name, overrides)
    output = runs[0].folder.parent
    if options.fresh:
        for run in runs:
            shutil.rmtree(run.folder, ignore_errors=True)
    _refuse_other_settings(runs)
    output.mkdir(parents=True, exist_ok=True)
    firsts = [run.config for run in runs if run.seed == study.seeds[0]]
    prepare(
        firsts, ("train", "val", "test"), jobs=options.jobs, report=lambda d, n: progress("data", "render", d, n, 0.0)
    )
    prepared = time.perf_counter()
    failed = _run_all([run for run in runs if run.result() is None], options.jobs, progress)
    trained = time.perf_counter()
    results = _assemble(study, folder, runs, failed, progress)
    if study.published is not None:
        results["published"] = list(study.published)
    results["clips"] = _videos(study, runs, failed, output)
    results["provenance"]["seconds"] = {
        "rendering": round(prepared - started, 1),
        "training and scoring": round(trained - prepared, 1),
        "report": round(time.perf_counter() - trained, 1),
    }
    write_results(results, output)
    return results, write_report(results, output)


def _refuse_other_settings(runs: Sequence[ArmRun]) -> None:
    """A folder that holds an arm with other settings is not continued in silence."""
    for run in runs:
        path = run.folder / "config.yaml"
        if path.exists() and path.read_text() != run.config.to_yaml():
            raise HvgError(
                f"{run.folder} holds arm '{run.arm}' with other settings; add fresh=true to throw it away, or "
                "output=FOLDER to keep both"
            )


def _run_all(
    runs: Sequence[ArmRun], jobs: int, progress: Callable[[str, str, int, int, float], None]
) -> dict[tuple[str, int], str]:
    """Runs arms side by side; returns (arm, seed) -> error of those that failed."""
    waiting, running = list(runs), dict[int, tuple[ArmRun, subprocess.Popen]]()
    failed: dict[tuple[str, int], str] = {}
    try:
        while waiting or running:
            for run in [run for run in waiting if _trainer_failed(run, failed)]:
                waiting.remove(run)
                failed[run.arm, run.seed] = (
                    f"arm {required(run.trained_by, 'trained_by').arm}, which trains for it, failed"
                )
            for run in [run for run in waiting if run.trained_by is None or _is_trained(run.trained_by)]:
                if len(running) < jobs:
                    waiting.remove(run)
                    running[id(run)] = (run, _start(run))
            time.sleep(0.2)
            for key, (run, process) in list(running.items()):
                _report(run, progress)
                if process.poll() is not None:
                    del running[key]
                    if process.returncode != 0 or run.result() is None:
                        failed[run.arm, run.seed] = run.error()
                        progress(_label(run), "failed", 1, 1, 0.0)
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.wait()
    return failed


def _trainer_failed(run: ArmRun, failed: dict[tuple[str, int], str]) -> bool:
    trainer = run.trained_by
    return trainer is not None and (trainer.arm, run.seed) in failed and not _is_trained(trainer)


def _is_trained(run: ArmRun) -> bool:
    return checkpoint_path(run.folder / "checkpoints", run.config.training.steps).exists()


def _start(run: ArmRun) -> subprocess.Popen:
    """One single-threaded process an arm: two threads on two busy cores were several times slower than one each."""
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "progress.json").unlink(missing_ok=True)
    write_text(run.folder / "config.yaml", run.config.to_yaml())
    threads = str(run.config.training.threads or 1)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    command = [sys.executable, "-m", "hvg.arm", str(run.folder)]
    if run.trained_by is not None:
        command.append(str(run.trained_by.folder))
    with (run.folder / "log.txt").open("w") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)


def _label(run: ArmRun) -> str:
    return f"{run.arm} (seed {run.seed})"


def _report(run: ArmRun, progress: Callable[[str, str, int, int, float], None]) -> None:
    path = run.folder / "progress.json"
    if path.exists():
        state = json.loads(path.read_text())
        progress(_label(run), state["stage"], state["done"], state["total"], state["speed"])


def _assemble(
    study: StudyFile,
    folder: Path,
    runs: Sequence[ArmRun],
    failed: dict[tuple[str, int], str],
    progress: Callable[[str, str, int, int, float], None],
) -> Results:
    """The results of everything that finished."""
    config = runs[0].config
    device = choose_device(config.device)
    protocol = build_protocol(config, device)
    baselines = _baselines(study, config, protocol, device, progress)
    return Results(
        title=study.title,
        question=study.question,
        study=folder.name,
        varies=list(study.varies),
        command=provenance.command(),
        caveats=list(study.caveats),
        protocol=protocol_record(config.protocol),
        metrics=_metric_infos(protocol),
        arms=[*(_arm(study, arm, runs, failed, set_distances(protocol.metrics)) for arm in study.arms), *baselines],
        clips=[],
        provenance=provenance.collect() | {"seeds": list(study.seeds)},
    )


def _arm(
    study: StudyFile,
    name: str,
    runs: Sequence[ArmRun],
    failed: dict[tuple[str, int], str],
    distances: Mapping[str, SetDistance],
) -> Arm:
    own = [run for run in runs if run.arm == name]
    seeds = []
    for run in own:
        result = run.result()
        if result is not None:
            curve = _curve((run.trained_by or run).folder / "metrics.jsonl")
            without = left_out_of_run(run.folder, result, distances)
            seeds.append(SeedResult(seed=run.seed, values=result["values"], curve=curve, left_out=without))
    errors = [f"seed {seed}: {error}" for (arm, seed), error in failed.items() if arm == name]
    return Arm(
        name=name,
        label=study.labels.get(name, name),
        overrides=list(study.arms[name]),
        kind="arm",
        status="done" if seeds else "failed",
        error="; ".join(errors) or None,
        seeds=seeds,
        config_diff=_config_diff(study, own[0]),
    )


def _config_diff(study: StudyFile, run: ArmRun) -> list[str]:
    """The settings of what the study varies, one line each."""
    resolved = run.config.resolved()
    return [f"{key}: {json.dumps(resolved[key])}" for key in study.varies if key in resolved]


def _curve(path: Path) -> list[dict[str, float]]:
    """The rows of metrics.jsonl, joined by step."""
    rows: dict[int, dict[str, float]] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        row = json.loads(line)
        rows.setdefault(row["step"], {}).update(row)
    return [rows[step] for step in sorted(rows)]


def _baselines(
    study: StudyFile,
    config: RunConfig,
    protocol: Protocol,
    device: torch.device,
    progress: Callable[[str, str, int, int, float], None],
) -> list[Arm]:
    """The trivial predictors on the test clips; their frames pass through the same 8 bits as an arm's."""
    test, mean = open_clips(config, "test"), MeanImage()
    if any(name.startswith("mean") for name in study.baselines):
        train = open_clips(config, "train")
        for index in range(len(train)):
            mean.add(load_with_signals(train, index, {}))
    predictors: dict[str, Callable[[ClipBatch], Tensor]] = {
        "copy_reference": copy_reference,
        "mean_image": lambda batch: mean.predict(batch, per_view=False),
        "mean_image_per_view": lambda batch: mean.predict(batch, per_view=True),
    }
    arms = []
    for name in study.baselines:
        predict = predictors[name]
        evaluation = score_dataset(
            protocol,
            test,
            num_clips(config, test),
            lambda batch, predict=predict: frames_to_uint8(predict(batch)),
            load=lambda index: load_with_signals(test, index, {}).to(device),
            report=lambda done, total, name=name: progress(name, "evaluate", done, total, 0.0),
        )
        without = left_out_of_results(evaluation.results, protocol.metrics, evaluation.measurements, evaluation.clips)
        seeds = [SeedResult(seed=0, values=evaluation.values(), left_out=without)]
        label = BASELINE_LABELS[name]
        arms.append(Arm(name=name, label=label, overrides=[], kind="baseline", status="done", error=None, seeds=seeds))
    return arms


def _metric_infos(protocol: Protocol) -> list[MetricInfo]:
    """The protocol's columns."""
    infos = []
    for label, choice in protocol.settings.metrics.items():
        metric = protocol.metrics.get(label)
        infos.append(
            MetricInfo(
                name=label,
                label=label.replace("_", " "),
                higher_is_better=choice.cls.higher_is_better,
                unit=choice.cls.unit,
                definition=metric.definition if metric else choice.name,
                unavailable=protocol.unavailable.get(label),
            )
        )
    return infos


def _videos(study: StudyFile, runs: Sequence[ArmRun], failed: dict[tuple[str, int], str], output: Path) -> list[Clip]:
    """Every test clip; the first few with a side-by-side video of the first seed."""
    config, seed = runs[0].config, study.seeds[0]
    clips = open_clips(config, "test")
    shown = [run for run in runs if run.seed == seed and (run.arm, seed) not in failed]
    wanted = conditioner_signals([run.config for run in shown])
    labels = _map_labels({run.arm: list(conditioner_signals([run.config])) for run in shown})
    entries = []
    for index in range(num_clips(config, clips)):
        clip = load_with_signals(clips, index, wanted if index < study.videos else {})
        video = None
        if index < study.videos:
            video = f"samples/{clip.clip_id[0]}.mp4"
            columns = _columns(study, clip, labels, shown)
            write_video(output / video, tile_columns(columns), fps=4)
        name, subject = clip.clip_id[0], clip.subject[0]
        entries.append(Clip(clip_id=name, subject=subject, azimuths=azimuths_of(clip), video=video))
    return entries


def _map_labels(keys: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Signal key -> what the report calls it, for the signal keys of every arm: the arm that alone has it, or its own name."""
    arms: dict[str, list[str]] = {}
    for arm, own in keys.items():
        for key in own:
            arms.setdefault(key, []).append(arm)
    return {key: f"{owners[0] if len(owners) == 1 else key.rpartition('-')[0]} map" for key, owners in arms.items()}


def _columns(study: StudyFile, clip: ClipBatch, labels: Mapping[str, str], shown: Sequence[ArmRun]) -> dict[str, Any]:
    """Label -> (V, T, 3, H, W): the photo, every control map once, the truth, every arm's result."""
    views = clip.grid[1]
    columns = {}
    if clip.reference is not None:
        columns["reference"] = clip.reference.frames[0, :1, None].expand(views, 1, -1, -1, -1)
    for key, label in labels.items():
        columns[label] = picture(clip.signals[key][0])
    columns["truth"] = required(clip.frames, "ClipBatch.frames")[0]
    for run in shown:
        columns[study.labels.get(run.arm, run.arm)] = load_prediction(run.folder / "predictions", clip.clip_id[0])
    return columns
