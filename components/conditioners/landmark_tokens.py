"""Sparse joints in space, and the camera, as tokens: a pose that is told and never drawn."""

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor

from hvg.core.required import required
from hvg.geometry.skeleton import JOINTS, complete_joints, joint_index
from hvg.values.clip import ClipBatch

from ..nn.token_encoder import METRES, TokenConditioner, TokenGroup, TokensConfig, moved_points


class LandmarkTokensConfig(TokensConfig):
    """Settings of the landmarks' tokens."""

    joints: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        max_length=512,
        description="Names of the joints that have a token each, fingers and face too if the body model has them. null: the "
        "25 of the body, which every body has.",
    )


class LandmarkTokens(TokenConditioner[LandmarkTokensConfig]):
    """Fills ``tokens`` with one for each joint, of its place in metres, and one for the camera.

    Source: PoseCraft (arXiv 2602.19350): 3D landmarks and the camera's extrinsics as tokens for cross-attention, nothing
    rasterised, so that depth is not lost. How it embeds them we have not read; sinusoids, layers and axes are ours.
    """

    @classmethod
    def groups(cls, config: LandmarkTokensConfig, stride: int) -> Mapping[str, TokenGroup]:
        return {"joint": TokenGroup(count=len(config.joints or JOINTS), numbers=3 * stride, periods=METRES)}

    def numbers(self, batch: ClipBatch, axes: Tensor) -> Mapping[str, Tensor]:
        """Raises: DataError naming the joints that the body lacks."""
        body, names = required(batch.body, "ClipBatch.body"), self.config.joints
        if names is None:
            joints = complete_joints(body.joints, body.joint_names)
        else:
            joints = body.joints[:, :, joint_index(body.joint_names, names, body.joints.device)]
        return {"joint": self.joined(moved_points(joints, axes))}
