"""Control maps are the same wherever and whenever they are drawn, and files keep them as exactly as they say."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from components.conditioners.camera_rays import CameraRays
from components.conditioners.skeleton import Skeleton
from hvg.config import checks, wiring
from hvg.config.composition import compose
from hvg.config.settings import PartChoice
from hvg.core.errors import HvgError
from hvg.data.cache import RenderedClips
from hvg.data.prepare import render_shard
from hvg.data.shards import ShardReader
from hvg.data.signals import Signals, mesh_readers
from hvg.data.training_data import ClipDataModule, TrainingOrder
from hvg.model.load import build_system
from hvg.parts.pose_guided import GuidedConfig, PoseGuided
from hvg.parts.scene import Dataset
from hvg.sample.request_notes import hidden_maps_note
from hvg.testing import build, check_conditioner, check_signal, tiny_batch, tiny_context
from hvg.values.buckets import Bucket, alike
from hvg.values.cameras import project
from hvg.values.clip import ClipBatch

VIEWS, FRAMES = 4, 3


class Clips(Dataset):
    """Three clips of four views and three frames."""

    @classmethod
    def provides(cls, config):
        return frozenset({"frames", "alpha", "body", "body.vertices", "reference"})

    def __len__(self):
        return 3

    def load(self, index):
        clip = tiny_batch(1, VIEWS, FRAMES, seed=index)
        return replace(clip, clip_id=(f"clip-{index}",))


class Turn(PoseGuided):
    """How far a view is turned away from the first one: one number all over the picture."""

    Config = GuidedConfig
    requires = frozenset({"cameras"})

    @classmethod
    def signal_channels(cls, config):
        return 1

    def draw_map(self, batch):
        first = batch.cameras[:, :1] if batch.origin is None else batch.origin
        angle = (batch.cameras.world_to_camera[..., 2, :3] * first.world_to_camera[..., 2, :3]).sum(-1)
        return angle[..., None, None, None].expand(*batch.grid, 1, *batch.cameras.image_size)


class TurnThatSaysSo(Turn):
    """The same, drawn of what a step sees."""

    @classmethod
    def per_picture(cls, config):
        return False


class Colour(PoseGuided):
    """The photo's colour, which data.recolour changes."""

    Config = GuidedConfig
    requires = frozenset({"reference"})

    @classmethod
    def signal_channels(cls, config):
        return 3

    def draw_map(self, batch):
        colour = batch.reference.frames[:, :1, None].mean((-2, -1), keepdim=True)
        return colour.expand(*batch.grid, 3, *batch.cameras.image_size)


class Corners(PoseGuided):
    """A dot on every vertex, darker in every later view of those that are drawn together."""

    Config = GuidedConfig
    requires = frozenset({"body.vertices", "cameras"})

    @classmethod
    def signal_channels(cls, config):
        return 1

    @classmethod
    def per_picture(cls, config):
        return False

    def draw_map(self, batch):
        pixels, _ = project(batch.body.vertices[:, None], batch.cameras)
        signal = pixels.new_zeros(*batch.grid, 1, *batch.cameras.image_size)
        for b, v, t in torch.cartesian_prod(*map(torch.arange, batch.grid)).tolist():
            x, y = pixels[b, v, t].long().clamp(0, batch.cameras.image_size[0] - 1).unbind(-1)
            signal[b, v, t, 0, y, x] = 1 / (1 + v)
        return signal


class Grey(PoseGuided):
    """A grey picture."""

    Config = GuidedConfig
    requires = frozenset({"cameras"})

    @classmethod
    def signal_channels(cls, config):
        return 4

    def draw_map(self, batch):
        return torch.full((*batch.grid, 4, *batch.cameras.image_size), 0.5)


class ThreeChannels(Grey):
    """Draws fewer channels than it says."""

    def draw_map(self, batch):
        return super().draw_map(batch)[:, :, :, :3]


class Outline(Grey):
    """Says where, not how much."""

    def draw_map(self, batch):
        return super().draw_map(batch) > 0


class NotFinite(Grey):
    """Divides by zero somewhere."""

    def draw_map(self, batch):
        drawn = super().draw_map(batch)
        drawn[..., 0, 0] = torch.nan
        return drawn


class DrawsNothing(Grey):
    """Forgets to return its map."""

    def draw_map(self, batch):
        super().draw_map(batch)


class NoFrames(Grey):
    """Draws one picture a view."""

    def draw_map(self, batch):
        return super().draw_map(batch)[:, :, 0]


class OfAHand(Grey):
    """Asks for a joint by a name that it has not."""

    def draw_map(self, batch):
        batch.body.place("left_hand")


def part(cls, **settings):
    return build(cls, cls.Config(**settings), tiny_context())


