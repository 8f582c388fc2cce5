"""The public checks catch what they are for: parts with one fault each, and a device that no machine has."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from components.alignments.pelvis import PelvisAlignment
from components.backbones.svd_unet import SvdUNet
from components.codecs.pixel import PixelCodec
from components.codecs.pixel_time import PixelTimeCodec
from components.conditioners.camera_rotation import CameraRotation
from components.conditioners.landmark_tokens import LandmarkTokens
from components.conditioners.reference_latent import ReferenceLatent
from components.guidance.linear import LinearGuidance
from components.metrics.psnr import PSNR
from components.predictions.v import VPrediction
from components.renderers.warp import Warp
from components.samplers.temporal import TemporalWindows
from components.solvers.ddim import DDIMSolver
from components.solvers.heun import HeunSolver
from components.view_attention.aligned_2d import Aligned2dViewAttention
from components.view_attention.neighbours import NeighboursViewAttention
from hvg.parts.frame_metric import FrameMetric
from hvg.parts.metric import KeypointRegressor, Metric
from hvg.parts.model import Conditioner
from hvg.parts.part import PartConfig
from hvg.parts.plan import Sampler
from hvg.parts.pose_guided import PoseGuided
from hvg.testing import (
    check_alignment,
    check_backbone,
    check_codec,
    check_conditioner,
    check_guidance,
    check_keypoints,
    check_metric,
    check_prediction,
    check_renderer,
    check_sampler,
    check_solver,
    check_view_attention,
    elsewhere,
    tiny_batch,
    tiny_context,
)
from hvg.testing.backbone import check_reuse
from hvg.testing.elsewhere import is_elsewhere
from hvg.values.cameras import pixel_rays
from hvg.values.conditioning import Conditioning, ConditioningSpec
from hvg.values.latent_time import padded_frames

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "tests" / "data" / "plugin" / "hvg_example_plugin" / "head_disc.py"
TINY = {
    "widths": (32, 32),
    "attention": (True, False),
    "heads": (2, 2),
    "layers_per_block": 1,
    "cross_attention_width": 8,
    "addition_time_embed_dim": 8,
}


# --- the plugin of the page on signals ---


def plugin(text: str):
    """The example's module, from this text."""
    spec = importlib.util.spec_from_loader("head_disc", loader=None)
    module = importlib.util.module_from_spec(spec)
    exec(compile(text, str(PLUGIN), "exec"), vars(module))
    return module


def test_a_grid_on_the_cpu_is_seen_without_a_gpu():
    text = PLUGIN.read_text(encoding="utf-8")
    fault = text.replace(", device=pixels.device", "")
    assert fault != text
    part = plugin(fault).HeadDisc
    with pytest.raises(AssertionError, match=r"Tensor.* meets .* on the CPU and .* on the device of the inputs"):
        check_conditioner(part, part.Config(), tiny_context())


# --- one fault each ---


class WrongGroups(Aligned2dViewAttention):
    """Says that all tokens see each other."""

    @classmethod
    def token_groups(cls, config, views, height, width):
        return torch.zeros(views, height, width, dtype=torch.int64)


class ByPlace(NeighboursViewAttention):
    """Counts places in the window, not on the circle."""

    def forward(self, x, grid):
        index = torch.arange(x.shape[1]).expand(x.shape[:2])
        return super().forward(x, replace(grid, view_index=index))


class OneClip(NeighboursViewAttention):
    """Takes the views of all clips to stand as the first one's do."""

    def forward(self, x, grid):
        return super().forward(x, _as_the_first(grid))

    @classmethod
    def sees(cls, config, grid):
        return super().sees(config, _as_the_first(grid))


def _as_the_first(grid):
    clips = torch.zeros(len(grid.circle), dtype=torch.int64)
    return replace(grid, view_index=grid.view_index[clips], num_views=grid.num_views[clips], circle=grid.circle[clips])


class NoWindows(Sampler):
    """Forgets what a sampler is for."""


