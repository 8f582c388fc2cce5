"""A Stable Video Diffusion pipeline of the library's classes, small and with random weights, and our settings for it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch


def scheduler() -> Any:
    """scheduler_config.json of stable-video-diffusion-img2vid-xt."""
    from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

    return EulerDiscreteScheduler(
        beta_end=0.012,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        interpolation_type="linear",
        prediction_type="v_prediction",
        sigma_max=700.0,
        sigma_min=0.002,
        steps_offset=1,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
    )


def small_pipeline(widths: Sequence[int], heads: Sequence[int], token_width: int) -> Any:
    """A pipeline whose UNet has two levels; ``save_pretrained`` writes it as it is published."""
    from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
    from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
    from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import StableVideoDiffusionPipeline
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    clip = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        projection_dim=token_width,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=224,
        patch_size=32,
    )
    return StableVideoDiffusionPipeline(
        vae=AutoencoderKLTemporalDecoder(
            **{"down_block_types": ("DownEncoderBlock2D",) * 4, "block_out_channels": (32,) * 4, "layers_per_block": 1}
        ),
        image_encoder=CLIPVisionModelWithProjection(clip),
        unet=UNetSpatioTemporalConditionModel(
            down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
            block_out_channels=tuple(widths),
            addition_time_embed_dim=16,
            projection_class_embeddings_input_dim=48,
            layers_per_block=1,
            cross_attention_dim=token_width,
            num_attention_heads=tuple(heads),
        ),
        scheduler=scheduler(),
        feature_extractor=CLIPImageProcessor(),
    )


def run_words(
    folder: Path, widths: Sequence[int], heads: Sequence[int], token_width: int, **backbone: object
) -> list[str]:
    """Settings of a run that starts from the pipeline in ``folder``, and steers it with the photo alone, as the pipeline does."""
    settings = {"weights": folder, "widths": list(widths), "heads": list(heads), **backbone}
    return [
        "backbone=svd_xt",
        "backbone.attention=[true,false]",
        "backbone.layers_per_block=1",
        f"backbone.cross_attention_width={token_width}",
        "backbone.addition_time_embed_dim=16",
        "backbone.noise_augmentation=0.0",
        *(f"backbone.{key}={value}" for key, value in settings.items()),
        "codec=svd_vae",
        f"codec.path={folder}",
        "prediction=v",
        "view_attention=none",
        "pose=none",
        "camera=none",
        "appearance=reference_latent",
        "appearance.scaled=false",
        "appearance.dropout=0.1",
        "reference_keys=none",
        "image_embedding=clip_image",
        f"image_embedding.path={folder}",
        "image_embedding.dropout=0.1",
        "guidance=linear",
        "sampler=single",
        "solver=euler",
    ]
