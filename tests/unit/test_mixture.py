"""Several datasets as one: whose clips a step draws, how they are called, what is refused."""

from collections import Counter
from functools import partial

import pytest
import torch
from preparing import in_this_process
from recordings import write_monocular

from hvg.config.build import build_dataset
from hvg.config.clip_checks import check_files
from hvg.config.composition import compose, parse_resolved
from hvg.core.checkpoint import Checkpoint, checkpoint_path, remove_checkpoint
from hvg.core.errors import ConfigError, DataError
from hvg.data.cache import cache_folder, open_clips, shard_paths
from hvg.data.prepare import prepare
from hvg.data.signals import NO_SIGNALS
from hvg.data.step_order import place_at, training_groups
from hvg.data.training_data import ClipDataModule, StepPositions, TrainingOrder
from hvg.model.load import build_system, load_system_weights
from hvg.model.trained_windows import clip_grids
from hvg.score.measured_clips import batches
from hvg.train.run import train
from hvg.values.buckets import Bucket, Group, Source
from hvg.values.task import NOVEL_POSE, NOVEL_VIEW

PEOPLE = "name:synthetic,image_size:32,num_held_out_subjects:2"
# People who stand before four cameras, who move before two, and who move before one.
MEMBERS = (
    "dataset=mixture",
    f"dataset.members.scans={{{PEOPLE},seed:1,num_subjects:3,view_share:1.0,views:4,frames:1}}",
    f"dataset.members.studio={{{PEOPLE},seed:2,num_subjects:5,views:2,frames:3}}",
    f"dataset.members.camera={{{PEOPLE},seed:3,num_subjects:4,views:1,frames:3}}",
)
BUCKETS = "data.buckets=[[2,1],[1,2]]"


@pytest.fixture(scope="module")
def words(tiny) -> list[str]:
    return [*(word for word in tiny if not word.startswith(("dataset.", "data."))), *MEMBERS, BUCKETS]


# --- what it holds ---


def test_clips_of_all_come_in_turn_by_names_of_their_own(words):
    config = compose(words)
    clips = build_dataset(config, "train")
    loaded = [clips.load(index) for index in range(len(clips))]
    assert [clip.clip_id[0].partition("/")[0] for clip in loaded[:7]] == [*["scans", "studio", "camera"] * 2, "scans"]
    assert [clip.clip_id[0] for clip in loaded[9:]] == [
        "studio/train-0003-0",
        "camera/train-0003-0",
        "studio/train-0004-0",
    ]
    assert loaded[0].subject == ("synthetic/train-0000",)
    tasks = {clip.clip_id[0].partition("/")[0]: int(clip.task) for clip in loaded}
    assert tasks == {"scans": NOVEL_VIEW, "studio": NOVEL_POSE, "camera": NOVEL_POSE}
    held = config.dataset.cls.holdings(config.dataset.config)
    assert list(held.sizes.items()) == [
        (clip.clip_id[0], (*clip.grid[1:], *clip.cameras.image_size)) for clip in loaded
    ]
    with pytest.raises(IndexError):
        clips.load(12)


@pytest.mark.parametrize("split", ["val", "test"])
def test_validation_and_test_are_the_members_own_in_turn(words, split):
    clips = build_dataset(compose(words), split)
    names = [clips.load(index).clip_id[0] for index in range(len(clips))]
    assert names == [f"{label}/{split}-000{n}-0" for n in range(2) for label in ("scans", "studio", "camera")]


def test_a_clip_holds_what_all_hold(words, tmp_path):
    write_monocular(tmp_path, frames=3)
    more = f"dataset.members.videos={{name:monocular,root:'{tmp_path}',image_size:32,bodies:false,masks:false}}"
    config = compose([*words, more, "dataset.members.studio.mesh=false", "pose=none"])
    fields = config.dataset.cls.provides(config.dataset.config)
    assert fields == {"frames", "cameras", "reference", "valid", "frame_index"}
    clips = build_dataset(config, "train")
    for index in range(4):
        clip = clips.load(index)
        assert clip.present() - {"clip_id", "subject"} == fields
        assert clip.reference.body is None or clip.reference.body.vertices is None
    with pytest.raises(ConfigError, match="requires the field 'body', which the dataset 'mixture' does not"):
        compose([*words, more])


