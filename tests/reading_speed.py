"""Time to read a clip from our shards over that of plain WebDataset with the same decoder: ``python tests/reading_speed.py``.

Both read the same files in one process in turns, and make the same tensor of frames and alpha of each clip. WebDataset reads
a tar from its beginning to its end and checks nothing; ours reads clips in any order and checks each file's CRC-32.
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
from hvg.core.eight_bit import frames_from_uint8
from hvg.data.picture_files import PictureFormat, decode_picture
from hvg.data.shards import ShardReader

RUNS = 9


def ours(path: Path) -> torch.Tensor:
    reader = ShardReader(path)
    frames = [reader.load(index, images=("frames",), signals=()).frames for index in range(len(reader))]
    return torch.cat([x for x in frames if x is not None])


def plain(path: Path) -> torch.Tensor:
    """The same by WebDataset: pictures of a clip decoded in their order."""
    clips = []
    for sample in WebDataset(str(path), shardshuffle=False, empty_check=False):
        names = sorted(name for name in sample if name.startswith("frames."))
        cells = {tuple(map(int, name.split(".")[1:3])): decode_picture(sample[name]) for name in names}
        # As ours does: alpha beside its frames where it has files of its own.
        [decode_picture(sample[name]) for name in sorted(sample) if name.startswith("alpha-frames.")]
        views, frames = (max(cell[axis] for cell in cells) + 1 for axis in (0, 1))
        pixels = torch.stack([torch.stack([cells[v, t] for t in range(frames)]) for v in range(views)])
        clips.append(frames_from_uint8(pixels[:, :, :3]))
    return torch.stack(clips)


def ratio(path: Path, runs: int = RUNS) -> tuple[float, float]:
    """Seconds of ours, and their ratio to WebDataset's: medians of runs in turns. Raises: AssertionError for other frames."""
    assert torch.equal(ours(path), plain(path)), "not the same frames"
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
