"""Every registered system keeps the promises of hvg.testing, with every reconstructor that needs nothing of a user."""

import pytest

from hvg.config.composition import compose
from hvg.parts import registry
from hvg.testing import check_system


def needs_nothing(name: str) -> bool:
    """Whether a reconstructor has a default for each of its settings."""
    fields = registry.load("reconstructor", name).Config.model_fields
    return not any(field.is_required() for field in fields.values())


CASES = [
    ("human_video", ["pose=skeleton"]),
    *(("avatar", [f"reconstructor={name}"]) for name in registry.names("reconstructor") if needs_nothing(name)),
]


@pytest.mark.parametrize(("name", "words"), CASES, ids=str)
def test_system(name, words, tiny):
    own = [word for word in tiny if name == "human_video" or not word.startswith("backbone.")]
    check_system(compose([*own, f"system={name}", *words, "data.batch_size=2"]))


def test_every_system_is_checked():
    assert {"avatar", "human_video"} <= set(registry.names("system"))
