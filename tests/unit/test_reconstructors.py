"""What projection shows, which files are taken and which refused, what a radiance field learns, and that promises are watched."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from components.nn.content_cache import ContentCache
from components.people.lifted_colours import _spread
from components.reconstructors.files import Files
from components.reconstructors.nerf import Nerf
from components.reconstructors.projection import Projection
from components.renderers.warp import Warp
from hvg.core.errors import DataError, HvgError
from hvg.geometry.meshes import neighbours
from hvg.media.video import write_video
from hvg.model.counted_step import LiveBytes, Watch
from hvg.parts import registry
from hvg.parts.context import SceneContext
from hvg.parts.part import PartConfig
from hvg.parts.reconstructor import Seen
from hvg.testing import build, check_reconstructor, posed_batch, tiny_batch
from hvg.testing.reconstructor import photographed
from hvg.values.cameras import look_at
from hvg.values.clip import ClipBatch


@pytest.fixture(scope="module")
def context():
    part = registry.load("body", "anny")
    return SceneContext(renderer=Warp(PartConfig()), body=part(part.Config()))


@pytest.fixture(scope="module")
def people(context) -> ClipBatch:
    return photographed(posed_batch(context.body, clips=2, views=2, frames=2, size=48))


def painted(people: ClipBatch, colour) -> ClipBatch:
    """With photos that are one colour on the left half of the picture, and another on the right."""
    frames = torch.empty_like(people.reference.frames)
    half = frames.shape[-1] // 2
    frames[..., :half], frames[..., half:] = torch.tensor(colour)[:, :, None, None].unbind(0)
    return replace(people, reference=replace(people.reference, frames=frames))


def as_photographed(people: ClipBatch) -> ClipBatch:
    """The people of the photos, seen as the photos do."""
    photo = people.reference
    cameras = photo.cameras[:, None]
    return replace(people, body=photo.body, cameras=cameras, frames=None, alpha=None, signals={}, frame_index=None)


# --- projection ---


def test_the_photo_s_own_view_is_the_photo(context, people):
    clip = painted(people, [[1.0, -1.0, -1.0], [-1.0, -1.0, 1.0]])
    seen = build(Projection, Projection.Config(), context).render(as_photographed(clip))
    inside = seen.alpha[:, 0, 0] == 1
    shown, photo = seen.colour[:, 0, 0], clip.reference.frames[:, 0].movedim(1, -1)
    assert 0.02 < inside.float().mean() < 0.4
    assert ((shown - photo).abs().amax(dim=-1)[inside] < 0.4).float().mean() > 0.85
    rendered = Warp(PartConfig()).render(
        clip.reference.body.vertices[:, 0], clip.body.faces, clip.reference.cameras[:, 0]
    )
    both = inside & (rendered.depth > 0)
    assert (seen.depth[:, 0, 0] - rendered.depth)[both].abs().median() < 0.03


def test_the_unseen_back_has_a_colour_of_the_photo(context, people):
    clip = as_photographed(painted(people, [[0.5, -0.5, 0.0], [0.5, -0.5, 0.0]]))
    back = replace(clip, cameras=replace(clip.cameras, world_to_camera=look_at(
        torch.tensor([0.0, 0.9, -3.0]), torch.tensor([0.0, 0.9, 0.0])
    ).expand_as(clip.cameras.world_to_camera)))  # fmt: skip
    seen = build(Projection, Projection.Config(), context).render(back)
    whole = seen.alpha > 0.999
    assert whole.float().mean() > 0.02
    assert torch.allclose(seen.colour[whole], torch.tensor([0.5, -0.5, 0.0]), atol=1e-3)


def test_a_transparent_photo_gives_one_colour_and_no_error(context, people):
    photo = replace(people.reference, alpha=torch.zeros_like(people.reference.alpha))
    seen = build(Projection, Projection.Config(sweeps=3), context).render(replace(people, reference=photo))
    assert not seen.colour.any() and (seen.alpha > 0).any()


def test_a_body_further_out_covers_more(context, people):
    areas = [
        float(build(Projection, Projection.Config(outward_mm=out), context).render(people).alpha.sum())
        for out in (0, 12, 40)
    ]
    assert areas[0] < areas[1] < areas[2] < 2 * areas[0]


def test_colours_spread_along_edges_and_no_further():
    faces = torch.tensor([[0, 1, 2], [1, 2, 3], [2, 3, 4], [5, 6, 7]])
    values = torch.zeros(8, 2)
    values[0] = torch.tensor([3.0, 1.0])
    known = torch.zeros(8, dtype=torch.bool)
    known[0] = True
    edges = neighbours(faces, 8)
    spread = _spread(values, known, edges, 2)
    assert torch.equal(spread[0], values[0]) and (spread[1:5, 1] > 0).all() and not spread[5:].any()
    assert torch.allclose(spread[1:5, 0] / spread[1:5, 1], torch.tensor(3.0))
    assert not _spread(values, known, edges, 1)[3:].any()
    assert torch.equal(_spread(values, torch.ones_like(known), edges, 2), values)


@pytest.mark.parametrize("name", ["projection", "nerf"])
@pytest.mark.parametrize(
    ("missing", "message"),
    [("reference", "ClipBatch.reference"), ("body", "Reference.body"), ("cameras", "Reference.cameras")],
)
def test_a_photo_of_which_too_little_is_known_is_named(context, people, name, missing, message):
    part = registry.load("reconstructor", name)
    without = None if missing == "reference" else replace(people.reference, **{missing: None})
    with pytest.raises(HvgError, match=f"{message} is needed here"):
        build(part, part.Config(), context).render(replace(people, reference=without))


# --- files ---


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def value(clip: int, view: int, frame: int) -> int:
    return 20 + 100 * clip + 40 * view + 10 * frame


def fill(folder: Path, batch: ClipBatch, channels: int, suffix: str = "png") -> None:
    """Pictures in one colour a picture; the upper half is the person."""
    clips, views, frames = batch.grid
    for c, v, t in np.ndindex(clips, views, frames):
        pixels = np.full((*batch.cameras.image_size, channels), value(c, v, t), np.uint8)
        half = pixels.shape[0] // 2
        if channels == 4:
            pixels[:half, :, 3], pixels[half:, :, 3] = 255, 0
        else:
            pixels[half:] = 255
        save(folder / f"clip{c}" / f"view-{v}" / f"frame-{t + 8}.{suffix}", pixels)


def fill_masks(folder: Path, batch: ClipBatch) -> None:
    for c, v, t in np.ndindex(*batch.grid):
        pixels = np.zeros(batch.cameras.image_size, np.uint8)
        pixels[: pixels.shape[0] // 2] = 255
        save(folder / f"clip{c}" / f"view-{v}" / f"frame-{t + 8}.png", pixels)


def files(path: Path, masks: Path | None = None, **settings) -> Files:
    return Files(Files.Config(path=path, masks=masks, **settings), SceneContext(renderer=None, body=None))


@pytest.fixture
def batch() -> ClipBatch:
    return tiny_batch(clips=2, views=2, frames=3, size=16)


@pytest.mark.parametrize("kind", ["alpha", "masks", "webp"])
def test_pictures_come_to_their_clip_view_and_frame(batch, tmp_path, kind):
    fill(tmp_path / "made", batch, 3 if kind == "masks" else 4, "webp" if kind == "webp" else "png")
    fill_masks(tmp_path / "masks", batch)
    part = files(tmp_path / "made", tmp_path / "masks" if kind == "masks" else None)
    for some in (batch, batch.select([1], [2, 0]), batch.clips(slice(1, 2))):
        seen = part.render(some)
        grid = some.view_grid()
        for b, v, t in np.ndindex(*some.grid):
            clip, frame = int(some.clip_id[b][-1]), int(some.frame_index[b, t])
            expected = value(clip, int(grid.view_index[b, v]), frame) / 127.5 - 1
            near = 0.03 if kind == "webp" else 1e-6
            assert (seen.colour[b, v, t, :8] - expected).abs().max() < near and not seen.colour[b, v, t, 8:].any()
            assert seen.alpha[b, v, t, :8].eq(1).all() and not seen.alpha[b, v, t, 8:].any()
        assert (seen.depth[seen.alpha > 0] - 3).abs().max() < 0.5
    pixels = torch.tensor([[3, 200], [16 * 16 * 3 + 1, 5]])
    assert torch.equal(part.render(batch, pixels).colour, part.render(batch).at(pixels).colour)


def test_videos_with_masks_are_read_as_well(batch, tmp_path):
    for c, v in np.ndindex(2, 2):
        frames = torch.full((3, 3, 16, 16), value(c, v, 0) / 127.5 - 1)
        mask = -torch.ones(3, 3, 16, 16)
        mask[:, :, :8] = 1
        frames[:, :, 8:] = -1
        for name, video in (("made", frames), ("masks", mask)):
            path = tmp_path / name / f"clip{c}" / f"view-{v}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, video, fps=8)
    seen = files(tmp_path / "made", tmp_path / "masks", background="black").render(batch)
    for c, v in np.ndindex(2, 2):
        assert (seen.colour[c, v, :, :6] - (value(c, v, 0) / 127.5 - 1)).abs().max() < 0.05
    assert seen.alpha[..., :6, :].min() > 0.97 and seen.alpha[..., 10:, :].max() < 0.03


def spoil(folder: Path, how: str, batch: ClipBatch) -> None:
    if how == "clip":
        (folder / "clip1").rename(folder / "klip1")
    elif how == "view":
        for path in (folder / "clip1" / "view-0").iterdir():
            path.unlink()
        (folder / "clip1" / "view-0").rmdir()
    elif how == "frame":
        (folder / "clip0" / "view-1" / "frame-10.png").unlink()
    elif how == "size":
        save(folder / "clip0" / "view-1" / "frame-9.png", np.zeros((8, 12, 4), np.uint8))
    elif how == "alpha":
        save(folder / "clip0" / "view-0" / "frame-8.png", np.zeros((16, 16, 3), np.uint8))
    elif how == "twice":
        save(folder / "clip0" / "view-0" / "frame-8.webp", np.zeros((16, 16, 4), np.uint8))
    elif how == "damaged":
        (folder / "clip0" / "view-0" / "frame-8.png").write_bytes(b"no picture")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("clip", r"made: there is no clip 'clip1'. Did you mean '.lip[01]'\?"),
        ("view", r"clip1: found 1 views \(view-1\), expected the clip's 2"),
        ("frame", r"clip0/view-1: found 2 frames, expected frame 2 of the clip, counted from 0"),
        ("size", r"frame-9.png is 12 x 8, expected 16 x 16, the size of the clip's pictures"),
        ("alpha", r"frame-8.png has no alpha, .* expected one, or masks=FOLDER"),
        ("twice", r"made: two images have one name: .*frame-8.png and frame-8.webp"),
        ("damaged", r"frame-8.png: not an image that can be read"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_named_in_a_line(batch, tmp_path, how, message):
    fill(tmp_path / "made", batch, 4)
    spoil(tmp_path / "made", how, batch)
    with pytest.raises(DataError, match=message) as refused:
        files(tmp_path / "made").render(batch)
    assert "\n" not in str(refused.value)


def spoil_mask(folder: Path, how: str) -> None:
    path = folder / "clip0" / "view-0" / "frame-9.png"
    if how == "missing":
        path.unlink()
    elif how == "view":
        (folder / "clip0" / "view-0").rename(folder / "clip0" / "other")
    elif how == "size":
        save(path, np.zeros((8, 16), np.uint8))
    elif how == "labels":
        for one in (folder / "clip0" / "view-0").iterdir():
            save(one, np.eye(16, dtype=np.uint8))
    elif how == "coloured":
        save(path, np.stack([np.eye(16, dtype=np.uint8) * 255] * 2 + [np.zeros((16, 16), np.uint8)], axis=-1))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", r"masks/clip0/view-0: 1 of 3 masks are missing, first 'frame-9'"),
        ("view", r"clip 'clip0' in .*masks: 1 of 2 views are missing, first 'view-0'"),
        ("size", r"masks/clip0/view-0/frame-9.png is 16 x 8, its picture .*made/clip0/view-0/frame-9.png is 16 x 16"),
        ("labels", r"masks/clip0/view-0: the mask's brightest value is 1; white \(255\) is the person"),
        ("coloured", r"masks/clip0/view-0: the mask is coloured"),
    ],
)
def test_a_mask_that_is_none_of_its_picture_is_named_in_a_line(batch, tmp_path, how, message):
    fill(tmp_path / "made", batch, 3)
    fill_masks(tmp_path / "masks", batch)
    spoil_mask(tmp_path / "masks", how)
    with pytest.raises(DataError, match=message):
        files(tmp_path / "made", tmp_path / "masks").render(batch)


def test_alpha_and_masks_at_once_are_refused(batch, tmp_path):
    fill(tmp_path / "made", batch, 4)
    fill_masks(tmp_path / "masks", batch)
    with pytest.raises(DataError, match=r"has transparent pixels, and .* expected one of both"):
        files(tmp_path / "made", tmp_path / "masks").render(batch)


def test_a_folder_that_is_not_there_is_named(batch, tmp_path):
    with pytest.raises(HvgError, match="none: no such folder"):
        files(tmp_path / "none").render(batch)
    with pytest.raises(HvgError, match="none: no such folder"):
        Files.content(Files.Config(path=tmp_path / "none"))


def test_content_is_that_of_the_files_wherever_they_lie(batch, tmp_path):
    for name in ("one", "other"):
        fill(tmp_path / name, batch, 4)
    one, other = (Files.content(Files.Config(path=tmp_path / name)) for name in ("one", "other"))
    assert one == other
    save(tmp_path / "other" / "clip0" / "view-0" / "frame-8.png", np.zeros((16, 16, 4), np.uint8))
    assert Files.content(Files.Config(path=tmp_path / "other")) != one
    assert Files.content(Files.Config(path=tmp_path / "one", masks=tmp_path / "other")) != one


# --- the radiance field ---


@pytest.mark.long
def test_rays_at_once_and_what_is_kept_change_nothing(context, people):
    whole = build(Nerf, Nerf.Config(), context).render(people)
    for settings in ({"chunk": 777}, {"kept_megabytes": 0}):
        seen = build(Nerf, Nerf.Config(**settings), context).render(people)
        assert all(
            torch.allclose(a, b, atol=1e-5) for a, b in zip(vars(seen).values(), vars(whole).values(), strict=True)
        )


@pytest.mark.long
def test_memory_of_a_large_picture_is_that_of_its_chunk(context, people):
    """Besides 80 bytes a pixel for what is returned, and for which pixels those are."""

    def peak(side: int, chunk: int) -> int:
        one = people.clips(slice(0, 1)).select([0], [0])
        clip = replace(one, cameras=one.cameras.resized((side, side)), frames=None, alpha=None, signals={})
        part, alive = build(Nerf, Nerf.Config(chunk=chunk), context), LiveBytes()
        with Watch(alive.watch), torch.no_grad():
            part.render(clip)
        return alive.peak

    small, large, at_once = peak(96, 1024), peak(384, 1024), peak(384, 384**2)
    assert large < 1.5 * small + 80 * 384**2
    assert at_once > 4 * large


def test_nobody_in_the_picture_is_nothing(context, people):
    away = people.cameras.world_to_camera.clone()
    away[..., 0, 3] += 100
    seen = build(Nerf, Nerf.Config(), context).render(
        replace(people, cameras=replace(people.cameras, world_to_camera=away))
    )
    assert not any(x.detach().any() for x in vars(seen).values())
    pixels = torch.zeros(2, 5, dtype=torch.int64)
    part = build(Nerf, Nerf.Config(), context)
    part.render(people, pixels).alpha.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in part.parameters())


def test_an_untrained_field_has_the_body_s_outline(context, people):
    """Wide clothes would be outside of it, which is for the network to learn."""
    seen = build(Nerf, Nerf.Config(), context).render(people)
    body = build(Projection, Projection.Config(), context).render(people)
    outline, true = seen.alpha > 0.5, body.alpha > 0.5
    assert (outline & true).sum() / (outline | true).sum() > 0.65
    near = outline & true
    assert (seen.depth - body.depth)[near].abs().median() < 0.05


def test_a_step_towards_a_photo_s_colours_makes_the_error_smaller(context, people):
    clip = as_photographed(painted(people, [[1.0, -1.0, -1.0], [-1.0, -1.0, 1.0]]))
    part = build(Nerf, Nerf.Config(samples=12), context)
    pixels = torch.arange(48 * 48).expand(2, -1)
    target = clip.reference.frames[:, 0].movedim(1, -1).flatten(1, 2)
    optimizer, errors = torch.optim.Adam(part.parameters(), lr=3e-3), []
    for _ in range(12):
        seen = part.render(clip, pixels)
        error = (seen.colour - seen.alpha[..., None] * target).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    assert errors[-1] < 0.5 * errors[0]


@pytest.mark.long
def test_a_field_learns_people_it_has_not_seen():
    """In 450 steps, a minute of one quiet core; half of the training people are enough for that."""
    from nerf_fit import context as scene
    from nerf_fit import fit, held_out_people, pictures, scores, training_people

    torch.manual_seed(0)
    part, people = Nerf(Nerf.Config(), scene()), held_out_people()
    fit(part, training_people(96), steps=450)
    floor = Projection(Projection.Config(), scene())
    learned, projected = (scores(people.clips, [pictures(x, c) for c in people.clips])[:, 0] for x in (part, floor))
    assert projected.mean() >= 13.0
    assert learned.mean() >= 16.0 and (learned > projected).float().mean() > 0.8


# --- promises that are watched ---


class Unmultiplied(Projection):
    """Gives colours that are not multiplied by alpha."""

    def render(self, batch, pixels=None, draws=None):
        seen = super().render(batch, pixels, draws)
        return replace(seen, colour=torch.where(seen.alpha[..., None] > 0, 1.0, 0.0).expand_as(seen.colour))


class MixesViews(Projection):
    """A picture has something of the others."""

    def render(self, batch, pixels=None, draws=None):
        seen = super().render(batch)
        colour = 0.5 * seen.colour + 0.5 * seen.colour.mean(dim=1, keepdim=True) * seen.alpha[..., None]
        seen = replace(seen, colour=colour)
        return seen if pixels is None else seen.at(pixels)


class OtherPixels(Projection):
    """Takes pixels to be counted along columns."""

    def render(self, batch, pixels=None, draws=None):
        seen = super().render(batch)
        turned = Seen(colour=seen.colour.transpose(3, 4), alpha=seen.alpha.mT, depth=seen.depth.mT)
        return seen if pixels is None else turned.at(pixels)


class Forgets(Nerf):
    """Has a layer that nobody asks."""

    def __init__(self, config, context):
        super().__init__(config, context)
        self.unused = torch.nn.Linear(2, 2)


class Restless(Projection):
    """Is another one each time."""

    def render(self, batch, pixels=None, draws=None):
        self.times = getattr(self, "times", 0) + 1
        seen = super().render(batch, pixels, draws)
        return replace(seen, depth=seen.depth * (1 + 1e-6 * self.times))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Unmultiplied, "colour exceeds alpha"),
        (MixesViews, "depends on the views or frames beside it"),
        (OtherPixels, "pixels differ from those of whole pictures"),
        (Forgets, "no gradient reaches unused.weight"),
        (Restless, "the second time"),
    ],
)
def test_a_broken_promise_is_named(part, message, context):
    with pytest.raises(AssertionError, match=message):
        check_reconstructor(part, part.Config(), context)


def test_what_a_field_keeps_is_bounded(context, people):
    part = build(Nerf, Nerf.Config(kept_megabytes=1), context)
    part.render(people)
    assert isinstance(part._kept, ContentCache) and part._kept._held <= 2**20
