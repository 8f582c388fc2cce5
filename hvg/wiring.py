"""Do the chosen parts fit together? Pure functions of the typed configuration: no weight is made, no data is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from hvg.errors import HvgError, Problem, did_you_mean

if TYPE_CHECKING:
    from hvg.settings import PartChoice, RunConfig
    from hvg.types import ConditioningSpec, Ports, Site

# Noise levels at which a guidance schedule is looked at; from below the smallest to above the largest in use.
GUIDANCE_LEVELS = (0.002, 0.01, 0.05, 0.2, 1.0, 5.0, 20.0, 80.0, 700.0)


def check(config: RunConfig, failed: frozenset[str] = frozenset()) -> list[Problem]:
    """Every way in which the parts do not fit.

    failed: root keys that could not be read. What needs them is skipped, so that one mistake is reported once.
    """
    return [problem for needs, find in _CHECKS if not failed.intersection(needs) for problem in find(config)]


def ports(config: RunConfig) -> Ports:
    """What the backbone accepts behind the chosen codec."""
    channels, stride, _ = config.codec.cls.shape(config.codec.config)
    return config.backbone.cls.ports(config.backbone.config, channels, stride)


def specs(config: RunConfig) -> dict[str, ConditioningSpec]:
    """Slot -> the ports that its conditioner fills, in merging order.

    Raises: HvgError when a conditioner needs a port that the backbone lacks.
    """
    available = ports(config)
    return {slot: _spec(choice, available) for slot, choice in config.conditioners.items()}


def image_cell(config: RunConfig) -> tuple[int, int]:
    """Pixels to a latent cell, and latent cells to a cell of the backbone's coarsest level: sides divide by both."""
    available = ports(config)
    strides = [site.stride for site in (*available.residuals.values(), *available.memory.values())]
    return available.latent_stride, max(strides, default=1)


def _spec(choice: PartChoice, available: Ports) -> ConditioningSpec:
    try:
        return choice.cls.spec(choice.config, available)
    except KeyError as error:
        # A conditioner that looks up the site it fills need not test for it first.
        site = str(error.args[0])
        known = {**available.residuals, **available.memory}
        raise HvgError(
            f"{choice.name} needs the port '{site}', which this backbone lacks. {did_you_mean(site, known)}"
        ) from error


def _path(config: RunConfig, slot: str) -> str:
    return f"slots.{slot}" if slot in config.slots else slot


def _check_ports(config: RunConfig) -> Iterator[Problem]:
    available = ports(config)
    for slot, choice in config.conditioners.items():
        try:
            spec = _spec(choice, available)
        except HvgError as error:
            yield Problem(_path(config, slot), str(error))
            continue
        for message in _misfits(spec, available):
            yield Problem(_path(config, slot), f"{choice.name} {message} (backbone {config.backbone.name})")


def _misfits(spec: ConditioningSpec, available: Ports) -> Iterator[str]:
    yield from _site_misfits("residual", spec.residuals, available.residuals)
    yield from _site_misfits("memory", spec.memory, available.memory)
    yield from _width_misfits("token", spec.tokens, available.token_width)
    yield from _width_misfits("embedding", spec.embedding, available.embedding_width)
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


def needed_fields(config: RunConfig) -> dict[str, tuple[str, frozenset[str]]]:
    """Key of the configuration -> the part that is chosen there, and the ClipBatch fields that it reads."""
    needed = {"alignment": (config.alignment.name, config.alignment.cls.requires)}
    for slot, choice in config.conditioners.items():
        needed[_path(config, slot)] = choice.name, choice.cls.needs(choice.config)
    return needed


def _check_fields(config: RunConfig) -> Iterator[Problem]:
    provided = config.dataset.cls.provides(config.dataset.config)
    for path, (name, fields) in needed_fields(config).items():
        for field in sorted(fields - provided):
            yield Problem(
                path,
                f"{name} requires the field '{field}', which the dataset '{config.dataset.name}' does not "
                f"provide; it provides {', '.join(sorted(provided))}.",
            )


