"""Checks of what every backbone promises."""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hvg.core.random_keys import generator
from hvg.parts import registry
from hvg.parts.backbone import Backbone, DeepFeatures
from hvg.parts.context import BackboneContext
from hvg.testing.blocks import check_blocks
from hvg.testing.building import build, require, require_gradients
from hvg.testing.outputs import check_batch_independence, check_device
from hvg.testing.scene import tiny_batch
from hvg.values.conditioning import Conditioning, LatentShape, Ports
from hvg.values.grid import ViewGrid
from hvg.values.tensors import moved

LATENTS = LatentShape(4, 8)
EXTRA, SIZE = 2, 8


def check_backbone(cls: type[Backbone], config: Any) -> None:
    """Runs every check below. config: the smallest network that has all ports; it is built with ``full_3d`` attention.

    Raises: AssertionError that says which promise is broken.
    """
    for views, frames in ((1, 1), (3, 1), (1, 3), (3, 3)):
        check_shapes(cls, config, views, frames)
    check_gradients(cls, config)
    check_precision(cls, config)
    check_views(cls, config)
    check_frame_index(cls, config)
    check_attended(cls, config)
    check_reuse(cls, config)
    check_weight_blocks(cls, config)
    backbone, given = let_through(build_backbone(cls, config)), inputs(cls, config, (2, 2, 3))
    with torch.no_grad():
        check_batch_independence(lambda *some: {"the output": backbone(*some)}, given)
        check_device(lambda *some: {"the output": backbone(*some)}, given, backbone)


class Inputs(NamedTuple):
    """Arguments of a backbone, in order."""

    noisy: Tensor
    level: Tensor
    conditioning: Conditioning
    frame_index: Tensor | None
    grid: ViewGrid

    def to(self, *args, **kwargs) -> "Inputs":
        """The same on another device, or floating tensors in another type."""
        return Inputs(*(moved(value, *args, **kwargs) for value in self))


@torch.no_grad()
def check_shapes(cls: type[Backbone], config: Any, views: int, frames: int) -> None:
    """The output is shaped as the latents, and finite."""
    given = inputs(cls, config, (2, views, frames))
    out = build_backbone(cls, config)(*given)
    require(out.shape == given.noisy.shape, f"the output is {tuple(out.shape)}, the latents {tuple(given.noisy.shape)}")
    require(bool(out.isfinite().all()), "the output is not finite")


def check_gradients(cls: type[Backbone], config: Any) -> None:
    """A gradient reaches every trainable weight, and every port that the backbone says it has."""
    backbone = let_through(build_backbone(cls, config))
    given = inputs(cls, config, (1, 2, 2))
    asked: list[Tensor] = []
    conditioning = given.conditioning.map(lambda x: asked.append(x.requires_grad_()) or x)
    backbone(*given._replace(conditioning=conditioning)).square().sum().backward()
    require_gradients(backbone)
    require(all(x.grad is not None and bool(x.grad.any()) for x in asked), "a port has no effect on the output")


@torch.no_grad()
def check_precision(cls: type[Backbone], config: Any) -> None:
    """bfloat16 weights and inputs give bfloat16; under autocast the output stays near that of full precision."""
    given = inputs(cls, config, (1, 2, 2))
    half = build_backbone(cls, config).bfloat16()(*given.to(torch.bfloat16))
    require(half.dtype == torch.bfloat16, f"bfloat16 weights and inputs give {half.dtype}")
    backbone = build_backbone(cls, config)
    full = backbone(*given)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = backbone(*given)
    require(bool((mixed.float() - full).norm() < 0.05 * full.norm()), "mixed precision is far from full precision")


