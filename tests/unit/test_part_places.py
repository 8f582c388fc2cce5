"""Where points of the skin are on their parts, the map that shows it, and hands and faces of skeletons."""

import math
from dataclasses import replace

import pytest
import torch

from components.bodies.anny import Anny
from components.conditioners.iuv import Iuv, IuvConfig
from components.conditioners.skeleton import Skeleton, SkeletonConfig
from hvg.core.eight_bit import signal_as_stored
from hvg.geometry.body_parts import next_joint
from hvg.geometry.part_places import part_frames
from hvg.geometry.skeleton import FACE_POINTS, HAND_COLORS, HAND_LIMBS, JOINTS
from hvg.testing import build, tiny_batch, tiny_context
from hvg.testing.scene import posed_batch, standing_joints
from hvg.values.body import BodyMotion, Skinning
from hvg.values.resized import resize_clip


def arm(side, turn=0.0):
    """A tube of rings around a level forearm, at rest as it stands, then turned around the elbow by an angle in the picture."""
    sign = 1.0 if side == "left" else -1.0
    joints = standing_joints().clone()
    elbow, wrist = (JOINTS.index(f"{side}_{name}") for name in ("elbow", "wrist"))
    joints[elbow], joints[wrist] = torch.tensor([sign * 0.3, 1.2, 0.0]), torch.tensor([sign * 0.6, 1.2, 0.0])
    angles = torch.arange(8) * math.pi / 4
    ring = 0.04 * torch.stack([torch.zeros(8), angles.sin(), angles.cos()], dim=1)
    rest = torch.cat([joints[elbow] + ring + torch.tensor([sign * x, 0.0, 0.0]) for x in (0.0, 0.1, 0.2, 0.3)])
    move = torch.eye(4)
    c, s = math.cos(turn), math.sin(turn)
    move[:2, :2] = torch.tensor([[c, -s], [s, c]])
    move[:3, 3] = joints[elbow] - move[:3, :3] @ joints[elbow]
    moved = joints.clone()
    moved[wrist] = (move @ torch.cat([joints[wrist], torch.ones(1)]))[:3]
    skinning = Skinning(
        bones=(f"{side}_elbow",),
        vertex_bones=torch.zeros(32, 1, dtype=torch.int16),
        vertex_weights=torch.ones(32, 1),
        rest=rest[None],
        transforms=move[None, None, None],
    )
    return BodyMotion(joints=moved[None, None], joint_names=JOINTS, skinning=skinning)


def places(body, clip=0, frame=0):
    """Of all its vertices, (P, 3)."""
    vertices = torch.arange(body.skinning.rest.shape[1])
    at = torch.full_like(vertices, clip), torch.full_like(vertices, frame)
    return part_frames(body).places(*at, vertices, body.skinning.rest[clip])


def test_places_run_along_the_bone_and_angles_around_it():
    place, sine, cosine = places(arm("left")).view(4, 8, 3).unbind(-1)
    torch.testing.assert_close(place, torch.linspace(0, 1, 4)[:, None].expand(4, 8))
    angles = torch.arange(8) * math.pi / 4
    # 0 is where the body's front lies; a quarter turn from there is down, on either arm.
    torch.testing.assert_close(cosine, angles.cos().expand(4, 8), rtol=0, atol=1e-5)
    torch.testing.assert_close(sine, -angles.sin().expand(4, 8), rtol=0, atol=1e-5)


def test_mirrored_points_of_left_and_right_have_the_same_numbers():
    torch.testing.assert_close(places(arm("left")), places(arm("right")), rtol=0, atol=1e-5)


def test_a_pose_changes_no_place():
    torch.testing.assert_close(places(arm("left", turn=1.2)), places(arm("left")), rtol=0, atol=1e-5)
    batch = posed_batch(Anny())
    one, other = (places(batch.body, frame=t) for t in (0, 1))
    # On the axis itself an angle is any angle.
    assert float(((one - other).abs() > 1e-2).float().mean()) < 1e-3
    assert one[:, 0].amin() < 1e-4 and one[:, 0].amax() > 1 - 1e-4
    assert torch.allclose(one[:, 1:].norm(dim=-1), torch.ones(len(one)), atol=1e-4)


def test_a_chain_goes_on_through_the_trunk_and_the_middle_finger():
    smplx = (*JOINTS, "left_middle2", "left_index1", "left_thumb1", "jaw")
    found = {
        joint: next_joint(joint, smplx) for joint in ("pelvis", "spine3", "left_wrist", "left_middle1", "left_foot")
    }
    expected = ("spine1", "neck", "left_middle1", "left_middle2", None)
    assert tuple(found.values()) == expected
    assert next_joint("head", JOINTS) == "head_top" and next_joint("left_thumb1", smplx) is None


