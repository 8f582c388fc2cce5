"""What is given of a clip: in training, in sampling, to conditioners, and from a folder of captured cameras."""

from dataclasses import replace

import pytest
import torch

from components.conditioners.known_latent import KnownLatent
from components.conditioners.known_mask import KnownMask
from hvg.config.command_options import SampleOptions
from hvg.config.composition import compose
from hvg.config.noise_section import NoiseConfig
from hvg.core.errors import ConfigError, DataError, HvgError
from hvg.core.random_keys import generator
from hvg.geometry.motion import Motion
from hvg.media.images import write_png
from hvg.model.known_latents import hide_known, known_cells
from hvg.model.load import build_system
from hvg.model.trained_windows import sampling_notes
from hvg.model.training_noise import TrainingNoise
from hvg.parts import registry
from hvg.parts.model import ConditionerConfig
from hvg.sample.camera_paths import CameraPath, around, moved, write_cameras
from hvg.sample.known_pictures import Moments, place_of, read_known, without_known
from hvg.sample.request import make_clip
from hvg.testing import build, tiny_batch, tiny_context
from hvg.values.known import of_frames, with_known_views
from hvg.values.latent_time import latent_of_frames

KNOWN = ("known=mask", "training.known_views=[1,1]", "training.known_frames=[0,1]", "training.noise_levels=cell")


def stirred(words):
    """A small system that says something."""
    system = build_system(compose([*words]))
    with torch.no_grad():
        for number, weight in enumerate(system.parameters()):
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator("weights", number)))
    return system.eval()


@pytest.fixture(scope="module")
def system(tiny):
    return stirred([*tiny, *KNOWN])


def clip(views=2, frames=2):
    return replace(tiny_batch(2, views, frames), sample_index=torch.tensor([3, 4]))


def noise_of(**settings):
    return TrainingNoise(NoiseConfig(**settings))


# --- training ---------------------------------------------------------------------------------------------------------


def test_draws_of_known_cells_keep_to_their_bounds_and_leave_something():
    noise, seen = noise_of(known_views=(1, 2), known_frames=(0, 1)), set()
    for number in range(200):
        cells = noise.known(4, 3, generator("known", number))
        whole = int(cells.all(dim=1).sum())
        assert whole in (1, 2) and cells[:, 1:].all(dim=1).sum() == whole
        seen.add((whole, bool(cells[:, 0].all())))
        assert not cells.all()
    assert seen == {(1, False), (1, True), (2, False), (2, True)}
    assert not noise_of(known_views=(3, 3), known_frames=(3, 3)).known(1, 1, generator("one")).any()


@pytest.mark.parametrize(
    ("levels", "rows", "columns"), [("clip", 1, 1), ("view", 3, 1), ("frame", 1, 4), ("cell", 3, 4)]
)
def test_levels_differ_where_they_are_asked_to(tiny, levels, rows, columns):
    prediction = build_system(compose(tiny)).prediction
    sigma = noise_of(noise_levels=levels).levels(prediction, 3, 4, generator("levels"), pixels=1024)
    assert sigma.shape == (rows, columns) and len(sigma.unique()) == rows * columns


def test_what_is_known_has_no_noise_and_no_loss(system):
    batch = clip()
    with torch.no_grad():
        latents = system.latents(batch)
        sigma, noise, _ = system.randomness(batch, latents)
        weight = system.noise.weight(system.prediction, sigma)
    known = sigma == 0
    assert known.flatten(1).any(dim=1).all() and not known.flatten(1).all(dim=1).any()
    assert torch.equal((latents + sigma * noise)[known.expand_as(latents)], latents[known.expand_as(latents)])
    assert (weight[known] == 0).all() and (weight[~known] > 0).all()
    assert torch.equal(system.noise.told(batch, sigma, 1).known, known[..., 0, 0, 0])


def test_a_step_with_known_cells_has_finite_gradients(system):
    loss = system.training_step(clip(), 0)["loss"]
    loss.backward()
    assert loss.isfinite() and loss > 0
    assert all(weight.grad.isfinite().all() for weight in system.parameters() if weight.grad is not None)
    system.zero_grad()