class NoMap(PoseGuided):
    """Forgets to draw."""


class OfLists(TemporalWindows):
    """Gives views and frames as lists."""

    def windows(self, step, num_steps, views, frames):
        found = super().windows(step, num_steps, views, frames)
        return [replace(w, views=list(w.views), frames=list(w.frames)) for w in found]


class OneByOne(TemporalWindows):
    """Yields its windows."""

    def windows(self, step, num_steps, views, frames):
        yield from super().windows(step, num_steps, views, frames)


class Pairs(TemporalWindows):
    """Leaves the class of windows out."""

    def windows(self, step, num_steps, views, frames):
        return [(w.views, w.frames) for w in super().windows(step, num_steps, views, frames)]


class Unweighted(TemporalWindows):
    """Has one weight for all cells of a window."""

    def windows(self, step, num_steps, views, frames):
        return [replace(w, weights=1.0) for w in super().windows(step, num_steps, views, frames)]


class Cheap(NeighboursViewAttention):
    """Declares less than it computes."""

    @classmethod
    def flops(cls, config, views, height, width, channels):
        return super().flops(config, views, height, width, channels) // 2


class LoudAtTheStart(NeighboursViewAttention):
    """Does not start as an identity."""

    def __init__(self, config, width, num_heads):
        super().__init__(config, width, num_heads)
        nn.init.ones_(self.attention.out.bias)


class OwnMask(NeighboursViewAttention):
    """Makes a tensor on the CPU."""

    def forward(self, x, grid):
        return super().forward(x, grid) * torch.ones(x.shape[-1], dtype=x.dtype)


class Hole(TemporalWindows):
    """Leaves the last frame out."""

    def windows(self, step, num_steps, views, frames):
        found = super().windows(step, num_steps, views, max(1, frames - 1))
        return found


class Double(TemporalWindows):
    """Counts twice what it costs."""

    def cost(self, num_steps, views, frames):
        return 2 * super().cost(num_steps, views, frames)


class Overshoots(HeunSolver):
    """Does not end on the estimate."""

    def step(self, x, x0, at):
        return super().step(x, x0, at) + 0.1


class InPlace(HeunSolver):
    """Changes what it is given."""

    def step(self, x, x0, at):
        stepped = super().step(x.clone(), x0, at)
        x.zero_()
        return stepped


class OnTheCpu(DDIMSolver):
    """Adds noise that it makes on the CPU."""

    def step(self, x, x0, at):
        return super().step(x, x0, at) + at.sigma_next * 0 * torch.ones(x.shape)


class FramesFirst(LinearGuidance):
    """Its axes are exchanged."""

    def scales(self, clips, sigma):
        return super().scales(clips, sigma).mT


class Unasked(LinearGuidance):
    """Leaves out what every clip is trained with."""

    def branches(self, droppable):
        return (frozenset({*droppable, "task"}),)


class OfTheFirst(LinearGuidance):
    """All clips are guided as the first one's task says."""

    def scales(self, clips, sigma):
        return super().scales(clips, sigma) + clips.task[0]


class Rising(VPrediction):
    """Its levels rise."""

    def sigma_schedule(self, num_steps, *, pixels):
        return super().sigma_schedule(num_steps, pixels=pixels).flip(0)


class Deaf(VPrediction):
    """Does not listen to the network."""

    def denoised(self, output, noisy, sigma):
        return noisy / (sigma**2 + 1)


class MeanOfViews(PixelCodec):
    """Mixes views."""

    def encode(self, frames):
        latents = super().encode(frames)
        return latents + 0.1 * latents.mean(dim=1, keepdim=True)


class LooksAhead(PixelTimeCodec):
    """A latent frame has something of those that follow."""

    def encode(self, frames):
        latents = super().encode(frames)
        return latents + 0.1 * latents.mean(dim=2, keepdim=True)


class ForgetsWhatWasBefore(PixelTimeCodec):
    """Takes every piece for the beginning of a video."""

    def decode_pieces(self, latents):
        for piece in latents.split(self.decode_chunk, dim=2):
            yield self.decode(piece)


