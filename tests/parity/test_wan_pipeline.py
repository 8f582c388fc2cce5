"""Sampling a rectified flow on our transformer is diffusers' WanPipeline, latent by latent.

The pipeline has the library's classes and random weights, for there is no network here.
"""

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from tiny_adapters import noisy

from hvg.config.composition import compose
from hvg.core.random_keys import generator
from hvg.testing import tiny_batch
from hvg.train.run import start_system

CLIPS, FRAMES, SIZE, STEPS = 2, 5, 32, 10
# Settings of the library's network, whose latents are those of codec=pixel.
SIZES = {
    "num_attention_heads": 2,
    "attention_head_dim": 24,
    "in_channels": 48,
    "out_channels": 48,
    "text_dim": 20,
    "freq_dim": 32,
    "ffn_dim": 96,
    "num_layers": 3,
}
PROMPT = """
import torch
from hvg.plugin import Conditioner, ConditionerConfig, Conditioning, ConditioningSpec, generator

def tokens(name, clips, width):
    return torch.randn(clips, 1, 1, 7, width, generator=generator(name))

class Part(Conditioner[ConditionerConfig]):
    '''Embeddings of a prompt, and of another one that stands in where it is dropped; made up.'''

    per_clip = True

    @classmethod
    def spec(cls, config, ports):
        return ConditioningSpec(text=ports.text_width)

    def forward(self, signal, batch):
        return Conditioning(text=tokens("prompt", len(batch.clip_id), self.width))

    def null(self, conditioning):
        return Conditioning(text=tokens("negative", *conditioning.text.shape[:1], self.width))

    def __init__(self, config, context):
        super().__init__(config, context)
        self.width = context.ports.text_width
"""


class ShiftedOnce(FlowMatchEulerDiscreteScheduler):
    """Levels that are given, which the library then shifts."""

    def set_timesteps(self, num_inference_steps: int, device: torch.device | None = None) -> None:
        super().set_timesteps(sigmas=np.linspace(1, 1 / num_inference_steps, num_inference_steps), device=device)


@pytest.fixture(scope="module")
def transformer(tmp_path_factory):
    """The library's network with weights of its own making, and the folder in which they lie as it writes them."""
    torch.manual_seed(0)
    network = WanTransformer3DModel(**SIZES).eval()
    folder = tmp_path_factory.mktemp("wan")
    network.save_pretrained(folder / "transformer")
    return network, folder


def overrides(folder, *more: str) -> list[str]:
    own = {
        "width": SIZES["num_attention_heads"] * SIZES["attention_head_dim"],
        "heads": SIZES["num_attention_heads"],
        "layers": SIZES["num_layers"],
        "feed_forward": SIZES["ffn_dim"],
        "cross_attention_width": SIZES["text_dim"],
        "frequencies": SIZES["freq_dim"],
        "weights": folder,
    }
    nothing = ("pose", "appearance", "reference_keys", "camera", "view_attention")
    return [
        "backbone=wan_1_3b",
        *(f"backbone.{key}={value}" for key, value in own.items()),
        "codec=pixel",
        "prediction=flow",
        *(f"{slot}=none" for slot in nothing),
        "+slots.prompt.name=given_prompt",
        "slots.prompt.dropout=0.1",
        *more,
    ]


def library_latents(network, scheduler, noise: torch.Tensor, scale: float) -> torch.Tensor:
    """Latents (B, t, C, h, w) of the pipeline; noise alike."""
    pipeline = WanPipeline(tokenizer=None, text_encoder=None, vae=None, scheduler=scheduler, transformer=network)
    pipeline.set_progress_bar_config(disable=True)

    def embeddings(name: str) -> torch.Tensor:
        return torch.randn(CLIPS, 7, SIZES["text_dim"], generator=generator(name))

    return pipeline(
        prompt_embeds=embeddings("prompt"),
        negative_prompt_embeds=embeddings("negative"),
        height=SIZE,
        width=SIZE,
        num_frames=FRAMES,
        num_inference_steps=STEPS,
        guidance_scale=scale,
        latents=noise.transpose(1, 2),
        output_type="latent",
    ).frames.transpose(1, 2)


def sampled(words: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents (B, t, C, h, w) of the one view, and the noise that they were made from, alike."""
    system = start_system(compose(words), lambda line: None).eval()
    batch = tiny_batch(CLIPS, 1, FRAMES, SIZE)
    latents, _ = system.sample_latents(batch, num_steps=STEPS, seed=3)
    noise = [torch.randn(latents.shape[1:], generator=generator(3, "sample", clip)) for clip in batch.clip_id]
    return latents[:, 0], torch.stack(noise)[:, 0]


@pytest.mark.parametrize("scale", [1.0, 5.0])
@pytest.mark.parametrize(("shift", "levels"), [(1.0, "once"), (3.0, "once"), (3.0, "as it is")])
@torch.no_grad()
def test_sampling_is_the_library_pipeline(transformer, package, scale, shift, levels):
    """From the same noise, with classifier-free guidance and without; by levels that are shifted once, and by its own."""
    package({"conditioner.given_prompt": PROMPT})
    network, folder = transformer
    # Of its own, the library shifts the lower end of its levels twice.
    last = [] if levels == "once" else [f"prediction.last_level={shift / 1000 / (1 + (shift - 1) / 1000)}"]
    words = overrides(folder, f"prediction.shift={shift}", f"guidance.value={scale}", *last)
    latents, noise = sampled(words)
    scheduler = (ShiftedOnce if levels == "once" else FlowMatchEulerDiscreteScheduler)(shift=shift)
    expected = library_latents(network, scheduler, noise, scale)
    assert expected.std() > 0.3 and (expected - noise).abs().max() > 0.3
    # 4e-6 was measured.
    torch.testing.assert_close(latents, expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_with_a_lora_of_the_library_sampling_is_its_pipeline_with_it(transformer, package, tmp_path):
    package({"conditioner.given_prompt": PROMPT})
    _, folder = transformer
    network = WanTransformer3DModel.from_pretrained(folder / "transformer").eval()
    network.add_adapter(LoraConfig(r=4, lora_alpha=8, target_modules=["to_q", "to_k", "to_v", "ffn.net.0.proj"]))
    noisy(network)
    WanPipeline.save_lora_weights(
        tmp_path,
        transformer_lora_layers=get_peft_model_state_dict(network),
        transformer_lora_adapter_metadata=network.peft_config["default"].to_dict(),
    )
    words = overrides(folder, "guidance.value=5.0", "adapter=lora", f"adapter.weights={tmp_path}")
    latents, noise = sampled(words)
    with_it, without = (library_latents(each, ShiftedOnce(), noise, 5.0) for each in (network, transformer[0]))
    assert (with_it - without).abs().max() > 0.01
    torch.testing.assert_close(latents, with_it, rtol=0, atol=1e-4)
