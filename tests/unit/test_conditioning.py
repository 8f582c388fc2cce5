"""Who is told what, how strongly, and by which way a map enters the network."""

import re
from dataclasses import replace

import pytest
import torch
import yaml
from pydantic import ValidationError
from torch import nn
from torch.nn.functional import conv2d, pixel_unshuffle

from hvg.config.changes import same_results
from hvg.config.composition import compose, parse_resolved, recompose
from hvg.config.settings import RunConfig
from hvg.core.errors import ConfigError
from hvg.cost.forecast import count
from hvg.data.signals import signal_keys
from hvg.model.load import build_system
from hvg.model.system import HumanVideoSystem
from hvg.model.trained_windows import sampling_notes
from hvg.parts import registry
from hvg.parts.codec_pictures import CodecPictures
from hvg.parts.folded_map import EncodedMap, FoldedMap
from hvg.parts.guider import Guider
from hvg.parts.plan import Sampler
from hvg.study.plan import plan
from hvg.study.study_file import StudyFile
from hvg.testing import build, nudged, tiny_batch, tiny_context
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning
from hvg.values.grid import Window

VIEWS, FRAMES = 5, 4
PHOTO = ("appearance", "reference_keys")
SECOND_POSE = "+slots.pose2.name=skeleton"
SAMPLERS = {
    "single": {},
    "view": {"views": 3, "overlap": 1},
    "partition": {"views": 2, "frames": 2},
    "shifting": {"views": 2, "frames": 2},
    "progressive": {
        "frames": 3,
        "frame_overlap": 1,
        "temporal_views": 2,
        "views": 3,
        "view_overlap": 1,
        "view_frames": 2,
    },
}


class Halves(Sampler):
    """The first two views, and the others."""

    def windows(self, step: int, num_steps: int, views: int, frames: int) -> list[Window]:
        parts = (tuple(range(2)), tuple(range(2, views)))
        return [Window(part, tuple(range(frames)), torch.ones(len(part), frames)) for part in parts]


@pytest.fixture(scope="module")
def words(tiny):
    return [*tiny, "seed=3"]


def system_of(words, *more: str) -> HumanVideoSystem:
    """A system all of whose weights let something through."""
    return nudged(build_system(compose([*words, *more])).eval())


def clip() -> ClipBatch:
    return tiny_batch(1, VIEWS, FRAMES)


def tell(system: HumanVideoSystem, views: str) -> HumanVideoSystem:
    for slot in PHOTO:
        part = system.conditioners[slot]
        part.config = part.config.model_copy(update={"views": views})
    return system


def latents(system: HumanVideoSystem, batch: ClipBatch | None = None, **strengths: float) -> torch.Tensor:
    return system.sample_latents(batch or clip(), num_steps=2, strengths=strengths)[0]


# --- who is told ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def apart(words):
    """A system whose views do not see each other."""
    return system_of(words, "view_attention=none")


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_first_view_of_the_clip_is_told_whatever_the_windows(apart, name):
    cls = registry.load("sampler", name)
    apart.sampler = cls(cls.Config(**SAMPLERS[name]))
    everybody, nobody = latents(tell(apart, "all")), latents(apart, appearance=0, reference_keys=0)
    first = latents(tell(apart, "first"))
    assert not torch.allclose(everybody, nobody, atol=1e-2)
    torch.testing.assert_close(first[:, :1], everybody[:, :1], rtol=0, atol=1e-5)
    torch.testing.assert_close(first[:, 1:], nobody[:, 1:], rtol=0, atol=1e-5)


def test_a_window_without_the_first_view_hears_nothing_and_others_hear_of_it(words):
    system = tell(system_of(words, "view_attention=full_3d"), "first")
    system.sampler = Halves()
    first, nobody = latents(system), latents(system, appearance=0, reference_keys=0)
    torch.testing.assert_close(first[:, 2:], nobody[:, 2:], rtol=0, atol=1e-5)
    assert not torch.allclose(first[:, 1], nobody[:, 1], atol=1e-4)


def test_a_step_tells_the_first_view_of_the_clip_not_of_the_step(apart):
    tell(apart, "first")
    whole = apart.condition(clip()).channels
    part = apart.condition(clip().select([0, 3], [1]))
    without = apart.condition(clip().select([2, 3], [1]))
    assert whole[:, 0].any() and not whole[:, 1:].any()
    assert part.channels[:, 0].any() and not part.channels[:, 1].any()
    assert not without.channels.any() and not any(x.any() for x in without.memory.values())


def test_all_is_as_if_nobody_had_asked(words):
    default = system_of(words).condition(clip())
    assert default.channels.shape[1:3] == (1, 1)
    assert compose(list(words)).appearance.config.views == "all"


