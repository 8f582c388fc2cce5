"""Interfaces of conditioners and codec, and of what the network predicts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import TypeVar

from hvg.core.digests import settings_digest
from hvg.core.required import required
from hvg.core.shipped import name_in_tree
from hvg.parts.continued import Continued
from hvg.parts.part import ConfigT, Part, PartConfig
from hvg.values.body import MESH_FIELDS
from hvg.values.clip import ClipBatch, Within
from hvg.values.conditioning import Conditioning, ConditioningSpec, LatentShape, Ports

if TYPE_CHECKING:
    from hvg.parts.context import ConditionerContext


# For what a conditioner gives something once, and sampling keeps it: a clip, a cell (a view and latent frame of it), or a window
# that is denoised.
OncePer = Literal["clip", "cell", "window"]


class ConditionerConfig(PartConfig):
    """Settings that every conditioner has."""

    dropout: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Probability that a clip trains without this signal. Guidance can leave out slots whose value is above 0; "
        "it leaves out all of them unless its settings name some.",
    )
    drops: Literal["together", "alone"] = Field(
        "together",
        description="together: slots share one draw, so that those with the same dropout drop together, as guidance drops them. "
        "alone: by a draw of its own, so that the network sees each of several signals without the others.",
    )
    strength: Annotated[float, Continued.SAMPLING] = Field(
        1.0,
        ge=0,
        le=10,
        description="How strongly a trained model hears it: what it fills in is as far from what stands in for a dropped signal. "
        "0: as if dropped. Training does not ask.",
    )


ConditionerT = TypeVar("ConditionerT", bound=ConditionerConfig, default=Any)


class Conditioner(Part[ConditionerT], nn.Module):
    """Steers generation: pose, appearance, camera, task, text, motion tokens. There is no second mechanism.

    requires: names of ClipBatch fields that ``signal`` or ``forward`` reads (``"body"``, ``"body.vertices"``, ``"reference"``).
    A part that draws its map ahead (``per_picture``) reads the mesh there alone: it does not come with the batch.
    encoder_settings: names of the settings that change neither the signal nor the frozen features, so that what was made
    ahead stays valid; besides those of the classes that it is derived from (``not_made_ahead``).
    poses_photo: whether it has to be told from where the photo was taken, and the body in it.
    temporal_stride: s, frames of the batch for every latent frame (``hvg.values.latent_time``).
    """

    Config: ClassVar[type[PartConfig]] = ConditionerConfig
    requires: ClassVar[frozenset[str]] = frozenset()
    encoder_settings: ClassVar[frozenset[str]] = frozenset(ConditionerConfig.model_fields)
    poses_photo: ClassVar[bool] = False

    def __init__(self, config: ConditionerT, context: ConditionerContext) -> None:
        super().__init__(config, context)
        self.temporal_stride = context.ports.temporal_stride

    @classmethod
    @abstractmethod
    def spec(cls, config: ConditionerT, ports: Ports) -> ConditioningSpec:
        """Ports that it fills on a backbone with ``ports``, and how widely."""

    @classmethod
    def once_per(cls, config: ConditionerT, first_view: Within = "grid") -> OncePer:
        """How often sampling asks what it gives, map and encoder together.

        clip: that is the same for every view and frame, and the V and t axes of its ports are 1. cell: of a view and latent frame
        it is the same whichever views and frames it is asked with, and whatever of the clip is known. window: neither.
        first_view: as of ``data.first_view``; with window, what is told relative to the first view is another in every window.
        """
        return "window"

    @classmethod
    def not_made_ahead(cls) -> frozenset[str]:
        """Names of all ``encoder_settings``, its own and inherited ones."""
        names: list[str] = [name for base in cls.__mro__ for name in vars(base).get("encoder_settings", ())]
        return frozenset(names)

    @classmethod
    def needs(cls, config: ConditionerT) -> frozenset[str]:
        """The ClipBatch fields that a part with these settings reads: ``requires``, unless they depend on the settings."""
        return cls.requires

    @classmethod
    def loss_needs(cls, config: ConditionerT) -> frozenset[str]:
        """The ClipBatch fields that its own losses read besides; sampling does without them."""
        return frozenset()

    def loss_weight(self, step: int) -> float:
        """Factor of its own losses at a training step, counted from 0."""
        return 1.0

    def signal(self, batch: ClipBatch) -> Tensor | None:
        """The control map, (B, V, T, K, H, W): no gradient to weights, viewable; None where there is none.

        In [-1, 1], unless ``signal_storage`` keeps floats. ``signal_images`` says how it is looked at. -1 or 0 is the
        background, as the part documents.

        It is drawn before people are moved (``Alignment``), of all the views and frames of a clip, or of any of them: ahead
        of training by ``hvg prepare``, when a clip is loaded, of a window while sampling. These have to agree. So every
        picture of it may depend on its own view's camera, its own frame of the body and of the driving video, bone radii and
        shape, the photo's camera and body, the size of the pictures, the task, the caption and the clip's id. It may not
        depend on other views or frames, on which view is the first (``origin``), or on the colours of frames and photo,
        which ``data.recolour`` changes, unless ``photo_colours`` says so. A part for which that is false says so by
        ``per_picture``.
        """
        return None

    @classmethod
    def per_picture(cls, config: ConditionerT) -> bool:
        """Whether every picture of the map is the same whichever views and frames it is drawn with, as ``signal`` says.

        Where it is not, the map is never stored: it is drawn of the views and frames that are denoised together, those of a
        training step after they were selected and recoloured, those of a sampler's window in sampling. ``origin`` is then as
        ``data.first_view`` says.
        """
        return True

    @classmethod
    def num_photos(cls, config: ConditionerT) -> int:
        """How many photos of its person it needs a clip to have, besides what ``needs`` says of them."""
        return 0

    @classmethod
    def content(cls, config: ConditionerT) -> str:
        """Text of what its map depends on besides settings, code and bodies, such as a digest of files."""
        return ""

    @classmethod
    def photo_colours(cls, config: ConditionerT) -> tuple[int, int, int, int] | None:
        """Channels that hold colours of the photo, which are recoloured with it: RGB in [-1, 1] times alpha, and alpha."""
        return None

    @classmethod
    def notes(cls, config: ConditionerT, provided: frozenset[str]) -> Sequence[str]:
        """What the user of a run should know of it, a line each. provided: the ClipBatch fields that the data set gives."""
        return ()

    @classmethod
    def signal_storage(cls, config: ConditionerT) -> Literal["uint8", "float16", "float32"]:
        """Number type that the map is kept in, in files and memory: 255 levels in [-1, 1], or floats of any range."""
        return "uint8"

    @classmethod
    def mesh_in_step(cls, config: ConditionerT) -> bool:
        """Whether a step has to carry the mesh for it; other parts need it at most until their map is drawn."""
        return cls.reads_mesh(config) and not (cls.has_signal() and cls.per_picture(config))

    @classmethod
    def reads_mesh(cls, config: ConditionerT) -> bool:
        """Whether it reads the body's mesh, or how bones carry it."""
        return not MESH_FIELDS.isdisjoint(cls.needs(config))

    @classmethod
    def has_signal(cls) -> bool:
        """Whether the part renders a control map."""
        return cls.signal is not Conditioner.signal

    @classmethod
    def signal_channels(cls, config: ConditionerT) -> int:
        """K of the control map, 0 where there is none; parts that draw one have to say."""
        return 0

    @classmethod
    def codes(cls, config: ConditionerT) -> Sequence[int]:
        """Channels of the map whose numbers name something, such as a body part: a mean of two names is no name.

        Where pictures are made smaller, these take the number at the place of each new pixel's centre.
        """
        return ()

    def signal_images(self, signal: Tensor) -> dict[str, Tensor]:
        """Name -> picture (..., 3, H, W), sRGB in [-1, 1], for people who look at a control map (..., K, H, W).

        Here one, ``map``: the first three channels, or the first in grey. A part whose channels mean other things says more.
        """
        shown = signal[..., :3, :, :] if signal.shape[-3] >= 3 else signal[..., :1, :, :]
        return {"map": shown.expand(*signal.shape[:-3], 3, *signal.shape[-2:])}

    def frozen_features(self, batch: ClipBatch) -> Tensor | None:
        """Features of the aligned photo from networks that are never trained, (B, ...); None where there are none.

        ``hvg prepare latents`` keeps it on the disk, where ``forward`` gets it by ``features``. So it is a function of the
        reference and the clip's id alone, its networks are those of ``frozen`` and the codec, and a part that has some reads
        the photo nowhere else. Those of a ``TextConditioner`` are of the clip's text, and of nothing else.
        """
        return None

    @classmethod
    def has_frozen_features(cls, config: ConditionerT) -> bool:
        """Whether the part, with these settings, looks at the photo, or reads the text, through frozen networks."""
        return cls.frozen_features is not Conditioner.frozen_features

    @property
    def features_key(self) -> str:
        """Name of the frozen features in a batch; it changes with every setting of theirs, not of the encoder."""
        settings = self.config.model_dump(mode="json", exclude=set(self.not_made_ahead()))
        return f"{type(self).__name__}-{settings_digest([name_in_tree(type(self).__module__), settings])}"

    def features(self, batch: ClipBatch) -> Tensor:
        """The frozen features: those that the batch carries, else made now, without a gradient."""
        kept = batch.features.get(self.features_key)
        if kept is not None:
            return kept
        with torch.no_grad():
            return required(self.frozen_features(batch), "what frozen_features returns")

    @abstractmethod
    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        """The learned part: from the map (and the batch) to ports.

        Map and batch have the frames that latent frames stand for, s of each, one after the other (B, V, s t), and ports are of
        latent frames: what gives one value for a frame gives that of the last of each s.
        """

    def null(self, conditioning: Conditioning) -> Conditioning:
        """Conditioning for clips whose signal is dropped; zeros unless a part overrides it."""
        return conditioning.map(torch.zeros_like)

    def told(self, batch: ClipBatch) -> Tensor | None:
        """Which views (B, V) get what it fills in; the others get ``null``. None: all of them.

        By their places among all views of their clips (``ViewGrid.view_index``), so that windows agree.
        """
        return None


