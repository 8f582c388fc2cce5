"""Rows: sampling beside diffusers' ``StableVideoDiffusionPipeline``, with the same weights, photo, noise and steps; one view."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from hvg.bench.peers.row import How, Row, require_equal
from hvg.bench.peers.small_svd import run_words, small_pipeline
from hvg.bench.sampling import a_test_clip
from hvg.bench.timing import Ratio, Side
from hvg.config.composition import compose
from hvg.core.eight_bit import frames_to_uint8
from hvg.core.random_keys import generator
from hvg.core.required import required
from hvg.model.load import start_system
from hvg.model.system import HumanVideoSystem
from hvg.values.clip import ClipBatch

WIDTHS, HEADS, TOKEN_WIDTH = (64, 128), (1, 2), 64
SIDE, FRAMES, STEPS, SEED = 128, 8, 5, 0
# The library starts at sqrt(sigma_max^2 + 1), we at sigma_max.
SIGMA_MAX = 700.0
# A share of the largest value: each step passes on what kernels round differently.
CLOSE = {"32": 0.01, "bf16": 0.3}


def rows() -> Iterator[Row]:
    """The loop alone, and from the photo to the frames."""
    for name, decode in (("latents", False), ("frames", True)):
        yield Row(
            name=f"sampling {name}",
            ours="hvg sample",
            theirs="diffusers StableVideoDiffusionPipeline",
            what=f"{FRAMES} frames of {SIDE} x {SIDE}, {STEPS} steps, guidance from 1 to 3, to {name}",
            measure=partial(measure, decode=decode),
        )


def opened(folder: Path) -> tuple[Any, HumanVideoSystem, ClipBatch]:
    """The library's pipeline, our system with its weights, and a clip whose photo both are shown."""
    from transformers.utils import logging

    # Bars of the libraries would stand between the rows.
    logging.disable_progress_bar()
    pipeline = small_pipeline(WIDTHS, HEADS, TOKEN_WIDTH)
    pipeline.save_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    for network in (pipeline.unet, pipeline.vae, pipeline.image_encoder):
        network.eval()
    words = run_words(folder, WIDTHS, HEADS, TOKEN_WIDTH)
    sizes = [f"dataset.image_size={SIDE}", "dataset.views=1", f"dataset.frames={FRAMES}", "data.views=1"]
    config = compose(["scale=cpu", *words, *sizes, f"codec.decode_chunk={FRAMES}"])
    system = start_system(config, lambda line: None).eval()
    _, clip = a_test_clip(config)
    return pipeline, required_video(system), clip


def required_video(system: Any) -> HumanVideoSystem:
    """Raises: TypeError for a system of another kind."""
    if not isinstance(system, HumanVideoSystem):
        raise TypeError(f"expected a HumanVideoSystem, got {type(system).__name__}")
    return system


def calls(
    pipeline: Any, system: HumanVideoSystem, clip: ClipBatch, decode: bool
) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """A call of each, giving latents (T, C, h, w), or frames (T, 3, H, W) in [0, 1]."""
    pixels = frames_to_uint8(required(clip.reference, "ClipBatch.reference").frames)[0, 0]
    photo = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    cells = SIDE // 8
    shape = (1, FRAMES, 4, cells, cells)
    noise = torch.stack([torch.randn(shape, generator=generator(SEED, "sample", n)) for n in clip.clip_id])[:, 0]

    def theirs() -> Tensor:
        pipeline.scheduler.set_timesteps(STEPS)
        made = pipeline(
            photo,
            SIDE,
            SIDE,
            num_frames=FRAMES,
            num_inference_steps=STEPS,
            noise_aug_strength=0.0,
            decode_chunk_size=FRAMES,
            latents=noise * (SIGMA_MAX / pipeline.scheduler.init_noise_sigma),
            output_type="pt" if decode else "latent",
        ).frames
        return made[0]

    def ours() -> Tensor:
        if decode:
            return (system.generate(clip, num_steps=STEPS, seed=SEED)[0, 0] + 1) / 2
        return system.sample_latents(clip, num_steps=STEPS, seed=SEED)[0][0, 0]

    return ours, theirs


def measure(how: How, *, decode: bool) -> Ratio:
    """Raises: HvgError where the two do not make the same video."""
    with tempfile.TemporaryDirectory() as folder:
        pipeline, system, clip = opened(Path(folder))
        ours, theirs = calls(pipeline, system, clip, decode)
        require_equal("sampling", ours(), theirs(), CLOSE[how.precision])
        sides = Side(ours, type(system.backbone)), Side(theirs, type(pipeline.unet))
        return how.compare("sampling", *sides)
