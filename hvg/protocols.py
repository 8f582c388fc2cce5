"""Interfaces of the swappable parts. A part is one file in components/; its file name is its registered name.

Every part carries a ``Config`` (a frozen ``PartConfig`` that forbids unknown keys) and is built as ``Part(config, context)``.
Sizes are negotiated before any weight exists: ``Backbone.ports`` -> ``Conditioner.spec`` -> constructors.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from hvg import registry
from hvg.digests import settings_digest
from hvg.errors import HvgError
from hvg.long_clip import LongClip
from hvg.required import required
from hvg.scored_clip import NotAvailable, ScoredClip, Surface
from hvg.types import BodyMotion, ClipBatch, Conditioning, ConditioningSpec, Ports, ViewGrid, Window
from hvg.weights import NetworkFiles


@dataclass(frozen=True)
class PartName:
    """Marks a setting as the registered name of another part, which is judged and built with the one that names it.

    kind: of that part. settings: the setting beside it that holds that part's own settings. As in
    ``regressor: Annotated[str, PartName("keypoints", settings="regressor_settings")]``.
    """

    kind: str
    settings: str


class PartConfig(BaseModel):
    """Settings of one part: frozen, strict, numbers finite, every field documented by ``Field(description=...)``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def inner_parts(cls) -> dict[str, PartName]:
        """The settings that name another part."""
        marks = {name: field.metadata for name, field in cls.model_fields.items()}
        return {name: mark for name, found in marks.items() for mark in found if isinstance(mark, PartName)}

    def inner_part(self, name: str) -> tuple[Any, PartConfig]:
        """Class and settings of the part that the setting ``name`` names.

        Raises: UnknownPartError, PartImportError; ValidationError for settings that it does not have.
        """
        inner = self.inner_parts()[name]
        cls = registry.load(inner.kind, getattr(self, name))
        return cls, cls.Config(**getattr(self, inner.settings))


