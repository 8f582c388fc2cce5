"""``hvg sample``: a user's photo, motion and camera path in, a video out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import interpolate

from hvg.build import build_body
from hvg.cameras import Cameras, orbit
from hvg.config import RunConfig
from hvg.data import with_signals, without_mesh
from hvg.eight_bit import frames_from_uint8, frames_to_uint8
from hvg.errors import HvgError
from hvg.motion import load_motion, resample
from hvg.training import load_system
from hvg.types import BodyMotion, ClipBatch, Reference
from hvg.video import read_image, tile_columns, write_video


class SampleOptions(BaseModel):
    """What ``hvg sample`` takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    checkpoint: Path = Field(description="A trained model.")
    reference: Path = Field(description="Photo of the person; with an alpha channel the background is taken away.")
    motion: Path = Field(description="An .npz of SMPL-X body parameters (AMASS keys) or of joints.")
    camera: Literal["orbit", "static"] = Field(
        "orbit", description="Views all around the person, or one from the front."
    )
    out: Path = Field(Path("sample.mp4"), description="Video to write; a column per view.")
    views: PositiveInt | None = Field(None, description="Number of views; null: as in training, 1 for a static camera.")
    frames: PositiveInt | None = Field(
        None, description="Frames, evenly spaced over the motion; null: as the dataset's clips."
    )
    elevation_degrees: float = Field(5.0, ge=-89, le=89, description="Height of the cameras above the horizon.")
    distance: PositiveFloat | None = Field(
        None, description="From the cameras to the pelvis, metres; null: as in training."
    )
    fov_degrees: PositiveFloat | None = Field(None, lt=180, description="Field of view; null: as in training.")
    image_size: PositiveInt | None = Field(None, description="Side of the video, pixels; null: as in training.")
    steps: PositiveInt | None = Field(None, description="Solver steps; null: as configured.")
    seed: int = Field(0, ge=0, description="Seed of the noise.")
    frames_per_second: PositiveFloat = Field(8.0, description="Of the video.")
    weights: Literal["ema", "raw"] = Field("ema", description="Averaged or raw weights.")


def generate(options: SampleOptions, report: Callable[[int, int], None]) -> Iterator[str]:
    """Generates and writes the video, and one that shows the control maps beside it; yields lines for the user."""
    photo, alpha = read_image(options.reference)
    motion = load_motion(options.motion)
    system, config = load_system(options.checkpoint, options.weights)
    framing = training_framing(config, options)
    mesh = any("body.vertices" in part.needs(part.config) for part in system.conditioners.values())
    body = build_body(config).animate(resample(motion, framing.frames), None, mesh=mesh)
    if alpha is None:
        yield (
            f"note: {options.reference} has no alpha channel, so its background counts as part of the person; "
            "a cut-out photo (PNG with alpha) works better"
        )
    reference = fit_photo(photo, alpha, framing.image_size)
    views = options.views or (1 if options.camera == "static" else framing.views)
    batch = ClipBatch(
        cameras=make_cameras(options, framing, views, body),
        clip_id=(f"{options.reference.name}+{options.motion.name}",),
        subject=(options.reference.name,),
        body=body,
        reference=reference,
        task=torch.ones(1, dtype=torch.int64),
        frame_index=torch.arange(framing.frames)[None],
    )
    batch = without_mesh(with_signals(batch, system.signals)).to(system.device)
    steps = options.steps or config.evaluation.steps
    result = frames_from_uint8(
        frames_to_uint8(system.generate(batch, num_steps=steps, seed=options.seed, progress=report))
    )[0].cpu()
    yield _write(options.out, {f"view {v}": result[v : v + 1] for v in range(views)}, options)
    maps = {slot: batch.signals[key][0] for slot, key in system.signal_keys.items() if key in batch.signals}
    if maps:
        shown = {f"{slot} {v}": picture(m[v : v + 1]) for slot, m in maps.items() for v in range(views)}
        yield _write(options.out.with_stem(options.out.stem + "-signals"), shown, options)


def picture(signal: Tensor) -> Tensor:
    """A control map (..., K, H, W) as an image (..., 3, H, W): its first three channels, or its one channel in grey."""
    if signal.shape[-3] >= 3:
        return signal[..., :3, :, :]
    return signal[..., :1, :, :].expand(*signal.shape[:-3], 3, *signal.shape[-2:])


def _write(path: Path, columns: dict[str, Tensor], options: SampleOptions) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, tile_columns(columns), fps=options.frames_per_second)
    return f"wrote {path}"


@dataclass(frozen=True, kw_only=True)
class Framing:
    """How training saw people. distance: metres, camera to pelvis. views: cameras around the person.
    frames: of a clip."""

    image_size: tuple[int, int]
    distance: float
    fov_degrees: float
    views: int
    frames: int


def training_framing(config: RunConfig, options: SampleOptions) -> Framing:
    """The dataset's framing, with what the options say instead.

    Raises: HvgError where neither says it.
    """
    told = {
        key: getattr(options, key) or getattr(config.dataset.config, key, None) for key in Framing.__dataclass_fields__
    }
    missing = [f"{key}=" for key, value in told.items() if value is None]
    if missing:
        raise HvgError(
            f"the model's dataset '{config.dataset.name}' does not say how people are framed; give {' '.join(missing)}"
        )
    size = told["image_size"]
    return Framing(**{**told, "image_size": (size, size) if isinstance(size, int) else size})


def make_cameras(options: SampleOptions, framing: Framing, views: int, body: BodyMotion) -> Cameras:
    """The preset's cameras (1, V, T), aimed at the mean position of the pelvis; view 0 is in front of the person."""
    pelvis = body.joints[0, :, body.joint_names.index("pelvis")].mean(dim=0)
    azimuths = torch.arange(views) * (360.0 / views if options.camera == "orbit" else 0.0)
    cameras = orbit(
        azimuths,
        elevation_degrees=options.elevation_degrees,
        distance=framing.distance,
        target=pelvis,
        fov_degrees=framing.fov_degrees,
        image_size=framing.image_size,
    )
    return cameras[None, :, None].expand(1, views, body.joints.shape[1])


def fit_photo(photo: Tensor, alpha: Tensor | None, size: tuple[int, int]) -> Reference:
    """The photo (3, H, W) on white, scaled into the frame with the person's height at 80 % of it, as in training.

    Without alpha the whole photo counts as the person. Other aspects are padded, never stretched.
    """
    cover = torch.ones_like(photo[:1]) if alpha is None else alpha
    rows, columns = (cover[0] > 0.5).any(dim=1).nonzero()[:, 0], (cover[0] > 0.5).any(dim=0).nonzero()[:, 0]
    if len(rows) and alpha is not None:
        box = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
        photo, cover = photo[:, *box], cover[:, *box]
    fill = 0.8 if alpha is not None else 1.0
    scale = fill * min(size[0] / photo.shape[1], size[1] / photo.shape[2])
    inner = (max(1, round(photo.shape[1] * scale)), max(1, round(photo.shape[2] * scale)))
    # Colours are averaged with their coverage, so that what lies under alpha 0 does not bleed in.
    premultiplied = torch.cat([(photo + 1) / 2 * cover, cover])
    small = interpolate(premultiplied[None], inner, mode="bilinear", antialias=True, align_corners=False)[0].clamp(0, 1)
    canvas = torch.zeros(4, *size)
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    canvas[:, top : top + inner[0], left : left + inner[1]] = small
    frames = (canvas[:3] + 1 - canvas[3:]) * 2 - 1
    return Reference(frames=frames[None, None], alpha=canvas[None, None, 3:])
