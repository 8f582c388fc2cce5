"""What a run leaves in W&B's own files, read from them."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

from hvg.config.composition import compose
from hvg.train.run import train

# Of W&B's transaction log, which is LevelDB's with a header of its own.
HEADER, BLOCK = 7, 32768
FULL, FIRST, LAST = 1, 2, 4


def records(path: Path) -> Iterator[Record]:
    """The records of a .wandb file."""
    data, at, parts = path.read_bytes(), HEADER, b""
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:
            # No record's head fits: the rest of a block is padding.
            at += BLOCK - at % BLOCK
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        parts = (b"" if kind in (FULL, FIRST) else parts) + data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (FULL, LAST):
            yield Record.FromString(parts)


def history(path: Path) -> list[dict]:
    """Every row that was logged, with W&B's own count of them under ``_step``."""
    rows = []
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            row: dict = {}
            for item in record.history.item:
                place, keys = row, list(item.nested_key) or [item.key]
                for key in keys[:-1]:
                    place = place.setdefault(key, {})
                place[keys[-1]] = json.loads(item.value_json)
            rows.append(row)
    return rows


def test_every_clip_of_every_validation_is_in_the_file_in_order(tiny, cache, tmp_path, capsys):
    words = (*tiny, cache, "device=cpu", "logger=wandb", "logger.offline=true", f"output={tmp_path}")
    clips = ("dataset.num_held_out_subjects=2", "training.validation_clips=2", "training.validate_every=1")
    train(compose([*words, *clips, "training.steps=2", "training.log_every=1", "name=run"]), log=lambda line: None)
    (file,) = (tmp_path / "run").glob("wandb/offline-run-*/*.wandb")
    rows = history(file)
    steps = [row["trainer/global_step"] for row in rows]
    assert steps == sorted(steps) and set(steps) == {0, 1}
    assert [row["_step"] for row in rows] == list(range(len(rows)))
    for step in (0, 1):
        named = [(key, x) for row in rows if row["trainer/global_step"] == step for key, x in row.items()]
        assert [x > 0 for key, x in named if key == "validation_psnr"] == [True]
        shown = {key.removeprefix("samples/"): x for key, x in named if key.startswith("samples/")}
        written = {path.stem for path in (tmp_path / "run" / "samples").glob(f"step-{step + 1:07d}-*")}
        assert {f"step-{step + 1:07d}-{clip}" for clip in shown} == written and len(written) == 2
        for clip in shown.values():
            (video,) = clip["videos"]
            assert (file.parent / "files" / video["path"]).stat().st_size > 0
    assert "WARNING" not in capsys.readouterr().err

    # The next training in this process is a run of its own.
    train(compose([*words, "training.steps=1", "name=next"]), log=lambda line: None)
    (other,) = (tmp_path / "next").glob("wandb/offline-run-*/*.wandb")
    assert len(history(other)) == 1 and history(file) == rows
