"""Every layout of footage and published data sets, by small files, goes through prepare, check, two steps and evaluation."""

import json
import math

import pytest
from data_set_files import LAYOUTS, set_words, write_models

from hvg import cli
from hvg.config.composition import compose
from hvg.data.cache import shard_paths
from hvg.data.shards import ShardReader
from hvg.data.signals import drawn_keys

pytestmark = pytest.mark.long
SMALL = (
    *("scale=cpu", "debug=tiny", "backbone.widths=[32,32]", "backbone.heads=[1,1]", "device=cpu", "data.workers=0"),
)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("models"))


def check_shards(config) -> None:
    """Each split has its clips on disk, with all that training asks for."""
    bodies = config.pose is not None and config.pose.name != "none"
    for split in ("train", "val", "test"):
        shards = [ShardReader(path) for path in shard_paths(config, split)]
        assert shards
        for shard in shards:
            assert len(shard) > 0 and not shard.left_out
            assert shard.signals >= {*drawn_keys(config)} and bool(shard.signals) is bodies
            held = {"frames", "alpha", "cameras", "reference", *(("body", "signals", "task") if bodies else ())}
            assert held <= shard.load(0).present()


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_a_layout_is_prepared_trained_on_and_scored(name, tmp_path, models, capsys):
    words = [*SMALL, *set_words(name, tmp_path, models), f"data.cache={tmp_path / 'cache'}"]
    assert cli.run(["prepare", *words, "jobs=1"]) == 0
    assert " s left" in capsys.readouterr().err
    check_shards(compose(words))
    if "pose=none" not in words:
        assert cli.run(["prepare", "check", *words, f"out={tmp_path / 'check'}"]) == 0, "a false alarm"
        assert list((tmp_path / "check").glob("*.png"))
    assert cli.run(["train", *words, f"output={tmp_path}", "name=run"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = {row["step"]: row["loss"] for row in rows if "loss" in row}
    assert list(losses) == [0, 1] and all(map(math.isfinite, losses.values()))
    capsys.readouterr()
    checkpoint = tmp_path / "run" / "checkpoints" / "step-0000002.ckpt"
    assert cli.run(["evaluate", f"checkpoint={checkpoint}", f"out={tmp_path / 'scores'}", "steps=2"]) == 0
    assert "psnr" in capsys.readouterr().out
