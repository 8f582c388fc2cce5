"""``hvg photo``: a person cut out of a photo."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hvg.commands.words import is_override, only_options
from hvg.config.command_options import PhotoOptions
from hvg.core import outputs
from hvg.core.errors import DataError, HvgError
from hvg.core.files import whole_file
from hvg.core.next_commands import CUT_OUT
from hvg.media.images import read_image_8bit
from hvg.media.person_detector import PersonDetector, Sighting, detector_python
from hvg.media.photo import HALF, check_box, covered_box


def run(words: list[str]) -> int:
    """``hvg photo``; 0."""
    photos = [word for word in words if not is_override(word)]
    options = only_options([word for word in words if is_override(word)], PhotoOptions)
    if len(photos) != 1:
        raise HvgError(f"expected one photo, got {len(photos)}", then=CUT_OUT)
    print(cut_out(Path(photos[0]), options))
    return 0


def cut_out(path: Path, options: PhotoOptions) -> str:
    """Writes the PNG; what is said of it. Raises: HvgError for the output and a missing detector, DataError for the photo."""
    outputs.expect_suffix(options.out, ".png")
    outputs.try_file(options.out, "out")
    outputs.refuse_existing(options.out, options.overwrite)
    detector_python()
    photo, alpha = read_image_8bit(path)
    if alpha is not None and bool((alpha < HALF).any()):
        raise DataError(f"{path}: is a cut-out already: its alpha channel leaves a background out")
    if options.box is not None:
        check_box(str(path), options.box, (photo.shape[1], photo.shape[2]))
    pixels = np.ascontiguousarray(photo.movedim(0, -1).numpy())
    with PersonDetector(still=True) as detector:
        seen = one_person(path, detector.look(pixels, options.box))
    box = covered_box(str(path), torch.from_numpy(seen.matte))
    with whole_file(options.out) as partial:
        Image.fromarray(np.dstack([pixels, seen.matte])).save(partial, format="PNG")
    return f"wrote {options.out}; the person is in box=[{','.join(map(str, box))}]"


def one_person(path: Path, seen: Sighting) -> Sighting:
    """Raises: DataError where there is nobody, or more than one."""
    if seen.people > 1:
        raise DataError(
            f"{path}: shows {seen.people} people; expected one: say box=[left,top,right,bottom], pixels, around one of them"
        )
    if seen.is_empty:
        raise DataError(f"{path}: nobody is found; expected one person, upright and mostly in the picture")
    return seen
