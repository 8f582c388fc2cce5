"""Guidance schedules, and the systems they come from."""

from dataclasses import replace

import pytest
import torch

from hvg.config.checks import asked_branches
from hvg.config.composition import compose
from hvg.core.errors import ConfigError, HvgError
from hvg.cost.passes import sampling_passes
from hvg.model.load import build_system
from hvg.model.trained_windows import sampling_notes
from hvg.parts import registry
from hvg.parts.plan import Guidance, GuidedClips, needed_branches
from hvg.testing import nudged, tiny_batch
from hvg.values.cameras import Cameras, orbit
from hvg.values.task import NOVEL_POSE, NOVEL_VIEW


def build(name: str, **settings) -> Guidance:
    cls = registry.load("guidance", name)
    return cls(cls.Config(**settings))


def scale(name: str, views: int, frames: int, **settings) -> torch.Tensor:
    """The (V, t) scale of a guidance of one branch that treats all clips alike."""
    scales = build(name, **settings).scales(GuidedClips(grid=(2, views, frames)), 1.0)
    assert scales.shape == (1, 2, views, frames) and torch.equal(scales[0, 0], scales[0, 1])
    return scales[0, 0]


@pytest.mark.parametrize("frames", [1, 2, 14, 25])
def test_linear_is_the_ramp_of_svd(frames):
    expected = torch.linspace(1.0, 3.0, frames).expand(3, frames)
    assert torch.equal(scale("linear", 3, frames), expected)


def test_linear_along_views():
    scales = scale("linear", 3, 2, minimum=2, maximum=1, axis="views")
    assert scales.tolist() == [[2, 2], [1.5, 1.5], [1, 1]]


def test_triangular_is_what_gas_hard_codes_for_20_views():
    """Eleven values up from 1 to 2, then nine down, without the end of the circle, which is its beginning."""
    rising, falling = torch.linspace(1, 2, 11), torch.linspace(2, 1, 11)[1:10]
    torch.testing.assert_close(scale("triangular", 20, 1)[:, 0], torch.cat([rising, falling]))


