"""Identity, drift and the distance through V-JEPA 2: what they say of known faults, and parity with transformers."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_transformers import CLIP_IMAGES, VJEPA_IMAGES, tiny_clip, tiny_vjepa, write_transformers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionModelWithProjection,
    VJEPA2ForVideoClassification,
    VJEPA2Model,
)

from components.nn.feature_networks.vision_transformers import Preprocessing
from components.nn.lab_colour import HIGHEST, LOWEST, lab
from hvg.core.eight_bit import frames_from_uint8
from hvg.core.errors import HvgError
from hvg.parts import registry
from hvg.parts.context import Context
from hvg.parts.frame_metric import FRAMES_PER_CALL
from hvg.parts.network_files import NetworkFiles
from hvg.testing import check_metric
from hvg.values.clip import Reference
from hvg.values.scored_clip import NotAvailable, ScoredClip

SHIRT, TROUSERS = (30, 60, 150), (120, 40, 40)
VIEWS, FRAMES, SIZE = 2, 8, 48


def person() -> torch.Tensor:
    """(V, T, H, W) bool: 20 pixels wide, 36 tall."""
    mask = torch.zeros(VIEWS, FRAMES, SIZE, SIZE, dtype=torch.bool)
    mask[..., 6:42, 14:34] = True
    return mask


def clip(name: str = "clip") -> ScoredClip:
    """A person on white in a blue shirt over red trousers, halves of equal size."""
    mask = person()
    frames = torch.full((VIEWS, FRAMES, 3, SIZE, SIZE), 255, dtype=torch.uint8)
    frames[..., 6:24, 14:34] = torch.tensor(SHIRT, dtype=torch.uint8)[:, None, None]
    frames[..., 24:42, 14:34] = torch.tensor(TROUSERS, dtype=torch.uint8)[:, None, None]
    photo = Reference(frames=frames_from_uint8(frames[:1, 0])[None], alpha=mask[:1, :1].float()[:, :, None])
    return ScoredClip(
        clip_id=name,
        subject=name,
        prediction=frames,
        truth=frames.clone(),
        valid=torch.ones(VIEWS, FRAMES, dtype=torch.bool),
        alpha=mask.float(),
        reference=photo,
    )


def textured(name: str = "clip", views: int = VIEWS, frames: int = FRAMES, seed: int = 0) -> ScoredClip:
    """Noise, for networks: prediction and truth differ everywhere; pictures are wider than tall."""
    random = torch.Generator().manual_seed(seed)
    prediction, truth = torch.randint(0, 256, (2, views, frames, 3, 40, 50), generator=random, dtype=torch.uint8)
    valid = torch.ones(views, frames, dtype=torch.bool)
    return ScoredClip(clip_id=name, subject=name, prediction=prediction, truth=truth, valid=valid)


def make(name: str, context: Context | None = None, **settings):
    part = registry.load("metric", name)
    return part(part.Config(**settings), context)


def score(metric, *clips: ScoredClip):
    return metric.reduce({each.clip_id: metric.measure(each) for each in clips})


def value(name: str, prediction: torch.Tensor, **settings) -> float:
    return score(make(name, **settings), replace(clip(), prediction=prediction)).value


def painted(frames: torch.Tensor, rows: int, colour: tuple[int, int, int] = (60, 140, 60)) -> torch.Tensor:
    """The first rows of the person in another colour."""
    frames = frames.clone()
    frames[..., 6 : 6 + rows, 14:34] = torch.tensor(colour, dtype=torch.uint8)[:, None, None]
    return frames


def darkened(frames: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """The person multiplied by a factor for every frame."""
    dark = (frames * factors[:, None, None, None]).round().to(torch.uint8)
    return dark.where(person()[:, :, None], frames)


# Colours.


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        ((0, 0, 0), (0.0, 0.0, 0.0)),
        ((255, 255, 255), (100.0, 0.0, 0.0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((119, 119, 119), (50.03, 0.0, 0.0)),
    ],
)
def test_lab_of_known_colours(colour, expected):
    # Tables differ in the second digit, by the digits of their matrix.
    assert lab(torch.tensor(colour, dtype=torch.uint8)[:, None])[:, 0].tolist() == pytest.approx(expected, abs=0.03)


def test_lab_stays_in_its_range():
    levels = torch.arange(0, 256, 15, dtype=torch.uint8)
    colours = lab(torch.cartesian_prod(levels, levels, levels).T)
    for axis, low, high in zip(colours, LOWEST, HIGHEST, strict=True):
        assert low <= axis.min() + 1e-9 and axis.max() - 1e-9 <= high


# The person's colours.


def test_the_truth_wears_its_own_colours_exactly():
    for settings in ({}, {"against": "reference"}, {"person": "silhouette"}, {"average": "frames"}):
        assert value("identity_colour", clip().prediction, **settings) == 1.0


def test_colours_fall_by_the_share_that_is_repainted():
    values = [value("identity_colour", painted(clip().prediction, rows)) for rows in (0, 9, 18)]
    assert values == pytest.approx([1.0, 0.75, 0.5])


def test_where_a_colour_is_does_not_matter():
    assert value("identity_colour", clip().prediction.flip(-2)) == pytest.approx(1.0)


@pytest.mark.parametrize("pixels", [1, 2])
def test_a_small_shift_costs_the_border_only(pixels):
    shifted = clip().prediction.roll((pixels, pixels), (-2, -1))
    uncovered = 1 - (20 - pixels) * (36 - pixels) / (20 * 36)
    assert value("identity_colour", shifted) == pytest.approx(1 - uncovered, abs=0.01)
    assert value("identity_colour", shifted, person="silhouette") == 1.0


def test_similar_colours_are_similar():
    """The similarity falls step by step as a colour moves away, without a jump where it leaves its bin."""
    away = [painted(clip().prediction, 18, (30 + 4 * i, 60 + 4 * i, 150)) for i in range(12)]
    values = np.array([value("identity_colour", frames) for frames in away])
    assert (np.diff(values) <= 1e-12).all() and np.abs(np.diff(values)).max() < 0.2 and values[-1] < 0.75


def test_nobody_is_like_nobody():
    white = torch.full_like(clip().prediction, 255)
    assert value("identity_colour", white) == pytest.approx(0.0)
    assert value("identity_colour", white, person="silhouette") == 0.0


def test_against_the_photo_only_the_photo_counts():
    """Prediction and photo agree, the truth differs."""
    other = replace(clip(), truth=painted(clip().truth, 36))
    assert score(make("identity_colour", against="reference"), other).value == 1.0
    assert score(make("identity_colour"), other).value == pytest.approx(0.0, abs=1e-12)


def test_frames_without_a_person_have_no_score():
    alpha = person().float()
    alpha[0, 3] = 0
    found = score(make("identity_colour"), replace(clip(), alpha=alpha))
    assert np.argwhere(np.isnan(found.cells["clip"])).tolist() == [[0, 3]] and found.count == VIEWS * FRAMES - 1


# Change for the worse.


def test_the_truth_does_not_drift():
    assert value("drift", clip().truth) == 0.0


def test_an_error_that_stays_is_no_drift():
    constant = darkened(clip().truth, torch.full((FRAMES,), 0.6))
    assert value("drift", constant) == pytest.approx(0.0, abs=1e-9)
    assert value("l1", constant) > 0.03


def test_more_darkening_with_time_is_more_drift():
    drifts = [value("drift", darkened(clip().truth, torch.linspace(1, end, FRAMES))) for end in (1.0, 0.9, 0.7, 0.4)]
    assert drifts == sorted(drifts) and drifts[0] == 0 and drifts[1] > 1 and drifts[3] > 3 * drifts[1]


def test_a_bad_beginning_is_drift_below_zero():
    factors = torch.linspace(1, 0.5, FRAMES)
    there, back = (value("drift", darkened(clip().truth, f)) for f in (factors, factors.flip(0)))
    assert back == pytest.approx(-there)


def test_drift_is_the_last_quarter_minus_the_first():
    factors = torch.rand(FRAMES, generator=torch.Generator().manual_seed(0))
    found = score(make("drift"), replace(clip(), prediction=darkened(clip().truth, factors)))
    errors = found.cells["clip"]
    assert errors.shape == (VIEWS, FRAMES)
    assert found.value == pytest.approx(errors[:, -2:].mean() - errors[:, :2].mean())
    assert (found.count, found.counted) == (VIEWS, "videos")


def test_drift_takes_the_frames_there_are():
    """Padding at the end of a view does not count; a view of three frames is left out."""
    factors = torch.linspace(1, 0.5, FRAMES)
    ragged = replace(clip(), prediction=darkened(clip().truth, factors))
    ragged.valid[0, 5:] = False
    ragged.valid[1, 3:] = False
    found = score(make("drift"), ragged)
    errors = found.cells["clip"]
    assert found.value == pytest.approx(errors[0, 4] - errors[0, 0]) and found.count == 1
    assert found.notes == ("1 videos are too short and were left out",)


@pytest.mark.parametrize("frames", [1, 3])
def test_short_clips_cannot_drift(frames):
    whole = clip()
    fewer = {key: getattr(whole, key)[:, :frames] for key in ("prediction", "truth", "valid", "alpha")}
    assert make("drift").measure(replace(whole, **fewer)) == {}


# What can be looked at outside the person.


@pytest.mark.parametrize("name", ["identity_colour", "drift"])
def test_the_background_does_not_count(name):
    noise = torch.randint(0, 256, clip().prediction.shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    elsewhere = clip().truth.where(person()[:, :, None], noise)
    assert value(name, elsewhere) == value(name, clip().truth)


@pytest.mark.parametrize("name", ["identity_colour", "drift"])
def test_a_frame_is_scored_by_itself(name):
    """More pictures than one call takes; alone they have the same scores."""
    assert VIEWS * FRAMES >= FRAMES_PER_CALL
    metric, bad = make(name), replace(clip(), prediction=darkened(clip().truth, torch.linspace(1, 0.4, FRAMES)))
    together = metric.measure(bad)["cells"]
    for start in (0, 4):
        part = slice(start, start + 4)
        changes = {key: getattr(bad, key)[:, part] for key in ("prediction", "truth", "valid", "alpha")}
        assert np.array_equal(metric.measure(replace(bad, **changes))["cells"], together[:, part])


# Networks of the user's.


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> Path:
    """Folders of randomly initialised models of the true classes, as their publishers lay them out."""
    return write_transformers(tmp_path_factory.mktemp("networks"))


@pytest.fixture
def context(networks) -> Context:
    return Context(networks=NetworkFiles(networks))


@pytest.mark.parametrize("stored", [CLIP_IMAGES, VJEPA_IMAGES], ids=["clip", "vjepa2"])
@pytest.mark.parametrize("size", [(40, 57), (64, 33), (32, 32), (20, 90)])
def test_pictures_are_prepared_as_transformers_does(tmp_path, stored, size):
    """Its processor of videos needs torchvision; its steps are those of the processor of pictures."""
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(stored))
    frames = torch.randint(0, 256, (3, 3, *size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    expected = CLIPImageProcessorPil(**stored)(list(frames), return_tensors="pt")["pixel_values"]
    assert torch.allclose(Preprocessing.read(path)(frames), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"do_center_crop": False}, "do_center_crop"),
        ({"crop_size": 40}, "does not fit"),
        ({"image_mean": None}, "image_mean"),
    ],
)
def test_other_preparations_are_refused(tmp_path, change, message):
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({key: x for key, x in (CLIP_IMAGES | change).items() if x is not None}))
    with pytest.raises(HvgError, match=message):
        Preprocessing.read(path)


def test_clip_similarity_is_that_of_transformers(networks, context):
    pictures = textured()
    processor = CLIPImageProcessorPil(**CLIP_IMAGES)
    model = CLIPVisionModelWithProjection.from_pretrained(networks / "clip").eval()

    def embed(frames):
        with torch.no_grad():
            return model(**processor(list(frames.flatten(0, 1)), return_tensors="pt")).image_embeds

    metric = make("identity_clip", context)
    expected = torch.cosine_similarity(embed(pictures.prediction), embed(pictures.truth))
    assert torch.allclose(metric.encoder.embed(pictures.truth.flatten(0, 1)), embed(pictures.truth), atol=1e-5)
    assert metric.measure(pictures)["cells"].flatten() == pytest.approx(expected.numpy(), abs=1e-5)
    assert metric.networks["clip"].startswith("sha256:")


def test_clip_knows_the_truth_and_the_photo(context):
    for settings in ({}, {"against": "reference"}):
        found = score(make("identity_clip", context, **settings), clip())
        assert found.value == pytest.approx(1.0, abs=1e-6) and found.count == VIEWS * FRAMES


def test_clip_takes_frames_in_any_portions(context):
    metric, pictures = make("identity_clip", context), textured(views=3, frames=7)  # more than one call takes
    together = metric.measure(pictures)["cells"]
    for view in range(3):
        one = replace(pictures, **{key: getattr(pictures, key)[[view]] for key in ("prediction", "truth", "valid")})
        assert metric.measure(one)["cells"][0] == pytest.approx(together[view], abs=1e-6)


def test_clip_leaves_padding_out(context):
    ragged = textured()
    ragged.valid[1, 5:] = False
    cells = make("identity_clip", context).measure(ragged)["cells"]
    assert np.array_equal(np.isfinite(cells), ragged.valid.numpy())


@pytest.mark.parametrize("pooling", ["mean", "probe"])
def test_jedi_is_its_formula_over_features_of_transformers(networks, context, pooling):
    clips = [textured(f"clip{i}", frames=9, seed=i) for i in range(3)]
    processor = CLIPImageProcessorPil(**VJEPA_IMAGES)
    model = VJEPA2ForVideoClassification.from_pretrained(networks / "vjepa2").eval()

    @torch.no_grad()
    def features(frames):
        videos = [
            processor(list(video[start : start + 4]), return_tensors="pt")["pixel_values"]
            for video in frames
            for start in (0, 4)
        ]
        tokens = model.vjepa2(torch.stack(videos), skip_predictor=True).last_hidden_state
        return (tokens.mean(dim=1) if pooling == "mean" else model.pooler(tokens)).double()

    x, y = (torch.cat([features(getattr(each, name)) for each in clips]) for name in ("prediction", "truth"))

    def kernel(a, b):
        return ((a @ b.T / a.shape[1]) ** 2).mean()

    metric = make("jedi", context, clip_frames=4, stride=4, pooling=pooling)
    found = score(metric, *clips)
    kept = metric.measure(clips[0])
    assert torch.allclose(torch.from_numpy(kept["truth"]).double(), features(clips[0].truth), atol=1e-5)
    assert found.value == pytest.approx(float(100 * (kernel(x, x) + kernel(y, y) - 2 * kernel(x, y))), rel=1e-4)
    assert found.count == 3 * VIEWS * 2


def test_jedi_of_the_truth_is_nothing(context):
    clips = [replace(each, prediction=each.truth) for each in (textured(f"clip{i}", seed=i) for i in range(2))]
    assert score(make("jedi", context, clip_frames=4), *clips).value == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(("name", "settings"), [("identity_clip", {"against": "truth"}), ("jedi", {"clip_frames": 4})])
def test_metrics_through_transformers_keep_their_promises(context, name, settings):
    part = registry.load("metric", name)
    check_metric(part, part.Config(**settings), context, [textured(f"clip{i}", seed=i) for i in range(3)])


def test_jedi_repeats_the_last_of_an_odd_number_of_frames(context):
    metric = make("jedi", context, clip_frames=3, items="whole")
    odd = metric.measure(textured(frames=3))
    even = textured(frames=3)
    repeated = {key: getattr(even, key)[:, [0, 1, 2, 2]] for key in ("prediction", "truth", "valid")}
    assert metric.measure(replace(even, **repeated))["truth"] == pytest.approx(odd["truth"], abs=1e-6)


def test_a_folder_of_the_encoder_alone_will_do(tmp_path):
    tiny_vjepa(VJEPA2Model).save_pretrained(tmp_path / "vjepa2")
    (tmp_path / "vjepa2" / "video_preprocessor_config.json").write_text(json.dumps(VJEPA_IMAGES))
    context = Context(networks=NetworkFiles(tmp_path))
    assert math.isfinite(score(make("jedi", context, clip_frames=4), textured()).value)
    with pytest.raises(HvgError, match=r"vjepa2: .* lacks classifier\.bias; .*and 30 more"):
        make("jedi", context, pooling="probe")


def test_pickled_weights_are_not_read(tmp_path):
    model = tiny_clip()
    model.config.save_pretrained(tmp_path / "clip")
    torch.save(model.state_dict(), tmp_path / "clip" / "pytorch_model.bin")
    (tmp_path / "clip" / "preprocessor_config.json").write_text(json.dumps(CLIP_IMAGES))
    with pytest.raises(HvgError, match=r"clip: .*model\.safetensors"):
        make("identity_clip", Context(networks=NetworkFiles(tmp_path)))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            lambda folder: (folder / "preprocessor_config.json").unlink(),
            "holds no preprocessor_config.json; .*`hvg weights`",
        ),
        (lambda folder: (folder / "config.json").unlink(), "holds no config.json"),
        (lambda folder: widened(folder / "config.json"), r"visual_projection.weight is \(24, 32\), not \(28, 32\)"),
        (lambda folder: cut(folder / "model.safetensors"), "cannot be read .*SafetensorError"),
        (lambda folder: thinned(folder / "model.safetensors"), "lacks visual_projection.weight"),
    ],
    ids=["preprocessor", "config", "size", "cut", "weight"],
)
def test_a_damaged_folder_is_named(networks, tmp_path, fault, message):
    shutil.copytree(networks / "clip", tmp_path / "clip")
    fault(tmp_path / "clip")
    with pytest.raises(HvgError, match=f"{tmp_path}/clip: .*{message}"):
        make("identity_clip", Context(networks=NetworkFiles(tmp_path)))


def widened(path: Path) -> None:
    stored = json.loads(path.read_text())
    stored["vision_config"]["projection_dim"] = 28
    path.write_text(json.dumps(stored))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def thinned(path: Path) -> None:
    tensors = load_file(path)
    save_file({key: x for key, x in tensors.items() if key != "visual_projection.weight"}, path, {"format": "pt"})


def test_loading_leaves_randomness_alone(context):
    before = torch.get_rng_state()
    make("identity_clip", context)
    make("jedi", context)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("name", "folder"), [("identity_clip", "clip"), ("jedi", "vjepa2")])
def test_without_weights_there_is_no_value(tmp_path, name, folder):
    with pytest.raises(NotAvailable, match=f"needs the folder {folder} in .*hvg weights"):
        make(name, Context(networks=NetworkFiles(tmp_path)))
    with pytest.raises(NotAvailable, match="no folder of networks"):
        make(name)


@pytest.mark.parametrize(
    ("name", "settings", "field"),
    [
        ("identity_colour", {}, "alpha"),
        ("drift", {}, "alpha"),
        ("identity_colour", {"against": "reference"}, "reference"),
        ("identity_clip", {"against": "reference"}, "reference"),
    ],
)
def test_a_missing_field_is_named_in_one_line(context, name, settings, field):
    with pytest.raises(NotAvailable, match=rf"^needs {field}, which clip 'clip' does not hold$"):
        make(name, context, **settings).measure(replace(clip(), **{field: None}))


@pytest.mark.parametrize(
    ("alpha", "reason"),
    [(None, "needs the alpha of the reference photo"), (torch.zeros(1, 1, 1, SIZE, SIZE), "no person")],
)
def test_colours_of_a_photo_need_its_alpha(alpha, reason):
    photo = Reference(frames=torch.zeros(1, 1, 3, SIZE, SIZE), alpha=alpha)
    with pytest.raises(NotAvailable, match=reason):
        make("identity_colour", against="reference").measure(replace(clip(), reference=photo))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (
            "identity_colour",
            [{"against": "reference"}, {"person": "silhouette"}, {"lightness_bin": 30}, {"chroma_bin": 8}],
        ),
        ("identity_clip", [{"against": "reference"}, {"average": "frames"}]),
        ("drift", [{"share": 0.5}]),
        ("jedi", [{"pooling": "probe"}, {"stride": 1}, {"clip_frames": 8}, {"degree": 3}, {"estimator": "unbiased"}]),
    ],
)
def test_every_setting_is_in_the_definition(context, name, changes):
    definitions = {make(name, context, **settings).definition for settings in ({}, *changes)}
    assert len(definitions) == len(changes) + 1
