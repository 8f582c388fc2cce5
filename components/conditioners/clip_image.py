"""The reference photo as a whole, seen by CLIP: the context of Stable Video Diffusion's cross-attention."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from hvg.core.errors import HvgError
from hvg.core.on_device import constants
from hvg.parts.context import ConditionerContext
from hvg.parts.photo_conditioner import PhotoConditioner, PhotoConfig
from hvg.parts.pretrained import Component, first_line
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning, ConditioningSpec, Ports

# Width of the embedding of SVD's encoder, CLIP ViT-H/14; a hub id is taken to have it until it is read.
SVD_WIDTH = 1024
# Settings from that encoder's config.json.
SVD_ENCODER = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "patch_size": 14,
    "hidden_act": "gelu",
    "projection_dim": SVD_WIDTH,
}


class ClipImageConfig(PhotoConfig):
    """Choice of the image encoder."""

    path: str = Field(
        "stabilityai/stable-video-diffusion-img2vid-xt",
        description="Folder or hub id of a pipeline with image_encoder/ (CLIP) and feature_extractor/.",
    )


class ClipImage(PhotoConditioner[ClipImageConfig]):
    """Fills ``tokens`` with one token for each photo, CLIP's image embedding of it, for every view and frame.

    The encoder is frozen. Where the backbone's context has the embedding's width, as in SVD, nothing is learned;
    elsewhere a linear layer leads from one to the other. Dropped, the token is zero, as SVD does for guidance.
    Source: SVD (arXiv 2311.15127); preprocessing of its diffusers pipeline.
    """

    def __init__(self, config: ClipImageConfig, context: ConditionerContext) -> None:
        super().__init__(config, context)
        width = context.ports.token_width
        self.encoder = FrozenClip(config.path, f"{context.slot}.path", context.blank)
        self.projection = None if self.encoder.width == width else nn.Linear(self.encoder.width, width)

    @classmethod
    def spec(cls, config: ClipImageConfig, ports: Ports) -> ConditioningSpec:
        if ports.token_width == 0:
            raise HvgError(
                "clip_image fills the port 'tokens', but this backbone has no cross-attention; give it some, as by "
                "backbone.cross_attention_width=64"
            )
        return ConditioningSpec(tokens=ports.token_width)

    def frozen_features(self, batch: ClipBatch) -> Tensor:
        """CLIP's embeddings of the photos, (B, P, E)."""
        photos = self.photos(batch)
        return self.encoder.embed(photos.flatten(0, 1)).to(photos.dtype).unflatten(0, photos.shape[:2])

    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        token = self.features(batch)
        if self.projection is not None:
            token = self.projection(token.to(self.projection.weight.dtype))
        return Conditioning(tokens=token[:, None, None])

    def frozen(self) -> Mapping[str, Any]:
        return self.encoder.components()

    def adopt(self, components: Mapping[str, Any]) -> None:
        self.encoder.adopt(components)


class FrozenClip:
    """CLIP's image encoder, read at its first use. No module, so that it is neither trained, saved nor partitioned.

    setting: that names its folder. width: of its embedding. blank: as in ``Context``; a hub id is then taken to be SVD's.
    """

    def __init__(self, path: str, setting: str, blank: bool = False) -> None:
        self._setting = setting
        self._files = Component(place=path, name="image_encoder", setting=setting, stem="model")
        self._images = Component(place=path, name="feature_extractor", setting=setting)
        self._components: dict[str, Any] = {}
        self.width = SVD_WIDTH if self._files.folder is None else int(self._files.settings()["projection_dim"])
        if blank:
            settings = SVD_ENCODER if self._files.folder is None else self._files.settings()
            self.adopt({"image_encoder": _blank_encoder(settings), "feature_extractor": _blank_processor()})

    def components(self) -> Mapping[str, Any]:
        """The encoder and its image processor; they are read where that has not happened yet."""
        if not self._components:
            self.adopt(
                {"image_encoder": _load_encoder(self._files), "feature_extractor": _load_processor(self._images)}
            )
        return self._components

    def adopt(self, components: Mapping[str, Any]) -> None:
        """Uses these instead of what the files hold. Raises: HvgError where the embedding has another width."""
        given = {name: components[name] for name in ("image_encoder", "feature_extractor") if name in components}
        encoder = given.get("image_encoder")
        if encoder is not None and encoder.config.projection_dim != self.width:
            raise HvgError(
                f"{self._setting}: the embedding of the image encoder is {encoder.config.projection_dim} wide, not "
                f"{self.width}; download it and give its folder, so that its width is known beforehand"
            )
        self._components |= given

    @torch.no_grad()
    def embed(self, photo: Tensor) -> Tensor:
        """Embedding (N, D), float32, of photos (N, 3, H, W) in [-1, 1]."""
        components = self.components()
        encoder, processor = components["image_encoder"], components["feature_extractor"]
        size = processor.crop_size["height"], processor.crop_size["width"]
        # A backbone in half precision is no reason to blur what it is told.
        with torch.autocast(photo.device.type, enabled=False):
            image = (resize_with_antialiasing(photo.float(), size) + 1) / 2
            mean, std = (constants(x, image)[:, None, None] for x in (processor.image_mean, processor.image_std))
            return encoder.to(photo.device)((image - mean) / std).image_embeds


def resize_with_antialiasing(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (N, C, H, W) at another size: a gaussian of (shrinkage - 1) / 2 pixels, then bicubic with corners aligned.

    The filter of SVD's pipeline, which has it from scikit-image; reflected at the border, cut off at two deviations.
    """
    for axis in (-1, -2):
        deviation = max((images.shape[axis] / size[axis] - 1) / 2, 0.001)
        radius = int(max(4 * deviation, 3)) // 2
        offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
        kernel = torch.exp(-offsets.square() / (2 * deviation**2))
        images = _convolve(images, kernel / kernel.sum(), axis)
    return functional.interpolate(images, size=size, mode="bicubic", align_corners=True)


def _convolve(images: Tensor, kernel: Tensor, axis: int) -> Tensor:
    """Every channel filtered along one of the two image axes."""
    channels, radius = images.shape[1], len(kernel) // 2
    along, padding = ((1, -1), (radius, radius, 0, 0)) if axis == -1 else ((-1, 1), (0, 0, radius, radius))
    weight = kernel.view(1, 1, *along).expand(channels, -1, -1, -1)
    return functional.conv2d(functional.pad(images, padding, mode="reflect"), weight, groups=channels)


def _load_encoder(files: Component) -> Any:
    """transformers' CLIPVisionModelWithProjection, frozen, in float32."""
    from transformers import CLIPVisionModelWithProjection

    folder, variant = files.downloaded()
    try:
        loaded: Any = CLIPVisionModelWithProjection.from_pretrained(
            str(folder), variant=variant, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise files.missing(first_line(error)) from error
    encoder, found = loaded
    files.require_whole(found)
    return encoder.eval().requires_grad_(False)


def _blank_encoder(settings: Mapping[str, Any]) -> Any:
    """The same network without its weights."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(dict(settings))).eval().requires_grad_(False)


def _blank_processor() -> Any:
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor()


def _load_processor(files: Component) -> Any:
    """transformers' CLIPImageProcessor; only its numbers are used: pipelines hold one, and so do exports."""
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(**json.loads(files.file("preprocessor_config.json").read_text(encoding="utf-8")))