def test_settings_that_ask_for_nothing_change_no_bit(tiny):
    batch = clip()
    systems = [build_system(compose([*tiny, *words])) for words in ([], ["training.known_views=[0,0]"])]
    with torch.no_grad():
        losses = [system.training_step(batch, 0)["loss"] for system in systems]
        sigma, noise, draw = systems[0].randomness(batch, systems[0].latents(batch))
    key = generator(systems[0].seed, "noise", 3)
    first = systems[0].prediction.sample_sigma((1,), key, pixels=32 * 32)
    assert torch.equal(*losses) and bool((sigma[0] == first).all())
    assert torch.equal(noise[0], torch.randn(noise.shape[1:], generator=key))
    assert torch.equal(draw[0], torch.rand((), generator=key))


def test_an_offset_of_the_noise_is_one_number_a_channel(tiny):
    batch = clip()
    plain, moved = (build_system(compose([*tiny, *words])) for words in ([], ["training.noise_offset=0.5"]))
    with torch.no_grad():
        latents = plain.latents(batch)
        apart = moved.randomness(batch, latents)[1] - plain.randomness(batch, latents)[1]
    per_channel = apart.transpose(1, 3).flatten(2)  # B C, everything else
    assert (per_channel - per_channel[..., :1]).abs().max() < 1e-5
    assert len(per_channel[..., 0].unique()) == per_channel[..., 0].numel()


def test_bounds_are_given_in_order(tiny):
    with pytest.raises(ConfigError, match=r"\[fewest, most\]"):
        compose([*tiny, "training.known_views=[2,1]"])


def test_frames_belong_to_their_latent_frames():
    assert latent_of_frames(9, 4) == [0, 1, 1, 1, 1, 2, 2, 2, 2]
    cells = torch.tensor([[[True, False, True]]])
    assert of_frames(cells, 9, 4).tolist() == [[[True, *[False] * 4, *[True] * 4]]]


# --- sampling ---------------------------------------------------------------------------------------------------------


def test_known_views_come_back_as_the_codec_has_them_and_others_depend_on_them(system):
    batch = with_known_views(clip(), [1])
    assert batch.known.tolist() == batch.valid.logical_not().tolist() == [[[False] * 2, [True] * 2]] * 2
    made, _ = system.sample_latents(batch, num_steps=2)
    latents = system.codec.encode(batch.frames)
    assert torch.equal(made[:, 1], latents[:, 1]) and not torch.equal(made[:, 0], latents[:, 0])
    other = replace(batch, frames=batch.frames.flip(0))
    assert not torch.equal(system.sample_latents(other, num_steps=2)[0][:, 0], made[:, 0])


def test_pictures_that_are_to_be_made_are_not_looked_at(system):
    batch = with_known_views(clip(), [1])
    blank = replace(batch, frames=torch.cat([torch.zeros_like(batch.frames[:, :1]), batch.frames[:, 1:]], dim=1))
    made = [system.sample_latents(clips, num_steps=2)[0] for clips in (batch, blank)]
    assert torch.equal(*made)


def test_known_views_follow_the_alignment(tiny):
    system = stirred([*tiny, *KNOWN, "alignment=pelvis"])
    batch = with_known_views(clip(), [1])
    made, offsets = system.sample_latents(batch, num_steps=2)
    moved, _ = system.aligned(batch)
    assert offsets is not None and torch.equal(made[:, 1], system.codec.encode(moved.frames)[:, 1])


def test_conditioners_hear_what_is_finished_in_a_window(tiny):
    """With carried frames the second window begins with one that is made."""
    system = stirred([*tiny, *KNOWN, "sampler=carry_over", "sampler.frames=2", "sampler.carried=1"])
    heard = []
    hook = system.conditioners["known"].register_forward_hook(lambda part, given, made: heard.append(made.channels))
    system.sample_latents(replace(clip(2, 3), frames=None), num_steps=2)
    hook.remove()
    assert [channels[0, :, :, 0, 0, 0].tolist() for channels in heard] == [[[0, 0]] * 2, [[1, 0]] * 2]


def test_a_view_that_is_finished_is_not_looked_at(tiny):
    """What the clip has in its place would be the answer."""
    plan = ["sampler=sliding", "sampler.rounds=[views]", "sampler.views=2", "sampler.view_frames=2"]
    system, batch = stirred([*tiny, "appearance=known_latent", *KNOWN, *plan]), clip(3)
    made = [
        system.sample_latents(replace(batch, frames=frames), num_steps=1)[0]
        for frames in (batch.frames, batch.frames.flip(0))
    ]
    assert torch.equal(*made)


def test_views_that_clips_do_not_have_are_refused():
    for views in ([2], [0, 1]):
        with pytest.raises(HvgError, match=r"known_views=\[.*views 0 to 1, of which some have to be made"):
            with_known_views(clip(), views)


