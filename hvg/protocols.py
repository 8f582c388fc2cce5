"""Interfaces of the swappable parts. A part is one file in components/; its file name is its registered name.

Every part carries a ``Config`` (a frozen ``PartConfig`` that forbids unknown keys) and is built as ``Part(config, context)``.
Sizes are negotiated before any weight exists: ``Backbone.ports`` -> ``Conditioner.spec`` -> constructors.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from hvg.errors import HvgError
from hvg.types import BodyMotion, ClipBatch, Conditioning, ConditioningSpec, Ports, Window


class PartConfig(BaseModel):
    """Settings of one part: frozen, strict, every field documented by ``Field(description=...)``."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Part:
    """Anything that can be chosen by name. ``Config`` is its settings class."""

    Config: ClassVar[type[PartConfig]] = PartConfig

    def frozen(self) -> Mapping[str, Any]:
        """Published models that it uses and never trains, by their component name in a diffusers pipeline (``vae``).

        A part that has some reads them from the pipeline folder or hub id in its setting ``path``; exports hold them.
        """
        return {}

    def adopt(self, components: Mapping[str, Any]) -> None:
        """Uses those of the components that ``frozen`` names, instead of its own."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a part may need of the others when it is built.

    ports: the backbone's. codec: frames <-> latents. renderer: mesh rasteriser. body: body model.
    For the backbone: channels, the sum of all conditioners' extra input channels; memory, the sites whose memory port some
    conditioner fills; view_attention, which builds one module for a site as ``view_attention(width, num_heads)``.
    For conditioners that start from its weights: backbone, the finished one; they may copy from it and must not keep it.
    """

    ports: Ports | None = None
    codec: Codec | None = None
    backbone: Backbone | None = None
    renderer: Renderer | None = None
    body: BodyModel | None = None
    channels: int = 0
    memory: frozenset[str] = frozenset()
    view_attention: Callable[[int, int], ViewAttention] | None = None


class ConditionerConfig(PartConfig):
    """Settings that every conditioner has."""

    dropout: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Probability that a clip trains without this signal. All slots share one draw, so signals with the "
        "same value drop together. Classifier-free guidance drops every slot whose value is above 0.",
    )


class Conditioner(Part, nn.Module):
    """Steers generation: pose, appearance, camera, task, text, motion tokens. There is no second mechanism.

    requires: names of ClipBatch fields that ``signal`` or ``forward`` reads (``"body"``, ``"body.vertices"``, ``"reference"``).
    encoder_settings: names of the settings that do not change the signal, so that rendered maps stay valid.
    per_clip: what it gives is the same for every view and frame, so that sampling asks once a clip; the V and t axes of its
    ports are 1.
    """

    requires: ClassVar[frozenset[str]] = frozenset()
    encoder_settings: ClassVar[frozenset[str]] = frozenset({"dropout"})
    per_clip: ClassVar[bool] = False

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__()
        self.config = config

    @classmethod
    @abstractmethod
    def spec(cls, config: Any, ports: Ports) -> ConditioningSpec:
        """What it fills on a backbone with these ports."""

    @classmethod
    def needs(cls, config: Any) -> frozenset[str]:
        """The ClipBatch fields that a part with these settings reads: ``requires``, unless they depend on the settings."""
        return cls.requires

    def signal(self, batch: ClipBatch) -> Tensor | None:
        """The control map, (B, V, T, K, H, W) in [-1, 1]: no gradient to weights, cacheable, viewable; None where there is none.

        The first three of the K channels are shown as an image. -1 or 0 is the background, as the part documents.
        """
        return None

    @classmethod
    def has_signal(cls) -> bool:
        """Whether the part renders a control map."""
        return cls.signal is not Conditioner.signal

    @classmethod
    def signal_channels(cls, config: Any) -> int:
        """K of the control map, 0 where there is none; parts that draw one have to say."""
        return 0

    @abstractmethod
    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        """The learned part: from the map (and the batch) to ports."""

    def null(self, conditioning: Conditioning) -> Conditioning:
        """What stands in when the signal is dropped; zeros unless a part knows better."""
        return conditioning.map(torch.zeros_like)


class ViewAttention(Part, nn.Module):
    """Mixes features over views, with a residual connection and an output projection that starts at zero."""

    def __init__(self, config: Any, width: int, num_heads: int) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """(B, V, t, h, w, D) -> same."""

    @classmethod
    @abstractmethod
    def token_groups(cls, config: Any, views: int, height: int, width: int) -> Tensor:
        """Group number of every token, (V, h, w) int64: tokens see each other if and only if their numbers are equal."""

    @classmethod
    @abstractmethod
    def flops(cls, config: Any, views: int, height: int, width: int, channels: int) -> int:
        """Forward FLOPs for one latent frame of V views (2 per multiply-add)."""


