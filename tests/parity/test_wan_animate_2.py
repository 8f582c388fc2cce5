"""Driving memory against diffusers' ``WanAnimate2Transformer3DModel``, on random weights.

The library's denoising pass attends by flex attention over a block mask. Where that takes a compiler, its mask is written out and
its attention is torch's over that mask; a longer test runs the library's own.
"""

import shutil

import pytest
import torch
from diffusers.models.transformers import transformer_wan_animate_2 as library_file
from diffusers.models.transformers.transformer_wan_animate_2 import WanAnimate2KVCache, WanAnimate2Transformer3DModel
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from components.backbones.wan_dit import WanDit, WanDitConfig
from hvg.parts.context import BackboneContext
from hvg.testing.backbone import let_through
from hvg.values.conditioning import Conditioning, LatentShape

LATENTS = LatentShape(4, 8, 4)
# Latent channels, mask and photo: as 16, 4 and 16 of the published one. Tokens of CLIP are 1280 wide in the library, always.
EXTRA, TEXT, CLIP = 8, 7, 1280
SMALL = {
    "width": 48,
    "heads": 2,
    "layers": 3,
    "feed_forward": 64,
    "cross_attention_width": 16,
    "frequencies": 16,
    "tokens": "own",
    "token_width": CLIP,
}
# Latent frames of the driving video, one fewer than the clip with its photo, and cells of their pictures.
FRAMES, HEIGHT, WIDTH = 3, 8, 12
CELLS = (HEIGHT // 2, WIDTH // 2)
# Our names of layers -> the library's.
NAMES = {
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "condition_embedder.image_embedder.norm1": "img_emb.proj.0",
    "condition_embedder.image_embedder.ff.net.0.proj": "img_emb.proj.1",
    "condition_embedder.image_embedder.ff.net.2": "img_emb.proj.3",
    "condition_embedder.image_embedder.norm2": "img_emb.proj.4",
    "proj_out": "head.head",
    ".attn1.": ".self_attn.",
    ".attn2.": ".cross_attn.",
    ".norm2.": ".norm3.",
    ".ffn.net.0.proj.": ".ffn.0.",
    ".ffn.net.2.": ".ffn.2.",
}


def build() -> WanDit:
    torch.manual_seed(0)
    config = WanDitConfig(**SMALL)
    return let_through(WanDit(config, BackboneContext(ports=WanDit.ports(config, LATENTS), channels=EXTRA)).eval())


def library_name(name: str) -> str:
    if name.endswith("scale_shift_table"):
        return "head.modulation" if name == "scale_shift_table" else name.replace("scale_shift_table", "modulation")
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name


def library_twin(ours: WanDit) -> WanAnimate2Transformer3DModel:
    """diffusers' model with the weights of ours."""
    library = WanAnimate2Transformer3DModel(
        text_len=TEXT,
        in_dim=4 + EXTRA,
        dim=ours.config.width,
        ffn_dim=ours.config.feed_forward,
        freq_dim=ours.config.frequencies,
        text_dim=ours.config.cross_attention_width,
        out_dim=4,
        num_heads=ours.config.heads,
        num_layers=ours.config.layers,
    ).eval()
    weights = {library_name(name): x for name, x in ours.state_dict().items()}
    assert str(library.load_state_dict(weights)) == "<All keys matched successfully>"
    return library


class Told:
    """One clip: its latents (t, 4, h, w), what stands beside them, text and CLIP's tokens."""

    def __init__(self, frames: int) -> None:
        self.latents = torch.randn(frames, 4, HEIGHT, WIDTH)
        self.channels = torch.randn(frames, EXTRA, HEIGHT, WIDTH)
        self.text, self.image = torch.randn(TEXT, 16), torch.randn(1, 5, CLIP)

    def conditioning(self, **more) -> Conditioning:
        text, image = self.text[None, None, None], self.image[:, None, None]
        return Conditioning(channels=self.channels[None, None], text=text, tokens=image, **more)

    def run_by(self, library: WanAnimate2Transformer3DModel, level: float, mode: str, cache, **more) -> Tensor:
        """The library's output (t, 4, h, w)."""
        out = library(
            [self.latents.movedim(0, 1)],
            timestep=torch.tensor([level]),
            encoder_hidden_states=[self.text],
            encoder_hidden_states_image=self.image,
            condition_latents=[self.channels.movedim(0, 1)],
            kv_cache=cache,
            kv_cache_mode=mode,
            seq_len=len(self.latents) * CELLS[0] * CELLS[1],
            **more,
        )
        return out.sample[0].movedim(1, 0)


def both(level: float, shift: int = 0) -> tuple[Tensor, Tensor]:
    """What ours and the library make of a clip behind its photo and a driving video, (t + 1, 4, h, w)."""
    ours = build()
    torch.manual_seed(1)
    driving, clip = Told(FRAMES), Told(FRAMES + 1)
    library, cache = library_twin(ours), WanAnimate2KVCache(ours.config.layers)
    grid = torch.tensor([[FRAMES, *CELLS]])
    driving.run_by(library, 500.0, "extract", cache, offset_grid_sizes=grid)
    size = {"origin_len": 4 * (FRAMES - 1), "origin_area": [8 * HEIGHT, 8 * WIDTH]}
    expected = clip.run_by(library, level, "cached", cache, reference_grid_sizes=grid, **size)

    sites = [*ours.ports(ours.config, LATENTS).beside]
    told = driving.conditioning()
    memory = ours.attended(driving.latents[None, None], torch.ones(1, 1, FRAMES), told, sites=sites)
    # The photo's frame comes first, and sees nothing of the driving video.
    memory = {site: torch.cat([torch.zeros_like(x[:, :, :1]), x], dim=2) for site, x in memory.items()}
    levels = torch.full((1, 1, FRAMES + 1), level)
    places = torch.arange(shift, shift + FRAMES + 1)[None]
    return ours(clip.latents[None, None], levels, clip.conditioning(memory=memory), places)[0, 0], expected


@pytest.fixture
def written_out(monkeypatch):
    """The library's block mask as a matrix, and its attention over it."""
    dispatched = library_file.dispatch_attention_fn

    def matrix(mask_mod, B, H, Q_LEN, KV_LEN, device, _compile) -> Tensor:
        return mask_mod(None, None, torch.arange(Q_LEN)[:, None], torch.arange(KV_LEN)[None])

    def attention(query, key, value, attn_mask=None, **how) -> Tensor:
        if attn_mask is None:
            return dispatched(query, key, value, attn_mask=None, **how)
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
        # Rows that pad the clip see nothing, and nobody looks at them.
        seen = attn_mask | ~attn_mask.any(dim=1, keepdim=True)
        return scaled_dot_product_attention(query, key, value, attn_mask=seen).transpose(1, 2)

    monkeypatch.setattr(library_file, "create_block_mask", matrix)
    monkeypatch.setattr(library_file, "dispatch_attention_fn", attention)


@pytest.mark.parametrize("level", [1.0, 500.0, 999.0])
@torch.no_grad()
def test_driving_memory_is_the_library_s(level, written_out):
    torch.testing.assert_close(*both(level), rtol=0, atol=2e-5)


@torch.no_grad()
def test_a_window_later_in_the_video_is_the_same(written_out):
    """Only how far frames and pictures are apart counts."""
    torch.testing.assert_close(*both(500.0, shift=40), rtol=0, atol=1e-4)


@torch.no_grad()
def test_without_the_driving_video_it_is_another(written_out):
    """What is compared above tells apart whether it is seen, where it lies and by which frame."""
    ours, expected = both(500.0)
    network, sites = build(), [*WanDit.ports(WanDitConfig(**SMALL), LATENTS).beside]
    torch.manual_seed(1)
    driving, clip = Told(FRAMES), Told(FRAMES + 1)
    levels = torch.full((1, 1, FRAMES + 1), 500.0)
    memory = network.attended(
        driving.latents[None, None], torch.ones(1, 1, FRAMES), driving.conditioning(), sites=sites
    )

    def run(**memory: Tensor) -> Tensor:
        return network(clip.latents[None, None], levels, clip.conditioning(memory=memory))[0, 0]

    first = {site: torch.cat([x, x[:, :, -1:]], dim=2) for site, x in memory.items()}
    others = [
        run(),
        run(**first),
        run(**{site.removesuffix("_beside"): torch.cat([x[:, :, :1], x], dim=2) for site, x in memory.items()}),
    ]
    assert all((other - expected).abs().max() > 10 * (ours - expected).abs().max() for other in others)


@pytest.mark.long
@torch.no_grad()
def test_it_is_the_library_s_by_its_own_flex_attention():
    """Half a minute, in which the mask is compiled."""
    if not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("the library compiles its mask, and there is no C++ compiler")
    torch.testing.assert_close(*both(500.0), rtol=0, atol=2e-5)
