"""Checks that every part of a kind has to pass, for our parts and for a lab's own; no data and no body model needed.

A lab's test is two lines: ``check_conditioner(MySignal, MySignal.Config(), tiny_context())`` and a name for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from hvg import registry
from hvg.cameras import orbit
from hvg.geometry.skeleton import JOINTS, REFERENCE_STATURE, bone_radii
from hvg.protocols import Conditioner, Context
from hvg.random import generator
from hvg.types import BodyMotion, ClipBatch, Conditioning, Reference

Network = TypeVar("Network", bound=nn.Module)

# A person of REFERENCE_STATURE who stands and faces +z, arms a little away from the body; metres, y up, left is +x.
_STANDING_MIDDLE = {
    "pelvis": (0.0, 0.93, 0.0),
    "spine1": (0.0, 1.03, 0.0),
    "spine2": (0.0, 1.15, 0.0),
    "spine3": (0.0, 1.22, 0.01),
    "neck": (0.0, 1.42, -0.01),
    "head": (0.0, 1.51, 0.02),
    "head_top": (0.0, 1.70, 0.0),
}
_STANDING_LEFT = {
    "hip": (0.09, 0.89, 0.0),
    "knee": (0.11, 0.48, 0.01),
    "ankle": (0.12, 0.08, -0.02),
    "foot": (0.14, 0.02, 0.11),
    "collar": (0.07, 1.36, 0.0),
    "shoulder": (0.17, 1.39, -0.01),
    "elbow": (0.33, 1.19, -0.01),
    "wrist": (0.47, 0.99, 0.04),
    "middle1": (0.52, 0.91, 0.06),
}
_BOX_FACES = (
    *((0, 1, 3), (0, 3, 2), (4, 6, 7), (4, 7, 5), (0, 4, 5), (0, 5, 1)),
    *((2, 3, 7), (2, 7, 6), (0, 2, 6), (0, 6, 4), (1, 5, 7), (1, 7, 3)),
)


def standing_joints() -> Tensor:
    """Joints (25, 3) of a standing person in the order of ``JOINTS``; world, metres, facing +z."""
    left = {f"left_{name}": point for name, point in _STANDING_LEFT.items()}
    right = {f"right_{name}": (-x, y, z) for name, (x, y, z) in _STANDING_LEFT.items()}
    points = {**_STANDING_MIDDLE, **left, **right}
    return torch.tensor([points[name] for name in JOINTS])


def tiny_batch(clips: int = 2, views: int = 2, frames: int = 2, size: int = 32, seed: int = 0) -> ClipBatch:
    """Clips of a standing person who sways and turns, seen by an orbit of cameras; frames and reference are noise.

    The mesh is one box per clip and frame around the trunk. All fields that a conditioner may ask for are there.
    """
    random = generator("tiny_batch", seed)
    turn = torch.rand(clips, frames, 1, generator=random) * 0.5
    sway = 0.02 * torch.randn(clips, frames, len(JOINTS), 3, generator=random)
    joints = _turned(standing_joints() + sway, turn)
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3) * torch.tensor([0.2, 0.3, 0.1])
    trunk = joints[:, :, JOINTS.index("spine1"), None]
    cameras = orbit(
        torch.arange(views) * 360.0 / views,
        elevation_degrees=5.0,
        distance=3.0,
        target=torch.tensor([0.0, 0.9, 0.0]),
        fov_degrees=40.0,
        image_size=(size, size),
    )
    names = tuple(f"clip{i}" for i in range(clips))
    return ClipBatch(
        cameras=cameras[None, :, None].expand(clips, views, frames),
        clip_id=names,
        subject=names,
        frames=torch.rand(clips, views, frames, 3, size, size, generator=random) * 2 - 1,
        alpha=torch.rand(clips, views, frames, 1, size, size, generator=random),
        body=BodyMotion(
            joints=joints,
            joint_names=JOINTS,
            bone_radii=bone_radii(torch.full((clips,), REFERENCE_STATURE)),
            vertices=trunk + _turned(corners.expand(clips, frames, 8, 3), turn),
            faces=torch.tensor(_BOX_FACES),
        ),
        reference=Reference(frames=torch.rand(clips, 1, 3, size, size, generator=random) * 2 - 1),
        task=torch.arange(clips) % 2,
        frame_index=torch.arange(frames).expand(clips, frames),
        driving=torch.rand(clips, frames, 3, size, size, generator=random) * 2 - 1,
        caption=tuple("a person" for _ in range(clips)),
    )


def _turned(points: Tensor, angle: Tensor) -> Tensor:
    """Points (..., N, 3) turned by ``angle`` (..., 1) radians around the y axis."""
    x, y, z = points.unbind(-1)
    return torch.stack([x * angle.cos() + z * angle.sin(), y, z * angle.cos() - x * angle.sin()], dim=-1)


def tiny_context() -> Context:
    """What conditioners are built with: a ``svd_unet`` of two narrow levels, the ``pixel`` codec, the ``warp`` renderer."""
    codec, renderer = (_default(kind, name) for kind, name in (("codec", "pixel"), ("renderer", "warp")))
    part = registry.load("backbone", "svd_unet")
    config = part.Config(
        widths=(32, 64),
        attention=(True, True),
        heads=(2, 2),
        layers_per_block=1,
        cross_attention_width=24,
        addition_time_embed_dim=8,
    )
    ports = part.ports(config, codec.channels, codec.stride)
    backbone = build(part, config, Context(ports=ports))
    return Context(ports=ports, codec=codec, renderer=renderer, backbone=backbone)


def check_conditioner(cls: type[Conditioner], config: Any, context: Context) -> None:
    """Runs every check below. Raises: AssertionError that says which promise is broken."""
    for views, frames in ((1, 1), (3, 1), (1, 3), (3, 3)):
        check_shapes(cls, config, context, tiny_batch(2, views, frames))
    batch = tiny_batch()
    check_zero_start(cls, config, context, batch)
    check_determinism(cls, config, context, batch)
    check_gradients(cls, config, context, batch)
    check_half_precision(cls, config, context, batch)
    check_batch_independence(cls, config, context, batch)
    check_frozen_features(cls, config, context, batch)


def check_shapes(cls: type[Conditioner], config: Any, context: Context, batch: ClipBatch) -> None:
    """The map is (B, V, T, K, H, W) in [-1, 1], and exactly the ports of ``spec`` are filled, as widely as it says.

    What stands in for a dropped signal fills the same ports in the same shapes.
    """
    part = build(cls, config, context)
    missing = part.needs(config) - batch.present()
    _require(not missing, f"{cls.__name__}.needs names unknown ClipBatch fields: {sorted(missing)}")
    signal = part.signal(batch)
    if signal is not None:
        expected = (*batch.grid, signal.shape[3], *batch.cameras.image_size)
        _require(tuple(signal.shape) == expected, f"the control map has shape {tuple(signal.shape)}, not {expected}")
        _require(bool((signal.abs() <= 1 + 1e-5).all()), f"the control map leaves [-1, 1]: up to {signal.abs().max()}")
        _require(not signal.requires_grad, "the control map carries a gradient")
    conditioning = part(signal, batch)
    expected_shapes = _expected_shapes(part, config, context, batch)
    if part.per_clip:
        spread = [name for name, x in ports_of(conditioning) if tuple(x.shape[1:3]) != (1, 1)]
        _require(not spread, f"per_clip promises V and t axes of 1, but {', '.join(spread)} has others")
    _, *grid = _latent_grid(context, batch)
    for filled, whose in ((conditioning, "forward"), (part.null(conditioning), "null")):
        shapes = {name: _comparable(name, x) for name, x in ports_of(filled.expand(*grid))}
        _require(shapes == expected_shapes, f"{whose} fills {shapes}, but spec says {expected_shapes}")


def check_zero_start(cls: type[Conditioner], config: Any, context: Context, batch: ClipBatch) -> None:
    """A new part adds exactly nothing to the backbone's residuals and embedding."""
    for name, x in _run(build(cls, config, context), batch):
        added = name == "embedding" or name.startswith("residuals")
        _require(not added or not x.any(), f"port {name} is not zero at initialisation")


