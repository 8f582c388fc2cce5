"""A Stable Video Diffusion pipeline of the true classes, small and with random weights, and our settings for it."""

from pathlib import Path

import torch

WIDTHS, HEADS, TOKEN_WIDTH = (32, 64), (2, 4), 32


def svd_scheduler():
    """scheduler_config.json of stable-video-diffusion-img2vid-xt."""
    from diffusers import EulerDiscreteScheduler

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


def save_pipeline(folder: Path) -> None:
    """Writes the pipeline as ``save_pretrained`` does."""
    from diffusers import (
        AutoencoderKLTemporalDecoder,
        StableVideoDiffusionPipeline,
        UNetSpatioTemporalConditionModel,
    )
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    clip = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        projection_dim=TOKEN_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=224,
        patch_size=32,
    )
    StableVideoDiffusionPipeline(
        vae=AutoencoderKLTemporalDecoder(
            down_block_types=("DownEncoderBlock2D",) * 4, block_out_channels=(32,) * 4, layers_per_block=1
        ),
        image_encoder=CLIPVisionModelWithProjection(clip),
        unet=UNetSpatioTemporalConditionModel(
            down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
            block_out_channels=WIDTHS,
            addition_time_embed_dim=16,
            projection_class_embeddings_input_dim=48,
            layers_per_block=1,
            cross_attention_dim=TOKEN_WIDTH,
            num_attention_heads=HEADS,
        ),
        scheduler=svd_scheduler(),
        feature_extractor=CLIPImageProcessor(),
    ).save_pretrained(folder)


def overrides(folder: Path, **backbone) -> list[str]:
    """A run that starts from the pipeline in ``folder``, with everything that HVG adds."""
    settings = {"weights": folder, "widths": list(WIDTHS), "heads": list(HEADS), "kernels": "library", **backbone}
    return [
        "backbone=svd_xt",
        "backbone.attention=[true,false]",
        "backbone.layers_per_block=1",
        f"backbone.cross_attention_width={TOKEN_WIDTH}",
        "backbone.addition_time_embed_dim=16",
        "backbone.noise_augmentation=0.0",
        *(f"backbone.{key}={value}" for key, value in settings.items()),
        "codec=svd_vae",
        f"codec.path={folder}",
        "prediction=v",
        "view_attention=aligned_2d",
        "pose=bone_map",
        "camera=camera_rotation",
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
