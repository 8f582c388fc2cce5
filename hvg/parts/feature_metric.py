"""Metrics that compare two sets of features: those of all predictions and those of all truths.

What is kept of a clip are its features, never frames: some kilobytes a picture.
"""

# Of some methods of tensors the library does not say what they give.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from hvg.core.bounds import FrameCount
from hvg.parts.context import Context
from hvg.parts.metric import Measurement, Metric, Score
from hvg.parts.network_files import NetworkFiles
from hvg.parts.part import PartConfig
from hvg.parts.set_distance import SetDistance
from hvg.values.long_clip import LongClip
from hvg.values.scored_clip import NotAvailable, ScoredClip

# Bounds the memory of one call of a network.
FRAMES_PER_CALL = 16
VIDEOS_PER_CALL = 4
# Places of a video's frames, in the order in which a network sees them; a frame may be repeated.
Item = tuple[int, ...]


def network_files(context: Context | None) -> tuple[NetworkFiles, torch.device]:
    """Files of pretrained networks, and the device to run them on. Raises: NotAvailable where no folder is given."""
    if context is None or context.networks is None:
        raise NotAvailable("looks through a pretrained network, and no folder of networks is given")
    return context.networks, context.device


class FeatureMetric(Metric):
    """A distance between the features of predictions and of truths, through a pretrained network.

    counted: what has one feature vector.
    """

    higher_is_better = False
    counted: str = "frames"

    def __init__(self, config: Any, context: Context | None, distance: SetDistance) -> None:
        self.config, self.distance = config, distance
        self.files, self.device = network_files(context)

    @abstractmethod
    def measure(self, clip: ScoredClip) -> Measurement:
        """``prediction``, ``truth``: (n, D) float32; ``short``: how many stretches were too short to have any."""

    def reduce(self, kept: Mapping[str, Measurement]) -> Score:
        """The distance over all clips. Raises: NotAvailable with fewer than two features, or one that is not finite."""
        for clip_id, arrays in kept.items():
            for name in ("prediction", "truth"):
                if not np.isfinite(arrays[name]).all():
                    raise NotAvailable(f"a feature of clip '{clip_id}' ({name}) is not finite")
        prediction, truth = (
            np.concatenate([arrays[name] for arrays in kept.values()]) for name in ("prediction", "truth")
        )
        count, width = prediction.shape
        if count < 2:
            raise NotAvailable(f"a distance between sets needs at least two {self.counted}, there is {count}")
        short = sum(int(arrays["short"]) for arrays in kept.values())
        left_out = (f"{short} stretches of valid frames are too short and were left out",) if short else ()
        return Score(
            value=self.distance.between(prediction, truth),
            count=count,
            counted=self.counted,
            notes=(*left_out, *self.distance.cautions(count, width)),
        )


class FrameFeatureMetric(FeatureMetric):
    """Looks at every picture by itself."""

    @abstractmethod
    def features(self, frames: Tensor) -> Tensor:
        """Frames (N, 3, H, W) uint8 -> (N, D), on the metric's device."""

    @torch.no_grad()
    def measure(self, clip: ScoredClip) -> Measurement:
        """The features of every ``every``-th valid frame, counted over all views, one view after another."""
        return self._of([clip], clip.valid)

    @torch.no_grad()
    def measure_pieces(self, clip: LongClip) -> Measurement:
        """The same as ``measure``, read piece by piece."""
        return self._of(clip.pieces(), torch.ones(clip.grid, dtype=torch.bool))

    def _of(self, pieces: Iterable[ScoredClip], valid: Tensor) -> Measurement:
        """valid: (V, T), of all pieces together."""
        index = valid.flatten().nonzero()[:: self.config.every, 0]
        if not len(index):
            return {}
        chosen = torch.zeros(valid.numel(), dtype=torch.bool)
        chosen[index] = True
        found, places, start = {"prediction": [], "truth": []}, [], 0
        for piece in pieces:
            views, frames = chosen.view(valid.shape)[:, start : start + piece.grid[1]].nonzero().unbind(1)
            if len(views):
                places.append(views * valid.shape[1] + start + frames)
                seen = views * piece.grid[1] + frames
                truth = self._features(piece.truth, seen)
                found["truth"].append(truth)
                same = piece.prediction is piece.truth
                found["prediction"].append(truth if same else self._features(piece.prediction, seen))
            start += piece.grid[1]
        # One view after another, as if the clip were one piece.
        order = torch.cat(places).argsort().numpy()
        kept = {name: np.concatenate(features)[order] for name, features in found.items()}
        return {**kept, "short": np.asarray(0)}

    def _features(self, frames: Tensor, index: Tensor) -> np.ndarray:
        frames = frames.flatten(0, 1)
        chunks = index.to(frames.device).split(FRAMES_PER_CALL)
        return np.concatenate([_kept(self.features(frames[chunk].to(self.device))) for chunk in chunks])


