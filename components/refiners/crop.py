"""Head and hands at a higher zoom: crops by projected joints, denoised by a video model, put back with a soft edge.

HVG (arXiv 2602.21188) names faces and hands as what its videos lack; the pass is ours. Views and times are those of the whole
pictures, and cameras see the crops, so control maps are drawn at the zoom. The photo stays whole.
"""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from hvg.core.required import required
from hvg.parts.refiner import Refiner, RefinerConfig
from hvg.values.cameras import project
from hvg.values.clip import ClipBatch
from hvg.values.crops import Crop, Crops, rectangles

Region = Literal["head", "left_hand", "right_hand"]
# What a crop shows -> the joints at the ends of it, of which those that the body has are taken.
JOINTS: dict[str, tuple[str, ...]] = {
    "head": ("neck", "head", "head_top"),
    **{
        f"{side}_hand": (f"{side}_wrist", f"{side}_middle1", f"{side}_middle3", f"{side}_thumb3")
        for side in ("left", "right")
    },
}


class CropConfig(RefinerConfig):
    """What is cropped, and how it is put back."""

    strength: float = Field(
        0.4, ge=0, le=1, description="As of every refiner; lower, for the crop's place in the picture has to stay."
    )
    anchor: Literal["first_frame", "none"] = Field("none", description="As of every refiner.")
    regions: Annotated[tuple[Region, ...], Field(min_length=1, max_length=3)] = Field(
        ("head", "left_hand", "right_hand"), description="What is cropped, each by itself."
    )
    margin: float = Field(
        1.0,
        ge=0,
        le=10,
        description="By how much a crop is larger than the box around its joints, as a share of that box's longer side.",
    )
    least: float = Field(
        0.15, gt=0, le=1, description="Shorter side of a crop at least, as a share of the picture's shorter side."
    )
    edge: float = Field(
        0.15, ge=0, le=0.5, description="Share of a crop's sides, at each end, over which it fades into the picture."
    )


class CropRefiner(Refiner[CropConfig]):
    """SDEdit of crops. Outside of them, and in pictures that are known, every bit stays."""

    requires: ClassVar[frozenset[str]] = frozenset({"body", "cameras"})
    redraws: ClassVar[bool] = True

    def looks(self, frames: int) -> float:
        return float(len(self.config.regions))

    def crops(self, batch: ClipBatch) -> Crops:
        return Crops(parts=[self._crop(batch, region) for region in self.config.regions], edge=self.config.edge)

    def _crop(self, batch: ClipBatch, region: str) -> Crop:
        """The region in all pictures: as large in every frame of a view, so that its zoom does not change."""
        picture, body = batch.cameras.image_size, required(batch.body, "ClipBatch.body")
        places = torch.stack([body.place(joint) for joint in JOINTS[region] if joint in body.joint_names], dim=2)
        pixels, depth = project(places[:, None], batch.cameras)
        low, high = pixels.amin(dim=-2), pixels.amax(dim=-2)
        size = pixels.new_tensor(picture).flip(0)
        seen = ((depth > 0).all(dim=-1)) & ((high > 0) & (low < size)).all(dim=-1)
        longest = torch.where(seen, (high - low).amax(dim=-1), 0).amax(dim=2)
        sides = ((1 + self.config.margin) * longest).clamp_min(self.config.least * min(picture))
        # Where nothing is seen a centre may be anywhere.
        centres = torch.where(seen[..., None], (low + high) / 2, size / 2)
        corners, sizes = rectangles(centres, sides, picture)
        seen = seen if batch.known is None else seen & ~batch.known
        return Crop(name=region, corners=corners.cpu(), sizes=sizes.cpu(), seen=seen.cpu())
