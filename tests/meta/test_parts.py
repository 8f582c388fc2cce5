"""Every part is documented and can be chosen by a YAML, and every YAML chooses a part that there is."""

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from hvg.config.sections import LoggerConfig, Section
from hvg.config.settings import SINGLE_PARTS, SLOTS, RunConfig
from hvg.config.strategy_section import StrategyConfig
from hvg.core.shipped import CONF
from hvg.parts import registry

PARTS = [(kind, name) for kind in registry.KINDS for name in sorted(registry._builtin(kind))]
KIND_OF_GROUP = {**SINGLE_PARTS, **dict.fromkeys(SLOTS, "conditioner")}
PART_FILES = sorted(path for group in KIND_OF_GROUP for path in (CONF / group).glob("*.yaml"))
ROOT_SCALARS = {"name", "seed", "output", "device"}
# What else YAML may name, by its folder: choices, where the root and experiments look for what a scale needs; and what a step
# sees, which is what samplers are to show.
FURTHER_NAMES = {"conf": {"experiment", "scale"}, "experiment": {"scale"}, "sampler": {"data.views", "data.frames"}}


def settings(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def sections(model: type[BaseModel]) -> list[type[BaseModel]]:
    return [model, *(inner for base in model.__subclasses__() for inner in sections(base))]


def label(path: Path) -> str:
    return str(path.relative_to(CONF))


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_every_setting_of_a_part_is_documented(kind, name):
    cls = registry.load(kind, name)
    assert cls.__doc__ and cls.__dict__.get("__doc__")
    undocumented = [key for key, field in cls.Config.model_fields.items() if not field.description]
    assert not undocumented
    assert cls.Config.model_config["extra"] == "forbid"
    assert cls.Config.model_config["frozen"]


@pytest.mark.parametrize("model", sections(Section), ids=lambda model: model.__name__)
def test_every_setting_of_a_run_is_documented(model):
    assert not [key for key, field in model.model_fields.items() if not field.description]


@pytest.mark.parametrize(("kind", "name"), [part for part in PARTS if part[0] in KIND_OF_GROUP.values()])
def test_every_part_has_a_yaml(kind, name):
    groups = [group for group, its_kind in KIND_OF_GROUP.items() if its_kind == kind]
    chosen = {settings(path)["name"] for group in groups for path in (CONF / group).glob("*.yaml")}
    assert name in chosen


@pytest.mark.parametrize("path", PART_FILES, ids=label)
def test_every_yaml_names_a_registered_part(path):
    kind = KIND_OF_GROUP[path.parent.name]
    assert settings(path)["name"] in registry.names(kind)
    if path.stem in registry.names(kind):
        assert settings(path)["name"] == path.stem, "a YAML with a part's name chooses that part"


@pytest.mark.parametrize("path", PART_FILES, ids=label)
def test_a_yaml_holds_only_choices_that_differ_from_the_defaults(path):
    given = settings(path)
    fields = registry.load(KIND_OF_GROUP[path.parent.name], given.pop("name")).Config.model_fields
    same = [key for key, value in given.items() if key in fields and _plain(fields[key].default) == value]
    assert not same


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize(("group", "model"), [("strategy", StrategyConfig), ("logger", LoggerConfig)])
def test_every_strategy_and_logger_has_a_yaml(group, model):
    allowed = model.model_fields["name"].annotation.__args__
    assert sorted(path.stem for path in (CONF / group).glob("*.yaml")) == sorted(allowed)


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=label)
def test_interpolations_point_at_few_settings_and_nothing_is_a_target(path):
    text = path.read_text(encoding="utf-8")
    known = ROOT_SCALARS | FURTHER_NAMES.get(path.parent.name, set())
    assert set(re.findall(r"\$\{([^}]*)\}", text)) <= known
    assert "_target_" not in text


def test_groups_are_root_keys_of_a_run():
    groups = {path.name for path in CONF.iterdir() if path.is_dir()}
    assert groups - set(RunConfig.model_fields) == {"scale", "experiment", "at_scale", "debug", "recipe"}
