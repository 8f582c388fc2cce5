"""Rows: metrics beside those of other packages, with the same definition and the same, or equally random, weights."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hvg.bench.peers.row import How, Row, require_equal
from hvg.bench.timing import Ratio, Side
from hvg.core.random_keys import generator
from hvg.parts import registry
from hvg.parts.context import Context
from hvg.parts.network_files import CATALOGUE, NetworkFiles
from hvg.parts.set_distance import frechet_distance

# Frames of the rows on single pictures; pieces of video of the row on I3D, which sees 224 x 224.
FRAMES, SIDE, PIECE = 4, 128, 16
# Vectors of I3D's 400 numbers, of as many pieces as the 200 test videos of HVG's section 4 have.
VECTORS, NUMBERS = 1024, 400


def rows() -> Iterator[Row]:
    """SSIM, LPIPS, and the two halves of FVD: features, and the distance of their sets."""
    pictures = f"{FRAMES} frames of {SIDE} x {SIDE}"
    yield Row(
        name="ssim 11x11",
        ours="metric ssim",
        theirs="torchmetrics structural_similarity_index_measure",
        what=f"{pictures}, float64, a frame at a time",
        measure=ssim,
    )
    yield Row(
        name="lpips alex",
        ours="metric lpips",
        theirs="lpips LPIPS(net='alex')",
        what=f"{pictures}, random trunk",
        measure=lpips,
        needs=("lpips", "torchvision"),
        install="pip install lpips torchvision",
    )
    yield Row(
        name="fvd features",
        ours="metric fvd",
        theirs="cd-fvd InceptionI3d",
        what=f"a piece of {PIECE} frames of 224 x 224, random weights",
        measure=fvd_features,
        needs=("cdfvd",),
        install="pip install --no-deps cd-fvd",
    )
    yield Row(
        name="fvd distance",
        ours="metric fvd",
        theirs="torchmetrics FrechetInceptionDistance",
        what=f"two sets of {VECTORS} vectors of {NUMBERS} numbers",
        measure=fvd_distance,
    )


def pictures() -> tuple[Tensor, Tensor]:
    """Prediction and truth, (N, 3, H, W) uint8."""
    random = generator("bench", "metrics")
    truth = torch.randint(0, 216, (FRAMES, 3, SIDE, SIDE), generator=random, dtype=torch.uint8)
    return truth + torch.randint(0, 40, truth.shape, generator=random, dtype=torch.uint8), truth


@torch.no_grad()
def ssim(how: How) -> Ratio:
    """Raises: HvgError where the two numbers differ."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    cls, (prediction, truth) = registry.load("metric", "ssim"), pictures()
    metric, alpha = cls(cls.Config(), Context()), torch.ones(FRAMES, 1, SIDE, SIDE)

    def ours() -> Tensor:
        return metric.score(prediction, truth, alpha)

    def theirs() -> Tensor:
        # All at once takes it more time a frame, and several times the memory.
        pairs = zip(prediction.double().split(1), truth.double().split(1), strict=True)
        found: list[Any] = [structural_similarity_index_measure(x, y, data_range=255.0) for x, y in pairs]
        return torch.stack(found)

    require_equal("ssim", ours(), theirs(), 1e-9)
    return how.compare("ssim", Side(ours), Side(theirs))


@torch.no_grad()
def lpips(how: How) -> Ratio:
    """Raises: HvgError where the two numbers differ."""
    import lpips as library  # pyright: ignore[reportMissingImports]

    theirs: Any = library.LPIPS(net="alex", pretrained=True, pnet_rand=True, verbose=False)
    # Its trunk is cut into slices that keep the layers' numbers: slice2.3.weight is the classifier's features.3.weight.
    trunk = {f"features.{name.partition('.')[2]}": x for name, x in theirs.net.named_parameters()}
    cls, (prediction, truth) = registry.load("metric", "lpips"), pictures()
    with tempfile.TemporaryDirectory() as folder:
        metric = cls(cls.Config(network="alex"), _networks("alexnet", trunk, Path(folder)))
    alpha = torch.ones(FRAMES, 1, SIDE, SIDE)

    def run() -> Tensor:
        return theirs(prediction.float() / 127.5 - 1, truth.float() / 127.5 - 1).flatten()

    def ours() -> Tensor:
        return metric.score(prediction, truth, alpha)

    require_equal("lpips", ours(), run(), 1e-4)
    return how.compare("lpips", Side(ours), Side(run))


@torch.no_grad()
def fvd_features(how: How) -> Ratio:
    """Raises: HvgError where the two give other features."""
    from cdfvd.third_party.i3d.pytorch_i3d import InceptionI3d  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    theirs: Any = InceptionI3d(NUMBERS, in_channels=3).eval()
    cls = registry.load("metric", "fvd")
    with tempfile.TemporaryDirectory() as folder:
        networks = _networks("i3d", theirs.state_dict(), Path(folder))
        metric = cls(cls.Config(network="i3d_content_debiased"), networks)
    videos = torch.rand(1, PIECE, 3, 224, 224, generator=generator("bench", "video")) * 2 - 1

    def ours() -> Tensor:
        return metric.features(videos)

    def run() -> Tensor:
        return theirs(videos.transpose(1, 2))

    require_equal("fvd features", ours(), run(), 1e-3)
    return how.compare("fvd", Side(ours), Side(run))


@torch.no_grad()
def fvd_distance(how: How) -> Ratio:
    """Raises: HvgError where the two distances differ."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    random = generator("bench", "features")
    sets = [torch.randn(VECTORS, NUMBERS, generator=random) + shift for shift in (0.0, 0.1)]
    network = _AsTheyAre()

    def ours() -> Tensor:
        first, second = (x.numpy() for x in sets)
        return torch.tensor(frechet_distance(first, second))

    def theirs() -> Tensor:
        distance: Any = FrechetInceptionDistance(feature=network)
        for features, real in zip(sets, (True, False), strict=True):
            distance.update(features, real=real)
        return distance.compute()

    require_equal("fvd distance", ours(), theirs(), 1e-3)
    return how.compare("fvd", Side(ours), Side(theirs))


class _AsTheyAre(nn.Module):
    """A network whose features are what it is given."""

    num_features = NUMBERS

    def forward(self, features: Tensor) -> Tensor:
        return features


def _networks(name: str, tensors: Any, folder: Path) -> Context:
    """The context of a metric that finds these weights in the file of a network."""
    file = Path(next(iter(CATALOGUE[name].files))).with_suffix(".safetensors").name
    save_file({key: x.contiguous() for key, x in tensors.items()}, folder / file)
    return Context(networks=NetworkFiles(folder))
