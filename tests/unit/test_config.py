"""The configuration: what it refuses, how it says so, and what it builds."""

import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Literal

import pytest
import torch
from pydantic import BaseModel

from hvg import build, listing, wiring
from hvg.cli import take_options
from hvg.config import compose, expand_sweep, load_resolved, parse_resolved, recompose
from hvg.cost_table import gigabytes
from hvg.errors import ConfigError, HvgError
from hvg.evaluation import EvaluateOptions
from hvg.forecast import forecast
from hvg.parsing import validate
from hvg.required import required
from hvg.settings import PartChoice

ROOT = Path(__file__).resolve().parents[2]


def problems(*overrides: str) -> dict[str, str]:
    """Path -> message of everything wrong with these overrides."""
    with pytest.raises(ConfigError) as caught:
        compose(overrides)
    return {problem.path: problem.message for problem in caught.value.problems}


@pytest.fixture(scope="module")
def default():
    return compose()


# --- a lab's package: one conditioner that wants a port, one that cannot be imported ---

CONDITIONER = """
    from hvg.protocols import Conditioner, ConditionerConfig
    from hvg.types import Conditioning, ConditioningSpec

    class DeepTokens(Conditioner):
        Config = ConditionerConfig

        @classmethod
        def spec(cls, config, ports):
            return ConditioningSpec(tokens=768, residuals={"steem": 64})

        def forward(self, signal, batch):
            return Conditioning()
"""
ENTRY_POINTS = """
    [hvg.components]
    conditioner.deep_tokens = somelab.deep_tokens:DeepTokens
    conditioner.broken = brokenlab:Broken

    [hvg.conf]
    somelab = somelab.conf
    brokenlab = brokenlab.conf
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Path:
    """A folder that, on Python's path, is what pip makes of a lab's package."""
    folder = tmp_path_factory.mktemp("site")
    files = {
        "somelab/__init__.py": "",
        "somelab/deep_tokens.py": CONDITIONER,
        "somelab/conf/pose/deep_tokens.yaml": "name: deep_tokens",
        "brokenlab/__init__.py": "import a_library_that_nobody_has",
        "brokenlab/conf/pose/broken.yaml": "name: broken",
        "somelab-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: somelab\nVersion: 1.0\n",
        "somelab-1.0.dist-info/entry_points.txt": ENTRY_POINTS,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text), encoding="utf-8")
    return folder


def check(lab: Path, *overrides: str, command: str = "check_command") -> subprocess.CompletedProcess:
    """``hvg check`` (or ``list_command``) in a process that has the lab's package."""
    code = f"import sys; from hvg import listing; sys.exit(listing.{command}(sys.argv[1:]))"
    path = os.pathsep.join([str(ROOT), str(lab), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, "-c", code, *overrides], env=environment, capture_output=True, text=True, timeout=60
    )


def test_every_seeded_fault_is_reported_in_one_message(lab):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = check(
        lab,
        "training.stesp=3",
        "solver=eulr",
        "evaluation.steps='50 steps'",
        "+slots.deep.name=deep_tokens",
        "dataset=shards",
        "dataset.path=somewhere",
        "pose=smpl_normal",
        "camera=[camera_rotation,none]",
        "+foo=1",
    )
    assert result.returncode == 1, result.stderr
    # Processor time: a busy machine does not change it.
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert spent.ru_utime + spent.ru_stime - before.ru_utime - before.ru_stime < 5
    assert "8 problems" in result.stdout
    for expected in (
        "training.stesp: unknown key for training. Did you mean 'steps'?",
        "solver: no solver is named 'eulr'. Did you mean 'euler'?",
        "evaluation.steps: expected a valid integer, got '50 steps' (str).",
        "slots.deep: deep_tokens fills the residual port 'steem', which the backbone lacks. Did you mean 'stem'?",
        "slots.deep: deep_tokens fills the token port, but the backbone has none",
        "pose: smpl_normal requires the field 'body.vertices', which the dataset 'shards' does not provide",
        "camera: two parts on one slot: camera_rotation, none; one is allowed.",
        "foo: unknown key for a run.",
    ):
        assert expected in result.stdout


