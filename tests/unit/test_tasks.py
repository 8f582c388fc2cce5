"""Novel views and novel poses: which clips are what, and how the network is told."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import yaml

from components.bodies.anny import Anny
from components.conditioners.task_switch import TaskSwitch, TaskSwitchConfig
from components.datasets.synthetic import Synthetic
from components.renderers.warp import Warp
from hvg.config.changes import changes
from hvg.config.command_options import SampleOptions
from hvg.config.composition import compose, parse_resolved
from hvg.geometry.motion import Motion
from hvg.model.load import build_system
from hvg.parts.context import Context
from hvg.sample.request import asked_task
from hvg.sample.request_notes import task_note
from hvg.score.protocol import build_protocol
from hvg.testing import build, nudged, tiny_batch, tiny_context, tiny_scored_clips
from hvg.values.cameras import azimuths_degrees
from hvg.values.scored_clip import true_clip
from hvg.values.task import NOVEL_POSE, NOVEL_VIEW, TASKS

SMALL = {"num_subjects": 6, "num_held_out_subjects": 4, "views": 3, "frames": 2, "image_size": 32}


@pytest.fixture(scope="module")
def context() -> Context:
    return Context(body=Anny(), renderer=Warp())


def dataset(context: Context, **changed) -> Synthetic:
    return Synthetic(Synthetic.Config(**(SMALL | changed)), context)


# --- what clips are ---


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_every_split_has_its_share_of_both_tasks(context, split):
    clips = dataset(context, view_share=0.5, split=split)
    tasks = [int(clips.load(index).task) for index in range(len(clips))]
    assert tasks == [(NOVEL_POSE, NOVEL_VIEW)[index % 2] for index in range(len(clips))]


@pytest.mark.parametrize(("share", "clips", "count"), [(0.25, 40, 10), (1.0, 7, 7), (0.0, 7, 0), (0.3, 10, 3)])
def test_the_share_is_exact_and_spread_out(share, clips, count):
    from components.datasets.synthetic import _is_view

    config = Synthetic.Config(**(SMALL | {"view_share": share, "num_subjects": clips}))
    places = [number for number in range(clips) if _is_view(config, number, 0)]
    assert len(places) == count
    assert all(abs(b - a - 1 / share) <= 1 for a, b in pairwise(places))


def test_a_person_has_both_where_clips_take_turns(context):
    clips = dataset(context, view_share=0.5, clips_per_subject=2, num_subjects=2)
    loaded = [clips.load(index) for index in range(4)]
    assert [int(clip.task) for clip in loaded] == [NOVEL_POSE, NOVEL_VIEW] * 2
    assert loaded[0].subject == loaded[1].subject != loaded[2].subject


def test_a_novel_view_shows_the_photo_s_pose_from_elsewhere_for_as_long_as_it_lasts(context):
    clip = dataset(context, view_share=1.0, frames=3).load(2)
    photo = clip.reference
    assert torch.equal(clip.body.joints, photo.body.joints.expand_as(clip.body.joints))
    assert torch.equal(clip.body.vertices, photo.body.vertices.expand_as(clip.body.vertices))
    # Loose clothes hang as in the photo, too.
    assert (clip.frames - clip.frames[:, :, :1]).abs().max() <= 2 / 255
    assert torch.equal(photo.frames, dataset(context).load(2).reference.frames)


@pytest.mark.parametrize("jitter", [0.0, 20.0, 180.0])
@pytest.mark.parametrize("views", [1, 2, 4, 48])
def test_the_photo_s_camera_is_never_a_target_s_and_the_first_is_nearest(context, jitter, views):
    clips = dataset(context, view_share=1.0, azimuth_jitter_degrees=jitter, views=views, frames=1, image_size=8)
    sides = set()
    for number in range(6):
        scene, (_, photo) = clips._scene(number, 0), clips._photo(number, clips._person(number)[0])
        away = torch.remainder(azimuths_degrees(scene.cameras) - azimuths_degrees(photo) + 180, 360) - 180
        least = min(10.0, 90.0 / views)
        assert away.abs().min() > 0.999 * least
        assert away[0].abs() <= away.abs().min() + 1e-2
        assert away[0].abs() < max(jitter, least) + 1e-2
        sides.add(bool(away[0] > 0))
    assert sides == {True, False}


def test_clips_are_as_before_unless_views_are_asked_for(context):
    """Those that stay novel poses, too: a clip's draws are its own."""
    plain, mixed = dataset(context), dataset(context, view_share=0.5)
    for index in (0, 2):
        one, other = plain.load(index), mixed.load(index)
        assert torch.equal(one.frames, other.frames) and torch.equal(one.body.joints, other.body.joints)
        assert one.clip_id == other.clip_id
    assert int(plain.load(1).task) == NOVEL_POSE


# --- how the network is told ---


def embedding(part: TaskSwitch, tasks: list[int]) -> torch.Tensor:
    with torch.no_grad():
        batch = replace(tiny_batch(clips=len(tasks)), task=torch.tensor(tasks))
        return part(None, batch).embedding


@pytest.mark.parametrize("join", ["added", "concatenated"])
def test_the_network_hears_of_the_task_and_of_nothing_else(join):
    fresh = build(TaskSwitch, TaskSwitchConfig(join=join), tiny_context())
    assert not embedding(fresh, [0, 1]).any()
    told = embedding(nudged(fresh), [0, 1, 0])
    assert told.shape[:3] == (3, 1, 1)
    assert torch.equal(told[0], told[2]) and (told[0] - told[1]).abs().max() > 0.1


