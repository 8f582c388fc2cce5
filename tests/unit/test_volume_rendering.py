"""Volume rendering against closed forms: a ball of one density, a wall with a pattern."""

import pytest
import torch

from components.nn.volume_rendering import accumulate, samples_inside
from hvg.values.cameras import Cameras, intrinsics_from_fov, look_at, pixel_rays

SIDE, PIECES = 24, 256


def rays() -> torch.Tensor:
    """Directions (Q, 3) of a camera at the origin, z = 1."""
    camera = Cameras(
        world_to_camera=look_at(torch.zeros(3), torch.tensor([0.0, 0.0, 1.0])),
        intrinsics=intrinsics_from_fov(40.0, (SIDE, SIDE)),
        image_size=(SIDE, SIDE),
    )
    return pixel_rays(camera).flatten(0, 1)


def test_a_ball_of_one_density_has_the_alpha_and_the_depth_of_the_formula():
    centre, radius, density, samples = torch.tensor([0.1, 0.0, 3.0]), 0.7, 2.0, 64
    directions = rays()
    a, b, c = directions.square().sum(-1), directions @ centre, centre.square().sum() - radius**2
    half = ((b.square() - a * c).clamp_min(0)).sqrt() / a
    near, chord = b / a - half, 2 * half * a.sqrt()
    inside = torch.ones(len(directions), PIECES, dtype=torch.bool) & (half > 0)[:, None]
    found = samples_inside(inside, near, 2 * half / PIECES, samples)
    sigma = torch.full((len(directions), samples), density)
    colour = torch.tensor([0.5, -1.0, 1.0]).expand(len(directions), samples, 3)
    seen, alpha, depth = accumulate(
        sigma, colour, found.place, found.length * a.sqrt(), torch.zeros(len(directions), dtype=torch.bool)
    )
    assert torch.allclose(alpha, 1 - torch.exp(-density * chord), atol=1e-5)
    assert torch.allclose(seen, alpha[:, None] * torch.tensor([0.5, -1.0, 1.0]), atol=1e-5)
    # Mean of an exponential that is cut off behind the ball, along z.
    hit = half > 0.05
    depth_of_light = density * a.sqrt()
    cut = torch.exp(-density * chord)
    mean = near + 1 / depth_of_light - 2 * half * cut / (1 - cut)
    assert hit.sum() > 100 and (depth - mean)[hit].abs().max() < 2e-3
    assert not alpha[half == 0].any() and not depth[half == 0].any()


def test_a_wall_shows_its_pattern():
    directions, wall = rays(), 2.0
    samples, near, far = 128, 1.0, 3.0
    inside = torch.ones(len(directions), PIECES, dtype=torch.bool)
    step = torch.full((len(directions),), (far - near) / PIECES)
    found = samples_inside(inside, torch.full_like(step, near), step, samples)
    points = directions[:, None] * found.place[..., None]

    def pattern(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([(5 * x[..., 0]).sin(), (3 * x[..., 1]).cos(), x[..., 0] * x[..., 1]], dim=-1)

    density = 1e4 * (found.place > wall)
    made = accumulate(
        density, pattern(points), found.place, found.length, torch.zeros(len(directions), dtype=torch.bool)
    )
    colour, alpha, depth = made
    assert torch.allclose(alpha, torch.ones(()))
    assert (depth - wall).abs().max() < (far - near) / samples
    assert (colour - pattern(directions * wall)).abs().max() < 0.05


def test_samples_lie_evenly_on_what_is_inside_and_nowhere_else():
    inside = torch.zeros(2, 10, dtype=torch.bool)
    inside[0, [1, 2, 7]] = True
    found = samples_inside(inside, torch.tensor([1.0, 1.0]), torch.tensor([0.5, 0.5]), 6)
    assert torch.allclose(found.place[0], torch.tensor([1.625, 1.875, 2.125, 2.375, 4.625, 4.875]))
    assert torch.allclose(found.length, torch.tensor([0.25, 0.0]))
    jitter = torch.rand(2, 6, generator=torch.Generator().manual_seed(0))
    drawn = samples_inside(inside, torch.tensor([1.0, 1.0]), torch.tensor([0.5, 0.5]), 6, jitter).place[0]
    pieces = ((drawn - 1) / 0.5).floor().long()
    assert inside[0, pieces].all() and (drawn.diff() > 0).all() and not torch.equal(drawn, found.place[0])


def test_nothing_is_seen_through_an_opaque_end():
    density, place = torch.zeros(2, 3), torch.tensor([[1.0, 2.0, 3.0]] * 2)
    opaque = torch.tensor([True, False])
    colour, alpha, depth = accumulate(density, torch.ones(2, 3, 3), place, torch.ones(2), opaque)
    assert torch.equal(alpha, torch.tensor([1.0, 0.0])) and torch.equal(depth, torch.tensor([3.0, 0.0]))
    assert torch.equal(colour, torch.tensor([[1.0] * 3, [0.0] * 3]))


@pytest.mark.parametrize("opaque", [True, False])
def test_no_ray_at_all_is_no_error(opaque):
    found = samples_inside(torch.zeros(0, 4, dtype=torch.bool), torch.zeros(0), torch.zeros(0), 3)
    made = accumulate(
        torch.zeros(0, 3), torch.zeros(0, 3, 3), found.place, found.length, torch.zeros(0, dtype=torch.bool) | opaque
    )
    assert [len(x) for x in made] == [0, 0, 0]