def test_the_map_shows_places_and_keeps_them_in_8_bits():
    part = build(Iuv, IuvConfig(), tiny_context())
    batch = posed_batch(Anny(), clips=1, views=2, frames=1, size=64)
    signal = part.signal(batch)
    assert signal.shape == (1, 2, 1, 6, 64, 64)
    code, place, around = signal.split([3, 1, 2], dim=3)
    seen = code.abs().amax(dim=3, keepdim=True) > 0
    assert seen.any() and not place[~seen].any() and not around.amax(dim=3, keepdim=True)[~seen].any()
    assert torch.allclose(around.norm(dim=3, keepdim=True)[seen], torch.ones(int(seen.sum())), atol=1e-3)
    assert float(place[seen].std()) > 0.2, "it says more than which part"
    kept = signal_as_stored(signal, "uint8")
    assert (kept - signal).abs().max() <= 0.5 / 127 + 1e-6


def test_a_smaller_picture_has_the_numbers_of_one_point():
    """A mean of two sines is of no angle."""
    assert [*Iuv.codes(IuvConfig())] == [0, 1, 2, 3, 4, 5]
    part = build(Iuv, IuvConfig(), tiny_context())
    batch = posed_batch(Anny(), clips=1, views=1, frames=1, size=64)
    signal = part.signal(batch)
    clip = resize_clip(replace(batch, signals={"iuv": signal}), (32, 32), {"iuv": part.codes(part.config)})
    small = clip.signals["iuv"].movedim(3, -1).reshape(-1, 6)
    whole = {tuple(x) for x in signal.movedim(3, -1).reshape(-1, 6).tolist()}
    assert {tuple(x) for x in small.tolist()} <= whole


# --- skeletons ---


def with_hands(batch):
    """The same person with fingers that point down from the wrists, and a face of points."""
    body, names = batch.body, [*JOINTS]
    points = dict(zip(JOINTS, body.joints.unbind(2), strict=True))
    for start, end in HAND_LIMBS:
        if end not in points:
            points[end] = points[start] + torch.tensor([0.01, -0.03, 0.0])
    for k, name in enumerate(FACE_POINTS):
        points[name] = points["head"] + torch.tensor([0.01 * (k % 7 - 3), 0.01 * (k // 7), 0.08])
    names = list(points)
    return replace(batch, body=replace(body, joints=torch.stack([*points.values()], dim=2), joint_names=tuple(names)))


def drawn(batch, **settings):
    return build(Skeleton, SkeletonConfig(**settings), tiny_context()).signal(batch)


def test_hands_and_face_are_drawn_where_the_body_has_them():
    assert len(HAND_LIMBS) == len(HAND_COLORS) == 40 and len({*FACE_POINTS}) == len(FACE_POINTS) == 56
    plain, whole = tiny_batch(1, 1, 1, size=128), with_hands(tiny_batch(1, 1, 1, size=128))
    assert torch.equal(drawn(plain, also=("hands", "face")), drawn(plain)), "neither fingers nor a face"
    assert torch.equal(drawn(whole), drawn(plain)), "not asked for"
    hands, face = (drawn(whole, also=(name,)) for name in ("hands", "face"))
    coverage = [x[..., 3, :, :].sum() for x in (drawn(whole), hands)]
    assert coverage[1] > coverage[0] + 5
    changed = (face - drawn(whole)).abs().amax(dim=3)[0, 0, 0] > 0
    rows = changed.nonzero()[:, 0]
    assert changed.any() and rows.max() - rows.min() < 20, "a face is small"
    white = face[0, 0, 0, :3].amin(dim=0).amax()
    assert white > 0.9


def test_a_body_with_hands_and_no_fingertips_has_what_it_has():
    batch = with_hands(tiny_batch(1, 1, 1, size=128))
    tips = {
        f"{side}_{finger}" for side in ("left", "right") for finger in ("thumb", "index", "middle", "ring", "pinky")
    }
    kept = [k for k, name in enumerate(batch.body.joint_names) if name not in tips]
    names = tuple(batch.body.joint_names[k] for k in kept)
    short = replace(batch, body=replace(batch.body, joints=batch.body.joints[:, :, kept], joint_names=names))
    whole, less, none = (
        drawn(x, also=y)[..., 3, :, :].sum() for x, y in ((batch, ("hands",)), (short, ("hands",)), (short, ()))
    )
    assert none < less < whole


def test_a_thing_is_not_drawn_twice():
    with pytest.raises(ValueError, match="the map hands is there twice"):
        SkeletonConfig(also=("hands", "hands"))
