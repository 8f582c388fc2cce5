"""How the network knows which frame and which view it denoises, also where it sees only a window of them."""

from dataclasses import replace

import pytest
import torch

from components.conditioners.camera_rotation import CameraRotation, CameraRotationConfig
from components.samplers.single import SingleWindow
from hvg.config.composition import compose
from hvg.core.random_keys import generator
from hvg.data.signals import NO_SIGNALS
from hvg.data.training_data import TrainingOrder
from hvg.model.load import build_system
from hvg.model.system import HumanVideoSystem
from hvg.parts.part import PartConfig
from hvg.parts.plan import Sampler
from hvg.parts.scene import Dataset
from hvg.testing import build, nudged, tiny_batch, tiny_context
from hvg.values.buckets import Bucket, alike
from hvg.values.cameras import look_at, orbit, relative_rotation
from hvg.values.clip import ClipBatch
from hvg.values.grid import Window

VIEWS, FRAMES = 4, 6
FIRST_FRAME = 10


class Pairs(Sampler):
    """Every window sees two views and three frames, and none sees the first view with the last frames."""

    def windows(self, step: int, num_steps: int, views: int, frames: int) -> list[Window]:
        spans = [range(start, start + 3) for start in range(0, frames, 3)]
        groups = [(0, 2), (3, 1)]
        return [Window(group, tuple(span), torch.ones(2, 3)) for group in groups for span in spans]


@pytest.fixture(scope="module")
def system(tiny) -> HumanVideoSystem:
    """A small one that says something, with a plan of windows."""
    built = build_system(compose([*tiny, "guidance.value=1"]))
    random = generator("weights")
    with torch.no_grad():
        for weight in built.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=random))
    built.sampler = Pairs()
    return built


def video(first_frame: int = FIRST_FRAME) -> ClipBatch:
    """A part of a long video: its frames know where in the video they are."""
    batch = tiny_batch(clips=1, views=VIEWS, frames=FRAMES)
    return replace(batch, frames=None, alpha=None, frame_index=first_frame + torch.arange(FRAMES)[None])


def calls(system: HumanVideoSystem, batch: ClipBatch) -> list[tuple]:
    """What the backbone is called with during a request: (noisy, level, conditioning, frame_index, grid)."""
    seen = []
    hook = system.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    system.generate(batch, num_steps=1)
    hook.remove()
    return seen


# --- frames ---


def test_the_network_tells_frames_apart_by_their_place_in_the_video(system):
    noisy = torch.randn(1, 2, 4, system.codec.channels, 8, 8, generator=generator("noisy"))
    level, part = torch.zeros(1, 2, 4), video().select(views=[0, 1], frames=range(4))
    with torch.no_grad():
        conditioning = system.condition(part)

        def output(index: torch.Tensor | None) -> torch.Tensor:
            return system.backbone(noisy, level, conditioning, index, part.view_grid())

        from_zero, later = torch.arange(4)[None], torch.arange(10, 14)[None]
        assert torch.equal(output(None), output(from_zero))
        assert (output(later) - output(None)).abs().max() > 1e-4
        assert (output(later) - output(later + 1)).abs().max() > 1e-4


def test_windows_of_a_long_video_are_told_absolute_frames(system):
    (seen,) = calls(system, video())
    noisy, _, _, index, _ = seen
    # Two groups of views times two spans, denoised together.
    assert noisy.shape[:3] == (4, 2, 3)
    assert index.tolist() == [[10, 11, 12], [13, 14, 15], [10, 11, 12], [13, 14, 15]]


def test_what_is_generated_depends_on_the_place_in_the_video(system):
    early, late = (system.generate(video(first), num_steps=1) for first in (0, 10))
    counted = system.generate(replace(video(), frame_index=None), num_steps=1)
    assert not torch.equal(early, late)
    # Without frame_index every window starts at 0: its second half is not that of the whole video.
    assert torch.equal(counted[:, :, :3], early[:, :, :3]) and not torch.equal(counted[:, :, 3:], early[:, :, 3:])