# --- how strongly -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_poses(words):
    return system_of(words, SECOND_POSE)


def test_strengths_of_every_port_lie_on_the_way_from_dropped_to_told():
    random = torch.Generator().manual_seed(0)
    told = Conditioning(
        residuals={"stem": torch.randn(1, 1, 1, 2, 3, 3, generator=random)},
        tokens=torch.randn(1, 1, 1, 2, 3, generator=random),
        channels=torch.randn(1, 1, 1, 2, 3, 3, generator=random),
        embedding=torch.randn(1, 1, 1, 4, generator=random),
        memory={"mid": torch.randn(1, 1, 1, 5, 3, generator=random)},
        losses={"kept": torch.ones(1)},
    )
    null = told.map(lambda x: torch.full_like(x, 0.5))
    assert told.strengthened(1.0, null) is told
    nothing, half = told.strengthened(0.0, null), told.strengthened(0.5, null)
    assert nothing.losses == told.losses
    for port in ("tokens", "channels", "embedding"):
        assert torch.equal(getattr(nothing, port), getattr(null, port))
        assert torch.allclose(getattr(half, port), (getattr(told, port) + 0.5) / 2)
    assert torch.equal(nothing.memory["mid"], null.memory["mid"])
    assert torch.allclose(half.residuals["stem"], (told.residuals["stem"] + 0.5) / 2)


def test_one_is_bit_equal_and_zero_is_a_dropped_signal(two_poses):
    usual = latents(two_poses)
    assert torch.equal(usual, latents(two_poses, pose=1, pose2=1, appearance=1))
    # The map in black is a dropped one only for a guider without biases, so the conditioner's own null is compared with.
    pose = two_poses.conditioners["pose"]
    handle = pose.register_forward_hook(lambda part, inputs, given: part.null(given))
    dropped = latents(two_poses)
    handle.remove()
    assert torch.equal(latents(two_poses, pose=0), dropped) and not torch.equal(dropped, usual)


def test_two_signals_are_weighed_apart(two_poses):
    made = [latents(two_poses, pose=a, pose2=b) for a, b in ((1, 0.5), (0.5, 1), (0.2, 1), (1, 2))]
    assert all(not torch.equal(a, b) for i, a in enumerate(made) for b in made[:i])


def test_strength_comes_from_the_settings_too_and_training_does_not_ask(words, two_poses):
    weak = system_of(words, SECOND_POSE, "pose.strength=0.5", "slots.pose2.strength=0")
    assert torch.equal(latents(weak), latents(two_poses, pose=0.5, pose2=0))
    batch = replace(clip(), sample_index=torch.arange(1))
    assert torch.equal(weak.training_step(batch, 0)["loss"], two_poses.training_step(batch, 0)["loss"])


