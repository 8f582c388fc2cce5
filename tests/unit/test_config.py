"""The configuration: what it refuses, how it says so, and what it builds."""

import os
import re
import resource
import subprocess
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import Literal

import pytest
import torch
import yaml
from pydantic import BaseModel

from hvg import cli
from hvg.commands import check, listing
from hvg.commands.words import take_options
from hvg.config import build, composition, wiring
from hvg.config.command_options import EvaluateOptions, SampleOptions
from hvg.config.composition import compose, load_resolved, parse_resolved, recompose
from hvg.config.groups import all_options
from hvg.config.overrides import expand_sweep
from hvg.config.refine_options import RefineOptions
from hvg.config.settings import PartChoice, RunConfig
from hvg.config.stages import stages_of
from hvg.config.validation import validate
from hvg.core.errors import ConfigError, HvgError
from hvg.core.required import required
from hvg.cost.forecast import forecast
from hvg.cost.table import gigabytes
from hvg.parts import registry
from hvg.score.protocol import build_protocol

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
    from hvg.parts.model import Conditioner, ConditionerConfig
    from hvg.values.conditioning import Conditioning, ConditioningSpec

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


def test_every_seeded_fault_is_reported_in_one_message(lab):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    overrides = (
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
    # In a process that has to import all that it needs.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(lab)])}
    command = [sys.executable, "-m", "hvg.cli", "check", *overrides]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
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
        "foo: unknown key or option.",
    ):
        assert expected in result.stdout


def test_a_plugin_is_chosen_by_one_word_and_a_broken_one_hurts_only_those_who_choose_it(hvg, lab):
    chosen = hvg("check", "pose=broken", path=lab)
    assert chosen.returncode == 1
    assert "pose.name: the conditioner 'broken' of package 'somelab' cannot be imported" in chosen.stdout
    assert "a_library_that_nobody_has" in chosen.stdout
    untouched = hvg("check", path=lab)
    assert untouched.returncode == 0, untouched.stdout + untouched.stderr
    assert "pose: deep_tokens fills" in hvg("check", "pose=deep_tokens", path=lab).stdout


def test_listing_names_plugins_and_imports_nothing(hvg, lab):
    listed = hvg("list", path=lab)
    assert listed.returncode == 0, listed.stderr
    assert "deep_tokens" in listed.stdout and "somelab" in listed.stdout
    manual = hvg("list", "conditioner", "--verbose", path=lab)
    assert manual.returncode == 0, manual.stderr
    assert "cannot be imported" in manual.stdout and "line_width" in manual.stdout
    heavy = "{'torch', 'jinja2', 'plotly'}"
    code = f"import sys; from hvg.commands import listing; listing.list_command([]); sys.exit(bool({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


# Words that leave the parts as they are where nobody chooses.
EARLY = [
    ("pose=skelton",),
    ("poze=skeleton", "training.stepz=3"),
    ("training.steps=-1", "backbone=null", "name=mine"),
    ("seed=1,2", "device=cud", "protocol.mask=person"),
    ("training._target_=os.system", "data.batch_size=0", "data.views=5"),
    ("strategy=zero3", "training.validate_every=1", "output=${nowhere}"),
]


@pytest.mark.parametrize("words", EARLY, ids=" ".join)
def test_a_wrong_word_is_told_without_importing_a_part(words, monkeypatch):
    code = f"import sys; from hvg.cli import run; told = run(['check', *{words}, 'memory=much']); "
    code += "sys.exit(told + 2 * ('torch' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 1
    # And nothing that the parts would have to be asked for is missing.
    early = problems(*words)
    monkeypatch.setattr(composition, "_same_parts", lambda *_: False)
    assert problems(*words) == early


def test_a_wrong_word_beside_another_part_is_told_with_what_that_part_says():
    found = problems("pose=skelton", "backbone.widths=wide")
    assert list(found) == ["pose", "backbone.widths"]
    assert "hold 4" in problems("pose=skelton", "data.views=5")["data.views"]


# --- what is refused ---