class Backbone(Part, nn.Module):
    """The denoiser. Library blocks, own forward."""

    @classmethod
    @abstractmethod
    def ports(cls, config: Any, codec_channels: int, codec_stride: int) -> Ports:
        """Sites and widths, before any weight exists."""

    @abstractmethod
    def forward(
        self, noisy: Tensor, level: Tensor, conditioning: Conditioning, frame_index: Tensor | None = None
    ) -> Tensor:
        """The network's raw output, (B, V, t, C, h, w).

        noisy: (B, V, t, C, h, w), already scaled by c_in. level: (B, V, t), c_noise. frame_index: (B, t) position of every
        frame in the whole video, 0..t-1 when None. Ports of the conditioning whose V or t axis is 1 hold for all of it.
        """

    def load_pretrained(self) -> list[str]:
        """Loads the published weights that its settings name, if any; returns what it did, a line each, for the log.

        Raises: HvgError where a weight finds no place, or a layer that is not known to be new finds no weight.
        """
        return []

    def reference_encoder(self, sites: Sequence[str]) -> nn.Module:
        """A copy of the spatial layers, weights included: latents (N, C, h, w) -> {memory site: (N, M, D)}.

        What it gives at a site is what spatial self-attention sees there (normalised tokens), for the ``memory`` port.
        Source: ReferenceNet (AnimateAnyone, arXiv 2311.17117). Raises: HvgError where the backbone has no such form.
        """
        raise HvgError(f"{type(self).__name__} has no reference encoder; choose another reference_keys")


class Codec(Part):
    """Frames <-> latents; frozen, kept outside the trained module tree."""

    channels: int
    stride: int
    temporal_stride: int
    # Neighbouring latent frames of one view that are decoded together; videos are decoded in pieces of this many.
    decode_chunk: int = 8
    # What ``encode`` multiplies the latents by, so that their spread fits the prediction's sigma_data.
    scale: float = 1.0

    @classmethod
    @abstractmethod
    def shape(cls, config: Any) -> tuple[int, int, int]:
        """(latent channels, spatial stride, temporal stride), before any weight exists."""

    @abstractmethod
    def encode(self, frames: Tensor) -> Tensor:
        """(B, V, T, 3, H, W) in [-1, 1] -> (B, V, t, C, h, w)."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """(B, V, t, C, h, w) -> (B, V, T, 3, H, W) in about [-1, 1] (not clamped)."""

    def to(self, device: torch.device) -> Codec:
        """Moves frozen weights, if there are any."""
        return self


class Prediction(Part):
    """Preconditioning, target and weight for one parameterisation, and the distribution of noise levels.

    Source of the notation: EDM (arXiv 2206.00364), equation 7 and table 1.
    """

    @abstractmethod
    def input_scale(self, sigma: Tensor) -> Tensor:
        """c_in."""

    @abstractmethod
    def level(self, sigma: Tensor) -> Tensor:
        """c_noise, what the backbone is told."""

    @abstractmethod
    def denoised(self, output: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
        """The estimate of x0 from the raw output; sigma broadcasts against noisy."""

    @abstractmethod
    def weight(self, sigma: Tensor) -> Tensor:
        """Loss weight of the squared error in x0."""

    @abstractmethod
    def sample_sigma(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Training noise levels."""

    @abstractmethod
    def sigma_schedule(self, num_steps: int) -> Tensor:
        """Sampling levels, (num_steps + 1), decreasing, the last one 0."""


@dataclass(frozen=True)
class Stage:
    """The grid that a sampler works on at a step: which latent frames of the video, in a picture how much smaller.

    frames: indices into the video's latent frames, increasing. shrink: the picture's sides are divided by it.
    """

    frames: tuple[int, ...]
    shrink: int = 1


class Sampler(Part):
    """A plan: what to denoise together at each step."""

    def stage(self, step: int, num_steps: int, frames: int) -> Stage:
        """The grid of this step; the last step's has to be the whole video. Most plans work on the whole video."""
        return Stage(tuple(range(frames)))

    @abstractmethod
    def windows(self, step: int, num_steps: int, views: int, frames: int) -> list[Window]:
        """The windows of this step; together they cover the V x t grid (of its stage, where there are stages)."""

    def cost(self, num_steps: int, views: int, frames: int) -> float:
        """What the plan asks of a solver with one denoising a step, in passes over the whole V x t grid at full size."""
        cells = 0.0
        for step in range(num_steps):
            stage = self.stage(step, num_steps, frames)
            windows = self.windows(step, num_steps, views, len(stage.frames))
            cells += sum(len(window.views) * len(window.frames) for window in windows) / stage.shrink**2
        return cells / (views * frames)


