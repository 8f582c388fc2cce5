"""Checks of what every conditioner promises."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cache, partial
from typing import Any, get_args

import torch
from torch import Tensor, nn

from hvg.core.random_keys import generator
from hvg.parts.context import Context
from hvg.parts.model import Conditioner, OncePer
from hvg.parts.scene import MeshImage, Renderer
from hvg.parts.text_conditioner import TextConditioner
from hvg.testing.building import build, nudged, require, require_gradients
from hvg.testing.outputs import alike, check_batch_independence, check_device
from hvg.testing.scene import tiny_batch, tiny_context
from hvg.testing.signal import check_signal
from hvg.values.cameras import Cameras
from hvg.values.clip import DRIVING_FIELDS, ClipBatch, Within
from hvg.values.conditioning import Conditioning
from hvg.values.latent_clip import grouped
from hvg.values.tensors import moved


def check_conditioner(cls: type[Conditioner], config: Any, context: Context) -> None:
    """Runs every check below. Raises: AssertionError that says which promise is broken."""
    part, photos = build(cls, config, context), max(1, cls.num_photos(config))
    # Of a map that is none, or is another in every window, whatever is made of it would say something else.
    check_signal(cls, config, context)
    for views, frames in ((1, 1), (3, 1), (1, 3), (3, 3)):
        check_shapes(part, config, context, tiny_batch(2, views, frames, photos=photos))
    check_joined_frames(cls, config, context)
    batch = tiny_batch(photos=photos)
    for check in (check_zero_start, check_determinism, check_half_precision, check_place):
        check(cls, config, context, batch)
    part = nudged(build(cls, config, context))
    for check in (check_gradients, check_frozen_features, check_once_per, check_told):
        check(part, batch)
    check_batch_independence(partial(_run, part), (batch,))


def check_shapes(part: Conditioner, config: Any, context: Context, batch: ClipBatch) -> None:
    """Exactly the ports of ``spec`` are filled, as widely as it says, from fields that a batch has.

    What stands in for a dropped signal fills the same ports in the same shapes.
    """
    missing = (part.needs(config) | part.loss_needs(config)) - batch.present()
    require(not missing, f"{type(part).__name__}.needs names unknown ClipBatch fields: {sorted(missing)}")
    conditioning = part(part.signal(batch), batch)
    wrong = {name: tuple(x.shape) for name, x in conditioning.losses.items() if x.shape != (batch.grid[0],)}
    require(not wrong, f"losses are of clips, (B), not {wrong}")
    expected_shapes = _expected_shapes(part, config, context, batch)
    if part.once_per(config) == "clip":
        spread = [name for name, x in ports_of(conditioning) if tuple(x.shape[1:3]) != (1, 1)]
        require(not spread, f"once a clip promises V and t axes of 1, but {', '.join(spread)} has others")
    _, *grid = _latent_grid(context, batch)
    for filled, whose in ((conditioning, "forward"), (part.null(conditioning), "null")):
        shapes = {name: _comparable(name, x, grid) for name, x in ports_of(filled)}
        require(shapes == expected_shapes, f"{whose} fills {shapes}, but spec says {expected_shapes}")


def check_joined_frames(cls: type[Conditioner], config: Any, context: Context) -> None:
    """Behind a codec that joins frames in time ports are of latent frames; batch and map have the frames of each of them.

    What is given once a cell, of a latent frame, goes by its own frames and no others.
    """
    behind = _joining()
    context = replace(context, ports=behind.ports, codec=behind.codec, backbone=behind.backbone)
    part, photos = nudged(build(cls, config, context)), max(1, cls.num_photos(config))
    for frames in (1, 3, 4):
        check_shapes(part, config, context, grouped(tiny_batch(2, 2, frames, photos=photos), 2))
    check_once_per(part, grouped(tiny_batch(2, 2, 4, photos=photos), 2))


@cache
def _joining() -> Context:
    return tiny_context(temporal_stride=2)


def check_zero_start(cls: type[Conditioner], config: Any, context: Context, batch: ClipBatch) -> None:
    """A new part adds exactly nothing to the backbone's residuals and embedding."""
    for name, x in _run(build(cls, config, context), batch).items():
        added = name.startswith(("port embedding", "port residuals"))
        require(not added or not x.any(), f"{name} is not zero at initialisation")


def check_determinism(cls: type[Conditioner], config: Any, context: Context, batch: ClipBatch) -> None:
    """The same seed gives the same weights and the same output."""
    first, second = (_run(nudged(build(cls, config, context)), batch) for _ in range(2))
    for name, x in first.items():
        require(torch.equal(x, second[name]), f"{name} differs between two runs with the same seed")


