"""Values: ports that hold for all views or frames, batches of smaller pictures."""

from dataclasses import replace

import pytest
import torch

from components.bodies.anny import Anny
from hvg.core.random_keys import generator
from hvg.geometry.motion import Motion
from hvg.testing import ports_of, tiny_batch
from hvg.values.cameras import project
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning

B, V, T = 2, 3, 4


def ports(key: str, views: int, frames: int) -> Conditioning:
    """All ports of a backbone, random, with these axes."""
    random = generator("ports", key)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(B, views, frames, *shape, generator=random)

    return Conditioning(
        residuals={"stem": draw(5, 4, 4)},
        tokens=draw(2, 6),
        text=draw(4, 6),
        channels=draw(3, 4, 4),
        embedding=draw(7),
        memory={"mid": draw(9, 8)},
        losses={key: torch.randn(B, generator=random)},
    )


def assert_equal(a: Conditioning, b: Conditioning) -> None:
    first, second = dict(ports_of(a)), dict(ports_of(b))
    assert first.keys() == second.keys()
    for name, x in first.items():
        assert torch.equal(x, second[name]), name
    assert a.losses.keys() == b.losses.keys()


GRIDS = [(1, 1), (V, 1), (1, T), (V, T)]


@pytest.mark.parametrize("second", GRIDS)
@pytest.mark.parametrize("first", GRIDS)
def test_merging_parts_that_hold_for_all_is_merging_them_expanded(first, second):
    a, b = ports("a", *first), ports("b", *second)
    small = Conditioning.merge([a, b])
    large = Conditioning.merge([a.expand(V, T), b.expand(V, T)])
    assert_equal(small.expand(V, T), large)
    # No axis grows that neither part has.
    assert small.embedding.shape[1:3] == tuple(map(max, first, second))


def test_merging_adds_and_concatenates_in_order():
    a, b = ports("a", 1, 1), ports("b", V, T)
    merged = Conditioning.merge([Conditioning(), a, Conditioning(embedding=b.embedding), b])
    assert torch.equal(merged.residuals["stem"], a.residuals["stem"] + b.residuals["stem"])
    assert torch.equal(merged.embedding, a.embedding + b.embedding + b.embedding)
    assert torch.equal(merged.tokens[:, :, :, 2:], b.tokens) and torch.equal(
        merged.tokens[:, 1, 2, :2], a.tokens[:, 0, 0]
    )
    assert torch.equal(merged.text[:, :, :, 4:], b.text) and merged.text.shape[3] == 8
    assert torch.equal(merged.channels[:, :, :, 3:], b.channels)
    assert torch.equal(merged.memory["mid"][:, 2, 0, :9], a.memory["mid"][:, 0, 0])
    assert merged.losses.keys() == {"a", "b"}
    alone = Conditioning.merge([Conditioning(tokens=a.tokens), Conditioning(memory=b.memory)])
    assert alone.tokens is a.tokens and alone.memory["mid"] is b.memory["mid"] and alone.embedding is None


def test_a_context_is_the_tokens_and_behind_them_the_text():
    a, b = ports("a", 1, T), ports("b", V, 1)
    both = Conditioning(tokens=a.tokens, text=b.text).context
    assert both.shape == (B, V, T, 6, 6)
    assert torch.equal(both[:, 1, 2, :2], a.tokens[:, 0, 2]) and torch.equal(both[:, 1, 2, 2:], b.text[:, 1, 0])
    assert Conditioning(tokens=a.tokens).context is a.tokens and Conditioning(text=b.text).context is b.text
    assert Conditioning().context is None


def test_expanding_copies_nothing():
    small = ports("a", 1, 1)
    large = small.expand(V, T)
    for (name, x), (_, y) in zip(ports_of(small), ports_of(large), strict=True):
        assert y.shape[:3] == (B, V, T) and y.data_ptr() == x.data_ptr(), name
    assert large.nbytes() == small.nbytes() == 4 * sum(x.numel() for _, x in ports_of(small))
    assert large.losses is small.losses
    assert_equal(large.expand(V, T), large)


