"""Clips that are too large to be held: what metrics keep of their pieces is what they keep of the whole, to the last bit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from hvg.config.command_options import FolderOptions
from hvg.core.eight_bit import frames_from_uint8
from hvg.media.folder_clips import find_clips
from hvg.media.video import write_video
from hvg.parts import registry
from hvg.parts.context import Context
from hvg.parts.feature_metric import FrameFeatureMetric, VideoFeatureConfig, VideoFeatureMetric
from hvg.parts.frame_metric import parts
from hvg.parts.metric import Metric
from hvg.parts.network_files import NetworkFiles
from hvg.parts.set_distance import Frechet, FrechetConfig
from hvg.score import folders
from hvg.score.folders import load_clip
from hvg.values import long_clip
from hvg.values.long_clip import LongClip
from hvg.values.scored_clip import NotAvailable, ScoredClip

VIEWS, FRAMES, SIZE = 2, 33, 16
OF_FRAMES = ("psnr", "psnr_foreground", "ssim", "l1", "mask_iou", "dtssd", "dtssd_disco", "dvssd", "drift")


@pytest.fixture(scope="module", params=["videos", "pictures"])
def clips(request, tmp_path_factory) -> tuple[ScoredClip, LongClip]:
    """The same clip, with masks, held and in pieces of 16 and 17 frames."""
    folder = tmp_path_factory.mktemp("long")
    random = torch.Generator().manual_seed(0)
    for kind in ("made", "truth", "masks"):
        for view in range(VIEWS):
            video = torch.randint(0, 256, (FRAMES, 3, SIZE, SIZE), generator=random, dtype=torch.uint8)
            if kind == "masks":
                video = (video[:, :1] > 128).expand(-1, 3, -1, -1).to(torch.uint8) * 255
            if request.param == "videos" and kind != "masks":
                write_video(folder / kind / "clip" / f"{view}.mp4", frames_from_uint8(video), fps=8)
                continue
            place = folder / kind / "clip" / str(view)
            place.mkdir(parents=True)
            for number, frame in enumerate(video):
                Image.fromarray(frame.movedim(0, -1).numpy()).save(place / f"{number:03d}.png")
    return _loaded(folder)


def _loaded(folder):
    options = FolderOptions(predictions=folder / "made", reference=folder / "truth", masks=folder / "masks")
    found = [find_clips(folder / name) for name in ("made", "truth", "masks")]
    held = load_clip("clip", *found, options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders, "HELD_BYTES", 1000)
        patch.setattr(long_clip, "HELD_BYTES", 17 * 3 * VIEWS * 3 * SIZE**2)
        long = load_clip("clip", *found, options)
    assert isinstance(held, ScoredClip) and isinstance(long, LongClip)
    return held, long


def same(metric: Metric, held: ScoredClip, long: LongClip) -> bool:
    whole, pieces = metric.measure(held), metric.measure_pieces(long)
    assert whole
    return whole.keys() == pieces.keys() and all(
        np.array_equal(whole[name], pieces[name], equal_nan=True) for name in whole
    )


def make(name: str) -> Metric:
    cls = registry.load("metric", name)
    return cls(cls.Config(), Context())


def test_the_whole_is_the_pieces(clips):
    held, long = clips
    assert [piece.grid[1] for piece in long.pieces()] == [16, 17]
    assert [piece.grid[1] for piece in long.pieces(before=1)] == [16, 18]
    assert long.grid == held.grid and long.truth_print == held.truth_print
    for name in ("prediction", "truth", "alpha", "valid"):
        assert torch.equal(getattr(long.whole(), name), getattr(held, name))
        # The order in which values lie decides the order in which torch adds them up.
        assert getattr(long.whole(), name).stride()[2:] == getattr(held, name).stride()[2:]
    assert torch.equal(next(long.pieces(views=[1])).truth, held.truth[1:, :16])


@pytest.mark.parametrize("name", [*OF_FRAMES, "identity_colour"])
def test_metrics_keep_the_same_of_pieces(clips, name):
    held, long = clips
    assert same(make(name), held, long)


class _Means(FrameFeatureMetric):
    definition = "means"

    def features(self, frames):
        return frames.float().mean(dim=(2, 3))


class _Moves(VideoFeatureMetric):
    definition = "moves"

    def resize(self, frames):
        return frames[..., ::4, ::4].float()

    def features(self, videos):
        return videos.diff(dim=1).mean(dim=(3, 4)).flatten(1)


@pytest.mark.parametrize("along", ["time", "views"])
@pytest.mark.parametrize("items", ["windows", "whole"])
def test_features_of_videos_are_the_same_of_pieces(clips, tmp_path, along, items):
    frames = 2 if along == "views" else 5
    config = VideoFeatureConfig(clip_frames=frames, along=along, items=items, stride=2)
    context = Context(networks=NetworkFiles(tmp_path))
    assert same(_Moves(config, context, Frechet(FrechetConfig())), *clips)


@pytest.mark.parametrize("every", [1, 5])
def test_features_of_frames_are_the_same_of_pieces(clips, tmp_path, every):
    context = Context(networks=NetworkFiles(tmp_path))
    config = type("Config", (), {"every": every})()
    assert same(_Means(config, context, Frechet(FrechetConfig())), *clips)


def test_a_metric_that_knows_no_pieces_gets_the_whole(clips):
    held, long = clips

    class Last(Metric):
        definition = "last"

        def measure(self, clip):
            return {"last": clip.prediction[:, -1].float().mean(dim=(1, 2, 3)).numpy()}

        def reduce(self, kept):
            raise NotImplementedError

    assert same(Last(), held, long)


def test_what_a_long_clip_lacks_is_named_before_it_is_read_whole(clips):
    with pytest.raises(NotAvailable, match="needs cameras, surface"):
        clips[1].require({"alpha", "cameras", "surface"})


@pytest.mark.parametrize(("count", "most", "sizes"), [(16, 5, [4] * 4), (17, 16, [9, 8]), (3, 1, [3]), (1, 4, [1])])
def test_no_frame_is_scored_by_itself(count, most, sizes):
    assert [len(part) for part in parts(torch.arange(count), most)] == sizes


def test_large_pictures_are_scored_in_smaller_groups_with_the_same_bits(clips, monkeypatch):
    held = replace(clips[0], alpha=None)
    metric = make("psnr")
    whole = metric.measure(held)["cells"]
    monkeypatch.setattr("hvg.parts.frame_metric.PIXELS_PER_CALL", 2 * SIZE**2)
    assert np.array_equal(metric.measure(held)["cells"], whole)
