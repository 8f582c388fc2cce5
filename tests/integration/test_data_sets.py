"""Published data sets, by small files in their layouts, go through prepare, two training steps and evaluation."""

import json
import math

import pytest
from data_set_files import SETS, set_words, write_models

from hvg import cli
from hvg.config.composition import compose
from hvg.data.cache import shard_paths

pytestmark = pytest.mark.long
SMALL = (
    *("scale=cpu", "debug=tiny", "backbone.widths=[32,32]", "backbone.heads=[1,1]", "device=cpu", "data.workers=0"),
)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("name", sorted(SETS))
def test_a_data_set_is_prepared_trained_on_and_scored(name, tmp_path, models, capsys):
    words = [*SMALL, *set_words(name, tmp_path, models), f"data.cache={tmp_path / 'cache'}"]
    assert cli.run(["prepare", *words, "jobs=1"]) == 0
    assert all(shard_paths(compose(words), split) for split in ("train", "val", "test"))
    if name != "tiktok":
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