@dataclass(frozen=True, kw_only=True)
class SolverStep:
    """From one noise level to the next.

    denoise: ``denoise(x, sigma)`` gives x0 at another point (second-order solvers). noise: fresh noise like x, of unit
    variance, the same however the grid is split (stochastic solvers). state: lives as long as the grid stays the same.
    """

    sigma: float
    sigma_next: float
    denoise: Callable[[Tensor, float], Tensor]
    noise: Callable[[], Tensor]
    state: dict[str, Any]


class Solver(Part):
    """How to step from one noise level to the next."""

    @abstractmethod
    def step(self, x: Tensor, x0: Tensor, at: SolverStep) -> Tensor:
        """x at ``at.sigma_next``, for x and the estimate x0 at ``at.sigma``; all (B, V, t, C, h, w)."""


class Guidance(Part):
    """How strongly to guide."""

    @abstractmethod
    def scale(self, views: int, frames: int, sigma: float) -> Tensor:
        """Classifier-free guidance scale, (V, t); 1 everywhere means that no unconditional pass is needed."""


class Alignment(Part):
    """Where people are moved in the picture before the network sees them, and back afterwards.

    Whole pixels, so that nothing is interpolated; ``hvg.alignment`` moves frames, maps and cameras together.
    requires: names of ClipBatch fields that it reads.
    """

    requires: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def offsets(self, batch: ClipBatch) -> Tensor | None:
        """Pixels (x, y) by which every frame is moved, (B, V, T, 2) int64; None where nothing moves."""

    @abstractmethod
    def reference_offsets(self, batch: ClipBatch) -> Tensor | None:
        """Pixels (x, y) by which every reference photo is moved, (B, R, 2) int64; None where nothing moves."""


class BodyModel(Part):
    """Body parameters -> vertices, joints with SMPL-X names, bone radii."""

    @abstractmethod
    def animate(self, motion: Any, shape: Mapping[str, float] | None = None, *, mesh: bool = True) -> BodyMotion:
        """The body (B=1) of a person of ``shape`` (the model's own names) in an ``hvg.motion.Motion``; world, metres."""


class Renderer(Part):
    """Rasterises triangle meshes."""

    @abstractmethod
    def render(self, vertices: Tensor, faces: Tensor, cameras: Any) -> MeshImage:
        """What each pixel centre of the cameras (N) sees. faces: (F, 3) int64.

        vertices: (M, P, 3) world metres, M poses of one mesh; M divides N and camera n sees pose n M // N.
        """


@dataclass(frozen=True, kw_only=True)
class MeshImage:
    """What pixel centres see of a mesh.

    face: (N, H, W) int64, -1 where nothing is hit. barycentric: (N, H, W, 3) weights of the face's corners.
    depth: (N, H, W) z in camera space, metres, 0 where nothing is hit. normal: (N, H, W, 3) unit outward normal in camera
    axes, interpolated from area-weighted vertex normals, 0 where nothing is hit.
    """

    face: Tensor
    barycentric: Tensor
    depth: Tensor
    normal: Tensor


class Dataset(Part):
    """Clips by index. Loading clip i gives the same values in any process and any order."""

    @classmethod
    @abstractmethod
    def provides(cls, config: Any) -> frozenset[str]:
        """Names of the ClipBatch fields that every clip holds."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def load(self, index: int) -> ClipBatch:
        """Clip ``index`` with B = 1, all its views and frames."""


@dataclass(frozen=True, kw_only=True)
class MetricResult:
    """A value, its per-clip table, and what makes it comparable.

    per_clip: clip id -> value. higher_is_better. protocol: id of exactly how it was computed. count: N frames.
    """

    value: float
    per_clip: Mapping[str, float]
    higher_is_better: bool
    protocol: str
    count: int
    notes: Mapping[str, str] = field(default_factory=dict)


class Metric(Part):
    """Accumulates clips and returns one MetricResult."""

    @abstractmethod
    def update(self, prediction: Tensor, batch: ClipBatch) -> None:
        """prediction (B, V, T, 3, H, W) in [-1, 1], already clamped; batch.frames is the truth."""

    @abstractmethod
    def compute(self) -> MetricResult:
        """Over everything seen so far. Raises: ValueError when nothing was seen."""
