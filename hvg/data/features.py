"""What conditioners' frozen networks make of photos and texts ahead of training, and all that is made ahead for a run."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from hvg.config.settings import RunConfig
from hvg.core.digests import components_digest, settings_digest
from hvg.core.shipped import name_in_tree
from hvg.core.sources import source_digest
from hvg.data.latents import (
    ENCODING_FORMAT,
    EncodedFile,
    Encoding,
    PictureLatents,
    picture_origin,
    settings_beside_weights,
)
from hvg.parts.model import Codec, Conditioner
from hvg.parts.scene import Choose
from hvg.parts.text_conditioner import TextConditioner
from hvg.values.clip import ClipBatch


class PhotoFeatures(Encoding):
    """Features of the photo from a conditioner's frozen networks."""

    def __init__(self, config: RunConfig, codec: Codec, part: Conditioner) -> None:
        self._part, self._key = part, part.features_key
        self.name = _folder(part, picture_origin(config, codec))
        self.what = f"features of the photo for {type(part).__name__}"

    def encode(self, clip: ClipBatch) -> dict[str, Tensor]:
        return {"features": self._part.features(clip)[None]}

    def restore(self, clip: ClipBatch, file: EncodedFile, choose: Choose | None) -> ClipBatch:
        features = file.read(clip.clip_id[0])["features"][0]
        return replace(clip, features={**clip.features, self._key: features})


class TextFeatures(Encoding):
    """Features (B, L, ...) of the clip's text from a conditioner's frozen networks, kept by the text.

    Texts are short and L is not: zeros at the end of L are left out, and ``length`` says what L is.
    """

    of_pictures = False

    def __init__(self, part: TextConditioner) -> None:
        self._part, self._key = part, part.features_key
        self.name = _folder(part, [ENCODING_FORMAT])
        self.what = f"features of the text for {type(part).__name__}"

    def keys(self, captions: Mapping[str, str]) -> list[str]:
        texts = (self._part.text_of(caption, clip) for clip, caption in captions.items())
        return [settings_digest(text, 16) for text in texts]

    def encode(self, clip: ClipBatch) -> dict[str, Tensor]:
        features = self._part.features(clip)
        said = features.flatten(2).any(dim=-1)[0].nonzero()
        count = int(said.max()) + 1 if len(said) else 1
        return {"features": features[None, :, :count], "length": torch.tensor([[[float(features.shape[1])]]])}

    def restore(self, clip: ClipBatch, file: EncodedFile, choose: Choose | None) -> ClipBatch:
        (key,) = self.keys(clip.captions)
        kept = file.read(key)
        features = kept["features"][0]
        missing = int(kept["length"]) - features.shape[1]
        features = pad(features, (0, 0) * (features.ndim - 2) + (0, missing))
        return replace(clip, features={**clip.features, self._key: features})


def encodings(config: RunConfig, codec: Codec, conditioners: Iterable[Conditioner]) -> list[Encoding]:
    """All that can be made ahead for a run, each once."""
    looking = [part for part in conditioners if part.has_frozen_features(part.config)]
    features = [
        TextFeatures(part) if isinstance(part, TextConditioner) else PhotoFeatures(config, codec, part)
        for part in looking
    ]
    return list({encoding.name: encoding for encoding in (PictureLatents(config, codec), *features)}.values())


def _folder(part: Conditioner, origin: list) -> str:
    """Name of the folder of a part's features. origin: what they depend on besides the part and its networks."""
    settings, kind = settings_beside_weights(part, part.config, part.not_made_ahead()), type(part)
    frozen = components_digest(part.frozen())
    inner = (part.config.inner_part(name)[0] for name in part.config.inner_parts())
    code = [source_digest(cls.__module__) for cls in (kind, *inner)]
    made_by = [name_in_tree(kind.__module__), settings, frozen, *code]
    return f"{kind.__name__}-{settings_digest([origin, *made_by])}"
