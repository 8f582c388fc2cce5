"""Files of pretrained feature networks: what is needed, where users get it, and reading it without unpickling.

Nothing is downloaded. A file is told by its SHA-256 where one is published; results carry the hash of what was used.
"""

# Files of weights may hold anything.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
import hashlib
import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hvg.core.errors import HvgError
from hvg.values.scored_clip import NotAvailable

_TORCHVISION = "https://download.pytorch.org/models/"


@dataclass(frozen=True, kw_only=True)
class KnownNetwork:
    """One entry of the catalogue: a file, or a folder in the layout of Hugging Face.

    files: name as distributed -> SHA-256 in hexadecimal digits, as many of the first ones as are published; None where
    none is. The first one that lies in the user's folder is used; NAME.safetensors may stand for NAME.pth.
    hub: hub id of a folder; "" for a file. source: where users get it. remark: licence, and what else there is to know.
    needed_by: names of metrics. entry: key under which the file holds its tensors; "" where they are on top.
    prefix: what all keys begin with. unused: how the keys begin that no metric looks at.
    """

    files: Mapping[str, str | None]
    source: str
    remark: str
    needed_by: str
    hub: str = ""
    entry: str = ""
    prefix: str = ""
    unused: tuple[str, ...] = ()

    @property
    def folder(self) -> bool:
        """Whether the network is a folder, not a single file."""
        return bool(self.hub)

    def published(self, path: Path) -> str:
        """The published digits of this file's hash; "" where there are none, as for a user's conversion."""
        return self.files.get(path.name) or ""


# Torch hub writes the first eight digits of the SHA-256 into a file's name. The longer ones are those that users of the
# files report; where an older save of a network is known by its name alone, the eight digits are all there is.
CATALOGUE: dict[str, KnownNetwork] = {
    "i3d": KnownNetwork(
        files={"i3d_pretrained_400.pt": None},
        source="https://drive.google.com/file/d/1mQK8KD8G6UWRa5t87SRMm5PVXtlpneJT (VideoGPT), or "
        "https://github.com/songweige/TATS/raw/main/tats/fvd/i3d_pretrained_400.pt",
        remark="VideoGPT: MIT. DeepMind's I3D (arXiv 1705.07750), RGB, Kinetics-400, converted. No hash is published; "
        "the copy in the space LanguageBind/Open-Sora-Plan-v1.0.0 has "
        "sha256:55095f049e706479d48e221adcdb145b2b9dc930ba28b081ed72367ffaa32343",
        needed_by="fvd, kvd",
    ),
    "resnet3d50": KnownNetwork(
        files={"resnet-50-kinetics.pth": None},
        source="https://drive.google.com/drive/folders/1zvl89AgFAApbH0At-gMuZSeQB_LpNP-M (3D-ResNets-PyTorch), or "
        "https://github.com/yjh0410/YOWOF/releases/download/yowof-weight/resnet-50-kinetics.pth",
        remark="MIT. 3D ResNet-50 (arXiv 1711.09577), Kinetics-400. No hash is published; a copy on GitHub has "
        "sha256:69b6a070ed1004c3b28a1751d5bc60f7dfd24d145425db32719989544d6dafc9",
        needed_by="fid_vid",
        entry="state_dict",
        prefix="module.",
        unused=("fc.",),
    ),
    "inception": KnownNetwork(
        files={
            "pt_inception-2015-12-05-6726825d.pth": "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
        },
        source="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
        "pt_inception-2015-12-05-6726825d.pth",
        remark="TensorFlow's Inception of 2015-12-05 as pytorch-fid converted it: Apache-2.0",
        needed_by="fid, kid",
        unused=("fc.",),
    ),
    "vgg16": KnownNetwork(
        files={"vgg16-397923af.pth": "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"},
        source=f"{_TORCHVISION}vgg16-397923af.pth",
        remark="torchvision: BSD-3-Clause. ImageNet",
        needed_by="lpips network=vgg",
        unused=("classifier.",),
    ),
    "alexnet": KnownNetwork(
        files={
            "alexnet-owt-7be5be79.pth": "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
            "alexnet-owt-4df8aa71.pth": "4df8aa71",
        },
        source=f"{_TORCHVISION}alexnet-owt-7be5be79.pth",
        remark="torchvision: BSD-3-Clause. ImageNet",
        needed_by="lpips network=alex",
        unused=("classifier.",),
    ),
    "squeezenet": KnownNetwork(
        files={
            "squeezenet1_1-b8a52dc0.pth": "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
            "squeezenet1_1-f364aa15.pth": "f364aa15",
        },
        source=f"{_TORCHVISION}squeezenet1_1-b8a52dc0.pth",
        remark="torchvision: BSD-3-Clause. ImageNet",
        needed_by="lpips network=squeeze",
        unused=("classifier.",),
    ),
    "clip": KnownNetwork(
        files={"clip": None},
        hub="openai/clip-vit-large-patch14",
        source="hf download openai/clip-vit-large-patch14 config.json preprocessor_config.json model.safetensors "
        "--local-dir clip",
        remark="CLIP (arXiv 2103.00020): MIT",
        needed_by="identity_clip",
    ),
    "vjepa2": KnownNetwork(
        files={"vjepa2": None},
        hub="facebook/vjepa2-vitl-fpc64-256",
        source="hf download facebook/vjepa2-vitl-fpc64-256 --local-dir vjepa2",
        remark="V-JEPA 2 (arXiv 2506.09985): MIT",
        needed_by="jedi",
    ),
}