def test_settings_that_all_share_are_the_mixture_s(words):
    config = compose(words)
    assert config.dataset.config.image_size == 32 and config.dataset.config.distance == 3.2
    assert config.dataset.config.views is None and config.dataset.config.frames is None
    assert clip_grids(config, "test") == {(4, 1), (2, 3), (1, 3)}


def test_the_geometry_behind_a_clip_is_its_member_s(words):
    clips = build_dataset(compose(words), "train")
    assert clips.surface(1).depth.shape == (2, 3, 32, 32) and clips.surface(0).depth.shape == (4, 1, 32, 32)


# --- how it is judged ---


def test_members_are_judged_as_datasets_are(words):
    def told(*more: str) -> dict[str, str]:
        with pytest.raises(ConfigError) as error:
            compose([*words, *more])
        return {problem.path: problem.message for problem in error.value.problems}

    assert "Did you mean 'views'" in told("dataset.members.scans.viewz=3")["dataset.members.scans.viewz"]
    assert "Did you mean 'synthetic'" in told("dataset.members.scans.name=synthetik")["dataset.members.scans.name"]
    assert "has to name a dataset" in told("dataset.members.more={views:2}")["dataset.members.more.name"]
    assert "a label has" in told("dataset.members={a+b:{name:synthetic}}")["dataset.members.a+b"]
    assert "no member is called 'scan'. Did you mean 'scans'" in told("dataset.weights.scan=2")["dataset"]
    assert "greater than or equal to 1" in told("dataset.weights.scans=0")["dataset.weights.scans"]
    assert "is a mixture itself" in told("dataset.members.more={name:mixture,members:{a:{name:synthetic}}}")["dataset"]
    with pytest.raises(ConfigError, match=r"dataset\.members: is missing"):
        compose(["dataset=mixture"])


def test_its_members_settings_are_all_written_down(words):
    config = compose([*words, "dataset.weights.scans=2"])
    resolved = config.resolved()["dataset"]
    assert resolved["members"]["camera"]["fov_degrees"] == 36.0 and resolved["weights"] == {"scans": 2}
    assert parse_resolved(config.to_yaml(), "config.yaml") == config


def test_a_bucket_without_clips_and_a_member_without_a_bucket_are_told_before_training(words):
    with pytest.raises(ConfigError, match=r"data\.buckets: no clip of the mixture is drawn for 2 x 4"):
        compose([*words, "data.buckets=[[2,1],[1,2],[2,4]]"])
    with pytest.raises(ConfigError, match=r"4 of 12 clips of the dataset 'mixture' fit none: 'camera/"):
        compose([*words, "data.buckets=[[2,1]]"])
    with pytest.raises(ConfigError, match=r"dataset\.members\.camera: none of its clips is drawn for any bucket"):
        compose([*words, "data.buckets=[[2,1]]", "data.unfit=leave_out"])
    with pytest.raises(ConfigError, match=r"data\.views: 2 views are asked for; 4 of 12 clips"):
        compose([*words, "data.buckets=null", "data.views=2", "data.frames=1"])


def test_a_member_whose_clips_are_not_known_cannot_be_mixed(words):
    config = compose([*words, "dataset.members.kept={name:shards,path:nowhere}"])
    assert check_files(config) == []
    with pytest.raises(DataError, match=r"what its parts hold is not known: kept: nowhere: no shard named train"):
        training_groups(config, 12)


# --- what is drawn ---