def test_a_trained_model_takes_strengths_and_nothing_else_of_a_conditioner(words):
    config = compose([*words, SECOND_POSE])
    changed = recompose(config, ["pose.strength=0.5", "slots.pose2.strength=0"])
    assert (changed.pose.config.strength, changed.slots["pose2"].config.strength) == (0.5, 0)
    for word, message in (
        ("pose.dropout=0.5", r"pose: cannot change after training.*its strength can, as pose\.strength=0\.5"),
        ("slots.pose2.widths=[8]", "slots: cannot change after training"),
        ("slots.pose3.strength=1", "slots: cannot change after training"),
        ("pose.strength=-1", "greater than or equal to 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            recompose(config, [word])


def test_strengths_that_training_never_showed_are_told(words):
    def notes(*more: str) -> list[str]:
        config: RunConfig = compose([*words, SECOND_POSE, *more])
        cls = registry.load("sampler", "single")
        return sampling_notes(config, cls(cls.Config()), 2, {(2, 2)})

    alone = ["pose.drops=alone", "pose.dropout=0.1", "slots.pose2.drops=alone", "slots.pose2.dropout=0.1"]
    assert notes() == [] and notes(*alone, "pose.strength=0.5") == []
    (never,) = notes("slots.pose2.strength=0")
    assert never == "slots.pose2.strength=0, and no training step lacked skeleton (slots.pose2.dropout=0)"
    (together,) = notes("pose.dropout=0.1", "slots.pose2.dropout=0.1", "pose.strength=0")
    assert "trained without slots.pose2, too; pose.drops=alone" in together


def test_arms_that_differ_in_strength_share_a_training(words):
    arms = {"full": (), "half": ("pose.strength=0.5",), "narrow": ("pose.widths=[8,8]",)}
    base = tuple(word for word in words if not word.startswith("seed"))
    runs = {
        run.arm: run
        for run in plan(StudyFile(title="t", question="q", varies=("pose",), base=base, arms=arms), "s", [])
    }
    assert runs["half"].trained_by is runs["full"] and runs["narrow"].trained_by is None


# --- dropout ----------------------------------------------------------------------------------------------------------


def dropped(system: HumanVideoSystem, count: int = 400) -> dict[str, torch.Tensor]:
    batch = replace(tiny_batch(1, 1, 1), sample_index=torch.arange(count))
    draw = system.randomness(batch, torch.zeros(count, 1, 1, 1, 1, 1))[2]
    return {slot: ~kept for slot, kept in system.kept(batch, draw).items()}


def test_together_slots_share_a_draw_and_alone_they_have_their_own(words):
    both = ["pose.dropout=0.3", "slots.pose2.dropout=0.3", "appearance.dropout=0.3", "reference_keys.dropout=0.1"]
    system = system_of(words, SECOND_POSE, *both, "slots.pose2.drops=alone")
    found = dropped(system)
    assert torch.equal(found["pose"], found["appearance"]) and set(found) == {"pose", "pose2", *PHOTO}
    assert not (found["reference_keys"] & ~found["pose"]).any()
    joint = (found["pose"] & found["pose2"]).float().mean()
    assert 0.03 < joint < 0.15 and 0.2 < found["pose2"].float().mean() < 0.4
    # A function of seed, slot and place alone.
    assert torch.equal(dropped(system, 100)["pose2"], found["pose2"][:100])


# --- how a map enters -------------------------------------------------------------------------------------------------


def test_a_folded_map_is_what_further_input_channels_of_the_first_convolution_give():
    random = torch.Generator().manual_seed(0)
    noise, maps = torch.randn(2, 4, 6, 6, generator=random), torch.randn(2, 3, 24, 24, generator=random)
    wide = nn.Conv2d(4 + 3 * 16, 8, 3, padding=1)
    narrow, folded = nn.Conv2d(4, 8, 3, padding=1), FoldedMap(3, 8, 4)
    with torch.no_grad():
        narrow.weight.copy_(wide.weight[:, :4])
        narrow.bias.copy_(wide.bias)
        folded.weight.copy_(wide.weight[:, 4:])
        expected = wide(torch.cat([noise, pixel_unshuffle(maps, 4)], dim=1))
        torch.testing.assert_close(narrow(noise) + folded(maps), expected)
        assert not FoldedMap(3, 8, 4)(maps).any()


def test_the_encoder_and_the_backbone_start_alike_whichever_way_a_map_enters(words):
    states = {
        inject: build_system(compose([*words, f"pose.inject={inject}"])).state_dict() for inject in ("stem", "both")
    }
    new = set(states["both"]) - set(states["stem"])
    assert new == {"conditioners.pose.folded.weight"} and not states["both"][new.pop()].any()
    assert all(torch.equal(x, states["both"][name]) for name, x in states["stem"].items())


def test_channels_encode_nothing_and_need_no_encoder_that_fits():
    part = registry.load("conditioner", "hvg")
    names = [name for name, _ in build(part, part.Config(inject="channels"), tiny_context()).named_parameters()]
    assert names == ["folded.weight"]
    # Of widths that do not reach the stem's stride nobody hears.
    assert part.spec(part.Config(inject="channels", widths=(8,)), tiny_context().ports).residuals == {"stem": 32}
    with pytest.raises(ValidationError, match="'stem', 'channels' or 'both'"):
        part.Config(inject="noise")


def test_maps_made_ahead_serve_every_way_to_tell_them(words):
    others = [
        "pose.inject=both",
        "pose.strength=0.5",
        "pose.dropout=0.1",
        "pose.drops=alone",
        "reference_keys.views=first",
    ]
    usual, other = compose(list(words)), compose([*words, *others])
    assert signal_keys(usual) == signal_keys(other)
    keys = [[part.features_key for part in build_system(c).conditioners.values()] for c in (usual, other)]
    assert keys[0] == keys[1]


def test_carried_maps_and_windows_give_what_drawn_ones_give(words):
    system = system_of(words, "pose.inject=both", "view_attention=none")
    cls = registry.load("sampler", "partition")
    drawn = latents(system)
    assert torch.equal(latents(system, system.signals.draw_ahead(clip())), drawn)
    system.sampler = cls(cls.Config(views=1, frames=FRAMES))
    torch.testing.assert_close(latents(system), drawn, rtol=0, atol=1e-5)


def test_the_forecast_counts_what_the_map_adds(words):
    parts = {inject: count(compose([*words, f"pose.inject={inject}"])).parts for inject in ("stem", "channels", "both")}
    pose = {inject: found["pose"].trainable for inject, found in parts.items()}
    # Four channels of the bone map, cells of 4 x 4 pixels, 3 x 3 weights, a stem of 32.
    assert pose["channels"] == 4 * 16 * 9 * 32 and pose["both"] == pose["stem"] + pose["channels"]
    flops = {inject: found["pose"].flops.model for inject, found in parts.items()}
    assert flops["both"] == flops["stem"] + flops["channels"] > flops["stem"]
    assert parts["both"]["backbone"] == parts["stem"]["backbone"]


# --- which encoder ----------------------------------------------------------------------------------------------------


def test_settings_of_encoders_may_stand_where_they_stood_before_encoders_were_parts(words):
    beside = compose([*words, "pose=hvg", "pose.widths=[8,16]", "pose.heads=2"])
    inside = compose([*words, "pose=hvg", "pose.encoder_settings={widths:[8,16],heads:2}"])
    assert beside == inside and beside.pose.config.encoder == "modulator"
    assert beside.pose.config.encoder_settings == {"widths": [8, 16], "heads": 2}
    with pytest.raises(ConfigError, match="widths is given here and in encoder_settings"):
        compose([*words, "pose.widths=[8]", "pose.encoder_settings.widths=[16]"])


@pytest.mark.parametrize("pose", ["hvg", "bone_map"])
def test_a_configuration_of_before_is_the_one_of_today(words, pose):
    config = compose([*words, f"pose={pose}"])
    plain = config.resolved()
    for key in ("encoder", "encoder_settings", "channels_by"):
        del plain["pose"][key]
    text = yaml.safe_dump(plain)
    assert parse_resolved(text, "config.yaml") == config and same_results(text, "config.yaml", config)
    plain["pose"]["widths"] = [8, 8]
    assert not same_results(yaml.safe_dump(plain), "config.yaml", config)


def test_the_shared_encoder_has_the_weights_that_it_had():
    context, part = tiny_context(), registry.load("conditioner", "bone_map")
    weights = build(part, part.Config(), context).state_dict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        guider = Guider(4, 32, 4, (16, 32, 32, 32)).state_dict()
    assert {f"guider.{name}" for name in guider} == set(weights)
    assert all(torch.equal(x, weights[f"guider.{name}"]) for name, x in guider.items())


@pytest.mark.parametrize(
    ("word", "path", "told"),
    [
        ("pose.encoder=gider", "pose.encoder", "no encoder is named 'gider'. Did you mean 'guider'"),
        ("pose.encoder_settings.width=[8]", "pose.encoder_settings.width", "Did you mean 'widths'"),
        ("pose.encoder_settings.widths=8", "pose.encoder_settings.widths", "expected a list"),
        ("pose.widths=[8]", "pose", "reach strides 1 to 2"),
        ("+slots.m={name: camera_rays, encoder: codec_cnn}", "slots.m", "a codec encodes pictures"),
        ("pose=part_map pose.encoder=modulator", "pose", "two maps at most"),
        ("+slots.m={name: camera_rays, inject: channels, channels_by: codec}", "slots.m", "a codec encodes pictures"),
    ],
)
def test_an_encoder_that_does_not_fit_is_told_once(words, word, path, told):
    with pytest.raises(ConfigError) as error:
        compose([*words, *re.split(" (?=pose)", word)])
    (problem,) = error.value.problems
    assert problem.path == path and told in problem.message and "\n" not in problem.message


def test_latents_of_a_map_beside_the_noise_are_what_further_latent_channels_give():
    """As of a folded map: what the first convolution would add for them, had it grown."""
    codec, random = tiny_context().codec, torch.Generator().manual_seed(0)
    maps = torch.rand(2, 4, 24, 24, generator=random)
    added = EncodedMap(CodecPictures({"rgb": 3, "alpha": 1}, codec), 8)
    assert not added(maps).any()
    with torch.no_grad():
        added.weight.copy_(torch.randn(added.weight.shape, generator=random))
        latents = codec.encode((maps[:, :3] + (1 - maps[:, 3:]))[:, None, None])[:, 0, 0]
        torch.testing.assert_close(added(maps), conv2d(latents, added.weight, padding=1))


@pytest.mark.long
def test_what_a_codec_makes_of_maps_is_no_work_of_the_slot(words):
    """A VAE that is never trained is a thousand times what the encoder is; its own cost is told by `hvg check` elsewhere."""
    svd = ["codec=svd_vae", "dataset.image_size=64", "pose=smpl_normal", "data.batch_size=1"]
    encoders = {"folded": ["pose.inject=channels"], "codec": ["pose.inject=channels", "pose.channels_by=codec"]}
    flops = {name: count(compose([*words, *svd, *more])).parts["pose"].flops.model for name, more in encoders.items()}
    # 4 channels of 8 x 8 pixels, or twice 4 of latents.
    assert flops["folded"] == 32 * flops["codec"] > 0
