"""Interface of adapters: which weights of a system train, how fast, and what is added to its backbone; patterns of names."""

from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor, nn

from hvg.core.errors import HvgError, did_you_mean
from hvg.parts.backbone import Backbone
from hvg.parts.model import Conditioner
from hvg.parts.part import ConfigT, Part

# Peak learning rate of some weights: null as the training's; 0: they do not train.
LearningRate = Annotated[float, Field(ge=0, le=1e3)] | None
# How the names of a backbone's weights begin in a system.
BACKBONE = "backbone."


class Adapter(Part[ConfigT]):
    """Which weights of a system train, and how fast at the peak of the schedule, which holds for all.

    It says so of the backbone, to which it may add weights. Conditioners train as their own settings say, but for those of
    their weights that it names.
    whole: whether checkpoints hold every weight. Where they do not, they hold what is trained, and a digest of the rest,
    which whoever reads them makes or reads again as the run did at its start.
    """

    whole: ClassVar[bool] = False

    @abstractmethod
    def adapt(self, backbone: Backbone, conditioners: Mapping[str, Conditioner]) -> dict[str, float]:
        """Freezes what is not to train, adds what is new, and says how fast: name in the system -> peak learning rate, of
        weights that have another one than ``training.learning_rate``.

        Called once, when the networks have the weights that a run starts from. What is new changes nothing of what they
        compute, and is drawn from torch's generator, which has the run's seed. Raises: HvgError naming the setting.
        """

    def merge(self, backbone: Backbone) -> None:
        """Adds what was learned beside the backbone's own weights to these; it is then as one that was never adapted."""

    def file(self, backbone: Backbone) -> dict[str, Tensor]:
        """What was added, by the names that diffusers' ``load_lora_weights`` knows. Raises: HvgError where nothing was."""
        raise HvgError(
            f"{type(self).__name__} adds nothing to the network that a LoRA file could hold; leave out adapter=file"
        )


def named_weights(backbone: Backbone, conditioners: Mapping[str, Conditioner]) -> dict[str, nn.Parameter]:
    """Name in a system -> weight, of all its networks, in its order."""
    parts = {"backbone": backbone, **{f"conditioners.{slot}": part for slot, part in conditioners.items()}}
    return {f"{place}.{name}": weight for place, part in parts.items() for name, weight in part.named_parameters()}


def matching(pattern: str, names: Iterable[str], words: Mapping[str, Sequence[str]]) -> list[str]:
    """The names that a pattern means: those of a word, or those that it is the whole or the end of, with * for anything."""
    globs = words.get(pattern) or (pattern, f"*.{pattern}")
    return [name for name in names if any(fnmatchcase(name, glob) for glob in globs)]


def meant(
    setting: str, patterns: Collection[str], names: Sequence[str], words: Mapping[str, Sequence[str]], kind: str
) -> dict[str, str]:
    """Name -> the last of the patterns that means it. kind: of what is named, for messages.

    Raises: HvgError for a pattern that means nothing.
    """
    found: dict[str, str] = {}
    for pattern in patterns:
        hits = matching(pattern, names, words)
        if not hits:
            hint = "As it is set, this backbone has none." if pattern in words else did_you_mean(pattern, words)
            example = f"One of the {len(names)} is {names[0]}." if names else ""
            raise HvgError(f"{setting}: '{pattern}' matches no {kind}. {hint} {example}".strip())
        found |= dict.fromkeys(hits, pattern)
    return found


def train_only(
    setting: str, rates: Mapping[str, float | None], backbone: Backbone, conditioners: Mapping[str, Conditioner]
) -> dict[str, float]:
    """Freezes the backbone but for what ``rates`` names, pattern -> learning rate, and returns what ``Adapter.adapt`` does.

    Of conditioners it freezes what has a rate of 0, and trains nothing that their own settings freeze.
    Raises: HvgError as of ``meant``, and for a pattern that has no effect.
    """
    weights, words = named_weights(backbone, conditioners), of_the_system(backbone.weight_words())
    patterns = meant(setting, rates, list(weights), words, "weight")
    own: dict[str, float] = {}
    for pattern, rate in rates.items():
        held = [weights[name] for name, last in patterns.items() if last == pattern]
        if not held:
            raise HvgError(f"{setting}: patterns after '{pattern}' mean all that it means, and the last one holds")
        if rate != 0 and not any(weight.requires_grad for weight in held):
            raise HvgError(f"{setting}: '{pattern}' means weights that the settings of their own part freeze")
    for name, weight in weights.items():
        untold = 0.0 if name.startswith(BACKBONE) else None
        rate = rates[patterns[name]] if name in patterns else untold
        if rate == 0:
            weight.requires_grad_(False)
        elif rate is not None and weight.requires_grad:
            own[name] = rate
    return own


def of_the_system(words: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """A backbone's words, for the names that its weights have in a system."""
    return {word: [f"{BACKBONE}{glob}" for glob in globs] for word, globs in words.items()}