@pytest.mark.parametrize("views", [1, 2, 3, 4, 7, 12])
def test_triangular_is_the_same_on_both_sides_of_the_circle(views):
    scales = scale("triangular", views, 2, minimum=1.5, maximum=4)[:, 0]
    assert scales[0] == 1.5
    for view in range(1, views):
        torch.testing.assert_close(scales[view], scales[views - view])
    assert scales.argmax() == views // 2
    if views % 2 == 0:
        assert scales[views // 2] == 4
    assert (scales[: views // 2 + 1].diff() > 0).all()


def test_triangular_along_frames():
    assert scale("triangular", 2, 4, axis="frames").tolist() == [[1, 1.5, 2, 1.5]] * 2


@pytest.mark.parametrize("name", ["constant", "linear", "triangular"])
def test_one_branch_leaves_out_every_slot_that_is_dropped_in_training(name):
    assert build(name).branches(["pose", "camera"]) == (frozenset({"pose", "camera"}),)
    assert build(name).branches([]) == (frozenset(),)


# --- by task ---


def around(azimuths: torch.Tensor) -> Cameras:
    return orbit(
        azimuths,
        elevation_degrees=7.0,
        distance=3.0,
        target=torch.tensor([0.1, 0.9, 0.0]),
        fov_degrees=40.0,
        image_size=(8, 8),
    )


def clips(tasks: list[int], cameras: Cameras) -> GuidedClips:
    """Clips of these tasks before cameras (V, t)."""
    return GuidedClips(
        grid=(len(tasks), *cameras.shape),
        task=torch.tensor(tasks),
        cameras=cameras[None].expand(len(tasks), *cameras.shape),
    )


def gas_scale(number: int, largest: float) -> torch.Tensor:
    """w_i = 1 + (w_max - 1) min(i, F - i) / (F / 2)."""
    place = torch.arange(number)
    return 1 + (largest - 1) * torch.minimum(place, number - place) / (number / 2)


@pytest.mark.parametrize("number", [1, 2, 3, 7, 20, 48])
@pytest.mark.parametrize("along", ["views", "frames"])
@pytest.mark.parametrize("first", [0.0, 130.0])
def test_gas_rises_to_the_back_along_views_and_along_frames_of_one_camera_that_goes_around(number, along, first):
    cameras = around(first + torch.arange(number) * 360.0 / number)
    cameras = cameras[:, None] if along == "views" else cameras[None]
    scales = build("gas", maximum=3.0).scales(clips([NOVEL_VIEW], cameras), 1.0)
    torch.testing.assert_close(scales.flatten(), gas_scale(number, 3.0), rtol=0, atol=1e-4)
    assert scales.flatten()[0] == 1


def test_gas_guides_a_view_by_where_it_stands_and_not_by_its_number():
    """Half a circle that begins at the side, of a camera that comes back."""
    cameras = around(90 + torch.tensor([0.0, 45.0, 90.0, 45.0]))[None]
    scales = build("gas").scales(clips([NOVEL_VIEW], cameras), 1.0)
    torch.testing.assert_close(scales.flatten(), torch.tensor([1.0, 1.25, 1.5, 1.25]), rtol=0, atol=1e-4)


def test_a_batch_may_hold_both_tasks():
    cameras = around(torch.arange(4) * 90.0)[:, None].expand(4, 3)
    scales = build("gas", pose=2.5).scales(clips([NOVEL_POSE, NOVEL_VIEW], cameras), 1.0)
    assert scales.shape == (1, 2, 4, 3)
    assert torch.equal(scales[0, 0], torch.full((4, 3), 2.5))
    torch.testing.assert_close(scales[0, 1], gas_scale(4, 2.0)[:, None].expand(4, 3), rtol=0, atol=1e-4)


def test_gas_keeps_all_but_what_the_photo_shows():
    droppable = ["pose", "appearance", "image_embedding", "task", "render"]
    assert build("gas").branches(droppable) == (frozenset({"appearance", "image_embedding"}),)
    assert build("gas", drops=("pose",)).branches(droppable) == (frozenset({"pose"}),)
    with pytest.raises(HvgError, match=r"leaves out 'apearance'.*Did you mean 'appearance'"):
        build("gas", drops=("apearance",)).branches(droppable)


# --- several branches ---


def test_separate_scales_leave_out_one_slot_after_another():
    guidance = build("separate", scales={"text": 7.5, "image": 1.5})
    assert guidance.branches(["image", "pose", "text"]) == (frozenset({"text"}), frozenset({"text", "image"}))
    assert guidance.scales(GuidedClips(grid=(2, 1, 3)), 1.0)[:, 0, 0, 0].tolist() == [7.5, 1.5]
    with pytest.raises(HvgError, match="leaves out 'text', without which no clip trains"):
        guidance.branches(["image"])


A, B, AB = frozenset("a"), frozenset("b"), frozenset("ab")


@pytest.mark.parametrize(
    ("branches", "scales", "expected"),
    [
        ([AB], [2.0], [0]),
        ([AB], [1.0], []),
        ([frozenset()], [2.0], []),
        ([A, AB], [2.0, 3.0], [0, 1]),
        # What lies between two equal scales is passed through.
        ([A, AB], [2.0, 2.0], [1]),
        ([A, AB], [2.0, 1.0], [0]),
        ([A, AB], [1.0, 2.0], [0, 1]),
        ([A, AB], [1.0, 1.0], []),
        ([A, A, AB], [2.0, 5.0, 3.0], [0, 2]),
        ([A, B, AB], [2.0, 3.0, 3.0], [0, 2]),
    ],
)
def test_only_branches_that_change_something_are_denoised(branches, scales, expected):
    given = torch.tensor(scales)[:, None, None, None].expand(-1, 1, 2, 2)
    assert needed_branches(branches, given) == expected


def test_what_is_not_denoised_would_have_changed_nothing():
    """All branches by the formula, against those that are needed."""
    from hvg.model.sampling import guided_estimate

    whole, *others = torch.randn(4, 1, 2, 2, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    for values in ([2.0, 2.0, 1.0], [1.0, 3.0, 3.0], [2.0, 3.0, 4.0], [1.0, 1.0, 1.0]):
        scales = torch.tensor(values)[:, None, None, None].expand(-1, 1, 2, 2)
        needed = needed_branches([A, AB, B], scales)
        guided = guided_estimate(whole, [(others[n], scales[n]) for n in needed])
        full = guided_estimate(whole, [*zip(others, scales, strict=True)])
        torch.testing.assert_close(guided, full)


# --- in a system ---

PHOTO = ("appearance.dropout=0.1", "reference_keys.dropout=0.1")
# Windows of 2 x 3 and 3 x 2, that overlap.
PROGRESSIVE = (
    *("sampler=progressive", "sampler.frames=3", "sampler.frame_overlap=1", "sampler.temporal_views=2"),
    *("sampler.views=3", "sampler.view_overlap=1", "sampler.view_frames=2"),
)


def generated(words: tuple[str, ...], tasks: list[int]) -> tuple[torch.Tensor, list[int]]:
    """Frames of tiny clips of these tasks by a model of these words, and how many clips each call of the network had."""
    system = nudged(build_system(compose(words)).eval())
    seen: list[int] = []
    system.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    batch = replace(tiny_batch(clips=len(tasks)), frames=None, alpha=None, task=torch.tensor(tasks))
    return system.generate(batch, num_steps=2), seen


def test_gas_s_scales_are_those_of_each_clip_s_own_task(tiny):
    """A clip comes out the same beside one of the other task as by the guidance of its own."""
    gas = (*tiny, *PHOTO, "guidance=gas", "guidance.pose=3", "guidance.maximum=2")
    mixed, seen = generated(gas, [NOVEL_VIEW, NOVEL_POSE])
    constant, _ = generated((*tiny, *PHOTO, "guidance.value=3"), [NOVEL_VIEW, NOVEL_POSE])
    triangular, _ = generated((*tiny, *PHOTO, "guidance=triangular"), [NOVEL_VIEW, NOVEL_POSE])
    assert seen == [2, 2] * 2
    torch.testing.assert_close(mixed[1], constant[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(mixed[0], triangular[0], rtol=0, atol=1e-4)
    assert (mixed[0] - constant[0]).abs().max() > 1e-3


def test_separate_scales_of_one_size_are_one_scale(tiny):
    words = (*tiny, "pose.dropout=0.1", "appearance.dropout=0.1", "reference_keys.dropout=0")
    one, called_once = generated((*words, "guidance.value=2"), [NOVEL_POSE])
    same, called_too = generated((*words, "guidance=separate", "guidance.scales={pose:2,appearance:2}"), [NOVEL_POSE])
    other, often = generated((*words, "guidance=separate", "guidance.scales={pose:2,appearance:3}"), [NOVEL_POSE])
    assert torch.equal(one, same) and (one - other).abs().max() > 1e-4
    assert (len(called_once), len(called_too), len(often)) == (4, 4, 6)


@pytest.mark.parametrize(
    ("words", "passes"),
    [
        ([], 3),
        (["guidance.value=2"], 6),
        (["guidance.value=2", "solver=heun"], 10),
        (["guidance=gas"], 6),
        (["guidance=separate", "guidance.scales={pose:2,appearance:3}"], 9),
        (["guidance=separate", "guidance.scales={pose:2,appearance:2}"], 6),
        (["guidance.value=2", *PROGRESSIVE], None),
    ],
)
def test_passes_of_a_sample_are_counted_as_they_are_made(tiny, words, passes):
    config = compose([*tiny, *PHOTO, "pose.dropout=0.1", "evaluation.steps=3", *words])
    system, cells = build_system(config).eval(), []
    system.backbone.register_forward_pre_hook(lambda module, inputs: cells.append(inputs[0].shape[:3].numel()))
    system.generate(replace(tiny_batch(clips=2, views=4, frames=4), frames=None, alpha=None), num_steps=3)
    counted = sampling_passes(config, 4, 4).all
    assert counted == pytest.approx(sum(cells) / (2 * 4 * 4))
    assert passes is None or counted == passes


# --- what is refused, and what is told ---


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["guidance=gas", "pose.dropout=0.1"], "every slot that gas would leave out has dropout 0"),
        (["guidance=gas", "guidance.drops=[pose]"], "gas leaves out 'pose', without which no clip trains"),
        (
            ["guidance=gas", *PHOTO, "dataset=monocular", "dataset.root=x", "dataset.bodies=false", "pose=none"],
            "'task'",
        ),
        (["guidance=separate", "pose.dropout=0.1"], "separate leaves out 'appearance'"),
        (["guidance=separate", "pose.dropout=0.1", "guidance.scales={pose:-1}"], "greater than or equal to 0"),
    ],
)
def test_a_guidance_that_training_did_not_prepare_is_refused(tiny, words, told):
    if "dataset=monocular" in words:
        tiny = tuple(word for word in tiny if not word.startswith(("dataset.", "data.")))
        words = [*words, "data.views=1", "data.frames=1", "dataset.image_size=32"]
    with pytest.raises(ConfigError, match=told):
        compose([*tiny, *words])


def test_a_branch_that_no_clip_was_trained_like_is_told(tiny):
    def notes(*words: str) -> list[str]:
        config = compose([*tiny, *PHOTO, "pose.dropout=0.1", *words])
        return [note for note in sampling_notes(config, build_sampler(), 1, {(2, 2)}) if note.startswith("guidance=")]

    def build_sampler():
        return registry.load("sampler", "single")(None)

    (note,) = notes("guidance=gas")
    assert "leaves out appearance, reference_keys" in note and "without pose, too" in note
    assert notes("guidance=gas", "pose.drops=alone") == notes("guidance.value=2") == []
    # Who is dropped more often is dropped without the others, too.
    assert notes("guidance=gas", "pose.dropout=0.05") == []
    assert notes("guidance=separate", "guidance.scales={pose:2}", "pose.dropout=0.2") == []
    assert asked_branches(compose([*tiny, "guidance.value=1"])) == ()
