"""A FLUX Kontext of the true classes, small and with random weights, in a folder as its publisher lays it out."""

from pathlib import Path
from typing import Any

import torch
from text_folders import WIDTH, clip_tokenizer, t5_tokenizer

# Settings of the network, whose tokens are of 2 x 2 cells of the small VAE's latents.
NETWORK = {
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": WIDTH,
    "pooled_projection_dim": WIDTH,
    "guidance_embeds": True,
    "axes_dims_rope": (4, 6, 6),
}
# The same, as words for our backbone.
WORDS = (
    "backbone.width=32",
    "backbone.heads=2",
    "backbone.axes=[4,6,6]",
    "backbone.double_blocks=1",
    "backbone.single_blocks=1",
    "backbone.view_blocks=[1]",
    f"backbone.cross_attention_width={WIDTH}",
    f"backbone.pooled_width={WIDTH}",
)


def small_vae():
    """Cells of 8 x 8 pixels, as the published one's, with 4 channels."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
        layers_per_block=1,
        latent_channels=4,
        scaling_factor=0.4,
        shift_factor=0.1,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ).eval()


def small_pipeline() -> Any:
    """The library's pipeline, without the optional parts."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxKontextPipeline, FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    clip, pieces = clip_tokenizer(), t5_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        text = CLIPTextConfig(
            vocab_size=len(clip),
            hidden_size=WIDTH,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            bos_token_id=clip.bos_token_id,
            eos_token_id=clip.eos_token_id,
            pad_token_id=clip.pad_token_id,
        )
        sizes = {"d_model": WIDTH, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
        return FluxKontextPipeline(
            # As published.
            scheduler=FlowMatchEulerDiscreteScheduler(
                shift=3.0,
                use_dynamic_shifting=True,
                base_shift=0.5,
                max_shift=1.15,
                base_image_seq_len=256,
                max_image_seq_len=4096,
            ),
            vae=small_vae(),
            text_encoder=CLIPTextModel(text).eval(),
            tokenizer=clip,
            text_encoder_2=T5EncoderModel(T5Config(vocab_size=len(pieces), **sizes)).eval(),
            tokenizer_2=pieces,
            transformer=FluxTransformer2DModel(**NETWORK).eval(),
        )


def save_pipeline(folder: Path) -> Path:
    """Writes the folder of the pipeline, and returns it."""
    small_pipeline().save_pretrained(folder)
    return folder
