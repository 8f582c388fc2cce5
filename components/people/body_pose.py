"""The pose of a body that a body model made: taken from the body, changed, and made into a body again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hvg.core.errors import DataError
from hvg.geometry.motion import BODY_JOINTS, Motion
from hvg.geometry.retargeting import PARENT, follow_joints, relative
from hvg.geometry.skeleton import JOINTS, joint_index
from hvg.parts.scene import BodyModel
from hvg.values.body import BodyMotion

# Joints beside those of the body go with one of these, by what their name holds; the others with the head.
_CARRIERS = {"wrist": ("hand", "index", "middle", "pinky", "ring", "thumb"), "ankle": ("toe", "heel")}
# Metres by which a body model may miss the joints that it is said to have made.
_SAME_BODY = 5e-3
# How often noise of joints is scaled until the body that follows it is off by as much as was drawn.
_ROUNDS = 5


@dataclass(frozen=True)
class BodyPose:
    """A person of a body model in a pose. local: (T, 22, 3) axis-angle of ``BODY_JOINTS`` relative to the parents. pelvis: (T, 3)
    world, metres. shape: by the model's own names. stand: the person in the T-pose.
    """

    model: BodyModel
    local: Tensor
    pelvis: Tensor
    shape: Mapping[str, float]
    stand: BodyMotion

    @classmethod
    def of(cls, model: BodyModel, body: BodyMotion, name: str, valid: Tensor) -> "BodyPose":
        """The pose by which the model makes a clip's body (B = 1) again. Raises: DataError, naming it, where it does not.

        valid: (T,) bool, False for frames that pad the clip.
        """
        word, remedy = f"body={type(model).__name__.lower()}", "choose the body model that it was made with"
        try:
            shape = model.shape_of(body)
        except (KeyError, ValueError) as error:
            found = "what its body says of its shape is not that of"
            raise DataError(f"clip '{name}': {found} {word}; {remedy}") from error
        pelvis = body.joints[0, :, body.joint_names.index("pelvis")]
        pose = cls(model, _local(body.parameters["rotations"][0]), pelvis, shape, _standing(model, shape))
        known = [joint for joint in BODY_JOINTS if joint in body.joint_names]
        apart = (places(pose.body(), known) - places(body, known)).norm(dim=-1)[valid]
        if not (apart < _SAME_BODY).all():
            far = float(apart.max())
            found = f"puts joints up to {1000 * far:.0f} mm from where the clip has them"
            raise DataError(f"clip '{name}': {word} {found}; {remedy}")
        return pose

    def body(self, mesh: bool = False) -> BodyMotion:
        """The body (B = 1) in this pose."""
        shift = self.pelvis - places(self.stand, ["pelvis"])[0]
        turns = dict(zip(BODY_JOINTS, self.local.unbind(1), strict=True))
        return self.model.animate(Motion(rotations=turns, translation=shift), self.shape, mesh=mesh)

    def reshaped(self, drawn: Mapping[str, float], share: float) -> "BodyPose":
        """The pose of somebody whose shape is ``share`` of the way to another's."""
        other = self.model.shape_of(_standing(self.model, drawn))
        shape = {name: value + share * (other[name] - value) for name, value in self.shape.items()}
        return replace(self, shape=shape, stand=_standing(self.model, shape))

    def following(self, noise: Tensor) -> "BodyPose":
        """The pose whose bones point to where noise (T, 22, 3), metres, puts their ends.

        Bones keep their lengths, so that joints cannot go all the way: in every frame the noise is scaled until they are off by
        as much as it is, root mean square.
        """
        stance, before = dict(zip(JOINTS, places(self.stand, JOINTS)[0], strict=True)), self.body()
        turned, true = before.parameters["rotations"][0], places(before, JOINTS)
        ridden = noise[:, [BODY_JOINTS.index(carrier(joint)) for joint in JOINTS]]

        def toward(goal: Tensor) -> Tensor:
            return follow_joints(stance, dict(zip(JOINTS, goal.unbind(1), strict=True)))

        unmoved, wanted = toward(true).mT, _size(noise)
        factor, made = torch.ones_like(wanted), self
        for left in reversed(range(_ROUNDS)):
            scaled = factor[:, None, None]
            turn = toward(true + scaled * ridden) @ unmoved
            made = replace(self, local=_local(turn @ turned), pelvis=self.pelvis + scaled[:, 0] * noise[:, 0])
            if left:
                off = _size(places(made.body(), BODY_JOINTS) - true[:, : len(BODY_JOINTS)])
                factor = factor * (wanted / off.clamp_min(1e-9)).clamp(0.2, 5)
        return made


def carrier(joint: str) -> str:
    """The body joint with which a joint goes; itself, if it is one."""
    if joint in BODY_JOINTS:
        return joint
    if joint in PARENT:
        return PARENT[joint]
    side = joint.partition("_")[0]
    return next((f"{side}_{end}" for end, words in _CARRIERS.items() if any(w in joint for w in words)), "head")


def is_beyond(joint: str, turned: Sequence[str]) -> bool:
    """Whether a joint moves when one of those turns."""
    while joint != "pelvis":
        joint = PARENT.get(joint) or carrier(joint)
        if joint in turned:
            return True
    return False


def places(body: BodyMotion, names: Sequence[str]) -> Tensor:
    """(T, len(names), 3) of the first clip."""
    return body.joints[0][:, joint_index(body.joint_names, names)]


def _standing(model: BodyModel, shape: Mapping[str, float]) -> BodyMotion:
    """Somebody in the T-pose."""
    return model.animate(Motion(rotations={"pelvis": torch.zeros(1, 3)}), shape, mesh=False)


def _local(turned: Tensor) -> Tensor:
    """(T, 22, 3) axis-angle relative to the parents, of global rotations (T, 22, 3, 3)."""
    return torch.stack([*relative(turned).values()], dim=1)


def _size(offsets: Tensor) -> Tensor:
    """Root mean square (T,) of the lengths of offsets (T, J, 3)."""
    return offsets.square().sum(-1).mean(-1).sqrt()