def test_stacking_puts_conditionings_one_after_the_other():
    a, b = ports("a", 1, T), ports("b", 1, T)
    both = Conditioning.stack([a, b])
    for (name, x), (_, y), (_, z) in zip(ports_of(a), ports_of(b), ports_of(both), strict=True):
        assert torch.equal(z, torch.cat([x, y])), name
    assert Conditioning.stack([a]) is a
    assert_equal(Conditioning.stack([Conditioning(), Conditioning()]), Conditioning())


@pytest.mark.parametrize("grid", GRIDS)
def test_what_is_kept_and_what_stands_in_share_their_axes(grid):
    a, b = ports("a", *grid), ports("b", *grid)
    mixed = a.where(torch.tensor([True, False]), b)
    for (name, x), (_, y), (_, z) in zip(ports_of(a), ports_of(b), ports_of(mixed), strict=True):
        assert torch.equal(z[0], x[0]) and torch.equal(z[1], y[1]), name
    assert mixed.losses is a.losses


# --- parts of a clip ---


def test_a_parameter_without_a_time_axis_is_not_cut_where_there_are_as_many_frames_as_numbers():
    motion = Motion(rotations={"pelvis": torch.zeros(6, 3)})
    body = Anny().animate(motion, {"height": 0.7}, mesh=False)
    clip = replace(tiny_batch(clips=1, frames=6), body=body)
    part = clip.select(frames=[4, 1])
    shape = body.constants["shape"]
    assert shape.shape == (1, 6) and torch.equal(part.body.constants["shape"], shape)
    assert torch.equal(part.body.parameters["rotations"], body.parameters["rotations"][:, [4, 1]])
    both = ClipBatch.stack([part, part])
    assert torch.equal(both.body.constants["shape"], shape.expand(2, 6))
    assert torch.equal(both.clips(slice(1, 2)).body.constants["shape"], shape)
    assert both.to(torch.float64).body.constants["shape"].dtype == torch.float64


# --- smaller pictures ---


@pytest.mark.parametrize("factor", [2, 4])
def test_shrunk_pictures_are_means_of_squares(factor):
    batch = replace(tiny_batch(), signals={"map": torch.randn(2, 2, 2, 5, 32, 32)})
    photo = replace(batch.reference, alpha=torch.rand(2, 1, 1, 32, 32), cameras=batch.cameras[:, 0, :1])
    batch = replace(batch, reference=photo)
    small = batch.shrunk(factor)

    def means(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (-1, factor)).unflatten(-3, (-1, factor)).mean((-1, -3))

    for x, y in (
        (batch.frames, small.frames),
        (batch.alpha, small.alpha),
        (batch.driving, small.driving),
        (batch.signals["map"], small.signals["map"]),
        (photo.frames, small.reference.frames),
        (photo.alpha, small.reference.alpha),
    ):
        assert y.shape[-2:] == (32 // factor, 32 // factor)
        torch.testing.assert_close(y, means(x), rtol=0, atol=1e-6)
    assert small.grid == batch.grid and small.clip_id == batch.clip_id and small.body is batch.body


def test_joints_are_at_half_the_coordinates_of_a_picture_of_half_the_size():
    batch = tiny_batch(views=3)
    photo = replace(batch.reference, cameras=batch.cameras[:, 0, :1])
    part = replace(batch, reference=photo).select(views=[2])
    small = part.shrunk(2)
    assert small.cameras.image_size == small.origin.image_size == small.reference.cameras.image_size == (16, 16)
    points = part.body.joints[:, None]
    for one, other in ((small.cameras, part.cameras), (small.origin, part.origin)):
        torch.testing.assert_close(project(points, one)[0], project(points, other)[0] / 2)
    photo_points = part.body.joints[:, :1]
    pixels = [project(photo_points, cameras)[0] for cameras in (small.reference.cameras, photo.cameras)]
    torch.testing.assert_close(pixels[0], pixels[1] / 2)


def test_what_is_not_there_stays_away():
    bare = replace(tiny_batch(), frames=None, alpha=None, driving=None, reference=None)
    small = bare.shrunk(2)
    assert small.present() == bare.present() and small.cameras.image_size == (16, 16)
    assert bare.shrunk(1).cameras.image_size == (32, 32)
