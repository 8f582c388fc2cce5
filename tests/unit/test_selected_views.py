"""Views at fixed angles, and where samples begin beyond what training shows."""

import pytest
import torch

from components.view_attention.selected_views import SelectedViewsConfig, SelectedViewsViewAttention
from hvg.config.composition import compose
from hvg.model.trained_levels import level_notes
from hvg.values.cameras import orbit
from hvg.values.grid import ViewGrid


def pairs(azimuths, **settings) -> list[list[int]]:
    """For each view those that it sees, before cameras at these azimuths."""
    cameras = orbit(
        torch.tensor(azimuths),
        elevation_degrees=0.0,
        distance=3.0,
        target=torch.zeros(3),
        fov_degrees=40.0,
        image_size=(1, 1),
    )
    seen = SelectedViewsViewAttention.sees(SelectedViewsConfig(**settings), ViewGrid.whole(cameras[None, :, None]))
    return [row.nonzero().flatten().tolist() for row in seen[0, 0]]


def test_a_view_sees_itself_and_those_at_the_offsets():
    assert pairs([0.0, 90.0, 180.0, 270.0], offsets_degrees=(90.0,)) == [[0, 1], [1, 2], [2, 3], [0, 3]]
    assert pairs([0.0, 90.0, 180.0, 270.0], offsets_degrees=(180.0,)) == [[0, 2], [1, 3], [0, 2], [1, 3]]


def test_views_that_are_far_from_the_angle_are_not_seen():
    assert pairs([0.0, 60.0, 200.0], offsets_degrees=(180.0,), tolerance_degrees=15.0) == [[0], [1], [2]]
    assert pairs([0.0, 60.0, 200.0], offsets_degrees=(180.0,), tolerance_degrees=25.0) == [[0, 2], [1], [0, 2]]


def test_twenty_views_see_those_at_a_quarter_turn_and_behind():
    seen = pairs([18.0 * view for view in range(20)])
    assert seen[0] == [0, 5, 10, 15] and seen[7] == [2, 7, 12, 17]


@pytest.mark.parametrize(
    ("prediction", "percent"),
    [("x0", None), ("v", None), ("flow", None), ("v_zero_snr", None), ("x0_zero_snr", None), ("epsilon", 8)],
)
def test_samples_that_begin_beyond_training_are_told(tiny, prediction, percent):
    notes = [*level_notes(compose([*tiny, f"prediction={prediction}"]), 25)]
    assert len(notes) == (percent is not None)
    assert percent is None or f"hold {percent} percent of a picture" in notes[0]


def test_a_training_without_high_noise_is_told(tiny):
    (note,) = level_notes(compose([*tiny, "prediction=v", "prediction.p_mean=-1.2", "prediction.p_std=0.5"]), 5)
    assert note.startswith("prediction=v: samples begin with noise alone")
