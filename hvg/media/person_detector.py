"""A person found in pictures by MediaPipe, which runs in an environment of its own.

Sources: MediaPipe 0.10.21 (Apache-2.0), whose pose is BlazePose (arXiv 2006.10204, 2206.11678).
"""

import io
import os
import struct
import subprocess
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from hvg.core.errors import HvgError
from hvg.core.next_commands import VIDEO_ENV
from hvg.core.shipped import HVG, INSTALLED
from hvg.media.photo import Box

# The models see 256 pixels around the person; more of a picture than this are not handed over.
LONGEST_SIDE = 1280
PROGRAM = HVG / "media" / "pose_detector" / "detect.py"
PINS = PROGRAM.with_name("constraints.txt")


@dataclass(frozen=True)
class Sighting:
    """What is seen in one picture of (H, W). Joints are MediaPipe's 33; where nobody is found they are NaN.

    image: (33, 2) pixels from the left upper corner. world: (33, 3) metres from the middle of the hips; x right, y down, z away
    from the camera. visibility: (33,) in [0, 1]. matte: (H, W) uint8, 255 where the person is. people: how many are seen.
    """

    image: np.ndarray
    world: np.ndarray
    visibility: np.ndarray
    matte: np.ndarray
    people: int

    @property
    def is_empty(self) -> bool:
        """Whether nobody is found."""
        return bool(np.isnan(self.world).any())


def environment() -> Path:
    """The folder of the detector's environment, which need not be there: $HVG_VIDEO_ENV, or .venv-video in the source tree, or
    ~/.cache/hvg/video-env of an installed hvg."""
    usual = "~/.cache/hvg/video-env" if INSTALLED else HVG.parent / ".venv-video"
    return Path(os.environ.get("HVG_VIDEO_ENV") or usual).expanduser()


def detector_python() -> Path:
    """The Python of the detector's environment. Raises: HvgError, with how to make it, where there is none."""
    folder = environment()
    python = folder / "bin" / "python"
    if python.is_file():
        return python
    by_hand = f"python3.11 -m venv {folder} && {folder}/bin/pip install -r {PINS}"
    make = by_hand if INSTALLED or folder.parent != HVG.parent else f"{VIDEO_ENV} -C {HVG.parent}"
    raise HvgError(f"{folder}: the detector's environment is not there", then=make)


class PersonDetector:
    """A context in which ``look`` says who is seen in pictures. still: each stands alone; else they are a video's.

    Raises: HvgError where its environment is missing or its program ends.
    """

    def __init__(self, still: bool = False) -> None:
        self._words = [str(detector_python()), "-I", str(PROGRAM), *(["--still"] if still else [])]
        self._open = ExitStack()

    def __enter__(self) -> "PersonDetector":
        self._said = self._open.enter_context(tempfile.TemporaryFile())
        pipe = subprocess.PIPE
        self._program = subprocess.Popen(self._words, stdin=pipe, stdout=pipe, stderr=self._said)
        self._open.callback(self._end)
        return self

    def _end(self) -> None:
        """Ends the program, which keeps nothing that it could lose."""
        self._program.kill()
        with suppress(BrokenPipeError):
            self._program.communicate()

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def look(self, picture: np.ndarray, box: Box | None = None) -> Sighting:
        """Who is seen in a picture (H, W, 3), uint8; in its box alone, where one is given."""
        left, top, right, bottom = box or (0, 0, picture.shape[1], picture.shape[0])
        part = Image.fromarray(np.ascontiguousarray(picture[top:bottom, left:right]))
        scale = min(1.0, LONGEST_SIDE / max(part.size))
        size = (max(1, round(part.width * scale)), max(1, round(part.height * scale)))
        seen = self._answer(np.asarray(part.resize(size, Image.Resampling.BILINEAR)))
        matte = np.zeros(picture.shape[:2], np.uint8)
        matte[top:bottom, left:right] = np.asarray(
            Image.fromarray(seen.matte).resize(part.size, Image.Resampling.BILINEAR)
        )
        image = seen.image * np.divide(part.size, size) + (left, top)
        return Sighting(image, seen.world, seen.visibility, matte, seen.people)

    def _answer(self, picture: np.ndarray) -> Sighting:
        """What the program says of a picture as it is."""
        assert self._program.stdin is not None
        try:
            self._program.stdin.write(struct.pack("<II", *picture.shape[:2]) + picture.tobytes())
            self._program.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        (size,) = struct.unpack("<I", self._read(4))
        with np.load(io.BytesIO(self._read(size)), allow_pickle=False) as arrays:
            people = int(arrays["people"])
            return Sighting(arrays["image"], arrays["world"], arrays["visibility"], arrays["matte"], people)

    def _read(self, size: int) -> bytes:
        assert self._program.stdout is not None
        answer = self._program.stdout.read(size)
        if len(answer) < size:
            raise self._ended()
        return answer

    def _ended(self) -> HvgError:
        """What a program that has ended said last."""
        self._program.wait()
        self._said.seek(0)
        said = self._said.read().decode("utf-8", "replace").strip().splitlines()
        reason = said[-1].strip() if said else f"exit code {self._program.returncode}"
        return HvgError(f"{environment()}: the detector ended: {reason}")