@pytest.mark.parametrize(
    ("cls", "told"), [(Turn, "which views and frames it is drawn with"), (Colour, "colours of frames or photo")]
)
def test_a_map_that_depends_on_what_else_is_drawn_is_told(cls, told):
    with pytest.raises(AssertionError, match=told):
        check_signal(cls, cls.Config(), tiny_context())


@pytest.mark.parametrize("check", [check_signal, check_conditioner])
@pytest.mark.parametrize(
    ("cls", "told"), [(Turn, "let `per_picture` say False"), (NotFinite, "the control map is not finite everywhere")]
)
def test_a_conditioner_s_map_is_checked_before_what_is_made_of_it(check, cls, told):
    with pytest.raises(AssertionError, match=f"^the control map .*{told.removeprefix('the control map ')}"):
        check(cls, cls.Config(), tiny_context())


# No control maps, by shape or type.
NO_MAPS = [
    (ThreeChannels, "signal_channels says 4, draw_map gives 3"),
    (Outline, "the control map has to be floating point; draw_map gives torch.bool"),
    (DrawsNothing, "draw_map gives None, not a control map"),
    (NoFrames, "the control map has shape (1, 4, 4, 32, 32), not (B, V, T, K, H, W) = (1, 4, 3, 4, 32, 32)"),
]


@pytest.mark.parametrize(("cls", "told"), NO_MAPS[:3])
def test_what_is_no_map_breaks_a_promise(cls, told):
    with pytest.raises(AssertionError) as raised:
        check_conditioner(cls, cls.Config(), tiny_context())
    assert str(raised.value) == told


@pytest.mark.parametrize(("cls", "told"), NO_MAPS)
def test_what_is_no_map_is_a_line_where_it_is_drawn(cls, told):
    with pytest.raises(HvgError) as raised:
        Signals.of({"grey": part(cls)}).draw(Clips().load(0))
    assert str(raised.value) == f"{cls.__name__}: {told}"


def test_values_are_not_read_where_a_map_is_drawn():
    assert Signals.of({"grey": part(NotFinite)}).draw(Clips().load(0)).signals.keys() == {"grey"}


def test_a_joint_that_a_body_lacks_is_named_in_a_line():
    for draw in (
        lambda: check_conditioner(OfAHand, OfAHand.Config(), tiny_context()),
        lambda: Signals.of({"grey": part(OfAHand)}).draw(Clips().load(0)),
    ):
        with pytest.raises(
            HvgError, match=r"^the body has no joint 'left_hand'; its joints are pelvis, .*left_wrist"
        ) as raised:
            draw()
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("cls", [TurnThatSaysSo, Corners])
def test_one_that_says_so_passes(cls):
    check_conditioner(cls, cls.Config(), tiny_context())


@pytest.mark.parametrize("cls", [TurnThatSaysSo, Corners])
def test_a_step_sees_the_map_that_a_window_of_the_same_views_sees(cls, tmp_path):
    """Live, and where the clips and their other maps come from shards, which hold no mesh here."""
    late = part(cls)
    signals = Signals.of({"turn": late, "lines": part(Skeleton)})
    shard = render_shard(tmp_path, "train", Clips(), signals.ahead)
    rendered = RenderedClips([shard], Clips(), frozenset({"lines"}), signals.mesh)
    for clips in (Clips(), rendered):
        order = TrainingOrder(clips, signals, seed=0, groups=alike(len(clips), Bucket(2, 2)), clips_per_step=1)
        for position in range(4):
            seen = order[position]
            assert seen.signals.keys() == {"turn", "lines"}
            with_mesh = replace(seen, body=cut(seen).body, signals={})
            assert torch.equal(seen.signals["turn"], Signals({"turn": late}).draw(with_mesh).signals["turn"])


class Unasked(Clips):
    """The same clips, which nobody may ask for."""

    def load(self, index):
        raise AssertionError(f"clip {index} is made anew")


def test_meshes_are_kept_for_those_that_read_them_and_read_by_no_other(tmp_path):
    lines = Signals.of({"lines": part(Skeleton)})
    shard = render_shard(tmp_path, "train", Clips(), lines)
    assert not ShardReader(shard).meshes
    with pytest.raises(AssertionError, match="clip 1 is made anew"):
        RenderedClips([shard], Unasked(), frozenset(), mesh=True).load(1)
    # What lacks them is made again with them, and with the maps that it had.
    render_shard(tmp_path, "train", Clips(), Signals(), keep_mesh=True)
    reader = ShardReader(shard)
    assert reader.meshes and reader.signals == {"lines"}
    whole, true = RenderedClips([shard], Unasked(), frozenset({"lines"}), mesh=True), Clips().load(1)
    for kept, made in ((whole.load(1), true), (whole.load_part(1, lambda v, t: ([2], range(1, 3)), frozenset()), None)):
        made = true.select([2], [1, 2]) if made is None else made
        for body, expected in ((kept.body, made.body), (kept.reference.body, made.reference.body)):
            assert (body is None) == (expected is None)
        assert torch.equal(kept.body.vertices, made.body.vertices) and torch.equal(kept.body.faces, made.body.faces)
        for name, x in vars(made.body.skinning).items():
            same = torch.equal if isinstance(x, torch.Tensor) else tuple.__eq__
            assert same(getattr(kept.body.skinning, name), x)
    bare = RenderedClips([shard], Unasked(), frozenset({"lines"})).load(1)
    assert bare.body.vertices is bare.body.skinning is None and torch.equal(bare.body.joints, true.body.joints)
    # They stay where another map is added.
    render_shard(tmp_path, "train", Clips(), Signals.of({"rays": part(CameraRays)}))
    assert ShardReader(shard).meshes and ShardReader(shard).signals == {"lines", "rays"}


