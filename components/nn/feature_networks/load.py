"""Feature networks with the user's weights."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor, nn

from hvg.core.errors import HvgError
from hvg.core.next_commands import TORCHMETRICS
from hvg.parts.network_files import NetworkFiles

from .i3d import I3d
from .inception import FidInception
from .lpips import Lpips, lpips_alex, lpips_squeeze, lpips_vgg
from .resnet3d import Resnet3d50

# Name -> what builds it, and its entry among the network files.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "i3d": (I3d, "i3d"),
    # Of content-debiased FVD (arXiv 2404.12391), which takes the same file.
    "i3d_content_debiased": (partial(I3d, pool_frames=2, norm_epsilon=1e-5), "i3d"),
    "resnet3d50": (Resnet3d50, "resnet3d50"),
    "inception": (FidInception, "inception"),
}


@dataclass(frozen=True)
class LoadedNetwork:
    """A frozen network in single precision. hash: of the file or files that its weights came from."""

    module: nn.Module
    hash: str


@dataclass(frozen=True)
class LpipsKind:
    """trunk: its entry among the network files. heads: SHA-256 of the published file of version 0.1."""

    build: Callable[[], Lpips]
    trunk: str
    heads: str


# The hashes are those of the files in the packages lpips 0.1.4 and torchmetrics 1.9.0.
LPIPS = {
    "vgg": LpipsKind(lpips_vgg, "vgg16", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"),
    "alex": LpipsKind(lpips_alex, "alexnet", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"),
    "squeeze": LpipsKind(
        lpips_squeeze, "squeezenet", "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76"
    ),
}


def load_network(name: str, files: NetworkFiles, device: torch.device) -> LoadedNetwork:
    """``i3d``, ``i3d_content_debiased``, ``resnet3d50`` or ``inception``.

    Raises: NotAvailable when the file is missing; HvgError naming it when it is damaged or does not fit.
    """
    build, entry = NETWORKS[name]
    tensors, file_hash = files.load(entry)
    return LoadedNetwork(_filled(build, tensors, files.path(entry), device), file_hash)


def load_lpips(name: str, files: NetworkFiles, device: torch.device) -> LoadedNetwork:
    """``vgg``, ``alex`` or ``squeeze``: the user's file for the trunk, torchmetrics' for the heads; both are in the hash.

    Raises: as ``load_network``.
    """
    kind = LPIPS[name]
    trunk, trunk_hash = files.load(kind.trunk)
    heads = _heads(name, kind.heads)
    module = _filled(kind.build, trunk | heads, files.path(kind.trunk), device)
    return LoadedNetwork(module, f"{trunk_hash} with heads sha256:{kind.heads}")


def _filled(
    build: Callable[[], nn.Module], tensors: Mapping[str, Tensor], path: Path, device: torch.device
) -> nn.Module:
    """A network with exactly these weights. Raises: HvgError naming the file that they are from."""
    # Nothing is drawn for weights that are replaced at once, so the global generator stays as it is.
    with torch.device("meta"):
        module = build()
    expected = module.state_dict()
    # Files that old versions of PyTorch wrote lack these counters, and nothing reads them.
    counters = {key: torch.zeros((), dtype=torch.int64) for key in expected if key.endswith("num_batches_tracked")}
    given = counters | dict(tensors)
    wrong = [f"lacks {key}" for key in expected if key not in given]
    wrong += [f"has {key}, which the network has not" for key in given if key not in expected]
    wrong += [
        f"{key} is {_form(given[key])}, the network's {_form(tensor)}"
        for key, tensor in expected.items()
        if key in given and _form(given[key]) != _form(tensor)
    ]
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise HvgError(f"{path}: not the weights of this network: {'; '.join(wrong[:3])}{more}")
    values = {key: given[key].to(device, tensor.dtype) for key, tensor in expected.items()}
    module.load_state_dict(values, assign=True)
    return module.requires_grad_(False).eval()


def _form(tensor: Tensor) -> str:
    """Kind of number and shape; half and single precision are one kind."""
    return f"{'real' if tensor.is_floating_point() else 'not real'} {tuple(tensor.shape)}"


def _heads(name: str, published: str) -> dict[str, Tensor]:
    """The learned weights of the channels, by the names of ``Lpips``. Raises: HvgError when they are not version 0.1's."""
    # The file is found without importing the library, which takes seconds.
    found = importlib.util.find_spec("torchmetrics")
    if found is None or found.origin is None:
        raise HvgError("LPIPS takes its learned weights from torchmetrics, which is not installed", then=TORCHMETRICS)
    path = Path(found.origin).parent / "functional" / "image" / "lpips_models" / f"{name}.pth"
    if not path.is_file() or sha256(path.read_bytes()).hexdigest() != published:
        raise HvgError(f"{path}: is not there, or not version 0.1 of LPIPS", then=TORCHMETRICS)
    stored = torch.load(path, map_location="cpu", weights_only=True)
    return {key.replace("lin", "heads.", 1).replace("model.1.", ""): value for key, value in stored.items()}
