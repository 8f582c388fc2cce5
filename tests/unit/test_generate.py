"""What ``hvg sample`` makes of a user's photo, cameras and words."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from hvg.commands.words import take_options
from hvg.config.build import build_part
from hvg.config.command_options import SampleOptions
from hvg.config.composition import compose, recompose
from hvg.config.settings import PartChoice
from hvg.core.eight_bit import frames_from_uint8, frames_to_uint8
from hvg.core.errors import ConfigError, DataError, HvgError
from hvg.core.required import required
from hvg.geometry.camera_moves import MOVES, camera_moves
from hvg.geometry.motion import Motion
from hvg.geometry.motion_files import load_motion
from hvg.geometry.motion_frames import motion_places, places_note
from hvg.media.images import write_png
from hvg.media.photo import load_photo, person_fraction, place
from hvg.model.load import build_system
from hvg.parts.model import Conditioner, ConditionerConfig
from hvg.sample.asked_path import camera_file, preset, training_framing
from hvg.sample.camera_paths import around, read_cameras, write_cameras
from hvg.sample.grid import CELL, MOST_VIEWS
from hvg.sample.memory import ENCODER_BYTES, ENCODER_BYTES_PER_PIXEL, Size, check_memory, estimated_bytes
from hvg.sample.request import check_fields, make_clip
from hvg.sample.request_notes import first_view_note, out_of_sight_note, prompt_note, upright_note
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning, ConditioningSpec


@pytest.fixture(scope="module")
def config(tiny):
    return compose(tiny)


@pytest.fixture(scope="module")
def body(config):
    """Two frames of a standing person who has walked 3 m in the second."""
    translation = torch.tensor([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    motion = Motion(rotations={"pelvis": torch.zeros(2, 3)}, translation=translation)
    return build_part(config.body).animate(motion, None, mesh=False)


def options(**given):
    return SampleOptions(**{"checkpoint": "a.ckpt", "reference": "a.png", "motion": "a.npz", **given})


# --- the photo --------------------------------------------------------------------------------------------------------


def cut_out(path, rows, columns, size=(80, 60)):
    """Writes a photo whose person is a red rectangle on transparent green."""
    from PIL import Image

    pixels = torch.zeros(*size, 4, dtype=torch.uint8)
    pixels[..., 1] = 255
    pixels[rows, columns] = torch.tensor([255, 0, 0, 255], dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(path)


def fit(path, **given):
    reference, advice = load_photo(
        path, (64, 64), **{"fraction": 0.75, "box": None, "background": (1.0, 1.0, 1.0), **given}
    )
    assert reference.alpha is not None
    return reference.frames[0, 0], reference.alpha[0, 0, 0], advice


def extent(alpha):
    """Top, bottom, left, right edge of what is covered."""
    rows, columns = (alpha > 0.5).any(1).nonzero()[:, 0], (alpha > 0.5).any(0).nonzero()[:, 0]
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def test_a_cut_out_person_stands_in_the_middle_on_the_background(tmp_path):
    cut_out(tmp_path / "a.png", slice(5, 65), slice(0, 20))
    frames, alpha, advice = fit(tmp_path / "a.png", background=(0.0, 0.0, 1.0))
    assert extent(alpha) == (8, 56, 24, 40) and advice is None
    assert frames[:, 32, 32].tolist() == [1, -1, -1]  # red
    assert frames[:, 2, 2].tolist() == [-1, -1, 1]  # the background, not the green under alpha 0
    assert float(frames[1].max()) == -1


def test_a_box_takes_one_of_two_people(tmp_path):
    cut_out(tmp_path / "a.png", slice(40, 60), slice(30, 40))
    write_png(tmp_path / "b.png", torch.ones(3, 80, 60))
    for name in "ab":
        _, alpha, advice = fit(tmp_path / f"{name}.png", box=(30, 40, 40, 60))
        assert extent(alpha) == (8, 56, 20, 44)
        assert (advice is None) == (name == "a")


def test_a_photo_without_alpha_or_box_is_taken_whole_with_advice(tmp_path):
    write_png(tmp_path / "a.png", torch.zeros(3, 128, 64))
    _, alpha, advice = fit(tmp_path / "a.png")
    assert extent(alpha) == (0, 64, 16, 48)
    assert advice is not None and "alpha" in advice and "box=" in advice


def test_a_wide_person_fits_into_the_picture(tmp_path):
    cut_out(tmp_path / "a.png", slice(0, 10), slice(0, 60))
    _, alpha, _ = fit(tmp_path / "a.png")
    assert extent(alpha)[2:] == (0, 64)


@pytest.mark.parametrize("box", [(0, 0, 61, 80), (-1, 0, 10, 10), (10, 0, 10, 10), (0, 20, 10, 10)])
def test_a_box_outside_the_photo_is_refused(tmp_path, box):
    cut_out(tmp_path / "a.png", slice(0, 10), slice(0, 60))
    with pytest.raises(DataError, match=r"a\.png.*60 pixels wide and 80 high"):
        fit(tmp_path / "a.png", box=box)


def test_an_empty_alpha_is_refused(tmp_path):
    cut_out(tmp_path / "a.png", slice(0, 10), slice(0, 60))
    with pytest.raises(DataError, match="covers nothing inside box="):
        fit(tmp_path / "a.png", box=(0, 20, 30, 40))
    cut_out(tmp_path / "a.png", slice(0, 0), slice(0, 0))
    with pytest.raises(DataError, match="covers nothing;"):
        fit(tmp_path / "a.png")


def test_people_are_as_tall_as_in_the_training_photos(config):
    from hvg.config.build import build_dataset

    clips = build_dataset(config, "train")
    heights = []
    for index in range(3):
        top, bottom, _, _ = extent(clips.load(index).reference.alpha[0, 0, 0])
        heights.append((bottom - top) / 32)
    settings = config.dataset.config
    expected = person_fraction(settings.distance, settings.fov_degrees, (32, 32))
    # People differ by 5 %; three of them, in pixels of 3 %.
    assert abs(sum(heights) / 3 - expected) < 0.08
    assert person_fraction(settings.distance, settings.fov_degrees, (64, 32)) == pytest.approx(expected / 2)


# --- cameras ----------------------------------------------------------------------------------------------------------


def still(views=2, size=(64, 48)):
    return around(
        torch.tensor([0.1, 0.9, 0.2]), views, elevation_degrees=7.0, distance=3.0, fov_degrees=40.0, image_size=size
    )


def test_cameras_come_back_from_their_file_to_the_last_bit(tmp_path):
    path = still()
    moving = path.cameras.expand(2, 3)
    shift = torch.eye(4).expand(2, 3, 4, 4).clone()
    shift[1, :, 0, 3] = torch.tensor([0.0, 0.1, 0.3])
    moving = type(moving)(
        world_to_camera=shift @ moving.world_to_camera, intrinsics=moving.intrinsics, image_size=moving.image_size
    )
    for cameras, frames in ((path.cameras.expand(2, 5), None), (moving, 3)):
        write_cameras(tmp_path / "cameras.json", cameras, path.names)
        found = read_cameras(tmp_path / "cameras.json")
        assert found.names == path.names == ("0 degrees", "180 degrees") and found.num_frames == frames
        assert found.cameras.image_size == (64, 48)
        expanded = found.cameras.expand(*cameras.shape)
        assert torch.equal(expanded.world_to_camera, cameras.world_to_camera)
        assert torch.equal(expanded.intrinsics, cameras.intrinsics)
    views = json.loads((tmp_path / "cameras.json").read_text())["views"]
    # A camera that stands still is one matrix, one that moves a list.
    assert torch.tensor(views[0]["world_to_camera"]).shape == (4, 4)
    assert torch.tensor(views[1]["world_to_camera"]).shape == (3, 4, 4)


FAULTS = {
    "shape": (
        lambda f: f["views"][1].update(world_to_camera=[[1, 0], [0, 1]]),
        r"views\[1\].world_to_camera has shape",
    ),
    "ragged": (lambda f: f["views"][1]["world_to_camera"][0].pop(), "rows differ in length"),
    "scale": (lambda f: _scale(f["views"][1]["world_to_camera"], 1.01), r"no rigid motion.*0\.02"),
    "mirror": (lambda f: _scale(f["views"][1]["world_to_camera"][:1], -1), "mirrors the world"),
    "transposed": (lambda f: f["views"][1]["world_to_camera"][3].__setitem__(0, 0.5), "last row"),
    "nan": (lambda f: f["views"][1]["intrinsics"][0].__setitem__(0, float("nan")), "NaN"),
    "focal": (lambda f: f["views"][1]["intrinsics"][0].__setitem__(0, -50.0), "no camera matrix"),
    "missing": (lambda f: f["views"][1].pop("intrinsics"), r"views\[1\].intrinsics is missing"),
    "misspelt": (lambda f: f["views"][1].update(intrinsic=1), "Did you mean 'intrinsics'"),
    "size": (lambda f: f.update(image_size=64), "image_size is 64"),
    "none": (lambda f: f.update(views=[]), "at least one camera"),
    "frames": (lambda f: _repeat(f["views"]), "2 and 3 frames"),
    "beyond single precision": (lambda f: f["views"][1]["world_to_camera"][0].__setitem__(3, 1e300), "beyond 3e38"),
    "large number": (lambda f: f["views"][1]["intrinsics"][0].__setitem__(0, 10**400), "too large"),
    "large size": (lambda f: f.update(image_size=[10**9, 10**9]), r"image_size is \[1000000000.*at most 67 million"),
    "larger size": (lambda f: f.update(image_size=[10**400, 1]), "at most 67 million"),
    "two lines": (
        lambda f: f["views"][1].update(name="a\nb"),
        r'views\[1\].name: "a\\nb" cannot be a name',
    ),
}


def _scale(rows, factor):
    for row in rows[:3]:
        row[:3] = [x * factor for x in row[:3]]


def _repeat(views):
    for view, frames in zip(views, (2, 3), strict=True):
        view["world_to_camera"] = [view["world_to_camera"]] * frames


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_camera_is_one_line_that_says_where(tmp_path, fault):
    path, (damage, message) = tmp_path / "cameras.json", FAULTS[fault]
    write_cameras(path, still().cameras, still().names)
    tree = json.loads(path.read_text())
    damage(tree)
    path.write_text(json.dumps(tree))
    with pytest.raises(DataError, match=message) as caught:
        read_cameras(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_no_json_is_named(tmp_path):
    (tmp_path / "cameras.json").write_text("{")
    with pytest.raises(DataError, match=r"cameras\.json: cannot be read as JSON"):
        read_cameras(tmp_path / "cameras.json")


@pytest.mark.parametrize("depth", [900, 100_000])
def test_deep_nesting_is_one_line(tmp_path, depth):
    for text in ("[" * depth + "]" * depth, '{"image_size": ' + "[" * depth + "]" * depth + "}"):
        (tmp_path / "cameras.json").write_text(text)
        with pytest.raises(DataError, match=r"cameras\.json: (is nested too deeply|holds|image_size is)") as caught:
            read_cameras(tmp_path / "cameras.json")
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_presets_have_their_views(config, body):
    for camera, views, expected in (("orbit", 3, 3), ("orbit", None, 2), ("static", None, 1), ("front_back", None, 2)):
        chosen = options(camera=camera, views=views, frames=2)
        assert camera_file(chosen) is None
        path = preset(chosen, training_framing(config, chosen, None), body, 0)
        assert len(path.names) == expected and path.cameras.shape == (expected, 1) and path.num_frames is None
    with pytest.raises(HvgError, match="static"):
        camera_file(options(camera="static", views=2))


def test_cameras_of_a_preset_may_move(config, body):
    moved = {"arc_degrees": -30.0, "dolly": 0.5, "shake_degrees": 0.0}
    chosen = options(camera="orbit", views=3, frames=5, **moved)
    framing = training_framing(config, chosen, None)
    path = preset(chosen, framing, body, 0)
    assert path.cameras.shape == (3, 5) and path.num_frames == 5
    found = camera_moves(path.cameras, 3.0)
    expected = torch.zeros(8)
    expected[MOVES.index("orbit")], expected[MOVES.index("push")] = -30.0, 0.5
    torch.testing.assert_close(found, expected.expand(3, 8), atol=0.02, rtol=1e-3)
    by_hand = [preset(options(camera="static", frames=5, shake_degrees=1.0), framing, body, s) for s in (0, 0, 1)]
    poses = [path.cameras.world_to_camera for path in by_hand]
    assert torch.equal(poses[0], poses[1]) and not torch.equal(poses[0], poses[2])
    with pytest.raises(HvgError, match=r"dolly=9 goes to the person, 3\.2 m away"):
        preset(options(dolly=9.0), framing, body, 0)


def test_a_misspelt_preset_is_corrected(tmp_path):
    with pytest.raises(HvgError, match="Did you mean 'orbit'"):
        camera_file(options(camera="orbitt"))
    with pytest.raises(DataError, match="no such file"):
        camera_file(options(camera="cameras.json"))


def test_a_camera_file_decides_size_views_and_frames(config, tmp_path):
    path = tmp_path / "cameras.json"
    moving = still().cameras.expand(2, 3)
    moving.world_to_camera.data = moving.world_to_camera.clone()
    moving.world_to_camera[0, 1, 0, 3] += 0.1
    write_cameras(path, moving, still().names)
    chosen = options(camera=str(path))
    framing = training_framing(config, chosen, camera_file(chosen))
    assert (framing.image_size, framing.views, framing.frames) == ((64, 48), 2, 3)
    with pytest.raises(HvgError, match=r"frames=4.*move for 3"):
        training_framing(config, options(camera=str(path), frames=4), read_cameras(path))
    with pytest.raises(HvgError, match="distance="):
        camera_file(options(camera=str(path), distance=2.0))
    with pytest.raises(HvgError, match=r"arc_degrees= cannot be given together"):
        camera_file(options(camera=str(path), arc_degrees=20.0))
    with pytest.raises(HvgError, match=r"views=3.*holds 2"):
        camera_file(options(camera=str(path), views=3))


# --- notes ------------------------------------------------------------------------------------------------------------


def clip(body, cameras):
    return ClipBatch(cameras=cameras.expand(cameras.shape[0], 2)[None], clip_id=("a",), subject=("a",), body=body)


def test_what_leaves_the_picture_or_begins_sideways_is_told(body):
    front = clip(body, still().cameras)
    assert first_view_note(front) is None
    # The cameras stand around a point beside the pelvis.
    sideways = still(4).cameras[1:]
    assert "86 degrees" in (first_view_note(clip(body, sideways)) or "")
    assert "1 of 2 frames" in (out_of_sight_note(front) or "")
    assert out_of_sight_note(front.select(frames=[0])) is None


# --- motion ---------------------------------------------------------------------------------------------------------


def walked(frames=3000, rate=30.0):
    """A motion of that many frames."""
    return Motion(rotations={"pelvis": torch.zeros(frames, 3)}, frames_per_second=rate)


def places(motion, frames=None, **given):
    return motion_places(motion, frames, **{"evenly": 4, "frames_per_second": 8.0, **given})


def test_a_long_motion_in_few_frames_is_told():
    taken = places(walked())
    assert taken.tolist() == pytest.approx([0, 999.667, 1999.333, 2999], abs=1e-3)
    note = places_note(walked(), taken, 8.0)
    assert "the video's 4 frames are 0, 999.7, 1999.3, 2999, in between interpolated of the motion's 3000" in note
    assert "267 times faster than the motion (recorded at 30 frames a second)" in note and "real_time=true" in note


def test_a_part_of_a_motion_is_taken_by_start_end_and_stride():
    assert places(walked(), start=10, end=21, frames=3).tolist() == [10, 15, 20]
    assert places(walked(), start=10, end=21, stride=5).tolist() == [10, 15, 20]
    assert places(walked(), start=10, end=20, stride=5).tolist() == [10, 15]
    assert places(walked(), start=10, stride=100, frames=2).tolist() == [10, 110]
    assert len(places(walked(), stride=1)) == 3000
    assert "0 to 2995, every 5 frames" in places_note(walked(), places(walked(), stride=5), 8.0)


def test_real_time_takes_the_nearest_frames_and_is_as_fast_as_the_motion():
    taken = places(walked(31), real_time=True)
    assert taken.tolist() == [0, 4, 8, 11, 15, 19, 22, 26, 30]
    note = places_note(walked(31), taken, 8.0)
    assert "0 to 30, on average every 3.75 frames" in note and "as fast as the motion" in note
    # A video of more frames a second shows some of the motion's twice.
    assert places(walked(3, rate=4.0), real_time=True).tolist() == [0, 0, 1, 2, 2]
    # Television's rates are what they stand for: no frame comes twice, and none is left out.
    for rate, shown in ((30000 / 1001, 30.0), (30.0, 30000 / 1001), (60000 / 1001, 60.0), (24000 / 1001, 24.0)):
        assert places(walked(3000, rate=rate), real_time=True, frames_per_second=shown).tolist() == list(range(3000))
    halved = places(walked(3000, rate=60000 / 1001), real_time=True, frames_per_second=30.0)
    assert halved.tolist() == list(range(0, 3000, 2))
    # Rates that are others stay others.
    assert len(places(walked(3000, rate=25.0), real_time=True, frames_per_second=24.0)) == 2880
    unknown = walked(31, rate=None)
    assert "taken to be 30 frames a second" in places_note(unknown, places(unknown, real_time=True), 8.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"start": 3000}, "start=3000: the motion has 3000 frames"),
        ({"end": 3001}, "start=0 end=3001: the motion has 3000 frames"),
        ({"start": 8, "end": 8}, "give 0 <= start < end <= 3000"),
        ({"stride": 2, "real_time": True}, "stride=2 and real_time=true both say"),
        ({"stride": 1000, "frames": 4}, "frames=4: with stride=1000 the motion's frames 0 to 2999 give 3"),
        ({"real_time": True, "frames": 9000}, "frames=9000: with real_time=true at frames_per_second=8"),
    ],
)
def test_frames_that_the_motion_does_not_have_are_refused(given, message):
    with pytest.raises(HvgError, match=message):
        places(walked(), **given)


def test_one_frame_needs_no_speed():
    assert places_note(walked(1), places(walked(1), frames=1), 8.0).endswith("of the motion's 1 (counted from 0)")


def test_who_does_not_stand_is_told_and_what_to_say(config, tmp_path):
    # SMPL's 72 numbers in a world with y up, in a key that AMASS uses with z up.
    np.savez(tmp_path / "dance.npz", poses=np.zeros((2, 72)))
    notes = {}
    for up in ("auto", "y"):
        lying = build_part(config.body).animate(load_motion(tmp_path / "dance.npz", up), None, mesh=False)
        notes[up] = upright_note(clip(lying, still().cameras), up)
    assert notes["y"] is None
    assert "degrees from upright" in notes["auto"] and notes["auto"].endswith("up=y or up=-y or up=z or up=-z")


# --- prompts --------------------------------------------------------------------------------------------------------


class Text(Conditioner):
    """Reads a caption."""

    requires = frozenset({"caption"})

    @classmethod
    def spec(cls, config, ports):
        return ConditioningSpec()

    def forward(self, signal, batch):
        return Conditioning()


def test_a_prompt_that_a_part_reads_has_to_be_given(config):
    text = PartChoice("conditioner", "text", Text, ConditionerConfig())
    reading = config.model_copy(update={"slots": {"prompt": text}})
    with pytest.raises(HvgError, match=r"prompt: slots.prompt=text reads what the video shows.*give prompt="):
        check_fields(reading, options())
    check_fields(reading, options(prompt=""))
    check_fields(config, options())
    assert prompt_note(reading, options(prompt="a man")) is None
    assert "no part of this model reads" in (prompt_note(config, options(prompt="a man")) or "")
    assert prompt_note(config, options()) is None


@pytest.mark.parametrize("given", ["a man, in red: 1:30", "ein Mädchen läuft 跑步", "[1,2]", "null and void", "3"])
@pytest.mark.parametrize("quotes", ["{}", "'{}'", '"{}"'])
def test_a_prompt_is_what_it_says(given, quotes):
    words = ["checkpoint=a", "reference=b", "motion=c", f"prompt={quotes.format(given)}"]
    assert take_options(words, SampleOptions)[0].prompt == given


# --- words ------------------------------------------------------------------------------------------------------------


def test_sampling_changes_after_training_and_nothing_else(config):
    changed = recompose(config, ["sampler.overlap=1", "sampler=temporal", "sampler.frames=5", "evaluation.steps=7"])
    assert changed.sampler.name == "temporal"
    assert (changed.sampler.config.frames, changed.sampler.config.overlap) == (5, 1)
    assert changed.evaluation.steps == 7 and changed.evaluation.clips == config.evaluation.clips
    assert changed.model_copy(update={"sampler": config.sampler, "evaluation": config.evaluation}).to_yaml() == (
        config.to_yaml()
    )
    assert recompose(config, []).to_yaml() == config.to_yaml()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pose=skeleton"], "pose: cannot change after training"),
        (["training.steps=3"], "training: cannot change after training"),
        (["scale=gpu"], "scale: cannot change after training"),
        (["sampler=progresive"], "Did you mean 'progressive'"),
        (["sampler=temporal", "sampler=view"], "chosen 2 times"),
        (["sampler.viewss=3", "evaluation.step=2"], "Did you mean 'steps'"),
        (["~sampler"], "cannot be left out"),
        (["evaluation={steps: 2}"], "is a section"),
        (["sampler=temporal,view"], "--multirun"),
        (["guidance.value=3"], "needs a slot that is dropped"),
    ],
)
def test_wrong_words_are_told_as_in_training(config, words, message):
    with pytest.raises(ConfigError, match=message):
        recompose(config, words)


def test_uint8_of_a_photo_is_that_of_the_file(tmp_path):
    image = torch.rand(3, 48, 64) * 2 - 1
    write_png(tmp_path / "a.png", image)
    frames, _, _ = fit(tmp_path / "a.png", box=(0, 0, 64, 48), fraction=1.0)
    assert torch.equal(frames_to_uint8(frames)[:, 8:56], frames_to_uint8(image))


# --- memory -----------------------------------------------------------------------------------------------------------


def test_a_photo_is_made_smaller_with_the_same_bits_a_channel_at_a_time(tmp_path):
    photo, alpha = torch.randint(0, 256, (2, 3, 50, 40), dtype=torch.uint8).unbind(0)
    found = place(photo, alpha[:1], (32, 24), 0.75, (1.0, 0.5, 0.0))
    cover = alpha[:1].float() / 255
    together = torch.cat([(frames_from_uint8(photo) + 1) / 2 * cover, cover])
    small = torch.nn.functional.interpolate(together[None], (24, 19), mode="bilinear", antialias=True)[0].clamp(0, 1)
    assert torch.equal(required(found.alpha, "alpha")[0, 0, :, 4:28, 2:21], small[3:])
    behind = torch.tensor([1.0, 0.5, 0.0])[:, None, None]
    assert torch.equal(found.frames[0, 0, :, 4:28, 2:21], (small[:3] + (1 - small[3:]) * behind) * 2 - 1)


@pytest.mark.parametrize(
    ("views", "frames", "side", "fits"),
    [(1, 8, 8192, "image_size=[2048,2048]"), (3000, 8, 64, "views="), (4, 10**9, 64, "frames=")],
)
def test_a_request_that_needs_too_much_memory_is_refused_with_what_would_fit(config, views, frames, side, fits):
    system = build_system(config)
    size = Size(views=views, frames=frames, image_size=(side, side))
    with pytest.raises(HvgError) as refused:
        check_memory(system, size, 8)
    said = str(refused.value)
    assert "\n" not in said and "GB of memory besides the model, and memory=8 is allowed" in said and fits in said
    assert f"give memory={int(estimated_bytes(system, size) / 1e9) + 1}" in said
    check_memory(system, Size(views=8, frames=24, image_size=(512, 512)), 8)
    check_memory(system, size, estimated_bytes(system, size) / 1e9 + 1)


def test_what_a_second_model_refines_is_counted(config):
    system, alone = build_system(config), Size(views=3, frames=5, image_size=(64, 32))
    found = [
        estimated_bytes(system, replace(alone, refined=views)) - estimated_bytes(system, alone) for views in (1, 3)
    ]
    assert found == [3 * 5 * 64 * 32 * (3 + 8 * views) for views in (1, 3)]


def test_a_grid_is_counted_up_to_what_it_shows(config):
    system = build_system(config)

    def more(views: int) -> int:
        size = Size(views=views, frames=5, image_size=(64, 64))
        return estimated_bytes(system, replace(size, grid=True)) - estimated_bytes(system, size)

    cells = {views: 2 * min(views, MOST_VIEWS) + 2 for views in (1, MOST_VIEWS, 4 * MOST_VIEWS)}
    assert {views: more(views) for views in cells} == {
        views: 2 * (ENCODER_BYTES + ENCODER_BYTES_PER_PIXEL * count * CELL**2) for views, count in cells.items()
    }


def test_memory_is_judged_before_anything_is_made(config):
    system, motion = build_system(config), Motion(rotations={"pelvis": torch.zeros(2, 3)})
    requests = ({"views": 1024, "image_size": 256, "frames": 8}, {"image_size": 8192}, {"frames": 65_536})
    for request in requests:
        with pytest.raises(HvgError, match="GB of memory besides the model"):
            make_clip(system, config, options(**request), motion, None)
    cameras = still(views=2, size=(8192, 8192))
    with pytest.raises(HvgError, match="8192 x 8192 pixels need about"):
        make_clip(system, config, options(camera="a.json"), motion, cameras)