def test_a_step_draws_one_member_by_the_weights_and_its_clips_equally_often(words):
    config = compose([*words, "dataset.weights={scans:3,studio:2}"])
    found = training_groups(config, 12)
    assert [(group.source, group.buckets) for group in found] == [
        (Source("scans", 3), (Bucket(2, 1, (32, 32)),)),
        (Source("studio", 2), (Bucket(2, 1, (32, 32)), Bucket(1, 2, (32, 32)))),
        (Source("camera", 1), (Bucket(1, 2, (32, 32)),)),
    ]
    own = {group.source.label: set(group.clips) for group in found}
    steps, per_step = 6 * 3 * 5 * 4, 2
    drawn = [place_at(0, found, position, per_step) for position in range(steps * per_step)]
    members = []
    for step in range(steps):
        of_step = drawn[per_step * step : per_step * (step + 1)]
        (label,) = {label for place in of_step for label, clips in own.items() if place.clip in clips}
        assert len({place.bucket for place in of_step}) == 1
        members.append(label)
    for start in range(0, steps, 6):
        assert Counter(members[start : start + 6]) == {"scans": 3, "studio": 2, "camera": 1}
    assert len({tuple(members[start : start + 6]) for start in range(0, steps, 6)}) > 10
    seen = Counter(place.clip for place in drawn)
    for label, weight in (("scans", 3), ("studio", 2), ("camera", 1)):
        assert {seen[clip] for clip in own[label]} == {steps * per_step * weight // 6 // len(own[label])}
    assert {place.bucket.views for place in drawn if place.clip in own["studio"]} == {1, 2}
    # A position does not depend on which were asked before.
    assert place_at(0, found, 101, per_step) == drawn[101]


def test_groups_of_a_member_share_its_steps_by_their_clips():
    """Of five and one clips of two sizes; beside another member of as many steps."""
    one, other = Source("a", 1), Source("b", 1)
    found = [
        Group([0, 1, 2, 3, 4], (Bucket(1, 1, (8, 8)),), one),
        Group([5], (Bucket(1, 1, (8, 16)),), one),
        Group([6, 7], (Bucket(1, 1, (8, 8)),), other),
    ]
    drawn = Counter(place_at(3, found, position, 1).clip for position in range(2 * 6 * 10))
    assert drawn == {**dict.fromkeys(range(6), 10), 6: 30, 7: 30}


def test_all_ranks_and_later_starts_draw_the_same(words):
    config = compose(words)
    clips = open_clips(config, "train")
    order = partial(TrainingOrder, clips, NO_SIGNALS, seed=0, groups=training_groups(config, len(clips)))
    whole = list(ClipDataModule(order, batch_size=2, num_steps=9, workers=0).train_dataloader())
    assert {batch.frames.shape[1:3] for batch in whole} == {(2, 1), (1, 2)}
    assert all(len({name.partition("/")[0] for name in batch.clip_id}) == 1 for batch in whole)
    two = order(clips_per_step=2)
    for step, batch in enumerate(whole):
        ranks = [two[next(iter(StepPositions(step, step + 1, 1, rank, 2)))[0]] for rank in range(2)]
        assert tuple(name for clip in ranks for name in clip.clip_id) == batch.clip_id
    late = ClipDataModule(order, batch_size=2, num_steps=9, workers=0, first_step=5).train_dataloader()
    for batch, again in zip(whole[5:], late, strict=True):
        assert batch.clip_id == again.clip_id and torch.equal(batch.frames, again.frames)


def test_clips_of_two_members_are_scored_apart_where_they_differ(words):
    config = compose([*words, "dataset.members.studio.views=1"])
    clips = build_dataset(config, "test")
    found = [batch.clip_id for _, batch in batches(clips, len(clips), 4, clips.load)]
    assert found == [
        ("scans/test-0000-0",),
        ("studio/test-0000-0", "camera/test-0000-0"),
        ("scans/test-0001-0",),
        ("studio/test-0001-0", "camera/test-0001-0"),
    ]
    first, second = clips.load(1), clips.load(2)
    assert first.form() == second.form() != clips.load(0).form()


# --- in a run ---


@pytest.mark.long
def test_a_run_on_a_mixture_resumes_to_the_same_bits_and_reads_what_is_prepared(words, tmp_path):
    own = [*words, f"output={tmp_path}", "training.validate_every=0", "data.batch_size=2", "device=cpu", "task=switch"]

    def trained(*more: str) -> dict[str, torch.Tensor]:
        config = compose([*own, "training.steps=6", "training.checkpoint_every=3", *more])
        train(config, log=lambda line: None)
        system = build_system(config)
        path = checkpoint_path(tmp_path / config.name / "checkpoints", 6)
        load_system_weights(system, Checkpoint(path), "raw")
        return system.state_dict()

    whole = trained("name=whole")
    trained("name=parts")
    remove_checkpoint(checkpoint_path(tmp_path / "parts" / "checkpoints", 6))
    resumed = trained("name=parts", "resume=auto")
    cache = f"data.cache={tmp_path / 'cache'}"
    prepared = compose([*own, cache])
    with in_this_process():
        prepare([prepared], ("train",), jobs=1)
    assert len(shard_paths(prepared, "train")) == 1
    assert cache_folder(prepared) == cache_folder(compose([*own, cache, "dataset.weights.scans=3"]))
    read = trained("name=read", cache)
    for other in (resumed, read):
        assert whole.keys() == other.keys()
        assert all(torch.equal(whole[name], other[name]) for name in whole)