def check_determinism(cls: type[Conditioner], config: Any, context: Context, batch: ClipBatch) -> None:
    """The same seed gives the same weights and the same output."""
    first, second = (_run(nudged(build(cls, config, context)), batch) for _ in range(2))
    for (name, x), (_, y) in zip(first, second, strict=True):
        _require(torch.equal(x, y), f"port {name} differs between two runs with the same seed")


def check_gradients(cls: type[Conditioner], config: Any, context: Context, batch: ClipBatch) -> None:
    """Every trainable weight gets a gradient once the zero-initialised ones have moved."""
    part = nudged(build(cls, config, context))
    weights = [(name, p) for name, p in part.named_parameters() if p.requires_grad]
    if not weights:
        return
    random = generator("loss")
    losses = [(x * torch.randn(x.shape, generator=random).to(x)).sum() for _, x in _run(part, batch)]
    torch.stack(losses).sum().backward()
    starved = [name for name, p in weights if p.grad is None or not p.grad.any()]
    _require(not starved, f"no gradient reaches {', '.join(starved)}")


def check_half_precision(cls: type[Conditioner], config: Any, context: Context, batch: ClipBatch) -> None:
    """bfloat16 weights and inputs give bfloat16 ports; control maps are drawn in single precision before."""
    part = build(cls, config, context)
    signal = part.signal(batch)
    signal = None if signal is None else signal.to(torch.bfloat16)
    for name, x in ports_of(part.to(torch.bfloat16)(signal, batch.to(torch.bfloat16))):
        _require(x.dtype == torch.bfloat16, f"port {name} is {x.dtype} for bfloat16 weights and inputs")


