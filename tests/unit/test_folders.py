"""Scoring folders: which layouts are understood, and how everything that is wrong with one is said."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from footage import read_video_8bit
from PIL import Image

from hvg import cli
from hvg.config.command_options import FolderOptions
from hvg.config.composition import compose
from hvg.core.eight_bit import frames_from_uint8, resize_8bit
from hvg.core.errors import HvgError
from hvg.media.folder_clips import find_clips
from hvg.media.folder_video import Video, time_note
from hvg.media.video import write_video
from hvg.score.evaluation_record import ClipRecord, read_measurements, read_record
from hvg.score.folders import evaluate_folders, load_clip
from hvg.score.measured_clips import MeasuredClip, finished
from hvg.score.protocol import build_protocol
from hvg.values.scored_clip import ScoredClip

ROOT = Path(__file__).parents[2]
SIZE = 16
# Without masks these have no value.
ON_PEOPLE = {"psnr_foreground", "mask_iou"}


def pictures(seed: int, frames: int = 3, height: int = SIZE, width: int = SIZE) -> torch.Tensor:
    """(T, 3, H, W) uint8."""
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (frames, 3, height, width), generator=random, dtype=torch.uint8)


def save(path: Path, image: torch.Tensor, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = image.movedim(0, -1).numpy()
    Image.fromarray(pixels[..., 0] if mode == "L" else pixels, mode).save(path)


def save_frames(folder: Path, video: torch.Tensor, name: str = "{:04d}.png", first: int = 1) -> None:
    for number, image in enumerate(video, start=first):
        save(folder / name.format(number), image)


def both(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "reference", tmp_path / "made"


def options(tmp_path: Path, **more) -> FolderOptions:
    truth, made = both(tmp_path)
    return FolderOptions(predictions=made, reference=truth, **more)


def evaluate(tmp_path: Path, *overrides: str, **more):
    found = evaluate_folders(options(tmp_path, **more), overrides, lambda done, total: None)
    assert found is not None
    return found


def load(tmp_path: Path, name: str, **more) -> ScoredClip:
    """The clip as ``load_clip`` finds it in both folders."""
    given = options(tmp_path, **more)
    masks = None if given.masks is None else find_clips(given.masks)
    return load_clip(name, find_clips(given.predictions), find_clips(given.reference), masks, given)


def test_simple_pictures_are_scored_besides_as_asked_for(tmp_path):
    """Folders hold no photo, so that it is not among them."""
    for folder, seed in zip(both(tmp_path), (0, 1), strict=True):
        save_frames(folder / "a", pictures(seed))
    for asked, expected in (("none", []), ("truth", ["truth"]), ("all", ["truth", "blurred_truth", "blank"])):
        _, problems, path = evaluate(tmp_path, "protocol=disco_fixed", anchors=asked, out=tmp_path / asked)
        record = read_record(path)
        assert list(record.get("anchors", {})) == expected and not problems
    assert record["anchors"]["truth"]["psnr"] > record["anchors"]["blurred_truth"]["psnr"]


# --- layouts ---


def test_a_video_a_folder_of_frames_and_a_folder_of_views_are_clips(tmp_path):
    folder = tmp_path
    smooth = frames_from_uint8(pictures(0).float().mean((-1, -2), keepdim=True).expand(-1, -1, SIZE, SIZE).byte())
    write_video(folder / "walk.mp4", smooth, fps=4)
    save_frames(folder / "turn", pictures(1))
    write_video(folder / "orbit" / "cam2.mp4", smooth, fps=4)
    write_video(folder / "orbit" / "cam10.mp4", smooth, fps=4)
    save_frames(folder / "jump" / "left", pictures(2))
    save_frames(folder / "jump" / "right", pictures(3))
    (folder / "notes.txt").write_text("no clip")
    (folder / ".hidden").mkdir()
    clips = find_clips(folder)
    assert {name: list(clip.views) for name, clip in clips.items()} == {
        "jump": ["left", "right"],
        "orbit": ["cam2", "cam10"],
        "turn": [""],
        "walk": [""],
    }
    given = FolderOptions(predictions=folder, reference=folder)
    loaded = {name: load_clip(name, clips, clips, None, given) for name in clips}
    assert {name: clip.grid for name, clip in loaded.items()} == {
        "jump": (2, 3),
        "orbit": (2, 3),
        "turn": (1, 3),
        "walk": (1, 3),
    }
    assert torch.equal(loaded["turn"].truth[0], pictures(1))
    assert torch.equal(loaded["jump"].prediction, torch.stack([pictures(2), pictures(3)]))
    assert torch.equal(loaded["walk"].truth[0], read_video_8bit(folder / "walk.mp4")[0])


def test_frames_in_the_folder_itself_are_cut_into_runs_of_numbers(tmp_path):
    names = [
        *("dance_00001_0009", "dance_00001_0010", "dance_00001_0011"),
        "dance_00001_0013",  # A number is missing before it.
        *("dance_337_1", "dance_337_2"),
        *("walk-8", "walk-9", "walk-10", "walk-11"),
        *("099", "100"),
        "portrait",
    ]
    for name in names:
        save(tmp_path / f"{name}.png", pictures(0)[0])
    frames = {name: list(clip.views[""]) for name, clip in find_clips(tmp_path).items()}
    assert frames == {
        "099": ["099", "100"],
        "dance_00001_0009": ["dance_00001_0009", "dance_00001_0010", "dance_00001_0011"],
        "dance_00001_0013": ["dance_00001_0013"],
        "dance_337_1": ["dance_337_1", "dance_337_2"],
        "portrait": ["portrait"],
        "walk-8": ["walk-8", "walk-9", "walk-10", "walk-11"],
    }


def test_frames_come_in_the_order_of_their_numbers(tmp_path):
    truth, made = both(tmp_path)
    video = pictures(0, frames=12)
    save_frames(truth / "clip", video, "frame-{}.png")
    save_frames(made / "clip", video, "frame-{}.png")
    assert torch.equal(load(tmp_path, "clip").truth[0], video)


def test_a_name_is_matched_without_its_suffix(tmp_path):
    truth, made = both(tmp_path)
    save_frames(truth / "clip.v2", pictures(0))
    save_frames(made / "clip.v2", pictures(0), "{:04d}.jpg")
    write_video(truth / "clip.mp4", frames_from_uint8(pictures(0)), fps=4)
    save_frames(made / "clip", pictures(1), "{:d}.webp")
    assert list(find_clips(truth)) == list(find_clips(made)) == ["clip", "clip.v2"]
    # Frames of a video have no names; they are only counted.
    assert load(tmp_path, "clip").grid == load(tmp_path, "clip.v2").grid == (1, 3)


# --- scores ---


def test_scores_of_files_are_those_of_the_same_arrays(tmp_path):
    truth, made = both(tmp_path)
    true, predicted = [torch.stack([pictures(seed), pictures(seed + 1)]) for seed in (0, 10)]
    coverage = (pictures(20, frames=6).view(2, 3, 3, SIZE, SIZE)[:, :, :1] > 100) * torch.tensor(255, dtype=torch.uint8)
    for view in range(2):
        save_frames(truth / "clip" / f"cam{view}", true[view])
        save_frames(made / "clip" / f"cam{view}", predicted[view])
        for number, mask in enumerate(coverage[view], start=1):
            save(tmp_path / "masks" / "clip" / f"cam{view}" / f"{number:04d}.png", mask, mode="L")
    lines, problems, path = evaluate(tmp_path, masks=tmp_path / "masks")
    record = read_record(path)
    assert not problems and record["problems"] == []

    protocol = build_protocol(compose(), torch.device("cpu"))
    clip = ScoredClip(
        clip_id="clip",
        subject="clip",
        prediction=predicted,
        truth=true,
        valid=torch.ones(2, 3, dtype=torch.bool),
        alpha=coverage[:, :, 0] / 255,
    )
    kept = protocol.measure(clip)
    expected = finished(protocol, {0: MeasuredClip(ClipRecord(clip_id="clip", subject="clip", azimuths=None), kept)})
    assert record["values"] == json.loads(json.dumps(expected.values))
    assert all(score["value"] is not None for score in record["values"].values())
    for label, measurement in kept.items():
        stored = read_measurements(path, record, label)["clip"]
        assert all(np.array_equal(stored[name], array, equal_nan=True) for name, array in measurement.items())
    # What is printed: the protocol, and for every metric its value and how exactly it was computed.
    assert lines[0] == "protocol basic/v2"
    for label, score in record["values"].items():
        assert any(line.startswith(label) and line.endswith(score["definition"]) for line in lines)


BROKEN = """
    from hvg.parts.metric import Metric, Score; from hvg.parts.part import PartConfig

    class Part(Metric):
        '''Fails where it is told to.'''

        class Config(PartConfig):
            where: str = "measure"

        definition = "broken/v1"

        def __init__(self, config, context):
            self.config = config
            if config.where == "init":
                context.networks.file("mine")

        def measure(self, clip):
            return {"mean": clip.prediction.mean()} if self.config.where == "measure" else {"mean": 1.0}

        def reduce(self, kept):
            raise KeyError("mean")
