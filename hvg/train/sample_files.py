"""The validation videos of a run folder: ``samples/step-0000100-CLIP.mp4``, for each clip at each validation."""

import re
from pathlib import Path

FOLDER = "samples"
NAME = re.compile(r"step-(\d{7,})-(.+)\.mp4")


def sample_path(run: Path, step: int, clip: str) -> Path:
    """The video of a clip after step ``step`` of the run, counted from 1."""
    return run / FOLDER / f"step-{step:07d}-{clip}.mp4"


def newest_samples(run: Path) -> dict[str, tuple[int, Path]]:
    """Clip -> step and video of its last validation, by the clips' names; nothing where there is none."""
    found: dict[str, tuple[int, Path]] = {}
    folder = run / FOLDER
    # A clip's name may have folders.
    for path in folder.rglob("*.mp4"):
        match = NAME.fullmatch(path.relative_to(folder).as_posix())
        # One that is being written has a dot before its name.
        if match and path.name[0] != "." and int(match[1]) >= found.get(match[2], (0, path))[0]:
            found[match[2]] = int(match[1]), path
    return dict(sorted(found.items()))
