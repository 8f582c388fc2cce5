"""The field's coloured 2D skeleton."""

from collections.abc import Mapping

from torch import Tensor

from hvg.parts.codec_pictures import SKELETON
from hvg.parts.pose_guided import PoseGuided, PoseGuidedConfig
from hvg.values.clip import ClipBatch

from ..nn.skeleton_drawing import JointSize, LineWidth, draw_skeleton, skeleton_image


class SkeletonConfig(PoseGuidedConfig):
    """Settings of the skeleton drawing; it is anti-aliased by itself, so supersampling changes nothing."""

    line_width: LineWidth = 1 / 64
    joint_size: JointSize = 1.5


class Skeleton(PoseGuided[SkeletonConfig]):
    """Control map (B, V, T, 4, H, W): sRGB in [0, 1] on black, then coverage in [0, 1]; the background is 0 throughout.

    Limbs and joints of the 18-point OpenPose figure with its colours (``hvg.geometry.skeleton.OPENPOSE_LIMBS``), drawn
    far to near by their depth. Unlike a detector's drawing it also shows joints that the body hides.

    Source: AnimateAnyone (arXiv 2311.17117) and the arm "skeleton map" of HVG (arXiv 2602.21188), table 3. On black in
    [0, 1], as AnimateAnyone feeds it.
    """

    @classmethod
    def map_channels(cls, config: SkeletonConfig) -> Mapping[str, int]:
        return {SKELETON: cls.signal_channels(config)}

    def draw_map(self, batch: ClipBatch) -> Tensor:
        return draw_skeleton(batch, line_width=self.config.line_width, joint_size=self.config.joint_size)

    def signal_images(self, signal: Tensor) -> dict[str, Tensor]:
        return {"map": skeleton_image(signal)}
