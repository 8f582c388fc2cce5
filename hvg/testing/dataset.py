"""Checks of what every dataset promises."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from hvg.config.build import split_config
from hvg.config.settings import PartChoice
from hvg.core.eight_bit import alpha_from_uint8, alpha_to_uint8, frames_from_uint8, frames_to_uint8, same_bits
from hvg.core.errors import ConfigError
from hvg.core.names import clip_name_problem
from hvg.geometry.skeleton import BONES
from hvg.parts.context import Context
from hvg.parts.scene import Dataset, Holdings
from hvg.testing.building import make, require
from hvg.values.body import BodyMotion
from hvg.values.clip import CLOSE_UPS, DRIVING_FIELDS, ClipBatch
from hvg.values.packed import unpacked
from hvg.values.task import NOVEL_VIEW, clip_task

# Fields that every ClipBatch holds, and those made of a clip afterwards: no dataset names either in ``provides``.
_ALWAYS = frozenset({"cameras", "clip_id", "subject"})
_MADE = frozenset({"signals", "latents", "coverage", "features", "origin", "sample_index", "unreadable"})


def check_dataset(cls: type[Dataset], config: Any, context: Context, clips: int = 4) -> None:
    """Runs every check of a dataset below. Raises: AssertionError that says which promise is broken.

    clips: of every split so many are loaded, spread evenly over it, each twice.
    """
    settings = {split: _of_split(cls, config, split) for split in ("train", "val", "test")}
    first, second = ({split: make(cls, found, context) for split, found in settings.items()} for _ in range(2))
    owners: dict[str, str] = {}
    for split, dataset in first.items():
        require(len(dataset) > 0, f"split '{split}' holds no clip")
        indices = torch.linspace(0, len(dataset) - 1, min(clips, len(dataset))).long().tolist()
        loaded = {index: dataset.load(index) for index in indices}
        for index, clip in loaded.items():
            place = f"clip {index} of split '{split}'"
            check_clip(cls, settings[split], clip, place)
            told = cls.holdings(settings[split])
            check_holdings(told, clip, place)
            in_order = not told.sizes or list(told.sizes)[index] == clip.clip_id[0]
            require(
                in_order,
                f"`holdings` tells sizes in another order than that of the clips: {place} is {clip.clip_id[0]}",
            )
            check_part(dataset, index, clip, place)
            (name,) = clip.clip_id
            require(name not in owners, f"{place} and {owners.get(name)} are both named '{name}'")
            owners[name] = place
        for index in reversed(indices):
            changed = _differences(loaded[index], second[split].load(index))
            require(not changed, f"clip {index} of split '{split}' has another {', '.join(changed)} when loaded again")


def check_clip(cls: type[Dataset], config: Any, clip: ClipBatch, place: str = "the clip") -> None:
    """A clip holds what ``provides`` names and nothing else, in the shapes of ``ClipBatch`` and in range.

    Its pictures are what 8 bits hold, unless ``eight_bit`` says that they are not. Its task is what it is, by
    ``hvg.values.task``,
    where its body and the photo's say so.
    """
    require(len(clip.clip_id) == len(clip.subject) == 1, f"{place} has B = {len(clip.clip_id)}, not 1")
    problem = clip_name_problem(clip.clip_id[0])
    require(not problem, f"the name of {place}, {clip.clip_id[0]!r}, {problem}")
    provided, held = cls.provides(config) | _ALWAYS, clip.present() - _MADE
    require(not provided - held, f"{place} lacks {', '.join(sorted(provided - held))}, which `provides` names")
    require(not held - provided, f"{place} holds {', '.join(sorted(held - provided))}, which `provides` does not name")
    for name, (found, expected) in _clip_shapes(clip).items():
        require(found == expected, f"{name} of {place} has shape {found}, not {expected}")
    told, photos = cls.num_photos(config), 0 if clip.reference is None else clip.reference.frames.shape[1]
    require(told is None or told <= photos, f"{place} has {photos} photos, but `num_photos` tells {told}")
    for name, (x, low, on_grid) in _clip_pictures(clip).items():
        inside = bool(((x >= low) & (x <= 1)).all())
        require(inside, f"{name} of {place} leaves [{low}, 1]: {float(x.min())} to {float(x.max())}")
        require(
            on_grid or not cls.eight_bit(config),
            f"{name} of {place} is not what 8 bits hold; make it by hvg.core.eight_bit, or let `eight_bit` say False",
        )
    _check_task(clip, place)


def _check_task(clip: ClipBatch, place: str) -> None:
    """A clip that says novel view stands in the photo's own pose and place, and any that does says so."""
    expected = clip_task(clip)
    if clip.task is None or expected is None:
        return
    said, is_view = int(clip.task), int(expected) == NOVEL_VIEW
    body = "is the photo's throughout" if is_view else "moves, or is not the photo's"
    task = "a novel view" if is_view else "a novel pose"
    require(said == int(expected), f"task of {place} is {said}, but its body {body}: {task}, {int(expected)}")


def check_holdings(told: Holdings, clip: ClipBatch, place: str = "the clip") -> None:
    """Checks that ``holdings`` tells a clip's true size and subject."""
    (name,), size = clip.clip_id, (*clip.grid[1:], *clip.cameras.image_size)
    for what, found, held in (("size", told.sizes, size), ("subject", told.subjects, clip.subject[0])):
        require(found.get(name, held) == held, f"{place} has the {what} {held}, but `holdings` tells {found.get(name)}")


