"""Settings are finite numbers within bounds, pairs that belong together agree, and no configuration crashes its judge."""

import pytest
from conftest import TINY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from setting_words import HOSTILE, configurations, word

from hvg.commands.words import take_options
from hvg.config.command_options import CheckOptions, SampleOptions
from hvg.config.composition import compose, parse_resolved
from hvg.config.settings import Settings
from hvg.core.errors import ConfigError
from hvg.parts.registry import KINDS, load, names

FLOATS = (
    *("training.learning_rate", "optimizer.weight_decay", "training.foreground_weight", "training.gradient_clip"),
    *("codec.scale", "dataset.frames_per_second", "dataset.distance", "body.scale", "guidance.value", "backbone.fps"),
    *(
        "prediction.p_mean",
        "evaluation.kept_conditioning",
        "evaluation.kept_features",
        "pose.half_range",
        "data.recolour",
    ),
)
COUNTS = (
    *(
        "training.steps",
        "training.threads",
        "training.accumulate",
        "training.loss_window",
        "data.workers",
        "data.views",
    ),
    *("data.batch_size", "dataset.num_subjects", "dataset.views", "dataset.frames", "dataset.image_size"),
    *(
        "backbone.layers_per_block",
        "backbone.transformer_layers",
        "strategy.devices",
        "strategy.nodes",
        "evaluation.steps",
        "evaluation.reuse",
    ),
)
# What else was accepted once, and how the answer has to begin.
NONSENSE = {
    "training.betas=[5,2]": "optimizer.betas.0",
    "optimizer.betas=[0.9,1.0]": "optimizer.betas.1",
    "optimizer.betas=[nan,0.9]": "optimizer.betas.0",
    "data.background=[nan,1,1]": "data.background.0",
    "dataset.background=[2,1,1]": "dataset.background.0",
    "dataset.elevation_degrees=[-inf,0]": "dataset.elevation_degrees.0",
    "dataset.elevation_degrees=[12,0]": "dataset.elevation_degrees",
    "backbone.heads=[0,0]": "backbone.heads.0",
    "backbone.widths=[-1,-1]": "backbone.widths.0",
    "backbone.widths=[]": "backbone.widths",
    "backbone.fps=1e300": "backbone.fps",
    "pose.widths=[0]": "pose.widths.0",
    "dataset.image_size=0": "dataset.image_size",
    "dataset.image_size=[64,0]": "dataset.image_size.1",
    "seed=10000000000000000000": "seed",
    "prediction.sigma_min=20": "prediction",
    f"evaluation.seed={10**400}": "evaluation.seed",
    f"training.learning_rate={10**400}": "training.learning_rate",
}
# Settings that go with none of the others as they are.
PAIRS = {
    ("sampler=coarse_to_fine", "sampler.levels=4"): "sampler",
    ("sampler=coarse_to_fine", "sampler.shrink=3"): "sampler",
    ("dataset.num_subjects=100000", "dataset.clips_per_subject=2"): "dataset",
    ("dataset.views=1024", "dataset.frames=1000", "dataset.image_size=64"): "dataset",
    ("backbone.layers_per_block=64", "backbone.transformer_layers=64"): "backbone",
}


def refused(*words: str) -> list[str]:
    """The places of everything wrong with these words."""
    with pytest.raises(ConfigError) as caught:
        compose(words)
    assert all("\n" not in problem.message and len(problem.message) < 400 for problem in caught.value.problems)
    return [problem.path for problem in caught.value.problems]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e300"])
def test_numbers_are_finite_and_within_what_they_mean(value):
    assert sorted(refused(*(f"{key}={value}" for key in FLOATS))) == sorted(FLOATS)


def test_counts_are_what_a_machine_can_follow():
    assert sorted(refused(*(f"{key}={10**12}" for key in COUNTS))) == sorted(COUNTS)


def test_what_means_nothing_is_refused_at_its_place():
    """As many words at a time as name other settings."""
    left = dict(NONSENSE)
    while left:
        together = {word.partition("=")[0]: word for word in reversed(left)}.values()
        assert {left.pop(word) for word in together} <= set(refused(*together))


@pytest.mark.parametrize(("words", "place"), PAIRS.items())
def test_settings_that_go_with_none_of_the_others_are_refused(words, place):
    assert place in refused(*words)


@pytest.mark.parametrize("model", [CheckOptions, SampleOptions])
@pytest.mark.parametrize("value", ["inf", "nan", ".inf", "1e300", "0"])
def test_memory_is_a_number(model, value):
    needed = [f"{name}=x" for name, field in model.model_fields.items() if field.is_required()]
    with pytest.raises(ConfigError, match="memory"):
        take_options([*needed, f"memory={value}"], model)


def test_every_number_of_the_schema_has_a_largest_value():
    """So that the next setting has one, too: 10^400 and not a number are refused wherever a number belongs."""
    models = [Settings, *(load(kind, name).Config for kind in KINDS for name in names(kind))]
    schemas = [schema for model in models for schema in _numbers(model.model_json_schema())]
    assert len(schemas) > 150
    open_ended = [schema for schema in schemas if not {"maximum", "exclusiveMaximum"} & schema.keys()]
    assert not open_ended


def _numbers(schema):
    """The schemas of all numbers in a JSON schema."""
    if isinstance(schema, dict):
        if schema.get("type") in ("number", "integer"):
            yield schema
        for inner in schema.values():
            yield from _numbers(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _numbers(inner)


@settings(max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(configurations())
def test_a_configuration_is_judged_and_never_crashes_its_judge(words):
    try:
        config = compose([*TINY, *words])
    except ConfigError as error:
        assert all(problem.message for problem in error.problems)
    else:
        # What is accepted is written down, read back, and means the same.
        assert parse_resolved(config.to_yaml(), "config.yaml").resolved() == config.resolved()


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(st.sampled_from(FLOATS + COUNTS), st.sampled_from(HOSTILE))
def test_values_of_another_type_are_refused_at_their_place(key, value):
    try:
        compose([word(key, value)])
        assert value is None or type(value) in (int, float)
    except ConfigError as error:
        assert {problem.path.split(".")[0] for problem in error.problems} <= {
            key.split(".")[0],
            "sampler",
            "data",
            "guidance",
        }
