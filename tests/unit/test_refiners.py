"""What becomes of one model's frames in another's sampling: none of the noise, all of it, and what is held on the way."""

from dataclasses import replace

import pytest
import torch

from components.refiners.crop import CropRefiner
from components.refiners.feature_propagation import FeaturePropagation, nearest_key
from components.refiners.low_frequency import LowFrequency, low_pass
from components.refiners.sdedit import SDEdit
from hvg.config.composition import compose, recompose
from hvg.core.eight_bit import frames_from_uint8, frames_to_uint8
from hvg.core.errors import CheckpointError, ConfigError, HvgError
from hvg.core.random_keys import generator
from hvg.cost.passes import refining_passes
from hvg.cost.table import sampling_line
from hvg.model.load import build_system
from hvg.model.refining import Refining, check_given, open_refining
from hvg.model.sampling import sample
from hvg.parts import registry
from hvg.parts.noise_levels import PURE_NOISE
from hvg.parts.refiner import Refined, started_levels
from hvg.sample.refine import without_driver, without_what_lacks
from hvg.testing import nudged, tiny_batch
from hvg.values.conditioning import Conditioning
from hvg.values.crops import Crop, Crops, rectangles

SEED, STEPS, SIZE, FRAMES = 5, 3, 32, 4
SMALL = ("backbone.widths=[32,32]", "backbone.heads=[1,1]", "dataset.image_size=32", f"evaluation.steps={STEPS}")


def system_of(*words):
    config = compose([*SMALL, *words])
    return nudged(build_system(config)).eval(), config


@pytest.fixture(scope="module")
def model():
    """A small video model, whose weights are all other than at the start, and its configuration."""
    return system_of()


@pytest.fixture(scope="module")
def clip():
    return replace(tiny_batch(1, 2, FRAMES, SIZE), frames=None, alpha=None)


@pytest.fixture(scope="module")
def given():
    """(1, V, T, 3, H, W) uint8, pictures that change slowly."""
    coarse = torch.rand(1 * 2 * FRAMES, 3, 4, 4, generator=generator("given"))
    whole = torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bilinear") * 2 - 1
    return frames_to_uint8(whole.unflatten(0, (1, 2, FRAMES)))


def refined(model, clip, frames, part, **settings):
    """What a refiner makes of frames with this model."""
    system, config = model
    refining = Refining(system=system, config=config, refiner=part(part.Config(**settings)))
    return refining.refine(clip, frames, seed=SEED)


# --- how much noise ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [SDEdit, LowFrequency, FeaturePropagation, CropRefiner])
def test_strength_0_gives_the_input_back(model, clip, given, part):
    """The codec of pixels loses nothing; crops are enlarged and made small again."""
    made = refined(model, clip, given, part, strength=0.0)
    off = (frames_to_uint8(made).int() - given.int()).abs()
    assert int(off.max()) <= (12 if part is CropRefiner else 0)


def test_strength_1_is_the_model_s_own_sample(model, clip, given):
    own = model[0].generate(clip, num_steps=STEPS, seed=SEED)
    assert torch.equal(refined(model, clip, given, SDEdit, strength=1.0, anchor="none"), own)
    other = refined(model, clip, 255 - given, SDEdit, strength=1.0, anchor="none")
    assert torch.equal(other, own)


def test_of_an_anchored_sample_the_first_frame_alone_is_given(model, clip, given):
    made = refined(model, clip, given, SDEdit, strength=1.0)
    assert torch.equal(frames_to_uint8(made[:, :, :1]), given[:, :, :1])
    others = given.clone()
    others[:, :, 1:] = 255 - others[:, :, 1:]
    assert torch.equal(refined(model, clip, others, SDEdit, strength=1.0), made)
    others[:, :, :1] = 255 - others[:, :, :1]
    assert not torch.equal(refined(model, clip, others, SDEdit, strength=1.0)[:, :, 1:], made[:, :, 1:])


def test_all_steps_lie_below_the_strength():
    """20 steps at .7 are the last of a schedule of 29."""
    for name in ("v", "x0", "flow"):
        cls = registry.load("prediction", name)
        part = cls(cls.Config())
        levels = started_levels(part, 20, at_strength(0.7), pixels=SIZE**2)
        assert len(levels) == 21 and levels[-1] == 0
        assert torch.equal(levels, part.sigma_schedule(29, pixels=SIZE**2)[9:])
        assert torch.equal(
            started_levels(part, 20, at_strength(1.0), pixels=SIZE**2), part.sigma_schedule(20, pixels=SIZE**2)
        )
        assert levels[0] < PURE_NOISE
    ddpm = registry.load("prediction", "ddpm")
    with pytest.raises(HvgError, match=r"refiner\.strength=0\.01: 20 steps are the end of a schedule of 2000: .* 1000"):
        started_levels(ddpm(ddpm.Config()), 20, at_strength(0.01), pixels=SIZE**2)