def check_part(dataset: Dataset, index: int, clip: ClipBatch, place: str = "the clip") -> None:
    """``load_part`` gives what selecting from the whole clip gives."""
    _, views, frames = clip.grid

    def choose(num_views: int, num_frames: int) -> tuple[list[int], range]:
        return list(reversed(range(num_views)))[: max(1, views - 1)], range(num_frames // 2, num_frames)

    wanted = frozenset(clip.signals)
    part = dataset.load_part(index, choose, wanted)
    if part is None:
        return
    changed = _differences(clip.select(*choose(views, frames)), unpacked(part))
    require(not changed, f"load_part gives another {', '.join(changed)} of {place} than load and select")


def _of_split(cls: type[Dataset], config: Any, split: str) -> Any:
    try:
        return split_config(PartChoice("dataset", cls.__name__, cls, config), split)
    except ConfigError as error:
        raise AssertionError("; ".join(map(str, error.problems))) from error


def _clip_shapes(clip: ClipBatch) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Name of a tensor -> its shape, and the shape that it should have; -1 stands for the dataset's own choice."""
    size, (_, views, frames) = clip.cameras.image_size, clip.grid
    expected: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
        "cameras.world_to_camera": (clip.cameras.world_to_camera, (1, views, frames, 4, 4)),
        "cameras.intrinsics": (clip.cameras.intrinsics, (1, views, frames, 3, 3)),
        "frames": (clip.frames, (1, views, frames, 3, *size)),
        "alpha": (clip.alpha, (1, views, frames, 1, *size)),
        "valid": (clip.valid, (1, views, frames)),
        "task": (clip.task, (1,)),
        "frame_index": (clip.frame_index, (1, frames)),
        "driving": (clip.driving, (1, frames, 3, -1, -1)),
        **{name: (getattr(clip, name), (1, frames, len(shown), 3, -1, -1)) for name, shown in CLOSE_UPS.items()},
    }
    if clip.body is not None:
        expected |= _body_shapes("body", clip.body, frames)
    if clip.reference is not None:
        photo, count = clip.reference, clip.reference.frames.shape[1]
        expected |= {
            "reference.frames": (photo.frames, (1, count, 3, *size)),
            "reference.alpha": (photo.alpha, (1, count, 1, *size)),
            "reference.cameras": (photo.cameras and photo.cameras.world_to_camera, (1, count, 4, 4)),
        }
        if photo.body is not None:
            expected |= _body_shapes("reference.body", photo.body, count)
    return {name: (_as_asked(x, shape), shape) for name, (x, shape) in expected.items() if x is not None}


def _body_shapes(name: str, body: BodyMotion, frames: int) -> dict[str, tuple[Tensor | None, tuple[int, ...]]]:
    of_mesh: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {}
    if skinning := body.skinning:
        of_mesh = {
            f"{name}.skinning.vertex_bones": (skinning.vertex_bones, (-1, -1)),
            f"{name}.skinning.vertex_weights": (skinning.vertex_weights, tuple(skinning.vertex_bones.shape)),
            f"{name}.skinning.rest": (skinning.rest, (1, -1, 3)),
            f"{name}.skinning.transforms": (skinning.transforms, (1, frames, len(skinning.bones), 4, 4)),
        }
    return of_mesh | {
        f"{name}.joints": (body.joints, (1, frames, len(body.joint_names), 3)),
        f"{name}.bone_radii": (body.bone_radii, (1, len(BONES))),
        f"{name}.vertices": (body.vertices, (1, frames, -1, 3)),
        f"{name}.faces": (body.faces, (-1, 3)),
    }


def _as_asked(x: Tensor, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A tensor's shape, with -1 where any size will do."""
    if x.ndim != len(shape):
        return tuple(x.shape)
    return tuple(-1 if asked == -1 else found for found, asked in zip(x.shape, shape, strict=True))


def _clip_pictures(clip: ClipBatch) -> dict[str, tuple[Tensor, int, bool]]:
    """Name -> a picture's values, the lower end of their range (the upper is 1), whether they are what 8 bits hold."""
    colour = {"frames": clip.frames, **{name: getattr(clip, name) for name in DRIVING_FIELDS}}
    coverage = {"alpha": clip.alpha}
    if clip.reference is not None:
        colour["reference.frames"], coverage["reference.alpha"] = clip.reference.frames, clip.reference.alpha
    found = {
        n: (x, -1, same_bits(frames_from_uint8(frames_to_uint8(x)), x)) for n, x in colour.items() if x is not None
    }
    rounded = {name: alpha_from_uint8(alpha_to_uint8(x)) for name, x in coverage.items() if x is not None}
    return found | {name: (x, 0, same_bits(rounded[name], x)) for name, x in coverage.items() if x is not None}


def _differences(a: Any, b: Any, path: str = "") -> list[str]:
    """Names of the fields in which two values differ; tensors are compared to the last bit."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return [] if same_bits(a, b) else [path]
    if type(a) is not type(b):
        return [path]
    if is_dataclass(a):
        names = [f.name for f in fields(a)]
        return [x for n in names for x in _differences(getattr(a, n), getattr(b, n), f"{path}.{n}".lstrip("."))]
    if isinstance(a, Mapping):
        if a.keys() != b.keys():
            return [path]
        return [x for key in a for x in _differences(a[key], b[key], f"{path}.{key}")]
    return [] if a == b else [path]
