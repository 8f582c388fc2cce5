"""Small files that stand for much: none of them takes more than 2 GB."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
# Prints the most that the process held, bytes.
END = "\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"


def peak(script: str, *words: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", script + END, *words],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


def black_video(path: Path, frames: int, width: int, height: int) -> None:
    path.parent.mkdir(parents=True)
    frame = av.VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8), format="rgb24").reformat(
        format="yuv420p"
    )
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(30), options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(frames):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.long
@pytest.mark.parametrize(
    # Of two videos of 250 frames the pixels are 3.1 GB.
    ("frames", "kept"),
    [(250, ("psnr",)), (20, ("psnr", "ssim", "l1", "dtssd"))],
    ids=["long", "every metric"],
)
def test_a_long_video_is_scored_in_little_memory(tmp_path, frames, kept):
    for name in ("made", "truth"):
        black_video(tmp_path / name / "clip.mp4", frames, 1920, 1080)
    assert (tmp_path / "made" / "clip.mp4").stat().st_size < 500_000
    script = "import sys; from hvg.cli import run; assert run(['evaluate', *sys.argv[1:]]) == 0"
    metrics = ("psnr", "psnr_foreground", "ssim", "l1", "mask_iou", "dtssd", "dvssd")
    words = [f"~protocol.metrics.{name}" for name in metrics if name not in kept]
    assert peak(script, f"predictions={tmp_path / 'made'}", f"reference={tmp_path / 'truth'}", *words) < 2e9


@pytest.mark.long
def test_the_largest_photo_is_read_in_little_memory(tmp_path):
    picture = np.full((8192, 8192, 4), 255, np.uint8)
    picture[:100] = 0
    Image.fromarray(picture).save(tmp_path / "large.png", compress_level=1)
    script = """
import sys
from pathlib import Path
from hvg.media.photo import load_photo
load_photo(Path(sys.argv[1]), (512, 512), fraction=0.8, box=None, background=(1.0, 1.0, 1.0))
"""
    assert peak(script, str(tmp_path / "large.png")) < 2e9