@pytest.mark.parametrize(
    ("override", "path", "message"),
    [
        ("poze=skeleton", "poze", "unknown key for a run. Did you mean 'pose'?"),
        ("scaale=gpu", "scaale", "unknown key for a run. Did you mean 'scale'?"),
        ("~scaale", "scaale", "unknown key for a run. Did you mean 'scale'?"),
        ("steps=2", "steps", "unknown key for a run. Did you mean 'training.steps' or 'evaluation.steps'?"),
        ("batch_size=2", "batch_size", "unknown key for a run. Did you mean 'data.batch_size'?"),
        ("pose.lien_width=3", "pose.lien_width", "unknown key for BoneMap"),
        ("++training.stesp=3", "training.stesp", "Did you mean 'steps'?"),
        ("training.steps='3'", "training.steps", "expected a valid integer, got '3' (str)."),
        ("training.steps=3.5", "training.steps", "expected"),
        ("training.betas=[0.9]", "optimizer.betas.1", "missing"),
        ("data.batch_size=0", "data.batch_size", "greater than or equal to 1"),
        ("device=cud", "device", "'auto', 'cpu' or 'cuda', got 'cud'"),
        ("seed.x=3", "seed", "expected a valid integer"),
        ("backbone=null", "backbone", "cannot be left out"),
        ("~codec", "codec", "cannot be left out"),
        ("seed=1,2", "seed", "--multirun"),
        ("hydra.run.dir=x", "hydra.run.dir", "no effect"),
        # Mappings are merged.
        ("stages={}", "stages", "{} adds nothing to what is there; ~stages leaves it out."),
        ("+slots={}", "slots", "{} adds nothing"),
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


WHOLE = """
import torch
from hvg.plugin import Optimizer

class Part(Optimizer):
    whole_weights = True

    def make(self, groups, learning_rate):
        return torch.optim.SGD(groups, lr=learning_rate)
"""


def test_an_optimizer_that_has_to_see_weights_whole_is_refused_where_they_are_cut_up(package):
    package({"optimizer.whole": WHOLE})
    found = problems("optimizer=whole", "strategy=fsdp", "training.validate_every=0")
    assert found.keys() == {"optimizer"}
    assert "whole has to see weights whole, strategy=fsdp cuts them up" in found["optimizer"]
    assert compose(["optimizer=whole", "strategy=ddp"]).optimizer.name == "whole"


def test_settings_of_an_optimizer_go_by_their_old_names_too():
    """On the command line, in a stage, and in the configuration of a run from before there was a choice."""
    new = compose(["optimizer.betas=[0.8,0.9]", "optimizer.weight_decay=0.5"])
    assert compose(["training.betas=[0.8,0.9]", "++training.weight_decay=0.5"]) == new
    assert new.optimizer.name == "adamw_fused" and new.optimizer.config.betas == (0.8, 0.9)
    old = new.resolved()
    del old["optimizer"]
    old["training"] |= {"betas": [0.8, 0.9], "weight_decay": 0.5}
    assert parse_resolved(yaml.safe_dump(old), "config.yaml") == new
    both = {**new.resolved(), "training": {**new.resolved()["training"], "betas": [0.1, 0.2]}}
    with pytest.raises(ConfigError, match=r"training\.betas: is another name of optimizer\.betas, which is given, too"):
        parse_resolved(yaml.safe_dump(both), "config.yaml")
    stages = ["stages.one.training.weight_decay=0.3", "stages.two={training:{betas:[0.1,0.2]}}"]
    first, second = (stage.config.optimizer.config for stage in stages_of(compose(stages)))
    assert first.weight_decay == 0.3 and second.betas == (0.1, 0.2) and first.betas == (0.9, 0.98)


@pytest.mark.parametrize("name", ["zero3", "fsdp"])
def test_divided_weights_and_samples_while_training_exclude_each_other(name):
    found = problems(f"strategy={name}", "scale=gpu")
    assert found.keys() == {"training.validate_every"}
    assert f"1000 is asked for, but {name}" in found["training.validate_every"]
    assert "zero2" in found["training.validate_every"]
    assert compose([f"strategy={name}", "scale=gpu", "training.validate_every=0"]).strategy.name == name
    assert compose(["strategy=zero2", "scale=gpu"]).training.validate_every == 1000


POSE = "protocol.metrics.joint_error"
TORCHSCRIPT = (
    f"{POSE}.regressor=torchscript",
    f"{POSE}.regressor_settings={{path: a.pt, names: [nose], root: [nose]}}",
)


@pytest.mark.parametrize(
    ("words", "key", "message"),
    [
        (["regressor=suitt"], "regressor", "no keypoints is named 'suitt'. Did you mean 'suit'?"),
        (["regressor=3"], "regressor", "no keypoints is named '3'."),
        (["regressor=[3]"], "regressor", "expected a valid string, got [3] (list)."),
        (["regressor_settings=[3]"], "regressor_settings", "expected an object, got [3] (list)."),
        (["regressor_settings.hues=3"], "regressor_settings.hues", "unknown key for SuitKeypoints."),
        (["regressor=torchscript"], "regressor_settings.path", "is missing; it has to be given."),
        ([*TORCHSCRIPT, "regressor_settings.pth=b.pt"], "regressor_settings.pth", "Did you mean 'path'?"),
        ([*TORCHSCRIPT, "regressor_settings.root=[hip]"], "regressor_settings.root", "hip is not among the key points"),
        ([*TORCHSCRIPT, "regressor_settings.image_size=64"], "regressor_settings.image_size", "got 64 (int)."),
    ],
)
def test_what_a_metric_builds_is_judged_with_everything_else(words, key, message):
    words = [word if word.startswith(POSE) else f"{POSE}.{word}" for word in words]
    found = problems("protocol=modern", *words, "training.stesp=3")
    assert message in found.get(f"{POSE}.{key}", ""), found
    assert "training.stesp" in found


def test_the_settings_of_what_a_metric_builds_are_kept_whole():
    config = compose(["protocol=modern", *TORCHSCRIPT])
    settings = {"path": "a.pt", "names": ["nose"], "root": ["nose"], "image_size": None}
    assert config.protocol.metrics["joint_error"].config.regressor_settings == settings
    assert parse_resolved(config.to_yaml(), "config.yaml") == config
    # Another regressor keeps none of them, in whichever order it is asked for.
    assert recompose(config, [f"{POSE}.regressor=suit"]).protocol == compose(["protocol=modern"]).protocol
    backwards = recompose(compose(["protocol=modern"]), TORCHSCRIPT[::-1])
    assert backwards.protocol == config.protocol


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


@pytest.mark.parametrize(
    "command",
    [["prepare"], ["show"], ["check"], ["launch", "train"], ["train", "dry_run=2"], ["sweep", "wandb", "--print"]],
)
def test_a_word_that_leaves_a_slot_out_is_an_override_of_every_command(command, capsys):
    varied = "seed=1,2" if "sweep" in command else "seed=1"
    assert cli.run([*command, "~camera", varied, "training.validate_every=1", "training.stepz=3"]) == 1
    said = "".join(capsys.readouterr())
    assert "1 problem in the configuration" in said and "training.stepz" in said and "camera" not in said


def test_a_misspelt_option_is_told_from_a_misspelt_key(capsys):
    words = ["check", "bandwith=50", "memory=much", "training.stepz=3", "pose=skeleton", "image_sze=3"]
    assert cli.run(words) == 1
    said = "".join(capsys.readouterr()).splitlines()
    assert [line.strip("- ").partition(":")[0] for line in said[1:]] == [
        "memory",
        "bandwith",
        "image_sze",
        "training.stepz",
        "next",
    ]
    assert "Did you mean 'bandwidth'?" in said[2] and "Did you mean 'steps'?" in said[4]


def test_a_setting_that_is_typed_without_its_section_is_known(capsys):
    assert cli.run(["check", "steps=2"]) == 1
    said = "".join(capsys.readouterr())
    assert "steps: unknown key or option. Did you mean 'training.steps' or 'evaluation.steps'?" in said


def test_a_list_that_is_written_otherwise_is_recognised():
    assert problems("dataset.image_size=64x96")["dataset.image_size"].endswith("Did you mean [64,96]?")
    assert "Did you mean" not in problems("dataset.image_size=big")["dataset.image_size"]


# --- what is composed ---


def test_more_conditioners_go_under_slots_and_come_last():
    config = compose(["+slots.normals.name=smpl_normal", "+slots.normals.dropout=0.5", "camera=none"])
    root = [
        "pose",
        "appearance",
        "reference_keys",
        "image_embedding",
        "camera",
        "reconstruction",
        "task",
        "known",
        "text",
    ]
    assert list(config.conditioners) == [*root, "normals"]
    assert config.conditioners["normals"].config.dropout == 0.5
    assert parse_resolved(config.to_yaml(), "") == config


@pytest.mark.parametrize("name", ["parameters", "keys", "training"])
def test_a_slot_is_not_called_as_something_that_networks_have(name):
    with pytest.raises(ConfigError, match=rf"slots\.{name}: every network has something of that name"):
        compose([f"+slots.{name}.name=skeleton"])


def test_an_empty_slot_holds_nothing():
    assert "pose" not in compose(["pose=null"]).conditioners


def test_sweeps_expand_to_every_combination_in_order():
    expanded = expand_sweep(["pose=bone_map,skeleton", "seed=range(2)", "training.betas=[0.9,0.99]"])
    assert expanded == [
        [f"pose={pose}", f"seed={seed}", "optimizer.betas=[0.9,0.99]"]
        for pose in ("bone_map", "skeleton")
        for seed in (0, 1)
    ]
    with pytest.raises(ConfigError, match="can be swept"):
        expand_sweep(["seed=interval(0,1)"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed=range(0,100000000)"], "seed 100000000 = 100000000 runs are asked for; at most 10000 are"),
        (
            ["seed=range(0,200)", "pose=none,skeleton", "training.steps=range(1,100)"],
            "seed 200 x pose 2 x training.steps 99",
        ),
        (["data.recolour=range(0.0,1.0,9.094947017729282e-13)"], "data.recolour 1099511627776 = "),
        (["seed=range(10,0,-1)", "training.steps=range(0,100000,3)"], "= 333340 runs"),
        (["seed=range(0,10,0)"], "seed: holds no value"),
        (["seed=range(5,1)"], "seed: holds no value"),
    ],
)
def test_a_sweep_is_counted_before_it_is_expanded(words, message):
    with pytest.raises(ConfigError) as error:
        expand_sweep(words)
    assert message in str(error.value) and len(error.value.problems) == 1


def test_composing_leaves_no_hydra_behind():
    from hydra.core.global_hydra import GlobalHydra

    compose()
    assert not GlobalHydra.instance().is_initialized()


def test_list_refuses_an_unknown_kind():
    with pytest.raises(HvgError, match="Did you mean 'backbone'"):
        listing.list_command(["backbon"])


def shown(capsys, *words: str) -> list[list[str]]:
    """The cells of the rows that ``hvg list`` prints."""
    assert cli.run(["list", *words]) == 0
    return [re.split(r"  +", line.strip()) for line in capsys.readouterr().out.splitlines()]


def test_every_kind_and_every_word_of_the_command_line_can_be_listed(capsys):
    groups = all_options()
    rows = shown(capsys, *registry.KINDS, *groups)
    parts = [tuple(cells[:2]) for cells in rows if len(cells) == 3][1:]
    assert parts == [(kind, name) for kind in registry.KINDS for name in registry.names(kind)]
    assert {cells[0]: cells[1] for cells in rows if cells[0].endswith("=")} == {
        f"{group}=": " ".join(options) for group, options in groups.items()
    }
    assert shown(capsys, "pose", "scale") == [
        ["On the command line:"],
        *([f"{group}=", " ".join(groups[group])] for group in ("pose", "scale")),
    ]
    of_kind = shown(capsys, "guidance")
    assert of_kind[0] == ["kind", "name", "from"] and of_kind[-1] == ["guidance=", " ".join(groups["guidance"])]


def test_the_manual_shows_what_a_plain_command_uses(capsys):
    rows = shown(capsys, "--verbose")
    plain = compose()
    places = {" ".join(cells): number for number, cells in enumerate(rows)}
    sections = {name: places[f"{name}: {RunConfig.model_fields[name].description}"] for name in ("data", "training")}
    for section, start in sections.items():
        for row, (key, value) in zip(
            rows[start + 1 :], getattr(plain, section).model_dump(mode="json").items(), strict=False
        ):
            assert (row[0], row[2]) == (key, listing._shown(value))
    assert ["steps", "int", "660", "Optimiser steps."] in rows
    widths = next(row for row in rows if row[0] == "widths" and "divisible" in row[-1])
    assert widths[2] == "[64, 64]"
    larger = shown(capsys, "--verbose", "scale=gpu", "~camera")
    steps = compose(["scale=gpu"]).training.steps
    assert steps != 660 and ["steps", "int", str(steps), "Optimiser steps."] in larger


def test_the_manual_of_a_word_has_its_parts_and_what_each_option_sets(capsys):
    rows = shown(capsys, "pose", "alignment", "scale", "strategy", "--verbose")
    for part, there in (
        ("conditioner bone_map", True),
        ("alignment pelvis", True),
        ("conditioner camera_rotation", False),
    ):
        assert ([f"{part} (built-in)"] in rows) == there
    assert rows[rows.index(["pose=hvg_no_depth sets"]) + 2] == ["maps: [bone_normal]"]
    assert ["steps: 660"] in rows and any(row[0] == "offload" for row in rows)


def test_list_says_what_it_cannot_do(capsys):
    for words, said in ((["psoe"], "Did you mean 'pose'"), (["~camera"], "--verbose"), (["pose", "x=1"], "--verbose")):
        with pytest.raises(HvgError, match=said):
            listing.list_command(words)
    with pytest.raises(ConfigError, match="Did you mean 'scale'"):
        listing.list_command(["scaale=gpu"], verbose=True)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("signal", "there is no kind or word 'signal': it is a conditioner; next: `hvg list conditioner`"),
        (
            "bone_map",
            "there is no kind or word 'bone_map', but a part: conditioner bone_map; "
            "next: `hvg list conditioner --verbose`",
        ),
        (
            "hvg_no_depth",
            "there is no kind or word 'hvg_no_depth', but pose=hvg_no_depth; next: `hvg list pose --verbose`",
        ),
        ("training", "there is no kind or word 'training': it is of a run's settings; next: `hvg list --verbose`"),
        ("trainnig", "there is no kind or word 'trainnig'. "),
    ],
)
def test_list_tells_what_else_is_called_so(name, said):
    with pytest.raises(HvgError) as error:
        listing.list_command([name])
    assert str(error.value).startswith(said)


