"""Scores of one region of the person."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from planted_faults import SuitClips

from components.bodies.anny import Anny
from components.datasets.synthetic import Synthetic
from components.metrics.dtssd_foreground import ForegroundTemporalChangeError
from components.metrics.within import Within
from components.renderers.warp import Warp
from hvg.config.composition import compose
from hvg.core.errors import HvgError
from hvg.geometry.body_parts import bone_codes, code_regions
from hvg.geometry.motion import Motion
from hvg.geometry.skeleton import BONES
from hvg.parts import registry
from hvg.parts.context import Context
from hvg.score.protocol import build_protocol
from hvg.values.scored_clip import REGIONS, NotAvailable, Surface, true_clip

CONTEXT = Context(body=Anny(), renderer=Warp())
SIZE = 96
# Metres by which a painted place lies inside its region, whose edges nobody draws to the centimetre.
INSIDE = 0.04


@cache
def suits():
    return SuitClips(CONTEXT, image_size=SIZE, views=2, frames=3)


@cache
def truth():
    return suits().clip(0)


@cache
def places():
    """Where in the T-pose a pixel's point is, told by joints alone: region -> (V, T, H, W) bool."""
    rest = suits().rest(0)
    x, y = rest[:, :, 0].abs(), rest[:, :, 1]
    joint = suits().dataset._scene(0, 0).person.joints
    hip, neck, ankle = (joint[name][1] for name in ("left_hip", "neck", "left_ankle"))
    arms = (y > joint["left_shoulder"][1] - 0.2) & (x > joint["left_shoulder"][0] + INSIDE)
    return {
        "head": y > joint["head"][1] + INSIDE,
        "hands": arms & (x > joint["left_wrist"][0] + INSIDE),
        "feet": y < ankle - INSIDE / 2,
        "torso": (x < INSIDE) & (y > hip + 2 * INSIDE) & (y < neck - INSIDE),
        "limbs": (arms & (x < joint["left_wrist"][0] - INSIDE)) | ((y < hip - 4 * INSIDE) & (y > ankle + INSIDE)),
    }  # fmt: skip


def painted(region, frames=slice(None)):
    """The truth with a place painted black in some frames."""
    clip, where = truth(), torch.zeros_like(places()[region])
    where[:, frames] = places()[region][:, frames]
    assert where.any()
    return replace(clip, prediction=clip.truth.where(~where[:, :, None], 0))


def score(clip, region, metric="psnr_foreground", **settings):
    part = Within(Within.Config(region=region, metric=metric, metric_settings=settings), CONTEXT)
    return part.reduce({clip.clip_id: part.measure(clip)}).value


WORN = REGIONS[:-1]


@pytest.mark.parametrize("where", WORN)
def test_a_fault_on_one_region_shows_there_and_nowhere_else(where):
    found = {region: score(painted(where), region) for region in WORN}
    assert found.pop(where) < 40
    assert all(value == 100 for value in found.values()), found


@pytest.mark.parametrize("where", ["hands", "feet"])
def test_flicker_of_one_region_shows_there_and_nowhere_else(where):
    flickering = painted(where, slice(1, 2))
    for metric in ("dtssd_foreground", "dtssd"):
        found = {region: score(flickering, region, metric) for region in WORN}
        assert found.pop(where) > 1e-3
        assert not any(found.values()), (metric, found)
    still = painted(where)
    assert score(still, where, "dtssd_foreground") < score(flickering, where, "dtssd_foreground")


def test_texture_that_flickers_on_the_torso_is_unsteady_there_alone():
    clip, torso = truth(), places()["torso"]
    prediction = clip.truth.clone()
    prediction[:, 1] = (255 - clip.truth[:, 1]).where(torso[:, 1, None], clip.truth[:, 1])
    flickering = replace(clip, prediction=prediction)
    found = {region: score(flickering, region, "temporal_warp") for region in WORN}
    assert found.pop("torso") > 0.1
    assert not any(found.values()), found


def test_a_metric_of_whole_pictures_says_what_the_region_costs_it():
    everything = replace(truth(), prediction=255 - truth().truth)
    of_picture = registry.load("metric", "psnr")
    whole = of_picture(of_picture.Config())
    assert (
        score(everything, "hands", "psnr")
        > score(everything, "torso", "psnr")
        > whole.reduce({"a": whole.measure(everything)}).value
    )
    assert score(everything, "hands", "psnr", average="frames") < 100


def test_regions_share_the_person_out():
    clip = truth()
    shown = torch.stack([clip.within(region).alpha for region in REGIONS])
    face = clip.surface().face
    assert torch.equal(shown.sum(0) > 0, face >= 0) and shown.sum(0).max() == 1
    assert not shown[REGIONS.index("loose")].any(), "the suit hangs nowhere"
    for region, where in places().items():
        assert (shown[REGIONS.index(region)][where] == 1).all(), region


@pytest.fixture(scope="module")
def in_a_skirt():
    dataset = Synthetic(Synthetic.Config(image_size=SIZE, views=2, frames=2, num_subjects=40), CONTEXT)
    index = next(i for i in range(40) if dataset._person(i)[1].look.garment == "skirt")
    return true_clip(dataset.load(index)).with_surface(lambda: dataset.surface(index))