class _Reel:
    """A view of a long clip that goes forward as its frames are asked for. name: ``prediction`` or ``truth``."""

    def __init__(self, clip: LongClip, view: int, name: str) -> None:
        self._pieces = (getattr(piece, name)[0] for piece in clip.pieces(views=[view]))
        self._piece, self._start = next(self._pieces), 0

    def __getitem__(self, places: Sequence[int], /) -> Tensor:
        frames = []
        for place in places:
            while place >= self._start + len(self._piece):
                self._start += len(self._piece)
                self._piece = next(self._pieces)
            frames.append(self._piece[place - self._start])
        return torch.stack(frames)


# A video whose frames, (n, 3, H, W), are asked for by lists of places in increasing order.
Frames = Tensor | _Reel


class VideoFeatureConfig(PartConfig):
    """Settings of the pieces of a video that a video network is shown."""

    clip_frames: FrameCount = Field(16, description="Frames that are looked at together.")
    items: Literal["windows", "whole"] = Field(
        "windows",
        description="windows: every stretch of clip_frames frames has a feature. whole: every video has one; what that is "
        "made of, the metric says.",
    )
    stride: FrameCount = Field(
        1, description="Frames from the start of a window to the start of the next; 1 as DisCo: they overlap."
    )
    along: Literal["auto", "time", "views"] = Field(
        "auto",
        description="What a video is: the frames of one view; the views of one moment, in their order, as a camera orbits; "
        "auto: views where a clip has one frame only.",
    )
    short: Literal["leave_out", "repeat_last"] = Field(
        "leave_out",
        description="What happens to a video of fewer than clip_frames frames: it is left out, or its last frame repeated.",
    )

    def windows_id(self) -> str:
        """Identifier with all settings of the pieces, for a metric's definition."""
        pieces = "whole" if self.items == "whole" else f"stride-{self.stride}"
        return f"{self.clip_frames}-frames-{pieces}/along-{self.along}/short-{self.short}"


def runs(valid: Sequence[bool]) -> list[range]:
    """The stretches of neighbouring true places, in order."""
    edges = np.flatnonzero(np.diff(np.r_[False, np.asarray(valid, dtype=bool), False]))
    return [range(start, stop) for start, stop in edges.reshape(-1, 2).tolist()]


def video_items(video: range, config: VideoFeatureConfig, segments: bool) -> list[Item]:
    """The pieces of a video whose frames lie at ``video``: each becomes one feature; none where it is too short.

    segments: whether a whole video has to be a multiple of ``clip_frames``; its last frame is repeated.
    """
    size = config.clip_frames
    if len(video) < size and config.short == "leave_out":
        return []
    padded = tuple(video) + (video[-1],) * (size - len(video))
    if config.items == "whole":
        return [padded + (padded[-1],) * (-len(padded) % size if segments else 0)]
    return [padded[start : start + size] for start in range(0, len(padded) - size + 1, config.stride)]