def at_strength(strength):
    return Refined(latents=torch.zeros(1), refiner=SDEdit(SDEdit.Config(strength=strength)))


# --- low frequencies --------------------------------------------------------------------------------------------------


def test_without_a_share_of_the_steps_low_frequencies_are_sdedit(model, clip, given):
    for strength in (0.4, 1.0):
        alone = refined(model, clip, given, SDEdit, strength=strength)
        assert torch.equal(refined(model, clip, given, LowFrequency, strength=strength, share=0.0), alone)


def test_all_frequencies_at_all_steps_are_the_input(model, clip, given):
    made = refined(model, clip, given, LowFrequency, share=1.0, time=1.0, space=2.0, anchor="none")
    torch.testing.assert_close(made, frames_from_uint8(given), rtol=0, atol=1e-4)


def test_the_filter_keeps_what_is_slow_and_coarse():
    x = torch.randn(1, 2, 8, 3, 6, 10, generator=generator("low"))
    for time, space in ((0.0, 0.0), (0.3, 0.5), (1.0, 0.4)):
        kept = low_pass(x, time, space)
        torch.testing.assert_close(low_pass(kept, time, space), kept, rtol=0, atol=1e-5)
        torch.testing.assert_close(kept.mean(dim=(2, 4, 5)), x.mean(dim=(2, 4, 5)), rtol=0, atol=1e-5)
    torch.testing.assert_close(low_pass(x, 0, 0), x.mean(dim=(2, 4, 5), keepdim=True)[..., :1, :1].expand_as(x))
    torch.testing.assert_close(low_pass(x, 0, 2), x.mean(dim=2, keepdim=True).expand_as(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(low_pass(x, 1, 2), x, rtol=0, atol=1e-5)
    # One period in eight frames is a quarter of the highest frequency.
    wave = torch.cos(2 * torch.pi * torch.arange(8) / 8).view(1, 1, 8, 1, 1, 1).expand_as(x)
    torch.testing.assert_close(low_pass(wave, 0.25, 0), wave, rtol=0, atol=1e-5)
    assert float(low_pass(wave, 0.24, 2).abs().max()) < 1e-5


# --- features of key frames -------------------------------------------------------------------------------------------


def test_the_nearest_key_frame_is_the_earlier_of_two():
    assert [nearest_key(frame, 3, 4) for frame in range(11)] == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    assert [nearest_key(frame, 2, 3) for frame in range(6)] == [0, 0, 1, 1, 1, 1]
    assert [nearest_key(frame, 4, 1) for frame in range(4)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "words",
    [(), ("backbone=wan_tiny", "backbone.layers=2", "backbone.view_blocks=[1]", "codec=pixel", "prediction=flow")],
    ids=["svd", "wan"],
)
def test_a_frame_that_sees_its_own_features_again_sees_nothing_new(words):
    """In one softmax, keys and values that come twice weigh as those that come once; and to tell them changes nothing."""
    small = [word for word in SMALL if words == () or not word.startswith("backbone.")]
    system = nudged(build_system(compose([*small, *words, "reference_keys=none"]))).eval()
    channels = system.codec.channels
    noisy = torch.randn(1, 1, 1, channels, 8, 8, generator=generator("noisy"))
    grid = system.places(tiny_batch(1, 1, 1, SIZE))[1]
    with torch.no_grad():
        given = system.condition(tiny_batch(1, 1, 1, SIZE))
        asked = (noisy, torch.full((1, 1, 1, 1, 1, 1), 0.5), given, None, grid)
        plain, tokens = system.denoise(*asked), system.attended(*asked)
        assert torch.equal(system.denoise(*asked), plain)
        assert list(tokens) == list(system.backbone.ports(system.backbone.config, shape_of(system)).memory)
        more = Conditioning.merge([given, Conditioning(memory=tokens)])
        again = system.denoise(noisy, asked[1], more, None, grid)
        torch.testing.assert_close(again, plain, rtol=1e-4, atol=1e-4)
        noise = {site: torch.randn(x.shape, generator=generator(site)) for site, x in tokens.items()}
        other = Conditioning.merge([given, Conditioning(memory=noise)])
        assert not torch.allclose(system.denoise(noisy, asked[1], other, None, grid), plain, rtol=1e-3, atol=1e-3)


def shape_of(system):
    return type(system.codec).shape(system.codec.config)


def test_features_reach_frames_between_key_frames_alone(model, clip, given):
    alone = refined(model, clip, given, SDEdit, strength=0.5)
    assert torch.equal(refined(model, clip, given, FeaturePropagation, strength=0.5, every=1), alone)
    assert not torch.equal(refined(model, clip, given, FeaturePropagation, strength=0.5, every=2), alone)
    halves = [
        refined(model, clip, given, FeaturePropagation, strength=0.5, every=2, sites=sites)
        for sites in ("first_half", "second_half")
    ]
    assert not torch.equal(*halves)


def test_a_backbone_that_tells_no_features_is_refused_in_a_line(model, clip, given, monkeypatch):
    from hvg.parts.backbone import Backbone

    monkeypatch.setattr(type(model[0].backbone), "attended", Backbone.attended)
    with pytest.raises(HvgError, match="does not tell what its attention sees; choose another"):
        refined(model, clip, given, FeaturePropagation)


# --- windows ----------------------------------------------------------------------------------------------------------

PLANS = (
    ("sampler=temporal", "sampler.frames=2", "sampler.overlap=1"),
    ("sampler=partition", "sampler.views=1", "sampler.frames=2"),
    ("sampler=anchored", "sampler.frames=3", "sampler.overlap=1"),
    ("sampler=coarse_to_fine", "sampler.frames=4", "sampler.overlap=1", "sampler.levels=2"),
    ("sampler=carry_over", "sampler.frames=3", "sampler.carried=1"),
    ("sampler=sliding", "sampler.views=1", "sampler.frames=3"),
)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan[0])
def test_a_refiner_works_on_windows_of_any_plan(model, clip, given, plan):
    system, config = model
    own = recompose(config, [*plan, "evaluation.steps=4"])
    windowed = build_system(own)
    windowed.load_state_dict(system.state_dict())
    for part in (SDEdit, LowFrequency, FeaturePropagation):
        made = refined((windowed.eval(), own), clip, given, part, strength=0.5)
        assert made.shape == (1, 2, FRAMES, 3, SIZE, SIZE) and bool(made.isfinite().all())
        assert torch.equal(frames_to_uint8(made[:, :, :1]), given[:, :, :1])
    low = refined((windowed, own), clip, given, LowFrequency, share=1.0, time=1.0, space=2.0)
    torch.testing.assert_close(low, frames_from_uint8(given), rtol=0, atol=1e-4)


def test_cells_that_rest_count_as_given():
    """So that no frequency of a video is told by frames that nothing is known of yet."""
    seen = []

    class Watching(SDEdit):
        def estimate(self, x0, at):
            seen.append((x0[0, 0, :, 0, 0, 0].tolist(), at.done))
            return x0

    made = sample(
        lambda x, sigma, windows, scales: torch.zeros_like(x),
        torch.ones(1, 1, 3, 1, 2, 2),
        torch.tensor([2.0, 1.0, 0.0]),
        *(part("sampler", "carry_over", frames=2), part("solver", "euler"), part("guidance", "constant")),
        refined=Refined(latents=torch.full((1, 1, 3, 1, 2, 2), 5.0), refiner=part(Watching, strength=0.5)),
    )
    assert seen == [([0, 0, 5], 0.0), ([0, 0, 5], 0.5), ([5, 5, 0], 0.0), ([5, 5, 0], 0.5)]
    assert not made.any()


def part(kind, name="", **settings):
    """A part by its kind and name, or of its class, with these settings."""
    cls = registry.load(kind, name) if isinstance(kind, str) else kind
    return cls(cls.Config(**settings))


def test_pictures_that_the_network_cannot_halve_are_refused(model, given):
    odd = replace(tiny_batch(1, 2, FRAMES, 36), frames=None, alpha=None)
    with pytest.raises(HvgError, match="36 pixels wide and 36 high; the sides have to be divisible by 8"):
        refined(model, odd, given, SDEdit)


def test_pictures_that_are_known_stay(model, clip, given):
    known = torch.zeros(1, 2, FRAMES, dtype=torch.bool)
    known[:, 0] = True
    seen = replace(clip, frames=frames_from_uint8(given), known=known)
    made = refined(model, seen, 255 - given, SDEdit, strength=0.5, anchor="none")
    assert torch.equal(frames_to_uint8(made[:, :1]), given[:, :1])
    crops = CropRefiner(CropRefiner.Config()).crops(seen)
    assert crops is not None and not any(bool(part.seen[:, 0].any()) for part in crops.parts)
    assert crops.batch(seen).known is None


# --- crops ------------------------------------------------------------------------------------------------------------


def test_outside_of_the_crops_every_bit_stays(model, clip, given):
    part = CropRefiner(CropRefiner.Config(strength=0.8))
    crops = part.crops(clip)
    assert crops is not None and [crop.name for crop in crops.parts] == ["head", "left_hand", "right_hand"]
    made = refined(model, clip, given, CropRefiner, strength=0.8)
    whole = frames_from_uint8(given)
    inside = torch.zeros(1, 2, FRAMES, SIZE, SIZE, dtype=torch.bool)
    for crop in crops.parts:
        for v in range(2):
            for t in range(FRAMES):
                (left, top), (height, width) = crop.corners[0, v, t].tolist(), crop.sizes[0, v].tolist()
                inside[0, v, t, top : top + height, left : left + width] = True
    apart = (made != whole).any(dim=3)
    assert 0 < float(inside.float().mean()) < 0.9
    assert not bool((apart & ~inside).any()) and bool((apart & inside).any())


def test_a_crop_holds_its_joints(clip):
    from hvg.values.cameras import project

    crops = CropRefiner(CropRefiner.Config(regions=("head",))).crops(clip)
    assert crops is not None
    places = torch.stack([clip.body.place(joint) for joint in ("neck", "head", "head_top")], dim=2)
    pixels, _ = project(places[:, None], crops.batch(clip).cameras)
    assert bool(((pixels > 0) & (pixels < SIZE)).all())
    assert not crops.batch(clip).signals and crops.batch(clip).clip_id == ("clip0/head",)


def test_rectangles_stay_inside_the_picture():
    centres = torch.tensor([[[[-5.0, 3.0], [40.0, 20.0], [31.0, 70.0]]]])
    corners, sizes = rectangles(centres, torch.tensor([[12.4]]), (32, 48))
    assert sizes.tolist() == [[[13, 20]]]
    assert bool((corners >= 0).all()) and bool((corners + sizes.flip(-1)[:, :, None] <= torch.tensor([48, 32])).all())
    assert rectangles(centres, torch.tensor([[500.0]]), (32, 48))[1].tolist() == [[[32, 48]]]


def test_what_is_cut_and_put_back_is_what_it_was_where_nothing_is_enlarged():
    whole = torch.rand(1, 1, 2, 3, 8, 12, generator=generator("paste")) * 2 - 1
    all_of_it = Crop(
        name="all",
        corners=torch.zeros(1, 1, 2, 2, dtype=torch.int64),
        sizes=torch.tensor([[[8, 12]]]),
        seen=torch.tensor([[[True, False]]]),
    )
    crops = Crops(parts=[all_of_it], edge=0.25)
    torch.testing.assert_close(crops.paste(whole, crops.cut(whole)), whole)
    white = crops.paste(whole, torch.ones(1, 1, 2, 3, 8, 12))
    # Nothing of the frame in which it is not seen; in the other all of the middle, and less at the border.
    assert torch.equal(white[:, :, 1], whole[:, :, 1])
    assert bool((white[0, 0, 0, :, 4, 6] == 1).all()) and bool((white[0, 0, 0, :, 0, 0] < 1).all())


# --- two models -------------------------------------------------------------------------------------------------------


def test_without_a_checkpoint_the_model_refines_itself(model):
    system, config = model
    assert open_refining(config, system) is None
    refining = open_refining(recompose(config, ["refiner=sdedit"]), system)
    assert refining is not None and refining.system is system and refining.steps == STEPS
    steps = open_refining(recompose(config, ["refiner=sdedit", "refiner.steps=7"]), system)
    assert steps is not None and steps.steps == 7


def test_a_checkpoint_is_a_system_of_its_own(model, clip, given, tmp_path):
    from untrained_checkpoints import write_untrained

    system, config = model
    path = tmp_path / "step-0000000.ckpt"
    other = write_untrained(compose([*SMALL, "pose=none", "evaluation.steps=2", "seed=3"]), path, 0.05)
    words = ["refiner=low_frequency", f"refiner.checkpoint={path}", "refiner.sampling=['sampler=temporal']"]
    refining = open_refining(recompose(config, words), system, "raw")
    assert refining is not None and refining.system is not system
    assert refining.config.sampler.name == "temporal" and refining.steps == 2 and config.sampler.name == "single"
    same = Refining(system=other.eval(), config=refining.config, refiner=refining.refiner)
    same.system.sampler = refining.system.sampler
    expected = same.refine(clip, given, seed=SEED)
    assert torch.equal(refining.refine(clip, given, seed=SEED), expected)
    with pytest.raises(ConfigError, match="cannot change after training"):
        open_refining(recompose(config, [*words[:2], "refiner.sampling=['pose=none']"]), system)
    body = config.model_copy(update={"body": replace(config.body, name="smplx")})
    with pytest.raises(CheckpointError, match="trained with body=anny, what it refines has body=smplx"):
        open_refining(recompose(config, words).model_copy(update={"body": body.body}), system, "raw")


def test_what_the_second_model_reads_has_to_be_given(model):
    system, config = model
    refining = Refining(system=system, config=config, refiner=CropRefiner(CropRefiner.Config()))
    check_given(refining, frozenset({"body", "cameras", "reference", "task"}), "the clips do")
    with pytest.raises(HvgError, match=r"the model that refines: .* reads 'body', which the clips do not give"):
        check_given(refining, frozenset({"cameras", "reference"}), "the clips do")


def test_settings_that_mean_nothing_are_refused():
    for word in (
        "refiner.strength=0.001",
        "refiner.strength=2",
        "refiner.sampling=['sampler=temporal']",
        "refiner.share=-1",
    ):
        with pytest.raises(ConfigError, match="refiner"):
            compose(["refiner=low_frequency", word])


def test_a_slot_that_reads_a_driving_video_is_told_none_where_there_is_none():
    driven = ["backbone.cross_attention_width=32", "dataset.driving=other_view", "pose=motion_tokens_tiny"]
    system, config = system_of(*driven, "pose.size=32", "pose.width=16", "pose.heads=2")
    quiet, notes = without_what_lacks(config, ["driving"], no_prompt=False)
    assert quiet.pose.config.strength == 0 and quiet.appearance.config.strength == 1
    assert notes == ["pose=motion_tokens tells the model nothing: it reads driving=, not given"]
    clip = without_driver(replace(tiny_batch(1, 2, FRAMES, SIZE), driving=None))
    assert clip.driving.shape == (1, FRAMES, 3, SIZE, SIZE) and clip.driving_hands.shape == (
        1,
        FRAMES,
        2,
        3,
        SIZE,
        SIZE,
    )
    part = system.conditioners["pose"]
    other = replace(clip, driving=torch.rand_like(clip.driving))
    told = [part(None, x).strengthened(0, part.null(part(None, x))).tokens for x in (clip, other)]
    assert torch.equal(*told)


# --- what it costs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "settings"),
    [
        (SDEdit, {}),
        (SDEdit, {"strength": 0.5, "steps": 2}),
        (SDEdit, {"strength": 0.0}),
        (FeaturePropagation, {"every": 3}),
        (FeaturePropagation, {"every": 1}),
        (CropRefiner, {"regions": ("head", "left_hand")}),
    ],
)
def test_passes_of_refining_are_counted_as_they_are_made(clip, given, monkeypatch, part, settings):
    system, config = system_of()
    cells, attended = [], system.backbone.attended
    system.backbone.register_forward_pre_hook(lambda module, inputs: cells.append(inputs[0].shape[:3].numel()))

    def counted(noisy, *rest, **more):
        before = len(cells)
        found = attended(noisy, *rest, **more)
        # By whatever passes a backbone finds what its attention sees.
        cells[before:] = [noisy.shape[:3].numel()]
        return found

    monkeypatch.setattr(system.backbone, "attended", counted)
    refined((system, config), clip, given, part, **settings)
    told = refining_passes(config, part(part.Config(**settings)), 2, FRAMES).all
    assert told == pytest.approx(sum(cells) / (2 * FRAMES))


def test_check_tells_what_refining_costs(tmp_path):
    words = [*SMALL, "dataset.views=2", "data.views=2"]
    assert len(sampling_line(compose(words))) == 1
    plain, more = sampling_line(compose([*words, "refiner=sdedit", "refiner.steps=4"]))
    assert f"{STEPS} steps, 3 passes" in plain
    assert more == "refiner=sdedit of its frames: 4 passes of its network over all of them"
    missing = [*words, "refiner=sdedit", f"refiner.checkpoint={tmp_path / 'none'}"]
    assert sampling_line(compose(missing))[1].endswith(
        f"unknown, for refiner.checkpoint={tmp_path / 'none'} is not there"
    )
