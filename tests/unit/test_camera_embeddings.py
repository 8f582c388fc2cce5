"""What the network hears of a camera beside the noise level."""

import math
from dataclasses import replace

import pytest
import torch

from hvg.parts import registry
from hvg.testing import build, nudged, tiny_batch, tiny_context
from hvg.values.cameras import orbit
from hvg.values.clip import ClipBatch

PARTS = ("camera_rotation", "camera_angles", "camera_matrix")


def camera(name, **settings):
    part = registry.load("conditioner", name)
    return nudged(build(part, part.Config(**settings), tiny_context()))


def told(part, batch):
    with torch.no_grad():
        return part(None, batch).embedding


def around(azimuths, elevation=8.0, distance=3.0):
    cameras = orbit(
        torch.tensor(azimuths),
        elevation_degrees=torch.tensor(elevation),
        distance=distance,
        target=torch.tensor([0.0, 0.9, 0.0]),
        fov_degrees=40.0,
        image_size=(32, 32),
    )
    return ClipBatch(cameras=cameras[None, :, None], clip_id=("orbit",), subject=("orbit",))


@pytest.mark.parametrize("network", ["linear", "mlp"])
@pytest.mark.parametrize("name", PARTS)
def test_a_window_is_told_of_the_first_view_of_its_clip(name, network):
    part, batch = camera(name, network=network), tiny_batch(views=4, frames=2)
    whole, window = told(part, batch), told(part, batch.select(views=[2, 3]))
    torch.testing.assert_close(window, whole[:, [2, 3]], rtol=0, atol=1e-5)
    assert not torch.allclose(told(part, replace(batch.select(views=[2, 3]), origin=None)), window, atol=1e-3)


@pytest.mark.parametrize("name", PARTS)
def test_the_last_layer_starts_at_zero_in_either_network(name):
    part = registry.load("conditioner", name)
    for network in ("linear", "mlp"):
        assert not told(build(part, part.Config(network=network), tiny_context()), tiny_batch(views=3)).any()


def test_weights_of_a_linear_camera_have_the_names_that_checkpoints_know():
    assert {*camera("camera_rotation").state_dict()} == {"linear.weight", "linear.bias"}
    assert {*camera("camera_rotation", network="mlp").state_dict()} == {
        f"mlp.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")
    }


def test_angles_are_those_of_the_orbit_and_a_full_turn_comes_back():
    part = camera("camera_angles", width=4)
    batch = around([0.0, 90.0, -90.0, 360.0], [0.0, 30.0, 0.0, 0.0])
    features = part.camera_features(batch.cameras, batch.cameras[:, :1])[0, :, 0]
    quarter = torch.tensor([math.pi / 2, -math.pi / 6])
    expected = torch.cat([f(k * quarter)[:, None] for f in (torch.sin, torch.cos) for k in (1, 2)], dim=1)
    torch.testing.assert_close(features[1], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(features[3], features[0], rtol=0, atol=1e-5)
    assert (features[1, 0] - features[2, 0]).abs().max() > 1, "left is not right"


def test_angles_do_not_depend_on_where_the_first_camera_stands():
    part = camera("camera_angles")
    one, other = (told(part, around([a, a + 40.0])) for a in (0.0, 133.0))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_the_matrix_leads_from_the_first_camera_to_this_one():
    part = camera("camera_matrix", width=0, scale=2.0)
    batch = around([0.0, 70.0])
    numbers = part.camera_features(batch.cameras, batch.cameras[:, :1])[..., 0]
    assert numbers.shape == (1, 2, 1, 12)
    rotation, shift = numbers[0, 1, 0].view(3, 4).split([3, 1], dim=1)
    first, second = batch.cameras.world_to_camera[0, :, 0]
    point = torch.tensor([0.3, 1.2, -0.4, 1.0])
    seen = rotation @ (first @ point)[:3, None] + 2.0 * shift
    torch.testing.assert_close(seen[:, 0], (second @ point)[:3], rtol=0, atol=1e-5)


def test_the_matrix_alone_tells_of_a_camera_that_comes_nearer():
    far, near = around([0.0, 90.0]), around([0.0, 90.0], distance=1.5)
    for name, changes in (("camera_rotation", False), ("camera_angles", False), ("camera_matrix", True)):
        part = camera(name)
        assert torch.allclose(told(part, far), told(part, near), atol=1e-4) != changes, name


def test_rays_beside_the_noise_are_a_word():
    from hvg.config.composition import compose

    chosen = compose(["camera=plucker_rays"]).camera
    assert (chosen.name, chosen.config.inject) == ("camera_rays", "channels")
