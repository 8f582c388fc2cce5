"""A clip as the files of a shard, and back."""

import io
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hvg.core.arrays import array_bytes, read_array
from hvg.core.eight_bit import (
    alpha_from_uint8,
    alpha_to_uint8,
    frames_from_uint8,
    frames_to_uint8,
    same_bits,
    signal_from_uint8,
    signal_to_uint8,
)
from hvg.core.required import required
from hvg.data.driving import driven, driving_pictures
from hvg.data.picture_files import ENDINGS, EXACT, PictureFormat, decode_picture, encode_picture
from hvg.parts.scene import Choose
from hvg.values.body import BodyMotion, Skinning
from hvg.values.cameras import Cameras
from hvg.values.clip import DRIVING_FIELDS, ClipBatch, Reference
from hvg.values.tensors import SHARED

# Version of a clip's files. Version 1, which says nothing of its version, kept what holds for the whole clip among the
# parameters of every frame; the one body model that there was had one such. Version 2 had no skinning, and the photo's body
# had faces of its own.
CLIP_VERSION = 3
CONSTANTS_OF_VERSION_1 = frozenset({"shape"})
# Fields of a body's skinning; arrays of meshes, the clip's and the photo's; and the files without which no mesh moves.
_SKINNING = tuple(f.name for f in fields(Skinning) if f.name != "bones")
_MESH = {f"{body}_{name}" for body in ("body", "reference_body") for name in ("vertices", "faces", *_SKINNING)}
MOVING_MESH = {"body_vertices.npy", "body_transforms.npy"}
# How the names of a control map's files begin; its key follows.
SIGNAL = "signal-"
# Ends of the names of files of pictures: of floats, with view and frame; and of all others.
_CELL = re.compile(r"\.\d+\.\d+\.npy$")
_ENDINGS = tuple(f".{ending}" for ending in ENDINGS.values())
# How the name of alpha begins where it is not in one picture with its colours.
ALPHA = "alpha-"


def _npy(value: Tensor) -> bytes:
    return array_bytes(value.numpy())


def _images(name: str, pixels: Tensor, form: PictureFormat = EXACT) -> dict[str, bytes]:
    """V T K H W uint8 -> files of pictures, or one array each where those do not know so many channels."""
    if pixels.shape[2] not in (1, 3, 4):
        return _arrays(name, pixels)
    array, ending = pixels.movedim(2, -1).numpy(), ENDINGS[form.kind]
    cells = np.ndindex(*array.shape[:2])
    return {f"{name}.{v:03d}.{t:03d}.{ending}": encode_picture(array[v, t], form) for v, t in cells}


def _arrays(name: str, values: Tensor) -> dict[str, bytes]:
    """V T K H W -> one array a picture."""
    cells = np.ndindex(*values.shape[:2])
    return {f"{name}.{v:03d}.{t:03d}.npy": _npy(values[v, t].contiguous()) for v, t in cells}


def _pictures(name: str, frames: Tensor, alpha: Tensor | None = None, form: PictureFormat = EXACT) -> dict[str, bytes]:
    """V T 3 H W in [-1, 1] and V T 1 H W in [0, 1] as files: 8 bits where they hold both exactly, else floats.

    Of another form than PNG, alpha has files of its own, to the bit; with loss, colours are 8 bits whatever they were.
    """
    colour = frames_to_uint8(frames)
    exact = same_bits(frames_from_uint8(colour), frames)
    if form != EXACT:
        own = {} if alpha is None else _alpha(ALPHA + name, alpha)
        return own | (_images(name, colour, form) if exact or form.is_lossy else _arrays(name, frames))
    coverage = None if alpha is None else alpha_to_uint8(alpha)
    if alpha is None or coverage is None:
        return _images(name, colour) if exact else _arrays(name, frames)
    if exact and same_bits(alpha_from_uint8(coverage), alpha):
        return _images(name, torch.cat([colour, coverage], dim=2))
    return _arrays(name, torch.cat([frames, alpha], dim=2))