def test_check_shows_ports_weights_arithmetic_and_memory(capsys):
    assert check.check_command(["pose=skeleton"]) == 0
    shown = capsys.readouterr().out
    for expected in ("residuals[stem]", "trainable", "view_attention", "GFLOP", "activations", "fits 80 GB"):
        assert expected in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["device=cpu", "training.precision=auto"], "float32 (training.precision=auto on a CPU)"),
        (["device=cpu", "training.precision=bf16"], "bf16 autocast (training.precision=bf16)"),
        (
            ["memory=40", "training.precision=auto"],
            "bf16 autocast (training.precision=auto on GPUs of compute capability 8.0 or more)",
        ),
        (["memory=40", "training.precision=32"], "float32 (training.precision=32)"),
    ],
)
def test_check_says_the_precision_that_is_used_and_sizes_memory_for_it(words, said, tiny, capsys):
    small = [*tiny, "data.batch_size=16"]
    assert check.check_command([*small, *words]) == 0
    shown = capsys.readouterr().out
    kept = kept_by(*small, f"training.precision={'bf16' if said.startswith('bf16') else '32'}")
    assert f"trained in {said}\n" in shown and f"The forward pass keeps {kept} " in shown


@cache
def kept_by(*words: str) -> str:
    return gigabytes(required(forecast(compose(words)).counts.step, "Counts.step").saved)