class Part:
    """Anything that can be chosen by name. ``Config`` is its settings class.

    It is built as ``Part(config, context)``; one that makes nothing of its own when it is built needs no constructor.
    """

    Config: ClassVar[type[PartConfig]] = PartConfig

    def __init__(self, config: Any = None, context: Context | None = None) -> None:
        super().__init__()
        self.config = config

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
    For metrics: networks, the user's files of pretrained feature networks; device, where they compute.
    blank: whether what ``Part.frozen`` names is made with weights of no value instead of being read, to count its cost.
    """

    ports: Ports | None = None
    codec: Codec | None = None
    backbone: Backbone | None = None
    renderer: Renderer | None = None
    body: BodyModel | None = None
    channels: int = 0
    memory: frozenset[str] = frozenset()
    view_attention: Callable[[int, int], ViewAttention] | None = None
    networks: NetworkFiles | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    blank: bool = False


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
    A part that draws its map ahead (``per_picture``) reads the mesh there alone: it does not come with the batch.
    encoder_settings: names of the settings that change neither the signal nor the frozen features, so that what was made
    ahead stays valid.
    per_clip: what it gives is the same for every view and frame, so that sampling asks once a clip; the V and t axes of its
    ports are 1.
    """

    Config = ConditionerConfig
    requires: ClassVar[frozenset[str]] = frozenset()
    encoder_settings: ClassVar[frozenset[str]] = frozenset({"dropout"})
    per_clip: ClassVar[bool] = False

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__(config, context)

    @classmethod
    @abstractmethod
    def spec(cls, config: Any, ports: Ports) -> ConditioningSpec:
        """What it fills on a backbone with these ports."""

    @classmethod
    def needs(cls, config: Any) -> frozenset[str]:
        """The ClipBatch fields that a part with these settings reads: ``requires``, unless they depend on the settings."""
        return cls.requires

    def signal(self, batch: ClipBatch) -> Tensor | None:
        """The control map, (B, V, T, K, H, W): no gradient to weights, viewable; None where there is none.

        In [-1, 1], unless ``signal_storage`` keeps floats. ``signal_images`` says how it is looked at. -1 or 0 is the
        background, as the part documents.

        It is drawn before people are moved (``Alignment``), of all the views and frames of a clip, or of any of them: ahead
        of training by ``hvg prepare``, when a clip is loaded, of a window while sampling. These have to agree. So every
        picture of it may depend on its own view's camera, its own frame of the body and of the driving video, bone radii and
        shape, the photo's camera and body, the size of the pictures, the task, the caption and the clip's id. It may not
        depend on other views or frames, on which view is the first (``origin``), or on the colours of frames and photo,
        which ``data.recolour`` changes. A part for which that is false says so by ``per_picture``.
        """
        return None

    @classmethod
    def per_picture(cls, config: Any) -> bool:
        """Whether every picture of the map is the same whichever views and frames it is drawn with, as ``signal`` says.

        Where it is not, the map is never stored: it is drawn of the views and frames that are denoised together, those of a
        training step after they were selected and recoloured, those of a sampler's window in sampling. ``origin`` is then as
        ``data.first_view`` says.
        """
        return True

    @classmethod
    def signal_storage(cls, config: Any) -> Literal["uint8", "float16", "float32"]:
        """How exactly the map is kept, in files and in memory alike: 255 levels in [-1, 1], or floats of any range."""
        return "uint8"

    @classmethod
    def mesh_in_step(cls, config: Any) -> bool:
        """Whether it reads the mesh of what a step sees; the others leave it behind once their map is drawn."""
        return "body.vertices" in cls.needs(config) and not (cls.has_signal() and cls.per_picture(config))

    @classmethod
    def has_signal(cls) -> bool:
        """Whether the part renders a control map."""
        return cls.signal is not Conditioner.signal

    @classmethod
    def signal_channels(cls, config: Any) -> int:
        """K of the control map, 0 where there is none; parts that draw one have to say."""
        return 0

    def signal_images(self, signal: Tensor) -> dict[str, Tensor]:
        """Name -> picture (..., 3, H, W), sRGB in [-1, 1], for people who look at a control map (..., K, H, W).

        Here one, ``map``: the first three channels, or the first in grey. A part whose channels mean other things says more.
        """
        shown = signal[..., :3, :, :] if signal.shape[-3] >= 3 else signal[..., :1, :, :]
        return {"map": shown.expand(*signal.shape[:-3], 3, *signal.shape[-2:])}

    def frozen_features(self, batch: ClipBatch) -> Tensor | None:
        """What networks that are never trained make of the aligned photo, (B, ...); None where there are none.

        ``hvg prepare latents`` keeps it on the disk, where ``forward`` gets it by ``features``. So it is a function of the
        reference and the clip's id alone, its networks are those of ``frozen`` and the codec, and a part that has some reads
        the photo nowhere else.
        """
        return None

    @classmethod
    def has_frozen_features(cls) -> bool:
        """Whether the part looks at the photo through frozen networks."""
        return cls.frozen_features is not Conditioner.frozen_features

    @property
    def features_key(self) -> str:
        """Name of the frozen features in a batch; it changes with every setting of theirs, not of the encoder."""
        settings = self.config.model_dump(mode="json", exclude=set(self.encoder_settings))
        return f"{type(self).__name__}-{settings_digest([type(self).__module__, settings])}"

    def features(self, batch: ClipBatch) -> Tensor:
        """The frozen features: those that the batch carries, else made now, without a gradient."""
        kept = batch.features.get(self.features_key)
        if kept is not None:
            return kept
        with torch.no_grad():
            return required(self.frozen_features(batch), "what frozen_features returns")

    @abstractmethod
    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        """The learned part: from the map (and the batch) to ports."""

    def null(self, conditioning: Conditioning) -> Conditioning:
        """What stands in when the signal is dropped; zeros unless a part knows better."""
        return conditioning.map(torch.zeros_like)