def _alpha(name: str, alpha: Tensor) -> dict[str, bytes]:
    """V T 1 H W in [0, 1] as files, to the bit."""
    coverage = alpha_to_uint8(alpha)
    return _images(name, coverage) if same_bits(alpha_from_uint8(coverage), alpha) else _arrays(name, alpha)


def _signal(name: str, signal: Tensor) -> dict[str, bytes]:
    """A control map V T K H W, float32, as files: in 8 bits or half precision where that loses nothing."""
    levels, half = signal_to_uint8(signal), signal.to(torch.float16)
    if same_bits(signal_from_uint8(levels), signal):
        return _images(name, levels)
    return _arrays(name, half if same_bits(half.float(), signal) else signal)


def encode_frames(clip: ClipBatch, form: PictureFormat = EXACT) -> dict[str, bytes]:
    """The frames of a clip (B = 1) as named files."""
    alpha = None if clip.alpha is None else clip.alpha[0]
    return {} if clip.frames is None else _pictures("frames", clip.frames[0], alpha, form)


def as_kept(clip: ClipBatch, form: PictureFormat) -> ClipBatch:
    """The clip (B = 1) with the frames, photo and driving video that files of this form give back."""

    def kept(frames: Tensor | None) -> Tensor | None:
        """V T 3 H W."""
        files = {} if frames is None else _pictures("frames", frames, form=form)
        return _colour(_decode_images(files, None, lambda image: True)["frames"]) if files else None

    frames = None if clip.frames is None else kept(clip.frames[0])
    photo = clip.reference and replace(clip.reference, frames=required(kept(clip.reference.frames), "frames"))
    driving = {name: driven(name, kept(x)) for name, x in driving_pictures(clip).items()}
    return replace(clip, frames=None if frames is None else frames[None], reference=photo, **driving)


def encode_clip(clip: ClipBatch, form: PictureFormat = EXACT) -> dict[str, bytes]:
    """One clip (B = 1) as named files, with its true body. form: of frames, photos and driving videos alone."""
    if len(clip.clip_id) != 1:
        raise ValueError(f"a clip has B = 1, this batch has {len(clip.clip_id)}")
    files: dict[str, bytes] = {}
    meta: dict = {"version": CLIP_VERSION, "clip_id": clip.clip_id[0], "subject": clip.subject[0]}
    meta["image_size"] = clip.cameras.image_size
    arrays = {"world_to_camera": clip.cameras.world_to_camera, "intrinsics": clip.cameras.intrinsics}
    arrays |= {name: getattr(clip, name) for name in ("task", "valid", "frame_index")}
    if (body := clip.target_body) is not None:
        meta["joint_names"] = body.joint_names
        meta["bones"] = body.skinning and body.skinning.bones
        arrays |= _body_arrays("body", body)
    if clip.reference is not None:
        reference = clip.reference
        files |= _pictures("reference", reference.frames, reference.alpha, form)
        if reference.cameras is not None:
            arrays["reference_world_to_camera"] = reference.cameras.world_to_camera
            arrays["reference_intrinsics"] = reference.cameras.intrinsics
            meta["reference_image_size"] = reference.cameras.image_size
        if (body := reference.target_body) is not None:
            arrays |= _without_what_is_shared(_body_arrays("reference_body", body), arrays)
    files |= encode_frames(clip, form)
    for name, frames in driving_pictures(clip).items():
        files |= _pictures(name, frames, form=form)
    if clip.caption is not None:
        meta["caption"] = clip.caption[0]
    for key, signal in clip.signals.items():
        files |= _signal(SIGNAL + key, signal[0])
    files |= {f"{name}.npy": _npy(value) for name, value in arrays.items() if value is not None}
    return {"meta.json": json.dumps(meta).encode(), **files}


def _body_arrays(prefix: str, body: BodyMotion) -> dict[str, Tensor | None]:
    named = {f"{prefix}_parameter-{key}": value for key, value in body.parameters.items()}
    named |= {f"{prefix}_constant-{key}": value for key, value in body.constants.items()}
    values = {name: getattr(body, name) for name in ("joints", "bone_radii", "vertices", "faces", "confidence")}
    values |= {name: getattr(body.skinning, name, None) for name in _SKINNING}
    return {**{f"{prefix}_{name}": value for name, value in values.items()}, **named}


