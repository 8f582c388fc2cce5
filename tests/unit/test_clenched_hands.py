"""Hands to which the mean hand was added twice are called; relaxed ones, and fists that somebody makes, are not."""

import pytest
import torch
from body_models import RELAXED, RELAXED_THUMB
from data_set_files import relaxed, write_models, write_thuman

from components.bodies.smplx import SmplX
from hvg import cli
from hvg.data.clenched_hands import bends, half_open
from hvg.geometry.body_parameters import POSES, BodyParameters

# What the first component has in the mean hand.
MEAN = (4 * sum(a * a for a in RELAXED) + sum(a * a for a in RELAXED_THUMB)) ** 0.5


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("models"), fingers=True)


def posed(models, share):
    """A body with hands bent by a share of the mean hand's."""
    body = SmplX(SmplX.Config(path=models))
    rotations = {}
    for word, side in (("left_hand_pose", "l"), ("right_hand_pose", "r")):
        mean = torch.from_numpy(body.file.arrays[f"hands_mean{side}"]).float().view(15, 1, 3)
        rotations |= dict(zip(POSES[word], share * mean, strict=True))
    given = relaxed(1, hand=6)
    rotations |= dict(zip(POSES["body_pose"], given["body_pose"].view(21, 1, 3), strict=True))
    still = torch.zeros(1, 3)
    values = {
        "betas": given["betas"],
        "expression": torch.zeros(1, 0),
        "translation": still,
        "scale": torch.tensor([1.3]),
    }
    return body.pose(BodyParameters(family="smplx", rotations=rotations, **values))


@pytest.mark.long
def test_bends_are_those_of_the_pose_and_half_of_them_is_the_pose_of_half(models):
    found = {share: posed(models, share) for share in (0.0, 1.0, 2.0)}
    for share, body in found.items():
        assert torch.allclose(bends(body.skinning).float(), torch.full((1, 2), share * sum(RELAXED)), atol=1e-3)
    half = half_open(found[2.0].skinning)
    at_rest = found[2.0].skinning.at_rest(found[2.0].vertices)
    assert (half.posed(at_rest) - found[1.0].vertices).norm(dim=-1).max() < 1e-4
    # Fingers move by centimetres, and nothing else at all.
    moved = (found[2.0].vertices - found[1.0].vertices).norm(dim=-1)
    assert moved.max() > 0.04 and float((moved > 1e-5).float().mean()) < 0.3


def checked(tmp_path, models, capsys, *words, **options):
    """Exit code and lines of ``hvg prepare check`` over scans."""
    root = write_thuman(tmp_path, models, count=3, **options)
    (tmp_path / "rules.txt").write_text("first 1 val\nfirst 1 test\nrest train\n")
    words = ("dataset.image_size=256", "dataset.views=4", *words)
    model = ("body=smplx", f"body.path={models}", "body.gender=male", f"dataset.splits={tmp_path / 'rules.txt'}")
    code = cli.run(["prepare", "check", "thuman", f"dataset.root={root}", *words, *model, f"out={tmp_path / 'out'}"])
    return code, [line.partition(": ")[2] for line in capsys.readouterr().out.splitlines()]


@pytest.mark.long
def test_a_mean_hand_that_is_added_twice_is_called(tmp_path, models, capsys):
    code, lines = checked(tmp_path, models, capsys, bent=MEAN, flat=True)
    assert code == 1 and lines[1].startswith("hands clenched: in every frame") and "fit hands that are half" in lines[1]


def test_where_masks_are_too_small_the_fingers_alone_tell(tmp_path, models, capsys):
    code, lines = checked(tmp_path, models, capsys, "dataset.image_size=32", bent=MEAN, flat=True)
    assert code == 1 and "hands clenched" in lines[1] and "the masks are too small to tell" in lines[1]


@pytest.mark.long
@pytest.mark.parametrize("bent", [0.0, -MEAN, MEAN], ids=["relaxed", "flat", "fists"])
def test_hands_as_they_were_filmed_draw_no_alarm(tmp_path, models, capsys, bent):
    code, lines = checked(tmp_path, models, capsys, bent=bent)
    assert code == 0 and len(lines) == 1, lines
