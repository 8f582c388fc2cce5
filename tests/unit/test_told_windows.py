"""What windows are told is encoded once a clip, once a cell, or for each of them, and is what it was."""

from dataclasses import replace

import pytest
import torch

from hvg.config.composition import compose
from hvg.core.random_keys import generator
from hvg.model import told_windows
from hvg.model.load import build_system
from hvg.model.planned_steps import frames_by_shrink
from hvg.model.told_windows import ToldWindows
from hvg.parts import registry
from hvg.testing import tiny_batch
from hvg.values.conditioning import Conditioning
from hvg.values.grid import Window

VIEWS, FRAMES = 3, 8
# Pictures that are encoded together: those of four moments.
TOGETHER = 12
# A cell is in two windows and more.
WINDOWS = {"frames": 4, "frame_overlap": 1, "temporal_views": 1, "views": 2, "view_overlap": 1, "view_frames": 2}
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


def model(tiny, *words):
    """A small system that says something."""
    built = build_system(compose([*tiny, *words])).eval()
    with torch.no_grad():
        for number, weight in enumerate(built.parameters()):
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator("weights", number)))
    built.sampler = plan("progressive", **WINDOWS)
    return built


@pytest.fixture(autouse=True)
def two_blocks(monkeypatch):
    monkeypatch.setattr(told_windows, "TOGETHER", TOGETHER)


@pytest.fixture(scope="module")
def system(tiny):
    return model(tiny)


def plan(name, **settings):
    part = registry.load("sampler", name)
    return part(part.Config(**settings))


def request(frames=FRAMES):
    return replace(tiny_batch(1, VIEWS, frames), frames=None, alpha=None)


def asked_for_every_window(system, monkeypatch):
    """As it was before anything was given once a cell."""
    for part in system.conditioners.values():
        if part.once_per(part.config, system.first_view) == "cell":
            monkeypatch.setattr(part, "once_per", lambda *_: "window")


def encoded(system, run):
    """What ``run`` gives, and how many pictures of the pose's map were encoded on the way."""
    counts = []
    hook = system.conditioners["pose"].guider.register_forward_pre_hook(lambda _, given: counts.append(len(given[0])))
    made = run()
    hook.remove()
    return made, sum(counts)


def latents(system, batch=None, steps=1):
    return system.sample_latents(request() if batch is None else batch, num_steps=steps)[0]


def windows_of(system):
    return system.sampler.windows(0, 1, VIEWS, FRAMES)


# --- what was and what is ---


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["alignment=pelvis", "camera=camera_rays", "pose.inject=both"],
        ["data.first_view=window", "camera=camera_matrix"],
        ["guidance=constant", "guidance.value=2", "pose.dropout=0.1", "appearance.dropout=0.1", "pose.strength=0.5"],
        ["appearance.views=first", "codec=pixel_time", "pose=skeleton"],
    ],
    ids=" ".join,
)
def test_progressive_is_what_it_was(tiny, words, monkeypatch):
    built = model(tiny, *words)
    now = latents(built)
    asked_for_every_window(built, monkeypatch)
    torch.testing.assert_close(now, latents(built), **TOLERANCE)