@torch.no_grad()
def check_views(cls: type[Backbone], config: Any) -> None:
    """Views see each other through view attention, which is at rest in a new network, and through nothing else.

    Where a backbone has no layers for views, they are frames of one video, view after view.
    """
    if not cls.has_view_layers(config):
        check_views_as_frames(cls, config)
        return
    given = inputs(cls, config, (1, 2, 2))
    other = given.noisy.clone()
    other[:, 1] += 1

    def first_view_moves(backbone: Backbone) -> bool:
        difference = backbone(*given) - backbone(*given._replace(noisy=other))
        return bool(difference[:, 0].abs().max() > 1e-5)

    require(not first_view_moves(build_backbone(cls, config)), "views of a new network see each other")
    require(first_view_moves(let_through(build_backbone(cls, config))), "view attention has no effect")
    alone = let_through(build_backbone(cls, config, view_attention="none"))
    require(not first_view_moves(alone), "views see each other without view attention")


@torch.no_grad()
def check_views_as_frames(cls: type[Backbone], config: Any) -> None:
    """Several views are what one view of as many frames is, frame for frame."""
    backbone, given = let_through(build_backbone(cls, config)), inputs(cls, config, (2, 2, 3))

    def one_view(x: Tensor) -> Tensor:
        return x.flatten(1, 2)[:, None]

    frames = Inputs(
        noisy=one_view(given.noisy),
        level=one_view(given.level),
        conditioning=given.conditioning.map(one_view),
        frame_index=None,
        grid=tiny_batch(2, 1, 6, size=SIZE * LATENTS.stride).view_grid(),
    )
    same = torch.equal(one_view(backbone(*given)), backbone(*frames))
    require(same, "several views are not what one view of as many frames is")


@torch.no_grad()
def check_frame_index(cls: type[Backbone], config: Any) -> None:
    """Frames count from 0 where nothing else is said, and their place in the video matters.

    Of a backbone of single pictures neither their place matters, nor what other frames hold.
    """
    backbone, given = build_backbone(cls, config), inputs(cls, config, (1, 1, 3))
    if not cls.sees_time(config):
        backbone, other = let_through(backbone), given.noisy.clone()
        other[:, :, 1:] += 1
        alone = backbone(*given._replace(noisy=other, frame_index=torch.tensor([[5, 7, 12]])))
        same = torch.allclose(alone[:, :, 0], backbone(*given)[:, :, 0], atol=1e-5)
        require(same, "a frame depends on other frames, or on its place, which sees_time denies")
        return
    # Further apart as well as later: a network may go by how far frames are apart.
    default, same, later = (
        backbone(*given._replace(frame_index=index))
        for index in (None, torch.tensor([[0, 1, 2]]), torch.tensor([[5, 7, 12]]))
    )
    require(torch.equal(default, same), "frames do not count from 0 where frame_index is not given")
    require(not torch.allclose(default, later, atol=1e-6), "frame_index has no effect")


@torch.no_grad()
def check_attended(cls: type[Backbone], config: Any) -> None:
    """What attention sees at a site is as wide as the site, and the same whichever others are asked for. It may be left out."""
    if cls.attended is Backbone.attended:
        return
    backbone, given = let_through(build_backbone(cls, config)), inputs(cls, config, (2, 1, 3))
    ports, whole = cls.ports(config, LATENTS), backbone.attended(*given)
    require([*whole] == [*ports.memory], f"attended tells of {[*whole]}, not of the memory sites {[*ports.memory]}")
    for site, tokens in whole.items():
        expected = (2, 1, 3, ports.memory[site].channels)
        found = (*tokens.shape[:3], tokens.shape[-1])
        require(tokens.ndim == 5 and found == expected, f"attended gives {tuple(tokens.shape)} at {site}")
        alone = backbone.attended(*given, sites=[site])
        require([*alone] == [site] and torch.equal(alone[site], tokens), f"{site} differs where it is asked for alone")
    beside = backbone.attended(*given, sites=[*ports.beside])
    require([*beside] == [*ports.beside], "attended does not tell of the sites beside the picture")