class ViewAttention(Part, nn.Module):
    """Mixes features over views, with a residual connection and an output projection that starts at zero.

    A part says who sees whom in one of two ways: by ``token_groups``, or, where tokens form no groups, by ``sees``.
    """

    def __init__(self, config: Any, width: int, num_heads: int) -> None:
        super().__init__(config)

    @abstractmethod
    def forward(self, x: Tensor, grid: ViewGrid) -> Tensor:
        """(B, V, t, h, w, D) -> same. grid: of these views and latent frames, its cameras (B, V, t) of pictures of h x w."""

    @classmethod
    def token_groups(cls, config: Any, views: int, height: int, width: int) -> Tensor | None:
        """Group number of every token, (V, h, w) int64: tokens see each other if and only if their numbers are equal.

        None where tokens form no groups, or other ones for other cameras or views.
        """
        return None

    @classmethod
    def sees(cls, config: Any, grid: ViewGrid) -> Tensor:
        """Who sees whom, (B, t, L, L) bool: whether the token of a row sees that of a column; the L = V h w of a latent frame
        in this order. By ``token_groups``, unless a part knows better.

        grid: as of ``forward``. Raises: HvgError for a part that declares neither.
        """
        (b, v, t), size = grid.cameras.shape, grid.cameras.image_size
        groups = cls.token_groups(config, v, *size)
        if groups is None:
            raise HvgError(f"{cls.__name__} has to say who sees whom: it declares neither token_groups nor sees")
        groups = groups.flatten().to(grid.view_index.device)
        return (groups[:, None] == groups).expand(b, t, -1, -1)

    @classmethod
    @abstractmethod
    def flops(cls, config: Any, views: int, height: int, width: int, channels: int) -> int:
        """Forward FLOPs for one latent frame of V views (2 per multiply-add): of what runs, not of what is seen."""


class Backbone(Part, nn.Module):
    """The denoiser. Library blocks, own forward."""

    @classmethod
    @abstractmethod
    def ports(cls, config: Any, codec_channels: int, codec_stride: int) -> Ports:
        """Sites and widths, before any weight exists."""

    @abstractmethod
    def forward(
        self,
        noisy: Tensor,
        level: Tensor,
        conditioning: Conditioning,
        frame_index: Tensor | None = None,
        grid: ViewGrid | None = None,
    ) -> Tensor:
        """The network's raw output, (B, V, t, C, h, w).

        noisy: (B, V, t, C, h, w), already scaled by c_in. level: (B, V, t), c_noise. frame_index: (B, t) place of every frame
        in the whole video, 0..t-1 when None (``data.frame_index``). Ports of the conditioning whose V or t axis is 1 hold for
        all of it.
        grid: where its views stand, cameras (B, V, t), as ``ClipBatch.view_grid`` gives it; view attention needs it and gets
        it with the cameras resized to the cells of its site. Raises: HvgError where it is needed and not given, or of
        another shape.
        """

    def load_pretrained(self) -> list[str]:
        """Loads the published weights that its settings name, if any; returns what it did, a line each, for the log.

        Raises: HvgError where a weight finds no place, or a layer that is not known to be new finds no weight.
        """
        return []

    def reference_encoder(self, sites: Sequence[str], checkpointing: bool = False) -> nn.Module:
        """A copy of the spatial layers, weights included: latents (N, C, h, w) -> {memory site: (N, M, D)}.

        What it gives at a site is what spatial self-attention sees there (normalised tokens), for the ``memory`` port.
        checkpointing: its blocks are computed again in the backward pass instead of being kept for it.
        Source: ReferenceNet (AnimateAnyone, arXiv 2311.17117). Raises: HvgError where the backbone has no such form.
        """
        raise HvgError(f"{type(self).__name__} has no reference encoder; choose another reference_keys")


class Codec(Part):
    """Frames <-> latents; frozen, kept outside the trained module tree; works on the device of what it is given.

    memory_settings: names of the settings that do not change the latents, so that those made ahead stay valid.
    """

    memory_settings: ClassVar[frozenset[str]] = frozenset()

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

    @classmethod
    def per_picture(cls, config: Any) -> bool:
        """Whether every picture moves in the same way whichever views and frames it comes with; then it can be encoded ahead."""
        return False

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


# From a clip's V and T to the views and the consecutive frames that are wanted; asked again, it answers the same.
Choose = Callable[[int, int], tuple[Sequence[int], range]]