def test_who_reads_the_mesh_of_what_a_step_sees_is_named(tiny):
    assert mesh_readers(compose([*tiny, "pose=smpl_normal", "reconstruction=projection"])) == []
    own = [word for word in tiny if not word.startswith("backbone.")]
    avatar = compose([*own, "system=avatar", "reconstructor=nerf"])
    assert mesh_readers(avatar) == ["reconstructor=nerf"]


def cut(seen: ClipBatch) -> ClipBatch:
    """The same views and frames of the clip, mesh and all."""
    whole = Clips().load(int(seen.clip_id[0].rpartition("-")[2]))
    views = [
        next(v for v in range(VIEWS) if torch.equal(whole.cameras.world_to_camera[0, v, 0], camera))
        for camera in seen.cameras.world_to_camera[0, :, 0]
    ]
    return whole.select(views, seen.frame_index[0])


def test_what_depends_on_a_step_is_not_stored(tmp_path):
    signals = {"turn": part(TurnThatSaysSo), "lines": part(Skeleton)}
    clip = Signals(signals).load(Clips(), 0)
    assert clip.signals.keys() == {"lines"} and clip.body.vertices is None
    assert Signals(signals, mesh=True).load(Clips(), 0).body.vertices is not None


@pytest.mark.parametrize("first_view", ["grid", "window"])
def test_a_window_of_a_sampler_draws_its_own(monkeypatch, tiny, first_view):
    """The map that the network gets is the one of the window's views, in their order."""
    choice = PartChoice("conditioner", "turn", TurnThatSaysSo, TurnThatSaysSo.Config())
    words = ("sampler=view", "sampler.views=2", f"data.first_view={first_view}")
    config = compose([*tiny, *words]).model_copy(update={"pose": choice})
    system, seen = build_system(config).eval(), []
    forward = TurnThatSaysSo.forward

    def watched(self, signal, batch):
        seen.append((batch.cameras, batch.origin, signal))
        return forward(self, signal, batch)

    monkeypatch.setattr(TurnThatSaysSo, "forward", watched)
    clip = system.signals.load(Clips(), 0)
    system.generate(clip, num_steps=1)
    assert len(seen) == VIEWS // 2
    for cameras, origin, signal in seen:
        assert signal.shape[:3] == (1, 2, FRAMES)
        if first_view == "grid":
            assert torch.equal(origin.world_to_camera, clip.cameras.world_to_camera[:, :1])
        else:
            assert origin is None
        drawn = part(TurnThatSaysSo).signal(replace(clip.select([0, 1]), cameras=cameras, origin=origin))
        assert torch.allclose(signal, drawn, atol=1 / 127)


def test_a_mesh_that_a_step_reads_is_refused_where_latents_are_cached():
    words = ["scale=cpu", "data.recolour=0", "data.cache=somewhere", "data.latents=cached"]
    choice = PartChoice("conditioner", "corners", Corners, Corners.Config())
    (problem,) = checks.check(compose(words).model_copy(update={"pose": choice}))
    assert str(problem).startswith("data.latents: cached leaves the mesh behind, but pose=corners reads it")


# --- floats ---


@pytest.mark.parametrize("relative_to", ["world", "first"])
def test_rays_are_those_through_pixel_centres(relative_to):
    """Points at any depth along a ray project to the pixel; the moment is the same for each of them."""
    clip = tiny_batch(1, 2, 1, size=8)
    rays = part(CameraRays, relative_to=relative_to, scale=2.0).signal(clip)
    if relative_to == "world":
        # Two points on the ray: the one nearest to the origin, d x m, and one three metres on.
        d, m = rays[0, 1, 0].movedim(0, -1).split(3, dim=-1)
        foot = torch.linalg.cross(d, 2.0 * m)
        pixels, _ = project((foot + 6.0 * d).view(-1, 3), clip.cameras[0, 1, 0])
        x, y = torch.arange(64) % 8 + 0.5, torch.arange(64) // 8 + 0.5
        assert torch.allclose(pixels, torch.stack([x, y], -1), atol=1e-3)
    else:
        # The first camera is the origin: no moment, and the middle of the picture looks along z.
        assert rays[0, 0, 0, 3:].abs().max() < 1e-6
        assert torch.allclose(rays[0, 0, 0, :3, 3:5, 3:5].mean((-2, -1))[:2], torch.zeros(2), atol=1e-6)
    assert torch.allclose(rays[:, :, :, :3].norm(dim=3), torch.ones(1, 2, 1, 8, 8))


