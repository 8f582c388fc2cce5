"""Context of a part: what its constructor gets besides its settings."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from hvg.parts.backbone import Backbone
from hvg.parts.model import Codec
from hvg.parts.network_files import NetworkFiles
from hvg.parts.scene import BodyModel, Renderer
from hvg.parts.view_attention import ViewAttention
from hvg.values.conditioning import Ports


@dataclass(frozen=True, kw_only=True)
class Context:
    """Other parts, and facts of them, that a part may need when it is built.

    ports: the backbone's. codec: frames <-> latents. renderer: mesh rasteriser. body: body model.
    For the backbone: channels, the sum of all conditioners' extra input channels; memory, the sites whose memory port some
    conditioner fills; view_attention, which builds one module for a site as ``view_attention(width, num_heads)``.
    For conditioners that start from its weights, or run it: backbone, the finished one. They may copy from it; one that keeps it
    keeps it outside of its modules, for its weights are trained, moved and saved as the backbone's.
    For metrics: networks, the user's files of pretrained feature networks; device, where they compute.
    blank: whether what ``Part.frozen`` names is made with weights of no value instead of being read, to count its cost.
    """

    ports: Ports | None = None
    codec: Codec | None = None
    backbone: Backbone | None = None
    renderer: Renderer | None = None
    body: BodyModel | None = None
    channels: int = 0
    memory: frozenset[str] = frozenset()
    view_attention: Callable[[int, int], ViewAttention] | None = None
    networks: NetworkFiles | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    blank: bool = False


@dataclass(frozen=True, kw_only=True)
class SceneContext(Context):
    """What a dataset gets."""

    renderer: Renderer = field()
    body: BodyModel = field()


@dataclass(frozen=True, kw_only=True)
class BackboneContext(Context):
    """What a backbone gets."""

    ports: Ports = field()


@dataclass(frozen=True, kw_only=True)
class ConditionerContext(BackboneContext):
    """What a conditioner gets; without a renderer or a body model where it draws nothing, as where a step is only counted.

    slot: where its settings stand in a configuration, such as ``text`` or ``slots.hands``, for what it says of them.
    """

    codec: Codec = field()
    backbone: Backbone = field()
    slot: str = "conditioner"