def test_where_one_window_holds_a_small_clip_no_bit_changes(system, monkeypatch):
    monkeypatch.setattr(system, "sampler", plan("single"))
    batch = request(TOGETHER // VIEWS)
    now = latents(system, batch)
    asked_for_every_window(system, monkeypatch)
    assert torch.equal(now, latents(system, batch))


def test_a_picture_is_encoded_once_and_not_for_each_window(system, monkeypatch):
    assert encoded(system, lambda: latents(system))[1] == VIEWS * FRAMES
    asked_for_every_window(system, monkeypatch)
    held = sum(w.weights.numel() for w in windows_of(system))
    assert encoded(system, lambda: latents(system))[1] == held > 2 * VIEWS * FRAMES


def test_a_window_takes_its_cells_whatever_its_order(system):
    whole, told = (ToldWindows(system, request(), (None, None), 1, range(FRAMES)) for _ in range(2))
    everything = whole.of(Window((0, 1, 2), tuple(range(FRAMES)), torch.ones(VIEWS, FRAMES)), None)
    for views, frames in (((2, 0), (0, 3, 4, 7)), ((1,), (5,))):
        window = told.of(Window(views, frames, torch.ones(len(views), len(frames))), None)
        assert [*window] == [*system.conditioners]
        for slot in ("pose", "camera"):
            of_all = everything[slot].ports.map(lambda x: x[:, list(views)][:, :, list(frames)])  # noqa: B023
            assert_alike(window[slot].ports, of_all)


def assert_alike(ports: Conditioning, others: Conditioning):
    torch.testing.assert_close(
        {**ports.residuals, "embedding": ports.embedding},
        {**others.residuals, "embedding": others.embedding},
        **TOLERANCE,
    )


def test_what_does_not_depend_on_the_step_is_not_asked_again(system, monkeypatch):
    asked = []
    for slot, part in system.conditioners.items():
        part.register_forward_pre_hook(lambda *_, slot=slot: asked.append(slot))
    latents(system, steps=3)
    # Of the grid's 24 pictures twelve are encoded together.
    assert {slot: asked.count(slot) for slot in ("pose", "appearance", "reference_keys", "camera")} == {
        "pose": 2,
        "appearance": 1,
        "reference_keys": 1,
        "camera": 2,
    }


# --- what is kept ---


def test_what_finds_no_room_is_encoded_anew_for_its_windows(system, monkeypatch):
    expected = latents(system)
    monkeypatch.setattr(system, "kept_conditioning", 0)
    made, count = encoded(system, lambda: latents(system))
    assert count == sum(w.weights.numel() for w in windows_of(system))
    torch.testing.assert_close(made, expected, **TOLERANCE)


def test_as_much_is_kept_as_there_is_room(system, monkeypatch):
    """The first moments, whichever windows come first; so processes that share the windows agree."""
    expected, whole = latents(system), ToldWindows(system, request(), (None, None), 1, range(FRAMES))
    assert whole._num_kept == 2
    used = sum(
        x.numel() * 4
        for ports in whole._blocks[0].values()
        for x in (*ports.residuals.values(), ports.embedding)
        if x is not None
    )
    monkeypatch.setattr(system, "kept_conditioning", 1.5 * used / 2**30)
    some = ToldWindows(system, request(), (None, None), 1, range(FRAMES))
    some.of(Window((0, 1), (6, 7), torch.ones(2, 2)), None)
    assert some._num_kept == 1 and [*some._blocks] == [0] and 0 <= some._room < used
    made, count = encoded(system, lambda: latents(system))
    late = [frame for w in windows_of(system) for _ in w.views for frame in w.frames if frame >= TOGETHER // VIEWS]
    assert count == TOGETHER + len(late)
    torch.testing.assert_close(made, expected, **TOLERANCE)


def test_of_a_coarse_grid_only_its_own_frames_are_encoded(system, monkeypatch):
    coarse = plan("coarse_to_fine", coarse_fraction=0.5, frame_stride=3, shrink=2, frames=3, overlap=1)
    monkeypatch.setattr(system, "sampler", coarse)
    assert frames_by_shrink(coarse, 2, VIEWS, FRAMES) == {2: [0, 3, 6, 7], 1: [*range(FRAMES)]}
    assert encoded(system, lambda: latents(system, steps=2))[1] == VIEWS * (4 + FRAMES)


# --- what goes by the window ---


def test_what_is_told_from_a_windows_first_view_is_asked_for_each(tiny):
    built, asked = model(tiny, "data.first_view=window"), []
    for slot in ("pose", "camera"):
        built.conditioners[slot].register_forward_pre_hook(lambda *_, slot=slot: asked.append(slot))
    latents(built)
    assert asked.count("camera") == len({(w.views, w.frames) for w in windows_of(built)})
    assert asked.count("pose") == 2


def test_which_pictures_are_known_is_told_as_it_changes(tiny, monkeypatch):
    built = model(tiny, "known=mask", "appearance=known_latent")
    batch = tiny_batch(1, VIEWS, FRAMES)
    known = torch.zeros(batch.grid, dtype=torch.bool)
    known[:, 0] = True
    nothing, batch = batch, replace(batch, known=known)
    now = latents(built, batch)
    assert not torch.allclose(now, latents(built, nothing), atol=1e-2)
    asked_for_every_window(built, monkeypatch)
    torch.testing.assert_close(now, latents(built, batch), **TOLERANCE)


OURS = {
    "clip": "clip_image none prompt reference_latent reference_net reference_pictures reference_tokens task_switch",
    "cell": "appearance_render bone_map camera_angles camera_matrix camera_rays camera_rotation hvg iuv landmark_tokens "
    "motion_tokens part_map pose_tokens semantic_map skeleton smpl_depth smpl_normal",
    "window": "camera_moves camera_prompt driving_memory known_latent known_mask",
}


def test_every_conditioner_says_how_often_it_is_asked():
    found = {once: [] for once in OURS}
    for name in registry.names("conditioner"):
        part = registry.load("conditioner", name)
        found[part.once_per(part.Config())].append(name)
    assert found == {once: names.split() for once, names in OURS.items()}
    goes_by_the_first = {
        "camera_angles",
        "camera_matrix",
        "camera_rays",
        "camera_rotation",
        "landmark_tokens",
        "pose_tokens",
    }
    for name in OURS["cell"].split():
        part = registry.load("conditioner", name)
        assert part.once_per(part.Config(), "window") == ("window" if name in goes_by_the_first else "cell")
