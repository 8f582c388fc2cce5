"""Every layout of footage and published data sets, by small files, goes through prepare, check, two steps and evaluation."""

import json
import math
from dataclasses import replace

import pytest
import torch
from data_set_files import LAYOUTS, SETS, set_words, write_models

from hvg import cli
from hvg.config.build import build_dataset
from hvg.config.composition import compose
from hvg.core.errors import ConfigError
from hvg.data.cache import cache_folder, shard_paths
from hvg.data.prepare import prepare
from hvg.data.shards import ShardReader
from hvg.data.signals import drawn_keys
from hvg.values.tensors import tensors_of

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


WITH_BODIES = [*sorted({*SETS} - {"tiktok"}), "nerfstudio", "monocular"]


def words_with_bodies(name, folder, models, tiny):
    """Of a data set whose clips have bodies."""
    if name in LAYOUTS:
        return [*SMALL, *set_words(name, folder, models)]
    if name == "shards":
        rendered = compose([*tiny, f"data.cache={folder / 'cache'}"])
        prepare([rendered], ("train", "val"), jobs=1)
        sizes = [word for word in tiny if not word.startswith("dataset.")]
        return [*sizes, "dataset=shards", f"dataset.path={cache_folder(rendered)}"]
    people = "name:synthetic,num_subjects:2,num_held_out_subjects:1,views:2,frames:2,image_size:32"
    sizes = [word for word in tiny if not word.startswith("dataset.")]
    return [*sizes, "dataset=mixture", *(f"dataset.members.{label}={{{people}}}" for label in ("scans", "camera"))]


@pytest.mark.parametrize("name", [*WITH_BODIES, "shards", "mixture"])
def test_a_fit_observes_the_bodies_of_every_data_set_that_has_them(name, tmp_path, models, tiny):
    """The true ones stay beside them, bit by bit, with all else; and errors are the same at every load."""
    words = words_with_bodies(name, tmp_path, models, tiny)
    plain = build_dataset(compose(words), "train").load(0)
    clip, again = (build_dataset(compose([*words, "fit=typical"]), "train").load(0) for _ in range(2))
    kept = plain.body
    assert torch.equal(clip.true_body.joints, kept.joints) and torch.equal(again.body.joints, clip.body.joints)
    off = (clip.body.joints - kept.joints).norm(dim=-1)
    assert 0.01 < float(off.mean()) < 0.3
    assert clip.body.confidence.shape == kept.joints.shape[:-1] and 0 <= float(clip.body.confidence.min()) < 1
    rest, there = (tensors_of(replace(x, body=None, true_body=None, reference=None)) for x in (clip, plain))
    assert len(rest) == len(there) and all(map(torch.equal, rest, there))


def test_a_data_set_without_bodies_has_no_fit(tmp_path, models):
    words = [*SMALL, *set_words("tiktok", tmp_path, models)]
    with pytest.raises(ConfigError, match="requires the field 'body'"):
        compose([*words, "fit=typical"])
