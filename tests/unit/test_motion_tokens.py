"""Tokens of a driving video: what they depend on, the pose that a loss asks of them, and how its weight changes."""

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from components.bodies.anny import Anny
from components.conditioners.motion_tokens import MotionTokens
from components.nn.body_frame import NUMBERS, POSED, joints_in_body_axes, pose_numbers, rotations_from_root
from components.nn.frame_tokens import squared
from hvg.config.composition import compose
from hvg.core.errors import DataError, HvgError
from hvg.geometry.rotations import rotation_matrix
from hvg.model.load import build_system
from hvg.model.slots import weigh
from hvg.parts.auxiliary import AuxiliaryConfig
from hvg.testing import tiny_batch, tiny_context
from hvg.testing.building import build, nudged
from hvg.testing.scene import posed_batch
from hvg.values.latent_clip import grouped

SMALL = {"width": 16, "heads": 2, "depth": 1, "size": 16, "hand_size": 8}


def part(context=None, **settings) -> MotionTokens:
    return nudged(build(MotionTokens, MotionTokens.Config(**(SMALL | settings)), context or tiny_context()))


def test_tokens_are_of_the_driving_frame_alone_and_the_same_for_every_view():
    batch, told = tiny_batch(), part()
    tokens = told(None, batch).tokens
    assert tokens.shape == (2, 1, 2, 5, 24)
    other = replace(batch, frames=-batch.frames, alpha=None, reference=None)
    assert torch.equal(told(None, other).tokens, tokens)
    changed = replace(batch, driving=torch.cat([batch.driving[:, :1], -batch.driving[:, 1:]], dim=1))
    same = (told(None, changed).tokens == tokens).flatten(3).all(-1)
    assert same[:, :, 0].all() and not same[:, :, 1].any()


def test_tokens_of_the_face_know_nothing_of_the_picture_around_it():
    batch, told = tiny_batch(), part(looks_at="face", tokens=4)
    assert told.needs(told.config) == {"driving_face"}
    tokens = told.tokens_of(replace(batch, driving=None))
    assert tokens.shape[2] == 4 and torch.equal(tokens, told.tokens_of(batch))
    other = replace(batch, driving_face=-batch.driving_face)
    assert not torch.allclose(tokens, told.tokens_of(other), atol=1e-3)


def test_hands_stand_behind_the_body_left_then_right():
    batch, told = tiny_batch(), part(hands="crops", hand_tokens=2)
    tokens = told.tokens_of(batch)
    assert tokens.shape == (2, 2, 5 + 2 * 2, 16)
    right = replace(
        batch, driving_hands=torch.stack([batch.driving_hands[:, :, 0], -batch.driving_hands[:, :, 1]], dim=2)
    )
    same = (told.tokens_of(right) == tokens).all(-1)
    assert same[:, :, :7].all() and not same[:, :, 7:].any()


def test_a_latent_frame_has_the_tokens_of_its_frames():
    context, batch = tiny_context(temporal_stride=2), tiny_batch(2, 2, 3)
    told = part(context)
    joined = told(None, grouped(batch, 2)).tokens
    single = told.projection(told.tokens_of(batch))
    assert joined.shape == (2, 1, 2, 10, 24)
    assert torch.allclose(joined[:, 0, 1], torch.cat([single[:, 1], single[:, 2]], dim=1), atol=1e-5)
    assert torch.allclose(joined[:, 0, 0, :5], joined[:, 0, 0, 5:], atol=1e-6)


def test_as_channels_a_frame_s_numbers_are_the_same_in_every_cell():
    channels = part(inject="channels", channels=3)(None, tiny_batch()).channels
    assert channels.shape == (2, 2, 2, 3, 8, 8)
    assert (channels == channels[..., :1, :1]).all() and not torch.equal(channels[:, :, 0], channels[:, :, 1])


