"""The benchmarks ``bone_map`` and ``people`` of ``hvg bench``: control maps and synthetic clips, drawn."""

from collections.abc import Iterator

import torch
from torch import Tensor

from hvg.bench.timing import median_seconds, one_thread
from hvg.config.build import build_dataset
from hvg.config.composition import compose
from hvg.core.required import required
from hvg.geometry.ellipsoids import Ellipsoids, ellipsoids_from_bones, render
from hvg.geometry.skeleton import BONES, bone_index, bone_radii
from hvg.model.load import build_video_model
from hvg.values.cameras import Cameras, orbit


def cameras_around(azimuths_degrees: Tensor, side: int, target: Tensor) -> Cameras:
    """Cameras around a target, with pictures of ``side`` x ``side`` pixels."""
    size = (side, side)
    return orbit(
        azimuths_degrees, elevation_degrees=5.0, distance=3.0, target=target, fov_degrees=37.0, image_size=size
    )


def bones_and_camera(side: int = 576) -> tuple[Ellipsoids, Cameras]:
    """The ellipsoids of a synthetic person, and a camera before them with pictures of ``side`` x ``side`` pixels."""
    body = required(build_dataset(compose(["scale=cpu"]), "test").load(0).body, "ClipBatch.body")
    joints, (first, second) = body.joints[0, 0], bone_index(body.joint_names)
    ellipsoids = ellipsoids_from_bones(joints[first], joints[second], bone_radii(1.7))
    return ellipsoids, cameras_around(torch.tensor([20.0]), side, joints[0])[0]


def bone_map() -> Iterator[str]:
    """Bone maps of 24 bones at 576 x 576 on one core."""
    ellipsoids, camera = bones_and_camera()
    with one_thread(), torch.no_grad():
        seconds = median_seconds(lambda: render(ellipsoids, camera), 30)
    yield f"{1e3 * seconds:.1f} ms a frame, {len(BONES)} bones, 576 x 576, one core, median of 30"


def people() -> Iterator[str]:
    """Synthetic clips with all pose maps."""
    for pose in ("none", "bone_map", "part_map", "skeleton", "smpl_normal", "smpl_depth", "semantic_map"):
        config = compose(["scale=cpu", f"pose={pose}"])
        clips, signals = build_dataset(config, "train"), build_video_model(config).signals
        with one_thread():
            numbers = iter(range(len(clips)))
            seconds = median_seconds(lambda: signals.load(clips, next(numbers)), 8)  # noqa: B023
        _, views, frames = clips.load(0).grid
        yield f"{1 / seconds:.1f} clips/s of {views} x {frames} images with pose={pose}, one core, median of 8"
