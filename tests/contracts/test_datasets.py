"""Every registered dataset keeps the promises that hvg.testing spells out, and a broken promise is told."""

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from data_set_files import SETS, set_words, write_models
from pydantic import Field
from recordings import write_monocular, write_multiview

from components.bodies.anny import Anny
from components.datasets.synthetic import Synthetic
from components.renderers.warp import Warp
from hvg.config import checks
from hvg.config.build import build_dataset, build_part, split_config
from hvg.config.composition import compose
from hvg.config.settings import PartChoice
from hvg.core.eight_bit import frames_from_uint8, frames_to_uint8, same_bits
from hvg.core.errors import ConfigError
from hvg.data.shard_writing import write_shard
from hvg.data.shards import ShardReader
from hvg.geometry.skeleton import JOINTS
from hvg.parts import registry
from hvg.parts.context import Context
from hvg.parts.part import PartConfig
from hvg.parts.scene import Dataset, Holdings
from hvg.testing import check_dataset, standing_joints, tiny_batch
from hvg.values.body import BodyMotion
from hvg.values.clip import Reference
from hvg.values.task import NOVEL_POSE, NOVEL_VIEW

TINY = {"num_subjects": 2, "num_held_out_subjects": 1, "views": 2, "frames": 2, "image_size": 32}


class Clips(Dataset):
    """Two noisy clips a split, on the 8-bit grid; other datasets here break one promise each."""

    class Config(PartConfig):
        split: Literal["train", "val", "test"] = Field("train", description="Which clips.")

    def __init__(self, config, context=None):
        self.config, self.loads = config, 0

    @classmethod
    def provides(cls, config):
        return frozenset({"frames", "cameras", "task"})

    def __len__(self):
        return 2

    def load(self, index):
        seed = ["train", "val", "test"].index(self.config.split) * 2 + index
        clip = tiny_batch(1, 2, 2, size=8, seed=seed)
        return replace(
            clip,
            clip_id=(f"{self.config.split}-{index}",),
            frames=frames_from_uint8(frames_to_uint8(clip.frames)),
            alpha=None,
            body=None,
            reference=None,
            frame_index=None,
            driving=None,
            driving_hands=None,
            driving_face=None,
            caption=None,
        )


class OneName(Clips):
    """All clips have one name."""

    def load(self, index):
        return replace(super().load(index), clip_id=("clip",))


class Climbing(Clips):
    """A clip's name leads out of the folder that takes its prediction."""

    def load(self, index):
        return replace(super().load(index), clip_id=(f"../clip-{index}",))


class SplitIgnored(Clips):
    """Every split holds the same clips."""

    def load(self, index):
        return replace(super().load(index), clip_id=(f"clip-{index}",))


class Between(Clips):
    """Frames lie between the levels of 8 bits."""

    def load(self, index):
        clip = super().load(index)
        return replace(clip, frames=clip.frames * 0.99)


class BetweenAndSaysSo(Between):
    """Frames lie between the levels of 8 bits, as it says."""

    @classmethod
    def eight_bit(cls, config):
        return False


class Other(Clips):
    """Gives other frames at every load."""

    def load(self, index):
        self.loads += 1
        clip = super().load(index)
        return replace(clip, frames=clip.frames.flip(-1)) if self.loads > 1 else clip


class Posing(Clips):
    """Clips with a body, and a photo whose body is that of the first frame."""

    still, said = False, NOVEL_POSE

    @classmethod
    def provides(cls, config):
        return super().provides(config) | {"body", "reference"}

    def load(self, index):
        clip = super().load(index)
        joints = standing_joints()[None, None].repeat(1, 2, 1, 1)
        joints[:, 1] += 0 if self.still else 0.01
        photo = BodyMotion(joints=joints[:, :1], joint_names=JOINTS)
        return replace(
            clip,
            body=BodyMotion(joints=joints, joint_names=JOINTS),
            reference=Reference(frames=clip.frames[:, 0, :1], body=photo),
            task=torch.tensor([self.said]),
        )


class MovingView(Posing):
    """Clips that move are called novel views."""

    said = NOVEL_VIEW


class StillView(Posing):
    """Clips of the photo's own pose, called so."""

    still, said = True, NOVEL_VIEW


class StillPose(Posing):
    """Clips of the photo's own pose are called novel poses."""

    still = True


class Less(Clips):
    """Names a field that clips do not hold."""

    @classmethod
    def provides(cls, config):
        return super().provides(config) | {"alpha"}


class More(Clips):
    """Holds a field that it does not name."""

    @classmethod
    def provides(cls, config):
        return super().provides(config) - {"task"}


class Flat(Clips):
    """Frames lack the view axis."""

    def load(self, index):
        clip = super().load(index)
        return replace(clip, frames=clip.frames[:, 0])


class OtherPeople(Clips):
    """Tells other subjects than its clips name."""

    @classmethod
    def holdings(cls, config):
        return Holdings(subjects={f"{config.split}-{index}": "nobody" for index in range(2)})


class OtherPart(Clips):
    """Gives the first views, whatever is chosen."""

    def load_part(self, index, choose, signals):
        views, frames = choose(2, 2)
        return self.load(index).select(range(len(views)), frames)


class NoSplit(Clips):
    """Its settings have no split."""

    class Config(PartConfig):
        """Nothing to set."""


class NoValidation(Clips):
    """It has no clips for validation."""

    class Config(PartConfig):
        split: Literal["train", "test"] = Field("train", description="Which clips.")