def test_check_of_files_of_unknown_size_shows_weights_alone(capsys, tmp_path):
    assert check.check_command(["dataset=shards", f"dataset.path={tmp_path}", "pose=none"]) == 0
    shown = capsys.readouterr().out
    assert "unknown" in shown and "trainable" in shown
    assert (
        f"note: {tmp_path}: no shard named train*.tar is here, so whether its clips fit the run is not judged" in shown
    )


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


def test_latents_made_ahead_that_join_frames_are_for_steps_of_whole_clips():
    words = ["codec=pixel_time", "dataset.frames=9", "data.cache=x", "data.recolour=0"]
    assert compose([*words, "data.frames=5"]).data.latents == "encode"
    assert compose([*words, "data.frames=9", "data.latents=cached"]).data.frames == 9
    found = problems(*words, "data.frames=5", "data.latents=cached")
    assert list(found) == ["data.latents"] and "\n" not in found["data.latents"]
    assert "as pixel_time does, and steps see 5 of 9 frames" in found["data.latents"]
    assert (
        compose(["data.frames=2", "data.cache=x", "data.recolour=0", "data.latents=cached"]).dataset.config.frames == 4
    )


def test_frames_that_are_padded_are_told_once(capsys):
    words = ["codec=pixel_time", "dataset.frames=6", "data.frames=6", "debug=tiny", "dataset.image_size=32"]
    assert check.check_command(words) == 0
    said = capsys.readouterr().out
    assert (
        said.count("6 frames are padded to 9 with the last one, and cut to 6 again; with 5 or 9 nothing is padded") == 1
    )
    assert check.check_command(["codec=pixel_time", "dataset.frames=9", "data.frames=5", *words[3:]]) == 0
    assert "padded" not in capsys.readouterr().out


