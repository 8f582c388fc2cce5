"""Randomly initialised CLIP and V-JEPA 2 of the true classes, small, in folders as their publishers lay them out."""

import json
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel, VJEPA2Config, VJEPA2ForVideoClassification

# Published settings but for the sizes, in the older form of openai/clip-vit-large-patch14.
CLIP_IMAGES = {
    "crop_size": 32,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": 32,
}
# The same of facebook/vjepa2-vitl-fpc64-256.
VJEPA_IMAGES = {
    "crop_size": {"height": 32, "width": 32},
    "do_center_crop": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 2,
    "rescale_factor": 1 / 255,
    "size": {"shortest_edge": 36},
    "video_processor_type": "VJEPA2VideoProcessor",
}


def tiny_clip() -> CLIPModel:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {**sizes, "image_size": 32, "patch_size": 8, "projection_dim": 24}
    text = {**sizes, "vocab_size": 40, "max_position_embeddings": 8, "projection_dim": 24}
    return CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=24)).eval()


def tiny_vjepa(kind):
    config = VJEPA2Config(
        patch_size=8,
        crop_size=32,
        frames_per_clip=4,
        hidden_size=48,
        num_attention_heads=4,
        num_hidden_layers=2,
        num_pooler_layers=1,
        pred_hidden_size=24,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
        mlp_ratio=2.0,
    )
    config.num_labels = 5
    return kind(config).eval()


def write_transformers(folder: Path) -> Path:
    """Writes ``clip`` and ``vjepa2`` into a folder; returns it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tiny_clip().save_pretrained(folder / "clip")
        tiny_vjepa(VJEPA2ForVideoClassification).save_pretrained(folder / "vjepa2")
    (folder / "clip" / "preprocessor_config.json").write_text(json.dumps(CLIP_IMAGES))
    (folder / "vjepa2" / "video_preprocessor_config.json").write_text(json.dumps(VJEPA_IMAGES))
    return folder
