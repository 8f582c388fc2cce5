"""A video model whose codec joins frames in time: what its parts are told of them, in training, windows and pieces."""

from dataclasses import replace
from queue import Queue

import pytest
import torch

from hvg.config.composition import compose
from hvg.core.errors import DataError
from hvg.core.random_keys import generator
from hvg.cost.forecast import forecast
from hvg.cost.passes import sampling_passes
from hvg.data.cache import cache_folder, open_training_clips
from hvg.data.features import encodings
from hvg.data.prepare_latents import encode, to_encode
from hvg.data.shard_writing import write_shard
from hvg.data.training_data import TrainingOrder, together
from hvg.model.load import build_system
from hvg.model.sampling_memory import LATENT_COPIES
from hvg.model.trained_windows import sampling_notes, window_shapes
from hvg.model.window_denoiser import WindowDenoiser
from hvg.parts import registry
from hvg.testing import check_system, tiny_batch
from hvg.testing.conditioner import ports_of
from hvg.values.buckets import Bucket, alike
from hvg.values.grid import Window
from hvg.values.latent_time import grouped_frames, latent_frames, padded_frames
from hvg.values.packed import unpacked

STRIDE = 4
SPACE_TIME = {"frames": 3, "frame_overlap": 1, "temporal_views": 1, "views": 2, "view_overlap": 1, "view_frames": 1}


def model(tiny, *words):
    """A small system that says something."""
    pose = [] if any(word.startswith("pose=") for word in words) else ["pose=skeleton"]
    built = build_system(compose([*tiny, "codec=pixel_time", *pose, *words])).eval()
    with torch.no_grad():
        for number, weight in enumerate(built.parameters()):
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator("weights", number)))
    return built


@pytest.fixture(scope="module")
def system(tiny):
    return model(tiny)


def plan(name, **settings):
    part = registry.load("sampler", name)
    return part(part.Config(**settings))


def clip(frames, clips=1, views=2):
    batch = tiny_batch(clips, views, frames)
    return replace(batch, sample_index=torch.arange(clips), valid=torch.ones(clips, views, frames, dtype=torch.bool))


def numbered(system, batch):
    """The batch with control maps that hold their frame's number, as they would be stored."""
    numbers = (torch.arange(float(batch.grid[2])) / 100).view(1, 1, -1, 1, 1, 1)
    maps = numbers.expand(*batch.grid, 4, *batch.cameras.image_size)
    return replace(batch, signals={system.signal_keys["pose"]: maps})


def frames_heard(system, run):
    """The frames of the maps that the encoder of the pose is given, a list for each view's latent frame."""
    heard = []
    hook = system.conditioners["pose"].guider.stages.register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    run()
    hook.remove()
    return [[round(100 * float(x)) for x in latent] for maps in heard for latent in maps.mean(dim=(-2, -1))]


# --- one frame alone is what it was ---


@pytest.mark.parametrize("words", [[], ["alignment=pelvis", "training.foreground_weight=2"]])
def test_a_stride_of_one_changes_no_bit(tiny, words):
    systems = [build_system(compose([*tiny, *words, *codec])) for codec in ([], ["codec=pixel_time", "codec.frames=1"])]
    batch = clip(3)
    with torch.no_grad():
        assert torch.equal(*(system.training_step(batch, 0)["loss"] for system in systems))
    asked = replace(batch, frames=None, alpha=None)
    assert torch.equal(*(system.eval().generate(asked, num_steps=2) for system in systems))


# --- which frames a latent frame hears of ---


@pytest.mark.parametrize("frames", [1, 6, 9])
def test_in_training_a_latent_frame_hears_of_its_own_frames(system, frames):
    heard = frames_heard(system, lambda: system.training_step(numbered(system, clip(frames)), 0))
    groups = [grouped_frames([k], frames, STRIDE) for k in range(latent_frames(frames, STRIDE))]
    # The four channels of a frame's map are all its number; frames stand together.
    assert heard == 2 * [[frame for frame in group for _ in range(4)] for group in groups]