class VideoFeatureMetric(FeatureMetric):
    """Looks at stretches of video, all of whose frames are valid.

    segments: whether the network sees a whole video in segments of ``clip_frames`` frames, whose features are averaged.
    """

    segments: ClassVar[bool] = False

    def __init__(self, config: Any, context: Context | None, distance: SetDistance) -> None:
        super().__init__(config, context, distance)
        self.counted = "videos" if config.items == "whole" else f"{config.clip_frames}-frame clips"

    @abstractmethod
    def resize(self, frames: Tensor) -> Tensor:
        """Frames (N, 3, H, W) uint8 -> the network's input, (N, 3, S, S) float32, on the metric's device."""

    @abstractmethod
    def features(self, videos: Tensor) -> Tensor:
        """Videos (n, L, 3, S, S) that ``resize`` made -> (n, D)."""

    @torch.no_grad()
    def measure(self, clip: ScoredClip) -> Measurement:
        """The features of every piece: videos in order, pieces by their start."""
        return self._of(self._videos(clip))

    @torch.no_grad()
    def measure_pieces(self, clip: LongClip) -> Measurement:
        """The same as ``measure``; of a video along time no more than what a network sees together is held, resized."""
        if self.config.along == "views":
            return self._of(video for piece in clip.pieces() for video in self._videos(piece))
        valid = torch.ones(clip.grid[1], dtype=torch.bool)
        return self._of(
            (_Reel(clip, view, "prediction"), _Reel(clip, view, "truth"), valid) for view in range(clip.grid[0])
        )

    def _of(self, clip_videos: Iterable[tuple[Frames, Frames, Tensor]]) -> Measurement:
        """Measurement of videos, each a prediction, a truth and flags of its valid frames (L,)."""
        found: list[tuple[np.ndarray, np.ndarray]] = []
        short = 0
        for prediction, truth, valid in clip_videos:
            videos = runs(valid.tolist())
            items = [item for video in videos for item in video_items(video, self.config, self.segments)]
            short += sum(not video_items(video, self.config, self.segments) for video in videos)
            if items:
                seen = self._features(truth, items)
                found.append((seen if prediction is truth else self._features(prediction, items), seen))
        if not found:
            return {}
        prediction, truth = (np.concatenate(features) for features in zip(*found, strict=True))
        return {"prediction": prediction, "truth": truth, "short": np.asarray(short)}

    def _videos(self, clip: ScoredClip) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Prediction and truth (L, 3, H, W) and valid (L,) of every video."""
        views = self.config.along == "views" or (self.config.along == "auto" and clip.grid[1] == 1)
        axis = 1 if views else 0
        for i in range(clip.grid[axis]):
            truth = clip.truth.select(axis, i)
            prediction = truth if clip.prediction is clip.truth else clip.prediction.select(axis, i)
            yield prediction, truth, clip.valid.select(axis, i)

    def _features(self, frames: Frames, items: Sequence[Item]) -> np.ndarray:
        """(len(items), D). Windows overlap, so a resized frame is kept until no later item needs it."""
        found, resized = [], dict[int, Tensor]()
        for batch in _batches(items):
            first = min(map(min, batch))
            resized = {place: frame for place, frame in resized.items() if place >= first}
            missing = sorted({place for item in batch for place in item} - resized.keys())
            for i in range(0, len(missing), FRAMES_PER_CALL):
                places = missing[i : i + FRAMES_PER_CALL]
                resized |= dict(zip(places, self.resize(frames[places].to(self.device)), strict=True))
            videos = torch.stack([torch.stack([resized[place] for place in item]) for item in batch])
            found.append(_kept(self.features(videos)))
        return np.concatenate(found)


def _batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Neighbouring items of equal length, at most ``VIDEOS_PER_CALL`` at once."""
    start = 0
    for end in range(1, len(items) + 1):
        full = end - start == VIDEOS_PER_CALL
        if full or end == len(items) or len(items[end]) != len(items[start]):
            yield items[start:end]
            start = end


def _kept(features: Tensor) -> np.ndarray:
    return features.float().cpu().numpy()