@dataclass(frozen=True, kw_only=True)
class Holdings:
    """What the files of a dataset hold, as far as that is known without reading a picture.

    sizes: clip id -> (V, T, H, W). subjects: clip id -> whom it shows, as of ``ClipBatch.subject``. digests: clip id -> a
    digest of its frames, the same for a copy under another name; of clips of which it is known. notes: what a user has to
    know of the files, a line each.
    """

    sizes: Mapping[str, tuple[int, int, int, int]] = field(default_factory=dict)
    subjects: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Dataset(Part):
    """Clips by index. Loading clip i gives the same values in any process and any order.

    Its ``Config`` has a setting ``split`` that takes ``train``, ``val`` and ``test``; no clip, and so no clip id, belongs to
    two of them. A clip id is one clip's alone. ``hvg.testing.check_dataset`` holds a dataset to all of this. Where ``holdings``
    tells subjects or digests, a run whose splits share some is refused, unless ``evaluation.overlap`` allows it; a dataset
    that does not tell them vouches that its splits have different people.

    Settings named ``views``, ``frames``, ``image_size``, ``distance`` (metres) and ``fov_degrees``, where it has them, say how
    clips are framed: ``hvg sample`` frames a video alike, and ``hvg check`` counts its cost by them.
    """

    @classmethod
    @abstractmethod
    def provides(cls, config: Any) -> frozenset[str]:
        """Names of the ClipBatch fields that every clip holds; what is not named here, no other part may ask for."""

    @classmethod
    def eight_bit(cls, config: Any) -> bool:
        """Whether frames, photos and alpha are what 8 bits hold (``hvg.eight_bit``), as those of files of pictures are.

        Where they are not, ``hvg prepare`` stores them as floats, four times as large before compression or more.
        """
        return True

    @classmethod
    def holdings(cls, config: Any) -> Holdings:
        """What the files of the split hold; nothing where there are no files here, or the settings say it (views, frames).

        Raises: DataError for files that are damaged or missing.
        """
        return Holdings()

    @classmethod
    def content(cls, config: Any) -> str:
        """What besides the settings its clips depend on, such as a digest of files; what is made of them carries it."""
        return ""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def load(self, index: int) -> ClipBatch:
        """Clip ``index`` with B = 1, all its views and frames."""

    def load_part(self, index: int, choose: Choose, signals: frozenset[str]) -> ClipBatch | None:
        """The views and frames of clip ``index`` that ``choose`` names, as ``select`` gives them, with these control maps at
        least.

        None where that is no cheaper than all of the clip, or a map is not there: then ``load`` is asked.
        """
        return None

    def surface(self, index: int) -> Surface:
        """The true geometry behind the pictures of clip ``index``. Raises: NotAvailable where it is not known."""
        raise NotAvailable(f"the dataset '{type(self).__name__}' does not know the surface behind its pictures")


@dataclass(frozen=True, kw_only=True)
class Score:
    """What the measurements of all clips came to.

    value: the number. per_clip: clip id -> value; empty for a distance between two sets. cells: clip id -> (V, T) value of
    every picture, NaN where it has none; empty where pictures have none of their own. count: N. counted: what N counts.
    floor: value that two samples of the truth would have at this N, for distances between sets. notes: what a reader has to
    know, such as how many frames were left out.
    """

    value: float
    count: int
    counted: str = "frames"
    per_clip: Mapping[str, float] = field(default_factory=dict)
    cells: Mapping[str, np.ndarray] = field(default_factory=dict)
    floor: float | None = None
    notes: tuple[str, ...] = ()


