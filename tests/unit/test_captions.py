"""Captions: files that name clips or recordings, what synthetic people look like in words, and sheets that show them."""

import json
import re
from dataclasses import replace

import pytest
import torch
from data_set_files import write_models, write_thuman
from PIL import Image
from recordings import write_monocular

from components.bodies.anny import Anny
from components.bodies.smplx import SmplX
from components.datasets.mixture import Mixture, MixtureConfig
from components.datasets.monocular import Monocular
from components.datasets.synthetic import Synthetic
from components.datasets.thuman import Thuman
from components.people.captions import DOING, HUES, _material, colour_name
from components.people.motions import MOTIONS
from components.people.textures import Cloth
from components.renderers.warp import Warp
from hvg.cli import run
from hvg.core.errors import DataError
from hvg.media.tiles import LABEL_HEIGHT, over_text
from hvg.parts.context import Context, SceneContext
from hvg.testing import check_dataset

CONTEXT = Context(body=Anny(), renderer=Warp())


# --- files ---


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    write_monocular(root := tmp_path_factory.mktemp("filmed") / "set", frames=4)
    return root


def monocular(root, captions, **settings):
    config = Monocular.Config(root=str(root), captions=str(captions), **{"image_size": 32, "mesh": False, **settings})
    return config, Monocular(config, CONTEXT)


