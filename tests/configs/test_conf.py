"""Every YAML in conf/ composes with every scale it is meant for, fits together, and reads back exactly."""

from functools import cache

import pytest
import yaml

from hvg.commands.words import options_and_overrides
from hvg.config.build import build_part
from hvg.config.changes import changes
from hvg.config.chosen_parts import root_choices
from hvg.config.command_options import SampleOptions
from hvg.config.composition import compose, named_protocol, parse_resolved, recompose
from hvg.config.recipes import with_recipe
from hvg.config.settings import SINGLE_PARTS, RunConfig
from hvg.config.stages import stages_of
from hvg.core.errors import ConfigError
from hvg.core.shipped import CONF
from hvg.model.trained_windows import clip_grids, untrained_shapes, window_shapes
from hvg.parts import registry
from hvg.study.study_file import load_study

# What an experiment needs at a scale is composed with both of them below; recipes are of models that are trained.
APART = ("at_scale", "recipe")
OPTIONS = sorted((path.parent.name, path.stem) for path in CONF.glob("*/*.yaml") if path.parent.name not in APART)
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
# A driving video, and a backbone that takes tokens.
DRIVEN = ["backbone.cross_attention_width=64", "dataset.driving=other_view"]
# What else an option needs: guidance something that is dropped, tokens a backbone that takes them.
NEEDS = {
    "guidance": ["pose.dropout=0.1", "appearance.dropout=0.1"],
    "dataset": ["data.views=1", "data.frames=1"],
    "image_embedding": ["backbone=svd_xt"],
    "text": ["backbone=svd_xt"],
    "pose=landmark_tokens": ["backbone.cross_attention_width=32"],
    "pose=pose_tokens": ["backbone.cross_attention_width=32"],
    "appearance=reference_pictures": ["backbone=flux_tiny"],
    "camera=camera_prompt": ["backbone=svd_xt"],
    "dataset=tiktok": ["pose=none"],
    "pose=motion_tokens": DRIVEN,
    "pose=motion_tokens_tiny": DRIVEN,
    "system=avatar": ["reconstructor=projection"],
    "reconstructor": ["system=avatar"],
    "pose=driving_memory": ["dataset.driving=other_view"],
    "reconstruction=nerf": ["reconstruction.checkpoint=given"],
    "reconstruction=files": ["reconstruction.reconstructor_settings.path=given"],
}
# What is given for a setting that is no text.
GIVEN = {"members": "{people:{name:synthetic}}"}
SCALES = sorted(path.stem for path in (CONF / "scale").glob("*.yaml"))


def choose(group: str, option: str) -> list[str]:
    """The choice, and some text for each setting of the part that only a user can give."""
    given = yaml.safe_load((CONF / group / f"{option}.yaml").read_text(encoding="utf-8"))
    fields = registry.load(SINGLE_PARTS[group], given["name"]).Config.model_fields if group in SINGLE_PARTS else {}
    required = [key for key, field in fields.items() if field.is_required() and key not in given]
    return [f"{group}={option}", *(f"{group}.{key}={GIVEN.get(key, 'given')}" for key in required)]


@cache
def preset(scale: str, experiment: str | None = None) -> RunConfig:
    return compose([f"scale={scale}", *([f"experiment={experiment}"] if experiment else [])])


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_is_wired(group, option):
    config = compose([*choose(group, option), *NEEDS.get(group, []), *NEEDS.get(f"{group}={option}", [])])
    if hasattr(config, group):
        given = yaml.safe_load((CONF / group / f"{option}.yaml").read_text(encoding="utf-8"))
        assert getattr(config, group).name == given["name"]


@pytest.mark.parametrize("recipe", sorted(path.stem for path in (CONF / "recipe").glob("*.yaml")))
def test_every_recipe_is_words_of_sampling(recipe):
    words = with_recipe([f"recipe={recipe}", "reference=photo.png", "motion=walk.npz"])
    options, overrides = options_and_overrides(words, SampleOptions)
    assert options.checkpoint and overrides
    recompose(preset("cpu"), overrides)


@pytest.mark.parametrize("scale", [scale for scale in SCALES if scale != root_choices()["scale"]])
@pytest.mark.parametrize("pose", sorted(path.stem for path in (CONF / "pose").glob("*.yaml")))
def test_every_pose_fits_every_other_scale(scale, pose):
    compose([f"scale={scale}", f"pose={pose}", *NEEDS.get(f"pose={pose}", [])])


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_fits_every_scale(scale, experiment):
    config = preset(scale, experiment)
    assert parse_resolved(config.to_yaml(), "config.yaml") == config