def context() -> Context:
    return Context(body=Anny(), renderer=Warp())


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """A folder of what the synthetic dataset gives."""
    folder = tmp_path_factory.mktemp("shards")
    for split in ("train", "val", "test"):
        clips = Synthetic(Synthetic.Config(split=split, **TINY), context())
        write_shard(folder / f"{split}.tar", [clips.load(i) for i in range(len(clips))])
    return folder


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    """A folder of recordings of several cameras."""
    folder = tmp_path_factory.mktemp("filmed")
    write_multiview(folder, views=2, frames=2)
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A folder of videos of one camera."""
    folder = tmp_path_factory.mktemp("videos")
    write_monocular(folder, frames=2)
    return folder


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(SETS))
def test_published_dataset(name, tmp_path):
    models = write_models(tmp_path / "models")
    config = compose(["data.views=1", "data.frames=1", *set_words(name, tmp_path, models)])
    check_dataset(
        config.dataset.cls, config.dataset.config, Context(body=build_part(config.body), renderer=Warp()), clips=1
    )


@pytest.mark.parametrize("name", [name for name in registry.names("dataset") if name not in SETS])
def test_dataset(name, shards, filmed, videos):
    settings: dict[str, dict[str, Any]] = {
        "synthetic": {**TINY, "driving": "other_both", "hand_size": 16, "face_size": 24},
        "shards": {"path": str(shards), "mesh": True},
        "multiview": {"root": str(filmed), "image_size": 32},
        "monocular": {"root": str(videos), "image_size": 32},
        "mixture": {
            "members": {
                "drawn": {"name": "synthetic", **TINY, "frames": 3},
                "filmed": {"name": "monocular", "root": str(videos), "image_size": 32},
                "kept": {"name": "shards", "path": str(shards)},
            }
        },
    }
    part = registry.load("dataset", name)
    check_dataset(part, part.Config(**settings[name]), context(), clips=2)


def test_synthetic_people_with_two_photos():
    part = registry.load("dataset", "synthetic")
    check_dataset(part, part.Config(**TINY, photos="front_back"), context(), clips=1)


@pytest.mark.parametrize("part", [Clips, BetweenAndSaysSo, Posing, StillView])
def test_a_dataset_of_a_lab_passes(part):
    check_dataset(part, part.Config(), Context())


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (OneName, "both named 'clip'"),
        (Climbing, "cannot be a name"),
        (SplitIgnored, "both named 'clip-0'"),
        (Between, "frames of clip 0 of split 'train' is not what 8 bits hold"),
        (Other, "clip 1 of split 'train' has another frames when loaded again"),
        (
            MovingView,
            "task of clip 0 of split 'train' is 0, but its body moves, or is not the photo's: a novel pose, 1",
        ),
        (StillPose, "task of clip 0 of split 'train' is 1, but its body is the photo's throughout: a novel view, 0"),
        (Less, "lacks alpha"),
        (More, "holds task"),
        (Flat, "frames of clip 0 of split 'train' has shape (1, 2, 3, 8, 8), not (1, 2, 2, 3, 8, 8)"),
        (OtherPeople, "clip 0 of split 'train' has the subject clip0, but `holdings` tells nobody"),
        (OtherPart, "load_part gives another"),
        (NoSplit, "have no `split`"),
        (NoValidation, "expected 'train' or 'test', got 'val'"),
    ],
)
def test_a_broken_promise_is_told(part, told):
    with pytest.raises(AssertionError) as error:
        check_dataset(part, part.Config(), Context())
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (NoSplit, "dataset: the settings of 'mine' (NoSplit.Config) have no `split`"),
        (NoValidation, "dataset.split: expected 'train' or 'test', got 'val'"),
    ],
)
def test_a_dataset_that_lacks_a_split_is_refused_and_never_scored_on_its_training_clips(part, told):
    choice = PartChoice("dataset", "mine", part, part.Config())
    config = compose(["scale=cpu"]).model_copy(update={"dataset": choice})
    assert [str(problem).startswith(told) for problem in checks._check_splits(config)] == [True]
    with pytest.raises(ConfigError, match="split"):
        build_dataset(config, "val")
    assert split_config(PartChoice("dataset", "mine", Clips, Clips.Config()), "val").split == "val"


def test_frames_between_the_levels_of_8_bits_are_stored_as_they_are(tmp_path):
    """Photo, alpha and driving video, too; a file reads as what was made on the fly."""
    batch = tiny_batch(1, 2, 3)
    reference = replace(batch.reference, alpha=torch.rand(1, 1, 1, 32, 32))
    clip = replace(batch, reference=reference, frames=batch.frames.double())
    write_shard(tmp_path / "a.tar", [clip])
    stored = ShardReader(tmp_path / "a.tar").load(0)
    for a, b in (
        (stored.frames, clip.frames),
        (stored.alpha.float(), clip.alpha),
        (stored.reference.frames, reference.frames),
        (stored.reference.alpha, reference.alpha),
        (stored.driving, clip.driving),
    ):
        assert same_bits(a, b)
    shards = registry.load("dataset", "shards")
    assert not shards.eight_bit(shards.Config(path=str(tmp_path), split="a"))
    part = ShardReader(tmp_path / "a.tar").load(0, lambda v, t: ([1], range(1, 3)))
    assert same_bits(part.frames, clip.frames[:, [1]][:, :, 1:3])
