"""The second of two systems: a trained video model that refines the frames of a first one, which it knows nothing of."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hvg.config.build import build_part
from hvg.config.composition import recompose
from hvg.config.settings import RunConfig
from hvg.config.wiring import needed_fields
from hvg.core.checkpoint import find_checkpoint
from hvg.core.eight_bit import frames_from_uint8
from hvg.core.errors import CheckpointError, HvgError
from hvg.core.on_device import constants
from hvg.core.required import required
from hvg.data.signals import Signals
from hvg.model.load import as_video_model, load_system
from hvg.model.saved_run import trained_config
from hvg.model.system import HumanVideoSystem
from hvg.model.trained_system import Latents, TrainedSystem
from hvg.parts.refiner import Refined, Refiner
from hvg.values.clip import ClipBatch
from hvg.values.crops import Crops
from hvg.values.moved import move


@dataclass(frozen=True, kw_only=True)
class Refining:
    """A video model that refines, its configuration, and how.

    Frames are (B, V, T, 3, H, W) uint8, as files hold them; a batch says of the same clips what the model reads.
    """

    system: HumanVideoSystem
    config: RunConfig
    refiner: Refiner

    @property
    def signals(self) -> Signals:
        """What clips have to carry for it."""
        return Signals(mesh=self.system.reads_mesh) if self.refiner.redraws else self.system.signals

    @property
    def keeps_frames(self) -> bool:
        """Whether pictures are partly those that are refined."""
        return self.refiner.redraws

    @property
    def steps(self) -> int:
        """Solver steps."""
        return self.refiner.config.steps or self.config.evaluation.steps

    @torch.no_grad()
    def latents(
        self,
        batch: ClipBatch,
        frames: Tensor,
        *,
        seed: int,
        progress: Callable[[int, int], None] | None = None,
        share: bool = False,
    ) -> Latents:
        """What the refined frames are decoded from, as of ``HumanVideoSystem.sample_latents``, by the noise that it would have.

        Raises: HvgError for pictures of a size that the model does not take, and for latents that are not finite.
        """
        self._check_size(batch)
        crops = self.refiner.crops(batch)
        seen = batch if crops is None else crops.batch(batch)
        offsets = self.system.offsets(seen)[0] if crops is None else None
        latents = self._encoded(frames, crops, offsets)
        if self.refiner.config.strength == 0:
            return latents, offsets
        return self.system.sample_latents(
            seen,
            num_steps=self.steps,
            seed=seed,
            progress=progress,
            windows_per_call=self.config.evaluation.windows_per_call,
            share=share,
            refined=Refined(latents=latents, refiner=self.refiner, aligned=crops is None),
        )

    def pieces(self, batch: ClipBatch, frames: Tensor | None, latents: Latents) -> Iterator[Tensor]:
        """The refined frames (B, V, some, 3, H, W) in [-1, 1], piece by piece along time. frames: what was refined; None where
        nothing of it is kept (``keeps_frames``).
        """
        crops, start = self.refiner.crops(batch), 0
        for piece in self.system.pieces(batch if crops is None else crops.batch(batch), latents):
            end = start + piece.shape[2]
            if crops is not None:
                given = required(frames, "the frames that are refined")[:, :, start:end]
                piece = crops.paste(frames_from_uint8(given.to(piece.device)), piece, start)
            start = end
            yield piece

    def refine(self, batch: ClipBatch, frames: Tensor, *, seed: int) -> Tensor:
        """The refined frames (B, V, T, 3, H, W) in [-1, 1]."""
        return torch.cat(list(self.pieces(batch, frames, self.latents(batch, frames, seed=seed))), dim=2)

    def _encoded(self, frames: Tensor, crops: Crops | None, offsets: Tensor | None) -> Tensor:
        """Latents (B, V, t, C, h, w) of the frames, or of their crops, with people where the model sees them."""
        device = self.system.device
        if crops is not None:
            return self.system.codec.encode(crops.cut(frames_from_uint8(frames.to(device))))
        found = []
        # View by view, so that no more than one is held in floats.
        for view in range(frames.shape[1]):
            seen = slice(view, view + 1)
            pictures = frames_from_uint8(frames[:, seen].to(device))
            background = constants(self.system.background, pictures) * 2 - 1
            pictures = move(pictures, None if offsets is None else offsets[:, seen], background)
            found.append(self.system.codec.encode(pictures))
        return torch.cat(found, dim=1)

    def _check_size(self, batch: ClipBatch) -> None:
        cell = self.system.picture_cell(self.config, self.steps, batch.grid[2])
        height, width = batch.cameras.image_size
        if height % cell or width % cell:
            raise HvgError(
                f"the frames to refine are {width} pixels wide and {height} high; the sides have to be divisible by {cell}, as "
                f"the model '{self.config.name}' that refines them needs"
            )


def open_refining(config: RunConfig, system: TrainedSystem, weights: str | None = None) -> Refining | None:
    """What refines the frames of a system with this configuration; None where nothing does.

    weights: as of ``load_system``. Raises: CheckpointError where the checkpoint is of no video model, or of one that learnt from
    another body model; ConfigError for words on its sampling that it does not take.
    """
    choice = config.refiner
    if not choice.cls.refines(choice.config):
        return None
    place, refiner = choice.config.checkpoint, build_part(choice)
    if place is None:
        return Refining(system=_video_model(system, config), config=config, refiner=refiner)
    words = [*choice.config.sampling]
    found = find_checkpoint(place)
    other, own = load_system(found, weights, lambda saved: recompose(saved, words))
    if own.body.name != config.body.name:
        raise CheckpointError(
            f"{found}: its model was trained with body={own.body.name}, what it refines has body={config.body.name}"
        )
    return Refining(system=as_video_model(other, own, found), config=own, refiner=refiner)


def refining_config(config: RunConfig) -> RunConfig:
    """The configuration of the model that refines the frames of one with this configuration, as it is sampled; reads no weight.

    Raises: CheckpointError and ConfigError as of ``open_refining``.
    """
    settings = config.refiner.config
    if settings.checkpoint is None:
        return config
    return recompose(trained_config(settings.checkpoint), [*settings.sampling])


def check_given(refining: Refining, given: frozenset[str], by: str) -> None:
    """Raises: HvgError where the video model reads of a clip what is not given. by: whoever gives it, in words."""
    needed = {**needed_fields(refining.config), "refiner": (type(refining.refiner).__name__, refining.refiner.requires)}
    for path, (name, fields) in needed.items():
        for field in sorted(fields - given):
            raise HvgError(f"the model that refines: {path}={name} reads '{field}', which {by} not give")


def _video_model(system: TrainedSystem, config: RunConfig) -> HumanVideoSystem:
    if not isinstance(system, HumanVideoSystem):
        raise HvgError(
            f"refiner={config.refiner.name}: system={config.system.name} denoises nothing; give refiner.checkpoint= a video model"
        )
    return system
