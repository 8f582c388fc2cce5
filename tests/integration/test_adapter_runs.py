"""Runs that train some of the weights: what their checkpoints hold, how they go on, and who can read them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from svd_pipeline import overrides as svd_overrides
from train_runs import train_together

from hvg.config.command_options import ExportOptions
from hvg.config.composition import compose
from hvg.core.checkpoint import Checkpoint, checkpoint_path
from hvg.core.errors import CheckpointError, ConfigError, HvgError
from hvg.data.prepare import prepare
from hvg.model.load import checkpoint_weights, load_exported, load_system, start_system
from hvg.sample.export import LORA_FILE, export
from hvg.train.run import train

STEPS = 4
SECTIONS = ("weights", "exp_avg", "exp_avg_sq", "average")
LORA = ("adapter=lora", "adapter.rank=2", "adapter.learning_rate=1e-2")
TEMPORAL = ("adapter=patterns", "adapter.train={temporal:2e-3,new:null,conditioners.camera.*:1e-4}")
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def words(tiny, cache, tmp_path_factory):
    """Of runs of four steps, which save two states, in a folder of their own."""
    every = (
        f"training.steps={STEPS}",
        "training.checkpoint_every=2",
        "training.keep_last=9",
        "training.warmup_steps=0",
    )
    folder = tmp_path_factory.mktemp("adapters")
    return (*tiny, cache, *every, "training.precision=32", "device=cpu", "logger=none", f"output={folder}")


def folder(words) -> Path:
    return Path(words[-1].removeprefix("output="))


def saved(words, name, step=STEPS) -> Path:
    return checkpoint_path(folder(words) / name / "checkpoints", step)


def run(words, name, *more, log=lambda line: None) -> Path:
    """The last checkpoint of a run that is trained here."""
    train(compose([*words, *more, f"name={name}"]), log=log)
    return saved(words, name)


def same_bits(first: Path, second: Path) -> bool:
    a, b = Checkpoint(first), Checkpoint(second)
    assert a.state["optimizer"] == b.state["optimizer"]
    pairs = [(a.section(section), b.section(section)) for section in SECTIONS]
    assert all(mine.keys() == theirs.keys() for mine, theirs in pairs)
    return all(torch.equal(mine[name], x) for mine, theirs in pairs for name, x in theirs.items())


@pytest.fixture(scope="module")
def full(words):
    return run(words, "full")


@pytest.fixture(scope="module")
def lora(words):
    return run(words, "lora", *LORA)


@pytest.fixture(scope="module")
def temporal(words):
    return run(words, "temporal", *TEMPORAL)


@pytest.fixture
def refused(words):
    """The one line with which something is refused."""

    def line(function, *arguments) -> str:
        with pytest.raises(HvgError) as error:
            function(*arguments)
        assert "\n" not in str(error.value) or isinstance(error.value, ConfigError)
        return str(error.value)

    return line


# --- what checkpoints hold --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lora", "temporal"])
def test_a_checkpoint_holds_what_is_trained_and_the_digest_of_the_rest(name, full, request):
    opened, everything = Checkpoint(request.getfixturevalue(name)), Checkpoint(full)
    system, config = load_system(opened.path, "raw")
    train = {key for key, weight in system.named_parameters() if weight.requires_grad}
    buffers = {key for key in system.state_dict() if key not in dict(system.named_parameters())}
    sections = opened.sections()
    assert set(sections["weights"]) == train | buffers and set(sections["average"]) == train
    assert len(opened.state["base"]["digest"]) == 64 and opened.state["base"]["checkpoint"] is None
    assert "base" not in everything.state
    mine, all_of_it = (
        sum(file.stat().st_size for file in found.path.glob("*.safetensors")) for found in (opened, everything)
    )
    assert mine < all_of_it / 2
    kept = opened.section("weights")
    assert all(torch.equal(weight, kept[key]) for key, weight in system.named_parameters() if key in train)
    # What is not trained is as the run's seed made it.
    base = dict(start_system(config, lambda line: None).named_parameters())
    assert all(torch.equal(weight, base[key]) for key, weight in system.named_parameters() if key not in train)
    assert not all(torch.equal(kept[key], base[key]) for key in train)


def test_groups_have_their_rates(temporal):
    opened = Checkpoint(temporal)
    assert sorted(group["initial_lr"] for group in opened.state["optimizer"]["groups"]) == [1e-4, 2e-3, 3e-3]


@pytest.mark.parametrize(("name", "more"), [("lora", LORA), ("temporal", TEMPORAL)])
def test_a_run_that_was_stopped_ends_in_the_same_bits(words, name, more, request):
    whole = request.getfixturevalue(name)
    again = run(words, f"{name}_again", *more, f"resume={saved(words, name, 2)}")
    assert same_bits(whole, again)


def test_averages_are_sampled_and_raw_weights_are_those_of_the_last_step(lora):
    averaged, raw = (load_system(lora, weights)[0].state_dict() for weights in ("ema", "raw"))
    opened = Checkpoint(lora)
    average = opened.section("average")
    assert average and all(torch.equal(averaged[name], x) for name, x in average.items())
    assert not all(torch.equal(raw[name], x) for name, x in average.items())
    assert all(torch.equal(raw[name], x) for name, x in averaged.items() if name not in average)


# --- who reads them ---------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_it_is_evaluated_exported_and_started_from(hvg, words, lora, tmp_path):
    done = hvg("evaluate", f"checkpoint={lora}", f"out={tmp_path / 'scores'}")
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "scores/results.json").read_text())["values"]
    lines = list(export(ExportOptions(checkpoint=lora, out=tmp_path / "model")))
    assert "model/" in lines[0]
    exported, config = load_exported(tmp_path / "model")
    assert config.adapter.name == "full" and not any(".lora_" in name for name in exported.state_dict())
    again = hvg("evaluate", f"checkpoint={tmp_path / 'model'}", f"out={tmp_path / 'again'}")
    assert again.returncode == 0, again.stderr
    merged = json.loads((tmp_path / "again/results.json").read_text())["values"]
    assert merged["psnr"]["value"] == pytest.approx(scores["psnr"]["value"], abs=1e-2)
    # Started from, it is the merged network.
    weights = checkpoint_weights(lora, "ema")
    assert all(torch.equal(weights[name], x) for name, x in exported.state_dict().items())
    second = start_system(compose([*words, f"checkpoint={lora}"]), lambda line: None)
    assert all(torch.equal(x, weights[name]) for name, x in second.state_dict().items())


def test_what_was_added_is_a_file_that_another_run_starts_from(words, lora, temporal, refused, tmp_path):
    lines = list(export(ExportOptions(checkpoint=lora, out=tmp_path / "lora", adapter="file")))
    assert [path.name for path in (tmp_path / "lora").iterdir()] == [LORA_FILE]
    assert lines[0].startswith("wrote ") and lines[1].startswith("not in it: ")
    tensors = load_file(tmp_path / "lora" / LORA_FILE)
    assert all(name.startswith("unet.") and ".lora_" in name for name in tensors)
    more = ["adapter=lora", f"adapter.weights={tmp_path / 'lora'}"]
    started = start_system(compose([*words, *more]), lambda line: None).state_dict()
    trained = load_system(lora)[0].state_dict()
    layers = [name for name in trained if ".lora_" in name]
    assert len(layers) == len(tensors) and all(torch.equal(started[name], trained[name]) for name in layers)
    second = run(words, "second", *more)
    assert load_system(second)[1].adapter.config.weights == str(tmp_path / "lora")
    said = refused(lambda: list(export(ExportOptions(checkpoint=temporal, out=tmp_path / "no", adapter="file"))))
    assert "adds nothing to the network" in said and not (tmp_path / "no").exists()


def test_a_run_on_a_run_s_weights_names_the_very_checkpoint(words, full, refused):
    """The base's folder may go on; its checkpoint, of which it was made, counts, and no other."""
    base = folder(words) / "base"
    shutil.copytree(full.parent.parent, base)
    path = run(words, "upon", *LORA, f"checkpoint={base}")
    assert Checkpoint(path).state["base"]["checkpoint"] == str(saved(words, "base").resolve())
    system = load_system(path)[0].state_dict()
    kept = {name.replace(".base_layer.", "."): x for name, x in system.items() if ".lora_" not in name}
    expected = checkpoint_weights(full, "ema")
    frozen = [name for name in kept if name.startswith("backbone.") and "view_attention" not in name]
    assert frozen and all(torch.equal(kept[name], expected[name]) for name in frozen)
    # A newer one beside it changes nothing.
    shutil.copytree(saved(words, "base", 2), saved(words, "base", 9))
    assert load_system(path)[0].state_dict().keys() == system.keys()
    # Gone, the newest of the folder is another base.
    shutil.rmtree(saved(words, "base"))
    said = refused(load_system, path)
    assert "was trained on another base" in said and Checkpoint(path).state["base"]["digest"][:12] in said
    shutil.rmtree(base)
    assert "holds what was trained alone; the rest is not to be had" in refused(load_system, path)


