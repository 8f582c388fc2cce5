"""Several photos of one person: who gives them, who looks at them, and what a request says of them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from components.alignments.pelvis import PelvisAlignment, PelvisConfig
from components.bodies.anny import Anny
from components.datasets.synthetic import Synthetic
from components.reconstructors.projection import Projection
from components.renderers.warp import Warp
from hvg.commands.words import only_options
from hvg.config.build import build_part
from hvg.config.command_options import SampleOptions
from hvg.config.composition import compose
from hvg.core.errors import ConfigError, DataError, HvgError
from hvg.core.required import required
from hvg.data.clip_files import decode_clip, encode_clip
from hvg.geometry.motion import Motion
from hvg.media.photo import photos_of_one
from hvg.model.load import build_system
from hvg.parts import registry
from hvg.parts.context import Context, SceneContext
from hvg.sample.posed_photo import check_photo_options, pose_photo
from hvg.sample.request import check_fields, make_clip, person_name
from hvg.testing import build, tiny_batch, tiny_context
from hvg.values.cameras import azimuths_degrees
from hvg.values.clip import ClipBatch, Reference
from hvg.values.packed import unpacked

CONTEXT = Context(body=Anny(), renderer=Warp())
SMALL = {"num_subjects": 2, "views": 2, "frames": 2, "image_size": 48}
STANDING = Motion(rotations={"pelvis": torch.zeros(2, 3)})


@pytest.fixture(scope="module")
def both() -> ClipBatch:
    """A clip with a photo from the front and one from behind."""
    return Synthetic(Synthetic.Config(**SMALL, photos="front_back"), CONTEXT).load(0)


def photo_of(clip: ClipBatch) -> Reference:
    return required(clip.reference, "ClipBatch.reference")


# --- who gives them ---


def test_a_photo_from_behind_joins_the_one_from_the_front_and_nothing_else_changes(both):
    alone = Synthetic(Synthetic.Config(**SMALL), CONTEXT).load(0)
    photo, front = photo_of(both), photo_of(alone)
    assert photo.frames.shape == (1, 2, 3, 48, 48) and torch.equal(both.frames, alone.frames)
    assert torch.equal(photo.frames[:, :1], front.frames) and torch.equal(photo.alpha[:, :1], front.alpha)
    turns = azimuths_degrees(required(photo.cameras, "cameras"))[0]
    assert abs(turns[0]) <= 20 and abs(abs(turns[1]) - 180) <= 20
    body = required(photo.body, "Reference.body")
    assert body.joints.shape[1] == 2 and torch.equal(body.joints[:, 0], body.joints[:, 1])
    # The outline from behind is that from the front, mirrored, as far as both cameras stand opposite each other.
    covered = (photo.alpha > 0.5).float()
    shared = (covered[:, 0] * covered[:, 1].flip(-1)).sum() / covered[:, 0].sum()
    assert shared > 0.5 and (photo.frames[:, 0] - photo.frames[:, 1].flip(-1)).abs().max() > 0.2


def test_files_keep_all_of_them(both):
    read = unpacked(decode_clip(encode_clip(both)))
    for name in ("frames", "alpha"):
        assert torch.equal(getattr(photo_of(read), name), getattr(photo_of(both), name))
    assert torch.equal(photo_of(read).body.joints, photo_of(both).body.joints)
    assert photo_of(read).cameras.shape == (1, 2)


def test_an_alignment_moves_each_to_its_place(both):
    offsets = PelvisAlignment(PelvisConfig()).reference_offsets(both)
    assert offsets.shape == (1, 2, 2)
    for photo in range(2):
        alone = replace(
            both,
            reference=Reference(
                frames=photo_of(both).frames[:, [photo]],
                cameras=photo_of(both).cameras[:, [photo]],
                body=photo_of(both).body.select(torch.tensor([photo])),
            ),
        )
        assert torch.equal(PelvisAlignment(PelvisConfig()).reference_offsets(alone)[:, 0], offsets[:, photo])


# --- who looks at them ---

LOOKING = ("clip_image", "reference_latent", "reference_net", "reference_pictures", "reference_tokens")


def looking(name: str, folder: Path, **settings):
    part = registry.load("conditioner", name)
    given = {"path": str(folder)} if name == "clip_image" else {}
    return build(part, part.Config(**settings, **given), tiny_context())


@pytest.mark.parametrize("name", LOOKING)
def test_the_first_photos_are_looked_at_as_many_as_are_asked_for(name, svd_folder):
    batch = tiny_batch(photos=3)
    other = replace(batch, reference=replace(batch.reference, frames=batch.reference.frames.clone()))
    other.reference.frames[:, 1] += 0.5
    with torch.no_grad():
        one, two = (looking(name, svd_folder, photos=count) for count in (1, 2))
        assert torch.equal(one.features(batch), one.features(other))
        assert not torch.equal(two.features(batch), two.features(other))
        # A network that looks at both sees of the first what one that looks at that alone sees.
        frames = photo_of(batch).frames
        assert torch.equal(two.photos(batch), frames[:, :2]) and torch.equal(one.photos(batch), frames[:, :1])
    with pytest.raises(DataError, match=r"clip 'clip0' has 1 photo\(s\) of its person, and 2 are looked at"):
        two.features(tiny_batch())


def test_a_wide_picture_is_encoded_as_one_and_holds_them_side_by_side(svd_folder):
    batch = tiny_batch(photos=2)
    apart, wide = (looking("reference_pictures", svd_folder, photos=2, layout=x) for x in ("apart", "wide"))
    first = apart(None, batch).pictures
    assert first.shape == (2, 1, 1, 2, 48, 8, 8)
    # The pixels themselves are this codec's latents, so that nothing mixes at the seam.
    assert torch.equal(wide(None, batch).pictures[:, 0, 0, 0], torch.cat([*first[:, 0, 0].unbind(1)], dim=-1))


def test_a_run_whose_parts_look_at_more_than_the_data_give_is_refused():
    with pytest.raises(
        ConfigError, match=r"appearance.photos: 2 photos of a person are looked at, .*'synthetic' has 1"
    ):
        compose(["appearance.photos=2"])
    config = compose(["appearance.photos=2", "reference_keys.photos=2", "dataset.photos=front_back"])
    assert config.appearance is not None and config.appearance.cls.num_photos(config.appearance.config) == 2
    mixed = ["dataset.members.a={name:synthetic,photos:front_back}", "dataset.members.b={name:synthetic}"]
    with pytest.raises(ConfigError, match="'mixture' has 1"):
        compose(["dataset=mixture", *mixed, "appearance.photos=2"])


def test_projection_takes_the_back_from_the_photo_that_shows_it(both):
    """Red in front and blue behind."""
    photo = photo_of(both)
    frames = torch.tensor([[1.0, -1.0, -1.0], [-1.0, -1.0, 1.0]])[None, :, :, None, None].expand_as(photo.frames)
    painted = replace(both, reference=replace(photo, frames=frames))
    behind = replace(
        painted,
        body=photo.body.select(torch.tensor([0])),
        cameras=photo.cameras[:, 1:, None],
        frames=None,
        alpha=None,
    )
    part = build(Projection, Projection.Config(), SceneContext(body=CONTEXT.body, renderer=CONTEXT.renderer))
    seen = part.render(behind)
    blue = (seen.colour[..., 2] > 0.5) & (seen.alpha > 0.99)
    assert blue.sum() > 0.6 * (seen.alpha > 0.99).sum() > 0
    one = replace(
        behind,
        reference=Reference(
            frames=frames[:, :1],
            alpha=photo.alpha[:, :1],
            cameras=photo.cameras[:, :1],
            body=photo.body.select(torch.tensor([0])),
        ),
    )
    assert not (part.render(one).colour[..., 2] > 0.5).any()


# --- requests ---


def asked(*words: str) -> SampleOptions:
    return only_options(["checkpoint=run", "motion=walk.npz", *words], SampleOptions)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("reference=me.png", ("me.png",)),
        ("reference=2024", ("2024",)),
        ("reference='a b.png'", ("a b.png",)),
        ("reference=[front.png,sub/back.png]", ("front.png", "sub/back.png")),
    ],
)
def test_one_photo_needs_no_brackets(word, expected):
    assert asked(word).reference == tuple(map(Path, expected))


def test_names_of_a_request_are_those_of_its_photos():
    assert person_name(asked("reference=a/me.png")) == "me.png"
    assert person_name(asked("reference=[front.png,back.png]")) == "front.png,back.png"


def test_a_model_that_looks_at_two_is_given_two_and_one_that_looks_at_one_says_so(tiny, tmp_path):
    two = compose([*tiny, "appearance.photos=2", "reference_keys.photos=2", "dataset.photos=front_back"])
    with pytest.raises(
        HvgError, match=r"reference: appearance=reference_latent looks at 2 photos .* of which 1 is given"
    ):
        check_fields(two, asked("reference=me.png"))
    pictures = [Image.new("RGBA", (32, 32), colour) for colour in ("red", "blue")]
    given = asked("reference=[a.png,b.png]")
    check_fields(two, given)
    batch, _, notes = make_clip(build_system(two), two, given, STANDING, None, pictures)
    assert batch.clip_id == ("a.png,b.png+walk.npz",) and photo_of(batch).frames.shape[:2] == (1, 2)
    middle = photo_of(batch).frames[0, :, :, 16, 16]
    torch.testing.assert_close(middle, torch.tensor([[1.0, -1.0, -1.0], [-1.0, -1.0, 1.0]]), rtol=0, atol=1e-5)
    assert not any("photos are given" in note for note in notes)
    one = compose([*tiny])
    _, _, notes = make_clip(build_system(one), one, given, STANDING, None, pictures)
    assert "2 photos are given, of which this model looks at the first 1" in notes


def test_a_box_is_of_one_photo():
    with pytest.raises(HvgError, match="box= says where the person is in one photo, and 2 are given"):
        check_photo_options(asked("reference=[a.png,b.png]", "box=[0,0,4,4]"))


def test_photos_are_taken_to_be_from_evenly_around():
    person = build_part(compose([]).body)
    photos = photos_of_one([_noise(seed) for seed in (0, 1)])
    optics = {"distance": 3.0, "fov_degrees": 36.0}
    posed, notes = pose_photo(photos, person, {}, asked("reference=[a.png,b.png]"), optics)
    turns = azimuths_degrees(required(posed.cameras, "cameras"))[0]
    assert turns.abs().round().tolist() == [0.0, 180.0] and posed.body.joints.shape[1] == 2
    assert any("the 2 photos are taken to be from evenly around the person" in note for note in notes)


def _noise(seed: int) -> Reference:
    frames = torch.rand(1, 1, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return Reference(frames=frames, alpha=torch.ones(1, 1, 1, 32, 32))
