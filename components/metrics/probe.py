"""What a signal knows of the pose: how well a linear map reads joints in space from what a conditioner says."""

import hashlib
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from hvg.core.names import Name
from hvg.core.required import required
from hvg.geometry.skeleton import JOINTS, complete_joints
from hvg.parts.context import Context
from hvg.parts.metric import Measurement, Metric, Score
from hvg.parts.part import PartConfig
from hvg.values.scored_clip import NotAvailable, ScoredClip

from ..nn.body_frame import joints_in_body_axes
from ..nn.ridge import held_out

# Groups of people, of which each is told by what was fitted to the others; with fewer people than that, each is one.
FOLDS = 8
# So that a strength can be chosen, and the rest fitted.
FEWEST = 3


class Probe(Metric):
    """Mean distance of joints from where a ridge regression puts them by what a conditioner says, on people that it never saw.

    The people that are scored are divided into groups; of each group the joints are told by a regression that was fitted to the
    others, whose strength yet another one decided. It looks at no picture: the number is of the conditioner and its encoder as
    they were trained, not of the video. The note says what the mean pose gives.

    With axes=body joints are in the body's own axes, the same in every view: what view A says is asked for the pose of all.
    With axes=camera they are in those of another view's camera, ``turn`` views further on, less the pelvis: for that, signals
    have to tell where the person faces, and a driving video from anywhere does not.
    """

    class Config(PartConfig):
        """Settings of what is asked, and in which unit it is told."""

        slot: Name = Field("pose", description="Slot whose conditioner is asked.")
        axes: Literal["body", "camera"] = Field("body", description="Of the body itself, or of a view's camera.")
        turn: int = Field(
            1,
            ge=0,
            le=1023,
            description="With axes=camera: how many views further on that camera is; 0 is the own one.",
        )
        unit: Literal["mm", "share"] = Field("mm", description="share: of what the mean pose of the others gives.")

    higher_is_better = False
    verdict = False
    requires = frozenset({"told", "body"})

    def __init__(self, config: Config, context: Context | None = None) -> None:
        super().__init__(config, context)
        asked = f"{config.slot}/{config.axes}" + (f"-{config.turn}" if config.axes == "camera" else "")
        self.unit = "mm" if config.unit == "mm" else ""
        self.measurement = f"probe/{asked}/v1"
        self.definition = f"probe/{asked}/ridge-{FOLDS}-groups-of-people/{config.unit}/v1"

    @torch.no_grad()
    def measure(self, clip: ScoredClip) -> Measurement:
        """``told`` (N, D), ``joints`` (N, 72) metres, of every view that is told its own, and every latent frame; ``person`` (2).

        Raises: NotAvailable where nothing is in the slot.
        """
        clip.require(self.requires)
        told = required(clip.told, "told")()
        if self.config.slot not in told.numbers:
            have = ", ".join(told.numbers) or "none"
            raise NotAvailable(
                f"asks the slot '{self.config.slot}', in which nothing is; slots that say something: {have}"
            )
        numbers = told.numbers[self.config.slot].cpu()
        frames = list(told.frames)
        joints = self._joints(clip, frames)
        views = max(numbers.shape[0], joints.shape[0])
        valid = clip.valid.cpu()[:, frames]
        valid = valid if views > 1 else valid.any(dim=0, keepdim=True)
        numbers = numbers.expand(views, len(frames), -1)[valid]
        return {
            "told": numbers.float().numpy(),
            "joints": joints.expand(views, -1, -1)[valid].float().numpy(),
            "person": np.frombuffer(hashlib.blake2b(clip.subject.encode(), digest_size=16).digest(), dtype=np.int64),
        }

    def _joints(self, clip: ScoredClip, frames: list[int]) -> Tensor:
        """(V or 1, t, 72) metres, in the axes that are asked for."""
        body = required(clip.body, "body").select(torch.tensor(frames))
        if self.config.axes == "body":
            return joints_in_body_axes(body).flatten(-2).cpu()
        clip.require({"cameras"})
        cameras = required(clip.cameras, "cameras").world_to_camera[:, frames, :3, :3]
        turned = cameras.roll(-self.config.turn, dims=0)
        joints = complete_joints(body.joints, body.joint_names)[0]
        pelvis = JOINTS.index("pelvis")
        apart = joints[:, 1:] - joints[:, pelvis : pelvis + 1]
        return (apart @ turned.mT).flatten(-2).cpu()

    def reduce(self, kept: Mapping[str, Measurement]) -> Score:
        """Mean over clips. Raises: NotAvailable for fewer people than ``FEWEST``, and for clips that were told unlike things."""
        clips = sorted(kept)
        people = {clip: tuple(kept[clip]["person"].tolist()) for clip in clips}
        known = sorted({*people.values()})
        if len(known) < FEWEST:
            raise NotAvailable(
                f"fits to some people and asks of others, at least {FEWEST}; the clips show {len(known)}"
            )
        if len({kept[clip]["told"].shape[1] for clip in clips}) > 1:
            raise NotAvailable("what the conditioner says has not the same length in all clips")
        group = {person: number % min(FOLDS, len(known)) for number, person in enumerate(known)}
        counts = [len(kept[clip]["told"]) for clip in clips]
        told, joints = (
            np.concatenate([kept[clip][name] for clip in clips]).astype(np.float64) for name in ("told", "joints")
        )
        fold = np.repeat([group[people[clip]] for clip in clips], counts)
        found = [_distances(guess, joints) for guess in held_out(told, joints, fold)]
        error, mean_pose = (_of_clips(distances, counts) for distances in found)
        values = error if self.config.unit == "mm" else error / mean_pose.mean()
        share = error.mean() / mean_pose.mean()
        return Score(
            value=float(values.mean()),
            per_clip={clip: float(value) for clip, value in zip(clips, values, strict=True)},
            count=int(sum(counts)),
            counted="poses",
            notes=(f"the mean pose of the others gives {mean_pose.mean():.1f} mm; that is {share:.3f} of it",),
        )


def _distances(guess: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Mean distance (N,) of joints (N, 72) in metres, mm."""
    apart = (guess - joints).reshape(len(joints), -1, 3)
    return 1000 * np.linalg.norm(apart, axis=-1).mean(axis=-1)


def _of_clips(values: np.ndarray, counts: list[int]) -> np.ndarray:
    """The mean of each clip's rows."""
    return np.array([part.mean() for part in np.split(values, np.cumsum(counts)[:-1])])
