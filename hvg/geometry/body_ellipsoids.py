"""A body as HVG has it: an ellipsoid around every bone."""

from hvg.geometry.ellipsoids import Ellipsoids, ellipsoids_from_bones
from hvg.geometry.skeleton import JOINTS, bone_index, bone_radii, complete_joints, estimate_stature
from hvg.values.body import BodyMotion


def body_ellipsoids(body: BodyMotion, radii_scale: float = 1.0) -> Ellipsoids:
    """The ellipsoids (B, T, 24) of ``BONES``. radii_scale: factor on every radius.

    Radii come with the body; where they do not, from the table in ``hvg.geometry.skeleton`` for the stature that the legs
    suggest, its mean over a clip's frames. Raises: DataError naming the joints that the body lacks.
    """
    joints = complete_joints(body.joints, body.joint_names)
    first, second = bone_index(JOINTS, joints.device)
    radii = bone_radii(estimate_stature(joints, JOINTS).mean(-1)) if body.bone_radii is None else body.bone_radii
    return ellipsoids_from_bones(joints[:, :, first], joints[:, :, second], (radii_scale * radii)[:, None])