def test_a_plugin_is_chosen_by_one_word_and_a_broken_one_hurts_only_those_who_choose_it(lab):
    chosen = check(lab, "pose=broken")
    assert chosen.returncode == 1
    assert "pose.name: the conditioner 'broken' of package 'somelab' cannot be imported" in chosen.stdout
    assert "a_library_that_nobody_has" in chosen.stdout
    untouched = check(lab)
    assert untouched.returncode == 0, untouched.stdout + untouched.stderr
    assert "pose: deep_tokens fills" in check(lab, "pose=deep_tokens").stdout


def test_listing_names_plugins_and_imports_nothing(lab):
    listed = check(lab, command="list_command")
    assert listed.returncode == 0, listed.stderr
    assert "deep_tokens" in listed.stdout and "somelab" in listed.stdout
    manual = check(lab, "conditioner", "--verbose", command="list_command")
    assert manual.returncode == 0, manual.stderr
    assert "cannot be imported" in manual.stdout and "line_width" in manual.stdout
    code = "import sys; from hvg import listing; listing.list_command([]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


# --- what is refused ---


@pytest.mark.parametrize(
    ("override", "path", "message"),
    [
        ("poze=skeleton", "poze", "Did you mean 'pose'?"),
        ("pose.lien_width=3", "pose.lien_width", "unknown key for BoneMap"),
        ("++training.stesp=3", "training.stesp", "Did you mean 'steps'?"),
        ("training.steps='3'", "training.steps", "expected a valid integer, got '3' (str)."),
        ("training.steps=3.5", "training.steps", "expected"),
        ("training.betas=[0.9]", "training.betas.1", "missing"),
        ("data.batch_size=0", "data.batch_size", "greater than 0"),
        ("device=cud", "device", "'auto', 'cpu' or 'cuda', got 'cud'"),
        ("seed.x=3", "seed", "expected a valid integer"),
        ("backbone=null", "backbone", "cannot be left out"),
        ("~codec", "codec", "cannot be left out"),
        ("seed=1,2", "seed", "--multirun"),
        ("hydra.run.dir=x", "hydra.run.dir", "no effect"),
        ("pose=skeleton extra", "pose", "Did you mean 'skeleton'?"),
        ("a b", "a b", "cannot be read as key=value"),
        ("backbone._target_=os.system", "backbone._target_", "never by a class path"),
        ("+slots.pose.name=skeleton", "slots.pose", "two parts on one slot"),
        ("dataset=shards", "dataset.path", "has to be given"),
        ("output=${nowhere}", "output", "nowhere"),
        ("protocol=basik", "protocol", "Did you mean 'basic'?"),
        ("protocol=null", "protocol", "cannot be left out"),
        ("protocol=[basic,basic]", "protocol", "one is allowed"),
        ("protocol.metrcs.x.name=psnr", "protocol.metrcs", "Did you mean 'metrics'?"),
        ("protocol.metrics=[psnr]", "protocol.metrics=[psnr]", "cannot be set"),
        ("protocol.metrics.psnr=ssim", "protocol.metrics.psnr.name", "has to name a metric, got 'ssim' (str). Known:"),
        ("protocol.metrics.mine.name=ssin", "protocol.metrics.mine.name", "Did you mean 'ssim'?"),
        ("protocol.metrics.psnr.avrage=frames", "protocol.metrics.psnr.avrage", "unknown key for PSNR"),
        ("protocol.metrics.psnr.average=pixels", "protocol.metrics.psnr.average", "'clips' or 'frames', got 'pixels'"),
        ("protocol.metrics={a b: {name: psnr}}", "protocol.metrics.a b", "letters, digits"),
        ("protocol.mask=person", "protocol.mask", "'none' or 'truth', got 'person'"),
        ("~protocol.metrics.fvd", "~protocol.metrics.fvd", "cannot be set"),
        ("guidance.value=2", "guidance", "dropout"),
        ("data.views=5", "data.views", "dataset's clips hold 4"),
        ("data.frames=5", "data.frames", "dataset's clips hold 4"),
        ("dataset.image_size=60", "dataset.image_size", "not divisible by 8"),
    ],
)
def test_a_mistake_is_named_with_its_place(override, path, message):
    found = problems(override)
    assert message in found.get(path, found), found