"""


@pytest.mark.parametrize(
    ("where", "reason"), [("init", "AttributeError"), ("measure", "RuntimeError"), ("reduce", "KeyError: 'mean'")]
)
def test_a_metric_that_fails_is_named_and_the_exit_code_says_so(tmp_path, package, capsys, where, reason):
    package({"metric.broken": BROKEN})
    truth, made = both(tmp_path)
    save_frames(truth / "clip", pictures(0))
    save_frames(made / "clip", pictures(1))
    words = ["+protocol.metrics.mine.name=broken", f"+protocol.metrics.mine.where={where}"]
    assert cli.run(["evaluate", f"predictions={made}", f"reference={truth}", *words]) == 1
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    assert f"metric mine: failed with {reason}" in said.err and f"not available: failed with {reason}" in said.out
    values = read_record(tmp_path / "made-basic")["values"]
    assert values["psnr"]["value"] is not None and values["mine"]["value"] is None
    assert any("metric_broken.py" in line for line in values["mine"].get("traceback", []))


def test_where_the_results_lie_and_what_they_say_of_their_origin(tmp_path, monkeypatch):
    truth, made = both(tmp_path)
    save_frames(truth / "person1_walk", pictures(0))
    save_frames(made / "person1_walk", pictures(1))
    _, _, path = evaluate(tmp_path)
    assert path == tmp_path / "made-basic" / "results.json"
    monkeypatch.chdir(made)
    given = FolderOptions(predictions=Path("."), reference=Path("../reference"), subject=r"(person\d+)_.*")
    before = path.read_bytes()
    with pytest.raises(HvgError, match=r"made-basic is not empty .*overwrite=true"):
        evaluate_folders(given, (), lambda done, total: None)
    assert path.read_bytes() == before
    again = given.model_copy(update={"overwrite": True})
    found = evaluate_folders(again, (), lambda done, total: None)
    assert found is not None and found[2] == path
    record = read_record(path)
    assert record["scored"] == ". against ../reference"
    assert [clip["subject"] for clip in record["clips"]] == ["person1"]
    assert record["seeds"] == {"training": None, "sampling": None}


def test_metrics_of_people_say_that_they_need_masks(tmp_path):
    truth, made = both(tmp_path)
    save_frames(truth / "clip", pictures(0))
    save_frames(made / "clip", pictures(1))
    lines, problems, path = evaluate(tmp_path)
    values = read_record(path)["values"]
    assert not problems
    # One view has no change between views.
    assert {label for label, score in values.items() if score["value"] is None} == ON_PEOPLE | {"dvssd"}
    assert all("needs alpha" in values[label]["unavailable"] for label in ON_PEOPLE)
    assert any(line.startswith("mask_iou") and "not available: needs alpha" in line for line in lines)


def test_a_mask_is_applied_by_the_protocol(tmp_path):
    truth, made = both(tmp_path)
    person = torch.zeros(3, 1, SIZE, SIZE, dtype=torch.uint8)
    person[..., 4:12, 4:12] = 255
    true = pictures(0)
    # Equal on the person, different around it.
    save_frames(truth / "clip", true)
    save_frames(made / "clip", true.where(person > 0, pictures(1)))
    save_frames(tmp_path / "masks" / "clip", person.expand(-1, 3, -1, -1))
    with pytest.raises(Exception, match="give masks=FOLDER"):
        evaluate(tmp_path, "protocol.mask=truth")
    masks = tmp_path / "masks"
    values = {
        mask: read_record(evaluate(tmp_path, f"protocol.mask={mask}", masks=masks, out=tmp_path / mask)[2])
        for mask in ("none", "truth")
    }
    assert values["truth"]["values"]["l1"]["value"] == 0 < values["none"]["values"]["l1"]["value"]
    assert values["truth"]["protocol"]["id"] == "basic/v2+changes" and values["none"]["protocol"]["id"] == "basic/v2"


# --- what is wrong ---


def test_everything_wrong_is_listed_and_the_rest_is_scored(tmp_path, capsys):
    truth, made = both(tmp_path)
    for name in ("good", "gap", "short", "small", "cut", "empty-file", "text", "clear", "lone", "nothing", "two"):
        save_frames(truth / name, pictures(0))
        if name != "lone":
            save_frames(made / name, pictures(1))
    save_frames(made / "extra", pictures(1))
    (made / "gap" / "0002.png").unlink()
    for kind, frames in (("short", 3), ("long", 5)):
        write_video(made / f"{kind}.mp4", frames_from_uint8(pictures(0, frames)), fps=4)
    save_frames(truth / "long", pictures(0))
    for path in (made / "short").iterdir():
        path.unlink()
    (made / "short").rmdir()
    save_frames(truth / "short", pictures(0, frames=4))
    save_frames(made / "small", pictures(1, height=12, width=10))
    cut = made / "cut" / "0002.png"
    cut.write_bytes(cut.read_bytes()[:-200])
    (made / "empty-file" / "0003.png").write_bytes(b"")
    (made / "text" / "0001.png").write_text("no picture")
    save(made / "clear" / "0001.png", torch.cat([pictures(1)[0], pictures(2)[0, :1]]), mode="RGBA")
    for path in (made / "nothing").iterdir():
        path.unlink()
    write_video(made / "two.mp4", frames_from_uint8(pictures(0)), fps=4)
    save_frames(truth / "torn", pictures(0))
    write_video(made / "torn.mp4", frames_from_uint8(pictures(0)), fps=4)
    (made / "torn.mp4").write_bytes((made / "torn.mp4").read_bytes()[:-800])
    save_frames(truth / "uneven", pictures(0))
    save_frames(made / "uneven", pictures(0))
    save(made / "uneven" / "0003.png", pictures(0, height=8)[0])
    save_frames(truth / "turned" / "front", pictures(0))
    save_frames(made / "turned", pictures(0))
    save_frames(truth / "views" / "front", pictures(0))
    save_frames(truth / "views" / "back", pictures(0))
    save_frames(made / "views" / "front", pictures(0))
    save_frames(truth / "double", pictures(0))
    save_frames(made / "double", pictures(0))
    save(made / "double" / "0002.jpg", pictures(0)[0])
    save_frames(truth / "mixed", pictures(0))
    save_frames(made / "mixed", pictures(0))
    save_frames(made / "mixed" / "front", pictures(0))

    assert cli.run(["evaluate", f"predictions={made}", f"reference={truth}"]) == 1
    shown = capsys.readouterr()
    found = dict(line.strip().split(": ", 1) for line in shown.err.splitlines() if line.startswith("  "))
    expected = {
        "lone": "there is no prediction",
        "extra": "a prediction without a reference",
        "gap": "1 of 3 frames are missing, first '0002'",
        "short": "the prediction has 3 frames, the reference 4",
        "long": "the prediction has 5 frames, the reference 3",
        "small": "the prediction is 10 x 12 pixels, the reference 16 x 16",
        "cut": str(cut),
        "empty-file": str(made / "empty-file" / "0003.png"),
        "text": str(made / "text" / "0001.png"),
        "clear": "background=white or black",
        "nothing": f"{made / 'nothing'}: the folder holds no pictures",
        "two": f"{made}: two clips are named 'two'",
        "torn": f"{made / 'torn.mp4'}: the video cannot be read",
        "uneven": f"{made / 'uneven' / '0003.png'} is 16 x 8, the frames before it are 16 x 16",
        "turned": "the reference is a folder of 1 views, the prediction a single video",
        "views": "1 of 2 views are missing, first 'back'",
        "double": f"two images have one name: {made / 'double' / '0002.jpg'} and 0002.png",
        "mixed": f"{made / 'mixed'} holds frames and also 'front'",
    }
    assert found.keys() == expected.keys()
    assert not {name: found[name] for name, message in expected.items() if message not in found[name]}
    assert f"{len(expected)} not scored:" in shown.err and "Traceback" not in shown.err
    record = read_record(tmp_path / "made-basic")
    assert [clip["clip_id"] for clip in record["clips"]] == ["good"]
    assert len(record["problems"]) == len(expected)
    assert "N = 3 frames" in shown.out


def test_a_run_of_frames_with_a_hole_is_not_scored_as_a_shorter_one(tmp_path):
    truth, made = both(tmp_path)
    for folder, numbers in ((truth, range(1, 6)), (made, (1, 2, 4, 5))):
        for number in numbers:
            save(folder / f"dance_{number:04d}.png", pictures(number)[0])
    save_frames(truth, pictures(0), "walk_{:d}.png")
    save_frames(made, pictures(1), "walk_{:d}.jpg")
    _, problems, path = evaluate(tmp_path)
    assert problems == [
        "dance_0004: a prediction without a reference",
        "dance_0001: 3 of 5 frames are missing, first 'dance_0003'",
    ]
    assert [clip["clip_id"] for clip in read_record(path)["clips"]] == ["walk_1"]


def test_sizes_are_brought_together_only_where_the_protocol_says_so(tmp_path):
    truth, made = both(tmp_path)
    true, predicted = pictures(0), pictures(1, height=24, width=20)
    save_frames(truth / "clip", true)
    save_frames(made / "clip", predicted)
    with pytest.raises(Exception, match=r"nothing can be scored:\n  clip: the prediction is 20 x 24 pixels"):
        evaluate(tmp_path)
    lines, problems, path = evaluate(tmp_path, "protocol.size_mismatch=resize")
    record = read_record(path)
    assert not problems
    assert record["clips"][0].get("resized_from") == [20, 24]
    assert "1 of 1 predictions were resized to the size of the reference" in lines
    error = (resize_8bit(predicted, (SIZE, SIZE)).float() - true.float()).abs().mean() / 255
    assert record["values"]["l1"]["value"] == pytest.approx(error.item(), rel=1e-6)


def test_transparent_pictures_are_laid_on_what_is_asked_for(tmp_path):
    truth, made = both(tmp_path)
    picture = torch.cat([pictures(0)[0], torch.full((1, SIZE, SIZE), 255, dtype=torch.uint8)])
    save(truth / "clip" / "1.png", picture, mode="RGBA")
    picture[3, :, :8] = 0
    picture[3, :, 8] = 51
    save(made / "clip" / "1.png", picture, mode="RGBA")
    for background, value in (("white", 255), ("black", 0)):
        clip = load(tmp_path, "clip", background=background)
        assert torch.equal(clip.truth[0, 0], picture[:3])
        assert (clip.prediction[0, 0, :, :, :8] == value).all()
        assert torch.equal(clip.prediction[0, 0, :, :, 9:], picture[:3, :, 9:])
        blended = (picture[:3, :, 8].float() * 0.2 + 0.8 * value).round()
        assert torch.equal(clip.prediction[0, 0, :, :, 8].float(), blended)
    assert "transparent pictures on black" in read_record(evaluate(tmp_path, background="black")[2])["scored"]


def test_a_wrong_mask_is_named(tmp_path):
    truth, made = both(tmp_path)
    masks = tmp_path / "masks"
    expected = {
        "coloured": "the mask is coloured; white (255) is the person, black the rest",
        "damaged": f"{masks / 'damaged' / '0001.png'}: not an image",
        "frame": "1 of 3 masks are missing, first '0002'",
        "labels": "the mask's brightest value is 1; white (255) is the person",
        "missing": "there is no mask",
        "size": "the mask is 3 frames of 8 x 8, the reference 3 frames of 16 x 16",
    }
    white = torch.full((3, 3, SIZE, SIZE), 255, dtype=torch.uint8)
    red = torch.tensor([128, 0, 0], dtype=torch.uint8)[:, None, None].expand(3, 3, SIZE, SIZE)
    drawn = {"coloured": red, "labels": white // 255, "size": white[..., :8, :8]}
    for name in [*expected, "good"]:
        save_frames(truth / name, pictures(0))
        save_frames(made / name, pictures(1))
        save_frames(masks / name, drawn.get(name, white))
    (masks / "missing").rename(masks / "other")
    (masks / "frame" / "0002.png").unlink()
    (masks / "damaged" / "0001.png").write_text("no picture")
    _, problems, path = evaluate(tmp_path, masks=masks)
    found = dict(problem.split(": ", 1) for problem in problems)
    assert found.keys() == expected.keys()
    assert not {name: found[name] for name, message in expected.items() if message not in found[name]}
    assert [clip["clip_id"] for clip in read_record(path)["clips"]] == ["good"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predictions={made}", "reference={none}"], "none: no such folder"),
        (["predictions={empty}", "reference={truth}"], "empty: holds no videos, no folders and no images"),
        (
            ["predictions={made}", "reference={truth}", "mask={made}"],
            "mask: unknown key or option. Did you mean 'masks' or 'protocol.mask'?",
        ),
        (["predictions={made}", "reference={truth}", "protcol=basic"], "Did you mean 'protocol'?"),
        (["predictions={made}", "reference={truth}", "protocol=basik"], "Did you mean 'basic'?"),
        (["predictions={made}", "reference={truth}", "protocol.metrics.psnr.avrage=clips"], "Did you mean 'average'?"),
        (["predictions={made}", "reference={truth}", "background=green"], "'white' or 'black'"),
        (["predictions={made}", "reference={truth}", "subject=("], "not a regular expression"),
        (["predictions={made}", "reference={truth}", "subject=person.*"], "needs a group in brackets"),
        (
            ["predictions={made}", "reference={truth}", r"subject=(person\d+)_.*"],
            "clip: its name does not match subject=",
        ),
        (["predictions={made}"], "reference: is missing"),
    ],
)
def test_a_wrong_word_is_named(tmp_path, capsys, words, message):
    truth, made = both(tmp_path)
    save_frames(truth / "clip", pictures(0))
    save_frames(made / "clip", pictures(1))
    (tmp_path / "empty").mkdir()
    places = {"made": made, "truth": truth, "none": tmp_path / "none", "empty": tmp_path / "empty"}
    given = [word.format(**places) for word in words]
    assert cli.run(["evaluate", *given]) == 1
    shown = capsys.readouterr().err
    assert message in shown and "Traceback" not in shown
    assert not (tmp_path / "made-basic").exists()


# --- videos ---


def test_a_video_without_a_decoder_is_listed_and_the_rest_scored(tmp_path):
    for folder in both(tmp_path):
        for name in ("good", "odd"):
            write_video(folder / f"{name}.mp4", frames_from_uint8(pictures(0)), fps=8)
    odd = both(tmp_path)[1] / "odd.mp4"
    odd.write_bytes(odd.read_bytes().replace(b"avc1", b"zzzz").replace(b"avcC", b"free"))
    _, problems, path = evaluate(tmp_path)
    assert problems == [f"odd: {odd}: no decoder is here for its video; encode it anew, as H.264 in MP4"]
    assert [clip["clip_id"] for clip in read_record(path)["clips"]] == ["good"]


def test_frames_that_are_shown_at_other_times_are_told(tmp_path):
    truth, made = both(tmp_path)
    for name, rates in {"fast": (10, 25), "same": (10, 10), "nearly": (10, 10.01)}.items():
        for folder, rate in zip((truth, made), rates, strict=True):
            write_video(folder / f"{name}.mp4", frames_from_uint8(pictures(0)), fps=rate)
    save_frames(truth / "pictures", pictures(0))
    save_frames(made / "pictures", pictures(0))
    lines, problems, path = evaluate(tmp_path)
    told = "frame 1 of the prediction is shown at 0.04 s, that of the reference at 0.1 s (on average 25 and 10 frames a second)"
    assert not problems and f"1 of 4 clips, first 'fast': {told}; frames are compared by their number" in lines
    assert {clip["clip_id"] for clip in read_record(path)["clips"] if "note" in clip} == {"fast"}


def test_a_varying_rate_is_told_by_when_frames_are_shown():
    def video(*times):
        return Video(Path("a.mp4"), None, len(times), (2, 2), times, None)

    assert time_note(video(0, 0.1, 0.2, 0.3), video(5, 5.1, 5.2, 5.3)) == ""
    note = time_note(video(0, 0.1, 0.2, 0.3), video(0, 0.02, 0.2, 0.3))
    assert note.startswith("frame 1 of the prediction is shown at 0.1 s, that of the reference at 0.02 s")


# --- memory ---

SCRIPT = """
import resource, sys
from pathlib import Path
import torch
from hvg.config.command_options import FolderOptions; from hvg.score.folders import evaluate_folders
torch.set_num_threads(1)
folder = Path(sys.argv[1])
options = FolderOptions(predictions=folder, reference=folder, out=folder.parent / "out")
evaluate_folders(options, ["~protocol.metrics.ssim"], lambda done, total: None)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def test_nothing_as_large_as_a_frame_is_kept(tmp_path):
    truth, made = both(tmp_path)
    for clip in range(3):
        save_frames(truth / f"clip{clip}", pictures(clip))
        save_frames(made / f"clip{clip}", pictures(clip + 10))
    _, _, path = evaluate(tmp_path)
    record = read_record(path)
    for label in record["values"]:
        for arrays in read_measurements(path, record, label).values():
            assert all(array.size <= 3 for array in arrays.values())


@pytest.mark.long
def test_memory_does_not_grow_with_the_clips(tmp_path):
    size, frames, few, many = 128, 8, 4, 60
    peaks = []
    for count in (few, many):
        folder = tmp_path / str(count) / "clips"
        for clip in range(count):
            save_frames(folder / f"clip{clip}", pictures(clip % 3, frames, size, size))
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(folder)],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.split()[-1]))
    # Prediction and truth of every clip, 8 bits a value.
    assert peaks[1] - peaks[0] < 0.2 * (many - few) * 2 * frames * 3 * size**2
