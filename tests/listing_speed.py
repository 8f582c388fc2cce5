"""Seconds in which a data set of recordings is listed: ``python tests/listing_speed.py [COUNT]``, 2,000 if not said.

The recordings are links to those of a small fixture; files are in the system's cache. What a process pays when it starts.
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
        write_multiview(folder / "multiview")
        write_monocular(folder / "monocular")
        sources = {Multiview: folder / "multiview", Monocular: folder / "monocular"}
        sources[Mvhumannet] = write_mvhumannet(folder / "outfits", write_models(folder / "models"))
        for cls, source in sources.items():
            root = copies(source, folder / f"many-{cls.__name__}", count)
            files = sum(len(names) for _, _, names in os.walk(root))
            started = time.perf_counter()
            index = cls.index(cls.Config(root=str(root)))
            seconds = time.perf_counter() - started
            assert len(index.clips) == count, index.unusable
            print(f"{cls.__name__}: {count} recordings, {files} files: {seconds:.2f} s", flush=True)


if __name__ == "__main__":
    main()
