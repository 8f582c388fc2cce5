"""A training step on fake tensors, which have shapes and types but no values: what is asked of the parts.

What is counted is what would run, activation checkpointing and a ReferenceNet included.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental import _config as fake_tensor_config

from hvg.config import build
from hvg.config.precision import precision_here
from hvg.config.settings import RunConfig
from hvg.config.wiring import picture_size
from hvg.core.errors import HvgError
from hvg.data.signals import signal_keys
from hvg.geometry.motion import BODY_JOINTS, SMPLX_JOINTS
from hvg.geometry.skeleton import BONES, JOINTS
from hvg.parts.adapter import named_weights
from hvg.parts.backbone import Backbone
from hvg.parts.model import Codec, Conditioner
from hvg.parts.part import Part
from hvg.values.body import MESH_FIELDS, BodyMotion, Skinning
from hvg.values.cameras import Cameras
from hvg.values.clip import CLOSE_UPS, ClipBatch, Reference
from hvg.values.latent_time import latent_frames

# (B, V, T, H, W) of a batch.
Shape = tuple[int, int, int, int, int]
# Vertices of SMPL-X's mesh, which has about twice as many faces.
MESH_VERTICES = 10475


@dataclass(frozen=True)
class FakeNetworks:
    """The parts with weights, on fake tensors. rates: as of ``hvg.config.build.adapt``."""

    codec: Codec
    backbone: Backbone
    conditioners: dict[str, Conditioner]
    rates: Mapping[str, float] = field(default_factory=dict)

    @property
    def trained(self) -> list[nn.Module]:
        """Networks in a system's module tree; some of their weights may be frozen all the same."""
        return [self.backbone, *self.conditioners.values()]

    def learning_rates(self) -> list[float | None]:
        """Of every weight that trains, in order; None: the training's."""
        weights = named_weights(self.backbone, self.conditioners)
        return [self.rates.get(name) for name, weight in weights.items() if weight.requires_grad]

    def published(self) -> list[nn.Module]:
        """Networks outside of a system's module tree, read from files and never trained."""
        parts: list[Part] = [self.codec, self.backbone, *self.conditioners.values()]
        return [network for part in parts for network in frozen_networks(part)]


def frozen_networks(part: Part) -> list[nn.Module]:
    """Networks that a part reads from files and never trains."""
    return [network for network in part.frozen().values() if isinstance(network, nn.Module)]


@contextmanager
def fake_networks(config: RunConfig) -> Iterator[FakeNetworks]:
    """The parts with weights on fake tensors; whatever is made inside is fake as well. Reads no file of weights.

    Parts that compile run uncompiled inside: what was compiled on fake tensors would serve the same part's training, too.
    Raises: HvgError for a run whose system has no backbone.
    """
    if "backbone" not in config.parts:
        raise HvgError(
            f"a step of system={config.system.name} cannot be taken on shapes alone: what it computes depends on where people "
            "are in the pictures"
        )
    with torch.device("meta"):
        codec = build.build_codec(config, blank=True)
        parts = build.build_networks(config, codec, blank=True)
        networks = FakeNetworks(codec, *parts, build.adapt(config, *parts))
    modules = [*networks.trained, *networks.published()]
    for module in modules:
        # Buffers that a library makes by torch.Tensor(...) have escaped the meta device.
        module.to("meta")
    # Views are worked out in the way that does for unknown sizes, too: the other looks through each for twice as long.
    views = fake_tensor_config.patch(backed_size_oblivious=True)  # pyright: ignore[reportAttributeAccessIssue]
    with FakeTensorMode(), torch.compiler.set_stance("force_eager"), views:
        for module in modules:
            module._apply(lambda x: torch.empty(x.shape, dtype=x.dtype))
            stay(module)
        yield networks


def stay(module: nn.Module) -> None:
    """Makes ``module.to(...)`` do nothing: fake weights are where they should be, and torch cannot move some that are in use."""
    vars(module)["_apply"] = lambda function, recurse=True: module


@dataclass(frozen=True, kw_only=True)
class FakeRequest:
    """Inputs of codec, backbone and conditioners. signal_keys: slot -> the key of its control map in the batch.

    temporal_stride: frames of the batch that a latent frame joins.
    """

    noisy: Tensor
    level: Tensor
    batch: ClipBatch
    signal_keys: Mapping[str, str]
    temporal_stride: int