def check_gradients(part: Conditioner, batch: ClipBatch) -> None:
    """Every trainable weight gets a gradient, of ports or of losses of its own, once the zero-initialised ones have moved."""
    if not any(parameter.requires_grad for parameter in part.parameters()):
        return
    random = generator("loss")
    made = part(part.signal(batch), batch)
    ends = [*(x for _, x in ports_of(made)), *made.losses.values()]
    losses = [(x * torch.randn(x.shape, generator=random).to(x)).sum() for x in ends]
    torch.stack(losses).sum().backward()
    require_gradients(part)


def check_half_precision(cls: type[Conditioner], config: Any, context: Context, batch: ClipBatch) -> None:
    """bfloat16 weights and inputs give bfloat16 ports; control maps are drawn in single precision before."""
    part = build(cls, config, context)
    signal = part.signal(batch)
    signal = None if signal is None else signal.to(torch.bfloat16)
    for name, x in ports_of(part.to(torch.bfloat16)(signal, batch.to(torch.bfloat16))):
        require(x.dtype == torch.bfloat16, f"port {name} is {x.dtype} for bfloat16 weights and inputs")


@torch.no_grad()
def check_once_per(part: Conditioner, batch: ClipBatch) -> None:
    """What a part gives once a clip, or once a cell, is what it gives in any window, whatever is known: sampling asks it no more.

    batch: with the frames that latent frames stand for, two or more of these.
    """
    once = {first_view: part.once_per(part.config, first_view) for first_view in get_args(Within)}
    wrong = {*once.values()} - {*get_args(OncePer)}
    require(not wrong, f"once_per says {wrong}, and knows {', '.join(get_args(OncePer))}")
    if once["grid"] == "window":
        require(once["window"] == "window", "once_per promises more of data.first_view=window than of grid")
        return
    whole, (_, views, frames) = _run(part, batch), batch.grid
    stride, what = part.temporal_stride, f"once a {once['grid']} promises the same for every window"
    for chosen, latents in (([views - 1], [*range(frames // stride)]), ([views - 1, 0], [frames // stride - 1])):
        window = batch.select(chosen, [stride * latent + i for latent in latents for i in range(stride)])
        # Of a part that does not go by the first view of a window nobody says which is the first of all.
        window = window if once["window"] == "window" else replace(window, origin=None)
        for name, x in _run(part, window).items():
            cells = whole[name] if whole[name].shape[1] == 1 else whole[name][:, chosen]
            cells = cells if cells.shape[2] == 1 else cells[:, :, latents]
            require(
                alike(x, cells), f"{what}, but {name} differs in that of the views {chosen}, latent frames {latents}"
            )
    known = torch.zeros(batch.grid, dtype=torch.bool)
    known[:, 0] = True
    for name, x in _run(part, replace(batch, known=known)).items():
        require(torch.equal(x, whole[name]), f"{what}, but {name} goes by what is known of the clip")


def check_told(part: Conditioner, batch: ClipBatch) -> None:
    """Who is told is decided by the views of the clip: a window of some of them tells those that the whole clip tells."""
    told = part.told(batch)
    if told is None:
        return
    clips, views, frames = batch.grid
    require(told.dtype == torch.bool, f"told is {told.dtype}, not bool")
    require(tuple(told.shape) == (clips, views), f"told is {tuple(told.shape)}, not (B, V)")
    for chosen in ([views - 1], list(range(views))):
        window = part.told(batch.select(chosen, [frames - 1]))
        same = window is not None and torch.equal(window, told[:, chosen])
        require(same, f"a window of the views {chosen} tells others than the whole clip tells")


def check_frozen_features(part: Conditioner, batch: ClipBatch) -> None:
    """Checks that frozen features depend on the photo alone, or on the text, and that the part sees nothing else of it."""
    if not part.has_frozen_features(part.config):
        return
    source = "caption" if isinstance(part, TextConditioner) else "reference"
    features = part.features(batch)
    require(len(features) == len(batch.clip_id), f"frozen features are (B, ...), not {tuple(features.shape)}")
    require(not features.requires_grad, "frozen features carry a gradient")
    others = {"frames", "alpha", "body", *DRIVING_FIELDS, "caption", "task", "reference"} - {source}
    bare = replace(batch, **dict.fromkeys(others))
    require(torch.equal(part.features(bare), features), f"frozen features depend on more than the {source}")
    kept = replace(batch, **{source: None}, features={part.features_key: features})
    cached = _run(part, kept)
    for name, live in _run(part, batch).items():
        require(torch.equal(live, cached[name]), f"{name} differs where frozen features come with the batch")


@torch.no_grad()
def check_place(cls: type[Conditioner], config: Any, context: Context, batch: ClipBatch) -> None:
    """The control map, the ports, and what stands in for them are on the device of the inputs.

    The codec and the renderer of the context work on the CPU all the while: a renderer's kernels would ask for the GPU.
    """
    if context.renderer is not None:
        context = replace(context, renderer=_RendererOnCpu(context.renderer))
    # A part that runs the backbone finds it where it is itself.
    context = replace(context, backbone=deepcopy(context.backbone))
    part = nudged(build(cls, config, context))

    def everything(there: ClipBatch) -> dict[str, Tensor]:
        signal = part.signal(there)
        conditioning = part(signal, there)
        made = {} if signal is None else {"the control map": signal}
        return made | dict(ports_of(conditioning)) | {f"null {n}": x for n, x in ports_of(part.null(conditioning))}

    check_device(everything, (batch,), nn.ModuleList(filter(None, (part, context.backbone))))


class _RendererOnCpu(Renderer):
    """A renderer that is asked on the CPU, and whose answer is moved back."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    def render(self, vertices: Tensor, faces: Tensor, cameras: Cameras) -> MeshImage:
        return moved(self._renderer.render(vertices.cpu(), faces.cpu(), cameras.to("cpu")), vertices.device)


def ports_of(conditioning: Conditioning) -> Iterator[tuple[str, Tensor]]:
    """Every filled port as (name, tensor); sites are named ``residuals.<site>`` and ``memory.<site>``."""
    for name in ("tokens", "text", "pooled", "channels", "embedding", "pictures", "base"):
        if getattr(conditioning, name) is not None:
            yield name, getattr(conditioning, name)
    for name in ("residuals", "memory"):
        for site, x in getattr(conditioning, name).items():
            yield f"{name}.{site}", x


def _run(part: Conditioner, batch: ClipBatch) -> dict[str, Tensor]:
    return {f"port {name}": x for name, x in ports_of(part(part.signal(batch), batch))}


def _comparable(name: str, x: Tensor, grid: Sequence[int]) -> tuple[int, ...]:
    """A port's shape, an axis V or t of 1 being all of the grid's (V, t); the number of tokens is the part's own choice, and
    replaced by -1, as are number and size of pictures.
    """
    along = (whole if size == 1 else size for size, whole in zip(x.shape[1:3], grid, strict=True))
    shape = (len(x), *along, *x.shape[3:])
    if name == "pictures":
        return (*shape[:3], -1, shape[4], -1, -1)
    return (*shape[:3], -1, shape[4]) if name in ("tokens", "text") or name.startswith("memory") else shape


def _latent_grid(context: Context, batch: ClipBatch) -> tuple[int, int, int]:
    """(B, V, t)."""
    clips, views, frames = batch.grid
    assert context.codec is not None, "build the context with tiny_context()"
    return clips, views, frames // context.codec.temporal_stride


def _expected_shapes(part: Conditioner, config: Any, context: Context, batch: ClipBatch) -> dict[str, tuple[int, ...]]:
    ports, codec = context.ports, context.codec
    assert ports is not None and codec is not None, "build the context with tiny_context()"
    spec = part.spec(config, ports)
    lead = _latent_grid(context, batch)
    height, width = (n // ports.latent_stride for n in batch.cameras.image_size)
    shapes: dict[str, tuple[int, ...]] = {}
    if spec.tokens:
        shapes["tokens"] = (*lead, -1, spec.tokens)
    if spec.text:
        shapes["text"] = (*lead, -1, spec.text)
    if spec.pooled:
        shapes["pooled"] = (*lead, spec.pooled)
    if spec.pictures:
        shapes["pictures"] = (*lead, -1, spec.pictures, -1, -1)
    if spec.channels:
        shapes["channels"] = (*lead, spec.channels, height, width)
    if spec.embedding:
        shapes["embedding"] = (*lead, spec.embedding)
    if spec.base:
        shapes["base"] = (*lead, spec.base, height, width)
    for site, channels in spec.residuals.items():
        stride = ports.residuals[site].stride
        shapes[f"residuals.{site}"] = (*lead, channels, height // stride, width // stride)
    for site, channels in spec.memory.items():
        shapes[f"memory.{site}"] = (*lead, -1, channels)
    return shapes
