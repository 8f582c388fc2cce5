"""Poses that are told as numbers: which token says what, and in whose axes."""

from dataclasses import replace

import pytest
import torch

from hvg.config.checks import asked_branches
from hvg.config.composition import compose
from hvg.core.errors import ConfigError, DataError, HvgError
from hvg.geometry.motion import BODY_JOINTS
from hvg.geometry.skeleton import JOINTS
from hvg.parts import registry
from hvg.testing import build, nudged, tiny_batch, tiny_context

NAMES = ("landmark_tokens", "pose_tokens")
SMALL = {"width": 16, "heads": 2, "frequencies": 8}


def part(name, context=None, **settings):
    cls = registry.load("conditioner", name)
    return nudged(build(cls, cls.Config(**{**SMALL, **settings}), context or tiny_context()))


def tokens(conditioner, batch):
    with torch.no_grad():
        return conditioner(None, batch).tokens


def moved_world(batch, turn=1.1):
    """The same clip in a world that is turned around its y axis and shifted."""
    c, s = torch.cos(torch.tensor(turn)), torch.sin(torch.tensor(turn))
    rotation = torch.tensor([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    shift = torch.tensor([0.4, 0.1, -0.7])
    move = torch.eye(4)
    move[:3, :3], move[:3, 3] = rotation, shift
    body = batch.body
    parameters = {"rotations": rotation @ body.parameters["rotations"]}
    body = replace(body, joints=body.joints @ rotation.mT + shift, parameters=parameters)
    cameras = replace(batch.cameras, world_to_camera=batch.cameras.world_to_camera @ torch.linalg.inv(move))
    return replace(batch, body=body, cameras=cameras)


def with_joint(batch, name, by):
    joints = batch.body.joints.clone()
    joints[:, :, JOINTS.index(name)] += torch.tensor(by)
    return replace(batch, body=replace(batch.body, joints=joints))


def changed(conditioner, one, other, least=1e-4):
    """Numbers of the tokens that differ."""
    difference = (tokens(conditioner, one) - tokens(conditioner, other)).abs().amax(dim=(0, 1, 2, 4))
    return {*(difference > least).nonzero()[:, 0].tolist()}


def test_a_joint_has_a_token_of_its_own():
    batch = tiny_batch()
    moved = with_joint(batch, "left_wrist", [0.1, 0.0, 0.0])
    assert changed(part("landmark_tokens", layers=0), batch, moved) == {JOINTS.index("left_wrist")}
    # Attention among them tells the others.
    assert len(changed(part("landmark_tokens", layers=1), batch, moved, 1e-6)) == len(JOINTS) + 1


@pytest.mark.parametrize("name", NAMES)
def test_the_camera_has_a_token_unless_the_axes_are_its_own(name):
    counts = {axes: tokens(part(name, axes=axes), tiny_batch()).shape[-2] for axes in ("camera", "first", "world")}
    assert counts["first"] == counts["world"] == counts["camera"] + 1
    batch = tiny_batch(views=3)
    told = tokens(part(name, axes="world", layers=0), batch)
    torch.testing.assert_close(told[:, 1, :, :-1], told[:, 0, :, :-1])
    assert not torch.allclose(told[:, 1, :, -1], told[:, 0, :, -1], atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_only_the_world_s_own_axes_depend_on_where_the_world_is(name):
    batch = tiny_batch(views=3)
    for axes, same in (("camera", True), ("first", True), ("world", False)):
        conditioner = part(name, axes=axes)
        one, other = tokens(conditioner, batch), tokens(conditioner, moved_world(batch))
        assert torch.allclose(one, other, atol=1e-3) == same, axes


@pytest.mark.parametrize("name", NAMES)
def test_a_window_is_told_what_all_of_the_clip_is_told(name):
    batch = tiny_batch(views=4, frames=3)
    conditioner = part(name)
    whole = tokens(conditioner, batch)
    window = tokens(conditioner, batch.select(views=[2, 3], frames=[1, 2]))
    torch.testing.assert_close(window, whole[:, 2:, 1:], rtol=0, atol=1e-4)


def test_who_turns_as_a_whole_changes_the_pelvis_alone():
    """Turns are relative to parents, lengths of bones are nobody's direction."""
    batch, conditioner = tiny_batch(), part("pose_tokens", axes="world", layers=0)
    turned = moved_world(batch)
    place = len(BODY_JOINTS)
    assert changed(conditioner, batch, replace(turned, cameras=batch.cameras)) == {0, place}
    bent = batch.body.parameters["rotations"].clone()
    elbow = BODY_JOINTS.index("left_elbow")
    bent[:, :, elbow] = bent[:, :, elbow] @ torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    other = replace(batch, body=replace(batch.body, parameters={"rotations": bent}))
    # The wrist's own turn is relative to the elbow's.
    assert changed(conditioner, batch, other) == {elbow, BODY_JOINTS.index("left_wrist")}
    assert changed(conditioner, batch, with_joint(batch, "left_knee", [0.0, 0.2, 0.0])) == {place + 1}


def test_a_latent_frame_is_told_all_frames_that_it_joins():
    conditioner = part("landmark_tokens", tiny_context(temporal_stride=2), layers=0)
    batch = tiny_batch(frames=4)
    told = tokens(conditioner, batch)
    assert told.shape[2] == 2
    for frame, latent in ((0, 0), (1, 0), (3, 1)):
        joints = batch.body.joints.clone()
        joints[:, frame] += 0.1
        other = tokens(conditioner, replace(batch, body=replace(batch.body, joints=joints)))
        assert torch.equal(other[:, :, 1 - latent], told[:, :, 1 - latent])
        assert not torch.allclose(other[:, :, latent], told[:, :, latent], atol=1e-3)


def test_bodies_that_lack_what_is_told_are_refused_in_a_line():
    batch = tiny_batch()
    bare = replace(batch, body=replace(batch.body, parameters={}))
    with pytest.raises(DataError, match="its body has joints alone, and pose_tokens needs rotations") as refused:
        tokens(part("pose_tokens"), bare)
    assert "\n" not in str(refused.value)
    assert tokens(part("landmark_tokens"), bare).shape[-2] == len(JOINTS) + 1
    with pytest.raises(DataError, match="lacks the joints left_thumb3"):
        tokens(part("landmark_tokens", joints=("pelvis", "left_thumb3")), batch)


def test_a_backbone_without_cross_attention_is_refused():
    for name in NAMES:
        cls = registry.load("conditioner", name)
        with pytest.raises(HvgError, match=f"{name} fills the port 'tokens'"):
            cls.spec(cls.Config(), replace(tiny_context().ports, token_width=0))
    with pytest.raises(ConfigError, match="this backbone has no cross-attention"):
        compose(["pose=landmark_tokens"])


def test_several_signals_have_a_dropout_and_a_guidance_scale_each(tiny):
    words = [
        *("backbone.cross_attention_width=32", "pose=skeleton", "pose.dropout=0.1", "pose.drops=alone"),
        "+slots.points={name: landmark_tokens, dropout: 0.2, drops: alone}",
        "+slots.turns={name: pose_tokens, dropout: 0.3, drops: alone, strength: 0.5}",
        *("guidance=separate", "guidance.scales={turns:1.5,points:2,pose:3}"),
    ]
    config = compose([*tiny, *words])
    assert {slot: choice.config.dropout for slot, choice in config.droppable.items()} == {
        "pose": 0.1,
        "points": 0.2,
        "turns": 0.3,
    }
    assert asked_branches(config) == (
        frozenset({"turns"}),
        frozenset({"turns", "points"}),
        frozenset({"turns", "points", "pose"}),
    )
