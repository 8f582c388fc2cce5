"""``hvg bench peers``: every row, one JSON, and a table for a page."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

from hvg.bench.peers import maps, metrics, sampling, shards, training, unet
from hvg.bench.peers.row import How, Row
from hvg.bench.timing import Ratio
from hvg.core import provenance
from hvg.core.errors import HvgError, did_you_mean
from hvg.core.files import write_text
from hvg.core.text_tables import markdown_text

JSON, TABLE = "peers.json", "peers.md"
HEADS = ("what", "inputs", "instead of ours", "ours, ms", "theirs, ms", "ratio (quartiles)", "goal")


def rows() -> list[Row]:
    """All rows, in the order in which they are measured."""
    return [*chain.from_iterable(part.rows() for part in (unet, sampling, training, maps, shards, metrics))]


def chosen_rows(groups: Sequence[str]) -> list[Row]:
    """The rows of these groups; all for none. Raises: HvgError for a group that is not there, with the nearest one."""
    every = rows()
    known = list(dict.fromkeys(row.group for row in every))
    unknown = [group for group in groups if group not in known]
    if unknown:
        raise HvgError(f"rows={unknown[0]}: no rows are called so. {did_you_mean(unknown[0], known)}")
    return [row for row in every if not groups or row.group in groups]


def compare_with_peers(
    asked: Sequence[Row], how: How, folder: Path, others: Mapping[str, dict[str, Any]]
) -> Iterator[tuple[Row, str]]:
    """Each row when it is measured, and a line on it; the folder's JSON and table hold what there is by then.

    others: as of ``recorded_rows``, for those that cannot be measured here.
    """
    found: list[dict[str, Any]] = []
    for row in asked:
        found.append(_entry(row, how, others))
        record = provenance.collect() | {"how": asdict(how), "rows": found}
        write_text(folder / JSON, json.dumps(record, indent=2))
        write_text(folder / TABLE, "\n".join(markdown(record)) + "\n")
        yield row, line(found[-1])


def recorded_rows(path: Path | None) -> Mapping[str, dict[str, Any]]:
    """Row's name -> what another machine's JSON holds of it. Raises: HvgError for a file that is none of ours."""
    if path is None:
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        origin = {"hardware": content["hardware"], "commit": content["commit"]}
        return {entry["name"]: entry | {"origin": origin} for entry in content["rows"] if "ratio" in entry}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HvgError(f"recorded={path}: not a {JSON} of `hvg bench peers`: {error}") from error


def _entry(row: Row, how: How, others: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """What the JSON holds of a row."""
    about = {"name": row.name, "ours": row.ours, "theirs": row.theirs, "what": row.what, "goal": row.goal}
    if row.missing:
        other = others.get(row.name)
        state = {"state": "recorded"} if other else {"state": "unmeasured"}
        return (other or {}) | about | state | {"missing": list(row.missing), "command": row.command}
    with how.arithmetic():
        return about | {"state": "measured"} | measured(row.measure(how))


def measured(ratio: Ratio) -> dict[str, Any]:
    """A ratio as the JSON holds it: times in milliseconds."""
    times = {"ours_ms": 1e3 * ratio.ours, "theirs_ms": 1e3 * ratio.theirs}
    spread = {"ratio": ratio.ratio, "quartiles": [ratio.low, ratio.high], "pairs": ratio.pairs}
    return times | spread | {"clock": ratio.clock, "setting": asdict(ratio.setting)}


def line(entry: Mapping[str, Any]) -> str:
    """A row as the terminal shows it."""
    if entry["state"] == "unmeasured":
        return f"{entry['name']:<26} unmeasured: {', '.join(entry['missing'])} is not installed; {entry['command']}"
    where = f", recorded on {entry['origin']['hardware']}" if entry["state"] == "recorded" else ""
    late = "" if entry["ratio"] <= entry["goal"] else f", over {entry['goal']}"
    return f"{entry['name']:<26} {_ratio(entry)} x {entry['theirs']}{late}{where}"


def markdown(record: Mapping[str, Any]) -> Iterator[str]:
    """The table, with where and how it was measured."""
    how, entries = record["how"], record["rows"]
    settings = {(entry["setting"]["precision"], entry["clock"]) for entry in entries if entry["state"] == "measured"}
    words = "; ".join(f"{precision}, {clock}" for precision, clock in sorted(settings)) or "nothing was measured"
    yield f"`{record['command']}` at commit `{record['commit']}`, {record['hardware']}."
    yield f"Both sides of a row took turns in one process with {how['threads']} thread(s) and one arithmetic ({words}), on"
    yield "equal inputs that gave equal results: medians, and median and quartiles of the pairs' ratios. Below 1 ours is faster."
    yield ""
    yield f"| {' | '.join(HEADS)} |"
    yield "|---" * len(HEADS) + "|"
    for entry in entries:
        yield f"| {' | '.join(map(markdown_text, _cells(entry)))} |"


def _cells(entry: Mapping[str, Any]) -> list[str]:
    first = [entry["name"], entry["what"], entry["theirs"]]
    if entry["state"] == "unmeasured":
        return [*first, "", "", f"unmeasured: `{entry['command']}`", f"{entry['goal']:.2f}"]
    times = [f"{entry[side]:,.3g}" for side in ("ours_ms", "theirs_ms")]
    where = "" if entry["state"] == "measured" else f" on {entry['origin']['hardware']}"
    return [*first, *times, f"{_ratio(entry)}{where}", f"{entry['goal']:.2f}"]


def _ratio(entry: Mapping[str, Any]) -> str:
    low, high = entry["quartiles"]
    return f"{entry['ratio']:.2f} ({low:.2f} to {high:.2f})"