# --- what other packages register ---

STRANGERS = {
    "sampler.stranger": """
        class Part:
            def __init__(self, config, context):
                self.config = config
    """,
    "sampler.unfinished": """
        from hvg.parts.plan import Sampler

        class Part(Sampler):
            def stage(self, step, num_steps, frames):
                return super().stage(step, num_steps, frames)
    """,
    "camera.wrong_kind": """
        class Part:
            pass
    """,
    "sampler.loose": """
        from pydantic import BaseModel
        from hvg.parts.plan import Sampler

        class Part(Sampler):
            Config = BaseModel

            def windows(self, step, num_steps, views, frames):
                return []
    """,
}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("stranger", "is no subclass of hvg.plugin.Sampler"),
        ("unfinished", "does not define windows of hvg.plugin.Sampler"),
        ("loose", "has a Config that is no subclass of hvg.plugin.PartConfig"),
    ],
)
def test_what_is_no_part_of_its_kind_is_refused_in_one_line(package, name, told):
    package(STRANGERS)
    (problem,) = problems(f"sampler={name}").values()
    assert f"the sampler '{name}' of package 'lab_" in problem and problem.endswith(f":Part {told}")


def test_the_list_names_an_entry_of_no_kind_and_takes_a_part_without_a_docstring(package, capsys):
    package(STRANGERS | {"solver.bare": BARE_SOLVER})
    assert listing.list_command(["sampler"]) == 0
    *_, line = capsys.readouterr().out.splitlines()
    assert line.startswith("left out: 'camera.wrong_kind' of package 'lab_") and "there is no kind 'camera'" in line
    assert listing.list_command(["solver"], verbose=True) == 0
    assert "solver bare (lab_" in capsys.readouterr().out