@pytest.mark.parametrize("word", ["known_views=[2]", "known_views=[0,1]", "unscored_views=[0,1]"])
def test_views_that_the_test_clips_do_not_have_are_told_before_the_run(tiny, word):
    with pytest.raises(ConfigError, match="the dataset's clips have views 0 to 1") as refused:
        compose([*tiny, f"evaluation.{word}"])
    assert [problem.path for problem in refused.value.problems] == [f"evaluation.{word.partition('=')[0]}"]


def test_views_that_are_made_and_not_scored_count_as_no_result():
    batch = with_known_views(clip(3), [], [0])
    assert batch.known is None and batch.valid[:, :, 0].tolist() == [[False, True, True]] * 2
    given = with_known_views(clip(3), [0], [0, 1])
    assert given.known[:, :, 0].tolist() == [[True, False, False]] * 2
    assert given.valid[:, :, 0].tolist() == [[False, False, True]] * 2
    with pytest.raises(HvgError, match=r"known_views=\[0\] unscored_views=\[1\]: .*made and scored"):
        with_known_views(clip(2), [0], [1])


def test_clips_have_to_agree_in_what_is_known():
    known = torch.zeros(2, 2, 2, dtype=torch.bool)
    known[0, 1] = True
    with pytest.raises(HvgError, match="known in the same views"):
        known_cells(replace(clip(), known=known), 1)
    assert known_cells(clip(), 1) is None and known_cells(replace(clip(), known=known & False), 1) is None


def test_a_latent_frame_is_known_with_all_of_its_frames():
    known = torch.zeros(1, 1, 9, dtype=torch.bool)
    known[..., :7] = True
    batch = replace(tiny_batch(1, 1, 9), known=known)
    assert known_cells(batch, 4).tolist() == [[True, True, False]]


@pytest.mark.parametrize(
    ("words", "sampler", "known", "said"),
    [
        ([], "single", [0], "1 view(s) are known, and no training step has such"),
        ([], "sliding", [], "cells of several noise levels together"),
        ([], "carry_over", [], "windows with frames that are finished"),
        (["training.known_views=[1,1]"], "single", [0], None),
        (["training.known_views=[1,1]"], "single", [], "no view is known, and every training clip has 1 at least"),
        (["training.known_views=[0,1]"], "single", [], None),
        (["training.noise_levels=cell"], "sliding", [], None),
        (["training.known_frames=[0,1]"], "carry_over", [], None),
    ],
)
def test_what_training_did_not_show_is_told(tiny, words, sampler, known, said):
    part = registry.load("sampler", sampler)
    small = {"sliding": {"views": 2, "frames": 2}, "carry_over": {"frames": 2, "carried": 1}}.get(sampler, {})
    config = compose([*tiny, *words])
    notes = sampling_notes(config, part(part.Config(**small)), 6, {(4, 4)}, known)
    about = [note for note in notes if "known" in note or "levels" in note or "finished" in note]
    assert (said is None and not about) or (said is not None and said in about[0])


def test_clips_that_do_without_see_the_background_in_place_of_what_is_known(tiny):
    system = stirred([*tiny, "known=mask", "known.dropout=1", "training.known_views=[1,1]"])
    batch = clip()
    with torch.no_grad():
        latents = system.latents(batch)
        sigma, noise, draw = system.randomness(batch, latents)
        noisy, kept = latents + sigma * noise, system.kept(batch, draw)
        hidden = hide_known(noisy, sigma, kept["known"], system.blank(noisy))
        white = system.codec.encode(torch.ones_like(batch.frames))
    known = (sigma == 0).expand_as(noisy)
    assert torch.equal(hidden[known], white[known]) and torch.equal(hidden[~known], noisy[~known])
    assert torch.equal(hide_known(noisy, sigma, ~kept["known"], system.blank(noisy)), noisy)


def test_guidance_goes_away_from_what_is_made_without_known_pictures(tiny):
    words = [*tiny, *KNOWN, "known.dropout=0.1", "guidance.value=2"]
    system, batch, seen = stirred(words), with_known_views(clip(), [1]), []
    hook = system.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    system.sample_latents(batch, num_steps=1)
    hook.remove()
    told, without = seen
    scale = system.prediction.input_scale(torch.zeros(1))
    # In a window what is known stands in front.
    torch.testing.assert_close(told[:, 0, :, :48], scale * system.codec.encode(batch.frames)[:, 1])
    torch.testing.assert_close(without[:, 0, :, :48], scale * system.codec.encode(torch.ones_like(batch.frames))[:, 1])
    assert torch.equal(told[:, 1], without[:, 1])