def _check_guidance(config: RunConfig) -> Iterator[Problem]:
    from hvg.build import build_guidance

    guidance = build_guidance(config)
    # A schedule may be 1 on one frame of one view and not on a longer request.
    scales = (guidance.scale(4, 4, sigma) for sigma in GUIDANCE_LEVELS)
    guided = any(bool((scale != 1).any()) for scale in scales)
    droppable = [slot for slot, choice in config.conditioners.items() if choice.config.dropout > 0]
    if guided and not droppable:
        yield Problem(
            "guidance",
            "a scale other than 1 needs a slot that is dropped in training, but every slot has dropout 0; "
            "set for example pose.dropout=0.1, or a guidance of 1.",
        )


def _check_image(config: RunConfig) -> Iterator[Problem]:
    """A dataset's ``image_size`` has to survive every halving; datasets whose files decide have no such setting."""
    size = getattr(config.dataset.config, "image_size", None)
    if size is None:
        return
    latent, coarsest = image_cell(config)
    if any(side % (latent * coarsest) for side in (size if isinstance(size, (tuple, list)) else (size,))):
        yield Problem(
            "dataset.image_size",
            f"{size} is not divisible by {latent * coarsest}, the codec's stride {latent} times the backbone's {coarsest}.",
        )


def _check_grid(config: RunConfig) -> Iterator[Problem]:
    held = tuple(getattr(config.dataset.config, axis, None) for axis in ("views", "frames"))
    asked = {"data": (config.data.views, config.data.frames)} if config.data.grids is None else {}
    asked |= {f"data.grids.{i}": grid for i, grid in enumerate(config.data.grids or ())}
    for path, grid in asked.items():
        for axis, count, limit in zip(("views", "frames"), grid, held, strict=True):
            if limit is not None and count > limit:
                place = f"{path}.{axis}" if path == "data" else path
                yield Problem(
                    place, f"{count} {axis} are asked for, the dataset's clips hold {limit} (dataset.{axis})."
                )


def _check_latents(config: RunConfig) -> Iterator[Problem]:
    """What frozen networks made ahead holds for every training step only where nothing changes the pictures in between."""
    if config.data.latents == "encode":
        return
    _, _, temporal_stride = config.codec.cls.shape(config.codec.config)
    reasons = [
        (config.data.cache is None, "needs data.cache=FOLDER, where the latents lie."),
        (config.data.recolour > 0, "cannot follow the colours that data.recolour changes; set data.recolour=0."),
        (
            not config.alignment.cls.per_picture(config.alignment.config),
            f"needs pictures that always move alike; the alignment '{config.alignment.name}', as it is set, looks at the first "
            "frame that a step sees.",
        ),
        (
            temporal_stride > 1,
            f"needs a latent for every frame; the codec '{config.codec.name}' joins {temporal_stride}.",
        ),
    ]
    for slot, (name, fields) in needed_fields(config).items():
        pixels = " and ".join(sorted(fields & {"frames", "alpha"}))
        reasons.append((bool(pixels), f"leaves the pictures on the disk, but {slot}={name} reads their {pixels}."))
    for holds, reason in reasons:
        if holds:
            yield Problem("data.latents", f"cached {reason}")


def _check_strategy(config: RunConfig) -> Iterator[Problem]:
    if config.strategy.name == "zero3" and config.training.validate_every:
        yield Problem(
            "training.validate_every",
            f"{config.training.validate_every} is asked for, but zero3 cannot sample while it trains, because no device has all "
            "weights; set training.validate_every=0, or choose zero2.",
        )


# The root keys that a check reads -> the check. Slots that could not be read count as empty.
_CHECKS: tuple[tuple[tuple[str, ...], Callable[[RunConfig], Iterator[Problem]]], ...] = (
    (("codec", "backbone"), _check_ports),
    (("dataset", "alignment"), _check_fields),
    (
        ("guidance", "data", "pose", "appearance", "reference_keys", "image_embedding", "camera", "slots"),
        _check_guidance,
    ),
    (("dataset", "codec", "backbone"), _check_image),
    (("dataset", "data"), _check_grid),
    (("strategy", "training"), _check_strategy),
    (
        ("data", "codec", "alignment", "pose", "appearance", "reference_keys", "image_embedding", "camera", "slots"),
        _check_latents,
    ),
)