def test_loose_clothes_are_a_region_of_their_own(in_a_skirt):
    clip = in_a_skirt
    loose = clip.within("loose").alpha
    assert loose.flatten(2).any(-1).all()
    fault = replace(clip, prediction=clip.truth.where(loose[:, :, None] == 0, 0))
    assert score(fault, "loose") < 40
    assert all(score(fault, region) == 100 for region in ("head", "torso", "feet"))
    part = Within(Within.Config(region="loose"))
    with pytest.raises(NotAvailable, match="none of the frames has a score"):
        part.reduce({"a": part.measure(truth())})


def test_regions_of_bones():
    region = {end: REGIONS[int(place)] for (_, end), place in zip(BONES, code_regions(bone_codes()), strict=True)}
    expected = {
        "spine1": "torso", "neck": "torso", "head": "head", "head_top": "head", "left_collar": "torso",
        "left_shoulder": "torso", "left_elbow": "limbs", "left_wrist": "limbs", "right_middle1": "hands",
        "left_hip": "limbs", "right_knee": "limbs", "right_ankle": "limbs", "left_foot": "feet",
    }  # fmt: skip
    assert {end: region[end] for end in expected} == expected


@pytest.mark.parametrize(
    ("surface", "reason"),
    [
        (None, "needs surface, which clip"),
        (Surface(depth=torch.zeros(2, 3, SIZE, SIZE)), "of what part of the person a pixel is, which clip"),
    ],
)
def test_data_that_know_no_regions_say_so_in_a_line(surface, reason):
    clip = replace(truth(), surface=surface and (lambda: surface))
    protocol = build_protocol(compose(["protocol=by_part"]), torch.device("cpu"))
    values = protocol.reduce({clip.clip_id: protocol.measure(clip)})
    assert values["psnr_foreground"]["value"] == 100
    said = values["psnr_hands"]["unavailable"]
    assert reason in said and "\n" not in said and "traceback" not in values["psnr_hands"]


def test_a_person_whose_bones_are_not_known_has_no_regions():
    dataset = suits().dataset
    scene = dataset._scene(0, 0)
    rest = Anny().animate(Motion(rotations={"pelvis": torch.zeros(1, 3)}), scene.shape)
    person = type(scene.person)(replace(rest, skinning=None), None)
    assert person.regions is None and scene.person.regions.shape == (len(scene.person.faces),)
    bare = replace(truth().surface(), regions=None)
    with pytest.raises(NotAvailable, match="of what part of the person"):
        truth().with_surface(lambda: bare).within("head")


def test_a_surface_of_another_size_is_an_error():
    small = replace(truth().surface(), face=truth().surface().face[..., ::2])
    with pytest.raises(ValueError, match="the surface is for"):
        truth().with_surface(lambda: small).within("head")


def test_the_protocol_has_a_cell_for_every_part():
    protocol = build_protocol(compose(["protocol=by_part"]), torch.device("cpu"))
    clip = painted("hands", slice(1, 2))
    values = protocol.reduce({clip.clip_id: protocol.measure(clip)})
    assert all(value["unavailable"] is None for label, value in values.items() if not label.endswith("_loose"))
    psnr = {region: values[f"psnr_{region}"]["value"] for region in WORN}
    assert min(psnr, key=psnr.get) == "hands" and psnr["head"] == 100
    assert values["dtssd_hands"]["value"] > 0 == values["dtssd_torso"]["value"]
    assert values["psnr_hands"]["definition"] == "within-hands/psnr_foreground/mean-over-clips/v2"
    assert values["psnr_hands"]["unit"] == "dB" and values["psnr_hands"]["higher_is_better"]
    assert values["dtssd_hands"]["verdict"] is False and not values["dtssd_hands"]["higher_is_better"]
    assert not values["psnr_hands"]["on_person"], "a region does not answer a study's question"


def test_words_of_regions_are_judged():
    with pytest.raises(HvgError, match="region"):
        compose(["protocol=by_part", "protocol.metrics.psnr_hands.region=tail"])
    with pytest.raises(HvgError, match="a region within a region is none"):
        compose(["protocol=by_part", "protocol.metrics.psnr_hands.metric=within"])
    with pytest.raises(HvgError, match="psnr_face"):
        compose(["protocol=by_part", "protocol.metrics.psnr_hands.metric=psnr_face"])


def test_change_on_the_person_does_not_depend_on_how_much_background_there_is():
    clip = painted("torso", slice(1, 2))
    part = ForegroundTemporalChangeError(ForegroundTemporalChangeError.Config())
    wide = replace(
        clip,
        **{name: torch.nn.functional.pad(getattr(clip, name), (50, 50), value=255) for name in ("prediction", "truth")},
        alpha=torch.nn.functional.pad(clip.alpha, (50, 50)),
    )
    assert part.measure(clip)["cells"] == pytest.approx(part.measure(wide)["cells"])
