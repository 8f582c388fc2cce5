"""A body's own parameters as tokens: how every joint is turned, where the body is, and how it is built."""

from collections.abc import Mapping

import torch
from torch import Tensor

from hvg.core.errors import DataError
from hvg.core.required import required
from hvg.geometry.motion import BODY_JOINTS
from hvg.geometry.retargeting import PARENT
from hvg.geometry.skeleton import BONES, JOINTS, bone_index, complete_joints
from hvg.values.body import BodyMotion
from hvg.values.clip import ClipBatch

from ..nn.token_encoder import METRES, UNIT, TokenConditioner, TokenGroup, TokensConfig, moved_points


class PoseTokensConfig(TokensConfig):
    """Settings of the parameters' tokens."""


class PoseTokens(TokenConditioner[PoseTokensConfig]):
    """Fills ``tokens`` with 22 for the turns of the joints, one for the pelvis' place, one for the lengths of the bones.

    A turn is relative to the parent, as in a file of SMPL-X; the pelvis' is in the chosen axes. It is told as the first two
    columns of its matrix (Zhou et al., arXiv 1812.07035, section 4.2), which has no jump where an angle closes. Lengths of the 24
    bones stand for the numbers of a person's shape, which are others in every body model. Fingers and faces are not told.

    Source: ReImagine (arXiv 2604.19720), whose SMPL-X parameters become pose tokens by an MLP; ``layers=0`` is nearest to it. We
    differ: a token for each joint, on the encoder that landmarks have.
    """

    @classmethod
    def groups(cls, config: PoseTokensConfig, stride: int) -> Mapping[str, TokenGroup]:
        return {
            "turn": TokenGroup(count=len(BODY_JOINTS), numbers=6 * stride, periods=UNIT),
            "place": TokenGroup(count=1, numbers=3 * stride, periods=METRES),
            "build": TokenGroup(count=1, numbers=len(BONES), periods=METRES),
        }

    def numbers(self, batch: ClipBatch, axes: Tensor) -> Mapping[str, Tensor]:
        """Raises: DataError for a body of which only joints are known."""
        body = required(batch.body, "ClipBatch.body")
        joints = complete_joints(body.joints, body.joint_names)
        turns = _turns(body, batch)
        root = axes[..., :3, :3] @ turns[:, None, :, 0]
        others = turns[:, None, :, 1:].expand(-1, root.shape[1], -1, -1, -1, -1)
        turned = torch.cat([root[:, :, :, None], others], dim=3)
        first, second = bone_index(JOINTS, joints.device)
        lengths = (joints[:, :, second] - joints[:, :, first]).norm(dim=-1)
        return {
            "turn": self.joined(turned[..., :2].mT.flatten(-2)),
            "place": self.joined(moved_points(joints[:, :, :1], axes)),
            "build": self.last(lengths[:, None, :, None]),
        }


def _turns(body: BodyMotion, batch: ClipBatch) -> Tensor:
    """Turns (B, T, 22, 3, 3) of ``BODY_JOINTS`` from the T-pose on, relative to the parents; the pelvis' in the world."""
    found = body.parameters.get("rotations")
    if found is None:
        raise DataError(
            f"clip '{batch.clip_id[0]}': its body has joints alone, and pose_tokens needs rotations; landmark_tokens does without"
        )
    parents = [BODY_JOINTS.index(PARENT[joint]) for joint in BODY_JOINTS[1:]]
    return torch.cat([found[:, :, :1], found[:, :, parents].mT @ found[:, :, 1:]], dim=2)
