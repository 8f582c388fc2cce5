"""What MediaPipe said of a drawn person who walks, kept, and an environment whose program says it again."""

import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hvg.media.person_detector import PersonDetector
from hvg.media.video import video_frames

# 30 frames of clip 4 of tests/integration/test_video_detector.py, as `record` writes them.
RECORD = Path(__file__).parent / "data" / "mediapipe_walk.npz"
RATE, SIDE, FOV = 20.0, 384, 36.0
# Mattes are kept at this share of their size.
SHRUNK = 8

REPLAY = """
import io, struct, sys
import numpy as np
kept = dict(np.load({kept!r}))
enlarged = np.ones(({shrunk}, {shrunk}), np.uint8)
for number in range({last}):
    head = sys.stdin.buffer.read(8)
    if len(head) < 8:
        sys.exit()
    height, width = struct.unpack("<II", head)
    sys.stdin.buffer.read(height * width * 3)
    said = {{name: kept[name][number] for name in ("image", "world", "visibility", "people")}}
    matte = np.kron(kept["matte"][number], enlarged)[:height, :width]
    buffer = io.BytesIO()
    np.savez(buffer, matte=matte, **said)
    sys.stdout.buffer.write(struct.pack("<I", buffer.tell()) + buffer.getvalue())
    sys.stdout.buffer.flush()
print("a line before", file=sys.stderr)
print("its memory is full", file=sys.stderr)
sys.exit(1)
"""


def record(video: Path, joints: np.ndarray, tilt: float, path: Path) -> None:
    """Writes what the detector says of a video, beside its true joints (T, 12, 3) and the camera's tilt, degrees."""
    with PersonDetector() as detector:
        seen = [detector.look(picture) for picture, _ in video_frames(video)]
    said = {
        name: np.stack([getattr(each, name) for each in seen]) for name in ("image", "world", "visibility", "matte")
    }
    matte = said.pop("matte")[:, SHRUNK // 2 :: SHRUNK, SHRUNK // 2 :: SHRUNK]
    arrays = {name: array.astype(np.float32) for name, array in said.items()}
    people = np.array([each.people for each in seen], np.uint8)
    np.savez_compressed(path, matte=matte, people=people, joints=joints.astype(np.float32), tilt=tilt, **arrays)


def recorded() -> dict[str, np.ndarray]:
    """The kept arrays by name; ``joints`` (T, 12, 3) are the true ones."""
    with np.load(RECORD, allow_pickle=False) as arrays:
        return dict(arrays)


def environment_that_says(folder: Path, said: Mapping[str, np.ndarray], last: int = 10_000) -> Path:
    """An environment for $HVG_VIDEO_ENV whose program says what was ``said``; it dies after ``last`` pictures."""
    (folder / "bin").mkdir(parents=True)
    np.savez(folder / "said.npz", **{name: said[name] for name in ("image", "world", "visibility", "people", "matte")})
    text = REPLAY.format(kept=str(folder / "said.npz"), shrunk=SHRUNK, last=last)
    (folder / "replay.py").write_text(textwrap.dedent(text))
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{folder}/replay.py"\n')
    python.chmod(0o755)
    return folder