def test_zero3_and_samples_while_training_exclude_each_other():
    found = problems("strategy=zero3", "scale=gpu")
    assert found.keys() == {"training.validate_every"}
    assert "1000 is asked for" in found["training.validate_every"] and "zero2" in found["training.validate_every"]
    assert compose(["strategy=zero3", "scale=gpu", "training.validate_every=0"]).strategy.name == "zero3"
    assert compose(["strategy=zero2", "scale=gpu"]).training.validate_every == 1000


def test_a_group_may_be_chosen_once():
    assert "chosen 2 times: skeleton, bone_map" in problems("pose=skeleton", "pose=bone_map")["pose"]


def test_one_mistake_is_reported_once():
    assert list(problems("pose.lien_width=3")) == ["pose.lien_width"]
    assert list(problems("guidance=constannt", "backbone.widths=wide")) == ["guidance", "backbone.widths"]


def test_a_configuration_of_a_missing_plugin_cannot_be_read_back(default):
    text = default.to_yaml().replace("name: bone_map", "name: bone_mop")
    with pytest.raises(ConfigError, match=r"pose\.name: no conditioner is named 'bone_mop'. Did you mean 'bone_map'"):
        parse_resolved(text, "config.yaml")


def test_a_file_that_is_no_configuration_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_resolved(tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match="has to hold settings"):
        parse_resolved("[1, 2]", "config.yaml")
    with pytest.raises(ConfigError, match="is no YAML"):
        parse_resolved("a: [", "config.yaml")


# --- what is composed ---


def test_more_conditioners_go_under_slots_and_come_last():
    config = compose(["+slots.normals.name=smpl_normal", "+slots.normals.dropout=0.5", "camera=none"])
    assert list(config.conditioners) == ["pose", "appearance", "reference_keys", "image_embedding", "camera", "normals"]
    assert config.conditioners["normals"].config.dropout == 0.5
    assert parse_resolved(config.to_yaml(), "") == config


def test_an_empty_slot_holds_nothing():
    assert "pose" not in compose(["pose=null"]).conditioners


def test_sweeps_expand_to_every_combination_in_order():
    expanded = expand_sweep(["pose=bone_map,skeleton", "seed=range(2)", "training.betas=[0.9,0.99]"])
    assert expanded == [
        [f"pose={pose}", f"seed={seed}", "training.betas=[0.9,0.99]"]
        for pose in ("bone_map", "skeleton")
        for seed in (0, 1)
    ]
    with pytest.raises(ConfigError, match="can be swept"):
        expand_sweep(["seed=interval(0,1)"])


def test_composing_leaves_no_hydra_behind():
    from hydra.core.global_hydra import GlobalHydra

    compose()
    assert not GlobalHydra.instance().is_initialized()


def test_list_refuses_an_unknown_kind():
    with pytest.raises(HvgError, match="Did you mean 'backbone'"):
        listing.list_command(["backbon"])


