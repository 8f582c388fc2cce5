"""What people are shown: the photo as the network saw it, control maps whole and legible, one label for one thing."""

from pathlib import Path

import pytest
import torch

from hvg.commands.show import contact_sheet, with_all_signals
from hvg.config.build import build_dataset, build_part
from hvg.config.command_options import ShowOptions
from hvg.config.composition import compose
from hvg.core.eight_bit import frames_to_uint8
from hvg.core.labels import PHOTO, map_label, readable
from hvg.data.signals import signals_of_all
from hvg.media.images import read_image_8bit
from hvg.media.tiles import GAP, LABEL_HEIGHT
from hvg.model.load import build_system
from hvg.parts import registry
from hvg.parts.as_seen import photos_as_seen
from hvg.sample.videos import Request, control_maps
from hvg.study.plan import ArmRun
from hvg.study.study_file import StudyFile
from hvg.study.videos import beside, map_titles, maps, photos
from hvg.testing import build, tiny_batch, tiny_context

# People stand off the middle, so that an alignment moves them.
WORDS = ("dataset.framing_jitter=0.12", "dataset.fov_degrees=42")


def images(name: str, size: int = 64, **settings) -> dict[str, torch.Tensor]:
    """Name -> picture (1, 1, 1, 3, H, W) of what a conditioner draws of one view of a person."""
    part = registry.load("conditioner", name)
    drawn = build(part, part.Config(**settings), tiny_context())
    signal = drawn.signal(tiny_batch(clips=1, views=1, frames=1, size=size))
    return drawn.signal_images(signal)


@pytest.mark.parametrize(
    ("name", "settings", "names"),
    [
        ("bone_map", {}, ["normal", "depth"]),
        ("bone_map", {"maps": ("depth",)}, ["depth"]),
        ("skeleton", {}, ["map"]),
        ("smpl_normal", {}, ["map"]),
        ("smpl_depth", {}, ["depth"]),
        ("part_map", {"maps": ("part", "mask"), "supersampling": 3}, ["part", "mask"]),
        ("semantic_map", {"supersampling": 3}, ["normal", "mask", "part"]),
        ("iuv", {}, ["part", "uv"]),
        ("hvg", {}, ["bone normal", "bone depth"]),
        ("hvg", {"maps": ("skeleton", "smpl_normal")}, ["skeleton", "SMPL normal"]),
    ],
)
def test_every_half_of_a_control_map_is_a_picture(name, settings, names):
    found = images(name, **settings)
    assert list(found) == names
    for picture in found.values():
        assert tuple(picture.shape) == (1, 1, 1, 3, 64, 64) and picture.abs().max() <= 1
        assert picture.flatten().unique().numel() > 4


def test_the_depth_of_a_bone_map_is_grey_on_black():
    depth = images("bone_map")["depth"][0, 0, 0]
    assert torch.equal(depth[0], depth[1]) and torch.equal(depth[0], depth[2])
    assert float(depth[:, 0, 0].max()) == -1 and float(depth.max()) > 0


def test_a_skeleton_is_legible_on_its_background():
    """A limb of one pixel, drawn in faint colours on grey, differs from it by a contrast of less than 2 to 1."""
    picture = (images("skeleton")["map"][0, 0, 0] + 1) / 2
    light = (torch.tensor([0.2126, 0.7152, 0.0722])[:, None, None] * picture**2.2).sum(dim=0)
    behind = float(light[0, 0])
    drawn = light[(light - behind).abs() > 0.01]
    assert float((drawn.median() + 0.05) / (behind + 0.05)) > 3


def test_a_part_that_says_nothing_shows_its_first_channels():
    part = registry.load("conditioner", "camera_rays")
    drawn = build(part, part.Config(), tiny_context())
    signal = torch.rand(1, 2, 1, 6, 8, 8)
    assert torch.equal(drawn.signal_images(signal)["map"], signal[..., :3, :, :])
    grey = drawn.signal_images(signal[..., :1, :, :])["map"]
    assert torch.equal(grey, signal[..., :1, :, :].expand(1, 2, 1, 3, 8, 8))


def test_the_contact_sheet_shows_what_the_network_saw(tiny, tmp_path):
    config = compose([*tiny, *WORDS, "alignment=pelvis"])
    clip = build_dataset(config, "test").load(0)
    path = contact_sheet(config, ShowOptions(out=tmp_path / "sheet.png"))
    sheet, _ = read_image_8bit(path)
    seen = frames_to_uint8(photos_as_seen(clip, build_part(config.alignment), config.data.background)[0])
    top, side = GAP + LABEL_HEIGHT, 128
    cell = sheet[:, top : top + side, GAP : GAP + side]
    assert torch.equal(cell[:, ::4, ::4], seen)
    assert not torch.equal(seen, frames_to_uint8(clip.reference.frames[0, 0]))


def test_the_contact_sheet_draws_what_the_run_chose_with_its_settings(tiny, tmp_path):
    words = [*tiny, "camera=camera_rays", "camera.relative_to=world"]
    config, both = compose(words), compose([*words, "+slots.near.name=camera_rays", "+slots.near.scale=1"])
    _, drawn = with_all_signals(config, build_dataset(config, "test").load(0))
    rays = [part.config.relative_to for key, part in drawn.items() if key.startswith("camera_rays-")]
    assert rays == ["world"] and len(drawn) > 1
    sheets = [contact_sheet(c, ShowOptions(out=tmp_path / f"{i}.png")) for i, c in enumerate((config, both))]
    one, two = (read_image_8bit(path)[0].shape[-1] for path in sheets)
    # The map of the same part with other settings has a column of its own.
    assert two - one == GAP + 128


