"""Options of commands that make videos: what of them is written, and where."""

from pathlib import Path

from pydantic import Field

from hvg.config.section import Section


class WrittenFiles(Section):
    """What is written of a video, and where."""

    out: Path = Field(
        Path("sample"), description="Folder that takes the videos, photo_as_seen.png, cameras.json and sample.json."
    )
    images: bool = Field(
        True,
        description="Write every frame as a PNG into images/, too, with a transforms.json that nerfstudio opens, and "
        "transforms_train.json and transforms_test.json for loaders of 4D Gaussians; false saves their space.",
    )
    grid: bool = Field(
        False,
        description="Write grid.mp4 and grid.webp, too, to show to others: the photo, and beside it a column for every view, "
        "what was made above the first map of each signal.",
    )
    overwrite: bool = Field(False, description="Write into `out` even if something else is there.")
