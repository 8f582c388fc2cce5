"""What was made by other code is not read from a cache; comments, layout and unrelated files are no other code."""

import importlib
import os
import sys
import textwrap

import pytest

from hvg.config.composition import compose
from hvg.config.settings import PartChoice
from hvg.core import sources
from hvg.core.sources import source_digest, source_modules
from hvg.data.cache import RenderedClips, cache_folder
from hvg.data.features import encodings
from hvg.data.prepare import render_shard
from hvg.data.shards import ShardReader
from hvg.data.signals import Signals, signal_key
from hvg.model.load import build_system
from hvg.parts.scene import Dataset
from hvg.testing import build, tiny_batch, tiny_context

FILES = {
    "lab/__init__.py": "",
    "lab/grey.py": '''
        """A map of one grey."""
        from hvg.parts.pose_guided import GuidedConfig, PoseGuided
        from .level import level

        class Grey(PoseGuided):
            """One number all over the picture."""
            Config = GuidedConfig
            requires = frozenset({"cameras"})

            @classmethod
            def signal_channels(cls, config):
                return 1

            def draw_map(self, batch):
                from lab.shape import shape
                return shape(batch).fill_(level())
        ''',
    "lab/level.py": '''
        def level():
            """How bright."""
            return 0.5
        ''',
    "lab/shape.py": """
        import torch

        def shape(batch):
            return torch.zeros(*batch.grid, 1, *batch.cameras.image_size)
        """,
    "lab/codec.py": '''
        from components.codecs.pixel import PixelCodec

        class Mine(PixelCodec):
            """The pixels."""
        ''',
    "lab/clips.py": '''
        from components.datasets.synthetic import Synthetic

        class Mine(Synthetic):
            """The synthetic people."""
        ''',
    "lab/unrelated.py": "ANSWER = 42",
    "lab-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n",
    "lab-1.0.dist-info/RECORD": "lab/__init__.py,,\n",
}


class Clips(Dataset):
    """Two clips."""

    def __len__(self):
        return 2

    def load(self, index):
        return tiny_batch(1, 2, 2, seed=index)


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A lab's package; ``lab(name, old, new)`` changes a file of it, as in the time between two commands."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text))

    def forget():
        for name in [name for name in sys.modules if name.partition(".")[0] == "lab"]:
            del sys.modules[name]
        sources.source_digest.cache_clear()
        sources._source.cache_clear()
        importlib.invalidate_caches()

    def change(name, old, new):
        path = tmp_path / name
        assert old in path.read_text()
        written = path.stat().st_mtime
        path.write_text(path.read_text().replace(old, new))
        # Python knows a changed file by its second and its size.
        os.utime(path, (written + 10, written + 10))
        forget()

    forget()
    yield change
    forget()


def grey():
    cls = importlib.import_module("lab.grey").Grey
    return build(cls, cls.Config(), tiny_context())


def grey_key():
    cls = importlib.import_module("lab.grey").Grey
    return signal_key(PartChoice("conditioner", "grey", cls, cls.Config()))


def test_a_map_drawn_by_code_that_has_changed_is_drawn_anew(lab, tmp_path):
    shard = render_shard(tmp_path, "train", Clips(), Signals({grey_key(): grey()}))
    lab("lab/level.py", "0.5", "1.0")
    key = grey_key()
    assert key not in ShardReader(shard).signals
    clips = RenderedClips([shard], Clips(), frozenset({key}))
    assert (Signals({key: grey()}).load(clips, 0).signals[key] == 1).all()


@pytest.mark.parametrize(
    ("name", "old", "new", "same"),
    [
        ("lab/level.py", "return 0.5", "return 0.6", False),
        ("lab/shape.py", "torch.zeros", "torch.ones", False),
        ("lab/grey.py", "return 1", "return 2 - 1", False),
        ("lab/__init__.py", "", "SETTING = 1", False),
        ("lab-1.0.dist-info/METADATA", "1.0", "1.1", False),
        ("lab/level.py", "How bright.", "How grey.", True),
        ("lab/level.py", "return 0.5", "return 0.5  # Half of it.\n\n", True),
        ("lab/unrelated.py", "42", "43", True),
    ],
)
def test_what_counts_is_the_code_that_a_part_can_reach(lab, name, old, new, same):
    """Its own file, what it imports at the top, relatively, or within a function; its package's version."""
    before = source_digest("lab.grey")
    lab(name, old, new)
    assert (source_digest("lab.grey") == before) == same


def test_parts_of_this_tree_follow_what_draws_and_not_the_interfaces():
    found = source_modules("components.conditioners.bone_map")
    drawing = {
        "components.nn.bone_ellipsoids",
        "hvg.parts.pose_guided",
        "hvg.geometry.ellipsoids",
        "hvg.values.cameras",
    }
    assert drawing <= found
    assert not found & {
        "hvg.values.clip",
        "hvg.parts.part",
        "hvg.parts.network_files",
        "hvg.train.run",
        "components.nn.skeleton_drawing",
    }
    assert source_digest("components.conditioners.bone_map") != source_digest("components.conditioners.skeleton")


def test_rendered_clips_and_latents_belong_to_the_code_that_made_them(lab, tiny):
    """One folder for each state of the dataset's code, and one for each of the codec's."""

    def names():
        dataset = importlib.import_module("lab.clips").Mine
        codec = importlib.import_module("lab.codec").Mine
        config = compose([*tiny, "pose=none"])
        changes = {
            "dataset": PartChoice("dataset", "mine", dataset, dataset.Config(**_plain(config.dataset))),
            "codec": PartChoice("codec", "mine", codec, codec.Config(**_plain(config.codec))),
        }
        config = config.model_copy(update=changes)
        system = build_system(config)
        made = {e.name.split("-")[0]: e.name for e in encodings(config, system.codec, system.conditioners.values())}
        return cache_folder(config).name, made

    folder, latents = names()
    lab("lab/clips.py", "class Mine(Synthetic):", "OTHER = 1\n\nclass Mine(Synthetic):")
    other_folder, same_latents = names()
    assert other_folder != folder and same_latents == latents
    lab("lab/codec.py", "class Mine(PixelCodec):", "OTHER = 1\n\nclass Mine(PixelCodec):")
    same_folder, other_latents = names()
    assert same_folder == other_folder
    assert latents.keys() == other_latents.keys() and not set(latents.values()) & set(other_latents.values())


def _plain(choice):
    return choice.config.model_dump()