class BlackAtTheEnd(PixelTimeCodec):
    """Pads with black."""

    def encode(self, frames):
        more = padded_frames(frames.shape[2], self.temporal_stride) - frames.shape[2]
        return super().encode(
            torch.cat([frames, -torch.ones_like(frames[:, :, :1]).repeat(1, 1, more, 1, 1, 1)], dim=2)
        )


class HalfPixels(PelvisAlignment):
    """Moves by fractions of a pixel."""

    def offsets(self, batch):
        return super().offsets(batch) / 2


class FirstMoves(PelvisAlignment):
    """All move as the first frame does, but it says otherwise."""

    def offsets(self, batch):
        return super().offsets(batch)[:, :, :1].expand(*batch.grid, 2)


class Reversed(PSNR):
    """Says that lower is better."""

    higher_is_better = False


class Remembers(PSNR):
    """Keeps a count of clips."""

    seen = 0

    def measure(self, clip):
        self.seen += 1
        return {"cells": super().measure(clip)["cells"] + self.seen}


class KeepsPictures(PSNR):
    """Keeps the pictures."""

    def measure(self, clip):
        return {**super().measure(clip), "pictures": np.asarray(clip.prediction)}


class Nameless(Metric):
    """Has no id."""

    requires = frozenset({"alfa"})

    def measure(self, clip):
        return {"mean": np.asarray(float(clip.prediction.float().mean()))}

    def reduce(self, kept):
        return 1.0


class Braces(Nameless):
    """Sets its id itself, with braces left."""

    def __init__(self, config=None, context=None):
        self.config, self.definition = config, "mean/{config.gap}/v1"


class NoSetting(Nameless):
    """Names a setting that it does not have."""

    definition = "mean/{config.gap}/v1"


class Misspelt(Nameless):
    """Needs a field that no clip has."""

    definition = "mean/v1"


class GivesANumber(Misspelt):
    """Gives a number where a score is meant."""

    requires = frozenset()


class OneForAll(FrameMetric):
    """One number for all frames that are scored together."""

    definition = "one/v1"

    def score(self, prediction, truth, alpha):
        return prediction.float().mean()


class WorldNormals(Warp):
    """Normals in the world's axes."""

    def render(self, vertices, faces, cameras):
        image = super().render(vertices, faces, cameras)
        rotation = cameras.world_to_camera[:, None, :3, :3]
        return replace(image, normal=image.normal @ rotation)


class Corners(Warp):
    """Looks through the corners of pixels."""

    def render(self, vertices, faces, cameras):
        return super().render(vertices, faces, cameras.cropped(-0.5, -0.5, cameras.image_size))


class FirstPose(Warp):
    """Shows the first pose to every camera."""

    def render(self, vertices, faces, cameras):
        return super().render(vertices[:1], faces, cameras)


class AlongTheRay(Warp):
    """Depth is the distance from the camera."""

    def render(self, vertices, faces, cameras):
        image = super().render(vertices, faces, cameras)
        return replace(image, depth=image.depth * pixel_rays(cameras).norm(dim=-1))


class Middle(KeypointRegressor):
    """The middle of what is dark."""

    Config = PartConfig
    names, root, definition = ("middle",), ("middle",), "middle/v1"

    def locate(self, frames):
        dark = (frames.float().mean(dim=1) < 128).float()
        y, x = torch.meshgrid(*(torch.arange(side) + 0.5 for side in dark.shape[1:]), indexing="ij")
        places = [(dark * axis).sum(dim=(1, 2)) / dark.sum(dim=(1, 2)) for axis in (x, y)]
        return torch.stack(places, dim=-1)[:, None], torch.ones(len(frames), 1)


class Rootless(Middle):
    """Its root is no point of its own."""

    root = ("pelvis",)


class OfAllPictures(Middle):
    """Takes pictures to show one person who stands still."""

    def locate(self, frames):
        places, sure = super().locate(frames)
        return places.mean(dim=0, keepdim=True).expand_as(places), sure