def test_check_shows_ports_weights_arithmetic_and_memory(capsys):
    assert listing.check_command(["pose=skeleton"]) == 0
    shown = capsys.readouterr().out
    for expected in ("residuals[stem]", "trainable", "view_attention", "GFLOP", "activations", "fits 80 GB"):
        assert expected in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["device=cpu"], "float32 (training.precision=auto on a CPU)"),
        (["device=cpu", "training.precision=bf16"], "bf16 autocast (training.precision=bf16)"),
        (["memory=40"], "bf16 autocast (training.precision=auto on GPUs of compute capability 8.0 or more)"),
        (["memory=40", "training.precision=32"], "float32 (training.precision=32)"),
    ],
)
def test_check_says_the_precision_that_is_used_and_sizes_memory_for_it(words, said, tiny, capsys):
    small = [*tiny, "data.batch_size=16"]
    assert listing.check_command([*small, *words]) == 0
    shown = capsys.readouterr().out
    precision = "bf16" if said.startswith("bf16") else "32"
    step = forecast(compose([*small, f"training.precision={precision}"])).counts.step
    kept = gigabytes(required(step, "Counts.step").saved)
    assert f"trained in {said}\n" in shown and f"The forward pass keeps {kept} " in shown


def test_check_of_files_of_unknown_size_shows_weights_alone(capsys, tmp_path):
    assert listing.check_command(["dataset=shards", f"dataset.path={tmp_path}", "pose=none"]) == 0
    shown = capsys.readouterr().out
    assert "unknown" in shown and "trainable" in shown


# --- what is wired ---


class WidePort:
    """A conditioner class that looks up a site which no backbone has."""

    @classmethod
    def spec(cls, config, ports):
        return ports.residuals["stemm"].channels


def test_looking_up_a_missing_site_is_a_problem_with_the_nearest_name(default):
    config = default.model_copy(update={"camera": PartChoice("conditioner", "wide", WidePort, None)})
    with pytest.raises(HvgError, match=r"needs the port 'stemm'.*Did you mean 'stem'"):
        wiring.specs(config)


# --- what is built ---


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value for name, value in module.state_dict().items() if not name.startswith("view_attention")}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_weights_depend_on_the_seed_and_on_nothing_beside_the_part(default):
    before = torch.random.get_rng_state()
    parts = build.build_parts(default)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    other = build.build_parts(compose(["pose=none", "view_attention=none"]))
    assert equal(weights(parts.backbone), weights(other.backbone))
    assert equal(weights(parts.conditioners["camera"]), weights(other.conditioners["camera"]))
    reseeded = build.build_parts(compose(["seed=1"]))
    assert not equal(weights(parts.backbone), weights(reseeded.backbone))


def test_metrics_come_in_the_order_of_the_protocol():
    config = compose(
        ["~protocol.metrics.l1", "protocol.metrics.again.name=psnr", "protocol.metrics.again.average=frames"]
    )
    basic = ["psnr", "psnr_foreground", "ssim", "mask_iou", "dtssd", "dvssd"]
    protocol = build.build_protocol(config, torch.device("cpu"))
    assert list(protocol.metrics) == [*basic, "again"]
    assert protocol.metrics["again"].definition != protocol.metrics["psnr"].definition
    assert parse_resolved(config.to_yaml(), "config.yaml") == config


def test_a_trained_models_protocol_can_be_changed(default):
    words = ["protocol.mask=truth", "~protocol.metrics.ssim", "protocol.metrics.again.name=l1"]
    changed = recompose(default, words).protocol
    assert (changed.name, changed.mask) == ("basic", "truth")
    assert "ssim" not in changed.metrics and changed.metrics["again"].name == "l1"
    # Another part at a label keeps no setting of the earlier one.
    other = recompose(default, ["protocol.metrics.mask_iou.name=psnr"]).protocol
    assert other.metrics["mask_iou"].config == default.protocol.metrics["psnr"].config
    # The protocol first, then its settings.
    chosen = recompose(recompose(default, words), ["protocol.mask=truth", "protocol=basic"]).protocol
    assert chosen == default.protocol.model_copy(update={"mask": "truth"})
    with pytest.raises(ConfigError, match=r"protocol\.metrics\.sim: .*Did you mean 'ssim'"):
        recompose(default, ["~protocol.metrics.sim"])
    with pytest.raises(ConfigError, match="no protocol is named 'basik'"):
        recompose(default, ["protocol=basik"])
    with pytest.raises(ConfigError, match="cannot be left out"):
        recompose(default, ["~protocol"])


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_every_split_of_the_dataset_can_be_built(default, split):
    assert len(build.build_dataset(default, split)) > 0


