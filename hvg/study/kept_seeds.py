"""Seeds of a study that are kept beside its study.yaml, to be committed.

``results/seed<N>/results.json`` is the study's results of that seed alone. Where metrics compare sets of features, what they
looked at lies beside it. ``hvg.study.merged_seeds`` makes the report of nothing else: no data, no checkpoint, no run.
"""

import json
import lzma
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from hvg.core.errors import HvgError
from hvg.core.files import whole_file, write_text
from hvg.report.results import Arm, ClipInfo, Need, Results
from hvg.score.evaluation_record import finite, read_measurements, read_record
from hvg.score.set_statistics import distances_of, left_out, subject_features

FEATURES = "measurements.safetensors.xz"


def kept_folder(study_folder: Path, seed: int) -> Path:
    """Folder in which a seed of a study is kept."""
    return study_folder / "results" / f"seed{seed}"


# --- keeping ----------------------------------------------------------------------------------------------------------


def keep_seed(results: Results, seed: int, folders: Mapping[str, Path], study_folder: Path) -> Path:
    """Writes what one seed measured, and returns the folder. folders: arm or baseline -> its evaluation."""
    folder = kept_folder(study_folder, seed)
    arrays = _features(folders, _set_metrics(results))
    if arrays:
        # Of one clip the truth looks the same in every arm; side by side it takes no room a second time.
        with whole_file(folder / FEATURES) as partial:
            partial.write_bytes(lzma.compress(save(arrays)))
    else:
        (folder / FEATURES).unlink(missing_ok=True)
    text = json.dumps(finite(of_seed(results, seed)), ensure_ascii=False, separators=(",", ":"))
    write_text(folder / "results.json", text + "\n")
    return folder


def of_seed(results: Results, seed: int) -> Results:
    """The results without the other seeds and without videos, which are not kept."""
    arms = [
        cast(Arm, {**arm, "seeds": [one for one in arm["seeds"] if one["seed"] == seed], "error": None, "num_seeds": 1})
        if arm["kind"] == "arm"
        else arm
        for arm in results["arms"]
    ]
    needs = [
        cast(Need, {**need, "seeds": [one for one in need["seeds"] if one["seed"] == seed]})
        for need in results.get("needs", [])
    ]
    place = {key: value for key, value in results["provenance"].items() if key not in ("seconds", "measured")}
    clips = [cast(ClipInfo, {**clip, "video": None}) for clip in results["clips"]]
    provenance = place | {"seeds": [seed]}
    return cast(Results, {**results, "arms": arms, "needs": needs, "clips": clips, "provenance": provenance})


def _set_metrics(results: Results) -> list[str]:
    """The metrics that have values, and none of clips."""
    scores = [score for arm in results["arms"] for seed in arm["seeds"] for score in seed["values"].items()]
    return list(dict.fromkeys(name for name, s in scores if s["value"] is not None and not s["per_clip"]))


def _features(folders: Mapping[str, Path], metrics: Sequence[str]) -> dict[str, np.ndarray]:
    """``metric/clip/array/arm`` -> array, of the metrics that compare sets."""
    found = {}
    for arm, folder in folders.items():
        record = read_record(folder)
        index = {clip["clip_id"]: i for i, clip in enumerate(record["clips"])}
        for label in metrics:
            for clip_id, arrays in read_measurements(folder, record, label).items():
                for name, array in arrays.items():
                    found[f"{label}/{index[clip_id]:06d}/{name}/{arm}"] = np.asarray(array, order="C")
    return found


# --- reading ----------------------------------------------------------------------------------------------------------


def read_kept(study_folder: Path, seeds: Sequence[int]) -> dict[int, Results]:
    """Seed -> its kept results, of those that are there. Raises: HvgError naming a file that cannot be read."""
    kept = {}
    for seed in seeds:
        path = kept_folder(study_folder, seed) / "results.json"
        if not path.exists():
            continue
        try:
            results = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise HvgError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
        if not isinstance(results, dict) or not {"arms", "clips", "metrics", "protocol"} <= results.keys():
            raise HvgError(f"{path}: not the results of a study", then=f"hvg study {study_folder} keep=true")
        kept[seed] = cast(Results, results)
        _renew_left_out(kept[seed], path.with_name(FEATURES))
    return kept


def _renew_left_out(results: Results, path: Path) -> None:
    """Computes anew what follows from kept features, so that it is as this version computes it."""
    if not path.exists():
        return
    try:
        arrays = load(lzma.decompress(path.read_bytes()))
    except (OSError, lzma.LZMAError, SafetensorError) as error:
        raise HvgError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    clips = [clip["clip_id"] for clip in results["clips"]]
    subject_of = {clip["clip_id"]: clip["subject"] for clip in results["clips"]}
    kept: dict[tuple[str, str], dict[str, dict[str, np.ndarray]]] = {}
    for key in sorted(arrays):
        # Labels and arms hold no slash; an array's name may.
        label, index, rest = key.split("/", 2)
        if int(index) >= len(clips):
            raise HvgError(f"{path}: not the features of these results, which have {len(clips)} clips")
        name, _, arm = rest.rpartition("/")
        kept.setdefault((arm, label), {}).setdefault(clips[int(index)], {})[name] = arrays[key]
    distances, _ = distances_of(results["protocol"]["settings"], {label for _, label in kept})
    for arm in results["arms"]:
        for seed in arm["seeds"]:
            seed["left_out"] = seed.get("left_out", {}) | {
                label: left_out(distance, subject_features(kept[arm["name"], label], subject_of))
                for label, distance in distances.items()
                if (arm["name"], label) in kept and seed["values"][label]["value"] is not None
            }
