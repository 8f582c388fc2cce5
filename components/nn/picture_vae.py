"""Published VAEs whose latents are of single pictures: how they are read, and how pictures go through them."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import TypeVar

from hvg.core.bounds import FrameCount
from hvg.parts.context import Context
from hvg.parts.continued import Continued
from hvg.parts.model import Codec
from hvg.parts.part import PartConfig
from hvg.parts.pretrained import Component
from hvg.values.conditioning import LatentShape
from hvg.values.layout import fold_frames, fold_views, unfold_frames


class PictureVaeConfig(PartConfig):
    """Settings: place of the weights, and number of pictures that fit in memory."""

    path: str = Field(
        description="Folder of the VAE (or of a pipeline, with the VAE in vae/), or a hub id of a pipeline."
    )
    encode_chunk: Annotated[FrameCount, Continued.FREE] = Field(8, description="Frames encoded at once.")
    decode_chunk: Annotated[FrameCount, Continued.FREE] = Field(8, description="Frames of one view decoded at once.")


VaeT = TypeVar("VaeT", bound=PictureVaeConfig, default=PictureVaeConfig)


class PictureVae(Codec[VaeT]):
    """Frozen. Latents are the mode, so that encoding twice gives the same: (z - shift) times the scaling factor.

    library: diffusers' class. published: settings from the published VAE's config.json, which a hub id is taken to hold.
    """

    memory_settings: ClassVar[frozenset[str]] = frozenset({"encode_chunk", "decode_chunk"})
    library: ClassVar[str]
    published: ClassVar[Mapping[str, Any]]
    temporal_stride = 1

    def __init__(self, config: VaeT, context: Context | None = None) -> None:
        super().__init__(config, context)
        self.channels, self.stride, _ = self.shape(config)
        self.decode_chunk = config.decode_chunk
        self._vae = self._blank() if context and context.blank else _component(config).network(self._class())
        self.scale, self.shift = self._vae.config.scaling_factor, getattr(self._vae.config, "shift_factor", None) or 0.0

    @classmethod
    def shape(cls, config: VaeT) -> LatentShape:
        """Read from the folder's config.json; a hub id is taken to be of the published VAE."""
        settings = _component(config).settings_or(cls.published)
        return LatentShape(settings["latent_channels"], 2 ** (len(settings["block_out_channels"]) - 1))

    @abstractmethod
    def decoded(self, latents: Tensor) -> Tensor:
        """Pictures (N, 3, H, W) of neighbouring frames' latents (N, C, h, w), which the network gave."""

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        vae = self._vae.to(frames.device)
        chunks = fold_frames(frames).split(self.config.encode_chunk)
        latents = torch.cat([vae.encode(x.to(vae.dtype)).latent_dist.mode() for x in chunks])
        return unfold_frames((latents - self.shift) * self.scale, frames.shape[:3]).to(frames.dtype)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        clips = fold_views(latents).to(self._vae.to(latents.device).dtype) / self.scale + self.shift
        frames = [torch.cat([self.decoded(x) for x in clip.split(self.config.decode_chunk)]) for clip in clips]
        return torch.stack(frames).unflatten(0, latents.shape[:2]).to(latents.dtype)

    def frozen(self) -> Mapping[str, Any]:
        return {"vae": self._vae}

    def adopt(self, components: Mapping[str, Any]) -> None:
        self._vae = components.get("vae", self._vae)

    @classmethod
    def _class(cls) -> Any:
        import diffusers

        return getattr(diffusers, cls.library)

    def _blank(self) -> Any:
        """The same network without its weights."""
        blank: Any = self._class().from_config(dict(_component(self.config).settings_or(self.published)))
        return blank.eval().requires_grad_(False)


def _component(config: PictureVaeConfig) -> Component:
    return Component(place=config.path, name="vae", setting="codec.path")