# What is sampled in other windows than were trained: the clips of scale=cpu are denoised whole (decision 41).
UNTRAINED = {(None, "cpu"): {(4, 4, 1)}, ("guided", "cpu"): {(4, 4, 1)}}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("experiment", [None, *EXPERIMENTS])
def test_every_preset_samples_windows_that_it_trains(scale, experiment):
    config = preset(scale, experiment)
    if "sampler" not in config.parts:
        return
    grids, steps = clip_grids(config, "test"), config.evaluation.steps
    sampler = build_part(config.sampler)
    assert grids and untrained_shapes(config, sampler, steps, grids) == UNTRAINED.get((experiment, scale), set())
    if config.sampler.name == "progressive":
        assert all(len(window_shapes(sampler, steps, grid)) == 2 for grid in grids)


def test_the_paper_s_windows_are_sampled_and_trained():
    config = preset("paper", "hvg_stage2")
    assert window_shapes(build_part(config.sampler), 1, (8, 100)) == {(3, 24, 1), (6, 12, 1)}
    assert {bucket.views * bucket.frames for bucket in config.data.trained_buckets} == {72}


@pytest.mark.parametrize(("name", "grid"), [("hvg_sampling", (8, 12)), ("consistency_sampling", (4, 8))])
def test_studies_of_sampling_plans_sample_windows_that_they_train(name, grid):
    study = load_study(CONF.parent / "experiments" / name)
    for arm, words in study.arms.items():
        config = compose([*study.base, *words])
        assert clip_grids(config, "test") == {grid}
        untrained = untrained_shapes(config, build_part(config.sampler), config.evaluation.steps, {grid})
        assert untrained == ({(*grid, 1)} if arm == "single" else set()), arm


@pytest.mark.parametrize("path", sorted((CONF / "protocol").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_protocol_is_what_its_file_says(path):
    protocol = compose([f"protocol={path.stem}"]).protocol
    assert protocol.name == path.stem and protocol.source and protocol.metrics
    assert named_protocol(protocol.name) == protocol


def test_what_an_experiment_needs_at_a_scale_belongs_to_both():
    for path in (CONF / "at_scale").glob("*.yaml"):
        experiment, _, scale = path.stem.rpartition("_")
        assert (CONF / "experiment" / f"{experiment}.yaml").exists() and scale in SCALES


def test_the_second_phase_starts_from_the_first_ones_run():
    config = compose(["experiment=hvg_stage2", "output=elsewhere"])
    assert str(config.checkpoint) == "elsewhere/hvg_stage1"
    assert compose(["experiment=hvg_stage1"]).name == "hvg_stage1"


@pytest.mark.parametrize("scale", SCALES)
def test_hvg_s_stages_are_its_two_experiments(scale):
    stages = stages_of(preset(scale, "hvg"))
    assert [stage.label for stage in stages] == ["many_views", "views_and_frames"]
    for stage, experiment in zip(stages, ("hvg_stage1", "hvg_stage2"), strict=True):
        differing = {change.path for change in changes(preset(scale, experiment), stage.config)}
        assert differing <= {"name", "checkpoint"}


def test_a_word_swaps_a_part_that_an_experiment_sets():
    gas = compose(["experiment=gas", "output=elsewhere"])
    assert str(gas.reconstruction.config.checkpoint) == "elsewhere/gas_nerf"
    swapped = compose(["experiment=gas", "reconstruction=projection"]).reconstruction.config
    assert (swapped.reconstructor, swapped.checkpoint, swapped.encoder) == ("projection", None, "codec_cnn")
    assert compose(["experiment=gas", "reconstruction=none"]).reconstruction.resolved().keys() == {
        *compose(["reconstruction=none"]).reconstruction.resolved()
    }
    people = compose(["experiment=gas", "dataset=synthetic", "data.buckets=[[4,1]]"])
    assert people.dataset.name == "synthetic" and people.data.batch_size == gas.data.batch_size
    # At that scale the experiment names a sampler and an image embedding by their names.
    paper = compose(["experiment=gas", "scale=paper", "sampler=single", "image_embedding=none", "appearance=none"])
    assert paper.sampler.name == "single" and paper.image_embedding.name == "none"
    assert compose(["experiment=gas_nerf", "scale=paper", "strategy=ddp"]).strategy.name == "ddp"


def test_settings_that_words_give_to_another_part_are_still_refused():
    with pytest.raises(ConfigError, match="unknown key for") as refused:
        compose(["experiment=gas", "reconstruction=none", "reconstruction.encoder=guider"])
    assert [problem.path for problem in refused.value.problems] == ["reconstruction.encoder"]
    with pytest.raises(ConfigError, match="nothing to train"):
        compose(["experiment=gas", "reconstruction=projection", "reconstruction.checkpoint=given"])


@pytest.mark.parametrize("scale", SCALES)
def test_a_resolved_configuration_reads_back_exactly(scale):
    config = preset(scale)
    assert parse_resolved(config.to_yaml(), "config.yaml") == config


def test_the_command_line_beats_the_scale():
    config = compose(["scale=paper", "backbone=svd_mid", "codec=pixel", "training.steps=7", "strategy=single"])
    assert config.backbone.config.widths == (128, 256, 384)
    assert config.codec.name == "pixel"
    assert config.training.steps == 7
    assert config.strategy.name == "single"
    assert config.prediction.name == "v"
