"""What is rendered ahead: for which runs, once a process, and what a training says that does not find it."""

import os
import queue
import re
import signal

import pytest

from components.codecs.pixel import PixelCodec
from components.conditioners.skeleton import Skeleton
from hvg.config.composition import compose
from hvg.core.errors import ConfigError, HvgError
from hvg.data import prepare, prepare_latents
from hvg.data.cache import cache_folder, missing_from_cache, shard_paths
from hvg.data.prepare import never_stored, prepared_runs
from hvg.data.shards import ShardReader
from hvg.data.signals import signals_of_all
from hvg.train.run import train


def poses(overrides, log=print):
    """The poses of each folder of rendered clips."""
    runs = prepared_runs(overrides, log).values()
    return [[config.pose.name if config.pose else None for config in configs] for configs in runs]


def test_several_poses_share_a_folder_and_other_clips_have_their_own(tiny):
    assert poses([*tiny, "pose=skeleton,none", "dataset.views=2,3"]) == [["skeleton", "none"]] * 2
    assert poses([*tiny, "pose=skeleton"]) == [["skeleton"]]


@pytest.mark.long
def test_all_poses_are_those_that_fit_and_the_others_are_named(tiny):
    lines = []
    (found,) = poses([*tiny, "pose=all", "dataset.mesh=false"], lines.append)
    assert {"bone_map", "skeleton", "hvg"} <= set(found) and "smpl_normal" not in found
    assert sorted(line.partition(" requires")[0].partition(" fills")[0] for line in lines) == [
        "left out: pose=driving_memory: driving_memory",
        "left out: pose=hvg_smpl_normal: hvg",
        "left out: pose=iuv: iuv",
        "left out: pose=landmark_tokens: landmark_tokens",
        "left out: pose=motion_tokens: motion_tokens",
        "left out: pose=motion_tokens_tiny: motion_tokens",
        "left out: pose=pose_tokens: pose_tokens",
        "left out: pose=semantic_map: semantic_map",
        "left out: pose=smpl_depth: smpl_depth",
        "left out: pose=smpl_normal: smpl_normal",
        "left out: pose=smpl_normal_world: smpl_normal",
    ]
    with pytest.raises(ConfigError, match="Did you mean 'steps'"):
        prepared_runs([*tiny, "pose=all", "training.stepz=3"], lines.append)


@pytest.fixture(scope="module")
def rendered(tiny, tmp_path_factory):
    """Words of a run whose two shards of training clips this process has rendered, and how often it built a part."""
    words = [*tiny, f"data.cache={tmp_path_factory.mktemp('cache')}"]
    configs = prepared_runs([*words, "pose=skeleton,bone_map"], print)
    built = {"skeleton": 0, "codec": 0}
    with pytest.MonkeyPatch.context() as patch:
        for name, cls in (("skeleton", Skeleton), ("codec", PixelCodec)):
            patch.setattr(cls, "__init__", counted(cls.__init__, built, name))
        ((folder, group),) = configs.items()
        texts, ticks = tuple(config.to_yaml() for config in group), queue.SimpleQueue()
        for number in range(2):
            prepare._render(texts, folder, "train", (number, 2), ticks)
    prepare._drawing.cache_clear()
    prepare._clips.cache_clear()
    assert folder == cache_folder(group[0]) and ticks.qsize() == 3
    return words, built


def counted(function, counts, name):
    def call(*arguments, **named):
        counts[name] += 1
        return function(*arguments, **named)

    return call


def test_a_process_builds_its_parts_once_however_many_shards_it_renders(rendered):
    words, built = rendered
    # One skeleton, of the configuration that has it; one codec for each of the two configurations.
    assert built == {"skeleton": 1, "codec": 2}
    configs = [compose([*words, f"pose={pose}"]) for pose in ("skeleton", "bone_map")]
    wanted = signals_of_all(configs).keys()
    shards = shard_paths(configs[0], "train")
    assert len(shards) == 2 and all(ShardReader(path).signals == wanted for path in shards)


def test_a_process_that_would_make_other_clips_or_latents_says_so(rendered):
    """As when somebody edits a file of the code, or of the data, while clips are prepared."""
    config = compose([*rendered[0], "pose=skeleton"])
    text, (shard, *_) = config.to_yaml(), shard_paths(config, "train")
    told = "have changed since this began; the same command begins anew"
    with pytest.raises(HvgError, match=f"^{re.escape(str(tmp := shard.parent / 'other'))}: .* {told}"):
        prepare._render((text,), tmp, "train", (0, 2), queue.SimpleQueue())
    assert not tmp.exists()
    task = prepare_latents.ToEncode(text, shard, None, [ShardReader(shard).keys[0]], ["of other weights"])
    with pytest.raises(HvgError, match=told):
        prepare_latents.encode(task, queue.SimpleQueue())


def test_what_is_prepared_is_counted(rendered):
    config = compose([*rendered[0], "pose=skeleton"])
    # Three people by two views and two frames; the other splits are not prepared.
    assert list(prepare.prepared_lines(config)) == [
        "clips, and in brackets their pictures: train 3 (12), val 0 (0), test 0 (0)"
    ]


def missing(*words):
    config = compose(words)
    return missing_from_cache(config)


def test_what_training_does_not_find_ahead_is_said(rendered, tmp_path):
    words, _ = rendered
    assert missing(*words, "pose=skeleton") is None
    assert missing(*words, "pose=none") is None
    assert missing(*words, "pose=skeleton", "data.cache=null") is None
    # It is drawn of what a step sees: nothing could be there.
    assert missing(*words, "pose=skeleton", "camera=camera_rays") is None
    cases = {
        ("pose=smpl_normal",): "the control maps of pose=smpl_normal are not prepared",
        ("pose=skeleton", "pose.joint_size=2.0"): "the control maps of pose=skeleton are not prepared",
        ("pose=skeleton", "dataset.seed=1"): "no clips are prepared for these dataset settings",
        ("pose=skeleton", f"data.cache={tmp_path}/nowhere"): f"data.cache={tmp_path}/nowhere: there is no such folder",
    }
    for more, told in cases.items():
        line = missing(*words, *more)
        assert line is not None and told in line and "`hvg prepare`" in line and "\n" not in line


def test_a_training_begins_with_that_line(tiny, tmp_path):
    lines = []
    words = [f"data.cache={tmp_path}/nowhere", f"output={tmp_path}", "training.steps=1", "pose=none"]
    train(compose([*tiny, *words]), log=lines.append)
    assert [line for line in lines if "there is no such folder" in line and "most of a step" in line]


def test_what_no_file_holds_is_said(tiny):
    configs = [compose([*tiny, "camera=camera_rays", f"pose={pose}"]) for pose in ("none", "skeleton")]
    assert [line.partition(" draws")[0] for line in never_stored(configs)] == ["camera=camera_rays"]
    assert never_stored([compose([*tiny, "camera=camera_rays", "camera.relative_to=world"])]) == []


def die(ticks):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.long
def test_a_killed_process_is_told_in_a_line():
    with pytest.raises(HvgError, match="one of the processes that prepare clips was ended from outside"):
        prepare._in_processes(1, die, [()], lambda: None)