class Percent(Middle):
    """Confidence in percent."""

    def locate(self, frames):
        places, sure = super().locate(frames)
        return places, 100 * sure


class NoPlaces(SvdUNet):
    """Does not tell frames apart."""

    def forward(self, noisy, level, conditioning, frame_index=None, grid=None):
        return super().forward(noisy, level, conditioning, None, grid)


class MixesViews(SvdUNet):
    """Lets views see each other outside of view attention."""

    def forward(self, noisy, level, conditioning, frame_index=None, grid=None):
        out = super().forward(noisy, level, conditioning, frame_index, grid)
        return out + 0.1 * out.mean(dim=1, keepdim=True)


class WrongNull(CameraRotation):
    """Stands in with something of another shape."""

    def null(self, conditioning):
        return conditioning.map(lambda x: torch.zeros_like(x)[..., :-1])


class OfEveryFrame(CameraRotation):
    """Takes the frames that a latent frame joins for latent frames."""

    def __init__(self, config, context):
        super().__init__(config, context)
        self.temporal_stride = 1


class OfTheFirstView(ReferenceLatent):
    """Says nothing of its own on ``once_per``, and gives something else where another view is the first."""

    def forward(self, signal, batch):
        return super().forward(signal, batch).map(lambda x: x + batch.cameras.centers[:, :1, :1, 2:, None, None])


class OfItsNeighbours(CameraRotation):
    """Tells every view of the others in its window."""

    def forward(self, signal, batch):
        return super().forward(signal, batch).map(lambda x: x + x.mean(dim=1, keepdim=True))


class OfTheWindowsFirstView(CameraRotation):
    """Says of itself that it does not care which view is the first."""

    @classmethod
    def once_per(cls, config, first_view="grid"):
        return "cell"


class OfWhatIsKnown(CameraRotation):
    """Is louder where some of the clip is known."""

    def forward(self, signal, batch):
        return super().forward(signal, batch).map(lambda x: x if batch.known is None else 2 * x)


class OfJoinedFrames(LandmarkTokens):
    """Where latent frames join some, each is told of a frame of the one before, too."""

    def joined(self, numbers):
        return super().joined(numbers if self.temporal_stride == 1 else numbers.roll(1, dims=2))


class OncePerView(CameraRotation):
    """Has an answer of its own."""

    @classmethod
    def once_per(cls, config, first_view="grid"):
        return "view"


class KeepsNothing(SvdUNet):
    """Says that steps can share its deep half, and always runs it."""

    def forward(self, noisy, level, conditioning, frame_index=None, grid=None, deep=None):
        return super().forward(noisy, level, conditioning, frame_index, grid)


class LeavesOut(SvdUNet):
    """Leaves its deep half out where it is kept."""

    def forward(self, noisy, level, conditioning, frame_index=None, grid=None, deep=None):
        if deep is not None and deep.tensors:
            deep.tensors = (torch.zeros_like(deep.tensors[0]),)
        return super().forward(noisy, level, conditioning, frame_index, grid, deep)


