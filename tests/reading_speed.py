"""Time to read a clip from our shards over that of plain WebDataset with the same decoder: ``python tests/reading_speed.py``.

Both read the same files in one process in turns, and make the same tensors of frames and alpha of each clip, in 8 bits.
WebDataset reads a tar from its beginning to its end and checks nothing; ours reads clips in any order, cameras and body too, and
checks each file's CRC-32.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from webdataset import WebDataset  # pyright: ignore[reportAttributeAccessIssue]

from hvg.commands.reading_bench import first_clips, written
from hvg.config.composition import compose
from hvg.data.picture_files import PictureFormat, decode_picture
from hvg.data.shards import ShardReader

RUNS = 9


def ours(path: Path) -> list[torch.Tensor | None]:
    """Frames and alpha (1, V, T, K, H, W) of every clip."""
    reader = ShardReader(path)
    clips = [reader.load_packed(index, images=("frames",), signals=()) for index in range(len(reader))]
    return [pictures for clip in clips for pictures in (clip.frames, clip.alpha)]


def plain(path: Path) -> list[torch.Tensor]:
    """The same by WebDataset: pictures of a clip decoded in their order."""
    found = []
    for sample in WebDataset(str(path), shardshuffle=False, empty_check=False):
        pixels = stacked(sample, "frames")
        # In one picture, or beside it in files of its own.
        alpha = pixels[:, :, :, 3:] if pixels.shape[3] == 4 else stacked(sample, "alpha-frames")
        found += [pixels[:, :, :, :3], alpha]
    return found


def stacked(sample: dict, image: str) -> torch.Tensor:
    """Pictures of a name, (1, V, T, K, H, W) uint8."""
    names = sorted(name for name in sample if name.startswith(f"{image}."))
    views = len({name.split(".")[1] for name in names})
    return torch.stack([decode_picture(sample[name]) for name in names]).unflatten(0, (1, views, -1))


def ratio(path: Path, runs: int = RUNS) -> tuple[float, float]:
    """Seconds of ours, and their ratio to WebDataset's: medians of runs in turns. Raises: AssertionError for other frames."""
    both = zip(ours(path), plain(path), strict=True)
    assert all(a is not None and torch.equal(a, b) for a, b in both), "not the same pictures"
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(runs):
        for name, function in (("ours", ours), ("plain", plain)):
            started = time.perf_counter()
            function(path)
            times[name].append(time.perf_counter() - started)
    pairs = [a / b for a, b in zip(times["ours"], times["plain"], strict=True)]
    return statistics.median(times["ours"]), statistics.median(pairs)


def main() -> None:
    torch.set_num_threads(1)
    words = sys.argv[1:] or ["scale=gpu"]
    clips = first_clips(compose(words), 1)
    for form in (PictureFormat(), PictureFormat("webp"), PictureFormat("jpeg", 95)):
        with tempfile.TemporaryDirectory() as folder:
            (path,) = written(clips, Path(folder), form)
            seconds, over = ratio(path)
        print(f"{form!s:18} {1e3 * seconds:.0f} ms a clip, {over:.2f} x plain WebDataset, median of {RUNS}", flush=True)


if __name__ == "__main__":
    main()
