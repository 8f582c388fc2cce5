"""Sampling on our transformer of pictures is diffusers' FluxKontextPipeline, latent by latent and pixel by pixel.

The pipeline has the library's classes and random weights, for there is no network here.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from flux_pipelines import WORDS, small_pipeline
from torch.nn.functional import pixel_unshuffle

from hvg.config.build import build_part
from hvg.config.composition import compose
from hvg.core.random_keys import generator
from hvg.core.required import required
from hvg.testing import tiny_batch
from hvg.train.run import start_system

CLIPS, SIZE, STEPS, TOKENS = 2, 32, 6, 24
NOTHING = ("pose", "reference_keys", "camera", "view_attention")


def words(folder, *more: str) -> list[str]:
    """Those of a run that starts from a FLUX Kontext in a folder, and reads text as it does."""
    return [
        "backbone=flux_kontext",
        *WORDS,
        f"backbone.weights={folder}",
        "codec=flux_vae",
        f"codec.path={folder}",
        "prediction=flow_flux",
        *(f"{slot}=none" for slot in NOTHING),
        "appearance=reference_pictures",
        "text=prompt",
        "text.encoder=t5",
        f"text.encoder_settings={{place:text_encoder_2,filler:seen,precision:'32',max_tokens:{TOKENS}}}",
        f"text.path={folder}",
        "+slots.pooled.name=prompt",
        "slots.pooled.encoder=clip",
        "slots.pooled.fills=pooled",
        f"slots.pooled.path={folder}",
        *more,
    ]


def packed(latents: torch.Tensor) -> torch.Tensor:
    """(B, 1, 1, C, h, w) as the pipeline has them."""
    return pixel_unshuffle(latents[:, 0, 0], 2).flatten(2).mT


def library(batch, noise: torch.Tensor, size: int, guidance: float, output: str, photos: torch.Tensor):
    """What the pipeline makes of a batch's captions and photos (B, 3, H, W) in [0, 1]."""
    pipeline = small_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        image=photos,
        prompt=list(batch.caption),
        height=size,
        width=size,
        max_area=size**2,
        _auto_resize=False,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        latents=packed(noise),
        max_sequence_length=TOKENS,
        output_type=output,
    ).images


@pytest.mark.parametrize(("size", "guidance"), [(SIZE, 3.5), (64, 2.0)])
@torch.no_grad()
def test_sampling_is_the_library_pipeline(flux_folder, size, guidance):
    """From the same noise, text and photo, at levels that go by the pixels."""
    system = start_system(compose(words(flux_folder, f"backbone.guidance_scale={guidance}")), lambda line: None).eval()
    batch = tiny_batch(CLIPS, 1, 1, size)
    latents, _ = system.sample_latents(batch, num_steps=STEPS, seed=3)
    noise = torch.stack([torch.randn(latents.shape[1:], generator=generator(3, "sample", n)) for n in batch.clip_id])
    photos = (required(batch.reference, "ClipBatch.reference").frames[:, 0] + 1) / 2
    expected = library(batch, noise, size, guidance, "latent", photos)
    assert expected.std() > 0.3 and (expected - packed(noise)).abs().max() > 0.3
    torch.testing.assert_close(packed(latents), expected, rtol=0, atol=1e-4)
    pictures = torch.cat([*system.decode(latents, None, batch.clip_id)], dim=2)[:, 0, 0]
    seen = library(batch, noise, size, guidance, "pt", photos)
    torch.testing.assert_close((pictures + 1) / 2, seen, rtol=0, atol=1e-4)


@torch.no_grad()
def test_two_photos_in_one_wide_picture_are_the_pipeline_s_wide_picture(flux_folder):
    """As ReImagine has front and back."""
    wide = ("appearance.photos=2", "appearance.layout=wide", "dataset.photos=front_back")
    system = start_system(compose(words(flux_folder, *wide)), lambda line: None).eval()
    batch = tiny_batch(CLIPS, 1, 1, SIZE, photos=2)
    latents, _ = system.sample_latents(batch, num_steps=STEPS, seed=3)
    noise = torch.stack([torch.randn(latents.shape[1:], generator=generator(3, "sample", n)) for n in batch.clip_id])
    photos = torch.cat([*required(batch.reference, "ClipBatch.reference").frames.unbind(1)], dim=-1)
    expected = library(batch, noise, SIZE, 3.5, "latent", (photos + 1) / 2)
    torch.testing.assert_close(packed(latents), expected, rtol=0, atol=1e-4)
    first = replace(batch, reference=replace(batch.reference, frames=batch.reference.frames.flip(1)))
    assert not torch.allclose(system.sample_latents(first, num_steps=STEPS, seed=3)[0], latents, atol=1e-3)


@pytest.mark.parametrize("side", [256, 512, 1024, 1328])
@pytest.mark.parametrize("num_steps", [1, 4, 20])
def test_levels_are_those_of_the_pipeline_at_every_size(side, num_steps):
    from diffusers.pipelines.flux.pipeline_flux_kontext import calculate_shift

    tokens, scheduler = side * side // 256, small_pipeline().scheduler
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / num_steps, num_steps), mu=calculate_shift(tokens), device="cpu")
    prediction = build_part(compose(["prediction=flow_flux"]).prediction)
    sigma = prediction.sigma_schedule(num_steps, pixels=side * side).double()
    found = sigma / (1 + sigma)
    torch.testing.assert_close(found, scheduler.sigmas.double(), rtol=1e-5, atol=1e-6)