FAULTS = [
    (check_view_attention, WrongGroups, {}, "does not see token .* not what it declares"),
    (check_view_attention, ByPlace, {}, "not what it declares"),
    (check_view_attention, OneClip, {}, "changes? with the clips beside it"),
    (check_view_attention, Cheap, {}, "flops declares"),
    (check_view_attention, LoudAtTheStart, {}, "a new part changes its input"),
    (check_view_attention, OwnMask, {}, "meets .* on the CPU"),
    (check_sampler, NoWindows, {}, "NoWindows does not define windows of hvg.plugin.Sampler"),
    (check_sampler, OfLists, {}, "step 0 of a 1 x 1 grid: views and frames have to be tuples; views is a list"),
    (check_sampler, OneByOne, {}, "step 0 of a 1 x 1 grid: windows has to give a list, not a generator"),
    (check_sampler, Pairs, {}, "windows gives a tuple where a Window belongs"),
    (check_sampler, Unweighted, {}, "weights have to be a tensor, not a float"),
    (check_sampler, Hole, {"frames": 5, "overlap": 2}, "leaves out"),
    (check_sampler, Double, {"frames": 5, "overlap": 2}, "cost says"),
    (check_solver, Overshoots, {}, "has to give the estimate"),
    (check_solver, InPlace, {}, "changes the tensors that it is given"),
    (check_solver, OnTheCpu, {}, "meets .* on the CPU"),
    (check_guidance, FramesFirst, {}, r"1 views x 5 frames .* scales are \(1, 2, 5, 1\)"),
    (check_guidance, Unasked, {}, "leaves out task, which no clip trains without"),
    (check_guidance, OfTheFirst, {}, "scales of a clip depend on the others"),
    (check_prediction, Rising, {}, "do not fall to 0"),
    (check_prediction, Deaf, {}, "does not depend on the network's output"),
    (check_codec, MeanOfViews, {}, "change with the clips and views beside it"),
    (check_codec, LooksAhead, {}, "latents of the first 1 frames change with those that follow"),
    (check_codec, ForgetsWhatWasBefore, {}, "pieces are together"),
    (check_codec, BlackAtTheEnd, {}, "not padded with its last frame"),
    (check_alignment, HalfPixels, {}, "not int64"),
    (check_alignment, FirstMoves, {}, "per_picture is true"),
    (check_metric, Reversed, {}, "lower is better, but the truth scores"),
    (check_metric, Remembers, {}, "depends on what was measured before"),
    (check_metric, KeepsPictures, {}, "'pictures' keeps pictures"),
    (check_metric, Nameless, {}, "Nameless does not say its definition"),
    (check_metric, Braces, {}, r"has braces left: settings are named as \{config.NAME\}"),
    (check_metric, NoSetting, {}, "names no setting of its own: .*gap"),
    (check_metric, Misspelt, {}, "'alfa', which no clip holds. Did you mean 'alpha'"),
    (check_metric, GivesANumber, {}, "reduce has to give a Score, and gives float"),
    (check_metric, OneForAll, {}, r"score gives \(\); expected \(\d+,\), a number a frame"),
    (check_renderer, WorldNormals, {}, "normals differ"),
    (check_renderer, Corners, {}, "pixels beside the pixel's centre|depth is off|show a box"),
    (check_renderer, FirstPose, {}, "show a box"),
    (check_renderer, AlongTheRay, {}, "depth is off"),
    (check_keypoints, Rootless, {}, "root or joints tell of .*pelvis"),
    (check_keypoints, OfAllPictures, {}, "depend on the pictures beside it"),
    (check_keypoints, Percent, {}, "confidence leaves"),
    (check_backbone, NoPlaces, TINY, "frame_index has no effect"),
    (check_backbone, MixesViews, TINY, "see each other"),
    (check_reuse, KeepsNothing, TINY, "keeps nothing of its deep half"),
    (check_reuse, LeavesOut, TINY, "kept for the same inputs .* another output"),
]


@pytest.mark.parametrize(("check", "part", "settings", "message"), FAULTS, ids=lambda x: getattr(x, "__name__", ""))
def test_a_broken_promise_is_named(check, part, settings, message):
    with pytest.raises(AssertionError, match=message):
        check(part, part.Config(**settings))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (WrongNull, r"null fills .* but spec says"),
        (OfEveryFrame, r"forward fills .* but spec says"),
        (OfTheFirstView, "once a clip promises the same for every window"),
        (OfItsNeighbours, "once a cell promises the same for every window, but port embedding"),
        (OfTheWindowsFirstView, "once a cell promises the same for every window, but port embedding"),
        (OfWhatIsKnown, "once a cell promises .* goes by what is known"),
        (OfJoinedFrames, "once a cell promises the same for every window, but port tokens"),
        (OncePerView, "once_per says {'view'}, and knows clip, cell, window"),
    ],
)
def test_a_broken_promise_of_a_conditioner_is_named(part, message):
    with pytest.raises(AssertionError, match=message):
        check_conditioner(part, part.Config(), tiny_context())