BARE_SOLVER = """
    from hvg.parts.plan import Solver

    class Part(Solver):
        def step(self, x, x0, at):
            return x0
"""
BARE_CONDITIONER = """
    from hvg.parts.model import Conditioner
    from hvg.values.conditioning import Conditioning, ConditioningSpec

    class Part(Conditioner):
        @classmethod
        def spec(cls, config, ports):
            return ConditioningSpec()

        def forward(self, signal, batch):
            return Conditioning()
"""


def test_a_part_needs_neither_settings_nor_a_constructor(package):
    package({"solver.bare": BARE_SOLVER, "conditioner.bare": BARE_CONDITIONER})
    parts = build.build_parts(compose(["solver=bare", "+slots.mine.name=bare", "+slots.mine.dropout=0.1"]))
    assert parts.solver.config.model_dump() == {}
    assert parts.conditioners["mine"].config.dropout == 0.1


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
    protocol = build_protocol(config, torch.device("cpu"))
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
    for model, more in ((SampleOptions, []), (RefineOptions, ["video=v"])):
        for given, files in (("2024", ["2024"]), ("[a.png,b.png]", ["a.png", "b.png"])):
            options, _ = take_options(["checkpoint=a", f"reference={given}", *more], model)
            assert [str(path) for path in options.reference] == files


def test_what_is_composed_once_serves_others_until_a_file_changes(tmp_path):
    place, file = [tmp_path.as_uri()], tmp_path / "debug" / "mine.yaml"
    file.parent.mkdir()
    file.write_text("# @package _global_\nseed: 3\n", encoding="utf-8")
    words = ["debug=mine", "training.steps=7"]
    assert (compose(words, place).seed, compose(words, place).training.steps) == (3, 7)
    assert compose(["debug=mine"], place).training.steps == compose().training.steps != 7
    file.write_text("# @package _global_\nseed: 41\n", encoding="utf-8")
    assert compose(words, place).seed == 41
