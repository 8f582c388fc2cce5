"""What denoisers share: settings, how blocks are run, what they are told, and how an attention sees a memory."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hvg.core.errors import HvgError
from hvg.core.required import required
from hvg.parts.blocks import run_block
from hvg.parts.continued import Continued
from hvg.parts.part import PartConfig
from hvg.values.grid import ViewGrid
from hvg.values.layout import fold_frames

Result = TypeVar("Result")
# Weights that no published network has. All of them start such that they change nothing.
NEW_LAYERS = ("view_attention", "memory_gate")
# Forms of a block, each for every shape of a step, that are compiled; torch compiles no more of a function whatever is asked.
MOST_KINDS = 256


class DenoiserConfig(PartConfig):
    """Settings that every denoiser has."""

    weights: str | None = Field(
        None,
        description="Folder of a diffusers pipeline (or of its denoiser), or hub id, to start from; null: random weights.",
    )
    init: Literal["library", "residual_zero"] = Field(
        "library",
        description="residual_zero, for training from nothing: the last layer of every residual branch, and of the network, "
        "starts at zero. library: as diffusers does, for weights that are loaded.",
    )
    checkpointing: Annotated[Literal["none", "blocks"], Continued.FREE] = Field(
        "none", description="blocks: recompute them in the backward pass."
    )
    compile: Literal["none", "blocks"] = Field(
        "none", description="blocks: torch.compile each while training; on a CPU that needs a C++ compiler."
    )
    memory: Literal["concatenate", "gated"] = Field(
        "concatenate",
        description="How spatial attention sees the memory port. concatenate: more keys in the one softmax, as in "
        "AnimateAnyone. gated: a second softmax with the same projections, added times a gate per head that starts at zero, "
        "so that pretrained weights start undisturbed.",
    )
    shallow: Annotated[int | None, Continued.SAMPLING] = Field(
        None,
        ge=0,
        le=64,
        description="With evaluation.reuse, the outer layers, which run at every step: so many blocks at the beginning of the "
        "network, and as many at its end; of a UNet so many layers of the first level going down, and one more going up. null: a "
        "quarter of the blocks on either side; of a UNet the whole first level.",
    )


def deep_blocks(config: DenoiserConfig, count: int) -> range:
    """Those of a network's blocks that are its deep half; empty where all are shallow."""
    ends = min(count, -(-count // 4) if config.shallow is None else config.shallow)
    return range(ends, max(ends, count - ends))


class VideoBackboneConfig(DenoiserConfig):
    """Settings that every denoiser of videos has."""

    views_as_frames: bool = Field(
        False,
        description="Whether the views of a clip are frames of one video, view after view, as for a camera that goes around: the "
        "network as it is, without layers for views (view_attention=none). Frames of several views are counted from 0.",
    )


class BlockRunner:
    """Runs a network's blocks as its settings say: compiled, or computed again in the backward pass."""

    def __init__(self) -> None:
        self._compiled: dict[Callable[..., Any], Callable[..., Any]] = {}

    def __call__(self, config: DenoiserConfig, function: Callable[..., Result], block: nn.Module, *inputs) -> Result:
        """``function(block, *inputs)``. Raises: HvgError where it has to be compiled and cannot be."""
        if torch.is_grad_enabled():
            if config.compile == "blocks":
                function = self._compile(function, next(x.device for x in inputs if isinstance(x, Tensor)))
            if config.checkpointing == "blocks":
                function = partial(checkpoint, function, use_reentrant=False)
        return run_block(block, function, block, *inputs)

    def _compile(self, function: Callable[..., Result], device: torch.device) -> Callable[..., Result]:
        """The function compiled; it is once for every kind of block that it meets."""
        if function not in self._compiled:
            if device.type == "cpu" and not (shutil.which("g++") or shutil.which("clang++")):
                raise HvgError(
                    "backbone.compile=blocks needs a C++ compiler on a CPU, and g++ is not there; or set compile=none",
                    then="apt-get install g++",
                )
            # Shapes are few, and inductor fails at some blocks when it takes sizes for variables. The library's own limit is less
            # than the kinds of blocks of one UNet.
            # Its stubs know the last two words of no version.
            compiler: Any = torch.compile
            compiled = compiler(
                function, fullgraph=True, dynamic=False, recompile_limit=MOST_KINDS, isolate_recompiles=True
            )
            self._compiled[function] = partial(_whole, compiled)
        return self._compiled[function]


def _whole(compiled: Callable[..., Result], *inputs: Any) -> Result:
    """Result of a compiled function. Raises: HvgError where not all of it can be compiled: nothing is run as it is in silence."""
    # The compiler is there by now.
    from torch._dynamo.exc import TorchDynamoException

    try:
        return compiled(*inputs)
    except TorchDynamoException as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise HvgError(
            f"backbone.compile=blocks: a block cannot be compiled whole: {reason}; set compile=none"
        ) from error


def own_blocks(config: DenoiserConfig, layers: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """New layers that run within other blocks, or lists of some, as blocks of their own; none where those are compiled whole."""
    for layer in layers if config.compile == "none" else ():
        yield from layer if isinstance(layer, nn.ModuleList) else (layer,)


def clip_grid(config: VideoBackboneConfig, latents: Tensor) -> tuple[int, int, int]:
    """(B, V, t) of latents (B, V, t, ...); (B, 1, V t) where their views are frames of one video."""
    b, v, t = latents.shape[:3]
    return (b, 1, v * t) if config.views_as_frames else (b, v, t)


def frame_places(frame_index: Tensor | None, shape: tuple[int, int, int], latents: Tensor) -> Tensor:
    """The place of every latent frame of clips of ``shape`` (B, V, t) in its video, (B, t): those that are told, else from 0.

    latents: (B, V, t, ...) as the network was given them; where its views are frames, those are counted.
    """
    if frame_index is None or shape[2] > latents.shape[2]:
        return torch.arange(shape[2], device=latents.device).expand(shape[0], -1)
    return frame_index


def seen_views(grid: ViewGrid | None, shape: tuple[int, int, int]) -> ViewGrid:
    """The grid that view attention sees. Raises: HvgError where there is none, or one of other views and latent frames."""
    views = required(grid, "the grid of the views (ClipBatch.view_grid), which view attention sees,")
    if tuple(views.cameras.shape) != shape:
        raise HvgError(f"the latents are {shape} (B, V, t), the cameras of their grid {tuple(views.cameras.shape)}")
    return views


def fold_shared(x: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """(B, V, t, M, D) -> (N, M, D); (B, M, D) where the V and t axes are 1, so that it is projected once a clip."""
    return fold_frames(x if x.shape[1] == x.shape[2] == 1 else x.expand(*grid, -1, -1))
