"""Recipes: words on how trained models are sampled that belong together, by a name in ``conf/recipe/``."""

import json
from collections.abc import Sequence
from typing import Any

from hvg.config.groups import all_options, option_values
from hvg.core.errors import ConfigError, Problem, did_you_mean
from hvg.core.names import text_word

GROUP = "recipe"


def with_recipe(words: Sequence[str]) -> list[str]:
    """The words, and in front of them those of the recipe that one of them names as ``recipe=NAME``.

    What is said beside it holds: of a key that is given the recipe says nothing, nor of the settings of a part that is chosen.
    Raises: ConfigError for a recipe that there is not, and for two.
    """
    chosen = [word.partition("=")[2] for word in words if word.startswith(f"{GROUP}=")]
    if not chosen:
        return [*words]
    if len(chosen) > 1:
        raise ConfigError([Problem(GROUP, f"chosen {len(chosen)} times: {', '.join(chosen)}; one is allowed.")])
    known = all_options().get(GROUP, [])
    if chosen[0] not in known:
        raise ConfigError(
            [
                Problem(
                    GROUP,
                    f"no recipe is named '{chosen[0]}'. {did_you_mean(chosen[0], known)}".strip(),
                    "hvg list recipe",
                )
            ]
        )
    given = [word for word in words if not word.startswith(f"{GROUP}=")]
    said = {word.lstrip("+~").partition("=")[0] for word in given}
    own = option_values(GROUP, chosen[0])
    return [*(_word(key, x) for key, x in own.items() if not said & {key, key.partition(".")[0]}), *given]


def _word(key: str, value: Any) -> str:
    """The word that gives a key this value."""
    return text_word(key, value) if isinstance(value, str) else f"{key}={json.dumps(value)}"