# --- conditioners -----------------------------------------------------------------------------------------------------


def test_the_mask_is_one_where_a_latent_frame_is_known():
    batch = clip(2, 3)
    part = build(KnownMask, ConditionerConfig(), tiny_context())
    assert not part(None, batch).channels.any()
    told = part(None, with_known_views(batch, [1])).channels
    assert told.shape[:4] == (2, 2, 3, 1) and (told[:, 1] == 1).all() and (told[:, 0] == 0).all()


def test_every_view_hears_the_first_view_that_is_known():
    batch, part = clip(3, 2), build(KnownLatent, ConditionerConfig(), tiny_context())
    assert not part(None, batch).channels.any()
    told = part(None, with_known_views(batch, [2, 1])).channels
    latents = tiny_context().codec.encode(batch.frames)
    assert torch.equal(told, latents[:, 1:2].expand_as(latents))


# --- captured cameras -------------------------------------------------------------------------------------------------


def options(**given):
    return SampleOptions(**{"checkpoint": "a.ckpt", "reference": "a.png", "motion": "a.npz", **given})


def ring(size=32) -> CameraPath:
    optics = {"elevation_degrees": 5.0, "distance": 3.2, "fov_degrees": 36.0, "image_size": (size, size)}
    return around(torch.tensor([0.0, 0.9, 0.0]), 4, **optics)


@pytest.fixture
def folder(tmp_path):
    """Two of four cameras, filmed for two frames, in pictures of another size."""
    path, captured = tmp_path / "rig", ring(64)
    write_cameras(path / "cameras.json", captured.cameras[[0, 2]], ["front", "back"])
    for number, name in enumerate(("front", "back")):
        for frame in range(2):
            write_png(path / name / f"{frame:03d}.png", torch.full((3, 64, 64), 0.5 * number - 0.25 * frame))
    write_png(tmp_path / "a.png", torch.zeros(3, 64, 64))
    return path


def test_captured_views_stand_behind_those_that_are_made(tiny, folder):
    config = compose([*tiny, *KNOWN])
    system, motion = build_system(config), Motion(rotations={"pelvis": torch.zeros(2, 3)})
    asked = options(known=folder, reference=folder.parent / "a.png", frames=2)
    batch, names, notes = make_clip(system, config, asked, motion, ring())
    assert names == ("90 degrees", "270 degrees", "front", "back")
    assert batch.known.tolist() == [[[False] * 2] * 2 + [[True] * 2] * 2]
    assert batch.frames.shape == (1, 4, 2, 3, 32, 32) and batch.cameras.shape == (1, 4, 2)
    values = batch.frames[0, 2:, :, 0, 16, 16]
    torch.testing.assert_close(values, torch.tensor([[0.0, -0.25], [0.5, 0.25]]), rtol=0, atol=0.01)
    assert any("2 view(s) are as captured, behind the others: front, back; without an alpha" in note for note in notes)
    made = system.sample_latents(batch, num_steps=1)[0]
    assert torch.equal(made[:, 2:], system.codec.encode(batch.frames)[:, 2:])


def test_pictures_and_cameras_that_are_not_there_are_named(tiny, folder):
    (folder / "back").rename(folder / "other")
    with pytest.raises(DataError, match=r"no pictures of camera 'back'; expected a folder back/"):
        place_of(folder, "back")
    with pytest.raises(DataError, match="no such folder of captured cameras"):
        read_known(options(known=folder / "nowhere"), compose(tiny))
    with pytest.raises(HvgError, match="none is left to be made"):
        without_known(ring(), ring())
    moving = moved(ring().cameras, torch.tensor([0.0, 0.9, 0.0]), 3, arc_degrees=40.0)
    assert without_known(CameraPath(cameras=moving, names=ring().names), ring()).names == ring().names


def test_pictures_are_of_the_motions_frames_or_of_the_videos():
    moments = Moments(torch.tensor([0.0, 4.0, 8.0]), 9)
    assert moments.of("a", 9) == [0, 4, 8] and moments.of("a", 3) == [0, 1, 2]
    with pytest.raises(DataError, match=r"a: there are pictures or poses of 5 moments; expected 9, .*, or 3"):
        moments.of("a", 5)
    with pytest.raises(DataError, match="between them; give stride="):
        Moments(torch.tensor([0.0, 3.5, 8.0]), 9).of("a", 9)
