"""Key points by a TorchScript file of the user's."""

import hashlib
from pathlib import Path

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor
from torch.nn.functional import interpolate

from hvg.core.bounds import Side
from hvg.core.errors import HvgError
from hvg.parts.context import Context
from hvg.parts.metric import KeypointRegressor
from hvg.parts.part import PartConfig
from hvg.values.scored_clip import NotAvailable


class TorchScriptKeypoints(KeypointRegressor):
    """A user's network in a file of ``torch.jit.save``: pictures (N, 3, h, w) in [0, 1] -> (N, K, 3), x, y, confidence.

    x and y are in pixels of what the network was given. DWPose, ViTPose and their like fit after a wrapper of a few lines has
    turned their heat maps into points. ``torch.jit.load`` does not unpickle arbitrary Python objects, but the file is a
    program of PyTorch operations, which may read and write files: load those that you trust.
    """

    class Config(PartConfig):
        """The file, and what its points mean."""

        path: Path = Field(description="The TorchScript file.")
        names: tuple[str, ...] = Field(min_length=1, description="Names of its key points, in order.")
        root: tuple[str, ...] = Field(min_length=1, description="Names whose mean place is the origin of a pose.")
        image_size: tuple[Side, Side] | None = Field(
            None, description="(height, width) that pictures are resized to for it; null leaves them as they are."
        )

        @field_validator("root")
        @classmethod
        def _are_names(cls, root: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
            names = info.data.get("names", root)
            unknown = [name for name in root if name not in names]
            if unknown:
                raise ValueError(f"{', '.join(unknown)} is not among the key points {', '.join(names)}")
            return root

    def __init__(self, config: Config, context: Context) -> None:
        """Raises: NotAvailable when there is no file; HvgError when it is none of TorchScript."""
        self.config, self.device = config, context.device
        self.names, self.root = config.names, config.root
        if not config.path.is_file():
            raise NotAvailable(f"keypoints=torchscript needs the file {config.path}, which is not there")
        try:
            self.network = torch.jit.load(config.path, map_location=context.device).eval()
        except RuntimeError as error:
            raise HvgError(f"{config.path} cannot be read as TorchScript (a file of torch.jit.save)") from error
        digest = f"sha256:{hashlib.sha256(config.path.read_bytes()).hexdigest()}"
        self.networks = {config.path.name: digest}
        size = "x".join(map(str, config.image_size)) if config.image_size else "as-it-is"
        self.definition = f"torchscript-{size}/v1"

    @classmethod
    def programs(cls, config: Config) -> tuple[Path, ...]:
        return (config.path,)

    def locate(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (N, K, 2) and confidence (N, K) in pictures (N, 3, H, W) uint8."""
        pictures = frames.to(self.device).float() / 255
        size = self.config.image_size or (frames.shape[-2], frames.shape[-1])
        if size != tuple(frames.shape[-2:]):
            pictures = interpolate(pictures, size, mode="bilinear", antialias=True)
        found = self.network(pictures).to(frames.device)
        expected = (len(frames), len(self.names), 3)
        if tuple(found.shape) != expected:
            raise HvgError(f"{self.config.path} gave {tuple(found.shape)}, expected (N, K, 3) = {expected}")
        scale = found.new_tensor([frames.shape[-1] / size[1], frames.shape[-2] / size[0]])
        return found[..., :2] * scale, found[..., 2].clamp(0, 1)