def _without_what_is_shared(
    photo: Mapping[str, Tensor | None], body: Mapping[str, Tensor | None]
) -> dict[str, Tensor | None]:
    """Arrays of the photo's body without those of the mesh that are the clip's body's."""

    def is_shared(name: str) -> bool:
        own, other = photo.get(f"reference_body_{name}"), body.get(f"body_{name}")
        return own is not None and other is not None and same_bits(own, other)

    left_out = {f"reference_body_{name}" for name in SHARED if is_shared(name)}
    return {name: value for name, value in photo.items() if name not in left_out}


def decode_clip(
    files: Mapping[str, bytes],
    choose: Choose | None = None,
    images: Collection[str] | None = None,
    signals: Collection[str] | None = None,
    mesh: bool = True,
) -> ClipBatch:
    """The clip (B = 1) that ``encode_clip`` wrote, or some of it, pictures in 8 bits where files hold them so
    (``hvg.values.packed``); no file is asked for that is not needed.

    choose: which views and frames. images: which of ``frames`` (with alpha), ``reference`` and ``DRIVING_FIELDS``.
    signals: keys of control maps. None: all. mesh: whether those of bodies are wanted.
    """

    def is_wanted(image: str) -> bool:
        wanted = signals if image.startswith(SIGNAL) else images
        return wanted is None or image.removeprefix(SIGNAL).removeprefix(ALPHA) in wanted

    meta = json.loads(files["meta.json"])
    arrays = {
        name[:-4]: _array(files[name])
        for name in files
        if name.endswith(".npy")
        and not _CELL.search(name)
        and (is_wanted(name[:-4]) if name.startswith(SIGNAL) else mesh or name[:-4] not in _MESH)
    }
    if meta.get("version", 1) < 2:
        arrays = _with_constants(arrays)
    cameras = decode_cameras(arrays, "", meta["image_size"])
    cells = None if choose is None else choose(*cameras.shape[1:])
    pictures = _decode_images(files, cells, is_wanted)
    clip = ClipBatch(
        cameras=cameras,
        clip_id=(meta["clip_id"],),
        subject=(str(meta["subject"]),),
        body=_body(arrays, "body", meta),
        reference=_reference(pictures, arrays, meta),
        task=arrays.get("task"),
        valid=arrays.get("valid"),
        frame_index=arrays.get("frame_index"),
        caption=(meta["caption"],) if "caption" in meta else None,
        signals=_signals(arrays),
    )
    clip = clip if cells is None else clip.select(*cells)
    frames, alpha = (x if x is None else x[None] for x in _colour_and_alpha(pictures, "frames"))
    return replace(
        clip,
        frames=frames,
        alpha=alpha,
        **{name: driven(name, pictures.get(name)) for name in DRIVING_FIELDS},
        signals={
            key: signal if signal.dtype == torch.uint8 else signal.float()
            for key, signal in {**clip.signals, **_signals(pictures)}.items()
        },
    )


