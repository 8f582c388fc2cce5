"""The latents of a view that is given, frame by frame, concatenated to the noise of all views.

Source: SV4D (arXiv 2407.17470) and SV4D 2.0 (arXiv 2503.16396), which concatenate the input video's frames to those of every
view.
"""

from typing import ClassVar

import torch
from torch import Tensor

from hvg.core.required import required
from hvg.parts.context import ConditionerContext
from hvg.parts.model import Conditioner, ConditionerConfig
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning, ConditioningSpec, Ports


class KnownLatent(Conditioner[ConditionerConfig]):
    """Fills ``channels`` with the codec's latents of the first view of which all frames are known, the same for every view.

    Nothing is learned; zero where no view is known, and where it is dropped, as SV4D has it for guidance.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"frames"})

    def __init__(self, config: ConditionerConfig, context: ConditionerContext) -> None:
        super().__init__(config, context)
        self.codec = context.codec

    @classmethod
    def spec(cls, config: ConditionerConfig, ports: Ports) -> ConditioningSpec:
        return ConditioningSpec(channels=ports.latent_channels)

    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        frames = required(batch.frames, "ClipBatch.frames")
        whole = frames.new_zeros(frames.shape[:2]) if batch.known is None else batch.known.all(dim=2).to(frames)
        first = whole.argmax(dim=1)
        video = frames[torch.arange(len(frames), device=frames.device), first][:, None]
        with torch.no_grad():
            latents = self._encode(video)
        told = whole.amax(dim=1).view(-1, 1, 1, 1, 1, 1) * latents
        return Conditioning(channels=told.expand(-1, frames.shape[1], -1, -1, -1, -1))

    def _encode(self, video: Tensor) -> Tensor:
        """Latents (B, 1, t, C, h, w) of the frames (B, 1, s t, 3, H, W) that latent frames stand for.

        A window's frames need not follow those before it, so that a codec which joins frames encodes each group by itself: a
        picture, the last of the group.
        """
        last = video[:, :, self.temporal_stride - 1 :: self.temporal_stride]
        if self.temporal_stride == 1:
            return self.codec.encode(last)
        # (B, 1, t, ...) -> (B t, 1, 1, ...) and back.
        pictures = self.codec.encode(last[:, 0].flatten(0, 1)[:, None, None])
        return pictures[:, 0, 0].unflatten(0, (len(video), -1))[:, None]
