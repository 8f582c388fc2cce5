"""Every YAML in conf/ composes with every scale it is meant for, fits together, and reads back exactly."""

import pytest
import yaml

from hvg.config import CONF, compose, parse_resolved

OPTIONS = sorted((path.parent.name, path.stem) for path in CONF.glob("*/*.yaml"))
SCALES = sorted(path.stem for path in (CONF / "scale").glob("*.yaml"))


def choose(group: str, option: str) -> list[str]:
    """The choice, and some text for each setting that the YAML leaves to the user."""
    given = yaml.safe_load((CONF / group / f"{option}.yaml").read_text(encoding="utf-8"))
    return [f"{group}={option}", *(f"{group}.{key}=given" for key, value in given.items() if value == "???")]


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_is_wired(group, option):
    # A dataset may hold fewer views and frames than a step of the default scale sees.
    least = ["data.views=1", "data.frames=1"] if group == "dataset" else []
    config = compose([*choose(group, option), *least])
    if hasattr(config, group):
        given = yaml.safe_load((CONF / group / f"{option}.yaml").read_text(encoding="utf-8"))
        assert getattr(config, group).name == given["name"]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("pose", ["bone_map", "skeleton", "smpl_normal", "none"])
def test_every_pose_fits_every_scale(scale, pose):
    compose([f"scale={scale}", f"pose={pose}"])


@pytest.mark.parametrize("scale", SCALES)
def test_a_resolved_configuration_reads_back_exactly(scale):
    config = compose([f"scale={scale}"])
    assert parse_resolved(config.to_yaml(), "config.yaml") == config


def test_the_command_line_beats_the_scale():
    config = compose(["scale=paper", "backbone=svd_mid", "codec=pixel", "training.steps=7", "strategy=single"])
    assert config.backbone.config.widths == (128, 256, 384)
    assert config.codec.name == "pixel"
    assert config.training.steps == 7
    assert config.strategy.name == "single"
    assert config.prediction.name == "v"
