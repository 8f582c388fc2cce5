"""Do the chosen parts fit together? Pure functions of the typed configuration: no weight is made, no data is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from typing import TYPE_CHECKING

from hvg.config.buckets import shortened_clips
from hvg.config.clip_checks import is_uneven, shrunk_pictures
from hvg.config.settings import SLOTS, is_used
from hvg.config.strategy_checks import check_optimizer, check_strategy
from hvg.config.wiring import (
    image_cell,
    needed_fields,
    path_of_slot,
    picture_size,
    ports,
    spec_of,
    temporal_stride,
)
from hvg.core.errors import ConfigError, HvgError, Problem, did_you_mean

if TYPE_CHECKING:
    from hvg.config.settings import RunConfig, Settings
    from hvg.values.conditioning import ConditioningSpec, Ports, Site

# Noise levels at which a guidance schedule is looked at; from below the smallest to the largest in use, of pure noise.
GUIDANCE_LEVELS = (0.002, 0.01, 0.05, 0.2, 1.0, 5.0, 20.0, 80.0, 700.0, 2.0**30)


def check(config: RunConfig, failed: Set[str] = frozenset()) -> list[Problem]:
    """Problems of parts that do not fit together.

    failed: root keys that could not be read, or are not used. What needs them is skipped, so that one mistake is reported once.
    """
    found = [problem for needs, find in _CHECKS if failed.isdisjoint(needs) for problem in find(config)]
    return found + check_settings(config, failed)


def check_settings(settings: Settings, failed: Set[str]) -> list[Problem]:
    """Problems of settings that do not fit together, whatever the parts. failed: as of ``check``."""
    return [] if failed & {"strategy", "training"} else [*check_strategy(settings)]


def _check_ports(config: RunConfig) -> Iterator[Problem]:
    available, starts = ports(config), list[str]()
    for slot, choice in config.conditioners.items():
        try:
            spec = spec_of(choice, available)
        except HvgError as error:
            yield Problem(path_of_slot(config, slot), str(error))
            continue
        for message in _misfits(spec, available):
            yield Problem(path_of_slot(config, slot), f"{choice.name} {message} (backbone {config.backbone.name})")
        starts += [path_of_slot(config, slot)] if spec.base else []
    if len(starts) > 1:
        yield Problem(
            starts[1], f"says where the prediction starts, as {starts[0]} does; one is allowed (residual=none)."
        )


def _misfits(spec: ConditioningSpec, available: Ports) -> Iterator[str]:
    yield from _site_misfits("residual", spec.residuals, available.residuals)
    yield from _site_misfits("memory", spec.memory, available.all_memory)
    yield from _width_misfits("token", spec.tokens, available.token_width)
    yield from _width_misfits("text", spec.text, available.text_width)
    yield from _width_misfits("pooled", spec.pooled, available.pooled_width)
    yield from _width_misfits("embedding", spec.embedding, available.embedding_width)
    if spec.pictures and not available.pictures:
        yield "gives pictures to be seen beside the noise, but the backbone sees none"
    if spec.channels and not available.channels:
        yield "adds input channels, but the backbone takes none"


def _site_misfits(port: str, filled: Mapping[str, int], sites: Mapping[str, Site]) -> Iterator[str]:
    for site, channels in filled.items():
        if site not in sites:
            yield f"fills the {port} port '{site}', which the backbone lacks. {did_you_mean(site, sites)}".strip()
        elif channels != sites[site].channels:
            yield f"gives {channels} channels to the {port} port '{site}', which is {sites[site].channels} wide"


def _width_misfits(port: str, given: int, accepted: int) -> Iterator[str]:
    if given and not accepted:
        yield f"fills the {port} port, but the backbone has none"
    elif given and given != accepted:
        yield f"gives the {port} port a width of {given}, the backbone's is {accepted}"


def _check_views(config: RunConfig) -> Iterator[Problem]:
    backbone, attention = config.backbone, config.view_attention.name
    if not backbone.cls.has_view_layers(backbone.config) and attention != "none":
        yield Problem(
            "view_attention",
            f"the backbone {backbone.name}, as it is set, takes views for frames and has no place for {attention}; choose none.",
        )


def _check_time(config: RunConfig) -> Iterator[Problem]:
    """A backbone of single pictures stands behind a codec of single frames."""
    backbone, codec, joins = config.backbone, config.codec, temporal_stride(config)
    if joins > 1 and not backbone.cls.sees_time(backbone.config):
        yield Problem(
            "codec",
            f"{codec.name} joins {joins} frames in a latent one, and the backbone {backbone.name} makes every frame as a picture "
            "by itself; choose a codec of single frames.",
        )


def _check_reuse(config: RunConfig) -> Iterator[Problem]:
    backbone, steps = config.backbone, config.evaluation.reuse
    if steps > 1 and not backbone.cls.reuses(backbone.config):
        yield Problem(
            "evaluation.reuse",
            f"{backbone.name}, as it is set, has no deep half that {steps} steps could share; set it to 1.",
        )


def _check_fields(config: RunConfig) -> Iterator[Problem]:
    provided = config.dataset.cls.provides(config.dataset.config)
    needed = {"system": (config.system.name, config.system.cls.requires), **needed_fields(config)}
    for path, (name, fields) in needed.items():
        for field in sorted(fields - provided):
            yield Problem(
                path,
                f"{name} requires the field '{field}', which the dataset '{config.dataset.name}' does not "
                f"provide; it provides {', '.join(sorted(provided))}.",
            )


def _check_photos(config: RunConfig) -> Iterator[Problem]:
    """As many photos of a person as parts look at."""
    held = config.dataset.cls.num_photos(config.dataset.config)
    for slot, choice in config.conditioners.items():
        asked = choice.cls.num_photos(choice.config)
        if held is not None and asked > held:
            yield Problem(
                f"{path_of_slot(config, slot)}.photos",
                f"{asked} photos of a person are looked at, a clip of the dataset '{config.dataset.name}' has {held}.",
            )


def _check_splits(config: RunConfig) -> Iterator[Problem]:
    """A run trains on one split of its dataset, validates on another and is scored on a third."""
    from hvg.config.build import split_config

    problems: list[Problem] = []
    for split in ("train", "val", "test"):
        try:
            split_config(config.dataset, split)
        except ConfigError as error:
            problems += error.problems
    yield from dict.fromkeys(problems)


def _check_guidance(config: RunConfig) -> Iterator[Problem]:
    try:
        branches = asked_branches(config)
    except HvgError as error:
        yield Problem("guidance", f"{config.guidance.name} {error}")
        return
    if branches and not any(branches):
        yield Problem(
            "guidance",
            f"a scale other than 1 needs a slot that is dropped in training, but every slot that {config.guidance.name} would "
            "leave out has dropout 0; set for example appearance.dropout=0.1, or a guidance of 1.",
        )


def asked_branches(config: RunConfig) -> tuple[frozenset[str], ...]:
    """The slots that each branch of a run's guidance leaves out; no branch where its scales are 1 everywhere.

    Raises: HvgError where its settings name other slots than those that are dropped in training.
    """
    from hvg.config.build import build_part
    from hvg.parts.plan import GuidedClips

    guidance = build_part(config.guidance)
    branches = guidance.branches([*config.droppable])
    # A schedule may be 1 on one frame of one view, or for one task, and not on a longer request.
    clips = GuidedClips.of_every_task(4, 4)
    guided = any(bool((guidance.scales(clips, sigma) != 1).any()) for sigma in GUIDANCE_LEVELS)
    return branches if guided else ()


def _check_image(config: RunConfig) -> Iterator[Problem]:
    """Sizes that settings tell have to survive every halving; datasets whose files decide have no such setting."""
    latent, coarsest = image_cell(config)
    told = {f"data.buckets.{n}": bucket.size for n, bucket in enumerate(config.data.trained_buckets) if bucket.size}
    if picture_size(config) is not None:
        told["dataset.image_size"] = config.dataset.config.image_size
    for place, size in told.items():
        sides = size if isinstance(size, (tuple, list)) else (size,)
        if is_uneven(config, sides):
            yield Problem(
                place,
                f"{size if place.startswith('dataset') else '{}x{}'.format(*sides)} is not divisible by {latent * coarsest}, the "
                f"codec's stride {latent} times the backbone's {coarsest}.",
            )


def _check_sampler(config: RunConfig) -> Iterator[Problem]:
    told = [bucket.size for bucket in config.data.trained_buckets] + [picture_size(config)]
    yield from shrunk_pictures(config, filter(None, told))


def _check_known(config: RunConfig) -> Iterator[Problem]:
    """Views that are given or not scored are among those of clips whose settings tell how many they have, and not all."""
    given, views = config.evaluation, getattr(config.dataset.config, "views", None)
    apart = {*given.known_views, *given.unscored_views}
    if views is not None and apart and (max(apart) >= views or len(apart) == views):
        yield Problem(
            "evaluation.known_views" if given.known_views else "evaluation.unscored_views",
            f"views {', '.join(map(str, sorted(apart)))} are given or not scored; the dataset's clips have views 0 to "
            f"{views - 1}, of which some have to be made and scored.",
        )


def _check_cached(config: RunConfig) -> Iterator[Problem]:
    if config.data.latents == "cached" and not is_used("codec", config.system.cls.uses):
        yield Problem("data.latents", f"cached are a codec's latents; system={config.system.name} trains on pictures.")


def _check_latents(config: RunConfig) -> Iterator[Problem]:
    """Problems with outputs of frozen networks made ahead: no setting may change the pictures of a training step."""
    if config.data.latents == "encode":
        return
    reasons = [
        (config.data.cache is None, "needs data.cache=FOLDER, where the latents lie."),
        (config.data.recolour > 0, "cannot follow the colours that data.recolour changes; set data.recolour=0."),
        (
            not config.alignment.cls.per_picture(config.alignment.config),
            f"needs pictures that always move alike; the alignment '{config.alignment.name}', as it is set, looks at the first "
            "frame that a step sees.",
        ),
    ]
    reasons += [
        (
            choice.cls.mesh_in_step(choice.config),
            f"leaves the mesh behind, but {path_of_slot(config, slot)}={choice.name} reads it of what a step sees.",
        )
        for slot, choice in config.conditioners.items()
    ]
    for slot, (name, fields) in needed_fields(config).items():
        pixels = " and ".join(sorted(fields & {"frames", "alpha"}))
        reasons.append((bool(pixels), f"leaves the pictures on the disk, but {slot}={name} reads their {pixels}."))
    for holds, reason in reasons:
        if holds:
            yield Problem("data.latents", f"cached {reason}")


def _check_whole_clips(config: RunConfig) -> Iterator[Problem]:
    """Where settings tell the size of clips; ``hvg.config.clip_checks`` judges those of files."""
    from hvg.parts.scene import told_size

    size = told_size(config.dataset.config)
    yield from shortened_clips(config, [] if size is None else [size])


# The root keys that a check reads -> the check. Slots that could not be read count as empty.
_CHECKS: tuple[tuple[tuple[str, ...], Callable[[RunConfig], Iterator[Problem]]], ...] = (
    (("codec", "backbone"), _check_ports),
    (("backbone", "view_attention"), _check_views),
    (("backbone", "codec"), _check_time),
    (("backbone", "evaluation"), _check_reuse),
    (("system", "dataset", "fit"), _check_fields),
    (("dataset",), _check_photos),
    (("dataset",), _check_splits),
    (("guidance", "data", *SLOTS, "slots"), _check_guidance),
    (("dataset", "data", "codec", "backbone"), _check_image),
    (("dataset", "data", "codec", "backbone", "sampler", "evaluation"), _check_sampler),
    (("dataset", "evaluation"), _check_known),
    (("system", "data"), _check_cached),
    (("data", "alignment", "fit", "guidance", *SLOTS, "slots"), _check_latents),
    (("system", "data", "codec", "dataset"), _check_whole_clips),
    (("optimizer",), check_optimizer),
)
# The root keys that are read where parts are judged; those of ``hvg.config.clip_checks.check_files`` are among them.
READ = frozenset(key for needs, _ in _CHECKS for key in needs)