@torch.no_grad()
def check_reuse(cls: type[Backbone], config: Any) -> None:
    """A pass that keeps its deep half is as any other. One that has it runs fewer layers, and gives the same for the same inputs;
    of others it hears.
    """
    if not cls.reuses(config):
        return
    backbone, given, deep = let_through(build_backbone(cls, config)), inputs(cls, config, (2, 2, 3)), DeepFeatures()
    plain, ran = backbone(*given), list[torch.nn.Module]()
    handles = [layer.register_forward_pre_hook(lambda layer, _: ran.append(layer)) for layer in backbone.modules()]
    require(torch.equal(backbone(*given, deep), plain), "a pass that keeps its deep half gives another output")
    rows = given.noisy.shape[:3].numel()
    require(bool(deep.tensors), "a pass that is asked for it keeps nothing of its deep half")
    require(
        all(len(x) == rows for x in deep.tensors), f"deep features do not begin with the {rows} pictures of all clips"
    )
    whole, again = len(ran), backbone(*given, deep)
    for handle in handles:
        handle.remove()
    require(len(ran) - whole < whole, "where its deep half is kept, as many layers run")
    close = torch.allclose(again, plain, rtol=1e-4, atol=1e-4)
    require(close, "with its deep half kept for the same inputs it gives another output")
    other = backbone(*given._replace(noisy=given.noisy + 1), deep)
    require(not torch.allclose(other, plain, atol=1e-4), "where its deep half is kept it does not hear of the latents")


def check_weight_blocks(cls: type[Backbone], config: Any) -> None:
    """Weights of the blocks that it names are asked for while these run, and never else: in a pass, and where it tells what
    attention sees.
    """
    backbone, given = let_through(build_backbone(cls, config)), inputs(cls, config, (1, 2, 2))
    check_blocks(backbone, lambda: {"the output": backbone(*given)})
    if cls.attended is not Backbone.attended:
        check_blocks(backbone, lambda: backbone.attended(*given))


def build_backbone(cls: type[Backbone], config: Any, view_attention: str = "full_3d") -> Backbone:
    """The backbone behind a codec of 4 channels and stride 8, with a registered view attention in its default settings."""
    attention = registry.load("view_attention", view_attention)
    ports = cls.ports(config, LATENTS)
    context = BackboneContext(
        ports=ports,
        channels=EXTRA if ports.channels else 0,
        memory=frozenset(ports.all_memory),
        view_attention=partial(attention, attention.Config()) if cls.has_view_layers(config) else None,
    )
    return build(cls, config, context)


def let_through(backbone: Backbone) -> Backbone:
    """The backbone with seeded noise in place of weights that are all zero, which hide what is behind them."""
    random = generator("let_through")
    with torch.no_grad():
        for parameter in backbone.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=random))
    return backbone


def inputs(cls: type[Backbone], config: Any, shape: tuple[int, int, int]) -> Inputs:
    """Noisy latents (B, V, t, 4, 8, 8) with every port filled. Two tokens: over one alone attention has nothing to choose."""
    random = generator("inputs")
    ports = cls.ports(config, LATENTS)

    def noise(*size: int) -> Tensor:
        return torch.randn(*shape, *size, generator=random)

    return Inputs(
        noisy=noise(LATENTS.channels, SIZE, SIZE),
        level=noise(),
        conditioning=_filled(ports, noise),
        frame_index=None,
        grid=tiny_batch(*shape, size=SIZE * LATENTS.stride).view_grid(),
    )


def _filled(ports: Ports, noise: Any) -> Conditioning:
    side = {site: SIZE // s.stride for site, s in ports.residuals.items()}
    return Conditioning(
        residuals={n: noise(s.channels, side[n], side[n]) for n, s in ports.residuals.items()},
        memory={
            **{n: noise(3, s.channels) for n, s in ports.memory.items()},
            **{n: noise((SIZE // s.stride) ** 2, s.channels) for n, s in ports.beside.items()},
        },
        tokens=noise(2, ports.token_width) if ports.token_width else None,
        text=noise(2, ports.text_width) if ports.text_width else None,
        pooled=noise(ports.pooled_width) if ports.pooled_width else None,
        channels=noise(EXTRA, SIZE, SIZE) if ports.channels else None,
        embedding=noise(ports.embedding_width) if ports.embedding_width else None,
        pictures=noise(2, LATENTS.channels, SIZE, SIZE // 2) if ports.pictures else None,
    )
