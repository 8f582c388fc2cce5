"""Every registered conditioner keeps the promises that hvg.testing spells out."""

from dataclasses import replace

import pytest
import torch

from hvg import registry
from hvg.testing import build, check_conditioner, tiny_batch, tiny_context

# Settings beyond the defaults that change what a conditioner is.
VARIANTS = {
    "bone_map": [{"maps": ("normal",)}, {"maps": ("depth",), "supersampling": 2}],
    "smpl_normal": [{"supersampling": 2}],
    "skeleton": [{"widths": (8, 8)}],
}
CASES = [(name, settings) for name in registry.names("conditioner") for settings in [{}, *VARIANTS.get(name, [])]]
POSE = ("bone_map", "skeleton", "smpl_normal")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("name", "settings"), CASES, ids=str)
def test_conditioner(name, settings):
    part = registry.load("conditioner", name)
    check_conditioner(part, part.Config(**settings), tiny_context())


def test_pose_arms_differ_only_in_their_signal():
    """Same encoder, same weights at the same seed; or an ablation would compare encoders."""
    context = tiny_context()
    states = []
    for name in POSE:
        part = registry.load("conditioner", name)
        states.append(build(part, part.Config(), context).state_dict())
    for other in states[1:]:
        assert other.keys() == states[0].keys()
        assert all(torch.equal(other[key], states[0][key]) for key in other)


@pytest.mark.parametrize("name", POSE)
def test_pose_map_shows_the_person(name):
    part = registry.load("conditioner", name)
    signal = build(part, part.Config(), tiny_context()).signal(tiny_batch(size=64))
    shown = signal.abs().amax(dim=3) > 0
    assert signal[..., 0, 0].eq(0).all(), "the background is 0"
    # The person stands in the middle: every view and frame sees something there, and less than half of the image is
    # covered.
    assert shown[..., 24:40, 24:40].flatten(3).any(-1).all()
    assert shown.float().mean() < 0.5


def test_bone_map_depth_is_bright_when_near():
    part = registry.load("conditioner", "bone_map")
    batch = tiny_batch(clips=1, views=1, frames=1, size=64)
    near, far = (batch.body.joints.clone() for _ in range(2))
    names = list(batch.body.joint_names)
    wrists = [names.index(f"{side}_{joint}") for side in ("left", "right") for joint in ("wrist", "middle1")]
    near[:, :, wrists, 2] += 0.4
    far[:, :, wrists, 2] -= 0.4
    draw = build(part, part.Config(maps=("depth",)), tiny_context()).signal
    bright, dark = (draw(_with_joints(batch, joints)) for joints in (near, far))
    assert bright.max() > dark.max()
    assert bright[bright > 0].min() >= 0.1 and bright.max() <= 1


def _with_joints(batch, joints):
    return replace(batch, body=replace(batch.body, joints=joints))
