"""The model as a LightningModule: parts come in built; one training step reads top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import lightning
import torch
from torch import Tensor, nn

from hvg.data import signal_key
from hvg.eight_bit import signal_from_uint8, signal_to_uint8
from hvg.protocols import Backbone, Codec, Conditioner, Guidance, Prediction, Sampler, Solver
from hvg.random import generator
from hvg.required import required
from hvg.sampling import classifier_free_guidance, sample
from hvg.types import ClipBatch, Conditioning, Window


class HumanVideoSystem(lightning.LightningModule):
    """Conditioners steer a backbone that denoises a codec's latents.

    ``conditioners`` maps slot -> part; the order of slots is the order in which their ports are merged.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        conditioners: Mapping[str, Conditioner],
        codec: Codec,
        prediction: Prediction,
        sampler: Sampler,
        solver: Solver,
        guidance: Guidance,
        names: Mapping[str, str],
        seed: int,
        foreground_weight: float = 0.0,
        optimizer: Callable[[list[nn.Parameter]], tuple[torch.optim.Optimizer, Callable[[int], float]]] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        # A ModuleDict's type does not say what it holds.
        self.conditioners = cast(Mapping[str, Conditioner], nn.ModuleDict(conditioners))
        # Not a module, so that its frozen weights are neither trained, saved nor partitioned.
        self.codec = codec
        self.prediction, self.sampler, self.solver, self.guidance = prediction, sampler, solver, guidance
        self.seed, self.foreground_weight = seed, foreground_weight
        self.signal_keys = {slot: signal_key(part, names[slot]) for slot, part in conditioners.items()}
        self._optimizer = optimizer

    @property
    def signals(self) -> dict[str, Conditioner]:
        """Signal key -> the conditioner that renders it."""
        return {self.signal_keys[slot]: part for slot, part in self.conditioners.items() if part.has_signal()}

    # --- training -------------------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        self.codec.to(self.device)

    def training_step(self, batch: ClipBatch, batch_idx: int) -> dict[str, Tensor]:
        """``loss``, and by name the auxiliary losses that are part of it."""
        with torch.no_grad():
            latents = self.codec.encode(required(batch.frames, "ClipBatch.frames"))
        sigma, noise, draw = self.randomness(batch, latents)
        noisy = latents + sigma * noise
        conditioning = self.condition(batch, lambda part: draw >= part.config.dropout)
        output = self.backbone(
            self.prediction.input_scale(sigma) * noisy,
            self.prediction.level(sigma)[..., 0, 0, 0],
            conditioning,
            batch.frame_index,
        )
        denoised = self.prediction.denoised(output.float(), noisy, sigma)
        error = (self.prediction.weight(sigma) * self.region_weight(batch, latents) * (denoised - latents) ** 2).mean()
        auxiliary = {name: value.mean() for name, value in conditioning.losses.items()}
        return {"loss": error + sum(auxiliary.values()), **auxiliary}

    def randomness(self, batch: ClipBatch, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Noise level (B V t 1 1 1), noise like the latents, and the dropout draw (B); keyed by (seed, sample index)."""
        sigmas, noises, draws = [], [], []
        for index in required(batch.sample_index, "ClipBatch.sample_index").tolist():
            key = generator(self.seed, "noise", index)
            sigmas.append(self.prediction.sample_sigma((1,), key))
            noises.append(torch.randn(latents.shape[1:], generator=key))
            draws.append(torch.rand((), generator=key))
        sigma = torch.stack(sigmas).view(-1, 1, 1, 1, 1, 1).expand(*latents.shape[:3], 1, 1, 1)
        return sigma.to(latents), torch.stack(noises).to(latents), torch.stack(draws).to(latents.device)

    def region_weight(self, batch: ClipBatch, latents: Tensor) -> Tensor | float:
        """1 on the background, 1 + foreground_weight on the person, in latent cells; 0 where a clip is padded."""
        weight: Tensor | float = 1.0
        if self.foreground_weight and batch.alpha is not None:
            height, width = latents.shape[-2:]
            cells = nn.functional.adaptive_avg_pool2d(batch.alpha.flatten(0, 2), (height, width))
            weight = 1.0 + self.foreground_weight * cells.unflatten(0, batch.grid)
        if batch.valid is not None:
            weight = weight * batch.valid[..., None, None, None].to(latents)
        return weight

    def condition(self, batch: ClipBatch, keep: Callable[[Conditioner], Tensor] | None = None) -> Conditioning:
        """All slots' ports, merged; ``keep`` says per part which clips (B) keep their signal."""
        parts = []
        for slot, part in self.conditioners.items():
            signal = batch.signals.get(self.signal_keys[slot])
            if signal is None:
                signal = part.signal(batch)
                # As a stored map would be, so that results do not depend on what was cached.
                signal = None if signal is None else signal_from_uint8(signal_to_uint8(signal))
            conditioning = part(signal, batch)
            if keep is not None and part.config.dropout > 0:
                conditioning = conditioning.where(keep(part), part.null(conditioning))
            parts.append(conditioning)
        return Conditioning.merge(parts)

    def configure_optimizers(self):
        if self._optimizer is None:
            raise RuntimeError("this system was built for sampling: it has no optimiser")
        optimizer, schedule = self._optimizer([p for p in self.parameters() if p.requires_grad])
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    # --- sampling -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def generate(
        self, batch: ClipBatch, *, num_steps: int, seed: int = 0, progress: Callable[[int, int], None] | None = None
    ) -> Tensor:
        """Frames (B, V, T, 3, H, W) in [-1, 1] for the batch's reference, motion and cameras.

        The starting noise is keyed by (seed, clip id), so it is the same for every arm of a study and every batch size.
        """
        self.codec.to(self.device)
        b, v, t = batch.grid
        height, width = batch.cameras.image_size
        cells = (height // self.codec.stride, width // self.codec.stride)
        shape = (v, -(-t // self.codec.temporal_stride), self.codec.channels, *cells)
        noise = torch.stack([torch.randn(shape, generator=generator(seed, "sample", name)) for name in batch.clip_id])
        sigmas = self.prediction.sigma_schedule(num_steps)
        conditional = self.condition(batch)
        guided = any(part.config.dropout > 0 for part in self.conditioners.values())
        nothing = torch.zeros(b, dtype=torch.bool, device=self.device)
        unconditional = self.condition(batch, lambda part: nothing) if guided else conditional

        def denoise(x: Tensor, sigma: float, windows: Sequence[Window], scale: Tensor) -> Tensor:
            estimate = self._denoise(x, sigma, windows, conditional, batch)
            if not guided or bool((scale == 1).all()):
                return estimate
            return classifier_free_guidance(estimate, self._denoise(x, sigma, windows, unconditional, batch), scale)

        latents = sample(denoise, noise.to(self.device), sigmas, self.sampler, self.solver, self.guidance, progress)
        return self.codec.decode(latents).clamp(-1, 1)

    def _denoise(
        self, x: Tensor, sigma: float, windows: Sequence[Window], conditioning: Conditioning, batch: ClipBatch
    ) -> Tensor:
        """x0 of equal-shaped windows, stacked along B window by window."""
        parts = [conditioning.select(w.views, w.frames) for w in windows]
        stacked = parts[0] if len(parts) == 1 else _stack(parts)
        index = batch.frame_index
        if index is not None:
            index = torch.cat([index[:, list(w.frames)] for w in windows])
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(*x.shape[:3], 1, 1, 1)
        output = self.backbone(
            self.prediction.input_scale(level) * x, self.prediction.level(level)[..., 0, 0, 0], stacked, index
        )
        return self.prediction.denoised(output.float(), x, level)


def _stack(parts: list[Conditioning]) -> Conditioning:
    """Conditionings of equal shapes, stacked along B."""

    def cat(values: list[Tensor | None]) -> Tensor | None:
        present = [value for value in values if value is not None]
        return torch.cat(present) if present else None

    return Conditioning(
        residuals={site: torch.cat([p.residuals[site] for p in parts]) for site in parts[0].residuals},
        memory={site: torch.cat([p.memory[site] for p in parts]) for site in parts[0].memory},
        tokens=cat([p.tokens for p in parts]),
        channels=cat([p.channels for p in parts]),
        embedding=cat([p.embedding for p in parts]),
    )
