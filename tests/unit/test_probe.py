"""The probe of what a signal knows: ridge regression on unseen people, and what it is asked of."""

from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest
import torch

from components.metrics.probe import Probe
from components.nn.ridge import Standard, fitted, held_out
from hvg.config.composition import compose
from hvg.core.random_keys import generator
from hvg.model.load import build_system
from hvg.model.told import numbers_of
from hvg.testing import tiny_batch, tiny_scored_clips
from hvg.values.conditioning import Conditioning
from hvg.values.scored_clip import NotAvailable, Told

PEOPLE = 9


# --- ridge regression ---


@pytest.mark.parametrize(("rows", "columns"), [(40, 6), (8, 30)])
def test_ridge_regression_is_its_closed_form(rows, columns):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(rows, columns)), random.normal(size=(rows, 3))
    x, y = x - x.mean(0), y - y.mean(0)
    unit = np.square(x).sum() / min(rows, columns)
    for strength, weights in zip((0.01, 1.0), fitted(x, y, (0.01, 1.0)), strict=True):
        expected = np.linalg.solve(x.T @ x + strength * unit * np.eye(columns), x.T @ y)
        assert np.allclose(weights, expected, atol=1e-8)


def test_a_constant_says_nothing():
    x = np.stack([np.arange(5.0), np.full(5, 3.0)], axis=1)
    assert (Standard(x)(x)[:, 1] == 0).all() and np.isclose(Standard(x)(x)[:, 0].std(), 1)


def test_what_is_linear_is_told_of_groups_that_were_not_fitted():
    random = np.random.default_rng(1)
    x, fold = random.normal(size=(90, 4)), np.repeat(np.arange(9), 10)
    y = x @ random.normal(size=(4, 2)) + 5
    said, means = held_out(x, y, fold)
    assert np.abs(said - y).max() < 0.05 * np.abs(y - 5).max()
    # The mean is that of the others alone.
    assert np.allclose(means[fold == 2], y[fold != 2].mean(axis=0))
    noise, _ = held_out(random.normal(size=(90, 4)), y, fold)
    assert np.square(noise - y).mean() > 0.8 * np.square(means - y).mean()


# --- the metric ---


def clips(numbers_of_clip, views: int = 2, people: int = PEOPLE):
    """Clips that were told what a function makes of each, (V, t, D)."""
    found = tiny_scored_clips(clips=people, views=views)
    return [replace(clip, told=partial(Told, {"pose": numbers_of_clip(clip)}, (0, 1, 2, 3))) for clip in found]


def score(found, **settings):
    metric = Probe(Probe.Config(**settings))
    return metric.reduce({clip.clip_id: metric.measure(clip) for clip in found})


def joints_of(clip) -> torch.Tensor:
    return clip.body.joints[0].flatten(-2).expand(clip.grid[0], -1, -1)


def noise_of(clip) -> torch.Tensor:
    return torch.randn(*clip.grid, 12, generator=generator("noise", clip.clip_id))


def test_a_signal_that_knows_the_joints_is_told_from_one_that_knows_nothing():
    knows, nothing = score(clips(joints_of)), score(clips(noise_of))
    assert knows.value < 0.8 * nothing.value and knows.count == PEOPLE * 2 * 4
    (note,) = knows.notes
    mean_pose = float(note.split("gives ")[1].split(" mm")[0])
    assert note.endswith(f"that is {knows.value / mean_pose:.3f} of it")
    share = score(clips(joints_of), unit="share")
    assert share.value == pytest.approx(knows.value / mean_pose, rel=0.01)
    assert np.mean(list(share.per_clip.values())) == pytest.approx(share.value)


def test_views_that_are_told_the_same_count_once():
    assert score(clips(lambda clip: noise_of(clip)[:1])).count == PEOPLE * 4
    assert score(clips(lambda clip: noise_of(clip)[:1]), axes="camera").count == PEOPLE * 2 * 4