def said(root, captions, **settings):
    """Clip id -> caption of all clips of all splits, as loaded; which is what the holdings tell."""
    found = {}
    for split in ("train", "val", "test"):
        config, clips = monocular(root, captions, split=split, **settings)
        loaded = [clips.load(index) for index in range(len(clips))]
        own = {clip.clip_id[0]: clip.caption[0] for clip in loaded}
        assert Monocular.holdings(config).captions == own and "caption" in Monocular.provides(config)
        found |= own
    return found


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("captions.json", json.dumps({"person0": "a man walks", "person1": " a woman, in red "})),
        ("captions.csv", 'name,caption\nperson0,a man walks\n\nperson1,"a woman, in red"\n'),
        ("captions.csv", 'person0,a man walks\nperson1,"a woman, in red"\n'),
    ],
)
def test_a_file_says_what_recordings_show(filmed, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert said(filmed, tmp_path / name) == {"person0": "a man walks", "person1": "a woman, in red", "person2": ""}


def test_a_clip_s_own_caption_goes_before_its_recording_s(filmed, tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({"person0": "a man", "person0-000002": "a man who turns"}))
    found = said(filmed, tmp_path / "c.json", frames=2, split_by="clip")
    assert {name: text for name, text in found.items() if text} == {
        "person0-000000": "a man",
        "person0-000002": "a man who turns",
    }


def test_clips_without_a_caption_and_names_without_a_clip_are_told(filmed, tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({"person9": "a man"}))
    notes = Monocular.holdings(monocular(filmed, tmp_path / "c.json")[0]).notes
    assert any(re.search(r"c\.json: 1 of 1 clips of train have no caption, such as 'person\d'", note) for note in notes)
    assert any("c.json: 1 names are no clip's and no recording's, such as 'person9'" in note for note in notes)


def test_a_part_of_a_clip_has_its_caption_and_other_captions_are_other_clips(filmed, tmp_path):
    path = tmp_path / "c.json"
    path.write_text(json.dumps({f"person{n}": "a man" for n in range(3)}))
    config, clips = monocular(filmed, path)
    part = clips.load_part(0, lambda views, frames: ([0], range(1, 3)), frozenset())
    assert part.caption == ("a man",) and part.grid == (1, 1, 2)
    before = Monocular.content(config)
    path.write_text(json.dumps({f"person{n}": "a woman" for n in range(3)}))
    assert Monocular.content(config) != before
    none = Monocular.Config(root=str(filmed), image_size=32)
    assert "caption" not in Monocular.provides(none) and not Monocular.holdings(none).captions


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("c.json", "[1]", "holds no names; expected JSON of {NAME: TEXT}"),
        ("c.json", "{", "cannot be read"),
        ("c.json", '{"person0": 3}', "the caption of 'person0' is '3'; expected a text"),
        ("c.csv", "person0,a,b\n", "line 1 has 3 columns; a text with a comma stands in quotes"),
        ("c.csv", "person0,a\nperson0,b\n", "line 2 names 'person0' again"),
        ("c.csv", "", "holds no names"),
        ("gone.csv", None, "there is no such file of captions; expected JSON"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_in_a_line(filmed, tmp_path, name, text, why):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=re.escape(why)) as error:
        monocular(filmed, tmp_path / name)
    assert name in str(error.value) and "\n" not in str(error.value)


def test_scans_have_captions_by_their_numbers(tmp_path):
    models = write_models(tmp_path / "models")
    root = write_thuman(tmp_path, models, count=3)
    (tmp_path / "rules.txt").write_text("first 1 val\nfirst 1 test\nrest train\n")
    context = SceneContext(body=SmplX(SmplX.Config(path=models, gender="male")), renderer=Warp())
    names = sorted(path.name for path in root.iterdir() if path.name.isdecimal())
    (tmp_path / "c.json").write_text(json.dumps({names[2]: "a man", f"thuman-{names[0]}": "a woman"}))
    words = {"root": str(root), "splits": str(tmp_path / "rules.txt"), "captions": str(tmp_path / "c.json")}
    for split, expected in (("train", "a man"), ("val", "a woman"), ("test", "")):
        config = Thuman.Config(**words, views=1, image_size=16, split=split)
        clip = Thuman(config, context).load(0)
        assert clip.caption == (expected,) and Thuman.holdings(config).captions == {clip.clip_id[0]: expected}
        assert any("no caption" in note for note in Thuman.holdings(config).notes) == (not expected)


def test_a_mixture_has_captions_where_all_its_members_have(filmed, tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({f"person{n}": "a man" for n in range(3)}))
    people = {"name": "synthetic", "image_size": 32, "views": 1, "frames": 2, "num_subjects": 1, "mesh": False}
    film = {"name": "monocular", "root": str(filmed), "image_size": 32, "frames": 2, "split_by": "clip", "mesh": False}
    film["captions"] = str(tmp_path / "c.json")
    both = MixtureConfig(members={"made": people, "filmed": film})
    assert {*Mixture.holdings(both).captions.values()} == {"a man"}
    clips = Mixture(both, CONTEXT)
    assert clips.load(1).caption == ("a man",) and clips.load(0).caption[0].startswith("a person")
    del film["captions"]
    one = MixtureConfig(members={"made": people, "filmed": film})
    assert not Mixture.holdings(one).captions and Mixture(one, CONTEXT).load(0).caption is None


# --- synthetic people ---

SMALL = {"num_subjects": 4, "views": 1, "frames": 2, "image_size": 16, "supersampling": 1, "mesh": False}


def test_synthetic_captions_say_clothes_and_motion():
    dataset = Synthetic(Synthetic.Config(**SMALL), CONTEXT)
    captions = [dataset.load(index).caption[0] for index in range(4)]
    colour = f"({'|'.join((*HUES, 'white', 'brown'))})"
    for number, caption in enumerate(captions):
        name, _ = dataset._drawn(number, 0)
        assert re.fullmatch(rf"a person with .*hair.* in an? .*shirt.* {DOING[name]}", caption) or "ponytail" in caption
        assert re.search(rf"{colour}.* shirt", caption) and caption.endswith(DOING[name])
        look = dataset._person(number)[1].look
        assert (f" {look.garment}" in caption) == (look.garment != "none")
    assert len(set(captions)) == 4 and captions == [
        Synthetic(Synthetic.Config(**SMALL), CONTEXT).load(index).caption[0] for index in range(4)
    ]
    assert DOING.keys() == MOTIONS.keys()


def test_who_stands_as_in_the_photo_stands_and_a_suit_is_a_suit():
    standing = Synthetic(Synthetic.Config(**SMALL, view_share=1.0), CONTEXT).load(0)
    assert standing.caption[0].endswith(" stands")
    suited = Synthetic(Synthetic.Config(**SMALL, clothes="suit"), CONTEXT).load(0)
    assert suited.caption[0].startswith("a person in a suit of many colours ")


def test_a_captioned_data_set_keeps_its_promises():
    check_dataset(Synthetic, Synthetic.Config(**SMALL, num_held_out_subjects=1), CONTEXT, clips=1)


def test_colours_have_the_names_that_people_give_them():
    seen = {"red": (0.7, 0.1, 0.1), "green": (0.2, 0.7, 0.2), "blue": (0.1, 0.2, 0.9), "yellow": (0.9, 0.85, 0.1)}
    seen |= {
        "white": (0.95, 0.95, 0.93),
        "black": (0.1, 0.1, 0.11),
        "orange": (0.95, 0.5, 0.1),
        "pink": (0.9, 0.2, 0.6),
    }
    seen |= {
        "navy": (0.13, 0.17, 0.32),
        "grey": (0.42, 0.43, 0.46),
        "beige": (0.62, 0.54, 0.38),
        "brown": (0.33, 0.21, 0.13),
    }
    seen |= {"purple": (0.5, 0.1, 0.8), "turquoise": (0.1, 0.8, 0.8)}
    assert {name: colour_name(colour) for name, colour in seen.items()} == {name: name for name in seen}
    assert colour_name((0.7, 0.1, 0.15)) == "red"
    red, white = (torch.tensor(x).double().numpy() for x in ((0.8, 0.1, 0.1), (0.95, 0.95, 0.93)))
    patterns = {name: _material(Cloth(red, white, name)) for name in ("plain", "stripes", "bars", "checks", "logo")}
    assert patterns == {
        "plain": "red",
        "stripes": "red and white striped",
        "bars": "red and white striped",
        "checks": "red and white checked",
        "logo": "red",
    }
    assert _material(Cloth(red, red * 0.99, "stripes")) == "red striped"


# --- sheets ---


def test_a_text_stands_below_a_picture_in_as_many_lines_as_it_needs():
    picture = torch.zeros(3, 10, 200)
    short, long = (over_text(picture, text) for text in ("a person", "a person in a red coat who waves " * 3))
    assert short.shape == (3, 10 + LABEL_HEIGHT, 200) and torch.equal(short[:, :10], picture)
    assert (
        short[:, 10:].min() < 0.5 and long.shape[1] > 10 + 2 * LABEL_HEIGHT and (long.shape[1] - 10) % LABEL_HEIGHT == 0
    )


def test_a_sheet_shows_the_caption(tiny, tmp_path, monkeypatch):
    heights, load = [], Synthetic.load
    for text in ("a person", None):
        with monkeypatch.context() as patch:
            patch.setattr(Synthetic, "load", lambda *given, text=text: replace(load(*given), caption=text and (text,)))
            assert run(["show", *tiny, f"out={tmp_path / 'sheet.png'}", "overwrite=true"]) == 0
        heights.append(Image.open(tmp_path / "sheet.png").height)
    assert heights[0] - heights[1] == LABEL_HEIGHT
