"""Published weights: components of a diffusers pipeline, in a folder or on the Hugging Face hub.

Only safetensors are read, never pickle. A folder that exists is never looked for on the hub.
"""

# JSON and the libraries that read files do not say what they give.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from hvg.core.errors import HvgError

# File formats of a component, best first. Half precision is read where there is nothing better.
_SUFFIXES = {
    "safetensors": None,
    "safetensors.index.json": None,
    "fp16.safetensors": "fp16",
    "safetensors.index.fp16.json": "fp16",
}

# The kinds of weights that have no place, in diffusers' and transformers' reports of loading.
_FAULTS = ("missing_keys", "unexpected_keys", "mismatched_keys")


@dataclass(frozen=True, kw_only=True)
class Component:
    """A component of a pipeline.

    place: folder of the pipeline or of the component itself, or a hub id. name: its subfolder, such as ``unet``.
    setting: the setting that holds ``place``, for messages. stem: how its files of weights begin. holds: what its folder has to
    hold, for messages; None for a network's settings and weights.
    """

    place: str
    name: str
    setting: str
    stem: str = "diffusion_pytorch_model"
    holds: str | None = None

    @property
    def folder(self) -> Path | None:
        """Folder of the weights on this machine; None for a hub id."""
        folder = Path(self.place)
        if not folder.is_dir():
            return None
        return folder / self.name if (folder / self.name).is_dir() else folder

    def file(self, *names: str) -> Path:
        """The first of these files that there is, downloaded if need be. Raises: HvgError where there is none."""
        # Imported here because `hvg check` never needs it.
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        reason = f"there is no {names[0]} in {self.folder}"
        for name in names:
            if self.folder is not None:
                if (self.folder / name).is_file():
                    return self.folder / name
                continue
            try:
                return Path(hf_hub_download(self.place, name, subfolder=self.name))
            except EntryNotFoundError as error:
                reason = first_line(error)
            except (OSError, ValueError) as error:
                raise self.missing(first_line(error)) from error
        raise self.missing(reason)

    def settings(self) -> dict[str, Any]:
        """Content of its config.json."""
        return self._mapping(self.file("config.json"))

    def settings_or(self, otherwise: Mapping[str, Any]) -> Mapping[str, Any]:
        """Content of its config.json where that is on this machine, else what a hub id is taken to hold."""
        known = self.folder is not None and (self.folder / "config.json").is_file()
        return self.settings() if known else otherwise

    def network(self, kind: Any) -> Any:
        """The model as diffusers' class ``kind`` reads it, in float32, frozen. Raises: HvgError where it is not all there."""
        folder, variant = self.downloaded()
        try:
            model, found = kind.from_pretrained(
                str(folder), variant=variant, use_safetensors=True, low_cpu_mem_usage=False, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise self.missing(first_line(error)) from error
        self.require_whole(found)
        return model.float().eval().requires_grad_(False)

    def _mapping(self, path: Path) -> dict[str, Any]:
        """A JSON file of names and values. Raises: HvgError for any other."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise self.missing(f"{path.name} is no JSON: {first_line(error)}") from error
        if not isinstance(found, dict):
            raise self.missing(f"{path.name} holds a {type(found).__name__}, not names and values")
        return found

    def downloaded(self) -> tuple[Path, str | None]:
        """The folder that holds its config.json and weights, and the variant of the weights: None or ``fp16``."""
        settings = self.file("config.json")
        weights = self.file(*(f"{self.stem}.{suffix}" for suffix in _SUFFIXES))
        self._shards(weights)
        return settings.parent, _SUFFIXES[weights.name.removeprefix(f"{self.stem}.")]

    def weights(self) -> dict[str, Tensor]:
        """All its tensors by name, as stored."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        tensors: dict[str, Tensor] = {}
        for path in self._shards(self.file(*(f"{self.stem}.{suffix}" for suffix in _SUFFIXES))):
            try:
                tensors |= load_file(path)
            except SafetensorError as error:
                raise self.missing(f"{path.name} cannot be read: {first_line(error)}") from error
        return tensors

    def _shards(self, weights: Path) -> list[Path]:
        """The files that hold the tensors: ``weights``, or those that it lists if it is an index."""
        if weights.suffix != ".json":
            return [weights]
        listed = self._mapping(weights).get("weight_map")
        if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
            raise self.missing(f"{weights.name} lists no files under weight_map")
        return [self.file(name) for name in sorted(set(listed.values()))]

    def require_whole(self, found: Mapping[str, Any]) -> None:
        """Raises: HvgError where a library's report of what it loaded names weights that are missing, or do not fit."""
        wrong = [f"{kind.removesuffix('_keys')} {key}" for kind in _FAULTS for key in sorted(map(str, found[kind]))]
        if wrong:
            more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
            raise HvgError(
                f"{self.setting}: the {self.name} at '{self.place}' is not whole: {'; '.join(wrong[:5])}{more}"
            )

    def missing(self, reason: str) -> HvgError:
        """The error for the user when it is not there."""
        holds = self.holds or f"config.json and {self.stem}.safetensors"
        return HvgError(
            f"{self.setting}: no {self.name} at '{self.place}'. Give {self.setting} a folder with {holds} (or of a diffusers "
            f"pipeline, with them in {self.name}/), or a hub id that can be downloaded. ({reason})"
        )


def first_line(error: Exception) -> str:
    """Its kind and the first line of its message."""
    return f"{type(error).__name__}: {(str(error).strip() or 'no reason given').splitlines()[0]}"
