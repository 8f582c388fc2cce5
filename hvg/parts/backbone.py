"""Interface of the denoiser, and what other parts may copy of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from hvg.core.errors import HvgError
from hvg.parts.blocks import InBlocks
from hvg.parts.part import ConfigT, Part
from hvg.values.conditioning import Conditioning, LatentShape, Ports
from hvg.values.grid import ViewGrid

if TYPE_CHECKING:
    from hvg.parts.context import BackboneContext
    from hvg.parts.view_attention import ViewAttention


@dataclass
class DeepFeatures:
    """What the deep half of a network made of latents, for a pass at a neighbouring noise level; empty until a pass fills it."""

    tensors: tuple[Tensor, ...] = ()

    def nbytes(self) -> int:
        return sum(x.nbytes for x in self.tensors)

    def made(self, function: Callable[[], Tensor]) -> Tensor:
        """What ``function`` makes: made now, and kept, or as it was kept."""
        if not self.tensors:
            self.tensors = (function(),)
        return self.tensors[0]

    def changed(self, inputs: Sequence[Tensor], function: Callable[..., Sequence[Tensor]]) -> Sequence[Tensor]:
        """What ``function`` makes of inputs, shaped as they are: made now, its changes kept, or the inputs with those changes."""
        if self.tensors:
            return [x + change for x, change in zip(inputs, self.tensors, strict=True)]
        outputs = function(*inputs)
        self.tensors = tuple(after - before for after, before in zip(outputs, inputs, strict=True))
        return outputs


class Backbone(InBlocks, Part[ConfigT], nn.Module):
    """The denoiser. Library blocks, own forward.

    library_name: of its network in a pipeline of diffusers, ``unet`` or ``transformer``, if its layers have the library's names.
    clean_level: what it is told of latents without noise.
    """

    library_name: ClassVar[str] = ""
    clean_level: ClassVar[float] = 0.0

    def __init__(self, config: ConfigT | None = None, context: BackboneContext | None = None) -> None:
        super().__init__(config, context)

    @classmethod
    @abstractmethod
    def ports(cls, config: ConfigT, latents: LatentShape) -> Ports:
        """Sites and widths for latents of this shape, before any weight exists."""

    @classmethod
    def has_view_layers(cls, config: ConfigT) -> bool:
        """Whether views attend to each other in layers of their own; if not, they are frames of one video, view after view."""
        return True

    @classmethod
    def sees_time(cls, config: ConfigT) -> bool:
        """Whether frames of a clip see each other, and where they stand in the video; if not, each is a picture by itself."""
        return True

    @classmethod
    def reuses(cls, config: ConfigT) -> bool:
        """Whether it has a deep half that neighbouring steps of sampling can share (``forward``'s ``deep``)."""
        return False

    @classmethod
    def weight_words(cls) -> Mapping[str, Sequence[str]]:
        """Word -> patterns of the names of layers and weights, with * for anything, that an adapter means by it.

        ``new``: what no published network has; ``attention``: what a LoRA is usually added to.
        """
        return {}

    @classmethod
    def layer_named(cls, name: str) -> str:
        """The name here of a layer that has another one in files of other programs; the same where it is not known."""
        return name

    @abstractmethod
    def forward(
        self,
        noisy: Tensor,
        level: Tensor,
        conditioning: Conditioning,
        frame_index: Tensor | None = None,
        grid: ViewGrid | None = None,
        deep: DeepFeatures | None = None,
    ) -> Tensor:
        """The network's raw output, (B, V, t, C, h, w).

        noisy: (B, V, t, C, h, w), already scaled by c_in. level: (B, V, t), c_noise. frame_index: (B, t) place of every frame
        in the whole video, 0..t-1 when None (``data.frame_index``). Ports of the conditioning whose V or t axis is 1 hold for
        all of it.
        grid: where its views stand, cameras (B, V, t), as ``ClipBatch.view_grid`` gives it; view attention needs it and gets
        it with the cameras resized to the cells of its site. Raises: HvgError where it is needed and not given, or of
        another shape.
        deep: empty, and what the deep half makes is kept there; filled, and that half does not run: what is kept stands for it.
        Only given where ``reuses`` says so; its tensors begin with the folded axis B V t.
        """

    def attended(
        self,
        noisy: Tensor,
        level: Tensor,
        conditioning: Conditioning,
        frame_index: Tensor | None = None,
        grid: ViewGrid | None = None,
        sites: Sequence[str] | None = None,
    ) -> dict[str, Tensor]:
        """By memory site, in the order in which they run, the tokens (B, V, t, M, D) that spatial attention sees of inputs as
        ``forward``'s: normalised, for the ``memory`` port of other frames.

        grid: None, and views do not see each other. sites: of the memory port, those of ``Ports.beside`` included; None: all of
        ``Ports.memory``. What comes after the last of them does not run. Raises: HvgError where the backbone does not tell.
        """
        raise HvgError(f"{type(self).__name__} does not tell what its attention sees; choose another backbone or part")

    def load_pretrained(self) -> list[str]:
        """Loads the published weights that its settings name, if any; returns what it did, a line each, for the log.

        Raises: HvgError where a weight finds no place, or a layer that is not known to be new finds no weight.
        """
        return []

    def reference_encoder(self, sites: Sequence[str], checkpointing: bool = False) -> nn.Module:
        """A copy of the spatial layers, weights included: latents (N, C, h, w) -> {memory site: (N, M, D)}.

        What it gives at a site is what spatial self-attention sees there (normalised tokens), for the ``memory`` port.
        checkpointing: its blocks are computed again in the backward pass instead of being kept for it.
        Source: ReferenceNet (AnimateAnyone, arXiv 2311.17117). Raises: HvgError where the backbone has no such form.
        """
        raise HvgError(f"{type(self).__name__} has no reference encoder; choose another reference_keys")

    def control_encoder(self, sites: Sequence[str], checkpointing: bool = False) -> nn.Module:
        """A copy of the spatial layers, weights included: features at the stem (N, C, h, w) -> {residual site: (N, C, h, w)}.

        What it gives is added there, and 0 at the start. sites: of the residual port, without the stem. checkpointing: as of
        ``reference_encoder``. Source: ControlNet (arXiv 2302.05543). Raises: HvgError where the backbone has no such form.
        """
        raise HvgError(f"{type(self).__name__} has no control encoder; choose another encoder")

    def spatial_attention(self) -> Iterable[tuple[ViewAttention, nn.Module, nn.Module]]:
        """Every view attention with the norm and the attention within a picture that stand before it, which it may copy."""
        return ()

    def copy_spatial_attention(self) -> None:
        """Makes view attention that is set to start as a copy one of what the backbone now has.

        Raises: HvgError where the backbone has nothing to copy.
        """
        asked = {module for module in self.modules() if getattr(module, "starts_as_copy", False)}
        for module, norm, attention in self.spatial_attention():
            if module in asked:
                module.copy_spatial(norm, attention)
                asked.remove(module)
        if asked:
            raise HvgError(f"{type(self).__name__} has no attention for view_attention.init=copy; set it to zero")
