"""Checked configuration -> objects: the only place that constructs parts.

Weights are a function of the run's seed and of the part's own place alone: the backbone starts equal in all arms of a
study, as long as their slots concatenate equally many channels to its input.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch

from hvg.config import wiring
from hvg.config.settings import PartChoice, RunConfig
from hvg.config.validation import validate
from hvg.core.errors import ConfigError, HvgError, Problem
from hvg.core.late_compiler import import_diffusers
from hvg.core.random_keys import key_to_seed
from hvg.parts import registry
from hvg.parts.adapter import named_weights
from hvg.parts.backbone import Backbone
from hvg.parts.context import BackboneContext, ConditionerContext, Context, SceneContext
from hvg.parts.model import Codec, Conditioner, Prediction
from hvg.parts.observed import ObservedClips
from hvg.parts.part import Part
from hvg.parts.plan import Guidance, Sampler, Solver
from hvg.parts.reconstructor import Reconstructor
from hvg.parts.scene import Alignment, BodyModel, Dataset, Fit, Renderer
from hvg.parts.view_attention import ViewAttention
from hvg.values.clip import ClipBatch

P = TypeVar("P", bound=Part)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a system, by the names under which it takes them. ``conditioners`` go by slot, in merging order."""

    alignment: Alignment
    codec: Codec
    backbone: Backbone
    conditioners: dict[str, Conditioner]
    prediction: Prediction
    sampler: Sampler
    solver: Solver
    guidance: Guidance


def build_parts(config: RunConfig, start: Callable[[Backbone], None] | None = None) -> Parts:
    """All parts of a run but its data and metrics, on the CPU.

    start: gives the backbone the weights that a new run starts from, before conditioners copy from it; None where the
    parts get the weights of a checkpoint, or need none.
    """
    renderer, body = build_part(config.renderer), build_part(config.body)
    codec = build_codec(config)
    backbone, conditioners = build_networks(config, codec, renderer, body, start)
    return complete_parts(config, codec, backbone, conditioners)


def complete_parts(config: RunConfig, codec: Codec, backbone: Backbone, conditioners: dict[str, Conditioner]) -> Parts:
    """Every part of a run, of which those with weights are built already."""
    return Parts(
        alignment=build_part(config.alignment),
        codec=codec,
        backbone=backbone,
        conditioners=conditioners,
        prediction=build_part(config.prediction),
        sampler=build_part(config.sampler),
        solver=build_part(config.solver),
        guidance=build_part(config.guidance),
    )


def build_part(choice: PartChoice[P], context: Context | None = None) -> P:
    """The chosen part. context: None for one that needs nothing but its settings."""
    return choice.cls(choice.config, context or Context())


def build_alignment(config: RunConfig) -> Alignment:
    """Where people are moved before a network sees them; nowhere in a run whose system has no say in that."""
    if "alignment" in config.parts:
        return build_part(config.alignment)
    return registry.load("alignment", "none")()


def build_sampler(config: RunConfig) -> Sampler | None:
    """What is denoised together at each step; None where the run's system denoises nothing."""
    return build_part(config.sampler) if "sampler" in config.parts else None


def build_reconstructor(config: RunConfig) -> Reconstructor:
    """The run's reconstructor with seeded weights."""
    context = SceneContext(renderer=build_part(config.renderer), body=build_part(config.body))
    return _build_seeded(config.reconstructor, context, config.seed, "reconstructor")


def build_codec(config: RunConfig, blank: bool = False) -> Codec:
    """The run's codec; ``blank`` as in ``Context``."""
    import_diffusers()
    return build_part(config.codec, Context(blank=blank))


def build_networks(
    config: RunConfig,
    codec: Codec,
    renderer: Renderer | None = None,
    body: BodyModel | None = None,
    start: Callable[[Backbone], None] | None = None,
    blank: bool = False,
) -> tuple[Backbone, dict[str, Conditioner]]:
    """The parts with weights: the backbone, and slot -> conditioner in merging order.

    start: as in ``build_parts``. blank: as in ``Context``.
    """
    import_diffusers()
    context = replace(_network_context(config, codec, renderer, body), blank=blank)
    backbone = _build_seeded(config.backbone, context, config.seed, "backbone")
    if start is not None:
        start(backbone)
    backbone.copy_spatial_attention()
    return backbone, _build_conditioners(config, context, backbone)


def adapt(config: RunConfig, backbone: Backbone, conditioners: Mapping[str, Conditioner]) -> dict[str, float]:
    """Lets those weights train that the run's adapter says, and adds its own: name in the system -> learning rate, where it is
    another than the training's. The networks have the weights that the run starts from.

    Raises: HvgError as of ``Adapter.adapt``, and where nothing is left to train.
    """
    if "adapter" not in config.parts:
        return {}
    with _seeded(config.seed, "adapter"):
        rates = build_part(config.adapter).adapt(backbone, conditioners)
    if not any(weight.requires_grad for weight in named_weights(backbone, conditioners).values()):
        raise HvgError(f"adapter={config.adapter.name}: nothing is left to train")
    return rates