class Codec(Part[ConfigT]):
    """Frames <-> latents; frozen, kept outside the trained module tree; works on the device of what it is given.

    Latents (B, V, t, C, h, w) are those of ``hvg.values.latent_time``: with a temporal stride s latent frame 0 is of frame 0
    alone, latent frame k of the frames up to k s, whatever follows them.
    memory_settings: names of the settings that do not change the latents, so that those made ahead stay valid.
    """

    memory_settings: ClassVar[frozenset[str]] = frozenset()

    channels: int
    stride: int
    temporal_stride: int
    # Latent frames of a piece in which videos are decoded.
    decode_chunk: int = 8
    # Factor by which ``encode`` multiplies the latents, so that their spread fits the prediction's sigma_data.
    scale: float = 1.0

    @classmethod
    @abstractmethod
    def shape(cls, config: ConfigT) -> LatentShape:
        """What it makes of pictures, before any weight exists."""

    @abstractmethod
    def encode(self, frames: Tensor) -> Tensor:
        """(B, V, T, 3, H, W) in [-1, 1] -> (B, V, t, C, h, w); any T, of which s n + 1 are made with the last frame."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """(B, V, t, C, h, w) -> (B, V, s (t - 1) + 1, 3, H, W) in about [-1, 1] (not clamped)."""

    def decode_pieces(self, latents: Tensor) -> Iterator[Tensor]:
        """The frames of ``decode`` piece by piece along time, so that no more of a long video is held.

        Here pieces of ``decode_chunk`` latent frames, each decoded by itself. A codec that joins frames in time has to know
        what came before, and says itself how; unless it does it decodes all at once.
        """
        length = self.decode_chunk if self.temporal_stride == 1 else latents.shape[2]
        pieces: Sequence[Tensor] = torch.split(latents, length, dim=2)
        yield from map(self.decode, pieces)


class Prediction(Part[ConfigT]):
    """Preconditioning, target and weight for one parameterisation, and the distribution of noise levels.

    ``pixels`` are those of a picture, height times width, by which levels may go: of more pixels, noise hides less.
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
    def sample_sigma(self, shape: Sequence[int], generator: torch.Generator, *, pixels: int) -> Tensor:
        """Training noise levels."""

    @abstractmethod
    def sigma_schedule(self, num_steps: int, *, pixels: int) -> Tensor:
        """Sampling levels, (num_steps + 1), decreasing, the last one 0."""
