"""Published encoders of text in the layout of diffusers' pipelines: ``tokenizer/`` and ``text_encoder/``; frozen."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad

from hvg.core.errors import HvgError
from hvg.parts.context import ConditionerContext
from hvg.parts.part import PartConfig
from hvg.parts.pretrained import Component, first_line
from hvg.parts.text_encoder import TextEncoder

# Texts whose tokens stay in memory, those asked for last: 64 of a hundred tokens of UMT5-XXL are 100 MB.
KEPT_TEXTS = 64


class PublishedTextConfig(PartConfig):
    """Settings of an encoder that is read from files."""

    max_tokens: int = Field(
        512,
        ge=1,
        le=65_536,
        description="Tokens of every text; what a shorter one lacks is filled up as it was in training.",
    )
    precision: Literal["bf16", "32"] = Field(
        "bf16", description="Numbers that its weights are kept in, and it computes in."
    )
    place: Literal["text_encoder", "text_encoder_2"] = Field(
        "text_encoder",
        description="Which encoder of a pipeline with two: that in text_encoder/ beside tokenizer/, or in text_encoder_2/ beside "
        "tokenizer_2/, where FLUX's pipelines have T5.",
    )


class PublishedText(TextEncoder[PublishedTextConfig]):
    """A tokenizer, which is read when the part is built, and a network, which is read at its first use.

    network, tokenizer: transformers' classes. wide: the setting in the network's config.json that says its width. vocabularies:
    the file that a tokenizer's folder has to hold, one of these.

    Texts go through the network one by one, so that no text's numbers depend on those beside it.
    """

    network: ClassVar[str]
    tokenizer: ClassVar[str]
    wide: ClassVar[str] = "d_model"
    vocabularies: ClassVar[tuple[str, ...]] = ("tokenizer.json", "spiece.model")

    def __init__(self, config: PublishedTextConfig, context: ConditionerContext, path: str | None = None) -> None:
        """Raises: HvgError, one line, where a file is missing or cannot be used."""
        super().__init__(config, context)
        self._setting = f"{context.slot}.path"
        self._tokenizer_name = config.place.replace("text_encoder", "tokenizer")
        if path is None:
            raise HvgError(
                f"{self._setting}: {type(self).__module__.rpartition('.')[2]} is read from files; give {self._setting} the "
                f"folder of a pipeline with {self._tokenizer_name}/ and {config.place}/"
            )
        self._files = Component(place=path, name=config.place, setting=self._setting, stem="model")
        settings = self._files.settings()
        if not isinstance(settings.get(self.wide), int):
            raise self._files.missing(
                f"its config.json says no {self.wide}, so it is of another network than {self.network}"
            )
        self.width, self.max_tokens = settings[self.wide], config.max_tokens
        limit = settings.get("max_position_embeddings")
        if isinstance(limit, int) and config.max_tokens > limit:
            raise HvgError(
                f"{context.slot}.encoder_settings.max_tokens: {config.max_tokens} is asked for, the {config.place} at '{path}' "
                f"has places for {limit}"
            )
        self._kept: OrderedDict[tuple[str, str], Tensor] = OrderedDict()
        self._blank, self._components = context.blank, dict[str, Any]()
        if context.blank:
            self._components = {config.place: self._blank_network(settings)}
        else:
            self._components = {self._tokenizer_name: self._read_tokenizer(path)}

    def frozen(self) -> Mapping[str, Any]:
        """The network and its tokenizer; the network is read where that has not happened yet."""
        if self.config.place not in self._components:
            self._components[self.config.place] = self._read_network()
        return self._components

    def adopt(self, components: Mapping[str, Any]) -> None:
        """Uses these instead of what the files hold. Raises: HvgError where the tokens have another width."""
        own = self.config.place, self._tokenizer_name
        given = {name: components[name] for name in own if name in components}
        network = given.get(self.config.place)
        if network is not None and getattr(network.config, self.wide) != self.width:
            raise HvgError(
                f"{self._setting}: tokens of the text encoder are {getattr(network.config, self.wide)} wide, not {self.width}"
            )
        self._components |= given
        self._kept.clear()

    def count(self, text: str) -> int:
        if self._blank:
            return 0
        return len(self._components[self._tokenizer_name](text, truncation=False, verbose=False).input_ids)

    def encode(self, texts: Sequence[str], device: torch.device | None = None) -> Tensor:
        """Tokens (N, L, D), float32; zeros beyond the end of what the network was shown. Of a forecast's network zeros alone."""
        if self._blank:
            return torch.zeros(len(texts), self.max_tokens, self.width, device=device)
        rows = [self._of(text, "last_hidden_state", device) for text in texts]
        tokens = torch.stack([pad(x, (0, 0, 0, self.max_tokens - len(x))) for x in rows])
        return tokens if device is None else tokens.to(device)

    def pooled(self, texts: Sequence[str], device: torch.device | None = None) -> Tensor:
        """What the network gives of each text as a whole, (N, D), float32. Of a forecast's network zeros alone."""
        if not self.pools:
            return super().pooled(texts, device)
        if self._blank:
            return torch.zeros(len(texts), self.width, device=device)
        rows = torch.stack([self._of(text, "pooler_output", device) for text in texts])
        return rows if device is None else rows.to(device)

    def ids(self, tokenizer: Any, text: str) -> list[int]:
        """What the network is shown of a text, at most ``max_tokens``; here the text and what ends it."""
        return tokenizer(text, truncation=True, max_length=self.max_tokens).input_ids

    def _of(self, text: str, output: str, device: torch.device | None) -> Tensor:
        """An output of the network for one text, such as its tokens (n, D), float32, in main memory."""
        key = text, output
        if key not in self._kept:
            self._kept[key] = self._made(text, output, device).cpu()
            if len(self._kept) > KEPT_TEXTS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    @torch.no_grad()
    def _made(self, text: str, output: str, device: torch.device | None) -> Tensor:
        components = self.frozen()
        network = components[self.config.place]
        network = network if device is None else network.to(device)
        ids = torch.tensor(
            [self.ids(components[self._tokenizer_name], text)], device=network.device if device is None else device
        )
        # A backbone in half precision is no reason to blur what it is told.
        with torch.autocast(ids.device.type, enabled=False):
            return getattr(network(input_ids=ids), output)[0].float()

    def _read_tokenizer(self, path: str) -> Any:
        import transformers

        holds = f"tokenizer_config.json and {' or '.join(self.vocabularies)}"
        files = Component(place=path, name=self._tokenizer_name, setting=self._setting, holds=holds)
        folder, vocabulary = files.file("tokenizer_config.json").parent, files.file(*self.vocabularies)
        if vocabulary.suffix == ".model" and find_spec("sentencepiece") is None:
            raise files.missing("spiece.model alone needs the package sentencepiece, which is not here")
        if vocabulary.name == "vocab.json":
            files.file("merges.txt")
        try:
            return getattr(transformers, self.tokenizer).from_pretrained(str(folder), local_files_only=True)
        except Exception as error:  # The library in Rust raises nothing more special for a damaged file.
            raise files.missing(first_line(error)) from error

    def _read_network(self) -> Any:
        """transformers' network, frozen. Raises: HvgError where it is missing or not whole."""
        import transformers

        folder, variant = self._files.downloaded()
        try:
            loaded: Any = getattr(transformers, self.network).from_pretrained(
                str(folder), variant=variant, use_safetensors=True, dtype=self._kind, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise self._files.missing(first_line(error)) from error
        network, found = loaded
        self._files.require_whole(found)
        return network.eval().requires_grad_(False)

    def _blank_network(self, settings: Mapping[str, Any]) -> Any:
        """The same network without its weights, to be counted, not run."""
        import transformers

        network = getattr(transformers, self.network)
        blank = network(network.config_class.from_dict(dict(settings)))
        if hasattr(blank, "shared"):
            # T5's tied weights, which count once.
            blank.encoder.embed_tokens = None
        return blank.to(self._kind).eval().requires_grad_(False)

    @property
    def _kind(self) -> torch.dtype:
        return torch.bfloat16 if self.config.precision == "bf16" else torch.float32