def default_folder() -> Path:
    """$HVG_NETWORKS, or ~/.cache/hvg/networks."""
    return Path(os.environ.get("HVG_NETWORKS") or "~/.cache/hvg/networks").expanduser()


@dataclass(frozen=True)
class NetworkFiles:
    """A folder of the user's. any_file: whether a file may be another than the published one (its hash is kept)."""

    folder: Path
    any_file: bool = False

    def path(self, name: str) -> Path:
        """Path of a known network. Raises: NotAvailable when it is not there."""
        known = CATALOGUE[name]
        for file_name in known.files:
            # A conversion that the user has put beside the file is there because it is wanted.
            for candidate in (Path(file_name).with_suffix(".safetensors"), Path(file_name)):
                path = self.folder / candidate
                if path.is_dir() if known.folder else path.is_file():
                    return path
        kind = "folder" if known.folder else "file"
        raise NotAvailable(f"needs the {kind} {next(iter(known.files))} in {self.folder}: see `hvg weights`")

    def hash(self, name: str) -> str:
        """``sha256:...`` of the file, or of the weights in the folder.

        Raises: NotAvailable when it is missing; HvgError when a folder holds no weights.
        """
        path = self.path(name)
        return f"sha256:{_folder_sha256(path) if path.is_dir() else _sha256(path)}"

    def load(self, name: str) -> tuple[dict[str, Tensor], str]:
        """The tensors of a known file, by the names of its network, and ``sha256:...`` of the file.

        Whether they fit the network is for the network to say.
        Raises: NotAvailable when it is missing; HvgError naming the file when it is damaged or another one.
        """
        path, known = self.path(name), CATALOGUE[name]
        _check_kind(path)
        sha256 = _sha256(path)
        # Before anything in it is read: only a file that the user vouches for is opened under another hash.
        published = known.published(path)
        if not self.any_file and not sha256.startswith(published):
            raise HvgError(
                f"{path}: damaged, or another file than the published one: its SHA-256 begins with {sha256[:16]}, not "
                f"{published[:16]}. Get it from {known.source}, or let it pass with evaluation.any_network=true"
            )
        return _tensors(path, known), f"sha256:{sha256}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder_sha256(folder: Path) -> str:
    """SHA-256 of a folder's one file of weights, or of a list of its files' hashes and names."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise HvgError(f"{folder}: holds no .safetensors file")
    for path in files:
        _check_kind(path)
    if len(files) == 1:
        return _sha256(files[0])
    lines = "".join(f"{_sha256(path)}  {path.name}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _check_kind(path: Path) -> None:
    """Raises: HvgError for what its first and last bytes show not to be a whole file of weights."""
    with path.open("rb") as file:
        head = file.read(512)
    text = head.lstrip().lower()
    if not head:
        reason = "the file is empty"
    elif text.startswith((b"<!doctype", b"<html", b"<?xml")):
        reason = "it is a web page, not weights; open the address in a browser and save the file itself"
    elif text.startswith(b"version https://git-lfs"):
        reason = "it is a pointer of Git LFS, not the file itself; run `git lfs pull`"
    elif path.suffix == ".safetensors":
        return
    elif head.startswith(b"PK"):
        if zipfile.is_zipfile(path):
            return
        reason = "it is cut short; download it again"
    elif head.startswith(b"\x80"):
        return
    else:
        reason = "it is not a file of PyTorch"
    raise HvgError(f"{path}: {reason}")


def _tensors(path: Path, known: KnownNetwork) -> dict[str, Tensor]:
    """All tensors that metrics look at, by the names of the network. Raises: HvgError naming the file."""
    stored = _read(path)
    if known.entry and isinstance(stored, dict) and known.entry in stored:
        stored = stored[known.entry]
    if not isinstance(stored, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in stored.items()
    ):
        raise HvgError(f"{path}: holds no tensors by name, but {_kind(stored)}")
    named = {key.removeprefix(known.prefix): value for key, value in stored.items()}
    tensors = {key: value for key, value in named.items() if not key.startswith(known.unused)}
    broken = [key for key, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise HvgError(f"{path}: {broken[0]} holds infinite values or NaN")
    return tensors


def _kind(stored: Any) -> str:
    """Description of a file's content, for a message."""
    if not isinstance(stored, dict):
        return f"one {type(stored).__name__}"
    odd = next((key for key, value in stored.items() if not isinstance(value, Tensor)), next(iter(stored), None))
    return f"a {type(stored.get(odd)).__name__} under {odd!r}"


