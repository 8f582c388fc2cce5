"""The steps that train a reconstructor: it shows the person of a photo to the cameras of a clip, and pixels are compared."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, max_pool1d

from hvg.config.build import build_reconstructor
from hvg.config.settings import RunConfig
from hvg.core.finite import refuse_not_finite
from hvg.core.on_device import constants, upload
from hvg.core.random_keys import generator
from hvg.core.required import required
from hvg.model.trained_settings import trained_settings
from hvg.model.trained_system import MESH_BYTES, Latents, TrainedSystem
from hvg.parts.reconstructor import Reconstructor
from hvg.values.clip import ClipBatch

# Distance (N,) between pictures (N, 3, H, W) in [-1, 1].
Distance = Callable[[Tensor, Tensor], Tensor]
# Frames that are rendered together, and float32 copies of their colours, alpha and depth.
PIECE, COPIES = 8, 4


class AvatarSystem(TrainedSystem):
    """A reconstructor learns from pixels of its renders.

    rays: pixels of each clip whose colour and mask are compared, half of them on the person, the others in their box, which is
    ``box_margin`` of a picture's side larger. patch: side of the square for SSIM and LPIPS, 0 without them. weights: of the
    losses colour, mask, ssim and lpips. foreground_weight: as ``TrainingConfig`` says, by pixels.

    Source: the losses of SHERF (arXiv 2303.12791, section 3.4), there of all pixels in the body's box.
    """

    def __init__(
        self,
        *,
        reconstructor: Reconstructor,
        rays: int,
        box_margin: float,
        patch: int,
        weights: Mapping[str, float],
        distance: Distance | None = None,
        foreground_weight: float = 0.0,
        **of_system: Any,
    ) -> None:
        super().__init__(**of_system)
        self.reconstructor = reconstructor
        self.rays, self.box_margin, self.patch = rays, box_margin, patch
        self.weights, self.foreground_weight = weights, foreground_weight
        # Not a module, so that its frozen weights are neither trained nor saved.
        self._distance = distance

    # --- training -------------------------------------------------------------------------------------------------

    def training_step(self, batch: ClipBatch, batch_idx: int) -> dict[str, Tensor]:
        """``loss``, and by name the losses whose weighted sum it is."""
        pixels, patches = self.pixels(batch)
        seen = self.reconstructor.render(batch, torch.cat([pixels, patches], dim=1), self.draws(batch, "samples"))
        made, alpha = seen.on(self.behind(batch)).float(), seen.alpha.float()
        truth, covered = self.truth(batch, pixels)
        weight = self.pixel_weight(batch, pixels, covered)
        losses = {
            "colour": (weight * (made[:, : self.rays] - truth).square().mean(dim=-1)).mean(),
            "mask": (weight * (alpha[:, : self.rays] - covered).square()).mean(),
            **self.patch_losses(batch, patches, made[:, self.rays :]),
        }
        total = torch.stack([self.weights[name] * value for name, value in losses.items()]).sum()
        return {"loss": total, **losses}

    def step_flops(self, clips: int, image_size: tuple[int, int]) -> int | None:
        once = self.reconstructor.flops(self.rays + min(self.patch, *image_size) ** 2, image_size)
        # The backward pass multiplies twice as often.
        return None if once is None else 3 * clips * once

    def draws(self, batch: ClipBatch, word: str) -> list[torch.Generator]:
        """One generator for each clip, keyed by (seed, word, sample index)."""
        places = required(batch.sample_index, "ClipBatch.sample_index").tolist()
        return [generator(self.seed, word, place) for place in places]

    def pixels(self, batch: ClipBatch) -> tuple[Tensor, Tensor]:
        """Places (B, rays), half of them on the person, and those of a patch (B, patch x patch), as ``Reconstructor.render``
        takes them. No padded picture has one, as long as a clip has others.
        """
        covered = (required(batch.alpha, "ClipBatch.alpha")[:, :, :, 0] >= 0.5) & self._valid(batch)[..., None, None]
        drawn = torch.stack(
            [torch.rand(self.rays + 1, generator=g, dtype=torch.float64) for g in self.draws(batch, "pixels")]
        )
        centre, *halves = upload(drawn, covered.device).split([1, self.rays // 2, self.rays - self.rays // 2], dim=1)
        box = around(covered, round(self.box_margin * max(covered.shape[-2:])))
        pixels = torch.cat(
            [drawn_places(where, draw) for where, draw in zip((covered, box), halves, strict=True)], dim=1
        )
        return pixels, square(drawn_places(covered, centre), self.patch, batch.cameras.image_size)

    def behind(self, batch: ClipBatch) -> Tensor:
        """The background (3) in [-1, 1]."""
        return constants(self.background, batch.cameras.intrinsics) * 2 - 1

    def truth(self, batch: ClipBatch, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Colours (B, N, 3) in [-1, 1] and alpha (B, N) of the clips at these places."""
        colours = required(batch.frames, "ClipBatch.frames").movedim(3, -1).flatten(1, -2)
        alpha = required(batch.alpha, "ClipBatch.alpha").flatten(1)
        return colours.gather(1, pixels[..., None].expand(-1, -1, 3)), alpha.gather(1, pixels)

    def pixel_weight(self, batch: ClipBatch, pixels: Tensor, covered: Tensor) -> Tensor:
        """(B, N): 1 on the background, 1 + foreground_weight on the person; 0 where a clip is padded."""
        return (1 + self.foreground_weight * covered) * self._valid_at(batch, pixels)

    def patch_losses(self, batch: ClipBatch, places: Tensor, made: Tensor) -> dict[str, Tensor]:
        """``ssim`` and ``lpips``, those that have a weight, of colours (B, patch x patch, 3) made at these places."""
        if not self.patch:
            return {}
        pictures = [
            x.unflatten(1, (self._side(batch), -1)).movedim(-1, 1) for x in (made, self.truth(batch, places)[0])
        ]
        valid = self._valid_at(batch, places[:, :1])[:, 0]
        found = {"ssim": dissimilarity, "lpips": self._distance}
        return {name: (valid * of(*pictures)).mean() for name, of in found.items() if of and self.weights[name]}

    def _valid(self, batch: ClipBatch) -> Tensor:
        """(B, V, T) bool: whether a picture is one of the clip's, not there to fill a place."""
        if batch.valid is not None:
            return batch.valid
        return torch.ones(batch.grid, dtype=torch.bool, device=batch.cameras.intrinsics.device)

    def _valid_at(self, batch: ClipBatch, pixels: Tensor) -> Tensor:
        """1 where these places (B, N) lie in valid pictures, else 0."""
        height, width = batch.cameras.image_size
        return self._valid(batch).flatten(1).gather(1, pixels // (height * width)).float()

    def _side(self, batch: ClipBatch) -> int:
        return min(self.patch, *batch.cameras.image_size)

    # --- sampling -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def pieces(self, batch: ClipBatch, latents: Latents | None) -> Iterator[Tensor]:
        for first in range(0, batch.grid[2], PIECE):
            part = batch.select(frames=list(range(first, min(first + PIECE, batch.grid[2]))))
            frames = self.reconstructor.render(part).on(self.behind(part)).float().movedim(-1, 3)
            refuse_not_finite(frames, batch.clip_id, "the frames that the reconstructor makes")
            yield frames.clamp(-1, 1)

    @property
    def poses_photo(self) -> bool:
        return True

    def sampling_bytes(self, views: int, frames: int, image_size: tuple[int, int]) -> int:
        mesh = MESH_BYTES * frames if self.signals.mesh else 0
        return mesh + 4 * COPIES * 5 * views * min(frames, PIECE) * image_size[0] * image_size[1]


def build_avatar(config: RunConfig, **settings: Any) -> AvatarSystem:
    """The system of a run with ``system=avatar``. settings: of the losses, as ``AvatarSystem`` takes them."""
    choice = config.reconstructor
    return AvatarSystem(
        reconstructor=build_reconstructor(config),
        foreground_weight=config.training.foreground_weight,
        **trained_settings(config, choice.cls.needs(choice.config)),
        **settings,
    )


def around(covered: Tensor, margin: int) -> Tensor:
    """The boxes around what is covered (..., H, W) bool, ``margin`` pixels larger on each side; none where nothing is."""
    rows, columns = (_span(covered.any(dim=dim), margin) for dim in (-1, -2))
    return rows[..., :, None] & columns[..., None, :]


def _span(covered: Tensor, margin: int) -> Tensor:
    """(..., L) bool, from the first that is covered to the last, and ``margin`` more on both sides."""
    begun, open_still = (x.long().cumsum(dim=-1) > 0 for x in (covered, covered.flip(-1)))
    inside = (begun & open_still.flip(-1)).float().flatten(0, -2)
    return max_pool1d(inside, 2 * margin + 1, 1, margin).view(covered.shape) > 0


def drawn_places(where: Tensor, draws: Tensor) -> Tensor:
    """The places (B, N), in ``where`` (B, ...) flattened, of those of its true cells at which draws (B, N) in [0, 1) lie.

    Where a clip has none it is its last cell. In whole numbers, so that all devices agree; the host waits for none.
    """
    counts = where.flatten(1).long().cumsum(dim=1)
    return torch.searchsorted(counts, (draws * counts[:, -1:]).long() + 1).clamp_max(counts.shape[1] - 1)


def square(centres: Tensor, side: int, image_size: tuple[int, int]) -> Tensor:
    """The places (B, side x side), row by row, of the squares around places (B, 1), moved into the picture where they lie at
    its border; smaller where the picture is.
    """
    height, width = image_size
    side = min(side, height, width)
    picture, pixel = centres // (height * width), centres % (height * width)
    top, left = (pixel // width - side // 2).clamp(0, height - side), (pixel % width - side // 2).clamp(0, width - side)
    offset = torch.arange(side, device=centres.device)
    rows, columns = top + offset, left + offset
    return (picture[..., None] * height * width + rows[:, :, None] * width + columns[:, None, :]).flatten(1)


def dissimilarity(made: Tensor, truth: Tensor) -> Tensor:
    """1 - SSIM (N,) of pictures (N, 3, H, W) in [-1, 1], by Gaussian windows of 11 pixels inside of them.

    Source: Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004, equation 13.
    """
    offset = torch.arange(11, device=made.device) - 5
    window = torch.exp(-offset.square() / (2 * 1.5**2))[None, None, :, None]
    window = window / window.sum()

    def blur(x: Tensor) -> Tensor:
        return conv2d(conv2d(x.flatten(0, 1)[:, None], window), window.mT)

    # Means count in it: from black on, not around grey.
    made, truth = (made + 1) / 2, (truth + 1) / 2
    luminance, contrast = 0.01**2, 0.03**2
    x, y = blur(made), blur(truth)
    squares, spread = x.square() + y.square(), blur(made.square() + truth.square())
    top = (2 * x * y + luminance) * (2 * (blur(made * truth) - x * y) + contrast)
    similar = top / ((squares + luminance) * (spread - squares + contrast))
    return 1 - similar.view(len(made), -1).mean(dim=1)