HUNGRY = """
    from pydantic import Field

    from hvg.parts.pose_guided import GuidedConfig, PoseGuided

    class Part(PoseGuided):
        '''A map that is drawn of a file.'''

        class Config(GuidedConfig):
            path: str = Field(description="Where it lies.")

        def draw_map(self, batch):
            return read(self.config.path)
"""


def test_a_part_that_has_no_defaults_is_left_out_of_a_contact_sheet_that_did_not_choose_it(tiny, package, capsys):
    package({"conditioner.hungry": HUNGRY})
    config = compose(tiny)
    _, drawn = with_all_signals(config, build_dataset(config, "test").load(0))
    assert drawn and not any(key.startswith("hungry") for key in drawn)
    assert capsys.readouterr().out == "left out: hungry.path: is missing; it has to be given.\n"


FAILING = """
    from hvg.parts.pose_guided import GuidedConfig, PoseGuided

    class Part(PoseGuided):
        Config = GuidedConfig

        def draw_map(self, batch):
            raise IndexError("no such\\njoint")
"""


def test_a_part_that_cannot_draw_is_left_out_of_a_contact_sheet_that_did_not_choose_it(tiny, package, tmp_path, capsys):
    package({"conditioner.failing": FAILING})
    contact_sheet(compose(tiny), ShowOptions(out=tmp_path / "sheet.png"))
    left_out = capsys.readouterr().out
    assert left_out.startswith("left out: the conditioner 'failing' of package 'lab_")
    assert left_out.endswith("': IndexError: no such joint\n")
    with pytest.raises(IndexError):
        contact_sheet(compose([*tiny, "pose.name=failing"]), ShowOptions(out=tmp_path / "other.png"))


def test_a_studys_videos_show_the_photo_as_each_alignment_moves_it(tiny):
    study = StudyFile(title="t", question="q", varies=("alignment",), arms={"plain": (), "centred": (), "other": ()})
    alignments = {"plain": "none", "centred": "pelvis", "other": "none"}
    runs = [ArmRun(arm, 0, compose([*tiny, *WORDS, f"alignment={name}"])) for arm, name in alignments.items()]
    clip = build_dataset(runs[0].config, "test").load(0)
    found = photos(study, clip, runs)
    assert list(found) == [f"{PHOTO} by plain", f"{PHOTO} by centred"]
    plain, centred = found.values()
    assert torch.equal(plain[0, 0], clip.reference.frames[0, 0]) and not torch.equal(plain, centred)
    assert list(photos(study, clip, runs[:1])) == [PHOTO]


def test_a_studys_videos_show_every_half_of_a_map(tiny):
    config = compose([*tiny, "pose=bone_map"])
    parts = signals_of_all([config])
    clip = parts.load(build_dataset(config, "test"), 0)
    found = maps(clip, parts, map_titles({"bone map": list(parts)}))
    assert list(found) == ["bone map normal", "bone map depth"]


def test_a_word_is_not_said_twice_of_a_map():
    said = {"bone map": ["normal", "depth"], "SMPL depth": ["depth"], "part map": ["normal", "part"], "a:": ["part"]}
    assert [map_label(part, name) for part, names in said.items() for name in names] == [
        *("bone map normal", "bone map depth", "SMPL depth", "part map normal", "part map", "a: part"),
    ]


def test_a_map_that_arms_share_is_shown_once():
    shared = {"a": ["bone_map-1"], "b": ["bone_map-1"], "c": []}
    assert map_titles(shared) == {"bone_map-1": "bone map"}
    assert map_titles({"a": ["hvg-1"], "b": ["hvg-2"]}) == {"hvg-1": "a:", "hvg-2": "b:"}


def test_a_map_and_an_arm_of_one_name_are_both_shown():
    drawn, made = (
        {"SMPL depth": torch.zeros(1), "mask": torch.ones(1)},
        {"truth": torch.ones(1), "SMPL depth": torch.ones(1)},
    )
    assert [*beside(drawn, made)] == ["SMPL depth map", "mask"] and not beside(drawn, made).keys() & made.keys()


def test_a_thing_is_called_the_same_everywhere():
    assert [readable(name) for name in ("smpl_normal", "bone_map", "psnr_foreground", "fid_vid", "mask_iou")] == [
        "SMPL normal",
        "bone map",
        "PSNR foreground",
        "FID-VID",
        "mask IoU",
    ]
    names = [*registry.names("metric"), *registry.names("conditioner")]
    assert len({readable(name) for name in names}) == len(names)
    # Nobody makes labels of names beside it.
    root = Path(__file__).parents[2]
    makers = [path.name for path in (root / "hvg").rglob("*.py") if 'replace("_", " ")' in path.read_text()]
    assert makers == []


def test_the_videos_of_signals_show_every_half_of_a_map(tiny):
    """Two slots with one part keep their maps apart by the slot."""
    config = compose([*tiny, "pose=bone_map", "+slots.outline.name=bone_map"])
    clip = build_dataset(config, "test").load(0)
    request = Request(system=build_system(config), config=config, batch=clip, names=("front",), notes=())
    names = ["bone map normal", "bone map depth"]
    found = control_maps(request, clip)
    assert {slot: [*maps] for slot, maps in found.items()} == {
        "pose": names,
        "outline": [f"outline: {name}" for name in names],
    }