def test_training_tells_the_frames_that_were_drawn():
    clip = tiny_batch(clips=1, views=2, frames=FRAMES)
    order = TrainingOrder(_Clips(clip), NO_SIGNALS, seed=0, groups=alike(1, Bucket(1, 2)), clips_per_step=1)
    drawn = [order[position] for position in range(12)]
    starts = {part.frame_index[0, 0].item() for part in drawn}
    assert len(starts) > 2
    for part in drawn:
        first = part.frame_index[0, 0]
        assert part.frame_index.tolist() == [[first, first + 1]]
        assert torch.equal(part.body.joints, clip.body.joints[:, part.frame_index[0]])


# --- views ---


class _Clips(Dataset):
    """One clip."""

    def __init__(self, clip: ClipBatch) -> None:
        self.clip = clip

    def __len__(self) -> int:
        return 1

    def load(self, index: int) -> ClipBatch:
        return self.clip


@pytest.fixture
def rotation() -> CameraRotation:
    """With weights as training might leave them."""
    return nudged(build(CameraRotation, CameraRotationConfig(), tiny_context()))


def embedding(part: CameraRotation, batch: ClipBatch) -> torch.Tensor:
    with torch.no_grad():
        result = part(None, batch).embedding
    assert result is not None
    return result


@pytest.mark.parametrize(("views", "frames"), [((2, 3), (0, 1)), ((3, 1), (4,)), ((0,), (5, 2))])
def test_a_window_is_told_the_rotation_from_the_grid_s_first_view(rotation, views, frames):
    batch = tiny_batch(views=VIEWS, frames=FRAMES)
    whole = embedding(rotation, batch)[:, :, list(frames)]
    window = batch.select(views, frames)
    torch.testing.assert_close(embedding(rotation, window), whole[:, list(views)], rtol=0, atol=1e-5)
    # A window of a window still knows the grid.
    last = window.select(views=[len(views) - 1])
    torch.testing.assert_close(embedding(rotation, last), whole[:, [views[-1]]], rtol=0, atol=1e-5)
    # Without it, the window's own first view would count as the identity.
    alone = embedding(rotation, replace(window, origin=None))
    assert torch.allclose(alone, whole[:, list(views)], atol=1e-2) == (views[0] == 0)


def test_windows_get_their_rows_of_the_whole_grid_s_conditioning(system):
    """In the engine, with every conditioner of the default configuration."""
    seen = calls(system, video())[0][2]
    system.sampler, plan = SingleWindow(PartConfig()), system.sampler
    whole = calls(system, video())[0][2].expand(VIEWS, FRAMES)
    system.sampler = plan
    windows = plan.windows(0, 1, VIEWS, FRAMES)

    def rows(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[:, list(w.views)][:, :, list(w.frames)] for w in windows])

    for name in ("embedding", "channels"):
        torch.testing.assert_close(getattr(seen.expand(2, 3), name), rows(getattr(whole, name)), rtol=1e-5, atol=1e-6)
    for port in ("residuals", "memory"):
        assert getattr(seen, port).keys() == getattr(whole, port).keys()
        for site, x in getattr(seen.expand(2, 3), port).items():
            torch.testing.assert_close(x, rows(getattr(whole, port)[site]), rtol=1e-5, atol=1e-5)


def test_a_training_step_is_told_the_rotation_from_the_clip_s_first_view():
    clip = tiny_batch(clips=1, views=VIEWS, frames=2)
    order = TrainingOrder(_Clips(clip), NO_SIGNALS, seed=0, groups=alike(1, Bucket(2, 1)), clips_per_step=1)
    whole = relative_rotation(clip.cameras)
    seen = set()
    for position in range(12):
        part = order[position]
        views = part.view_grid().view_index[0].tolist()
        told = relative_rotation(part.cameras, part.origin)
        torch.testing.assert_close(told, whole[:, views][:, :, part.frame_index[0]], rtol=0, atol=1e-6)
        seen.add(views[0])
    assert len(seen) > 1, "the first view drawn is not always the same"