class KeypointRegressor(Part):
    """Finds named points of one person in pictures, for metrics of pose: a network of the user's, or a rule.

    names: of the K points. root: the names whose mean place is the origin of a pose. joints: name -> the SMPL-X joints in
    whose middle it lies, for names that are no SMPL-X joints themselves. definition: id of exactly how points are found.
    networks: name of each pretrained network -> ``sha256:...`` of its file.

    A published estimator takes one file in a package of the user's, registered as ``keypoints.my_pose``::

        class MyPose(KeypointRegressor):
            '''The estimator of my lab.'''

            class Config(PartConfig):
                '''Where it lies.'''
                path: Path = Field(description="Its file of weights.")

            names = ("nose", "left_hip", "right_hip", ...)
            root = ("left_hip", "right_hip")
            definition = "my_pose/v1"

            def __init__(self, config, context):
                self.network = MyNetwork(config.path).to(context.device)

            def locate(self, frames):
                heatmaps = self.network(resize(frames.float() / 255, (256, 192)))
                return peaks(heatmaps) * scale_back, heatmaps.amax((-2, -1))

    ``joint_error`` and ``mpjpe`` take it as ``regressor=my_pose``. A TorchScript file needs no code at all:
    ``regressor=torchscript``.
    """

    names: tuple[str, ...]
    root: tuple[str, ...]
    definition: str
    joints: Mapping[str, tuple[str, ...]] = {}
    networks: Mapping[str, str] = {}
    measurement: str | None = None

    @classmethod
    def programs(cls, config: Any) -> tuple[Path, ...]:
        """Files that it runs as programs, rather than reads as data; each is the value of one of the settings."""
        return ()

    def check(self, clip: ScoredClip) -> None:
        """Raises: NotAvailable where it cannot find people like the true one of this clip."""
        return

    @abstractmethod
    def locate(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Places (N, K, 2) in pixels, centres at +0.5, and confidence (N, K) in [0, 1], 0 for a point that is not found.

        frames: (N, 3, H, W) uint8, each looked at by itself.
        """


# What a metric keeps of one clip: named arrays, never frames.
Measurement = Mapping[str, np.ndarray]


class Metric(Part):
    """A number about clips, in two steps: what is kept of a clip, and what all that was kept comes to.

    A measurement is a function of its clip alone. So ranks may share the clips, the numbers stay the same to the last bit,
    and subjects can be drawn anew for an interval without looking at a frame again.

    A metric that cannot be computed here raises ``NotAvailable``: when it is built (a missing file of weights) or when it
    measures (a field that the clip does not hold). It is then reported as not available, with the reason. Any other error
    ends no evaluation either, but counts as a failure: its traceback goes into results.json, and the exit code is 1.

    definition: id of exactly how the number is computed; a changed computation gets a new one.
    verdict: whether a better value means a better arm. False for a number that a blank, faded or still video improves, or
    that is best at no end: it describes, and no table colours or ranks it. Where that depends on settings, ``judges`` says.
    requires: fields of ScoredClip that it needs besides prediction and truth.
    networks: name of each pretrained network that it looks through -> ``sha256:...`` of its file.
    measurement: id of what ``measure`` keeps; of metrics with the same id, one measures for all. None: it has its own.
    on_person: whether it looks at the pixels of the person alone; the first such metric of a protocol answers a study's question.
    """

    definition: str
    higher_is_better: ClassVar[bool] = True
    verdict: ClassVar[bool] = True
    unit: ClassVar[str] = ""
    on_person: ClassVar[bool] = False
    requires: ClassVar[frozenset[str]] = frozenset()
    networks: Mapping[str, str] = {}
    measurement: str | None = None

    @classmethod
    def judges(cls, config: Any) -> bool:
        """Whether it carries a verdict with these settings: ``verdict``, unless a metric knows better."""
        return cls.verdict

    @classmethod
    def programs(cls, config: Any) -> tuple[Path, ...]:
        """Files that it runs as programs, rather than reads as data; each is the value of one of the settings."""
        return ()

    @abstractmethod
    def measure(self, clip: ScoredClip) -> Measurement:
        """What is kept of a clip; empty where there is nothing in it to score (one frame has no change over time)."""

    def measure_pieces(self, clip: LongClip) -> Measurement:
        """The same of a clip of files that is too large to be held. It is held all the same, unless a metric knows better:
        one that can look at ``clip.pieces()`` should, and keep what ``measure`` keeps, to the last bit."""
        return self.measure(clip.whole())

    @abstractmethod
    def reduce(self, kept: Mapping[str, Measurement]) -> Score:
        """The score over clip id -> measurement, none of them empty. Raises: NotAvailable when they are too few."""