def test_concatenating_is_a_projection_of_both_side_by_side():
    """With the noise level's part at the identity, as it starts."""
    part = nudged(build(TaskSwitch, TaskSwitchConfig(join="concatenated", width=8), tiny_context()))
    weight = part.network.weight.detach()
    level = torch.randn(2, len(weight), generator=torch.Generator().manual_seed(0))
    numbers = torch.eye(2)
    periods = 2 * torch.pi * 10000.0 ** (1 - torch.linspace(0, 1, 4))
    angles = numbers[..., None] * 2 * torch.pi / periods
    features = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)
    both = torch.nn.functional.linear(
        torch.cat([level, features], dim=1), torch.cat([torch.eye(len(weight)), weight], 1)
    )
    torch.testing.assert_close(both, level + embedding(part, [0, 1])[:, 0, 0])


def test_a_model_with_the_switch_tells_tasks_apart(tiny):
    system = build_system(compose([*tiny, "task=switch"]))
    nudged(system.conditioners["task"])
    batch = replace(tiny_batch(clips=1), frames=None, alpha=None)
    with torch.no_grad():
        given = [system.condition(replace(batch, task=torch.tensor([task]))) for task in (NOVEL_VIEW, NOVEL_POSE)]
    assert not torch.equal(given[0].embedding, given[1].embedding)
    assert all(torch.equal(given[0].residuals[site], given[1].residuals[site]) for site in given[0].residuals)


def test_runs_of_before_there_was_a_switch_go_on(tiny):
    config = compose(tiny)
    tree = yaml.safe_load(config.to_yaml())
    assert tree.pop("task")["name"] == "none"
    assert changes(parse_resolved(yaml.safe_dump(tree), "config.yaml"), config) == []


# --- requests ---


def body_of(*shifts: float):
    """A standing person who is so many metres from the first place in each frame."""
    motion = Motion(
        rotations={"pelvis": torch.zeros(len(shifts), 3)},
        translation=torch.tensor([[shift, 0.0, 0.0] for shift in shifts]),
    )
    return Anny().animate(motion, {}, mesh=False)


def options(**given) -> SampleOptions:
    return SampleOptions(**{"checkpoint": "a.ckpt", "reference": "a.png", "motion": "a.npz", **given})


@pytest.mark.parametrize(
    ("shifts", "asked", "expected"),
    [
        ((0.0,), "auto", "view"),
        ((0.0, 5e-4), "auto", "view"),
        ((0.0, 2e-3), "auto", "pose"),
        ((0.0, 0.0), "pose", "pose"),
        ((0.0, 1.0), "view", "view"),
    ],
)
def test_a_request_knows_its_task(shifts, asked, expected):
    assert TASKS[asked_task(options(task=asked), body_of(*shifts))] == expected


def test_a_pose_that_is_taken_for_the_photo_s_is_told(tiny):
    switched, plain = compose([*tiny, "task=switch"]), compose(tiny)
    view = replace(tiny_batch(clips=1), task=torch.tensor([NOVEL_VIEW]))
    pose = replace(view, task=torch.tensor([NOVEL_POSE]))
    assert "task=pose" in (task_note(switched, options(), view) or "")
    for config, asked, batch in (
        (switched, options(), pose),
        (switched, options(task="view"), view),
        (plain, options(), view),
    ):
        assert task_note(config, asked, batch) is None


# --- scores of a task ---


def scored(task: int | None, number: int):
    clip = tiny_scored_clips(clips=1)[0]
    dark = (clip.prediction.int() // (1 + number)).to(torch.uint8)
    return replace(clip, task=task, clip_id=f"clip{number}", prediction=dark)


def test_a_metric_of_a_task_looks_at_the_clips_of_that_task_alone():
    clips = [scored(NOVEL_VIEW, 0), scored(NOVEL_POSE, 1), scored(NOVEL_VIEW, 2)]
    words = [f"+protocol.metrics.psnr_{t}s={{name: of_task, task: {t}, metric: psnr}}" for t in TASKS]
    protocol = build_protocol(compose(["pose=none", *words]), torch.device("cpu"))
    found = protocol.reduce({clip.clip_id: protocol.measure(clip) for clip in clips})
    whole = found["psnr"]["per_clip"]
    assert found["psnr_views"]["per_clip"] == {name: whole[name] for name in ("clip0", "clip2")}
    assert found["psnr_poses"]["per_clip"] == {"clip1": whole["clip1"]}
    assert found["psnr_views"]["value"] == pytest.approx((whole["clip0"] + whole["clip2"]) / 2)
    assert found["psnr_poses"]["notes"] == ["2 of 3 clips have nothing to score"]
    assert found["psnr_poses"]["definition"].startswith("of-pose/") and found["psnr_poses"]["unit"] == "dB"


def test_clips_without_a_task_have_no_score_of_one_and_that_is_said():
    word = "+protocol.metrics.views={name: of_task, task: view}"
    protocol = build_protocol(compose(["pose=none", word]), torch.device("cpu"))
    score = protocol.reduce({"clip0": protocol.measure(scored(None, 0))})["views"]
    assert score["value"] is None and score["unavailable"] == "needs task, which clip 'clip0' does not hold"


def test_a_scored_clip_has_the_task_of_its_data(context):
    clips = dataset(context, view_share=0.5)
    assert [true_clip(clips.load(index)).task for index in (0, 1)] == [NOVEL_POSE, NOVEL_VIEW]