def test_in_sampling_a_latent_frame_hears_of_its_own_frames_once(tiny):
    system = model(tiny)
    system.sampler = plan("temporal", frames=2, overlap=1)
    batch = numbered(system, replace(clip(14, views=1), frames=None, alpha=None))
    heard = frames_heard(system, lambda: system.generate(batch, num_steps=1))
    spans = [window.frames for window in system.sampler.windows(0, 1, 1, 5)]
    assert spans == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert heard == [[i for i in grouped_frames([k], 14, STRIDE) for _ in range(4)] for k in range(5)]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["alignment=pelvis"],
        ["pose.inject=both", "camera=camera_rays", "data.first_view=window"],
        ["pose=smpl_normal", "pose.encoder=codec_cnn", "task=switch"],
    ],
)
def test_a_window_is_told_what_all_of_the_video_is(tiny, words):
    """Every port of its latent frames, and their places and cameras, for a video that does not fill its last one."""
    system, batch = model(tiny, *words), clip(7, views=3)
    offsets, reference_offsets = system.offsets(batch)
    denoiser = WindowDenoiser(system, batch, (offsets, reference_offsets), (8, 8), {1: range(3)}, {})
    aligned = system.prepared(batch, offsets, reference_offsets)
    whole, (index, grid) = system.condition(aligned).expand(3, 3), system.places(aligned)
    for frames in ((0,), (1, 2), (2,), (0, 1, 2)):
        views = (0, 1, 2)
        window = Window(views, frames, torch.ones(3, len(frames)))
        told = denoiser.conditioning(denoiser.given(window, 1, None), window, frozenset())
        of_whole = dict(ports_of(whole))
        for name, port in ports_of(told.expand(3, len(frames))):
            torch.testing.assert_close(port, of_whole[name][:, :, list(frames)], rtol=1e-4, atol=1e-5)
    assert torch.equal(denoiser.frame_index, index) and index.tolist() == [[0, 1, 2]]
    assert torch.equal(denoiser.grid.cameras.intrinsics, grid.cameras.intrinsics)
    last = aligned.cameras.intrinsics[:, :, [0, 4, 6]]
    assert torch.equal(grid.cameras.intrinsics, last)


def test_the_rotation_that_is_told_is_that_of_the_last_frame(system):
    batch = clip(6, views=2)
    turned = batch.cameras.world_to_camera.clone()
    # The second view's camera is the first one's in all frames but the last of each latent frame.
    others = [1, 2, 3]
    turned[:, 1, others] = turned[:, 0, others]
    moving = replace(batch, cameras=replace(batch.cameras, world_to_camera=turned))
    assert torch.equal(*(system.condition(x).embedding for x in (batch, moving)))


def test_the_loss_weighs_valid_latent_frames_by_who_is_in_them(tiny):
    system = model(tiny, "training.foreground_weight=3")
    batch = clip(6)
    batch = replace(batch, alpha=torch.zeros_like(batch.alpha), valid=batch.valid.clone())
    batch.alpha[:, :, 2] = 1.0
    batch.valid[:, 1, 5] = False
    weight = system.region_weight(batch, system.latents(batch))
    assert weight.shape == (1, 2, 3, 1, 8, 8)
    expected = torch.tensor([[1.0, 1 + 3 / 4, 1.0], [1.0, 1 + 3 / 4, 0.0]])
    torch.testing.assert_close(weight[0, :, :, 0], expected[..., None, None].expand(-1, -1, 8, 8))


# --- as long as was asked for ---


@pytest.mark.parametrize("frames", [1, 2, 5, 6, 9])
@pytest.mark.parametrize("words", [[], ["alignment=pelvis"]])
def test_videos_are_as_long_as_was_asked_for(tiny, frames, words):
    system = model(tiny, *words)
    asked = replace(clip(frames), frames=None, alpha=None)
    made = system.generate(asked, num_steps=2)
    assert made.shape == (1, 2, frames, 3, 32, 32)
    latents, _ = system.sample_latents(asked, num_steps=2)
    assert latents.shape[2] == latent_frames(frames, STRIDE)
    whole = torch.cat(list(system.decode(latents, None, ("a",))), dim=2)
    assert whole.shape[2] == padded_frames(frames, STRIDE)
    if not words:
        assert torch.equal(whole[:, :, :frames], made)


def test_the_truth_comes_back_frame_by_frame_from_where_it_was_moved(tiny):
    system, batch = model(tiny, "alignment=pelvis", "codec.zero=grey"), clip(11)
    system.codec.decode_chunk = 1
    aligned, offsets = system.aligned(batch)
    assert offsets.any()
    pieces = list(system.decode(system.codec.encode(aligned.frames), offsets, aligned.clip_id, 11))
    assert [piece.shape[2] for piece in pieces] == [1, 4, 4, 2]
    shown = torch.cat(pieces, dim=2)
    seen = shown != 1
    assert seen.float().mean() > 0.5 and torch.equal(shown[seen], batch.frames[seen])


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("progressive", SPACE_TIME),
        ("coarse_to_fine", {"frames": 2, "overlap": 1}),
        ("anchored", {"frames": 3, "overlap": 1}),
        ("alternating", SPACE_TIME),
    ],
)
def test_long_videos_are_sampled_in_windows_of_latent_frames(tiny, name, settings):
    system = model(tiny, "guidance.value=2", "appearance.dropout=0.1")
    system.sampler, sizes = plan(name, **settings), []
    hook = system.backbone.register_forward_pre_hook(lambda _, given: sizes.append(given[0].shape[2]))
    made = system.generate(replace(clip(22), frames=None, alpha=None), num_steps=2)
    hook.remove()
    assert made.shape[2] == 22 and bool(made.isfinite().all())
    assert max(sizes) <= 3 and {shape.frames for shape in window_shapes(system.sampler, 2, (2, 7))} == set(sizes)