def test_published_weights_that_are_others_are_refused(tiny, svd_folder, tmp_path, refused):
    source = shutil.copytree(svd_folder, tmp_path / "svd")
    data = [
        word for word in tiny if word.startswith(("dataset.", "data.", "debug", "scale")) and "image_size" not in word
    ]
    words = [*data, "dataset.image_size=64", *svd_overrides(source), *LORA, "logger=none", f"output={tmp_path}"]
    train(compose([*words, "name=run", "training.validate_every=0"]), log=lambda line: None)
    path = tmp_path / "run"
    assert load_system(path)[1].adapter.name == "lora"
    weights = load_file(source / UNET)
    save_file({name: x + 1e-3 if name == "conv_out.bias" else x for name, x in weights.items()}, source / UNET)
    said = refused(load_system, path)
    assert "was trained on another base" in said and str(source) in said


def test_other_weights_than_those_that_were_trained_are_not_continued(words, full, lora, refused):
    config = [*words, f"resume={saved(words, 'full', 2)}", "name=other", *LORA]
    said = refused(train, compose(config))
    assert "adapter: was full, now lora" in said
    said = refused(train, compose([*config, "resume_changes=[adapter]"]))
    assert (
        "other weights were trained than adapter=lora trains; start a new run of it; next: `hvg train checkpoint="
        in said
    )
    larger = [*words, *LORA, "adapter.rank=3", f"resume={saved(words, 'lora', 2)}", "resume_changes=[adapter.rank]"]
    said = refused(train, compose([*larger, "name=larger"]))
    assert "does not fit the model" in said and "has shape" in said
    with pytest.raises(CheckpointError, match="unexpected"):
        fewer = [*words, *LORA, "adapter.targets=[to_q]", "resume_changes=[adapter.targets]", "name=fewer"]
        train(compose([*fewer, f"resume={saved(words, 'lora', 2)}"]), log=lambda line: None)