def _read(path: Path) -> Any:
    """Content of a file, with nothing unpickled but tensors and plain containers. Raises: HvgError naming the file."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings():
            # To report it to PyTorch, if it fails: what fails is said below.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # A damaged stream makes the readers raise nearly anything.
        # torch's own message goes on to recommend unpickling.
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        if foreign:
            raise HvgError(
                f"{path}: holds a Python object ({foreign[1]}) besides tensors, which is never unpickled; "
                f"save its tensors as {path.stem}.safetensors"
            ) from error
        raise HvgError(f"{path}: cannot be read ({type(error).__name__}): cut short or damaged") from error


@dataclass(frozen=True)
class Presence:
    """State of a known network in a folder.

    state: ``no``, ``yes, hash matches``, ``yes, hash unknown``, ``another file`` or ``DAMAGED``. detail: the hash where
    none is published, or what is wrong.
    """

    state: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.state}: {self.detail}" if self.detail else self.state


def presence(files: NetworkFiles, name: str) -> Presence:
    """State of a known network in the folder."""
    known = CATALOGUE[name]
    try:
        path = files.path(name)
    except NotAvailable:
        return Presence("no")
    try:
        if known.folder:
            return Presence("yes, hash unknown", files.hash(name))
        _check_kind(path)
        sha256, published = _sha256(path), known.published(path)
        if not sha256.startswith(published):
            return Presence("another file", f"sha256:{sha256}")
        if published:
            return Presence("yes, hash matches")
        # Only reading it shows whether such a file is whole.
        _tensors(path, known)
        return Presence("yes, hash unknown", f"sha256:{sha256}")
    except HvgError as error:
        return Presence("DAMAGED", str(error))