def _signals(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Key -> control map (1, V, T, K, H, W), as its file holds it, of those among tensors by file name."""
    return {name.removeprefix(SIGNAL): x[None] for name, x in named.items() if name.startswith(SIGNAL)}


def _reference(pictures: Mapping[str, Tensor], arrays: dict[str, Tensor], meta: dict[str, Any]) -> Reference | None:
    frames, alpha = _colour_and_alpha(pictures, "reference")
    if frames is None:
        return None
    size = meta.get("reference_image_size")
    return Reference(
        frames=frames,
        alpha=alpha,
        cameras=size and decode_cameras(arrays, "reference_", size),
        body=_body(arrays, "reference_body", meta),
    )


def _decode_images(
    files: Mapping[str, bytes], cells: tuple[Sequence[int], range] | None, is_wanted: Callable[[str], bool]
) -> dict[str, Tensor]:
    """Image name -> V T K H W, uint8 or floats; the photo is always whole, and so are the views of a driving video."""
    grids: dict[str, dict[tuple[int, int], str]] = {}
    for name in files:
        # Pictures are of a view and a frame, all of them; arrays where they are in a picture's stead.
        if name.endswith(_ENDINGS) or _CELL.search(name):
            image, view, frame, _ = name.rsplit(".", 3)
            if is_wanted(image):
                grids.setdefault(image, {})[int(view), int(frame)] = name
    stacked = {}
    for image, grid in grids.items():
        views: Sequence[int] = range(max(v for v, _ in grid) + 1)
        frames: Sequence[int] = range(max(t for _, t in grid) + 1)
        if cells is not None and image.removeprefix(ALPHA) != "reference":
            views, frames = (views if image in DRIVING_FIELDS else cells[0]), cells[1]
        found = [_picture(name, files[name]) for name in (grid[v, t] for v in views for t in frames)]
        stacked[image] = torch.stack(found).unflatten(0, (len(views), len(frames)))
    return stacked


def _array(data: bytes) -> Tensor:
    return torch.from_numpy(read_array(io.BytesIO(data), len(data)))


def _picture(name: str, data: bytes) -> Tensor:
    """A file of one picture -> K H W, uint8 or floats."""
    if name.endswith(".npy"):
        return _array(data)
    return decode_picture(data)


def _colour_and_alpha(pictures: Mapping[str, Tensor], name: str) -> tuple[Tensor | None, Tensor | None]:
    """Frames and alpha, or None, of pictures that hold both, or of pictures each; uint8 or floats."""
    pixels = pictures.get(name)
    if pixels is None:
        return None, None
    alpha = pictures.get(ALPHA + name, pixels[:, :, 3:])
    return pixels[:, :, :3], alpha if alpha.shape[2] else None


def _colour(pixels: Tensor) -> Tensor:
    """... 3 H W of a file -> the same in [-1, 1]; floats are what they were."""
    return frames_from_uint8(pixels) if pixels.dtype == torch.uint8 else pixels


def decode_cameras(arrays: dict[str, Tensor], prefix: str, image_size: list[int]) -> Cameras:
    height, width = image_size
    if not (isinstance(height, int) and isinstance(width, int)):
        raise ValueError(f"an image size of {image_size}")
    return Cameras(
        world_to_camera=arrays[f"{prefix}world_to_camera"],
        intrinsics=arrays[f"{prefix}intrinsics"],
        image_size=(height, width),
    )


def _body(arrays: dict[str, Tensor], prefix: str, meta: dict[str, Any]) -> BodyMotion | None:
    if f"{prefix}_joints" not in arrays:
        return None

    def named(kind: str) -> dict[str, Tensor]:
        marker = f"{prefix}_{kind}-"
        return {key.removeprefix(marker): value for key, value in arrays.items() if key.startswith(marker)}

    joints, parameters = arrays[f"{prefix}_joints"], named("parameter")
    for key, value in parameters.items():
        if value.shape[:2] != joints.shape[:2]:
            raise ValueError(f"parameter '{key}' is {tuple(value.shape)}, the joints have {joints.shape[1]} frames")
    # What the photo's body shares with the clip's is there once.
    mesh = {name: arrays.get(f"{prefix}_{name}", arrays.get(f"body_{name}")) for name in (*SHARED, *_SKINNING)}
    vertices, skinning = arrays.get(f"{prefix}_vertices"), None
    if f"{prefix}_transforms" in arrays:
        skinning = Skinning(bones=tuple(meta["bones"]), **{name: required(mesh[name], name) for name in _SKINNING})
    return BodyMotion(
        joints=joints,
        joint_names=tuple(meta.get("joint_names", ())),
        bone_radii=arrays.get(f"{prefix}_bone_radii"),
        vertices=vertices,
        faces=None if vertices is None else mesh["faces"],
        skinning=skinning,
        parameters=parameters,
        constants=named("constant"),
        confidence=arrays.get(f"{prefix}_confidence"),
    )


def _with_constants(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """The arrays of a clip of version 1, named as now."""
    renamed = {
        f"{prefix}_parameter-{key}": f"{prefix}_constant-{key}"
        for prefix in ("body", "reference_body")
        for key in CONSTANTS_OF_VERSION_1
    }
    return {renamed.get(name, name): value for name, value in arrays.items()}
