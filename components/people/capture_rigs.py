"""What data sets of studios share: cameras around the person, pictures and bodies by the number of the film's frame."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from hvg.core.errors import DataError
from hvg.data.recordings import RecordedConfig, Recording, Track
from hvg.geometry.motion import TO_Y_UP, Motion
from hvg.media.listing import Files, pictures_in
from hvg.values.cameras import Cameras


def studio_camera(
    rotation: Tensor, translation: Tensor, intrinsics: Tensor, image_size: tuple[int, int], up: str
) -> Cameras:
    """One camera (1,) in a world with y up, of a world where ``up`` is.

    rotation (3, 3) and translation (3), metres: world to camera, OpenCV's axes. intrinsics: (3, 3), pixels counted as OpenCV
    does, from the middle of the first one.
    """
    world_to_camera = torch.eye(4)
    world_to_camera[:3, :3], world_to_camera[:3, 3] = rotation @ TO_Y_UP[up].mT, translation
    centred = intrinsics.clone().float()
    centred[:2, 2] += 0.5
    return Cameras(world_to_camera=world_to_camera[None], intrinsics=centred[None], image_size=image_size)


def around(cameras: Mapping[str, Cameras]) -> list[str]:
    """Names of cameras (1,) in their order around the middle of them all, from the world's +z to its +x."""
    centres = {name: camera.centers[0] for name, camera in cameras.items()}
    middle = torch.stack(list(centres.values())).mean(dim=0) if centres else torch.zeros(3)

    def azimuth(name: str) -> float:
        x, _, z = (centres[name] - middle).tolist()
        return float(torch.atan2(torch.tensor(x), torch.tensor(z)) % (2 * torch.pi))

    return sorted(cameras, key=lambda name: (round(azimuth(name), 3), name))


def numbered(folder: Path, ending: str = "") -> Files[int]:
    """Number of a frame, with which a picture's name begins -> the picture; others are not of the film. ending: of its name."""
    pictures = pictures_in(folder, ending) if folder.is_dir() else Files[str](folder, {})
    return pictures.keyed({int(found[0]): name for name in pictures if (found := re.match(r"\d+", name))})


def rig_recording(
    config: RecordedConfig,
    path: Path,
    cameras: Mapping[str, Callable[[], Cameras]],
    *,
    pictures: Mapping[str, Files[int]],
    masks: Mapping[str, Files[int]],
    bodies: Mapping[int, int],
    motion: Callable[[], Motion] | None,
    files: Sequence[Path],
) -> Recording:
    """The frames of which every camera has a picture and a mask, and which have a body.

    cameras, pictures, masks: of every camera; those without a picture are not used. bodies: number of a frame -> its place in
    the motion. Raises: DataError where a camera lacks half of the frames that others have, or nothing is left.
    """
    used = [name for name in cameras if pictures[name] and not {name, f"{path.name}/{name}"} & {*config.leave_out}]
    counts = Counter(number for name in used for number in pictures[name])
    for name in used:
        there = pictures[name].keys() & masks[name].keys() if config.masks else pictures[name].keys()
        if 2 * len(there) < len(counts):
            masked = " with masks" if config.masks else ""
            raise DataError(
                f"{path}: camera {name} has {len(there)} of {len(counts)} frames{masked}; expected most of them, or "
                f" dataset.leave_out=[{path.name}/{name}]"
            )
    kinds = (pictures, masks) if config.masks else (pictures,)
    common = sorted(number for number in counts if all(number in kind[name] for kind in kinds for name in used))
    if config.bodies:
        common = [number for number in common if number in bodies]
    if not common:
        raise DataError(
            f"{path}: no frame has pictures{' and masks' if config.masks else ''} of all {len(used)} cameras"
            f"{' and a body' if config.bodies else ''}; expected some"
        )
    numbers = {str(number): number for number in common}
    tracks = {
        name: Track(
            frames=pictures[name].keyed(numbers),
            masks=masks[name].keyed(numbers) if config.masks else None,
            cameras=cameras[name],
        )
        for name in used
    }
    return Recording(
        tracks=tracks,
        length=len(common),
        filmed=len(counts),
        motion=motion if bodies else None,
        body_places=[bodies[number] for number in common] if config.bodies else None,
        files=files,
    )