def build_conditioners(config: RunConfig) -> tuple[Codec, dict[str, Conditioner]]:
    """The codec, and slot -> conditioner, for what is made of clips ahead of training.

    The backbone and what is copied from it have shapes, but neither values nor memory.
    """
    codec = build_part(config.codec)
    context = _network_context(config, codec, build_part(config.renderer), build_part(config.body))
    with torch.device("meta"):
        backbone = _build_seeded(config.backbone, context, config.seed, "backbone")
    return codec, _build_conditioners(config, context, backbone)


def _network_context(
    config: RunConfig, codec: Codec, renderer: Renderer | None, body: BodyModel | None
) -> BackboneContext:
    specs = wiring.specs(config).values()
    return BackboneContext(
        ports=wiring.ports(config),
        codec=codec,
        renderer=renderer,
        body=body,
        channels=sum(spec.channels for spec in specs),
        memory=frozenset(site for spec in specs for site in spec.memory),
        view_attention=_view_attention(config) if config.backbone.cls.has_view_layers(config.backbone.config) else None,
    )


def _build_conditioners(config: RunConfig, context: BackboneContext, backbone: Backbone) -> dict[str, Conditioner]:
    def given(slot: str) -> ConditionerContext:
        place = wiring.path_of_slot(config, slot)
        return ConditionerContext(**{**vars(context), "backbone": backbone, "slot": place})

    chosen = config.conditioners.items()
    return {slot: _build_seeded(choice, given(slot), config.seed, "slot", slot) for slot, choice in chosen}


def build_dataset(config: RunConfig, split: str) -> Dataset:
    """The run's clips of a split, ``train``, ``val`` or ``test``, with bodies as its fit observes them.

    Raises: ConfigError as of ``split_config``.
    """
    return observed(config, true_clips(config, split))


def load_clip(config: RunConfig, split: str, index: int) -> ClipBatch:
    """Clip ``index`` of a split (B = 1), as of ``build_dataset``. Raises: HvgError where there is none."""
    clips = build_dataset(config, split)
    if index >= len(clips):
        raise HvgError(f"index={index}: the {split} split has {len(clips)} clips")
    return clips.load(index)


def observed(config: RunConfig, clips: Dataset) -> Dataset:
    """The clips with bodies as the run's fit observes them; the same clips where it changes nothing."""
    if not config.fit.cls.changes(config.fit.config):
        return clips
    return ObservedClips(clips, build_fit(config))


def build_fit(config: RunConfig) -> Fit:
    """What observes a run's bodies."""
    return build_part(config.fit, Context(body=build_part(config.body)))


def true_clips(config: RunConfig, split: str) -> Dataset:
    """The run's dataset restricted to a split, with true bodies. Raises: ConfigError as of ``split_config``."""
    settings = split_config(config.dataset, split)
    context = SceneContext(renderer=build_part(config.renderer), body=build_part(config.body))
    return config.dataset.cls(settings, context)


def told_captions(config: RunConfig, split: str) -> Mapping[str, str]:
    """Clip id -> caption, "" for none, of the clips of a split, as far as the dataset's files tell; no picture is read."""
    return config.dataset.cls.holdings(split_config(config.dataset, split)).captions


def split_config(choice: PartChoice[Dataset], split: str) -> Any:
    """The dataset's settings with another split, judged like new ones. Raises: ConfigError where it has no such split."""
    if "split" not in choice.cls.Config.model_fields:
        raise ConfigError(
            [
                Problem(
                    "dataset",
                    f"the settings of '{choice.name}' ({choice.cls.__name__}.Config) have no `split`, so that it would give "
                    'its training clips as test clips; give it one, as split: Literal["train", "val", "test"].',
                )
            ]
        )
    settings = choice.config.model_dump(mode="json") | {"split": split}
    found, problems = validate(choice.cls.Config, settings, "dataset", choice.cls.__name__)
    if problems:
        raise ConfigError(problems)
    return found


def _build_seeded(choice: PartChoice[P], context: Context, *key: int | str) -> P:
    with _seeded(*key):
        return build_part(choice, context)


def _view_attention(config: RunConfig) -> Callable[[int, int], ViewAttention]:
    """Builds the next site's module from a seed of its own, so that it draws nothing of the backbone's randomness."""
    sites = itertools.count()

    def build(width: int, num_heads: int) -> ViewAttention:
        with _seeded(config.seed, "view_attention", next(sites)):
            return config.view_attention.cls(config.view_attention.config, width, num_heads)

    return build


@contextmanager
def _seeded(*key: int | str) -> Iterator[None]:
    """Torch's global CPU generator seeded by ``key`` inside, and as it was before outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_to_seed(*key))
        yield
