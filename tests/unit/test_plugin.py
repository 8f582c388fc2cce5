"""``hvg.plugin`` is all that a part of somebody's own imports of hvg, and knows for which version a part was made."""

import ast
from pathlib import Path

import pytest

from hvg import plugin
from hvg.core.sources import source_modules
from hvg.parts import registry

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted((ROOT / "tests" / "data").glob("plugin*/*/*.py"))
PART = """
from hvg.plugin import PartConfig, Sampler, Window


class Part(Sampler):
    Config = PartConfig
    made_for = {version}

    def windows(self, step, num_steps, views, frames):
        return [Window.whole(views, frames)]
"""


def opened(text: str) -> set[str]:
    """The modules of this project that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        names |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
        names |= {str(node.module)} if isinstance(node, ast.ImportFrom) and not node.level else set()
    return {name for name in names if name.partition(".")[0] in ("hvg", "components")}


def test_packages_of_labs_import_nothing_else():
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PACKAGES}
    assert len(texts) > 6
    assert {name: opened(text) - {"hvg.plugin"} for name, text in texts.items() if opened(text) - {"hvg.plugin"}} == {}


def test_the_door_gives_on_all_interfaces():
    interfaces = {place.rpartition(".")[2] for _, place in registry.KINDS.values()}
    assert interfaces <= set(plugin.__all__)
    assert all(hasattr(plugin, name) for name in plugin.__all__)


def test_what_a_part_takes_through_the_door_counts_as_its_code_and_no_more(package):
    package({"sampler.whole": PART.format(version="None")})
    name = registry._plugins()["sampler", "whole"].module
    found = source_modules(name)
    assert "hvg.values.cameras" in found and "hvg.plugin" not in found
    assert not {module for module in found if module.startswith("hvg.parts.keypoint")}


@pytest.mark.parametrize(("version", "loads"), [("None", True), (str(plugin.VERSION), True), ("99", False)])
def test_a_part_for_another_version_is_named_in_one_line(package, version, loads):
    package({"sampler.whole": PART.format(version=version)})
    if loads:
        assert registry.load("sampler", "whole").__name__ == "Part"
        return
    with pytest.raises(registry.PartImportError) as refused:
        registry.load("sampler", "whole")
    said = str(refused.value)
    assert (
        f"made for version 99 of hvg.plugin; this is version {plugin.VERSION}" in said
        and "'whole'" in said
        and "\n" not in said
    )


class WideConfig(plugin.PartConfig):
    """Settings that stand outside of their part."""

    width: int = 3


class Wide(plugin.Sampler[WideConfig]):
    """Names them once, as its type parameter."""


class Wider(Wide):
    """Has settings of its own."""

    class Config(WideConfig):
        height: int = 4


def test_the_settings_class_is_the_type_parameter_or_what_is_called_so():
    assert Wide.Config is WideConfig and set(Wider.Config.model_fields) == {"width", "height"}
    assert type("Narrow", (Wide,), {}).Config is WideConfig
    assert plugin.Sampler.Config is plugin.PartConfig and plugin.PoseGuided.Config is plugin.ConditionerConfig


def test_what_a_part_can_count_on_is_given_to_it():
    ports = plugin.Ports(latent_channels=4, latent_stride=8)
    assert plugin.BackboneContext(ports=ports).ports is ports
    for context in (plugin.BackboneContext, plugin.ConditionerContext, plugin.SceneContext):
        assert issubclass(context, plugin.Context)
        with pytest.raises(TypeError, match=r"missing .* required"):
            context()