@pytest.mark.parametrize("size", [(32, 32), (48, 32), (20, 60)])
def test_driving_frames_of_any_shape_are_seen_whole(size):
    """The picture lies in the middle; beside it its borders are repeated."""
    picture = torch.zeros(1, 3, *size)
    picture[..., : size[0] // 2, :] = 1
    seen = squared(picture, 16)
    assert seen.shape == (1, 3, 16, 16)
    assert seen[..., 0, :].min() > 0.9 and seen[..., -1, :].max() < 0.1
    batch = replace(tiny_batch(), driving=torch.rand(2, 2, 3, *size))
    assert part()(None, batch).tokens.shape == (2, 1, 2, 5, 24)


@pytest.mark.parametrize(
    ("given", "message"),
    [({"width": 18, "heads": 4}, "not divisible by heads=4"), ({"size": 60}, "size 60 is not divisible by patch=8")],
)
def test_sizes_that_do_not_divide_are_refused(given, message):
    with pytest.raises(ValidationError, match=message):
        MotionTokens.Config(**given)


def test_a_backbone_without_cross_attention_is_refused_unless_tokens_are_channels():
    ports = replace(tiny_context().ports, token_width=0)
    with pytest.raises(HvgError, match=r"backbone\.cross_attention_width=64.*inject=channels"):
        MotionTokens.spec(MotionTokens.Config(), ports)
    assert MotionTokens.spec(MotionTokens.Config(inject="channels"), ports).channels == 16


# --- the pose that a loss asks of tokens ---


@pytest.fixture(scope="module")
def people():
    return posed_batch(Anny(), 1, 1, 2)


def turned(batch, angle: float):
    """The body turned about the vertical, and elsewhere."""
    turn = rotation_matrix(torch.tensor([0.0, angle, 0.0]))
    body = batch.body
    parameters = {**body.parameters, "rotations": turn @ body.parameters["rotations"]}
    moved = body.joints @ turn.T + torch.tensor([1.0, 0.2, -3.0])
    return replace(body, joints=moved, parameters=parameters)


@pytest.mark.parametrize("told", NUMBERS)
def test_a_pose_knows_neither_place_nor_heading(people, told):
    numbers = pose_numbers(people.body, told)
    assert numbers.shape == (1, 2, NUMBERS[told])
    assert torch.allclose(pose_numbers(turned(people, 1.3), told), numbers, atol=1e-4)
    assert not torch.allclose(numbers[:, 0], numbers[:, 1], atol=1e-2)


def test_joints_lie_left_up_and_forward_of_the_pelvis():
    joints = joints_in_body_axes(tiny_batch().body).mean(dim=(0, 1))

    hip, neck, foot = (joints[POSED.index(name)] for name in ("left_hip", "neck", "left_foot"))
    assert hip[0] > 0.05 and neck[1] > 0.3 and foot[1] < -0.5 and foot[2] > 0


def test_a_person_at_rest_turns_no_joint(people):
    still = replace(people.body, parameters={"rotations": torch.eye(3).expand(1, 2, 22, 3, 3)})
    assert torch.equal(rotations_from_root(still), torch.tensor([1.0, 0, 0, 0, 1, 0]).expand(1, 2, 21, 6))
    with pytest.raises(DataError, match="auxiliary=joints"):
        rotations_from_root(replace(people.body, parameters={}))


def test_the_loss_is_of_every_clip_and_of_training_alone():
    batch, told = tiny_batch(), part()
    (loss,) = told(None, batch).losses.values()
    assert loss.shape == (2,) and (loss > 0).all()
    with torch.no_grad():
        assert not told(None, batch).losses
    assert not told(None, replace(batch, body=None)).losses and not part(auxiliary="none")(None, batch).losses


# --- its weight ---


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.4, 0.4, 0.4, 0.4]),
        ("linear", [0.4, 0.325, 0.25, 0.1]),
        ("cosine", [0.4, 0.1 + 0.3 * (1 + 0.5**0.5) / 2, 0.25, 0.1]),
        ("step", [0.4, 0.4, 0.4, 0.1]),
    ],
)
def test_a_schedule_leads_from_one_weight_to_the_other(schedule, expected):
    config = AuxiliaryConfig(loss_weight=0.4, loss_weight_end=0.1, loss_steps=20, loss_schedule=schedule)
    assert [config.weight_at(step) for step in (0, 5, 10, 20)] == pytest.approx(expected)
    assert config.weight_at(1000) == pytest.approx(expected[-1])


def test_the_loss_of_a_step_holds_a_slot_s_own_times_its_weight():
    told = part(loss_weight=0.3, loss_weight_end=0.0, loss_steps=10)
    given = {"pose": told(None, tiny_batch())}
    raw = given["pose"].losses["joints"]
    for step, weight in ((0, 0.3), (5, 0.15), (10, 0.0)):
        losses = weigh({"pose": told}, given, step)["pose"].losses
        assert list(losses) == ["pose_joints"] and torch.allclose(losses["pose_joints"], weight * raw)


def test_a_training_step_adds_it():
    words = ["scale=cpu", "pose=motion_tokens", "pose.inject=channels", "dataset.driving=other_view", "dataset.views=2"]
    words += ["pose.width=16", "pose.heads=2", "pose.depth=1", "appearance=none", "reference_keys=none"]
    system = build_system(compose(words))
    batch = replace(tiny_batch(1, 2, 1, size=64), sample_index=torch.tensor([3]))
    losses = system.training_step(batch, 0)
    assert set(losses) == {"loss", "pose_joints"} and losses["pose_joints"] > 0
    losses["loss"].backward()
    assert system.conditioners["pose"].pose[0].weight.grad.any()
    weight = system.conditioners["pose"].config.loss_weight
    (raw,) = system.conditioners["pose"](None, batch).losses.values()
    assert torch.allclose(losses["pose_joints"], weight * raw.mean(), rtol=1e-4)
    # Steps of an earlier stage of the run count.
    system.steps_done = system.conditioners["pose"].config.loss_steps
    assert system.training_step(batch, 0)["pose_joints"] == 0