def test_a_training_step_alone_calls_its_own_first_view_the_identity(rotation):
    clip = tiny_batch(clips=1, views=VIEWS, frames=2)
    order = TrainingOrder(
        _Clips(clip), NO_SIGNALS, seed=0, groups=alike(1, Bucket(2, 1)), clips_per_step=1, first_view="window"
    )
    firsts = set()
    for position in range(12):
        part = order[position]
        told = relative_rotation(part.cameras, part.origin)
        torch.testing.assert_close(told[:, 0], torch.eye(3).expand_as(told[:, 0]), rtol=0, atol=1e-6)
        first = part.cameras.world_to_camera[0, 0, 0, :3, :3]
        torch.testing.assert_close(told[0, 1, 0] @ first, part.cameras.world_to_camera[0, 1, 0, :3, :3])
        firsts.add(tuple(first.flatten().tolist()))
    assert len(firsts) > 1, "the first view drawn is not always the same"


def test_a_new_embedding_is_zero():
    fresh = build(CameraRotation, CameraRotationConfig(), tiny_context())
    assert not embedding(fresh, tiny_batch(views=VIEWS)).any()


def around(azimuths: torch.Tensor) -> ClipBatch:
    """One view per azimuth, a little from above."""
    cameras = orbit(
        azimuths,
        elevation_degrees=8.0,
        distance=3.0,
        target=torch.tensor([0.0, 0.9, 0.0]),
        fov_degrees=40.0,
        image_size=(32, 32),
    )
    return ClipBatch(cameras=cameras[None, :, None], clip_id=("orbit",), subject=("orbit",))


def test_opposite_and_neighbouring_views_are_told_apart(rotation):
    told = embedding(rotation, around(torch.arange(0, 360, 7.5)))[0, :, 0]
    distance = torch.cdist(told, told)
    near = distance.diagonal(1)
    assert distance[0, 24] > near.max() > near.min() > 0.5, "0 and 180 degrees, and 7.5 degrees"
    # No view is taken for one that is far away.
    distance.fill_diagonal_(torch.inf)
    assert distance.min() > 0.8 * near.min()


def test_only_the_turn_between_cameras_counts(rotation):
    """Turning and moving the world, walking away and zooming change nothing."""
    batch = tiny_batch(views=VIEWS)
    turn = torch.eye(4)
    turn[:3] = look_at(torch.tensor([0.3, 2.0, -1.0]), torch.tensor([1.0, 0.5, 2.0]))[:3]
    moved = replace(batch.cameras, world_to_camera=batch.cameras.world_to_camera @ turn)
    torch.testing.assert_close(
        embedding(rotation, replace(batch, cameras=moved)), embedding(rotation, batch), rtol=0, atol=1e-4
    )
    other = replace(batch.cameras, intrinsics=2 * batch.cameras.intrinsics)
    assert torch.equal(embedding(rotation, replace(batch, cameras=other)), embedding(rotation, batch))


def test_the_first_view_s_embedding_does_not_depend_on_where_it_is(rotation):
    firsts = [embedding(rotation, around(torch.tensor([a, a + 90.0])))[:, 0] for a in (0.0, 57.0, 180.0)]
    for other in firsts[1:]:
        torch.testing.assert_close(other, firsts[0], rtol=0, atol=1e-4)


def test_the_rotation_is_added_to_the_noise_level(system):
    """Of two requests that differ in the rotation alone, the network makes different pictures."""
    noisy = torch.randn(1, 2, 1, system.codec.channels, 8, 8, generator=generator("noisy"))
    part = video().select(views=[0, 1], frames=[0])
    with torch.no_grad():
        conditioning = system.condition(part)
        without = replace(conditioning, embedding=torch.zeros_like(conditioning.embedding))
        grid = part.view_grid()
        one, other = (system.backbone(noisy, torch.zeros(1, 2, 1), c, None, grid) for c in (conditioning, without))
    assert (one - other).abs().max() > 1e-4