def fake_request(config: RunConfig, shape: Shape) -> FakeRequest:
    """Inputs of a training step; zeros, or nothing at all on fake tensors."""
    b, v, t, height, width = shape
    channels, stride, temporal_stride = config.codec.cls.shape(config.codec.config)
    frames = latent_frames(t, temporal_stride)
    provided = set(config.dataset.cls.provides(config.dataset.config))
    if not any(choice.cls.mesh_in_step(choice.config) for choice in config.conditioners.values()):
        provided -= MESH_FIELDS
    keys = signal_keys(config)
    signals = {
        keys[slot]: torch.zeros(b, v, t, choice.cls.signal_channels(choice.config), height, width)
        for slot, choice in config.conditioners.items()
        if choice.cls.has_signal()
    }
    return FakeRequest(
        noisy=torch.zeros(b, v, frames, channels, height // stride, width // stride),
        level=torch.zeros(b, v, frames),
        batch=replace(fake_batch(provided, shape, num_photos(config)), signals=signals),
        signal_keys=keys,
        temporal_stride=temporal_stride,
    )


def num_photos(config: RunConfig) -> int:
    """Photos of a person in a run's clips, as far as settings tell; one, unless they tell of more."""
    held = config.dataset.cls.num_photos(config.dataset.config) or 1
    return max(held, *(choice.cls.num_photos(choice.config) for choice in config.conditioners.values()), 1)


def fake_batch(provided: Collection[str], shape: Shape, photos: int = 1) -> ClipBatch:
    """Clips of which a dataset provides these fields, as training reads them: zeros in the shapes of ``ClipBatch``."""
    b, v, t, height, width = shape

    def cameras(*grid: int) -> Cameras:
        poses, intrinsics = (torch.eye(size).expand(*grid, size, size) for size in (4, 3))
        return Cameras(world_to_camera=poses, intrinsics=intrinsics, image_size=(height, width))

    def body(frames: int) -> BodyMotion | None:
        return fake_body(b, frames, mesh=not MESH_FIELDS.isdisjoint(provided)) if "body" in provided else None

    optional: dict[str, Callable[[], Any]] = {
        "alpha": lambda: torch.zeros(b, v, t, 1, height, width),
        "body": lambda: body(t),
        "reference": lambda: Reference(
            frames=torch.zeros(b, photos, 3, height, width),
            alpha=torch.zeros(b, photos, 1, height, width) if "alpha" in provided else None,
            cameras=cameras(b, photos),
            body=body(photos),
        ),
        "task": lambda: torch.zeros(b, dtype=torch.int64),
        "frame_index": lambda: torch.arange(t).expand(b, t),
        "driving": lambda: torch.zeros(b, t, 3, height, width),
        **{name: partial(torch.zeros, b, t, len(shown), 3, height, width) for name, shown in CLOSE_UPS.items()},
        "caption": lambda: ("a person",) * b,
    }
    return ClipBatch(
        cameras=cameras(b, v, t),
        clip_id=("",) * b,
        subject=("",) * b,
        # What every step has, whatever the dataset.
        frames=torch.zeros(b, v, t, 3, height, width),
        valid=torch.ones(b, v, t, dtype=torch.bool),
        sample_index=torch.arange(b),
        **{name: make() for name, make in optional.items() if name in provided},
    )


def fake_body(clips: int, frames: int, mesh: bool) -> BodyMotion:
    """Bodies with all that ``BodyMotion`` may hold, the mesh where it is asked for."""
    return BodyMotion(
        joints=torch.zeros(clips, frames, len(JOINTS), 3),
        joint_names=JOINTS,
        bone_radii=torch.zeros(clips, len(BONES)),
        vertices=torch.zeros(clips, frames, MESH_VERTICES, 3) if mesh else None,
        faces=torch.zeros(2 * MESH_VERTICES, 3, dtype=torch.int64) if mesh else None,
        skinning=fake_skinning(clips, frames) if mesh else None,
        parameters={"rotations": torch.eye(3).expand(clips, frames, len(BODY_JOINTS), 3, 3)},
    )


def fake_skinning(clips: int, frames: int) -> Skinning:
    """Of a mesh as SMPL-X's, with 55 bones, of which a vertex follows four at most."""
    return Skinning(
        bones=SMPLX_JOINTS,
        vertex_bones=torch.zeros(MESH_VERTICES, 4, dtype=torch.int16),
        vertex_weights=torch.full((MESH_VERTICES, 4), 0.25),
        rest=torch.zeros(clips, MESH_VERTICES, 3),
        transforms=torch.eye(4).expand(clips, frames, len(SMPLX_JOINTS), 4, 4),
    )


def step_shape(config: RunConfig) -> Shape | None:
    """Shape of the largest batch of a training step on one device; None where the pictures' size is unknown."""
    known = [
        (b.views, b.frames, *size) for b in config.data.trained_buckets if (size := b.size or picture_size(config))
    ]
    # Those with the most pixels, and among those with the most views.
    largest = max(known, key=lambda clip: (math.prod(clip), clip[0]), default=None)
    return (
        None if largest is None or len(known) < len(config.data.trained_buckets) else (config.data.batch_size, *largest)
    )


def autocast(config: RunConfig) -> torch.autocast:
    """The arithmetic of a training step."""
    return torch.autocast("cpu", torch.bfloat16, enabled=precision_here(config) == "bf16")


def with_features(batch: ClipBatch, conditioners: Mapping[str, Conditioner]) -> ClipBatch:
    """The batch with what frozen networks make of photo and text, so that they do not run when conditioners do."""
    looking = [part for part in conditioners.values() if part.has_frozen_features(part.config)]
    return replace(batch, features={part.features_key: part.features(batch) for part in looking})