def check_batch_independence(cls: type[Conditioner], config: Any, context: Context, batch: ClipBatch) -> None:
    """A clip's ports do not depend on the clips beside it."""
    part = nudged(build(cls, config, context))
    for (name, together), (_, alone) in zip(_run(part, batch), _run(part, batch.clips(slice(0, 1))), strict=True):
        close = torch.allclose(together[:1], alone, rtol=1e-4, atol=1e-5)
        _require(close, f"port {name} of a clip changes with the clips beside it")


def check_frozen_features(cls: type[Conditioner], config: Any, context: Context, batch: ClipBatch) -> None:
    """What frozen networks make of the photo depends on nothing else, and is all that the part sees of the photo."""
    if not cls.has_frozen_features():
        return
    part = nudged(build(cls, config, context))
    features = part.features(batch)
    _require(len(features) == len(batch.clip_id), f"frozen features are (B, ...), not {tuple(features.shape)}")
    _require(not features.requires_grad, "frozen features carry a gradient")
    bare = replace(batch, frames=None, alpha=None, body=None, driving=None, caption=None, task=None)
    _require(torch.equal(part.features(bare), features), "frozen features depend on more than the reference")
    kept = replace(batch, reference=None, features={part.features_key: features})
    for (name, live), (_, cached) in zip(_run(part, batch), _run(part, kept), strict=True):
        _require(torch.equal(live, cached), f"port {name} differs where frozen features come with the batch")


def build(cls: type[Network], config: Any, context: Context) -> Network:
    """The part with weights from a fixed seed; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return cls(config, context).eval()


def nudged(part: Conditioner) -> Conditioner:
    """The part with seeded noise on every trainable weight, so that zero-initialised ones let signals through."""
    random = generator("nudge")
    with torch.no_grad():
        for parameter in part.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=random).to(parameter))
    return part


def ports_of(conditioning: Conditioning) -> Iterator[tuple[str, Tensor]]:
    """Every filled port as (name, tensor); sites are named ``residuals.<site>`` and ``memory.<site>``."""
    for name in ("tokens", "channels", "embedding"):
        if getattr(conditioning, name) is not None:
            yield name, getattr(conditioning, name)
    for name in ("residuals", "memory"):
        for site, x in getattr(conditioning, name).items():
            yield f"{name}.{site}", x


def _default(kind: str, name: str) -> Any:
    part = registry.load(kind, name)
    return part(part.Config(), Context())


def _run(part: Conditioner, batch: ClipBatch) -> list[tuple[str, Tensor]]:
    return list(ports_of(part(part.signal(batch), batch)))


def _comparable(name: str, x: Tensor) -> tuple[int, ...]:
    """A port's shape; the number of tokens is the part's own choice and replaced by -1."""
    shape = tuple(x.shape)
    return (*shape[:3], -1, shape[4]) if name == "tokens" or name.startswith("memory") else shape


def _latent_grid(context: Context, batch: ClipBatch) -> tuple[int, int, int]:
    """(B, V, t)."""
    clips, views, frames = batch.grid
    assert context.codec is not None, "build the context with tiny_context()"
    return clips, views, 1 + (frames - 1) // context.codec.temporal_stride


def _expected_shapes(part: Conditioner, config: Any, context: Context, batch: ClipBatch) -> dict[str, tuple[int, ...]]:
    ports, codec = context.ports, context.codec
    assert ports is not None and codec is not None, "build the context with tiny_context()"
    spec = part.spec(config, ports)
    lead = _latent_grid(context, batch)
    height, width = (n // ports.latent_stride for n in batch.cameras.image_size)
    shapes: dict[str, tuple[int, ...]] = {}
    if spec.tokens:
        shapes["tokens"] = (*lead, -1, spec.tokens)
    if spec.channels:
        shapes["channels"] = (*lead, spec.channels, height, width)
    if spec.embedding:
        shapes["embedding"] = (*lead, spec.embedding)
    for site, channels in spec.residuals.items():
        stride = ports.residuals[site].stride
        shapes[f"residuals.{site}"] = (*lead, channels, height // stride, width // stride)
    for site, channels in spec.memory.items():
        shapes[f"memory.{site}"] = (*lead, -1, channels)
    return shapes


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)