# --- the device that no machine has ---


def test_tensors_stay_where_a_gpu_would_have_them():
    with elsewhere() as device:
        x = torch.randn(2, 3).to(device)
        assert x.device == device and is_elsewhere(x)
        for made in (
            x + 1,
            x.mT @ x,
            x[0],
            x[torch.tensor([0])],
            x[x > 0],
            torch.zeros(3, device=x.device),
            torch.zeros(3, device="cuda"),
            torch.zeros_like(x),
            x.new_tensor([1.0, 2.0]),
            torch.as_tensor(2.0, device=x.device),
            torch.ones(2).to(x),
            torch.ones(2).cuda(),
            x * torch.tensor(2.0),
            torch.stack([x, x]),
            x.max(dim=0).values,
            x.to(torch.float64),
        ):
            assert is_elsewhere(made)
        for made in (torch.zeros(3), x.cpu(), x.to("cpu"), x.to(torch.ones(1))):
            assert not is_elsewhere(made)
        assert isinstance(x.sum().item(), float) and len(x.tolist()) == 2
        linear = nn.Linear(3, 4).to(device)
        assert is_elsewhere(linear(x)) and all(map(is_elsewhere, linear.parameters()))
        batch = tiny_batch().to(device)
        assert is_elsewhere(batch.frames) and is_elsewhere(batch.cameras.intrinsics)
        assert is_elsewhere(batch.select([1]).view_grid().view_index)
    assert not torch.__future__.get_overwrite_module_params_on_conversion()


@pytest.mark.parametrize(
    "meet",
    [
        lambda x: x + torch.ones(2, 3),
        lambda x: torch.cat([x, torch.ones(2, 3)]),
        lambda x: torch.where(torch.ones(2, 3) > 0, x, 0.0),
        lambda x: nn.Linear(3, 4)(x),
        lambda x: x.numpy(),
        lambda x: np.asarray(x),
    ],
)
def test_tensors_of_two_devices_do_not_meet(meet):
    with elsewhere() as device, pytest.raises(AssertionError, match="CPU"):
        meet(torch.randn(2, 3).to(device))


# --- captions and settings ---


class Letters(Conditioner):
    """A token a letter, of all clips as many as the longest caption has."""

    requires = frozenset({"caption"})

    @classmethod
    def once_per(cls, config, first_view="grid"):
        return "clip"

    def __init__(self, config, context):
        super().__init__(config, context)
        self.width = context.ports.token_width

    @classmethod
    def spec(cls, config, ports):
        return ConditioningSpec(tokens=ports.token_width)

    def forward(self, signal, batch):
        longest = max(map(len, batch.caption))
        codes = [[*caption.encode(), *[0] * (longest - len(caption))] for caption in batch.caption]
        tokens = batch.cameras.intrinsics.new_tensor(codes)[..., None].expand(-1, -1, self.width)
        return Conditioning(tokens=tokens[:, None, None])


class FirstCaption(Letters):
    """Reads one caption for all clips."""

    def forward(self, signal, batch):
        return super().forward(signal, replace(batch, caption=batch.caption[:1] * len(batch.caption)))


class NoDropout(CameraRotation):
    """Its settings lack what every conditioner has."""

    class Config(PartConfig):
        width: int = 16


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Letters, "port tokens of a clip changes with the clips beside it"),
        (FirstCaption, "port tokens of a clip changes with the clips beside it"),
        (NoMap, "NoMap does not define draw_map of hvg.plugin.PoseGuided"),
        (NoDropout, "Config that is no subclass of hvg.plugin.ConditionerConfig"),
    ],
)
def test_a_conditioner_that_mixes_captions_or_lacks_something_is_named(part, message):
    with pytest.raises(AssertionError, match=message):
        check_conditioner(part, part.Config(), tiny_context())