@pytest.mark.long
def test_a_check_says_what_trains_and_what_means_nothing(hvg, words):
    shown = hvg("check", *words, *LORA)
    assert shown.returncode == 0, shown.stderr
    (row,) = (line.split() for line in shown.stdout.splitlines() if line.split()[:1] == ["backbone"] and "," in line)
    trainable, frozen = (int(number.replace(",", "")) for number in row[1:3])
    assert 0 < trainable < frozen
    wrong = hvg("check", *words, "adapter=lora", "adapter.targets=[query]")
    assert (
        wrong.returncode == 1
        and "adapter.targets: 'query' matches no layer" in wrong.stderr
        and "Traceback" not in wrong.stderr
    )


# --- strategies -------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(("name", "more"), [("lora", LORA), ("temporal", TEMPORAL)])
def test_every_strategy_trains_the_same_and_resumes_to_the_same_bits(words, name, more):
    """In two processes; frozen weights whole, trained ones partitioned, of several rates."""
    names = ("ddp", "zero1", "zero2", "zero3", "fsdp")
    own, two = [*words, *more], ("strategy.devices=2", "data.batch_size=1")
    alone = [*own, "data.batch_size=2", f"name={name}_alone"]
    prepare([compose(alone)], ("train", "val"), jobs=1)
    train_together(1, [alone])

    def of(strategy, *changed):
        return [*own, *two, f"strategy={strategy}", "training.validate_every=0", *changed]

    whole = [of(strategy, f"name={name}_{strategy}") for strategy in names]
    middle = {strategy: saved(words, f"{name}_{strategy}", 2) for strategy in names}
    again = [of(s, f"resume={middle[s]}", f"name={name}_{s}_again") for s in names]
    crossed = of("zero1", f"resume={middle['fsdp']}", f"name={name}_crossed")
    train_together(2, [*whole, *again, crossed])
    expected = Checkpoint(saved(words, f"{name}_alone"))
    for strategy in names:
        found = saved(words, f"{name}_{strategy}")
        assert same_bits(found, saved(words, f"{name}_{strategy}_again")), strategy
        opened = Checkpoint(found)
        assert opened.state["base"] == expected.state["base"]
        assert set(opened.sections()["weights"]) == set(expected.sections()["weights"])
        average = opened.section("average")
        assert max(float((average[key] - x).abs().max()) for key, x in expected.section("average").items()) < 1e-3
    assert same_bits(saved(words, f"{name}_zero1"), saved(words, f"{name}_zero2"))
    assert load_system(saved(words, f"{name}_crossed"))[1].adapter.name == more[0].partition("=")[2]