def test_another_view_s_camera_has_other_joints():
    (clip,) = clips(joints_of, people=1)
    own, next_one = (Probe(Probe.Config(axes="camera", turn=turn)).measure(clip)["joints"] for turn in (0, 1))
    # Cameras stand opposite each other: left is right there, and near is far; up stays about up.
    first = own.reshape(2, 4, 24, 3)[1]
    assert np.allclose(first, next_one.reshape(2, 4, 24, 3)[0], atol=1e-5)
    assert not np.allclose(own, next_one, atol=1e-2)


def test_padding_is_not_asked():
    (clip,) = clips(noise_of, people=1)
    valid = clip.valid.clone()
    valid[1, 2:] = False
    assert len(Probe(Probe.Config()).measure(replace(clip, valid=valid))["told"]) == 6


@pytest.mark.parametrize(
    ("found", "settings", "message"),
    [
        (lambda: tiny_scored_clips(), {}, "needs told"),
        (lambda: clips(noise_of), {"slot": "pose2"}, "asks the slot 'pose2', in which nothing is.*pose"),
        (lambda: clips(noise_of, people=2), {}, "at least 3; the clips show 2"),
    ],
)
def test_where_it_has_no_value_a_line_says_why(found, settings, message):
    with pytest.raises(NotAvailable, match=message):
        score(found(), **settings)


# --- what a model is told ---


def test_ports_become_numbers_of_every_view_and_latent_frame():
    ports = Conditioning(
        tokens=torch.rand(1, 1, 3, 2, 5),
        embedding=torch.rand(1, 2, 1, 7),
        residuals={"stem": torch.rand(1, 2, 3, 4, 8, 8)},
        memory={"mid": torch.rand(1, 1, 1, 6, 9)},
        pooled=torch.rand(1, 1, 1, 11),
        pictures=torch.rand(1, 2, 1, 2, 3, 8, 8),
    )
    numbers = numbers_of(ports)
    assert numbers.shape == (1, 2, 3, 2 * 5 + 11 + 7 + 2 * 3 * 16 + 4 * 16 + 9)
    assert torch.equal(numbers[0, 1, 2, :10], ports.tokens[0, 0, 2].flatten())
    assert torch.equal(numbers[0, 1, 2, 10:21], ports.pooled[0, 0, 0])
    assert torch.allclose(
        numbers[0, 1, 2, 124:128], ports.residuals["stem"][0, 1, 2, 0, :2].unflatten(-1, (4, 2)).mean((0, 2))
    )
    second = ports.pictures[0, 1, 0, 1, 2].unflatten(-1, (4, 2)).unflatten(0, (4, 2)).mean((1, 3)).flatten()
    assert torch.allclose(numbers[0, 1, 2, 108:124], second)
    many = numbers_of(Conditioning(tokens=torch.rand(1, 1, 1, 100, 50)))
    assert many.shape == (1, 1, 1, 50) and numbers_of(Conditioning()) is None


def test_no_port_is_left_out():
    maps, sequence, vector = torch.rand(1, 1, 1, 2, 8, 8), torch.rand(1, 1, 1, 2, 3), torch.rand(1, 1, 1, 5)
    ports = {"residuals": {"stem": maps}, "channels": maps, "base": maps, "pictures": maps[:, :, :, None]}
    ports |= {"tokens": sequence, "text": sequence, "memory": {"mid": sequence}, "pooled": vector, "embedding": vector}
    assert {*ports} == {port.name for port in fields(Conditioning)} - {"losses"}
    for name, value in ports.items():
        assert numbers_of(Conditioning(**{name: value})).shape[-1] in (2 * 16, 2 * 3, 3, 5), name


@pytest.mark.parametrize("pose", ["bone_map", "none"])
def test_a_system_says_what_its_slots_are_told(pose):
    system = build_system(compose(["scale=cpu", f"pose={pose}", "dataset.views=2"])).eval()
    told = system.told_numbers(tiny_batch(1, 2, 3, size=64))
    assert told.frames == (0, 1, 2) and ("pose" in told.numbers) == (pose != "none")
    assert told.numbers["camera"].shape[1] == 3
    if pose != "none":
        assert told.numbers["pose"].shape == (2, 3, 64 * 16)
