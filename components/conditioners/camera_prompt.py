"""Where every view stands and how its camera goes on, as a sentence."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from hvg.core.bounds import Metres
from hvg.core.errors import HvgError
from hvg.core.on_device import values_of
from hvg.parts.context import ConditionerContext
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning

from ..nn.camera_words import STILL, longest, said, sentence, told_cameras
from ..nn.encoded_text import EncodedText, EncodedTextConfig


class CameraPromptConfig(EncodedTextConfig):
    """What is said of cameras, and how it is encoded."""

    tells: Literal["place_and_path", "path"] = Field(
        "place_and_path",
        description="place_and_path: where a view's camera begins, seen from the first view, and how it goes on. path: that.",
    )
    distance: Metres = Field(
        3.0, description="Metres to what is looked at, where it does not show: cameras that look the same way."
    )


class CameraPrompt(EncodedText[CameraPromptConfig]):
    """Fills ``text`` for every view with "45 degrees to the left: orbit left by 45 degrees, push in by 0.5 metres, handheld".

    Of the frames that are denoised together; the rules are in docs/camera_words.md. ``camera_moves`` tells the same in numbers.
    The host reads where cameras are, for which it waits once a step.
    Source: 3DiMo (arXiv 2602.03796) steers cameras by text; its words are not published, these are our own.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"cameras"})

    def __init__(self, config: CameraPromptConfig, context: ConditionerContext) -> None:
        """Raises: HvgError, one line, for files that are missing, and for an encoder that takes no whole sentence."""
        super().__init__(config, context)
        needed, most = self.encoder.count(longest()), self.encoder.max_tokens
        if needed > most:
            raise HvgError(
                f"camera.encoder_settings.max_tokens: {config.encoder} gives {most}, and a sentence about a camera takes up to "
                f"{needed}"
            )

    def sentences(self, batch: ClipBatch) -> list[str]:
        """What is said of every view of every clip, (B V)."""
        place, path, unrest = told_cameras(batch, self.temporal_stride, self.config.distance)
        numbers = values_of(torch.cat([said(place), said(path), unrest[..., None]], dim=-1).flatten(0, 1))
        if numbers is None:
            return [STILL] * (batch.grid[0] * batch.grid[1])
        whole, half = self.config.tells == "place_and_path", path.shape[-1]
        return [sentence(row[half:-1], row[-1], row[:half] if whole else None) for row in numbers]

    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        texts, cameras = self.sentences(batch), batch.cameras.world_to_camera
        different = [*dict.fromkeys(texts)]
        if self.encoder.learns:
            tokens = self.encoder.encode(different)
        else:
            with torch.no_grad():
                tokens = self.encoder.encode(different, cameras.device).to(cameras.dtype)
        which = torch.tensor([different.index(text) for text in texts], device=tokens.device)
        told = self.of_the_port(tokens)[which]
        return Conditioning(text=told.unflatten(0, batch.grid[:2])[:, :, None])