def test_a_float_map_in_a_file_is_the_one_made_on_the_fly(tmp_path):
    """Neighbouring pixels have their own directions, which 8 bits do not tell apart."""
    rays = Signals({"rays": part(CameraRays, relative_to="world"), "lines": part(Skeleton)})
    shard = render_shard(tmp_path, "train", Clips(), rays)
    assert ShardReader(shard).signals == {"rays", "lines"}
    live = rays.load(Clips(), 1).signals
    stored = RenderedClips([shard], Clips(), frozenset(rays)).load(1).signals
    assert all(torch.equal(stored[key], live[key]) for key in rays)
    assert torch.equal(live["rays"], rays["rays"].signal(Clips().load(1)))
    assert len(live["rays"][0, 0, 0, 0].unique()) > 600
    # A part of the clip reads a part of the map.
    taken = RenderedClips([shard], Clips(), frozenset(rays)).load_part(
        1, lambda v, t: ([2], range(1, 3)), frozenset(rays)
    )
    assert torch.equal(taken.signals["rays"], live["rays"][:, [2]][:, :, 1:3])


class HalfRays(CameraRays):
    """Rays in half precision."""

    @classmethod
    def signal_storage(cls, config):
        return "float16"


def test_half_precision_takes_half_the_bytes(tmp_path):
    sizes = []
    for cls in (CameraRays, HalfRays):
        rays = Signals({"rays": part(cls, relative_to="world")})
        shard = render_shard(tmp_path / cls.__name__, "train", Clips(), rays)
        live = rays.load(Clips(), 0).signals["rays"]
        assert live.dtype == torch.float32 and torch.equal(ShardReader(shard).load(0).signals["rays"], live)
        members = [size for name, (_, size) in ShardReader(shard)._members["clip-0"].items() if "rays" in name]
        sizes.append(sum(members))
    assert sizes[1] < 0.55 * sizes[0]


def test_a_map_that_needs_no_body_asks_for_none(tiny):
    """The part is the one that says what it needs."""
    clip = replace(tiny_batch(), body=None)
    assert part(Turn).signal(clip).shape[3] == 1
    config = compose([*tiny, "camera=camera_rays"])
    assert config.camera.cls.needs(config.camera.config) == {"cameras"}


def test_loader_processes_draw_what_a_step_sees():
    """The maps of a step are drawn in the loader, not in the training process."""
    signals = Signals({"turn": part(TurnThatSaysSo)})
    order = partial(TrainingOrder, Clips(), signals, seed=0, groups=alike(len(Clips()), Bucket(2, 1)))
    data = ClipDataModule(order, batch_size=2, num_steps=1, workers=0)
    (batch,) = data.train_dataloader()
    assert batch.signals["turn"].shape == (2, 2, 1, 1, 32, 32)


# --- what is said of maps that are drawn anew in every window ---


def with_corners(config, **settings):
    corners = PartChoice("conditioner", "corners", Corners, Corners.Config(**settings))
    return config.model_copy(update={"slots": {"mine": corners}})


def test_motion_that_no_step_can_show_is_noted(tiny):
    alone, together = (compose([*tiny, f"data.frames={frames}"]) for frames in (1, 2))
    (note,) = wiring.slot_notes(with_corners(alone))
    assert note == (
        "slots.mine=corners: its map is drawn from the pictures that a step sees together, and training steps have 1 frame "
        "(data.frames); a map that looks at other frames is never trained with any"
    )
    assert wiring.slot_notes(with_corners(together)) == wiring.slot_notes(alone) == []
    # Cameras do not move with the body.
    assert wiring.slot_notes(compose([*tiny, "data.frames=1", "camera=camera_rays"])) == []


def test_maps_that_no_video_shows_are_noted(tiny):
    config, bare = compose([*tiny, "pose=skeleton"]), compose([*tiny, "pose=none"])
    assert hidden_maps_note(config) is None
    assert hidden_maps_note(with_corners(config, strength=0)) is None
    told = "slots.mine=corners: the map is drawn anew in every window of the sampler (no per_picture), so "
    assert hidden_maps_note(with_corners(config)) == f"{told}signals.mp4 and the grid lack it"
    assert hidden_maps_note(with_corners(bare)) == f"{told}there is no signals.mp4"
