"""A run that reads latents made ahead is the run that makes them itself."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from preparing import in_this_process
from safetensors.torch import load_file, save_file
from svd_pipeline import overrides as svd

from hvg.cli import run
from hvg.config.composition import compose
from hvg.core.checkpoint import Checkpoint, checkpoint_path
from hvg.core.errors import DataError
from hvg.data.cache import cache_folder, open_training_clips, shard_paths
from hvg.data.prepare import prepare
from hvg.data.shards import ShardReader
from hvg.model.load import build_system
from hvg.train.run import train

STEPS = 4


@pytest.fixture(scope="module")
def words(tiny, cache):
    """Overrides of a run behind whose pixels the codec's latents are made ahead, alignment and all."""
    words = [*tiny, cache, "data.recolour=0", "alignment=pelvis", "pose=skeleton", "evaluation.weights=raw"]
    words += [f"training.steps={STEPS}", "training.keep_last=4", "training.foreground_weight=2"]
    with in_this_process():
        prepare([compose([*words, "data.latents=cached"])], ("train", "val"), jobs=1)
    return words


def trained(words, folder, *more):
    """A run's losses by step, and every tensor of its last checkpoint."""
    config = compose([*words, f"output={folder}", *more])
    train(config, log=lambda line: None)
    written = folder / config.name
    rows = [json.loads(line) for line in (written / "metrics.jsonl").read_text().splitlines()]
    last = Checkpoint(checkpoint_path(written / "checkpoints", STEPS))
    state = {f"{part}/{k}": v for part in ("weights", "exp_avg", "average") for k, v in last.section(part).items()}
    return {row["step"]: row["loss"] for row in rows if "loss" in row}, state


def assert_same_run(a, b):
    assert a[0] == b[0] and len(a[0]) == STEPS
    assert a[1].keys() == b[1].keys()
    assert all(torch.equal(a[1][key], b[1][key]) for key in a[1])


@pytest.mark.long
def test_latents_made_ahead_train_to_the_same_bits(words, tmp_path):
    """In this process, with a loader's process, and resumed in the middle."""
    encoding = trained(words, tmp_path / "encode", "data.latents=encode")
    cached = trained(words, tmp_path / "cached", "data.latents=cached")
    assert_same_run(encoding, cached)
    assert_same_run(encoding, trained(words, tmp_path / "worker", "data.latents=cached", "data.workers=1"))
    middle = checkpoint_path(tmp_path / "cached" / "run" / "checkpoints", STEPS // 2)
    _, state = trained(words, tmp_path / "resumed", "data.latents=cached", f"resume={middle}")
    assert all(torch.equal(state[key], cached[1][key]) for key in state)


@pytest.mark.long
def test_what_is_there_is_kept_and_what_is_not_is_made(words, tmp_path):
    """As after an interruption: one file is lacking, one is cut short."""
    words = [*words, "data.latents=cached"]
    source, config = cache_folder(compose(words)), compose([*words, f"data.cache={tmp_path}"])
    folder = cache_folder(config)
    shutil.copytree(source, folder)
    files = sorted(folder.glob("*/*.safetensors"))
    assert [path.parent.name.split("-")[0] for path in files][:2] == ["ReferenceLatent", "ReferenceTokens"]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    files[0].unlink()
    files[1].write_bytes(before[files[1]][0][:-9])
    ticks = []
    prepare([config], ("train", "val"), jobs=1, report=lambda *tick: ticks.append(tick))
    assert {path: path.read_bytes() for path in files} == {path: data for path, (data, _) in before.items()}
    assert [path.stat().st_mtime_ns == before[path][1] for path in files] == [False, False] + [True] * (len(files) - 2)
    train, val = (len(ShardReader(shard_paths(config, split)[0])) for split in ("train", "val"))
    assert ticks[-1] == (2 * train + val, 2 * train + val)
    assert not list(folder.rglob("*.partial*"))


def test_a_run_without_its_latents_ends_in_one_line(words, tmp_path, capsys):
    assert run(["train", *words, "data.latents=cached", "codec.scale=0.5", f"output={tmp_path}"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "latents of the codec 'pixel'" in line and "`hvg prepare latents`" in line
    maps = compose([*(word for word in words if word != "pose=skeleton"), "data.latents=cached", "pose=smpl_normal"])
    system = build_system(maps)
    with pytest.raises(DataError, match="not rendered with all control maps"):
        open_training_clips(maps, system.codec, system.conditioners)


@pytest.mark.long
def test_published_networks_look_once(tiny, cache, svd_folder, tmp_path):
    """SVD's VAE and CLIP: losses agree with those of a run that asks them at every step; other weights are refused."""
    small = ("data.recolour=0", f"training.steps={STEPS}", "training.precision='32'", "evaluation.weights=raw")
    plain = [word for word in tiny if not word.startswith(("backbone.", "dataset.image_size"))]
    words = [*plain, "dataset.image_size=64", *svd(svd_folder), cache, *small]
    prepare([compose([*words, "data.latents=cached"])], ("train", "val"), jobs=1)
    live = trained(words, tmp_path / "encode", "data.latents=encode")
    cached = trained(words, tmp_path / "cached", "data.latents=cached")
    for step, loss in live[0].items():
        assert cached[0][step] == pytest.approx(loss, rel=1e-5)
    for what, place in (("latents", "vae/diffusion_pytorch_model"), ("features", "image_encoder/model")):
        folder = tmp_path / what
        shutil.copytree(svd_folder, folder)
        config = compose([*words, "data.latents=cached", f"codec.path={folder}", f"image_embedding.path={folder}"])
        system = build_system(config)
        assert len(open_training_clips(config, system.codec, system.conditioners)) > 0
        _change_one_weight(folder / f"{place}.safetensors")
        system = build_system(config)
        with pytest.raises(DataError, match=f"there are no {what}"):
            open_training_clips(config, system.codec, system.conditioners)


def _change_one_weight(path: Path) -> None:
    weights = load_file(path)
    weights[sorted(weights)[0]].view(-1)[0] += 1e-3
    save_file(weights, path, metadata={"format": "pt"})


@pytest.mark.long
def test_texts_are_encoded_once(tiny, cache, text_folder, tmp_path):
    """A run that reads what UMT5 made of captions is, bit by bit, the run that asks it at every step; some have no text."""
    words = [
        *tiny,
        cache,
        "data.recolour=0",
        f"training.steps={STEPS}",
        "evaluation.weights=raw",
        "training.keep_last=4",
    ]
    words += ["text=prompt", "text.encoder=umt5", f"text.path={text_folder / 'umt5'}", "text.dropout=0.5"]
    words += ["backbone.cross_attention_width=24", "text.encoder_settings.precision='32'", "text.too_long=cut"]
    config = compose([*words, "data.latents=cached"])
    prepare([config], ("train", "val"), jobs=1)
    (made,) = cache_folder(config).glob("Prompt-*/*.safetensors")
    before = made.stat().st_mtime_ns
    prepare([config], ("train", "val"), jobs=1)
    assert made.stat().st_mtime_ns == before
    live = trained(words, tmp_path / "encode", "data.latents=encode")
    assert_same_run(live, trained(words, tmp_path / "cached", "data.latents=cached"))
    with pytest.raises(DataError, match=r"there are no features of the text for Prompt in .*hvg prepare latents"):
        other = compose([*words, "data.latents=cached", "text.prompt='a person'"])
        system = build_system(other)
        open_training_clips(other, system.codec, system.conditioners)
