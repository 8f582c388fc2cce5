"""Dances: both layouts, what they hold, and what cannot be used."""

import numpy as np
import pytest
import torch
from data_set_files import write_models, write_tiktok

from components.datasets.tiktok import Tiktok
from hvg.config.composition import compose
from hvg.core.errors import ConfigError, DataError
from hvg.data.split_rules import by_rules
from hvg.media.crops import Picture, as_mask
from hvg.parts.context import Context
from hvg.testing import check_dataset


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def dances(tmp_path_factory, models):
    return write_tiktok(tmp_path_factory.mktemp("dances"), models)


def opened(root, split="train", **settings):
    rules = root.parent / "mine.txt"
    rules.write_text("335-335 test\nfirst 1 val\nrest train\n")
    small = {"image_size": (64, 36), "splits": str(rules), **settings}
    return Tiktok(Tiktok.Config(root=str(root), split=split, **small), Context())


def test_both_layouts_give_the_same_clip(dances, models, tmp_path):
    plain, disco = opened(dances), opened(write_tiktok(tmp_path, models, disco=True))
    assert [clip.clip_id for clip in plain._clips] == ["00336", "00337"]
    a, b = plain.load(0), disco.load(0)
    assert a.grid == b.grid == (1, 1, 4)
    # DisCo's masks are JPEGs, larger than the pictures, in which the background is purple.
    assert float((a.alpha - b.alpha).abs().mean()) < 0.02
    assert float(b.alpha[..., 0, :].max()) == 0 and float(b.alpha.max()) == 1
    assert float((a.frames - b.frames).abs().mean()) < 0.05
    assert 0.03 < float((a.alpha > 0.5).float().mean()) < 0.5
    # What is covered is the person, who is striped before a grey room that is not shown.
    assert float(a.frames[:, :, :, :, 0, 0].min()) == 1


@pytest.mark.parametrize("label", [0.2, 0.5, 1.0])
def test_everybody_in_a_mask_of_matplotlib_s_colours_is_a_person(label):
    """DisCo numbers the people of a picture, whose masks then have colours between blue and yellow."""
    colours = {0.0: (68, 1, 84), 0.2: (64, 67, 135), 0.5: (32, 144, 140), 1.0: (253, 231, 36)}
    drawn = np.uint8([[colours[0.0], colours[label]]])
    assert as_mask(Picture("mask", drawn), "viridis").alpha.tolist() == [[0, 255]]


def test_it_keeps_the_promises_of_a_dataset(dances):
    check_dataset(Tiktok, opened(dances).config, Context(), clips=1)


def test_the_published_tests_are_six():
    owners = by_rules(Tiktok.Config(root="x", splits="gas").rules, [f"{n:05d}" for n in range(1, 341)], 0)
    assert [name for name, split in owners.items() if split == "test"] == [f"{n:05d}" for n in range(335, 341)]


def test_what_needs_a_body_is_refused_by_name(dances):
    words = ["dataset=tiktok", f"dataset.root={dances}", "data.views=1", "data.frames=1", "dataset.views=1"]
    with pytest.raises(ConfigError) as error:
        compose([*words, "pose=skeleton"])
    assert "requires the field 'body', which the dataset 'tiktok' does not" in str(error.value)
    assert compose([*words, "pose=none"]).dataset.name == "tiktok"


def test_a_dance_without_masks_and_one_that_is_asked_for_bodies(tmp_path, models):
    root = write_tiktok(tmp_path, models)
    for path in (root / "00336" / "masks").iterdir():
        path.unlink()
    assert (
        "00336: camera 0 has 0 of 4 frames with masks" in opened(root).holdings(opened(root).config).unusable["00336"]
    )
    with pytest.raises(DataError, match="there are no bodies here; estimate them and use dataset=monocular"):
        opened(root, bodies=True)
    assert torch.equal(opened(root, masks=False, background=None).load(0).valid, torch.ones(1, 1, 4, dtype=torch.bool))