def test_the_system_keeps_the_promises_of_systems(tiny):
    check_system(compose([*tiny, "codec=pixel_time", "dataset.frames=6", "data.frames=6", "pose=skeleton"]))


# --- counted before ---


@pytest.mark.long
def test_costs_are_those_of_latent_frames(tiny):
    words = [
        *tiny,
        "dataset.frames=9",
        "data.frames=9",
        "pose=skeleton",
        "sampler=temporal",
        "sampler.frames=2",
        "sampler.overlap=1",
    ]
    alone, joined = (compose([*words, f"codec={codec}"]) for codec in ("pixel", "pixel_time"))
    view, other = (forecast(config).counts.parts["view_attention"].flops.model for config in (alone, joined))
    assert view == 3 * other
    assert sampling_passes(joined, 2, 9) == sampling_passes(alone, 2, 3) < sampling_passes(alone, 2, 9)
    held, size = model(tiny), (32, 32)
    grown = held.sampling_bytes(2, 401, size) - held.sampling_bytes(2, 201, size)
    assert grown == 4 * LATENT_COPIES * 2 * 50 * held.codec.channels * 64


def test_what_training_showed_is_told_in_latent_frames(tiny):
    config = compose([*tiny, "codec=pixel_time", "dataset.frames=9", "data.frames=5"])
    whole = sampling_notes(config, plan("single"), 2, {(2, 9)})
    assert "windows of 2 x 3 (views x latent frames)" in whole[0] and "they have 2 x 2, fewer latent frames" in whole[0]
    assert len(whole) == 1, "places 0 to 2 are those that training told"
    assert sampling_notes(config, plan("temporal", frames=2, overlap=1), 2, {(2, 9)}) == []
    longer = sampling_notes(config, plan("temporal", frames=2, overlap=1), 2, {(2, 22)})
    assert "0 to 6, and training told 0 to 2;" in longer[0] and "22 frames are padded to 25" in longer[1]


# --- latents made ahead ---


def stored(tiny, folder, frames):
    """A configuration that reads latents made ahead of whole clips, its system, and three clips in the cache."""
    words = [*tiny, "codec=pixel_time", "pose=skeleton", f"dataset.frames={frames}", f"data.frames={frames}"]
    words += ["dataset.views=3", "data.recolour=0", "alignment=pelvis", "training.foreground_weight=2"]
    config = compose([*words, f"data.cache={folder}", "data.latents=cached"])
    system, drawn = build_system(config), []
    for seed in range(3):
        clip = replace(tiny_batch(1, 3, frames, seed=seed), clip_id=(f"person/{seed}",))
        drawn.append(system.signals.draw(clip))
    cache_folder(config).mkdir(parents=True)
    write_shard(cache_folder(config) / "train-00000-of-00001.tar", drawn)
    return config, system


@pytest.mark.parametrize("frames", [5, 6])
def test_latents_made_ahead_are_those_of_the_step(tiny, tmp_path, frames):
    config, system = stored(tiny, tmp_path, frames)
    for task in to_encode(config, encodings(config, system.codec, system.conditioners.values())):
        encode(task, Queue())
    losses = []
    for kind in ("encode", "cached"):
        read = config.model_copy(update={"data": config.data.model_copy(update={"latents": kind})})
        clips = open_training_clips(read, system.codec, system.conditioners)
        order = TrainingOrder(
            clips, system.signals, seed=1, groups=alike(len(clips), Bucket(2, frames)), clips_per_step=2
        )
        batch = unpacked(together([order[0], order[1]]))
        assert (batch.frames is None) == (kind == "cached")
        with torch.no_grad():
            losses.append(system.training_step(batch, 0)["loss"])
    assert torch.equal(*losses)


def test_parts_of_clips_whose_latents_join_frames_are_refused_before_a_step(tiny, tmp_path):
    config, system = stored(tiny, tmp_path, 9)
    short = config.model_copy(update={"data": config.data.model_copy(update={"frames": 5})})
    with pytest.raises(DataError, match="steps see 5 of 9 frames"):
        open_training_clips(short, system.codec, system.conditioners)
