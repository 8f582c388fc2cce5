"""Processor seconds in which a data set of recordings is listed: ``python tests/listing_speed.py [COUNT]``, 2,000 if not said.

The recordings are links to those of a small fixture; files are in the system's cache. What a process pays when it starts: the
first one, and those after it, for which what was found is kept.
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from data_set_files import write_models, write_mvhumannet
from recordings import write_monocular, write_multiview

from components.datasets.monocular import Monocular
from components.datasets.multiview import Multiview
from components.datasets.mvhumannet import Mvhumannet
from hvg.data import recorded
from hvg.data.recorded import Recorded


def copies(source: Path, folder: Path, count: int) -> Path:
    """A data set of so many recordings, each a copy by links of one of a few."""
    found = sorted(path for path in source.iterdir() if path.is_dir())
    for number in range(count):
        shutil.copytree(found[number % len(found)], folder / f"{number:06d}", copy_function=os.link)
    return folder


def main() -> None:
    count = int(sys.argv[1]) if sys.argv[1:] else 2000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HVG_LISTINGS"] = str(folder / "listings")
        write_multiview(folder / "multiview")
        write_monocular(folder / "monocular")
        sources = {Multiview: folder / "multiview", Monocular: folder / "monocular"}
        sources[Mvhumannet] = write_mvhumannet(folder / "outfits", write_models(folder / "models"))
        for cls, source in sources.items():
            root = copies(source, folder / f"many-{cls.__name__}", count)
            files = sum(len(names) for _, _, names in os.walk(root))
            first, later = (listed(cls, root, count) for _ in range(2))
            print(f"{cls.__name__}: {count} recordings, {files} files: {first:.2f} s, kept {later:.2f} s", flush=True)


def listed(cls: type[Recorded], root: Path, count: int) -> float:
    """Seconds to list so many recordings in a process that has not seen them."""
    recorded._index.cache_clear()
    started = time.process_time()
    index = cls.index(cls.Config.model_validate({"root": str(root)}))
    assert len(index.clips) == count, index.unusable
    return time.process_time() - started


if __name__ == "__main__":
    main()