# --- words that look like numbers ---


@pytest.mark.parametrize(
    "words", [["training.precision=32"], ["training={precision: 32}"], ["training.precision='32'"]]
)
def test_a_choice_that_looks_like_a_number_is_chosen_by_it(words):
    assert compose(words).training.precision == "32"


def test_such_a_choice_may_be_swept_and_read_back():
    swept = expand_sweep(["training.precision=32,bf16"])
    assert [compose(words).training.precision for words in swept] == ["32", "bf16"]
    text = compose(["training.precision=32"]).to_yaml()
    assert parse_resolved(text, "here").training.precision == "32"
    by_hand = text.replace("precision: '32'", "precision: 32")
    assert by_hand != text and parse_resolved(by_hand, "here").training.precision == "32"


@pytest.mark.parametrize("word", ["123", "1e-4", "1_000", "True", "nan", "1.50"])
def test_free_text_on_the_command_line_is_what_was_typed(word):
    config = compose([f"name={word}", f"output={word}", f"protocol.source={word}"])
    assert (config.name, str(config.output), config.protocol.source) == (word, word, word)


def test_a_number_in_a_file_is_no_free_text_for_it_may_have_been_written_otherwise(default):
    with pytest.raises(ConfigError) as caught:
        parse_resolved(default.to_yaml().replace("name: run\n", "name: 0x1F\n", 1), "here")
    (problem,) = caught.value.problems
    assert (problem.path, problem.message) == (
        "name",
        "expected a valid string, got 31 (int); in quotes it is text.",
    )


class Words(BaseModel):
    """Settings of a plugin's part."""

    norm: Literal["1", "2", "inf"] = "2"
    scales: tuple[Literal["0.5", "1e-3"], ...] = ()
    switch: Literal["on", "off"] = "on"
    many: dict[str, Literal["32", "64"]] = {}
    size: int | Literal["16k"] = 1
    alike: Literal["1", "1.0"] = "1"


def test_choices_of_any_part_are_meant_by_what_reads_as_one_of_them():
    given = {"norm": float("inf"), "scales": [0.5, 0.001], "switch": False, "many": {"a": 64}, "size": 32}
    found, none = validate(Words, given, "part", "Words")
    assert none == []
    assert found == Words(norm="inf", scales=("0.5", "1e-3"), switch="off", many={"a": "64"}, size=32)
    wrong = {"norm": 3, "scales": [0.5, 0.002], "switch": 1, "many": {"a": 65}, "size": True, "alike": 1}
    found, problems = validate(Words, wrong, "part", "Words")
    assert found is None
    assert {problem.path for problem in problems} == {
        *(f"part.{key}" for key in ("norm", "scales.1", "switch", "many.a", "size", "alike"))
    }
    assert "expected '1', '2' or 'inf', got 3 (int)." in {problem.message for problem in problems}


def test_files_of_a_group_and_options_of_a_command_may_have_names_like_numbers(tmp_path):
    (tmp_path / "scale").mkdir()
    (tmp_path / "scale" / "4090.yaml").write_text("# @package _global_\ntraining:\n  steps: 7\n")
    assert compose(["scale=4090"], [tmp_path.as_uri()]).training.steps == 7
    options, _ = take_options(["checkpoint=2024", "out=1e5", "weights=raw"], EvaluateOptions)
    assert (str(options.checkpoint), str(options.out), options.weights) == ("2024", "1e5", "raw")
